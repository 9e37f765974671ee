//! Block recovery, led by one datanode: all replicas of a block that its writer left behind get one stamp and one length.
//!
//! Every replica is asked what it holds, and its writer ends by that. If one is finalized, the finalized length counts; else
//! the shortest of those being written, since only what all of them have was acknowledged; else the shortest of those that
//! wait since a restart. A truncation says itself how long they shall be.
//!
//! Bytes that are known to be synced stay in any case. Where the block is known to have had more, which was flushed, the
//! replicas that have it count. If none has, because the power failed, and all who may have were heard or waited for long
//! enough, what the longest has counts: all of it was acknowledged.
//!
//! A block goes only if nothing of it can have been acknowledged: a replica of its present stamp is still being written and
//! has no byte, or every storage that may hold one was asked and none has any. Where nothing can have been synced, storages
//! that could not be asked for long enough count as asked: their disks were exchanged, or lost for good.
//!
//! Replicas that are known to be damaged count only if no other is there and everybody was asked.
//!
//! A recovery may have ended on some datanodes, or on all, without the namenode having heard of it. Then it is led again:
//! the length that it came to the first time stays.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use steadfs_common::{FsError, FsErrorKind, FsResult, GenStamp, StorageId};
use steadfs_datanode_store::{Block, RecoveryReplica, ReplicaState};
use steadfs_proto::convert::{required, storage_id};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::datanode_link_client::DatanodeLinkClient;
use steadfs_proto::steadfs::datanode_peer_client::DatanodePeerClient;
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::convert::{block, state, to_block};
use crate::link::{call, dial};
use crate::node::Node;

/// Most replicas that a recovery asks.
const MAX_REPLICAS: usize = steadfs_common::limits::MAX_REPLICATION as usize;
/// How long another datanode may take to stop a writer and tell what it has.
const INIT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long another datanode may take to cut, sync and finalize.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the namenode may take to note the result.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);

/// A datanode that has, or should have, a replica.
#[derive(Clone)]
enum Peer {
    Here(Arc<Node>),
    There(DatanodePeerClient<Channel>),
}

impl Peer {
    fn of(node: &Arc<Node>, location: &pb::Location) -> FsResult<Self> {
        let address = required("datanode", location.datanode.as_ref())?;
        if address.uuid == node.uuid.to_string() {
            return Ok(Self::Here(node.clone()));
        }
        let ip: std::net::IpAddr = address.ip.parse().map_err(|_| {
            FsError::new(
                FsErrorKind::InvalidRequest,
                format!("`{}` is not the address of a datanode", address.ip),
            )
        })?;
        let port = u16::try_from(address.ipc_port).map_err(|_| {
            FsError::new(FsErrorKind::InvalidRequest, format!("{} is not a port", address.ipc_port))
        })?;
        Ok(Self::There(DatanodePeerClient::new(dial(&std::net::SocketAddr::new(ip, port).to_string())?)))
    }

    async fn init(&self, asked: Block, recovery: GenStamp) -> FsResult<Option<RecoveryReplica>> {
        match self {
            Self::Here(node) => {
                let store = node.store.clone();
                let disk = node.disk_of(asked.id);
                let init = disk.run(move || store.init_recovery(asked, recovery));
                Ok(answered(INIT_TIMEOUT, init).await??)
            }
            Self::There(client) => {
                let request =
                    pb::InitReplicaRecoveryRequest { block: Some(to_block(asked)), new_stamp: recovery.0 };
                let answer = call(INIT_TIMEOUT, client.clone().init_replica_recovery(request)).await?;
                if !answer.found {
                    return Ok(None);
                }
                Ok(Some(RecoveryReplica {
                    block: block("block", answer.block)?,
                    state: state(answer.state)?,
                    storage: storage_id("storage_id", &answer.storage_id)?,
                    bad: answer.bad,
                }))
            }
        }
    }

