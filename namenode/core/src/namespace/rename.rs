//! Renames: HDFS's first form, which answers `false` a lot and moves into folders, and its second, which has errors.

use std::sync::Arc;

use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult};

use super::planner::Planner;
use super::quota::{self, Counted};
use super::resolve::{Purpose, Resolved};
use super::usage::Usage;
use super::{create, delete, kept, subtree};
use crate::command::{RenameMode, Reply};
use crate::record::{Inode, InodeKind};

/// [`crate::Command::Rename`]
pub(crate) fn rename(
    p: &mut Planner<'_>,
    from: &FsPath,
    to: &FsPath,
    mode: RenameMode,
    to_trash: bool,
) -> FsResult<Reply> {
    match mode {
        RenameMode::Classic => classic(p, from, to).map(Reply::Bool),
        RenameMode::NoReplace => strict(p, from, to, false, to_trash),
        RenameMode::Overwrite => strict(p, from, to, true, to_trash),
    }
}

fn classic(p: &mut Planner<'_>, from: &FsPath, to: &FsPath) -> FsResult<bool> {
    let source = p.resolve(from, Purpose::Use)?;
    let mut destination = p.resolve(to, Purpose::Create)?;
    // Before it is found that the source moves into a folder, as in HDFS.
    source.check_parent_write(&p.guard)?;
    let moved_in;
    if let (Some(target), Some(name)) = (destination.target(), source.path.file_name())
        && target.is_directory()
    {
        moved_in = inside(&destination.path, name)?;
        destination = p.resolve(&moved_in, Purpose::Create)?;
    }
    destination.check_ancestor_write(&p.guard)?;
    let Some(inode) = source.target() else { return Ok(false) };
    if source.path.is_root() {
        return Ok(false);
    }
    if destination.path == source.path {
        // HDFS tells it, though nothing moves.
        p.renamed(inode, &source.path, &destination, inode.parent);
        return Ok(true);
    }
    if destination.path.starts_with(&source.path)
        || destination.target().is_some()
        || destination.parent().is_none()
    {
        return Ok(false);
    }
    check_room(p, inode, &destination)?;
    let change = p.usage(inode);
    relocate(p, inode, &source.path, &destination)?;
    check_quota(p, &source, &destination, change)?;
    Ok(true)
}

/// `folder/name`, checked as a path that a client sends would be.
fn inside(folder: &FsPath, name: &steadfs_common::Name) -> FsResult<FsPath> {
    FsPath::parse(&folder.join(name.clone()).to_string())
}

fn strict(
    p: &mut Planner<'_>,
    from: &FsPath,
    to: &FsPath,
    overwrite: bool,
    to_trash: bool,
) -> FsResult<Reply> {
    let source = p.resolve(from, Purpose::Use)?;
    let destination = p.resolve(to, Purpose::Create)?;
    check_permission(p, &source, &destination)?;
    let (from, to) = (&*source.path, &*destination.path);
    let inode = source
        .target()
        .ok_or_else(|| FsError::new(FsErrorKind::NotFound, format!("rename source {from} is not found.")))?;
    if from.is_root() {
        return Err(FsError::refused("rename source cannot be the root"));
    }
    if to == from {
        return Err(FsError::exists(format!("The source {from} and destination {to} are the same")));
    }
    if to.starts_with(from) {
        return Err(FsError::refused(format!(
            "Rename destination {to} is a directory or file under source {from}"
        )));
    }
    if to.is_root() {
        return Err(FsError::refused("rename destination cannot be the root"));
    }
    if to_trash && matches!(inode.kind, InodeKind::Directory { children, .. } if children > 0) {
        // What lies in the trash is deleted by the superuser: its owner must be allowed to do so.
        subtree::check(p, inode, from)?;
    }
    if let Some(target) = destination.target() {
        check_overwrite(from, to, inode, target, overwrite)?;
        destination.check_parent_write(&p.guard)?;
    }
    if destination.parent().is_none() {
        return Err(FsError::new(
            FsErrorKind::NotFound,
            format!("rename destination parent {to} not found."),
        ));
    }
    let mut change = p.usage(inode);
    match destination.target() {
        Some(target) => {
            change = change - p.usage(target);
            delete::remove(p, target)?;
        }
        None => check_room(p, inode, &destination)?,
    }
    relocate(p, inode, from, &destination)?;
    check_quota(p, &source, &destination, change)?;
    Ok(Reply::Done)
}

fn check_permission(p: &Planner<'_>, source: &Resolved<'_>, destination: &Resolved<'_>) -> FsResult<()> {
    source.check_parent_write(&p.guard)?;
    destination.check_ancestor_write(&p.guard)
}

fn check_overwrite(
    from: &FsPath,
    to: &FsPath,
    source: &Inode,
    target: &Inode,
    overwrite: bool,
) -> FsResult<()> {
    if source.is_directory() != target.is_directory() {
        // HDFS says so whichever of the two is the file.
        let message = format!("Source {from} and destination {to} must both be directories");
        return Err(FsError::refused(message));
    }
    if !overwrite {
        return Err(FsError::exists(format!("rename destination {to} already exists")));
    }
    if matches!(target.kind, InodeKind::Directory { children, .. } if children > 0) {
        return Err(FsError::new(
            FsErrorKind::TargetNotEmpty,
            format!("rename destination directory is not empty: {to}"),
        ));
    }
    Ok(())
}

/// Refuses one entry more in the destination's folder; a rename within a folder adds none.
fn check_room(p: &Planner<'_>, inode: &Inode, destination: &Resolved<'_>) -> FsResult<()> {
    match destination.parent() {
        Some(parent) if parent.id != inode.parent => {
            create::check_room(p, parent.id, destination.path.parent().unwrap_or_else(FsPath::root))
        }
        _ => Ok(()),
    }
}

/// Refuses what the destination's quotas do not take; what lies above both paths holds no more than before.
fn check_quota(
    p: &Planner<'_>,
    source: &Resolved<'_>,
    destination: &Resolved<'_>,
    change: Usage,
) -> FsResult<()> {
    let Some(folder) = destination.parent() else { return Ok(()) };
    let pairs = source.chain.iter().zip(&destination.chain);
    let common = pairs.take_while(|(from, to)| from.id == to.id).last().map(|(both, _)| both.id);
    quota::check(p, folder.id, change, Counted::Yes, common)
}

/// Moves one entry. Nothing below it is touched, and its own times stay.
fn relocate(
    p: &mut Planner<'_>,
    inode: &Arc<Inode>,
    from: &FsPath,
    destination: &Resolved<'_>,
) -> FsResult<()> {
    create::check_reserved(&destination.path)?;
    if kept::leads_there(from) {
        return Err(FsError::not_found(from));
    }
    let (Some(parent), Some(name)) = (destination.parent(), destination.path.file_name()) else {
        return Err(FsError::refused("rename destination cannot be the root"));
    };
    p.renamed(inode, from, destination, parent.id);
    let usage = p.usage(inode);
    p.leave(inode, usage)?;
    let holds = matches!(inode.kind, InodeKind::Directory { children, .. } if children > 0);
    p.enter(parent.id, name, inode.id, usage, holds)?;
    p.write(Inode { parent: parent.id, name: Some(name.clone()), ..Inode::clone(inode) });
    Ok(())
}
