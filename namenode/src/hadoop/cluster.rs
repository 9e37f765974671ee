//! The cluster as clients and operators ask about it.

use steadfs_common::FsResult;
use steadfs_namenode_core::blocks::AdminState;
use steadfs_proto::hadoop::{
    ChecksumTypeProto, DatanodeReportTypeProto, FsServerDefaultsProto, GetDatanodeReportRequestProto,
    GetDatanodeReportResponseProto, GetDatanodeStorageReportRequestProto,
    GetDatanodeStorageReportResponseProto, GetFsEcBlockGroupStatsRequestProto,
    GetFsEcBlockGroupStatsResponseProto, GetFsReplicatedBlockStatsRequestProto,
    GetFsReplicatedBlockStatsResponseProto, GetFsStatsResponseProto, GetFsStatusRequestProto,
    GetGroupsForUserRequestProto, GetGroupsForUserResponseProto, GetServerDefaultsRequestProto,
    GetServerDefaultsResponseProto, GetServiceStatusRequestProto, GetServiceStatusResponseProto,
    HaServiceStateProto, HaServiceStateRequestProto, HaServiceStateResponseProto, MonitorHealthRequestProto,
    MonitorHealthResponseProto, MsyncRequestProto, MsyncResponseProto,
};

use super::policies::HOT_ID;
use super::{Asked, convert};
use crate::service::NodeReport;

/// Bytes of the buffer that stock clients copy with (`io.file.buffer.size`).
const FILE_BUFFER_BYTES: u32 = 4_096;

pub(super) async fn get_server_defaults(
    asked: Asked,
    _request: GetServerDefaultsRequestProto,
) -> FsResult<GetServerDefaultsResponseProto> {
    let defaults = asked.service.defaults();
    Ok(GetServerDefaultsResponseProto {
        server_defaults: FsServerDefaultsProto {
            block_size: defaults.block_size,
            bytes_per_checksum: defaults.bytes_per_checksum,
            write_packet_size: defaults.packet_size,
            replication: u32::from(defaults.replication),
            file_buffer_size: FILE_BUFFER_BYTES,
            encrypt_data_transfer: Some(false),
            // 0 leaves it to the client's own setting.
            trash_interval: Some(defaults.trash_minutes),
            checksum_type: Some(ChecksumTypeProto::ChecksumCrc32c as i32),
            // Absent, the client would look for a key server in its own settings.
            key_provider_uri: Some(String::new()),
            policy_id: Some(HOT_ID),
            snapshot_trash_root_enabled: Some(false),
        },
    })
}

pub(super) async fn get_fs_stats(
    asked: Asked,
    _request: GetFsStatusRequestProto,
) -> FsResult<GetFsStatsResponseProto> {
    let stats = asked.service.fs_stats();
    Ok(GetFsStatsResponseProto {
        capacity: stats.capacity,
        used: stats.used,
        remaining: stats.remaining,
        under_replicated: stats.under_replicated,
        corrupt_blocks: stats.corrupt,
        missing_blocks: stats.missing,
        missing_repl_one_blocks: Some(stats.missing_single),
        blocks_in_future: Some(0),
        pending_deletion_blocks: Some(stats.pending_deletion),
    })
}

pub(super) async fn get_replicated_block_stats(
    asked: Asked,
    _request: GetFsReplicatedBlockStatsRequestProto,
) -> FsResult<GetFsReplicatedBlockStatsResponseProto> {
    let stats = asked.service.fs_stats();
    Ok(GetFsReplicatedBlockStatsResponseProto {
        low_redundancy: stats.under_replicated,
        corrupt_blocks: stats.corrupt,
        missing_blocks: stats.missing,
        missing_repl_one_blocks: stats.missing_single,
        blocks_in_future: 0,
        pending_deletion_blocks: stats.pending_deletion,
        highest_prio_low_redundancy_blocks: Some(stats.endangered),
        badly_distributed_blocks: Some(0),
    })
}

