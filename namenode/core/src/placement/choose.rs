//! The choice of targets.

use std::sync::Arc;

use smallvec::SmallVec;
use steadfs_common::StorageId;

use super::topology::{Machine, Topology};
use super::{PlacementRequest, Random};

/// Weighted draws before all machines are looked at: on a cluster that is not nearly full or excluded, the first few hit.
const DRAWS: usize = 12;

/// Which machines a step accepts.
#[derive(Clone, Copy)]
enum Where<'a> {
    Anywhere,
    On(&'a Arc<str>),
    NotOn(&'a Arc<str>),
}

/// How far the rules are relaxed when they leave nobody.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Fresh machines; not the writer's, if that was asked.
    Strict,
    /// Any live machine.
    Relaxed,
}

/// One choice under way.
struct Choice<'a> {
    topology: &'a Topology,
    request: &'a PlacementRequest<'a>,
    random: Random,
    pass: Pass,
    /// Machines that hold or will hold the block, in the order of its replicas.
    holders: SmallVec<[u32; 8]>,
    chosen: SmallVec<[StorageId; 3]>,
}

impl Topology {
    /// Chooses up to `request.wanted` storages on distinct live machines, in pipeline order; fewer if there are not enough.
    /// The result depends on the arguments alone.
    #[must_use]
    pub fn choose(&self, request: &PlacementRequest<'_>) -> SmallVec<[StorageId; 3]> {
        let mut choice = Choice {
            topology: self,
            request,
            random: Random::new(request.seed),
            pass: Pass::Strict,
            holders: request.existing.iter().filter_map(|id| self.storages.get(id)).copied().collect(),
            chosen: SmallVec::new(),
        };
        let wanted = request.wanted.min(self.machines.len());
        choice.take_favored(wanted);
        for pass in [Pass::Strict, Pass::Relaxed] {
            choice.pass = pass;
            while choice.chosen.len() < wanted && choice.step() {}
        }
        choice.chosen
    }
}

impl<'a> Choice<'a> {
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
            [first] => self.draw(Where::NotOn(rack(first))),
            [first, second] if rack(first) == rack(second) => self.draw(Where::NotOn(rack(first))),
            [_, second] if self.request.existing.is_empty() => self.draw(Where::On(rack(second))),
            [first, ref others @ ..] if others.iter().all(|other| rack(*other) == rack(first)) => {
                self.draw(Where::NotOn(rack(first)))
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

    /// The writer's own machine, else one in its rack.
    fn near_writer(&mut self) -> Option<usize> {
        let writer = self.request.writer?;
        let topology = self.topology;
        let local = |at: &usize| topology.machines[*at].ip == writer && self.accepts(*at, Where::Anywhere);
        // Several datanodes may share a machine: one of them by chance.
        let own: SmallVec<[usize; 4]> = (0..topology.machines.len()).filter(local).collect();
        if !own.is_empty() {
            return Some(own[self.random.below(own.len() as u64) as usize]);
        }
        let rack =
            topology.machines.iter().find(|machine| machine.ip == writer).map(|machine| &machine.rack)?;
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
        let weight = |at: usize| (self.topology.machines[at].room(self.request.block_size) >> 20) + 1;
        let open: Vec<usize> =
            (0..self.topology.machines.len()).filter(|at| self.accepts(*at, place)).collect();
        let mut ticket = self.random.below(open.iter().map(|at| weight(*at)).sum());
        open.into_iter().find(|at| match ticket.checked_sub(weight(*at)) {
            Some(rest) => {
                ticket = rest;
                false
            }
            None => true,
        })
    }

    fn accepts(&self, at: usize, place: Where<'_>) -> bool {
        let machine = &self.topology.machines[at];
        let placed = match place {
            Where::Anywhere => true,
            Where::On(rack) => machine.rack == *rack,
            Where::NotOn(rack) => machine.rack != *rack,
        };
        let strict = self.pass == Pass::Relaxed
            || !(machine.stale || (self.request.avoid_local && self.request.writer == Some(machine.ip)));
        placed
            && strict
            && machine.live
            && machine.open
            && !self.holders.contains(&(at as u32))
            && !self.request.excluded.contains(&machine.uuid)
            && machine.volumes.iter().any(|volume| volume.free >= self.request.block_size)
    }

    /// Takes a machine that was accepted, on a volume by chance, the likelier the more is free on it.
    fn take(&mut self, at: usize) {
        let size = self.request.block_size;
        let machine = &self.topology.machines[at];
        let mut ticket = self.random.below(machine.room(size).max(1));
        let mut last = None;
        for volume in machine.volumes.iter().filter(|volume| volume.free >= size) {
            last = Some(volume.id);
            match ticket.checked_sub(volume.free) {
                Some(rest) => ticket = rest,
                None => break,
            }
        }
        if let Some(id) = last {
            self.holders.push(at as u32);
            self.chosen.push(id);
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
