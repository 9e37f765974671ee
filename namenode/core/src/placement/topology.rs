//! Datanodes as placement sees them, at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use steadfs_common::{DatanodeUuid, StorageId, StorageType};

use super::Random;
use crate::locality::Pods;

/// A volume that may take replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its id.
    pub id: StorageId,
    /// What it is.
    pub kind: StorageType,
    /// Bytes free for replicas.
    pub free: u64,
    /// Of those, bytes that are promised to replicas on their way there.
    pub promised: u64,
}

/// A datanode.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its id.
    pub uuid: DatanodeUuid,
    /// Where it is dialled; a reader or writer with this address is on the same machine.
    pub ip: IpAddr,
    /// Its host name.
    pub host: String,
    /// Its data port: favoured nodes are named by it.
    pub port: u16,
    /// Its rack; begins with `/`. Of several levels the outermost is its zone.
    pub rack: Arc<str>,
    /// The (Kubernetes) node that it runs on; empty if it told none.
    pub node: String,
    /// Whether it is heard.
    pub live: bool,
    /// Whether it may get new replicas: one that leaves service may not.
    pub open: bool,
    /// Live, but not heard for a while: others come first.
    pub stale: bool,
    /// Live, but far slower than the others: they come first.
    pub slow: bool,
    /// Its volumes that did not fail.
    pub volumes: SmallVec<[Volume; 4]>,
}

impl Machine {
    /// What tells the machine that it is on from others.
    pub(super) fn host(&self) -> (&str, Option<IpAddr>) {
        host_of(&self.node, self.ip)
    }

    /// Bytes free on the volumes that have room for `size` more.
    pub(super) fn room(&self, size: u64) -> u64 {
        self.volumes
            .iter()
            .filter(|volume| volume.free >= size)
            .map(|volume| volume.free)
            .fold(0, u64::saturating_add)
    }
}

/// All datanodes at one moment. Immutable: a plan and a reader see one picture.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    pub(super) machines: Vec<Machine>,
    /// Which machine a storage is on.
    pub(super) storages: BTreeMap<StorageId, u32>,
    /// Running sums of the free space of the live machines: a weighted draw is a binary search.
    pub(super) sums: Vec<u64>,
    /// How many machines the datanodes are on.
    pub(super) hosts: usize,
    /// Who runs where beside the datanodes.
    pods: Arc<Pods>,
}

/// The outermost level of a rack.
pub(crate) fn zone_of(rack: &str) -> &str {
    let inner = rack.char_indices().skip(1).find(|(_, letter)| *letter == '/');
    inner.map_or(rack, |(at, _)| &rack[..at])
}

/// The machine of a datanode: its node if it told one, else its address.
pub(crate) fn host_of(node: &str, ip: IpAddr) -> (&str, Option<IpAddr>) {
    if node.is_empty() { ("", Some(ip)) } else { (node, None) }
}

/// Where a reader or writer is.
pub(super) struct Spot<'a> {
    ip: IpAddr,
    /// Its node; empty if that is not known.
    node: &'a str,
    /// Its rack, if that is known.
    pub(super) rack: Option<&'a Arc<str>>,
}

impl Spot<'_> {
    /// Whether a datanode is on the same machine.
    pub(super) fn has(&self, machine: &Machine) -> bool {
        machine.ip == self.ip || (!self.node.is_empty() && machine.node == self.node)
    }
}

/// How far a replica is from its reader; nearer is smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    SameMachine,
    SameRack,
    SameZone,
    Elsewhere,
}

impl Topology {
    /// The picture of these machines.
    #[must_use]
    pub fn new(machines: Vec<Machine>) -> Self {
        let mut storages = BTreeMap::new();
        let mut sums = Vec::with_capacity(machines.len());
        let mut sum = 0_u64;
        for (at, machine) in machines.iter().enumerate() {
            storages.extend(machine.volumes.iter().map(|volume| (volume.id, at as u32)));
            // In MiB, so that no cluster overflows the sum.
            sum += if machine.live && machine.open { (machine.room(0) >> 20) + 1 } else { 0 };
            sums.push(sum);
        }
        let hosts: BTreeSet<_> = machines.iter().map(Machine::host).collect();
        let hosts = hosts.len();
        Self { machines, storages, sums, hosts, pods: Arc::default() }
    }

    /// The same picture, with who runs where: a reader or writer is on the machine of a datanode if its pod is on the
    /// datanode's node.
    #[must_use]
    pub fn among(mut self, pods: Arc<Pods>) -> Self {
        self.pods = pods;
        self
    }

    /// How many datanodes are live and in service.
    #[must_use]
    pub fn live(&self) -> usize {
        self.machines.iter().filter(|machine| machine.live && machine.open).count()
    }

    /// What this storage is, if it is known.
    #[must_use]
    pub fn kind_of(&self, storage: StorageId) -> Option<StorageType> {
        let volumes = &self.machine_of(storage)?.volumes;
        volumes.iter().find(|volume| volume.id == storage).map(|volume| volume.kind)
    }

    /// The machine that has this storage.
    #[must_use]
    pub fn machine_of(&self, storage: StorageId) -> Option<&Machine> {
        self.storages.get(&storage).map(|at| &self.machines[*at as usize])
    }

    /// Whether the storage is on a machine that was not heard for a while.
    #[must_use]
    pub fn is_stale(&self, storage: StorageId) -> bool {
        self.machine_of(storage).is_some_and(|machine| machine.stale)
    }

    /// Where whoever calls from `ip` is.
    pub(super) fn spot(&self, ip: IpAddr) -> Spot<'_> {
        let node = self.pods.reader(ip).map_or("", |reader| reader.node);
        let mut spot = Spot { ip, node, rack: None };
        let beside = self.machines.iter().find(|machine| spot.has(machine)).map(|machine| &machine.rack);
        spot.rack = beside.or_else(|| self.pods.rack(node));
        spot
    }

    /// Puts the storages of a block in the order in which `reader` should try them: its own machine, its rack, its zone, others;
    /// random among equals; stale and slow nodes after all others, then those that leave service, dead and unknown ones last.
    /// Slow is what others find over the network: its own machine's readers are not sent away for that.
    pub fn order(&self, reader: Option<IpAddr>, storages: &mut [StorageId], seed: u64) {
        if storages.len() < 2 {
            return;
        }
        let mut random = Random::new(seed);
        let spot = reader.map(|ip| self.spot(ip));
        storages.sort_by_cached_key(|storage| {
            let draw = random.draw();
            let Some(machine) = self.machine_of(*storage) else {
                return (3, Distance::Elsewhere, draw);
            };
            let distance = match &spot {
                Some(spot) if spot.has(machine) => Distance::SameMachine,
                Some(Spot { rack: Some(rack), .. }) if **rack == machine.rack => Distance::SameRack,
                Some(Spot { rack: Some(rack), .. }) if zone_of(rack) == zone_of(&machine.rack) => {
                    Distance::SameZone
                }
                _ => Distance::Elsewhere,
            };
            let trouble = match machine {
                Machine { live: false, .. } => 3,
                Machine { open: false, .. } => 2,
                _ => u8::from(machine.stale || machine.slow && distance != Distance::SameMachine),
            };
            (trouble, distance, draw)
        });
    }
}
