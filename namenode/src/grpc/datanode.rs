//! The datanodes' side: who they are, what they have, what they shall do.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use steadfs_common::{BlockId, FsError, FsErrorKind, FsResult, GenStamp};
use steadfs_namenode_core::blocks::{
    Address, Change, ChangeKind, Heartbeat, MAX_PEERS, MAX_VOLUMES, NodeCommand, PeerLatency, Registration,
    Replica, ReplicaState, VolumeReport,
};
use steadfs_namenode_core::command::Command;
use steadfs_namenode_core::{Caller, command};
use steadfs_proto::convert::{datanode_uuid, principal, required, storage_id, storage_ids, storage_type};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::blocks_changed_request::Kind;
use steadfs_proto::steadfs::command::Command as Order;
use steadfs_proto::steadfs::datanode_link_server::DatanodeLink;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};

use super::convert::{block, block_ref, locations, plain_block};
use super::health::Health;
use super::reply;
use crate::blocks::{Blocks, ReportSlice};
use crate::service::{EffectSink as _, Service};

/// Replicas in one slice of a report.
const MAX_SLICE: usize = 16_384;
/// Changes in one call.
const MAX_CHANGES: usize = 16_384;

pub(super) struct DatanodeDoor {
    pub(super) service: Arc<Service>,
    pub(super) blocks: Arc<Blocks>,
    pub(super) health: Arc<Health>,
}

fn wrong(message: String) -> FsError {
    FsError::new(FsErrorKind::InvalidRequest, message)
}

fn port(field: &str, number: u32) -> FsResult<u16> {
    u16::try_from(number).map_err(|_| wrong(format!("field `{field}`: {number} is not a port")))
}

/// Where a datanode says it is; where it calls from, if it does not know.
fn address(message: Option<pb::DatanodeAddress>, peer: Option<SocketAddr>) -> FsResult<Address> {
    let message = required("address", message)?;
    let named: Option<IpAddr> = match message.ip.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| wrong("field `address.ip`: is not a literal address".into()))?),
    };
    let ip = named.filter(|ip| !ip.is_unspecified()).or_else(|| peer.map(|peer| peer.ip().to_canonical()));
    let ip = required("address.ip", ip)?;
    let host = match message.host_name.as_str() {
        "" => ip.to_string(),
        name => principal("address.host_name", name)?,
    };
    Ok(Address {
        ip,
        host,
        data_port: port("address.data_port", message.data_port)?,
        ipc_port: port("address.ipc_port", message.ipc_port)?,
        http_port: port("address.http_port", message.http_port)?,
    })
}

fn peer_latency(message: &pb::PeerLatency) -> FsResult<PeerLatency> {
    let peer = datanode_uuid("peers.uuid", &message.uuid)?;
    Ok(PeerLatency { peer, latency: Duration::from_micros(message.micros) })
}

fn volumes(reports: &[pb::StorageReport]) -> FsResult<Vec<VolumeReport>> {
    if reports.len() > MAX_VOLUMES {
        return Err(wrong(format!("field `storages`: a datanode has at most {MAX_VOLUMES} volumes")));
    }
    let volume = |report: &pb::StorageReport| {
        Ok(VolumeReport {
            id: storage_id("storages.storage_id", &report.storage_id)?,
            kind: storage_type(report.kind()),
            failed: report.failed,
            capacity: report.capacity,
            used: report.used,
            remaining: report.remaining,
        })
    };
    reports.iter().map(volume).collect()
}

const fn replica_state(state: pb::ReplicaState) -> ReplicaState {
    match state {
        pb::ReplicaState::Finalized => ReplicaState::Finalized,
        pb::ReplicaState::BeingWritten => ReplicaState::BeingWritten,
        pb::ReplicaState::WaitingRecovery => ReplicaState::WaitingRecovery,
        pb::ReplicaState::Bad => ReplicaState::Bad,
    }
}

