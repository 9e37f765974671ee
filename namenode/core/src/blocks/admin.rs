//! Datanodes that leave service: decommission and maintenance.
//!
//! A replica on a datanode that leaves does not count as one of those that are wanted, so the block is copied elsewhere;
//! it can still be read and copied from. A datanode in maintenance is expected back: blocks need fewer replicas elsewhere
//! meanwhile, and what it holds is not forgotten while it is down.
//!
//! Whether all blocks of a leaving datanode are safe elsewhere is found out by passes over the table, in steps.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;
use steadfs_common::{BlockId, DatanodeUuid, FsError, FsResult, Millis, StorageId};

use super::map::{BlockMap, Building};
use super::nodes::{Address, NodeIndex};
use super::places::StorageIndex;
use super::roster::{Roster, Wish};
use super::table::Entry;
use super::work::Why;

/// Blocks of open files that keep a datanode from leaving, as far as they are told.
pub const MAX_BLOCKING: usize = 10_000;

/// Whether a datanode serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AdminState {
    /// It serves.
    #[default]
    Normal,
    /// Its replicas are being copied elsewhere, for good.
    Decommissioning,
    /// All it holds is elsewhere as well.
    Decommissioned,
    /// What only it holds is being copied elsewhere.
    EnteringMaintenance,
    /// It may be down for a while.
    InMaintenance,
}

impl AdminState {
    /// Whether it takes new replicas and those it has count.
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(self, Self::Normal)
    }

    /// Whether it waits for its replicas to be safe elsewhere.
    #[must_use]
    pub const fn is_leaving(self) -> bool {
        matches!(self, Self::Decommissioning | Self::EnteringMaintenance)
    }

    /// Whether it is expected back.
    #[must_use]
    pub const fn is_maintained(self) -> bool {
        matches!(self, Self::EnteringMaintenance | Self::InMaintenance)
    }
}

/// What a replica is worth to its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// One of those that are wanted.
    Serving,
    /// Its datanode is or will be decommissioned.
    Leaving,
    /// Its datanode is or will be in maintenance; it may be down.
    Maintained,
    /// Its datanode is dead or its volume is gone.
    Gone,
}

/// A block's replicas by what they are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// On datanodes that serve.
    pub(super) serving: usize,
    /// On datanodes that are or will be in maintenance.
    pub(super) maintained: usize,
    /// On live datanodes, whatever they do.
    pub(super) present: usize,
}

/// One replica of a block, as a check of the file system tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SurveyedReplica {
    /// Where it is.
    pub storage: StorageId,
    /// Whether it is good, and counts.
    pub condition: Condition,
}

/// The condition of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Good.
    Live,
    /// Good, on a datanode that was not heard for a while.
    Stale,
    /// Good, on a datanode that is being decommissioned.
    Decommissioning,
    /// Good, on a decommissioned datanode.
    Decommissioned,
    /// Good, on a datanode that enters maintenance.
    EnteringMaintenance,
    /// Good, on a datanode in maintenance.
    InMaintenance,
    /// Bad.
    Corrupt,
    /// Good, and about to be deleted because there are too many.
    Excess,
}

/// What keeps a datanode from leaving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Complete blocks with too few replicas elsewhere.
    pub blocks: u64,
    /// Those of them without any replica on a datanode that serves.
    pub only_here: u64,
    /// Blocks of open files with too few replicas elsewhere.
    pub open: u64,
}

/// A pass over all blocks for the sake of leaving datanodes.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Where it goes on; none between passes.
    next: Option<BlockId>,
    /// What was found for each datanode that was leaving when the pass began.
    found: BTreeMap<NodeIndex, Lacking>,
    /// Those of them that a block needs which the pass had found safe, or had not found at all, when it came by.
    needed_since: BTreeSet<NodeIndex>,
    blocking: Vec<BlockId>,
}

fn not_admitted(address: &Address) -> FsError {
    FsError::refused(format!(
        "Datanode denied communication with namenode because the host is not in the include-list: {} ({}), port {}; add it \
         to the hosts file and refresh the nodes",
        address.host, address.ip, address.data_port
    ))
}

impl BlockMap {
    /// What an operator wants of this datanode.
    ///
    /// # Errors
    /// Refused: it is not to be taken in.
    pub(super) fn wish(&self, uuid: DatanodeUuid, address: &Address, node: &str) -> FsResult<Wish> {
        self.roster.judge(uuid, address, node).ok_or_else(|| not_admitted(address))
    }

    /// Takes an operator's list in place of the one before, and begins what it asks for. Datanodes that it does not
    /// admit count as dead at once.
    pub fn set_roster(&mut self, roster: Roster, now: Millis) {
        self.roster = roster;
        for at in self.nodes.indexes() {
            let node = self.nodes.node(at);
            match self.roster.judge(node.uuid, &node.address, &node.node) {
                Some(wish) => self.obey(at, wish, now),
                None => self.bury(at, now),
            }
        }
        self.refresh(now);
    }

