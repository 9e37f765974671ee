//! A file's whole content replaced at once, for mounts where programs write out of order.
//!
//! What shall be the content is written to a hidden file first: an inode without a name, whose parent is the file. No
//! path leads to it, and no folder counts it; its lease is all that keeps it, so it goes with its writer. The file keeps
//! its id, owner, mode, lists, attributes and everything else but its bytes and the time of their change.

use std::sync::Arc;

use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult, InodeId, ROOT_INODE, TxId};

use super::blocks::{all_complete, body_mut, body_of, commit_last, complete_committed};
use super::concat::move_blocks;
use super::planner::Planner;
use super::quota::{self, Counted};
use super::read::Action;
use super::resolve::Purpose;
use super::usage::last_block;
use super::{create, delete, lease};
use crate::command::{BlockRef, FileRef, Reply};
use crate::record::{FileBody, Inode, InodeKind, Layout};
use crate::view::View;

/// What a hidden file may be done with: by its writer, which has it open.
const MODE: u16 = 0o600;

/// Whether this is a hidden file: what replaces the content of its parent.
pub(crate) fn is_staged(inode: &Inode) -> bool {
    inode.name.is_none() && inode.id != ROOT_INODE
}

/// [`crate::Command::Stage`]
pub(crate) fn stage(p: &mut Planner<'_>, path: &FsPath, client: &str, block_size: u64) -> FsResult<Reply> {
    lease::check_client(client)?;
    let target = target(p, path)?;
    let of = body_of(&target)?;
    let block_size = if block_size == 0 { of.block_size } else { block_size };
    create::check_block_size(p, block_size)?;
    let body = FileBody {
        layout: Layout::Replicated { replication: of.replication() },
        length: 0,
        blocks: 0,
        block_size,
        under_construction: true,
        content: p.id(),
    };
    let id = p.new_inode_id();
    let inode = p.write(Inode {
        id,
        parent: target.id,
        name: None,
        owner: p.ctx.caller.user.clone(),
        mode: MODE,
        mtime: p.ctx.now,
        atime: p.ctx.now,
        acl: None,
        has_xattrs: false,
        kind: InodeKind::File(body),
        ..Inode::clone(&target)
    });
    lease::start(p, id, client);
    Ok(Reply::File(inode))
}

/// [`crate::Command::ReplaceContent`]. The cost is the number of blocks that go and come, which is bounded.
pub(crate) fn replace(
    p: &mut Planner<'_>,
    path: &FsPath,
    staged: InodeId,
    client: &str,
    last: Option<&BlockRef>,
    expected: Option<TxId>,
) -> FsResult<Reply> {
    let target = target(p, path)?;
    if p.tx.inode(staged).is_none() && is_content(p, &target, last) {
        // A repetition of a call that was carried out.
        return Ok(Reply::Bool(true));
    }
    let staged = open(p, staged, client, Some(path))?;
    if staged.parent != target.id {
        return Err(FsError::invalid_argument(format!(
            "Inode {} was not made to replace the content of {path}",
            staged.id
        )));
    }
    let body = body_of(&target)?;
    if body.under_construction {
        return Err(FsError::new(
            FsErrorKind::AlreadyBeingCreated,
            format!("The content of {path} is not replaced: somebody is writing it"),
        ));
    }
    if expected.is_some_and(|expected| expected != body.content) {
        return Err(FsError::new(
            FsErrorKind::ContentChanged,
            format!("The content of {path} is not replaced: somebody else has changed it meanwhile"),
        ));
    }
    complete_committed(p, &staged);
    let mut staged = Inode::clone(&staged);
    if let Some(last) = last
        && commit_last(p, &mut staged, last)?
    {
        staged = p.write(staged);
    }
    if !all_complete(p, &staged) {
        return Ok(Reply::Bool(false));
    }
    exchange(p, &target, &staged)?;
    Ok(Reply::Bool(true))
}

fn exchange(p: &mut Planner<'_>, target: &Arc<Inode>, staged: &Inode) -> FsResult<()> {
    let before = p.usage(target);
    let mut target = delete::drop_blocks(p, target, body_of(target)?.blocks);
    target.mtime = p.ctx.now;
    let body = body_mut(&mut target)?;
    (body.length, body.block_size) = (0, body_of(staged)?.block_size);
    move_blocks(p, &mut target, staged)?;
    remove(p, staged);
    p.replaced(&target);
    let target = p.write_content(target, before)?;
    let change = p.usage(&target) - before;
    quota::check(p, target.parent, change, Counted::Yes, None)
}

/// Refuses already while it is written what would be too much once it is the file's content.
pub(crate) fn check_quota(p: &Planner<'_>, staged: &Inode) -> FsResult<()> {
    let target = p.inode(staged.parent)?;
    let change = p.usage(staged) - p.usage(&target);
    quota::check(p, target.parent, change, Counted::NotYet, None)
}

/// [`crate::Command::DropStaged`]
pub(crate) fn drop(p: &mut Planner<'_>, staged: InodeId, client: &str) -> FsResult<Reply> {
    if p.tx.inode(staged).is_some() {
        let staged = open(p, staged, client, None)?;
        discard(p, &staged);
    }
    Ok(Reply::Done)
}

/// Lets a hidden file and its blocks go.
pub(crate) fn discard(p: &mut Planner<'_>, staged: &Inode) {
    let blocks = staged.file().map_or(0, |body| body.blocks);
    delete::drop_blocks(p, staged, blocks);
    remove(p, staged);
}

fn remove(p: &mut Planner<'_>, staged: &Inode) {
    lease::end(p, staged.id);
    p.forget(staged);
}

/// The file at `path`, which the caller may write.
fn target(p: &Planner<'_>, path: &FsPath) -> FsResult<Arc<Inode>> {
    let at = p.resolve(path, Purpose::Use)?;
    at.check_target(&p.guard, Action::WRITE)?;
    let target = at.target().ok_or_else(|| FsError::not_found(path))?;
    body_of(target).map_err(|_| FsError::not_a_file(path))?;
    Ok(target.clone())
}

/// The hidden file that `client` is writing.
fn open(p: &Planner<'_>, staged: InodeId, client: &str, path: Option<&FsPath>) -> FsResult<Arc<Inode>> {
    let hidden = |inode: &Arc<Inode>| is_staged(inode);
    let inode =
        p.tx.inode(staged)
            .filter(hidden)
            .filter(|inode| p.tx.lease(inode.id).is_some_and(|lease| lease.holder == client));
    inode.ok_or_else(|| {
        let path = path.map_or_else(String::new, |path| format!(" for {path}"));
        FsError::new(
            FsErrorKind::LeaseExpired,
            format!("Inode {staged}{path} is not open for writing by {client} any more"),
        )
    })
}

/// Whether a closed file ends with this block.
fn is_content(p: &Planner<'_>, target: &Inode, last: Option<&BlockRef>) -> bool {
    let stored = last_block(&p.tx, target).map(|block| (block.id, block.stamp));
    target.file().is_some_and(|body| !body.under_construction)
        && stored == last.map(|block| (block.id, block.stamp))
}

/// Refuses to close a hidden file as if it were one of the namespace.
pub(crate) fn refuse_to_complete(inode: &Inode, file: &FileRef) -> FsResult<()> {
    if is_staged(inode) {
        return Err(FsError::invalid_argument(format!(
            "Inode {} holds what shall replace the content of {}: it is not completed by itself",
            inode.id, file.path
        )));
    }
    Ok(())
}
