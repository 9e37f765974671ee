//! Access control lists.

use steadfs_common::acl::{AclEntry, AclKind, AclScope, ScopedAclEntry};
use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_namenode_core::acl::AclChange;
use steadfs_namenode_core::command::Command;
use steadfs_proto::hadoop::acl_entry_proto::{AclEntryScopeProto, AclEntryTypeProto, FsActionProto};
use steadfs_proto::hadoop::{
    AclEntryProto, AclStatusProto, FsPermissionProto, GetAclStatusRequestProto, GetAclStatusResponseProto,
    ModifyAclEntriesRequestProto, ModifyAclEntriesResponseProto, RemoveAclEntriesRequestProto,
    RemoveAclEntriesResponseProto, RemoveAclRequestProto, RemoveAclResponseProto,
    RemoveDefaultAclRequestProto, RemoveDefaultAclResponseProto, SetAclRequestProto, SetAclResponseProto,
};

use super::{Asked, answers, convert};

const STICKY: u16 = 0o1000;

/// An entry as messages have it.
pub(super) fn entry(entry: &ScopedAclEntry) -> AclEntryProto {
    let ScopedAclEntry { scope, entry } = entry;
    AclEntryProto {
        r#type: match entry.kind {
            AclKind::User => AclEntryTypeProto::User,
            AclKind::Group => AclEntryTypeProto::Group,
            AclKind::Mask => AclEntryTypeProto::Mask,
            AclKind::Other => AclEntryTypeProto::Other,
        } as i32,
        scope: match scope {
            AclScope::Access => AclEntryScopeProto::Access,
            AclScope::Default => AclEntryScopeProto::Default,
        } as i32,
        permissions: i32::from(entry.permission & 7),
        name: entry.name.clone(),
    }
}

fn spec(entries: &[AclEntryProto]) -> FsResult<Vec<ScopedAclEntry>> {
    entries.iter().map(scoped_entry).collect()
}

fn scoped_entry(proto: &AclEntryProto) -> FsResult<ScopedAclEntry> {
    let wrong =
        |what: &str| FsError::new(FsErrorKind::InvalidRequest, format!("An ACL entry has an unknown {what}"));
    let kind = match AclEntryTypeProto::try_from(proto.r#type).map_err(|_| wrong("type"))? {
        AclEntryTypeProto::User => AclKind::User,
        AclEntryTypeProto::Group => AclKind::Group,
        AclEntryTypeProto::Mask => AclKind::Mask,
        AclEntryTypeProto::Other => AclKind::Other,
    };
    let scope = match AclEntryScopeProto::try_from(proto.scope).map_err(|_| wrong("scope"))? {
        AclEntryScopeProto::Access => AclScope::Access,
        AclEntryScopeProto::Default => AclScope::Default,
    };
    let permission = FsActionProto::try_from(proto.permissions).map_err(|_| wrong("permission"))?;
    let permission = u8::try_from(permission as i32).map_err(|_| wrong("permission"))?;
    let name = proto.name.clone().filter(|name| !name.is_empty());
    let entry = ScopedAclEntry { scope, entry: AclEntry { kind, name, permission } };
    entry.check_name()?;
    Ok(entry)
}

async fn change(asked: &Asked, src: &str, change: AclChange) -> FsResult<()> {
    let command = Command::SetAcl { path: convert::path(src)?, change };
    answers::done(asked.submit(command).await?)
}

pub(super) async fn get_acl_status(
    asked: Asked,
    request: GetAclStatusRequestProto,
) -> FsResult<GetAclStatusResponseProto> {
    let path = convert::path(&request.src)?;
    let status = asked.service.acl_status(&asked.caller, &path).await?;
    Ok(GetAclStatusResponseProto {
        result: AclStatusProto {
            sticky: status.mode & STICKY != 0,
            entries: status.entries.iter().map(entry).collect(),
            permission: Some(FsPermissionProto { perm: u32::from(status.mode) }),
            owner: status.owner,
            group: status.group,
        },
    })
}

pub(super) async fn modify_acl_entries(
    asked: Asked,
    request: ModifyAclEntriesRequestProto,
) -> FsResult<ModifyAclEntriesResponseProto> {
    change(&asked, &request.src, AclChange::Modify(spec(&request.acl_spec)?)).await?;
    Ok(ModifyAclEntriesResponseProto {})
}

pub(super) async fn remove_acl_entries(
    asked: Asked,
    request: RemoveAclEntriesRequestProto,
) -> FsResult<RemoveAclEntriesResponseProto> {
    change(&asked, &request.src, AclChange::RemoveEntries(spec(&request.acl_spec)?)).await?;
    Ok(RemoveAclEntriesResponseProto {})
}

pub(super) async fn remove_default_acl(
    asked: Asked,
    request: RemoveDefaultAclRequestProto,
) -> FsResult<RemoveDefaultAclResponseProto> {
    change(&asked, &request.src, AclChange::RemoveDefault).await?;
    Ok(RemoveDefaultAclResponseProto {})
}

pub(super) async fn remove_acl(
    asked: Asked,
    request: RemoveAclRequestProto,
) -> FsResult<RemoveAclResponseProto> {
    change(&asked, &request.src, AclChange::Remove).await?;
    Ok(RemoveAclResponseProto {})
}

pub(super) async fn set_acl(asked: Asked, request: SetAclRequestProto) -> FsResult<SetAclResponseProto> {
    change(&asked, &request.src, AclChange::Set(spec(&request.acl_spec)?)).await?;
    Ok(SetAclResponseProto {})
}
