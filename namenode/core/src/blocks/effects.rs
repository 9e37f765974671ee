//! What the namespace says: it is always right.

use smallvec::SmallVec;
use steadfs_common::{BlockId, GenStamp, Millis, StorageId};

use super::bad::Bad;
use super::map::{BlockMap, Building, Pending, Reported};
use super::places::StorageIndex;
use super::recover::RecoveryWork;
use super::report::{Replica, ReplicaState};
use super::work::{Invalid, Why};
use crate::command::{BlockRef, Effect};

/// Orders are for replicas of this stamp or an older one. The greatest that every peer's signed number holds.
const ANY_STAMP: GenStamp = GenStamp(i64::MAX as u64);

impl BlockMap {
    /// Takes what follows from a change that is durable, in the order of the changes.
    pub fn apply(&mut self, effect: Effect, now: Millis) {
        match effect {
            Effect::Pipeline { block, stamp: _, replication, room, storages } => {
                self.pipeline(block, replication, room, storages);
            }
            Effect::Completed { block, stamp, length, replication } => {
                self.completed(block, stamp, length, replication, now);
            }
            Effect::Held { block, storages } => self.held(block, &storages, now),
            Effect::Reopened { block } => self.reopened(block),
            Effect::Replication { block, replication } => self.replication(block, replication),
            Effect::Removed { block } => self.removed(block),
            Effect::Recover { block, recovery_stamp, truncate_to, storages, synced, unsure } => {
                self.changes.note(block.id);
                let old = self.recoveries.remove(&block.id);
                let since = old.as_ref().and_then(|old| old.since);
                let repeats = old.as_ref().map_or(0, |old| old.repeats.saturating_add(1));
                // Who was asked last may be the one that does not answer.
                let tried = old.and_then(|old| old.primary).into_iter().map(|(node, _)| node).collect();
                let id = block.id;
                let work = RecoveryWork {
                    block,
                    stamp: recovery_stamp,
                    truncate_to,
                    storages,
                    synced,
                    unsure,
                    since,
                    primary: None,
                    tried,
                    led: false,
                    repeats,
                };
                self.recoveries.insert(id, work);
                if !self.safe_mode.is_on() {
                    self.assign_recovery(id, now);
                }
            }
            Effect::LeaseStarted { .. } | Effect::LeaseEnded { .. } => {}
        }
    }

    /// The block as one that is not complete; what was known of it as a complete one is kept as reports.
    fn build(&mut self, block: BlockId) -> &mut Building {
        if let Some(entry) = self.take_entry(block) {
            let bad = self.bad.remove(&block).unwrap_or_default();
            let report = |storage: &StorageIndex| Reported {
                storage: *storage,
                stamp: entry.stamp,
                length: entry.length,
                state: ReplicaState::Finalized,
            };
            let reports = entry.places.as_slice().iter().map(report).collect();
            let building = Building { replication: entry.replication, reports, bad, ..Building::default() };
            self.building.insert(block, building);
        }
        self.building.entry(block).or_default()
    }

    fn pipeline(&mut self, block: BlockId, replication: u16, room: u64, storages: SmallVec<[StorageId; 3]>) {
        self.changes.note(block);
        let building = self.build(block);
        building.replication = replication;
        building.room = room;
        building.expected = storages;
        self.recoveries.remove(&block);
    }

    /// Whoever recovered the block saw it there: readers find it at once, and not when the reports have come.
    fn held(&mut self, block: BlockRef, storages: &[StorageId], now: Millis) {
        for storage in storages {
            let found = self.nodes.find_storage(*storage);
            let Some(place) = found.filter(|place| self.nodes.counts(*place)) else { continue };
            self.note_building(place, Replica { block, state: ReplicaState::Finalized });
            self.nodes.storage_mut(place).recent.note(block.id, None, now);
        }
    }

    fn reopened(&mut self, block: BlockId) {
        self.changes.note(block);
        self.build(block);
    }