    async fn update(&self, old: Block, recovery: GenStamp, len: u64) -> FsResult<StorageId> {
        match self {
            Self::Here(node) => {
                let store = node.store.clone();
                let disk = node.disk_of(old.id);
                let update = disk.run(move || store.update_replica(old, recovery, len));
                Ok(answered(UPDATE_TIMEOUT, update).await??)
            }
            Self::There(client) => {
                let request = pb::UpdateReplicaRequest {
                    old: Some(to_block(old)),
                    new_stamp: recovery.0,
                    new_length: len,
                };
                let answer = call(UPDATE_TIMEOUT, client.clone().update_replica(request)).await?;
                storage_id("storage_id", &answer.storage_id)
            }
        }
    }
}

/// What a disk of this datanode gives, if it answers in time: one that hangs is as one that is elsewhere.
async fn answered<T>(limit: Duration, work: impl Future<Output = T>) -> FsResult<T> {
    timeout(limit, work).await.map_err(|_| {
        FsError::new(FsErrorKind::Timeout, format!("the disk has not answered for {} s", limit.as_secs()))
    })
}

/// What the replicas' answers come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// No datanode has a byte of the block, and all have said so.
    Delete,
    /// These of the replicas are made `len` bytes long.
    Keep { len: u64, who: Vec<usize> },
}

/// What the datanodes said.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Replicas that hold something, each with the number of its datanode.
    replicas: Vec<(usize, RecoveryReplica)>,
    /// As `replicas`, those that are known to be damaged.
    bad: Vec<(usize, RecoveryReplica)>,
    /// Storages that may hold one and could not be asked.
    left_out: usize,
    /// Storages that were asked and did not answer.
    silent: usize,
    /// Whether a replica of the present stamp was being written and holds nothing. What is acknowledged lies on all
    /// datanodes of the pipeline, so nothing was. A replica that lost its writer to a restart may have lost bytes too, and
    /// does not count.
    untouched: bool,
}

impl Answers {
    /// Of a recovery of which the order says how many storages it left out.
    pub(crate) fn with_left_out(storages: usize) -> Self {
        Self { left_out: storages, ..Self::default() }
    }

    /// Those that the block may be made of. Damaged ones only if there is no other, and everybody was asked: whole ones on the
    /// others would be outdated for them.
    pub(crate) fn usable(&self) -> &[(usize, RecoveryReplica)] {
        if self.replicas.is_empty() && self.unheard() == 0 { &self.bad } else { &self.replicas }
    }

    fn unheard(&self) -> usize {
        self.left_out + self.silent
    }

    /// Takes what datanode number `index` said of its replica of `old`.
    ///
    /// # Errors
    /// A newer recovery is under way: this one is over.
    pub(crate) fn take(
        &mut self,
        index: usize,
        answer: FsResult<Option<RecoveryReplica>>,
        old: Block,
    ) -> FsResult<()> {
        match answer {
            Ok(Some(replica)) if replica.block.len > 0 => {
                let list = if replica.bad { &mut self.bad } else { &mut self.replicas };
                list.push((index, replica));
            }
            Ok(Some(replica)) => {
                self.untouched |= replica.state == ReplicaState::Rbw && replica.block.stamp >= old.stamp;
            }
            Ok(None) => {}
            Err(error) if error.kind() == FsErrorKind::RecoveryInProgress => return Err(error),
            // An older life of the block holds nothing that counts.
            Err(error) if error.kind() == FsErrorKind::ReplicaNotFound => {
                tracing::info!(block = %old.id, %error, "a replica takes no part in the recovery");
            }
            Err(error) => {
                tracing::warn!(block = %old.id, %error, "a datanode does not take part in the recovery");
                self.silent += 1;
            }
        }
        Ok(())
    }
}

/// What a recovery must come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// So many bytes are known to have been acknowledged: a replica that has fewer has lost some of them, and must not cut
    /// the others.
    acknowledged: u64,
    /// So many of them are known to have been on disks.
    synced: u64,
    /// Those that were not heard were waited for: what was not synced may be gone.
    waited: bool,
    /// More may be synced. All of it lies on every storage of the pipeline: one of those asked is such a one.
    unsure: bool,
    truncate_to: Option<u64>,
}

