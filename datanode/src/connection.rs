//! One connection of the data-transfer protocol: bytes with deadlines.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use steadfs_common::StorageId;
use steadfs_wire::transfer::{Packet, PacketRoom, TransferError, decode_packet, room};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::disks::Seat;

/// Room for a request and small answers; packets get more.
const SMALL_READ_BYTES: usize = 8 << 10;
/// Pieces that one system call writes.
const MAX_SLICES: usize = 32;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The other end closed it, between messages or in one.
    #[error("closed by the other end{}", if *.inside { " within a message" } else { "" })]
    Closed {
        /// Whether something had begun.
        inside: bool,
    },
    /// The other end was silent, or took nothing, for too long.
    #[error("no progress for {} s", .0.as_secs())]
    Idle(Duration),
    /// The operating system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is not the protocol.
    #[error(transparent)]
    Protocol(#[from] TransferError),
    /// The volume that it waited for was given up.
    #[error("volume {0} was given up")]
    GivenUp(StorageId),
}

impl LinkError {
    /// Whether somebody merely went away, which is no news.
    pub(crate) fn is_departure(&self) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
            ),
            Self::Idle(_) | Self::Protocol(_) | Self::GivenUp(_) => false,
        }
    }
}

/// How much room to make before reading.
#[derive(Clone, Copy)]
pub(crate) enum Expect {
    /// Requests, answers, acks.
    Small,
    /// Packets.
    Packets,
}

/// A socket and what has been read of it but not yet used.
pub(crate) struct Connection {
    /// Shared with disk threads that send files into it.
    pub(crate) stream: Arc<TcpStream>,
    /// What came and was not yet taken.
    pub(crate) buffer: BytesMut,
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// The volume that it is busy with, where it came in.
    pub(crate) seat: Arc<Seat>,
    /// What is known of the packets that come.
    packets: PacketRoom,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        // Acks and answers are small and waited for.
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        Ok(Self {
            stream: Arc::new(stream),
            buffer: BytesMut::new(),
            peer,
            seat: Arc::default(),
            packets: PacketRoom::default(),
        })
    }

    /// Connects to another datanode.
    pub(crate) async fn open(address: SocketAddr, limit: Duration) -> Result<Self, LinkError> {
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(stream) => Ok(Self::new(stream?)?),
            Err(_) => Err(LinkError::Idle(limit)),
        }
    }

    /// Reads what is there without waiting; `WouldBlock` if nothing is, `Ok(0)` at the end.
    pub(crate) fn try_fill(&mut self, expect: Expect) -> io::Result<usize> {
        let spare = self.buffer.capacity() - self.buffer.len();
        match expect {
            Expect::Small if spare == 0 => {
                self.buffer.reserve(SMALL_READ_BYTES.max(self.buffer.len().min(room(0))))
            }
            Expect::Packets => self.packets.make(&mut self.buffer),
            Expect::Small => {}
        }
        self.stream.try_read_buf(&mut self.buffer)
    }

    /// Takes a packet off what came, if there is a whole one.
    pub(crate) fn take_packet(&mut self) -> Result<Option<Packet>, TransferError> {
        let packet = decode_packet(&mut self.buffer)?;
        if let Some(packet) = &packet {
            self.packets.came(packet);
        }
        Ok(packet)
    }

    /// Waits for `decode` to find something whole at the front of what came. `deadline` is for all of it.
    ///
    /// Safe to cancel: what came stays in the buffer.
    pub(crate) async fn receive<T>(
        &mut self,
        deadline: Instant,
        mut decode: impl FnMut(&mut BytesMut) -> Result<Option<T>, TransferError>,
    ) -> Result<T, LinkError> {
        let begun = Instant::now();
        loop {
            if let Some(whole) = decode(&mut self.buffer)? {
                return Ok(whole);
            }
            match self.try_fill(Expect::Small) {
                Ok(0) => return Err(LinkError::Closed { inside: !self.buffer.is_empty() }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match timeout_at(deadline, self.stream.readable()).await {
                        Ok(ready) => ready?,
                        Err(_) => return Err(LinkError::Idle(deadline - begun)),
                    }
                }
                Err(error) => return Err(error.into()),
            }
            // A peer that feeds single bytes must not outlive the deadline either.
            if Instant::now() >= deadline {
                return Err(LinkError::Idle(deadline - begun));
            }
        }
    }

    /// Sends `bytes`; fails when the other end takes nothing for `idle`. Not safe to cancel.
    pub(crate) async fn send(&self, mut bytes: &[u8], idle: Duration) -> Result<(), LinkError> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    timeout(idle, self.stream.writable()).await.map_err(|_| LinkError::Idle(idle))??;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Ends a connection on which the other end may still be sending: says that nothing more comes, and takes and forgets
    /// what does, until it closes or `limit` has passed. A connection closed with bytes unread is reset, and the other end
    /// might never see the answer that tells it why.
    pub(crate) async fn linger(&mut self, limit: Duration) {
        self.buffer.clear();
        if rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write).is_err() {
            return;
        }
        let forget = async {
            loop {
                match self.try_fill(Expect::Packets) {
                    Ok(0) => return,
                    Ok(_) => self.buffer.clear(),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if self.stream.readable().await.is_err() {
                            return;
                        }
                    }
                    Err(_) => return,
                }
                tokio::task::coop::consume_budget().await;
            }
        };
        // Closed in any case.
        let _ = timeout(limit, forget).await;
    }

    /// Sends all of `queue`; as [`Self::send`].
    pub(crate) async fn send_queue(&self, queue: &mut OutQueue, idle: Duration) -> Result<(), LinkError> {
        while !queue.try_send(&self.stream)? {
            timeout(idle, self.stream.writable()).await.map_err(|_| LinkError::Idle(idle))??;
        }
        Ok(())
    }
}

/// Bytes waiting to be sent, in pieces that are never copied together.
#[derive(Default)]
pub(crate) struct OutQueue {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl OutQueue {
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// Bytes waiting.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Sends as much as the socket takes now; true when nothing is left.
    pub(crate) fn try_send(&mut self, stream: &TcpStream) -> io::Result<bool> {
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            match stream.try_write_vectored(&slices[..count]) {
                Ok(sent) => self.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn advance(&mut self, mut sent: usize) {
        self.bytes -= sent;
        while let Some(front) = self.pieces.front_mut() {
            if front.len() > sent {
                front.advance(sent);
                return;
            }
            sent -= front.len();
            self.pieces.pop_front();
        }
    }
}
