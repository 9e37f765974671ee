//! From what is known of objects to a picture of who runs where.
//!
//! A pod's application is, by the first rule that fits: Spark's label; that of the executors which it owns; that of the
//! executors which call it their driver; that of the executors of its namespace which have no driver otherwise. The last
//! three are for drivers that nobody labelled, such as a notebook's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use steadfs_namenode_core::locality::{HostNode, Pod, PodError, Pods, Role};

use super::facts::{NodeFacts, PodFacts};

/// The name of an application: ids are another namespace's own business.
fn application(pod: &PodFacts) -> Option<String> {
    (!pod.application.is_empty()).then(|| format!("{}/{}", pod.namespace, pod.application))
}

/// The picture of these pods and nodes. Pods of the namespaces in `silent` hear what datanodes call themselves.
///
/// # Errors
/// None that is known: pods that contradict each other are settled here, the one that lives and is younger is believed.
pub(super) fn picture<'a>(
    pods: impl Iterator<Item = &'a PodFacts>,
    nodes: impl Iterator<Item = &'a NodeFacts>,
    silent: &BTreeSet<&str>,
) -> Result<Pods, PodError> {
    let pods = settled(pods);
    let drivers = Drivers::of(&pods);
    let as_pod = |(pod, ips): &(&PodFacts, Vec<IpAddr>)| {
        let (application, role) = drivers.application(pod);
        Pod {
            id: pod.uid.clone(),
            ips: ips.clone(),
            node: pod.node.clone(),
            host_network: pod.host_network,
            also_for: drivers.group_of(&application).unwrap_or_default(),
            application,
            role: if pod.leaves && role == Role::Executor { Role::Other } else { role },
            opted_out: pod.opted_out || silent.contains(pod.namespace.as_str()),
        }
    };
    let nodes = nodes.map(|node| HostNode {
        name: node.name.clone(),
        ips: node.ips.clone(),
        ranges: node.ranges.clone(),
        rack: node.rack.clone(),
    });
    Ok(Pods::new(pods.iter().map(as_pod).collect())?.with_nodes(nodes.collect()))
}

/// The pods with the addresses that are theirs. An address is given again soon after its pod has ended, and the news of
/// that may come later: it belongs to the pod that lives, then to the younger one.
fn settled<'a>(pods: impl Iterator<Item = &'a PodFacts>) -> Vec<(&'a PodFacts, Vec<IpAddr>)> {
    let mut pods: Vec<&PodFacts> = pods.collect();
    pods.sort_by(|a, b| {
        let rank = |pod: &PodFacts| (pod.leaves, std::cmp::Reverse(pod.made));
        rank(a).cmp(&rank(b)).then_with(|| a.uid.cmp(&b.uid))
    });
    pods.dedup_by(|a, b| a.uid == b.uid);
    let mut taken: BTreeMap<IpAddr, (&str, bool)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut settled = Vec::with_capacity(pods.len());
    for pod in pods {
        if !seen.insert(pod.uid.as_str()) {
            continue;
        }
        let place = (pod.node.as_str(), pod.host_network);
        let mut free = |ip: &IpAddr| match taken.get(ip) {
            // Pods in their node's network share its address.
            Some(other) => place.1 && *other == place,
            None => {
                taken.insert(*ip, place);
                true
            }
        };
        let ips: Vec<IpAddr> = pod.ips.iter().copied().filter(|ip| free(ip)).collect();
        // An executor calls itself by its first address, so that it cannot be named without it.
        if ips.first() == pod.ips.first() && !ips.is_empty() {
            settled.push((pod, ips));
        }
    }
    settled
}

/// Which pods without Spark's label are whose drivers.
struct Drivers {
    /// By the uid of the pod.
    claimed: BTreeMap<String, String>,
    /// Applications without a known driver, by namespace.
    orphans: BTreeMap<String, BTreeSet<String>>,
}

impl Drivers {
    fn of(pods: &[(&PodFacts, Vec<IpAddr>)]) -> Self {
        let unlabelled = || pods.iter().filter(|(pod, _)| pod.application.is_empty() && !pod.host_network);
        let by_uid: BTreeSet<&str> = unlabelled().map(|(pod, _)| pod.uid.as_str()).collect();
        let by_ip: BTreeMap<IpAddr, &str> =
            unlabelled().flat_map(|(pod, ips)| ips.iter().map(|ip| (*ip, pod.uid.as_str()))).collect();
        let by_name: BTreeMap<(&str, &str), &str> = unlabelled()
            .map(|(pod, _)| ((pod.namespace.as_str(), pod.name.as_str()), pod.uid.as_str()))
            .collect();
        let driven: BTreeSet<String> = pods
            .iter()
            .filter(|(pod, _)| pod.role == Role::Driver)
            .filter_map(|(pod, _)| application(pod))
            .collect();
        let (mut claimed, mut orphans) = (BTreeMap::new(), BTreeMap::<String, BTreeSet<String>>::new());
        let mut owned = BTreeSet::new();
        let executors = || pods.iter().map(|(pod, _)| *pod).filter(|pod| pod.role == Role::Executor);
        for pod in executors() {
            let Some(name) = application(pod).filter(|name| !driven.contains(name)) else { continue };
            let owner = pod.owners.iter().find_map(|owner| by_uid.get(owner.as_str()).copied());
            let driver = owner.or_else(|| match pod.driver.parse::<IpAddr>() {
                Ok(ip) => by_ip.get(&ip.to_canonical()).copied(),
                Err(_) => {
                    let first = pod.driver.split('.').next().unwrap_or_default();
                    by_name.get(&(pod.namespace.as_str(), first)).copied()
                }
            });
            if let Some(driver) = driver {
                claimed.insert(driver.to_owned(), name.clone());
                owned.insert(name);
            }
        }
        for pod in executors() {
            if let Some(name) = application(pod)
                && !driven.contains(&name)
                && !owned.contains(&name)
            {
                orphans.entry(pod.namespace.clone()).or_default().insert(name);
            }
        }
        Self { claimed, orphans }
    }

    /// The application of a pod and what it is to it.
    fn application(&self, pod: &PodFacts) -> (String, Role) {
        if let Some(name) = application(pod) {
            return (name, pod.role);
        }
        if pod.host_network {
            return (String::new(), Role::Other);
        }
        let name = match (self.claimed.get(&pod.uid), self.orphans.get(&pod.namespace)) {
            (Some(name), _) => name.clone(),
            (None, Some(orphans)) if orphans.len() > 1 => group(&pod.namespace),
            (None, Some(orphans)) => orphans.first().cloned().unwrap_or_default(),
            (None, None) => return (String::new(), Role::Other),
        };
        (name, Role::Driver)
    }

    /// The group of applications that this one is in, if nobody can tell their drivers apart.
    fn group_of(&self, application: &str) -> Option<String> {
        let namespace = application.split_once('/')?.0;
        let orphans = self.orphans.get(namespace)?;
        (orphans.len() > 1 && orphans.contains(application)).then(|| group(namespace))
    }
}

/// All executors of a namespace whose driver is not known. No application of Spark's has an empty id.
fn group(namespace: &str) -> String {
    format!("{namespace}/")
}
