//! Being a sender: a replica of this node goes to another datanode, for replication and for `TRANSFER_BLOCK`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use steadfs_common::{BlockId, BlockPoolId, FsError, FsErrorKind, FsResult, GenStamp};
use steadfs_datanode_store::{Block, ReplicaReader, StoreResult};
use steadfs_proto::steadfs::Location;
use steadfs_wire::transfer::{
    BlockRef, Op, OpResponse, Packet, PacketHeader, Peer, Stage, Status, Token, TransferBlock, WriteBlock,
};
use tokio::time::{Instant, sleep_until, timeout};

use crate::connection::{Connection, Expect, LinkError, OutQueue};
use crate::disks::Seat;
use crate::node::Node;
use crate::ranges::{check, read_exact_checksums};
use crate::transfer::{
    ActiveTransfer, BYTES_PER_JOB, PACKET_DATA_BYTES, Refusal, TransferTimeouts, check_pool, own_peer,
    seat_at,
};

/// Hadoop's number of the storage type DISK; the storage's id says the rest.
const STORAGE_TYPE_DISK: i32 = 1;

/// How fast a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it can.
    Free,
    /// With at most so many bytes a second.
    Bound(u64),
    /// With what all moves for the sake of balance have together.
    Moves,
}

/// Where a copy goes, and under whose name.
struct Destination {
    target: Peer,
    storage_id: Option<String>,
    storage_type: i32,
    client: String,
    token: Token,
    stage: Stage,
}

/// Copies the finalized replica `block` to each of `targets`, one after the other; what is not finalized is refused. All
/// are tried. Returns when every target has its copy on disk. `seat` tells when the volume that it reads from is given up.
///
/// # Errors
/// What failed, with the targets' addresses.
pub(crate) async fn send_replica(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    seat: &Seat,
    block: Block,
    targets: &[Location],
    pace: Pace,
) -> FsResult<()> {
    let _active = ActiveTransfer::begin(node);
    let Some(cluster) = node.store.identity().cluster else {
        return Err(FsError::new(FsErrorKind::NotRegistered, "this datanode belongs to no cluster yet"));
    };
    let (store, id, stamp) = (node.store.clone(), block.id, block.stamp);
    let disk = seat_at(node, seat, id).map_err(|refusal| FsError::new(FsErrorKind::Io, refusal.message))?;
    let open = disk.run(move || store.open_for_read(id, stamp));
    let reader = Arc::new(answered(timeouts, id, open).await??);
    if !reader.is_finalized() || reader.block().stamp != block.stamp {
        let text = format!("{}_{} is not finalized here: it cannot be copied", block.id, block.stamp);
        return Err(FsError::new(FsErrorKind::ReplicaNotFound, text));
    }
    let mut failures = Vec::new();
    for target in targets {
        let destination = Destination {
            target: peer_of(target),
            storage_id: Some(target.storage_id.clone()).filter(|id| !id.is_empty()),
            storage_type: STORAGE_TYPE_DISK,
            // Not empty: the receiver then answers when the copy is on its disk.
            client: format!("steadfs-datanode-{}", node.uuid),
            token: Token::default(),
            stage: Stage::TransferFinalized,
        };
        let name = destination.target.name();
        if let Err(error) = copy(node, timeouts, &reader, cluster.block_pool.clone(), destination, pace).await
        {
            failures.push((name, error));
        }
    }
    match failures.first() {
        None => Ok(()),
        Some((_, error)) => {
            let texts: Vec<_> = failures.iter().map(|(name, error)| format!("{name}: {error}")).collect();
            Err(FsError::new(error.kind(), format!("{} was not copied to {}", block.id, texts.join("; "))))
        }
    }
}

/// What a disk gives, if it answers in time: a worker is not kept by a disk that hangs.
async fn answered<T>(
    timeouts: &TransferTimeouts,
    block: BlockId,
    work: impl Future<Output = T>,
) -> FsResult<T> {
    timeout(timeouts.read_idle, work).await.map_err(|_| {
        let text = format!("the disk with {block} has not answered for {} s", timeouts.read_idle.as_secs());
        FsError::new(FsErrorKind::Timeout, text)
    })
}

