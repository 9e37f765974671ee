//! Disks that fail.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use steadfs_common::{BlockId, FsErrorKind};
use steadfs_datanode_store::{DiskOp, Faults, ReplicaState, ReplicaWriter, StoreError};

use crate::fixture::*;

type Rule = Box<dyn Fn(DiskOp, &str) -> Option<io::ErrorKind> + Send>;

/// Fails what a rule says.
#[derive(Default)]
struct Failing {
    rule: Mutex<Option<Rule>>,
    seen: Mutex<Vec<DiskOp>>,
}

impl Failing {
    fn set(&self, rule: impl Fn(DiskOp, &str) -> Option<io::ErrorKind> + Send + 'static) {
        *self.rule.lock() = Some(Box::new(rule));
    }

    fn clear(&self) {
        *self.rule.lock() = None;
    }

    fn count(&self, op: DiskOp) -> usize {
        self.seen.lock().iter().filter(|seen| **seen == op).count()
    }
}

impl Faults for Failing {
    fn before(&self, op: DiskOp, path: &Path) -> io::Result<()> {
        self.seen.lock().push(op);
        let rule = self.rule.lock();
        match rule.as_ref().and_then(|rule| rule(op, &path.to_string_lossy())) {
            Some(kind) => Err(io::Error::new(kind, "injected")),
            None => Ok(()),
        }
    }
}

fn fixture(volumes: usize) -> (Fixture, Arc<Failing>) {
    let failing = Arc::new(Failing::default());
    (Fixture::with_faults(volumes, Some(failing.clone())), failing)
}

#[test]
fn a_full_disk_fails_the_replica_and_not_the_volume() {
    let (fixture, failing) = fixture(1);
    let store = fixture.store();
    let data = bytes(1, 2_000);
    let writer = store.create_rbw(create(ID, G1)).unwrap();
    write(&writer, 0, &data[..700]).unwrap();
    writer.set_acked(700);
    failing
        .set(|op, path| (op == DiskOp::Write && path.contains("blk_")).then_some(io::ErrorKind::StorageFull));
    let full = write(&writer, 512, &data[512..]).unwrap_err();
    assert_eq!(full.kind(), FsErrorKind::NoSpace);
    failing.clear();
    assert!(
        matches!(write(&writer, 512, &data[512..]), Err(StoreError::Failed { .. })),
        "it takes nothing more"
    );
    assert_eq!(read_all(store, ID, G1), data[..700], "what was acknowledged is still read");
    let told = store.init_recovery(block(ID, G1, 0), G2).unwrap().unwrap();
    assert_eq!((told.state, told.block.len), (ReplicaState::Rwr, 700), "better ones come first");
    store.update_replica(block(ID, G1, 700), G2, 600).unwrap();
    assert_eq!(read_all(store, ID, G2), data[..600]);
    assert!(!store.volumes()[0].failed && fixture.heard.failed.lock().is_empty());
    failing.set(|op, path| {
        (op == DiskOp::Create && path.contains("blk_")).then_some(io::ErrorKind::StorageFull)
    });
    assert_eq!(store.create_rbw(create(ID.next(), G1)).unwrap_err().kind(), FsErrorKind::NoSpace);
    assert!(store.status(ID.next()).is_none());
    failing.clear();
    store.create_rbw(create(ID.next(), G1)).unwrap();
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let (fixture, failing) = fixture(1);
    let store = fixture.store();
    let writer = store.create_rbw(create(ID, G1)).unwrap();
    write(&writer, 0, b"abcd").unwrap();
    failing.set(|op, path| (op == DiskOp::Sync && path.contains("blk_")).then_some(io::ErrorKind::Other));
    assert!(matches!(writer.sync(), Err(StoreError::Io { .. })));
    failing.clear();
    let before = failing.count(DiskOp::Sync);
    assert!(matches!(writer.sync(), Err(StoreError::Failed { .. })));
    assert!(matches!(writer.finalize(), Err(StoreError::Failed { .. })));
    assert!(store.recover_rbw(block(ID, G1, 0), G2, 0, 4, SPEC).is_err());
    assert!(store.recover_close(block(ID, G1, 0), G2, 0).is_err());
    assert_eq!(failing.count(DiskOp::Sync), before);
    assert_eq!(store.status(ID).unwrap().state, ReplicaState::Rbw);
    assert!(!store.volumes()[0].failed, "the check of the volume passed");
    assert!(store.delete(ID, G1).unwrap());
}

