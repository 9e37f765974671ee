//! Questions about the namespace. None of them changes anything, so they run beside the commit thread on any view.

use std::collections::BTreeMap;
use std::sync::Arc;

use steadfs_common::{
    BlockId, FsError, FsErrorKind, FsPath, FsResult, InodeId, Millis, Name, ROOT_INODE, StorageType,
};

use super::lease;
use super::permission::Guard;
use super::quota;
use super::reserved;
use super::resolve::{Purpose, Resolved, resolve};
pub use super::resolve::{full_path, is_detached, real_path};
use super::usage::{Usage, effective_policy, last_block, policy_below};
use super::xattrs;
use crate::command::{Caller, FileRef, Settings};
use crate::record::{Block, FileBody, Inode, Quota, Totals};
use crate::view::{Children, View};

/// Block rows read at a time.
const PAGE: u32 = 64;

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
#[derive(Clone, Debug)]
pub struct Listing {
    /// The entries.
    pub page: Arc<Children>,
    /// The storage policy that the entries without one of their own have: HDFS's number, 0 for none.
    pub policy: u8,
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

/// Sums over a file or a tree, and what they may be at most.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ContentSummary {
    /// Bytes of the files.
    pub length: u64,
    /// Files.
    pub files: u64,
    /// Folders, the one asked about included.
    pub directories: u64,
    /// Bytes times replication.
    pub space: u64,
    /// Of this what the files' storage policies want on each type, at [`StorageType::index`]; files without any policy
    /// are not in it.
    pub types: [u64; StorageType::COUNT],
    /// The folder's quota.
    pub quota: Quota,
}

impl ContentSummary {
    /// Files and folders: what a quota of names counts.
    #[must_use]
    pub const fn names(&self) -> u64 {
        self.files.wrapping_add(self.directories)
    }
}

/// What HDFS says of the root folder, which always has a quota of names: the largest.
const ROOT_NAMES: u64 = i64::MAX as u64;

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

