//! Extended attributes, and access control lists as Linux shows them: attributes of the name `system.posix_acl_…`.

use std::ffi::OsStr;

use fuser::Errno;
use steadfs_client::{AclChange, FsErrorKind};
use steadfs_common::acl::{AclEntry, AclKind, AclScope, AclStatus, ScopedAclEntry};
use steadfs_common::xattr::{XAttrFlags, XAttrName};

use super::{Caller, Mount, by_number};
use crate::errno::Answer;
use crate::users::Kind;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
/// Flags of `setxattr`.
const CREATE: i32 = 1;
const REPLACE: i32 = 2;

/// Which attribute is meant.
enum Attribute {
    Plain(XAttrName),
    Acl(AclScope),
}

/// The attribute of a name. `security.…` is the kernel's own, asked for before every write: nothing is kept under it.
fn attribute(name: &OsStr) -> Answer<Attribute> {
    match name.to_str().ok_or(Errno::EILSEQ)? {
        ACCESS => Ok(Attribute::Acl(AclScope::Access)),
        DEFAULT => Ok(Attribute::Acl(AclScope::Default)),
        name if name.starts_with("user.") || name.starts_with("trusted.") => {
            XAttrName::parse(name).map(Attribute::Plain).map_err(|_| Errno::EINVAL)
        }
        _ => Err(Errno::EOPNOTSUPP),
    }
}

impl Mount {
    pub(crate) async fn get_xattr(&self, caller: Caller, inode: u64, name: &OsStr) -> Answer<Vec<u8>> {
        // "Not there" for what cannot be set is what readers can live with.
        let Ok(attribute) = attribute(name) else { return Err(Errno::ENODATA) };
        let client = self.client(caller).await?;
        let path = self.path(inode);
        match attribute {
            Attribute::Plain(name) => {
                let value = client.xattr(&path, &name).await;
                value.map(|value| value.to_vec()).map_err(|error| hidden(&name, &error))
            }
            Attribute::Acl(scope) => {
                let acl = client.acl(&path).await.map_err(|error| by_number("an access list", &error))?;
                self.encode(&entries_of(&acl, scope).ok_or(Errno::ENODATA)?).await
            }
        }
    }

    /// The names, each with a zero behind it.
    pub(crate) async fn list_xattrs(&self, caller: Caller, inode: u64) -> Answer<Vec<u8>> {
        let client = self.client(caller).await?;
        let path = self.path(inode);
        let names = client.xattr_names(&path).await.map_err(|error| by_number("attributes", &error))?;
        let acl = client.acl(&path).await.map_err(|error| by_number("an access list", &error))?;
        let mut list = Vec::new();
        let plain = names.iter().map(ToString::to_string);
        let lists = [(ACCESS, AclScope::Access), (DEFAULT, AclScope::Default)];
        let lists = lists.into_iter().filter(|(_, scope)| entries_of(&acl, *scope).is_some());
        for name in plain.chain(lists.map(|(name, _)| name.to_owned())) {
            list.extend_from_slice(name.as_bytes());
            list.push(0);
        }
        Ok(list)
    }

