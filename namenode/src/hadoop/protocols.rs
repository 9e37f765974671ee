//! The small protocols of operators, balancers and failover tools on the namenode's port.

use steadfs_common::{DatanodeUuid, FsError, FsErrorKind, FsResult};
use steadfs_namenode_core::blocks::BlocksOn;
use steadfs_proto::hadoop::{
    BlockProto, BlockWithLocationsProto, BlocksWithLocationsProto, CheckpointSignatureProto,
    ExportedBlockKeysProto, GenericRefreshRequestProto, GenericRefreshResponseCollectionProto,
    GetBlockKeysRequestProto, GetBlockKeysResponseProto, GetBlocksRequestProto, GetBlocksResponseProto,
    GetMostRecentCheckpointTxIdRequestProto, GetMostRecentCheckpointTxIdResponseProto,
    GetNextSpsPathRequestProto, GetNextSpsPathResponseProto, GetProtocolSignatureRequestProto,
    GetProtocolSignatureResponseProto, GetProtocolVersionsRequestProto, GetProtocolVersionsResponseProto,
    GetReconfigurationStatusRequestProto, GetReconfigurationStatusResponseProto,
    GetTransactionIdRequestProto, GetTransactionIdResponseProto, IsRollingUpgradeRequestProto,
    IsRollingUpgradeResponseProto, IsUpgradeFinalizedRequestProto, IsUpgradeFinalizedResponseProto,
    ListReconfigurablePropertiesRequestProto, ListReconfigurablePropertiesResponseProto, NamespaceInfoProto,
    ProtocolVersionProto, RefreshCallQueueRequestProto, RefreshCallQueueResponseProto,
    RefreshServiceAclRequestProto, RefreshServiceAclResponseProto,
    RefreshSuperUserGroupsConfigurationRequestProto, RefreshSuperUserGroupsConfigurationResponseProto,
    RefreshUserToGroupsMappingsRequestProto, RefreshUserToGroupsMappingsResponseProto,
    RollEditLogRequestProto, RollEditLogResponseProto, StartReconfigurationRequestProto,
    StartReconfigurationResponseProto, StorageInfoProto, TransitionToActiveRequestProto,
    TransitionToActiveResponseProto, TransitionToObserverRequestProto, TransitionToObserverResponseProto,
    TransitionToStandbyRequestProto, TransitionToStandbyResponseProto, VersionRequestProto,
    VersionResponseProto,
};

use super::{Asked, convert, methods};

/// Blocks in one answer to a balancer.
const BLOCKS_PAGE: usize = 10_000;
/// HDFS's layout version of 3.4, which balancers want to see; ours is another matter.
const LAYOUT_VERSION: i32 = -67;

/// There is no list of who may speak which protocol, so nothing is read again.
pub(super) async fn refresh_service_acl(
    _asked: Asked,
    _request: RefreshServiceAclRequestProto,
) -> FsResult<RefreshServiceAclResponseProto> {
    Ok(RefreshServiceAclResponseProto {})
}

pub(super) async fn refresh_user_to_groups_mappings(
    asked: Asked,
    _request: RefreshUserToGroupsMappingsRequestProto,
) -> FsResult<RefreshUserToGroupsMappingsResponseProto> {
    asked.service.refresh_groups(&asked.caller).await?;
    Ok(RefreshUserToGroupsMappingsResponseProto {})
}

pub(super) async fn refresh_super_user_groups_configuration(
    asked: Asked,
    _request: RefreshSuperUserGroupsConfigurationRequestProto,
) -> FsResult<RefreshSuperUserGroupsConfigurationResponseProto> {
    asked.service.refresh_proxy_users(&asked.caller).await?;
    Ok(RefreshSuperUserGroupsConfigurationResponseProto {})
}

/// Calls are queued fairly by the server itself: there is no queue to exchange.
pub(super) async fn refresh_call_queue(
    _asked: Asked,
    _request: RefreshCallQueueRequestProto,
) -> FsResult<RefreshCallQueueResponseProto> {
    Ok(RefreshCallQueueResponseProto {})
}

/// Nothing is registered.
pub(super) async fn refresh(
    _asked: Asked,
    request: GenericRefreshRequestProto,
) -> FsResult<GenericRefreshResponseCollectionProto> {
    let identifier: String = request.identifier().chars().take(100).collect();
    Err(FsError::new(
        FsErrorKind::IllegalArgument,
        format!("Identifier '{identifier}' does not exist in RefreshRegistry. Valid options are: "),
    ))
}

