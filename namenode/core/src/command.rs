//! What can be asked of the namespace, and what comes of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use steadfs_common::xattr::{XAttrFlags, XAttrName};
use steadfs_common::{
    BlockId, CallKey, DatanodeUuid, FsError, FsPath, GenStamp, InodeId, Millis, StorageId, StorageType, TxId,
};

use crate::acl::AclChange;
use crate::blocks::Wish;
use crate::event::EventBatch;
use crate::locks::SessionId;
use crate::namespace::kept::OpenFiles;
use crate::namespace::quota::Bound;
use crate::namespace::subtree::Clearance;
use crate::placement::Cluster;
use crate::record::{Block, Inode};

/// Who asks. Groups are resolved before a command is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user's name.
    pub user: String,
    /// The user's groups, the primary one first.
    pub groups: Vec<String>,
    /// Whether the rules let the user pass everywhere: the namenode's own user, or a member of the supergroup.
    pub superuser: bool,
    /// Where the call came from: decides which datanode is near, and stands in messages.
    pub address: Option<IpAddr>,
    /// How it came in.
    pub origin: Origin,
}

/// Times that somebody wants a file to have; none: as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewTimes {
    /// Of the last change of its content.
    pub mtime: Option<Millis>,
    /// Of the last access.
    pub atime: Option<Millis>,
}

/// How a call came in, for logs and for fairness: no rule reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Who makes the call, if it is made for another user.
    pub real_user: Option<Arc<str>>,
    /// What the client says that it does (`CLI`, `SPARK_…`).
    pub context: Option<Arc<str>>,
    /// Where it came in.
    pub door: Door,
}

/// Where a call came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Door {
    /// From within: the namenode's own work, and what datanodes report.
    #[default]
    Inside,
    /// Hadoop RPC.
    Hadoop,
    /// WebHDFS and the other pages.
    Http,
    /// gRPC.
    Grpc,
}

/// What an operator may set and the rules read. Times in the units of their types, sizes in bytes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the group whose members are superusers, and the root folder's group. Default `supergroup`.
    pub supergroup: String,
    /// Whether permissions are checked (HDFS: `dfs.permissions.enabled`). Default yes.
    pub permissions: bool,
    /// The smallest block size that a file may be created with. Default 1 MiB.
    pub min_block_size: u64,
    /// Default 128 MiB.
    pub default_block_size: u64,
    /// Default 3.
    pub default_replication: u16,
    /// Replicas that make a block safe (HDFS: `dfs.namenode.replication.min`). Default 1.
    pub min_replication: u16,
    /// Default 512.
    pub max_replication: u16,
    /// After this another writer may take a file over. Default 60 s.
    pub lease_soft_limit: Duration,
    /// After this the namenode takes a file over. Default 20 min.
    pub lease_hard_limit: Duration,
    /// Access times are as exact as this; zero keeps none. Default 1 h.
    pub access_time_precision: Duration,
    /// Most extended attributes of an inode that users see (HDFS: `dfs.namenode.fs-limits.max-xattrs-per-inode`). Default
    /// 32.
    pub max_xattrs: usize,
    /// Most bytes of an attribute's name and value (HDFS: `dfs.namenode.fs-limits.max-xattr-size`). Default 16,384.
    pub max_xattr_bytes: usize,
    /// Most blocks of a file (HDFS: `dfs.namenode.fs-limits.max-blocks-per-file`). Default 10,000.
    pub max_blocks_per_file: u32,
    /// How long an answer is kept for a repeated call. Default 10 min.
    pub retry_expiry: Duration,
    /// Whether the owner of the folder above may set quotas too (HDFS: `dfs.permissions.allow.owner.set.quota`).
    /// Default no.
    pub owner_sets_quota: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            supergroup: "supergroup".into(),
            permissions: true,
            min_block_size: 1 << 20,
            default_block_size: 128 << 20,
            default_replication: 3,
            min_replication: 1,
            max_replication: steadfs_common::limits::MAX_REPLICATION,
            lease_soft_limit: Duration::from_secs(60),
            lease_hard_limit: Duration::from_secs(20 * 60),
            access_time_precision: Duration::from_secs(3600),
            max_xattrs: 32,
            max_xattr_bytes: 16_384,
            max_blocks_per_file: steadfs_common::limits::MAX_BLOCKS_PER_FILE,
            retry_expiry: Duration::from_secs(600),
            owner_sets_quota: false,
        }
    }
}

