//! Questions about the namespace. None of them changes anything, so they run beside the commit thread on any view.

use std::sync::Arc;

use steadfs_common::{FsError, FsPath, FsResult, InodeId, Millis, Name};

use crate::command::{Caller, FileRef, Settings};
use crate::record::{Block, Inode, Totals};
use crate::view::View;

/// Asks a view on behalf of a caller: every answer is what the caller may see.
///
/// Errors of all methods: `AccessDenied` where the caller may not pass or look, or where the path goes through a file;
/// what else is said with each.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// What is asked.
    pub view: &'a dyn View,
    /// Who asks.
    pub caller: &'a Caller,
    /// The settings.
    pub settings: &'a Settings,
}

/// A page of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The entries, by name in byte order. A file that was listed itself is one entry with no name.
    pub entries: Vec<(Option<Name>, Arc<Inode>)>,
    /// Whether there are entries after these.
    pub more: bool,
}

/// A block and where it begins in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileBlock {
    /// The block.
    pub block: Block,
    /// The file's bytes before it.
    pub offset: u64,
}

/// What `getBlockLocations` answers, before anybody asked where the replicas are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileBlocks {
    /// The file.
    pub inode: Arc<Inode>,
    /// Bytes before the last block if that is not complete, else of the whole file.
    pub length: u64,
    /// Blocks that meet the range, in order, at most as many as asked for.
    pub blocks: Vec<FileBlock>,
    /// The file's last block, wherever the range ends.
    pub last: Option<FileBlock>,
    /// Whether the last block is complete; false without blocks.
    pub last_complete: bool,
}

/// Sums over a file or a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ContentSummary {
    /// Bytes of the files.
    pub length: u64,
    /// Files.
    pub files: u64,
    /// Folders, the one asked about included.
    pub directories: u64,
    /// Bytes times replication.
    pub space: u64,
}

/// What a caller wants to do with a file or folder: HDFS's `FsAction`, read 4, write 2, execute 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Action(pub(crate) u8);

impl Action {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Pass through a folder.
    pub const EXECUTE: Self = Self(1);
    /// Change.
    pub const WRITE: Self = Self(2);
    /// Look at.
    pub const READ: Self = Self(4);
    /// List a folder and look at its entries.
    pub const READ_EXECUTE: Self = Self(5);
    /// Everything.
    pub const ALL: Self = Self(7);

    /// The action with HDFS's number (0 to 7).
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits <= 7 { Some(Self(bits)) } else { None }
    }
}

impl<'a> Reader<'a> {
    /// A file's or folder's status; none if nothing is there.
    ///
    /// # Errors
    /// See [`Reader`]. A superuser gets none where others learn that the path goes through a file, as in HDFS.
    pub fn stat(&self, path: &FsPath) -> FsResult<Option<Arc<Inode>>> {
        let _ = path;
        Err(FsError::refused("unfinished"))
    }

    /// The inode with this id, if it is part of the tree.
    #[must_use]
    pub fn by_id(&self, id: InodeId) -> Option<Arc<Inode>> {
        let _ = id;
        None
    }

    /// The totals of a folder.
    #[must_use]
    pub fn totals(&self, folder: InodeId) -> Totals {
        self.view.totals(folder)
    }

    /// A page of at most `limit` entries strictly after `after`; none if nothing is there.
    ///
    /// # Errors
    /// See [`Reader`].
    pub fn list(&self, path: &FsPath, after: Option<&Name>, limit: usize) -> FsResult<Option<Listing>> {
        let _ = (path, after, limit);
        Err(FsError::refused("unfinished"))
    }

    /// A file's status, for questions that only files answer (`isFileClosed`, `getPreferredBlockSize`).
    ///
    /// # Errors
    /// See [`Reader`]; NotFound; IsADirectory.
    pub fn file(&self, path: &FsPath) -> FsResult<Arc<Inode>> {
        let _ = path;
        Err(FsError::refused("unfinished"))
    }

    /// The blocks of a file that meet `[offset, offset + length)`, at most `limit` of them, the caller being allowed to read it.
    ///
    /// # Errors
    /// See [`Reader`]; NotFound; IsADirectory.
    pub fn blocks(&self, path: &FsPath, offset: u64, length: u64, limit: usize) -> FsResult<FileBlocks> {
        let _ = (path, offset, length, limit);
        Err(FsError::refused("unfinished"))
    }

    /// As [`Reader::blocks`], of a file that was found before: nothing is checked.
    #[must_use]
    pub fn blocks_of(&self, inode: &Arc<Inode>, offset: u64, length: u64, limit: usize) -> FileBlocks {
        let _ = (offset, length, limit);
        FileBlocks { inode: inode.clone(), length: 0, blocks: Vec::new(), last: None, last_complete: false }
    }

    /// Sums over a file or a tree, from the totals: the cost is the depth of the path.
    ///
    /// # Errors
    /// See [`Reader`]; NotFound.
    pub fn content_summary(&self, path: &FsPath) -> FsResult<ContentSummary> {
        let _ = path;
        Err(FsError::refused("unfinished"))
    }

    /// Whether the caller may do `action` with what is at `path`.
    ///
    /// # Errors
    /// See [`Reader`]; AccessDenied if not; NotFound.
    pub fn check_access(&self, path: &FsPath, action: Action) -> FsResult<()> {
        let _ = (path, action);
        Err(FsError::refused("unfinished"))
    }

    /// The file that `client` is writing: for `getAdditionalDatanode`, which changes nothing but is the writer's alone.
    ///
    /// # Errors
    /// NotFound, LeaseExpired.
    pub fn open_file(&self, file: &FileRef, client: &str) -> FsResult<Arc<Inode>> {
        let _ = (file, client);
        Err(FsError::refused("unfinished"))
    }
}

/// Whether a read of `inode` at `now` is to be written down by [`crate::Command::TouchAccessTime`].
#[must_use]
pub fn access_time_due(inode: &Inode, settings: &Settings, now: Millis) -> bool {
    let precision = settings.access_time_precision;
    !precision.is_zero() && !inode.is_directory() && now.since(inode.atime) > precision
}

/// Where an inode lies now; none if it is gone or detached.
#[must_use]
pub fn full_path(view: &dyn View, id: InodeId) -> Option<FsPath> {
    let _ = (view, id);
    None
}

/// Whether an inode is gone, or part of a tree that was deleted and waits to be reclaimed.
#[must_use]
pub fn is_detached(view: &dyn View, id: InodeId) -> bool {
    full_path(view, id).is_none()
}
