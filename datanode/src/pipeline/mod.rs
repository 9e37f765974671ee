//! `WRITE_BLOCK`: a block comes in packets, is written here, and passed on to the nodes behind.

pub(crate) mod inline;
mod mirror;
mod patience;
mod run;
mod state;

use std::sync::Arc;

use steadfs_common::StorageId;
use steadfs_datanode_store::{Block, CreateOptions, ReplicaWriter, StoreError, StoreResult};
use steadfs_wire::transfer::{OpResponse, Stage, Status, WriteBlock};

use self::mirror::Mirror;
use self::run::{Acks, Finish, PipelineError, Receiver};
use crate::connection::{Connection, LinkError};
use crate::disks::Seat;
use crate::node::Node;
use crate::transfer::{ActiveTransfer, Refusal, TransferTimeouts, check_pool, seat_at, take_seat};

/// What a request opened on this node.
enum Opened {
    /// A replica to be written.
    Writer(Arc<ReplicaWriter>),
    /// A replica that was closed by the request itself.
    Closed,
}

fn acks_of(request: &WriteBlock) -> Acks {
    match (request.client.is_empty(), request.stage.is_transfer()) {
        (true, _) => Acks::Never,
        (false, true) => Acks::AtEnd,
        (false, false) => Acks::EachPacket,
    }
}

fn finish_of(stage: Stage) -> Finish {
    if stage == Stage::TransferRbw { Finish::ConvertToRbw } else { Finish::Finalize }
}

/// Does a `WRITE_BLOCK`. The connection is over afterwards.
pub(crate) async fn serve(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    active: &ActiveTransfer,
    connection: &mut Connection,
    request: WriteBlock,
) -> Result<(), LinkError> {
    let acks = acks_of(&request);
    let opened = match open(node, &connection.seat, &request, acks).await {
        Ok(opened) => opened,
        Err(refusal) => {
            refused(node, connection, &request, &refusal.message);
            let mut answer = refusal.answer();
            // Empty: this node itself is to blame.
            answer.first_bad_link = Some(String::new());
            if acks != Acks::Never {
                connection.send(&answer.to_bytes(), timeouts.write_idle).await?;
            }
            connection.linger(timeouts.linger).await;
            return Ok(());
        }
    };
    let mirror = match Mirror::connect(&request, timeouts).await {
        Ok(mirror) => mirror,
        Err(bad) => {
            refused(node, connection, &request, &format!("downstream {}: {}", bad.name, bad.reason));
            abandon(node, &request, opened).await;
            let mut answer = OpResponse::connect_ack(bad.status, bad.name);
            answer.message = Some(bad.reason);
            return connection.send(&answer.to_bytes(), timeouts.write_idle).await;
        }
    };
    if acks == Acks::EachPacket {
        let answer = OpResponse::connect_ack(Status::Success, "");
        connection.send(&answer.to_bytes(), timeouts.write_idle).await?;
    }
    let Opened::Writer(writer) = opened else { return Ok(()) };
    let finish = finish_of(request.stage);
    let receiver = Receiver {
        node,
        timeouts,
        active,
        connection,
        mirror,
        writer: writer.clone(),
        spec: request.checksum,
        finish,
        acks,
        depth: request.targets.len(),
    };
    let result = receiver.run().await;
    release(node, writer).await;
    match result {
        Ok(()) => Ok(()),
        Err(PipelineError::Link(error)) => Err(error),
        Err(error @ (PipelineError::Violation(_) | PipelineError::Failed(_))) => {
            refused(node, connection, &request, &error.to_string());
            connection.linger(timeouts.linger).await;
            Ok(())
        }
    }
}

/// Receives a replica that this node asked `connection` for, and finalizes it. Returns when it is on its disk.
pub(crate) async fn receive(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    active: &ActiveTransfer,
    connection: &mut Connection,
    request: WriteBlock,
) -> Result<(), Refusal> {
    let Opened::Writer(writer) = open(node, &connection.seat, &request, Acks::Never).await? else {
        return Ok(());
    };
    let receiver = Receiver {
        node,
        timeouts,
        active,
        connection,
        mirror: None,
        writer: writer.clone(),
        spec: request.checksum,
        finish: Finish::Finalize,
        acks: Acks::Never,
        depth: 0,
    };
    let result = receiver.run().await;
    release(node, writer).await;
    result
        .map_err(|error| Refusal::new(Status::Error, format!("{} was not received: {error}", request.block)))
}

fn refused(node: &Node, connection: &Connection, request: &WriteBlock, reason: &str) {
    node.transfer_metrics.failures.inc();
    tracing::info!(
        block = %request.block, stage = ?request.stage, client = request.client, peer = %connection.peer, reason,
        "a block was not received"
    );
}

