use proptest::prelude::*;
use steadfs_common::{BlockId, CallKey, InodeId, Name};
use steadfs_namenode_core::Key;
use steadfs_namenode_core::locks::SessionId;

use super::{Table, decode, encode, table_of};

fn name() -> impl Strategy<Value = Name> {
    "[^/:\u{0}]{1,20}".prop_filter_map("not a name", |text| Name::new(&text).ok())
}

pub(crate) fn key() -> impl Strategy<Value = Key> {
    let id = prop_oneof![0..4_u64, any::<u64>()].prop_map(InodeId);
    prop_oneof![
        id.clone().prop_map(Key::Inode),
        (id.clone(), name()).prop_map(|(folder, name)| Key::Entry(folder, name)),
        id.clone().prop_map(Key::Totals),
        any::<u64>().prop_map(|id| Key::Block(BlockId(id))),
        (id.clone(), any::<u32>()).prop_map(|(file, index)| Key::FileBlock(file, index)),
        id.clone().prop_map(Key::Lease),
        id.clone().prop_map(Key::Reclaim),
        id.prop_map(Key::XAttrs),
        any::<u64>().prop_map(|id| Key::LockSession(SessionId(id))),
        (any::<[u8; 16]>(), any::<i32>()).prop_map(|(client, call)| Key::Retry(CallKey { client, call })),
        Just(Key::Counters),
        Just(Key::NodeWishes),
        Just(Key::Losses),
    ]
}

#[test]
fn ordinals_are_unique_and_found() {
    for table in Table::ALL {
        assert_eq!(Table::from_ordinal(*table as u8), Some(*table));
        assert_eq!(Table::ALL.iter().filter(|other| other.family() == table.family()).count(), 1);
    }
    assert_eq!(Table::from_ordinal(0), None);
    assert_eq!(Table::from_ordinal(13), None);
}

#[test]
fn golden_bytes() {
    let cases: [(Key, &[u8]); 13] = [
        (Key::Inode(InodeId(16_385)), &[0, 0, 0, 0, 0, 0, 0x40, 1]),
        (Key::Entry(InodeId(258), Name::new("ü").unwrap()), &[0, 0, 0, 0, 0, 0, 1, 2, 0xc3, 0xbc]),
        (Key::Totals(InodeId(1)), &[0, 0, 0, 0, 0, 0, 0, 1]),
        (Key::Block(BlockId(u64::MAX - 15)), &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf0]),
        (Key::FileBlock(InodeId(2), 3), &[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3]),
        (Key::Lease(InodeId(4)), &[0, 0, 0, 0, 0, 0, 0, 4]),
        (Key::Reclaim(InodeId(5)), &[0, 0, 0, 0, 0, 0, 0, 5]),
        (
            Key::Retry(CallKey { client: [7; 16], call: -1 }),
            &[7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0x7f, 0xff, 0xff, 0xff],
        ),
        (Key::Counters, &[0]),
        (Key::NodeWishes, &[0]),
        (Key::Losses, &[0]),
        (Key::XAttrs(InodeId(16_385)), &[0, 0, 0, 0, 0, 0, 0x40, 1]),
        (Key::LockSession(SessionId(3)), &[0, 0, 0, 0, 0, 0, 0, 3]),
    ];
    for (key, bytes) in cases {
        assert_eq!(encode(&key), bytes, "{key:?}");
    }
}

proptest! {
    #[test]
    fn keys_come_back(key in key()) {
        prop_assert_eq!(decode(table_of(&key), &encode(&key)).unwrap(), key);
    }

    #[test]
    fn bytes_sort_as_keys_do(one in key(), other in key()) {
        let tabled = |key: &Key| (table_of(key), encode(key));
        prop_assert_eq!(tabled(&one).cmp(&tabled(&other)), one.cmp(&other));
    }

    #[test]
    fn foreign_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        for table in Table::ALL {
            if let Ok(key) = decode(*table, &bytes) {
                prop_assert_eq!(encode(&key), bytes.clone());
            }
        }
    }
}
