//! `READ_BLOCK`: a range of a replica goes out in packets.
//!
//! A finalized replica's data goes from its file to the socket by `sendfile`; only headers and checksums pass through this
//! process. A replica that is being written, and a short range of any, is read into memory: the former because its last
//! chunk changes, the latter because one write is cheaper than several calls. Files are touched on disk threads only.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rustix::fs::sendfile;
use rustix::net::{SendFlags, send as send_some_bytes};
use steadfs_common::{ChecksumKind, ChecksumSpec};
use steadfs_datanode_store::{ReplicaReader, StoreError, StoreResult};
use steadfs_wire::transfer::{
    OpResponse, PacketHeader, ReadBlock, ReadChecksum, Status, decode_client_read_status,
};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::connection::{Connection, LinkError};
use crate::disks::Seat;
use crate::node::Node;
use crate::transfer::{BYTES_PER_JOB, PACKET_DATA_BYTES, Refusal, TransferTimeouts, check_pool, seat_at};

/// Data of one packet, in bytes: a stock client sends as much or less, and takes up to 16 MiB.
const READ_PACKET_BYTES: u64 = 128 << 10;
/// Ranges up to this are read into memory with their answer.
const SMALL_RANGE_BYTES: u64 = 64 << 10;
/// How long a reader may be ahead of what this node knows to be acked: the nodes behind it hear of acks earlier.
const VISIBLE_WAIT: Duration = Duration::from_secs(3);
/// How often it looks meanwhile.
const VISIBLE_STEP: Duration = Duration::from_millis(20);

/// Does a `READ_BLOCK`. True if the connection can be used further.
pub(crate) async fn serve(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    connection: &mut Connection,
    request: ReadBlock,
) -> Result<bool, LinkError> {
    if !send(node, timeouts, connection, &request, Pace::Free).await? {
        return Ok(true);
    }
    let deadline = Instant::now() + timeouts.read_idle;
    match connection.receive(deadline, decode_client_read_status).await? {
        Status::Success | Status::ChecksumOk => Ok(true),
        status => {
            tracing::info!(block = %request.block, peer = %connection.peer, ?status, "a reader was not content");
            Ok(false)
        }
    }
}

/// How fast a replica goes out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as the reader takes it.
    Free,
    /// Within the bandwidth of moves.
    Move,
}

/// Sends the answer and the packets. False if the read was refused, which is answered too.
pub(crate) async fn send(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    connection: &Connection,
    request: &ReadBlock,
    pace: Pace,
) -> Result<bool, LinkError> {
    let opened = match check_pool(node, &request.block) {
        Ok(()) => open(node, &connection.seat, request).await,
        Err(refusal) => Err(refusal),
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(refusal) => {
            node.transfer_metrics.failures.inc();
            let reason = &refusal.message;
            tracing::info!(block = %request.block, peer = %connection.peer, reason, "a read was refused");
            connection.send(&refusal.answer().to_bytes(), timeouts.write_idle).await?;
            return Ok(false);
        }
    };
    let bytes = opened.plan.end - opened.plan.next;
    match opened.whole {
        Some(whole) => connection.send(&whole, timeouts.write_idle).await?,
        None => {
            connection.send(&opened.plan.answer(), timeouts.write_idle).await?;
            send_range(node, timeouts, connection, opened.reader, opened.plan, pace).await?;
        }
    }
    node.transfer_metrics.bytes_read.inc_by(bytes);
    node.transfer_metrics.peers.served(connection.peer.ip(), node.ip, bytes);
    Ok(true)
}

/// What of a replica goes out, and how far it has got.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// What the packets carry: the replica's checksums, or none.
    sent: ChecksumSpec,
    /// Offset of the next packet; a chunk's start.
    next: u64,
    /// Offset behind the last.
    end: u64,
    /// Number of the next packet.
    seqno: i64,
}

/// A replica, and what of it goes out.
struct Opened {
    reader: Arc<ReplicaReader>,
    plan: Plan,
    /// Answer and packets together, if they are short.
    whole: Option<Bytes>,
}

/// Opens the replica and checks the range. One job of a disk thread, unless a writer's ack must be waited for.
async fn open(node: &Arc<Node>, seat: &Seat, request: &ReadBlock) -> Result<Opened, Refusal> {
    let Some(end) = request.offset.checked_add(request.length) else {
        return Err(bad_range(request, None));
    };
    let patience = Instant::now() + VISIBLE_WAIT;
    loop {
        let (store, block, stamp) = (node.store.clone(), request.block.id, request.block.stamp);
        let (offset, checksums) = (request.offset, request.checksums);
        let disk = seat_at(node, seat, block)?;
        let opened = disk.run(move || {
            let reader = Arc::new(store.open_for_read(block, stamp)?);
            if end > reader.block().len {
                return Ok(Err(reader));
            }
            StoreResult::Ok(Ok(open_range(reader, offset, end, checksums)?))
        });
        match opened.await? {
            Ok(opened) => return Ok(opened),
            Err(reader) if reader.is_finalized() || Instant::now() >= patience => {
                return Err(bad_range(request, Some(&reader)));
            }
            Err(_) => sleep(VISIBLE_STEP).await,
        }
    }
}

