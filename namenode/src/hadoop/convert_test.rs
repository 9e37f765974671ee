//! What clients are told, field by field.

use std::net::Ipv4Addr;
use std::sync::Arc;

use steadfs_common::{FsErrorKind, Millis, Name, TxId};
use steadfs_namenode_core::record::{FileBody, InodeKind, Layout};
use uuid::Uuid;

use super::*;
use crate::service::Location;

const POOL: &str = "BP-1";

fn a_folder() -> Inode {
    Inode {
        id: InodeId(16_390),
        parent: InodeId(16_385),
        name: Some(Name::new("d").unwrap()),
        owner: "alice".into(),
        group: "staff".into(),
        mode: 0o1755,
        mtime: Millis(5),
        atime: Millis(0),
        changed: TxId(1),
        acl: None,
        has_xattrs: false,
        storage_policy: 0,
        kind: InodeKind::Directory { children: 3, quota: None },
    }
}

fn a_file() -> Inode {
    let body = FileBody {
        layout: Layout::Replicated { replication: 2 },
        length: 1_000,
        blocks: 1,
        block_size: 4_096,
        under_construction: false,
        content: TxId(1),
    };
    Inode { kind: InodeKind::File(body), mode: 0o640, atime: Millis(7), ..a_folder() }
}

fn a_place() -> Location {
    let node = Node {
        uuid: DatanodeUuid(Uuid::from_u128(1)),
        ip: Ipv4Addr::new(10, 0, 0, 1).into(),
        host_name: "dn1".into(),
        data_port: 9_866,
        ipc_port: 9_867,
        http_port: 0,
        rack: "/default-rack".into(),
        version: "0.1.0".into(),
        node: String::new(),
        live: true,
        admin: steadfs_namenode_core::blocks::AdminState::Normal,
        lacking: steadfs_namenode_core::blocks::Lacking::default(),
        stale: false,
        slow: false,
        latency: None,
        capacity: 100,
        used: 30,
        remaining: 60,
        last_heartbeat: Millis(9),
        last_block_report: Millis(8),
        active_transfers: 1,
        blocks: 4,
    };
    Location {
        node: Arc::new(node),
        storage: StorageId(Uuid::from_u128(2)),
        kind: steadfs_common::StorageType::Ssd,
    }
}

fn a_block() -> LocatedBlock {
    LocatedBlock {
        block: BlockRef { id: BlockId(1_073_741_825), stamp: GenStamp(1_001), length: 1_000 },
        offset: 0,
        locations: vec![a_place(), a_place()],
        corrupt: false,
    }
}

#[test]
fn a_folder_has_children_and_no_size() {
    let proto = inode(&a_folder(), "d");
    assert_eq!(proto.file_type, FileType::IsDir as i32);
    assert_eq!((&proto.path[..], proto.length, proto.permission.perm), (&b"d"[..], 0, 0o1755));
    assert_eq!((proto.block_replication, proto.blocksize), (Some(0), Some(0)));
    assert_eq!((proto.children_num, proto.file_id, proto.flags), (Some(3), Some(16_390), Some(0)));
    assert_eq!((&*proto.owner, &*proto.group, proto.modification_time), ("alice", "staff", 5));
}

#[test]
fn a_file_has_what_a_writer_needs() {
    let proto = inode(&a_file(), "");
    assert_eq!(proto.file_type, FileType::IsFile as i32);
    assert!(proto.path.is_empty());
    assert_eq!((proto.length, proto.block_replication, proto.blocksize), (1_000, Some(2), Some(4_096)));
    assert_eq!((proto.children_num, proto.access_time), (Some(0), 7));
}

#[test]
fn a_listed_file_has_locations_even_if_it_is_empty() {
    let listed = FileStatus {
        inode: Arc::new(a_file()),
        name: Some(Name::new("f").unwrap()),
        blocks: Some(FileBlocks::default()),
        policy: 0,
    };
    let proto = status(POOL, &listed, &|_| None);
    assert_eq!(&proto.path[..], b"f");
    let locations = proto.locations.unwrap();
    assert!(
        locations.blocks.is_empty() && locations.last_block.is_none() && !locations.is_last_block_complete
    );
}

