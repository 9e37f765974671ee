//! A transaction shows exactly what a view with its changes applied shows.

use proptest::prelude::*;
use steadfs_common::{BlockId, CallKey, InodeId, Millis, Name};

use super::{Changes, Tx};
use crate::memory::MemoryView;
use crate::record::{Key, Lease, Record, Retry, RetryReply, Totals};
use crate::view::View;

const NAMES: [&str; 6] = ["\u{1}", "a", "aa", "b", "z", "é"];

fn name() -> impl Strategy<Value = Name> {
    prop::sample::select(NAMES.as_slice()).prop_map(|text| Name::new(text).unwrap())
}

fn id() -> impl Strategy<Value = InodeId> {
    prop_oneof![4 => 0..6_u64, 1 => Just(u64::MAX)].prop_map(InodeId)
}

fn call() -> impl Strategy<Value = CallKey> {
    (0..2_u8, prop_oneof![Just(i32::MIN), -2..3_i32, Just(i32::MAX)])
        .prop_map(|(client, call)| CallKey { client: [client; 16], call })
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        4 => (id(), name()).prop_map(|(folder, name)| Key::Entry(folder, name)),
        2 => id().prop_map(Key::Lease),
        2 => id().prop_map(Key::Reclaim),
        2 => call().prop_map(Key::Retry),
        1 => id().prop_map(Key::Totals),
    ]
}

fn record(key: &Key, number: u64) -> Record {
    match key {
        Key::Entry(..) => Record::Entry(InodeId(number)),
        Key::Lease(_) => Record::Lease(Lease { holder: number.to_string(), machine: String::new() }),
        Key::Reclaim(_) => Record::Reclaim { after: Name::new(&number.to_string()).ok() },
        Key::Retry(_) => Record::Retry(Retry { expires: Millis(number), reply: RetryReply::Done }),
        _ => Record::Totals(Totals { files: number, ..Totals::default() }),
    }
}

/// Changes of single records, and of the whole (dense) block rows of some files.
fn changes() -> impl Strategy<Value = Changes> {
    let single = (key(), prop::option::of(0..100_u64));
    let rows = (id(), 0..5_u32, 0..100_u64);
    (prop::collection::vec(single, 0..40), prop::collection::vec(rows, 0..4)).prop_map(|(single, rows)| {
        let mut changes: Changes = single
            .into_iter()
            .map(|(key, number)| (key.clone(), number.map(|number| record(&key, number))))
            .collect();
        for (file, count, number) in rows {
            for index in 0..6 {
                let block = BlockId(number + u64::from(index));
                changes
                    .insert(Key::FileBlock(file, index), (index < count).then_some(Record::FileBlock(block)));
            }
        }
        changes
    })
}

fn assert_same(seen: &dyn View, expected: &dyn View, after: (&Name, InodeId, &CallKey), limit: usize) {
    let (name, id, call) = after;
    for folder in (0..6).map(InodeId) {
        for after in [None, Some(name)] {
            assert_eq!(seen.entries(folder, after, limit), expected.entries(folder, after, limit));
        }
        assert_eq!(seen.entry(folder, name), expected.entry(folder, name));
        assert_eq!(seen.totals(folder), expected.totals(folder));
        assert_eq!(seen.lease(folder), expected.lease(folder));
        for from in 0..3 {
            assert_eq!(seen.file_blocks(folder, from, limit), expected.file_blocks(folder, from, limit));
            assert_eq!(seen.file_block(folder, from), expected.file_block(folder, from));
        }
    }
    for after in [None, Some(id)] {
        assert_eq!(seen.leases(after, limit), expected.leases(after, limit));
    }
    for after in [None, Some(call)] {
        assert_eq!(seen.retries(after, limit), expected.retries(after, limit));
    }
    assert_eq!(seen.retry(call), expected.retry(call));
    assert_eq!(seen.reclaims(limit), expected.reclaims(limit));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn changes_show_as_if_applied(
        stored in changes(),
        first in changes(),
        second in changes(),
        name in name(),
        id in id(),
        call in call(),
        limit in 0..9_usize,
    ) {
        let mut expected = MemoryView::new();
        expected.apply(stored);
        let base = expected.clone();
        let tx = Tx::resume(&base, first.clone());
        expected.apply(first.clone());
        assert_same(&tx, &expected, (&name, id, &call), limit);

        let nested = Tx::resume(&tx, second.clone());
        expected.apply(second.clone());
        assert_same(&nested, &expected, (&name, id, &call), limit);

        let mut merged = Tx::resume(&base, first);
        merged.absorb(second);
        assert_same(&merged, &expected, (&name, id, &call), limit);
        let mut applied = base.clone();
        applied.apply(merged.into_changes());
        prop_assert_eq!(applied, expected);
    }
}