fn slice(message: pb::BlockReportSlice) -> FsResult<ReportSlice> {
    if message.replicas.len() > MAX_SLICE {
        return Err(wrong(format!("field `replicas`: a slice holds at most {MAX_SLICE}")));
    }
    let replica = |replica: pb::Replica| {
        let state = replica_state(replica.state());
        Ok(Replica { block: block_ref("replicas.block", replica.block)?, state })
    };
    Ok(ReportSlice {
        uuid: datanode_uuid("uuid", &message.uuid)?,
        session: message.session,
        report: message.report_id,
        storage: storage_id("storage_id", &message.storage_id)?,
        replicas: message.replicas.into_iter().map(replica).collect::<FsResult<_>>()?,
        last: message.storage_done,
        knows: message.knows,
    })
}

fn change(message: pb::blocks_changed_request::Change) -> FsResult<Change> {
    let kind = match message.kind() {
        Kind::Receiving => ChangeKind::Receiving,
        Kind::Received => ChangeKind::Received,
        Kind::Deleted => ChangeKind::Deleted,
        Kind::Verified => ChangeKind::Verified,
    };
    let storage = storage_id("changes.storage_id", &message.storage_id)?;
    Ok(Change { storage, block: block_ref("changes.block", message.block)?, kind })
}

impl DatanodeDoor {
    /// Refuses a datanode whose volumes belong to another cluster.
    fn check_cluster(&self, theirs: &str) -> FsResult<()> {
        let ours = &self.service.identity().cluster_id;
        if theirs.is_empty() || theirs == ours {
            return Ok(());
        }
        Err(FsError::new(
            FsErrorKind::NotRegistered,
            format!(
                "this namenode serves cluster {ours}, the datanode's volumes belong to cluster {theirs}: give it the \
                 address of its own namenode, or empty volumes"
            ),
        ))
    }

    /// How far this namenode is: what is told is durable.
    fn now(&self) -> pb::Heard {
        let identity = self.service.identity();
        pb::Heard {
            incarnation: identity.incarnation,
            epoch: identity.epoch,
            transaction: self.service.durable_transaction().0,
        }
    }

    /// Refuses a datanode that has heard of a later state of this cluster than this namenode has: the operator must know.
    fn check_heard(&self, heard: Option<&pb::Heard>) -> FsResult<()> {
        let (now, Some(heard)) = (self.now(), heard) else { return Ok(()) };
        let order = |at: &pb::Heard| (at.incarnation, at.transaction);
        if order(heard) <= order(&now) {
            return Ok(());
        }
        let text = self.service.tell_stale((heard.incarnation, heard.transaction), now.transaction);
        Err(FsError::new(FsErrorKind::Standby, text))
    }

    fn take_in(
        &self,
        message: pb::RegisterRequest,
        peer: Option<SocketAddr>,
    ) -> FsResult<pb::RegisterResponse> {
        self.check_cluster(&message.cluster_id)?;
        self.check_heard(message.heard.as_ref())?;
        let uuid = datanode_uuid("uuid", &required("address", message.address.as_ref())?.uuid)?;
        let registration = Registration {
            uuid,
            session: message.session,
            version: if message.version.is_empty() {
                String::new()
            } else {
                principal("version", &message.version)?
            },
            rack: message.rack,
            node: if message.node.is_empty() { String::new() } else { principal("node", &message.node)? },
            volumes: volumes(&message.storages)?,
            address: address(message.address, peer)?,
        };
        let place = (registration.address.ip, registration.address.data_port, registration.volumes.len());
        self.blocks.register(registration)?;
        info!(datanode = %uuid, ip = %place.0, port = place.1, volumes = place.2, "a datanode registered");
        let identity = self.service.identity();
        let (heartbeat, report) = self.blocks.intervals();
        Ok(pb::RegisterResponse {
            cluster_id: identity.cluster_id.clone(),
            block_pool: identity.block_pool.to_string(),
            epoch: identity.epoch,
            now: Some(self.now()),
            heartbeat_interval_ms: heartbeat.as_millis() as u64,
            block_report_interval_ms: report.as_millis() as u64,
        })
    }