impl Bounds {
    /// Those of an order about `old`.
    pub(crate) fn of(order: &pb::Recover, old: Block) -> Self {
        // A truncation asks for less than there is.
        let acknowledged = if order.truncate_to.is_some() { 0 } else { old.len };
        let synced = order.synced.unwrap_or(old.len).min(acknowledged);
        Self {
            acknowledged,
            synced,
            waited: order.waited,
            unsure: order.unsure,
            truncate_to: order.truncate_to,
        }
    }
}

/// Decides over the answers.
pub(crate) fn decide(answers: &Answers, recovery: GenStamp, bounds: Bounds) -> Result<Decision, String> {
    let Bounds { acknowledged: least, synced, waited, unsure, truncate_to } = bounds;
    if answers.usable().is_empty() && !answers.bad.is_empty() {
        let Answers { left_out, silent, .. } = answers;
        return Err(format!(
            "only damaged replicas were found; of the storages that may hold a whole one {left_out} cannot be asked and {silent} \
             did not answer"
        ));
    }
    let having = |least: u64| -> Vec<_> {
        answers.usable().iter().filter(|(_, replica)| replica.block.len >= least).copied().collect()
    };
    let replicas = having(least);
    if replicas.is_empty() {
        let unheard = answers.unheard();
        let gone = answers.untouched && least == 0 || waited && answers.silent == 0;
        // One that did not answer may hold the only bytes there are; what is truncated holds some for certain.
        let nothing = answers.usable().is_empty() && (gone || unheard == 0);
        if nothing && synced == 0 && truncate_to.is_none() {
            return Ok(Decision::Delete);
        }
        let enough = unheard == 0 || waited && (!unsure || answers.silent == 0);
        let left = if enough { having(synced) } else { Vec::new() };
        return longest(&left, recovery).ok_or_else(|| {
            let Answers { left_out, silent, .. } = answers;
            let or_more = if unsure { " or more" } else { "" };
            format!(
                "no replica with at least {least} bytes ({synced}{or_more} of them synced) was found; of the storages that may \
                 hold one {left_out} cannot be asked and {silent} did not answer"
            )
        });
    }
    let replicas = &replicas[..];
    let all = || replicas.iter().map(|(index, replica)| (*index, replica.state, replica.block.len));
    let done = replicas.iter().find(|(_, replica)| is_done(replica, recovery));
    if let Some(len) = truncate_to.or(done.map(|(_, replica)| replica.block.len)) {
        return cut(replicas, recovery, len, truncate_to.is_some());
    }
    let of = |wanted| all().filter(move |(_, state, _)| *state == wanted);
    let finalized = of(ReplicaState::Finalized).map(|(_, _, len)| len).next();
    let (len, who): (u64, Vec<_>) = if let Some(len) = finalized {
        if of(ReplicaState::Finalized).any(|(_, _, other)| other != len) {
            return Err("finalized replicas differ in length".into());
        }
        let joins =
            |state, other| state == ReplicaState::Finalized || (state == ReplicaState::Rbw && other == len);
        (len, all().filter(|(_, state, other)| joins(*state, *other)).collect())
    } else {
        let best = if of(ReplicaState::Rbw).next().is_some() { ReplicaState::Rbw } else { ReplicaState::Rwr };
        (of(best).map(|(_, _, len)| len).min().unwrap_or(0), of(best).collect())
    };
    Ok(Decision::Keep { len, who: who.into_iter().map(|(index, _, _)| index).collect() })
}

/// Whether this recovery came to its end at a replica. One that has its stamp and is not final was on its way there.
fn is_done(replica: &RecoveryReplica, recovery: GenStamp) -> bool {
    replica.block.stamp == recovery && replica.state == ReplicaState::Finalized
}

/// Every replica has lost bytes that were flushed: the one that lost the fewest counts. What this recovery came to before
/// stays.
fn longest(replicas: &[(usize, RecoveryReplica)], recovery: GenStamp) -> Option<Decision> {
    let done = replicas.iter().find(|(_, replica)| is_done(replica, recovery));
    let most = replicas.iter().max_by_key(|(_, replica)| replica.block.len);
    let len = done.or(most)?.1.block.len;
    let has = |replica: &&(usize, RecoveryReplica)| replica.1.block.len == len;
    Some(Decision::Keep { len, who: replicas.iter().filter(has).map(|(index, _)| *index).collect() })
}

