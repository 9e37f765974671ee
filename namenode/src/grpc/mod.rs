//! The gRPC door: our clients, operators and datanodes.
//!
//! Each method turns its message into domain values, calls the service (or the owner of blocks), and turns the result
//! back. The caller names itself in the metadata `steadfs-user`. No rule stands here.

/// Unpacks a request into its caller and message and answers with what the body gives.
macro_rules! answer {
    ($self:ident, $request:ident, |$caller:ident, $message:ident| $body:expr) => {{
        let work = async {
            let $caller = $crate::grpc::caller(&$self.service, &$request).await?;
            let $message = $request.into_inner();
            $body
        };
        $crate::grpc::reply(work.await)
    }};
}

mod admin;
mod attributes;
mod convert;
mod datanode;
mod fsck;
mod health;
mod mounts;
mod namespace;
mod nodes;
mod quotas;
mod upkeep;

use std::sync::Arc;

use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_namenode_core::Caller;
use steadfs_namenode_core::command::Door as Origin;
use steadfs_proto::convert::principal;
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::admin_server::AdminServer;
use steadfs_proto::steadfs::attributes_server::AttributesServer;
use steadfs_proto::steadfs::datanode_link_server::{DatanodeLink, DatanodeLinkServer};
use steadfs_proto::steadfs::mounts_server::MountsServer;
use steadfs_proto::steadfs::namespace_server::{Namespace, NamespaceServer};
use steadfs_proto::steadfs::nodes_server::NodesServer;
use steadfs_proto::steadfs::upkeep_server::UpkeepServer;
use steadfs_proto::to_status;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::blocks::Blocks;
use crate::service::{Claim, Service};

/// The metadata in which a caller names itself.
const USER: &str = "steadfs-user";
/// And in which it says who it is, if it acts for that user.
const REAL_USER: &str = "steadfs-real-user";
/// Groups that the caller is in beside those that are known here, with commas in between.
const GROUPS: &str = "steadfs-groups";
/// What it does, for the audit log.
const CONTEXT: &str = "steadfs-context";
/// Largest request, in bytes: a slice of a block report is the largest there is.
const MAX_REQUEST_BYTES: usize = 4 << 20;

/// What a method gives.
type Answer<T> = Result<Response<T>, Status>;

/// Everything that is served by gRPC, for the port that it shares with Hadoop RPC.
#[must_use]
pub fn routes(service: Arc<Service>, blocks: Arc<Blocks>) -> Routes {
    let attributes = attributes::AttributesDoor { service: Arc::clone(&service) };
    let mounts = mounts::MountsDoor { service: Arc::clone(&service) };
    let namespace = namespace::NamespaceDoor { service: Arc::clone(&service) };
    let nodes = nodes::NodesDoor { service: Arc::clone(&service) };
    let health = Arc::<health::Health>::default();
    let upkeep = upkeep::UpkeepDoor { service: Arc::clone(&service) };
    let admin = admin::AdminDoor {
        service: Arc::clone(&service),
        blocks: Arc::clone(&blocks),
        health: Arc::clone(&health),
    };
    let link = datanode::DatanodeDoor { service, blocks, health };
    Routes::new(NamespaceServer::new(namespace).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(MountsServer::new(mounts).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(AttributesServer::new(attributes).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(NodesServer::new(nodes).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(UpkeepServer::new(upkeep).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(AdminServer::new(admin).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(DatanodeLinkServer::new(link).max_decoding_message_size(MAX_REQUEST_BYTES))
}

/// The doors that clients and datanodes use most, to be called without a connection.
pub(crate) struct Doors {
    namespace: namespace::NamespaceDoor,
    link: datanode::DatanodeDoor,
}

impl Doors {
    pub(crate) fn new(service: Arc<Service>, blocks: Arc<Blocks>) -> Self {
        let namespace = namespace::NamespaceDoor { service: Arc::clone(&service) };
        Self { namespace, link: datanode::DatanodeDoor { service, blocks, health: Arc::default() } }
    }

    /// For clients.
    pub(crate) fn namespace(&self) -> &impl Namespace {
        &self.namespace
    }

    /// For datanodes.
    pub(crate) fn link(&self) -> &impl DatanodeLink {
        &self.link
    }

    /// One part of a datanode's full report.
    pub(crate) async fn take_slice(&self, slice: pb::BlockReportSlice) -> FsResult<()> {
        self.link.take_slice(slice).await
    }
}

/// Who calls, by the metadata and the connection's address.
async fn caller<T>(service: &Service, request: &Request<T>) -> FsResult<Caller> {
    let address = request.remote_addr().map(|address| address.ip().to_canonical());
    let user = text(request, USER)?.ok_or_else(|| {
        FsError::new(
            FsErrorKind::InvalidRequest,
            format!("the call does not say who makes it (metadata `{USER}`)"),
        )
    })?;
    let user = principal(USER, user)?;
    let real_user = text(request, REAL_USER)?.map(|real| principal(REAL_USER, real)).transpose()?;
    let groups = text(request, GROUPS)?.unwrap_or_default().split(',').filter(|group| !group.is_empty());
    let groups = groups.map(|group| principal(GROUPS, group)).collect::<FsResult<Vec<_>>>()?;
    let context = text(request, CONTEXT)?
        .map(|context| &context[..context.floor_char_boundary(steadfs_wire::rpc::MAX_CALLER_CONTEXT_BYTES)]);
    let real_user = real_user.as_deref().filter(|real| *real != user);
    service.identify(Claim { user: &user, real_user, groups, address, context, door: Origin::Grpc }).await
}

/// A metadata value.
fn text<'r, T>(request: &'r Request<T>, name: &str) -> FsResult<Option<&'r str>> {
    let Some(value) = request.metadata().get(name) else { return Ok(None) };
    let value = value.to_str().map_err(|_| {
        FsError::new(FsErrorKind::InvalidRequest, format!("metadata `{name}` is not plain text"))
    })?;
    Ok(Some(value))
}

/// The reply of a method: its message, or its error as a status.
fn reply<T>(result: FsResult<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| to_status(&error))
}