/// What a plan may depend on besides the view.
pub struct Context<'a> {
    /// The time of the command.
    pub now: Millis,
    /// The time by which `renewals` are noted. Nobody sets that clock: a jump of the time of day ends no lease.
    pub steady: Millis,
    /// The time of day by which saved answers expire and recoveries are asked for again: that of the process's start and what
    /// has passed since. No jump of the time of day moves it.
    pub even: Millis,
    /// Random bits for placement.
    pub seed: u64,
    /// Who asks.
    pub caller: &'a Caller,
    /// The settings.
    pub settings: &'a Settings,
    /// Datanodes and replicas as known now.
    pub cluster: &'a dyn Cluster,
    /// When each lease holder renewed last, in `steady` time; a holder that is not there is fresh (just restarted).
    pub renewals: &'a BTreeMap<String, Millis>,
    /// Why changes are refused, if the namenode is in safe mode.
    pub safe_mode: Option<&'a str>,
    /// What a walk over the tree that the command removes has found, if one was made.
    pub clearance: Option<&'a Clearance>,
    /// The files that mounts have open.
    pub open: &'a dyn OpenFiles,
}

/// A file, by path and (from every client of today) by inode id, which wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// The path as the client knows it; used in messages, and to find the file if there is no id.
    pub path: FsPath,
    /// The inode id.
    pub inode: Option<InodeId>,
}

/// A block as a client or datanode names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Its id.
    pub id: BlockId,
    /// The generation stamp it is known under.
    pub stamp: GenStamp,
    /// Bytes it is known to have.
    pub length: u64,
}

/// What a rename does when the destination exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// HDFS's first form: into an existing folder, never over a file, `false` where the second form has errors.
    Classic,
    /// HDFS's second form: an existing destination is an error.
    NoReplace,
    /// The second form with overwrite: a file or an empty folder is replaced, atomically.
    Overwrite,
}

