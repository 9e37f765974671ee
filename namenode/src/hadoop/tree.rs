//! The shape of the tree and the attributes of what is in it.

use steadfs_common::{FsError, FsErrorKind, FsResult, Millis};
use steadfs_namenode_core::command::{Command, RenameMode};
use steadfs_proto::hadoop::{
    ConcatRequestProto, ConcatResponseProto, CreateSymlinkRequestProto, CreateSymlinkResponseProto,
    DeleteRequestProto, DeleteResponseProto, GetLinkTargetRequestProto, GetLinkTargetResponseProto,
    MkdirsRequestProto, MkdirsResponseProto, Rename2RequestProto, Rename2ResponseProto, RenameRequestProto,
    RenameResponseProto, SetOwnerRequestProto, SetOwnerResponseProto, SetPermissionRequestProto,
    SetPermissionResponseProto, SetReplicationRequestProto, SetReplicationResponseProto,
    SetTimesRequestProto, SetTimesResponseProto, TruncateRequestProto, TruncateResponseProto,
};

use super::paths::Purpose;
use super::{Asked, answers, convert, paths};

pub(super) async fn mkdirs(asked: Asked, request: MkdirsRequestProto) -> FsResult<MkdirsResponseProto> {
    let command = Command::Mkdirs {
        path: paths::new(&request.src, Purpose::Mkdirs)?,
        mode: convert::mode(&request.masked),
        unmasked: request.unmasked.as_ref().map(convert::mode),
        create_parent: request.create_parent,
    };
    answers::done(asked.submit(command).await?)?;
    Ok(MkdirsResponseProto { result: true })
}

pub(super) async fn rename(asked: Asked, request: RenameRequestProto) -> FsResult<RenameResponseProto> {
    let to = paths::new(&request.dst, Purpose::Rename)?;
    let Some(from) = paths::maybe(&request.src)? else { return Ok(RenameResponseProto { result: false }) };
    let command = Command::Rename { from, to, mode: RenameMode::Classic, to_trash: false };
    Ok(RenameResponseProto { result: answers::truth(asked.submit_once(command).await?)? })
}

pub(super) async fn rename2(asked: Asked, request: Rename2RequestProto) -> FsResult<Rename2ResponseProto> {
    let command = Command::Rename {
        from: convert::path(&request.src)?,
        to: paths::new(&request.dst, Purpose::Rename)?,
        mode: if request.overwrite_dest { RenameMode::Overwrite } else { RenameMode::NoReplace },
        to_trash: request.move_to_trash(),
    };
    answers::done(asked.submit_once(command).await?)?;
    Ok(Rename2ResponseProto {})
}

pub(super) async fn delete(asked: Asked, request: DeleteRequestProto) -> FsResult<DeleteResponseProto> {
    let Some(path) = paths::maybe(&request.src)? else { return Ok(DeleteResponseProto { result: false }) };
    let command = Command::Delete { path, recursive: request.recursive };
    Ok(DeleteResponseProto { result: answers::truth(asked.submit_once(command).await?)? })
}

pub(super) async fn set_permission(
    asked: Asked,
    request: SetPermissionRequestProto,
) -> FsResult<SetPermissionResponseProto> {
    let command = Command::SetPermission {
        path: convert::path(&request.src)?,
        mode: convert::mode(&request.permission),
    };
    answers::done(asked.submit(command).await?)?;
    Ok(SetPermissionResponseProto {})
}

pub(super) async fn set_owner(
    asked: Asked,
    request: SetOwnerRequestProto,
) -> FsResult<SetOwnerResponseProto> {
    let command = Command::SetOwner {
        path: convert::path(&request.src)?,
        owner: request.username.filter(|name| !name.is_empty()),
        group: request.groupname.filter(|name| !name.is_empty()),
    };
    answers::done(asked.submit(command).await?)?;
    Ok(SetOwnerResponseProto {})
}

pub(super) async fn set_times(
    asked: Asked,
    request: SetTimesRequestProto,
) -> FsResult<SetTimesResponseProto> {
    let time = |number| (number != convert::MINUS_ONE).then_some(Millis(number));
    let command = Command::SetTimes {
        path: convert::path(&request.src)?,
        mtime: time(request.mtime),
        atime: time(request.atime),
    };
    answers::done(asked.submit(command).await?)?;
    Ok(SetTimesResponseProto {})
}

pub(super) async fn set_replication(
    asked: Asked,
    request: SetReplicationRequestProto,
) -> FsResult<SetReplicationResponseProto> {
    let command = Command::SetReplication {
        path: convert::path(&request.src)?,
        replication: convert::replication(request.replication),
    };
    Ok(SetReplicationResponseProto { result: answers::truth(asked.submit(command).await?)? })
}

pub(super) async fn concat(asked: Asked, request: ConcatRequestProto) -> FsResult<ConcatResponseProto> {
    let command = Command::Concat {
        target: convert::path(&request.trg)?,
        sources: request.srcs.iter().map(|source| convert::path(source)).collect::<FsResult<_>>()?,
    };
    answers::done(asked.submit_once(command).await?)?;
    Ok(ConcatResponseProto {})
}

pub(super) async fn truncate(asked: Asked, request: TruncateRequestProto) -> FsResult<TruncateResponseProto> {
    let command = Command::Truncate {
        path: convert::path(&request.src)?,
        length: request.new_length,
        client: convert::client_name(&request.client_name)?,
    };
    Ok(TruncateResponseProto { result: answers::truth(asked.submit(command).await?)? })
}

/// As the stock NameNode answers it by default.
pub(super) async fn create_symlink(
    _asked: Asked,
    _request: CreateSymlinkRequestProto,
) -> FsResult<CreateSymlinkResponseProto> {
    Err(FsError::new(FsErrorKind::Unsupported, "Symlinks not supported"))
}

/// Whatever is there is no link.
pub(super) async fn get_link_target(
    asked: Asked,
    request: GetLinkTargetRequestProto,
) -> FsResult<GetLinkTargetResponseProto> {
    let path = convert::path(&request.path)?;
    let found = asked.service.status(&asked.caller, &path).await?;
    found.ok_or_else(|| FsError::not_found(&path))?;
    Err(FsError::refused(format!("Path {path} is not a symbolic link")))
}
