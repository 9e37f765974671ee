//! Domain values as our messages, and back.

use steadfs_common::{BlockId, FsError, FsErrorKind, FsResult, GenStamp};
use steadfs_namenode_core::blocks::AdminState;
use steadfs_namenode_core::command::{BlockRef, FileRef};
use steadfs_namenode_core::record::Inode;
use steadfs_namenode_core::{Reply, command};
use steadfs_proto::convert::{file_inode, path, required, storage_kind};
use steadfs_proto::steadfs as pb;

use crate::service::{
    ClusterReport, FileBlocks, FileStatus, FsStats, LocatedBlock, Location, Node, NodeReport, StorageReport,
};

pub(super) fn block_ref(field: &str, block: Option<pb::Block>) -> FsResult<BlockRef> {
    required(field, block).map(plain_block)
}

pub(super) const fn plain_block(block: pb::Block) -> BlockRef {
    BlockRef { id: BlockId(block.id), stamp: GenStamp(block.stamp), length: block.length }
}

pub(super) const fn block(block: BlockRef) -> pb::Block {
    pb::Block { id: block.id.0, stamp: block.stamp.0, length: block.length }
}

pub(super) fn file_ref(text: &str, inode: u64) -> FsResult<FileRef> {
    Ok(FileRef { path: path(text)?, inode: file_inode(inode) })
}

/// Permission bits; what is above them is not a mode.
pub(super) fn mode(bits: u32) -> FsResult<u16> {
    u16::try_from(bits)
        .ok()
        .filter(|bits| *bits <= 0o1777)
        .ok_or_else(|| FsError::invalid_argument(format!("mode {bits:#o} is not between 0 and 0o1777")))
}

/// A replication; the rules judge whether it is allowed.
pub(super) fn replication(number: u32) -> FsResult<u16> {
    u16::try_from(number).map_err(|_| FsError::refused(format!("replication {number} is too large")))
}

fn odd_reply() -> FsError {
    FsError::new(FsErrorKind::Io, "the namenode gave an answer of another kind of call: this is a bug")
}

pub(super) fn as_bool(reply: &Reply) -> FsResult<bool> {
    if let Reply::Bool(value) = reply { Ok(*value) } else { Err(odd_reply()) }
}

pub(super) fn as_file(reply: Reply) -> FsResult<Inode> {
    if let Reply::File(inode) = reply { Ok(inode) } else { Err(odd_reply()) }
}

pub(super) fn as_block(reply: Reply) -> FsResult<command::PlacedBlock> {
    if let Reply::Block(placed) = reply { Ok(placed) } else { Err(odd_reply()) }
}

pub(super) fn as_appended(reply: Reply) -> FsResult<(Inode, Option<command::PlacedBlock>)> {
    if let Reply::Appended { inode, last } = reply { Ok((inode, last)) } else { Err(odd_reply()) }
}

pub(super) fn inode_status(inode: &Inode, name: &str) -> pb::FileStatus {
    let file = inode.file();
    let children = match inode.kind {
        steadfs_namenode_core::record::InodeKind::Directory { children, .. } => children,
        steadfs_namenode_core::record::InodeKind::File(_) => 0,
    };
    pb::FileStatus {
        inode: inode.id.0,
        name: name.to_owned(),
        directory: inode.is_directory(),
        length: file.map_or(0, |file| file.length),
        mode: u32::from(inode.mode),
        owner: inode.owner.clone(),
        group: inode.group.clone(),
        mtime: inode.mtime.0,
        atime: inode.atime.0,
        replication: file.map_or(0, |file| u32::from(file.replication())),
        block_size: file.map_or(0, |file| file.block_size),
        children,
        under_construction: file.is_some_and(|file| file.under_construction),
        content_version: file.map_or(0, |file| file.content.0),
        has_acl: inode.acl.is_some(),
        storage_policy: u32::from(inode.storage_policy),
        nameless: false,
    }
}

pub(super) fn status(status: &FileStatus) -> pb::FileStatus {
    let plain = inode_status(&status.inode, status.name.as_ref().map_or("", |name| name.as_str()));
    pb::FileStatus { storage_policy: u32::from(status.policy), ..plain }
}

