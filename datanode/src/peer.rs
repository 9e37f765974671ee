//! The datanode's gRPC doors at its IPC port: for other datanodes, and for our clients.

use std::sync::Arc;

use steadfs_common::{FsResult, GenStamp};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::datanode_admin_server::DatanodeAdminServer;
use steadfs_proto::steadfs::datanode_peer_server::{DatanodePeer, DatanodePeerServer};
use steadfs_proto::steadfs::replicas_server::{Replicas, ReplicasServer};
use steadfs_proto::to_status;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::admin_door::AdminDoor;
use crate::convert::{block, to_block, to_state};
use crate::node::Node;

/// What the port serves.
pub(crate) fn routes(node: &Arc<Node>, admin: AdminDoor) -> Routes {
    let door = Door { node: node.clone() };
    Routes::new(DatanodePeerServer::new(door.clone()))
        .add_service(ReplicasServer::new(door))
        .add_service(DatanodeAdminServer::new(admin))
}

#[derive(Clone)]
struct Door {
    node: Arc<Node>,
}

fn answer<T>(result: FsResult<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| to_status(&error))
}

impl Door {
    async fn init(
        &self,
        request: pb::InitReplicaRecoveryRequest,
    ) -> FsResult<pb::InitReplicaRecoveryResponse> {
        let block = block("block", request.block)?;
        let (store, stamp) = (self.node.store.clone(), GenStamp(request.new_stamp));
        let found = self.node.disk_of(block.id).run(move || store.init_recovery(block, stamp)).await?;
        let Some(replica) = found else { return Ok(pb::InitReplicaRecoveryResponse::default()) };
        Ok(pb::InitReplicaRecoveryResponse {
            found: true,
            block: Some(to_block(replica.block)),
            state: to_state(replica.state) as i32,
            storage_id: replica.storage.to_string(),
            bad: replica.bad,
        })
    }

    async fn update(&self, request: pb::UpdateReplicaRequest) -> FsResult<pb::UpdateReplicaResponse> {
        let old = block("old", request.old)?;
        let store = self.node.store.clone();
        let update = move || store.update_replica(old, GenStamp(request.new_stamp), request.new_length);
        let storage = self.node.disk_of(old.id).run(update).await?;
        Ok(pb::UpdateReplicaResponse { storage_id: storage.to_string() })
    }
}

#[tonic::async_trait]
impl DatanodePeer for Door {
    async fn init_replica_recovery(
        &self,
        request: Request<pb::InitReplicaRecoveryRequest>,
    ) -> Result<Response<pb::InitReplicaRecoveryResponse>, Status> {
        answer(self.init(request.into_inner()).await)
    }

    async fn update_replica(
        &self,
        request: Request<pb::UpdateReplicaRequest>,
    ) -> Result<Response<pb::UpdateReplicaResponse>, Status> {
        answer(self.update(request.into_inner()).await)
    }
}

#[tonic::async_trait]
impl Replicas for Door {
    async fn visible_length(
        &self,
        request: Request<pb::VisibleLengthRequest>,
    ) -> Result<Response<pb::VisibleLengthResponse>, Status> {
        let length = block("block", request.into_inner().block)
            .and_then(|block| Ok(self.node.store.visible_length(block.id, block.stamp)?));
        answer(length.map(|length| pb::VisibleLengthResponse { length }))
    }
}
