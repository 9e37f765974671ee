//! Locality for clients that compare host names, above all stock Spark on Kubernetes.
//!
//! Spark runs a task near its data if a host of the data's block equals the host of an executor. On Kubernetes an
//! executor's host is its pod's address, which no datanode has. So an application's pods are told, instead of datanodes'
//! names, pods of the same application on the datanodes' nodes. Addresses, which clients dial, stay as they are.
//!
//! Everything here is a function of [`Pods`], a picture of who runs where.

mod pods;
#[cfg(test)]
mod tests;

pub use pods::{HostNode, MAX_POD_ADDRESSES, Pod, PodError, Pods, Reader, Role};

use smallvec::SmallVec;
use steadfs_common::BlockId;

/// Names given to a block. Spark keeps three hosts of a partition, so a fourth would only displace one of them, and the
/// same ones every time.
pub const MAX_NAMES: usize = 3;
/// The name of a replica without an executor beside it. Spark drops it and so waits for nobody; Hadoop dials addresses.
pub const NO_PREFERENCE: &str = "localhost";

/// What a client asked for when it is answered with places of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A folder, with the places of its files' blocks.
    Listing,
    /// One file's status, with the places of its blocks.
    LocatedStatus,
    /// The places of a file's blocks: to plan, or to open it.
    BlockLocations,
    /// A block to write: the pipeline is told by the names that datanodes have.
    Write,
}

/// Whether the replicas in an answer to `reader` are named after pods.
///
/// Executors ask for [`Asked::BlockLocations`] to read; for that only the order matters.
#[must_use]
pub fn renames(asked: Asked, reader: &Reader<'_>) -> bool {
    reader.application().is_some()
        && match asked {
            Asked::Listing | Asked::LocatedStatus => true,
            Asked::BlockLocations => reader.role == Role::Driver,
            Asked::Write => false,
        }
}

/// One entry of a block's list of places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Which replica.
    pub replica: usize,
    /// The host name to give it.
    pub host: &'a str,
}

/// The list of places of a block for `reader`'s application: each replica once, in its order, then repetitions so that
/// [`MAX_NAMES`] different pods are named if there are as many beside the replicas.
///
/// Which pods does not depend on who asks nor on the order of the replicas: each application hears the same of a block
/// while its pods and the replicas stay, and a pod that comes or goes changes only what it wins or won.
#[must_use]
pub fn named<'a>(
    pods: &'a Pods,
    reader: &Reader<'_>,
    block: BlockId,
    nodes: &[&str],
) -> SmallVec<[Entry<'a>; 4]> {
    let mut names: SmallVec<[Option<&'a str>; 4]> = SmallVec::from_elem(None, nodes.len());
    let mut repeats: SmallVec<[Entry<'a>; 4]> = SmallVec::new();
    let ranked = ranked(pods, reader, block, nodes);
    let mut taken: SmallVec<[&'a str; MAX_NAMES]> = SmallVec::new();
    // First a pod for each replica, then more pods of the same nodes.
    for (host, node) in &ranked {
        let free = (0..nodes.len()).find(|at| names[*at].is_none() && nodes[*at] == *node);
        if let Some(at) = free
            && taken.len() < MAX_NAMES
        {
            names[at] = Some(host);
            taken.push(host);
        }
    }
    for (host, node) in &ranked {
        let replica = nodes.iter().position(|other| other == node);
        if let Some(replica) = replica
            && taken.len() < MAX_NAMES
            && !taken.contains(host)
        {
            repeats.push(Entry { replica, host });
            taken.push(host);
        }
    }
    let first = names.iter().enumerate();
    first
        .map(|(replica, host)| Entry { replica, host: host.unwrap_or(NO_PREFERENCE) })
        .chain(repeats)
        .collect()
}

/// The executors' hosts on these nodes with their nodes, the block's favourite first; each host once.
fn ranked<'a, 'n>(
    pods: &'a Pods,
    reader: &Reader<'_>,
    block: BlockId,
    nodes: &[&'n str],
) -> Vec<(&'a str, &'n str)> {
    let Some(application) = reader.application() else { return Vec::new() };
    let mut ranked = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        if !nodes[..at].contains(node) {
            let there = pods.executors(application, node);
            ranked.extend(there.map(|pod| (pod.rank(block), pod.host(), *node)));
        }
    }
    // The host breaks a tie, so that nothing depends on the order of the nodes.
    ranked.sort_unstable_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)));
    let mut hosts: Vec<(&str, &str)> = Vec::with_capacity(ranked.len());
    for (_, host, node) in ranked {
        if !hosts.iter().any(|(seen, _)| *seen == host) {
            hosts.push((host, node));
        }
    }
    hosts
}
