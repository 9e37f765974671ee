//! Packets: `PLEN | HLEN | header | checksums | data`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use steadfs_common::limits::MAX_PACKET_BYTES;
use steadfs_common::{ChecksumKind, ChecksumSpec};

use super::error::TransferError;

/// The sequence number of a heartbeat: a packet without data that is only to be acked.
pub const HEARTBEAT_SEQNO: i64 = -1;
/// Longest header of a packet in bytes. What is written today takes 27 at most; later versions may add fields.
pub const MAX_PACKET_HEADER_BYTES: usize = 512;
/// Bytes of `PLEN` and `HLEN`.
const FRAME_PREFIX: usize = 6;
/// Bytes of a header without and with `syncBlock`.
const HEADER_BYTES: usize = 25;
const HEADER_BYTES_SYNC: usize = 27;

/// The header of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketHeader {
    /// Where in the block the data begins, in bytes.
    pub offset: u64,
    /// Its number in the stream, or [`HEARTBEAT_SEQNO`]. Grows, perhaps with gaps.
    pub seqno: i64,
    /// Whether the block ends here. Such a packet has no data.
    pub last: bool,
    /// Bytes of data.
    pub data_len: u32,
    /// Whether to have everything on disk before acking.
    pub sync: bool,
}

/// What goes before the checksums of a packet on the wire.
#[derive(Clone, Copy)]
pub struct PacketHead {
    bytes: [u8; FRAME_PREFIX + HEADER_BYTES_SYNC],
    len: usize,
}

impl PacketHead {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl PacketHeader {
    /// A heartbeat.
    #[must_use]
    pub const fn heartbeat() -> Self {
        Self { offset: 0, seqno: HEARTBEAT_SEQNO, last: false, data_len: 0, sync: false }
    }

    /// Whether it is a heartbeat.
    #[must_use]
    pub const fn is_heartbeat(&self) -> bool {
        self.seqno == HEARTBEAT_SEQNO
    }

    /// The offset behind its data.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.data_len as u64
    }

    /// `PLEN`, `HLEN` and the header of a packet that carries `checksum_len` bytes of checksums.
    #[must_use]
    pub fn head(&self, checksum_len: usize) -> PacketHead {
        let header_len = if self.sync { HEADER_BYTES_SYNC } else { HEADER_BYTES };
        let mut bytes = [0; FRAME_PREFIX + HEADER_BYTES_SYNC];
        let mut out = &mut bytes[..];
        out.put_u32(4 + checksum_len as u32 + self.data_len);
        out.put_u16(header_len as u16);
        out.put_u8(0x09);
        out.put_u64_le(self.offset);
        out.put_u8(0x11);
        out.put_i64_le(self.seqno);
        out.put_u8(0x18);
        out.put_u8(u8::from(self.last));
        out.put_u8(0x25);
        out.put_u32_le(self.data_len);
        if self.sync {
            out.put_slice(&[0x28, 1]);
        }
        PacketHead { bytes, len: FRAME_PREFIX + header_len }
    }

    /// Reads a header message; any order of fields, unknown ones skipped.
    fn decode(mut bytes: &[u8]) -> Result<Self, TransferError> {
        const WHAT: &str = "packet header";
        let wrong = |error: prost::DecodeError| TransferError::malformed(WHAT, error);
        let (mut offset, mut seqno, mut last, mut data_len, mut sync) = (None, None, None, None, false);
        while bytes.has_remaining() {
            let (tag, wire_type) = decode_key(&mut bytes).map_err(wrong)?;
            match (tag, wire_type) {
                (1, WireType::SixtyFourBit) => offset = Some(bytes.try_get_i64_le().map_err(short)?),
                (2, WireType::SixtyFourBit) => seqno = Some(bytes.try_get_i64_le().map_err(short)?),
                (3, WireType::Varint) => last = Some(decode_varint(&mut bytes).map_err(wrong)? != 0),
                (4, WireType::ThirtyTwoBit) => data_len = Some(bytes.try_get_i32_le().map_err(short)?),
                (5, WireType::Varint) => sync = decode_varint(&mut bytes).map_err(wrong)? != 0,
                (1..=5, _) => return Err(TransferError::malformed(WHAT, "a field of another type")),
                _ => skip_field(wire_type, tag, &mut bytes, DecodeContext::default()).map_err(wrong)?,
            }
        }
        let field = |field| TransferError::Field { what: WHAT, field };
        let header = Self {
            offset: offset.and_then(|value| u64::try_from(value).ok()).ok_or(field("offsetInBlock"))?,
            seqno: seqno.filter(|value| *value >= HEARTBEAT_SEQNO).ok_or(field("seqno"))?,
            last: last.ok_or(field("lastPacketInBlock"))?,
            data_len: data_len.and_then(|value| u32::try_from(value).ok()).ok_or(field("dataLen"))?,
            sync,
        };
        // An offset behind the last byte that a signed length can count does not exist.
        if header.offset > i64::MAX as u64 - u64::from(u32::MAX) {
            return Err(field("offsetInBlock"));
        }
        if (header.last || header.is_heartbeat()) && header.data_len != 0 {
            return Err(field("dataLen"));
        }
        Ok(header)
    }
}

fn short(error: bytes::TryGetError) -> TransferError {
    TransferError::malformed("packet header", error)
}

