//! What an operator asks of a datanode itself.

use std::time::Duration;

use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_proto::from_status;
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::datanode_admin_client::DatanodeAdminClient;

use crate::Client;
use crate::calls::endpoint;

/// How long a datanode may take to open the volumes that are new to it.
const PATIENCE: Duration = Duration::from_secs(660);

/// A property of a datanode that was to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconfiguredProperty {
    /// As stock tools name it.
    pub name: String,
    /// What it was.
    pub old: String,
    /// What it is to be.
    pub new: String,
    /// Why it was not changed, or not as a whole; empty if it was.
    pub error: String,
}

impl Client {
    /// Has a datanode read its configuration again and take new volumes into service, and others out of it. `address` is
    /// its RPC port, as `host:port`. Gives what changed.
    ///
    /// # Errors
    /// `Unreachable`, `Timeout`; `AccessDenied` to all but who runs it and its administrators; `Refused` while another such
    /// change is under way.
    pub async fn reconfigure_datanode(&self, address: &str) -> FsResult<Vec<ReconfiguredProperty>> {
        let limit = self.inner.options.connect_timeout;
        let channel = endpoint(address, limit)?.connect().await.map_err(|error| {
            FsError::new(FsErrorKind::Unreachable, format!("datanode {address}: {error}"))
        })?;
        let request = self.inner.calls.request(pb::ReconfigureRequest {});
        let mut door = DatanodeAdminClient::new(channel);
        let answer = tokio::time::timeout(PATIENCE, door.reconfigure(request))
            .await
            .map_err(|_| {
                FsError::new(FsErrorKind::Timeout, format!("datanode {address} did not answer in time"))
            })?
            .map_err(|status| from_status(&status))?;
        let property = |change: pb::ReconfigureChange| ReconfiguredProperty {
            name: change.name,
            old: change.old,
            new: change.new,
            error: change.error,
        };
        Ok(answer.into_inner().changes.into_iter().map(property).collect())
    }
}
