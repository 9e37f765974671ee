//! The gRPC door: our clients, operators and datanodes.
//!
//! Each method turns its message into domain values, calls the service (or the owner of blocks), and turns the result
//! back. The caller names itself in the metadata `steadfs-user`. No rule stands here.

mod admin;
mod convert;
mod datanode;
mod fsck;
mod namespace;

use std::sync::Arc;

use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_namenode_core::Caller;
use steadfs_proto::convert::principal;
use steadfs_proto::steadfs::admin_server::AdminServer;
use steadfs_proto::steadfs::datanode_link_server::DatanodeLinkServer;
use steadfs_proto::steadfs::namespace_server::NamespaceServer;
use steadfs_proto::to_status;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::blocks::Blocks;
use crate::service::Service;

pub(crate) use fsck::Fsck;

/// The metadata in which a caller names itself.
const USER: &str = "steadfs-user";
/// Largest request, in bytes: a slice of a block report is the largest there is.
const MAX_REQUEST_BYTES: usize = 4 << 20;

/// Everything that is served by gRPC, for the port that it shares with Hadoop RPC.
#[must_use]
pub fn routes(service: Arc<Service>, blocks: Arc<Blocks>) -> Routes {
    let namespace = namespace::NamespaceDoor { service: Arc::clone(&service) };
    let admin = admin::AdminDoor { service: Arc::clone(&service), blocks: Arc::clone(&blocks) };
    let link = datanode::DatanodeDoor { service, blocks };
    Routes::new(NamespaceServer::new(namespace).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(AdminServer::new(admin).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(DatanodeLinkServer::new(link).max_decoding_message_size(MAX_REQUEST_BYTES))
}

/// Who calls, by the metadata and the connection's address.
async fn caller<T>(service: &Service, request: &Request<T>) -> FsResult<Caller> {
    let address = request.remote_addr().map(|address| address.ip().to_canonical());
    let user = request.metadata().get(USER).ok_or_else(|| {
        FsError::new(
            FsErrorKind::InvalidRequest,
            format!("the call does not say who makes it (metadata `{USER}`)"),
        )
    })?;
    let user = user.to_str().map_err(|_| {
        FsError::new(FsErrorKind::InvalidRequest, format!("metadata `{USER}` is not plain text"))
    })?;
    service.caller(&principal(USER, user)?, address).await
}

/// The reply of a method: its message, or its error as a status.
fn reply<T>(result: FsResult<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| to_status(&error))
}
