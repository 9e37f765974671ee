//! How widely the replicas of a block lie: over zones, racks and machines.
//!
//! A rack's outermost level is its zone: `/zone-a` of `/zone-a/rack-1`. Replicas shall lie in two zones where there are two, in
//! two racks where there are two, and no two on one machine while another could have one of them. What was written when that could
//! not be had is repaired as soon as it can.

use std::collections::BTreeSet;

use smallvec::SmallVec;
use steadfs_common::BlockId;

use super::admin::Standing;
use super::map::BlockMap;
use super::nodes::Datanode;
use super::places::StorageIndex;
use crate::placement::{host_of, zone_of};

/// Racks and zones past these make nothing safer.
const ENOUGH: usize = 2;

/// In how many zones and racks, and on how many machines, some replicas or datanodes are. What weighs more comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spread {
    zones: usize,
    racks: usize,
    machines: usize,
}

impl Spread {
    /// As far as it makes so many replicas safer.
    pub(super) fn of_use(self, replicas: usize) -> Self {
        Self {
            zones: self.zones.min(ENOUGH),
            racks: self.racks.min(ENOUGH),
            machines: self.machines.min(replicas),
        }
    }

    /// Whether this is as wide in every regard.
    pub(super) fn covers(self, other: Self) -> bool {
        self.zones >= other.zones && self.racks >= other.racks && self.machines >= other.machines
    }
}

/// Where the datanodes are, as it was when they were looked at last.
#[derive(Debug, Default)]
pub(super) struct Field {
    /// Over what those that serve are spread.
    serving: Spread,
    /// There are several machines, and some of these share one.
    shared: bool,
    /// Rack and node of all, by index.
    seen: Vec<(std::sync::Arc<str>, String)>,
}

impl BlockMap {
    fn datanode_of(&self, place: StorageIndex) -> &Datanode {
        self.nodes.node(self.nodes.storage(place).node)
    }

    pub(super) fn rack_of(&self, place: StorageIndex) -> &str {
        &self.datanode_of(place).rack
    }

    /// How widely these lie.
    pub(super) fn spread(&self, places: impl IntoIterator<Item = StorageIndex>) -> Spread {
        let nodes: SmallVec<[&Datanode; 8]> =
            places.into_iter().map(|place| self.datanode_of(place)).collect();
        fn distinct<T: Ord>(mut of: SmallVec<[T; 8]>) -> usize {
            of.sort_unstable();
            of.dedup();
            of.len()
        }
        Spread {
            zones: distinct(nodes.iter().map(|node| zone_of(&node.rack)).collect()),
            racks: distinct(nodes.iter().map(|node| &*node.rack).collect()),
            machines: distinct(nodes.iter().map(|node| host_of(&node.node, node.address.ip)).collect()),
        }
    }

    /// Whether the replicas of a block that wants several could lie more safely.
    pub(super) fn is_misplaced(&self, id: BlockId) -> bool {
        let Field { serving, shared, .. } = &self.field;
        if serving.racks < ENOUGH && !shared {
            return false;
        }
        let Some(entry) = self.table.get(id).filter(|entry| entry.replication >= 2) else { return false };
        let there = entry.places.as_slice().iter().copied();
        let there: SmallVec<[StorageIndex; 8]> =
            there.filter(|place| self.standing(*place) != Standing::Gone).collect();
        if there.len() < 2 {
            return false;
        }
        let (here, best) = (self.spread(there.iter().copied()), serving.of_use(there.len()));
        here.zones < best.zones || here.racks < best.racks || (*shared && self.crowd(&there))
    }

    /// Whether two of these share a machine although another one serves that has none of them. Those that leave or rest do
    /// not count: nobody can say how long they stay.
    fn crowd(&self, places: &[StorageIndex]) -> bool {
        let serving: SmallVec<[StorageIndex; 8]> =
            places.iter().copied().filter(|place| self.serves(*place)).collect();
        self.spread(serving.iter().copied()).machines < self.field.serving.machines.min(serving.len())
    }

    /// Whether one more replica there makes a block safer that is misplaced.
    pub(super) fn spreads(&self, places: &[StorageIndex], target: StorageIndex) -> bool {
        let with = |places: &[StorageIndex]| self.spread(places.iter().copied().chain([target]));
        let (before, after) = (self.spread(places.iter().copied()).of_use(0), with(places).of_use(0));
        let serving: SmallVec<[StorageIndex; 8]> =
            places.iter().copied().filter(|place| self.serves(*place)).collect();
        before < after
            || (self.crowd(places) && self.spread(serving.iter().copied()).machines < with(&serving).machines)
    }

    /// All blocks are judged again when a datanode turns out to be elsewhere, when a second zone or rack begins to serve, and, if
    /// machines are shared, when another one does.
    pub(super) fn look_around(&mut self) {
        let nodes = || self.nodes.indexes().map(|at| self.nodes.node(at));
        let serving = || nodes().filter(|node| node.live && node.admin.serves());
        let now = Spread {
            zones: serving().map(|node| zone_of(&node.rack)).collect::<BTreeSet<_>>().len(),
            racks: serving().map(|node| &*node.rack).collect::<BTreeSet<_>>().len(),
            machines: serving()
                .map(|node| host_of(&node.node, node.address.ip))
                .collect::<BTreeSet<_>>()
                .len(),
        };
        let shared = now.machines > 1 && now.machines < serving().count();
        let mut seen = self.field.seen.iter().zip(nodes());
        let moved = seen.any(|((rack, host), node)| *rack != node.rack || *host != node.node);
        let before = self.field.serving;
        let another = before.of_use(0) < now.of_use(0) || (shared && before.machines < now.machines);
        if moved || self.field.seen.len() != nodes().count() {
            self.field.seen = nodes().map(|node| (node.rack.clone(), node.node.clone())).collect();
        }
        (self.field.serving, self.field.shared) = (now, shared);
        if moved || another {
            self.sweep.request();
        }
    }
}
