//! What is stored: one plain struct a record, one [`Key`] to find it by.
//!
//! The store turns these into bytes; nothing else does. A field added here needs a new version there.

use smallvec::SmallVec;
pub use steadfs_common::acl::{AclEntry, AclKind};
pub use steadfs_common::xattr::{XAttr, XAttrName, XAttrNamespace};
use steadfs_common::{
    BlockId, CallKey, DatanodeUuid, GenStamp, InodeId, Millis, Name, StorageId, StorageType, TxId,
};

use crate::blocks::Wish;

use crate::locks::SessionId;

/// A file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its id, for life.
    pub id: InodeId,
    /// The folder that holds it. The root holds itself. A detached tree's top keeps its last parent, where no entry
    /// names it any more: so a walk up that finds no entry says "not found".
    pub parent: InodeId,
    /// Its name in `parent`; none for the root.
    pub name: Option<Name>,
    /// The owner's name.
    pub owner: String,
    /// The group's name.
    pub group: String,
    /// Permission bits, `0o1777` at most: sticky and rwx three times.
    pub mode: u16,
    /// When the content changed last.
    pub mtime: Millis,
    /// When it was read last, within the configured precision. 0 for folders.
    pub atime: Millis,
    /// The transaction that changed this record last.
    pub changed: TxId,
    /// Access control entries beyond the mode, if there are any.
    pub acl: Option<Box<Acl>>,
    /// Whether an [`XAttr`] record stands beside this one.
    pub has_xattrs: bool,
    /// HDFS's storage policy number; 0 inherits from the folder above.
    pub storage_policy: u8,
    /// File or folder.
    pub kind: InodeKind,
}

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InodeKind {
    /// A folder. Its totals are a record of their own.
    Directory {
        /// Entries directly in it.
        children: u64,
        /// What may lie below, if that is bounded.
        quota: Option<Box<Quota>>,
    },
    /// A file.
    File(FileBody),
}

/// What a file has besides an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileBody {
    /// How its bytes are laid out over blocks.
    pub layout: Layout,
    /// Bytes of all blocks but one that is under construction, plus what an fsync made known of that one.
    pub length: u64,
    /// How many block rows it has.
    pub blocks: u32,
    /// The block size it was created with.
    pub block_size: u64,
    /// Whether somebody writes it: then there is a lease record.
    pub under_construction: bool,
    /// The transaction that changed its bytes last: its content's version.
    pub content: TxId,
}

/// An access control list: what it says beyond the mode. With access entries, the mode's group bits are the mask, and
/// the group's own entry is one of them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Acl {
    /// Entries that decide about this inode, in HDFS's order: named users, the group, named groups.
    pub access: Vec<AclEntry>,
    /// Entries that what is made in this folder begins with, in HDFS's order and complete: owner, named users, group,
    /// named groups, mask, others. Empty for files.
    pub default: Vec<AclEntry>,
}

/// What may lie in and below a folder at most. None is no bound.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Quota {
    /// Files and folders, the folder itself included.
    pub names: Option<u64>,
    /// Bytes times replication.
    pub space: Option<u64>,
    /// Bytes times replicas by storage type, at [`StorageType::index`].
    pub types: [Option<u64>; StorageType::COUNT],
}

/// How a file's bytes lie on datanodes. One variant until erasure coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Whole copies of each block.
    Replicated {
        /// How many are wanted.
        replication: u16,
    },
}

impl Inode {
    /// The file's part, if this is a file.
    #[must_use]
    pub const fn file(&self) -> Option<&FileBody> {
        match &self.kind {
            InodeKind::File(file) => Some(file),
            InodeKind::Directory { .. } => None,
        }
    }

    /// What may lie in and below this, if it is a folder with a bound.
    #[must_use]
    pub fn quota(&self) -> Option<&Quota> {
        match &self.kind {
            InodeKind::Directory { quota, .. } => quota.as_deref(),
            InodeKind::File(_) => None,
        }
    }

    /// Whether this is a folder.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        matches!(self.kind, InodeKind::Directory { .. })
    }
}

