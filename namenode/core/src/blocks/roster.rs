//! Which datanodes an operator admits, and which of them shall leave.

use std::collections::BTreeMap;
use std::net::IpAddr;

use steadfs_common::{DatanodeUuid, Millis};

use super::nodes::Address;

/// What an operator wants of a datanode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Wish {
    /// That it serves.
    #[default]
    InService,
    /// That it can be taken away for good.
    Decommission,
    /// That it can be down for a while.
    Maintenance {
        /// When it shall serve again without being told; none for "when told".
        until: Option<Millis>,
    },
}

impl Wish {
    /// What it means at a time: maintenance may be over.
    #[must_use]
    pub fn at(self, now: Millis) -> Self {
        match self {
            Self::Maintenance { until: Some(until) } if until <= now => Self::InService,
            other => other,
        }
    }

    /// Of two wishes, the one that takes the datanode further out of service.
    fn further(self, other: Self) -> Self {
        match (self, other) {
            (Self::Decommission, _) | (_, Self::Decommission) => Self::Decommission,
            (Self::Maintenance { until: one }, Self::Maintenance { until: two }) => {
                Self::Maintenance { until: one.zip(two).map(|(one, two)| one.max(two)) }
            }
            (Self::Maintenance { until }, Self::InService)
            | (Self::InService, Self::Maintenance { until }) => Self::Maintenance { until },
            (Self::InService, Self::InService) => Self::InService,
        }
    }
}

/// A datanode, or all datanodes of a host, as a hosts file names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name or literal address, in lower case.
    pub name: String,
    /// What the name resolved to.
    pub addresses: Vec<IpAddr>,
    /// The port of the data-transfer protocol; none for any.
    pub port: Option<u16>,
}

impl Host {
    /// Whether a datanode with this address, on this (Kubernetes) node, is meant.
    #[must_use]
    pub fn names(&self, address: &Address, node: &str) -> bool {
        self.port.is_none_or(|port| port == address.data_port)
            && (self.addresses.contains(&address.ip)
                || self.name.eq_ignore_ascii_case(&address.host)
                || (!node.is_empty() && self.name.eq_ignore_ascii_case(node)))
    }
}

/// The operator's list. An empty one admits everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Who is admitted; empty for everybody.
    pub included: Vec<Host>,
    /// What is wanted of some hosts; the first that names a datanode counts.
    pub hosts: Vec<(Host, Wish)>,
    /// What is wanted of single datanodes besides.
    pub named: BTreeMap<DatanodeUuid, Wish>,
    /// What is wanted of all datanodes of a (Kubernetes) node besides: it is cordoned. Not kept: who watches the nodes
    /// tells it again.
    pub cordoned: BTreeMap<String, Wish>,
}

impl Roster {
    /// What is wanted of a datanode; none if it is not admitted.
    #[must_use]
    pub fn judge(&self, uuid: DatanodeUuid, address: &Address, node: &str) -> Option<Wish> {
        let admitted = self.included.is_empty() || self.included.iter().any(|host| host.names(address, node));
        if !admitted {
            return None;
        }
        let by_host = self.hosts.iter().find(|(host, _)| host.names(address, node)).map(|(_, wish)| *wish);
        let by_name = self.named.get(&uuid).copied();
        let by_node = self.cordoned.get(node).copied();
        Some(
            by_host
                .unwrap_or_default()
                .further(by_name.unwrap_or_default())
                .further(by_node.unwrap_or_default()),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(last: u8) -> Address {
        let ip = Ipv4Addr::new(10, 0, 0, last).into();
        Address { ip, host: format!("dn{last}.example"), data_port: 9866, ipc_port: 9867, http_port: 0 }
    }

    fn host(name: &str, port: Option<u16>) -> Host {
        Host { name: name.into(), addresses: name.parse().into_iter().collect(), port }
    }

    fn uuid(last: u8) -> DatanodeUuid {
        format!("00000000-0000-0000-0000-{last:012}").parse().unwrap()
    }

    #[test]
    fn an_empty_list_admits_everybody() {
        assert_eq!(Roster::default().judge(uuid(1), &address(1), ""), Some(Wish::InService));
    }

    #[test]
    fn hosts_are_named_by_address_name_or_node_and_port() {
        let listed = |host: Host| Roster { included: vec![host], ..Roster::default() };
        for (host, named) in [
            (host("10.0.0.1", None), true),
            (host("10.0.0.2", None), false),
            (host("DN1.example", None), true),
            (host("worker-7", None), true),
            (host("10.0.0.1", Some(9866)), true),
            (host("10.0.0.1", Some(9)), false),
        ] {
            let judged = listed(host.clone()).judge(uuid(1), &address(1), "worker-7");
            assert_eq!(judged.is_some(), named, "{host:?}");
        }
    }

    #[test]
    fn the_wish_that_goes_further_counts_and_maintenance_ends() {
        let until = Some(Millis(50));
        let mut roster = Roster {
            hosts: vec![(host("10.0.0.1", None), Wish::Maintenance { until })],
            ..Roster::default()
        };
        let judged = roster.judge(uuid(1), &address(1), "").unwrap();
        assert_eq!((judged.at(Millis(49)), judged.at(Millis(50))), (judged, Wish::InService));
        roster.named.insert(uuid(1), Wish::Decommission);
        assert_eq!(roster.judge(uuid(1), &address(1), ""), Some(Wish::Decommission));
        roster.named.insert(uuid(1), Wish::Maintenance { until: None });
        assert_eq!(roster.judge(uuid(1), &address(1), ""), Some(Wish::Maintenance { until: None }));
        assert_eq!(roster.judge(uuid(2), &address(2), ""), Some(Wish::InService));
    }
}
