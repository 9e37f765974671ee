//! Bad replicas: what is known of them, and when they may be deleted.

use std::collections::VecDeque;
use std::time::Duration;

use smallvec::SmallVec;
use steadfs_common::{BlockId, GenStamp, Millis, StorageId};

use super::map::BlockMap;
use super::nodes::NodeIndex;
use super::places::StorageIndex;
use super::work::{Invalid, Why};
use crate::command::BlockRef;

/// Replicas of one datanode that it is asked to look at. What does not fit is looked at when its turn comes there.
const MAX_CHECKS: usize = 10_000;
/// Replicas that one answer to a heartbeat asks to be looked at.
const CHECKS_PER_HEARTBEAT: usize = 100;
/// A datanode that has not said what it found is asked again after this.
const CHECK_RETRY: Duration = Duration::from_secs(60);

/// Replicas of one datanode that a reader called bad, until it says what it finds.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// With the time before which it is not asked; the next one first.
    due: VecDeque<(Millis, BlockId)>,
}

impl Checks {
    fn ask(&mut self, id: BlockId) {
        if self.due.len() < MAX_CHECKS && self.due.iter().all(|(_, other)| *other != id) {
            self.due.push_front((Millis(0), id));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    fn next(&mut self, now: Millis) -> Option<BlockId> {
        self.due.pop_front_if(|(due, _)| *due <= now).map(|(_, id)| id)
    }
}

/// How a replica was found to be bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its stamp, length or state is not the complete block's, or its own datanode found it damaged: certain.
    Proven,
    /// A reader says so: its network or memory may be to blame.
    Suspected,
}

/// A bad replica of a complete block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bad {
    pub(super) storage: StorageIndex,
    pub(super) stamp: GenStamp,
    pub(super) length: u64,
    pub(super) cause: Cause,
}

impl BlockMap {
    /// Notes that these replicas of a block are bad. Those that are not known to be there are ignored.
    ///
    /// `proven` says that the datanode of the replica itself found it, not a reader.
    pub fn report_bad(&mut self, block: BlockRef, storages: &[StorageId], proven: bool) {
        let Some(entry) = self.table.get(block.id) else { return };
        if entry.stamp != block.stamp {
            return;
        }
        let length = entry.length;
        let cause = if proven { Cause::Proven } else { Cause::Suspected };
        for id in storages {
            let Some(storage) = self.nodes.find_storage(*id) else { continue };
            let counts = self.table.get(block.id).is_some_and(|entry| entry.places.contains(storage));
            // What a reader said before is proven now.
            let doubted =
                proven && self.is_bad(block.id, storage).is_some_and(|mark| mark.stamp == block.stamp);
            if counts || doubted {
                self.mark_bad(block.id, Bad { storage, stamp: block.stamp, length, cause });
                if !proven {
                    let node = self.nodes.storage(storage).node;
                    self.nodes.node_mut(node).orders.checks.ask(block.id);
                }
            }
        }
        self.evaluate(block.id);
    }

    /// Replicas that the datanode shall look at now: those that only a reader called bad.
    pub(super) fn take_checks(&mut self, at: NodeIndex, now: Millis) -> Vec<BlockRef> {
        let mut blocks = Vec::new();
        while blocks.len() < CHECKS_PER_HEARTBEAT
            && let Some(id) = self.nodes.node_mut(at).orders.checks.next(now)
        {
            let suspected =
                |mark: &&Bad| mark.cause == Cause::Suspected && self.nodes.storage(mark.storage).node == at;
            let mark = self.bad.get(&id).and_then(|marks| marks.iter().find(suspected));
            if let Some(mark) = mark {
                blocks.push(BlockRef { id, stamp: mark.stamp, length: mark.length });
                self.nodes.node_mut(at).orders.checks.due.push_back((now.plus(CHECK_RETRY), id));
            }
        }
        blocks
    }

    /// The replica there is bad: it no longer counts.
    pub(super) fn mark_bad(&mut self, id: BlockId, bad: Bad) {
        self.drop_place(id, bad.storage);
        let marks = self.bad.entry(id).or_default();
        match marks.iter_mut().find(|mark| mark.storage == bad.storage) {
            Some(mark)
                if mark.stamp == bad.stamp && mark.length == bad.length && mark.cause == Cause::Proven => {}
            Some(mark) => *mark = bad,
            None => marks.push(bad),
        }
    }

    pub(super) fn is_bad(&self, id: BlockId, storage: StorageIndex) -> Option<&Bad> {
        self.bad.get(&id)?.iter().find(|mark| mark.storage == storage)
    }

    /// Where bad replicas are that can be asked for. Marks of datanodes and volumes that are gone wait for these to come back;
    /// nobody is to do anything about them.
    pub(super) fn bad_places<'a>(&'a self, marks: &'a [Bad]) -> impl Iterator<Item = StorageIndex> + 'a {
        marks.iter().map(|mark| mark.storage).filter(|place| self.nodes.counts(*place))
    }

    /// The bad replica there is gone, or a good one took its place.
    pub(super) fn clear_bad(&mut self, id: BlockId, storage: StorageIndex) {
        if let Some(marks) = self.bad.get_mut(&id) {
            marks.retain(|mark| mark.storage != storage);
            if marks.is_empty() {
                self.bad.remove(&id);
            }
        }
    }

    /// Whether a bad replica may go: as many good ones live as are wanted, or as the cluster has nodes without a bad one
    /// of this block. A replica that only a reader called bad stays until two good ones live (or all that are wanted).
    pub(super) fn bad_is_deletable(&self, id: BlockId, storage: StorageIndex) -> bool {
        let (Some(entry), Some(mark)) = (self.table.get(id), self.is_bad(id, storage)) else { return false };
        let good = self.proven(entry.places.as_slice());
        let wanted = usize::from(entry.replication.max(1));
        let spoilt = self
            .bad
            .get(&id)
            .map_or(0, |marks| marks.iter().filter(|mark| self.nodes.counts(mark.storage)).count());
        let possible = self.nodes.serving().saturating_sub(spoilt).max(1);
        let enough = match mark.cause {
            Cause::Proven => 1,
            Cause::Suspected => wanted.min(2),
        };
        good >= wanted.min(possible) && good >= enough
    }

    /// Orders bad replicas to be deleted as far as they may be.
    pub(super) fn drop_bad(&mut self, id: BlockId) {
        let marks: SmallVec<[Bad; 2]> = self.bad.get(&id).into_iter().flatten().copied().collect();
        for mark in marks {
            let node = self.nodes.storage(mark.storage).node;
            let ordered = self.nodes.node(node).orders.invalid(id).is_some();
            if !ordered
                && !self.keeps_stamp(mark.stamp)
                && self.nodes.counts(mark.storage)
                && self.bad_is_deletable(id, mark.storage)
            {
                let Bad { storage, stamp, length, .. } = mark;
                let invalid = Invalid::new(stamp, length, storage, Why::Corrupt);
                self.nodes.node_mut(node).orders.invalidate(id, invalid);
            }
        }
    }
}
