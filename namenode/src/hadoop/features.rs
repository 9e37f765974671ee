//! Questions about what a file or the cluster does not have yet: encryption, tokens, snapshots. Stock clients ask before they do anything, and "none" lets them go on.

use steadfs_common::FsResult;
use steadfs_proto::hadoop::{
    GetDataEncryptionKeyRequestProto, GetDataEncryptionKeyResponseProto, GetEzForPathRequestProto,
    GetEzForPathResponseProto, GetSnapshottableDirListingRequestProto,
    GetSnapshottableDirListingResponseProto, ListEncryptionZonesRequestProto,
    ListEncryptionZonesResponseProto,
};

use super::{Asked, convert};

/// The bit of a mode that lets read.
const READ: u8 = 0o4;

/// Of a path that leads nowhere too there is no zone; Hive asks before it makes a folder.
pub(super) async fn get_ez_for_path(
    asked: Asked,
    request: GetEzForPathRequestProto,
) -> FsResult<GetEzForPathResponseProto> {
    let path = convert::path(&request.src)?;
    if asked.service.status_as("getEZForPath", &asked.caller, &path).await?.is_some() {
        asked.service.check_access(&asked.caller, &path, READ).await?;
    }
    Ok(GetEzForPathResponseProto { zone: None })
}

pub(super) async fn list_encryption_zones(
    asked: Asked,
    _request: ListEncryptionZonesRequestProto,
) -> FsResult<ListEncryptionZonesResponseProto> {
    asked.service.note_question("listEncryptionZones", &asked.caller);
    Ok(ListEncryptionZonesResponseProto { zones: Vec::new(), has_more: false })
}

/// Data is not encrypted on its way, so there is no key.
pub(super) async fn get_data_encryption_key(
    _asked: Asked,
    _request: GetDataEncryptionKeyRequestProto,
) -> FsResult<GetDataEncryptionKeyResponseProto> {
    Ok(GetDataEncryptionKeyResponseProto { data_encryption_key: None })
}

pub(super) async fn get_snapshottable_dir_listing(
    _asked: Asked,
    _request: GetSnapshottableDirListingRequestProto,
) -> FsResult<GetSnapshottableDirListingResponseProto> {
    Ok(GetSnapshottableDirListingResponseProto { snapshottable_dir_list: None })
}