/// There are no erasure-coded files.
pub(super) async fn get_ec_block_group_stats(
    _asked: Asked,
    _request: GetFsEcBlockGroupStatsRequestProto,
) -> FsResult<GetFsEcBlockGroupStatsResponseProto> {
    Ok(GetFsEcBlockGroupStatsResponseProto::default())
}

/// Whether a report of this type shows the node.
fn shows(kind: DatanodeReportTypeProto, report: &NodeReport) -> bool {
    match kind {
        DatanodeReportTypeProto::All => true,
        DatanodeReportTypeProto::Live => report.node.live,
        DatanodeReportTypeProto::Dead => !report.node.live,
        DatanodeReportTypeProto::Decommissioning => report.node.admin == AdminState::Decommissioning,
        DatanodeReportTypeProto::EnteringMaintenance => report.node.admin == AdminState::EnteringMaintenance,
        DatanodeReportTypeProto::InMaintenance => report.node.admin == AdminState::InMaintenance,
    }
}

pub(super) async fn get_datanode_report(
    asked: Asked,
    request: GetDatanodeReportRequestProto,
) -> FsResult<GetDatanodeReportResponseProto> {
    asked.service.operator_question("datanodeReport", &asked.caller)?;
    let nodes = asked.service.overview().await?.datanodes;
    let shown = nodes.iter().filter(|node| shows(request.r#type(), node));
    let mut di: Vec<_> = shown.map(|report| convert::datanode(&report.node)).collect();
    if matches!(request.r#type(), DatanodeReportTypeProto::All | DatanodeReportTypeProto::Dead) {
        // As in HDFS, who is admitted by name and was never heard is dead.
        di.extend(asked.service.unseen_hosts().iter().map(convert::unseen));
    }
    Ok(GetDatanodeReportResponseProto { di })
}

pub(super) async fn get_datanode_storage_report(
    asked: Asked,
    request: GetDatanodeStorageReportRequestProto,
) -> FsResult<GetDatanodeStorageReportResponseProto> {
    asked.service.operator_question("getDatanodeStorageReport", &asked.caller)?;
    let nodes = asked.service.overview().await?.datanodes;
    let shown = nodes.iter().filter(|node| shows(request.r#type(), node));
    Ok(GetDatanodeStorageReportResponseProto {
        datanode_storage_reports: shown.map(convert::storage_reports).collect(),
    })
}

/// This namenode answers from what it has applied, so there is nothing to catch up with.
pub(super) async fn msync(_asked: Asked, _request: MsyncRequestProto) -> FsResult<MsyncResponseProto> {
    Ok(MsyncResponseProto {})
}

pub(super) async fn get_ha_service_state(
    _asked: Asked,
    _request: HaServiceStateRequestProto,
) -> FsResult<HaServiceStateResponseProto> {
    Ok(HaServiceStateResponseProto { state: HaServiceStateProto::Active as i32 })
}

pub(super) async fn get_service_status(
    _asked: Asked,
    _request: GetServiceStatusRequestProto,
) -> FsResult<GetServiceStatusResponseProto> {
    Ok(GetServiceStatusResponseProto {
        state: HaServiceStateProto::Active as i32,
        ready_to_become_active: Some(true),
        not_ready_reason: None,
    })
}

/// An answer is all that is asked for.
pub(super) async fn monitor_health(
    _asked: Asked,
    _request: MonitorHealthRequestProto,
) -> FsResult<MonitorHealthResponseProto> {
    Ok(MonitorHealthResponseProto {})
}

pub(super) async fn get_groups_for_user(
    asked: Asked,
    request: GetGroupsForUserRequestProto,
) -> FsResult<GetGroupsForUserResponseProto> {
    let user = steadfs_proto::convert::principal("user", &request.user)?;
    Ok(GetGroupsForUserResponseProto { groups: asked.service.groups_of(&user).await? })
}
