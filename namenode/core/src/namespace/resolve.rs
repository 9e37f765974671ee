//! From a path, or an inode's id, to inodes.

use std::borrow::Cow;
use std::sync::Arc;

use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult, InodeId, Name, ROOT_INODE};

use super::permission::Guard;
use super::read::Action;
use super::{kept, replace};
use crate::record::Inode;
use crate::view::View;

/// Why a path is resolved: decides what is said if it goes through a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Something new is to be there: `ParentNotDirectory`.
    Create,
    /// Anything else: `AccessDenied`, as HDFS has it.
    Use,
}

/// What lies along a path.
pub(crate) struct Resolved<'p> {
    /// The path, the inode's real one if it was named by its id.
    pub(crate) path: Cow<'p, FsPath>,
    /// The inodes that exist along it, the root first.
    pub(crate) chain: Vec<Arc<Inode>>,
}

impl Resolved<'_> {
    /// What the path names, if that exists.
    pub(crate) fn target(&self) -> Option<&Arc<Inode>> {
        self.chain.get(self.path.names().len())
    }

    /// The folder that holds it or would; none for the root, or if that does not exist.
    pub(crate) fn parent(&self) -> Option<&Arc<Inode>> {
        self.chain.get(self.path.names().len().checked_sub(1)?)
    }

    /// How deep the deepest inode above the target lies; none for the root.
    fn ancestor_depth(&self) -> Option<usize> {
        Some(self.path.names().len().checked_sub(1)?.min(self.chain.len() - 1))
    }

    /// Everybody on the way must be a folder that the caller may pass.
    fn check_traverse(&self, guard: &Guard<'_>, purpose: Purpose) -> FsResult<()> {
        let Some(last) = self.ancestor_depth() else { return Ok(()) };
        for (depth, inode) in self.chain[..=last].iter().enumerate() {
            if !inode.is_directory() {
                let path = self.path.prefix(depth);
                return Err(match purpose {
                    Purpose::Create => FsError::parent_not_directory(path),
                    Purpose::Use => FsError::denied(format!("{path} (is not a directory)")),
                });
            }
            self.check_at(guard, depth, Action::EXECUTE)?;
        }
        Ok(())
    }

    fn check_at(&self, guard: &Guard<'_>, depth: usize, action: Action) -> FsResult<()> {
        match self.chain.get(depth) {
            Some(inode) if !guard.may(inode, action) => guard.check(inode, self.path.prefix(depth), action),
            _ => Ok(()),
        }
    }

    /// Whether the caller may do `action` with the target; nothing to say if there is none.
    pub(crate) fn check_target(&self, guard: &Guard<'_>, action: Action) -> FsResult<()> {
        self.check_at(guard, self.path.names().len(), action)
    }

    /// Whether the caller may write to the deepest existing folder above the target.
    pub(crate) fn check_ancestor_write(&self, guard: &Guard<'_>) -> FsResult<()> {
        self.ancestor_depth().map_or(Ok(()), |depth| self.check_at(guard, depth, Action::WRITE))
    }

    /// Whether the caller may take the target out of its folder, or put it there.
    pub(crate) fn check_parent_write(&self, guard: &Guard<'_>) -> FsResult<()> {
        let (Some(depth), Some(parent)) = (self.path.names().len().checked_sub(1), self.parent()) else {
            return Ok(());
        };
        if let Some(target) = self.target() {
            guard.check_sticky(parent, self.path.prefix(depth), target, &self.path)?;
        }
        self.check_at(guard, depth, Action::WRITE)
    }
}

