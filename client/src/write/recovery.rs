//! Mending a pipeline.
//!
//! The datanode that failed is left out, perhaps another is brought in with a copy of what is safe so far, the block gets
//! a new generation stamp, so that a replica which missed the rest can never be taken for whole, and what was not
//! acknowledged is sent again.

use steadfs_common::{FsError, FsErrorKind, FsResult, GenStamp};
use steadfs_proto::steadfs as pb;
use steadfs_wire::transfer::Stage;

use super::pipeline::{Pipeline, Setup, transfer};
use super::streamer::{OpenBlock, Streamer};
use super::window::Failure;
use crate::types::foreign;
use crate::{BlockLocation, ReplaceDatanode, Replica};

/// How many datanodes are tried as a successor.
const SUCCESSOR_TRIES: usize = 3;

impl Streamer {
    /// Mends the open block's pipeline after `failure`, until it stands or nothing is left to try.
    pub(super) async fn recover(&mut self, failure: Failure) -> FsResult<()> {
        let Some(block) = self.block.as_ref() else { return Ok(()) };
        let stage = if block.closing { Stage::CloseRecovery } else { Stage::SetupStreamingRecovery };
        self.mend(Some(failure), stage).await
    }

    /// Opens the pipeline of a block to append to.
    pub(super) async fn reopen(&mut self, last: BlockLocation) -> FsResult<()> {
        let mut block = self.open_block(&last, last.length, None);
        // The bytes that were there are relied on already.
        (block.noted, block.noted_synced) = (true, true);
        self.block = Some(block);
        self.mend(None, Stage::SetupAppend).await
    }

    async fn mend(&mut self, mut failure: Option<Failure>, stage: Stage) -> FsResult<()> {
        let mut first = true;
        loop {
            let retries = self.inner.options.pipeline_retries;
            let Some(block) = self.block.as_mut() else { return Ok(()) };
            block.pipeline = None;
            if let Some(failure) = &failure {
                tracing::warn!(path = %self.path, block = %block.id, node = ?block.nodes.get(failure.bad).map(ToString::to_string),
                    reason = failure.reason, "a pipeline is mended");
                block.failures += 1;
                let all_bad = block.nodes.len() <= 1;
                if all_bad || block.failures > retries {
                    return Err(self.hopeless(failure, all_bad));
                }
                let bad = block.nodes.remove(failure.bad.min(block.nodes.len() - 1));
                self.exclude(bad.datanode);
                self.replace().await?;
            }
            // Once tried, an append may have reached some of the replicas.
            let stage = match stage {
                Stage::SetupAppend if !first => Stage::SetupAppendRecovery,
                stage => stage,
            };
            first = false;
            match self.set_up(stage).await? {
                Ok(()) => return Ok(()),
                Err(next) => failure = Some(next),
            }
        }
    }

    fn hopeless(&self, failure: &Failure, all_bad: bool) -> FsError {
        let nodes = self.block.as_ref().map(|block| &block.nodes[..]).unwrap_or_default();
        let nodes = nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let what = if all_bad {
            format!("All datanodes [{nodes}] are bad. Aborting")
        } else {
            format!("the pipeline [{nodes}] failed again and again without any packet getting through")
        };
        FsError::refused(format!("{}: {what} ({})", self.path, failure.reason))
    }

    /// One attempt with the datanodes that are left: new stamp, connection, the namenode told, packets sent again.
    /// The outer error is final; the inner one blames a datanode.
    async fn set_up(&mut self, stage: Stage) -> FsResult<Result<(), Failure>> {
        let (inner, checksum) = (self.inner.clone(), self.checksum);
        let Some(block) = self.block.as_mut() else { return Ok(Ok(())) };
        let old = block.to_block();
        let request = pb::NewStampRequest { block: Some(old), client: inner.name.clone() };
        let answer = inner.calls.namespace(request, |mut c, r| async move { c.new_stamp(r).await }).await?;
        let stamp = answer.block.and_then(|located| located.block).ok_or_else(|| foreign("block"))?.stamp;
        let setup = Setup {
            stage,
            block: block.id,
            stamp: block.stamp,
            new_stamp: GenStamp(stamp),
            length: block.window.acked(),
            min_bytes: block.window.acked(),
            max_bytes: block.window.sent(),
            checksum,
        };
        let pipeline = match Pipeline::open(&inner, &block.nodes, &setup).await {
            Ok(pipeline) => pipeline,
            Err(failure) => return Ok(Err(failure)),
        };
        let request = pb::UpdatePipelineRequest {
            client: inner.name.clone(),
            old: Some(old),
            new: Some(pb::Block { stamp, ..old }),
            storage_ids: block.nodes.iter().map(|node| node.storage.clone()).collect(),
            key: inner.calls.key(),
            synced_length: Some(block.synced),
        };
        inner.calls.namespace(request, |mut c, r| async move { c.update_pipeline(r).await }).await?;
        block.stamp = GenStamp(stamp);
        // What is synced from here on is told anew: the namenode takes the rest for flushed.
        block.noted_synced = block.synced == block.window.acked();
        if stage == Stage::CloseRecovery {
            // The datanodes have finished the block; no packets follow.
            block.window.clear();
            return Ok(Ok(()));
        }
        for packet in block.window.unacked() {
            pipeline.send(packet.clone()).await;
        }
        block.pipeline = Some(pipeline);
        Ok(Ok(()))
    }

