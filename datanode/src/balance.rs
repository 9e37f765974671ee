//! `COPY_BLOCK` and `REPLACE_BLOCK`: how a balancer moves replicas between datanodes.
//!
//! A balancer tells the datanode that shall have a replica (`REPLACE_BLOCK`) where to fetch it and which datanode may give
//! its own up. This one asks a third, or that same one, for the bytes (`COPY_BLOCK`), and tells the namenode of the move
//! with the new replica: so there is never one less than before. Moves have a bandwidth of their own, so that they do not
//! hinder readers and writers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use steadfs_common::{BlockId, DatanodeUuid};
use steadfs_datanode_store::ReplicaState;
use steadfs_wire::transfer::{
    BlockRef, CopyBlock, Op, OpResponse, ReadBlock, ReplaceBlock, Stage, Status, WriteBlock,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use crate::connection::{Connection, LinkError};
use crate::disks::Seat;
use crate::node::Node;
use crate::transfer::{ActiveTransfer, Refusal, TransferTimeouts, check_pool};
use crate::{pipeline, read};

/// Moves at a time, each way (`dfs.datanode.balance.max.concurrent.moves`).
const MAX_MOVES: usize = 100;
/// Moves that are remembered until the namenode was told.
const MAX_REMEMBERED: usize = 10_000;
/// How often a balancer hears that its move goes on.
const STILL_GOING: Duration = Duration::from_secs(10);
/// What follows a copy: the sender has let go of it. Java's `writeChar('d')`.
const LET_GO: [u8; 2] = [0, b'd'];

/// Moves that this datanode takes part in.
pub struct Moves {
    places: Semaphore,
    /// Which datanode may give up its replica of a block that is coming here.
    instead_of: Mutex<BTreeMap<BlockId, DatanodeUuid>>,
    /// When the bandwidth is free again.
    free_at: Mutex<Option<Instant>>,
}

impl Default for Moves {
    fn default() -> Self {
        Self { places: Semaphore::new(MAX_MOVES), instead_of: Mutex::default(), free_at: Mutex::default() }
    }
}

impl Moves {
    /// Which datanode may give up its replica of a block, now that it is here.
    pub(crate) fn instead_of(&self, block: BlockId) -> Option<DatanodeUuid> {
        self.instead_of.lock().get(&block).copied()
    }

    /// The namenode was told.
    pub(crate) fn told(&self, block: BlockId) {
        self.instead_of.lock().remove(&block);
    }

    fn remember(&self, block: BlockId, instead_of: &str) {
        let Ok(uuid) = instead_of.parse() else { return };
        let mut known = self.instead_of.lock();
        if known.len() < MAX_REMEMBERED {
            known.insert(block, uuid);
        }
    }

    /// Waits until so many bytes may be moved at `bytes_per_second`.
    pub(crate) async fn pace(&self, bytes: u64, bytes_per_second: u64) {
        let until = {
            let mut free_at = self.free_at.lock();
            let begin = free_at.map_or_else(Instant::now, |at| at.max(Instant::now()));
            let takes = Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64);
            *free_at = Some(begin + takes);
            begin
        };
        sleep_until(until).await;
    }

    fn begin(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.places.try_acquire().map_err(|_| {
            Refusal::new(Status::Error, format!("this datanode moves {MAX_MOVES} replicas already"))
        })
    }
}

/// Does a `COPY_BLOCK`. The connection is over afterwards.
pub(crate) async fn copy(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    connection: &mut Connection,
    request: CopyBlock,
) -> Result<(), LinkError> {
    let begun = check_pool(node, &request.block).and_then(|()| node.moves.begin());
    let whole = begun.and_then(|place| Ok((place, whole_of(node, request)?)));
    let (_place, whole) = match whole {
        Ok(begun) => begun,
        Err(refusal) => {
            node.transfer_metrics.failures.inc();
            tracing::info!(peer = %connection.peer, reason = refusal.message, "a replica was not copied");
            return connection.send(&refusal.answer().to_bytes(), timeouts.write_idle).await;
        }
    };
    if read::send(node, timeouts, connection, &whole, read::Pace::Move).await? {
        connection.send(&LET_GO, timeouts.write_idle).await?;
    }
    Ok(())
}

/// The request to read all of a finalized replica.
fn whole_of(node: &Node, request: CopyBlock) -> Result<ReadBlock, Refusal> {
    let CopyBlock { block, token } = request;
    let length = match node.store.status(block.id) {
        Some(replica) if replica.block.stamp == block.stamp && replica.state == ReplicaState::Finalized => {
            replica.block.len
        }
        _ => return Err(Refusal::new(Status::Error, format!("{block} is not finalized here"))),
    };
    Ok(ReadBlock { block, token, client: String::new(), offset: 0, length, checksums: true })
}

