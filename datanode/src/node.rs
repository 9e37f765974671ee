//! What all parts of a running datanode share.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use steadfs_common::{BlockId, DatanodeUuid};
use steadfs_daemon::pool::DiskPool;
use steadfs_datanode_store::Store;

use crate::admin::Admin;
use crate::balance::Moves;
use crate::config::Config;
use crate::disks::Disks;
use crate::scanner::Scans;
use crate::transfer::TransferMetrics;

/// What all parts of a running datanode share.
pub struct Node {
    /// Its configuration, checked.
    pub config: Config,
    /// Its replicas. All calls block: run them on [`Node::disks`].
    pub store: Arc<Store>,
    /// Threads for the store.
    pub disks: Disks,
    /// Who it is.
    pub uuid: DatanodeUuid,
    /// The address that others dial.
    pub ip: IpAddr,
    /// The data-transfer port that others dial.
    pub data_port: u16,
    /// Data-transfer operations under way; heartbeats tell it.
    pub active_transfers: AtomicU32,
    /// Counts of the data server.
    pub transfer_metrics: TransferMetrics,
    /// Moves of replicas that it takes part in.
    pub moves: Moves,
    /// What operators change.
    pub admin: Admin,
    /// How far the checks of the volumes are.
    pub scans: Scans,
}

impl Node {
    /// The threads of the volume where a block's replica is now; the shared ones, if there is none.
    #[must_use]
    pub fn disk_of(&self, block: BlockId) -> DiskPool {
        match self.store.status(block) {
            Some(replica) => self.disks.of(replica.storage),
            None => self.disks.shared().clone(),
        }
    }
}