pub(super) fn address(node: &Node) -> pb::DatanodeAddress {
    pb::DatanodeAddress {
        uuid: node.uuid.to_string(),
        ip: node.ip.to_string(),
        host_name: node.host_name.clone(),
        data_port: node.data_port.into(),
        ipc_port: node.ipc_port.into(),
        http_port: node.http_port.into(),
    }
}

pub(super) fn location(location: &Location) -> pb::Location {
    pb::Location {
        datanode: Some(address(&location.node)),
        storage_id: location.storage.to_string(),
        rack: location.node.rack.clone(),
    }
}

pub(super) fn locations(places: &[Location]) -> Vec<pb::Location> {
    places.iter().map(location).collect()
}

pub(super) fn located(located: &LocatedBlock) -> pb::LocatedBlock {
    pb::LocatedBlock {
        block: Some(block(located.block)),
        offset: located.offset,
        locations: locations(&located.locations),
        corrupt: located.corrupt,
    }
}

pub(super) fn file_blocks(blocks: &FileBlocks) -> pb::FileBlocks {
    pb::FileBlocks {
        length: blocks.length,
        blocks: blocks.blocks.iter().map(located).collect(),
        last: blocks.last.as_ref().map(located),
        under_construction: blocks.under_construction,
        last_complete: blocks.last_complete,
    }
}

pub(super) fn stats(stats: &FsStats) -> pb::FsStatsResponse {
    pb::FsStatsResponse {
        capacity: stats.capacity,
        used: stats.used,
        remaining: stats.remaining,
        under_replicated: stats.under_replicated,
        corrupt: stats.corrupt,
        missing: stats.missing,
    }
}

fn storage(report: &StorageReport) -> pb::StorageReport {
    pb::StorageReport {
        storage_id: report.storage.to_string(),
        kind: storage_kind(report.kind).into(),
        failed: report.failed,
        capacity: report.capacity,
        used: report.used,
        remaining: report.remaining,
        blocks: report.blocks,
        health: None,
    }
}

fn datanode(report: &NodeReport) -> pb::DatanodeReport {
    let node = &report.node;
    pb::DatanodeReport {
        address: Some(address(node)),
        rack: node.rack.clone(),
        live: node.live,
        last_heartbeat: node.last_heartbeat.0,
        last_block_report: node.last_block_report.0,
        active_transfers: node.active_transfers,
        version: node.version.clone(),
        storages: report.storages.iter().map(storage).collect(),
        state: node_state(node.admin).into(),
        lacking: node.lacking.blocks,
        lacking_open: node.lacking.open,
        failures: Vec::new(),
        slow: node.slow,
        latency_micros: node.latency.map_or(0, |latency| latency.as_micros() as u64),
        node: node.node.clone(),
    }
}

pub(super) const fn node_state(state: AdminState) -> pb::NodeState {
    match state {
        AdminState::Normal => pb::NodeState::Normal,
        AdminState::Decommissioning => pb::NodeState::Decommissioning,
        AdminState::Decommissioned => pb::NodeState::Decommissioned,
        AdminState::EnteringMaintenance => pb::NodeState::EnteringMaintenance,
        AdminState::InMaintenance => pb::NodeState::InMaintenance,
    }
}

pub(super) fn cluster_report(report: ClusterReport) -> pb::ClusterReport {
    pb::ClusterReport {
        version: env!("CARGO_PKG_VERSION").into(),
        cluster_id: report.cluster_id,
        block_pool: report.block_pool,
        started: report.started.0,
        safe_mode: report.safe_mode.unwrap_or_default(),
        stats: Some(stats(&report.stats)),
        files: report.files,
        directories: report.directories,
        blocks: report.blocks,
        pending_replication: report.stats.pending_replication,
        pending_deletion: report.stats.pending_deletion,
        open_files: report.open_files,
        datanodes: report.datanodes.iter().map(datanode).collect(),
        misplaced: report.stats.misplaced,
        endangered: report.stats.endangered,
        data_problems: report.data_problems,
        missing_blocks: report.missing_blocks.iter().map(ToString::to_string).collect(),
    }
}