fn peer_of(location: &Location) -> Peer {
    let address = location.datanode.clone().unwrap_or_default();
    let port = |port: u32| u16::try_from(port).unwrap_or(0);
    Peer {
        uuid: address.uuid,
        ip: address.ip,
        host_name: address.host_name,
        data_port: port(address.data_port),
        ipc_port: port(address.ipc_port),
        http_port: port(address.http_port),
        rack: location.rack.clone(),
    }
}

/// The answer to a `TRANSFER_BLOCK`, once the copies are made.
pub(crate) async fn transfer(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    seat: &Seat,
    request: TransferBlock,
) -> OpResponse {
    match try_transfer(node, timeouts, seat, request).await {
        Ok(()) => OpResponse::new(Status::Success),
        Err(refusal) => refusal.answer(),
    }
}

async fn try_transfer(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    seat: &Seat,
    request: TransferBlock,
) -> Result<(), Refusal> {
    check_pool(node, &request.block)?;
    if request.targets.is_empty() {
        return Err(Refusal::invalid("TRANSFER_BLOCK names no target"));
    }
    let (store, id, stamp) = (node.store.clone(), request.block.id, request.block.stamp);
    let disk = seat_at(node, seat, id)?;
    let reader = Arc::new(disk.run(move || store.open_for_read(id, stamp)).await?);
    if reader.block().len < request.block.length {
        let text = format!(
            "the replica of {} has {} bytes that readers may see, fewer than the {} to be copied",
            request.block,
            reader.block().len,
            request.block.length
        );
        return Err(Refusal::new(Status::Error, text));
    }
    let stage = if reader.is_finalized() { Stage::TransferFinalized } else { Stage::TransferRbw };
    for (index, target) in request.targets.iter().enumerate() {
        let destination = Destination {
            target: target.clone(),
            storage_id: request.target_storage_ids.get(index).cloned(),
            storage_type: request.target_storage_types.get(index).copied().unwrap_or(STORAGE_TYPE_DISK),
            client: request.client.clone(),
            token: request.token.clone(),
            stage,
        };
        let copied = copy(node, timeouts, &reader, request.block.pool.clone(), destination, Pace::Free).await;
        copied.map_err(|error| Refusal::new(Status::Error, format!("{}: {error}", target.name())))?;
    }
    Ok(())
}

/// Copies what readers may see of a replica.
async fn copy(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    reader: &Arc<ReplicaReader>,
    pool: BlockPoolId,
    destination: Destination,
    pace: Pace,
) -> FsResult<()> {
    let address = destination
        .target
        .address()
        .ok_or_else(|| FsError::invalid_argument(format!("`{}` is not an address", destination.target.ip)))?;
    let mut connection = Connection::open(address, timeouts.connect).await?;
    let block = reader.block();
    let request = write_request(node, reader, pool, destination);
    let opening = Op::Write(Box::new(request)).encode();
    connection.send(&opening, timeouts.write_idle).await?;
    let sent = send_packets(node, timeouts, &mut connection, reader, pace).await;
    if let Err(SendError::Disk(error)) = sent {
        return Err(error);
    }
    // A receiver that refuses answers before it has everything, and our writing then fails: its answer says why.
    let deadline = Instant::now() + timeouts.write_idle;
    match connection.receive(deadline, OpResponse::decode).await {
        Ok(answer) if answer.status == Status::Success => {
            node.transfer_metrics.bytes_read.inc_by(block.len);
            Ok(())
        }
        Ok(answer) => {
            let reason = answer.message.unwrap_or_else(|| format!("it answered {:?}", answer.status));
            Err(FsError::new(FsErrorKind::Io, reason))
        }
        Err(error) => Err(if let Err(SendError::Link(first)) = sent { first.into() } else { error.into() }),
    }
}

