//! New folders and files.

use std::fmt;

use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult, InodeId, Millis, limits};

use super::delete;
use super::lease::{self, Takeover, TakeoverCause};
use super::permission::MODE_BITS;
use super::planner::Planner;
use super::quota;
use super::read::Action;
use super::resolve::{Purpose, Resolved};
use super::usage::Usage;
use crate::acl::{self, Modes};
use crate::command::Reply;
use crate::policy;
use crate::record::{FileBody, Inode, InodeKind, Key, Layout, Record, Totals};

/// Largest block in bytes that a file may be created with: 1 TiB. Sums of sizes times replication then stay far from
/// the end of 64 bits.
pub const MAX_BLOCK_BYTES: u64 = 1 << 40;

/// What a caller adds to a mode of a folder that is made on the way, so that it can make the next one in it.
const OWNER_PASSES: u16 = 0o300;

/// [`crate::Command::Mkdirs`]
pub(crate) fn mkdirs(
    p: &mut Planner<'_>,
    path: &FsPath,
    modes: Modes,
    create_parent: bool,
) -> FsResult<Reply> {
    let at = p.resolve(path, Purpose::Create)?;
    if let Some(target) = at.target() {
        if target.is_directory() {
            return Ok(Reply::Done);
        }
        return Err(FsError::exists(format!("Path is not a directory: {path}")));
    }
    at.check_ancestor_write(&p.guard)?;
    if !create_parent {
        require_parent(&at)?;
    }
    place_folder(p, at, modes)
}

/// [`crate::Command::MakeFolder`]
pub(crate) fn make_folder(p: &mut Planner<'_>, path: &FsPath, modes: Modes) -> FsResult<Reply> {
    let at = p.resolve(path, Purpose::Create)?;
    if at.target().is_some() {
        return Err(FsError::exists(format!("{path} already exists")));
    }
    at.check_ancestor_write(&p.guard)?;
    require_parent(&at)?;
    place_folder(p, at, modes)
}

fn place_folder(p: &mut Planner<'_>, at: Resolved<'_>, modes: Modes) -> FsResult<Reply> {
    let modes = kept(modes);
    let folders = Modes { masked: modes.masked & 0o777 | OWNER_PASSES, ..modes };
    let inode = place(p, &at, InodeKind::Directory { children: 0, quota: None }, modes, folders)?;
    p.created(&inode, at.path.into_owned(), false, None);
    Ok(Reply::Done)
}

/// What a file is created with; see [`crate::Command::Create`].
pub(crate) struct NewFile<'a> {
    pub(crate) path: &'a FsPath,
    pub(crate) modes: Modes,
    pub(crate) client: &'a str,
    pub(crate) create: bool,
    pub(crate) overwrite: bool,
    pub(crate) create_parent: bool,
    pub(crate) replication: u16,
    pub(crate) block_size: u64,
    pub(crate) policy: u8,
}

/// [`crate::Command::Create`]
pub(crate) fn create(p: &mut Planner<'_>, new: &NewFile<'_>) -> FsResult<Reply> {
    lease::check_client(new.client)?;
    check_replication(p, new.path, new.replication)?;
    check_block_size(p, new.block_size)?;
    let at = p.resolve(new.path, Purpose::Create)?;
    at.check_ancestor_write(&p.guard)?;
    if at.target().is_some_and(|target| target.is_directory()) {
        return Err(FsError::exists(format!("{} already exists as a directory", new.path)));
    }
    if !new.create_parent {
        require_parent(&at)?;
    }
    check_policy(new.policy)?;
    match at.target() {
        Some(target) if new.overwrite => {
            // The file is written, not taken away: a folder's sticky bit does not guard it, as in HDFS.
            at.check_target(&p.guard, Action::WRITE)?;
            delete::remove(p, target)?;
        }
        Some(target) => {
            let exists =
                FsError::exists(format!("{} for client {} already exists", new.path, lease::machine(p.ctx)));
            return match lease::take_over(p, TakeoverCause::Create, target, new.path, new.client)? {
                Takeover::Unneeded => Err(exists),
                Takeover::Closed(_) => Ok(Reply::Failed(exists)),
                Takeover::Begun(error) => Ok(Reply::Failed(error)),
            };
        }
        None if !new.create => {
            return Err(FsError::new(
                FsErrorKind::NotFound,
                format!("Can't overwrite non-existent {} for client {}", new.path, lease::machine(p.ctx)),
            ));
        }
        None => {}
    }
    place_file(p, &at, new)
}

