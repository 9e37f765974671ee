//! From Hadoop's messages to ours and back. What comes in is checked here and nowhere later.

use steadfs_common::{
    BlockId, DatanodeUuid, FsError, FsErrorKind, FsPath, FsResult, GenStamp, InodeId, StorageId, StorageType,
};
use steadfs_namenode_core::blocks;
use steadfs_namenode_core::command::{BlockRef, FileRef};
use steadfs_namenode_core::policy;
use steadfs_namenode_core::record::Inode;
use steadfs_proto::convert::{principal, storage_ids};
use steadfs_proto::hadoop::datanode_info_proto::AdminState;
use steadfs_proto::hadoop::hdfs_file_status_proto::{FileType, Flags};
use steadfs_proto::hadoop::{
    DatanodeIdProto, DatanodeInfoProto, DatanodeStorageProto, DatanodeStorageReportProto, ExtendedBlockProto,
    FsPermissionProto, HdfsFileStatusProto, LocatedBlockProto, LocatedBlocksProto, StorageReportProto,
    StorageTypeProto, TokenProto,
};
use steadfs_wire::transfer::{bracketed, host_literal};

use crate::service::{FileBlocks, FileStatus, LocatedBlock, Node, NodeReport, StorageReport};

/// The permission bits that HDFS keeps: sticky, and rwx three times.
const MODE_BITS: u32 = 0o1777;
/// What `-1` is in an unsigned field: a quota that is not set, a time to keep.
pub(super) const MINUS_ONE: u64 = u64::MAX;
/// The data-transfer port of a datanode that names none (HDFS: `dfs.datanode.address`).
const DATA_PORT: u32 = 9_866;
/// Most datanodes that a request may name.
const MAX_NODES: usize = 4_096;

/// How a block's places are named for a caller: replicas by number and their hosts; none for the datanodes' own names.
pub(super) type Naming<'a> = &'a dyn Fn(&LocatedBlock) -> Option<Vec<(usize, String)>>;

/// The path in a request.
pub(super) fn path(text: &str) -> FsResult<FsPath> {
    super::paths::path(text)
}

/// The name under which a client holds leases.
pub(super) fn client_name(text: &str) -> FsResult<String> {
    principal("clientName", text)
}

/// The permission bits in a request.
pub(super) fn mode(permission: &FsPermissionProto) -> u16 {
    u16::try_from(permission.perm & MODE_BITS).expect("ten bits")
}

