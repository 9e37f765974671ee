//! The key of a file's block: the file's id, eight bytes, then the index, four, both big-endian: a file's blocks lie
//! together in order.

use steadfs_common::InodeId;

use crate::store::codec::{CodecError, Reader};

/// The key's bytes.
#[must_use]
pub fn encode(file: InodeId, index: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&prefix(file));
    bytes[8..].copy_from_slice(&index.to_be_bytes());
    bytes
}

/// What all blocks of a file begin with.
#[must_use]
pub const fn prefix(file: InodeId) -> [u8; 8] {
    super::inode_bytes(file)
}

/// File and index in these bytes.
///
/// # Errors
/// They are not twelve.
pub fn decode(bytes: &[u8]) -> Result<(InodeId, u32), CodecError> {
    let mut input = Reader::new("key of table `file_block`", bytes);
    let file = InodeId(u64::from_be_bytes(input.array()?));
    let index = u32::from_be_bytes(input.array()?);
    input.end()?;
    Ok((file, index))
}
