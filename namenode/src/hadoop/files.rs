//! What clients ask about one file or folder.

use steadfs_common::limits::MOST_BLOCKS_PER_FILE;
use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_namenode_core::command::BlockRef;
use steadfs_namenode_core::locality;
use steadfs_proto::hadoop::{
    CheckAccessRequestProto, CheckAccessResponseProto, GetBlockLocationsRequestProto,
    GetBlockLocationsResponseProto, GetEnclosingRootRequestProto, GetEnclosingRootResponseProto,
    GetFileInfoRequestProto, GetFileInfoResponseProto, GetFileLinkInfoRequestProto,
    GetFileLinkInfoResponseProto, GetLocatedFileInfoRequestProto, GetLocatedFileInfoResponseProto,
    GetPreferredBlockSizeRequestProto, GetPreferredBlockSizeResponseProto, HdfsFileStatusProto,
    IsFileClosedRequestProto, IsFileClosedResponseProto, LocatedBlockProto, ReportBadBlocksRequestProto,
    ReportBadBlocksResponseProto,
};

use super::{Asked, convert, paths};

pub(super) async fn get_file_info(
    asked: Asked,
    request: GetFileInfoRequestProto,
) -> FsResult<GetFileInfoResponseProto> {
    Ok(GetFileInfoResponseProto { fs: stat(&asked, &request.src).await? })
}

/// There are no symbolic links, so this is [`get_file_info`]. Stock clients send it twice.
pub(super) async fn get_file_link_info(
    asked: Asked,
    request: GetFileLinkInfoRequestProto,
) -> FsResult<GetFileLinkInfoResponseProto> {
    Ok(GetFileLinkInfoResponseProto { fs: stat(&asked, &request.src).await? })
}

async fn stat(asked: &Asked, src: &str) -> FsResult<Option<HdfsFileStatusProto>> {
    let Some(path) = paths::maybe(src)? else { return Ok(None) };
    let status = asked.service.status(&asked.caller, &path).await?;
    Ok(status.map(|status| convert::status(&asked.pool, &status, &|_| None)))
}

pub(super) async fn get_located_file_info(
    asked: Asked,
    request: GetLocatedFileInfoRequestProto,
) -> FsResult<GetLocatedFileInfoResponseProto> {
    let Some(src) = paths::maybe(request.src())? else {
        return Ok(GetLocatedFileInfoResponseProto { fs: None });
    };
    let status = asked.service.located_status(&asked.caller, &src).await?;
    let naming = asked.naming(locality::Asked::LocatedStatus);
    Ok(GetLocatedFileInfoResponseProto {
        fs: status.map(|status| convert::status(&asked.pool, &status, &naming)),
    })
}

pub(super) async fn get_block_locations(
    asked: Asked,
    request: GetBlockLocationsRequestProto,
) -> FsResult<GetBlockLocationsResponseProto> {
    for (what, number) in [("offset", request.offset), ("length", request.length)] {
        // Java's numbers are signed.
        if i64::try_from(number).is_err() {
            return Err(FsError::invalid_argument(format!(
                "Negative {what} is not supported. File: {}",
                convert::path(&request.src)?
            )));
        }
    }
    let file = convert::file_ref(&request.src, None)?;
    let (_, blocks) = asked.service.locations(&asked.caller, &file, request.offset, request.length).await?;
    let naming = asked.naming(locality::Asked::BlockLocations);
    let locations = Some(convert::located_blocks(&asked.pool, &blocks, &naming));
    Ok(GetBlockLocationsResponseProto { locations })
}

pub(super) async fn get_preferred_block_size(
    asked: Asked,
    request: GetPreferredBlockSizeRequestProto,
) -> FsResult<GetPreferredBlockSizeResponseProto> {
    let path = convert::path(&request.filename)?;
    let status =
        asked.service.status(&asked.caller, &path).await?.ok_or_else(|| FsError::not_found(&path))?;
    let file = status.inode.file().ok_or_else(|| FsError::not_a_file(&path))?;
    Ok(GetPreferredBlockSizeResponseProto { bsize: file.block_size })
}

pub(super) async fn check_access(
    asked: Asked,
    request: CheckAccessRequestProto,
) -> FsResult<CheckAccessResponseProto> {
    let rwx = u8::try_from(request.mode).ok().filter(|rwx| *rwx <= 7).ok_or_else(|| {
        FsError::new(FsErrorKind::InvalidRequest, format!("`mode` is {}, not 0 to 7", request.mode))
    })?;
    asked.service.check_access(&asked.caller, &convert::path(&request.path)?, rwx).await?;
    Ok(CheckAccessResponseProto {})
}

pub(super) async fn is_file_closed(
    asked: Asked,
    request: IsFileClosedRequestProto,
) -> FsResult<IsFileClosedResponseProto> {
    let result = asked.service.is_file_closed(&asked.caller, &convert::path(&request.src)?).await?;
    Ok(IsFileClosedResponseProto { result })
}

/// Nothing encloses a path but the root: there are no mounts and no encryption zones.
pub(super) async fn get_enclosing_root(
    asked: Asked,
    request: GetEnclosingRootRequestProto,
) -> FsResult<GetEnclosingRootResponseProto> {
    let path = convert::path(request.filename())?;
    asked.service.status_as("getEZForPath", &asked.caller, &path).await?;
    Ok(GetEnclosingRootResponseProto { enclosing_root_path: Some("/".to_owned()) })
}

pub(super) async fn report_bad_blocks(
    asked: Asked,
    request: ReportBadBlocksRequestProto,
) -> FsResult<ReportBadBlocksResponseProto> {
    if request.blocks.len() > MOST_BLOCKS_PER_FILE as usize {
        return Err(FsError::invalid_argument("more bad blocks in one report than a file can have"));
    }
    let bad = request.blocks.iter().map(|block| bad_replicas(&asked, block)).collect::<FsResult<Vec<_>>>()?;
    asked.service.report_bad_replicas(&asked.caller, &bad);
    Ok(ReportBadBlocksResponseProto {})
}

/// Readers name the datanodes of bad replicas, and mostly not the storages: then all of a datanode's are meant, of which
/// at most one has the block.
fn bad_replicas(
    asked: &Asked,
    located: &LocatedBlockProto,
) -> FsResult<(BlockRef, Vec<steadfs_common::StorageId>)> {
    let block = convert::block_ref(&asked.pool, &located.b)?;
    let storages = if located.storage_i_ds.len() == located.locs.len() {
        convert::storages("storageIDs", &located.storage_i_ds)?
    } else {
        asked.service.storages_of(&convert::datanodes(&located.locs)?)
    };
    Ok((block, storages))
}