/// What can be changed while the namenode runs has calls of its own.
pub(super) async fn list_reconfigurable_properties(
    asked: Asked,
    _request: ListReconfigurablePropertiesRequestProto,
) -> FsResult<ListReconfigurablePropertiesResponseProto> {
    asked.service.check_operator(&asked.caller, "listNamenodeReconfigurableProperties")?;
    Ok(ListReconfigurablePropertiesResponseProto { name: Vec::new() })
}

pub(super) async fn start_reconfiguration(
    asked: Asked,
    _request: StartReconfigurationRequestProto,
) -> FsResult<StartReconfigurationResponseProto> {
    asked.service.start_reconfiguration(&asked.caller)?;
    Ok(StartReconfigurationResponseProto {})
}

pub(super) async fn get_reconfiguration_status(
    asked: Asked,
    _request: GetReconfigurationStatusRequestProto,
) -> FsResult<GetReconfigurationStatusResponseProto> {
    asked.service.check_operator(&asked.caller, "getNamenodeReconfigurationStatus")?;
    let at = i64::try_from(asked.service.reconfigured().0).unwrap_or(i64::MAX);
    Ok(GetReconfigurationStatusResponseProto {
        start_time: at,
        end_time: (at > 0).then_some(at),
        changes: Vec::new(),
    })
}

/// Blocks of a datanode, for a balancer to move.
pub(super) async fn get_blocks(
    asked: Asked,
    request: GetBlocksRequestProto,
) -> FsResult<GetBlocksResponseProto> {
    asked.service.check_operator(&asked.caller, "getBlocks")?;
    let named = &request.datanode;
    let uuid: DatanodeUuid = named.datanode_uuid.parse().map_err(|_| {
        FsError::invalid_argument(format!("Datanode {}:{} not found.", named.ip_addr, named.xfer_port))
    })?;
    let wanted = BlocksOn { bytes: request.size, least_bytes: request.min_block_size(), limit: BLOCKS_PAGE };
    let blocks = asked.service.blocks_on(uuid, &wanted).into_iter().map(|found| BlockWithLocationsProto {
        block: BlockProto {
            block_id: found.block.id.0,
            gen_stamp: found.block.stamp.0,
            num_bytes: Some(found.block.length),
        },
        datanode_uuids: found.locations.iter().map(|place| place.node.uuid.to_string()).collect(),
        storage_uuids: found.locations.iter().map(|place| place.storage.to_string()).collect(),
        storage_types: found.locations.iter().map(|place| convert::storage_type(place.kind) as i32).collect(),
        ..BlockWithLocationsProto::default()
    });
    Ok(GetBlocksResponseProto { blocks: BlocksWithLocationsProto { blocks: blocks.collect() } })
}

/// Access to blocks needs no tokens: keys that say so, without which a balancer does not begin.
pub(super) async fn get_block_keys(
    asked: Asked,
    _request: GetBlockKeysRequestProto,
) -> FsResult<GetBlockKeysResponseProto> {
    asked.service.check_operator(&asked.caller, "getBlockKeys")?;
    let keys = ExportedBlockKeysProto { is_block_token_enabled: false, ..ExportedBlockKeysProto::default() };
    Ok(GetBlockKeysResponseProto { keys: Some(keys) })
}

pub(super) async fn get_transaction_id(
    asked: Asked,
    _request: GetTransactionIdRequestProto,
) -> FsResult<GetTransactionIdResponseProto> {
    asked.service.check_operator(&asked.caller, "getTransactionID")?;
    Ok(GetTransactionIdResponseProto { tx_id: asked.service.last_transaction().await.0 })
}

pub(super) async fn get_most_recent_checkpoint_tx_id(
    asked: Asked,
    _request: GetMostRecentCheckpointTxIdRequestProto,
) -> FsResult<GetMostRecentCheckpointTxIdResponseProto> {
    asked.service.check_operator(&asked.caller, "getMostRecentCheckpointTxId")?;
    Ok(GetMostRecentCheckpointTxIdResponseProto { tx_id: asked.service.last_saved().0.0 })
}

