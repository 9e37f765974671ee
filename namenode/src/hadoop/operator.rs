//! ClientProtocol's calls of operators.

use steadfs_common::{BlockId, FsError, FsPath, FsResult, InodeId};
use steadfs_namenode_core::View;
use steadfs_namenode_core::namespace::read::full_path;
use steadfs_proto::hadoop::{
    CorruptFileBlocksProto, FinalizeUpgradeRequestProto, FinalizeUpgradeResponseProto,
    GetSlowDatanodeReportRequestProto, GetSlowDatanodeReportResponseProto, ListCorruptFileBlocksRequestProto,
    ListCorruptFileBlocksResponseProto, ListOpenFilesRequestProto, ListOpenFilesResponseProto,
    MetaSaveRequestProto, MetaSaveResponseProto, OpenFilesBatchResponseProto, OpenFilesTypeProto,
    RefreshNodesRequestProto, RefreshNodesResponseProto, RestoreFailedStorageRequestProto,
    RestoreFailedStorageResponseProto, RollEditsRequestProto, RollEditsResponseProto,
    RollingUpgradeActionProto, RollingUpgradeRequestProto, RollingUpgradeResponseProto, SafeModeActionProto,
    SaveNamespaceRequestProto, SaveNamespaceResponseProto, SetBalancerBandwidthRequestProto,
    SetBalancerBandwidthResponseProto, SetSafeModeRequestProto, SetSafeModeResponseProto,
    UpgradeStatusRequestProto, UpgradeStatusResponseProto,
};

use super::{Asked, convert};

/// Files in one answer (HDFS: `dfs.corruptfilesreturned.max`).
const CORRUPT_PAGE: usize = 100;

pub(super) async fn set_safe_mode(
    asked: Asked,
    request: SetSafeModeRequestProto,
) -> FsResult<SetSafeModeResponseProto> {
    let result = match request.action() {
        SafeModeActionProto::SafemodeGet => {
            asked.service.note_question("get_safe_mode", &asked.caller);
            asked.service.safe_mode().is_some()
        }
        SafeModeActionProto::SafemodeEnter => asked.service.set_safe_mode(&asked.caller, true)?,
        SafeModeActionProto::SafemodeLeave | SafeModeActionProto::SafemodeForceExit => {
            asked.service.set_safe_mode(&asked.caller, false)?
        }
    };
    Ok(SetSafeModeResponseProto { result })
}

pub(super) async fn save_namespace(
    asked: Asked,
    request: SaveNamespaceRequestProto,
) -> FsResult<SaveNamespaceResponseProto> {
    let saved = asked.service.save_namespace(&asked.caller, request.time_window(), request.tx_gap()).await?;
    Ok(SaveNamespaceResponseProto { saved: Some(saved) })
}

pub(super) async fn roll_edits(
    asked: Asked,
    _request: RollEditsRequestProto,
) -> FsResult<RollEditsResponseProto> {
    let first = asked.service.roll_journal(&asked.caller).await?;
    Ok(RollEditsResponseProto { new_segment_tx_id: first.0 })
}

pub(super) async fn restore_failed_storage(
    asked: Asked,
    request: RestoreFailedStorageRequestProto,
) -> FsResult<RestoreFailedStorageResponseProto> {
    let result = asked.service.restore_failed_storage(&asked.caller, &request.arg)?;
    Ok(RestoreFailedStorageResponseProto { result })
}

pub(super) async fn refresh_nodes(
    asked: Asked,
    _request: RefreshNodesRequestProto,
) -> FsResult<RefreshNodesResponseProto> {
    asked.service.refresh_nodes(&asked.caller).await?;
    Ok(RefreshNodesResponseProto {})
}

/// Stored formats carry their versions and every release reads those before it: nothing waits to be made final.
pub(super) async fn finalize_upgrade(
    asked: Asked,
    _request: FinalizeUpgradeRequestProto,
) -> FsResult<FinalizeUpgradeResponseProto> {
    asked.service.operator_question("finalizeUpgrade", &asked.caller)?;
    Ok(FinalizeUpgradeResponseProto {})
}

pub(super) async fn upgrade_status(
    _asked: Asked,
    _request: UpgradeStatusRequestProto,
) -> FsResult<UpgradeStatusResponseProto> {
    Ok(UpgradeStatusResponseProto { upgrade_finalized: true })
}

