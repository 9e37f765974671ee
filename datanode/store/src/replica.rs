//! A replica and its states.
use steadfs_common::{BlockId, GenStamp};

/// A block as the datanode or the namenode knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Block {
    /// Which block.
    pub id: BlockId,
    /// Which life of it.
    pub stamp: GenStamp,
    /// Bytes.
    pub len: u64,
}

/// The states of a replica, as in HDFS.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReplicaState {
    /// Complete and durable; never changed in place.
    Finalized,
    /// Being written by a pipeline.
    Rbw,
    /// Was being written when the datanode stopped; waits to be recovered.
    Rwr,
    /// A recovery has begun on it.
    Rur,
    /// A copy from another datanode on its way in; nobody may see it and a restart wipes it.
    Temporary,
}

impl ReplicaState {
    /// As HDFS spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finalized => "FINALIZED",
            Self::Rbw => "RBW",
            Self::Rwr => "RWR",
            Self::Rur => "RUR",
            Self::Temporary => "TEMPORARY",
        }
    }
}