    fn replication(&mut self, block: BlockId, replication: u16) {
        self.changes.note(block);
        if let Some(building) = self.building.get_mut(&block) {
            building.replication = replication;
        } else if let Some(entry) = self.table.get_mut(block) {
            entry.replication = replication;
            self.evaluate(block);
        }
    }

    fn completed(&mut self, block: BlockId, stamp: GenStamp, length: u64, replication: u16, now: Millis) {
        self.changes.note(block);
        self.recoveries.remove(&block);
        if let Some(entry) = self.table.get_mut(block)
            && entry.stamp == stamp
            && entry.length == length
        {
            entry.replication = replication;
            self.evaluate(block);
            return;
        }
        let known = std::mem::take(self.build(block));
        self.building.remove(&block);
        self.table.insert(block, stamp, length, replication);
        let node_of = |storage: StorageIndex| self.nodes.storage(storage).node;
        let former: SmallVec<[Bad; 1]> = known
            .bad
            .into_iter()
            .filter(|mark| known.reports.iter().all(|other| node_of(other.storage) != node_of(mark.storage)))
            .collect();
        for Bad { storage, stamp, length, cause, .. } in former {
            self.mark_bad(block, Bad::new(storage, (stamp, length), cause));
        }
        for report in known.reports {
            let Reported { storage, stamp: its, length: bytes, state } = report;
            match state {
                ReplicaState::Finalized if its == stamp && bytes == length => self.put_place(block, storage),
                // Its last word may be on its way.
                ReplicaState::BeingWritten if its == stamp => {}
                _ => {
                    let cause = Self::cause_of(state);
                    self.mark_bad(block, Bad::new(storage, (its, bytes), cause));
                }
            }
        }
        self.await_pipeline(block, &known.expected, now);
        self.evaluate(block);
    }

    /// The rest of the pipeline reports in a moment: until then it is not replaced.
    fn await_pipeline(&mut self, block: BlockId, expected: &[StorageId], now: Millis) {
        let Some(entry) = self.table.get(block) else { return };
        let targets: SmallVec<[StorageIndex; 3]> = expected
            .iter()
            .filter_map(|id| self.nodes.find_storage(*id))
            .filter(|at| self.serves(*at) && !entry.places.contains(*at))
            .collect();
        if !targets.is_empty() {
            let deadline = now.plus(self.settings.completion_grace);
            self.pending.insert(
                block,
                Pending { targets, sources: SmallVec::new(), deadline, bytes: entry.length, spreads: false },
            );
        }
    }

    /// The namespace has no such block: wherever it is known to be, it is to be deleted.
    pub(super) fn removed(&mut self, block: BlockId) {
        self.changes.note(block);
        self.recoveries.remove(&block);
        let mut replicas: SmallVec<[(StorageIndex, u64); 4]> = SmallVec::new();
        // The bad ones first: of two replicas on one datanode the later order stands.
        for mark in self.bad.remove(&block).into_iter().flatten() {
            replicas.push((mark.storage, mark.length));
        }
        if let Some(building) = self.building.remove(&block) {
            replicas.extend(building.bad.iter().map(|mark| (mark.storage, mark.length)));
            replicas.extend(building.reports.iter().map(|report| (report.storage, report.length)));
        }
        if let Some(entry) = self.take_entry(block) {
            replicas.extend(entry.places.as_slice().iter().map(|place| (*place, entry.length)));
        }
        for (storage, length) in replicas {
            self.delete_gone(block, storage, length);
        }
    }

    /// Orders a replica of a block that does not exist to be deleted, whatever its stamp is by now: its id will never be
    /// used again. None where nobody could follow: a volume that comes back, and a datanode, lists its replicas.
    pub(super) fn delete_gone(&mut self, block: BlockId, storage: StorageIndex, length: u64) {
        if !self.nodes.counts(storage) {
            return;
        }
        let node = self.nodes.storage(storage).node;
        let invalid = Invalid::new(ANY_STAMP, length, storage, Why::Gone);
        self.nodes.node_mut(node).orders.invalidate(block, invalid);
    }
}
