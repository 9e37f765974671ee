//! Between the store's types and our gRPC messages.

use std::time::UNIX_EPOCH;

use steadfs_common::{BlockId, FsError, FsErrorKind, FsResult, GenStamp};
use steadfs_datanode_store::{
    Block, ChangeKind, ReplicaChange, ReplicaState, ReplicaStatus, VolumeFailure, VolumeStatus,
};
use steadfs_proto::convert::{required, storage_kind};
use steadfs_proto::steadfs as pb;

use crate::scanner::ScanState;

pub(crate) fn to_block(block: Block) -> pb::Block {
    pb::Block { id: block.id.0, stamp: block.stamp.0, length: block.len }
}

pub(crate) fn block(field: &str, block: Option<pb::Block>) -> FsResult<Block> {
    let block = required(field, block)?;
    Ok(Block { id: BlockId(block.id), stamp: GenStamp(block.stamp), len: block.length })
}

/// The state that another datanode or the namenode should know of.
pub(crate) fn to_state(state: ReplicaState) -> pb::ReplicaState {
    match state {
        ReplicaState::Finalized => pb::ReplicaState::Finalized,
        ReplicaState::Rwr => pb::ReplicaState::WaitingRecovery,
        ReplicaState::Rbw | ReplicaState::Rur | ReplicaState::Temporary => pb::ReplicaState::BeingWritten,
    }
}

pub(crate) fn state(number: i32) -> FsResult<ReplicaState> {
    match pb::ReplicaState::try_from(number) {
        Ok(pb::ReplicaState::Finalized) => Ok(ReplicaState::Finalized),
        Ok(pb::ReplicaState::BeingWritten) => Ok(ReplicaState::Rbw),
        Ok(pb::ReplicaState::WaitingRecovery) => Ok(ReplicaState::Rwr),
        // Only reports to a namenode say that a replica is bad.
        Ok(pb::ReplicaState::Bad) | Err(_) => {
            Err(FsError::new(FsErrorKind::InvalidRequest, format!("{number} is not the state of a replica")))
        }
    }
}

pub(crate) fn to_replica(replica: &ReplicaStatus) -> pb::Replica {
    let state = if replica.bad { pb::ReplicaState::Bad } else { to_state(replica.state) };
    pb::Replica { block: Some(to_block(replica.block)), state: state.into() }
}

pub(crate) fn to_change(change: &ReplicaChange) -> pb::blocks_changed_request::Change {
    use pb::blocks_changed_request::{Change, Kind};
    let kind = match change.kind {
        ChangeKind::Receiving => Kind::Receiving,
        ChangeKind::Received => Kind::Received,
        ChangeKind::Deleted => Kind::Deleted,
        ChangeKind::Verified => Kind::Verified,
    };
    Change { storage_id: change.storage.to_string(), block: Some(to_block(change.block)), kind: kind as i32 }
}

pub(crate) fn to_storage_report(volume: &VolumeStatus) -> pb::StorageReport {
    pb::StorageReport {
        storage_id: volume.storage.to_string(),
        kind: storage_kind(volume.kind).into(),
        failed: volume.failed,
        capacity: volume.capacity,
        used: volume.used,
        remaining: volume.remaining,
        blocks: volume.blocks,
        health: None,
    }
}

pub(crate) fn to_health(volume: &VolumeStatus, scan: ScanState) -> pb::VolumeHealth {
    pb::VolumeHealth {
        storage_id: volume.storage.to_string(),
        path: volume.path.display().to_string(),
        stalled: volume.stalled,
        bad: volume.bad,
        reserved: volume.reserved,
        kept: volume.kept,
        scan_done_ms: scan.progress.last_done.0,
        scan_began_ms: scan.progress.began.0,
        scan_bytes: scan.progress.bytes,
        compared_ms: scan.compared.0,
    }
}

pub(crate) fn to_failure(failure: &VolumeFailure) -> pb::VolumeFailure {
    let since = failure.since.duration_since(UNIX_EPOCH).unwrap_or_default();
    pb::VolumeFailure {
        path: failure.path.display().to_string(),
        storage_id: failure.storage.map(|storage| storage.to_string()).unwrap_or_default(),
        why: failure.why.clone(),
        since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        capacity: failure.capacity,
    }
}
