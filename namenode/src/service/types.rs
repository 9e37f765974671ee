//! What the service answers: plain values that every door turns into its own messages.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use steadfs_common::{BlockId, DatanodeUuid, FsPath, InodeId, Millis, Name, StorageId, StorageType};
use steadfs_namenode_core::blocks::{AdminState, Lacking};
use steadfs_namenode_core::command::BlockRef;
use steadfs_namenode_core::record::{Block, Inode};

/// A datanode as a client needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Who it is, for life.
    pub uuid: DatanodeUuid,
    /// Where it is dialled.
    pub ip: IpAddr,
    /// Its host name, which a stock scheduler compares.
    pub host_name: String,
    /// Port of the data-transfer protocol.
    pub data_port: u16,
    /// Port of Hadoop RPC and gRPC.
    pub ipc_port: u16,
    /// Port of HTTP; 0 for none.
    pub http_port: u16,
    /// Its place in the topology; begins with `/`.
    pub rack: String,
    /// Its version.
    pub version: String,
    /// The (Kubernetes) node that it runs on; empty if it told none.
    pub node: String,
    /// Whether its heartbeats arrive.
    pub live: bool,
    /// Whether it serves, or leaves.
    pub admin: AdminState,
    /// What keeps it from leaving.
    pub lacking: Lacking,
    /// Whether it lives but was not heard for a while.
    pub stale: bool,
    /// Whether others find it far slower than the rest.
    pub slow: bool,
    /// How long it takes to take a packet, as others find.
    pub latency: Option<Duration>,
    /// Bytes on all its volumes.
    pub capacity: u64,
    /// Bytes used by replicas.
    pub used: u64,
    /// Bytes free for replicas.
    pub remaining: u64,
    /// When it was heard last.
    pub last_heartbeat: Millis,
    /// When it reported all replicas last; 0 for never.
    pub last_block_report: Millis,
    /// Reads and writes it serves now.
    pub active_transfers: u32,
    /// Replicas it holds.
    pub blocks: u64,
}

/// One place of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The node.
    pub node: Arc<Node>,
    /// The volume on it.
    pub storage: StorageId,
    /// What the volume is.
    pub kind: StorageType,
}

/// A volume as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageReport {
    /// The volume.
    pub storage: StorageId,
    /// What it is.
    pub kind: StorageType,
    /// Whether its datanode gave it up.
    pub failed: bool,
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes used by replicas.
    pub used: u64,
    /// Bytes free for replicas.
    pub remaining: u64,
    /// Replicas on it.
    pub blocks: u64,
}

/// A datanode as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// The node.
    pub node: Arc<Node>,
    /// Its volumes, by id.
    pub storages: Vec<StorageReport>,
}

/// A file that is open for writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// The file.
    pub inode: InodeId,
    /// Where it is.
    pub path: FsPath,
    /// Who writes it.
    pub client: String,
    /// The host that it is written from.
    pub machine: String,
}

/// One page of open files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenFiles {
    /// By inode.
    pub files: Vec<OpenFile>,
    /// Others follow.
    pub more: bool,
}

/// A block and the file that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Where the file is.
    pub path: FsPath,
    /// The block's record.
    pub block: Block,
}

/// A block and all its good replicas, for a balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockOnNode {
    /// The block.
    pub block: BlockRef,
    /// Where it is.
    pub locations: Vec<Location>,
}

/// A block of a file and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedBlock {
    /// Id, generation stamp and length.
    pub block: BlockRef,
    /// Bytes of the file before it.
    pub offset: u64,
    /// Where it is, best for the caller first; for a block to write in pipeline order.
    pub locations: Vec<Location>,
    /// Replicas are known, and all of them are bad.
    pub corrupt: bool,
}

/// The blocks of a file that a caller asked for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FileBlocks {
    /// Bytes of the file; of a file being written, those before a last block that is not complete.
    pub length: u64,
    /// The blocks in the range, in order.
    pub blocks: Vec<LocatedBlock>,
    /// The file's last block, wherever the range ends; none for an empty file.
    pub last: Option<LocatedBlock>,
    /// Whether somebody writes the file.
    pub under_construction: bool,
    /// Whether the last block's length is final; false for an empty file.
    pub last_complete: bool,
}

