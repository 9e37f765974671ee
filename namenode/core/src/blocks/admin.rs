//! Datanodes that leave service: decommission and maintenance.
//!
//! A replica on a datanode that leaves does not count as one of those that are wanted, so the block is copied elsewhere;
//! it can still be read and copied from. A datanode in maintenance is expected back: blocks need fewer replicas elsewhere
//! meanwhile, and what it holds is not forgotten while it is down.
//!
//! What keeps a datanode from leaving is in [`super::leaving`].

use steadfs_common::{BlockId, DatanodeUuid, FsError, FsResult, Millis, StorageId};

use super::map::BlockMap;
use super::nodes::{Address, NodeIndex};
use super::places::StorageIndex;
use super::roster::{Roster, Wish};
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

/// What keeps a datanode from leaving, or from being stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Complete blocks with too few replicas elsewhere.
    pub blocks: u64,
    /// Those of them without any replica on a datanode that serves.
    pub only_here: u64,
    /// Blocks of open files with too few replicas elsewhere.
    pub open: u64,
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
        self.release(at);
        if before.is_maintained() && !after.is_maintained() && !live {
            // What was kept because it would come back is lost now.
            self.bury(at, now);
        }
        self.sweep.request();
    }

    /// A decommissioned datanode registers: if it was dead when it was declared so, nobody looked at what it holds. It is
    /// looked at again.
    pub(super) fn doubt_departure(&mut self, at: NodeIndex) {
        let node = self.nodes.node_mut(at);
        if node.admin == AdminState::Decommissioned {
            node.admin = AdminState::Decommissioning;
            self.sweep.request();
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

    /// Blocks of open files that keep datanodes from leaving, as the last round found them; at most [`MAX_BLOCKING`].
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
