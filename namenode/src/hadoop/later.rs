//! Erasure coding, snapshots, encryption zones and the central cache: features that are not there. What asks of them is
//! answered as HDFS answers where there is nothing; what would begin to use them is refused by name.

use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_proto::hadoop::{
    EcTopologyVerifierResultProto, GetEcTopologyResultForPoliciesRequestProto,
    GetEcTopologyResultForPoliciesResponseProto, GetErasureCodingCodecsRequestProto,
    GetErasureCodingCodecsResponseProto, GetErasureCodingPoliciesRequestProto,
    GetErasureCodingPoliciesResponseProto, GetErasureCodingPolicyRequestProto,
    GetErasureCodingPolicyResponseProto, GetSnapshotListingRequestProto, GetSnapshotListingResponseProto,
    ListCacheDirectivesRequestProto, ListCacheDirectivesResponseProto, ListCachePoolsRequestProto,
    ListCachePoolsResponseProto, ListReencryptionStatusRequestProto, ListReencryptionStatusResponseProto,
};

use super::{Asked, convert};

/// Why a method of ClientProtocol is refused, if it belongs to a feature that is not there.
pub(super) fn refused(method: &str) -> Option<FsError> {
    let (kind, feature) = match method {
        "createSnapshot"
        | "deleteSnapshot"
        | "renameSnapshot"
        | "allowSnapshot"
        | "disallowSnapshot"
        | "getSnapshotDiffReport"
        | "getSnapshotDiffReportListing" => (FsErrorKind::Snapshot, "snapshots"),
        "setErasureCodingPolicy"
        | "unsetErasureCodingPolicy"
        | "addErasureCodingPolicies"
        | "removeErasureCodingPolicy"
        | "enableErasureCodingPolicy"
        | "disableErasureCodingPolicy" => (FsErrorKind::UnsupportedAction, "erasure coding"),
        "createEncryptionZone" | "reencryptEncryptionZone" => (FsErrorKind::Refused, "encryption zones"),
        "addCacheDirective"
        | "modifyCacheDirective"
        | "removeCacheDirective"
        | "addCachePool"
        | "modifyCachePool"
        | "removeCachePool" => (FsErrorKind::UnsupportedAction, "the central cache"),
        _ => return None,
    };
    let verb = if feature.ends_with('s') { "are" } else { "is" };
    Some(FsError::new(kind, format!("{method}: {feature} {verb} not supported yet")))
}

pub(super) async fn get_snapshot_listing(
    _asked: Asked,
    request: GetSnapshotListingRequestProto,
) -> FsResult<GetSnapshotListingResponseProto> {
    let path = convert::path(&request.snapshot_root)?;
    let message = format!("Directory is not a snapshottable directory: {path}");
    Err(FsError::new(FsErrorKind::Snapshot, message))
}

pub(super) async fn list_cache_directives(
    _asked: Asked,
    _request: ListCacheDirectivesRequestProto,
) -> FsResult<ListCacheDirectivesResponseProto> {
    Ok(ListCacheDirectivesResponseProto { elements: Vec::new(), has_more: false })
}

pub(super) async fn list_cache_pools(
    _asked: Asked,
    _request: ListCachePoolsRequestProto,
) -> FsResult<ListCachePoolsResponseProto> {
    Ok(ListCachePoolsResponseProto { entries: Vec::new(), has_more: false })
}

pub(super) async fn list_reencryption_status(
    _asked: Asked,
    _request: ListReencryptionStatusRequestProto,
) -> FsResult<ListReencryptionStatusResponseProto> {
    Ok(ListReencryptionStatusResponseProto { statuses: Vec::new(), has_more: false })
}

pub(super) async fn get_ec_topology_result(
    _asked: Asked,
    _request: GetEcTopologyResultForPoliciesRequestProto,
) -> FsResult<GetEcTopologyResultForPoliciesResponseProto> {
    Ok(GetEcTopologyResultForPoliciesResponseProto {
        response: EcTopologyVerifierResultProto {
            result_message: "Erasure coding is not supported yet.".to_owned(),
            is_supported: false,
        },
    })
}

pub(super) async fn get_erasure_coding_policies(
    asked: Asked,
    _request: GetErasureCodingPoliciesRequestProto,
) -> FsResult<GetErasureCodingPoliciesResponseProto> {
    asked.service.note_question("getErasureCodingPolicies", &asked.caller);
    Ok(GetErasureCodingPoliciesResponseProto::default())
}

pub(super) async fn get_erasure_coding_policy(
    asked: Asked,
    request: GetErasureCodingPolicyRequestProto,
) -> FsResult<GetErasureCodingPolicyResponseProto> {
    let path = convert::path(&request.src)?;
    let status = asked.service.status_as("getErasureCodingPolicy", &asked.caller, &path).await?;
    status.ok_or_else(|| FsError::new(FsErrorKind::NotFound, format!("Path not found: {path}")))?;
    Ok(GetErasureCodingPolicyResponseProto { ec_policy: None })
}

pub(super) async fn get_erasure_coding_codecs(
    asked: Asked,
    _request: GetErasureCodingCodecsRequestProto,
) -> FsResult<GetErasureCodingCodecsResponseProto> {
    asked.service.note_question("getErasureCodingCodecs", &asked.caller);
    Ok(GetErasureCodingCodecsResponseProto::default())
}
