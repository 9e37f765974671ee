//! The cluster as clients and operators ask about it.

use steadfs_common::{BlockId, FsResult};
use steadfs_namenode_core::View;
use steadfs_namenode_core::namespace::read::full_path;
use steadfs_proto::hadoop::{
    ChecksumTypeProto, CorruptFileBlocksProto, DatanodeReportTypeProto, FsServerDefaultsProto,
    GetDatanodeReportRequestProto,
    GetDatanodeReportResponseProto, GetDatanodeStorageReportRequestProto,
    GetDatanodeStorageReportResponseProto, GetFsEcBlockGroupStatsRequestProto,
    GetFsEcBlockGroupStatsResponseProto, GetFsReplicatedBlockStatsRequestProto,
    GetFsReplicatedBlockStatsResponseProto, GetFsStatsResponseProto, GetFsStatusRequestProto,
    GetGroupsForUserRequestProto, GetGroupsForUserResponseProto, GetServerDefaultsRequestProto,
    GetServerDefaultsResponseProto, GetServiceStatusRequestProto, GetServiceStatusResponseProto,
    GetSlowDatanodeReportRequestProto, GetSlowDatanodeReportResponseProto, HaServiceStateProto,
    HaServiceStateRequestProto, HaServiceStateResponseProto, ListCorruptFileBlocksRequestProto,
    ListCorruptFileBlocksResponseProto, MonitorHealthRequestProto, MonitorHealthResponseProto,
    MsyncRequestProto, MsyncResponseProto, SafeModeActionProto, SetSafeModeRequestProto,
    SetSafeModeResponseProto,
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
            trash_interval: Some(0),
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
        missing_repl_one_blocks: Some(0),
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
        missing_repl_one_blocks: 0,
        blocks_in_future: 0,
        pending_deletion_blocks: stats.pending_deletion,
        highest_prio_low_redundancy_blocks: Some(0),
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

pub(super) async fn set_safe_mode(
    asked: Asked,
    request: SetSafeModeRequestProto,
) -> FsResult<SetSafeModeResponseProto> {
    let result = match request.action() {
        SafeModeActionProto::SafemodeGet => asked.service.safe_mode().is_some(),
        SafeModeActionProto::SafemodeEnter => asked.service.set_safe_mode(&asked.caller, true)?,
        SafeModeActionProto::SafemodeLeave | SafeModeActionProto::SafemodeForceExit => {
            asked.service.set_safe_mode(&asked.caller, false)?
        }
    };
    Ok(SetSafeModeResponseProto { result })
}

/// Whether a report of this type shows the node. Nodes are neither decommissioned nor in maintenance.
fn shows(kind: DatanodeReportTypeProto, report: &NodeReport) -> bool {
    match kind {
        DatanodeReportTypeProto::All => true,
        DatanodeReportTypeProto::Live => report.node.live,
        DatanodeReportTypeProto::Dead => !report.node.live,
        DatanodeReportTypeProto::Decommissioning
        | DatanodeReportTypeProto::EnteringMaintenance
        | DatanodeReportTypeProto::InMaintenance => false,
    }
}

pub(super) async fn get_datanode_report(
    asked: Asked,
    request: GetDatanodeReportRequestProto,
) -> FsResult<GetDatanodeReportResponseProto> {
    let nodes = asked.service.report(&asked.caller).await?.datanodes;
    let shown = nodes.iter().filter(|node| shows(request.r#type(), node));
    Ok(GetDatanodeReportResponseProto { di: shown.map(|report| convert::datanode(&report.node)).collect() })
}

pub(super) async fn get_datanode_storage_report(
    asked: Asked,
    request: GetDatanodeStorageReportRequestProto,
) -> FsResult<GetDatanodeStorageReportResponseProto> {
    let nodes = asked.service.report(&asked.caller).await?.datanodes;
    let shown = nodes.iter().filter(|node| shows(request.r#type(), node));
    Ok(GetDatanodeStorageReportResponseProto {
        datanode_storage_reports: shown.map(convert::storage_reports).collect(),
    })
}

/// Nodes are not watched for slowness.
pub(super) async fn get_slow_datanode_report(
    _asked: Asked,
    _request: GetSlowDatanodeReportRequestProto,
) -> FsResult<GetSlowDatanodeReportResponseProto> {
    Ok(GetSlowDatanodeReportResponseProto::default())
}

/// One page with the first missing blocks' files, and an empty one after it.
pub(super) async fn list_corrupt_file_blocks(
    asked: Asked,
    request: ListCorruptFileBlocksRequestProto,
) -> FsResult<ListCorruptFileBlocksResponseProto> {
    let below = convert::path(&request.path)?;
    let mut files = Vec::new();
    if matches!(request.cookie(), "" | "0") {
        let missing = asked.service.report(&asked.caller).await?.missing_blocks;
        let paths = asked.service.read(move |view: &dyn View| {
            missing.iter().filter_map(|block| file_of(view, *block)).collect::<Vec<_>>()
        });
        files = paths
            .await
            .into_iter()
            .filter(|path| path.starts_with(&below))
            .map(|path| path.to_string())
            .collect();
        files.sort_unstable();
        files.dedup();
    }
    let cookie = files.len().to_string();
    Ok(ListCorruptFileBlocksResponseProto { corrupt: CorruptFileBlocksProto { files, cookie } })
}

fn file_of(view: &dyn View, block: BlockId) -> Option<steadfs_common::FsPath> {
    full_path(view, view.block(block)?.inode)
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
