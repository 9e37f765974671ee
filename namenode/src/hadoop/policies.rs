//! Quotas and storage policies.

use steadfs_common::{FsResult, StorageType};
use steadfs_namenode_core::command::Command;
use steadfs_namenode_core::namespace::quota::{Bound, TYPES_WITH_QUOTA};
use steadfs_namenode_core::policy::{self, POLICIES, StoragePolicy};
use steadfs_namenode_core::record::Quota;
use steadfs_proto::hadoop::{
    BlockStoragePolicyProto, ContentSummaryProto, GetContentSummaryRequestProto,
    GetContentSummaryResponseProto, GetQuotaUsageRequestProto, GetQuotaUsageResponseProto,
    GetStoragePoliciesRequestProto, GetStoragePoliciesResponseProto, GetStoragePolicyRequestProto,
    GetStoragePolicyResponseProto, QuotaUsageProto, SatisfyStoragePolicyRequestProto,
    SatisfyStoragePolicyResponseProto, SetQuotaRequestProto, SetQuotaResponseProto,
    SetStoragePolicyRequestProto, SetStoragePolicyResponseProto, StorageTypeQuotaInfoProto,
    StorageTypeQuotaInfosProto, StorageTypesProto, UnsetStoragePolicyRequestProto,
    UnsetStoragePolicyResponseProto,
};

use super::{Asked, answers, convert};
use crate::service::ContentSummary;

/// What files have that were given nothing else, and the cluster's default.
pub(crate) const HOT_ID: u32 = policy::HOT.id as u32;

fn of(policy: &StoragePolicy) -> BlockStoragePolicyProto {
    let types = |types: &[StorageType]| StorageTypesProto {
        storage_types: types.iter().map(|kind| convert::storage_type(*kind) as i32).collect(),
    };
    BlockStoragePolicyProto {
        policy_id: u32::from(policy.id),
        name: policy.name.to_owned(),
        creation_policy: types(policy.types),
        creation_fallback_policy: Some(types(policy.creation_fallbacks)),
        replication_fallback_policy: Some(types(policy.replication_fallbacks)),
    }
}

pub(super) async fn get_storage_policies(
    _asked: Asked,
    _request: GetStoragePoliciesRequestProto,
) -> FsResult<GetStoragePoliciesResponseProto> {
    Ok(GetStoragePoliciesResponseProto { policies: POLICIES.iter().map(of).collect() })
}

/// Where nothing was set, HDFS names its default.
pub(super) async fn get_storage_policy(
    asked: Asked,
    request: GetStoragePolicyRequestProto,
) -> FsResult<GetStoragePolicyResponseProto> {
    let found = asked.service.storage_policy(&asked.caller, &convert::path(&request.path)?).await?;
    Ok(GetStoragePolicyResponseProto { storage_policy: of(found.unwrap_or(policy::HOT)) })
}

pub(super) async fn set_storage_policy(
    asked: Asked,
    request: SetStoragePolicyRequestProto,
) -> FsResult<SetStoragePolicyResponseProto> {
    let path = convert::path(&request.src)?;
    asked.service.set_storage_policy(&asked.caller, path, Some(request.policy_name)).await?;
    Ok(SetStoragePolicyResponseProto {})
}

pub(super) async fn unset_storage_policy(
    asked: Asked,
    request: UnsetStoragePolicyRequestProto,
) -> FsResult<UnsetStoragePolicyResponseProto> {
    asked.service.set_storage_policy(&asked.caller, convert::path(&request.src)?, None).await?;
    Ok(UnsetStoragePolicyResponseProto {})
}

pub(super) async fn satisfy_storage_policy(
    asked: Asked,
    request: SatisfyStoragePolicyRequestProto,
) -> FsResult<SatisfyStoragePolicyResponseProto> {
    asked.service.satisfy_storage_policy(&asked.caller, &convert::path(&request.src)?)?;
    Ok(SatisfyStoragePolicyResponseProto {})
}

pub(super) async fn set_quota(
    asked: Asked,
    request: SetQuotaRequestProto,
) -> FsResult<SetQuotaResponseProto> {
    let (names, space) =
        Bound::pair(request.namespace_quota.cast_signed(), request.storagespace_quota.cast_signed())?;
    let kind = request.storage_type.map(|_| convert::storage_type_of(request.storage_type()));
    let command = Command::SetQuota { path: convert::path(&request.path)?, names, space, kind };
    answers::done(asked.submit(command).await?)?;
    Ok(SetQuotaResponseProto {})
}

pub(super) async fn get_content_summary(
    asked: Asked,
    request: GetContentSummaryRequestProto,
) -> FsResult<GetContentSummaryResponseProto> {
    let sums = asked.service.content_summary(&asked.caller, &convert::path(&request.path)?).await?;
    // HDFS says this of a file that is not erasure-coded, and nothing of a folder.
    let layout = if sums.directories == 0 { "Replicated" } else { "" };
    Ok(GetContentSummaryResponseProto {
        summary: ContentSummaryProto {
            length: sums.length,
            file_count: sums.files,
            directory_count: sums.directories,
            quota: bound(sums.quota.names),
            space_consumed: sums.space,
            space_quota: bound(sums.quota.space),
            type_quota_infos: types(&sums),
            snapshot_length: Some(0),
            snapshot_file_count: Some(0),
            snapshot_directory_count: Some(0),
            snapshot_space_consumed: Some(0),
            erasure_coding_policy: Some(layout.to_owned()),
        },
    })
}

pub(super) async fn get_quota_usage(
    asked: Asked,
    request: GetQuotaUsageRequestProto,
) -> FsResult<GetQuotaUsageResponseProto> {
    let sums = asked.service.quota_usage(&asked.caller, &convert::path(&request.path)?).await?;
    Ok(GetQuotaUsageResponseProto {
        usage: QuotaUsageProto {
            file_and_directory_count: sums.names(),
            quota: bound(sums.quota.names),
            space_consumed: sums.space,
            space_quota: bound(sums.quota.space),
            type_quota_infos: types(&sums),
        },
    })
}

/// A bound; what HDFS sends where there is none.
fn bound(bound: Option<u64>) -> u64 {
    bound.unwrap_or(convert::MINUS_ONE)
}

/// Space and bounds by type, where there is something to say. Of the types that are rarely used nothing is told where
/// there is nothing: clients before 3.4 take NVDIMM for disks.
fn types(sums: &ContentSummary) -> Option<StorageTypeQuotaInfosProto> {
    let Quota { types: bounds, .. } = &sums.quota;
    let shown = TYPES_WITH_QUOTA.into_iter().filter(|kind| {
        let old = !matches!(kind, StorageType::Nvdimm | StorageType::Provided);
        old || bounds[kind.index()].is_some() || sums.types[kind.index()] > 0
    });
    let infos: Vec<_> = shown
        .map(|kind| StorageTypeQuotaInfoProto {
            r#type: Some(convert::storage_type(kind) as i32),
            quota: bound(bounds[kind.index()]),
            consumed: sums.types[kind.index()],
        })
        .collect();
    let any = TYPES_WITH_QUOTA
        .into_iter()
        .any(|kind| bounds[kind.index()].is_some() || sums.types[kind.index()] > 0);
    any.then_some(StorageTypeQuotaInfosProto { type_quota_info: infos })
}
