//! A disk that is broken where the replicas lie, and works where its check writes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;
use steadfs_common::BlockId;
use steadfs_datanode_store::{CreateOptions, DiskOp, Faults};

use crate::fixture::*;

/// Fails one operation on replicas of the first volume.
#[derive(Default)]
struct Worn(Mutex<Option<(DiskOp, Errno)>>);

impl Worn {
    fn at(&self, op: DiskOp, errno: Errno) {
        *self.0.lock() = Some((op, errno));
    }
}

impl Faults for Worn {
    fn before(&self, op: DiskOp, path: &Path) -> io::Result<()> {
        let path = path.to_string_lossy();
        match *self.0.lock() {
            Some((worn, errno)) if worn == op && path.contains("volume0") && path.contains("blk_") => {
                Err(io::Error::from_raw_os_error(errno.raw_os_error()))
            }
            _ => Ok(()),
        }
    }
}

/// Writes a replica to the first volume; whether that could be done.
fn is_written(fixture: &Fixture, id: u64) -> bool {
    let store = fixture.store();
    let storage = Some(store.volumes()[0].storage);
    let made = store.create_rbw(CreateOptions { storage, ..create(BlockId(id), G1) });
    made.is_ok_and(|writer| write(&writer, 0, b"abcd").is_ok() && writer.finalize().is_ok())
}

#[test]
fn a_disk_on_which_writes_fail_again_and_again_is_dropped_though_its_check_passes() {
    let worn = Arc::new(Worn::default());
    let mut fixture = Fixture::with_faults(2, Some(worn.clone()));
    let storages = fixture.store().volumes_in_service();
    worn.at(DiskOp::Write, Errno::IO);
    let mut tried = 0;
    while fixture.heard.failed.lock().is_empty() {
        tried += 1;
        assert!(tried <= 10, "ten failures are enough");
        assert!(!is_written(&fixture, tried));
        assert!(tried == 10 || !is_written(&fixture, tried), "one replica counts once");
        fixture.store().check_volume(storages[0]);
    }
    assert_eq!(tried, 10, "a few bad places are no bad disk");
    let why = &fixture.store().failures()[0].why;
    assert!(why.contains("operations on 10 replicas failed within") && why.contains("blk_"), "{why}");
    assert_eq!(fixture.store().volumes_in_service(), [storages[1]]);
    assert!(is_written(&fixture, 20), "the other volume takes it");
    // One that is put in again is tried again.
    *worn.0.lock() = None;
    fixture.restart();
    assert_eq!(fixture.store().volumes_in_service().len(), 2);
    assert!(is_written(&fixture, 21));
}

#[test]
fn neither_reads_nor_removals_nor_want_of_room_wear_a_disk() {
    let worn = Arc::new(Worn::default());
    let fixture = Fixture::with_faults(1, Some(worn.clone()));
    let store = fixture.store();
    fixture.finalized(ID, G1, 700);
    worn.at(DiskOp::Read, Errno::IO);
    for _ in 0..30 {
        assert!(store.open_for_read(ID, G1).is_err());
    }
    *worn.0.lock() = None;
    for id in 50..80 {
        fixture.finalized(BlockId(id), G1, 10);
    }
    worn.at(DiskOp::Remove, Errno::IO);
    for id in 50..80 {
        assert!(store.delete(BlockId(id), G1).is_err());
    }
    worn.at(DiskOp::Write, Errno::NOSPC);
    for id in 1..30 {
        assert!(!is_written(&fixture, id));
    }
    store.check_volume(store.volumes_in_service()[0]);
    assert_eq!(fixture.heard.failed.lock().len(), 0);
    *worn.0.lock() = None;
    assert!(is_written(&fixture, 40));
}

#[test]
fn a_disk_that_is_gone_in_part_is_dropped_though_its_file_system_speaks_of_memory() {
    let worn = Arc::new(Worn::default());
    let fixture = Fixture::with_faults(1, Some(worn.clone()));
    let store = fixture.store();
    (1..=10).for_each(|id| drop(fixture.finalized(BlockId(id), G1, 700)));
    worn.at(DiskOp::Open, Errno::NOMEM);
    for id in 1..=10 {
        assert!(fixture.heard.failed.lock().is_empty() && fixture.heard.bad.lock().is_empty());
        assert!(store.open_for_read(BlockId(id), G1).unwrap_err().is_ours());
    }
    store.check_volume(store.volumes_in_service()[0]);
    assert_eq!(fixture.heard.failed.lock().len(), 1);
}
