//! Block recovery.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use steadfs_common::{FsErrorKind, GenStamp};
use steadfs_datanode_store::{ChangeKind, DiskOp, Faults, ReplicaState, StoreError};

use crate::fixture::*;

const G4: GenStamp = GenStamp(1_004);

#[test]
fn a_replica_being_written_is_stopped_cut_and_finalized() {
    let fixture = Fixture::new(1);
    let store = fixture.store();
    let writer = store.create_rbw(create(ID, G1)).unwrap();
    let data = bytes(1, 1_500);
    write(&writer, 0, &data).unwrap();
    writer.set_acked(1_100);
    assert!(store.init_recovery(block(ID.next(), G1, 0), G2).unwrap().is_none());
    let told = store.init_recovery(block(ID, G1, 0), G2).unwrap().unwrap();
    assert_eq!((told.block, told.state), (block(ID, G1, 1_500), ReplicaState::Rbw));
    assert!(matches!(write(&writer, 1_500, b"x"), Err(StoreError::Superseded { .. })));
    assert_eq!(store.visible_length(ID, G1).unwrap(), 1_100, "readers go on");
    assert_eq!(read_all(store, ID, G1), data[..1_100]);
    assert_eq!(store.init_recovery(block(ID, G1, 0), G2).unwrap(), Some(told), "repeated");
    let newer = store.init_recovery(block(ID, G1, 0), G3).unwrap().unwrap();
    assert_eq!(newer, told);
    let older = store.init_recovery(block(ID, G1, 0), G2).unwrap_err();
    assert_eq!(older.kind(), FsErrorKind::RecoveryInProgress);
    assert_eq!(
        store.update_replica(told.block, G2, 1_100).unwrap_err().kind(),
        FsErrorKind::RecoveryInProgress
    );
    assert_eq!(store.update_replica(told.block, G3, 1_501).unwrap_err().kind(), FsErrorKind::Refused);
    store.update_replica(told.block, G3, 1_100).unwrap();
    store.update_replica(told.block, G3, 1_100).unwrap();
    assert_eq!(read_all(store, ID, G3), data[..1_100]);
    assert_eq!(fixture.heard.changes.lock().last(), Some(&(ChangeKind::Received, block(ID, G3, 1_100))));
    assert!(store.update_replica(told.block, G3, 1_000).is_err(), "it is over");
}

#[test]
fn a_finalized_replica_takes_the_stamp() {
    let mut fixture = Fixture::new(1);
    let data = fixture.finalized(ID, G1, 1_000);
    let store = fixture.store().clone();
    let told = store.init_recovery(block(ID, G1, 1_000), G2).unwrap().unwrap();
    assert_eq!(told.state, ReplicaState::Finalized);
    assert_eq!(read_all(&store, ID, G1), data, "it is read meanwhile");
    let storage = store.volumes()[0].storage;
    assert_eq!(
        store.report_page(storage, None, 9)[0].state,
        ReplicaState::Finalized,
        "and reported as it was"
    );
    store.update_replica(told.block, G2, 1_000).unwrap();
    drop(store);
    fixture.restart();
    assert_eq!(fixture.store().status(ID).unwrap().block, block(ID, G2, 1_000));
    assert_eq!(read_all(fixture.store(), ID, G2), data);
}

#[test]
fn a_recovery_that_ended_here_is_told_as_it_ended() {
    let mut fixture = Fixture::new(1);
    let data = fixture.finalized(ID, G1, 1_000);
    for restarted in [false, true] {
        let store = fixture.store();
        let told = store.init_recovery(block(ID, G1, 1_000), G2).unwrap().unwrap();
        assert_eq!(told.state, ReplicaState::Finalized);
        assert_eq!(told.block, if restarted { block(ID, G2, 700) } else { block(ID, G1, 1_000) });
        store.update_replica(told.block, G2, 700).unwrap();
        let again = store.init_recovery(block(ID, G1, 1_000), G2).unwrap().unwrap();
        assert_eq!((again.block, again.state), (block(ID, G2, 700), ReplicaState::Finalized));
        assert_eq!(read_all(store, ID, G2), data[..700]);
        assert!(store.update_replica(again.block, G2, 600).is_err(), "its length is decided");
        fixture.restart();
    }
    let newer = fixture.store().init_recovery(block(ID, G1, 1_000), G3).unwrap().unwrap();
    assert_eq!(newer.block, block(ID, G2, 700));
}

#[test]
fn a_recovery_that_broke_off_behind_its_new_stamp_is_led_again() {
    let failing = Arc::new(NoFinalizing::default());
    let mut fixture = Fixture::with_faults(1, Some(failing.clone()));
    let data = bytes(3, 900);
    let writer = fixture.store().create_rbw(create(ID, G1)).unwrap();
    write(&writer, 0, &data).unwrap();
    drop(writer);
    let told = fixture.store().init_recovery(block(ID, G1, 0), G2).unwrap().unwrap();
    failing.0.store(true, Ordering::Relaxed);
    fixture.store().update_replica(told.block, G2, 900).unwrap_err();
    failing.0.store(false, Ordering::Relaxed);
    fixture.restart();
    // The namenode orders the same recovery again.
    let told = fixture.store().init_recovery(block(ID, G1, 0), G2).unwrap().expect("it holds the bytes");
    assert_eq!((told.block, told.state), (block(ID, G2, 900), ReplicaState::Rwr));
    fixture.store().update_replica(told.block, G2, 900).unwrap();
    assert_eq!(read_all(fixture.store(), ID, G2), data);
}

