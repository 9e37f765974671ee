//! Where replicas go, and in which order a reader is offered them.
//!
//! The first replica of a block goes to its writer's own node, the second to another zone or rack, the third to the second's rack,
//! the rest anywhere; by free space, on distinct machines as long as there are such. All of it is a function of a [`Topology`] and a
//! seed.

mod choose;
mod random;
mod topology;
#[cfg(test)]
mod topology_test;

pub use random::Random;
pub use topology::{Machine, Topology, Volume};
pub(crate) use topology::{host_of, zone_of};

use std::net::IpAddr;
use std::time::Duration;

use smallvec::SmallVec;
use steadfs_common::{BlockId, DatanodeUuid, GenStamp, StorageId};

use crate::namespace::lease::RECOVERY_RETRY;

/// What placement is asked for.
#[derive(Clone, Debug)]
pub struct PlacementRequest<'a> {
    /// How many new storages.
    pub wanted: usize,
    /// Replicas without which there is no block: for these, stale datanodes are good enough if there is nobody else.
    pub least: usize,
    /// The writer's address, if it may be placed by it.
    pub writer: Option<IpAddr>,
    /// Storages that hold or will hold the block already.
    pub existing: &'a [StorageId],
    /// Nodes not to use.
    pub excluded: &'a [DatanodeUuid],
    /// `host:port` or `ip:port` of nodes to prefer.
    pub favored: &'a [String],
    /// Not on the writer's own node.
    pub avoid_local: bool,
    /// Room that a replica needs, in bytes.
    pub block_size: u64,
    /// The file's storage policy, by HDFS's number: which types of storage its replicas are meant for.
    pub policy: u8,
    /// Random bits.
    pub seed: u64,
}

/// Datanodes and replicas, as a plan sees them.
pub trait Cluster {
    /// Chooses up to `wanted` storages on distinct nodes, in pipeline order; fewer if there are not enough.
    fn choose(&self, request: &PlacementRequest<'_>) -> SmallVec<[StorageId; 3]>;
    /// Where finalized replicas of `block` with this stamp are known to be on live nodes.
    fn live(&self, block: BlockId, stamp: GenStamp) -> SmallVec<[StorageId; 3]>;
    /// Live datanodes, and how many of them `excluded` names: for the message when none can be found.
    fn datanodes(&self) -> usize;
    /// How long a recovery of `block` that runs is left alone before it is asked for again, under a new stamp.
    fn recovery_wait(&self, _block: BlockId) -> Duration {
        RECOVERY_RETRY
    }
}
