//! The choice of targets.

use std::sync::Arc;

use smallvec::SmallVec;
use steadfs_common::{StorageId, StorageType};

use super::topology::{Machine, Spot, Topology, Volume, zone_of};
use super::{PlacementRequest, Random};
use crate::policy::{self, StoragePolicy, Types};

/// Weighted draws before all machines are looked at: on a cluster that is not nearly full or excluded, the first few hit.
const DRAWS: usize = 12;

/// With as many replicas on fresh datanodes no stale one is named: it is most likely gone, and would cost each writer the
/// time in which its pipeline finds that out. What lacks is copied later, to whoever is there by then.
const ENOUGH_FRESH: usize = 2;

/// Types that never get a replica, whatever a policy says: what lies in memory would be lost, and nothing else keeps it.
const UNUSED: [StorageType; 2] = [StorageType::RamDisk, StorageType::Provided];

/// Which machines a step accepts.
#[derive(Clone, Copy)]
enum Where<'a> {
    Anywhere,
    On(&'a Arc<str>),
    NotOn(&'a Arc<str>),
    /// Not in the zone of this rack.
    Beyond(&'a Arc<str>),
}

/// How far the rules are relaxed when they leave nobody.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Fresh machines that are not slow, with room beside what is on its way there; not the writer's, if that was asked.
    Strict,
    /// Any live machine, but no stale one beside [`ENOUGH_FRESH`].
    Relaxed,
}

impl Pass {
    /// Bytes that may be taken there. What is promised to others may in the end be less than was asked for: it is counted
    /// as long as there is a choice.
    const fn room(self, volume: &Volume) -> u64 {
        match self {
            Self::Strict => volume.free.saturating_sub(volume.promised),
            Self::Relaxed => volume.free,
        }
    }
}

/// One choice under way.
struct Choice<'a> {
    topology: &'a Topology,
    request: &'a PlacementRequest<'a>,
    random: Random,
    /// Where the writer is, if its machine is to be avoided.
    avoided: Option<Spot<'a>>,
    pass: Pass,
    /// Not on a machine with another datanode that holds the block.
    apart: bool,
    /// Datanodes that hold or will hold the block, in the order of its replicas.
    holders: SmallVec<[u32; 8]>,
    chosen: SmallVec<[StorageId; 3]>,
    policy: &'static StoragePolicy,
    /// Replicas that there shall be in the end.
    total: usize,
    /// The types of those there are and those chosen.
    held: Types,
    /// How many of those are on fresh machines.
    fresh: usize,
    /// Types of which there is no volume left to choose.
    missing: Types,
    /// Types of which the next replica may be, the preferred one first.
    types: Types,
}

impl Topology {
    /// Chooses up to `request.wanted` storages on distinct live machines, in pipeline order; fewer if there are not enough.
    /// The result depends on the arguments alone.
    #[must_use]
    pub fn choose(&self, request: &PlacementRequest<'_>) -> SmallVec<[StorageId; 3]> {
        let wanted = request.wanted.min(self.machines.len());
        // What leaves service is to be made good for.
        let stays =
            |id: &&StorageId| self.machine_of(**id).is_some_and(|machine| machine.live && machine.open);
        let held: Types = request.existing.iter().filter(stays).filter_map(|id| self.kind_of(*id)).collect();
        let fresh = request.existing.iter().filter(stays).filter(|id| !self.is_stale(**id)).count();
        let mut choice = Choice {
            topology: self,
            request,
            random: Random::new(request.seed),
            avoided: request.writer.filter(|_| request.avoid_local).map(|ip| self.spot(ip)),
            pass: Pass::Strict,
            apart: true,
            holders: request.existing.iter().filter_map(|id| self.storages.get(id)).copied().collect(),
            chosen: SmallVec::new(),
            policy: policy::by_id(request.policy).unwrap_or(policy::HOT),
            total: held.len() + wanted,
            held,
            fresh,
            missing: Types::from_slice(&UNUSED),
            types: Types::new(),
        };
        choice.renew_types();
        choice.take_favored(wanted);
        loop {
            for (apart, pass) in self.passes() {
                (choice.apart, choice.pass) = (apart, pass);
                while choice.chosen.len() < wanted && choice.step() {}
            }
            if choice.chosen.len() >= wanted || !choice.fall_back() {
                return choice.chosen;
            }
        }
    }
}

