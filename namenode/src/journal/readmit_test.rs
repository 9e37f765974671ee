//! Copies that come back without anybody rolling the journal, and what is kept for the second copy of the store.

use std::path::Path;
use std::time::Duration;

use super::copies_test::{Bench, append, break_copies, open};
use super::health::CopyState;
use super::{Journal as _, SegmentedJournal, notes, segment};

fn segments(folder: &Path) -> usize {
    segment::list(folder).unwrap().len()
}

/// Lets copies come back until all are complete, with nothing written meanwhile.
fn readmit_until_whole(journal: &mut SegmentedJournal) {
    while journal.health().is_degraded() {
        journal.readmit().unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Lets the second copy come back, which it does once its folder takes files.
fn come_back(journal: &mut SegmentedJournal) {
    while matches!(journal.health().copies()[1].state, CopyState::Left(_)) {
        journal.readmit().unwrap();
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn a_copy_that_stays_away_costs_the_others_no_segment() {
    let bench = Bench::new(2);
    let folders = bench.folders();
    let (mut journal, _) = bench.open().unwrap();
    let mut written = Vec::new();
    append(&mut journal, &mut written, 3);
    std::fs::rename(&folders[1], folders[1].with_extension("away")).unwrap();
    journal.roll().unwrap();
    append(&mut journal, &mut written, 1);
    assert!(journal.health().is_degraded());
    let before = segments(&folders[0]);
    for _ in 0..200 {
        assert!(!journal.readmit().unwrap());
        append(&mut journal, &mut written, 1);
    }
    let room = written.len() / 5 + before + 2;
    assert!(segments(&folders[0]) <= room, "{} segments for {}", segments(&folders[0]), written.len());
    for _ in 0..200 {
        assert!(!journal.readmit().unwrap());
    }
}

#[test]
fn a_copy_comes_back_to_an_idle_journal() {
    for broken in 0..2 {
        let bench = Bench::new(2);
        let (mut journal, _) = bench.open().unwrap();
        let mut written = Vec::new();
        append(&mut journal, &mut written, 40);
        break_copies(&mut journal, &bench.folders(), &[broken]);
        append(&mut journal, &mut written, 1);
        readmit_until_whole(&mut journal);
        drop(journal);
        for copy in 0..2 {
            assert_eq!(notes::highest(&bench.folders()[copy]).unwrap(), None);
            assert_eq!(open(&bench.folders()[copy..=copy]).unwrap().1, written, "copy {copy} alone");
        }
    }
}

#[test]
fn a_copy_that_fails_again_and_again_is_let_in_ever_less_often() {
    let bench = Bench::new(2);
    let folders = bench.folders();
    let (mut journal, _) = bench.open().unwrap();
    let mut written = Vec::new();
    let mut begun = 0;
    for _ in 0..1_000 {
        break_copies(&mut journal, &folders, &[1]);
        journal.append(b"once more").unwrap();
        written.push(b"once more".to_vec());
        begun += usize::from(journal.readmit().unwrap());
        // Its folder takes new files at once.
        std::thread::sleep(Duration::from_micros(100));
    }
    assert!((2..40).contains(&begun), "{begun}");
}

#[test]
fn a_copy_that_fails_while_it_is_filled_is_not_taken_for_complete() {
    for _ in 0..20 {
        let bench = Bench::new(2);
        let folders = bench.folders();
        let (mut journal, _) = bench.open().unwrap();
        let mut written = Vec::new();
        append(&mut journal, &mut written, 60);
        break_copies(&mut journal, &folders, &[1]);
        append(&mut journal, &mut written, 1);
        come_back(&mut journal);
        // It is being filled, and fails again: what comes now it lacks as well.
        break_copies(&mut journal, &folders, &[1]);
        append(&mut journal, &mut written, 1);
        assert!(matches!(journal.health().copies()[1].state, CopyState::Left(_)));
        append(&mut journal, &mut written, 30);
        while journal.health().is_degraded() {
            journal.readmit().unwrap();
        }
        drop(journal);
        assert_eq!(open(&folders[1..]).unwrap().1, written, "it said that it was complete");
    }
}

#[test]
fn nobody_is_complete_by_what_no_copy_has() {
    let bench = Bench::new(2);
    let folders = bench.folders();
    let (mut journal, _) = bench.open().unwrap();
    let mut written = Vec::new();
    append(&mut journal, &mut written, 3);
    let away = bench.keep.path().join("away");
    std::fs::rename(&folders[1], &away).unwrap();
    append(&mut journal, &mut written, 60);
    assert!(matches!(journal.health().copies()[1].state, CopyState::Left(_)));
    // A segment that only the complete copy has rots there.
    let (first, path) = segment::list(&folders[0]).unwrap()[1].clone();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::rename(&away, &folders[1]).unwrap();
    come_back(&mut journal);
    for _ in 0..200 {
        journal.readmit().unwrap();
        std::thread::sleep(Duration::from_micros(200));
        assert!(journal.health().is_degraded());
    }
    assert_eq!(journal.health().copies()[1].state, CopyState::Filling);
    assert!(notes::highest(&folders[0]).unwrap().is_some(), "the first still says that it alone is complete");
    // Once nobody needs that segment, the others make it complete.
    let next = segment::list(&folders[0]).unwrap()[2].0;
    assert!(next > first);
    journal.trim(next);
    readmit_until_whole(&mut journal);
}

#[test]
fn on_a_copy_that_is_still_being_filled_alone_nothing_is_acknowledged() {
    let bench = Bench::new(2);
    let folders = bench.folders();
    let (mut journal, _) = bench.open().unwrap();
    let mut written = Vec::new();
    append(&mut journal, &mut written, 3);
    let away = bench.keep.path().join("away");
    std::fs::rename(&folders[1], &away).unwrap();
    append(&mut journal, &mut written, 60);
    // What the second lacks cannot be had from the first any more.
    let (_, path) = segment::list(&folders[0]).unwrap()[1].clone();
    std::fs::write(&path, b"nothing").unwrap();
    std::fs::rename(&away, &folders[1]).unwrap();
    come_back(&mut journal);
    assert_eq!(journal.health().copies()[1].state, CopyState::Filling);
    std::fs::rename(&folders[0], bench.keep.path().join("gone")).unwrap();
    assert!((0..60).any(|_| journal.append(b"one more").is_err()), "the only complete copy is gone");
}

#[test]
fn what_the_second_copy_of_the_store_needs_is_kept_within_a_bound() {
    let bench = Bench::new(1);
    let folders = bench.folders();
    let (mut journal, _) = bench.open().unwrap();
    let health = journal.health();
    health.copied(7);
    let mut written = Vec::new();
    let oldest = |folder: &Path| segment::list(folder).unwrap()[0].0;
    append(&mut journal, &mut written, 100);
    let end = journal.position().index;
    journal.trim(end);
    assert!(oldest(&folders[0]) <= 8 && segments(&folders[0]) > 3, "entry 8 is needed");
    assert_eq!(health.outran(), None);
    // The copy was renewed.
    health.copied(end);
    journal.trim(end);
    assert_eq!(segments(&folders[0]), 1);
    // It is not renewed for long: first that is pressing, then it is let go.
    while !health.is_pressing() {
        append(&mut journal, &mut written, 1);
        journal.trim(journal.position().index);
        assert_eq!(health.outran(), None);
    }
    for _ in 0..500 {
        append(&mut journal, &mut written, 1);
        journal.trim(journal.position().index);
    }
    assert_eq!(health.outran(), Some(end));
    assert!(segments(&folders[0]) <= 20);
    health.copied(journal.position().index);
    journal.trim(journal.position().index);
    assert_eq!((health.outran(), health.is_pressing()), (None, false));
    // Without room nothing is kept for it.
    append(&mut journal, &mut written, 100);
    health.low(true);
    journal.trim(journal.position().index);
    assert_eq!(segments(&folders[0]), 1);
    assert!(health.outran().is_some());
}
