use proptest::prelude::*;
use smallvec::SmallVec;
use steadfs_common::{BlockId, GenStamp, InodeId, Millis, Name, StorageId, TxId};
use steadfs_namenode_core::Record;
use steadfs_namenode_core::record::{
    Block, BlockState, Counters, FileBody, Inode, InodeKind, Layout, Lease, Recovery, Retry, RetryReply,
    Totals,
};
use uuid::Uuid;

use super::{decode, encode};
use crate::store::keys::Table;

fn storages() -> impl Strategy<Value = SmallVec<[StorageId; 3]>> {
    proptest::collection::vec(any::<u128>(), 0..5)
        .prop_map(|ids| ids.into_iter().map(|id| StorageId(Uuid::from_u128(id))).collect())
}

fn kind() -> impl Strategy<Value = InodeKind> {
    let file = (any::<u16>(), any::<u64>(), any::<u32>(), any::<u64>(), any::<bool>(), any::<u8>()).prop_map(
        |(replication, length, blocks, block_size, under_construction, storage_policy)| {
            InodeKind::File(FileBody {
                layout: Layout::Replicated { replication },
                length,
                blocks,
                block_size,
                under_construction,
                storage_policy,
            })
        },
    );
    prop_oneof![any::<u64>().prop_map(|children| InodeKind::Directory { children }), file]
}

fn inode() -> impl Strategy<Value = Inode> {
    let name =
        proptest::option::of("[a-zü ]{1,20}".prop_filter_map("not a name", |text| Name::new(&text).ok()));
    let numbers = (any::<u64>(), any::<u64>(), any::<u16>(), any::<u64>(), any::<u64>(), any::<u64>());
    (name, "\\PC{0,20}", "\\PC{0,20}", numbers, kind()).prop_map(|(name, owner, group, numbers, kind)| {
        Inode {
            id: InodeId(numbers.0),
            parent: InodeId(numbers.1),
            name,
            owner,
            group,
            mode: numbers.2,
            mtime: Millis(numbers.3),
            atime: Millis(numbers.4),
            changed: TxId(numbers.5),
            kind,
        }
    })
}

fn state() -> impl Strategy<Value = BlockState> {
    let recovery =
        (any::<u64>(), any::<u64>(), any::<Option<u64>>()).prop_map(|(stamp, started, truncate_to)| {
            Recovery { stamp: GenStamp(stamp), started: Millis(started), truncate_to }
        });
    prop_oneof![
        Just(BlockState::Complete),
        storages().prop_map(|expected| BlockState::Committed { expected }),
        (storages(), proptest::option::of(recovery))
            .prop_map(|(expected, recovery)| BlockState::UnderConstruction { expected, recovery }),
    ]
}

fn block() -> impl Strategy<Value = Block> {
    let numbers =
        (any::<u64>(), any::<u64>(), any::<u64>(), any::<u16>(), any::<u64>(), any::<u32>(), any::<u32>());
    (numbers, state()).prop_map(|(numbers, state)| Block {
        id: BlockId(numbers.0),
        stamp: GenStamp(numbers.1),
        length: numbers.2,
        replication: numbers.3,
        inode: InodeId(numbers.4),
        index: numbers.5,
        references: numbers.6,
        state,
    })
}

fn retry() -> impl Strategy<Value = Retry> {
    let reply = prop_oneof![
        Just(RetryReply::Done),
        any::<bool>().prop_map(RetryReply::Bool),
        any::<u64>().prop_map(|id| RetryReply::File(InodeId(id))),
    ];
    (any::<u64>(), reply).prop_map(|(expires, reply)| Retry { expires: Millis(expires), reply })
}

/// Any record with its table.
pub(crate) fn record() -> impl Strategy<Value = (Table, Record)> {
    let totals = any::<[u64; 5]>().prop_map(|[directories, files, bytes, space, guarded]| {
        Record::Totals(Totals { directories, files, bytes, space, guarded: TxId(guarded) })
    });
    let counters = any::<[u64; 6]>().prop_map(|[inode, block, stamp, tx, complete_blocks, blocks]| {
        Record::Counters(Counters {
            next_inode: InodeId(inode),
            next_block: BlockId(block),
            next_stamp: GenStamp(stamp),
            last_tx: TxId(tx),
            complete_blocks,
            blocks,
        })
    });
    prop_oneof![
        inode().prop_map(|inode| (Table::Inode, Record::Inode(inode))),
        any::<u64>().prop_map(|id| (Table::Entry, Record::Entry(InodeId(id)))),
        totals.prop_map(|record| (Table::Totals, record)),
        block().prop_map(|block| (Table::Block, Record::Block(block))),
        any::<u64>().prop_map(|id| (Table::FileBlock, Record::FileBlock(BlockId(id)))),
        ("\\PC{0,30}", "\\PC{0,30}")
            .prop_map(|(holder, machine)| (Table::Lease, Record::Lease(Lease { holder, machine }))),
        proptest::option::of("[a-zü ]{1,20}".prop_filter_map("not a name", |text| Name::new(&text).ok()))
            .prop_map(|after| (Table::Reclaim, Record::Reclaim { after })),
        retry().prop_map(|retry| (Table::Retry, Record::Retry(retry))),
        counters.prop_map(|record| (Table::Counters, record)),
    ]
}

