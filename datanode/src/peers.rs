//! Who reads: a peer on this datanode's own node, or one elsewhere.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use steadfs_common::IpRange;

/// Most addresses of this node that are kept: as many as the namenode tells.
const MAX_PEERS: usize = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the label's values")]
enum Where {
    local,
    remote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabel {
    peer: Where,
}

/// Whose addresses are on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Here {
    addresses: BTreeSet<IpAddr>,
    ranges: Vec<IpRange>,
}

impl Here {
    fn holds(&self, ip: IpAddr) -> bool {
        self.addresses.contains(&ip) || self.ranges.iter().any(|range| range.holds(ip))
    }
}

/// Bytes sent to readers by where they are. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct PeerMetrics {
    served: Family<PeerLabel, Counter>,
    here: Arc<RwLock<Here>>,
}

impl PeerMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        // Both are there from the start, so that a rate can be taken of either.
        for peer in [Where::local, Where::remote] {
            drop(self.served.get_or_create(&PeerLabel { peer }));
        }
        let help = "Bytes of blocks sent to readers, by whether they are on this datanode's node";
        registry.register("datanode_served_bytes", help, self.served.clone());
    }

    /// The addresses of the pods on this node, and ranges of such, as the namenode tells them. What is neither is passed
    /// over.
    pub(crate) fn on_this_node(&self, told: &[String]) {
        let told = || told.iter().take(MAX_PEERS);
        let addresses = told().filter_map(|text| text.parse::<IpAddr>().ok());
        let new = Here {
            addresses: addresses.map(|ip| ip.to_canonical()).collect(),
            ranges: told().filter_map(|text| text.parse().ok()).collect(),
        };
        if *self.here.read() != new {
            *self.here.write() = new;
        }
    }

    /// Counts bytes sent to `peer`; `own` is this datanode's address.
    pub(crate) fn served(&self, peer: IpAddr, own: IpAddr, bytes: u64) {
        let peer = peer.to_canonical();
        let local = peer == own.to_canonical() || self.here.read().holds(peer);
        let label = PeerLabel { peer: if local { Where::local } else { Where::remote } };
        self.served.get_or_create(&label).inc_by(bytes);
    }

    #[cfg(test)]
    fn counts(&self) -> (u64, u64) {
        let of = |peer| self.served.get_or_create(&PeerLabel { peer }).get();
        (of(Where::local), of(Where::remote))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn bytes_count_by_the_readers_node_and_else_by_its_address() {
        let (peers, own) = (PeerMetrics::default(), ip("10.0.0.1"));
        peers.served(own, own, 1);
        peers.served(ip("::ffff:10.0.0.1"), own, 2);
        peers.served(ip("10.0.0.2"), own, 10);
        assert_eq!(peers.counts(), (3, 10));
        peers.on_this_node(&["10.0.0.2".into(), "nonsense".into()]);
        peers.served(ip("10.0.0.2"), own, 100);
        peers.served(own, own, 4);
        assert_eq!(peers.counts(), (107, 10));
        peers.on_this_node(&[]);
        peers.served(ip("10.0.0.2"), own, 1_000);
        assert_eq!(peers.counts(), (107, 1_010));
        peers.on_this_node(&["10.0.0.0/24".into()]);
        peers.served(ip("::ffff:10.0.0.77"), own, 10_000);
        peers.served(ip("10.0.1.77"), own, 100_000);
        assert_eq!(peers.counts(), (10_107, 101_010));
    }

    #[test]
    fn both_counts_are_shown_from_the_start() {
        let mut registry = Registry::default();
        PeerMetrics::default().register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("datanode_served_bytes_total{peer=\"local\"} 0"), "{text}");
        assert!(text.contains("datanode_served_bytes_total{peer=\"remote\"} 0"), "{text}");
    }
}
