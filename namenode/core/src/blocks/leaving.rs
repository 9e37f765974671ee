//! What keeps datanodes from leaving: blocks that lack replicas elsewhere.
//!
//! The judgement of each block keeps it up to date, so that nothing is looked through again while a datanode leaves: when
//! one is told to leave, a sweep judges every block once, and from then on only blocks with news are looked at.
//!
//! Whether datanodes that serve may be stopped is another question: it is answered by one look through all blocks, in
//! steps, when somebody asks.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;
use steadfs_common::{BlockId, DatanodeUuid, FsResult, Millis, StorageId};

use super::admin::{AdminState, Lacking, MAX_BLOCKING};
use super::map::{BlockMap, Building};
use super::nodes::{Datanodes, NodeIndex};
use super::places::StorageIndex;
use super::table::Entry;

/// Blocks that a check of a stop names as examples.
const EXAMPLES: usize = 10;

/// A block that keeps datanodes from leaving.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Needed {
    /// Which ones.
    nodes: SmallVec<[NodeIndex; 2]>,
    /// No datanode that serves has it.
    only_here: bool,
}

/// Blocks that keep datanodes from leaving.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    needed: BTreeMap<BlockId, Needed>,
    /// Leaving datanodes all of whose blocks were judged: of one that dies, what it kept is known on.
    judged: BTreeSet<NodeIndex>,
}

impl Leaving {
    /// Notes whom a block keeps.
    fn note(&mut self, id: BlockId, now: Needed, nodes: &mut Datanodes) {
        if self.needed.get(&id) == Some(&now) {
            return;
        }
        self.forget(id, nodes);
        if now.nodes.is_empty() {
            return;
        }
        for at in &now.nodes {
            let lacking = &mut nodes.node_mut(*at).lacking;
            lacking.blocks += 1;
            lacking.only_here += u64::from(now.only_here);
        }
        self.needed.insert(id, now);
    }

    /// A block keeps nobody (any more).
    pub(super) fn forget(&mut self, id: BlockId, nodes: &mut Datanodes) {
        let Some(before) = self.needed.remove(&id) else { return };
        for at in before.nodes {
            let lacking = &mut nodes.node_mut(at).lacking;
            lacking.blocks = lacking.blocks.saturating_sub(1);
            lacking.only_here = lacking.only_here.saturating_sub(u64::from(before.only_here));
        }
    }
}

/// Datanodes that shall be stopped at the same time, and how far the check of it is.
#[derive(Clone, Debug)]
pub struct Stopping {
    /// Each with its place in the answer.
    nodes: BTreeMap<NodeIndex, usize>,
    next: BlockId,
    check: StopCheck,
}

/// What would be lost from sight if some datanodes were stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopCheck {
    /// Of each datanode, in the order in which they were named: blocks with too few live replicas elsewhere.
    pub lacking: Vec<Lacking>,
    /// Some of those blocks.
    pub examples: Vec<BlockId>,
    /// Why nothing can be said: replicas that are not yet reported, or safe mode.
    pub unknown: Option<String>,
}

impl StopCheck {
    /// Whether all can be stopped without a block being left with too few replicas.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.unknown.is_none() && self.lacking.iter().all(|lacking| *lacking == Lacking::default())
    }
}

impl BlockMap {
    /// A datanode's state changed: what kept it before is judged anew.
    pub(super) fn release(&mut self, at: NodeIndex) {
        self.leaving.needed.retain(|_, needed| {
            needed.nodes.retain(|node| *node != at);
            !needed.nodes.is_empty()
        });
        self.leaving.judged.remove(&at);
        self.nodes.node_mut(at).lacking = Lacking::default();
    }

    /// What keeps a datanode from leaving. Of a dead one whose blocks were not all known, whatever lacks anywhere may have been
    /// there.
    #[must_use]
    pub fn lacking_of(&self, uuid: DatanodeUuid) -> Lacking {
        let Some(at) = self.nodes.find(uuid) else { return Lacking::default() };
        let node = self.nodes.node(at);
        if node.live || !node.admin.is_leaving() || self.knows_all_of(at) {
            return node.lacking;
        }
        let missing = self.missing.len() as u64;
        let waiting: usize = self.needed[..super::map::SPREAD].iter().map(BTreeSet::len).sum();
        Lacking { blocks: missing + waiting as u64, only_here: missing, ..node.lacking }
    }

    /// A leaving datanode died with a replica of this block. Others may have died with it: it is judged as one that keeps it.
    pub(super) fn had(&mut self, id: BlockId, at: NodeIndex) {
        if !self.nodes.node(at).admin.is_leaving() {
            return;
        }
        let mut needed = self.leaving.needed.get(&id).cloned().unwrap_or_default();
        if !needed.nodes.contains(&at) {
            needed.nodes.push(at);
            self.leaving.note(id, needed, &mut self.nodes);
        }
    }