/// Drops a writer where blocking is allowed: a temporary replica is removed with it.
async fn release(node: &Node, writer: Arc<ReplicaWriter>) {
    node.disks.of(writer.storage()).run(move || drop(writer)).await;
}

/// Gives up what a request opened, because the pipeline cannot be set up. A new replica would only be in the way; one that
/// was there before waits for the next try.
async fn abandon(node: &Arc<Node>, request: &WriteBlock, opened: Opened) {
    let Opened::Writer(writer) = opened else { return };
    let (store, block, created) = (node.store.clone(), writer.block(), request.stage == Stage::SetupCreate);
    let disk = node.disks.of(writer.storage());
    let removed = disk.run(move || {
        let removed = if created { store.delete(block.id, block.stamp).map(drop) } else { Ok(()) };
        drop(writer);
        removed
    });
    if let Err(error) = removed.await {
        tracing::warn!(block = %block.id, %error, "a replica whose pipeline failed could not be removed");
    }
}

/// Opens the replica that a request is about.
async fn open(node: &Arc<Node>, seat: &Seat, request: &WriteBlock, acks: Acks) -> Result<Opened, Refusal> {
    check_pool(node, &request.block)?;
    check_request(request, acks)?;
    let (owned, store) = (request.clone(), node.store.clone());
    // A storage that is not one of ours is as good as none: the store chooses.
    let mut storage = storage_of(request);
    let disk = if makes_replica(request.stage) {
        let chosen = store.volume_for(request.block.length, storage)?;
        storage = Some(chosen);
        take_seat(node, seat, chosen)?
    } else {
        seat_at(node, seat, request.block.id)?
    };
    Ok(disk.run(move || open_replica(&store, &owned, storage, acks)).await?)
}

/// Whether a request makes sense at all.
fn check_request(request: &WriteBlock, acks: Acks) -> Result<(), Refusal> {
    if acks != Acks::EachPacket && !request.targets.is_empty() {
        return Err(Refusal::invalid("a copy between datanodes has no further targets"));
    }
    if acks == Acks::Never && !matches!(request.stage, Stage::SetupCreate) && !request.stage.is_transfer() {
        return Err(Refusal::invalid("a datanode only copies whole replicas"));
    }
    if matches!(request.stage, Stage::DataStreaming | Stage::Close) {
        let text = format!("{:?} does not begin a WRITE_BLOCK", request.stage);
        return Err(Refusal::invalid(text));
    }
    Ok(())
}

/// The volume that the namenode chose.
fn storage_of(request: &WriteBlock) -> Option<StorageId> {
    request.storage_id.as_deref().and_then(|id| id.parse().ok())
}

/// Whether a stage begins a replica that was not here before.
fn makes_replica(stage: Stage) -> bool {
    matches!(stage, Stage::SetupCreate | Stage::TransferRbw | Stage::TransferFinalized)
}

/// Whether a request makes this replica the only one with what will follow.
fn is_extended_alone(request: &WriteBlock) -> bool {
    let extends = matches!(
        request.stage,
        Stage::SetupAppend | Stage::SetupAppendRecovery | Stage::SetupStreamingRecovery
    );
    extends && request.targets.is_empty() && request.pipeline_size <= 1
}

/// [`open`]'s part on a disk thread.
fn open_replica(
    store: &Arc<steadfs_datanode_store::Store>,
    request: &WriteBlock,
    storage: Option<StorageId>,
    acks: Acks,
) -> StoreResult<Opened> {
    let header = &request.block;
    let create = CreateOptions {
        block: Block { id: header.id, stamp: header.stamp, len: header.length },
        storage,
        spec: request.checksum,
    };
    let old = Block { id: header.id, stamp: header.stamp, len: request.min_bytes };
    let (new, spec) = (request.latest_stamp, request.checksum);
    if is_extended_alone(request) {
        store.verify_alone(header.id, header.stamp)?;
    }
    let writer = match request.stage {
        Stage::SetupCreate if acks == Acks::EachPacket => store.create_rbw(create)?,
        Stage::SetupCreate | Stage::TransferRbw | Stage::TransferFinalized => {
            store.create_temporary(create)?
        }
        Stage::SetupAppend => store.append(old, new, spec)?,
        Stage::SetupAppendRecovery => store.recover_append(old, new, spec)?,
        Stage::SetupStreamingRecovery => {
            store.recover_rbw(old, new, request.min_bytes, request.max_bytes, spec)?
        }
        Stage::CloseRecovery => {
            store.recover_close(old, new, request.min_bytes)?;
            return Ok(Opened::Closed);
        }
        Stage::DataStreaming | Stage::Close => {
            let why = format!("{:?} does not begin a WRITE_BLOCK", request.stage);
            return Err(StoreError::Packet { block: header.id, why });
        }
    };
    Ok(Opened::Writer(Arc::new(writer)))
}
