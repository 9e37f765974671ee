use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};
use smallvec::SmallVec;
use steadfs_common::{BlockId, CallKey, GenStamp, InodeId, Millis, Name, TxId};
use steadfs_namenode_core::record::{
    Block, BlockState, Counters, Inode, InodeKind, Lease, LockSession, Retry, RetryReply, Totals, XAttr,
    XAttrName, XAttrNamespace,
};
use steadfs_namenode_core::{Changes, Key, MemoryView, Record, View};

use super::keys::Table;
use super::{MemoryOnly, Position, Store, StoreWriter};
use crate::config::StoreConfig;

fn small() -> StoreConfig {
    StoreConfig {
        block_cache_bytes: 1 << 20,
        write_buffer_bytes: 1 << 20,
        inode_cache_entries: 8,
        entry_cache_entries: 8,
        ..StoreConfig::default()
    }
}

fn open(folder: &Path) -> (Arc<Store>, StoreWriter) {
    Store::open(folder, &small()).unwrap()
}

fn at(index: u64) -> Position {
    Position { index, hash: index * 7 }
}

fn inode(id: u64, mtime: u64) -> Inode {
    Inode {
        id: InodeId(id),
        parent: InodeId(1),
        name: None,
        owner: "o".into(),
        group: "g".into(),
        mode: 0o755,
        mtime: Millis(mtime),
        atime: Millis(0),
        changed: TxId(mtime),
        acl: None,
        has_xattrs: false,
        storage_policy: 0,
        kind: InodeKind::Directory { children: 0, quota: None },
    }
}

fn put_inode(id: u64, mtime: u64) -> (Key, Option<Record>) {
    (Key::Inode(InodeId(id)), Some(Record::Inode(inode(id, mtime))))
}

fn block(id: u64) -> Block {
    Block {
        id: BlockId(id),
        stamp: GenStamp(1_001),
        length: id,
        replication: 3,
        inode: InodeId(5),
        index: 0,
        references: 1,
        state: BlockState::Committed { expected: SmallVec::new() },
    }
}

fn record(key: &Key, number: u64) -> Record {
    match key {
        Key::Inode(id) => Record::Inode(inode(id.0, number)),
        Key::Entry(..) => Record::Entry(InodeId(number)),
        Key::Totals(_) => Record::Totals(Totals { files: number, ..Totals::default() }),
        Key::Block(id) => Record::Block(block(id.0)),
        Key::FileBlock(..) => Record::FileBlock(BlockId(number)),
        Key::Lease(_) => Record::Lease(Lease { holder: format!("c{number}"), machine: String::new() }),
        Key::Reclaim(_) => Record::Reclaim { after: Name::new(&number.to_string()).ok() },
        Key::Retry(_) => Record::Retry(Retry { expires: Millis(number), reply: RetryReply::Done }),
        Key::LockSession(_) => Record::LockSession(LockSession {
            user: number.to_string(),
            client: String::new(),
            opened: Millis(number),
        }),
        Key::XAttrs(_) => Record::XAttrs(vec![XAttr {
            name: XAttrName { namespace: XAttrNamespace::User, name: number.to_string() },
            value: Vec::new(),
        }]),
        Key::NodeWishes => Record::NodeWishes(Vec::new()),
        Key::Losses => Record::Losses(Vec::new()),
        Key::Counters => Record::Counters(Counters {
            next_inode: InodeId(number),
            next_block: BlockId(1),
            next_stamp: GenStamp(1),
            last_tx: TxId(number),
            complete_blocks: 0,
            blocks: 0,
        }),
    }
}

fn name(number: u8) -> Name {
    Name::new(&"abc".repeat(1 + usize::from(number % 3))[usize::from(number % 3)..]).unwrap()
}

/// Few different keys, so that rows are changed again and again.
fn key() -> impl Strategy<Value = Key> {
    let id = (1..5_u64).prop_map(InodeId);
    prop_oneof![
        id.clone().prop_map(Key::Inode),
        (id.clone(), 0..6_u8).prop_map(|(folder, number)| Key::Entry(folder, name(number))),
        id.clone().prop_map(Key::Totals),
        (1..6_u64).prop_map(|id| Key::Block(BlockId(id))),
        (id.clone(), 0..4_u32).prop_map(|(file, index)| Key::FileBlock(file, index)),
        id.clone().prop_map(Key::Lease),
        id.prop_map(Key::Reclaim),
        (0..3_u8, -1..2_i32).prop_map(|(client, call)| Key::Retry(CallKey { client: [client; 16], call })),
        Just(Key::Counters),
    ]
}

