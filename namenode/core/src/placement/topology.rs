//! Datanodes as placement sees them, at one moment.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use steadfs_common::{DatanodeUuid, StorageId, StorageType};

use super::Random;

/// A volume that may take replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its id.
    pub id: StorageId,
    /// What it is.
    pub kind: StorageType,
    /// Bytes free for replicas, less what is on its way there.
    pub free: u64,
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
    /// Its rack, or zone; begins with `/`.
    pub rack: Arc<str>,
    /// Whether it is heard.
    pub live: bool,
    /// Whether it may get new replicas: one that leaves service may not.
    pub open: bool,
    /// Live, but not heard for a while: others come first.
    pub stale: bool,
    /// Its volumes that did not fail.
    pub volumes: SmallVec<[Volume; 4]>,
}

impl Machine {
    /// Bytes free on the volumes that have room for `size` more.
    pub(super) fn room(&self, size: u64) -> u64 {
        self.volumes.iter().filter(|volume| volume.free >= size).map(|volume| volume.free).sum()
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
}

/// How far a replica is from its reader; nearer is smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    SameMachine,
    SameRack,
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
        Self { machines, storages, sums }
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

    /// The rack of whoever calls from `ip`: that of the datanode on the same machine.
    fn rack_at(&self, ip: IpAddr) -> Option<&Arc<str>> {
        self.machines.iter().find(|machine| machine.ip == ip).map(|machine| &machine.rack)
    }

    /// Puts the storages of a block in the order in which `reader` should try them: its own machine, its rack, others;
    /// random among equals; stale nodes after all fresh ones, then those that leave service, dead and unknown ones last.
    pub fn order(&self, reader: Option<IpAddr>, storages: &mut [StorageId], seed: u64) {
        if storages.len() < 2 {
            return;
        }
        let mut random = Random::new(seed);
        let rack = reader.and_then(|ip| self.rack_at(ip));
        storages.sort_by_cached_key(|storage| {
            let draw = random.draw();
            let Some(machine) = self.machine_of(*storage) else {
                return (3, Distance::Elsewhere, draw);
            };
            let distance = if reader == Some(machine.ip) {
                Distance::SameMachine
            } else if rack == Some(&machine.rack) {
                Distance::SameRack
            } else {
                Distance::Elsewhere
            };
            let trouble = match machine {
                Machine { live: false, .. } => 3,
                Machine { open: false, .. } => 2,
                _ => u8::from(machine.stale),
            };
            (trouble, distance, draw)
        });
    }
}