    /// Brings in a datanode for one that failed, if the policy wants it.
    async fn replace(&mut self) -> FsResult<()> {
        let policy = self.inner.options.replace_datanode;
        let (replication, relied_on) = (self.replication, self.relied_on);
        let Some(left) = self.block.as_ref().filter(|block| !block.closing).map(|block| block.nodes.len())
        else {
            return Ok(());
        };
        if !wants_successor(policy, replication, left, relied_on) {
            return Ok(());
        }
        let mut reason = None;
        for _ in 0..SUCCESSOR_TRIES {
            match self.bring_in().await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::info!(path = %self.path, %error, "no datanode takes the place of the one that failed");
                    let none_left = error.kind() != FsErrorKind::Retriable;
                    reason = Some(error);
                    if none_left {
                        break;
                    }
                }
            }
        }
        match reason {
            Some(error) if policy == ReplaceDatanode::Always => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks for one more datanode and has what is safe copied to it. `Retriable` if another may do.
    async fn bring_in(&mut self) -> FsResult<()> {
        let excluded = self.excluded();
        let Some(block) = self.block.as_ref() else { return Ok(()) };
        let request = pb::AdditionalDatanodeRequest {
            path: self.path.to_string(),
            inode: self.inode,
            client: self.inner.name.clone(),
            block: Some(block.to_block()),
            existing_storages: block.nodes.iter().map(|node| node.storage.clone()).collect(),
            excluded,
        };
        let answer = self
            .inner
            .calls
            .namespace(request, |mut c, r| async move { c.additional_datanode(r).await })
            .await?;
        let offered = BlockLocation::from_proto(answer.block.ok_or_else(|| foreign("block"))?)?;
        let successor = offered
            .replicas
            .into_iter()
            .find(|replica| block.nodes.iter().all(|node| node.datanode != replica.datanode))
            .ok_or_else(|| FsError::new(FsErrorKind::NoDatanode, "no further datanode is there"))?;
        let copied = self.copy_to(block, &successor).await;
        if let Err(error) = copied {
            self.exclude(successor.datanode);
            return Err(error);
        }
        if let Some(block) = self.block.as_mut() {
            block.nodes.push(successor);
        }
        Ok(())
    }

    async fn copy_to(&self, block: &OpenBlock, successor: &Replica) -> FsResult<()> {
        let safe = (block.id, block.stamp, block.window.acked());
        let mut failure = None;
        for source in &block.nodes {
            match transfer(&self.inner, safe, source, successor).await {
                Ok(()) => return Ok(()),
                Err(error) => failure = Some(error.to_string()),
            }
        }
        let reason = failure.unwrap_or_default();
        Err(FsError::new(
            FsErrorKind::Retriable,
            format!("the block was not copied to {successor}: {reason}"),
        ))
    }
}

/// HDFS's policy; see [`ReplaceDatanode`].
fn wants_successor(policy: ReplaceDatanode, replication: u16, left: usize, relied_on: bool) -> bool {
    match policy {
        ReplaceDatanode::Never => false,
        ReplaceDatanode::Always => left < usize::from(replication),
        ReplaceDatanode::Default => {
            let replication = usize::from(replication);
            replication >= 3 && left < replication && (left <= replication / 2 || relied_on)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successors_are_wanted_as_in_hdfs() {
        use ReplaceDatanode::{Always, Default, Never};
        for (policy, replication, left, relied_on, wanted) in [
            (Never, 3, 1, true, false),
            (Always, 1, 1, false, false),
            (Always, 2, 1, false, true),
            (Default, 2, 1, true, false),
            (Default, 3, 2, false, false),
            (Default, 3, 2, true, true),
            (Default, 3, 1, false, true),
            (Default, 3, 3, true, false),
        ] {
            assert_eq!(
                wants_successor(policy, replication, left, relied_on),
                wanted,
                "{policy:?} {replication} {left} {relied_on}"
            );
        }
    }
}
