//! Who runs where.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use steadfs_common::{BlockId, IpRange};

/// Most addresses of one pod, or of one node.
pub const MAX_POD_ADDRESSES: usize = 16;
/// Most ranges of a node that are looked at.
const MAX_RANGES: usize = 16;

/// What a pod is to its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Role {
    /// It plans, and asks where data is.
    Driver,
    /// It runs tasks: it is who is named.
    Executor,
    /// Anything else.
    #[default]
    Other,
}

/// A pod, or whatever stands for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// What tells it from all others, for as long as it lives.
    pub id: String,
    /// Its addresses, the one that it calls itself by first.
    pub ips: Vec<IpAddr>,
    /// The node it runs on.
    pub node: String,
    /// It is in its node's network: who calls from its address may be anybody on the node.
    pub host_network: bool,
    /// The application that it belongs to; empty for none.
    pub application: String,
    /// Another application whose blocks it is named for too; empty for none.
    pub also_for: String,
    /// What it is to the application.
    pub role: Role,
    /// Its clients dial host names, so it and its application must hear those of datanodes.
    pub opted_out: bool,
}

/// A node as far as it is known beside its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNode {
    /// Its name, as datanodes tell it.
    pub name: String,
    /// Its own addresses.
    pub ips: Vec<IpAddr>,
    /// The ranges out of which its pods are said to have their addresses.
    pub ranges: Vec<IpRange>,
    /// Its rack, beginning with `/`; none if that is not known.
    pub rack: Option<Arc<str>>,
}

/// Why pods make no picture. The sentence names the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodError(String);

impl fmt::Display for PodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PodError {}

/// An executor as blocks choose among them.
#[derive(Clone, Debug)]
pub(super) struct Executor {
    host: String,
    seed: u64,
}

impl Executor {
    /// How much the block likes this executor. Each block likes another one most (rendezvous hashing).
    pub(super) fn rank(&self, block: BlockId) -> u64 {
        mix(self.seed ^ mix(block.0))
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }
}

/// Who calls from an address.
#[derive(Clone, Debug)]
struct Place {
    node: String,
    /// It is the node's own address.
    host: bool,
    application: String,
    role: Role,
    opted_out: bool,
}

/// All pods and nodes at one moment. Immutable.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    places: BTreeMap<IpAddr, Place>,
    /// By application and node.
    executors: BTreeMap<String, BTreeMap<String, Vec<Executor>>>,
    opted_out: BTreeSet<String>,
    by_node: BTreeMap<String, Vec<IpAddr>>,
    racks: BTreeMap<String, Arc<str>>,
    /// Ranges of pods' addresses and their nodes, by the lowest address.
    ranges: BTreeMap<IpAddr, (IpRange, String)>,
    pods: usize,
}

/// A caller whose pod is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader<'a> {
    /// The node that it runs on.
    pub node: &'a str,
    /// What it is to its application.
    pub role: Role,
    /// Its application, if that wants pods' names.
    application: Option<&'a str>,
}

impl<'a> Reader<'a> {
    /// Its application, if it has one that wants to hear pods' names.
    #[must_use]
    pub const fn application(&self) -> Option<&'a str> {
        self.application
    }
}

impl Pods {
    /// The picture of these pods.
    ///
    /// # Errors
    /// A pod has no id, address or node, or too many addresses; two have the same id; one address is on two nodes.
    pub fn new(pods: Vec<Pod>) -> Result<Self, PodError> {
        let mut picture = Self { pods: pods.len(), ..Self::default() };
        let mut ids = BTreeSet::new();
        for pod in pods {
            let wrong = |what: &str| Err(PodError(format!("pod `{}` {what}", pod.id)));
            if pod.id.is_empty() {
                return Err(PodError(format!("a pod on node `{}` has no id", pod.node)));
            }
            if !ids.insert(pod.id.clone()) {
                return wrong("is there twice");
            }
            if pod.node.is_empty() {
                return wrong("has no node");
            }
            if pod.ips.is_empty() || pod.ips.len() > MAX_POD_ADDRESSES {
                return wrong(&format!("has {} addresses, not 1 to {MAX_POD_ADDRESSES}", pod.ips.len()));
            }
            picture.put(&pod)?;
        }
        Ok(picture)
    }

    /// The same picture with what is known of nodes. Whoever calls from a node's own address is on that node, and of no
    /// application; so is a pod that is not known yet, if its address is in a range of the node's that is believed.
    #[must_use]
    pub fn with_nodes(mut self, nodes: Vec<HostNode>) -> Self {
        self.ranges = self.believed_ranges(&nodes);
        for node in nodes {
            for ip in node.ips.iter().map(IpAddr::to_canonical).take(MAX_POD_ADDRESSES) {
                let place = Place {
                    node: node.name.clone(),
                    host: true,
                    application: String::new(),
                    role: Role::Other,
                    opted_out: false,
                };
                if let Entry::Vacant(entry) = self.places.entry(ip) {
                    entry.insert(place);
                    self.by_node.entry(node.name.clone()).or_default().push(ip);
                }
            }
            if let Some(rack) = node.rack {
                self.racks.insert(node.name, rack);
            }
        }
        self
    }

