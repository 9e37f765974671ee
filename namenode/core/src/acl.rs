//! Access control lists as HDFS reckons with them. An inode's list is logical: owner, named users, group, named groups,
//! mask and others, then the same as defaults. Of that the mode holds what fits, and [`Acl`] the rest.

use std::cmp::Ordering;

pub use steadfs_common::acl::AclChange;
use steadfs_common::acl::{AclScope, ScopedAclEntry};
use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult};

use crate::record::{Acl, AclEntry, AclKind, Inode};

/// Most entries of each scope (HDFS: the same).
pub(crate) const MAX_ENTRIES: usize = 32;
/// A list of so many entries says no more than a mode does.
const MINIMAL: usize = 3;
/// The entries that every list must have.
const BASE: [AclKind; MINIMAL] = [AclKind::User, AclKind::Group, AclKind::Other];
/// The group's bits of a mode.
const GROUP_BITS: u16 = 0o070;

#[cfg(test)]
#[path = "acl_test.rs"]
mod tests;

/// Whether what an inode holds of a list is one: in order, complete, and no more than the mode leaves.
pub(crate) fn is_sound(inode: &Inode) -> bool {
    let Some(acl) = &inode.acl else { return true };
    let list = logical(inode);
    (inode.is_directory() || acl.default.is_empty())
        && !(acl.access.is_empty() && acl.default.is_empty())
        && validated(list.clone()).is_ok_and(|ordered| ordered == list)
}

/// The entries of an inode that go beyond its mode, as `getAclStatus` answers them.
#[must_use]
pub fn extended(inode: &Inode) -> Vec<ScopedAclEntry> {
    let Some(acl) = &inode.acl else { return Vec::new() };
    scoped(AclScope::Access, &acl.access).chain(scoped(AclScope::Default, &acl.default)).collect()
}

fn scoped(scope: AclScope, entries: &[AclEntry]) -> impl Iterator<Item = ScopedAclEntry> + '_ {
    entries.iter().map(move |entry| ScopedAclEntry { scope, entry: entry.clone() })
}

/// The whole list of an inode.
pub(crate) fn logical(inode: &Inode) -> Vec<ScopedAclEntry> {
    let digit = |shift: u32| (inode.mode >> shift & 7) as u8;
    let base = |kind, permission| ScopedAclEntry {
        scope: AclScope::Access,
        entry: AclEntry { kind, name: None, permission },
    };
    let mut list = vec![base(AclKind::User, digit(6))];
    match inode.acl.as_deref().filter(|acl| !acl.access.is_empty()) {
        Some(acl) => {
            list.extend(scoped(AclScope::Access, &acl.access));
            list.push(base(AclKind::Mask, digit(3)));
        }
        None => list.push(base(AclKind::Group, digit(3))),
    }
    list.push(base(AclKind::Other, digit(0)));
    if let Some(acl) = &inode.acl {
        list.extend(scoped(AclScope::Default, &acl.default));
    }
    list
}

/// Carries a change out on an inode, which lies at `path`.
///
/// # Errors
/// InvalidAcl, in HDFS's words.
pub(crate) fn change(inode: &mut Inode, path: &FsPath, change: &AclChange) -> FsResult<()> {
    let existing = logical(inode);
    let changed = match change {
        AclChange::Modify(spec) => modified(existing, spec),
        AclChange::RemoveEntries(spec) => without(existing, spec),
        AclChange::RemoveDefault => {
            validated(existing.into_iter().filter(|entry| entry.scope == AclScope::Access).collect())
        }
        AclChange::Set(spec) if !spec.is_empty() => replaced(existing, spec),
        AclChange::Set(_) | AclChange::Remove => {
            clear(inode);
            return Ok(());
        }
    };
    changed
        .and_then(|list| store(inode, path, &list))
        .map_err(|error| FsError::new(error.kind(), format!("{} Path: {path}", error.message())))
}

/// Takes all but the mode away: its group bits are the group's own again.
fn clear(inode: &mut Inode) {
    let Some(acl) = inode.acl.take() else { return };
    if let Some(group) = acl.access.iter().find(|entry| entry.kind == AclKind::Group && entry.name.is_none())
    {
        inode.mode = inode.mode & !GROUP_BITS | u16::from(group.permission) << 3;
    }
}