    /// The operator's list.
    #[must_use]
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Brings a datanode nearer to what is wanted of it.
    pub(super) fn obey(&mut self, at: NodeIndex, wish: Wish, now: Millis) {
        let node = self.nodes.node_mut(at);
        node.wish = wish;
        let (before, live) = (node.admin, node.live);
        let after = match wish.at(now) {
            Wish::InService => AdminState::Normal,
            Wish::Decommission => match before {
                AdminState::Decommissioning | AdminState::Decommissioned => before,
                _ if live => AdminState::Decommissioning,
                _ => AdminState::Decommissioned,
            },
            Wish::Maintenance { .. } => match before {
                AdminState::EnteringMaintenance | AdminState::InMaintenance => before,
                _ if live => AdminState::EnteringMaintenance,
                _ => AdminState::InMaintenance,
            },
        };
        if after == before {
            return;
        }
        node.admin = after;
        node.lacking = Lacking::default();
        if before.is_maintained() && !after.is_maintained() && !live {
            // What was kept because it would come back is lost now.
            self.bury(at, now);
        }
        self.drain = Drain::default();
        self.sweep.request();
    }

    /// A decommissioned datanode registers: if it was dead when it was declared so, nobody looked at what it holds. It is
    /// looked at again.
    pub(super) fn doubt_departure(&mut self, at: NodeIndex) {
        let node = self.nodes.node_mut(at);
        if node.admin == AdminState::Decommissioned {
            node.admin = AdminState::Decommissioning;
            self.drain = Drain::default();
        }
    }

    /// Maintenance that is over by the time that was given for it.
    pub(super) fn end_maintenance(&mut self, now: Millis) {
        for at in self.nodes.indexes() {
            let node = self.nodes.node(at);
            if node.admin.is_maintained() && node.wish.at(now) == Wish::InService {
                self.obey(at, node.wish, now);
            }
        }
    }

    pub(super) fn standing(&self, at: StorageIndex) -> Standing {
        let storage = self.nodes.storage(at);
        let node = self.nodes.node(storage.node);
        if storage.dropped {
            Standing::Gone
        } else if node.admin.is_maintained() {
            Standing::Maintained
        } else if !node.live {
            Standing::Gone
        } else if node.admin.serves() {
            Standing::Serving
        } else {
            Standing::Leaving
        }
    }

    pub(super) fn serves(&self, at: StorageIndex) -> bool {
        self.standing(at) == Standing::Serving
    }

    pub(super) fn tally(&self, places: &[StorageIndex]) -> Tally {
        let mut tally = Tally::default();
        for place in places {
            match self.standing(*place) {
                Standing::Serving => tally.serving += 1,
                Standing::Maintained => tally.maintained += 1,
                Standing::Leaving | Standing::Gone => {}
            }
            tally.present += usize::from(self.nodes.counts(*place));
        }
        tally
    }