    pub(crate) async fn set_xattr(
        &self,
        caller: Caller,
        inode: u64,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> Answer<()> {
        self.may_change()?;
        let attribute = attribute(name)?;
        let client = self.client(caller).await?;
        let path = self.path(inode);
        let set = match attribute {
            Attribute::Plain(name) => {
                let flags = match flags & (CREATE | REPLACE) {
                    CREATE => XAttrFlags { create: true, replace: false },
                    REPLACE => XAttrFlags { create: false, replace: true },
                    _ => XAttrFlags::SET,
                };
                client.set_xattr(&path, &name, Some(value), flags).await
            }
            Attribute::Acl(scope) => {
                let entries = self.decode(value, scope).await?;
                client.change_acl(&path, &AclChange::Set(entries)).await
            }
        };
        self.notify.changed(inode);
        set.map_err(|error| owner_only("an attribute", &error))
    }

    pub(crate) async fn remove_xattr(&self, caller: Caller, inode: u64, name: &OsStr) -> Answer<()> {
        self.may_change()?;
        let attribute = attribute(name)?;
        let client = self.client(caller).await?;
        let path = self.path(inode);
        let removed = match attribute {
            Attribute::Plain(name) => client.remove_xattr(&path, &name).await,
            Attribute::Acl(AclScope::Default) => client.change_acl(&path, &AclChange::RemoveDefault).await,
            Attribute::Acl(AclScope::Access) => {
                let acl = client.acl(&path).await.map_err(|error| by_number("an access list", &error))?;
                client.change_acl(&path, &AclChange::Set(plain(&acl))).await
            }
        };
        self.notify.changed(inode);
        removed.map_err(|error| owner_only("an attribute", &error))
    }

    /// Linux's form: a version, then tag, permission and number of each entry, in the order of tags and numbers.
    async fn encode(&self, entries: &[AclEntry]) -> Answer<Vec<u8>> {
        let mut rows = Vec::with_capacity(entries.len());
        for entry in entries {
            let number = match (&entry.name, entry.kind) {
                (Some(name), AclKind::User) => self.names.number(Kind::User, name).await,
                (Some(name), AclKind::Group) => self.names.number(Kind::Group, name).await,
                _ => NO_NUMBER,
            };
            rows.push((tag(entry), number, u16::from(entry.permission & 7)));
        }
        rows.sort_unstable();
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, number, permission) in rows {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&permission.to_le_bytes());
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        Ok(bytes)
    }

    async fn decode(&self, bytes: &[u8], scope: AclScope) -> Answer<Vec<ScopedAclEntry>> {
        let mut entries = Vec::new();
        for (tag, permission, number) in rows(bytes).ok_or(Errno::EINVAL)? {
            let (kind, name) = match tag {
                USER_OBJ => (AclKind::User, None),
                USER => (AclKind::User, Some(self.names.name(Kind::User, number).await)),
                GROUP_OBJ => (AclKind::Group, None),
                GROUP => (AclKind::Group, Some(self.names.name(Kind::Group, number).await)),
                MASK => (AclKind::Mask, None),
                OTHER => (AclKind::Other, None),
                _ => return Err(Errno::EINVAL),
            };
            let name = name.map(|name| name.to_string());
            entries.push(ScopedAclEntry { scope, entry: AclEntry { kind, name, permission } });
        }
        Ok(entries)
    }
}

const VERSION: u32 = 2;
const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// What stands where an entry is about nobody by number.
const NO_NUMBER: u32 = u32::MAX;
/// Most entries read; HDFS takes 32 in a list.
const MAX_ENTRIES: usize = 256;

fn tag(entry: &AclEntry) -> u16 {
    match (entry.kind, entry.name.is_some()) {
        (AclKind::User, false) => USER_OBJ,
        (AclKind::User, true) => USER,
        (AclKind::Group, false) => GROUP_OBJ,
        (AclKind::Group, true) => GROUP,
        (AclKind::Mask, _) => MASK,
        (AclKind::Other, _) => OTHER,
    }
}

/// Tag, permission and number of each entry.
fn rows(bytes: &[u8]) -> Option<Vec<(u16, u8, u32)>> {
    let (version, rows) = bytes.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || rows.len() % 8 != 0 || rows.len() / 8 > MAX_ENTRIES {
        return None;
    }
    let row = |row: &[u8]| {
        let permission = u8::try_from(u16::from_le_bytes([row[2], row[3]])).ok().filter(|bits| *bits <= 7)?;
        Some((
            u16::from_le_bytes([row[0], row[1]]),
            permission,
            u32::from_le_bytes([row[4], row[5], row[6], row[7]]),
        ))
    };
    rows.chunks_exact(8).map(row).collect()
}

