//! Which method is answered by which function.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_rpc::Call;

use super::{
    Door, acl, cluster, features, files, inotify, later, listing, operator, policies, protocols, run,
    run_encoded, tokens, tree, write, xattr,
};

const CLIENT: &str = "org.apache.hadoop.hdfs.protocol.ClientProtocol";
const HA: &str = "org.apache.hadoop.ha.HAServiceProtocol";
const USER_MAPPINGS: &str = "org.apache.hadoop.tools.GetUserMappingsProtocol";

const REFRESH_POLICY: &str = "org.apache.hadoop.security.authorize.RefreshAuthorizationPolicyProtocol";
const REFRESH_MAPPINGS: &str = "org.apache.hadoop.security.RefreshUserMappingsProtocol";
const REFRESH_QUEUE: &str = "org.apache.hadoop.ipc.RefreshCallQueueProtocol";
const GENERIC_REFRESH: &str = "org.apache.hadoop.ipc.GenericRefreshProtocol";
const RECONFIGURATION: &str = "org.apache.hadoop.hdfs.protocol.ReconfigurationProtocol";
const NAMENODE: &str = "org.apache.hadoop.hdfs.server.protocol.NamenodeProtocol";
const META_INFO: &str = "org.apache.hadoop.ipc.ProtocolMetaInfoPB";

/// The protocols of this door.
pub(super) const PROTOCOLS: [&str; 10] = [
    CLIENT,
    HA,
    USER_MAPPINGS,
    REFRESH_POLICY,
    REFRESH_MAPPINGS,
    REFRESH_QUEUE,
    GENERIC_REFRESH,
    RECONFIGURATION,
    NAMENODE,
    META_INFO,
];

/// Longest part of a method's name that an answer repeats, in characters.
const SHOWN_CHARS: usize = 200;

macro_rules! methods {
    ($door:ident, $call:ident: $($name:literal => $function:path,)*) => {
        match &*$call.method {
            $($name => run($door, $call, $function),)*
            _ => no_such_method($call),
        }
    };
}

/// Answers a call.
pub(super) fn dispatch(door: Arc<Door>, call: Call) -> BoxFuture<'static, FsResult<Bytes>> {
    match call.protocol {
        CLIENT => client(door, call),
        HA => methods! { door, call:
            "getServiceStatus" => cluster::get_service_status,
            "monitorHealth" => cluster::monitor_health,
            "transitionToActive" => protocols::transition_to_active,
            "transitionToStandby" => protocols::transition_to_standby,
            "transitionToObserver" => protocols::transition_to_observer,
        },
        USER_MAPPINGS => methods! { door, call:
            "getGroupsForUser" => cluster::get_groups_for_user,
        },
        NAMENODE => methods! { door, call:
            "getBlocks" => protocols::get_blocks,
            "getBlockKeys" => protocols::get_block_keys,
            "getTransactionId" => protocols::get_transaction_id,
            "getMostRecentCheckpointTxId" => protocols::get_most_recent_checkpoint_tx_id,
            "rollEditLog" => protocols::roll_edit_log,
            "versionRequest" => protocols::version_request,
            "isUpgradeFinalized" => protocols::is_upgrade_finalized,
            "isRollingUpgrade" => protocols::is_rolling_upgrade,
            "getNextSPSPath" => protocols::get_next_sps_path,
        },
        RECONFIGURATION => methods! { door, call:
            "getReconfigurationStatus" => protocols::get_reconfiguration_status,
            "startReconfiguration" => protocols::start_reconfiguration,
            "listReconfigurableProperties" => protocols::list_reconfigurable_properties,
        },
        META_INFO => methods! { door, call:
            "getProtocolVersions" => protocols::get_protocol_versions,
            "getProtocolSignature" => protocols::get_protocol_signature,
        },
        // The protocols that only make the namenode read something again.
        _ => methods! { door, call:
            "refreshServiceAcl" => protocols::refresh_service_acl,
            "refreshUserToGroupsMappings" => protocols::refresh_user_to_groups_mappings,
            "refreshSuperUserGroupsConfiguration" => protocols::refresh_super_user_groups_configuration,
            "refreshCallQueue" => protocols::refresh_call_queue,
            "refresh" => protocols::refresh,
        },
    }
}

