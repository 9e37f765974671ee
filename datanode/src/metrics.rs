//! What the operators' port counts beside the data server.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use steadfs_datanode_store::VolumeStatus;

/// A volume, in labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VolumeLabel {
    storage: String,
}

/// Counts of the link to the namenode, and how the volumes were at the last heartbeat.
#[derive(Clone, Default)]
pub(crate) struct LinkMetrics {
    pub(crate) heartbeats: Counter,
    pub(crate) heartbeats_failed: Counter,
    pub(crate) reports: Counter,
    pub(crate) changes: Counter,
    pub(crate) bad_replicas: Counter,
    capacity: Family<VolumeLabel, Gauge>,
    used: Family<VolumeLabel, Gauge>,
    remaining: Family<VolumeLabel, Gauge>,
    blocks: Family<VolumeLabel, Gauge>,
    failed: Family<VolumeLabel, Gauge>,
}

impl LinkMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let counters = [
            ("datanode_heartbeats", "Heartbeats that the namenode answered", &self.heartbeats),
            ("datanode_heartbeat_failures", "Heartbeats without a good answer", &self.heartbeats_failed),
            ("datanode_block_reports", "Full reports of all replicas", &self.reports),
            ("datanode_block_changes", "Changes of replicas told to the namenode", &self.changes),
            ("datanode_bad_replicas", "Replicas found bad and reported", &self.bad_replicas),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let gauges = [
            ("datanode_volume_capacity_bytes", "Bytes that may be used in all", &self.capacity),
            ("datanode_volume_used_bytes", "Bytes of replicas and their checksums", &self.used),
            ("datanode_volume_remaining_bytes", "Bytes that can still be stored", &self.remaining),
            ("datanode_volume_blocks", "Replicas", &self.blocks),
            ("datanode_volume_failed", "1 if the volume has failed", &self.failed),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
    }

    pub(crate) fn volumes(&self, volumes: &[VolumeStatus]) {
        for volume in volumes {
            let label = VolumeLabel { storage: volume.storage.to_string() };
            let figures = [
                (&self.capacity, volume.capacity),
                (&self.used, volume.used),
                (&self.remaining, volume.remaining),
                (&self.blocks, volume.blocks),
                (&self.failed, u64::from(volume.failed)),
            ];
            for (gauge, figure) in figures {
                gauge.get_or_create(&label).set(i64::try_from(figure).unwrap_or(i64::MAX));
            }
        }
    }
}
