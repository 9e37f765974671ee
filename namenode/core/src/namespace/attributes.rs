//! Mode, owner, times, replication.

use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult, InodeId, Millis, limits};

use super::blocks::body_mut;
use super::create;
use super::permission::{MODE_BITS, STICKY};
use super::planner::Planner;
use super::quota::{self, Counted};
use super::read::{Action, access_time_due};
use super::resolve::{self, Purpose};
use crate::command::{Effect, NewTimes, Reply};
use crate::event::MetadataChange;
use crate::record::{Inode, Layout};
use crate::view::View;

/// The inode whose owner the caller must be.
pub(super) fn owned(p: &Planner<'_>, path: &FsPath) -> FsResult<Inode> {
    let at = p.resolve(path, Purpose::Use)?;
    let target = at.target().ok_or_else(|| {
        FsError::new(FsErrorKind::NotFound, format!("Directory/File does not exist {path}"))
    })?;
    p.guard.check_owner(target, path)?;
    Ok(Inode::clone(target))
}

/// Writes an inode whose mode or owner changed, and tells the folders above if a walk over them could notice.
pub(super) fn write_guarded(p: &mut Planner<'_>, inode: Inode) -> FsResult<()> {
    let (folder, parent) = (inode.is_directory(), inode.parent);
    let inode = p.write(inode);
    if folder {
        return p.add_totals(inode.id, super::usage::Usage::default(), true);
    }
    if p.inode(parent)?.mode & STICKY != 0 {
        return p.add_totals(parent, super::usage::Usage::default(), true);
    }
    Ok(())
}

/// [`crate::Command::SetPermission`]
pub(crate) fn set_permission(p: &mut Planner<'_>, path: &FsPath, mode: u16) -> FsResult<Reply> {
    let mut inode = owned(p, path)?;
    let mode = mode & MODE_BITS;
    if inode.mode != mode {
        inode.mode = mode;
        p.metadata_changed(inode.id, MetadataChange::Mode(mode));
        write_guarded(p, inode)?;
    }
    Ok(Reply::Done)
}

/// [`crate::Command::SetOwner`]
pub(crate) fn set_owner(
    p: &mut Planner<'_>,
    path: &FsPath,
    owner: Option<&str>,
    group: Option<&str>,
) -> FsResult<Reply> {
    let (owner, group) = (owner.filter(|name| !name.is_empty()), group.filter(|name| !name.is_empty()));
    for name in [owner, group].into_iter().flatten() {
        if name.len() > limits::MAX_PRINCIPAL_BYTES {
            return Err(FsError::invalid_argument(format!(
                "A name of {} bytes is longer than a user's or group's may be: {}",
                name.len(),
                limits::MAX_PRINCIPAL_BYTES
            )));
        }
    }
    let mut inode = owned(p, path)?;
    let user = &p.ctx.caller.user;
    if !p.guard.is_superuser() {
        if owner.is_some_and(|owner| owner != user) {
            return Err(FsError::denied(format!(
                "User {user} is not a super user (non-super user cannot change owner)."
            )));
        }
        if let Some(group) = group.filter(|group| !p.guard.is_member(group)) {
            return Err(FsError::denied(format!("User {user} does not belong to {group}")));
        }
    }
    let before = (inode.owner.clone(), inode.group.clone());
    inode.owner = owner.map_or(inode.owner, str::to_owned);
    inode.group = group.map_or(inode.group, str::to_owned);
    if (&inode.owner, &inode.group) != (&before.0, &before.1) {
        let change =
            MetadataChange::Owner { owner: owner.map(str::to_owned), group: group.map(str::to_owned) };
        p.metadata_changed(inode.id, change);
        write_guarded(p, inode)?;
    }
    Ok(Reply::Done)
}

/// [`crate::Command::SetTimes`]
pub(crate) fn set_times(
    p: &mut Planner<'_>,
    path: &FsPath,
    mtime: Option<Millis>,
    atime: Option<Millis>,
) -> FsResult<Reply> {
    if atime.is_some() && p.ctx.settings.access_time_precision.is_zero() {
        return Err(FsError::refused(
            "Access time for hdfs is not configured.  Please set dfs.namenode.accesstime.precision configuration \
             parameter.",
        ));
    }
    let at = p.resolve(path, Purpose::Use)?;
    at.check_target(&p.guard, Action::WRITE)?;
    let target = at.target().ok_or_else(|| {
        FsError::new(FsErrorKind::NotFound, format!("File/Directory {path} does not exist."))
    })?;
    let mut inode = Inode::clone(target);
    inode.mtime = mtime.unwrap_or(inode.mtime);
    inode.atime = atime.unwrap_or(inode.atime);
    if mtime.is_some() || atime.is_some() {
        p.metadata_changed(inode.id, MetadataChange::Times { mtime, atime });
    }
    if (inode.mtime, inode.atime) != (target.mtime, target.atime) {
        p.write(inode);
    }
    Ok(Reply::Done)
}

/// Gives a file that its writer closes the times that the writer wants. Where access times are not kept, that one counts for
/// nothing: the file is closed all the same.
pub(crate) fn set_at_close(p: &mut Planner<'_>, file: Inode, times: NewTimes) {
    let atime = times.atime.filter(|_| !p.ctx.settings.access_time_precision.is_zero());
    let mtime = times.mtime;
    if mtime.is_none() && atime.is_none() {
        return;
    }
    p.metadata_changed(file.id, MetadataChange::Times { mtime, atime });
    let (mtime, atime) = (mtime.unwrap_or(file.mtime), atime.unwrap_or(file.atime));
    if (mtime, atime) != (file.mtime, file.atime) {
        p.write(Inode { mtime, atime, ..file });
    }
}

/// [`crate::Command::TouchAccessTime`]
pub(crate) fn touch(p: &mut Planner<'_>, file: InodeId, atime: Millis) -> Reply {
    if let Some(inode) = p.tx.inode(file)
        && access_time_due(&inode, p.ctx.settings, atime)
        && !resolve::is_detached(&p.tx, file)
    {
        p.metadata_changed(file, MetadataChange::Times { mtime: None, atime: Some(atime) });
        p.write(Inode { atime, ..Inode::clone(&inode) });
    }
    Reply::Done
}

/// [`crate::Command::SetReplication`]. The cost is the file's number of blocks, which is bounded.
pub(crate) fn set_replication(p: &mut Planner<'_>, path: &FsPath, replication: u16) -> FsResult<Reply> {
    create::check_replication(p, path, replication)?;
    let at = p.resolve(path, Purpose::Use)?;
    at.check_target(&p.guard, Action::WRITE)?;
    let Some((target, body)) = at.target().and_then(|target| Some((target, target.file()?))) else {
        return Ok(Reply::Bool(false));
    };
    p.metadata_changed(target.id, MetadataChange::Replication(replication));
    if body.replication() == replication {
        return Ok(Reply::Bool(true));
    }
    let before = p.usage(target);
    for id in p.tx.file_blocks(target.id, 0, body.blocks as usize) {
        if let Some(mut block) = p.tx.block(id) {
            block.replication = replication;
            p.tx.put_block(block);
            p.effect(Effect::Replication { block: id, replication });
        }
    }
    let mut inode = Inode::clone(target);
    body_mut(&mut inode)?.layout = Layout::Replicated { replication };
    let inode = p.write_file(inode, before)?;
    let change = p.usage(&inode) - before;
    quota::check(p, inode.parent, change, Counted::Yes, None)?;
    Ok(Reply::Bool(true))
}