proptest! {
    #[test]
    fn records_come_back((table, record) in record()) {
        let bytes = encode(&record);
        prop_assert_eq!(decode(table, &bytes).unwrap(), record);
        for cut in 0..bytes.len() {
            prop_assert!(decode(table, &bytes[..cut]).is_err(), "cut at {}", cut);
        }
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(decode(table, &longer).is_err());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        for table in Table::ALL {
            let _ = decode(*table, &bytes);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn file() -> Inode {
    Inode {
        id: InodeId(16_390),
        parent: InodeId(16_385),
        name: Some(Name::new("a.csv").unwrap()),
        owner: "ann".into(),
        group: "staff".into(),
        mode: 0o644,
        mtime: Millis(1_700_000_000_000),
        atime: Millis(0),
        changed: TxId(300),
        kind: InodeKind::File(FileBody {
            layout: Layout::Replicated { replication: 3 },
            length: 1 << 20,
            blocks: 1,
            block_size: 128 << 20,
            under_construction: true,
            storage_policy: 0,
        }),
    }
}

/// Bytes that today's versions write: they stay readable for ever.
#[test]
fn golden_bytes() {
    let storage = StorageId(Uuid::from_u128(0x0102));
    let folder = Inode {
        id: InodeId(16_385),
        parent: InodeId(16_385),
        name: None,
        mode: 0o755,
        kind: InodeKind::Directory { children: 2 },
        ..file()
    };
    let block = |state| {
        Record::Block(Block {
            id: BlockId(1_073_741_825),
            stamp: GenStamp(1_001),
            length: 5,
            replication: 3,
            inode: InodeId(16_390),
            index: 0,
            references: 1,
            state,
        })
    };
    let recovery = Recovery { stamp: GenStamp(1_002), started: Millis(9), truncate_to: Some(4) };
    let cases = [
        (
            Table::Inode,
            Record::Inode(file()),
            "010686800181800105612e63737603616e6e057374616666a40380d095ffbc3100ac0200038080400180808040\
             00",
        ),
        (Table::Inode, Record::Inode(folder), "010181800181800103616e6e057374616666ed0380d095ffbc3100ac0202"),
        (Table::Entry, Record::Entry(InodeId(16_390)), "01868001"),
        (
            Table::Totals,
            Record::Totals(Totals { directories: 1, files: 2, bytes: 300, space: 900, guarded: TxId(7) }),
            "010102ac02840707",
        ),
        (Table::Block, block(BlockState::Complete), "01008180808004e907050386800100 01"),
        (
            Table::Block,
            block(BlockState::Committed { expected: [storage].into_iter().collect() }),
            "01018180808004e907050386800100010100000000000000000000000000000102",
        ),
        (
            Table::Block,
            block(BlockState::UnderConstruction { expected: SmallVec::new(), recovery: Some(recovery) }),
            "01038180808004e90705038680010001 00ea07090104",
        ),
        (Table::FileBlock, Record::FileBlock(BlockId(1_073_741_825)), "018180808004"),
        (
            Table::Lease,
            Record::Lease(Lease { holder: "c1".into(), machine: "10.0.0.1".into() }),
            "0102633108 31302e302e302e31",
        ),
        (Table::Reclaim, Record::Reclaim { after: None }, "0200"),
        (Table::Reclaim, Record::Reclaim { after: Some(Name::new("a.csv").unwrap()) }, "020105612e637376"),
        (
            Table::Retry,
            Record::Retry(Retry { expires: Millis(200), reply: RetryReply::File(InodeId(16_390)) }),
            "01c80103868001",
        ),
        (
            Table::Counters,
            Record::Counters(Counters {
                next_inode: InodeId(16_386),
                next_block: BlockId(1_073_741_825),
                next_stamp: GenStamp(1_001),
                last_tx: TxId(1),
                complete_blocks: 0,
                blocks: 0,
            }),
            "018280018180808004e907010000",
        ),
    ];
    for (table, record, golden) in cases {
        let golden: String = golden.split_whitespace().collect();
        assert_eq!(hex(&encode(&record)), golden, "{record:?}");
        assert_eq!(decode(table, &encode(&record)).unwrap(), record);
    }
}

/// Bytes that older releases wrote.
#[test]
fn old_golden_bytes() {
    assert_eq!(decode(Table::Reclaim, &[1]).unwrap(), Record::Reclaim { after: None });
}

#[test]
fn a_newer_version_is_named() {
    let error = decode(Table::Entry, &[9, 1]).unwrap_err();
    assert_eq!(error.to_string(), "entry: it was written by a newer version of SteadFS");
}
