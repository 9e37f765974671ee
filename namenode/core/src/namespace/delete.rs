//! Deleting: first a tree is taken out of the namespace, at once and whole; then its records and blocks are removed in
//! bounded steps.

use std::sync::Arc;

use steadfs_common::{FsError, FsPath, FsResult, Name};

use super::planner::Planner;
use super::read::Action;
use super::resolve::Purpose;
use super::{kept, lease, subtree};
use crate::command::{Effect, Reply};
use crate::record::{Inode, InodeKind, Key, Record};
use crate::view::View;

/// A file with at most so many blocks is removed at once when it is deleted.
const AT_ONCE_BLOCKS: u32 = 64;

/// [`crate::Command::Delete`]
pub(crate) fn delete(p: &mut Planner<'_>, path: &FsPath, recursive: bool) -> FsResult<Reply> {
    let at = p.resolve(path, Purpose::Use)?;
    at.check_parent_write(&p.guard)?;
    let Some(target) = at.target() else { return Ok(Reply::Bool(false)) };
    if matches!(target.kind, InodeKind::Directory { children, .. } if children > 0) {
        if !recursive {
            // HDFS asks the whole tree first; that it is not empty is nobody's secret who may list it.
            at.check_target(&p.guard, Action::ALL)?;
            return Err(FsError::not_empty(path));
        }
        if !at.path.is_root() {
            subtree::check(p, target, &at.path)?;
        }
    }
    if at.path.is_root() {
        return Ok(Reply::Bool(false));
    }
    if !kept::leads_there(&at.path) {
        p.unlinked(target, at.path.clone().into_owned());
    }
    remove(p, target)?;
    Ok(Reply::Bool(true))
}

/// Takes a file or tree out of the namespace. What is small is removed at once; the rest is left to [`reclaim`]. Files that
/// somebody has open are kept.
pub(crate) fn remove(p: &mut Planner<'_>, inode: &Arc<Inode>) -> FsResult<()> {
    let usage = p.usage(inode);
    p.leave(inode, usage)?;
    match &inode.kind {
        InodeKind::File(_) if kept::is_wanted(p, inode) => return kept::keep(p, inode),
        InodeKind::File(body) => {
            lease::end(p, inode.id);
            if body.blocks <= AT_ONCE_BLOCKS {
                drop_blocks(p, inode, body.blocks);
                p.forget(inode);
                return Ok(());
            }
        }
        InodeKind::Directory { children: 0, .. } => {
            drop_folder(p, inode);
            return Ok(());
        }
        InodeKind::Directory { .. } => {}
    }
    p.tx.put(Key::Reclaim(inode.id), Record::Reclaim { after: None });
    Ok(())
}

/// [`crate::Command::Reclaim`]: an inode or a block costs one of `limit`.
pub(crate) fn reclaim(p: &mut Planner<'_>, limit: usize) -> FsResult<Reply> {
    if !p.ctx.open.is_known() {
        // It comes again.
        return Ok(Reply::Bool(false));
    }
    let mut left = limit.max(1);
    for (id, after) in p.tx.reclaims(left) {
        if left == 0 {
            break;
        }
        let Some(inode) = p.tx.inode(id) else {
            p.tx.delete(Key::Reclaim(id));
            continue;
        };
        let done = match &inode.kind {
            InodeKind::File(_) if kept::is_wanted(p, &inode) => {
                left -= 1;
                kept::keep(p, &inode)?;
                true
            }
            InodeKind::File(_) => reclaim_file(p, &inode, &mut left),
            InodeKind::Directory { .. } => reclaim_folder(p, &inode, after, &mut left)?,
        };
        if done {
            p.tx.delete(Key::Reclaim(id));
        }
    }
    Ok(Reply::Bool(!p.tx.reclaims(1).is_empty()))
}

/// Removes a file, or the last of its blocks if it has too many for one step.
fn reclaim_file(p: &mut Planner<'_>, inode: &Inode, left: &mut usize) -> bool {
    let blocks = inode.file().map_or(0, |body| body.blocks);
    let step = blocks.min(u32::try_from(*left).unwrap_or(u32::MAX));
    let rest = drop_blocks(p, inode, step);
    *left = left.saturating_sub(step as usize);
    if *left == 0 && step < blocks {
        p.write(rest);
        return false;
    }
    *left = left.saturating_sub(1);
    lease::end(p, inode.id);
    p.forget(inode);
    true
}

/// Removes a folder's entries, as many as one step may. Folders in it that hold something become trees of their own.
/// It goes on behind `after`, and remembers how far it came: to find the first entry that is left, a store would have to
/// pass all that were removed before.
fn reclaim_folder(
    p: &mut Planner<'_>,
    folder: &Inode,
    mut after: Option<Name>,
    left: &mut usize,
) -> FsResult<bool> {
    let entries = p.tx.entries(folder.id, after.as_ref(), *left);
    for (name, id) in entries {
        if *left == 0 {
            break;
        }
        *left -= 1;
        after = Some(name.clone());
        p.tx.delete(Key::Entry(folder.id, name));
        let Some(inode) = p.tx.inode(id) else { continue };
        match &inode.kind {
            InodeKind::Directory { children: 0, .. } => drop_folder(p, &inode),
            InodeKind::File(_) if kept::is_wanted(p, &inode) => kept::keep(p, &inode)?,
            InodeKind::File(body) if body.blocks as usize <= *left => {
                *left -= body.blocks as usize;
                drop_blocks(p, &inode, body.blocks);
                lease::end(p, id);
                p.forget(&inode);
            }
            _ => p.tx.put(Key::Reclaim(id), Record::Reclaim { after: None }),
        }
    }
    if *left == 0 {
        p.tx.put(Key::Reclaim(folder.id), Record::Reclaim { after });
        return Ok(false);
    }
    *left -= 1;
    drop_folder(p, folder);
    Ok(true)
}

fn drop_folder(p: &mut Planner<'_>, folder: &Inode) {
    p.forget(folder);
    p.tx.delete(Key::Totals(folder.id));
}

/// Removes the last `count` blocks of a file, and gives the inode as it is without them.
pub(crate) fn drop_blocks(p: &mut Planner<'_>, inode: &Inode, count: u32) -> Inode {
    let mut inode = inode.clone();
    let id = inode.id;
    let InodeKind::File(body) = &mut inode.kind else { return inode };
    for _ in 0..count {
        let Some(index) = body.blocks.checked_sub(1) else { break };
        body.blocks = index;
        let Some(block_id) = p.tx.file_block(id, index) else { continue };
        p.tx.delete(Key::FileBlock(id, index));
        let Some(block) = p.tx.block(block_id) else { continue };
        p.tx.delete(Key::Block(block_id));
        body.length = body.length.saturating_sub(block.length);
        p.counters.blocks = p.counters.blocks.saturating_sub(1);
        if block.is_complete() {
            p.counters.complete_blocks = p.counters.complete_blocks.saturating_sub(1);
        }
        p.effect(Effect::Removed { block: block_id });
    }
    inode
}