impl Topology {
    /// What is asked of machines, the most first. Several datanodes on one machine are used for one block when no other machine
    /// is left; what cannot make a difference is left out.
    fn passes(&self) -> impl Iterator<Item = (bool, Pass)> + use<> {
        let (several, shared) = (self.hosts > 1, self.hosts < self.machines.len());
        [(true, Pass::Strict), (true, Pass::Relaxed), (false, Pass::Strict), (false, Pass::Relaxed)]
            .into_iter()
            .filter(move |(apart, _)| if *apart { several || !shared } else { shared })
    }
}

impl<'a> Choice<'a> {
    /// The types that the replicas still to come shall have: those of the policy, with fallbacks for what is missing,
    /// less those there are.
    fn renew_types(&mut self) {
        let mut types = self.policy.types_of(self.total);
        let mut beyond = Types::new();
        for kind in &self.held {
            match types.iter().position(|wanted| wanted == kind) {
                Some(at) => drop(types.remove(at)),
                None => beyond.push(*kind),
            }
        }
        let new_block = self.request.existing.is_empty();
        types.retain(|kind| {
            if self.missing.contains(kind) {
                let Some(other) = self.policy.fallback(new_block, &self.missing) else { return false };
                *kind = other;
            }
            true
        });
        for kind in beyond {
            if let Some(at) = types.iter().position(|wanted| *wanted == kind) {
                types.remove(at);
            }
        }
        self.types = types;
    }

    /// Nobody has room of the types that are wanted: others are, if the policy names any.
    fn fall_back(&mut self) -> bool {
        let before = self.missing.len();
        for kind in std::mem::take(&mut self.types) {
            if !self.missing.contains(&kind) {
                self.missing.push(kind);
            }
        }
        self.renew_types();
        self.missing.len() > before && !self.types.is_empty()
    }

    /// Whether a replica may go there.
    fn fits(&self, volume: &Volume) -> bool {
        self.pass.room(volume) >= self.request.block_size && self.types.contains(&volume.kind)
    }

    /// Takes the nodes that the client named, as far as they can take a replica.
    fn take_favored(&mut self, wanted: usize) {
        for name in self.request.favored {
            if self.chosen.len() >= wanted {
                return;
            }
            let found = self.topology.machines.iter().position(|machine| is_named(machine, name));
            if let Some(at) = found.filter(|at| self.accepts(*at, Where::Anywhere)) {
                self.take(at);
            }
        }
    }

    /// Adds the next replica by the rule of its position; false if no machine is left.
    fn step(&mut self) -> bool {
        let topology = self.topology;
        let rack = |holder: u32| &topology.machines[holder as usize].rack;
        let found = match self.holders[..] {
            [] => self.near_writer(),
            [first] => self.far_from(rack(first)),
            [first, second] if rack(first) == rack(second) => self.far_from(rack(first)),
            [_, second] if self.request.existing.is_empty() => self.draw(Where::On(rack(second))),
            [first, ref others @ ..] if others.iter().all(|other| rack(*other) == rack(first)) => {
                self.far_from(rack(first))
            }
            [first, ref others @ ..]
                if others.iter().all(|other| zone_of(rack(*other)) == zone_of(rack(first))) =>
            {
                self.draw(Where::Beyond(rack(first)))
            }
            _ => None,
        };
        match found.or_else(|| self.draw(Where::Anywhere)) {
            Some(at) => {
                self.take(at);
                true
            }
            None => false,
        }
    }

    /// A machine in another zone, else in another rack.
    fn far_from(&mut self, rack: &'a Arc<str>) -> Option<usize> {
        let far = self.draw(Where::Beyond(rack));
        // A rack of one level is a zone.
        if far.is_some() || zone_of(rack) == &**rack { far } else { self.draw(Where::NotOn(rack)) }
    }