/// Data that does not match its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the checksum of the chunk at {offset} does not match its data")]
pub struct ChecksumMismatch {
    /// Where in the block the bad chunk begins.
    pub offset: u64,
}

/// A packet as it is on the wire, and where its parts are. Cloning it copies nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    header: PacketHeader,
    frame: Bytes,
    checksums_at: usize,
    data_at: usize,
}

impl Packet {
    /// Builds a packet from its parts (copies them). `header.data_len` is taken from `data`.
    #[must_use]
    pub fn build(mut header: PacketHeader, checksums: &[u8], data: &[u8]) -> Self {
        header.data_len = data.len() as u32;
        let head = header.head(checksums.len());
        let mut frame = BytesMut::with_capacity(head.as_slice().len() + checksums.len() + data.len());
        frame.extend_from_slice(head.as_slice());
        frame.extend_from_slice(checksums);
        frame.extend_from_slice(data);
        let checksums_at = head.as_slice().len();
        Self { header, frame: frame.freeze(), checksums_at, data_at: checksums_at + checksums.len() }
    }

    /// Its header.
    #[must_use]
    pub const fn header(&self) -> &PacketHeader {
        &self.header
    }

    /// All its bytes, as they go over the wire.
    #[must_use]
    pub const fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The checksums, big-endian.
    #[must_use]
    pub fn checksums(&self) -> &[u8] {
        &self.frame[self.checksums_at..self.data_at]
    }

    /// The data.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.frame[self.data_at..]
    }

    /// The data, sharing the packet's memory.
    #[must_use]
    pub fn data_bytes(&self) -> Bytes {
        self.frame.slice(self.data_at..)
    }

    /// The checksums, sharing the packet's memory.
    #[must_use]
    pub fn checksum_bytes(&self) -> Bytes {
        self.frame.slice(self.checksums_at..self.data_at)
    }

    /// Compares the data with the checksums, one for each chunk of the block that the data touches. A packet may begin
    /// inside a chunk (an append to a partial one): its first checksum then covers its own bytes only.
    ///
    /// # Errors
    /// Where the first bad chunk begins; a wrong number of checksums is bad from the start.
    pub fn verify(&self, spec: ChecksumSpec) -> Result<(), ChecksumMismatch> {
        let (data, checksums, offset) = (self.data(), self.checksums(), self.header.offset);
        let chunk = u64::from(spec.bytes_per_checksum);
        let first = match offset % chunk {
            0 => 0,
            inside => usize::try_from(chunk - inside).map_or(data.len(), |rest| rest.min(data.len())),
        };
        let (head, body) = data.split_at(first);
        let head_sums = if head.is_empty() { 0 } else { spec.kind.size() };
        let (Some(first_sum), Some(rest)) = (checksums.get(..head_sums), checksums.get(head_sums..)) else {
            return Err(ChecksumMismatch { offset });
        };
        if spec.kind != ChecksumKind::Null
            && !head.is_empty()
            && spec.kind.of(head).to_be_bytes() != first_sum
        {
            return Err(ChecksumMismatch { offset });
        }
        spec.verify(body, rest).map_err(|at| ChecksumMismatch { offset: offset + (first + at) as u64 })
    }
}

/// Takes one packet off the front of `buffer`, without copying; `None` while it is not all there.
///
/// # Errors
/// Lengths that are negative, past [`MAX_PACKET_BYTES`] or at odds with each other, and headers that do not parse.
/// They are found as soon as the bytes that show them are there.
pub fn decode_packet(buffer: &mut BytesMut) -> Result<Option<Packet>, TransferError> {
    let mut front = &buffer[..];
    if front.len() < FRAME_PREFIX {
        return Ok(None);
    }
    let payload = front.get_i32();
    let header_len = usize::from(front.get_u16());
    if payload < 4 {
        return Err(TransferError::PayloadSize { payload, data: 0 });
    }
    if header_len > MAX_PACKET_HEADER_BYTES {
        let (length, limit) = (header_len as u64, MAX_PACKET_HEADER_BYTES as u64);
        return Err(TransferError::TooLong { what: "packet header", length, limit });
    }
    let checksums_at = FRAME_PREFIX + header_len;
    // `PLEN` counts its own four bytes.
    let total = checksums_at + payload as usize - 4;
    if total > MAX_PACKET_BYTES {
        return Err(TransferError::TooLong {
            what: "packet",
            length: total as u64,
            limit: MAX_PACKET_BYTES as u64,
        });
    }
    let Some(header) = front.get(..header_len) else { return Ok(None) };
    let header = PacketHeader::decode(header)?;
    let body = payload as u32 - 4;
    let Some(checksum_len) = body.checked_sub(header.data_len) else {
        return Err(TransferError::PayloadSize { payload, data: header.data_len as i32 });
    };
    // No chunk is smaller than a byte nor its checksum larger than four.
    if u64::from(checksum_len) > 4 * u64::from(header.data_len) {
        return Err(TransferError::PayloadSize { payload, data: header.data_len as i32 });
    }
    if buffer.len() < total {
        return Ok(None);
    }
    let data_at = checksums_at + checksum_len as usize;
    Ok(Some(Packet { header, frame: buffer.split_to(total).freeze(), checksums_at, data_at }))
}

#[cfg(test)]
#[path = "packet_test.rs"]
mod tests;
