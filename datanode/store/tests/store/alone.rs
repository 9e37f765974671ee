//! A replica that is about to be extended on this datanode only.

use std::os::unix::fs::FileExt;

use steadfs_common::FsErrorKind;
use steadfs_datanode_store::{Store, StoreOptions};

use crate::fixture::*;

const LEN: u64 = 5_000;

/// A bit of the replica's first chunk, which no append looks at.
fn rot(fixture: &Fixture) {
    let file =
        std::fs::OpenOptions::new().read(true).write(true).open(fixture.file("blk_1073741825")).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 100).unwrap();
}

#[test]
fn a_rotten_replica_is_refused_and_reported() {
    let fixture = Fixture::new(1);
    fixture.finalized(ID, G1, LEN as usize);
    rot(&fixture);
    let error = fixture.store().verify_alone(ID, G1).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::Checksum);
    assert_eq!(*fixture.heard.bad.lock(), [block(ID, G1, LEN)]);
    assert!(fixture.store().status(ID).unwrap().bad);
    let told = fixture.store().init_recovery(block(ID, G1, LEN), G2).unwrap().unwrap();
    assert!(told.bad, "a recovery takes others first");
}

#[test]
fn a_rotten_replica_that_is_being_written_is_refused() {
    let fixture = Fixture::new(1);
    fixture.finalized(ID, G1, LEN as usize);
    let store = fixture.store();
    let writer = store.append(block(ID, G1, LEN), G2, SPEC).unwrap();
    let more = bytes(2, 700);
    writer.set_acked(write(&writer, LEN, &more).unwrap());
    rot(&fixture);
    assert_eq!(store.verify_alone(ID, G2).unwrap_err().kind(), FsErrorKind::Checksum);
    rot(&fixture);
    store.verify_alone(ID, G2).unwrap();
    write(&writer, LEN + 700, &more).unwrap();
    writer.finalize().unwrap();
}

#[test]
fn what_was_verified_is_not_read_again_for_a_while() {
    let mut fixture = Fixture::new(1);
    fixture.finalized(ID, G1, LEN as usize);
    fixture.store().verify_alone(ID, G1).unwrap();
    rot(&fixture);
    fixture.store().verify_alone(ID, G1).unwrap();

    let (options, heard) = (fixture.options(), fixture.heard.clone());
    fixture.close();
    let at_once = StoreOptions { verified_for: std::time::Duration::ZERO, ..options };
    let store = Store::open(at_once, heard).unwrap();
    for _ in 0..2 {
        rot(&fixture);
        store.verify_alone(ID, G1).unwrap();
        rot(&fixture);
        assert_eq!(store.verify_alone(ID, G1).unwrap_err().kind(), FsErrorKind::Checksum);
    }
}

#[test]
fn what_is_not_here_is_left_to_whoever_wants_it() {
    let fixture = Fixture::new(1);
    fixture.store().verify_alone(ID, G1).unwrap();
    fixture.finalized(ID, G1, 0);
    fixture.store().verify_alone(ID, G2).unwrap();
    fixture.store().verify_alone(ID, G1).unwrap();
}
