//! Questions about what a file or the cluster does not have yet: encryption, tokens, snapshots. Stock clients ask before they do anything, and "none" lets them go on.

use std::sync::Arc;

use steadfs_common::{FsError, FsResult};
use steadfs_namenode_core::record::Inode;
use steadfs_proto::hadoop::{
    GetDataEncryptionKeyRequestProto, GetDataEncryptionKeyResponseProto, GetEzForPathRequestProto,
    GetEzForPathResponseProto, GetSnapshottableDirListingRequestProto,
    GetSnapshottableDirListingResponseProto, ListEncryptionZonesRequestProto,
    ListEncryptionZonesResponseProto,
};

use super::{Asked, convert};

async fn existing(asked: &Asked, src: &str) -> FsResult<Arc<Inode>> {
    let path = convert::path(src)?;
    let status =
        asked.service.status(&asked.caller, &path).await?.ok_or_else(|| FsError::not_found(&path))?;
    Ok(status.inode)
}

pub(super) async fn get_ez_for_path(
    asked: Asked,
    request: GetEzForPathRequestProto,
) -> FsResult<GetEzForPathResponseProto> {
    existing(&asked, &request.src).await?;
    Ok(GetEzForPathResponseProto { zone: None })
}

pub(super) async fn list_encryption_zones(
    _asked: Asked,
    _request: ListEncryptionZonesRequestProto,
) -> FsResult<ListEncryptionZonesResponseProto> {
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