/// A change of the namespace. Modes are after the caller's umask.
#[expect(missing_docs, reason = "the fields say what they are; the variants are documented")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Writes the root folder and the counters into an empty store.
    Format,
    /// Makes a folder. Reply: [`Reply::Done`].
    /// `unmasked` is the mode before the caller's umask, where it said so: see [`Command::Create`].
    Mkdirs { path: FsPath, mode: u16, unmasked: Option<u16>, create_parent: bool },
    /// Makes a folder where nothing is, in one that is there (POSIX's `mkdir`). Reply: [`Reply::Done`].
    MakeFolder { path: FsPath, mode: u16, unmasked: Option<u16> },
    /// Creates a file and gives `client` its lease. Reply: [`Reply::File`].
    Create {
        path: FsPath,
        mode: u16,
        /// The mode before the caller's umask: default access control entries of the folder take the umask's place.
        unmasked: Option<u16>,
        client: String,
        /// Create if missing (without it, only an existing file may be overwritten).
        create: bool,
        overwrite: bool,
        create_parent: bool,
        replication: u16,
        block_size: u64,
        /// HDFS's storage policy number; 0 inherits from the folder.
        policy: u8,
    },
    /// Opens a file for append. Reply: [`Reply::Appended`].
    Append { path: FsPath, client: String, new_block: bool },
    /// Commits the previous block and allocates the next. Reply: [`Reply::Block`].
    AddBlock {
        file: FileRef,
        client: String,
        previous: Option<BlockRef>,
        excluded: Vec<DatanodeUuid>,
        /// `host:port` or `ip:port` of nodes the client would like.
        favored: Vec<String>,
        /// Not on the writer's own node (HDFS: `NO_LOCAL_WRITE`).
        avoid_local: bool,
    },
    /// Gives an allocated block back. Reply: [`Reply::Done`].
    AbandonBlock { file: FileRef, client: String, block: BlockRef },
    /// Closes a file. Reply: [`Reply::Bool`], false while replicas are not yet reported.
    Complete { file: FileRef, client: String, last: Option<BlockRef>, times: NewTimes },
    /// Makes the last block's length known. Reply: [`Reply::Done`].
    Fsync {
        file: FileRef,
        client: String,
        /// Bytes of the last block that the writer relies on; none if it relies on some and does not count them.
        last_block_length: Option<u64>,
        /// Whether the bytes are on the disks of all datanodes of the pipeline, not only in their memory; none if the writer
        /// does not say.
        synced: Option<bool>,
    },
    /// Allocates a new generation stamp for a pipeline's recovery. Reply: [`Reply::Block`] with it.
    UpdateBlockForPipeline { block: BlockRef, client: String },
    /// The recovered pipeline: new stamp, length and nodes. Reply: [`Reply::Done`].
    UpdatePipeline {
        client: String,
        old: BlockRef,
        new: BlockRef,
        storages: Vec<StorageId>,
        /// So many bytes of the block the writer has seen synced; none if it does not say.
        synced: Option<u64>,
    },
    /// Takes a file from its writer. Reply: [`Reply::Bool`], true once closed.
    RecoverLease { path: FsPath },
    /// The namenode's own: recovers a file whose holder has passed the hard limit. Reply: [`Reply::Bool`].
    ExpireLease { file: InodeId },
    /// A datanode finished a block's recovery. Reply: [`Reply::Done`].
    CommitBlockSynchronization {
        block: BlockRef,
        new_stamp: GenStamp,
        new_length: u64,
        close_file: bool,
        /// No replica held anything: drop the block.
        delete_block: bool,
        storages: Vec<StorageId>,
    },
    /// Renames. Reply: [`Reply::Bool`] for the classic form, else [`Reply::Done`].
    Rename {
        from: FsPath,
        to: FsPath,
        mode: RenameMode,
        /// The destination is a trash folder: the caller must be allowed to delete `from` too.
        to_trash: bool,
    },
    /// Detaches a file or tree. Reply: [`Reply::Bool`], false if nothing is there.
    Delete { path: FsPath, recursive: bool },
    /// Appends the blocks of `sources`, in this order, to `target`, and removes those files. Reply: [`Reply::Done`].
    Concat { target: FsPath, sources: Vec<FsPath> },
    /// Cuts a file to `length` bytes. Reply: [`Reply::Bool`], false while the last block is being cut: `client` holds the
    /// lease until then.
    Truncate { path: FsPath, length: u64, client: String },
    /// Changes who may do what beyond the mode. Reply: [`Reply::Done`].
    SetAcl { path: FsPath, change: AclChange },
    /// Sets an extended attribute. `value` is none where the caller sent none. Reply: [`Reply::Done`].
    SetXAttr { path: FsPath, name: XAttrName, value: Option<Vec<u8>>, flags: XAttrFlags },
    /// Reply: [`Reply::Done`].
    RemoveXAttr { path: FsPath, name: XAttrName },
    /// Reply: [`Reply::Done`].
    SetPermission { path: FsPath, mode: u16 },
    /// Reply: [`Reply::Done`].
    SetOwner { path: FsPath, owner: Option<String>, group: Option<String> },
    /// Reply: [`Reply::Done`].
    SetTimes { path: FsPath, mtime: Option<Millis>, atime: Option<Millis> },
    /// Reply: [`Reply::Bool`], false for a folder or a missing path.
    SetReplication { path: FsPath, replication: u16 },
    /// Bounds what lies in and below a folder: names and space, or the space on storage of one type. Reply:
    /// [`Reply::Done`].
    SetQuota { path: FsPath, names: Bound, space: Bound, kind: Option<StorageType> },
    /// Gives a file or folder the storage policy of this name, or none of its own. Reply: [`Reply::Done`].
    SetStoragePolicy { path: FsPath, policy: Option<String> },
    /// Makes a hidden file that holds what shall replace a file's content, and gives `client` its lease. It lives as long
    /// as that. Reply: [`Reply::File`].
    Stage {
        path: FsPath,
        client: String,
        /// 0 for that of the file.
        block_size: u64,
    },
    /// Gives a file the blocks of a hidden file, whole and at once, in place of its own. It keeps its id and all else.
    /// Reply: [`Reply::Bool`], false while replicas are not yet reported.
    ReplaceContent {
        path: FsPath,
        /// From [`Command::Stage`].
        staged: InodeId,
        client: String,
        /// The hidden file's last block.
        last: Option<BlockRef>,
        /// Refused if the file has another content by now.
        expected: Option<TxId>,
    },
    /// Lets a hidden file go. Reply: [`Reply::Done`].
    DropStaged { staged: InodeId, client: String },
    /// Opens a mount's session, which may hold locks. Reply: [`Reply::Session`].
    OpenLockSession { client: String },
    /// Ends one; nothing is no error. Reply: [`Reply::Done`].
    CloseLockSession { session: SessionId },
    /// The namenode's own: a read moved the access time past the precision. Reply: [`Reply::Done`].
    TouchAccessTime { file: InodeId, atime: Millis },
    /// The namenode's own: one bounded step of removing detached trees. Reply: [`Reply::Bool`], true if more is left.
    Reclaim { limit: usize },
    /// The namenode's own: removes those of these kept files (see [`crate::namespace::kept`]) that nobody has open any more,
    /// and keeps those of these that are open and lie in a tree that was deleted.
    /// Reply: [`Reply::Done`].
    LetGo { files: Vec<InodeId> },
    /// An operator accepts that what came after this state is lost: ids that may have been given out since are passed
    /// over, and replicas under them kept. Once for an incarnation. Reply: [`Reply::Done`].
    AcceptLoss { incarnation: u64 },
    /// An operator has a folder's number of entries and totals, and those of the folders above, counted anew, and entries
    /// that lead to nothing removed. Reply: [`Reply::Done`].
    RepairFolder { folder: InodeId },
    /// An operator has the numbers of blocks put right by so much. Reply: [`Reply::Done`].
    RepairCounters { blocks: i64, complete: i64 },
    /// An operator lets go what was kept since: replicas that no file has are deleted again. Reply: [`Reply::Done`].
    ForgetLosses,
    /// The namenode's own: forgets those of these saved answers that have expired. Reply: [`Reply::Done`].
    ForgetCalls { keys: Vec<CallKey> },
    /// What an operator wants of a datanode from now on. Allowed in safe mode.
    SetNodeWish {
        /// Which.
        node: DatanodeUuid,
        /// What.
        wish: Wish,
    },
}

