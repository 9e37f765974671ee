//! The next node of a pipeline.

use steadfs_wire::transfer::{Op, OpResponse, Status, WriteBlock};
use tokio::time::Instant;

use crate::connection::{Connection, LinkError, OutQueue};
use crate::transfer::TransferTimeouts;

/// The connection to the next node.
pub(super) struct Mirror {
    pub(super) connection: Connection,
    /// Packets on their way to it.
    pub(super) out: OutQueue,
    /// `ip:port`, as the client knows it.
    pub(super) name: String,
    /// Its uuid, as the client knows it.
    pub(super) uuid: String,
}

/// Why the rest of a pipeline cannot be set up.
#[derive(Debug)]
pub(super) struct BadLink {
    /// `ip:port` of the node to blame.
    pub(super) name: String,
    /// What to answer.
    pub(super) status: Status,
    /// For the log.
    pub(super) reason: String,
}

impl Mirror {
    /// Connects to the next node of `request`'s pipeline and waits for the ack of all behind it. `None` at the end of the
    /// pipeline.
    pub(super) async fn connect(
        request: &WriteBlock,
        timeouts: &TransferTimeouts,
    ) -> Result<Option<Self>, BadLink> {
        let Some((next, request)) = request.for_next() else { return Ok(None) };
        let (name, uuid) = (next.name(), next.uuid.clone());
        let blame = |status, reason: String| BadLink { name: name.clone(), status, reason };
        let Some(address) = next.address() else {
            return Err(blame(Status::Error, format!("`{}` is not an address", next.ip)));
        };
        let ask = async {
            let mut connection = Connection::open(address, timeouts.connect).await?;
            let nodes = request.targets.len();
            connection.send(&Op::Write(Box::new(request)).encode(), timeouts.write_idle).await?;
            let deadline = Instant::now() + timeouts.pipeline_idle(nodes);
            let answer = connection.receive(deadline, OpResponse::decode).await?;
            Ok::<_, LinkError>((connection, answer))
        };
        let (connection, answer) = ask.await.map_err(|error| blame(Status::Error, error.to_string()))?;
        if answer.status == Status::Success {
            return Ok(Some(Self { connection, out: OutQueue::default(), name, uuid }));
        }
        let reason = answer.message.unwrap_or_else(|| format!("it answered {:?}", answer.status));
        match answer.first_bad_link.filter(|link| !link.is_empty()) {
            Some(name) => Err(BadLink { name, status: answer.status, reason }),
            None => Err(blame(answer.status, reason)),
        }
    }
}