/// Follows `path` as far as it exists, and checks that the caller may pass.
pub(crate) fn resolve<'p>(
    view: &dyn View,
    guard: &Guard<'_>,
    path: &'p FsPath,
    purpose: Purpose,
) -> FsResult<Resolved<'p>> {
    let root = view.inode(ROOT_INODE).ok_or_else(|| {
        FsError::new(FsErrorKind::Io, "The namespace was never formatted: there is no root folder")
    })?;
    let path = real_path(view, path)?;
    if purpose == Purpose::Create && matches!(path, Cow::Owned(_)) {
        // The bounds of a path hold for the real one.
        FsPath::parse(&path.to_string())?;
    }
    let mut chain = vec![root];
    for name in path.names() {
        let folder = &chain[chain.len() - 1];
        if !folder.is_directory() {
            break;
        }
        let Some(inode) = view.entry(folder.id, name).and_then(|id| view.inode(id)) else { break };
        chain.push(inode);
    }
    let resolved = Resolved { path, chain };
    resolved.check_traverse(guard, purpose)?;
    if let [_, _, file, ..] = &resolved.chain[..]
        && kept::leads_there(&resolved.path)
    {
        kept::check(view, guard, file)?;
    }
    Ok(resolved)
}

/// Whether a path begins with `/.reserved/.inodes/<id>`.
pub(crate) fn names_inode(path: &FsPath) -> bool {
    inode_named(path).is_some()
}

/// Whether a path begins with `/.reserved/raw`: the tree once more, with the attributes of the `raw` namespace.
pub(crate) fn names_raw(path: &FsPath) -> bool {
    below_raw(path).is_some()
}

/// The names behind `/.reserved/raw`.
fn below_raw(path: &FsPath) -> Option<&[Name]> {
    match path.names() {
        [reserved, raw, rest @ ..] if reserved.as_str() == ".reserved" && raw.as_str() == "raw" => Some(rest),
        _ => None,
    }
}

/// What stands for the id in `/.reserved/.inodes/<id>[/…]`, and the names behind it.
fn inode_named(path: &FsPath) -> Option<(&Name, &[Name])> {
    match path.names() {
        [reserved, inodes, id, rest @ ..]
            if reserved.as_str() == ".reserved" && inodes.as_str() == ".inodes" =>
        {
            Some((id, rest))
        }
        _ => None,
    }
}

/// A path as it is, or, of `/.reserved/.inodes/<id>[/…]`, where that inode lies now and what follows; of
/// `/.reserved/raw[/…]` what follows.
///
/// # Errors
/// NotFound: there is no such inode.
pub fn real_path<'p>(view: &dyn View, path: &'p FsPath) -> FsResult<Cow<'p, FsPath>> {
    if let Some(rest) = below_raw(path) {
        return Ok(Cow::Owned(rest.iter().cloned().collect()));
    }
    let Some((id, rest)) = inode_named(path) else { return Ok(Cow::Borrowed(path)) };
    let not_found = |what: &str| FsError::new(FsErrorKind::NotFound, format!("{what}: {path}"));
    let id = id.as_str().parse().map_err(|_| not_found("Invalid inode path"))?;
    let top =
        full_path(view, InodeId(id)).ok_or_else(|| not_found("File for given inode path does not exist"))?;
    Ok(Cow::Owned(top.names().iter().chain(rest).cloned().collect()))
}

/// Where an inode lies now; none if it is gone, or part of a tree that was deleted and waits to be reclaimed.
#[must_use]
pub fn full_path(view: &dyn View, id: InodeId) -> Option<FsPath> {
    let mut names = Vec::new();
    walk_up(view, id, |inode| names.extend(inode.name.clone())).then(|| names.into_iter().rev().collect())
}

/// Whether an inode is gone, or part of a tree that was deleted and waits to be reclaimed. What shall replace the content
/// of a file stands where the file does.
#[must_use]
pub fn is_detached(view: &dyn View, id: InodeId) -> bool {
    let staged = view.inode(id).filter(|inode| replace::is_staged(inode));
    !walk_up(view, staged.map_or(id, |inode| inode.parent), |_| {})
}

/// Shows an inode and all above it, but the root. Whether the root was reached.
fn walk_up(view: &dyn View, id: InodeId, mut see: impl FnMut(&Inode)) -> bool {
    let mut id = id;
    while id != ROOT_INODE {
        let Some(inode) = view.inode(id) else { return false };
        if inode.name.as_ref().and_then(|name| view.entry(inode.parent, name)) != Some(id) {
            return false;
        }
        see(&inode);
        id = inode.parent;
    }
    true
}
