//! A volume.
use std::path::PathBuf;
use steadfs_common::StorageId;

/// What a volume's disk is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum VolumeKind {
    /// A spinning disk, or one nobody said anything about.
    #[default]
    Disk,
    /// Flash.
    Ssd,
    /// For what is seldom read.
    Archive,
}

/// A folder to keep replicas in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeConfig {
    /// The folder; made if it is not there.
    pub path: PathBuf,
    /// What its disk is.
    pub kind: VolumeKind,
    /// Bytes of the disk to leave free for others.
    pub reserved: u64,
}

/// How a volume is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VolumeStatus {
    /// Its id.
    pub storage: StorageId,
    /// What its disk is.
    pub kind: VolumeKind,
    /// It has failed and is no longer used.
    pub failed: bool,
    /// Bytes that may be used in all.
    pub capacity: u64,
    /// Bytes of replicas and their checksums.
    pub used: u64,
    /// Bytes that can still be stored.
    pub remaining: u64,
    /// Replicas.
    pub blocks: u64,
}
