//! The key of a mount's session: its id. Eight bytes, big-endian.

use steadfs_common::InodeId;
use steadfs_namenode_core::locks::SessionId;

use crate::store::codec::CodecError;

/// The key's bytes.
#[must_use]
pub const fn encode(id: SessionId) -> [u8; 8] {
    super::inode_bytes(InodeId(id.0))
}

/// The id in these bytes.
///
/// # Errors
/// They are not eight.
pub fn decode(bytes: &[u8]) -> Result<SessionId, CodecError> {
    super::inode_from("key of table `lock_session`", bytes).map(|id| SessionId(id.0))
}
