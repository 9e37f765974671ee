//! What is kept of each object.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use steadfs_common::IpRange;
use steadfs_namenode_core::locality::{MAX_POD_ADDRESSES, Role};

use super::objects::{NodeObject, PodObject, PodSpec, SpaceObject};

/// On a pod or a namespace: `"false"` leaves the names of datanodes as they are.
const OPT_OUT: &str = "steadfs.dev/locality";
/// Labels that Spark gives to its pods.
const APPLICATION: &str = "spark-app-selector";
const ROLE: &str = "spark-role";
const INACTIVE: &str = "spark-exec-inactive";
/// The variable by which an executor finds its driver: `spark://CoarseGrainedScheduler@host:port`.
const DRIVER_URL: &str = "SPARK_DRIVER_URL";
/// Taints of nodes that are about to be removed for good, by the cluster autoscaler and by Karpenter.
const REMOVAL_TAINTS: [&str; 3] =
    ["ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted", "karpenter.sh/disruption"];
/// Most owners of a pod that are looked at.
const MAX_OWNERS: usize = 8;
/// In a rack's name, for a label that a node does not have while it has others.
const UNLABELLED: &str = "unlabelled";

/// A pod that may call or be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodFacts {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) node: String,
    /// The one that it calls itself by first; at least one.
    pub(super) ips: Vec<IpAddr>,
    pub(super) host_network: bool,
    /// The application's id by Spark's label; empty for none.
    pub(super) application: String,
    pub(super) role: Role,
    /// It gets no more work: it ends, or Spark took it out.
    pub(super) leaves: bool,
    /// The uids of its owners.
    pub(super) owners: Vec<String>,
    /// Of an executor: the host of its driver; empty if that is not known.
    pub(super) driver: String,
    pub(super) opted_out: bool,
    /// When it was made, in seconds.
    pub(super) made: i64,
}

/// Whether a node stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// Nothing else is known.
    Stays,
    /// It is cordoned: it is about to be drained, and comes back.
    Cordoned,
    /// It is about to be removed.
    Removed,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeFacts {
    pub(super) name: String,
    pub(super) ips: Vec<IpAddr>,
    /// Out of which its pods are said to have their addresses.
    pub(super) ranges: Vec<IpRange>,
    pub(super) rack: Option<Arc<str>>,
    pub(super) stay: Stay,
}

/// What tells an object from all others of its kind.
pub(super) trait Watched: Sized {
    /// What is kept of it.
    type Facts: PartialEq + Send;

    fn uid(&self) -> String;

    /// What is kept; none if it does not matter (any more). `labels` are those that make a node's rack.
    fn facts(self, labels: &[String]) -> Option<Self::Facts>;
}

fn opts_out(annotations: Option<&BTreeMap<String, String>>) -> bool {
    annotations.and_then(|all| all.get(OPT_OUT)).is_some_and(|value| value.eq_ignore_ascii_case("false"))
}

/// Addresses in the order given, each once.
fn addresses<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<IpAddr> {
    let mut ips = Vec::new();
    for ip in texts.filter_map(|text| text.parse::<IpAddr>().ok()).map(|ip| ip.to_canonical()) {
        if !ips.contains(&ip) && ips.len() < MAX_POD_ADDRESSES {
            ips.push(ip);
        }
    }
    ips
}

/// The host in `spark://name@host:port`, without the brackets of an address of version 6.
fn driver_host(spec: &PodSpec) -> Option<String> {
    let variables = spec.containers.iter().flatten().flat_map(|container| container.env.iter().flatten());
    let url =
        variables.filter(|variable| variable.name == DRIVER_URL).find_map(|url| url.value.as_deref())?;
    let place = url.rsplit_once('@').map_or(url, |(_, place)| place);
    let host = place.rsplit_once(':')?.0;
    Some(host.trim_start_matches('[').trim_end_matches(']').to_owned()).filter(|host| !host.is_empty())
}