impl FileBody {
    /// How many replicas each block should have.
    #[must_use]
    pub const fn replication(&self) -> u16 {
        let Layout::Replicated { replication } = self.layout;
        replication
    }
}

/// Exact totals of everything below a folder, itself excluded. Kept up to date for every ancestor by each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Totals {
    /// Folders below.
    pub directories: u64,
    /// Files below.
    pub files: u64,
    /// Bytes of the files below (a file under construction counts what is known).
    pub bytes: u64,
    /// Bytes times replication; a block under construction counts as a whole block, as quotas do in HDFS.
    pub space: u64,
    /// Bytes as quotas count them: a block under construction as a whole one.
    pub charged: u64,
    /// The part of this that lies in files whose storage policy is set below this folder.
    pub settled: Settled,
    /// The last transaction after which a walk over the folders below could find other permissions than before: see
    /// [`crate::namespace::subtree`]. 0 if there was none.
    pub guarded: TxId,
}

/// What is known below a folder of the space that files take on each type of storage. A file's storage policy is its own
/// or that of the nearest folder above that has one. So a folder's files are of two kinds: those that find their policy
/// below the folder, which are counted here, by type; and the rest, whose types follow from sums (all less these) once
/// the policy is known. This way a policy that is set or a tree that is moved costs the depth of a path, and sums stay
/// exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Settled {
    /// Of [`Totals::charged`].
    pub charged: u64,
    /// Of [`Totals::space`].
    pub space: u64,
    /// The space by type, at [`StorageType::index`].
    pub types: [u64; StorageType::COUNT],
}

/// A block of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its id.
    pub id: BlockId,
    /// Its current generation stamp.
    pub stamp: GenStamp,
    /// Bytes: final once committed; before, what an fsync or a recovery made known.
    pub length: u64,
    /// How many replicas are wanted: the file's replication, here so that a report needs no inode.
    pub replication: u16,
    /// The file.
    pub inode: InodeId,
    /// Which block of the file, from 0.
    pub index: u32,
    /// How many files name it. Always 1 until trees can be cloned.
    pub references: u32,
    /// Its state.
    pub state: BlockState,
}

/// HDFS's states of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// Being written or recovered; its length is not final.
    UnderConstruction {
        /// The pipeline: where replicas are expected, nearest to the writer first.
        expected: SmallVec<[StorageId; 3]>,
        /// The stamp of the recovery that runs, if one does: only its result is accepted.
        recovery: Option<Recovery>,
        /// So many of the bytes are known to be on disks. What `length` has more was acknowledged when it was in memory,
        /// and may be gone once the power failed.
        synced: u64,
        /// Its writer did not say how much of `length` is synced: it may be all, and where that is 0, more.
        unsure: bool,
    },
    /// The writer said how long it is; not yet seen on enough datanodes.
    Committed {
        /// As in `UnderConstruction`.
        expected: SmallVec<[StorageId; 3]>,
    },
    /// Final.
    Complete,
}

/// A running recovery of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The stamp that the recovered block will have.
    pub stamp: GenStamp,
    /// The length a truncate asks for; otherwise the replicas decide.
    pub truncate_to: Option<u64>,
    /// When it was asked for, by a time that no jump of the clock moves while a process lives. One that takes too long is asked
    /// for again, under a new stamp.
    pub started: Millis,
}

impl Block {
    /// Whether its length is final.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        matches!(self.state, BlockState::Complete)
    }

    /// Where the writer's pipeline put or puts it; nothing once complete.
    #[must_use]
    pub fn expected(&self) -> &[StorageId] {
        match &self.state {
            BlockState::UnderConstruction { expected, .. } | BlockState::Committed { expected } => expected,
            BlockState::Complete => &[],
        }
    }

    /// Bytes that are known to be on disks, and whether others may be: more of `length`, or, where none is known, some that
    /// its writer did not count.
    #[must_use]
    pub const fn synced(&self) -> (u64, bool) {
        match self.state {
            BlockState::UnderConstruction { synced, unsure, .. } => {
                (synced, unsure && (synced < self.length || synced == 0))
            }
            BlockState::Committed { .. } | BlockState::Complete => (self.length, false),
        }
    }
}