/// No file can be renamed to its final place while it is set.
#[derive(Default)]
struct NoFinalizing(AtomicBool);

impl Faults for NoFinalizing {
    fn before(&self, op: DiskOp, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let of_data = name.starts_with("blk_") && !name.ends_with(".meta");
        if op == DiskOp::Rename && of_data && self.0.load(Ordering::Relaxed) {
            return Err(io::Error::other("injected"));
        }
        Ok(())
    }
}

#[test]
fn a_finalized_replica_is_cut_without_touching_what_others_have_open() {
    for len in [0, 512, 700, 999] {
        let mut fixture = Fixture::new(1);
        let data = fixture.finalized(ID, G1, 1_000);
        let store = fixture.store().clone();
        let reader = store.open_for_read(ID, G1).unwrap();
        let told = store.init_recovery(block(ID, G1, 1_000), G2).unwrap().unwrap();
        store.update_replica(told.block, G2, len).unwrap();
        assert_eq!(read_all(&store, ID, G2), data[..len as usize]);
        assert_eq!(read(&reader, 0, 1_000), data);
        drop((store, reader));
        fixture.restart();
        assert_eq!(read_all(fixture.store(), ID, G2), data[..len as usize]);
        assert!(fixture.find("blk_1073741825_1001.meta").is_none());
    }
}

#[test]
fn stamps_are_checked() {
    let fixture = Fixture::new(1);
    let store = fixture.store();
    fixture.finalized(ID, G2, 10);
    assert_eq!(
        store.init_recovery(block(ID, G3, 10), G3.next()).unwrap_err().kind(),
        FsErrorKind::ReplicaNotFound
    );
    assert_eq!(store.init_recovery(block(ID, G2, 10), G2).unwrap_err().kind(), FsErrorKind::ReplicaNotFound);
    assert!(store.update_replica(block(ID, G2, 10), G3, 10).is_err(), "not begun");
}

#[test]
fn a_replica_under_recovery_can_be_deleted() {
    let fixture = Fixture::new(1);
    let store = fixture.store();
    fixture.finalized(ID, G1, 10);
    let told = store.init_recovery(block(ID, G1, 10), G2).unwrap().unwrap();
    assert!(store.delete(ID, G1).unwrap());
    assert!(store.update_replica(told.block, G2, 10).is_err());
    assert!(fixture.find("blk_1073741825").is_none());
    let temporary = store.create_temporary(create(ID, G2)).unwrap();
    assert!(store.init_recovery(block(ID, G1, 0), G3).unwrap().is_none(), "a copy on its way in is none");
    drop(temporary);
}

/// A disk that has no room while it is set.
#[derive(Default)]
struct NoRoom(AtomicBool);

impl Faults for NoRoom {
    fn before(&self, op: DiskOp, _path: &Path) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) && matches!(op, DiskOp::Write | DiskOp::Create) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

#[test]
fn a_recovery_for_which_there_was_no_room_ends_when_there_is() {
    for before in [ReplicaState::Rwr, ReplicaState::Rbw, ReplicaState::Finalized] {
        let none = Arc::new(NoRoom::default());
        let mut fixture = Fixture::with_faults(1, Some(none.clone()));
        let data = bytes(1, 1_500);
        let writer = fixture.store().create_rbw(create(ID, G1)).unwrap();
        write(&writer, 0, &data).unwrap();
        writer.set_acked(1_500);
        match before {
            ReplicaState::Finalized => assert_eq!(writer.finalize().unwrap().len, 1_500),
            _ => writer.flush().unwrap(),
        }
        drop(writer);
        if before == ReplicaState::Rwr {
            fixture.restart();
        }
        let store = fixture.store();
        for stamp in [G2, G3] {
            none.0.store(false, Ordering::Relaxed);
            let told = store.init_recovery(block(ID, G1, 0), stamp).unwrap().unwrap();
            let retried = stamp != G2 && before == ReplicaState::Rbw;
            // What failed counts as one that waits.
            let state = if retried { ReplicaState::Rwr } else { before };
            assert_eq!((told.block.len, told.state), (1_500, state), "{stamp}");
            none.0.store(true, Ordering::Relaxed);
            assert_eq!(
                store.update_replica(told.block, stamp, 1_100).unwrap_err().kind(),
                FsErrorKind::NoSpace
            );
            if before == ReplicaState::Finalized {
                assert_eq!(read_all(store, ID, G1), data, "it is as it was");
            }
        }
        none.0.store(false, Ordering::Relaxed);
        let told = store.init_recovery(block(ID, G1, 0), G4).unwrap().unwrap();
        store.update_replica(told.block, G4, 1_100).unwrap();
        assert_eq!(read_all(store, ID, G4), data[..1_100], "{before:?}");
        assert!(fixture.heard.bad.lock().is_empty() && fixture.heard.failed.lock().is_empty());
        fixture.restart();
        assert_eq!(read_all(fixture.store(), ID, G4), data[..1_100], "{before:?}");
    }
}
