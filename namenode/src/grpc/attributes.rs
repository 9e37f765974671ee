//! Access control lists and extended attributes, for our own clients.

use std::sync::Arc;

use bytes::Bytes;
use steadfs_common::acl::{AclEntry, AclKind, AclScope, ScopedAclEntry};
use steadfs_common::xattr::{XAttrFlags, XAttrName};
use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_namenode_core::Caller;
use steadfs_namenode_core::acl::AclChange;
use steadfs_namenode_core::command::Command;
use steadfs_proto::convert::{call_key, path};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::attributes_server::Attributes;
use steadfs_proto::steadfs::change_acl_request::Change;
use tonic::Request;

use super::{Answer, caller, reply};
use crate::service::Service;

pub(super) struct AttributesDoor {
    pub(super) service: Arc<Service>,
}

fn scoped_entry(entry: pb::AclEntry) -> FsResult<ScopedAclEntry> {
    let wrong = |what| FsError::new(FsErrorKind::InvalidRequest, format!("field `entries`: {what}"));
    let kind = pb::AclKind::try_from(entry.kind).map_err(|_| wrong("unknown kind"))?;
    let entry = ScopedAclEntry {
        scope: if entry.default { AclScope::Default } else { AclScope::Access },
        entry: AclEntry {
            kind: match kind {
                pb::AclKind::User => AclKind::User,
                pb::AclKind::Group => AclKind::Group,
                pb::AclKind::Mask => AclKind::Mask,
                pb::AclKind::Other => AclKind::Other,
            },
            name: Some(entry.name).filter(|name| !name.is_empty()),
            permission: u8::try_from(entry.permission)
                .ok()
                .filter(|permission| *permission <= 7)
                .ok_or_else(|| wrong("a permission is from 0 to 7"))?,
        },
    };
    entry.check_name()?;
    Ok(entry)
}

fn acl_entry(entry: ScopedAclEntry) -> pb::AclEntry {
    pb::AclEntry {
        default: entry.scope == AclScope::Default,
        kind: match entry.entry.kind {
            AclKind::User => pb::AclKind::User,
            AclKind::Group => pb::AclKind::Group,
            AclKind::Mask => pb::AclKind::Mask,
            AclKind::Other => pb::AclKind::Other,
        }
        .into(),
        name: entry.entry.name.unwrap_or_default(),
        permission: entry.entry.permission.into(),
    }
}

impl AttributesDoor {
    async fn acl(&self, caller: &Caller, request: pb::PathRequest) -> FsResult<pb::GetAclResponse> {
        let status = self.service.acl_status(caller, &path(&request.path)?).await?;
        Ok(pb::GetAclResponse {
            owner: status.owner,
            group: status.group,
            mode: status.mode.into(),
            entries: status.entries.into_iter().map(acl_entry).collect(),
        })
    }

    async fn change(&self, caller: &Caller, request: pb::ChangeAclRequest) -> FsResult<pb::Empty> {
        let (change, path) = (request.change(), path(&request.path)?);
        let entries = request.entries.into_iter().map(scoped_entry).collect::<FsResult<_>>()?;
        let change = match change {
            Change::Modify => AclChange::Modify(entries),
            Change::RemoveEntries => AclChange::RemoveEntries(entries),
            Change::RemoveDefault => AclChange::RemoveDefault,
            Change::Remove => AclChange::Remove,
            Change::Set => AclChange::Set(entries),
        };
        self.service.submit(caller, None, Command::SetAcl { path, change }).await?;
        Ok(pb::Empty {})
    }

    async fn attributes(
        &self,
        caller: &Caller,
        request: pb::GetXAttrsRequest,
    ) -> FsResult<pb::GetXAttrsResponse> {
        let path = path(&request.path)?;
        let attributes = if request.names_only {
            let names = self.service.xattr_names(caller, &path).await?;
            names.iter().map(|name| pb::XAttr { name: name.to_string(), value: Bytes::new() }).collect()
        } else {
            let names = request.names.iter().map(|name| XAttrName::parse(name)).collect::<FsResult<_>>()?;
            let found = self.service.xattrs(caller, &path, names).await?;
            let told = |found: steadfs_common::xattr::XAttr| pb::XAttr {
                name: found.name.to_string(),
                value: found.value.into(),
            };
            found.into_iter().map(told).collect()
        };
        Ok(pb::GetXAttrsResponse { attributes })
    }

    async fn set(&self, caller: &Caller, request: pb::SetXAttrRequest) -> FsResult<pb::Empty> {
        let command = Command::SetXAttr {
            path: path(&request.path)?,
            name: XAttrName::parse(&request.name)?,
            value: request.value.map(|value| value.to_vec()),
            flags: XAttrFlags { create: request.create, replace: request.replace },
        };
        self.service.submit(caller, call_key(request.key.as_ref())?, command).await?;
        Ok(pb::Empty {})
    }

    async fn remove(&self, caller: &Caller, request: pb::RemoveXAttrRequest) -> FsResult<pb::Empty> {
        let (path, name) = (path(&request.path)?, XAttrName::parse(&request.name)?);
        let key = call_key(request.key.as_ref())?;
        self.service.submit(caller, key, Command::RemoveXAttr { path, name }).await?;
        Ok(pb::Empty {})
    }
}

/// Unpacks a request into its caller and message, and answers with what the method gives.
macro_rules! answer {
    ($self:ident.$method:ident, $request:ident) => {{
        let work = async {
            let who = caller(&$self.service, &$request).await?;
            $self.$method(&who, $request.into_inner()).await
        };
        reply(work.await)
    }};
}

#[tonic::async_trait]
impl Attributes for AttributesDoor {
    async fn get_acl(&self, request: Request<pb::PathRequest>) -> Answer<pb::GetAclResponse> {
        answer!(self.acl, request)
    }

    async fn change_acl(&self, request: Request<pb::ChangeAclRequest>) -> Answer<pb::Empty> {
        answer!(self.change, request)
    }

    async fn get_x_attrs(&self, request: Request<pb::GetXAttrsRequest>) -> Answer<pb::GetXAttrsResponse> {
        answer!(self.attributes, request)
    }

    async fn set_x_attr(&self, request: Request<pb::SetXAttrRequest>) -> Answer<pb::Empty> {
        answer!(self.set, request)
    }

    async fn remove_x_attr(&self, request: Request<pb::RemoveXAttrRequest>) -> Answer<pb::Empty> {
        answer!(self.remove, request)
    }
}
