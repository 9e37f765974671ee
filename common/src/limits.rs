//! The bounds that every door enforces. What an operator may change is configuration; these may not change,
//! because data written under a wider bound could not be read back under a narrower one.

/// Longest path in characters that a request may name (HDFS: `HdfsServerConstants.MAX_PATH_LENGTH`).
pub const MAX_PATH_CHARS: usize = 8_000;
/// Deepest path in components (HDFS: `HdfsServerConstants.MAX_PATH_DEPTH`).
pub const MAX_PATH_DEPTH: usize = 1_000;
/// Longest name of one component in bytes (HDFS: `dfs.namenode.fs-limits.max-component-length`).
pub const MAX_NAME_BYTES: usize = 255;
/// Most entries in one folder (HDFS: `dfs.namenode.fs-limits.max-directory-items`).
pub const MAX_DIRECTORY_ITEMS: u64 = 1_048_576;
/// Most blocks of one file (HDFS: `dfs.namenode.fs-limits.max-blocks-per-file`).
pub const MAX_BLOCKS_PER_FILE: u32 = 10_000;
/// The most that an operator may make of that: one call may have to look at all of them.
pub const MOST_BLOCKS_PER_FILE: u32 = 1_000_000;
/// Entries in one page of a listing (HDFS: `dfs.ls.limit`).
pub const LISTING_PAGE: usize = 1_000;
/// Largest frame of a Hadoop RPC connection in bytes. HDFS allows 128 MiB; nothing a client sends needs it.
pub const MAX_RPC_FRAME_BYTES: usize = 64 << 20;
/// Largest data-transfer packet in bytes (HDFS: `dfs.data.transfer.max.packet.size`).
pub const MAX_PACKET_BYTES: usize = 16 << 20;
/// Largest delimited message that opens a data-transfer operation, in bytes.
pub const MAX_OP_BYTES: usize = 1 << 20;
/// Largest chunk that one checksum covers, in bytes.
pub const MAX_BYTES_PER_CHECKSUM: u32 = 1 << 20;
/// Most replicas of a block (HDFS: `dfs.replication.max`).
pub const MAX_REPLICATION: u16 = 512;
/// Inodes and blocks reclaimed by one step of a detached tree's removal. Other changes wait for a step: it takes the commit
/// thread a millisecond or two.
pub const RECLAIM_STEP: usize = 250;
/// Longest user, group, client or host name in bytes.
pub const MAX_PRINCIPAL_BYTES: usize = 1_024;
