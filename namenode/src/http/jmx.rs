//! `/jmx`: the beans that monitoring of HDFS reads, as far as we have their numbers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};
use steadfs_common::Millis;
use steadfs_namenode_core::blocks::AdminState;
use steadfs_wire::webhdfs::Query;

use crate::service::{ClusterReport, Node, Service};

const PREFIX: &str = "Hadoop:service=NameNode,name=";
/// Datanodes named in one bean.
const MAX_NAMED: usize = 16_384;

pub(super) fn router(service: Arc<Service>) -> Router {
    Router::new().route("/jmx", get(serve)).with_state(service)
}

async fn serve(State(service): State<Arc<Service>>, RawQuery(raw): RawQuery) -> Response {
    let query = Query::parse(raw.as_deref().unwrap_or("")).unwrap_or_default();
    let beans = match service.overview().await {
        Ok(report) => beans(&service, &report, service.last_transaction().await.0),
        Err(_) => Vec::new(),
    };
    let chosen = chosen(beans, query.optional("qry"), query.optional("get"));
    let text = format!("{:#}", json!({ "beans": chosen }));
    ([(header::CONTENT_TYPE, "application/json; charset=utf8"), (header::CACHE_CONTROL, "no-cache")], text)
        .into_response()
}

/// The beans whose name fits, or of one bean one attribute (`bean::attribute`).
fn chosen(beans: Vec<Value>, wanted: Option<&str>, attribute: Option<&str>) -> Vec<Value> {
    let named = |bean: &Value, name: &str| bean["name"].as_str().is_some_and(|is| fits(name, is));
    if let Some((name, attribute)) = attribute.and_then(|both| both.split_once("::")) {
        let only = |bean: &Value| {
            let value = bean.get(attribute)?.clone();
            let mut map = Map::new();
            map.insert("name".into(), bean["name"].clone());
            map.insert(attribute.to_owned(), value);
            Some(Value::Object(map))
        };
        return beans.iter().filter(|bean| named(bean, name)).filter_map(only).collect();
    }
    beans.into_iter().filter(|bean| wanted.is_none_or(|name| named(bean, name))).collect()
}

/// Whether a name fits a pattern with `*` for anything.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or("")) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn beans(service: &Service, report: &ClusterReport, last_tx: u64) -> Vec<Value> {
    let nodes: Vec<&Node> = report.datanodes.iter().map(|datanode| &*datanode.node).take(MAX_NAMED).collect();
    let counts = Counts::of(&nodes);
    vec![
        info(service, report, &nodes, last_tx),
        state(report, &counts, "FSNamesystemState", last_tx, service.last_saved().0.0),
        state(report, &counts, "FSNamesystem", last_tx, service.last_saved().0.0),
        status(report),
        blocks(report),
        json!({
            "name": format!("{PREFIX}ECBlockGroupsState"), "LowRedundancyECBlockGroups": 0, "CorruptECBlockGroups": 0,
            "MissingECBlockGroups": 0, "BytesInFutureECBlockGroups": 0, "PendingDeletionECBlocks": 0,
            "TotalECBlockGroups": 0, "HighestPriorityLowRedundancyECBlocks": 0, "EnabledEcPolicies": "",
        }),
    ]
}

/// Datanodes by what they do.
struct Counts {
    live: u64,
    dead: u64,
    serving: u64,
    decommissioning: u64,
    decommissioned: (u64, u64),
    entering: u64,
    maintained: (u64, u64),
    stale: u64,
    transfers: u64,
}

