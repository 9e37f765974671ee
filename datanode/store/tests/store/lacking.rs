//! An operation that broke off for want of room, or of descriptors, at any of its steps: the next try goes on, in the same
//! process and in the next one.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;
use steadfs_common::GenStamp;
use steadfs_datanode_store::{DiskOp, Faults, ReplicaState, ReplicaWriter, Store, StoreError, StoreResult};

use crate::fixture::*;

/// Steps of one operation, at most.
const MAX_STEPS: usize = 60;
const G4: GenStamp = GenStamp(1_004);

/// What lacks, from which step on, and for how many.
#[derive(Clone, Copy, Debug)]
struct Lack {
    errno: Errno,
    after: usize,
    steps: usize,
}

/// Lets the steps before it pass, and fails those that are lacking something.
#[derive(Default)]
struct Lacking {
    lack: Mutex<Option<Lack>>,
    met: Mutex<bool>,
}

impl Faults for Lacking {
    fn before(&self, op: DiskOp, path: &Path) -> io::Result<()> {
        let mut lack = self.lack.lock();
        let Some(lack) = lack.as_mut() else { return Ok(()) };
        let touched = match lack.errno {
            // What was cut or synced half way is another matter: `recovery.rs` and `faults.rs`.
            Errno::NOSPC => matches!(op, DiskOp::Create | DiskOp::Write | DiskOp::Rename | DiskOp::Remove),
            // A replica that is read is not opened anew here, and a file of its own says how long it is.
            _ => matches!(op, DiskOp::Create | DiskOp::Open) && (op == DiskOp::Create || path.is_dir()),
        };
        if !touched || lack.steps == 0 {
            return Ok(());
        }
        if lack.after > 0 {
            lack.after -= 1;
            return Ok(());
        }
        lack.steps -= 1;
        *self.met.lock() = true;
        Err(io::Error::from_raw_os_error(lack.errno.raw_os_error()))
    }
}

/// Runs `case` with something lacking at each step in turn, once and from there on, in a process that goes on and one that
/// ends, until nothing of it is met any more.
fn at_every_step(mut case: impl FnMut(&mut Fixture, &dyn Fn(&dyn Fn() -> bool) -> bool, bool)) {
    for errno in [Errno::NOSPC, Errno::MFILE] {
        for (steps, ends) in [(1, false), (2, false), (usize::MAX, false), (1, true), (usize::MAX, true)] {
            let mut met = 0;
            for after in 0..MAX_STEPS {
                let lacking = Arc::new(Lacking::default());
                let mut fixture = Fixture::with_faults(1, Some(lacking.clone()));
                let lack = Lack { errno, after, steps };
                // Whether it went well although something was lacking.
                let tried = |attempt: &dyn Fn() -> bool| {
                    *lacking.lack.lock() = Some(lack);
                    let done = attempt();
                    *lacking.lack.lock() = None;
                    done
                };
                eprintln!("{lack:?}, ends {ends}");
                case(&mut fixture, &tried, ends);
                assert!(fixture.heard.bad.lock().is_empty() && fixture.heard.failed.lock().is_empty());
                if !*lacking.met.lock() {
                    break;
                }
                met += 1;
            }
            assert!((1..MAX_STEPS).contains(&met), "{met} steps");
        }
    }
}

fn begun(fixture: &Fixture, data: &[u8]) -> ReplicaWriter {
    let writer = fixture.store().create_rbw(create(ID, G1)).unwrap();
    write(&writer, 0, data).unwrap();
    writer.set_acked(data.len() as u64);
    writer
}

fn recovered(store: &Store, stamp: GenStamp, len: u64) -> StoreResult<()> {
    let told = store.init_recovery(block(ID, G1, 0), stamp)?.expect("a replica is here");
    store.update_replica(told.block, stamp, len).map(|_| ())
}

/// What a recovery leaves, now and after a restart, and nothing else.
fn is_whole(fixture: &mut Fixture, stamp: GenStamp, data: &[u8]) {
    assert_eq!(read_all(fixture.store(), ID, stamp), data);
    fixture.restart();
    let status = fixture.store().status(ID).unwrap();
    assert_eq!((status.block, status.state), (block(ID, stamp, data.len() as u64), ReplicaState::Finalized));
    assert_eq!(read_all(fixture.store(), ID, stamp), data);
    for old in [G1, G2, G3, G4].into_iter().filter(|old| *old != stamp) {
        assert!(fixture.find(&format!("blk_{}_{}.meta", ID.0, old.0)).is_none(), "{old} is left");
    }
}

