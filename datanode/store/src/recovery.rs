//! Block recovery: what a replica is before it, and making all replicas alike.
use crate::{Block, ReplicaState, Store, StoreResult};
use std::sync::Arc;
use steadfs_common::{GenStamp, StorageId};

/// What a replica was before its recovery began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecoveryReplica {
    /// Its stamp and the bytes that it holds on disk.
    pub block: Block,
    /// Its state before the recovery.
    pub state: ReplicaState,
    /// Where it lies.
    pub storage: StorageId,
}

impl Store {
    /// Begins the recovery `recovery` of a block: its writer is stopped, and what is there is told. Repeating it is
    /// harmless; a newer recovery takes over from an older one. None if there is no replica.
    ///
    /// # Errors
    /// The replica is older than `block.stamp` or not older than `recovery`; a newer recovery is under way; it had failed.
    pub fn init_recovery(
        self: &Arc<Self>,
        block: Block,
        recovery: GenStamp,
    ) -> StoreResult<Option<RecoveryReplica>> {
        let _ = (block, recovery);
        todo!()
    }

    /// Ends the recovery `recovery`: the replica is cut to `len`, takes the stamp, and is finalized durably.
    /// Repeating it is harmless.
    ///
    /// # Errors
    /// No such recovery was begun here, or the replica is shorter than `len`.
    pub fn update_replica(
        self: &Arc<Self>,
        old: Block,
        recovery: GenStamp,
        len: u64,
    ) -> StoreResult<StorageId> {
        let _ = (old, recovery, len);
        todo!()
    }
}
