//! Files.
use std::io;
use std::path::Path;

/// What is about to be done to a file or folder.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DiskOp {
    /// A file is made.
    Create,
    /// An existing file is opened.
    Open,
    /// Bytes are written.
    Write,
    /// Bytes are read.
    Read,
    /// A file's end is moved.
    Truncate,
    /// A file is synced.
    Sync,
    /// A folder is synced.
    SyncDir,
    /// A file is renamed.
    Rename,
    /// A file is removed.
    Remove,
    /// A folder is made.
    MakeDir,
}

/// Makes operations fail, and watches those that succeed: for tests. All operations on files go past it.
pub trait Faults: Send + Sync {
    /// Called before an operation; an error is returned to whoever wanted it, and nothing is done.
    ///
    /// # Errors
    /// Whatever the test wants to happen.
    fn before(&self, op: DiskOp, path: &Path) -> io::Result<()>;

    /// Called after an operation succeeded; `to` is the new name of a rename.
    fn after(&self, _op: DiskOp, _path: &Path, _to: Option<&Path>) {}
}
