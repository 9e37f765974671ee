//! Messages with their length in front, as Java's `writeDelimitedTo` makes them.

use bytes::{Buf, Bytes, BytesMut};
use prost::{Message, Name};

use super::error::TransferError;

/// Longest varint of a 32-bit length.
const MAX_LENGTH_BYTES: usize = 5;
/// What is read at once when nothing is known about what comes.
const READ_STEP: usize = 256 << 10;

/// Appends `message` with its length in front.
pub fn encode_delimited(message: &impl Message, out: &mut BytesMut) {
    out.reserve(message.encoded_len() + MAX_LENGTH_BYTES);
    message.encode_length_delimited(out).expect("a BytesMut grows as needed");
}

/// Reads a varint of at most 32 bits at the front of `bytes`: its value and how many bytes it takes.
fn length_prefix(bytes: &[u8]) -> Result<Option<(u32, usize)>, TransferError> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(MAX_LENGTH_BYTES).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| TransferError::BadVarint)?;
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= MAX_LENGTH_BYTES { Err(TransferError::BadVarint) } else { Ok(None) }
}

/// Where the delimited message at the front of `bytes` begins and ends, if all of it is there.
pub(super) fn delimited_span(
    bytes: &[u8],
    what: &'static str,
    limit: usize,
) -> Result<Option<std::ops::Range<usize>>, TransferError> {
    let Some((length, start)) = length_prefix(bytes)? else { return Ok(None) };
    let length = length as usize;
    if length > limit {
        return Err(TransferError::TooLong { what, length: length as u64, limit: limit as u64 });
    }
    Ok((bytes.len() - start >= length).then_some(start..start + length))
}

/// Takes a delimited message of at most `limit` bytes off the front of `buffer`; `None` while it is not all there.
/// `what` names it in errors.
///
/// # Errors
/// [`TransferError::BadVarint`] and [`TransferError::TooLong`].
pub fn decode_delimited(
    buffer: &mut BytesMut,
    what: &'static str,
    limit: usize,
) -> Result<Option<Bytes>, TransferError> {
    let Some(span) = delimited_span(buffer, what, limit)? else { return Ok(None) };
    let mut frame = buffer.split_to(span.end);
    frame.advance(span.start);
    Ok(Some(frame.freeze()))
}

/// Takes and parses a delimited message; see [`decode_delimited`].
///
/// # Errors
/// Those of [`decode_delimited`], and [`TransferError::Malformed`].
pub fn decode_message<M: Message + Name + Default>(
    buffer: &mut BytesMut,
    what: &'static str,
    limit: usize,
) -> Result<Option<M>, TransferError> {
    let Some(bytes) = decode_delimited(buffer, what, limit)? else { return Ok(None) };
    parse(bytes, what).map(Some)
}

/// Parses a message; one that lacks a required field is refused.
pub(super) fn parse<M: Message + Name + Default>(
    bytes: Bytes,
    what: &'static str,
) -> Result<M, TransferError> {
    steadfs_proto::hadoop::decode(bytes).map_err(|error| TransferError::malformed(what, error))
}

/// How much room to reserve in a buffer that holds `arrived` bytes of something unfinished before reading on: it grows
/// with what has come, never with what a length claims.
#[must_use]
pub const fn room(arrived: usize) -> usize {
    if arrived > READ_STEP { arrived } else { READ_STEP }
}