    /// How many serving replicas are enough: those in maintenance come back, so that fewer will do meanwhile.
    pub(super) fn enough(&self, replication: u16, tally: Tally) -> usize {
        let wanted = usize::from(replication);
        let least = usize::from(self.settings.min_maintenance_replication).min(wanted);
        wanted.saturating_sub(tally.maintained).max(least)
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

    /// Looks at up to `limit` more blocks for the sake of leaving datanodes; true if there is more to do. At the end of a
    /// pass, those without a block that lacks replicas elsewhere have left.
    pub fn drain(&mut self, limit: usize, now: Millis) -> bool {
        if self.safe_mode.is_on() || self.active_since.is_none() || self.sweep.is_under_way() {
            return false;
        }
        let from = match self.drain.next {
            Some(next) => next,
            None => {
                let leaving = self.nodes.indexes().filter(|at| self.nodes.node(*at).admin.is_leaving());
                self.drain.found = leaving.map(|at| (at, Lacking::default())).collect();
                self.drain.needed_since.clear();
                self.drain.blocking.clear();
                BlockId(0)
            }
        };
        if self.drain.found.is_empty() {
            self.blocking.clear();
            return false;
        }
        let mut drain = std::mem::take(&mut self.drain);
        let mut last = None;
        for (id, entry) in self.table.range(from..=BlockId(u64::MAX)).take(limit) {
            last = Some(id);
            self.look_at(entry, &mut drain.found);
        }
        drain.next = last.map(BlockId::next);
        let done = last.is_none();
        if done {
            self.look_at_open(&mut drain);
            self.blocking = std::mem::take(&mut drain.blocking);
        }
        self.drain = drain;
        if done {
            self.leave(now);
        }
        !done
    }

    /// A block that a pass has left behind was judged again: who is needed for it now does not leave at the end of the pass.
    pub(super) fn look_behind(&mut self, id: BlockId) {
        if self.drain.next.is_none_or(|next| id >= next) {
            return;
        }
        let Some(entry) = self.table.get(id) else { return };
        let nodes = entry.places.as_slice().iter().map(|place| self.nodes.storage(*place).node);
        let needed: SmallVec<[NodeIndex; 2]> = nodes
            .filter(|node| self.drain.found.contains_key(node) && !self.is_safe_without(*node, entry))
            .collect();
        self.drain.needed_since.extend(needed);
    }

    fn look_at(&self, entry: &Entry, found: &mut BTreeMap<NodeIndex, Lacking>) {
        let nodes = entry.places.as_slice().iter().map(|place| self.nodes.storage(*place).node);
        let leaving: SmallVec<[NodeIndex; 2]> = nodes.filter(|node| found.contains_key(node)).collect();
        if leaving.is_empty() {
            return;
        }
        let only_here = self.tally(entry.places.as_slice()).serving == 0;
        for node in leaving.into_iter().filter(|node| !self.is_safe_without(*node, entry)) {
            let lacking = found.entry(node).or_default();
            lacking.blocks += 1;
            lacking.only_here += u64::from(only_here);
        }
    }

    /// Blocks of open files: they may be left behind if enough of their pipeline serves.
    fn look_at_open(&self, drain: &mut Drain) {
        for (id, building) in &self.building {
            let places = self.places_of(building);
            let nodes = places.iter().map(|place| self.nodes.storage(*place).node);
            let leaving: SmallVec<[NodeIndex; 2]> =
                nodes.filter(|node| drain.found.contains_key(node)).collect();
            let serving = places.iter().filter(|place| self.serves(**place)).count();
            if leaving.is_empty() || serving >= usize::from(self.settings.min_replication) {
                continue;
            }
            for node in leaving {
                drain.found.entry(node).or_default().open += 1;
            }
            if drain.blocking.len() < MAX_BLOCKING {
                drain.blocking.push(*id);
            }
        }
    }

    fn places_of(&self, building: &Building) -> SmallVec<[StorageIndex; 4]> {
        let mut places: SmallVec<[StorageIndex; 4]> =
            building.expected.iter().filter_map(|id| self.nodes.find_storage(*id)).collect();
        for report in &building.reports {
            if !places.contains(&report.storage) {
                places.push(report.storage);
            }
        }
        places
    }

    /// The end of a pass: who has nothing left that others lack has left.
    fn leave(&mut self, now: Millis) {
        let mut left = false;
        let needed_since = std::mem::take(&mut self.drain.needed_since);
        for (at, lacking) in std::mem::take(&mut self.drain.found) {
            // Of a dead datanode nobody knows what it held: it has left when nothing lacks any more.
            let quiet =
                self.missing.is_empty() && self.needed.iter().all(std::collections::BTreeSet::is_empty);
            let node = self.nodes.node(at);
            let known = node.storages.iter().all(|at| {
                let storage = self.nodes.storage(*at);
                storage.dropped || storage.reported
            });
            let ready = if node.live { known } else { quiet };
            let node = self.nodes.node_mut(at);
            node.lacking = lacking;
            if lacking == Lacking::default() && ready && !needed_since.contains(&at) {
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

    /// Blocks of open files that keep datanodes from leaving, as the last pass found them; at most [`MAX_BLOCKING`].
    #[must_use]
    pub fn blocking(&self) -> &[BlockId] {
        &self.blocking
    }

    /// All that is known of a block's replicas.
    #[must_use]
    pub fn survey(&self, block: BlockId) -> Vec<SurveyedReplica> {
        let mut found: Vec<SurveyedReplica> = Vec::new();
        for place in self.table.get(block).into_iter().flat_map(|entry| entry.places.as_slice()) {
            let storage = self.nodes.storage(*place);
            let node = self.nodes.node(storage.node);
            let condition = match node.admin {
                _ if storage.dropped => continue,
                AdminState::EnteringMaintenance => Condition::EnteringMaintenance,
                AdminState::InMaintenance => Condition::InMaintenance,
                _ if !node.live => continue,
                AdminState::Decommissioning => Condition::Decommissioning,
                AdminState::Decommissioned => Condition::Decommissioned,
                AdminState::Normal if self.topology.is_stale(storage.report.id) => Condition::Stale,
                AdminState::Normal => Condition::Live,
            };
            found.push(SurveyedReplica { storage: storage.report.id, condition });
        }
        for mark in self.bad.get(&block).into_iter().flatten() {
            if self.nodes.counts(mark.storage) {
                let storage = self.nodes.storage(mark.storage).report.id;
                found.push(SurveyedReplica { storage, condition: Condition::Corrupt });
            }
        }
        if self.table.get(block).is_some() {
            for at in self.nodes.indexes() {
                let orders = &self.nodes.node(at).orders;
                if let Some(invalid) = orders.invalid(block).filter(|invalid| invalid.why == Why::Excess) {
                    let storage = self.nodes.storage(invalid.storage).report.id;
                    found.push(SurveyedReplica { storage, condition: Condition::Excess });
                }
            }
        }
        found
    }
}