fn bad_range(request: &ReadBlock, reader: Option<&ReplicaReader>) -> Refusal {
    let length = reader.map(|reader| format!(" ( blockLen {} )", reader.block().len)).unwrap_or_default();
    let text = format!(
        "Offset {} and length {} don't match block {}{length}",
        request.offset, request.length, request.block
    );
    Refusal::new(Status::Error, text)
}

fn open_range(reader: Arc<ReplicaReader>, offset: u64, end: u64, checksums: bool) -> StoreResult<Opened> {
    let stored = reader.spec();
    let kind = if checksums { stored.kind } else { ChecksumKind::Null };
    let chunk = u64::from(stored.bytes_per_checksum);
    let next = offset - offset % chunk;
    let end = if end == offset { next } else { reader.covered_end(end) };
    let mut plan = Plan { sent: ChecksumSpec { kind, ..stored }, next, end, seqno: 0 };
    let begun = plan;
    let whole = if end - next > SMALL_RANGE_BYTES {
        None
    } else {
        let mut out = BytesMut::from(&begun.answer()[..]);
        plan.read_packets(&reader, u64::MAX, &mut out)?;
        plan.put_last(&mut out);
        Some(out.freeze())
    };
    Ok(Opened { reader, plan: begun, whole })
}

impl Plan {
    fn answer(&self) -> Bytes {
        let read = ReadChecksum { spec: self.sent, chunk_offset: self.next };
        OpResponse { read_checksum: Some(read), ..OpResponse::new(Status::Success) }.to_bytes()
    }

    /// Takes the next packet's range off the plan: its header and length; `None` when all is sent.
    fn take(&mut self) -> Option<PacketHeader> {
        let left = self.end - self.next;
        if left == 0 {
            return None;
        }
        let chunk = u64::from(self.sent.bytes_per_checksum);
        let most = (READ_PACKET_BYTES / chunk).max(1) * chunk;
        let data_len = left.min(most);
        let header = PacketHeader {
            offset: self.next,
            seqno: self.seqno,
            last: false,
            data_len: u32::try_from(data_len)
                .expect("a packet is at most one chunk or READ_PACKET_BYTES long"),
            sync: false,
        };
        self.next += data_len;
        self.seqno += 1;
        Some(header)
    }

    /// Appends the head of a packet and its checksums.
    fn put_head(&self, reader: &ReplicaReader, header: &PacketHeader, out: &mut BytesMut) -> StoreResult<()> {
        let mut sums = Vec::new();
        if self.sent.kind != ChecksumKind::Null {
            reader.read_checksums(header.offset, header.end(), &mut sums)?;
        }
        out.put_slice(header.head(sums.len()).as_slice());
        out.put_slice(&sums);
        Ok(())
    }

    /// Appends whole packets until they hold at least `most` bytes of data, or all is there.
    fn read_packets(&mut self, reader: &ReplicaReader, most: u64, out: &mut BytesMut) -> StoreResult<()> {
        let stop = self.next.saturating_add(most);
        while self.next < stop {
            let Some(header) = self.take() else { return Ok(()) };
            self.put_head(reader, &header, out)?;
            let start = out.len();
            out.resize(start + header.data_len as usize, 0);
            reader.read_data(header.offset, &mut out[start..])?;
        }
        Ok(())
    }

    /// Appends the empty packet that ends a read.
    fn put_last(&self, out: &mut BytesMut) {
        let header =
            PacketHeader { offset: self.next, seqno: self.seqno, last: true, data_len: 0, sync: false };
        out.put_slice(header.head(0).as_slice());
    }
}

async fn send_range(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    connection: &Connection,
    reader: Arc<ReplicaReader>,
    plan: Plan,
    pace: Pace,
) -> Result<(), LinkError> {
    let sent = if reader.is_finalized() {
        send_files(node, timeouts, connection, reader.clone(), plan, pace).await
    } else {
        send_copies(node, timeouts, connection, reader.clone(), plan).await
    };
    sent.map_err(|error| match error {
        SendError::Link(error) => error,
        // The reader sees a closed connection and asks another replica; nothing of a packet can tell it more.
        SendError::Disk(error) => {
            node.transfer_metrics.failures.inc();
            tracing::warn!(block = %reader.block().id, %error, "a replica could not be read");
            LinkError::Io(io::Error::other(error))
        }
    })
}

enum SendError {
    Link(LinkError),
    Disk(StoreError),
}

impl From<LinkError> for SendError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

