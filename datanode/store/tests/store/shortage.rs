//! What runs out without any disk being to blame: room, and descriptors of this process.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::io::Errno;
use steadfs_common::{BlockId, FsErrorKind, StorageType};
use steadfs_datanode_store::{DiskOp, Faults, Heard, Store, VolumeConfig};

use crate::fixture::*;

/// Fails what is done below the named folders.
#[derive(Default)]
struct Below(Mutex<Vec<(&'static str, io::ErrorKind)>>);

impl Faults for Below {
    fn before(&self, op: DiskOp, path: &Path) -> io::Result<()> {
        let (rules, path) = (self.0.lock(), path.to_string_lossy());
        match rules.iter().find(|(folder, _)| path.contains(folder)) {
            Some((_, kind)) if !matches!(op, DiskOp::Read | DiskOp::Open) => {
                Err(io::Error::new(*kind, "injected"))
            }
            _ => Ok(()),
        }
    }
}

#[test]
fn one_volume_that_takes_it_is_enough_to_remember_the_namenode() {
    let below = Arc::new(Below::default());
    let mut fixture = Fixture::with_faults(2, Some(below.clone()));
    let at = |transaction| Heard { incarnation: 1, epoch: 7, transaction };
    let full = io::ErrorKind::StorageFull;
    *below.0.lock() = vec![("volume0/heard", full)];
    fixture.store().note_heard(at(50)).unwrap();
    assert_eq!(fixture.store().heard(), at(50), "the other volume took it");
    *below.0.lock() = vec![("heard", full)];
    fixture.store().note_heard(at(60)).unwrap();
    assert_eq!(fixture.store().heard(), at(50), "for lack of room all goes on with what was known");
    *below.0.lock() = vec![("volume0/heard", full), ("volume1/heard", io::ErrorKind::Other)];
    assert_eq!(fixture.store().note_heard(at(70)).unwrap_err().kind(), FsErrorKind::Io);
    below.0.lock().clear();
    assert!(fixture.heard.failed.lock().is_empty());
    fixture.restart();
    assert_eq!(fixture.store().heard(), at(50));
}

/// No file can be opened while it is set.
#[derive(Default)]
struct NoDescriptors(AtomicBool);

impl Faults for NoDescriptors {
    fn before(&self, op: DiskOp, _path: &Path) -> io::Result<()> {
        let opens = matches!(op, DiskOp::Open | DiskOp::Create | DiskOp::List);
        if opens && self.0.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(Errno::MFILE.raw_os_error()));
        }
        Ok(())
    }
}

#[test]
fn a_process_without_descriptors_blames_no_disk_and_no_replica() {
    let none = Arc::new(NoDescriptors::default());
    let fixture = Fixture::with_faults(1, Some(none.clone()));
    let store = fixture.store();
    let data = fixture.finalized(ID, G1, 2_000);
    let open = store.create_rbw(create(ID.next(), G1)).unwrap();
    write(&open, 0, b"abcd").unwrap();
    none.0.store(true, Ordering::Relaxed);
    assert!(store.open_for_read(ID, G1).unwrap_err().is_ours());
    assert!(store.create_rbw(create(BlockId(ID.0 + 2), G1)).is_err());
    assert!(open.finalize().is_err(), "its folder cannot be opened to be synced");
    for storage in store.volumes_in_service() {
        store.check_volume(storage);
        assert!((0..Store::folders()).any(|number| store.compare_folder(storage, number).is_err()));
    }
    assert!(fixture.heard.failed.lock().is_empty() && fixture.heard.bad.lock().is_empty());
    none.0.store(false, Ordering::Relaxed);
    assert_eq!(read_all(store, ID, G1), data);
    assert!(!store.status(ID).unwrap().bad);
    // Nothing failed for good: the same folders take the next replicas.
    fixture.finalized(BlockId(ID.0 + 3), G1, 700);
    store.volumes_in_service().into_iter().for_each(|storage| store.check_volume(storage));
    assert_eq!(store.volumes_in_service().len(), 1);
}

