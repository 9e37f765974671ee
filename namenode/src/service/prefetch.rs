//! Reading what a command will read, before it is queued.
//!
//! Nothing is decided here and every answer is thrown away: rows come into the caches, no more. What is missed is read by
//! the commit thread itself.

use steadfs_common::limits::{MAX_BLOCKS_PER_FILE, RECLAIM_STEP};
use steadfs_common::{FsPath, InodeId, ROOT_INODE};
use steadfs_namenode_core::command::FileRef;
use steadfs_namenode_core::namespace::read::real_path;
use steadfs_namenode_core::{Command, View};

/// Reads the rows.
pub(super) fn touch(view: &dyn View, command: &Command) {
    match command {
        Command::Mkdirs { path, .. }
        | Command::MakeFolder { path, .. }
        | Command::SetAcl { path, .. }
        | Command::SetPermission { path, .. }
        | Command::SetOwner { path, .. }
        | Command::SetTimes { path, .. }
        | Command::SetQuota { path, .. } => {
            walk(view, path);
        }
        Command::Delete { path, .. } => removed(view, walk(view, path)),
        Command::Create { path, overwrite: true, .. } => removed(view, walk(view, path)),
        Command::Create { path, .. }
        | Command::Append { path, .. }
        | Command::RecoverLease { path }
        | Command::SetStoragePolicy { path, .. }
        | Command::SetReplication { path, .. } => file(view, walk(view, path)),
        Command::AddBlock { file, .. }
        | Command::AbandonBlock { file, .. }
        | Command::Complete { file, .. }
        | Command::Fsync { file, .. } => open_file(view, file),
        Command::UpdateBlockForPipeline { block, .. } | Command::CommitBlockSynchronization { block, .. } => {
            file(view, view.block(block.id).map(|block| block.inode));
        }
        Command::UpdatePipeline { old, .. } => file(view, view.block(old.id).map(|block| block.inode)),
        Command::Rename { from, to, .. } => {
            walk(view, from);
            let target = walk(view, to);
            if let Some(target) = target
                && let Some(name) = from.file_name()
            {
                // The classic form moves into a folder that is there.
                view.entry(target, name);
            }
            // The other one may replace a file.
            removed(view, target);
        }
        Command::Concat { target, sources } => {
            file(view, walk(view, target));
            for source in sources.iter().take(MAX_BLOCKS_PER_FILE as usize) {
                cut(view, walk(view, source), 0);
            }
        }
        Command::Truncate { path, length, .. } => {
            let id = walk(view, path);
            file(view, id);
            cut(view, id, *length);
        }
        Command::SetXAttr { path, .. } | Command::RemoveXAttr { path, .. } => {
            if let Some(id) = walk(view, path) {
                drop(view.xattrs(id));
            }
        }
        Command::ExpireLease { file: id } => file(view, Some(*id)),
        Command::TouchAccessTime { file, .. } => drop(view.inode(*file)),
        Command::Stage { path, .. } => {
            walk(view, path);
        }
        Command::ReplaceContent { path, staged, .. } => {
            let id = walk(view, path);
            file(view, id);
            cut(view, id, 0);
            file(view, Some(*staged));
            cut(view, Some(*staged), 0);
        }
        Command::DropStaged { staged, .. } => cut(view, Some(*staged), 0),
        Command::Reclaim { limit } => reclaimed(view, *limit),
        Command::LetGo { files } => {
            files.iter().for_each(|file| removed(view, Some(*file)));
        }
        Command::Format
        | Command::ForgetCalls { .. }
        | Command::AcceptLoss { .. }
        | Command::ForgetLosses
        | Command::RepairFolder { .. }
        | Command::RepairCounters { .. }
        | Command::SetNodeWish { .. }
        | Command::OpenLockSession { .. }
        | Command::CloseLockSession { .. } => {}
    }
}

/// What a path leads to, whoever may see it.
pub(super) fn find(view: &dyn View, path: &FsPath) -> Option<InodeId> {
    let path = real_path(view, path).ok()?;
    path.names().iter().try_fold(ROOT_INODE, |folder, name| view.entry(folder, name))
}

/// Reads every inode and all totals on the way.
fn walk(view: &dyn View, path: &FsPath) -> Option<InodeId> {
    view.inode(ROOT_INODE);
    view.totals(ROOT_INODE);
    let path = real_path(view, path).ok()?;
    path.names().iter().try_fold(ROOT_INODE, |folder, name| {
        let id = view.entry(folder, name)?;
        if view.inode(id)?.is_directory() {
            view.totals(id);
        }
        Some(id)
    })
}

fn open_file(view: &dyn View, named: &FileRef) {
    let Some(mut id) = named.inode.or_else(|| find(view, &named.path)) else { return };
    file(view, Some(id));
    // Up to the root: that is how a file found by its id is known to be there, and where its totals are kept.
    while let Some(inode) = view.inode(id).filter(|inode| inode.parent != inode.id) {
        id = inode.parent;
        view.totals(id);
    }
}

/// Reads the blocks that lie past `length`, the last first.
fn cut(view: &dyn View, id: Option<InodeId>, length: u64) {
    let Some(inode) = id.and_then(|id| view.inode(id)) else { return };
    let Some(body) = inode.file() else { return };
    let mut end = body.length;
    for index in (0..body.blocks).rev() {
        let block = view.file_block(inode.id, index).and_then(|block| view.block(block));
        let Some(block) = block.filter(|_| end > length) else { return };
        end = end.saturating_sub(block.length);
    }
}

/// Reads what a step of so many rows will remove.
fn reclaimed(view: &dyn View, limit: usize) {
    let mut left = limit;
    for (id, after) in view.reclaims(limit) {
        let Some(inode) = view.inode(id) else { continue };
        if inode.is_directory() {
            for (_, child) in view.entries(id, after.as_ref(), left) {
                left = left.saturating_sub(1 + removed_file(view, child, left));
            }
        } else {
            left = left.saturating_sub(1 + removed_file(view, id, left));
        }
        if left == 0 {
            return;
        }
    }
}

/// Reads what is removed at once with a name, if it is a file's.
fn removed(view: &dyn View, id: Option<InodeId>) {
    if let Some(id) = id {
        removed_file(view, id, RECLAIM_STEP);
    }
}

/// Reads a file's last blocks, `limit` of them at most, and says how many there were; none of what is no file.
fn removed_file(view: &dyn View, id: InodeId, limit: usize) -> usize {
    let Some(inode) = view.inode(id) else { return 0 };
    let Some(body) = inode.file() else { return 0 };
    view.lease(id);
    let count = body.blocks.min(u32::try_from(limit).unwrap_or(u32::MAX));
    for index in body.blocks - count..body.blocks {
        if let Some(block) = view.file_block(id, index) {
            view.block(block);
        }
    }
    count as usize
}

fn file(view: &dyn View, id: Option<InodeId>) {
    let Some(inode) = id.and_then(|id| view.inode(id)) else { return };
    let Some(body) = inode.file() else { return };
    view.lease(inode.id);
    for index in body.blocks.saturating_sub(2)..body.blocks {
        if let Some(block) = view.file_block(inode.id, index) {
            view.block(block);
        }
    }
}
