//! What can go wrong with replicas and volumes.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use steadfs_common::{BlockId, FsError, FsErrorKind, GenStamp};

/// The result of an operation of the store.
pub type StoreResult<T> = Result<T, StoreError>;

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No replica of the block, or not one in the state that the operation needs.
    #[error("Replica not found for {block}: {why}")]
    NotFound {
        /// The block asked for.
        block: BlockId,
        /// What is there instead, if anything.
        why: String,
    },
    /// The block has a replica here already.
    #[error("{block} already exists in state {state} and thus cannot be created.")]
    Exists {
        /// The block.
        block: BlockId,
        /// The state of the replica that is here.
        state: &'static str,
    },
    /// The replica is of another life of the block.
    #[error("Replica of {block} has generation stamp {found}, expected {expected}")]
    Stamp {
        /// The block.
        block: BlockId,
        /// The stamp of the replica here.
        found: GenStamp,
        /// What the caller wanted, in words.
        expected: String,
    },
    /// The replica has not the length that the operation needs.
    #[error("Replica of {block} has a length of {found}, expected {expected}")]
    Length {
        /// The block.
        block: BlockId,
        /// The length of the replica here, in bytes.
        found: u64,
        /// What the caller wanted, in words.
        expected: String,
    },
    /// Bytes do not match their checksum.
    #[error("Checksum error in {block} at offset {offset}")]
    Checksum {
        /// The block.
        block: BlockId,
        /// Offset in the block of the first chunk that does not match.
        offset: u64,
    },
    /// A packet that makes no sense at this point of the block.
    #[error("Packet for {block} refused: {why}")]
    Packet {
        /// The block.
        block: BlockId,
        /// What is wrong with it.
        why: String,
    },
    /// A checksum type or chunk size that cannot be used with this replica.
    #[error("{0}")]
    ChecksumSpec(String),
    /// Somebody else writes, recovers or has removed the replica: this writer is over.
    #[error("The writer of {block} was superseded")]
    Superseded {
        /// The block.
        block: BlockId,
    },
    /// The replica waits to be recovered: nobody knows which of its bytes count.
    #[error("Replica of {block} is not readable: it waits to be recovered")]
    NotReadable {
        /// The block.
        block: BlockId,
    },
    /// A newer recovery of the block is under way.
    #[error("{block} is under a newer recovery {recovery}")]
    RecoveryInProgress {
        /// The block.
        block: BlockId,
        /// The stamp of that recovery.
        recovery: GenStamp,
    },
    /// An earlier write or sync of this replica failed; it takes nothing more.
    #[error("Replica of {block} failed earlier: {why}")]
    Failed {
        /// The block.
        block: BlockId,
        /// What had failed.
        why: String,
    },
    /// No volume has room.
    #[error("Out of space: no volume has {wanted} bytes free, the most is {most}")]
    Full {
        /// Bytes asked for.
        wanted: u64,
        /// The most that one volume could take.
        most: u64,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The volume has failed and is no longer used.
    #[error("Volume {path} has failed", path = path.display())]
    VolumeFailed {
        /// The volume's folder.
        path: PathBuf,
    },
    /// No volume answers: nothing new is put on one that does not.
    #[error("Volume {path} does not answer", path = path.display())]
    Stalled {
        /// The volume's folder.
        path: PathBuf,
    },
    /// A volume's own files are damaged; the sentence says which and what to do. Other volumes may serve.
    #[error("{path}: {why}", path = path.display())]
    Damaged {
        /// The volume's folder.
        path: PathBuf,
        /// Reason and remedy.
        why: String,
    },
    /// A volume's folder cannot be used; the sentence says why and what to do.
    #[error("{path}: {why}", path = path.display())]
    Refused {
        /// The volume's folder.
        path: PathBuf,
        /// Reason and remedy.
        why: String,
    },
}

impl StoreError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn not_found(block: BlockId, why: impl Into<String>) -> Self {
        Self::NotFound { block, why: why.into() }
    }

    /// Whether this process is to blame, and no disk: it has too many files open, or no memory.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_ours(source))
    }

    /// Whether only room on the disk, or something that this process has too little of, was lacking.
    pub(crate) fn is_shortage(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_ours(source) || is_full(source))
    }

    /// The outcome of HDFS that this is.
    #[must_use]
    pub fn kind(&self) -> FsErrorKind {
        match self {
            Self::NotFound { .. } | Self::Stamp { .. } => FsErrorKind::ReplicaNotFound,
            Self::Exists { .. } => FsErrorKind::AlreadyExists,
            Self::Length { .. }
            | Self::ChecksumSpec(_)
            | Self::Superseded { .. }
            | Self::NotReadable { .. }
            | Self::Refused { .. } => FsErrorKind::Refused,
            Self::Checksum { .. } => FsErrorKind::Checksum,
            Self::Packet { .. } => FsErrorKind::InvalidRequest,
            Self::RecoveryInProgress { .. } => FsErrorKind::RecoveryInProgress,
            Self::Failed { .. } | Self::VolumeFailed { .. } | Self::Stalled { .. } | Self::Damaged { .. } => {
                FsErrorKind::Io
            }
            Self::Full { .. } => FsErrorKind::NoSpace,
            Self::Io { source, .. } if is_full(source) => FsErrorKind::NoSpace,
            Self::Io { .. } => FsErrorKind::Io,
        }
    }
}

impl From<StoreError> for FsError {
    fn from(error: StoreError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

/// Whether the error says that this process, or this machine, has no descriptors or no memory left: no disk is to blame, and
/// no replica.
pub(crate) fn is_ours(error: &io::Error) -> bool {
    let ours = [Errno::MFILE, Errno::NFILE];
    error.raw_os_error().is_some_and(|code| ours.iter().any(|errno| errno.raw_os_error() == code))
        || is_no_memory(error)
}

/// Whether the error says that there is no memory. A file system says so, too, of a disk that was pulled out: blocks past the
/// end of a device, which has none any more, find no buffer (Linux's `sb_getblk`). The check of the volume tells which it is.
pub(crate) fn is_no_memory(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

/// Whether the error says that the disk or a quota is used up, which is no fault of the disk.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