#[test]
fn a_recovery_goes_on_where_it_broke_off() {
    let data = bytes(1, 1_500);
    for (before, len) in [
        (ReplicaState::Rbw, 1_500),
        (ReplicaState::Rbw, 1_100),
        (ReplicaState::Rwr, 1_100),
        (ReplicaState::Finalized, 1_500),
        (ReplicaState::Finalized, 1_100),
    ] {
        at_every_step(|fixture, tried, ends| {
            let writer = begun(fixture, &data);
            match before {
                ReplicaState::Finalized => assert_eq!(writer.finalize().unwrap().len, 1_500),
                // What one that waits has after a restart.
                _ => writer.sync().unwrap(),
            }
            drop(writer);
            if before == ReplicaState::Rwr {
                fixture.restart();
            }
            let store = fixture.store().clone();
            let done = tried(&|| recovered(&store, G2, len).is_ok());
            if before == ReplicaState::Finalized {
                let now = store.status(ID).unwrap().block;
                assert_eq!(read_all(&store, ID, G1), data[..now.len as usize], "it is read meanwhile");
            }
            drop(store);
            if ends {
                fixture.restart();
            }
            let now = if done { G2 } else { G3 };
            if !done {
                recovered(fixture.store(), now, len)
                    .unwrap_or_else(|error| panic!("{before:?} {len}: {error}"));
            }
            is_whole(fixture, now, &data[..len as usize]);
        });
    }
}

#[test]
fn a_recovery_that_lacks_something_twice_goes_on_the_third_time() {
    let data = bytes(1, 1_500);
    for finalized in [false, true] {
        at_every_step(|fixture, tried, _| {
            let writer = begun(fixture, &data);
            match finalized {
                true => assert_eq!(writer.finalize().unwrap().len, 1_500),
                false => writer.sync().unwrap(),
            }
            drop(writer);
            let store = fixture.store().clone();
            let first = tried(&|| recovered(&store, G2, 1_100).is_ok());
            let second = first || tried(&|| recovered(&store, G3, 1_100).is_ok());
            drop(store);
            let now = if first {
                G2
            } else if second {
                G3
            } else {
                G4
            };
            if !second {
                recovered(fixture.store(), now, 1_100).unwrap();
            }
            is_whole(fixture, now, &data[..1_100]);
        });
    }
}

#[test]
fn what_could_not_be_finalized_is_recovered() {
    let data = bytes(2, 1_500);
    at_every_step(|fixture, tried, ends| {
        let writer = begun(fixture, &data);
        writer.sync().unwrap();
        let done = tried(&|| writer.finalize().is_ok());
        drop(writer);
        if ends {
            fixture.restart();
        }
        if done {
            return is_whole(fixture, G1, &data);
        }
        recovered(fixture.store(), G2, 1_500).unwrap();
        is_whole(fixture, G2, &data);
    });
}

#[test]
fn a_finalized_replica_that_could_not_take_its_stamp_is_as_it_was() {
    let data = bytes(3, 1_500);
    at_every_step(|fixture, tried, ends| {
        begun(fixture, &data).finalize().unwrap();
        let store = fixture.store().clone();
        let old = block(ID, G1, 1_500);
        let done = tried(&|| store.recover_close(old, G2, 1_500).is_ok());
        if !done {
            assert_eq!(read_all(&store, ID, G1), data);
        }
        drop(store);
        if ends {
            fixture.restart();
        }
        fixture.store().recover_close(old, G2, 1_500).unwrap();
        is_whole(fixture, G2, &data);
    });
}

#[test]
fn an_append_that_broke_off_leaves_what_was_there() {
    let data = bytes(4, 1_500);
    at_every_step(|fixture, tried, ends| {
        begun(fixture, &data).finalize().unwrap();
        let store = fixture.store().clone();
        let old = block(ID, G1, 1_500);
        let done = tried(&|| store.append(old, G2, SPEC).is_ok());
        drop(store);
        if ends {
            fixture.restart();
        }
        let store = fixture.store();
        match store.status(ID).unwrap().state {
            ReplicaState::Finalized => {
                assert!(!done);
                assert_eq!(store.append(old, G2, SPEC).unwrap().finalize().unwrap().stamp, G2);
                is_whole(fixture, G2, &data);
            }
            _ => {
                recovered(store, G3, 1_500).unwrap();
                is_whole(fixture, G3, &data);
            }
        }
    });
}

#[test]
fn a_copy_that_broke_off_leaves_nothing() {
    let data = bytes(5, 1_500);
    at_every_step(|fixture, tried, _| {
        let store = fixture.store().clone();
        let copy = || {
            let writer = store.create_temporary(create(ID, G1)).unwrap();
            write(&writer, 0, &data).unwrap();
            writer
        };
        let writer = copy();
        if tried(&|| writer.convert_to_rbw().is_ok()) {
            return;
        }
        drop(writer);
        // Whoever brings it again waits for the end of the one before.
        let again = store.create_temporary(create(ID, G1));
        match again {
            Ok(writer) => drop(writer),
            Err(error) => assert!(matches!(error, StoreError::Exists { .. }), "{error}"),
        }
        assert!(store.delete(ID, G1).is_ok());
        let writer = store.create_rbw(create(ID, G1)).unwrap();
        write(&writer, 0, &data).unwrap();
        writer.finalize().unwrap();
        drop((store, writer));
        is_whole(fixture, G1, &data);
    });
}
