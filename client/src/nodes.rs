//! Datanodes that leave service by order, and whether they may be stopped.

use std::time::Duration;

use steadfs_common::{FsResult, Millis};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::balance_request::Action;
use steadfs_proto::steadfs::set_node_state_request::Wish;

use crate::Client;
use crate::operate::NodeState;

/// How long the namenode may look through its blocks for the check of a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);

/// What is wanted of a datanode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeWish {
    /// That it serves.
    InService,
    /// That it can be taken away for good.
    Decommission,
    /// That it can be down for a while.
    Maintenance {
        /// When it serves again without being told.
        until: Option<Millis>,
    },
}

/// Datanodes by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNames {
    /// Uuid, address, `address:port`, host name or Kubernetes node; each must mean one datanode.
    pub names: Vec<String>,
    /// The names are those of Kubernetes nodes, and mean all datanodes there.
    pub by_node: bool,
}

impl NodeNames {
    fn message(&self) -> pb::NodeNames {
        pb::NodeNames { names: self.names.clone(), by_node: self.by_node }
    }
}

/// Whether datanodes may be stopped at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopAnswer {
    /// They may.
    pub safe: bool,
    /// Why not; empty if they may.
    pub reason: String,
    /// Each of them.
    pub nodes: Vec<NodeStop>,
    /// Some of the blocks that would have too few replicas.
    pub blocks: Vec<String>,
}

/// What a datanode holds that others lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStop {
    /// Its identity.
    pub uuid: String,
    /// `ip:port` of its data server.
    pub address: String,
    /// The Kubernetes node that it runs on; empty if it told none.
    pub node: String,
    /// Whether it serves, or leaves.
    pub state: NodeState,
    /// Whether it is heard of.
    pub live: bool,
    /// Complete blocks with too few replicas elsewhere.
    pub blocks: u64,
    /// Those of them without any other live replica.
    pub only_here: u64,
    /// Blocks of open files with too little of their pipeline elsewhere.
    pub open: u64,
}

/// How far balancing is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BalanceStatus {
    /// An order is being carried out.
    pub ordered: bool,
    /// The namenode balances by itself.
    pub background: bool,
    /// How far a datanode's use may differ from that of all, in percent of its space.
    pub threshold: f64,
    /// Datanodes that are fuller.
    pub over: u64,
    /// Datanodes that are emptier.
    pub under: u64,
    /// Bytes to move until nobody is.
    pub left_bytes: u64,
    /// Moves under way.
    pub moving: u64,
    /// Moves that succeeded since the namenode's start.
    pub moved_blocks: u64,
    /// Their bytes.
    pub moved_bytes: u64,
    /// Somebody is out of balance and nothing can be moved.
    pub stuck: bool,
}

impl Client {
    /// Orders balance between datanodes: replicas are moved until the use of each differs by no more than `threshold` percent
    /// of its space from that of all, with at most so many bytes a second each (0: what the datanodes are set to).
    ///
    /// # Errors
    /// `AccessDenied` unless the caller is a superuser; `InvalidArgument` for a threshold that makes no sense.
    pub async fn start_balance(&self, threshold: f64, bytes_per_second: u64) -> FsResult<BalanceStatus> {
        self.balance(pb::BalanceRequest { action: Action::Start.into(), threshold, bytes_per_second }).await
    }

    /// Ends what was ordered; moves under way come to their end.
    ///
    /// # Errors
    /// `AccessDenied` unless the caller is a superuser.
    pub async fn stop_balance(&self) -> FsResult<BalanceStatus> {
        self.balance(pb::BalanceRequest { action: Action::Stop.into(), ..Default::default() }).await
    }

    /// How far balancing is.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn balance_status(&self) -> FsResult<BalanceStatus> {
        self.balance(pb::BalanceRequest::default()).await
    }

    async fn balance(&self, request: pb::BalanceRequest) -> FsResult<BalanceStatus> {
        let limit = self.inner.calls.call_timeout();
        let call = self.inner.calls.nodes(limit, request, |mut c, r| async move { c.balance(r).await });
        let answer = call.await?;
        Ok(BalanceStatus {
            ordered: answer.ordered,
            background: answer.background,
            threshold: answer.threshold,
            over: answer.over,
            under: answer.under,
            left_bytes: answer.left_bytes,
            moving: answer.moving,
            moved_blocks: answer.moved_blocks,
            moved_bytes: answer.moved_bytes,
            stuck: answer.stuck,
        })
    }

    /// Decommissions a datanode, puts it into maintenance, or back into service: as [`Client::set_node_states`].
    ///
    /// # Errors
    /// As there.
    pub async fn set_node_state(&self, node: &str, wish: NodeWish) -> FsResult<String> {
        let names = NodeNames { names: vec![node.to_owned()], by_node: false };
        Ok(self.set_node_states(&names, wish).await?.pop().unwrap_or_default())
    }

    /// Decommissions datanodes, puts them into maintenance, or back into service; kept over restarts. Gives their uuids.
    ///
    /// # Errors
    /// `AccessDenied` unless the caller is a superuser; `NotFound`; `InvalidArgument` if several are called so. Then
    /// nothing is changed.
    pub async fn set_node_states(&self, nodes: &NodeNames, wish: NodeWish) -> FsResult<Vec<String>> {
        let (wish, until) = match wish {
            NodeWish::InService => (Wish::InService, None),
            NodeWish::Decommission => (Wish::Decommission, None),
            NodeWish::Maintenance { until } => (Wish::Maintenance, until),
        };
        let request = pb::SetNodeStatesRequest {
            nodes: Some(nodes.message()),
            wish: wish.into(),
            until: until.map_or(0, |until| until.0),
        };
        let limit = self.inner.calls.call_timeout();
        let call = self.inner.calls.nodes(limit, request, |mut c, r| async move { c.set_states(r).await });
        Ok(call.await?.uuids)
    }

    /// Whether datanodes may be stopped at the same time without a block being left with too few live replicas.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument` if several are called so.
    pub async fn safe_to_stop(&self, nodes: &NodeNames) -> FsResult<StopAnswer> {
        let request = pb::SafeToStopRequest { nodes: Some(nodes.message()) };
        let limit = STOP_TIMEOUT.max(self.inner.calls.call_timeout());
        let call = self.inner.calls.nodes(limit, request, |mut c, r| async move { c.safe_to_stop(r).await });
        let answer = call.await?;
        let nodes = answer.nodes.into_iter().map(|node| NodeStop {
            state: NodeState::of(node.state()),
            uuid: node.uuid,
            address: node.address,
            node: node.node,
            live: node.live,
            blocks: node.blocks,
            only_here: node.only_here,
            open: node.open,
        });
        Ok(StopAnswer {
            safe: answer.safe,
            reason: answer.reason,
            nodes: nodes.collect(),
            blocks: answer.blocks,
        })
    }
}
