//! Files that lost their last name while somebody has them open.
//!
//! Who has a file open through a mount goes on reading and writing it when it is deleted, or replaced by a rename or a
//! create, wherever that happens. Such a file is moved instead of removed: into a folder that nobody lists, under its id.
//! There it is a file like any other, found by its id, that counts for the root alone; the namenode lets it go
//! ([`crate::Command::LetGo`]) once nobody has it open. Those of a tree that is deleted are moved when the removal of the tree
//! comes to them, or before, when they are named by the same command: until then nothing leads to them.
//!
//! What everybody must pass who opens a file by its id are the folders above it. A kept file has none of those any more; so the
//! name that it gets says which of them was the nearest that not everybody may pass: who may not pass that one and all above it,
//! may not open the file. Once that folder is gone itself, the file is its owner's.
//!
//! Which files are open is not stored: it is an argument ([`OpenFiles`]), like what the datanodes have told. After a start
//! every file is taken for open until those who had files open have said which.

use steadfs_common::{FsError, FsPath, FsResult, InodeId, Millis, Name, ROOT_INODE};

use super::delete;
use super::permission::Guard;
use super::planner::Planner;
use super::read::Action;
use super::resolve;
use super::usage::Usage;
use crate::command::Reply;
use crate::record::{Inode, InodeKind, Key};
use crate::view::View;

/// What is known of the files that mounts have open.
pub trait OpenFiles {
    /// Whether somebody has this file open, or may have.
    fn is_open(&self, file: InodeId) -> bool;
    /// Whether that can be told apart: not after a start, until those who had files open before have said so.
    fn is_known(&self) -> bool;
    /// What was planned by the answers up to now is carried out, and every read sees it.
    fn settled(&self) {}
}

/// Nobody has anything open.
#[derive(Clone, Copy, Debug, Default)]
pub struct NothingOpen;

impl OpenFiles for NothingOpen {
    fn is_open(&self, _file: InodeId) -> bool {
        false
    }

    fn is_known(&self) -> bool {
        true
    }
}

/// The folder's name in the root: nobody can make that by a call.
const FOLDER: &str = ".reserved";
/// It may be passed by all: what a file and its former folders allow decides. Superusers alone change it, whoever the root
/// belongs to.
const MODE: u16 = 0o555;

/// Whether this is the name, in the root, of the folder that is not listed.
pub(crate) fn is_folder(folder: InodeId, name: &Name) -> bool {
    folder == ROOT_INODE && name.as_str() == FOLDER
}

/// Whether a real path leads to a kept file, or to the folder of these.
pub(crate) fn leads_there(path: &FsPath) -> bool {
    path.names().first().is_some_and(|name| name.as_str() == FOLDER)
}

/// Where kept files are; none if there never was one.
#[must_use]
pub fn folder(view: &dyn View) -> Option<InodeId> {
    view.entry(ROOT_INODE, &Name::new(FOLDER).ok()?)
}

/// Whether a file that loses its name is to be kept.
pub(crate) fn is_wanted(p: &Planner<'_>, file: &Inode) -> bool {
    // A superuser who deletes a kept file means it.
    p.ctx.open.is_open(file.id) && folder(&p.tx) != Some(file.parent)
}

/// Enters a file that has no entry any more among the kept ones. Who writes it keeps its lease.
pub(crate) fn keep(p: &mut Planner<'_>, file: &Inode) -> FsResult<()> {
    let folder = match folder(&p.tx) {
        Some(folder) => folder,
        None => make_folder(p)?,
    };
    let name = match guarding(&p.tx, file) {
        Some(guarding) => format!("{}{GUARDED}{guarding}", file.id),
        None => file.id.to_string(),
    };
    let name = Name::new(&name).map_err(|_| FsError::refused("An id is no name"))?;
    let usage = p.usage(file);
    p.enter(folder, &name, file.id, usage, false)?;
    p.write(Inode { parent: folder, name: Some(name), ..file.clone() });
    Ok(())
}

/// Stands in a kept file's name between its id and that of the folder that guards it.
const GUARDED: char = '.';
/// What lets everybody pass a folder.
const PASSED_BY_ALL: u16 = 0o111;

/// The nearest folder above a file that not everybody may pass, if there is one. What is gone may have been such a one.
fn guarding(view: &dyn View, file: &Inode) -> Option<InodeId> {
    let mut id = file.parent;
    loop {
        let Some(folder) = view.inode(id) else { return Some(id) };
        let has_list = folder.acl.as_deref().is_some_and(|acl| !acl.access.is_empty());
        if has_list || folder.mode & PASSED_BY_ALL != PASSED_BY_ALL {
            return Some(id);
        }
        if id == ROOT_INODE {
            return None;
        }
        id = folder.parent;
    }
}

/// Whether the caller might pass all folders that a kept file lay in.
///
/// # Errors
/// AccessDenied: they might not.
pub(crate) fn check(view: &dyn View, guard: &Guard<'_>, file: &Inode) -> FsResult<()> {
    let Some(name) = file.name.as_ref().filter(|_| !guard.passes_everywhere()) else { return Ok(()) };
    let guarding = name.as_str().split_once(GUARDED).and_then(|(_, id)| id.parse().ok());
    let Some(mut id) = guarding.map(InodeId) else { return Ok(()) };
    let path = || format!("/{FOLDER}/{name}");
    loop {
        let Some(folder) = view.inode(id) else {
            // What its folders allowed, nobody knows any more.
            return guard.check_owner(file, path());
        };
        guard.check(&folder, path(), Action::EXECUTE)?;
        if id == ROOT_INODE {
            return Ok(());
        }
        id = folder.parent;
    }
}

fn make_folder(p: &mut Planner<'_>) -> FsResult<InodeId> {
    let root = p.inode(ROOT_INODE)?;
    let name = Name::new(FOLDER).map_err(|_| FsError::refused("The folder of kept files has no name"))?;
    let id = p.new_inode_id();
    p.enter(ROOT_INODE, &name, id, Usage::FOLDER, false)?;
    p.write(Inode {
        id,
        parent: ROOT_INODE,
        name: Some(name),
        owner: root.owner.clone(),
        group: root.group.clone(),
        mode: MODE,
        mtime: p.ctx.now,
        atime: Millis(0),
        changed: p.id(),
        acl: None,
        has_xattrs: false,
        storage_policy: 0,
        kind: InodeKind::Directory { children: 0, quota: None },
    });
    Ok(id)
}

/// [`crate::Command::LetGo`]
pub(crate) fn let_go(p: &mut Planner<'_>, files: &[InodeId]) -> FsResult<Reply> {
    for file in files {
        let Some(inode) = p.tx.inode(*file).filter(|inode| inode.file().is_some()) else { continue };
        // One without an entry shall replace a content, or is being removed already.
        let is_entered = |name: &Name| p.tx.entry(inode.parent, name) == Some(*file);
        let Some(name) = inode.name.clone().filter(is_entered) else { continue };
        if folder(&p.tx) == Some(inode.parent) {
            if p.ctx.open.is_known() && !p.ctx.open.is_open(*file) {
                delete::remove(p, &inode)?;
            }
        } else if resolve::is_detached(&p.tx, *file) && p.ctx.open.is_open(*file) {
            p.tx.delete(Key::Entry(inode.parent, name));
            keep(p, &inode)?;
        }
    }
    Ok(Reply::Done)
}

/// Up to `limit` kept files after `after`, by their names.
#[must_use]
pub fn page(view: &dyn View, after: Option<&Name>, limit: usize) -> Vec<(Name, InodeId)> {
    folder(view).map_or_else(Vec::new, |folder| view.entries(folder, after, limit))
}