/// Does a `REPLACE_BLOCK`: the last answer is sent, others that say "not yet" went before it.
pub(crate) async fn replace(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    active: &ActiveTransfer,
    connection: &mut Connection,
    request: ReplaceBlock,
) -> Result<(), LinkError> {
    let block = request.block.clone();
    let answer = {
        let mut work = std::pin::pin!(take_over(node, timeouts, active, &connection.seat, request));
        loop {
            match tokio::time::timeout(STILL_GOING, &mut work).await {
                Ok(Ok(())) => break OpResponse::new(Status::Success),
                Ok(Err(refusal)) => break refusal.answer(),
                Err(_) => {
                    let going = OpResponse::new(Status::InProgress).to_bytes();
                    connection.send(&going, timeouts.write_idle).await?;
                }
            }
        }
    };
    if answer.status != Status::Success {
        node.transfer_metrics.failures.inc();
        node.moves.told(block.id);
        let reason = answer.message.as_deref().unwrap_or_default();
        tracing::info!(%block, peer = %connection.peer, reason, "a replica was not moved here");
    }
    connection.send(&answer.to_bytes(), timeouts.write_idle).await
}

async fn take_over(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    active: &ActiveTransfer,
    seat: &Arc<Seat>,
    request: ReplaceBlock,
) -> Result<(), Refusal> {
    check_pool(node, &request.block)?;
    let _place = node.moves.begin()?;
    if request.source.uuid == node.uuid.to_string() {
        let text = "a replica is not moved between the volumes of one datanode";
        return Err(Refusal::new(Status::ErrorUnsupported, text));
    }
    let failed = |error: LinkError| {
        Refusal::new(
            Status::Error,
            format!("{} was not fetched from {}: {error}", request.block, request.source.name()),
        )
    };
    let Some(address) = request.source.address() else {
        return Err(Refusal::invalid(format!("`{}` is not an address", request.source.ip)));
    };
    let mut source = Connection::open(address, timeouts.connect).await.map_err(failed)?;
    // Whoever asked for the move is let go when the volume that takes it is given up.
    source.seat = seat.clone();
    let copy = CopyBlock { block: request.block.clone(), token: request.token.clone() };
    let asked = Op::Copy(Box::new(copy)).encode();
    source.send(&asked, timeouts.write_idle).await.map_err(failed)?;
    let deadline = Instant::now() + timeouts.read_idle;
    let answer = source.receive(deadline, OpResponse::decode).await.map_err(failed)?;
    let spec = match (answer.status, answer.read_checksum) {
        (Status::Success, Some(checksum)) => checksum.spec,
        (status, _) => {
            let reason = answer.message.unwrap_or_else(|| format!("it answered {status:?}"));
            let text = format!("{} was not fetched from {}: {reason}", request.block, request.source.name());
            return Err(Refusal::new(Status::Error, text));
        }
    };
    node.moves.remember(request.block.id, &request.instead_of);
    let write = as_write(&request, spec);
    pipeline::receive(node, timeouts, active, &mut source, write).await
}

/// The move as a copy between datanodes, which nobody acks.
fn as_write(request: &ReplaceBlock, checksum: steadfs_common::ChecksumSpec) -> WriteBlock {
    let BlockRef { length, stamp, .. } = request.block;
    WriteBlock {
        block: request.block.clone(),
        token: request.token.clone(),
        client: String::new(),
        targets: Vec::new(),
        source: Some(request.source.clone()),
        stage: Stage::SetupCreate,
        pipeline_size: 1,
        min_bytes: 0,
        max_bytes: length,
        latest_stamp: stamp,
        checksum,
        storage_id: request.storage_id.clone(),
        storage_type: request.storage_type,
        target_storage_ids: Vec::new(),
        target_storage_types: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn moves_share_a_bandwidth() {
        let moves = Moves::default();
        let begun = Instant::now();
        for _ in 0..4 {
            moves.pace(1 << 20, 1 << 20).await;
        }
        // The first needs not wait, each other waits for the one before it.
        assert_eq!(begun.elapsed().as_secs(), 3);
    }

    #[test]
    fn moves_are_remembered_until_they_were_told() {
        let moves = Moves::default();
        let uuid = "00000000-0000-0000-0000-000000000007";
        moves.remember(BlockId(1), uuid);
        moves.remember(BlockId(2), "no uuid");
        assert_eq!(moves.instead_of(BlockId(1)), uuid.parse().ok());
        assert_eq!(moves.instead_of(BlockId(2)), None);
        moves.told(BlockId(1));
        assert_eq!(moves.instead_of(BlockId(1)), None);
    }
}