/// Who writes a file. Renewals are kept in memory: after a restart every lease is fresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The client's name (`DFSClient_…`), or `NN_Recovery` while the namenode recovers the file.
    pub holder: String,
    /// The host the client called from, for messages.
    pub machine: String,
}

/// The answer that a repeated call gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// When it may be forgotten. Until it is, it is given again.
    pub expires: Millis,
    /// The reply, in the store's own encoding of [`crate::Reply`]'s payload.
    pub reply: RetryReply,
}

/// What a repeated call needs to be answered like the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryReply {
    /// Nothing but success.
    Done,
    /// A truth value.
    Bool(bool),
    /// A file: status is looked up by this id (create, append).
    File(InodeId),
}

/// A mount that may hold locks. The locks themselves are not stored: after a restart those who are written down here are
/// waited for, and say what they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockSession {
    /// Whose it is: nobody else may use it.
    pub user: String,
    /// What the mount calls itself, for operators.
    pub client: String,
    /// When it was opened.
    pub opened: Millis,
}

/// That the namespace went back to an older state, and an operator accepted what was lost: a backup was restored. Ids that
/// may have been given out since that state are passed over, and replicas under them are kept until an operator lets
/// them go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When it was accepted, in milliseconds since 1970.
    pub incarnation: u64,
    /// Block ids that may have been given out: from this one on, and before the second.
    pub blocks: (BlockId, BlockId),
    /// Generation stamps that may have been: likewise.
    pub stamps: (GenStamp, GenStamp),
}

/// Numbers that only rise, and sums over the whole namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The next inode id.
    pub next_inode: InodeId,
    /// The next contiguous block id.
    pub next_block: BlockId,
    /// The next generation stamp.
    pub next_stamp: GenStamp,
    /// The last transaction.
    pub last_tx: TxId,
    /// Complete blocks: safe mode waits for their replicas.
    pub complete_blocks: u64,
    /// All blocks, those of files being reclaimed included.
    pub blocks: u64,
}

/// Finds a record. The order of the variants is the order of the tables; each sorts as its store's bytes do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// An inode.
    Inode(InodeId),
    /// A name in a folder.
    Entry(InodeId, Name),
    /// A folder's totals.
    Totals(InodeId),
    /// A block, by its id.
    Block(BlockId),
    /// A file's block, by its index.
    FileBlock(InodeId, u32),
    /// A lease, by the file it is on.
    Lease(InodeId),
    /// A detached tree or file that is being reclaimed.
    Reclaim(InodeId),
    /// A saved answer.
    Retry(CallKey),
    /// The counters.
    Counters,
    /// An inode's extended attributes.
    XAttrs(InodeId),
    /// A mount's session, which holds locks.
    LockSession(SessionId),
    /// What operators want of single datanodes.
    NodeWishes,
    /// Losses that operators accepted.
    Losses,
}

/// A record under its [`Key`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// See [`Inode`].
    Inode(Inode),
    /// The inode that a name stands for.
    Entry(InodeId),
    /// See [`Totals`].
    Totals(Totals),
    /// See [`Block`].
    Block(Block),
    /// The block at an index of a file.
    FileBlock(BlockId),
    /// See [`Lease`].
    Lease(Lease),
    /// How far the removal of a detached folder's entries has come.
    Reclaim {
        /// The last name removed: its entries up to here are gone. None before the first, and for files.
        after: Option<Name>,
    },
    /// See [`Retry`].
    Retry(Retry),
    /// See [`Counters`].
    Counters(Counters),
    /// See [`XAttr`]. Never empty.
    XAttrs(Vec<XAttr>),
    /// By datanode; never empty, and nobody who serves.
    NodeWishes(Vec<(DatanodeUuid, Wish)>),
    /// See [`LockSession`].
    LockSession(LockSession),
    /// See [`Loss`]: oldest first, never empty.
    Losses(Vec<Loss>),
}