fn changes() -> impl Strategy<Value = Changes> {
    proptest::collection::vec((key(), proptest::option::of(0..100_u64)), 1..8).prop_map(|rows| {
        let row = |(key, number): (Key, Option<u64>)| {
            // Counters are never deleted.
            let number = if key == Key::Counters { number.or(Some(0)) } else { number };
            let record = number.map(|number| record(&key, number));
            (key, record)
        };
        rows.into_iter().map(row).collect()
    })
}

/// Both answer every question alike.
fn assert_same(store: &dyn View, model: &MemoryView) {
    for id in (0..6).map(InodeId) {
        assert_eq!(store.inode(id), model.inode(id));
        assert_eq!(store.totals(id), model.totals(id));
        assert_eq!(store.block(BlockId(id.0)), model.block(BlockId(id.0)));
        assert_eq!(store.lease(id), model.lease(id));
        for number in 0..6 {
            assert_eq!(store.entry(id, &name(number)), model.entry(id, &name(number)));
            assert_eq!(store.entries(id, Some(&name(number)), 2), model.entries(id, Some(&name(number)), 2));
        }
        assert_eq!(store.entries(id, None, 10), model.entries(id, None, 10));
        for index in 0..4 {
            assert_eq!(store.file_block(id, index), model.file_block(id, index));
            assert_eq!(store.file_blocks(id, index, 2), model.file_blocks(id, index, 2));
        }
        assert_eq!(store.leases(Some(id), 2), model.leases(Some(id), 2));
    }
    assert_eq!(store.leases(None, 10), model.leases(None, 10));
    assert_eq!(store.reclaims(3), model.reclaims(3));
    assert_eq!(store.counters(), model.counters());
    for key in (0..3).map(|client| CallKey { client: [client; 16], call: 0 }) {
        assert_eq!(store.retry(&key), model.retry(&key));
        assert_eq!(store.retries(Some(&key), 2), model.retries(Some(&key), 2));
    }
    assert_eq!(store.retries(None, 10), model.retries(None, 10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every view answers as a plain map of its time does: now, later, from memory, and after a restart.
    #[test]
    fn views_are_as_a_map_would_be(batches in proptest::collection::vec(changes(), 1..8)) {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(folder.path());
        let mut model = MemoryView::new();
        let mut history = vec![(store.view(), model.clone())];
        for (number, batch) in batches.into_iter().enumerate() {
            writer.apply(at(number as u64 + 1), &batch);
            model.apply(batch);
            assert_same(&*store.view(), &model);
            history.push((store.view(), model.clone()));
            if number == 3 {
                store.flush();
            }
        }
        for (view, model) in history.iter().rev() {
            assert_same(&**view, model);
        }
        let view = store.view();
        let memory = MemoryOnly::new(&view);
        let known = memory.inode(InodeId(1));
        prop_assert!(memory.missed() || known == model.inode(InodeId(1)));
        let position = writer.position();
        store.flush();
        drop((store, writer, history, view));
        let (store, writer) = open(folder.path());
        prop_assert_eq!(writer.position(), position);
        assert_same(&*store.view(), &model);
    }
}

#[test]
fn a_reader_of_an_old_view_spoils_the_cache_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut writer) = open(folder.path());
    writer.apply(at(1), &Changes::from([put_inode(1, 1), put_inode(2, 1)]));
    let old = store.view();
    writer.apply(at(2), &Changes::from([put_inode(1, 2)]));
    let mtime = |view: &dyn View, id| view.inode(InodeId(id)).map(|inode| inode.mtime.0);
    // The old reader puts the old row into the cache after the new one was.
    assert_eq!(mtime(&*old, 1), Some(1));
    assert_eq!(mtime(&*store.view(), 1), Some(2));
    assert_eq!(mtime(&*old, 1), Some(1));
    writer.apply(at(3), &Changes::from([(Key::Inode(InodeId(1)), None)]));
    assert_eq!(mtime(&*store.view(), 1), None);
    assert_eq!(mtime(&*old, 1), Some(1));
    assert_eq!(mtime(&*store.view(), 1), None);
    assert_eq!(mtime(&*store.view(), 2), Some(1));
}