/// A replica of 2,000 bytes, of which 700 are synced, whose sync then failed.
fn unsynced(fixture: &Fixture, failing: &Failing) -> (ReplicaWriter, Vec<u8>) {
    let data = bytes(1, 2_000);
    let writer = fixture.store().create_rbw(create(ID, G1)).unwrap();
    write(&writer, 0, &data[..700]).unwrap();
    writer.sync().unwrap();
    write(&writer, 512, &data[512..]).unwrap();
    writer.set_acked(2_000);
    failing.set(sync_fails);
    assert!(writer.sync().is_err());
    failing.clear();
    (writer, data)
}

fn sync_fails(op: DiskOp, path: &str) -> Option<io::ErrorKind> {
    (op == DiskOp::Sync && path.contains("blk_")).then_some(io::ErrorKind::Other)
}

#[test]
fn what_a_failed_sync_left_in_memory_is_written_again_by_a_recovery() {
    let (fixture, failing) = fixture(1);
    let (writer, data) = unsynced(&fixture, &failing);
    let store = fixture.store();
    let written = failing.count(DiskOp::Write);
    let told = store.init_recovery(block(ID, G1, 0), G2).unwrap().unwrap();
    assert_eq!((told.state, told.block.len), (ReplicaState::Rwr, 2_000), "better ones come first");
    assert!(failing.count(DiskOp::Write) >= written + 2, "no sync would write clean pages");
    assert!(writer.sync().is_err() && write(&writer, 2_000, b"more").is_err(), "its writer is over");
    store.update_replica(told.block, G2, 2_000).unwrap();
    assert_eq!(read_all(store, ID, G2), data);
    assert!(fixture.heard.bad.lock().is_empty() && !store.volumes()[0].failed);
}

#[test]
fn after_a_second_failed_sync_what_was_synced_before_counts() {
    for len in [2_000, 1_300, 600] {
        let (fixture, failing) = fixture(1);
        let (_writer, data) = unsynced(&fixture, &failing);
        let store = fixture.store();
        let told = store.init_recovery(block(ID, G1, 0), G2).unwrap().unwrap();
        failing.set(sync_fails);
        assert!(store.update_replica(told.block, G2, len).is_err());
        failing.clear();
        for stamp in [G2, G3] {
            let told = store.init_recovery(block(ID, G1, 0), stamp).unwrap().unwrap();
            assert_eq!((told.state, told.block.len), (ReplicaState::Rwr, 700));
        }
        assert!(store.update_replica(block(ID, G1, 701), G3, 701).is_err());
        let told = store.init_recovery(block(ID, G1, 0), G3);
        assert_eq!(told.unwrap().unwrap().block.len, 700, "who asks for more changes nothing");
        store.update_replica(block(ID, G1, 700), G3, 700).unwrap();
        assert_eq!(read_all(store, ID, G3), data[..700]);
    }
}

#[test]
fn what_was_not_synced_counts_as_far_as_it_is_what_was_written() {
    for (rot, good) in [(1_999, 1_536), (1_030, 1_024), (1_000, 700)] {
        let (fixture, failing) = fixture(1);
        let (_writer, data) = unsynced(&fixture, &failing);
        let file =
            std::fs::OpenOptions::new().write(true).open(fixture.file(&format!("blk_{}", ID.0))).unwrap();
        file.write_all_at(&[data[rot] ^ 1], rot as u64).unwrap();
        let store = fixture.store();
        let told = store.init_recovery(block(ID, G1, 0), G2).unwrap().unwrap();
        assert_eq!(told.block.len, good, "the byte at {rot} was lost");
        store.update_replica(told.block, G2, good).unwrap();
        assert_eq!(read_all(store, ID, G2), data[..good as usize]);
    }
}

