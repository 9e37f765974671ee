//! Access control lists and extended attributes.

use std::future::Future;

use bytes::Bytes;
use steadfs_common::acl::{AclChange, AclEntry, AclKind, AclScope, AclStatus, ScopedAclEntry};
use steadfs_common::xattr::{XAttrFlags, XAttrName};
use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::attributes_client::AttributesClient;
use steadfs_proto::steadfs::change_acl_request::Change;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::Client;
use crate::client::checked;

impl Client {
    async fn attributes<Q, R, F, Fut>(&self, request: Q, send: F) -> FsResult<R>
    where
        Q: Clone,
        F: Fn(AttributesClient<Channel>, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        self.inner.calls.attributes(request, send).await
    }

    /// Who may do what with a file or folder.
    ///
    /// # Errors
    /// `NotFound`, `AccessDenied`.
    pub async fn acl(&self, path: &str) -> FsResult<AclStatus> {
        let request = pb::PathRequest { path: checked(path)? };
        let answer = self.attributes(request, |mut c, r| async move { c.get_acl(r).await }).await?;
        Ok(AclStatus {
            mode: u16::try_from(answer.mode).map_err(|_| foreign("mode"))? & 0o1777,
            entries: answer.entries.into_iter().map(entry).collect::<FsResult<_>>()?,
            owner: answer.owner,
            group: answer.group,
        })
    }

    /// Changes an access control list.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied` unless the caller owns it; `InvalidAcl` if that would be no list.
    pub async fn change_acl(&self, path: &str, change: &AclChange) -> FsResult<()> {
        let (change, entries) = match change {
            AclChange::Modify(entries) => (Change::Modify, entries.as_slice()),
            AclChange::RemoveEntries(entries) => (Change::RemoveEntries, entries.as_slice()),
            AclChange::RemoveDefault => (Change::RemoveDefault, [].as_slice()),
            AclChange::Remove => (Change::Remove, [].as_slice()),
            AclChange::Set(entries) => (Change::Set, entries.as_slice()),
        };
        let entries = entries.iter().map(entry_proto).collect();
        let request = pb::ChangeAclRequest { path: checked(path)?, change: change.into(), entries };
        self.attributes(request, |mut c, r| async move { c.change_acl(r).await }).await?;
        Ok(())
    }

    /// All extended attributes that the caller may see, with their values.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied` unless the caller may read it.
    pub async fn xattrs(&self, path: &str) -> FsResult<Vec<(XAttrName, Bytes)>> {
        self.some_xattrs(path, Vec::new(), false).await
    }

    /// The names of all extended attributes that the caller may see.
    ///
    /// # Errors
    /// As [`Client::xattrs`].
    pub async fn xattr_names(&self, path: &str) -> FsResult<Vec<XAttrName>> {
        let found = self.some_xattrs(path, Vec::new(), true).await?;
        Ok(found.into_iter().map(|(name, _)| name).collect())
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// As [`Client::xattrs`]; `XAttrNotFound`; `AccessDenied` if the namespace is not the caller's.
    pub async fn xattr(&self, path: &str, name: &XAttrName) -> FsResult<Bytes> {
        let found = self.some_xattrs(path, vec![name.to_string()], false).await?;
        let value = found.into_iter().find(|(known, _)| known == name).map(|(_, value)| value);
        value.ok_or_else(|| foreign("attributes"))
    }

    async fn some_xattrs(
        &self,
        path: &str,
        names: Vec<String>,
        names_only: bool,
    ) -> FsResult<Vec<(XAttrName, Bytes)>> {
        let request = pb::GetXAttrsRequest { path: checked(path)?, names, names_only };
        let answer = self.attributes(request, |mut c, r| async move { c.get_x_attrs(r).await }).await?;
        let read = |attribute: pb::XAttr| Ok((XAttrName::parse(&attribute.name)?, attribute.value));
        answer.attributes.into_iter().map(read).collect()
    }

    /// Sets an extended attribute; without a value it is there, and empty.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied` unless the caller may write it (and owns a folder with the sticky bit), or if the
    /// namespace is not the caller's; `XAttrExists` and `XAttrMissing` by the flags; `TooManyXAttrs`; `InvalidArgument`
    /// if it is too large.
    pub async fn set_xattr(
        &self,
        path: &str,
        name: &XAttrName,
        value: Option<&[u8]>,
        flags: XAttrFlags,
    ) -> FsResult<()> {
        let request = pb::SetXAttrRequest {
            path: checked(path)?,
            name: name.to_string(),
            value: value.map(Bytes::copy_from_slice),
            create: flags.create,
            replace: flags.replace,
            key: self.inner.calls.key(),
        };
        self.attributes(request, |mut c, r| async move { c.set_x_attr(r).await }).await?;
        Ok(())
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied` as for [`Client::set_xattr`]; `XAttrMissing`.
    pub async fn remove_xattr(&self, path: &str, name: &XAttrName) -> FsResult<()> {
        let (path, key) = (checked(path)?, self.inner.calls.key());
        let request = pb::RemoveXAttrRequest { path, name: name.to_string(), key };
        self.attributes(request, |mut c, r| async move { c.remove_x_attr(r).await }).await?;
        Ok(())
    }
}

fn foreign(field: &str) -> FsError {
    FsError::new(FsErrorKind::Io, format!("the namenode answered with a `{field}` that makes no sense"))
}

fn entry(entry: pb::AclEntry) -> FsResult<ScopedAclEntry> {
    let kind = u8::try_from(entry.kind).ok().and_then(AclKind::from_number);
    Ok(ScopedAclEntry {
        scope: if entry.default { AclScope::Default } else { AclScope::Access },
        entry: AclEntry {
            kind: kind.ok_or_else(|| foreign("kind"))?,
            name: Some(entry.name).filter(|name| !name.is_empty()),
            permission: (entry.permission & 7) as u8,
        },
    })
}

fn entry_proto(entry: &ScopedAclEntry) -> pb::AclEntry {
    pb::AclEntry {
        default: entry.scope == AclScope::Default,
        kind: entry.entry.kind as i32,
        name: entry.entry.name.clone().unwrap_or_default(),
        permission: entry.entry.permission.into(),
    }
}