    /// The ranges that the known pods agree with. A node tells a range even where something else gives pods their
    /// addresses: one is believed if a pod of the node is in it, and no pod of another.
    fn believed_ranges(&self, nodes: &[HostNode]) -> BTreeMap<IpAddr, (IpRange, String)> {
        let mut told: BTreeMap<IpAddr, (IpRange, &str)> = BTreeMap::new();
        let mut doubted = BTreeSet::new();
        for node in nodes {
            for range in node.ranges.iter().take(MAX_RANGES) {
                if told.insert(range.first(), (*range, &node.name)).is_some() {
                    doubted.insert(range.first());
                }
            }
        }
        let mut shown = BTreeSet::new();
        for (ip, place) in self.places.iter().filter(|(_, place)| !place.host) {
            if let Some((first, (_, node))) = find_range(&told, *ip) {
                let _ = if *node == place.node { shown.insert(*first) } else { doubted.insert(*first) };
            }
        }
        let believed =
            told.into_iter().filter(|(first, _)| shown.contains(first) && !doubted.contains(first));
        believed.map(|(first, (range, node))| (first, (range, node.to_owned()))).collect()
    }

    fn put(&mut self, pod: &Pod) -> Result<(), PodError> {
        let calls_as = if pod.host_network { "" } else { pod.application.as_str() };
        for ip in pod.ips.iter().map(IpAddr::to_canonical) {
            match self.places.get_mut(&ip) {
                None => {
                    let place = Place {
                        node: pod.node.clone(),
                        host: pod.host_network,
                        application: calls_as.to_owned(),
                        role: pod.role,
                        opted_out: pod.opted_out,
                    };
                    self.places.insert(ip, place);
                    self.by_node.entry(pod.node.clone()).or_default().push(ip);
                }
                Some(place) if place.node != pod.node => {
                    return Err(PodError(format!(
                        "pod `{}` has address {ip} on node `{}`, which is also on node `{}`",
                        pod.id, pod.node, place.node
                    )));
                }
                // Pods in their node's network share its address: nobody can tell which of them calls.
                Some(place) => {
                    if place.application != calls_as {
                        place.application.clear();
                    }
                    if place.role != pod.role {
                        place.role = if pod.role == Role::Driver { Role::Driver } else { place.role };
                    }
                    place.opted_out |= pod.opted_out;
                }
            }
        }
        for application in [&pod.application, &pod.also_for].into_iter().filter(|name| !name.is_empty()) {
            if pod.opted_out {
                self.opted_out.insert(application.clone());
            }
            if pod.role == Role::Executor {
                let executor = Executor { host: host_of(pod.ips[0]), seed: seed_of(&pod.id) };
                let nodes = self.executors.entry(application.clone()).or_default();
                nodes.entry(pod.node.clone()).or_default().push(executor);
            }
        }
        Ok(())
    }

    /// Who calls from `ip`, if that is known.
    #[must_use]
    pub fn reader(&self, ip: IpAddr) -> Option<Reader<'_>> {
        let ip = ip.to_canonical();
        let Some(place) = self.places.get(&ip) else {
            let (_, (_, node)) = find_range(&self.ranges, ip)?;
            return Some(Reader { node, role: Role::Other, application: None });
        };
        let listens =
            !place.application.is_empty() && !place.opted_out && !self.opted_out.contains(&place.application);
        Some(Reader {
            node: &place.node,
            role: place.role,
            application: listens.then_some(place.application.as_str()),
        })
    }

    /// The executors of an application on a node.
    pub(super) fn executors(&self, application: &str, node: &str) -> impl Iterator<Item = &Executor> {
        let there = self.executors.get(application).and_then(|nodes| nodes.get(node));
        there.into_iter().flatten()
    }

    /// The rack of a node, if that is known; begins with `/`.
    #[must_use]
    pub fn rack(&self, node: &str) -> Option<&Arc<str>> {
        self.racks.get(node)
    }

    /// The addresses of all pods on a node, and its own.
    #[must_use]
    pub fn addresses_on(&self, node: &str) -> &[IpAddr] {
        self.by_node.get(node).map_or(&[], Vec::as_slice)
    }

    /// The believed ranges of a node's pods' addresses.
    pub fn ranges_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = IpRange> + 'a {
        self.ranges.values().filter(move |(_, name)| name == node).map(|(range, _)| *range)
    }

    /// How many pods there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pods
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pods == 0
    }
}

/// The range that holds the address.
fn find_range<N>(ranges: &BTreeMap<IpAddr, (IpRange, N)>, ip: IpAddr) -> Option<(&IpAddr, &(IpRange, N))> {
    ranges.range(..=ip).next_back().filter(|(_, (range, _))| range.holds(ip))
}

/// An address as an executor on Kubernetes calls itself by: IPv6 in brackets.
fn host_of(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// FNV-1a, mixed: the same for an id everywhere and in every release.
fn seed_of(id: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(id.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// SplitMix64's last step: every bit of the input changes about half of the output's.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