#[test]
fn a_volume_that_fails_is_dropped_and_the_others_serve_on() {
    let (fixture, failing) = fixture(2);
    let store = fixture.store();
    let storages: Vec<_> = store.volumes().iter().map(|volume| volume.storage).collect();
    let at = |volume: usize, id: u64| steadfs_datanode_store::CreateOptions {
        storage: Some(storages[volume]),
        ..create(BlockId(id), G1)
    };
    for (volume, id) in [(0, 1), (1, 2)] {
        let writer = store.create_rbw(at(volume, id)).unwrap();
        write(&writer, 0, b"abcd").unwrap();
        writer.finalize().unwrap();
    }
    let open = store.create_rbw(at(0, 3)).unwrap();
    failing.set(|_, path| path.contains("volume0").then_some(io::ErrorKind::Other));
    assert!(write(&open, 0, b"abcd").is_err());
    assert_eq!(*fixture.heard.failed.lock(), [storages[0]]);
    assert!(store.status(BlockId(1)).is_none() && store.status(BlockId(3)).is_none());
    assert!(write(&open, 0, b"abcd").is_err());
    assert!(store.report_page(storages[0], None, 9).is_empty());
    let volumes = store.volumes();
    assert!(volumes[0].failed && !volumes[1].failed);
    assert_eq!((volumes[0].capacity, volumes[0].blocks), (0, 0));
    assert_eq!(store.volumes_in_service(), [storages[1]]);
    assert_eq!(read_all(store, BlockId(2), G1), b"abcd");
    let elsewhere = store.create_rbw(at(0, 1)).unwrap();
    assert_eq!(elsewhere.storage(), storages[1]);
    write(&elsewhere, 0, b"abcd").unwrap();
    elsewhere.finalize().unwrap();
    failing.set(|_, _| Some(io::ErrorKind::Other));
    store.volumes_in_service().into_iter().for_each(|volume| store.check_volume(volume));
    assert_eq!(fixture.heard.failed.lock().len(), 2);
    assert_eq!(store.create_rbw(create(BlockId(9), G1)).unwrap_err().kind(), FsErrorKind::NoSpace);
}

#[test]
fn a_volume_that_vanished_is_noticed_when_volumes_are_told() {
    let (fixture, _) = fixture(2);
    fixture.finalized(ID, G1, 10);
    std::fs::remove_dir_all(fixture.root(1)).unwrap();
    let volumes = fixture.store().volumes();
    assert_eq!((volumes[0].failed, volumes[1].failed), (false, true));
    assert_eq!(*fixture.heard.failed.lock(), [volumes[1].storage]);
}

#[test]
fn a_folder_that_cannot_be_synced_ends_the_volume() {
    let (fixture, failing) = fixture(2);
    let store = fixture.store();
    let writer = store.create_rbw(create(ID, G1)).unwrap();
    write(&writer, 0, b"abcd").unwrap();
    failing
        .set(|op, path| (op == DiskOp::SyncDir && path.contains("subdir")).then_some(io::ErrorKind::Other));
    assert!(writer.finalize().is_err());
    assert_eq!(fixture.heard.failed.lock().len(), 1);
    assert!(
        fixture
            .heard
            .changes
            .lock()
            .iter()
            .all(|(kind, _)| *kind != steadfs_datanode_store::ChangeKind::Received)
    );
}

