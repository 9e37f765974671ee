//! What a command did, told to those who follow the namespace: stock clients' inotify streams, and mounts that cache.

use steadfs_common::{FsPath, InodeId, Millis, TxId};

use crate::record::{AclEntry, XAttr};

/// What happened under one transaction id. A command that makes several things, such as the folders on the way to a new
/// one, gives each an id of its own, as HDFS does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    /// The transaction. Rises from batch to batch.
    pub tx: TxId,
    /// In the order in which they happened; never empty.
    pub events: Vec<Event>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it happened to.
    pub inode: InodeId,
    /// The folder that holds it (for [`EventKind::Rename`] and [`EventKind::Unlink`]: held it before).
    pub parent: InodeId,
    /// Where it was when it happened; for a rename, before.
    pub path: FsPath,
    /// The version of a file's content afterwards; 0 for a folder, and for what is gone.
    pub content: TxId,
    /// What happened.
    pub kind: EventKind,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A file or folder was made.
    Create(Created),
    /// A file was closed.
    Close {
        /// Its bytes; none where HDFS does not tell them (concat).
        length: Option<u64>,
        /// When.
        mtime: Millis,
    },
    /// A file was opened to write on.
    Append {
        /// Whether the writer goes on in a new block.
        new_block: bool,
    },
    /// A file was cut.
    Truncate {
        /// The bytes it has, or will have once its last block is cut.
        length: u64,
        /// When.
        mtime: Millis,
    },
    /// Something got another place.
    Rename {
        /// Its path now.
        to: FsPath,
        /// The folder that holds it now.
        parent: InodeId,
        /// What it took the place of, if anything.
        replaced: Option<InodeId>,
        /// When.
        mtime: Millis,
    },
    /// A file, or a folder with all below it, is gone.
    Unlink {
        /// When.
        mtime: Millis,
    },
    /// Something about it changed, but not its bytes.
    Metadata(MetadataChange),
    /// More bytes of a file that is being written are known. HDFS tells nobody.
    Flushed {
        /// Its bytes, as far as they are known.
        length: u64,
    },
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// A folder, or a file.
    pub directory: bool,
    /// When.
    pub mtime: Millis,
    /// The owner's name.
    pub owner: String,
    /// The group's name.
    pub group: String,
    /// Its mode.
    pub mode: u16,
    /// Replicas wanted of each block; 0 for a folder.
    pub replication: u16,
    /// Bytes of a block; 0 for a folder.
    pub block_size: u64,
    /// Whether its maker asked for a file that is there to be replaced.
    pub overwrite: bool,
    /// The file that it replaced, if there was one.
    pub replaced: Option<InodeId>,
}

/// What changed beside the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataChange {
    /// Times; none for one that was not set.
    Times {
        /// When the content changed.
        mtime: Option<Millis>,
        /// When it was read.
        atime: Option<Millis>,
    },
    /// Replicas wanted of each block.
    Replication(u16),
    /// Owner, group, or both; none for one that was not set.
    Owner {
        /// The owner's name.
        owner: Option<String>,
        /// The group's name.
        group: Option<String>,
    },
    /// The mode.
    Mode(u16),
    /// The access control list.
    Acl {
        /// Entries that decide about it, those that the mode holds included; none if it has no list any more.
        access: Vec<AclEntry>,
        /// Entries that what is made in it begins with.
        default: Vec<AclEntry>,
    },
    /// Extended attributes were set.
    XAttrsSet(Vec<XAttr>),
    /// Extended attributes were removed. Their values are empty.
    XAttrsRemoved(Vec<XAttr>),
    /// Something that HDFS tells nobody: a quota, a storage policy.
    Other,
}