/// There is never one: a new release is started in place of the old one.
pub(super) async fn rolling_upgrade(
    asked: Asked,
    request: RollingUpgradeRequestProto,
) -> FsResult<RollingUpgradeResponseProto> {
    match request.action() {
        RollingUpgradeActionProto::Query => {
            asked.service.check_operator(&asked.caller, "queryRollingUpgrade")?;
        }
        RollingUpgradeActionProto::Start => {
            asked.service.check_operator(&asked.caller, "startRollingUpgrade")?;
            if asked.service.safe_mode().is_none() {
                let message = "Safe mode should be turned ON in order to create namespace image.";
                return Err(FsError::refused(message));
            }
            return Err(FsError::refused(
                "Failed to start a rolling upgrade: there are no rollback images. Start the new release in place of the old \
                 one: it reads what the old one wrote",
            ));
        }
        RollingUpgradeActionProto::Finalize => {
            asked.service.check_operator(&asked.caller, "finalizeRollingUpgrade")?;
        }
    }
    Ok(RollingUpgradeResponseProto { rolling_upgrade_info: None })
}

pub(super) async fn meta_save(
    asked: Asked,
    request: MetaSaveRequestProto,
) -> FsResult<MetaSaveResponseProto> {
    let path = asked.service.save_report(&asked.caller, &request.filename).await?;
    tracing::info!(path = %path.display(), user = asked.caller.user, "a report was written (metasave)");
    Ok(MetaSaveResponseProto {})
}

pub(super) async fn set_balancer_bandwidth(
    asked: Asked,
    request: SetBalancerBandwidthRequestProto,
) -> FsResult<SetBalancerBandwidthResponseProto> {
    asked.service.set_balancer_bandwidth(&asked.caller, request.bandwidth)?;
    Ok(SetBalancerBandwidthResponseProto {})
}

pub(super) async fn list_open_files(
    asked: Asked,
    request: ListOpenFilesRequestProto,
) -> FsResult<ListOpenFilesResponseProto> {
    let top = match request.path() {
        "" => FsPath::root(),
        path => convert::path(path)?,
    };
    let types: Vec<OpenFilesTypeProto> = request.types().collect();
    let blocking = types.contains(&OpenFilesTypeProto::BlockingDecommission)
        && !types.contains(&OpenFilesTypeProto::AllOpenFiles);
    let after = InodeId(u64::try_from(request.id).unwrap_or(0));
    let page = asked.service.open_files(&asked.caller, after, &top, blocking).await?;
    let entries = page.files.into_iter().map(|file| OpenFilesBatchResponseProto {
        id: i64::try_from(file.inode.0).unwrap_or(i64::MAX),
        path: file.path.to_string(),
        client_name: file.client,
        client_machine: file.machine,
    });
    Ok(ListOpenFilesResponseProto { entries: entries.collect(), has_more: page.more, types: request.types })
}

/// Datanodes that others find far slower than the rest.
pub(super) async fn get_slow_datanode_report(
    asked: Asked,
    _request: GetSlowDatanodeReportRequestProto,
) -> FsResult<GetSlowDatanodeReportResponseProto> {
    asked.service.operator_question("slowDataNodesReport", &asked.caller)?;
    let nodes = asked.service.datanodes();
    let slow = nodes.iter().filter(|node| node.live && node.slow);
    Ok(GetSlowDatanodeReportResponseProto {
        datanode_info_proto: slow.map(|node| convert::datanode(node)).collect(),
    })
}

/// Files with blocks without any good replica, page by page: the cookie is the last block looked at.
pub(super) async fn list_corrupt_file_blocks(
    asked: Asked,
    request: ListCorruptFileBlocksRequestProto,
) -> FsResult<ListCorruptFileBlocksResponseProto> {
    asked.service.check_operator(&asked.caller, "listCorruptFileBlocks")?;
    let below = convert::path(&request.path)?;
    let mut after = BlockId(request.cookie().parse().unwrap_or(0));
    let mut files: Vec<String> = Vec::new();
    while files.len() < CORRUPT_PAGE {
        let missing = asked.service.missing_blocks(after, CORRUPT_PAGE);
        let Some(last) = missing.last().copied() else { break };
        let found = asked.service.read(move |view: &dyn View| {
            missing.iter().filter_map(|id| full_path(view, view.block(*id)?.inode)).collect::<Vec<_>>()
        });
        files.extend(found.await.iter().filter(|path| path.starts_with(&below)).map(ToString::to_string));
        after = last;
    }
    files.dedup();
    let cookie = after.0.to_string();
    Ok(ListCorruptFileBlocksResponseProto { corrupt: CorruptFileBlocksProto { files, cookie } })
}
