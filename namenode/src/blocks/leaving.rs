//! What keeps datanodes from leaving, as Prometheus reads it: a line for each datanode that leaves or has left its service.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use steadfs_namenode_core::blocks::{AdminState, Lacking};

use super::{Blocks, Shared};
use crate::service::Node;

/// Which datanode, on which (Kubernetes) node, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Leaver {
    datanode: String,
    node: String,
    state: &'static str,
}

const fn state(admin: AdminState) -> Option<&'static str> {
    match admin {
        AdminState::Normal => None,
        AdminState::Decommissioning => Some("decommissioning"),
        AdminState::Decommissioned => Some("decommissioned"),
        AdminState::EnteringMaintenance => Some("entering_maintenance"),
        AdminState::InMaintenance => Some("in_maintenance"),
    }
}

type Number = fn(&Lacking) -> u64;

/// Name, help, and what it shows.
const GAUGES: [(&str, &str, Number); 3] = [
    (
        "namenode_leaving_blocks",
        "Complete blocks that still have too few replicas elsewhere, by datanode that leaves",
        |lacking| lacking.blocks,
    ),
    (
        "namenode_leaving_blocks_only_here",
        "Of these, blocks without any replica on a datanode that serves",
        |lacking| lacking.only_here,
    ),
    (
        "namenode_leaving_open_blocks",
        "Blocks of files that are being written and keep the datanode from leaving",
        |lacking| lacking.open,
    ),
];

/// None for a datanode that serves.
fn leaver(node: &Node) -> Option<(Leaver, Lacking)> {
    let datanode = format!("{}:{}", node.host_name, node.data_port);
    let leaver = Leaver { datanode, node: node.node.clone(), state: state(node.admin)? };
    Some((leaver, node.lacking))
}

fn encode(mut encoder: DescriptorEncoder<'_>, leavers: &[(Leaver, Lacking)]) -> fmt::Result {
    for (name, help, number) in GAUGES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (leaver, lacking) in leavers {
            let gauge = ConstGauge::new(i64::try_from(number(lacking)).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(leaver)?)?;
        }
    }
    Ok(())
}

/// Reads the picture of the datanodes when it is asked.
struct Leavers(Arc<Shared>);

impl fmt::Debug for Leavers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leavers")
    }
}

impl Collector for Leavers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let directory = self.0.directory.load();
        let leavers: Vec<_> = directory.reports.iter().filter_map(|report| leaver(&report.node)).collect();
        encode(encoder, &leavers)
    }
}

impl Blocks {
    /// Shows what keeps datanodes from leaving in `registry`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Leavers(self.shared.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct These(Vec<(Leaver, Lacking)>);

    impl Collector for These {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            super::encode(encoder, &self.0)
        }
    }

    #[test]
    fn who_leaves_is_shown_with_what_is_left_to_do() {
        assert_eq!(state(AdminState::Normal), None, "who serves is not shown");
        let of = |datanode: &str, admin, blocks, only_here, open| {
            let state = state(admin).unwrap();
            let leaver = Leaver { datanode: datanode.into(), node: "worker-1".into(), state };
            (leaver, Lacking { blocks, only_here, open })
        };
        let leavers = vec![
            of("dn-2:9866", AdminState::Decommissioning, 7, 3, 1),
            of("dn-3:9866", AdminState::InMaintenance, 0, 0, 0),
        ];
        let mut registry = Registry::with_prefix("steadfs");
        registry.register_collector(Box::new(These(leavers)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let second = r#"{datanode="dn-2:9866",node="worker-1",state="decommissioning"}"#;
        let third = r#"{datanode="dn-3:9866",node="worker-1",state="in_maintenance"}"#;
        for line in [
            format!("steadfs_namenode_leaving_blocks{second} 7"),
            format!("steadfs_namenode_leaving_blocks_only_here{second} 3"),
            format!("steadfs_namenode_leaving_open_blocks{second} 1"),
            format!("steadfs_namenode_leaving_blocks{third} 0"),
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }
}