/// A replication factor: one that is beyond all bounds stays so, and the rules refuse it.
pub(super) fn replication(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// A file by path and, if it is not 0, inode id.
pub(super) fn file_ref(src: &str, file_id: Option<u64>) -> FsResult<FileRef> {
    Ok(FileRef { path: path(src)?, inode: file_id.filter(|id| *id != 0).map(InodeId) })
}

/// A block of this pool.
pub(super) fn block_ref(pool: &str, block: &ExtendedBlockProto) -> FsResult<BlockRef> {
    if block.pool_id != pool {
        let shown: String = block.pool_id.chars().take(100).collect();
        return Err(FsError::refused(format!("Unexpected block pool `{shown}`; expected `{pool}`")));
    }
    Ok(BlockRef {
        id: BlockId(block.block_id),
        stamp: GenStamp(block.generation_stamp),
        length: block.num_bytes.unwrap_or(0),
    })
}

/// The datanodes that a request names. One that cannot be ours is passed over, as one that went away is.
pub(super) fn datanodes(nodes: &[DatanodeInfoProto]) -> FsResult<Vec<DatanodeUuid>> {
    if nodes.len() > MAX_NODES {
        let message = format!("{} datanodes in one request, above the limit of {MAX_NODES}", nodes.len());
        return Err(FsError::new(FsErrorKind::InvalidRequest, message));
    }
    Ok(nodes.iter().filter_map(|node| node.id.datanode_uuid.parse().ok()).collect())
}

/// The storages that a request names.
pub(super) fn storages(field: &str, ids: &[String]) -> FsResult<Vec<StorageId>> {
    storage_ids(field, ids)
}

/// A status without locations. `name` is that in a listing; nothing where the client knows the path.
pub(super) fn inode(inode: &Inode, name: &str) -> HdfsFileStatusProto {
    let file = inode.file();
    let (file_type, children) = match &inode.kind {
        steadfs_namenode_core::record::InodeKind::Directory { children, .. } => (FileType::IsDir, *children),
        steadfs_namenode_core::record::InodeKind::File(_) => (FileType::IsFile, 0),
    };
    HdfsFileStatusProto {
        file_type: file_type as i32,
        path: bytes::Bytes::copy_from_slice(name.as_bytes()),
        length: file.map_or(0, |file| file.length),
        permission: permission(inode),
        owner: inode.owner.clone(),
        group: inode.group.clone(),
        modification_time: inode.mtime.0,
        access_time: inode.atime.0,
        block_replication: Some(file.map_or(0, |file| u32::from(file.replication()))),
        blocksize: Some(file.map_or(0, |file| file.block_size)),
        file_id: Some(inode.id.0),
        children_num: Some(i32::try_from(children).unwrap_or(i32::MAX)),
        storage_policy: Some(policy_to_write(inode)),
        flags: Some(if inode.acl.is_some() { Flags::HasAcl as u32 } else { 0 }),
        ..Default::default()
    }
}

/// The storage policy that a writer is told. A stock client sends no checksums for a file that it takes to be kept in
/// memory; here such a file is kept on disks as every other.
fn policy_to_write(inode: &Inode) -> u32 {
    policy::by_id(inode.storage_policy)
        .filter(|policy| !policy.from_creation)
        .map_or(0, |policy| policy.id.into())
}

/// The permission bits of an inode.
pub(super) fn permission(inode: &Inode) -> FsPermissionProto {
    FsPermissionProto { perm: u32::from(inode.mode) }
}

/// A status; with locations, if this is a file and they were asked for.
pub(super) fn status(pool: &str, status: &FileStatus, name: Naming<'_>) -> HdfsFileStatusProto {
    let entry = status.name.as_ref().map_or("", |name| name.as_str());
    let mut proto = inode(&status.inode, entry);
    proto.storage_policy = Some(u32::from(status.policy));
    proto.locations = status.blocks.as_ref().map(|blocks| located_blocks(pool, blocks, name));
    proto
}

/// The blocks of a file.
pub(super) fn located_blocks(pool: &str, file: &FileBlocks, name: Naming<'_>) -> LocatedBlocksProto {
    let located = |block: &LocatedBlock| {
        let mut proto = located_block(pool, block);
        if let Some(named) = name(block) {
            rename(&mut proto, &named);
        }
        proto
    };
    LocatedBlocksProto {
        file_length: file.length,
        blocks: file.blocks.iter().map(located).collect(),
        under_construction: file.under_construction,
        last_block: file.last.as_ref().map(located),
        is_last_block_complete: file.last_complete,
        file_encryption_info: None,
        ec_policy: None,
    }
}

/// Gives the places of a block other names: replicas by number, each with its host. Some may be there twice.
fn rename(proto: &mut LocatedBlockProto, named: &[(usize, String)]) {
    let of = |(replica, host): &(usize, String)| {
        let mut place = proto.locs.get(*replica)?.clone();
        place.id.host_name.clone_from(host);
        Some((place, proto.storage_types[*replica], proto.storage_i_ds[*replica].clone()))
    };
    let places: Vec<_> = named.iter().filter_map(of).collect();
    proto.is_cached = vec![false; places.len()];
    proto.storage_types = places.iter().map(|(_, kind, _)| *kind).collect();
    proto.storage_i_ds = places.iter().map(|(_, _, storage)| storage.clone()).collect();
    proto.locs = places.into_iter().map(|(place, _, _)| place).collect();
}

/// A block and its places. Clients want as many storage ids and types as places, and a token even where none is used.
pub(super) fn located_block(pool: &str, located: &LocatedBlock) -> LocatedBlockProto {
    LocatedBlockProto {
        b: ExtendedBlockProto {
            pool_id: pool.to_owned(),
            block_id: located.block.id.0,
            generation_stamp: located.block.stamp.0,
            num_bytes: Some(located.block.length),
        },
        offset: located.offset,
        locs: located.locations.iter().map(|location| datanode(&location.node)).collect(),
        corrupt: located.corrupt,
        block_token: TokenProto::default(),
        is_cached: vec![false; located.locations.len()],
        storage_types: located.locations.iter().map(|location| storage_type(location.kind) as i32).collect(),
        storage_i_ds: located.locations.iter().map(|location| location.storage.to_string()).collect(),
        block_indices: None,
        block_tokens: Vec::new(),
    }
}

/// A datanode, as clients dial it and operators see it.
pub(super) fn datanode(node: &Node) -> DatanodeInfoProto {
    DatanodeInfoProto {
        id: DatanodeIdProto {
            ip_addr: host_literal(node.ip),
            host_name: bracketed(&node.host_name),
            datanode_uuid: node.uuid.to_string(),
            xfer_port: u32::from(node.data_port),
            info_port: u32::from(node.http_port),
            ipc_port: u32::from(node.ipc_port),
            info_secure_port: Some(0),
        },
        capacity: Some(node.capacity),
        dfs_used: Some(node.used),
        remaining: Some(node.remaining),
        block_pool_used: Some(node.used),
        last_update: Some(node.last_heartbeat.0),
        xceiver_count: Some(node.active_transfers),
        location: Some(node.rack.clone()),
        non_dfs_used: Some(node.capacity.saturating_sub(node.used).saturating_sub(node.remaining)),
        last_block_report_time: Some(node.last_block_report.0),
        num_blocks: Some(u32::try_from(node.blocks).unwrap_or(u32::MAX)),
        software_version: Some(node.version.clone()),
        admin_state: Some(admin_state(node.admin) as i32),
        ..Default::default()
    }
}

/// A host that was never heard.
pub(super) fn unseen(host: &blocks::Host) -> DatanodeInfoProto {
    let ip = host.addresses.first().map_or_else(|| host.name.clone(), ToString::to_string);
    DatanodeInfoProto {
        id: DatanodeIdProto {
            ip_addr: ip,
            host_name: host.name.clone(),
            datanode_uuid: String::new(),
            xfer_port: host.port.map_or(DATA_PORT, u32::from),
            info_port: 0,
            ipc_port: 0,
            info_secure_port: Some(0),
        },
        location: Some(blocks::DEFAULT_RACK.to_owned()),
        ..Default::default()
    }
}

const fn admin_state(state: blocks::AdminState) -> AdminState {
    match state {
        blocks::AdminState::Normal => AdminState::Normal,
        blocks::AdminState::Decommissioning => AdminState::DecommissionInprogress,
        blocks::AdminState::Decommissioned => AdminState::Decommissioned,
        blocks::AdminState::EnteringMaintenance => AdminState::EnteringMaintenance,
        blocks::AdminState::InMaintenance => AdminState::InMaintenance,
    }
}

/// A datanode and its volumes.
pub(super) fn storage_reports(report: &NodeReport) -> DatanodeStorageReportProto {
    DatanodeStorageReportProto {
        datanode_info: datanode(&report.node),
        storage_reports: report.storages.iter().map(storage_report).collect(),
    }
}

fn storage_report(report: &StorageReport) -> StorageReportProto {
    StorageReportProto {
        storage_uuid: report.storage.to_string(),
        failed: Some(report.failed),
        capacity: Some(report.capacity),
        dfs_used: Some(report.used),
        remaining: Some(report.remaining),
        block_pool_used: Some(report.used),
        storage: Some(DatanodeStorageProto {
            storage_uuid: report.storage.to_string(),
            state: None,
            storage_type: Some(storage_type(report.kind) as i32),
        }),
        non_dfs_used: Some(report.capacity.saturating_sub(report.used).saturating_sub(report.remaining)),
        mount: None,
    }
}

/// The type that a message names.
pub(super) const fn storage_type_of(kind: StorageTypeProto) -> StorageType {
    match kind {
        StorageTypeProto::Disk => StorageType::Disk,
        StorageTypeProto::Ssd => StorageType::Ssd,
        StorageTypeProto::Archive => StorageType::Archive,
        StorageTypeProto::RamDisk => StorageType::RamDisk,
        StorageTypeProto::Provided => StorageType::Provided,
        StorageTypeProto::Nvdimm => StorageType::Nvdimm,
    }
}

/// A type of storage as messages name it.
pub(super) const fn storage_type(kind: StorageType) -> StorageTypeProto {
    match kind {
        StorageType::Disk => StorageTypeProto::Disk,
        StorageType::Ssd => StorageTypeProto::Ssd,
        StorageType::Archive => StorageTypeProto::Archive,
        StorageType::RamDisk => StorageTypeProto::RamDisk,
        StorageType::Provided => StorageTypeProto::Provided,
        StorageType::Nvdimm => StorageTypeProto::Nvdimm,
    }
}

#[cfg(test)]
#[path = "convert_test.rs"]
mod tests;
