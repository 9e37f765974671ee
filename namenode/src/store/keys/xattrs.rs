//! The id of the inode they are of. Eight bytes, big-endian.

use steadfs_common::InodeId;

use crate::store::codec::CodecError;

/// The key's bytes.
#[must_use]
pub const fn encode(id: InodeId) -> [u8; 8] {
    super::inode_bytes(id)
}

/// The id in these bytes.
///
/// # Errors
/// They are not eight.
pub fn decode(bytes: &[u8]) -> Result<InodeId, CodecError> {
    super::inode_from("key of table `xattrs`", bytes)
}