fn store(inode: &mut Inode, path: &FsPath, list: &[ScopedAclEntry]) -> FsResult<()> {
    let of = |wanted| move |entry: &&ScopedAclEntry| entry.scope == wanted;
    let entries = |wanted| list.iter().filter(of(wanted)).map(|entry| entry.entry.clone()).collect();
    let (access, default): (Vec<AclEntry>, Vec<AclEntry>) =
        (entries(AclScope::Access), entries(AclScope::Default));
    if !default.is_empty() && !inode.is_directory() {
        return Err(invalid(format!("only directories may have a default ACL. Path: {path}")));
    }
    (inode.mode, inode.acl) = divided(inode.mode, access, default);
    Ok(())
}

/// What of a list the mode holds, and what is left.
fn divided(mode: u16, mut access: Vec<AclEntry>, default: Vec<AclEntry>) -> (u16, Option<Box<Acl>>) {
    let digit = |entry: Option<&AclEntry>| u16::from(entry.map_or(0, |entry| entry.permission & 7));
    let others = access.pop();
    // Of a list of three the group comes here, of a longer one the mask.
    let class = access.last();
    let mode = mode & !0o777 | digit(access.first()) << 6 | digit(class) << 3 | digit(others.as_ref());
    let access = if access.len() + 1 > MINIMAL {
        access.pop();
        access.split_off(1)
    } else {
        Vec::new()
    };
    let acl = Acl { access, default };
    let holds = !acl.access.is_empty() || !acl.default.is_empty();
    (mode, holds.then(|| Box::new(acl)))
}

/// The modes that something new is asked for with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Modes {
    /// After the client's umask.
    pub(crate) masked: u16,
    /// Before it, from clients that say so: it counts where the folder has default entries, which take the umask's place.
    pub(crate) unmasked: Option<u16>,
}

/// Mode and list of what is made in `folder`.
pub(crate) fn inherited(folder: &Inode, modes: Modes, directory: bool) -> (u16, Option<Box<Acl>>) {
    let default = folder.acl.as_deref().map(|acl| acl.default.as_slice()).unwrap_or_default();
    if default.is_empty() {
        return (modes.masked, None);
    }
    let mode = modes.unmasked.unwrap_or(modes.masked);
    let digit = |shift: u32| (mode >> shift & 7) as u8;
    let minimal = default.len() == MINIMAL;
    let access = default.iter().map(|entry| {
        let most = match (entry.kind, &entry.name) {
            (AclKind::User, None) => digit(6),
            (AclKind::Group, _) if minimal => digit(3),
            (AclKind::Mask, _) => digit(3),
            (AclKind::Other, _) => digit(0),
            _ => 7,
        };
        AclEntry { permission: entry.permission & most, ..entry.clone() }
    });
    divided(mode, access.collect(), if directory { default.to_vec() } else { Vec::new() })
}

/// Whether the list lets somebody do `wanted` (bits of rwx). `owner` and `mode` are the inode's.
pub(crate) fn grants(
    access: &[AclEntry],
    (owner, group, mode): (&str, &str, u16),
    user: &str,
    member: impl Fn(&str) -> bool,
    wanted: u8,
) -> bool {
    let implies = |permission: u8| permission & wanted == wanted;
    let mask = (mode >> 3 & 7) as u8;
    if user == owner {
        return implies((mode >> 6 & 7) as u8);
    }
    let named =
        access.iter().find(|entry| entry.kind == AclKind::User && entry.name.as_deref() == Some(user));
    if let Some(entry) = named {
        return implies(entry.permission & mask);
    }
    let mut among = false;
    for entry in access.iter().filter(|entry| entry.kind == AclKind::Group) {
        if member(entry.name.as_deref().unwrap_or(group)) {
            if implies(entry.permission & mask) {
                return true;
            }
            among = true;
        }
    }
    !among && implies((mode & 7) as u8)
}