    /// The writer's own machine, else one in its rack.
    fn near_writer(&mut self) -> Option<usize> {
        let topology = self.topology;
        let spot = topology.spot(self.request.writer?);
        let local = |at: &usize| spot.has(&topology.machines[*at]) && self.accepts(*at, Where::Anywhere);
        // Several datanodes may share a machine: one of them by chance.
        let own: SmallVec<[usize; 4]> = (0..topology.machines.len()).filter(local).collect();
        if !own.is_empty() {
            return Some(own[self.random.below(own.len() as u64) as usize]);
        }
        let rack = spot.rack?;
        self.draw(Where::On(rack))
    }

    /// A machine by chance, the likelier the more is free on it.
    fn draw(&mut self, place: Where<'a>) -> Option<usize> {
        let total = *self.topology.sums.last()?;
        for _ in 0..DRAWS {
            let ticket = self.random.below(total);
            let at = self.topology.sums.partition_point(|sum| *sum <= ticket);
            if at < self.topology.machines.len() && self.accepts(at, place) {
                return Some(at);
            }
        }
        let room = |at: usize| {
            let volumes = self.topology.machines[at].volumes.iter();
            volumes.filter(|volume| self.fits(volume)).map(|volume| volume.free).sum::<u64>()
        };
        let open: Vec<(usize, u64)> = (0..self.topology.machines.len())
            .filter(|at| self.accepts(*at, place))
            .map(|at| (at, (room(at) >> 20) + 1))
            .collect();
        let mut ticket = self.random.below(open.iter().map(|(_, weight)| weight).sum());
        let found = open.into_iter().find(|(_, weight)| match ticket.checked_sub(*weight) {
            Some(rest) => {
                ticket = rest;
                false
            }
            None => true,
        });
        found.map(|(at, _)| at)
    }

    fn accepts(&self, at: usize, place: Where<'_>) -> bool {
        let machine = &self.topology.machines[at];
        let placed = match place {
            Where::Anywhere => true,
            Where::On(rack) => machine.rack == *rack,
            Where::NotOn(rack) => machine.rack != *rack,
            Where::Beyond(rack) => zone_of(&machine.rack) != zone_of(rack),
        };
        let allowed = match self.pass {
            Pass::Strict => {
                !(machine.stale
                    || machine.slow
                    || self.avoided.as_ref().is_some_and(|spot| spot.has(machine)))
            }
            Pass::Relaxed => {
                !machine.stale || self.fresh < ENOUGH_FRESH || self.held.len() < self.request.least
            }
        };
        placed
            && allowed
            && machine.live
            && machine.open
            && !self.holders.contains(&(at as u32))
            && !(self.apart && self.shares_host(machine))
            && !self.request.excluded.contains(&machine.uuid)
            && machine.volumes.iter().any(|volume| self.fits(volume))
    }

    /// Whether another datanode on this one's machine holds the block.
    fn shares_host(&self, machine: &Machine) -> bool {
        let machines = &self.topology.machines;
        self.holders.iter().any(|holder| machines[*holder as usize].host() == machine.host())
    }

    /// Takes a machine that was accepted, on a volume of the type that is preferred by chance, the likelier the more is
    /// free on it.
    fn take(&mut self, at: usize) {
        let machine = &self.topology.machines[at];
        let fits = |kind: &StorageType| {
            machine.volumes.iter().any(|volume| volume.kind == *kind && self.fits(volume))
        };
        let Some(kind) = self.types.iter().copied().find(fits) else { return };
        let (size, pass) = (self.request.block_size, self.pass);
        let open =
            || machine.volumes.iter().filter(|volume| volume.kind == kind && pass.room(volume) >= size);
        let mut ticket = self.random.below(open().map(|volume| volume.free).sum::<u64>().max(1));
        let mut last = None;
        for volume in open() {
            last = Some(volume.id);
            match ticket.checked_sub(volume.free) {
                Some(rest) => ticket = rest,
                None => break,
            }
        }
        if let Some(id) = last {
            self.holders.push(at as u32);
            self.held.push(kind);
            self.fresh += usize::from(!machine.stale);
            self.chosen.push(id);
            self.renew_types();
        }
    }
}

/// Whether `name` (`host:port`, `ip:port`, or either alone) means this machine.
fn is_named(machine: &Machine, name: &str) -> bool {
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
        _ => (name, Some(machine.port)),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    port == Some(machine.port) && (machine.host == host || host.parse() == Ok(machine.ip))
}
