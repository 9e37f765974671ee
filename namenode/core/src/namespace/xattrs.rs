//! Extended attributes, by HDFS's rules: who may see and set them, and how many there may be.

use std::sync::Arc;

use steadfs_common::xattr::{XAttrFlags, XAttrName, XAttrNamespace};
use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult};

use super::permission::{Guard, STICKY};
use super::planner::Planner;
use super::read::{Action, Reader, existing};
use super::resolve::{self, Purpose, Resolved};
use crate::command::Reply;
use crate::event::MetadataChange;
use crate::record::{Inode, Key, Record, XAttr};
use crate::view::View;

/// Most attributes of the other namespaces, which HDFS does not bound.
const MAX_HIDDEN_XATTRS: usize = 32;
/// A file that has this one is not read by superusers.
const UNREADABLE: &str = "hdfs.unreadable.by.superuser";

/// [`crate::Command::SetXAttr`]
pub(crate) fn set(
    p: &mut Planner<'_>,
    path: &FsPath,
    name: &XAttrName,
    value: Option<&[u8]>,
    flags: XAttrFlags,
) -> FsResult<Reply> {
    check_size(name, value, p.ctx.settings.max_xattr_bytes)?;
    let raw = resolve::names_raw(path);
    check_namespace(&p.guard, name, value.is_some(), raw)?;
    if raw {
        check_raw_change(&p.guard, "setXAttr")?;
    }
    let at = p.resolve(path, Purpose::Use)?;
    check_change(&at, &p.guard, name)?;
    let inode = existing(&at)?;
    let mut attributes = p.tx.xattrs(inode.id);
    check_flags(name, attributes.iter().any(|known| known.name == *name), flags)?;
    if is_unreadable(name) && inode.is_directory() {
        return Err(FsError::refused(format!("Can only set '{name}' on a file.")));
    }
    attributes.retain(|known| known.name != *name);
    // As in HDFS, what was set last comes first.
    let attribute = XAttr { name: name.clone(), value: value.unwrap_or_default().to_vec() };
    attributes.insert(0, attribute.clone());
    check_room(&attributes, p.ctx.settings.max_xattrs)?;
    p.metadata_changed(inode.id, MetadataChange::XAttrsSet(vec![attribute]));
    write(p, &inode, attributes);
    Ok(Reply::Done)
}

/// [`crate::Command::RemoveXAttr`]
pub(crate) fn remove(p: &mut Planner<'_>, path: &FsPath, name: &XAttrName) -> FsResult<Reply> {
    let raw = resolve::names_raw(path);
    check_namespace(&p.guard, name, false, raw)?;
    if raw {
        check_raw_change(&p.guard, "removeXAttr")?;
    }
    let at = p.resolve(path, Purpose::Use)?;
    check_change(&at, &p.guard, name)?;
    let inode = existing(&at)?;
    let mut attributes = p.tx.xattrs(inode.id);
    if is_unreadable(name) && !attributes.is_empty() {
        return Err(FsError::denied(format!("The xattr '{name}' can not be deleted.")));
    }
    let before = attributes.len();
    attributes.retain(|known| known.name != *name);
    if attributes.len() == before {
        let message = "No matching attributes found for remove operation";
        return Err(FsError::new(FsErrorKind::XAttrMissing, message));
    }
    let removed = XAttr { name: name.clone(), value: Vec::new() };
    p.metadata_changed(inode.id, MetadataChange::XAttrsRemoved(vec![removed]));
    write(p, &inode, attributes);
    Ok(Reply::Done)
}

fn write(p: &mut Planner<'_>, inode: &Inode, attributes: Vec<XAttr>) {
    let has_xattrs = !attributes.is_empty();
    if has_xattrs {
        p.tx.put(Key::XAttrs(inode.id), Record::XAttrs(attributes));
    } else {
        p.tx.delete(Key::XAttrs(inode.id));
    }
    // The inode is written even if the flag stays: it tells when something about it changed last.
    p.write(Inode { has_xattrs, ..inode.clone() });
}

fn is_unreadable(name: &XAttrName) -> bool {
    name.namespace == XAttrNamespace::Security && name.name == UNREADABLE
}

fn check_size(name: &XAttrName, value: Option<&[u8]>, most: usize) -> FsResult<()> {
    let size = name.name.len() + value.map_or(0, <[u8]>::len);
    if size > most {
        return Err(FsError::invalid_argument(format!(
            "The XAttr is too big. The maximum combined size of the name and value is {most}, but the \
             total size is {size}"
        )));
    }
    Ok(())
}

/// Which namespaces are whose. `raw` says that the path lies below `/.reserved/raw`.
fn check_namespace(guard: &Guard<'_>, name: &XAttrName, has_value: bool, raw: bool) -> FsResult<()> {
    match name.namespace {
        XAttrNamespace::User => Ok(()),
        XAttrNamespace::Trusted if guard.is_superuser() => Ok(()),
        XAttrNamespace::Raw if raw => Ok(()),
        _ if is_unreadable(name) && has_value => Err(FsError::denied(format!(
            "Attempt to set a value for '{name}'. Values are not allowed for this xattr."
        ))),
        _ if is_unreadable(name) => Ok(()),
        _ => Err(FsError::denied(format!("User doesn't have permission for xattr: {name}"))),
    }
}