impl Watched for PodObject {
    type Facts = PodFacts;

    fn uid(&self) -> String {
        self.metadata.uid.clone().unwrap_or_default()
    }

    /// None for a pod that has no node or address yet, or has ended: its address may be another's by now.
    fn facts(self, _labels: &[String]) -> Option<PodFacts> {
        let Self { metadata, spec, status } = self;
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let label = |key: &str| metadata.labels.as_ref().and_then(|all| all.get(key)).map(String::as_str);
        let ips = addresses(
            status
                .pod_ip
                .iter()
                .map(String::as_str)
                .chain(status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str())),
        );
        let role = match label(ROLE) {
            Some("driver") => Role::Driver,
            Some("executor") => Role::Executor,
            _ => Role::Other,
        };
        let facts = PodFacts {
            uid: metadata.uid.clone().unwrap_or_default(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            node: spec.node_name.clone().unwrap_or_default(),
            ips,
            host_network: spec.host_network == Some(true),
            application: label(APPLICATION).unwrap_or_default().to_owned(),
            role,
            leaves: metadata.deletion_timestamp.is_some() || label(INACTIVE) == Some("true"),
            owners: metadata
                .owner_references
                .iter()
                .flatten()
                .take(MAX_OWNERS)
                .map(|owner| owner.uid.clone())
                .collect(),
            driver: if role == Role::Executor {
                driver_host(&spec).unwrap_or_default()
            } else {
                String::new()
            },
            opted_out: opts_out(metadata.annotations.as_ref()),
            made: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
        };
        let known = !facts.uid.is_empty() && !facts.node.is_empty() && !facts.ips.is_empty();
        known.then_some(facts)
    }
}

/// `/zone-a/rack-1` of the labels' values; none if the node has none of them.
fn rack(labels: Option<&BTreeMap<String, String>>, keys: &[String]) -> Option<Arc<str>> {
    let values: Vec<Option<&String>> = keys.iter().map(|key| labels?.get(key)).collect();
    let value = |value: Option<&String>| value.map_or(UNLABELLED, String::as_str).to_owned();
    let told = values.iter().flatten().any(|value| !value.is_empty());
    told.then(|| {
        let levels: Vec<String> =
            values.into_iter().map(|found| value(found.filter(|value| !value.is_empty()))).collect();
        format!("/{}", levels.join("/")).into()
    })
}

impl Watched for NodeObject {
    type Facts = NodeFacts;

    fn uid(&self) -> String {
        self.metadata.uid.clone().unwrap_or_default()
    }

    fn facts(self, labels: &[String]) -> Option<NodeFacts> {
        let Self { metadata, spec, status } = self;
        let mut taints = spec.taints.iter().flatten();
        let stay = if taints.any(|taint| REMOVAL_TAINTS.contains(&taint.key.as_str())) {
            Stay::Removed
        } else if spec.unschedulable == Some(true) {
            Stay::Cordoned
        } else {
            Stay::Stays
        };
        Some(NodeFacts {
            name: metadata.name.filter(|name| !name.is_empty())?,
            ips: addresses(status.addresses.iter().flatten().map(|address| address.address.as_str())),
            ranges: {
                let mut ranges: Vec<IpRange> = (spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr))
                    .filter_map(|text| text.parse().ok())
                    .take(MAX_POD_ADDRESSES)
                    .collect();
                ranges.sort_unstable();
                ranges.dedup();
                ranges
            },
            rack: rack(metadata.labels.as_ref(), labels),
            stay,
        })
    }
}

/// The name of a namespace that opted out; others do not matter.
impl Watched for SpaceObject {
    type Facts = String;

    fn uid(&self) -> String {
        self.metadata.uid.clone().unwrap_or_default()
    }

    fn facts(self, _labels: &[String]) -> Option<String> {
        self.metadata.name.filter(|_| opts_out(self.metadata.annotations.as_ref()))
    }
}