fn client(door: Arc<Door>, call: Call) -> BoxFuture<'static, FsResult<Bytes>> {
    if call.method == "getListing" {
        return run_encoded(door, call, listing::get_listing);
    }
    methods! { door, call:
        // What clients do all day.
        "getFileInfo" => files::get_file_info,
        "getBlockLocations" => files::get_block_locations,
        "create" => write::create,
        "addBlock" => write::add_block,
        "complete" => write::complete,
        "renewLease" => write::renew_lease,
        "mkdirs" => tree::mkdirs,
        "rename" => tree::rename,
        "rename2" => tree::rename2,
        "delete" => tree::delete,
        "getServerDefaults" => cluster::get_server_defaults,

        "getFileLinkInfo" => files::get_file_link_info,
        "getLocatedFileInfo" => files::get_located_file_info,
        "getPreferredBlockSize" => files::get_preferred_block_size,
        "getContentSummary" => policies::get_content_summary,
        "getQuotaUsage" => policies::get_quota_usage,
        "checkAccess" => files::check_access,
        "isFileClosed" => files::is_file_closed,
        "getEnclosingRoot" => files::get_enclosing_root,
        "reportBadBlocks" => files::report_bad_blocks,
        "getBatchedListing" => listing::get_batched_listing,

        "append" => write::append,
        "abandonBlock" => write::abandon_block,
        "fsync" => write::fsync,
        "updateBlockForPipeline" => write::update_block_for_pipeline,
        "updatePipeline" => write::update_pipeline,
        "getAdditionalDatanode" => write::get_additional_datanode,
        "recoverLease" => write::recover_lease,

        "setPermission" => tree::set_permission,
        "setOwner" => tree::set_owner,
        "setTimes" => tree::set_times,
        "setReplication" => tree::set_replication,
        "concat" => tree::concat,
        "truncate" => tree::truncate,
        "createSymlink" => tree::create_symlink,
        "getLinkTarget" => tree::get_link_target,

        "getFsStats" => cluster::get_fs_stats,
        "getFsReplicatedBlockStats" => cluster::get_replicated_block_stats,
        "getFsECBlockGroupStats" => cluster::get_ec_block_group_stats,
        "setSafeMode" => operator::set_safe_mode,
        "getDatanodeReport" => cluster::get_datanode_report,
        "getDatanodeStorageReport" => cluster::get_datanode_storage_report,
        "getSlowDatanodeReport" => operator::get_slow_datanode_report,
        "listCorruptFileBlocks" => operator::list_corrupt_file_blocks,
        "getCurrentEditLogTxid" => inotify::get_current_edit_log_txid,
        "getEditsFromTxid" => inotify::get_edits_from_txid,
        "saveNamespace" => operator::save_namespace,
        "rollEdits" => operator::roll_edits,
        "restoreFailedStorage" => operator::restore_failed_storage,
        "refreshNodes" => operator::refresh_nodes,
        "finalizeUpgrade" => operator::finalize_upgrade,
        "upgradeStatus" => operator::upgrade_status,
        "rollingUpgrade" => operator::rolling_upgrade,
        "metaSave" => operator::meta_save,
        "setBalancerBandwidth" => operator::set_balancer_bandwidth,
        "listOpenFiles" => operator::list_open_files,
        "msync" => cluster::msync,
        "getHAServiceState" => cluster::get_ha_service_state,

        "getStoragePolicies" => policies::get_storage_policies,
        "getStoragePolicy" => policies::get_storage_policy,
        "setStoragePolicy" => policies::set_storage_policy,
        "unsetStoragePolicy" => policies::unset_storage_policy,
        "satisfyStoragePolicy" => policies::satisfy_storage_policy,
        "setQuota" => policies::set_quota,

        "getErasureCodingPolicies" => later::get_erasure_coding_policies,
        "getErasureCodingPolicy" => later::get_erasure_coding_policy,
        "getErasureCodingCodecs" => later::get_erasure_coding_codecs,
        "getECTopologyResultForPolicies" => later::get_ec_topology_result,
        "getSnapshotListing" => later::get_snapshot_listing,
        "listCacheDirectives" => later::list_cache_directives,
        "listCachePools" => later::list_cache_pools,
        "listReencryptionStatus" => later::list_reencryption_status,

        "getAclStatus" => acl::get_acl_status,
        "modifyAclEntries" => acl::modify_acl_entries,
        "removeAclEntries" => acl::remove_acl_entries,
        "removeDefaultAcl" => acl::remove_default_acl,
        "removeAcl" => acl::remove_acl,
        "setAcl" => acl::set_acl,
        "getXAttrs" => xattr::get_x_attrs,
        "listXAttrs" => xattr::list_x_attrs,
        "setXAttr" => xattr::set_x_attr,
        "removeXAttr" => xattr::remove_x_attr,
        "getEZForPath" => features::get_ez_for_path,
        "listEncryptionZones" => features::list_encryption_zones,
        "getDataEncryptionKey" => features::get_data_encryption_key,
        "getDelegationToken" => tokens::get_delegation_token,
        "renewDelegationToken" => tokens::renew_delegation_token,
        "cancelDelegationToken" => tokens::cancel_delegation_token,
        "getSnapshottableDirListing" => features::get_snapshottable_dir_listing,
    }
}

fn no_such_method(call: Call) -> BoxFuture<'static, FsResult<Bytes>> {
    if call.protocol == CLIENT
        && let Some(error) = later::refused(&call.method)
    {
        return std::future::ready(Err(error)).boxed();
    }
    let name: String = call.method.chars().take(SHOWN_CHARS).collect();
    let message = format!("Unknown method {name} called on {} protocol.", call.protocol);
    std::future::ready(Err(FsError::new(FsErrorKind::NoSuchMethod, message))).boxed()
}