fn is_visible(guard: &Guard<'_>, name: &XAttrName, raw: bool) -> bool {
    match name.namespace {
        XAttrNamespace::User => true,
        XAttrNamespace::Trusted => guard.is_superuser(),
        XAttrNamespace::Raw => raw,
        XAttrNamespace::Security => is_unreadable(name),
        XAttrNamespace::System => false,
    }
}

fn check_raw_change(guard: &Guard<'_>, operation: &str) -> FsResult<()> {
    if guard.is_superuser() {
        return Ok(());
    }
    Err(FsError::denied(format!(
        "Access denied for user {}. Superuser privilege is required for operation {operation}",
        guard.user()
    )))
}

/// Users' attributes belong to whoever may write; on a folder with the sticky bit to its owner.
fn check_change(at: &Resolved<'_>, guard: &Guard<'_>, name: &XAttrName) -> FsResult<()> {
    if name.namespace != XAttrNamespace::User || guard.passes_everywhere() {
        return Ok(());
    }
    match at.target() {
        Some(target) if target.is_directory() && target.mode & STICKY != 0 => {
            guard.check_owner(target, &at.path)
        }
        _ => at.check_target(guard, Action::WRITE),
    }
}

fn check_flags(name: &XAttrName, exists: bool, flags: XAttrFlags) -> FsResult<()> {
    let shown = &name.name;
    match (exists, flags) {
        (_, XAttrFlags { create: false, replace: false }) => {
            Err(FsError::invalid_argument("A flag must be specified."))
        }
        (true, XAttrFlags { replace: false, .. }) => Err(FsError::new(
            FsErrorKind::XAttrExists,
            format!("XAttr: {shown} already exists. The REPLACE flag must be specified."),
        )),
        (false, XAttrFlags { create: false, .. }) => Err(FsError::new(
            FsErrorKind::XAttrMissing,
            format!("XAttr: {shown} does not exist. The CREATE flag must be specified."),
        )),
        _ => Ok(()),
    }
}

fn check_room(attributes: &[XAttr], most: usize) -> FsResult<()> {
    let users = |attribute: &&XAttr| {
        matches!(attribute.name.namespace, XAttrNamespace::User | XAttrNamespace::Trusted)
    };
    let visible = attributes.iter().filter(users).count();
    if visible > most {
        return Err(FsError::new(
            FsErrorKind::TooManyXAttrs,
            format!("Cannot add additional XAttr to inode, would exceed limit of {most}"),
        ));
    }
    if attributes.len() - visible > MAX_HIDDEN_XATTRS {
        return Err(FsError::new(
            FsErrorKind::TooManyXAttrs,
            format!(
                "Cannot add additional XAttr to inode, would exceed limit of {MAX_HIDDEN_XATTRS} outside of the user \
                 and trusted namespaces"
            ),
        ));
    }
    Ok(())
}

impl Reader<'_> {
    /// The attributes named, or all that the caller may see if none is named.
    ///
    /// # Errors
    /// See [`Reader`]; NotFound; AccessDenied: no right to read, or a namespace that is not the caller's; XAttrNotFound:
    /// one of them is not there.
    pub fn xattrs(&self, path: &FsPath, names: &[XAttrName]) -> FsResult<Vec<XAttr>> {
        let (guard, raw) = (self.guard(), resolve::names_raw(path));
        for name in names {
            check_namespace(&guard, name, false, raw)?;
        }
        let all = self.visible_xattrs(path)?;
        if names.is_empty() {
            return Ok(all);
        }
        let named = |name: &XAttrName| all.iter().find(|known| known.name == *name).cloned();
        names.iter().map(named).collect::<Option<_>>().ok_or_else(|| {
            FsError::new(FsErrorKind::XAttrNotFound, "At least one of the attributes provided was not found.")
        })
    }

    /// The names of the attributes that the caller may see.
    ///
    /// # Errors
    /// See [`Reader`]; NotFound.
    pub fn xattr_names(&self, path: &FsPath) -> FsResult<Vec<XAttrName>> {
        Ok(self.visible_xattrs(path)?.into_iter().map(|attribute| attribute.name).collect())
    }

    fn visible_xattrs(&self, path: &FsPath) -> FsResult<Vec<XAttr>> {
        let (guard, raw) = (self.guard(), resolve::names_raw(path));
        let at = self.resolve(path)?;
        at.check_target(&guard, Action::READ)?;
        let inode = existing(&at)?;
        let mut all = if inode.has_xattrs { self.view.xattrs(inode.id) } else { Vec::new() };
        all.retain(|attribute| is_visible(&guard, &attribute.name, raw));
        Ok(all)
    }
}

/// Refuses superusers what a file's own mark keeps from them.
pub(crate) fn check_readable(view: &dyn View, guard: &Guard<'_>, inode: &Arc<Inode>) -> FsResult<()> {
    if guard.is_superuser()
        && inode.has_xattrs
        && view.xattrs(inode.id).iter().any(|attribute| is_unreadable(&attribute.name))
    {
        return Err(FsError::denied(format!(
            "Access is denied for {} since the superuser is not allowed to perform this operation.",
            guard.user()
        )));
    }
    Ok(())
}