/// What a command answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Success and nothing to say.
    Done,
    /// A truth value.
    Bool(bool),
    /// A created file.
    File(Inode),
    /// A file open for append: the inode, and its last block if the client should go on in it.
    Appended {
        /// The file.
        inode: Inode,
        /// The block to continue or (with `new_block`) to name as previous.
        last: Option<PlacedBlock>,
    },
    /// A block to write.
    Block(PlacedBlock),
    /// A mount's session.
    Session(SessionId),
    /// The changes are made, and the caller gets this error all the same: a create or append has begun to take the file
    /// from a writer that is gone, and must be tried again.
    Failed(FsError),
}

/// A block and where it is or shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedBlock {
    /// The block; for [`Command::UpdateBlockForPipeline`] with the new stamp.
    pub block: Block,
    /// The file's bytes before it.
    pub offset: u64,
    /// Storages in pipeline order; empty where the client shall not use any.
    pub storages: SmallVec<[StorageId; 3]>,
}

/// What must happen to blocks once the plan is durable.
#[expect(missing_docs, reason = "the fields say what they are; the variants are documented")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A block got a pipeline, or a new one: replicas under another stamp are stale. Each replica may come to `room` bytes.
    Pipeline {
        block: BlockId,
        stamp: GenStamp,
        replication: u16,
        room: u64,
        storages: SmallVec<[StorageId; 3]>,
    },
    /// A block is complete: from now on its replicas are counted and cared for.
    Completed { block: BlockId, stamp: GenStamp, length: u64, replication: u16 },
    /// These storages hold this final replica, as who made it there says: no report of theirs is needed.
    Held { block: BlockRef, storages: SmallVec<[StorageId; 3]> },
    /// A block of a file being appended to or truncated is no longer complete.
    Reopened { block: BlockId },
    /// How many replicas are wanted changed.
    Replication { block: BlockId, replication: u16 },
    /// A block is gone: its replicas are to be deleted.
    Removed { block: BlockId },
    /// A primary shall recover a block under construction.
    Recover {
        block: BlockRef,
        recovery_stamp: GenStamp,
        truncate_to: Option<u64>,
        storages: SmallVec<[StorageId; 3]>,
        /// So many bytes are known to be on disks: the recovery never leaves fewer.
        synced: u64,
        /// The others may be, too.
        unsure: bool,
    },
    /// A file's lease began or went: renewals of this holder count, or may be forgotten.
    LeaseStarted { holder: String, file: InodeId },
    /// See [`Effect::LeaseStarted`].
    LeaseEnded { holder: String, file: InodeId },
}

/// A planned command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The answer.
    pub reply: Reply,
    /// What follows for blocks and leases.
    pub effects: Vec<Effect>,
    /// What happened, for those who follow the namespace. The batches' ids rise by one, from the first id of this
    /// command's own on.
    pub events: Vec<EventBatch>,
}
