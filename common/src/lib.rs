//! Ids, paths, units, limits, errors and checksums that every part of SteadFS shares.
//!
//! Owns the vocabulary. It does no I/O and knows no runtime, so that the rules in
//! `namenode/core` may depend on it.

pub mod acl;
mod checksum;
pub mod dates;
mod error;
mod ids;
pub mod limits;
mod path;
mod range;
mod storage;
pub mod trash;
mod units;
pub mod xattr;

pub use checksum::{ChecksumKind, ChecksumSpec};
pub use error::{FsError, FsErrorKind, FsResult, SAFE_MODE_ENDS};
pub use ids::{
    BlockId, BlockPoolId, CallKey, DatanodeUuid, FIRST_BLOCK_ID, FIRST_GENERATION_STAMP, FIRST_INODE_ID,
    GenStamp, IdError, InodeId, ROOT_INODE, StorageId, TxId,
};
pub use path::{FsPath, Name};
pub use range::{IpRange, NoIpRange};
pub use storage::StorageType;
pub use units::{Millis, format_bytes, parse_bytes};
