//! The gRPC door for operators at the datanode's IPC port.

use std::sync::Arc;
use std::time::Duration;

use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::datanode_admin_server::DatanodeAdmin;
use steadfs_proto::to_status;
use tonic::{Request, Response, Status};

use crate::admin::{check_operator, process_user};
use crate::changes::Changes;
use crate::node::Node;
use crate::reconfigure;

/// How long a caller is kept waiting for a new configuration to be in place.
const PATIENCE: Duration = Duration::from_secs(600);

/// The door.
pub(crate) struct AdminDoor {
    pub(crate) node: Arc<Node>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) tasks: Shutdown,
}

fn change(change: reconfigure::Change) -> pb::ReconfigureChange {
    pb::ReconfigureChange {
        name: change.name.into(),
        old: change.old,
        new: change.new,
        error: change.error.unwrap_or_default(),
    }
}

impl AdminDoor {
    fn check<T>(&self, request: &Request<T>) -> FsResult<()> {
        let text = |key: &str| request.metadata().get(key).and_then(|value| value.to_str().ok());
        let user = text("steadfs-user").unwrap_or_default();
        let acts_for_another = text("steadfs-real-user").is_some_and(|real| real != user);
        check_operator(user, acts_for_another, &self.node.config.administrators, &process_user())
    }

    async fn read_again(&self) -> FsResult<pb::ReconfigureResponse> {
        let done = reconfigure::start(&self.node, &self.changes, &self.tasks)?;
        match tokio::time::timeout(PATIENCE, done).await {
            Ok(Ok(changes)) => {
                Ok(pb::ReconfigureResponse { changes: changes.into_iter().map(change).collect() })
            }
            Ok(Err(_)) => Err(FsError::new(FsErrorKind::Unreachable, "the datanode is going down")),
            Err(_) => Err(FsError::new(
                FsErrorKind::Timeout,
                "the new configuration is not in place yet; `hdfs dfsadmin -reconfig datanode … status` says when it is",
            )),
        }
    }
}

#[tonic::async_trait]
impl DatanodeAdmin for AdminDoor {
    async fn reconfigure(
        &self,
        request: Request<pb::ReconfigureRequest>,
    ) -> Result<Response<pb::ReconfigureResponse>, Status> {
        let answer = match self.check(&request) {
            Ok(()) => self.read_again().await,
            Err(error) => Err(error),
        };
        answer.map(Response::new).map_err(|error| to_status(&error))
    }
}
