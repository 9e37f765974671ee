//! Bad replicas: what is known of them, and when they may be deleted.

use smallvec::SmallVec;
use steadfs_common::{BlockId, GenStamp, StorageId};

use super::map::BlockMap;
use super::places::StorageIndex;
use super::work::{Invalid, Why};
use crate::command::BlockRef;

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
            let known = self.table.get(block.id).is_some_and(|entry| entry.places.contains(storage));
            if known {
                self.mark_bad(block.id, Bad { storage, stamp: block.stamp, length, cause });
            }
        }
        self.evaluate(block.id);
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
                let invalid = Invalid { stamp, length, storage, why: Why::Corrupt, sent: false };
                self.nodes.node_mut(node).orders.invalidate(id, invalid);
            }
        }
    }
}