#[test]
fn a_block_has_as_many_storages_as_places_and_an_empty_token() {
    let proto = located_block(POOL, &a_block());
    assert_eq!((&*proto.b.pool_id, proto.b.block_id, proto.b.num_bytes), (POOL, 1_073_741_825, Some(1_000)));
    assert_eq!((proto.locs.len(), proto.storage_i_ds.len(), proto.storage_types.len()), (2, 2, 2));
    assert_eq!(proto.is_cached, [false, false]);
    assert_eq!(proto.block_token, TokenProto::default());
    assert_eq!(proto.storage_i_ds[0], "DS-00000000-0000-0000-0000-000000000002");
    let node = &proto.locs[0];
    assert_eq!((&*node.id.ip_addr, node.id.xfer_port, node.id.ipc_port), ("10.0.0.1", 9_866, 9_867));
    assert!(!node.id.datanode_uuid.is_empty());
    assert_eq!((node.location.as_deref(), node.non_dfs_used), (Some("/default-rack"), Some(10)));
}

#[test]
fn renamed_places_are_whole_and_may_repeat() {
    let file = FileBlocks { blocks: vec![a_block()], last: Some(a_block()), ..FileBlocks::default() };
    let named = vec![(1, "10.2.0.1".to_owned()), (0, "localhost".into()), (1, "[fd00::1]".into())];
    let proto = located_blocks(POOL, &file, &|_| Some(named.clone()));
    for block in proto.blocks.iter().chain(&proto.last_block) {
        let hosts: Vec<&str> = block.locs.iter().map(|place| &*place.id.host_name).collect();
        assert_eq!(hosts, ["10.2.0.1", "localhost", "[fd00::1]"]);
        assert!(block.locs.iter().all(|place| place.id.ip_addr == "10.0.0.1"), "who is dialled stays");
        assert_eq!((block.storage_types.len(), block.storage_i_ds.len(), block.is_cached.len()), (3, 3, 3));
    }
}

#[test]
fn what_comes_in_is_checked() {
    assert_eq!(mode(&FsPermissionProto { perm: 0o106_777 }), 0o777);
    assert_eq!(mode(&FsPermissionProto { perm: 0o1700 }), 0o1700);
    assert_eq!((replication(3), replication(70_000)), (3, u16::MAX));
    assert_eq!(file_ref("/a", Some(0)).unwrap().inode, None);
    assert_eq!(file_ref("/a/", Some(16_400)).unwrap().inode, Some(InodeId(16_400)));
    assert_eq!(file_ref("a", None).unwrap_err().kind(), FsErrorKind::NotAbsolute);
    let block =
        ExtendedBlockProto { pool_id: POOL.into(), block_id: 1, generation_stamp: 2, num_bytes: None };
    assert_eq!(block_ref(POOL, &block).unwrap(), BlockRef { id: BlockId(1), stamp: GenStamp(2), length: 0 });
    assert!(block_ref("BP-2", &block).unwrap_err().message().contains("`BP-1`"));
    assert_eq!(storages("storageIDs", &["x".into()]).unwrap_err().kind(), FsErrorKind::InvalidRequest);
    assert!(client_name("").is_err());
}

#[test]
fn nodes_that_cannot_be_ours_are_passed_over() {
    let known = datanode(&a_place().node);
    let mut unknown = known.clone();
    unknown.id.datanode_uuid = "not-a-uuid".into();
    assert_eq!(datanodes(&[known.clone(), unknown]).unwrap(), [DatanodeUuid(Uuid::from_u128(1))]);
    assert_eq!(datanodes(&vec![known; MAX_NODES + 1]).unwrap_err().kind(), FsErrorKind::InvalidRequest);
}
