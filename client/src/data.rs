//! Connections to datanodes: one operation, its answer, and what follows.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use steadfs_common::{BlockId, BlockPoolId, FsError, FsErrorKind, GenStamp};
use steadfs_wire::transfer::{
    BlockRef, Op, OpResponse, Packet, PacketRoom, Peer, Status, TransferError, decode_packet, room,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::Replica;
use crate::landing::{Expected, Found, Landed, Landing};

/// Connections kept for the next read, at most; and how long: datanodes close an idle one after four seconds.
const MAX_IDLE: usize = 64;
const IDLE_FOR: Duration = Duration::from_secs(3);

/// Why a datanode did not do what was asked.
#[derive(Debug)]
pub(crate) enum DataError {
    /// It cannot be reached, or the connection broke.
    Io(io::Error),
    /// It said nothing for too long.
    Silent(Duration),
    /// It answered with something that is not the protocol.
    Protocol(String),
    /// It refused.
    Refused {
        status: Status,
        message: String,
        /// `ip:port` of the node behind it that failed; empty if it is the one that answered.
        bad_link: String,
    },
    /// Bytes do not match their checksum, at this offset of the block.
    Checksum(u64),
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Silent(limit) => write!(f, "no answer within {} ms", limit.as_millis()),
            Self::Protocol(what) => f.write_str(what),
            Self::Refused { message, bad_link, status } => {
                if message.is_empty() {
                    write!(f, "{status:?}")?
                } else {
                    f.write_str(message)?
                }
                if bad_link.is_empty() { Ok(()) } else { write!(f, " (bad link {bad_link})") }
            }
            Self::Checksum(offset) => write!(f, "the checksum does not match at byte {offset} of the block"),
        }
    }
}

impl From<io::Error> for DataError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<TransferError> for DataError {
    fn from(error: TransferError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl DataError {
    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }

    /// As an error of the file system, where there is nobody else to ask.
    pub(crate) fn into_fs(self, replica: &Replica) -> FsError {
        let kind = match &self {
            Self::Io(error) => FsError::from(io::Error::from(error.kind())).kind(),
            Self::Silent(_) => FsErrorKind::Timeout,
            Self::Protocol(_) => FsErrorKind::InvalidRequest,
            Self::Refused { .. } => FsErrorKind::Refused,
            Self::Checksum(_) => FsErrorKind::Checksum,
        };
        FsError::new(kind, format!("datanode {replica}: {self}"))
    }
}

/// A block as datanodes name it.
pub(crate) fn block_ref(pool: &str, id: BlockId, stamp: GenStamp, length: u64) -> BlockRef {
    BlockRef { pool: BlockPoolId(pool.to_owned()), id, stamp, length }
}

/// A replica's datanode as a member of a pipeline.
pub(crate) fn peer(replica: &Replica) -> Peer {
    Peer {
        uuid: replica.datanode.clone(),
        ip: replica.address.ip().to_string(),
        host_name: replica.host_name.clone(),
        data_port: replica.address.port(),
        ipc_port: replica.ipc_port,
        http_port: replica.http_port,
        rack: replica.rack.clone(),
    }
}

/// One connection to a datanode and what has arrived on it.
pub(crate) struct DataConnection {
    stream: TcpStream,
    buffer: BytesMut,
    /// What is known of the packets that come.
    packets: PacketRoom,
    address: SocketAddr,
    limit: Duration,
}

impl DataConnection {
    /// Connects within `connect`; afterwards the datanode may be silent for `limit`.
    pub(crate) async fn open(
        address: SocketAddr,
        connect: Duration,
        limit: Duration,
    ) -> Result<Self, DataError> {
        let stream =
            timeout(connect, TcpStream::connect(address)).await.map_err(|_| DataError::Silent(connect))??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::new(), packets: PacketRoom::default(), address, limit })
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        timeout(self.limit, self.stream.write_all(bytes))
            .await
            .map_err(|_| DataError::Silent(self.limit))??;
        Ok(())
    }

    /// Reads until `decode` finds something whole.
    pub(crate) async fn read<T>(
        &mut self,
        mut decode: impl FnMut(&mut BytesMut) -> Result<Option<T>, TransferError>,
    ) -> Result<T, DataError> {
        loop {
            if let Some(found) = decode(&mut self.buffer)? {
                return Ok(found);
            }
            self.buffer.reserve(room(self.buffer.len()));
            self.fill().await?;
        }
    }

    /// Takes what has arrived into the room that there is.
    async fn fill(&mut self) -> Result<(), DataError> {
        let read = timeout(self.limit, self.stream.read_buf(&mut self.buffer));
        if read.await.map_err(|_| DataError::Silent(self.limit))?? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(())
    }

    /// The next packet of many.
    pub(crate) async fn packet(&mut self) -> Result<Packet, DataError> {
        loop {
            if let Some(packet) = decode_packet(&mut self.buffer)? {
                self.packets.came(&packet);
                return Ok(packet);
            }
            self.packets.make(&mut self.buffer);
            self.fill().await?;
        }
    }

    /// The next packet of many if it looks as `expected`, in memory of `landing`; otherwise none, and [`packet`](Self::packet) has it.
    pub(crate) async fn landed(
        &mut self,
        landing: &mut Landing,
        expected: &Expected,
    ) -> Result<Option<Landed>, DataError> {
        if !landing.prepare(expected, &mut self.buffer) {
            return Ok(None);
        }
        loop {
            match landing.take(expected) {
                Found::Packet(packet) => return Ok(Some(packet)),
                Found::Other(bytes) => {
                    self.buffer = bytes;
                    return Ok(None);
                }
                Found::Part => {}
            }
            let read = timeout(self.limit, read_into(&self.stream, landing));
            match read.await.map_err(|_| DataError::Silent(self.limit))?? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                bytes => landing.came(bytes),
            }
        }
    }

    /// Sends `op` and reads its answer; anything but success is an error.
    pub(crate) async fn ask(&mut self, op: &Op) -> Result<OpResponse, DataError> {
        self.write(&op.encode()).await?;
        let answer = self.read(OpResponse::decode).await?;
        let bad_link = answer.first_bad_link.clone().unwrap_or_default();
        if answer.status.is_success() && bad_link.is_empty() {
            return Ok(answer);
        }
        Err(DataError::Refused {
            status: answer.status,
            message: answer.message.unwrap_or_default(),
            bad_link,
        })
    }

    /// The two directions, for tasks of their own, and what has arrived already.
    pub(crate) fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.stream, self.buffer)
    }
}