/// The length is known. Replicas of the best state there is are cut to it, and those where that is done count.
fn cut(
    replicas: &[(usize, RecoveryReplica)],
    recovery: GenStamp,
    len: u64,
    truncated: bool,
) -> Result<Decision, String> {
    let done = |replica: &RecoveryReplica| is_done(replica, recovery) && replica.block.len == len;
    let fits = |replica: &RecoveryReplica| match replica.state {
        // Of a block that was not truncated, a finalized replica of another length is not what the recovery was about.
        ReplicaState::Finalized => replica.block.len == len || truncated && replica.block.len > len,
        _ => replica.block.len >= len,
    };
    let open = || replicas.iter().filter(|(_, replica)| !done(replica) && fits(replica));
    let best = [ReplicaState::Finalized, ReplicaState::Rbw, ReplicaState::Rwr]
        .into_iter()
        .find(|state| open().any(|(_, replica)| replica.state == *state));
    let who: Vec<usize> = replicas
        .iter()
        .filter(|(_, replica)| done(replica) || fits(replica) && Some(replica.state) == best)
        .map(|(index, _)| *index)
        .collect();
    if who.is_empty() {
        return Err(format!("no replica has {len} bytes"));
    }
    Ok(Decision::Keep { len, who })
}

/// Recovers a block and tells the namenode. Repeating it is harmless.
///
/// # Errors
/// Nothing could be decided or done; the namenode will ask again.
pub(crate) async fn recover(
    node: &Arc<Node>,
    mut namenode: DatanodeLinkClient<Channel>,
    command: pb::Recover,
) -> FsResult<()> {
    let old = block("block", command.block)?;
    let recovery = GenStamp(command.new_stamp);
    let peers = command
        .locations
        .iter()
        .take(MAX_REPLICAS)
        .map(|location| Peer::of(node, location))
        .collect::<FsResult<Vec<_>>>()?;
    let answers = ask_all(&peers, old, recovery, command.left_out as usize).await?;
    let refused = |why| FsError::new(FsErrorKind::Retriable, format!("{}: {why}", old.id));
    let decision = decide(&answers, recovery, Bounds::of(&command, old)).map_err(refused)?;
    let (len, storage_ids) = match &decision {
        Decision::Delete => (0, Vec::new()),
        Decision::Keep { len, who } => {
            (*len, update_all(&peers, answers.usable(), who, old, recovery, *len).await?)
        }
    };
    let request = pb::CommitBlockSynchronizationRequest {
        block: Some(to_block(old)),
        new_stamp: recovery.0,
        new_length: len,
        close_file: true,
        delete_block: decision == Decision::Delete,
        storage_ids,
    };
    call(COMMIT_TIMEOUT, namenode.commit_block_synchronization(request)).await?;
    tracing::info!(block = %old.id, stamp = %recovery, len, ?decision, "recovered");
    Ok(())
}

/// Asks all replicas at once.
async fn ask_all(peers: &[Peer], old: Block, recovery: GenStamp, left_out: usize) -> FsResult<Answers> {
    let heard = join_all(peers.iter().map(|peer| peer.init(old, recovery))).await;
    let mut answers = Answers::with_left_out(left_out);
    for (index, answer) in heard.into_iter().enumerate() {
        answers.take(index, answer, old)?;
    }
    Ok(answers)
}

/// Makes the chosen replicas alike; gives the storages of those where it worked.
async fn update_all(
    peers: &[Peer],
    replicas: &[(usize, RecoveryReplica)],
    who: &[usize],
    old: Block,
    recovery: GenStamp,
    len: u64,
) -> FsResult<Vec<String>> {
    let chosen = replicas.iter().filter(|(index, _)| who.contains(index));
    let updates = chosen.map(|(index, replica)| peers[*index].update(replica.block, recovery, len));
    let mut storages = Vec::new();
    let mut last = None;
    for updated in join_all(updates).await {
        match updated {
            Ok(storage) => storages.push(storage.to_string()),
            Err(error) => {
                tracing::warn!(block = %old.id, %error, "a replica could not be recovered");
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) if storages.is_empty() => Err(error),
        _ => Ok(storages),
    }
}

#[cfg(test)]
mod tests;