/// Sends a replica that is being written.
async fn send_copies(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    connection: &Connection,
    reader: Arc<ReplicaReader>,
    mut plan: Plan,
) -> Result<(), SendError> {
    let disk = node.disks.of(reader.storage());
    while plan.next < plan.end {
        let reader = reader.clone();
        let read = disk.run(move || {
            let mut out = BytesMut::new();
            plan.read_packets(&reader, BYTES_PER_JOB, &mut out).map(|()| (plan, out))
        });
        let (after, out) = read.await.map_err(SendError::Disk)?;
        plan = after;
        connection.send(&out, timeouts.write_idle).await?;
    }
    let mut last = BytesMut::new();
    plan.put_last(&mut last);
    Ok(connection.send(&last, timeouts.write_idle).await?)
}

/// Sends a finalized replica from its files.
async fn send_files(
    node: &Arc<Node>,
    timeouts: &TransferTimeouts,
    connection: &Connection,
    reader: Arc<ReplicaReader>,
    plan: Plan,
    pace: Pace,
) -> Result<(), SendError> {
    let (stream, disk) = (connection.stream.clone(), node.disks.of(reader.storage()));
    let mut sending = FileSending { reader, stream, plan, head: BytesMut::new(), data: 0..0, ended: false };
    loop {
        let (after, progress) = disk
            .run(move || {
                let progress = sending.step();
                (sending, progress)
            })
            .await;
        sending = after;
        match progress {
            Ok(Progress::Done) => return Ok(()),
            Ok(Progress::More) if pace == Pace::Move => {
                node.moves.pace(BYTES_PER_JOB, node.admin.balancer_bandwidth()).await;
            }
            Ok(Progress::More) => {}
            Ok(Progress::Blocked) => {
                let idle = timeouts.write_idle;
                let ready = timeout(idle, connection.stream.writable()).await;
                ready.map_err(|_| LinkError::Idle(idle))?.map_err(LinkError::from)?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// How far a job got.
enum Progress {
    /// Everything is sent.
    Done,
    /// It had its share of the thread.
    More,
    /// The socket takes nothing now.
    Blocked,
}

/// A replica on its way from its files to a socket.
struct FileSending {
    reader: Arc<ReplicaReader>,
    stream: Arc<TcpStream>,
    plan: Plan,
    /// What is left of the head and checksums of the current packet.
    head: BytesMut,
    /// What is left of its data.
    data: std::ops::Range<u64>,
    /// Whether the last packet is the current one.
    ended: bool,
}

impl FileSending {
    /// Sends what the socket takes, at most [`BYTES_PER_JOB`].
    fn step(&mut self) -> Result<Progress, SendError> {
        let mut share = BYTES_PER_JOB;
        loop {
            if self.head.is_empty() && self.data.is_empty() {
                if self.ended {
                    return Ok(Progress::Done);
                }
                if share == 0 {
                    return Ok(Progress::More);
                }
                self.next_packet().map_err(SendError::Disk)?;
                share = share.saturating_sub(self.data.end - self.data.start);
            }
            match self.send_some() {
                Ok(()) => {}
                Err(SendError::Link(LinkError::Io(error))) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Progress::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn next_packet(&mut self) -> StoreResult<()> {
        self.head.clear();
        match self.plan.take() {
            Some(header) => {
                self.plan.put_head(&self.reader, &header, &mut self.head)?;
                self.data = header.offset..header.end();
            }
            None => {
                self.plan.put_last(&mut self.head);
                self.ended = true;
            }
        }
        Ok(())
    }

    /// One call into the socket. `try_io` keeps the runtime's idea of the socket's readiness true.
    fn send_some(&mut self) -> Result<(), SendError> {
        let link = |error: io::Error| SendError::Link(error.into());
        if !self.head.is_empty() {
            let mut flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            if !self.ended {
                // The data follows: no segment of its own for the head.
                flags |= SendFlags::MORE;
            }
            let sent = self
                .stream
                .try_io(Interest::WRITABLE, || Ok(send_some_bytes(&self.stream, &self.head, flags)?))
                .map_err(link)?;
            self.head.advance(sent);
            return Ok(());
        }
        // More at a time would be slower.
        let (mut offset, count) = (self.data.start, (self.data.end - self.data.start).min(PACKET_DATA_BYTES));
        let sent = self
            .stream
            .try_io(Interest::WRITABLE, || {
                Ok(sendfile(&self.stream, self.reader.data(), Some(&mut offset), count as usize)?)
            })
            .map_err(|error| self.judge(error))?;
        if sent == 0 {
            return Err(self.unreadable(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the block file ends at {}, not at {}", self.data.start, self.plan.end),
            )));
        }
        self.data.start += sent as u64;
        Ok(())
    }

    /// Whether `sendfile` failed because of the socket or because of the file.
    fn judge(&self, error: io::Error) -> SendError {
        match rustix::io::Errno::from_io_error(&error) {
            Some(rustix::io::Errno::IO | rustix::io::Errno::UCLEAN | rustix::io::Errno::BADMSG) => {
                self.unreadable(error)
            }
            _ => SendError::Link(error.into()),
        }
    }

    fn unreadable(&self, source: io::Error) -> SendError {
        self.reader.suspect();
        let path = std::path::PathBuf::from(format!("block file of {}", self.reader.block().id));
        SendError::Disk(StoreError::Io { path, source })
    }
}