async fn read_into(stream: &TcpStream, landing: &mut Landing) -> io::Result<usize> {
    // Whoever always finds something there lets others have their turn.
    tokio::task::coop::consume_budget().await;
    loop {
        stream.readable().await?;
        match stream.try_read_vectored(&mut landing.room()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// Connections that finished a read cleanly and may be used for the next.
#[derive(Default)]
pub(crate) struct IdleConnections {
    idle: Mutex<HashMap<SocketAddr, Vec<(Instant, DataConnection)>>>,
}

impl IdleConnections {
    /// The connection to `address` that was used last, if one is young enough.
    pub(crate) fn take(&self, address: SocketAddr) -> Option<DataConnection> {
        let mut idle = self.idle.lock();
        let (since, connection) = idle.get_mut(&address)?.pop()?;
        if since.elapsed() < IDLE_FOR {
            return Some(connection);
        }
        // The others are older still.
        idle.remove(&address);
        None
    }

    /// Keeps `connection`, if nothing unread is left on it and there is room.
    pub(crate) fn put(&self, connection: DataConnection) {
        if !connection.buffer.is_empty() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.values().map(Vec::len).sum::<usize>() >= MAX_IDLE {
            idle.retain(|_, connections| {
                connections.retain(|(since, _)| since.elapsed() < IDLE_FOR);
                !connections.is_empty()
            });
            if idle.values().map(Vec::len).sum::<usize>() >= MAX_IDLE {
                return;
            }
        }
        idle.entry(connection.address).or_default().push((Instant::now(), connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pair() -> (DataConnection, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limit = Duration::from_millis(200);
        let (ours, theirs) = tokio::join!(DataConnection::open(address, limit, limit), listener.accept());
        (ours.unwrap(), theirs.unwrap().0)
    }

    #[tokio::test]
    async fn a_refusal_names_the_bad_link() {
        let (mut ours, mut theirs) = pair().await;
        theirs.write_all(&OpResponse::connect_ack(Status::Error, "10.0.0.9:9866").to_bytes()).await.unwrap();
        let error = ours.read(OpResponse::decode).await.unwrap();
        assert_eq!(error.first_bad_link.as_deref(), Some("10.0.0.9:9866"));
        assert!(matches!(ours.read(OpResponse::decode).await, Err(DataError::Silent(_))));
        drop(theirs);
        assert!(matches!(ours.read(OpResponse::decode).await, Err(DataError::Io(_))));
    }

    #[tokio::test]
    async fn nonsense_is_an_error_of_the_protocol() {
        let (mut ours, mut theirs) = pair().await;
        theirs.write_all(&[0xff; 64]).await.unwrap();
        assert!(matches!(ours.read(OpResponse::decode).await, Err(DataError::Protocol(_))));
    }

    #[tokio::test]
    async fn idle_connections_are_bounded_and_clean() {
        let idle = IdleConnections::default();
        let (mut ours, _theirs) = pair().await;
        let address = ours.address;
        ours.buffer.extend_from_slice(b"unread");
        idle.put(ours);
        assert!(idle.take(address).is_none());
        let (ours, _theirs) = pair().await;
        let address = ours.address;
        idle.put(ours);
        assert!(idle.take(address).is_some());
        assert!(idle.take(address).is_none());
    }
}