impl Reader<'_> {
    pub(super) fn guard(&self) -> Guard<'_> {
        Guard::new(self.caller, self.settings)
    }

    pub(super) fn resolve<'p>(&self, path: &'p FsPath) -> FsResult<Resolved<'p>> {
        resolve(self.view, &self.guard(), path, Purpose::Use)
    }

    /// A file's or folder's status; none if nothing is there.
    ///
    /// # Errors
    /// See [`Reader`]. A superuser gets none where others learn that the path goes through a file, as in HDFS.
    pub fn stat(&self, path: &FsPath) -> FsResult<Option<Arc<Inode>>> {
        if reserved::is_top(path) {
            return Ok(Some(reserved::top(self.settings)));
        }
        match self.resolve(path) {
            Ok(at) => Ok(at.target().cloned()),
            Err(error) if error.kind() == FsErrorKind::AccessDenied && self.caller.superuser => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The inode with this id, if it is part of the tree.
    #[must_use]
    pub fn by_id(&self, id: InodeId) -> Option<Arc<Inode>> {
        self.view.inode(id).filter(|_| !is_detached(self.view, id))
    }

    /// The storage policy of an inode by HDFS's number: its own, else that of the nearest folder above that has one,
    /// else 0.
    #[must_use]
    pub fn policy_of(&self, inode: &Inode) -> u8 {
        effective_policy(self.view, inode)
    }

    /// As [`Reader::policy_of`], of what is at `path`, which the caller may read.
    ///
    /// # Errors
    /// See [`Reader`]; NotFound.
    pub fn storage_policy(&self, path: &FsPath) -> FsResult<u8> {
        let at = self.resolve(path)?;
        at.check_target(&self.guard(), Action::READ)?;
        let target = at.target().ok_or_else(|| quota::no_such(&at.path))?;
        Ok(effective_policy(self.view, target))
    }

    /// The totals of a folder.
    #[must_use]
    pub fn totals(&self, folder: InodeId) -> Totals {
        self.view.totals(folder)
    }

    /// A page of at most `limit` entries (at least one) strictly after `after`; none if nothing is there.
    ///
    /// # Errors
    /// See [`Reader`].
    pub fn list(&self, path: &FsPath, after: Option<&Name>, limit: usize) -> FsResult<Option<Listing>> {
        if reserved::is_top(path) {
            let page = Arc::new(Children::new(reserved::entries(self.settings, after), false));
            return Ok(Some(Listing { page, policy: 0 }));
        }
        let at = self.resolve(path)?;
        let Some(target) = at.target() else { return Ok(None) };
        if !target.is_directory() {
            let policy = effective_policy(self.view, target);
            let page = Arc::new(Children::new(vec![(None, target.clone())], false));
            return Ok(Some(Listing { page, policy }));
        }
        at.check_target(&self.guard(), Action::READ_EXECUTE)?;
        let page = self.view.children(target.id, after, limit.max(1));
        Ok(Some(Listing { page, policy: effective_policy(self.view, target) }))
    }

    /// A file's status, for questions that only files answer (`isFileClosed`, `getPreferredBlockSize`).
    ///
    /// # Errors
    /// See [`Reader`]; NotFound; IsADirectory.
    pub fn file(&self, path: &FsPath) -> FsResult<Arc<Inode>> {
        file_at(&self.resolve(path)?)
    }

    /// The blocks of a file that meet `[offset, offset + length)`, at most `limit` of them, the caller being allowed to read it.
    ///
    /// # Errors
    /// See [`Reader`]; NotFound; IsADirectory.
    pub fn blocks(&self, path: &FsPath, offset: u64, length: u64, limit: usize) -> FsResult<FileBlocks> {
        let at = self.resolve(path)?;
        at.check_target(&self.guard(), Action::READ)?;
        let file = file_at(&at)?;
        xattrs::check_readable(self.view, &self.guard(), &file)?;
        Ok(self.blocks_of(&file, offset, length, limit))
    }

    /// As [`Reader::blocks`], of a file that was found before: nothing is checked.
    #[must_use]
    pub fn blocks_of(&self, inode: &Arc<Inode>, offset: u64, length: u64, limit: usize) -> FileBlocks {
        let none = FileBlocks {
            inode: inode.clone(),
            length: 0,
            blocks: Vec::new(),
            last: None,
            last_complete: false,
        };
        let (Some(body), Some(last)) = (inode.file(), last_block(self.view, inode)) else { return none };
        let last_complete = last.is_complete();
        let last_offset = body.length.saturating_sub(last.length);
        let blocks = self.blocks_in(inode, body, &last, (offset, offset.saturating_add(length)), limit);
        FileBlocks {
            length: if last_complete { body.length } else { last_offset },
            blocks,
            last: Some(FileBlock { block: last, offset: last_offset }),
            last_complete,
            ..none
        }
    }

    /// As HDFS does, this gives the block at the range's start even if the range is empty, nothing if the range starts
    /// past the last block, and a first block without bytes always.
    fn blocks_in(
        &self,
        inode: &Inode,
        body: &FileBody,
        last: &Block,
        (start, end): (u64, u64),
        limit: usize,
    ) -> Vec<FileBlock> {
        let (mut index, mut position) = Self::first_guess(body, last, start);
        let mut found = Vec::new();
        while index < body.blocks {
            if index + 1 == body.blocks {
                // It is at hand, and most files have no other.
                let empty_first = index == 0 && last.length == 0;
                if position.saturating_add(last.length) > start || empty_first || !found.is_empty() {
                    found.push(FileBlock { block: last.clone(), offset: position });
                }
                return found;
            }
            let page = self.view.file_blocks(inode.id, index, (body.blocks - index).min(PAGE) as usize);
            if page.is_empty() {
                return found;
            }
            for id in page {
                let Some(block) = self.view.block(id) else { return found };
                let after = position.saturating_add(block.length);
                let empty_first = index == 0 && block.length == 0;
                if after > start || empty_first || !found.is_empty() {
                    found.push(FileBlock { block, offset: position });
                }
                position = after;
                index += 1;
                if !found.is_empty() && (position >= end || found.len() >= limit.max(1)) {
                    return found;
                }
            }
        }
        found
    }

    /// Where to begin to look for the block at `start`: there at once if all blocks but the last are whole, as they
    /// nearly always are, else at the beginning.
    fn first_guess(body: &FileBody, last: &Block, start: u64) -> (u32, u64) {
        let whole = u64::from(body.blocks - 1).checked_mul(body.block_size);
        if body.block_size == 0 || whole != body.length.checked_sub(last.length) {
            return (0, 0);
        }
        let index = (start / body.block_size).min(u64::from(body.blocks - 1));
        (index as u32, index * body.block_size)
    }

    /// Sums over a file or a tree, from the totals: the cost is the depth of the path. This asks permission of the folder
    /// itself only; what lies below is asked by a walk ([`super::subtree::Walk::to_read`]).
    ///
    /// # Errors
    /// See [`Reader`]; NotFound.
    pub fn content_summary(&self, path: &FsPath) -> FsResult<ContentSummary> {
        let at = self.resolve(path)?;
        let target = at.target().ok_or_else(|| FsError::not_found(&at.path))?;
        if target.is_directory() {
            at.check_target(&self.guard(), Action::READ_EXECUTE)?;
        }
        Ok(self.sums(target))
    }

    /// As [`Reader::content_summary`], for whoever asks for quotas: HDFS has other words where nothing is there.
    ///
    /// # Errors
    /// See [`Reader`]; NotFound.
    pub fn quota_usage(&self, path: &FsPath) -> FsResult<ContentSummary> {
        let at = self.resolve(path)?;
        at.target().ok_or_else(|| quota::no_such(&at.path))?;
        self.content_summary(path)
    }

    fn sums(&self, target: &Inode) -> ContentSummary {
        let policy = effective_policy(self.view, target);
        let used = Usage::of(self.view, target).settled_by(policy);
        let mut quota = target.quota().cloned().unwrap_or_default();
        if target.id == ROOT_INODE {
            quota.names = quota.names.or(Some(ROOT_NAMES));
        }
        used.summary(quota)
    }

    /// Whether the caller may do `action` with what is at `path`.
    ///
    /// # Errors
    /// See [`Reader`]; AccessDenied if not; NotFound.
    pub fn check_access(&self, path: &FsPath, action: Action) -> FsResult<()> {
        let at = self.resolve(path)?;
        if at.target().is_none() {
            return Err(FsError::new(FsErrorKind::NotFound, format!("Path not found: {path}")));
        }
        at.check_target(&self.guard(), action)
    }

    /// The file that `client` is writing: for `getAdditionalDatanode`, which changes nothing but is the writer's alone.
    ///
    /// # Errors
    /// NotFound, LeaseExpired.
    pub fn open_file(&self, file: &FileRef, client: &str) -> FsResult<Arc<Inode>> {
        lease::open_file(self.view, &self.guard(), file, client)
    }
}

/// What a path names, for calls that say "cannot find" where nothing is.
pub(super) fn existing(at: &Resolved<'_>) -> FsResult<Arc<Inode>> {
    at.target()
        .cloned()
        .ok_or_else(|| FsError::new(FsErrorKind::NotFound, format!("cannot find {}", at.path)))
}

/// The storage policies of the files of these blocks, by HDFS's numbers, 0 for none. Blocks that are gone are left out.
#[must_use]
pub fn policies_of(view: &dyn View, blocks: &[BlockId]) -> BTreeMap<BlockId, u8> {
    let mut folders: BTreeMap<InodeId, u8> = BTreeMap::new();
    let mut of = |id: BlockId| {
        let inode = view.inode(view.block(id)?.inode)?;
        Some(match inode.storage_policy {
            0 => *folders.entry(inode.parent).or_insert_with(|| policy_below(view, inode.parent)),
            own => own,
        })
    };
    blocks.iter().filter_map(|id| Some((*id, of(*id)?))).collect()
}

fn file_at(at: &Resolved<'_>) -> FsResult<Arc<Inode>> {
    let target = at.target().ok_or_else(|| FsError::not_found(&at.path))?;
    if target.is_directory() {
        return Err(FsError::not_a_file(&at.path));
    }
    Ok(target.clone())
}

/// Whether a read of `inode` at `now` is to be written down by [`crate::Command::TouchAccessTime`].
#[must_use]
pub fn access_time_due(inode: &Inode, settings: &Settings, now: Millis) -> bool {
    let precision = settings.access_time_precision;
    !precision.is_zero() && !inode.is_directory() && now.since(inode.atime) > precision
}