fn place_file(p: &mut Planner<'_>, at: &Resolved<'_>, new: &NewFile<'_>) -> FsResult<Reply> {
    let body = FileBody {
        layout: Layout::Replicated { replication: new.replication },
        length: 0,
        blocks: 0,
        block_size: new.block_size,
        under_construction: true,
        content: p.id(),
    };
    let above = at.chain.len().min(at.path.names().len());
    let folders = Modes { masked: at.chain[above - 1].mode & 0o777 | OWNER_PASSES, unmasked: None };
    let mut inode = place(p, at, InodeKind::File(body), kept(new.modes), folders)?;
    if new.policy != 0 {
        // Nothing is in it yet, so no sum changes.
        inode = p.write(Inode { storage_policy: new.policy, ..inode });
    }
    p.created(&inode, at.path.clone().into_owned(), new.overwrite, at.target().map(|target| target.id));
    lease::start(p, inode.id, new.client);
    Ok(Reply::File(inode))
}

/// Modes cut to the bits that are kept.
fn kept(modes: Modes) -> Modes {
    Modes { masked: modes.masked & MODE_BITS, unmasked: modes.unmasked.map(|mode| mode & MODE_BITS) }
}

/// Makes what `at` names, which is not there (any more), and the folders on the way that are missing, with `folders` as
/// their modes. The owner is the caller, the group that of the folder above, as in BSD.
fn place(
    p: &mut Planner<'_>,
    at: &Resolved<'_>,
    kind: InodeKind,
    modes: Modes,
    folders: Modes,
) -> FsResult<Inode> {
    let names = at.path.names();
    let above = at.chain.len().min(names.len());
    let parent = &at.chain[above - 1];
    check_reserved(&at.path)?;
    check_room(p, parent.id, at.path.prefix(above - 1))?;
    let missing = &names[above - 1..];
    let leaf = if matches!(kind, InodeKind::Directory { .. }) { Usage::FOLDER } else { Usage::EMPTY_FILE };
    let usage = leaf.in_folders(missing.len() - 1);
    let first = p.counters.next_inode;
    p.enter(parent.id, &missing[0], first, usage, missing.len() > 1)?;
    quota::check_new(p, parent.id, missing.len())?;

    // A folder that is made hands its default entries on: all of them begin as what is made in `parent`.
    let (mode, acl) = acl::inherited(parent, modes, leaf == Usage::FOLDER);
    let (folder_mode, folder_acl) = acl::inherited(parent, folders, true);
    let mut holder = parent.id;
    let template = Inode {
        id: first,
        parent: holder,
        name: None,
        owner: p.ctx.caller.user.clone(),
        group: parent.group.clone(),
        mode,
        mtime: p.ctx.now,
        atime: if leaf == Usage::FOLDER { Millis(0) } else { p.ctx.now },
        changed: p.id(),
        acl,
        has_xattrs: false,
        storage_policy: 0,
        kind,
    };
    let (last, on_the_way) = missing.split_last().ok_or_else(|| FsError::refused("Nothing is missing"))?;
    for (index, name) in on_the_way.iter().enumerate() {
        let id = p.new_inode_id();
        let below = on_the_way.get(index + 1).unwrap_or(last);
        let folder = Inode {
            id,
            parent: holder,
            name: Some(name.clone()),
            mode: folder_mode,
            acl: folder_acl.clone(),
            atime: Millis(0),
            kind: InodeKind::Directory { children: 1, quota: None },
            ..template.clone()
        };
        let folder = p.write(folder);
        p.created(&folder, at.path.prefix(above + index), false, None);
        p.tx.put(Key::Entry(id, below.clone()), Record::Entry(p.counters.next_inode));
        let totals = Totals { guarded: p.id(), ..Totals::default() };
        let totals = leaf.in_folders(on_the_way.len() - index - 1).added_to(totals);
        p.tx.put(Key::Totals(id), Record::Totals(totals));
        holder = id;
    }
    let id = p.new_inode_id();
    Ok(p.write(Inode { id, parent: holder, name: Some(last.clone()), ..template }))
}

