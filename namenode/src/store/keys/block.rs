//! A block's key: its id, eight bytes big-endian. So block reports, which come in order of id, merge with one scan.

use steadfs_common::BlockId;

use crate::store::codec::{CodecError, Reader};

/// The key's bytes.
#[must_use]
pub const fn encode(id: BlockId) -> [u8; 8] {
    id.0.to_be_bytes()
}

/// The id in these bytes.
///
/// # Errors
/// They are not eight.
pub fn decode(bytes: &[u8]) -> Result<BlockId, CodecError> {
    let mut input = Reader::new("key of table `block`", bytes);
    let id = BlockId(u64::from_be_bytes(input.array()?));
    input.end()?;
    Ok(id)
}
