//! The SteadFS client library: files over `hdfs://` from Rust.
//!
//! [`Client::connect`] gives a [`Client`]; [`Client::open`] a [`Reader`] of a file, [`Client::create`] and
//! [`Client::append`] a [`Writer`]. Everything is async (tokio), every handle may be used from any task.
//!
//! ```
//! use futures::TryStreamExt;
//! use steadfs_client::Client;
//!
//! # #[tokio::main]
//! # async fn main() -> steadfs_client::FsResult<()> {
//! # let Ok(url) = std::env::var("STEADFS_URL") else { return Ok(()) };
//! // Such as hdfs://localhost:8020.
//! let client = Client::connect(&url).await?;
//! client.mkdirs("/reports").await?;
//!
//! let mut file = client.create("/reports/today.csv").overwrite(true).await?;
//! file.write_all("name,delay\n").await?;
//! file.close().await?;
//!
//! for entry in client.list("/reports").try_collect::<Vec<_>>().await? {
//!     println!("{} has {} bytes", entry.path, entry.length);
//! }
//! let bytes = client.open("/reports/today.csv").await?.read_at(0, 4).await?;
//! assert_eq!(bytes, "name");
//! # Ok(()) }
//! ```
//!
//! Owns the client's side of the protocols: calls to the namenode over gRPC with deadlines and repetitions, bytes to and
//! from datanodes over Hadoop's data-transfer protocol, the mending of pipelines, leases. It holds no rule of the
//! namespace: the server decides, and its sentence arrives in the [`FsError`].
//!
//! Invariants:
//! * No byte is given to a reader that was not compared with its checksum (unless the file was written without).
//! * Memory is bounded: each writer by its packets in flight, each sequential reader by its read-ahead.
//! * A file being written is owned by a task of its own: a caller that goes away leaves nothing half done.

mod admin;
mod attributes;
mod backoff;
mod calls;
mod change;
mod client;
mod data;
mod datanodes;
mod error;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod fake_namenode;
#[cfg(test)]
mod fake_test;
mod inodes;
mod keep;
mod landing;
mod lease;
mod list;
mod local;
mod locks;
mod nodes;
mod operate;
mod options;
mod quotas;
mod read;
mod types;
mod upkeep;
mod url;
mod watch;
mod write;

pub use admin::{
    ClusterReport, DatanodeReport, FsckBlock, FsckFile, FsckItem, FsckSummary, SafeMode, StorageReport,
    VolumeFailure, VolumeHealth,
};
pub use calls::repeatable;
pub use client::Client;
pub use datanodes::ReconfiguredProperty;
pub use inodes::{entry_path, inode_path};
pub use keep::OpenKeeper;
pub use local::LOCAL_FOLDER;
pub use locks::{LockHolder, LockResult, LockSession, LockTarget, LockWish};
pub use nodes::{BalanceStatus, NodeNames, NodeStop, NodeWish, StopAnswer};
pub use operate::{NodeState, OpenFile};
pub use options::{ClientOptions, ReplaceDatanode, current_user};
pub use quotas::{Bound, ContentSummary, TypeUsage};
pub use read::{FileChecksum, FileStream, PulledStream, Reader};
pub use steadfs_common::acl::AclChange;
pub use steadfs_common::{
    ChecksumKind, ChecksumSpec, FsError, FsErrorKind, FsPath, FsResult, InodeId, Millis,
};
pub use steadfs_common::{StorageType, acl, xattr};
pub use types::{BlockLocation, Defaults, FileStatus, FsStats, Replica};
pub use upkeep::{BackupPiece, DataHealth, KeptBlocks, NamespaceCheck};
pub use url::{DEFAULT_PORT, FsUrl};
pub use watch::{Change, ChangeKind, WatchFilter, Watched};
pub use write::{Append, Create, Replace, Writer};
