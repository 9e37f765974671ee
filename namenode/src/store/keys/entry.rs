//! An entry's key: the folder's id, eight bytes big-endian, then the name's bytes: a folder's names lie together in byte
//! order.

use steadfs_common::{InodeId, Name};

use crate::store::codec::{CodecError, Reader};

const WHAT: &str = "key of table `entry`";

/// The key's bytes.
#[must_use]
pub fn encode(folder: InodeId, name: &Name) -> Vec<u8> {
    let mut bytes = prefix(folder).to_vec();
    bytes.extend_from_slice(name.as_str().as_bytes());
    bytes
}

/// What all entries of a folder begin with.
#[must_use]
pub const fn prefix(folder: InodeId) -> [u8; 8] {
    super::inode_bytes(folder)
}

/// Folder and name in these bytes.
///
/// # Errors
/// They hold no id, or no valid name.
pub fn decode(bytes: &[u8]) -> Result<(InodeId, Name), CodecError> {
    let mut input = Reader::new(WHAT, bytes);
    let folder = InodeId(u64::from_be_bytes(input.array()?));
    let name = std::str::from_utf8(input.raw(bytes.len() - 8)?).ok().and_then(|text| Name::new(text).ok());
    Ok((folder, name.ok_or_else(|| input.error("it holds no valid name"))?))
}
