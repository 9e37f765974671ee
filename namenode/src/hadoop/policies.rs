//! Storage policies and erasure-coding policies: what stock clients ask of them while every file is replicated on disks.

use steadfs_common::{FsError, FsPath, FsResult};
use steadfs_namenode_core::record::Inode;
use steadfs_proto::hadoop::StorageTypeProto::{Archive, Disk, Provided, RamDisk, Ssd};
use steadfs_proto::hadoop::{
    BlockStoragePolicyProto, GetErasureCodingCodecsRequestProto, GetErasureCodingCodecsResponseProto,
    GetErasureCodingPoliciesRequestProto, GetErasureCodingPoliciesResponseProto,
    GetErasureCodingPolicyRequestProto, GetErasureCodingPolicyResponseProto, GetStoragePoliciesRequestProto,
    GetStoragePoliciesResponseProto, GetStoragePolicyRequestProto, GetStoragePolicyResponseProto,
};

use super::convert::storage_policy;
use super::{Asked, convert};

/// The policy of every file: all replicas on disks.
pub(super) const HOT: &str = "HOT";
/// [`HOT`]'s number in HDFS.
pub(crate) const HOT_ID: u32 = 7;
/// The number of the policy that keeps replicas in memory first.
pub(crate) const LAZY_PERSIST_ID: u32 = 15;

/// HDFS's own policies. The one for NVDIMM is left out: clients before 3.4 cannot read a message that names it.
pub(crate) fn known() -> [BlockStoragePolicyProto; 7] {
    [
        storage_policy(LAZY_PERSIST_ID, "LAZY_PERSIST", &[RamDisk, Disk], &[Disk], &[Disk]),
        storage_policy(12, "ALL_SSD", &[Ssd], &[Disk], &[Disk]),
        storage_policy(10, "ONE_SSD", &[Ssd, Disk], &[Ssd, Disk], &[Ssd, Disk]),
        storage_policy(HOT_ID, HOT, &[Disk], &[], &[Archive]),
        storage_policy(5, "WARM", &[Disk, Archive], &[Disk, Archive], &[Disk, Archive]),
        storage_policy(2, "COLD", &[Archive], &[], &[]),
        storage_policy(1, "PROVIDED", &[Provided, Disk], &[Provided, Disk], &[Provided, Disk]),
    ]
}

pub(super) async fn get_storage_policies(
    _asked: Asked,
    _request: GetStoragePoliciesRequestProto,
) -> FsResult<GetStoragePoliciesResponseProto> {
    Ok(GetStoragePoliciesResponseProto { policies: known().into() })
}

pub(super) async fn get_storage_policy(
    asked: Asked,
    request: GetStoragePolicyRequestProto,
) -> FsResult<GetStoragePolicyResponseProto> {
    let path = convert::path(&request.path)?;
    let status =
        asked.service.status(&asked.caller, &path).await?.ok_or_else(|| FsError::not_found(&path))?;
    Ok(GetStoragePolicyResponseProto { storage_policy: of(&path, &status.inode)? })
}

/// The policy of what is at `path`.
pub(crate) fn of(path: &FsPath, inode: &Inode) -> FsResult<BlockStoragePolicyProto> {
    let wanted = match inode.storage_policy {
        0 => HOT_ID,
        own => u32::from(own),
    };
    let policy = known().into_iter().find(|policy| policy.policy_id == wanted);
    policy.ok_or_else(|| FsError::refused(format!("{path} has storage policy {wanted}, which is not known")))
}

pub(super) async fn get_erasure_coding_policies(
    _asked: Asked,
    _request: GetErasureCodingPoliciesRequestProto,
) -> FsResult<GetErasureCodingPoliciesResponseProto> {
    Ok(GetErasureCodingPoliciesResponseProto::default())
}

pub(super) async fn get_erasure_coding_policy(
    asked: Asked,
    request: GetErasureCodingPolicyRequestProto,
) -> FsResult<GetErasureCodingPolicyResponseProto> {
    let path = convert::path(&request.src)?;
    asked.service.status(&asked.caller, &path).await?.ok_or_else(|| FsError::not_found(&path))?;
    Ok(GetErasureCodingPolicyResponseProto { ec_policy: None })
}

pub(super) async fn get_erasure_coding_codecs(
    _asked: Asked,
    _request: GetErasureCodingCodecsRequestProto,
) -> FsResult<GetErasureCodingCodecsResponseProto> {
    Ok(GetErasureCodingCodecsResponseProto::default())
}
