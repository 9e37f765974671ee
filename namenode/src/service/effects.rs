//! What the service and the commit loop need of whoever owns replicas and datanodes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use steadfs_common::{BlockId, DatanodeUuid, FsResult, GenStamp, StorageId};
use steadfs_namenode_core::Effect;
use steadfs_namenode_core::blocks::{
    BalanceGoal, BalanceStatus, BlocksOn, Condition, Roster, StopCheck, WorkLists,
};
use steadfs_namenode_core::command::BlockRef;
use steadfs_namenode_core::locality::Pods;
use steadfs_namenode_core::placement::{Cluster, PlacementRequest};
use steadfs_namenode_core::record::{Block, Loss};

use super::types::{BlockOnNode, FsStats, Location, NodeReport};

/// The cluster as a plan sees it: a picture that does not change while it is held.
pub type SharedCluster = Arc<dyn Cluster + Send + Sync>;

/// The owner of soft state: replicas, datanodes, replication work, safe mode.
///
/// No method blocks on a disk or waits for a commit, so that the commit thread may call them.
pub trait EffectSink: Send + Sync + 'static {
    /// Takes what follows from changes that are durable and applied, in the order they were committed. Called on the
    /// commit thread before the callers are answered.
    fn apply(&self, effects: Vec<Effect>);

    /// The cluster as known now, for plans.
    fn cluster(&self) -> SharedCluster;

    /// Why changes are refused, if they are.
    fn safe_mode(&self) -> Option<String>;

    /// An operator enters or leaves safe mode; says whether it is on afterwards.
    fn set_safe_mode(&self, on: bool) -> bool;

    /// Where a block can be read, best for `reader` first, and whether replicas are known and all are bad. Of a block
    /// that is not complete: its pipeline ([`Block::expected`]).
    fn locate(&self, block: &Block, reader: Option<IpAddr>) -> (Vec<Location>, bool);

    /// The known ones of these storages, in their order: for pipelines.
    fn locations(&self, storages: &[StorageId]) -> Vec<Location>;

    /// Takes another picture of who runs where, by which readers and writers are placed.
    fn set_pods(&self, pods: Arc<Pods>);

    /// Chooses storages as the plan does: for a pipeline that lost a node.
    fn choose(&self, request: &PlacementRequest<'_>) -> Vec<StorageId> {
        self.cluster().choose(request).into_vec()
    }

    /// Waits until `count` finalized replicas of the block are known, at most `limit`; says whether they are.
    fn wait_reported(
        &self,
        block: BlockId,
        stamp: GenStamp,
        count: usize,
        limit: Duration,
    ) -> BoxFuture<'static, bool>;

    /// A reader found these replicas of a block to be bad. Storages that do not hold it are ignored.
    fn report_bad(&self, block: BlockRef, storages: &[StorageId]);

    /// Sums over datanodes and blocks.
    fn stats(&self) -> FsStats;

    /// All known datanodes, dead ones included, by uuid.
    fn datanodes(&self) -> Vec<NodeReport>;

    /// The first blocks past `after` without any good replica.
    fn missing_blocks(&self, after: BlockId, limit: usize) -> Vec<BlockId>;

    /// All that is known of a block's replicas.
    fn survey(&self, block: BlockId) -> Vec<(Location, Condition)>;

    /// Blocks of open files that keep datanodes from leaving.
    fn blocking_blocks(&self) -> Vec<BlockId>;

    /// Takes an operator's list of datanodes in place of the one before.
    fn set_roster(&self, roster: Roster);

    /// What would lack if these datanodes were stopped at the same time. Looks at all blocks: seconds, on a large cluster.
    ///
    /// # Errors
    /// One of them is not known.
    fn check_stop(&self, nodes: &[DatanodeUuid]) -> FsResult<StopCheck>;

    /// An operator orders balance between datanodes, or (by none) the end of what was ordered.
    fn order_balance(&self, goal: Option<BalanceGoal>);

    /// How far balancing is.
    fn balance_status(&self) -> BalanceStatus;

    /// The operator's list of datanodes.
    fn roster(&self) -> Roster;

    /// Keeps from now on what may have been made after these states, although no file has it, and nothing else.
    fn set_losses(&self, losses: Vec<Loss>);

    /// Blocks that are kept so, as far as reported: how many, and their bytes.
    fn kept(&self) -> (u64, u64);

    /// The first of them past `after`, with their lengths.
    fn kept_after(&self, after: BlockId, limit: usize) -> Vec<(BlockId, u64)>;

    /// Tells all live datanodes how fast replicas may be moved for the sake of balance.
    fn set_bandwidth(&self, bytes_per_second: u64);

    /// Some complete blocks with a replica on this datanode, for a balancer.
    fn blocks_on(&self, uuid: DatanodeUuid, wanted: &BlocksOn) -> Vec<BlockOnNode>;

    /// Blocks that wait for work, of each kind at most `limit`.
    fn work_lists(&self, limit: usize) -> WorkLists;
}