/// Refuses names that HDFS keeps for itself: `/.reserved`, where inodes are found by id, and `.snapshot` anywhere.
pub(crate) fn check_reserved(path: &FsPath) -> FsResult<()> {
    if path.names().first().is_some_and(|name| name.as_str() == ".reserved") {
        return Err(FsError::invalid_argument(
            "File name \".reserved\" is reserved and cannot be created. If this is during upgrade change the name of the \
             existing file or directory to another name before upgrading to the new release.",
        ));
    }
    if path.names().iter().any(|name| name.as_str() == ".snapshot") {
        return Err(FsError::invalid_argument("\".snapshot\" is a reserved name."));
    }
    Ok(())
}

/// Refuses one entry more in a full folder.
pub(crate) fn check_room(p: &Planner<'_>, folder: InodeId, path: impl fmt::Display) -> FsResult<()> {
    match p.inode(folder)?.kind {
        InodeKind::Directory { children, .. } if children >= limits::MAX_DIRECTORY_ITEMS => {
            Err(FsError::new(
                FsErrorKind::TooManyEntries,
                format!(
                    "The directory item limit of {path} is exceeded: limit={} items={}",
                    limits::MAX_DIRECTORY_ITEMS,
                    children
                ),
            ))
        }
        _ => Ok(()),
    }
}

fn require_parent(at: &Resolved<'_>) -> FsResult<()> {
    if at.parent().is_some() || at.path.is_root() {
        return Ok(());
    }
    let parent = at.path.parent().unwrap_or_else(FsPath::root);
    Err(FsError::new(FsErrorKind::NotFound, format!("Parent directory doesn't exist: {parent}")))
}

/// Refuses a replication outside the configured bounds.
pub(crate) fn check_replication(p: &Planner<'_>, path: &FsPath, replication: u16) -> FsResult<()> {
    let (least, most) = (p.ctx.settings.min_replication.max(1), p.ctx.settings.max_replication);
    let wrong = if replication > most {
        format!("exceeds maximum of {most}")
    } else if replication < least {
        format!("is less than the required minimum of {least}")
    } else {
        return Ok(());
    };
    Err(FsError::refused(format!("Requested replication factor of {replication} {wrong} for {path}")))
}

/// Refuses a storage policy that nobody has: doors look names up, and pass on none that is not there.
fn check_policy(policy: u8) -> FsResult<()> {
    if policy == 0 || policy::by_id(policy).is_some() {
        return Ok(());
    }
    Err(FsError::invalid_argument(format!("Cannot find a block policy with the id {policy}")))
}

pub(crate) fn check_block_size(p: &Planner<'_>, size: u64) -> FsResult<()> {
    let least = p.ctx.settings.min_block_size.max(1);
    if size < least {
        return Err(FsError::refused(format!(
            "Specified block size is less than configured minimum value \
             (dfs.namenode.fs-limits.min-block-size): {size} < {least}"
        )));
    }
    if size > MAX_BLOCK_BYTES {
        return Err(FsError::refused(format!(
            "Specified block size is more than the maximum value: {size} > {MAX_BLOCK_BYTES}"
        )));
    }
    Ok(())
}
