//! An owner of blocks for tests: three datanodes that take everything and report when they are told to.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use smallvec::SmallVec;
use steadfs_common::{BlockId, DatanodeUuid, FsResult, GenStamp, Millis, StorageId};
use steadfs_namenode_core::Effect;
use steadfs_namenode_core::blocks::{
    AdminState, BalanceGoal, BalanceStatus, BlocksOn, Condition, Lacking, Roster, StopCheck, WorkLists,
};
use steadfs_namenode_core::command::BlockRef;
use steadfs_namenode_core::locality::Pods;
use steadfs_namenode_core::placement::{Cluster, PlacementRequest};
use steadfs_namenode_core::record::{Block, Loss};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{BlockOnNode, EffectSink, FsStats, Location, Node, NodeReport, SharedCluster, StorageReport};

const NODES: u128 = 3;

fn storage(number: u128) -> StorageId {
    StorageId(Uuid::from_u128(100 + number))
}

#[derive(Default)]
struct State {
    reported: BTreeSet<(BlockId, GenStamp)>,
    effects: Vec<Effect>,
    bad: Vec<BlockRef>,
    safe_mode: bool,
}

#[derive(Default)]
pub(crate) struct TestSink {
    state: Arc<Mutex<State>>,
    arrived: Arc<Notify>,
}

impl TestSink {
    /// All datanodes report this block as finalized.
    pub(crate) fn report(&self, block: BlockId, stamp: GenStamp) {
        self.state.lock().reported.insert((block, stamp));
        self.arrived.notify_waiters();
    }

    pub(crate) fn effects(&self) -> Vec<Effect> {
        self.state.lock().effects.clone()
    }
}

struct Picture(Arc<Mutex<State>>);

impl Cluster for Picture {
    fn choose(&self, request: &PlacementRequest<'_>) -> SmallVec<[StorageId; 3]> {
        let free = (0..NODES).map(storage).filter(|id| !request.existing.contains(id));
        free.take(request.wanted).collect()
    }

    fn live(&self, block: BlockId, stamp: GenStamp) -> SmallVec<[StorageId; 3]> {
        let reported = self.0.lock().reported.contains(&(block, stamp));
        if reported { (0..NODES).map(storage).collect() } else { SmallVec::new() }
    }

    fn datanodes(&self) -> usize {
        NODES as usize
    }
}

fn node(number: u128) -> Arc<Node> {
    Arc::new(Node {
        uuid: DatanodeUuid(Uuid::from_u128(number)),
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        host_name: format!("node-{number}"),
        data_port: 1,
        ipc_port: 2,
        http_port: 0,
        rack: "/default-rack".into(),
        version: "test".into(),
        node: String::new(),
        live: true,
        admin: AdminState::Normal,
        lacking: Lacking::default(),
        stale: false,
        slow: false,
        latency: None,
        capacity: 1 << 40,
        used: 0,
        remaining: 1 << 40,
        last_heartbeat: Millis(0),
        last_block_report: Millis(0),
        active_transfers: 0,
        blocks: 0,
    })
}

fn location(id: StorageId) -> Location {
    Location { node: node(id.0.as_u128() - 100), storage: id, kind: steadfs_common::StorageType::Disk }
}

impl EffectSink for TestSink {
    fn apply(&self, effects: Vec<Effect>) {
        self.state.lock().effects.extend(effects);
    }

    fn cluster(&self) -> SharedCluster {
        Arc::new(Picture(self.state.clone()))
    }

    fn safe_mode(&self) -> Option<String> {
        self.state.lock().safe_mode.then(|| "It was turned on by hand".to_owned())
    }

    fn set_safe_mode(&self, on: bool) -> bool {
        self.state.lock().safe_mode = on;
        on
    }

    fn locate(&self, block: &Block, _reader: Option<IpAddr>) -> (Vec<Location>, bool) {
        if !block.is_complete() {
            return (self.locations(block.expected()), false);
        }
        let live = Picture(self.state.clone()).live(block.id, block.stamp);
        (self.locations(&live), false)
    }

    fn set_pods(&self, _pods: Arc<Pods>) {}

    fn locations(&self, storages: &[StorageId]) -> Vec<Location> {
        storages.iter().map(|id| location(*id)).collect()
    }

    fn wait_reported(
        &self,
        block: BlockId,
        stamp: GenStamp,
        _count: usize,
        limit: Duration,
    ) -> BoxFuture<'static, bool> {
        let (state, arrived) = (self.state.clone(), self.arrived.clone());
        async move {
            let all = async {
                loop {
                    let next = arrived.notified();
                    if state.lock().reported.contains(&(block, stamp)) {
                        return;
                    }
                    next.await;
                }
            };
            tokio::time::timeout(limit, all).await.is_ok()
        }
        .boxed()
    }

    fn report_bad(&self, block: BlockRef, _storages: &[StorageId]) {
        self.state.lock().bad.push(block);
    }

    fn stats(&self) -> FsStats {
        FsStats::default()
    }

    fn datanodes(&self) -> Vec<NodeReport> {
        let storages = |number| {
            vec![StorageReport {
                storage: storage(number),
                kind: steadfs_common::StorageType::Disk,
                failed: false,
                capacity: 1 << 40,
                used: 0,
                remaining: 1 << 40,
                blocks: 0,
            }]
        };
        (0..NODES).map(|number| NodeReport { node: node(number), storages: storages(number) }).collect()
    }

    fn missing_blocks(&self, _after: BlockId, _limit: usize) -> Vec<BlockId> {
        Vec::new()
    }

    fn survey(&self, _block: BlockId) -> Vec<(Location, Condition)> {
        Vec::new()
    }

    fn blocking_blocks(&self) -> Vec<BlockId> {
        Vec::new()
    }

    fn set_roster(&self, _roster: Roster) {}

    fn check_stop(&self, nodes: &[DatanodeUuid]) -> FsResult<StopCheck> {
        Ok(StopCheck { lacking: vec![Lacking::default(); nodes.len()], ..StopCheck::default() })
    }

    fn order_balance(&self, _goal: Option<BalanceGoal>) {}

    fn balance_status(&self) -> BalanceStatus {
        BalanceStatus::default()
    }

    fn roster(&self) -> Roster {
        Roster::default()
    }

    fn set_losses(&self, _losses: Vec<Loss>) {}

    fn kept(&self) -> (u64, u64) {
        (0, 0)
    }

    fn kept_after(&self, _after: BlockId, _limit: usize) -> Vec<(BlockId, u64)> {
        Vec::new()
    }

    fn set_bandwidth(&self, _bytes_per_second: u64) {}

    fn blocks_on(&self, _uuid: DatanodeUuid, _wanted: &BlocksOn) -> Vec<BlockOnNode> {
        Vec::new()
    }

    fn work_lists(&self, _limit: usize) -> WorkLists {
        WorkLists::default()
    }
}
