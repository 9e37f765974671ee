//! The datanodes at one moment, as replies name them and placement sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use steadfs_common::{DatanodeUuid, StorageId, StorageType};
use steadfs_namenode_core::blocks::{BlockMap, Datanode, Storage};
use steadfs_namenode_core::placement::Topology;

use crate::service::{Location, Node, NodeReport, StorageReport};

/// Immutable; a new one is published every round.
#[derive(Default)]
pub(super) struct Directory {
    pub(super) topology: Arc<Topology>,
    pub(super) reports: Vec<NodeReport>,
    storages: BTreeMap<StorageId, (Arc<Node>, StorageType)>,
}

fn report_of(storage: &Storage) -> StorageReport {
    let report = &storage.report;
    StorageReport {
        storage: report.id,
        kind: report.kind,
        failed: report.failed,
        capacity: report.capacity,
        used: report.used,
        remaining: report.remaining,
        blocks: storage.blocks,
    }
}

fn node_of(map: &BlockMap, node: &Datanode, storages: &[StorageReport], topology: &Topology) -> Node {
    let machine = storages.iter().find_map(|storage| topology.machine_of(storage.storage));
    let sum = |what: fn(&StorageReport) -> u64| {
        storages.iter().filter(|storage| !storage.failed).map(what).fold(0, u64::saturating_add)
    };
    Node {
        uuid: node.uuid,
        ip: node.address.ip,
        host_name: node.address.host.clone(),
        data_port: node.address.data_port,
        ipc_port: node.address.ipc_port,
        http_port: node.address.http_port,
        rack: node.rack.to_string(),
        version: node.version.clone(),
        node: node.node.clone(),
        live: node.live,
        admin: node.admin,
        lacking: map.lacking_of(node.uuid),
        stale: machine.is_some_and(|machine| machine.stale),
        slow: node.slow,
        latency: node.latency,
        capacity: sum(|storage| storage.capacity),
        used: sum(|storage| storage.used),
        remaining: sum(|storage| storage.remaining),
        last_heartbeat: node.last_heartbeat,
        last_block_report: node.last_report,
        active_transfers: node.active_transfers,
        blocks: sum(|storage| storage.blocks),
    }
}

impl Directory {
    pub(super) fn of(map: &BlockMap) -> Self {
        let mut directory = Self { topology: map.topology(), ..Self::default() };
        for (node, storages) in map.datanodes().iter() {
            let mut storages: Vec<StorageReport> = storages.map(report_of).collect();
            storages.sort_by_key(|storage| storage.storage);
            let node = Arc::new(node_of(map, node, &storages, &directory.topology));
            let places = storages.iter().map(|storage| (storage.storage, (Arc::clone(&node), storage.kind)));
            directory.storages.extend(places);
            directory.reports.push(NodeReport { node, storages });
        }
        directory
    }

    /// The (Kubernetes) node of a datanode; empty if it told none.
    pub(super) fn node_name(&self, uuid: DatanodeUuid) -> Option<String> {
        let at = self.reports.binary_search_by_key(&uuid, |report| report.node.uuid).ok()?;
        Some(self.reports[at].node.node.clone()).filter(|name| !name.is_empty())
    }

    /// The place that a storage is, if it is known.
    pub(super) fn location(&self, storage: StorageId) -> Option<Location> {
        let (node, kind) = self.storages.get(&storage)?;
        Some(Location { node: Arc::clone(node), storage, kind: *kind })
    }

    pub(super) fn locations(&self, storages: &[StorageId]) -> Vec<Location> {
        storages.iter().filter_map(|storage| self.location(*storage)).collect()
    }
}
