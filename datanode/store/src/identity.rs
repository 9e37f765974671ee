//! Whose folder a volume is.

use steadfs_common::{BlockPoolId, DatanodeUuid};

/// The cluster that a datanode belongs to, as its namenode named it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// The cluster's id.
    pub cluster_id: String,
    /// The block pool.
    pub block_pool: BlockPoolId,
}

/// Who a datanode is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The datanode; drawn at its first start.
    pub uuid: DatanodeUuid,
    /// Its cluster; none until it has registered for the first time.
    pub cluster: Option<Cluster>,
}