#[test]
fn what_is_cached_is_read_without_the_store() {
    let folder = tempfile::tempdir().unwrap();
    {
        let (store, mut writer) = open(folder.path());
        let entry = (Key::Entry(InodeId(1), name(0)), Some(Record::Entry(InodeId(2))));
        writer.apply(at(1), &Changes::from([put_inode(1, 1), entry]));
        store.flush();
    }
    let (store, _writer) = open(folder.path());
    let view = store.view();
    let cold = MemoryOnly::new(&view);
    cold.inode(InodeId(1));
    assert!(cold.missed(), "after a start nothing is in memory");
    assert!(view.inode(InodeId(1)).is_some());
    assert_eq!(view.entry(InodeId(1), &name(0)), Some(InodeId(2)));
    assert_eq!(view.entry(InodeId(1), &name(1)), None);
    let before = store.rows_read();
    let warm = MemoryOnly::new(&view);
    assert!(warm.inode(InodeId(1)).is_some());
    assert_eq!(warm.entry(InodeId(1), &name(0)), Some(InodeId(2)));
    assert_eq!(warm.entry(InodeId(1), &name(1)), None);
    assert!(!warm.missed());
    assert_eq!(store.rows_read(), before);
}

#[test]
fn blocks_come_in_order_of_id_for_reports() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut writer) = open(folder.path());
    let ids = [9, 1, u64::MAX - 15, 3, 300];
    let changes = ids.iter().map(|id| (Key::Block(BlockId(*id)), Some(Record::Block(block(*id)))));
    writer.apply(at(1), &changes.collect());
    let from =
        |id, limit| store.blocks_from(BlockId(id), limit).iter().map(|block| block.id.0).collect::<Vec<_>>();
    assert_eq!(from(0, 10), [1, 3, 9, 300, u64::MAX - 15]);
    assert_eq!(from(3, 2), [3, 9]);
    assert_eq!(from(301, 2), [u64::MAX - 15]);
    assert_eq!(from(u64::MAX, 2), [] as [u64; 0]);
}

/// Two rows always change together: no view may ever see one without the other.
#[test]
fn no_read_mixes_before_and_after() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut writer) = open(folder.path());
    writer.apply(at(1), &Changes::from([put_inode(1, 1), put_inode(2, 1)]));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = 0;
                    while !done.load(Ordering::Relaxed) {
                        let view = store.view();
                        let one = view.inode(InodeId(1)).map(|inode| inode.mtime.0).unwrap();
                        let other = view.inode(InodeId(2)).map(|inode| inode.mtime.0).unwrap();
                        assert_eq!((one, other), (view.position().index, view.position().index));
                        assert!(one >= seen);
                        seen = one;
                    }
                })
            })
            .collect();
        for index in 2..3_000 {
            writer.apply(at(index), &Changes::from([put_inode(1, index), put_inode(2, index)]));
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn a_damaged_row_ends_the_process_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut writer) = open(folder.path());
    writer.apply(at(1), &Changes::from([put_inode(1, 1)]));
    let family = store.database.family(super::keys::Table::Lease);
    store.database.db.put_cf(family, super::keys::lease::encode(InodeId(1)), [99]).unwrap();
    let view = Store::open(&folder.path().join("other"), &small()).unwrap().0.view();
    assert_eq!(view.lease(InodeId(1)), None);
    writer.apply(at(2), &Changes::from([put_inode(1, 2)]));
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.view().lease(InodeId(1))));
    let sentence = ended.unwrap_err().downcast::<String>().unwrap();
    assert!(sentence.contains("damaged row: lease: it was written by a newer version"), "{sentence}");
    assert!(sentence.contains("Put back a copy"), "{sentence}");
}

#[test]
fn a_look_up_reads_little_of_a_large_table_file() {
    const ROWS: u64 = 500_000;
    let folder = tempfile::tempdir().unwrap();
    // One table file, whose filter of 10 bits a row is larger than a shard of the cache.
    let config = StoreConfig { write_buffer_bytes: 512 << 20, ..small() };
    let open = || Store::open(folder.path(), &config).unwrap();
    let (store, mut writer) = open();
    for first in (1..ROWS).step_by(10_000) {
        let changes: Changes = (first..first + 10_000).map(|id| put_inode(id, id)).collect();
        writer.apply(at(first), &changes);
    }
    store.flush();
    // Below the first level, whose filters are held in memory.
    let inodes = store.database.family(Table::Inode);
    store.database.db.compact_range_cf(inodes, None::<&[u8]>, None::<&[u8]>);
    drop((store, writer));
    let (store, _writer) = open();
    let look = |seed: u64| {
        let id = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) % ROWS + 1;
        assert_eq!(store.view().inode(InodeId(id)), Some(Arc::new(inode(id, id))));
    };
    (0..100).for_each(look);
    set_perf_stats(PerfStatsLevel::EnableCount);
    let mut counts = PerfContext::default();
    counts.reset();
    (100..200).for_each(look);
    let bytes = counts.metric(PerfMetric::BlockReadByte);
    set_perf_stats(PerfStatsLevel::Disable);
    // A block of rows, and a piece each of the index and the filter.
    assert!(bytes <= 100 * (64 << 10), "{} bytes a look-up", bytes / 100);
}
