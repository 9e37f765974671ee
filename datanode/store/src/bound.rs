//! Which block a checksum file belongs to: kept in an attribute of the file itself.
//!
//! Names can be wrong. A repair of a file system, or a hand, may give two blocks each other's files; where both files of each
//! block went together and are equally long, all checksums match. The attribute goes where the file goes. Block ids are never
//! given out twice, and a file never changes its block, so it is written once, when the file is made, and the first sync of the
//! file makes it durable. Files without it are as good as any: older ones, those copied by tools that leave attributes behind,
//! and those on file systems that have none.
//!
//! `byte version = 1 | int64 block id`, big-endian, under the name `user.steadfs.block`.

use std::io;

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
use steadfs_common::BlockId;

use crate::disk::NamedFile;
use crate::{StoreError, StoreResult};

const NAME: &str = "user.steadfs.block";
const VERSION: u8 = 1;
const BYTES: usize = 9;

fn encode(id: BlockId) -> [u8; BYTES] {
    let mut value = [VERSION; BYTES];
    value[1..].copy_from_slice(&id.0.to_be_bytes());
    value
}

/// None if it says nothing that we understand.
fn decode(value: &[u8]) -> Option<BlockId> {
    let (version, id) = value.split_first()?;
    let id = id.try_into().ok().filter(|_| *version == VERSION)?;
    Some(BlockId(u64::from_be_bytes(id)))
}

/// Notes on a checksum file that was just made which block it is of. Where that cannot be noted, nothing is lost: what else is
/// done with the file meets the same trouble.
pub(crate) fn bind(meta: &NamedFile, id: BlockId) {
    if let Err(error) = fsetxattr(&meta.file, NAME, &encode(id), XattrFlags::empty()) {
        tracing::debug!(path = %meta.path.display(), %error, "a checksum file does not say which block it is of");
    }
}

/// Compares what a checksum file says of itself with its name.
///
/// # Errors
/// It is of another block.
pub(crate) fn check(meta: &NamedFile, id: BlockId) -> StoreResult<()> {
    let mut value = [0; BYTES];
    // None there, none possible, or longer than any that we know.
    let Ok(count) = fgetxattr(&meta.file, NAME, &mut value) else { return Ok(()) };
    match decode(&value[..count]) {
        Some(other) if other != id => {
            let why = format!("this is the checksum file of {other}: files were exchanged");
            Err(StoreError::io(&meta.path, io::Error::new(io::ErrorKind::InvalidData, why)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attribute_is_as_it_always_was() {
        let golden = [1, 0, 0, 0, 0, 0x40, 0, 0, 1];
        assert_eq!(encode(BlockId(1_073_741_825)), golden);
        assert_eq!(decode(&golden), Some(BlockId(1_073_741_825)));
    }

    #[test]
    fn what_is_not_understood_says_nothing() {
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[2, 0, 0, 0, 0, 0x40, 0, 0, 1]), None);
        assert_eq!(decode(&[1, 0, 0, 0, 0, 0x40, 0, 0]), None);
    }
}
