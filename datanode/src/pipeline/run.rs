//! Carries out what [`PipelineState`] says: one task owns the block. It reads, forwards, takes acks and gives acks
//! without waiting for any of them alone, while one job at a time writes on a disk thread what has come meanwhile.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use steadfs_common::ChecksumSpec;
use steadfs_datanode_store::{ReplicaWriter, StoreResult};
use steadfs_wire::transfer::{OpResponse, PipelineAck, Status, TransferError};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::mirror::Mirror;
use super::patience::Patience;
use super::state::{Batch, PipelineState, Violation, Written};
use crate::connection::{Connection, Expect, LinkError, OutQueue};
use crate::latency::Probe;
use crate::node::Node;
use crate::transfer::{ActiveTransfer, TransferTimeouts, status_of};

/// What becomes of the replica when the last packet came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finish {
    /// It is finalized.
    Finalize,
    /// It goes on being written, by a pipeline to come.
    ConvertToRbw,
}

/// Who wants to hear what of the packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Acks {
    /// An ack a packet: a client, or the node before this one.
    EachPacket,
    /// One answer at the end: a datanode that copies for a client.
    AtEnd,
    /// Nobody: a datanode that replicates.
    Never,
}

/// Why a writer was sent away.
const EVICTED: &str = "an operator asks all writers to leave this datanode";

/// Why a pipeline ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum PipelineError {
    /// The connection to the sender.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The sender broke the rules.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// This node could not take a packet; the sender was told.
    #[error("{0}")]
    Failed(String),
}

impl From<io::Error> for PipelineError {
    fn from(error: io::Error) -> Self {
        Self::Link(error.into())
    }
}

impl From<TransferError> for PipelineError {
    fn from(error: TransferError) -> Self {
        Self::Link(error.into())
    }
}

/// What a job of a disk thread gives back.
pub(super) struct JobDone {
    pub(super) outcome: Written,
    pub(super) frame_bytes: usize,
    data_bytes: u64,
    /// For the log, if something failed.
    pub(super) reason: Option<String>,
}

type Job = Pin<Box<dyn Future<Output = JobDone> + Send>>;

/// One block being received.
pub(super) struct Receiver<'a> {
    pub(super) node: &'a Arc<Node>,
    pub(super) timeouts: &'a TransferTimeouts,
    pub(super) active: &'a ActiveTransfer,
    pub(super) connection: &'a mut Connection,
    pub(super) mirror: Option<Mirror>,
    pub(super) writer: Arc<ReplicaWriter>,
    /// The checksums that packets carry.
    pub(super) spec: ChecksumSpec,
    pub(super) finish: Finish,
    pub(super) acks: Acks,
    /// Nodes below.
    pub(super) depth: usize,
}

impl Receiver<'_> {
    /// Receives until the block's end, an error, or the sender's departure.
    pub(super) async fn run(self) -> Result<(), PipelineError> {
        let (acks, idle) = (self.acks, self.timeouts.write_idle);
        let mut running = Running::new(self);
        let eviction = running.setup.node.admin.eviction();
        let result = tokio::select! {
            result = running.go() => result,
            // Copies between datanodes are nobody's writers.
            () = eviction, if acks == Acks::EachPacket => Err(PipelineError::Failed(EVICTED.into())),
        };
        // The job holds the writer: a recovery that follows at once should not meet it.
        if let Some(job) = running.job.take() {
            job.await;
        }
        let (failure, complete) = (running.failure.take(), running.state.is_complete());
        if acks == Acks::AtEnd && result.is_ok() {
            let answer = match &failure {
                None if complete => OpResponse::new(Status::Success),
                None => OpResponse::failure(Status::Error, "the block did not end"),
                Some(reason) => OpResponse::failure(Status::Error, reason.clone()),
            };
            running.setup.connection.send(&answer.to_bytes(), idle).await?;
        }
        result?;
        failure.map_or(Ok(()), |reason| Err(PipelineError::Failed(reason)))
    }
}

struct Running<'a> {
    setup: Receiver<'a>,
    state: PipelineState,
    job: Option<Job>,
    /// Acks on their way upstream.
    ack_out: OutQueue,
    /// When the sender must have sent something.
    sender_due: Instant,
    /// When downstream must have acked something.
    downstream_due: Instant,
    /// When the sender must have taken some ack.
    acks_due: Instant,
    /// How long the pipeline may be silent.
    idle: Duration,
    /// What failed on this node.
    failure: Option<String>,
    /// The packet by which the next node's speed is measured, if it is the last one.
    probe: Probe,
    /// How long the next node is borne with.
    patience: Patience,
}

