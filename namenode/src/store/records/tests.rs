use proptest::prelude::*;
use smallvec::SmallVec;
use steadfs_common::{BlockId, DatanodeUuid, GenStamp, InodeId, Millis, Name, StorageId, StorageType, TxId};
use steadfs_namenode_core::Record;
use steadfs_namenode_core::blocks::Wish;
use steadfs_namenode_core::record::{
    Acl, AclEntry, AclKind, Block, BlockState, Counters, FileBody, Inode, InodeKind, Layout, Lease,
    LockSession, Loss, Quota, Recovery, Retry, RetryReply, Settled, Totals, XAttr, XAttrName, XAttrNamespace,
};
use uuid::Uuid;

use super::{decode, encode};
use crate::store::keys::Table;

fn storages() -> impl Strategy<Value = SmallVec<[StorageId; 3]>> {
    proptest::collection::vec(any::<u128>(), 0..5)
        .prop_map(|ids| ids.into_iter().map(|id| StorageId(Uuid::from_u128(id))).collect())
}

fn quota() -> impl Strategy<Value = Quota> {
    any::<(Option<u64>, Option<u64>, [Option<u64>; StorageType::COUNT])>()
        .prop_map(|(names, space, types)| Quota { names, space, types })
}

fn acl() -> impl Strategy<Value = Acl> {
    let entries = || {
        let entry =
            (0..4_u8, 0..8_u8, proptest::option::of("\\PC{0,20}")).prop_map(|(kind, permission, name)| {
                AclEntry { kind: AclKind::from_number(kind).unwrap(), name, permission }
            });
        proptest::collection::vec(entry, 0..4)
    };
    (entries(), entries()).prop_map(|(access, default)| Acl { access, default })
}

fn xattrs() -> impl Strategy<Value = Vec<XAttr>> {
    let xattr = (0..5_u8, "\\PC{0,20}", proptest::collection::vec(any::<u8>(), 0..20)).prop_map(
        |(namespace, name, value)| XAttr {
            name: XAttrName { namespace: XAttrNamespace::from_number(namespace).unwrap(), name },
            value,
        },
    );
    proptest::collection::vec(xattr, 1..4)
}

fn kind() -> impl Strategy<Value = InodeKind> {
    let file = (any::<u16>(), any::<u64>(), any::<u32>(), any::<u64>(), any::<bool>(), any::<u64>())
        .prop_map(|(replication, length, blocks, block_size, under_construction, content)| {
            InodeKind::File(FileBody {
                layout: Layout::Replicated { replication },
                length,
                blocks,
                block_size,
                under_construction,
                content: TxId(content),
            })
        });
    let folder = (any::<u64>(), proptest::option::of(quota()))
        .prop_map(|(children, quota)| InodeKind::Directory { children, quota: quota.map(Box::new) });
    prop_oneof![folder, file]
}

pub(crate) fn inode() -> impl Strategy<Value = Inode> {
    let name =
        proptest::option::of("[a-zü ]{1,20}".prop_filter_map("not a name", |text| Name::new(&text).ok()));
    let numbers = (any::<u64>(), any::<u64>(), any::<u16>(), any::<u64>(), any::<u64>(), any::<u64>());
    let extras = (proptest::option::of(acl()), any::<bool>(), any::<u8>());
    (name, "\\PC{0,20}", "\\PC{0,20}", numbers, extras, kind()).prop_map(
        |(name, owner, group, numbers, (acl, has_xattrs, storage_policy), kind)| Inode {
            id: InodeId(numbers.0),
            parent: InodeId(numbers.1),
            name,
            owner,
            group,
            mode: numbers.2,
            mtime: Millis(numbers.3),
            atime: Millis(numbers.4),
            changed: TxId(numbers.5),
            acl: acl.map(Box::new),
            has_xattrs,
            storage_policy,
            kind,
        },
    )
}

