use steadfs_common::{FsPath, InodeId, Millis};
use steadfs_namenode_core::Changes;
use steadfs_namenode_core::event::{Event, EventKind};

use super::*;
use crate::commit::payload;
use crate::journal::{Journal as _, SegmentedJournal};
use crate::store::Position;

/// Transaction `id`, which tells of a name made of it unless that is a multiple of three.
fn transaction(id: u64) -> Transaction {
    let path: FsPath = format!("/f{id}").parse().unwrap();
    let kind = EventKind::Unlink { mtime: Millis(id) };
    let event = Event { inode: InodeId(id), parent: InodeId(1), path, content: TxId(0), kind };
    let events =
        if id.is_multiple_of(3) { vec![] } else { vec![EventBatch { tx: TxId(id), events: vec![event] }] };
    Transaction { id: TxId(id), operation: 15, events }
}

fn ids(window: &Window) -> Vec<u64> {
    window.batches.iter().map(|batch| batch.tx.0).collect()
}

fn told(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    range.filter(|id| !id.is_multiple_of(3)).collect()
}

#[tokio::test]
async fn what_is_old_comes_from_the_journal_and_what_is_new_from_memory() {
    let keep = tempfile::tempdir().unwrap();
    let folders = vec![keep.path().join("a"), keep.path().join("b")];
    let (journal, _) = SegmentedJournal::open(&folders, 4_096, Position::default(), |_, _| Ok(())).unwrap();
    let mut journal = journal.keeping(1 << 20);
    let health = journal.health();
    let mut write = |from: u64, to: u64| {
        let batch: Vec<_> = (from..=to).map(transaction).collect();
        let at = journal.append(&payload::encode(&batch, &Changes::new())).unwrap();
        journal.trim(at.index);
        batch
    };
    for from in (1..1_000).step_by(10) {
        write(from, from + 9);
    }
    // A life later.
    let events = Events::new(TxId(1_000), (folders.clone(), health.clone()), 64 << 20).unwrap();
    events.publish(write(1_001, 1_010));
    assert_eq!(events.newest(), TxId(1_010));

    let recent = events.read(TxId(1_001), 100).await;
    assert_eq!((recent.first, recent.last, recent.newest), (Some(TxId(1_001)), TxId(1_010), TxId(1_010)));
    assert_eq!(ids(&recent), told(1_001..=1_010));
    let none = events.read(TxId(1_011), 100).await;
    assert_eq!((none.first, none.last, none.batches), (None, TxId(1_010), vec![]));

    // Read on and on, everything comes once and in order, whatever the pages.
    for page in [1, 7, 5_000] {
        let (mut from, mut seen) = (TxId(1), Vec::new());
        while from <= events.newest() {
            let window = events.read(from, page).await;
            assert_eq!(window.first, Some(from));
            assert!(window.last >= from && window.batches.len() <= page);
            seen.extend(ids(&window));
            from = window.last.next();
        }
        assert_eq!(seen, told(1..=1_010), "pages of {page}");
    }

    // What is gone from every copy is missed, and said to be: also where it lies between what is there.
    let segments = History::new(folders.clone(), health.clone()).segments();
    assert!(segments.len() > 3);
    let path = |folder: &std::path::PathBuf, first: u64| folder.join(format!("segment-{first:020}.log"));
    for folder in &folders {
        let mut bytes = std::fs::read(path(folder, segments[1])).unwrap();
        bytes[70] ^= 1;
        std::fs::write(path(folder, segments[1]), bytes).unwrap();
    }
    let before = events.read(TxId(1), 5_000).await;
    let hole = before.last.next();
    assert_eq!((before.first, ids(&before)), (Some(TxId(1)), told(1..=before.last.0)));
    let after = events.read(hole, 5_000).await;
    assert!(after.first.unwrap() > hole, "what was asked for is gone, and the answer says so");
    assert_eq!(ids(&after), told(after.first.unwrap().0..=1_000));
    for folder in &folders {
        for first in &segments[..2] {
            std::fs::remove_file(folder.join(format!("segment-{first:020}.log"))).unwrap();
        }
    }
    let window = events.read(TxId(1), 5_000).await;
    let first = window.first.unwrap().0;
    assert!(first > 1 && first % 10 == 1, "the first batch of the third segment: {first}");
    assert_eq!(ids(&window), told(first..=1_000));
    for folder in &folders {
        std::fs::remove_dir_all(folder).unwrap();
    }
    let window = events.read(TxId(1), 5_000).await;
    assert_eq!((window.first, ids(&window)), (Some(TxId(1_001)), told(1_001..=1_010)));
}

#[test]
fn memory_is_bounded() {
    let mut ring = Ring::behind(TxId(0), 1 << 30);
    for id in 1..=200_000 {
        ring.push(transaction(id));
    }
    let first = ring.first();
    assert!(first > TxId(100_000) && first < TxId(110_000), "{first}");
    assert_eq!(ring.read(TxId(first.0 - 1), 10), None);
    let (last, batches) = ring.read(first, usize::MAX).unwrap();
    assert_eq!((last, batches.len()), (TxId(200_000), 65_536));

    let mut ring = Ring::behind(TxId(0), 100_000);
    (1..=10_000).for_each(|id| ring.push(transaction(id)));
    let (last, batches) = ring.read(ring.first(), usize::MAX).unwrap();
    let bytes: usize = batches.iter().map(|batch| ring::size_of_batch(batch)).sum();
    assert!(last == TxId(10_000) && (90_000..=100_000).contains(&bytes), "{bytes} bytes");
    let mut ring = Ring::behind(TxId(0), 0);
    ring.push(transaction(1));
    assert_eq!((ring.first(), ring.read(TxId(1), 1)), (TxId(2), None), "it is read from the journal");
}