impl<'a> Running<'a> {
    fn new(setup: Receiver<'a>) -> Self {
        let idle = setup.timeouts.pipeline_idle(setup.depth);
        let now = Instant::now();
        Self {
            state: PipelineState::new(setup.depth),
            job: None,
            ack_out: OutQueue::default(),
            sender_due: now + idle,
            downstream_due: now + idle,
            acks_due: now + setup.timeouts.write_idle,
            idle,
            failure: None,
            probe: Probe::default(),
            patience: Patience::new(setup.timeouts.stall, setup.depth),
            setup,
        }
    }

    async fn go(&mut self) -> Result<(), PipelineError> {
        loop {
            self.take_packets()?;
            self.start_job();
            self.forward();
            self.take_downstream_acks();
            self.give_acks()?;
            if self.state.is_over() && self.ack_out.is_empty() {
                return Ok(());
            }
            self.wait().await?;
            // A fast sender must not keep others from this thread.
            tokio::task::coop::consume_budget().await;
        }
    }

    fn backlog(&self) -> usize {
        self.setup.mirror.as_ref().map_or(0, |mirror| mirror.out.bytes())
    }

    fn wants_more(&self) -> bool {
        self.state.wants_more(self.backlog(), self.setup.active.buffer_bytes())
    }

    /// Takes the packets that have come, reading the socket once.
    fn take_packets(&mut self) -> Result<(), PipelineError> {
        self.decode_packets()?;
        if !self.wants_more() {
            return Ok(());
        }
        match self.setup.connection.try_fill(Expect::Packets) {
            Ok(0) => Err(LinkError::Closed { inside: !self.setup.connection.buffer.is_empty() }.into()),
            Ok(_) => {
                self.sender_due = Instant::now() + self.idle;
                self.decode_packets()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn decode_packets(&mut self) -> Result<(), PipelineError> {
        while self.wants_more() {
            let Some(packet) = self.setup.connection.take_packet()? else { return Ok(()) };
            let verdict = packet.verify(self.setup.spec);
            if let Err(mismatch) = &verdict {
                self.failure.get_or_insert_with(|| mismatch.to_string());
            }
            let (frame, header) = (packet.frame().clone(), *packet.header());
            let plain = !header.last && !header.sync && self.setup.depth == 1;
            let awaited = self.state.awaits_downstream();
            if self.state.receive(packet, verdict)?
                && let Some(mirror) = &mut self.setup.mirror
            {
                mirror.out.push(frame);
                if plain {
                    self.probe.sent(header.seqno);
                }
                if !awaited {
                    self.downstream_due = Instant::now() + self.idle;
                }
            }
        }
        Ok(())
    }

    /// Gives what has come to a disk thread, unless one is at work for this block.
    fn start_job(&mut self) {
        let Some(mut batch) = self.state.next_batch() else { return };
        // What was found bad when it came is in no batch.
        batch.verified = Some(self.setup.spec);
        let (node, writer, finish) = (self.setup.node.clone(), self.setup.writer.clone(), self.setup.finish);
        self.job = Some(Box::pin(async move {
            let disk = node.disks.of(writer.storage());
            disk.run(move || write_batch(&writer, batch, finish)).await
        }));
    }

    fn job_done(&mut self, done: JobDone) {
        self.job = None;
        self.sender_due = Instant::now() + self.idle;
        self.setup.node.transfer_metrics.bytes_written.inc_by(done.data_bytes);
        if let Some(reason) = done.reason {
            self.failure.get_or_insert(reason);
        }
        self.state.written(done.outcome, done.frame_bytes);
    }

    fn forward(&mut self) {
        if let Some(mirror) = &mut self.setup.mirror
            && let Err(error) = mirror.out.try_send(&mirror.connection.stream)
        {
            self.downstream_failed(&error.to_string());
        }
    }

    fn take_downstream_acks(&mut self) {
        if let Err(reason) = self.try_downstream_acks() {
            self.downstream_failed(&reason);
        }
    }

    fn try_downstream_acks(&mut self) -> Result<(), String> {
        let Some(mirror) = &mut self.setup.mirror else { return Ok(()) };
        let closed = match mirror.connection.try_fill(Expect::Small) {
            Ok(count) => count == 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        while let Some(ack) =
            PipelineAck::decode(&mut mirror.connection.buffer).map_err(|error| error.to_string())?
        {
            if let Some(took) = self.probe.acked(ack.seqno) {
                self.setup.node.transfer_metrics.latencies.note(&mirror.uuid, took);
            }
            self.state.downstream_ack(ack).map_err(|error| error.to_string())?;
            self.downstream_due = Instant::now() + self.idle;
        }
        if closed { Err("closed by the other end".into()) } else { Ok(()) }
    }

    fn downstream_failed(&mut self, reason: &str) {
        let Some(mirror) = self.setup.mirror.take() else { return };
        if let Some(waited) = self.probe.waited() {
            self.setup.node.transfer_metrics.latencies.note_broken(&mirror.uuid, waited);
        }
        // It closes after the ack of the last packet, which is as it should be.
        if self.state.awaits_downstream() {
            let block = self.setup.writer.block();
            tracing::info!(block = %block.id, downstream = mirror.name, reason, "the pipeline broke behind this node");
        }
        self.state.downstream_failed();
    }

    /// Sends the acks that are known.
    fn give_acks(&mut self) -> Result<(), PipelineError> {
        let mut encoded = BytesMut::new();
        while let Some(ack) = self.state.next_ack() {
            if self.setup.acks == Acks::EachPacket {
                ack.encode(&mut encoded);
            }
        }
        self.setup.writer.set_acked(self.state.acked());
        let before = self.ack_out.bytes();
        if before == 0 {
            self.acks_due = Instant::now() + self.setup.timeouts.write_idle;
        }
        self.ack_out.push(encoded.freeze());
        let waiting = self.ack_out.bytes();
        self.ack_out.try_send(&self.setup.connection.stream)?;
        if self.ack_out.bytes() < waiting {
            self.acks_due = Instant::now() + self.setup.timeouts.write_idle;
        }
        Ok(())
    }

    /// Waits until something can go on.
    async fn wait(&mut self) -> Result<(), PipelineError> {
        let (reading, acking) = (self.wants_more(), !self.ack_out.is_empty());
        // A sender that may be waiting for this node's disk is not silent.
        let hearing = reading && self.job.is_none();
        let awaiting = self.state.awaits_downstream();
        let now = Instant::now();
        if !hearing {
            self.sender_due = now + self.idle;
        }
        let mut due = now + self.idle + self.setup.timeouts.write_idle;
        for (counts, deadline) in [
            (hearing, self.sender_due),
            (awaiting, self.downstream_due.min(self.patience.due())),
            (acking, self.acks_due),
        ] {
            if counts {
                due = due.min(deadline);
            }
        }
        let upstream = self.setup.connection.stream.clone();
        let downstream = self.setup.mirror.as_ref().map(|mirror| mirror.connection.stream.clone());
        let forwarding = self.backlog() > 0;
        let finished = tokio::select! {
            done = finished(&mut self.job) => Some(done),
            ready = upstream.readable(), if reading => { ready?; None }
            ready = upstream.writable(), if acking => { ready?; None }
            () = readable(downstream.as_deref()) => None,
            () = writable(downstream.as_deref()), if forwarding => None,
            () = sleep_until(due) => None,
        };
        if let Some(done) = finished {
            self.job_done(done);
        }
        self.check_deadlines(hearing, acking)
    }

    fn check_deadlines(&mut self, hearing: bool, acking: bool) -> Result<(), PipelineError> {
        let now = Instant::now();
        if self.state.awaits_downstream() && now >= self.downstream_due {
            self.downstream_failed(&format!("no ack for {} s", self.idle.as_secs()));
            // The sender is told first, and what it sent meanwhile is looked at.
            return Ok(());
        }
        if let Some(reason) = self.patience.look(self.state.awaited()) {
            self.downstream_failed(reason);
        }
        if hearing && now >= self.sender_due {
            return Err(LinkError::Idle(self.idle).into());
        }
        if acking && now >= self.acks_due {
            return Err(LinkError::Idle(self.setup.timeouts.write_idle).into());
        }
        Ok(())
    }
}

async fn finished(job: &mut Option<Job>) -> JobDone {
    match job {
        Some(job) => job.await,
        None => pending().await,
    }
}

/// Ready, or broken: the next use of the socket tells which.
async fn readable(stream: Option<&TcpStream>) {
    match stream {
        Some(stream) => drop(stream.readable().await),
        None => pending().await,
    }
}

async fn writable(stream: Option<&TcpStream>) {
    match stream {
        Some(stream) => drop(stream.writable().await),
        None => pending().await,
    }
}

/// Writes a batch on a disk thread.
pub(super) fn write_batch(writer: &ReplicaWriter, batch: Batch, finish: Finish) -> JobDone {
    let frame_bytes = batch.packets.iter().map(|packet| packet.frame().len()).sum();
    let mut done =
        JobDone { outcome: Written { packets: 0, failure: None }, frame_bytes, data_bytes: 0, reason: None };
    let mut fail = |error: &steadfs_datanode_store::StoreError| {
        done.reason.get_or_insert(error.to_string());
        done.outcome.failure.get_or_insert(status_of(error));
    };
    let (mut packets, mut data_bytes) = (0, 0);
    for packet in &batch.packets {
        let header = packet.header();
        if header.data_len > 0 {
            let (data, sums) = (packet.data_bytes(), packet.checksums());
            if let Err(error) = writer.write_verified(header.offset, data, sums, batch.verified) {
                fail(&error);
                break;
            }
            data_bytes += u64::from(header.data_len);
        }
        packets += 1;
    }
    let whole = packets == batch.packets.len();
    // What is acked must be with the operating system at least: a killed process loses nothing then.
    let ends = batch.last && whole;
    let kept: StoreResult<()> = match (ends, batch.sync) {
        // The end of a block puts all of it on disk.
        (true, _) => Ok(()),
        (false, true) => writer.sync(),
        (false, false) => writer.flush(),
    };
    match kept {
        Err(error) => {
            fail(&error);
            packets = 0;
        }
        Ok(()) if ends => {
            let finished = match finish {
                Finish::Finalize => writer.finalize(),
                Finish::ConvertToRbw => writer.convert_to_rbw(),
            };
            if let Err(error) = finished {
                fail(&error);
                packets = 0;
            }
        }
        Ok(()) => {}
    }
    done.outcome.packets = packets;
    done.data_bytes = data_bytes;
    done
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use steadfs_common::{BlockId, GenStamp};
    use steadfs_datanode_store::{
        Block, CreateOptions, DiskOp, Faults, NoListener, Store, StoreOptions, VolumeConfig,
    };
    use steadfs_wire::transfer::{Packet, PacketHeader};

    use super::*;

    #[derive(Default)]
    struct Syncs(AtomicUsize);

    impl Faults for Syncs {
        fn before(&self, op: DiskOp, _path: &Path) -> io::Result<()> {
            self.0.fetch_add(usize::from(op == DiskOp::Sync), Ordering::SeqCst);
            Ok(())
        }
    }

    /// A writer of a new replica, and the syncs of files that it causes.
    fn writer() -> (tempfile::TempDir, ReplicaWriter, Arc<Syncs>) {
        let folder = tempfile::tempdir().unwrap();
        let volume =
            VolumeConfig { path: folder.path().into(), kind: steadfs_common::StorageType::Disk, reserved: 0 };
        let syncs = Arc::new(Syncs::default());
        let options = StoreOptions { faults: Some(syncs.clone()), ..StoreOptions::new(vec![volume]) };
        let store = Store::open(options, Arc::new(NoListener)).unwrap();
        let block = Block { id: BlockId(1), stamp: GenStamp(1), len: 10_000 };
        let create = CreateOptions { block, storage: None, spec: ChecksumSpec::DEFAULT };
        (folder, store.create_rbw(create).unwrap(), syncs)
    }

    fn packet(seqno: i64, offset: u64, sync: bool) -> Packet {
        let mut sums = Vec::new();
        ChecksumSpec::DEFAULT.append_checksums(&[7; 512], &mut sums);
        let header = PacketHeader { offset, seqno, last: false, data_len: 0, sync };
        Packet::build(header, &sums, &[7; 512])
    }

    #[test]
    fn the_end_of_a_block_syncs_each_file_once() {
        let (_folder, writer, syncs) = writer();
        let before = syncs.0.load(Ordering::SeqCst);
        let header = PacketHeader { offset: 512, seqno: 1, last: true, data_len: 0, sync: true };
        let packets = vec![packet(0, 0, true), Packet::build(header, &[], &[])];
        let batch = Batch { packets, sync: true, last: true, verified: None };
        let done = write_batch(&writer, batch, Finish::Finalize);
        assert_eq!((done.outcome.packets, done.outcome.failure), (2, None));
        assert_eq!(syncs.0.load(Ordering::SeqCst) - before, 2);
    }

    #[test]
    fn what_asked_for_a_sync_has_it_though_the_next_packet_fails() {
        let (_folder, writer, syncs) = writer();
        let before = syncs.0.load(Ordering::SeqCst);
        // The second begins behind a gap.
        let packets = vec![packet(0, 0, true), packet(1, 5_120, false)];
        let batch = Batch { packets, sync: true, last: false, verified: None };
        let done = write_batch(&writer, batch, Finish::Finalize);
        assert_eq!((done.outcome.packets, done.outcome.failure), (1, Some(Status::ErrorInvalid)));
        assert!(syncs.0.load(Ordering::SeqCst) > before);
    }
}
