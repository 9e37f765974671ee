//! What the commit loop and the service ask.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use smallvec::SmallVec;
use steadfs_common::{BlockId, DatanodeUuid, FsResult, GenStamp, StorageId};
use steadfs_namenode_core::Effect;
use steadfs_namenode_core::blocks::{
    BalanceGoal, BalanceStatus, BlockMap, BlocksOn, Condition, Roster, StopCheck, SurveyedReplica, WorkLists,
};
use steadfs_namenode_core::command::BlockRef;
use steadfs_namenode_core::locality::Pods;
use steadfs_namenode_core::placement::{Cluster, PlacementRequest};
use steadfs_namenode_core::record::{Block, Loss};

use super::directory::Directory;
use super::{Blocks, Shared};
use crate::service::{BlockOnNode, EffectSink, FsStats, Location, NodeReport, SharedCluster};

/// Blocks that the check of a stop looks at in one hold of the lock.
const STOP_STEP: usize = 20_000;

/// The cluster as plans see it: the datanodes of one moment, and the replicas of now.
struct Picture {
    directory: Arc<Directory>,
    shared: Arc<Shared>,
}

impl Cluster for Picture {
    fn choose(&self, request: &PlacementRequest<'_>) -> SmallVec<[StorageId; 3]> {
        self.directory.topology.choose(request)
    }

    fn live(&self, block: BlockId, stamp: GenStamp) -> SmallVec<[StorageId; 3]> {
        self.shared.owner.read(|map| map.live(block, stamp))
    }

    fn datanodes(&self) -> usize {
        self.directory.topology.live()
    }

    fn recovery_wait(&self, block: BlockId) -> Duration {
        self.shared.owner.read(|map| map.recovery_wait(block))
    }
}

impl EffectSink for Blocks {
    fn apply(&self, effects: Vec<Effect>) {
        let now = self.shared.now();
        self.shared.owner.write(|map| effects.into_iter().for_each(|effect| map.apply(effect, now)));
    }

    fn cluster(&self) -> SharedCluster {
        Arc::new(Picture { directory: self.shared.directory.load_full(), shared: Arc::clone(&self.shared) })
    }

    fn safe_mode(&self) -> Option<String> {
        if !self.shared.owner.is_in_safe_mode() {
            return None;
        }
        let reason = self.shared.owner.read(|map| map.safe_mode(self.shared.now()))?;
        Some(format!("{reason} NamenodeHostName:{}", self.shared.host))
    }

    fn set_safe_mode(&self, on: bool) -> bool {
        let now = self.shared.now();
        self.shared.owner.write(|map| {
            map.set_safe_mode(on, now);
            map.safe_mode(now).is_some()
        })
    }

    fn locate(&self, block: &Block, reader: Option<IpAddr>) -> (Vec<Location>, bool) {
        let seed = self.shared.seed();
        let located = self.shared.owner.read(|map| map.locate(block, reader, seed));
        (self.shared.directory.load().locations(&located.storages), located.corrupt)
    }

    fn set_pods(&self, pods: Arc<Pods>) {
        let now = self.shared.now();
        self.shared.owner.write(|map| map.set_pods(pods, now));
        self.shared.publish();
    }

    fn locations(&self, storages: &[StorageId]) -> Vec<Location> {
        self.shared.directory.load().locations(storages)
    }