#[test]
fn one_file_that_cannot_be_read_is_a_bad_replica_only() {
    let (fixture, failing) = fixture(1);
    let store = fixture.store();
    fixture.finalized(ID, G1, 700);
    let data = fixture.finalized(ID.next(), G1, 700);
    let reader = store.open_for_read(ID, G1).unwrap();
    failing.set(|op, path| {
        (op == DiskOp::Read && path.contains("blk_1073741825")).then_some(io::ErrorKind::Other)
    });
    assert!(reader.read_data(0, &mut [0; 10]).is_err());
    assert!(reader.suspect());
    assert!(fixture.heard.bad.lock().iter().all(|bad| *bad == block(ID, G1, 700)));
    assert!(!store.volumes()[0].failed);
    assert_eq!(read_all(store, ID.next(), G1), data);
}

#[test]
fn a_volume_that_cannot_be_opened_is_left_out_unless_it_is_the_only_one() {
    let (mut fixture, failing) = fixture(2);
    fixture.finalized(ID, G1, 10);
    fixture.finalized(ID.next(), G1, 10);
    fixture.close();
    failing.set(|op, path| (op == DiskOp::List && path.contains("volume0")).then_some(io::ErrorKind::Other));
    fixture.open();
    let volumes = fixture.store().volumes();
    assert_eq!((volumes[0].failed, volumes[1].failed, volumes[1].blocks), (true, false, 1));
    fixture.close();
    failing.set(|op, _| (op == DiskOp::List).then_some(io::ErrorKind::Other));
    let options = fixture.options();
    assert!(steadfs_datanode_store::Store::open(options, fixture.heard.clone()).is_err());
    failing.clear();
    fixture.open();
    assert_eq!(fixture.store().volumes().iter().map(|volume| volume.blocks).sum::<u64>(), 2);
}

#[test]
fn many_finalizing_at_once_share_syncs_of_the_folder() {
    let (fixture, failing) = fixture(1);
    let store = fixture.store().clone();
    fixture.finalized(BlockId(200), G1, 1);
    let before = failing.count(DiskOp::SyncDir);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let store = &store;
            scope.spawn(move || {
                for i in 0..8 {
                    let writer = store.create_rbw(create(BlockId(thread * 8 + i), G1)).unwrap();
                    write(&writer, 0, b"abcd").unwrap();
                    writer.finalize().unwrap();
                }
            });
        }
    });
    assert!(failing.count(DiskOp::SyncDir) - before <= 64);
    for id in 0..64 {
        assert_eq!(read_all(&store, BlockId(id), G1), b"abcd");
    }
}

/// Holds the next removal of a finalized data file until it is told to go on.
#[derive(Default)]
struct Slow(Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>);

impl Faults for Slow {
    fn before(&self, op: DiskOp, path: &Path) -> io::Result<()> {
        let path = path.to_string_lossy();
        if op == DiskOp::Remove && path.contains("finalized") && !path.ends_with(".meta") {
            let held = self.0.lock().take();
            if let Some((begun, go_on)) = held {
                begun.send(()).unwrap();
                go_on.recv().unwrap();
            }
        }
        Ok(())
    }
}

#[test]
fn a_new_replica_waits_for_the_end_of_the_one_before() {
    let slow = Arc::new(Slow::default());
    let fixture = Fixture::with_faults(1, Some(slow.clone()));
    let store = fixture.store();
    fixture.finalized(ID, G1, 2_000);
    let (begun, removing) = mpsc::channel();
    let (go_on, held) = mpsc::channel();
    *slow.0.lock() = Some((begun, held));
    thread::scope(|scope| {
        let deleting = scope.spawn(|| store.delete(ID, G1));
        removing.recv().unwrap();
        let copying = scope.spawn(|| {
            let writer = store.create_temporary(create(ID, G1))?;
            write(&writer, 0, &bytes(7, 700))?;
            writer.finalize()
        });
        // Long enough for the copy to be there before the old file's name goes, if nothing held it back.
        thread::sleep(Duration::from_millis(100));
        go_on.send(()).unwrap();
        assert!(deleting.join().unwrap().unwrap());
        copying.join().unwrap().unwrap();
    });
    assert_eq!(read_all(store, ID, G1), bytes(7, 700));
}