fn invalid(what: impl std::fmt::Display) -> FsError {
    FsError::new(FsErrorKind::InvalidAcl, format!("Invalid ACL: {what}"))
}

/// HDFS's order: access before default, then users, groups, mask, others, and the unnamed first of each.
fn order(a: &ScopedAclEntry, b: &ScopedAclEntry) -> Ordering {
    let key = |entry: &ScopedAclEntry| (entry.scope, entry.entry.kind);
    key(a).cmp(&key(b)).then_with(|| a.entry.name.cmp(&b.entry.name))
}

/// What a caller sent, in order. It may name the same entry several times.
struct Spec(Vec<ScopedAclEntry>);

impl Spec {
    fn new(entries: &[ScopedAclEntry]) -> FsResult<Self> {
        // Before anything costs time.
        check_room(entries)?;
        for entry in entries {
            entry.check_name()?;
        }
        let mut entries = entries.to_vec();
        entries.sort_by(order);
        Ok(Self(entries))
    }

    /// The entry about the same as `key`; of several the one that Java's binary search comes upon.
    fn find(&self, key: &ScopedAclEntry) -> Option<&ScopedAclEntry> {
        let (mut low, mut end) = (0, self.0.len());
        while low < end {
            // Java's middle of `low..=end - 1`.
            let middle = (low + end - 1) / 2;
            let entry = &self.0[middle];
            match order(entry, key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => end = middle,
                Ordering::Equal => return Some(entry),
            }
        }
        None
    }
}

/// What becomes of the masks while a list is put together: one place a scope.
#[derive(Default)]
struct Masks {
    provided: [Option<ScopedAclEntry>; 2],
    /// Whether the mask itself was named.
    dirty: [bool; 2],
    /// Whether any entry was.
    touched: [bool; 2],
}

const fn place(scope: AclScope) -> usize {
    scope as usize
}

impl Masks {
    /// Takes an entry into the list; a mask waits.
    fn take(&mut self, entry: ScopedAclEntry, list: &mut Vec<ScopedAclEntry>) {
        if entry.entry.kind == AclKind::Mask {
            let scope = place(entry.scope);
            self.provided[scope] = Some(entry);
        } else {
            list.push(entry);
        }
    }

    /// Notes that the caller named this entry.
    fn named(&mut self, entry: &ScopedAclEntry) {
        self.touched[place(entry.scope)] = true;
        self.dirty[place(entry.scope)] |= entry.entry.kind == AclKind::Mask;
    }

    /// Adds the masks that the list needs: the one the caller gave, the old one of a scope that nobody touched, or the
    /// union of what it is for.
    fn calculate(&mut self, list: &mut Vec<ScopedAclEntry>) -> FsResult<()> {
        for scope in [AclScope::Access, AclScope::Default] {
            let at = place(scope);
            let mut of_scope = list.iter().filter(|entry| entry.scope == scope).peekable();
            if of_scope.peek().is_none() {
                continue;
            }
            let (mut needed, mut union) = (false, 0);
            for ScopedAclEntry { entry, .. } in of_scope {
                needed |= entry.name.is_some();
                if entry.kind == AclKind::Group || entry.name.is_some() {
                    union |= entry.permission;
                }
            }
            let provided = self.provided[at].take();
            match provided {
                None if needed && self.dirty[at] => {
                    return Err(invalid("mask is required and cannot be deleted."));
                }
                Some(mask) if !self.touched[at] || self.dirty[at] => list.push(mask),
                None if !needed => {}
                _ => list.push(ScopedAclEntry {
                    scope,
                    entry: AclEntry { kind: AclKind::Mask, name: None, permission: union },
                }),
            }
        }
        Ok(())
    }
}

/// HDFS's `mergeAclEntries`.
fn modified(existing: Vec<ScopedAclEntry>, spec: &[ScopedAclEntry]) -> FsResult<Vec<ScopedAclEntry>> {
    let spec = Spec::new(spec)?;
    let (mut list, mut masks) = (Vec::new(), Masks::default());
    for entry in &existing {
        let changed = spec.find(entry);
        if let Some(changed) = changed {
            masks.named(changed);
        }
        masks.take(changed.unwrap_or(entry).clone(), &mut list);
    }
    for entry in &spec.0 {
        if !existing.iter().any(|known| order(known, entry).is_eq()) {
            masks.named(entry);
            masks.take(entry.clone(), &mut list);
        }
    }
    finished(list, masks)
}