fn state() -> impl Strategy<Value = BlockState> {
    let recovery =
        (any::<u64>(), any::<u64>(), any::<Option<u64>>()).prop_map(|(stamp, started, truncate_to)| {
            Recovery { stamp: GenStamp(stamp), started: Millis(started), truncate_to }
        });
    prop_oneof![
        Just(BlockState::Complete),
        storages().prop_map(|expected| BlockState::Committed { expected }),
        (storages(), proptest::option::of(recovery), any::<(u64, bool)>()).prop_map(
            |(expected, recovery, (synced, unsure))| {
                BlockState::UnderConstruction { expected, recovery, synced, unsure }
            }
        ),
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

fn node_wishes() -> impl Strategy<Value = Vec<(DatanodeUuid, Wish)>> {
    let until = proptest::option::of((1..u64::MAX).prop_map(Millis));
    let wish = prop_oneof![Just(Wish::Decommission), until.prop_map(|until| Wish::Maintenance { until })];
    let uuid = any::<u128>().prop_map(|bits| DatanodeUuid(Uuid::from_u128(bits)));
    proptest::collection::vec((uuid, wish), 0..4)
}

/// Any record with its table.
pub(crate) fn record() -> impl Strategy<Value = (Table, Record)> {
    let settled = any::<(u64, u64, [u64; StorageType::COUNT])>()
        .prop_map(|(charged, space, types)| Settled { charged, space, types });
    let totals = (any::<[u64; 6]>(), prop_oneof![Just(Settled::default()), settled]).prop_map(
        |([directories, files, bytes, space, charged, guarded], settled)| {
            let guarded = TxId(guarded);
            Record::Totals(Totals { directories, files, bytes, space, charged, settled, guarded })
        },
    );
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
        xattrs().prop_map(|list| (Table::XAttrs, Record::XAttrs(list))),
        proptest::collection::vec(any::<[u64; 5]>(), 1..4).prop_map(|losses| {
            let loss = |[incarnation, a, b, c, d]: [u64; 5]| Loss {
                incarnation,
                blocks: (BlockId(a), BlockId(b)),
                stamps: (GenStamp(c), GenStamp(d)),
            };
            (Table::Losses, Record::Losses(losses.into_iter().map(loss).collect()))
        }),
        node_wishes().prop_map(|wishes| (Table::NodeWishes, Record::NodeWishes(wishes))),
        ("\\PC{0,30}", "\\PC{0,30}", any::<u64>()).prop_map(|(user, client, opened)| {
            let session = LockSession { user, client, opened: Millis(opened) };
            (Table::LockSession, Record::LockSession(session))
        }),
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
        acl: None,
        has_xattrs: false,
        storage_policy: 0,
        kind: InodeKind::File(FileBody {
            layout: Layout::Replicated { replication: 3 },
            length: 1 << 20,
            blocks: 1,
            block_size: 128 << 20,
            under_construction: true,
            content: TxId(299),
        }),
    }
}

fn totals() -> Totals {
    let settled = Settled { charged: 300, space: 600, types: [300, 300, 0, 0, 0, 0] };
    Totals { directories: 1, files: 2, bytes: 300, space: 900, charged: 300, settled, guarded: TxId(7) }
}

/// A folder with all that few have.
fn guarded_folder() -> Inode {
    let entry =
        |kind, name: Option<&str>, permission| AclEntry { kind, name: name.map(Into::into), permission };
    let quota = Quota { names: Some(9), space: None, types: [None, Some(300), None, None, None, None] };
    Inode {
        acl: Some(Box::new(Acl {
            access: vec![entry(AclKind::User, Some("bob"), 6), entry(AclKind::Group, None, 5)],
            default: vec![entry(AclKind::Mask, None, 7)],
        })),
        has_xattrs: true,
        storage_policy: 12,
        kind: InodeKind::Directory { children: 2, quota: Some(Box::new(quota)) },
        ..file()
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
        kind: InodeKind::Directory { children: 2, quota: None },
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
            "020686800181800105612e63737603616e6e057374616666a40380d095ffbc3100ac02000003808040018080\
             8040ab02",
        ),
        (
            Table::Inode,
            Record::Inode(guarded_folder()),
            "023b86800181800105612e63737603616e6e057374616666a40380d095ffbc3100ac020c0200060103626f62010500\
             0102070002010900060001ac0200000000",
        ),
        (
            Table::Inode,
            Record::Inode(folder),
            "020181800181800103616e6e057374616666ed0380d095ffbc3100ac020002",
        ),
        (Table::Entry, Record::Entry(InodeId(16_390)), "01868001"),
        (Table::Totals, Record::Totals(totals()), "020102ac02840707ac0201ac02d80406ac02ac0200000000"),
        (Table::Block, block(BlockState::Complete), "02008180808004e907050386800100 01"),
        (
            Table::Block,
            block(BlockState::Committed { expected: [storage].into_iter().collect() }),
            "02018180808004e907050386800100010100000000000000000000000000000102",
        ),
        (
            Table::Block,
            block(BlockState::UnderConstruction {
                expected: SmallVec::new(),
                recovery: Some(recovery),
                synced: 3,
                unsure: true,
            }),
            "02038180808004e90705038680010001 00ea070901040301",
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
            Table::XAttrs,
            Record::XAttrs(vec![XAttr {
                name: XAttrName { namespace: XAttrNamespace::Trusted, name: "a".into() },
                value: vec![1, 2],
            }]),
            "0101010161020102",
        ),
        (
            Table::LockSession,
            Record::LockSession(LockSession { user: "u".into(), client: "m1".into(), opened: Millis(5) }),
            "01 0175 026d31 05",
        ),
        (
            Table::NodeWishes,
            Record::NodeWishes(vec![
                (DatanodeUuid(Uuid::from_u128(1)), Wish::Decommission),
                (DatanodeUuid(Uuid::from_u128(2)), Wish::Maintenance { until: Some(Millis(200)) }),
            ]),
            "0102 00000000000000000000000000000001 01 00000000000000000000000000000002 02c801",
        ),
        (
            Table::Losses,
            Record::Losses(vec![Loss {
                incarnation: 300,
                blocks: (BlockId(5), BlockId(6)),
                stamps: (GenStamp(7), GenStamp(8)),
            }]),
            "0101 ac02 05 06 07 08",
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
    let folder = Inode {
        id: InodeId(16_385),
        parent: InodeId(16_385),
        name: None,
        mode: 0o755,
        kind: InodeKind::Directory { children: 2, quota: None },
        ..file()
    };
    let mut of_version_1 = file();
    if let InodeKind::File(body) = &mut of_version_1.kind {
        body.content = of_version_1.changed;
    }
    let totals = Totals { settled: Settled::default(), ..totals() };
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
    let cases = [
        (Table::Reclaim, Record::Reclaim { after: None }, "01"),
        (
            Table::Inode,
            Record::Inode(of_version_1),
            "010686800181800105612e63737603616e6e057374616666a40380d095ffbc3100ac020003808040018080804000",
        ),
        (Table::Inode, Record::Inode(folder), "010181800181800103616e6e057374616666ed0380d095ffbc3100ac0202"),
        (Table::Totals, Record::Totals(totals), "010102ac02840707"),
        (Table::Block, block(BlockState::Complete), "01008180808004e90705038680010001"),
        (
            Table::Block,
            block(BlockState::Committed { expected: SmallVec::new() }),
            "01018180808004e9070503868001000100",
        ),
        (
            Table::Block,
            // It did not tell what is synced: all of it counts as that.
            block(BlockState::UnderConstruction {
                expected: SmallVec::new(),
                recovery: Some(Recovery { stamp: GenStamp(1_002), started: Millis(9), truncate_to: Some(4) }),
                synced: 5,
                unsure: false,
            }),
            "01038180808004e9070503868001000100ea07090104",
        ),
    ];
    for (table, record, golden) in cases {
        let bytes: Vec<u8> = golden
            .as_bytes()
            .chunks(2)
            .map(|digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap())
            .collect();
        assert_eq!(decode(table, &bytes).unwrap(), record);
    }
}

#[test]
fn a_newer_version_is_named() {
    let error = decode(Table::Entry, &[9, 1]).unwrap_err();
    assert_eq!(error.to_string(), "entry: it was written by a newer version of SteadFS");
}