impl From<LinkError> for FsError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Idle(_) | LinkError::GivenUp(_) => Self::new(FsErrorKind::Timeout, error.to_string()),
            LinkError::Closed { .. } => Self::new(FsErrorKind::Unreachable, error.to_string()),
            LinkError::Io(error) => error.into(),
            LinkError::Protocol(_) => Self::new(FsErrorKind::InvalidRequest, error.to_string()),
        }
    }
}

fn write_request(
    node: &Node,
    reader: &ReplicaReader,
    pool: BlockPoolId,
    destination: Destination,
) -> WriteBlock {
    let block = reader.block();
    WriteBlock {
        block: BlockRef { pool, id: block.id, stamp: block.stamp, length: block.len },
        token: destination.token,
        client: destination.client,
        targets: Vec::new(),
        source: Some(own_peer(node)),
        stage: destination.stage,
        pipeline_size: 1,
        min_bytes: 0,
        max_bytes: 0,
        latest_stamp: GenStamp(0),
        checksum: reader.spec(),
        storage_id: destination.storage_id,
        storage_type: destination.storage_type,
        target_storage_ids: Vec::new(),
        target_storage_types: Vec::new(),
    }
}

enum SendError {
    Link(LinkError),
    Disk(FsError),
}

/// Sends the replica and the packet that ends it, or less if the receiver answers before. Everything is compared with its
/// checksums on the way.
async fn send_packets(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    connection: &mut Connection,
    reader: &Arc<ReplicaReader>,
    pace: Pace,
) -> Result<(), SendError> {
    let (len, mut offset, mut seqno) = (reader.block().len, 0, 0);
    let begun = Instant::now();
    let disk = node.disks.of(reader.storage());
    while offset < len {
        let source = reader.clone();
        let read = disk.run(move || read_step(&source, offset, len, seqno));
        let read = answered(timeouts, reader.block().id, read).await.map_err(SendError::Disk)?;
        let step = read.map_err(|error| SendError::Disk(error.into()))?;
        if pace == Pace::Moves {
            node.moves.pace(step.offset.saturating_sub(offset), node.admin.balancer_bandwidth()).await;
        }
        (offset, seqno) = (step.offset, step.seqno);
        let mut out = OutQueue::default();
        step.frames.into_iter().for_each(|frame| out.push(frame));
        connection.send_queue(&mut out, timeouts.write_idle).await.map_err(SendError::Link)?;
        match connection.try_fill(Expect::Small) {
            // An early answer is a refusal: the caller reads it.
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(SendError::Link(error.into())),
        }
        // After what was sent: small replicas, one after the other, go no faster than a large one.
        if let Pace::Bound(bytes_per_second) = pace {
            sleep_until(begun + takes(offset, bytes_per_second)).await;
        }
    }
    let last = PacketHeader { offset: len, seqno, last: true, data_len: 0, sync: false };
    connection.send(last.head(0).as_slice(), timeouts.write_idle).await.map_err(SendError::Link)
}

fn takes(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64)
}

/// Packets that were read, and what follows them.
struct Step {
    frames: Vec<Bytes>,
    offset: u64,
    seqno: i64,
}

/// Reads some packets on a disk thread.
fn read_step(reader: &ReplicaReader, start: u64, len: u64, first_seqno: i64) -> StoreResult<Step> {
    let chunk = u64::from(reader.spec().bytes_per_checksum);
    let size = (PACKET_DATA_BYTES / chunk).max(1) * chunk;
    let stop = len.min(start + BYTES_PER_JOB);
    let mut step = Step { frames: Vec::new(), offset: start, seqno: first_seqno };
    let (mut data, mut sums) = (Vec::new(), Vec::new());
    while step.offset < stop {
        let end = len.min(step.offset + size);
        data.resize((end - step.offset) as usize, 0);
        reader.read_data(step.offset, &mut data)?;
        sums.clear();
        read_exact_checksums(reader, step.offset, end, &mut sums)?;
        check(reader, step.offset, &data, &sums)?;
        let header =
            PacketHeader { offset: step.offset, seqno: step.seqno, last: false, data_len: 0, sync: false };
        step.frames.push(Packet::build(header, &sums, &data).frame().clone());
        step.offset = end;
        step.seqno += 1;
    }
    Ok(step)
}