/// HDFS's `filterAclEntriesByAclSpec`.
fn without(existing: Vec<ScopedAclEntry>, spec: &[ScopedAclEntry]) -> FsResult<Vec<ScopedAclEntry>> {
    let spec = Spec::new(spec)?;
    let (mut list, mut masks) = (Vec::new(), Masks::default());
    for entry in existing {
        if spec.find(&entry).is_some() {
            masks.named(&entry);
        } else {
            masks.take(entry, &mut list);
        }
    }
    finished(list, masks)
}

/// HDFS's `replaceAclEntries`.
fn replaced(existing: Vec<ScopedAclEntry>, spec: &[ScopedAclEntry]) -> FsResult<Vec<ScopedAclEntry>> {
    let spec = Spec::new(spec)?;
    let (mut list, mut masks) = (Vec::new(), Masks::default());
    for entry in spec.0 {
        masks.named(&entry);
        masks.take(entry, &mut list);
    }
    for entry in existing {
        if !masks.touched[place(entry.scope)] {
            masks.take(entry, &mut list);
        }
    }
    finished(list, masks)
}

fn finished(mut list: Vec<ScopedAclEntry>, mut masks: Masks) -> FsResult<Vec<ScopedAclEntry>> {
    complete_defaults(&mut list);
    masks.calculate(&mut list)?;
    validated(list)
}

fn base_of(list: &[ScopedAclEntry], scope: AclScope, kind: AclKind) -> Option<&ScopedAclEntry> {
    let base = |known: &&ScopedAclEntry| {
        known.scope == scope && known.entry.kind == kind && known.entry.name.is_none()
    };
    list.iter().find(base)
}

/// Default entries that are missing begin as the access entries are.
fn complete_defaults(list: &mut Vec<ScopedAclEntry>) {
    if !list.iter().any(|entry| entry.scope == AclScope::Default) {
        return;
    }
    let missing = BASE.into_iter().filter(|kind| base_of(list, AclScope::Default, *kind).is_none());
    let copies: Vec<_> = missing
        .filter_map(|kind| base_of(list, AclScope::Access, kind))
        .map(|known| ScopedAclEntry { scope: AclScope::Default, entry: known.entry.clone() })
        .collect();
    list.extend(copies);
}

fn check_room(list: &[ScopedAclEntry]) -> FsResult<()> {
    for (scope, word) in [(AclScope::Access, "access"), (AclScope::Default, "default")] {
        let count = list.iter().filter(|entry| entry.scope == scope).count();
        if count > MAX_ENTRIES {
            return Err(invalid(format!(
                "ACL has {count} {word} entries, which exceeds maximum of {MAX_ENTRIES}."
            )));
        }
    }
    Ok(())
}

/// The list in order, if it is one.
fn validated(mut list: Vec<ScopedAclEntry>) -> FsResult<Vec<ScopedAclEntry>> {
    list.sort_by(order);
    for (index, entry) in list.iter().enumerate() {
        if index > 0 && order(&list[index - 1], entry).is_eq() {
            return Err(invalid("multiple entries with same scope, type and name."));
        }
        if entry.entry.name.is_some() && matches!(entry.entry.kind, AclKind::Mask | AclKind::Other) {
            return Err(invalid(format!("this entry type must not have a name: {entry}.")));
        }
    }
    check_room(&list)?;
    let defaults = list.iter().any(|entry| entry.scope == AclScope::Default);
    for kind in BASE {
        if base_of(&list, AclScope::Access, kind).is_none() {
            return Err(invalid("the user, group and other entries are required."));
        }
        if defaults && base_of(&list, AclScope::Default, kind).is_none() {
            let what = "Invalid default ACL: the user, group and other entries are required.";
            return Err(FsError::new(FsErrorKind::InvalidAcl, what));
        }
    }
    Ok(list)
}