    /// Notes which leaving datanodes a block keeps.
    pub(super) fn judge_leaving(&mut self, id: BlockId) {
        let Some(entry) = self.table.get(id) else { return };
        let places = entry.places.as_slice();
        let nodes = places.iter().map(|place| self.nodes.storage(*place).node);
        let mut kept: SmallVec<[NodeIndex; 2]> = nodes
            .filter(|node| self.nodes.node(*node).admin.is_leaving() && !self.is_safe_without(*node, entry))
            .collect();
        if kept.is_empty() && self.leaving.needed.is_empty() {
            return;
        }
        // What a dead one held is forgotten, but not that this block still lacks because of it.
        let before = self.leaving.needed.get(&id).into_iter().flat_map(|needed| needed.nodes.iter().copied());
        for at in before {
            let node = self.nodes.node(at);
            if !node.live
                && node.admin.is_leaving()
                && !kept.contains(&at)
                && !self.is_safe_without(at, entry)
            {
                kept.push(at);
            }
        }
        let only_here = self.tally(places).serving == 0;
        self.leaving.note(id, Needed { nodes: kept, only_here }, &mut self.nodes);
    }

    /// Whether a datanode that is on its way to decommission or maintenance may leave as far as this block goes.
    fn is_safe_without(&self, node: NodeIndex, entry: &Entry) -> bool {
        let (tally, settings) = (self.tally(entry.places.as_slice()), &self.settings);
        if self.nodes.node(node).admin.is_maintained() {
            // It comes back: the least is enough.
            return tally.serving >= usize::from(settings.min_maintenance_replication.min(entry.replication));
        }
        tally.serving >= self.enough(entry.replication, tally)
            || tally.serving >= usize::from(settings.default_replication.max(settings.min_replication))
    }

    /// Lets those leave without whom every block has enough replicas. Call it every round.
    pub fn depart(&mut self, now: Millis) {
        let leaving: Vec<NodeIndex> =
            self.nodes.indexes().filter(|at| self.nodes.node(*at).admin.is_leaving()).collect();
        self.blocking.clear();
        if leaving.is_empty() || self.safe_mode.is_on() || self.active_since.is_none() {
            return;
        }
        self.look_at_open(&leaving);
        // While blocks are still to be judged, not all that keeps them is known.
        if self.sweep.is_under_way() {
            return;
        }
        for at in leaving.iter().copied().filter(|at| self.nodes.node(*at).live) {
            if self.has_reported(at) {
                self.leaving.judged.insert(at);
            } else {
                self.leaving.judged.remove(&at);
            }
        }
        let mut left = false;
        for at in leaving {
            if self.nodes.node(at).lacking == Lacking::default() && self.knows_all_of(at) {
                let node = self.nodes.node_mut(at);
                node.admin = match node.admin {
                    AdminState::EnteringMaintenance => AdminState::InMaintenance,
                    AdminState::Decommissioning => AdminState::Decommissioned,
                    other => other,
                };
                left = true;
            }
        }
        if left {
            self.refresh(now);
        }
    }

    /// Whether all replicas of a datanode are known. Of one that died before nobody knows what it held: it has left when
    /// nothing lacks any more.
    fn knows_all_of(&self, at: NodeIndex) -> bool {
        if !self.nodes.node(at).live {
            return self.leaving.judged.contains(&at)
                || (self.missing.is_empty()
                    && self.needed[..super::map::SPREAD].iter().all(BTreeSet::is_empty));
        }
        self.has_reported(at)
    }

    fn has_reported(&self, at: NodeIndex) -> bool {
        self.nodes.node(at).storages.iter().all(|at| {
            let storage = self.nodes.storage(*at);
            storage.dropped || storage.reported
        })
    }

    /// Blocks of open files: they may be left behind if enough of their pipeline serves.
    fn look_at_open(&mut self, leaving: &[NodeIndex]) {
        let mut open: BTreeMap<NodeIndex, u64> = leaving.iter().map(|at| (*at, 0)).collect();
        let mut blocking = std::mem::take(&mut self.blocking);
        for (id, building) in &self.building {
            let places = self.places_of(building);
            let holds = |at: &NodeIndex| places.iter().any(|place| self.nodes.storage(*place).node == *at);
            let serving = places.iter().filter(|place| self.serves(**place)).count();
            if serving >= usize::from(self.settings.min_replication) || !leaving.iter().any(holds) {
                continue;
            }
            open.iter_mut().filter(|(at, _)| holds(at)).for_each(|(_, count)| *count += 1);
            if blocking.len() < MAX_BLOCKING {
                blocking.push(*id);
            }
        }
        self.blocking = blocking;
        for (at, count) in open {
            self.nodes.node_mut(at).lacking.open = count;
        }
    }

    fn places_of(&self, building: &Building) -> SmallVec<[StorageIndex; 4]> {
        let mut places: SmallVec<[StorageIndex; 4]> =
            building.expected.iter().filter_map(|id: &StorageId| self.nodes.find_storage(*id)).collect();
        for report in &building.reports {
            if !places.contains(&report.storage) {
                places.push(report.storage);
            }
        }
        places
    }

