//! What the parts of the data server share: bounds, deadlines, counts, and how failures are told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use steadfs_common::{BlockId, FsErrorKind, StorageId};
use steadfs_daemon::pool::DiskPool;
use steadfs_datanode_store::StoreError;
use steadfs_wire::transfer::{BlockRef, OpResponse, Peer, Status};

use crate::disks::Seat;
use crate::node::Node;
use crate::peers::PeerMetrics;

/// Bytes that all connections together hold of packets that are not yet written and forwarded.
const BUFFERED_BYTES: usize = 256 << 20;
/// Bounds of one connection's share of [`BUFFERED_BYTES`]: never less than what keeps it moving, never more than the
/// 80 packets that a stock client has under way.
const BUFFERED_PER_CONNECTION: std::ops::RangeInclusive<usize> = 128 << 10..=5 << 20;
/// Packets that a connection may have received and not acked.
pub(crate) const MAX_UNACKED_PACKETS: usize = 512;
/// Bytes read or sent by one job of a disk thread, so that no connection keeps a thread for long.
pub(crate) const BYTES_PER_JOB: u64 = 1 << 20;
/// Data of one packet that we make, in bytes: as much as one `sendfile` moves best.
pub(crate) const PACKET_DATA_BYTES: u64 = 64 << 10;

/// How long the data server waits for others. HDFS's figures where it has them.
#[derive(Clone, Copy, Debug)]
pub struct TransferTimeouts {
    /// For the first operation of a connection to be there as a whole.
    pub first_op: Duration,
    /// For a further operation to begin, on a connection that is kept (`dfs.datanode.socket.reuse.keepalive`).
    pub keep_alive: Duration,
    /// Without a byte from the other end where one is due (`dfs.client.socket-timeout`).
    pub read_idle: Duration,
    /// More of that for each node of a pipeline.
    pub read_idle_per_node: Duration,
    /// For the next node of a pipeline to ack anything of what this one has done already; three times that where it goes to
    /// disk first.
    pub stall: Duration,
    /// Without the other end taking a byte (`dfs.datanode.socket.write.timeout`).
    pub write_idle: Duration,
    /// To connect to another datanode.
    pub connect: Duration,
    /// For the other end to take a failure and close, before what it still sends makes the system drop it.
    pub linger: Duration,
}

impl Default for TransferTimeouts {
    fn default() -> Self {
        Self {
            first_op: Duration::from_secs(30),
            keep_alive: Duration::from_secs(4),
            read_idle: Duration::from_secs(60),
            read_idle_per_node: Duration::from_secs(5),
            stall: Duration::from_secs(10),
            write_idle: Duration::from_secs(480),
            connect: Duration::from_secs(10),
            linger: Duration::from_secs(3),
        }
    }
}

impl TransferTimeouts {
    /// How long a pipeline of `nodes` further nodes may be silent.
    pub(crate) fn pipeline_idle(&self, nodes: usize) -> Duration {
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX).saturating_add(1);
        self.read_idle.saturating_add(self.read_idle_per_node.saturating_mul(nodes))
    }
}

/// Counts of the data server, as Prometheus reads them.
#[derive(Clone, Debug, Default)]
pub struct TransferMetrics {
    /// Bytes of blocks sent to readers and other datanodes.
    pub bytes_read: Counter,
    /// Bytes of blocks received and written.
    pub bytes_written: Counter,
    /// Bytes of blocks sent to readers, by where they are.
    pub peers: PeerMetrics,
    /// How long other datanodes take to take packets.
    pub latencies: crate::latency::Latencies,
    /// Operations begun.
    pub operations: Counter,
    /// Operations that ended with an error, and connections closed for bad bytes.
    pub failures: Counter,
}

impl TransferMetrics {
    /// Makes them known to the operators' port.
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("datanode_transfer_read_bytes", "Bytes of blocks sent", &self.bytes_read),
            ("datanode_transfer_written_bytes", "Bytes of blocks received and written", &self.bytes_written),
            ("datanode_transfer_operations", "Data-transfer operations begun", &self.operations),
            ("datanode_transfer_failures", "Data-transfer operations that failed", &self.failures),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        self.peers.register(registry);
    }
}

/// One operation under way, counted as long as it lives.
pub(crate) struct ActiveTransfer(Arc<Node>);

impl ActiveTransfer {
    pub(crate) fn begin(node: &Arc<Node>) -> Self {
        node.active_transfers.fetch_add(1, Ordering::Relaxed);
        node.transfer_metrics.operations.inc();
        Self(node.clone())
    }

    /// What this operation may hold of packets that are not yet written and forwarded, in bytes.
    pub(crate) fn buffer_bytes(&self) -> usize {
        let share = BUFFERED_BYTES / (self.0.active_transfers.load(Ordering::Relaxed).max(1) as usize);
        share.clamp(*BUFFERED_PER_CONNECTION.start(), *BUFFERED_PER_CONNECTION.end())
    }
}

impl Drop for ActiveTransfer {
    fn drop(&mut self) {
        self.0.active_transfers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why an operation is not done, as it is answered.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// What kind of failure.
    pub(crate) status: Status,
    /// The sentence.
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// A request that makes no sense.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Status::ErrorInvalid, message)
    }

    pub(crate) fn answer(self) -> OpResponse {
        OpResponse::failure(self.status, self.message)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::new(status_of(&error), error.to_string())
    }
}

/// Refuses a block of another cluster's pool.
pub(crate) fn check_pool(node: &Node, block: &BlockRef) -> Result<(), Refusal> {
    match node.store.identity().cluster {
        Some(cluster) if cluster.block_pool == block.pool => Ok(()),
        Some(cluster) => Err(Refusal::new(
            Status::Error,
            format!("{block} is of another block pool; this datanode serves {}", cluster.block_pool),
        )),
        None => Err(Refusal::new(
            Status::Error,
            "this datanode has not yet registered with a namenode; try another or later",
        )),
    }
}

/// The threads of the volume where a block's replica is now, with a place there; the shared ones, if there is none.
pub(crate) fn seat_at(node: &Node, seat: &Seat, block: BlockId) -> Result<DiskPool, Refusal> {
    match node.store.status(block) {
        Some(replica) => take_seat(node, seat, replica.storage),
        None => Ok(node.disks.shared().clone()),
    }
}

/// The threads of a volume, with a place there.
pub(crate) fn take_seat(node: &Node, seat: &Seat, storage: StorageId) -> Result<DiskPool, Refusal> {
    if seat.take(&node.disks, storage) {
        return Ok(node.disks.of(storage));
    }
    let text = format!("too many connections are busy with volume {storage}; try another datanode");
    Err(Refusal::new(Status::Error, text))
}

/// The status that says what the store says.
pub(crate) fn status_of(error: &StoreError) -> Status {
    match error.kind() {
        FsErrorKind::AlreadyExists => Status::ErrorExists,
        FsErrorKind::Checksum => Status::ErrorChecksum,
        FsErrorKind::InvalidRequest => Status::ErrorInvalid,
        _ => Status::Error,
    }
}

/// This datanode, as others see it.
pub(crate) fn own_peer(node: &Node) -> Peer {
    Peer {
        uuid: node.uuid.to_string(),
        ip: node.ip.to_string(),
        host_name: node.ip.to_string(),
        data_port: node.data_port,
        ..Peer::default()
    }
}