/// The whole list of one scope; none if it says no more than the mode (or, as default, nothing).
fn entries_of(acl: &AclStatus, scope: AclScope) -> Option<Vec<AclEntry>> {
    let entries = acl.entries.iter().filter(|entry| entry.scope == scope).map(|entry| entry.entry.clone());
    let mut entries: Vec<_> = entries.collect();
    if entries.is_empty() {
        return None;
    }
    if scope == AclScope::Access {
        let unnamed =
            |kind, permission: u16| AclEntry { kind, name: None, permission: (permission & 7) as u8 };
        entries.push(unnamed(AclKind::User, acl.mode >> 6));
        // With a list, the group's bits of the mode are the mask.
        entries.push(unnamed(AclKind::Mask, acl.mode >> 3));
        entries.push(unnamed(AclKind::Other, acl.mode));
    }
    Some(entries)
}

/// A list that says no more than the mode.
fn plain(acl: &AclStatus) -> Vec<ScopedAclEntry> {
    let group = acl.entries.iter().find(|entry| {
        entry.scope == AclScope::Access && entry.entry.kind == AclKind::Group && entry.entry.name.is_none()
    });
    let group = group.map_or((acl.mode >> 3 & 7) as u8, |entry| entry.entry.permission);
    let kinds = [
        (AclKind::User, (acl.mode >> 6 & 7) as u8),
        (AclKind::Group, group),
        (AclKind::Other, (acl.mode & 7) as u8),
    ];
    let scope = AclScope::Access;
    kinds
        .into_iter()
        .map(|(kind, permission)| ScopedAclEntry { scope, entry: AclEntry { kind, name: None, permission } })
        .collect()
}

fn owner_only(what: &'static str, error: &steadfs_client::FsError) -> Errno {
    if error.kind() == FsErrorKind::AccessDenied { Errno::EPERM } else { by_number(what, error) }
}

/// An attribute that only superusers see is not there for others.
fn hidden(name: &XAttrName, error: &steadfs_client::FsError) -> Errno {
    let trusted = name.namespace == steadfs_common::xattr::XAttrNamespace::Trusted;
    if trusted && error.kind() == FsErrorKind::AccessDenied {
        return Errno::ENODATA;
    }
    by_number("an attribute", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_bytes_are_refused() {
        assert_eq!(rows(&[2, 0, 0, 0]), Some(Vec::new()));
        assert_eq!(rows(&[2, 0, 0, 0, 2, 0, 6, 0, 9, 0, 0, 0]), Some(vec![(USER, 6, 9)]));
        for bad in [&[][..], &[1, 0, 0, 0], &[2, 0, 0, 0, 1], &[2, 0, 0, 0, 2, 0, 8, 0, 9, 0, 0, 0]] {
            assert_eq!(rows(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_list_shows_whole_and_a_bare_mode_shows_none() {
        let entry = |kind, name: Option<&str>, permission| ScopedAclEntry {
            scope: AclScope::Access,
            entry: AclEntry { kind, name: name.map(str::to_owned), permission },
        };
        let mut acl = AclStatus { owner: "o".into(), group: "g".into(), mode: 0o754, entries: Vec::new() };
        assert_eq!(entries_of(&acl, AclScope::Access), None);
        acl.entries = vec![entry(AclKind::User, Some("ann"), 6), entry(AclKind::Group, None, 4)];
        let mut tags: Vec<_> =
            entries_of(&acl, AclScope::Access).unwrap().iter().map(|e| (tag(e), e.permission)).collect();
        tags.sort_unstable();
        assert_eq!(tags, [(USER_OBJ, 7), (USER, 6), (GROUP_OBJ, 4), (MASK, 5), (OTHER, 4)]);
        assert_eq!(entries_of(&acl, AclScope::Default), None);
        let bare: Vec<_> = plain(&acl).iter().map(|e| e.entry.permission).collect();
        assert_eq!(bare, [7, 4, 4]);
    }
}
