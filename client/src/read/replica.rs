//! Reading a range from one replica, every byte verified.

use bytes::Bytes;
use steadfs_common::ChecksumSpec;
use steadfs_wire::transfer::{Op, PacketHeader, ReadBlock, Status, Token, client_read_status, decode_packet};

use crate::client::Inner;
use crate::data::{DataConnection, DataError, block_ref};
use crate::landing::{Expected, Landed, Landing, Pages};
use crate::{BlockLocation, Replica};

/// What is left of a range when it is not worth a large buffer, in bytes.
const SHORT: u64 = 64 << 10;

/// A range of a block as one datanode sends it.
pub(crate) struct ReplicaRange {
    connection: DataConnection,
    spec: ChecksumSpec,
    seqno: i64,
    /// Where in the block the next packet begins.
    expected: u64,
    /// Where in the block the next byte wanted is.
    position: u64,
    end: u64,
    landing: Landing,
    /// Bytes of data and of checksums of the first packet.
    shape: Option<(u32, usize)>,
}

impl ReplicaRange {
    /// Asks `replica` for bytes `start..end` of `block`. A connection that lay idle may have been closed meanwhile: then
    /// it is tried once more with a new one.
    pub(crate) async fn open(
        inner: &Inner,
        block: &BlockLocation,
        replica: &Replica,
        start: u64,
        end: u64,
    ) -> Result<Self, DataError> {
        let op = Op::Read(Box::new(ReadBlock {
            block: block_ref(&inner.defaults.block_pool, block.block, block.stamp, block.length),
            token: Token::default(),
            client: inner.name.clone(),
            offset: start,
            length: end - start,
            checksums: true,
        }));
        if let Some(connection) = inner.idle.take(replica.address) {
            match Self::ask(connection, &op, (start, end), &inner.pages).await {
                Err(DataError::Io(error)) => {
                    tracing::trace!(%replica, %error, "an idle connection was closed")
                }
                answer => return answer,
            }
        }
        let options = &inner.options;
        let connection =
            DataConnection::open(replica.address, options.connect_timeout, options.data_timeout).await?;
        Self::ask(connection, &op, (start, end), &inner.pages).await
    }

    async fn ask(
        mut connection: DataConnection,
        op: &Op,
        (start, end): (u64, u64),
        pages: &Pages,
    ) -> Result<Self, DataError> {
        let answer = connection.ask(op).await?;
        let read = answer
            .read_checksum
            .ok_or_else(|| DataError::protocol("the answer to a read does not say which checksums follow"))?;
        let chunk = u64::from(read.spec.bytes_per_checksum);
        if read.chunk_offset > start || start - read.chunk_offset >= chunk {
            return Err(DataError::protocol("the answer to a read begins elsewhere"));
        }
        Ok(Self {
            connection,
            spec: read.spec,
            seqno: 0,
            expected: read.chunk_offset,
            position: start,
            end,
            landing: Landing::new(pages),
            shape: None,
        })
    }

    /// The next verified bytes; `None` once all have been given.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, DataError> {
        while self.position < self.end {
            if let Some(expected) = self.expected_packets()
                && let Some(packet) = self.connection.landed(&mut self.landing, &expected).await?
            {
                return self.take_landed(&packet).map(Some);
            }
            let packet = if self.end - self.position <= SHORT {
                self.connection.read(decode_packet).await?
            } else {
                self.connection.packet().await?
            };
            let header = packet.header();
            if header.is_heartbeat() {
                continue;
            }
            if header.seqno != self.seqno {
                return Err(DataError::protocol("a packet is missing"));
            }
            if header.last {
                return Err(DataError::protocol(format!("the replica ends at byte {}", self.expected)));
            }
            if header.offset != self.expected {
                return Err(DataError::protocol("a packet of another place"));
            }
            packet.verify(self.spec).map_err(|mismatch| DataError::Checksum(mismatch.offset))?;
            self.seqno += 1;
            self.expected = header.end();
            self.shape.get_or_insert((header.data_len, packet.checksums().len()));
            // The first packet may begin before what was asked for, the last may end behind it.
            let from = self.position.max(header.offset);
            let until = self.end.min(header.end());
            if from < until {
                let data = packet.data_bytes();
                self.position = until;
                return Ok(Some(
                    data.slice((from - header.offset) as usize..(until - header.offset) as usize),
                ));
            }
        }
        Ok(None)
    }

    /// The packets that come now, if they are as long as the first one was and begin with a chunk.
    fn expected_packets(&self) -> Option<Expected> {
        let (data_len, checksums) = self.shape.filter(|(data_len, _)| *data_len > 0)?;
        if !self.expected.is_multiple_of(u64::from(self.spec.bytes_per_checksum.max(1))) {
            return None;
        }
        let next =
            PacketHeader { offset: self.expected, seqno: self.seqno, last: false, data_len, sync: false };
        let count = self.end.saturating_sub(self.expected) / u64::from(data_len);
        Some(Expected { next, checksums, count })
    }

    /// A packet of which every byte is wanted.
    fn take_landed(&mut self, packet: &Landed) -> Result<Bytes, DataError> {
        let offset = packet.header.offset;
        self.spec
            .verify(&packet.data, &packet.checksums)
            .map_err(|at| DataError::Checksum(offset + at as u64))?;
        self.seqno += 1;
        self.expected = packet.header.end();
        self.position = self.expected;
        Ok(packet.data.clone())
    }

    /// Ends a read of which all bytes have come: says that they were right, and keeps the connection.
    pub(crate) async fn finish(mut self, inner: &Inner) -> Result<(), DataError> {
        let packet = self.connection.read(decode_packet).await?;
        if !packet.header().last {
            return Err(DataError::protocol("the read does not end where it should"));
        }
        self.connection.write(&client_read_status(Status::ChecksumOk)).await?;
        if self.landing.is_empty() {
            inner.idle.put(self.connection);
        }
        Ok(())
    }
}
