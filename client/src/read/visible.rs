//! How far a block that is being written may be read.

use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::replicas_client::ReplicasClient;

use crate::calls::endpoint;
use crate::client::Inner;
use crate::{BlockLocation, Replica};

/// Bytes of `block` that every replica has acknowledged: the first answer of a datanode. No replica anywhere means that
/// the pipeline is only being set up, so nothing has been written.
pub(crate) async fn visible_length(inner: &Inner, block: &BlockLocation) -> FsResult<u64> {
    let mut failure = None;
    for replica in &block.replicas {
        match ask(inner, block, replica).await {
            Ok(length) => return Ok(length.max(block.length)),
            Err(error) if error.kind() == FsErrorKind::ReplicaNotFound => {}
            Err(error) => {
                tracing::debug!(%replica, %error, "a datanode does not say how far a block may be read");
                failure = Some(error);
            }
        }
    }
    match failure {
        None => Ok(block.length),
        Some(error) => Err(FsError::new(
            FsErrorKind::BlockMissing,
            format!(
                "the length of {}, which is being written, cannot be learned from its datanodes ({error}): try again \
                 when the writer has recovered or closed it",
                block.block
            ),
        )),
    }
}

async fn ask(inner: &Inner, block: &BlockLocation, replica: &Replica) -> FsResult<u64> {
    let mut address = replica.address;
    address.set_port(replica.ipc_port);
    let limit = inner.options.connect_timeout;
    let question = async {
        let channel = endpoint(&address.to_string(), limit)?.connect().await.map_err(|error| {
            FsError::new(FsErrorKind::Unreachable, format!("datanode {address}: {error}"))
        })?;
        let request = pb::VisibleLengthRequest { block: Some(block.to_block()) };
        let answer = ReplicasClient::new(channel).visible_length(request).await;
        answer.map(|answer| answer.into_inner().length).map_err(|status| steadfs_proto::from_status(&status))
    };
    let silent = || FsError::new(FsErrorKind::Timeout, format!("datanode {address} did not answer in time"));
    tokio::time::timeout(limit, question).await.unwrap_or_else(|_| Err(silent()))
}
