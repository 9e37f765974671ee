//! Hadoop's messages. The first byte says which; what can be read is written and read again.

use bytes::Bytes;
use prost::{Message, Name};
use steadfs_proto::hadoop::{self, decode};

use crate::memory;

type Target = fn(Bytes);

macro_rules! targets {
    ($($name:ident,)*) => { &[$(again::<hadoop::$name>),*] };
}

const TARGETS: &[Target] = targets! {
    AbandonBlockRequestProto, AddBlockRequestProto, AllowSnapshotRequestProto, AppendRequestProto,
    CancelDelegationTokenRequestProto, CheckAccessRequestProto, CompleteRequestProto,
    ConcatRequestProto, CreateEncryptionZoneRequestProto, CreateRequestProto,
    CreateSnapshotRequestProto, CreateSymlinkRequestProto, DeleteRequestProto,
    DeleteSnapshotRequestProto, DisallowSnapshotRequestProto, EvictWritersRequestProto,
    FsyncRequestProto, GetAclStatusRequestProto, GetAdditionalDatanodeRequestProto,
    GetBatchedListingRequestProto, GetBlockLocationsRequestProto, GetContentSummaryRequestProto,
    GetDatanodeReportRequestProto, GetDelegationTokenRequestProto, GetEditsFromTxidRequestProto,
    GetErasureCodingPolicyRequestProto, GetEzForPathRequestProto, GetFileInfoRequestProto,
    GetGroupsForUserRequestProto, GetListingRequestProto, GetLocatedFileInfoRequestProto,
    GetPreferredBlockSizeRequestProto, GetQuotaUsageRequestProto,
    GetReplicaVisibleLengthRequestProto, GetSnapshotDiffReportListingRequestProto,
    GetSnapshotDiffReportRequestProto, GetStoragePolicyRequestProto, GetXAttrsRequestProto,
    IsFileClosedRequestProto, ListCorruptFileBlocksRequestProto, ListEncryptionZonesRequestProto,
    ListXAttrsRequestProto, MkdirsRequestProto, ModifyAclEntriesRequestProto,
    RecoverLeaseRequestProto, RefreshNamenodesRequestProto, RemoveAclEntriesRequestProto,
    RemoveAclRequestProto, RemoveDefaultAclRequestProto, RemoveXAttrRequestProto,
    Rename2RequestProto, RenameRequestProto, RenameSnapshotRequestProto,
    RenewDelegationTokenRequestProto, RenewLeaseRequestProto, ReportBadBlocksRequestProto,
    SetAclRequestProto, SetBalancerBandwidthRequestProto, SetErasureCodingPolicyRequestProto,
    SetOwnerRequestProto, SetPermissionRequestProto, SetQuotaRequestProto,
    SetReplicationRequestProto, SetSafeModeRequestProto, SetStoragePolicyRequestProto,
    SetTimesRequestProto, SetXAttrRequestProto, ShutdownDatanodeRequestProto,
    SubmitDiskBalancerPlanRequestProto, TriggerBlockReportRequestProto, TruncateRequestProto,
    UnsetErasureCodingPolicyRequestProto, UnsetStoragePolicyRequestProto,
    UpdateBlockForPipelineRequestProto, UpdatePipelineRequestProto, IpcConnectionContextProto,
    RequestHeaderProto, RpcRequestHeaderProto, RpcSaslProto, OpReadBlockProto, OpWriteBlockProto,
    OpTransferBlockProto, OpBlockChecksumProto,
};

/// Reads the bytes as one message.
pub fn run(bytes: &[u8]) {
    memory::limit_for(bytes.len());
    let Some((which, rest)) = bytes.split_first() else { return };
    TARGETS[usize::from(*which) % TARGETS.len()](Bytes::copy_from_slice(rest));
}

fn again<M: Message + Name + Default + PartialEq>(bytes: Bytes) {
    let Ok(message) = decode::<M>(bytes) else { return };
    let written = message.encode_to_vec();
    let read = decode::<M>(written.into()).expect("what was written can be read");
    assert!(read == message, "{} reads differently when it is written again", M::NAME);
}
