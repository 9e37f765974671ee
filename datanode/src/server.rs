//! The data-transfer port: connections, operations, and their bounds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use steadfs_daemon::shutdown::Shutdown;
use steadfs_wire::transfer::{Op, OpCode, OpResponse, Status, decode_op};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use crate::connection::{Connection, LinkError};
use crate::node::Node;
use crate::transfer::{ActiveTransfer, TransferTimeouts};
use crate::{balance, checksum, pipeline, read, send};

/// How long to wait after the operating system had no connection to give, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the data-transfer port until the end is told. Connections past the configured number are closed at once.
pub async fn serve(listener: TcpListener, node: Arc<Node>, timeouts: TransferTimeouts, shutdown: Shutdown) {
    let room = Arc::new(Semaphore::new(node.config.max_transfer_connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.triggered() => return,
        };
        match accepted {
            Ok((stream, peer)) => match room.clone().try_acquire_owned() {
                Ok(place) => {
                    let (node, ended) = (node.clone(), shutdown.clone());
                    shutdown.spawn(async move {
                        tokio::select! {
                            () = handle(node, timeouts, stream, peer, place) => {}
                            () = ended.triggered() => {}
                        }
                    });
                }
                Err(_) => {
                    node.transfer_metrics.failures.inc();
                    let limit = node.config.max_transfer_connections;
                    tracing::warn!(%peer, limit, "too many data-transfer connections: one was closed");
                }
            },
            Err(error) => {
                tracing::warn!(%error, "no data-transfer connection could be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, from its first byte to its last. Its end is logged once.
async fn handle(
    node: Arc<Node>,
    timeouts: TransferTimeouts,
    stream: TcpStream,
    peer: SocketAddr,
    _place: OwnedSemaphorePermit,
) {
    let result = match Connection::new(stream) {
        Ok(mut connection) => {
            let seat = connection.seat.clone();
            tokio::select! {
                result = operations(&node, &timeouts, &mut connection) => result,
                // What waits on a disk thread for a disk that does not answer would keep the connection for ever.
                storage = seat.given_up() => Err(LinkError::GivenUp(storage)),
            }
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => {}
        Err(error) if error.is_departure() => {
            tracing::debug!(%peer, %error, "data-transfer connection ended")
        }
        Err(error) => {
            node.transfer_metrics.failures.inc();
            tracing::info!(%peer, %error, "data-transfer connection closed");
        }
    }
}

/// Does one operation after the other.
async fn operations(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    connection: &mut Connection,
) -> Result<(), LinkError> {
    let mut op = connection.receive(Instant::now() + timeouts.first_op, decode_op).await?;
    while operation(node, timeouts, connection, op).await? {
        connection.seat.leave();
        let deadline = Instant::now() + timeouts.keep_alive;
        op = match connection.receive(deadline, decode_op).await {
            Ok(op) => op,
            // Nobody wanted anything more.
            Err(LinkError::Idle(_)) if connection.buffer.is_empty() => return Ok(()),
            // It has just begun.
            Err(LinkError::Idle(_)) => {
                connection.receive(Instant::now() + timeouts.first_op, decode_op).await?
            }
            Err(error) => return Err(error),
        };
    }
    Ok(())
}

/// Does one operation. True if the connection can be used for another.
async fn operation(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    connection: &mut Connection,
    op: Op,
) -> Result<bool, LinkError> {
    let active = ActiveTransfer::begin(node);
    tracing::debug!(peer = %connection.peer, op = op.code().name(), "data-transfer operation");
    let (answer, again) = match op {
        Op::Write(request) => {
            pipeline::serve(node, timeouts, &active, connection, *request).await?;
            return Ok(false);
        }
        Op::Read(request) => return read::serve(node, timeouts, connection, *request).await,
        Op::Transfer(request) => (send::transfer(node, timeouts, &connection.seat, *request).await, false),
        Op::Checksum(request) => (checksum::answer(node, &connection.seat, *request).await, true),
        Op::Copy(request) => {
            balance::copy(node, timeouts, connection, *request).await?;
            return Ok(false);
        }
        Op::Replace(request) => {
            balance::replace(node, timeouts, &active, connection, *request).await?;
            return Ok(false);
        }
        Op::Other(code, _) => (unsupported(code), false),
    };
    if answer.status != Status::Success {
        node.transfer_metrics.failures.inc();
        let reason = answer.message.as_deref().unwrap_or_default();
        tracing::info!(peer = %connection.peer, reason, "a data-transfer operation failed");
    }
    connection.send(&answer.to_bytes(), timeouts.write_idle).await?;
    Ok(again)
}

fn unsupported(code: OpCode) -> OpResponse {
    OpResponse::failure(Status::ErrorUnsupported, format!("this datanode does not do {}", code.name()))
}