    /// Begins a check whether these datanodes may be stopped at the same time; steps of [`BlockMap::check_stop`] follow.
    ///
    /// # Errors
    /// One of them is not known.
    pub fn begin_stop_check(&self, uuids: &[DatanodeUuid]) -> FsResult<Stopping> {
        let find = |uuid: &DatanodeUuid| {
            self.nodes.find(*uuid).ok_or_else(|| {
                steadfs_common::FsError::new(
                    steadfs_common::FsErrorKind::NotFound,
                    format!("no datanode {uuid} is known"),
                )
            })
        };
        let place = |(place, uuid): (usize, &DatanodeUuid)| Ok((find(uuid)?, place));
        let nodes = uuids.iter().enumerate().map(place).collect::<FsResult<BTreeMap<_, _>>>()?;
        let check = StopCheck { lacking: vec![Lacking::default(); uuids.len()], ..StopCheck::default() };
        Ok(Stopping { nodes, next: BlockId(0), check })
    }

    /// Looks at up to `limit` more blocks; the result once all were looked at.
    ///
    /// A block counts against the stop if fewer replicas than `min_maintenance_replication` (and than are wanted of it)
    /// would be left on datanodes that live, serve and have reported. The block of an open file does if less than the
    /// minimal replication of its pipeline would be left.
    #[must_use]
    pub fn check_stop(&self, stopping: &mut Stopping, limit: usize) -> Option<StopCheck> {
        stopping.check.unknown = self.unknown_at(&stopping.nodes);
        let mut last = None;
        for (id, entry) in self.table.range(stopping.next..=BlockId(u64::MAX)).take(limit) {
            last = Some(id);
            let places = entry.places.as_slice();
            let least = self.settings.min_maintenance_replication.min(entry.replication.max(1));
            self.count_stop(stopping, id, places, usize::from(least), false);
        }
        if let Some(last) = last {
            stopping.next = last.next();
            return None;
        }
        for (id, building) in &self.building {
            let places = self.places_of(building);
            let least = usize::from(self.settings.min_replication);
            self.count_stop(stopping, *id, &places, least, true);
        }
        Some(stopping.check.clone())
    }

    /// Counts a block, of an open file or not, against those without whom fewer than `least` would be left.
    fn count_stop(
        &self,
        stopping: &mut Stopping,
        id: BlockId,
        places: &[StorageIndex],
        least: usize,
        open: bool,
    ) {
        let storage = |place: &StorageIndex| self.nodes.storage(*place);
        let Stopping { nodes, check, .. } = stopping;
        let named: SmallVec<[NodeIndex; 4]> =
            places.iter().map(|place| storage(place).node).filter(|at| nodes.contains_key(at)).collect();
        if !places.iter().any(|place| named.contains(&storage(place).node) && !storage(place).dropped) {
            return;
        }
        let counts = |place: &&StorageIndex| self.serves(**place) && (open || storage(place).reported);
        let stays = |place: &&StorageIndex| !named.contains(&storage(place).node);
        let elsewhere = places.iter().filter(stays).filter(counts).count();
        if elsewhere >= least {
            return;
        }
        for (nth, at) in named.iter().enumerate() {
            let place = nodes.get(at).filter(|_| !named[..nth].contains(at));
            let Some(lacking) = place.and_then(|place| check.lacking.get_mut(*place)) else { continue };
            if open {
                lacking.open += 1;
            } else {
                lacking.blocks += 1;
                lacking.only_here += u64::from(elsewhere == 0);
            }
        }
        if check.examples.len() < EXAMPLES {
            check.examples.push(id);
        }
    }

    /// Why it is not known what these datanodes hold.
    fn unknown_at(&self, nodes: &BTreeMap<NodeIndex, usize>) -> Option<String> {
        if self.safe_mode.is_on() {
            return Some("the namenode is in safe mode: it has not heard of all replicas".into());
        }
        let silent = nodes.keys().find(|at| self.nodes.node(**at).live && !self.has_reported(**at))?;
        Some(format!("datanode {} has not yet reported all its replicas", self.nodes.node(*silent).uuid))
    }
}

#[cfg(test)]
impl BlockMap {
    /// What is noted of leaving datanodes is what a look at all blocks finds, unless they are still to be judged.
    pub(super) fn check_leaving(&self) {
        let mut found: BTreeMap<NodeIndex, Lacking> = BTreeMap::new();
        for needed in self.leaving.needed.values() {
            for at in &needed.nodes {
                let lacking = found.entry(*at).or_default();
                lacking.blocks += 1;
                lacking.only_here += u64::from(needed.only_here);
            }
        }
        for at in self.nodes.indexes() {
            let node = self.nodes.node(at);
            let counted = found.remove(&at).unwrap_or_default();
            assert_eq!(Lacking { open: 0, ..node.lacking }, counted);
        }
        if self.active_since.is_none() || self.sweep.is_under_way() {
            return;
        }
        for (id, entry) in self.table.range(BlockId(0)..=BlockId(u64::MAX)) {
            let needed = self.leaving.needed.get(&id);
            for place in entry.places.as_slice() {
                let node = self.nodes.storage(*place).node;
                let keeps = self.nodes.node(node).admin.is_leaving() && !self.is_safe_without(node, entry);
                assert_eq!(needed.is_some_and(|needed| needed.nodes.contains(&node)), keeps, "{id}");
            }
        }
    }
}
