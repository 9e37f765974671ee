//! The datanodes, as an operator or a platform deals with them.

use std::sync::Arc;

use steadfs_common::{FsError, FsErrorKind, FsResult, Millis};
use steadfs_namenode_core::blocks::{BalanceGoal, BalanceStatus, MAX_DATANODES, Wish};
use steadfs_proto::convert::{principal, required};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::balance_request::Action;
use steadfs_proto::steadfs::nodes_server::Nodes;
use steadfs_proto::steadfs::set_node_state_request::Wish as WishMessage;
use tonic::Request;

use super::Answer;
use super::convert::node_state;
use crate::service::{NodeNames, NodeStop, Service, StopAnswer};

/// The threshold of who names none, in percent, as the stock balancer's.
const USUAL_THRESHOLD: f64 = 10.0;

pub(super) struct NodesDoor {
    pub(super) service: Arc<Service>,
}

pub(super) const fn wish(wish: WishMessage, until: u64) -> Wish {
    match wish {
        WishMessage::InService => Wish::InService,
        WishMessage::Decommission => Wish::Decommission,
        WishMessage::Maintenance if until == 0 => Wish::Maintenance { until: None },
        WishMessage::Maintenance => Wish::Maintenance { until: Some(Millis(until)) },
    }
}

fn names(message: Option<pb::NodeNames>) -> FsResult<NodeNames> {
    let message = required("nodes", message)?;
    if message.names.is_empty() || message.names.len() > MAX_DATANODES {
        let text = format!("field `nodes.names`: name one to {MAX_DATANODES}");
        return Err(FsError::new(FsErrorKind::InvalidRequest, text));
    }
    let names = message.names.iter().map(|name| principal("nodes.names", name)).collect::<FsResult<_>>()?;
    Ok(NodeNames { names, by_node: message.by_node })
}

fn node_stop(stop: NodeStop) -> pb::NodeStop {
    let NodeStop { node, lacking } = stop;
    pb::NodeStop {
        uuid: node.uuid.to_string(),
        address: std::net::SocketAddr::new(node.ip, node.data_port).to_string(),
        node: node.node.clone(),
        state: node_state(node.admin).into(),
        live: node.live,
        blocks: lacking.blocks,
        only_here: lacking.only_here,
        open: lacking.open,
    }
}

fn balance(status: BalanceStatus) -> pb::BalanceResponse {
    pb::BalanceResponse {
        ordered: status.ordered,
        background: status.goal.is_some() && !status.ordered,
        threshold: status.goal.map_or(0.0, |goal| goal.threshold),
        over: status.over,
        under: status.under,
        left_bytes: status.left_bytes,
        moving: status.moving,
        moved_blocks: status.moved_blocks,
        moved_bytes: status.moved_bytes,
        stuck: status.stuck,
    }
}

fn stop_answer(answer: StopAnswer) -> pb::SafeToStopResponse {
    pb::SafeToStopResponse {
        safe: answer.reason.is_none(),
        reason: answer.reason.unwrap_or_default(),
        nodes: answer.nodes.into_iter().map(node_stop).collect(),
        blocks: answer.examples.iter().map(ToString::to_string).collect(),
    }
}

#[tonic::async_trait]
impl Nodes for NodesDoor {
    async fn set_states(
        &self,
        request: Request<pb::SetNodeStatesRequest>,
    ) -> Answer<pb::SetNodeStatesResponse> {
        answer!(self, request, |who, message| {
            let wish = wish(message.wish(), message.until);
            let uuids = self.service.set_admin_states(&who, &names(message.nodes)?, wish).await?;
            Ok(pb::SetNodeStatesResponse { uuids: uuids.iter().map(ToString::to_string).collect() })
        })
    }

    async fn safe_to_stop(&self, request: Request<pb::SafeToStopRequest>) -> Answer<pb::SafeToStopResponse> {
        answer!(self, request, |who, message| {
            self.service.safe_to_stop(&who, &names(message.nodes)?).await.map(stop_answer)
        })
    }

    async fn balance(&self, request: Request<pb::BalanceRequest>) -> Answer<pb::BalanceResponse> {
        answer!(self, request, |who, message| {
            match message.action() {
                Action::Status => {}
                Action::Stop => self.service.order_balance(&who, None)?,
                Action::Start => {
                    let threshold =
                        if message.threshold == 0.0 { USUAL_THRESHOLD } else { message.threshold };
                    let goal = BalanceGoal { threshold, bytes_per_second: message.bytes_per_second };
                    self.service.order_balance(&who, Some(goal))?;
                }
            }
            Ok(balance(self.service.balance_status()))
        })
    }
}