#[test]
fn a_folder_that_could_not_be_used_at_the_start_can_be_added_or_taken_out() {
    let below = Arc::new(Unlisted::default());
    let mut fixture = Fixture::with_faults(3, Some(below.clone()));
    fixture.close();
    // One that cannot be scanned, and one whose folder is a file.
    below.0.store(true, Ordering::Relaxed);
    let third = fixture.root(2);
    std::fs::remove_dir_all(&third).unwrap();
    std::fs::write(&third, "no folder").unwrap();
    fixture.open();
    let store = fixture.store();
    let paths = |store: &Store| store.configured().into_iter().map(|v| v.path).collect::<Vec<_>>();
    assert_eq!(store.failures().len(), 2);
    assert_eq!(paths(store), [0, 1, 2].map(|index| fixture.root(index)));
    assert_eq!(store.remove_volume(&third).unwrap(), None);
    assert_eq!((store.failures().len(), paths(store).len()), (1, 2));
    below.0.store(false, Ordering::Relaxed);
    let first = VolumeConfig { path: fixture.root(0), kind: StorageType::Disk, reserved: 0 };
    store.add_volume(first).unwrap();
    assert!(store.failures().is_empty());
    assert_eq!(store.volumes_in_service().len(), 2);
}

/// The first volume cannot be listed while it is set.
#[derive(Default)]
struct Unlisted(AtomicBool);

impl Faults for Unlisted {
    fn before(&self, op: DiskOp, path: &Path) -> io::Result<()> {
        if op == DiskOp::List && self.0.load(Ordering::Relaxed) && path.to_string_lossy().contains("volume0")
        {
            return Err(io::Error::other("injected"));
        }
        Ok(())
    }
}

#[test]
fn what_is_left_out_of_a_volume_takes_no_room_in_the_books() {
    let fixture = Fixture::new(2);
    let storages = fixture.store().volumes_in_service();
    let store = fixture.store();
    let at = steadfs_datanode_store::CreateOptions { storage: Some(storages[1]), ..create(ID, G1) };
    let put = || {
        let writer = store.create_rbw(at).unwrap();
        write(&writer, 0, &bytes(1, 100_000)).unwrap();
        writer.finalize().unwrap();
    };
    put();
    let used = |index: usize| store.statuses()[index].used;
    let empty = used(0);
    store.remove_volume(&fixture.root(1)).unwrap();
    // The block comes to the other volume meanwhile.
    put();
    assert!(used(0) > empty + 100_000);
    let second = VolumeConfig { path: fixture.root(1), kind: StorageType::Disk, reserved: 0 };
    store.add_volume(second).unwrap();
    assert!(used(1) < 100_000, "{}", used(1));
}

/// There is no memory on some paths.
#[derive(Default)]
struct NoMemory(Mutex<Vec<&'static str>>);

impl Faults for NoMemory {
    fn before(&self, _op: DiskOp, path: &Path) -> io::Result<()> {
        let path = path.to_string_lossy();
        if self.0.lock().iter().any(|lacking| path.contains(lacking)) {
            return Err(io::Error::from_raw_os_error(Errno::NOMEM.raw_os_error()));
        }
        Ok(())
    }
}

#[test]
fn a_disk_that_was_pulled_out_is_not_taken_for_a_want_of_memory() {
    let none = Arc::new(NoMemory::default());
    let fixture = Fixture::with_faults(2, Some(none.clone()));
    let store = fixture.store();
    let storages = store.volumes_in_service();
    let written = |id| {
        let storage = Some(storages[0]);
        store.create_rbw(steadfs_datanode_store::CreateOptions { storage, ..create(BlockId(id), G1) })
    };
    // Memory is lacking everywhere.
    *none.0.lock() = vec!["volume0", "(memory)"];
    assert!(written(1).unwrap_err().is_ours());
    store.check_volume(storages[0]);
    assert!(fixture.heard.failed.lock().is_empty());
    // It is lacking on that disk only.
    *none.0.lock() = vec!["volume0"];
    assert!(written(2).is_err());
    assert_eq!(*fixture.heard.failed.lock(), [storages[0]]);
    let why = &store.failures()[0].why;
    assert!(why.contains("is the disk still there?"), "{why}");
    assert_eq!(written(3).unwrap().storage(), storages[1]);
}

#[test]
fn a_volume_over_which_something_else_was_mounted_is_dropped() {
    let fixture = Fixture::new(2);
    let store = fixture.store();
    store.check_volume(store.volumes_in_service()[0]);
    assert_eq!(store.volumes_in_service().len(), 2);
    // What lies there now was prepared once, too.
    let lock = fixture.root(0).join("lock");
    std::fs::rename(&lock, fixture.root(0).join("other")).unwrap();
    std::fs::write(&lock, "").unwrap();
    store.check_volume(store.volumes_in_service()[0]);
    let failures = store.failures();
    assert!(failures[0].why.contains("was it unmounted?"), "{failures:?}");
    assert_eq!(store.volumes_in_service().len(), 1);
}