    fn beat(
        &self,
        message: pb::HeartbeatRequest,
        peer: Option<SocketAddr>,
    ) -> FsResult<pb::HeartbeatResponse> {
        let heartbeat = Heartbeat {
            uuid: datanode_uuid("uuid", &message.uuid)?,
            session: message.session,
            address: address(message.address, peer)?,
            volumes: volumes(&message.storages)?,
            active_transfers: message.active_transfers,
            peers: message.peers.iter().take(MAX_PEERS).map(peer_latency).collect::<FsResult<_>>()?,
            number: message.number,
            answered: message.answered,
            ending: message.ending,
        };
        let uuid = heartbeat.uuid;
        let orders = self.blocks.heartbeat(heartbeat)?;
        // Of strangers nothing is kept: they have to register first.
        if !orders.contains(&NodeCommand::Register) {
            self.health.note(&message.uuid, message.health, message.failures);
        }
        let commands =
            orders.into_iter().map(|order| pb::Command { command: Some(self.order(order)) }).collect();
        let node = self.blocks.node_name(uuid);
        let local_peers = node.map(|node| self.service.locality().peers_on(&node)).unwrap_or_default();
        Ok(pb::HeartbeatResponse {
            epoch: self.service.identity().epoch,
            commands,
            local_peers,
            now: Some(self.now()),
        })
    }

    fn order(&self, order: NodeCommand) -> Order {
        match order {
            NodeCommand::Register => Order::Register(pb::RegisterAgain {}),
            NodeCommand::Report => Order::Report(pb::SendBlockReport {}),
            NodeCommand::Bandwidth(bytes_per_second) => Order::Bandwidth(pb::Bandwidth { bytes_per_second }),
            NodeCommand::Transfer { block: what, targets, bytes_per_second, for_balance } => {
                let targets = locations(&self.blocks.locations(&targets));
                Order::Transfer(pb::Transfer {
                    block: Some(block(what)),
                    targets,
                    bytes_per_second,
                    for_balance,
                })
            }
            NodeCommand::Invalidate(what) => {
                Order::Invalidate(pb::Invalidate { blocks: what.into_iter().map(block).collect() })
            }
            NodeCommand::Check(what) => {
                Order::Check(pb::Check { blocks: what.into_iter().map(block).collect() })
            }
            NodeCommand::Recover {
                block: what,
                stamp,
                truncate_to,
                storages,
                left_out,
                synced,
                waited,
                unsure,
            } => Order::Recover(pb::Recover {
                block: Some(block(what)),
                new_stamp: stamp.0,
                truncate_to,
                locations: locations(&self.blocks.locations(&storages)),
                left_out,
                synced: Some(synced),
                waited,
                unsure,
            }),
        }
    }

    async fn take_report(
        &self,
        mut slices: Streaming<pb::BlockReportSlice>,
    ) -> FsResult<pb::BlockReportResponse> {
        // One slice at a time: the next is read when this one is done, which holds a fast sender back.
        while let Some(message) =
            slices.message().await.map_err(|status| steadfs_proto::from_status(&status))?
        {
            self.take_slice(message).await?;
        }
        Ok(pb::BlockReportResponse {})
    }

    pub(super) async fn take_slice(&self, message: pb::BlockReportSlice) -> FsResult<()> {
        let slice = slice(message)?;
        let uuid = slice.uuid;
        self.blocks
            .report(slice)
            .await
            .inspect_err(|error| warn!(datanode = %uuid, %error, "a block report was refused"))
    }
}

/// The namenode itself, for what datanodes make it do.
fn system() -> Caller {
    Caller {
        user: "namenode".into(),
        groups: Vec::new(),
        superuser: true,
        address: None,
        origin: command::Origin::default(),
    }
}

