//! What datanodes say of their volumes for operators: kept as it came, and given back in the cluster's report. Nothing is
//! decided by it.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use steadfs_namenode_core::blocks::{MAX_DATANODES, MAX_VOLUMES};
use steadfs_proto::steadfs as pb;

/// Longest text that is kept of a volume, in characters.
const MAX_TEXT: usize = 512;

/// What each datanode said last, by its uuid.
#[derive(Default)]
pub(super) struct Health {
    nodes: Mutex<BTreeMap<String, NodeHealth>>,
}

#[derive(Default)]
struct NodeHealth {
    volumes: Vec<pb::VolumeHealth>,
    failures: Vec<pb::VolumeFailure>,
}

fn cut(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(at);
    }
}

impl Health {
    /// Keeps what a datanode says.
    pub(super) fn note(
        &self,
        uuid: &str,
        mut volumes: Vec<pb::VolumeHealth>,
        mut failures: Vec<pb::VolumeFailure>,
    ) {
        volumes.truncate(MAX_VOLUMES);
        failures.truncate(MAX_VOLUMES);
        for volume in &mut volumes {
            cut(&mut volume.path);
            cut(&mut volume.storage_id);
        }
        for failure in &mut failures {
            cut(&mut failure.path);
            cut(&mut failure.storage_id);
            cut(&mut failure.why);
        }
        let mut nodes = self.nodes.lock();
        if nodes.len() < MAX_DATANODES || nodes.contains_key(uuid) {
            nodes.insert(uuid.to_owned(), NodeHealth { volumes, failures });
        }
    }

    /// Adds it to a report.
    pub(super) fn add_to(&self, report: &mut pb::ClusterReport) {
        let nodes = self.nodes.lock();
        for datanode in &mut report.datanodes {
            let known = datanode.address.as_ref().and_then(|address| nodes.get(&address.uuid));
            let Some(known) = known else { continue };
            datanode.failures.clone_from(&known.failures);
            for storage in &mut datanode.storages {
                let mut volumes = known.volumes.iter();
                storage.health = volumes.find(|volume| volume.storage_id == storage.storage_id).cloned();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_told_and_bounded() {
        let health = Health::default();
        let volume =
            |id: &str| pb::VolumeHealth { storage_id: id.into(), bad: 7, ..pb::VolumeHealth::default() };
        let failure = pb::VolumeFailure { why: "é".repeat(2 * MAX_TEXT), ..pb::VolumeFailure::default() };
        health.note("u", vec![volume("a"), volume("b")], vec![failure; MAX_VOLUMES + 1]);
        let storage = |id: &str| pb::StorageReport { storage_id: id.into(), ..pb::StorageReport::default() };
        let node = |uuid: &str| pb::DatanodeReport {
            address: Some(pb::DatanodeAddress { uuid: uuid.into(), ..pb::DatanodeAddress::default() }),
            storages: vec![storage("b"), storage("c")],
            ..pb::DatanodeReport::default()
        };
        let mut report =
            pb::ClusterReport { datanodes: vec![node("u"), node("v")], ..pb::ClusterReport::default() };
        health.add_to(&mut report);
        let [known, other] = &report.datanodes[..] else { panic!() };
        assert_eq!(known.storages[0].health.as_ref().map(|volume| volume.bad), Some(7));
        assert!(known.storages[1].health.is_none() && other.storages[0].health.is_none());
        assert_eq!((known.failures.len(), other.failures.len()), (MAX_VOLUMES, 0));
        assert_eq!(known.failures[0].why.chars().count(), MAX_TEXT);
    }
}
