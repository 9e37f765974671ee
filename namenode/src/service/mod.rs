//! What can be asked of the namenode, once for all doors.

pub mod effects;
pub mod types;

pub use effects::{EffectSink, SharedCluster};
pub use types::{
    ClusterReport, ContentSummary, Defaults, FileBlocks, FileStatus, FsStats, Listing, LocatedBlock, Location, Node,
    NodeReport, RecentOperation, StorageKind, StorageReport,
};