#[tonic::async_trait]
impl DatanodeLink for DatanodeDoor {
    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let peer = request.remote_addr();
        let result = self.take_in(request.into_inner(), peer);
        if let Err(error) = &result {
            warn!(peer = ?peer, %error, "a datanode was refused");
        }
        reply(result)
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        let peer = request.remote_addr();
        reply(self.beat(request.into_inner(), peer))
    }

    async fn block_report(
        &self,
        request: Request<Streaming<pb::BlockReportSlice>>,
    ) -> Result<Response<pb::BlockReportResponse>, Status> {
        reply(self.take_report(request.into_inner()).await)
    }

    async fn blocks_changed(
        &self,
        request: Request<pb::BlocksChangedRequest>,
    ) -> Result<Response<pb::Empty>, Status> {
        let work = async {
            let message = request.into_inner();
            if message.changes.len() > MAX_CHANGES {
                return Err(wrong(format!("field `changes`: a call holds at most {MAX_CHANGES}")));
            }
            let uuid = datanode_uuid("uuid", &message.uuid)?;
            let changes = message.changes.into_iter().map(change).collect::<FsResult<Vec<_>>>()?;
            if message.moves.len() > changes.len() {
                return Err(wrong("field `moves`: there are more than changes".into()));
            }
            for moved in &message.moves {
                let instead_of = datanode_uuid("moves.instead_of", &moved.instead_of)?;
                self.blocks.moving(BlockId(moved.block_id), instead_of);
            }
            self.blocks.changed((uuid, message.session), changes, message.end).await?;
            Ok(pb::Empty {})
        };
        reply(work.await)
    }

    async fn commit_block_synchronization(
        &self,
        request: Request<pb::CommitBlockSynchronizationRequest>,
    ) -> Result<Response<pb::Empty>, Status> {
        let work = async {
            let message = request.into_inner();
            let command = Command::CommitBlockSynchronization {
                block: block_ref("block", message.block)?,
                new_stamp: GenStamp(message.new_stamp),
                new_length: message.new_length,
                close_file: message.close_file,
                delete_block: message.delete_block,
                storages: storage_ids("storage_ids", &message.storage_ids)?,
            };
            self.service.submit(&system(), None, command).await.map(|_| pb::Empty {})
        };
        reply(work.await)
    }

    async fn report_bad(
        &self,
        request: Request<pb::ReportBadRequest>,
    ) -> Result<Response<pb::Empty>, Status> {
        let work = || {
            let message = request.into_inner();
            if message.blocks.len() > MAX_CHANGES {
                return Err(wrong(format!("field `blocks`: a call holds at most {MAX_CHANGES}")));
            }
            let uuid = datanode_uuid("uuid", &message.uuid)?;
            let storage = storage_id("storage_id", &message.storage_id)?;
            let blocks: Vec<command::BlockRef> = message.blocks.into_iter().map(plain_block).collect();
            let shown: Vec<BlockId> = blocks.iter().take(5).map(|block| block.id).collect();
            warn!(datanode = %uuid, %storage, count = blocks.len(), ?shown, "replicas were found to be bad");
            self.blocks.report_bad_by(uuid, storage, &blocks);
            Ok(pb::Empty {})
        };
        reply(work())
    }

    async fn copy_failed(
        &self,
        request: Request<pb::CopyFailedRequest>,
    ) -> Result<Response<pb::Empty>, Status> {
        let work = || {
            let message = request.into_inner();
            let uuid = datanode_uuid("uuid", &message.uuid)?;
            let block = block_ref("block", message.block)?;
            let targets = storage_ids("storage_ids", &message.storage_ids)?;
            self.blocks.copy_failed(uuid, message.session, block, &targets)?;
            Ok(pb::Empty {})
        };
        reply(work())
    }
}