/// A file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// The inode. `inode.file().length` is the length to show.
    pub inode: Arc<Inode>,
    /// The name in the folder listed; none where the caller named the path.
    pub name: Option<Name>,
    /// Blocks and places, where they were asked for and this is a file.
    pub blocks: Option<FileBlocks>,
    /// The storage policy it has or inherits: HDFS's number, 0 for none.
    pub policy: u8,
}

/// One page of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Listing {
    /// In byte order of the names. A file lists as one entry without a name.
    pub entries: Vec<FileStatus>,
    /// Entries that follow; only "none" and "some" are exact.
    pub remaining: u64,
}

/// The cluster's sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FsStats {
    /// Bytes of all live volumes.
    pub capacity: u64,
    /// Bytes used by replicas.
    pub used: u64,
    /// Bytes free for replicas.
    pub remaining: u64,
    /// Blocks with fewer replicas than wanted.
    pub under_replicated: u64,
    /// Blocks with a bad replica.
    pub corrupt: u64,
    /// Blocks without any good replica.
    pub missing: u64,
    /// Those of them of which only one replica is wanted.
    pub missing_single: u64,
    /// Blocks that the loss of one replica would lose.
    pub endangered: u64,
    /// Replications waiting or under way.
    pub pending_replication: u64,
    /// Blocks with enough replicas, all in one zone or rack, or several on one machine, although there are others.
    pub misplaced: u64,
    /// Replicas waiting to be deleted.
    pub pending_deletion: u64,
}

/// What a client should do when it is not told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Bytes of a block.
    pub block_size: u64,
    /// The smallest block that may be asked for, in bytes.
    pub min_block_size: u64,
    /// Replicas of a block.
    pub replication: u16,
    /// Bytes that one checksum covers.
    pub bytes_per_checksum: u32,
    /// Bytes of a packet.
    pub packet_size: u32,
    /// The block pool.
    pub block_pool: String,
    /// The cluster.
    pub cluster_id: String,
    /// After this another writer may take a file over.
    pub lease_soft_limit: Duration,
    /// After this the namenode takes a file over.
    pub lease_hard_limit: Duration,
    /// How many minutes what was thrown away is kept; 0 leaves it to clients.
    pub trash_minutes: u64,
    /// Our version.
    pub version: &'static str,
}

/// What an operator asks first.
#[derive(Clone, Debug)]
pub struct ClusterReport {
    /// The cluster.
    pub cluster_id: String,
    /// The block pool.
    pub block_pool: String,
    /// When this process began to serve.
    pub started: Millis,
    /// Why changes are refused, if they are.
    pub safe_mode: Option<String>,
    /// Sums over datanodes and blocks.
    pub stats: FsStats,
    /// Files in the namespace.
    pub files: u64,
    /// Folders in the namespace, the root included.
    pub directories: u64,
    /// Blocks, those being removed included.
    pub blocks: u64,
    /// Files open for writing, counted up to a bound.
    pub open_files: u64,
    /// Known datanodes, dead ones included.
    pub datanodes: Vec<NodeReport>,
    /// The first few blocks without any good replica.
    pub missing_blocks: Vec<BlockId>,
    /// What is wrong with the namenode's own data, a sentence each.
    pub data_problems: Vec<String>,
    /// Why what is known of Kubernetes may be old, by what is watched.
    pub kubernetes: BTreeMap<&'static str, String>,
}

/// One call as the status page shows it.
#[derive(Clone, Debug)]
pub struct RecentOperation {
    /// When it ended.
    pub at: Millis,
    /// What: `mkdirs`, `create`, …
    pub operation: &'static str,
    /// Who.
    pub user: String,
    /// From where.
    pub address: Option<IpAddr>,
    /// On what.
    pub path: String,
    /// How it ended: none for success, else the error's first words.
    pub error: Option<String>,
    /// How long it took.
    pub took: Duration,
}
