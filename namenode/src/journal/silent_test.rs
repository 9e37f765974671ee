//! Copies whose disks do not answer.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use super::copies::Order;
use super::copies_test::{Bench, append, open};
use super::health::CopyState;
use super::{Journal as _, SegmentedJournal, segment};

/// So long a copy that is needed may take here after another has answered.
const PATIENCE: Duration = Duration::from_millis(20);

/// A disk that answers once the other end is dropped.
fn silent(until: Receiver<()>) -> Order {
    Box::new(move || {
        let _ = until.recv();
        Ok::<(), io::Error>(())
    })
}

fn is_left(journal: &SegmentedJournal, copy: usize) -> bool {
    matches!(&journal.health().copies()[copy].state, CopyState::Left(why) if why.contains("has not answered for"))
}

/// Appends while a disk is silent for long, and then answers.
fn append_late(journal: &mut SegmentedJournal, written: &mut Vec<Vec<u8>>, answer: Sender<()>) {
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(10 * PATIENCE);
            drop(answer);
        });
        append(journal, written, 1);
    });
}

#[test]
fn a_copy_that_does_not_answer_is_left_and_comes_back_once_it_has() {
    let bench = Bench::new(3);
    let folders = bench.folders();
    let (mut journal, _) = bench.open().unwrap();
    let mut written = Vec::new();
    append(&mut journal, &mut written, 3);
    let (answer, until) = channel();
    // Long enough for the others.
    journal.hold_up(1, Duration::from_secs(3), silent(until));
    append(&mut journal, &mut written, 1);
    journal.be_patient();
    assert_eq!([0, 1, 2].map(|copy| is_left(&journal, copy)), [false, true, false]);
    // New segments begin without it, though its folder takes files.
    append(&mut journal, &mut written, 60);
    for _ in 0..50 {
        assert!(!journal.readmit().unwrap());
        thread::sleep(Duration::from_micros(200));
    }
    journal.roll().unwrap();
    assert!(is_left(&journal, 1));
    let last = |copy: usize| segment::list(&folders[copy]).unwrap().pop().unwrap().0;
    assert!(last(1) < last(0) && last(0) == last(2));
    // What it was given reaches its disk now, late.
    drop(answer);
    while journal.health().is_degraded() {
        journal.readmit().unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    append(&mut journal, &mut written, 5);
    drop(journal);
    for folder in &folders {
        assert_eq!(open(std::slice::from_ref(folder)).unwrap().1, written);
    }
}

#[test]
fn a_slow_copy_that_is_needed_to_go_on_is_waited_for() {
    for filling in [false, true] {
        let bench = Bench::new(2);
        let (journal, _) = bench.open().unwrap();
        // Both are needed, or the other one lacks what came before.
        let mut journal = journal.needing(if filling { 1 } else { 2 });
        if filling {
            journal.health().set(0, CopyState::Filling);
        }
        let mut written = Vec::new();
        let (answer, until) = channel();
        journal.hold_up(1, PATIENCE, silent(until));
        append_late(&mut journal, &mut written, answer);
        assert_eq!(journal.health().copies()[1].state, CopyState::Complete);
    }
}

#[test]
fn where_the_others_fail_a_slow_copy_is_waited_for() {
    let bench = Bench::new(2);
    let folders = bench.folders();
    let (mut journal, _) = bench.open().unwrap();
    let mut written = Vec::new();
    append(&mut journal, &mut written, 1);
    let newest = segment::list(&folders[1]).unwrap().pop().unwrap().1;
    let newest = File::options().write(true).open(newest).unwrap();
    journal.break_files(vec![File::options().write(true).open("/dev/full").unwrap(), newest]);
    let (answer, until) = channel();
    journal.hold_up(1, PATIENCE, silent(until));
    append_late(&mut journal, &mut written, answer);
    assert!(matches!(journal.health().copies()[0].state, CopyState::Left(_)));
    assert_eq!(journal.health().copies()[1].state, CopyState::Complete);
    drop(journal);
    assert_eq!(open(&folders[1..]).unwrap().1, written);
}