    fn wait_reported(
        &self,
        block: BlockId,
        stamp: GenStamp,
        count: usize,
        limit: Duration,
    ) -> BoxFuture<'static, bool> {
        let shared = Arc::clone(&self.shared);
        let enough = move |shared: &Shared| shared.owner.read(|map| map.live(block, stamp).len() >= count);
        async move {
            let wait = async {
                loop {
                    let mut arrival = pin!(shared.arrival(block).notified());
                    arrival.as_mut().enable();
                    if enough(&shared) {
                        return;
                    }
                    arrival.await;
                }
            };
            tokio::time::timeout(limit, wait).await.is_ok()
        }
        .boxed()
    }

    fn report_bad(&self, block: BlockRef, storages: &[StorageId]) {
        self.shared.owner.write(|map| map.report_bad(block, storages, false));
    }

    fn stats(&self) -> FsStats {
        let counts = self.shared.owner.read(steadfs_namenode_core::blocks::BlockMap::counts);
        let directory = self.shared.directory.load();
        // What is on datanodes that leave is not space of the cluster, as HDFS counts.
        let live = || {
            let nodes = directory.reports.iter().map(|report| &report.node);
            nodes.filter(|node| node.live && node.admin.serves())
        };
        FsStats {
            capacity: live().map(|node| node.capacity).fold(0, u64::saturating_add),
            used: live().map(|node| node.used).fold(0, u64::saturating_add),
            remaining: live().map(|node| node.remaining).fold(0, u64::saturating_add),
            under_replicated: counts.under_replicated,
            corrupt: counts.corrupt,
            missing: counts.missing,
            missing_single: counts.missing_single,
            endangered: counts.endangered,
            pending_replication: counts.pending_replication,
            misplaced: counts.misplaced,
            pending_deletion: counts.pending_deletion,
        }
    }

    fn datanodes(&self) -> Vec<NodeReport> {
        self.shared.directory.load().reports.clone()
    }

    fn missing_blocks(&self, after: BlockId, limit: usize) -> Vec<BlockId> {
        self.shared.owner.read(|map| map.missing(after, limit))
    }

    fn survey(&self, block: BlockId) -> Vec<(Location, Condition)> {
        let found = self.shared.owner.read(|map| map.survey(block));
        let directory = self.shared.directory.load();
        let known =
            |replica: &SurveyedReplica| Some((directory.location(replica.storage)?, replica.condition));
        found.iter().filter_map(known).collect()
    }

    fn blocking_blocks(&self) -> Vec<BlockId> {
        self.shared.owner.read(|map| map.blocking().to_vec())
    }

    fn set_roster(&self, roster: Roster) {
        let now = self.shared.now();
        self.shared.owner.write(|map| map.set_roster(roster, now));
        self.shared.publish();
    }

    fn check_stop(&self, nodes: &[DatanodeUuid]) -> FsResult<StopCheck> {
        let mut stopping = self.shared.owner.read(|map| map.begin_stop_check(nodes))?;
        loop {
            let found = self.shared.owner.read(|map| map.check_stop(&mut stopping, STOP_STEP));
            if let Some(check) = found {
                return Ok(check);
            }
        }
    }

    fn order_balance(&self, goal: Option<BalanceGoal>) {
        self.shared.owner.write(|map| map.order_balance(goal));
    }

    fn balance_status(&self) -> BalanceStatus {
        self.shared.owner.read(BlockMap::balance_status)
    }

    fn roster(&self) -> Roster {
        self.shared.owner.read(|map| map.roster().clone())
    }

    fn set_losses(&self, losses: Vec<Loss>) {
        let now = self.shared.now();
        self.shared.owner.write(|map| map.set_losses(losses, now));
    }

    fn kept(&self) -> (u64, u64) {
        self.shared.owner.read(BlockMap::kept)
    }

    fn kept_after(&self, after: BlockId, limit: usize) -> Vec<(BlockId, u64)> {
        self.shared.owner.read(|map| map.kept_after(after, limit))
    }

    fn set_bandwidth(&self, bytes_per_second: u64) {
        self.shared.owner.write(|map| map.set_bandwidth(bytes_per_second));
    }

    fn blocks_on(&self, uuid: DatanodeUuid, wanted: &BlocksOn) -> Vec<BlockOnNode> {
        let found = self.shared.owner.read(|map| map.blocks_on(uuid, wanted, self.shared.seed()));
        let directory = self.shared.directory.load();
        let located = |(block, storages): (BlockRef, SmallVec<[StorageId; 3]>)| BlockOnNode {
            block,
            locations: directory.locations(&storages),
        };
        found.into_iter().map(located).collect()
    }

    fn work_lists(&self, limit: usize) -> WorkLists {
        self.shared.owner.read(|map| map.work_lists(limit))
    }
}
