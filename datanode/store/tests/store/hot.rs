//! Volumes that are added and taken out while others serve, and disks that do not answer.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use steadfs_common::{BlockId, BlockPoolId, FsErrorKind, StorageType};
use steadfs_datanode_store::{Cluster, CreateOptions, DiskOp, Faults, StoreError, VolumeConfig};

use crate::fixture::*;

fn folder(fixture: &Fixture, volume: usize) -> VolumeConfig {
    VolumeConfig { path: fixture.root(volume), kind: StorageType::Ssd, reserved: 0 }
}

#[test]
fn a_volume_is_added_and_taken_out_while_others_serve() {
    let mut fixture = Fixture::new(2);
    let cluster = Cluster { cluster_id: "CID-1".into(), block_pool: BlockPoolId("BP-1".into()) };
    fixture.store().join(&cluster).unwrap();
    let storages = fixture.store().volumes_in_service();
    let at =
        |volume: usize, id: u64| CreateOptions { storage: Some(storages[volume]), ..create(BlockId(id), G1) };
    for (volume, id) in [(0, 1), (1, 2)] {
        let writer = fixture.store().create_rbw(at(volume, id)).unwrap();
        write(&writer, 0, b"abcd").unwrap();
        writer.finalize().unwrap();
    }
    let writer = fixture.store().create_rbw(at(1, 3)).unwrap();
    let store = fixture.store();
    assert_eq!(store.remove_volume(&fixture.root(1)).unwrap(), Some(storages[1]));
    assert!(
        matches!(write(&writer, 0, b"abcd"), Err(StoreError::VolumeFailed { .. })),
        "it was taken from its writer"
    );
    assert!(store.status(BlockId(2)).is_none());
    assert_eq!((store.statuses().len(), store.failures().len()), (1, 0), "it is none of ours any more");
    assert!(fixture.heard.failed.lock().is_empty());
    assert_eq!(read_all(store, BlockId(1), G1), b"abcd");
    assert!(store.remove_volume(&fixture.root(1)).is_err());
    let last = store.remove_volume(&fixture.root(0)).unwrap_err().to_string();
    assert!(last.contains("last volume"), "{last}");
    drop(writer);

    let back = store.add_volume(folder(&fixture, 1)).unwrap();
    assert_eq!(back, storages[1], "it is the same volume as before");
    assert_eq!(read_all(store, BlockId(2), G1), b"abcd");
    assert_eq!(store.statuses()[1].kind, StorageType::Ssd);
    let new = store.add_volume(folder(&fixture, 2)).unwrap();
    let writer = store.create_rbw(CreateOptions { storage: Some(new), ..create(BlockId(4), G1) }).unwrap();
    assert_eq!(writer.storage(), new);
    write(&writer, 0, b"abcd").unwrap();
    writer.finalize().unwrap();
    drop(writer);
    let again = store.add_volume(folder(&fixture, 2)).unwrap_err().to_string();
    assert!(again.contains("in use already"), "{again}");
    fixture.volumes = 3;
    fixture.restart();
    for id in [1, 2, 4] {
        assert_eq!(read_all(fixture.store(), BlockId(id), G1), b"abcd");
    }
    assert_eq!(fixture.store().identity().cluster, Some(cluster));
}

#[test]
fn what_is_not_ours_is_not_added() {
    let fixture = Fixture::new(1);
    let stranger = Fixture::new(1);
    let foreign = VolumeConfig { path: stranger.root(0), ..folder(&fixture, 0) };
    let used = fixture.store().add_volume(foreign.clone()).unwrap_err().to_string();
    assert!(used.contains("another process uses this folder"), "{used}");
    let mut stranger = stranger;
    stranger.close();
    let refused = fixture.store().add_volume(foreign).unwrap_err().to_string();
    assert!(refused.contains("give each datanode its own folders"), "{refused}");
    let copy = VolumeConfig { path: fixture.dir.path().join("copy"), ..folder(&fixture, 0) };
    let copied = std::process::Command::new("cp").arg("-a").arg(fixture.root(0)).arg(&copy.path).status();
    assert!(copied.unwrap().success());
    let refused = fixture.store().add_volume(copy).unwrap_err().to_string();
    assert!(refused.contains("is a copy of"), "{refused}");
    stranger.open();
    assert_eq!(fixture.store().statuses().len(), 1);
}