pub(super) async fn roll_edit_log(
    asked: Asked,
    _request: RollEditLogRequestProto,
) -> FsResult<RollEditLogResponseProto> {
    let first = asked.service.roll_journal(&asked.caller).await?;
    let signature = CheckpointSignatureProto {
        block_pool_id: asked.pool.to_string(),
        most_recent_checkpoint_tx_id: asked.service.last_saved().0.0,
        cur_segment_tx_id: first.0,
        storage_info: storage_info(&asked),
    };
    Ok(RollEditLogResponseProto { signature })
}

fn storage_info(asked: &Asked) -> StorageInfoProto {
    let cluster = &asked.service.identity().cluster_id;
    StorageInfoProto {
        // A negative number in an unsigned field, as Hadoop writes it.
        layout_version: LAYOUT_VERSION as u32,
        // Only ever compared with itself.
        namespce_id: crc32(cluster) >> 1,
        cluster_id: cluster.clone(),
        c_time: 0,
    }
}

fn crc32(text: &str) -> u32 {
    text.bytes().fold(0_u32, |sum, byte| sum.rotate_left(5).wrapping_mul(0x9e37_79b1) ^ u32::from(byte))
}

pub(super) async fn version_request(
    asked: Asked,
    _request: VersionRequestProto,
) -> FsResult<VersionResponseProto> {
    asked.service.check_operator(&asked.caller, "versionRequest")?;
    let info = NamespaceInfoProto {
        build_version: env!("CARGO_PKG_VERSION").into(),
        unused: 0,
        block_pool_id: asked.pool.to_string(),
        storage_info: storage_info(&asked),
        software_version: env!("CARGO_PKG_VERSION").into(),
        capabilities: None,
    };
    Ok(VersionResponseProto { info })
}

pub(super) async fn is_upgrade_finalized(
    _asked: Asked,
    _request: IsUpgradeFinalizedRequestProto,
) -> FsResult<IsUpgradeFinalizedResponseProto> {
    Ok(IsUpgradeFinalizedResponseProto { is_upgrade_finalized: true })
}

pub(super) async fn is_rolling_upgrade(
    _asked: Asked,
    _request: IsRollingUpgradeRequestProto,
) -> FsResult<IsRollingUpgradeResponseProto> {
    Ok(IsRollingUpgradeResponseProto { is_rolling_upgrade: false })
}

/// No path waits for replicas of other storage types.
pub(super) async fn get_next_sps_path(
    _asked: Asked,
    _request: GetNextSpsPathRequestProto,
) -> FsResult<GetNextSpsPathResponseProto> {
    Ok(GetNextSpsPathResponseProto { sps_path: None })
}

fn no_ha<T>() -> FsResult<T> {
    Err(FsError::new(FsErrorKind::ServiceFailed, "HA for namenode is not enabled"))
}

pub(super) async fn transition_to_active(
    _asked: Asked,
    _request: TransitionToActiveRequestProto,
) -> FsResult<TransitionToActiveResponseProto> {
    no_ha()
}

pub(super) async fn transition_to_standby(
    _asked: Asked,
    _request: TransitionToStandbyRequestProto,
) -> FsResult<TransitionToStandbyResponseProto> {
    no_ha()
}

pub(super) async fn transition_to_observer(
    _asked: Asked,
    _request: TransitionToObserverRequestProto,
) -> FsResult<TransitionToObserverResponseProto> {
    no_ha()
}

/// Which versions of a protocol are spoken: one, of those that are there.
pub(super) async fn get_protocol_versions(
    _asked: Asked,
    request: GetProtocolVersionsRequestProto,
) -> FsResult<GetProtocolVersionsResponseProto> {
    let known = methods::PROTOCOLS.contains(&request.protocol.as_str());
    let versions = ["RPC_PROTOCOL_BUFFER"]
        .iter()
        .filter(|_| known)
        .map(|kind| ProtocolVersionProto { rpc_kind: (*kind).to_owned(), versions: vec![1] });
    Ok(GetProtocolVersionsResponseProto { protocol_versions: versions.collect() })
}

/// Hashes of methods are Java's own affair: without any, tools take every method to be there.
pub(super) async fn get_protocol_signature(
    _asked: Asked,
    _request: GetProtocolSignatureRequestProto,
) -> FsResult<GetProtocolSignatureResponseProto> {
    Ok(GetProtocolSignatureResponseProto { protocol_signature: Vec::new() })
}