impl Counts {
    fn of(nodes: &[&Node]) -> Self {
        let count = |fits: &dyn Fn(&Node) -> bool| nodes.iter().filter(|node| fits(node)).count() as u64;
        let both = |state: AdminState| {
            (
                count(&|node| node.live && node.admin == state),
                count(&|node| !node.live && node.admin == state),
            )
        };
        Self {
            live: count(&|node| node.live),
            dead: count(&|node| !node.live),
            serving: count(&|node| node.live && node.admin.serves()),
            decommissioning: count(&|node| node.admin == AdminState::Decommissioning),
            decommissioned: both(AdminState::Decommissioned),
            entering: count(&|node| node.admin == AdminState::EnteringMaintenance),
            maintained: both(AdminState::InMaintenance),
            stale: count(&|node| node.stale),
            transfers: nodes.iter().map(|node| u64::from(node.active_transfers)).sum(),
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

fn info(service: &Service, report: &ClusterReport, nodes: &[&Node], last_tx: u64) -> Value {
    let (stats, now) = (&report.stats, service.now());
    let version = env!("CARGO_PKG_VERSION");
    let listed = |fits: &dyn Fn(&Node) -> bool, row: &dyn Fn(&Node) -> Value| {
        let mut map = Map::new();
        for node in nodes.iter().filter(|node| fits(node)) {
            map.insert(format!("{}:{}", node.host_name, node.data_port), row(node));
        }
        Value::Object(map).to_string()
    };
    json!({
        "name": format!("{PREFIX}NameNodeInfo"),
        "modelerType": "org.apache.hadoop.hdfs.server.namenode.FSNamesystem",
        "Version": version,
        "SoftwareVersion": version,
        "UpgradeFinalized": true,
        "RollingUpgradeStatus": null,
        "BlockPoolId": report.block_pool,
        "ClusterId": report.cluster_id,
        "Used": stats.used,
        "Free": stats.remaining,
        "Total": stats.capacity,
        "Safemode": report.safe_mode.clone().unwrap_or_default(),
        "NonDfsUsedSpace": stats.capacity.saturating_sub(stats.used).saturating_sub(stats.remaining),
        "PercentUsed": share(stats.used, stats.capacity),
        "BlockPoolUsedSpace": stats.used,
        "PercentBlockPoolUsed": share(stats.used, stats.capacity),
        "PercentRemaining": share(stats.remaining, stats.capacity),
        "CacheCapacity": 0,
        "CacheUsed": 0,
        "TotalBlocks": report.blocks,
        "NumberOfMissingBlocks": stats.missing,
        "NumberOfMissingBlocksWithReplicationFactorOne": stats.missing_single,
        "HighestPriorityLowRedundancyReplicatedBlocks": stats.endangered,
        "HighestPriorityLowRedundancyECBlocks": 0,
        "LiveNodes": listed(&|node| node.live, &|node| live_row(node, now)),
        "DeadNodes": listed(&|node| !node.live, &|node| dead_row(node, now)),
        "DecomNodes": listed(&|node| node.admin == AdminState::Decommissioning, &leaving_row),
        "EnteringMaintenanceNodes": listed(&|node| node.admin == AdminState::EnteringMaintenance, &leaving_row),
        "JournalTransactionInfo": json!({
            "LastAppliedOrWrittenTxId": last_tx.to_string(),
            "MostRecentCheckpointTxId": service.last_saved().0.0.to_string(),
        }).to_string(),
        "NNStartedTimeInMillis": report.started.0,
        "CorruptFiles": "[]",
        "CorruptFilesCount": stats.missing,
        "DistinctVersionCount": versions(nodes).len(),
        "DistinctVersions": versions(nodes),
        "NumberOfSnapshottableDirs": 0,
    })
}

fn versions(nodes: &[&Node]) -> Vec<Value> {
    let mut found: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    for node in nodes.iter().filter(|node| node.live) {
        *found.entry(node.version.as_str()).or_default() += 1;
    }
    found.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

fn seconds(since: Millis, now: Millis) -> u64 {
    now.0.saturating_sub(since.0) / 1_000
}

const fn admin(node: &Node) -> &'static str {
    match node.admin {
        AdminState::Normal => "In Service",
        AdminState::Decommissioning => "Decommission In Progress",
        AdminState::Decommissioned => "Decommissioned",
        AdminState::EnteringMaintenance => "Entering Maintenance",
        AdminState::InMaintenance => "In Maintenance",
    }
}

fn live_row(node: &Node, now: Millis) -> Value {
    json!({
        "infoAddr": format!("{}:{}", node.ip, node.http_port),
        "infoSecureAddr": format!("{}:0", node.ip),
        "xferaddr": format!("{}:{}", node.ip, node.data_port),
        "location": node.rack,
        "lastContact": seconds(node.last_heartbeat, now),
        "usedSpace": node.used,
        "adminState": admin(node),
        "nonDfsUsedSpace": node.capacity.saturating_sub(node.used).saturating_sub(node.remaining),
        "capacity": node.capacity,
        "numBlocks": node.blocks,
        "version": node.version,
        "used": node.used,
        "remaining": node.remaining,
        "blockScheduled": 0,
        "blockPoolUsed": node.used,
        "blockPoolUsedPercent": share(node.used, node.capacity),
        "volfails": 0,
        // In minutes.
        "lastBlockReport": seconds(node.last_block_report, now) / 60,
    })
}

fn dead_row(node: &Node, now: Millis) -> Value {
    json!({
        "lastContact": seconds(node.last_heartbeat, now),
        "decommissioned": node.admin == AdminState::Decommissioned,
        "adminState": admin(node),
        "xferaddr": format!("{}:{}", node.ip, node.data_port),
        "location": node.rack,
    })
}

fn leaving_row(node: &Node) -> Value {
    json!({
        "xferaddr": format!("{}:{}", node.ip, node.data_port),
        "location": node.rack,
        "underReplicatedBlocks": node.lacking.blocks,
        "decommissionOnlyReplicas": node.lacking.only_here,
        "underReplicateInOpenFiles": node.lacking.open,
    })
}

fn state(report: &ClusterReport, counts: &Counts, name: &str, last_tx: u64, saved: u64) -> Value {
    let stats = &report.stats;
    json!({
        "name": format!("{PREFIX}{name}"),
        "modelerType": "org.apache.hadoop.hdfs.server.namenode.FSNamesystem",
        "tag.HAState": "active",
        "FSState": if report.safe_mode.is_some() { "safeMode" } else { "Operational" },
        "CapacityTotal": stats.capacity,
        "CapacityUsed": stats.used,
        "CapacityRemaining": stats.remaining,
        "CapacityUsedNonDFS": stats.capacity.saturating_sub(stats.used).saturating_sub(stats.remaining),
        "TotalLoad": counts.transfers,
        "BlocksTotal": report.blocks,
        "FilesTotal": report.files + report.directories,
        "NumFilesUnderConstruction": report.open_files,
        "MissingBlocks": stats.missing,
        "MissingReplOneBlocks": stats.missing_single,
        "CorruptBlocks": stats.corrupt,
        "PendingReplicationBlocks": stats.pending_replication,
        "PendingReconstructionBlocks": stats.pending_replication,
        "UnderReplicatedBlocks": stats.under_replicated,
        "LowRedundancyBlocks": stats.under_replicated,
        "ScheduledReplicationBlocks": stats.pending_replication,
        "PendingDeletionBlocks": stats.pending_deletion,
        "HighestPriorityLowRedundancyReplicatedBlocks": stats.endangered,
        "LastWrittenTransactionId": last_tx,
        "TransactionsSinceLastCheckpoint": last_tx.saturating_sub(saved),
        "NumLiveDataNodes": counts.live,
        "NumDeadDataNodes": counts.dead,
        "NumDecomLiveDataNodes": counts.decommissioned.0,
        "NumDecomDeadDataNodes": counts.decommissioned.1,
        "NumDecommissioningDataNodes": counts.decommissioning,
        "NumInServiceLiveDataNodes": counts.serving,
        "NumInMaintenanceLiveDataNodes": counts.maintained.0,
        "NumInMaintenanceDeadDataNodes": counts.maintained.1,
        "NumEnteringMaintenanceDataNodes": counts.entering,
        "NumStaleDataNodes": counts.stale,
        "StaleDataNodes": counts.stale,
        "SnapshottableDirectories": 0,
        "Snapshots": 0,
        "NumEncryptionZones": 0,
        "PendingSPSPaths": 0,
    })
}

fn status(report: &ClusterReport) -> Value {
    json!({
        "name": format!("{PREFIX}NameNodeStatus"),
        "modelerType": "org.apache.hadoop.hdfs.server.namenode.NameNode",
        "NNRole": "NameNode",
        "State": "active",
        "SecurityEnabled": false,
        "LastHATransitionTime": 0,
        "NNStartedTimeInMillis": report.started.0,
    })
}

fn blocks(report: &ClusterReport) -> Value {
    let stats = &report.stats;
    json!({
        "name": format!("{PREFIX}ReplicatedBlocksState"),
        "LowRedundancyReplicatedBlocks": stats.under_replicated,
        "CorruptReplicatedBlocks": stats.corrupt,
        "MissingReplicatedBlocks": stats.missing,
        "MissingReplicationOneBlocks": stats.missing_single,
        "HighestPriorityLowRedundancyReplicatedBlocks": stats.endangered,
        "BytesInFutureReplicatedBlocks": 0,
        "PendingDeletionReplicatedBlocks": stats.pending_deletion,
        "TotalReplicatedBlocks": report.blocks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_stars() {
        for (pattern, name, yes) in [
            ("Hadoop:service=NameNode,name=X", "Hadoop:service=NameNode,name=X", true),
            ("Hadoop:service=NameNode,name=X", "Hadoop:service=NameNode,name=XY", false),
            ("Hadoop:*", "Hadoop:service=NameNode,name=X", true),
            ("*:*", "Hadoop:service=NameNode,name=X", true),
            ("Hadoop:service=*,name=FS*", "Hadoop:service=NameNode,name=FSNamesystem", true),
            ("Hadoop:service=*,name=FS*State", "Hadoop:service=NameNode,name=FSNamesystem", false),
            ("java.lang:*", "Hadoop:service=NameNode,name=X", false),
        ] {
            assert_eq!(fits(pattern, name), yes, "{pattern} {name}");
        }
    }

    #[test]
    fn a_bean_or_one_of_its_attributes_is_chosen() {
        let beans = || vec![json!({ "name": "a:b=c", "X": 1, "Y": 2 }), json!({ "name": "a:b=d" })];
        assert_eq!(chosen(beans(), None, None).len(), 2);
        assert_eq!(chosen(beans(), Some("a:b=c"), None).len(), 1);
        assert_eq!(chosen(beans(), None, Some("a:b=c::Y")), [json!({ "name": "a:b=c", "Y": 2 })]);
        assert!(chosen(beans(), None, Some("a:b=c::Z")).is_empty());
    }
}