#[test]
fn a_replaced_disk_takes_the_place_of_the_one_that_failed() {
    let fixture = Fixture::new(2);
    let old = fixture.store().volumes_in_service()[1];
    std::fs::remove_dir_all(fixture.root(1)).unwrap();
    let _ = fixture.store().volumes();
    let failures = fixture.store().failures();
    assert_eq!((failures.len(), failures[0].storage, &failures[0].path), (1, Some(old), &fixture.root(1)));
    assert!(failures[0].capacity > 0);
    let new = fixture.store().add_volume(folder(&fixture, 1)).unwrap();
    assert_ne!(new, old);
    assert!(fixture.store().failures().is_empty());
    assert_eq!(fixture.store().statuses().iter().filter(|volume| volume.failed).count(), 0);
    assert_eq!(fixture.store().volumes_in_service().len(), 2);
}

/// A disk that answers nothing below a folder while it hangs.
#[derive(Default)]
struct Hanging {
    folder: Mutex<Option<String>>,
    wake: Condvar,
}

impl Hanging {
    fn hang(&self, folder: &str) {
        *self.folder.lock() = Some(folder.into());
    }

    fn answer(&self) {
        *self.folder.lock() = None;
        self.wake.notify_all();
    }
}

impl Faults for Hanging {
    fn before(&self, _op: DiskOp, path: &Path) -> io::Result<()> {
        let mut folder = self.folder.lock();
        while folder.as_ref().is_some_and(|folder| path.to_string_lossy().contains(folder.as_str())) {
            self.wake.wait(&mut folder);
        }
        Ok(())
    }
}

/// Lets the disk answer when a test ends, however it does: threads wait for it.
struct Answers<'a>(&'a Hanging);

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        self.0.answer();
    }
}

#[test]
fn a_disk_that_does_not_answer_is_passed_over_and_then_dropped() {
    let hanging = Arc::new(Hanging::default());
    let mut fixture = Fixture::with_faults(2, Some(hanging.clone()));
    fixture.close();
    // It is passed over for half of this, which must be seen.
    fixture.check_timeout = Duration::from_secs(4);
    fixture.open();
    let store = fixture.store();
    let storages = store.volumes_in_service();
    let on_first = |id: u64| CreateOptions { storage: Some(storages[0]), ..create(BlockId(id), G1) };
    let writer = store.create_rbw(on_first(1)).unwrap();
    write(&writer, 0, b"abcd").unwrap();
    hanging.hang("volume0");
    std::thread::scope(|scope| {
        let _answers = Answers(&hanging);
        let stuck = scope.spawn(|| writer.finalize());
        scope.spawn(|| store.check_volume(storages[0]));
        while !store.statuses()[0].stalled {
            assert!(fixture.heard.failed.lock().is_empty(), "first it is passed over");
            std::thread::yield_now();
        }
        let elsewhere = store.create_rbw(on_first(2)).unwrap();
        assert_eq!(elsewhere.storage(), storages[1]);
        drop(elsewhere);
        while fixture.heard.failed.lock().is_empty() {
            // What is asked for in any case, by heartbeats.
            let _ = store.statuses();
            std::thread::yield_now();
        }
        let failures = store.failures();
        assert!(failures[0].why.contains("has not answered"), "{failures:?}");
        assert!(store.status(BlockId(1)).is_none());
        assert_eq!(store.volumes_in_service(), [storages[1]]);
        hanging.answer();
        assert!(stuck.join().unwrap().is_err(), "what it said too late does not count");
    });
    let Err(error) = writer.finalize() else { panic!("finalized on a volume that is gone") };
    assert_eq!(error.kind(), FsErrorKind::Io);
}

#[test]
fn a_volume_without_room_for_one_more_file_is_passed_over() {
    struct NoInodes;
    impl Faults for NoInodes {
        fn before(&self, op: DiskOp, path: &Path) -> io::Result<()> {
            let path = path.to_string_lossy();
            if op == DiskOp::Create && path.contains("volume0") && path.contains("blk_") {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            Ok(())
        }
    }
    let fixture = Fixture::with_faults(2, Some(Arc::new(NoInodes)));
    let storages = fixture.store().volumes_in_service();
    let at = CreateOptions { storage: Some(storages[0]), ..create(ID, G1) };
    let writer = fixture.store().create_rbw(at).unwrap();
    assert_eq!(writer.storage(), storages[1]);
    write(&writer, 0, b"abcd").unwrap();
    writer.finalize().unwrap();
    assert_eq!(read_all(fixture.store(), ID, G1), b"abcd");
}
