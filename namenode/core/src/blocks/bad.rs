//! Bad replicas: what is known of them, and when they may be deleted.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use smallvec::SmallVec;
use steadfs_common::{BlockId, GenStamp, Millis, StorageId};

use super::map::BlockMap;
use super::nodes::NodeIndex;
use super::places::StorageIndex;
use super::report::ReplicaState;
use super::table::Entry;
use super::work::{Invalid, Why};
use crate::command::BlockRef;

/// Replicas of one datanode that it is asked to look at. For what does not fit all blocks are judged again when there is room.
const MAX_CHECKS: usize = 10_000;
/// Replicas that one answer to a heartbeat asks to be looked at.
const CHECKS_PER_HEARTBEAT: usize = 100;
/// A datanode that has not said what it found is asked again after this.
const CHECK_RETRY: Duration = Duration::from_secs(60);

/// Replicas of one datanode that it is to read, until it says what it finds.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// With the time before which it is not asked; the next one first.
    due: VecDeque<(Millis, BlockId)>,
    /// The blocks of `due`: each is there once.
    queued: BTreeSet<BlockId>,
    /// Some had no room.
    overflowed: bool,
}

impl Checks {
    fn ask(&mut self, id: BlockId) {
        if self.queued.contains(&id) {
            return;
        }
        if self.due.len() < MAX_CHECKS {
            self.queued.insert(id);
            self.due.push_front((Millis(0), id));
        } else {
            self.overflowed = true;
        }
    }

    /// Asks after one again that was taken, at `due` at the earliest.
    fn ask_again(&mut self, id: BlockId, due: Millis) {
        self.queued.insert(id);
        self.due.push_back((due, id));
    }

    /// Whether what found no room is to be looked for now.
    fn takes_more(&mut self) -> bool {
        self.due.len() <= MAX_CHECKS / 2 && std::mem::take(&mut self.overflowed)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// The next one, and whether it was asked for anew.
    fn next(&mut self, now: Millis) -> Option<(BlockId, bool)> {
        let (due, id) = self.due.pop_front_if(|(due, _)| *due <= now)?;
        self.queued.remove(&id);
        Some((id, due == Millis(0)))
    }
}

/// How a replica was found to be bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its stamp or length is not the complete block's, or its own datanode found it damaged: certain.
    Proven,
    /// Its writer was gone before it was final: certain, unless a late recovery makes it final after all.
    Unfinished,
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
    /// The good replica that was read since, and the life of its datanode: what is read then is what the disk has.
    pub(super) verified: Option<(StorageIndex, u64)>,
}

impl Bad {
    pub(super) const fn new(storage: StorageIndex, (stamp, length): (GenStamp, u64), cause: Cause) -> Self {
        Self { storage, stamp, length, cause, verified: None }
    }
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
                self.mark_bad(block.id, Bad::new(storage, (block.stamp, length), cause));
                if !proven {
                    let node = self.nodes.storage(storage).node;
                    self.nodes.node_mut(node).orders.checks.ask(block.id);
                }
            }
        }
        self.evaluate(block.id);
    }

    /// Replicas that the datanode shall look at now: those that only a reader called bad, any that is not to be deleted after
    /// all, and the only good one of a block for which bad ones are to go.
    pub(super) fn take_checks(&mut self, at: NodeIndex, now: Millis) -> Vec<BlockRef> {
        let mut blocks = Vec::new();
        while blocks.len() < CHECKS_PER_HEARTBEAT
            && let Some((id, anew)) = self.nodes.node_mut(at).orders.checks.next(now)
        {
            let only = self.unverified(id).filter(|(_, place)| self.nodes.storage(*place).node == at);
            let asked = |mark: &&Bad| {
                (anew || mark.cause == Cause::Suspected)
                    && self.nodes.storage(mark.storage).node == at
                    && self.nodes.counts(mark.storage)
            };
            let mark = || self.bad.get(&id).and_then(|marks| marks.iter().find(asked));
            let (block, repeated) = match only {
                Some((block, _)) => (block, true),
                None => match mark() {
                    Some(Bad { stamp, length, cause, .. }) => {
                        (BlockRef { id, stamp: *stamp, length: *length }, *cause == Cause::Suspected)
                    }
                    None => continue,
                },
            };
            blocks.push(block);
            if repeated {
                self.nodes.node_mut(at).orders.checks.ask_again(id, now.plus(CHECK_RETRY));
            }
        }
        if self.nodes.node_mut(at).orders.checks.takes_more() {
            self.sweep.request();
        }
        blocks
    }

    /// The only good replica of a block, if bad ones could be deleted but for its not having been read: each of them may have what
    /// it has lost.
    fn unverified(&self, id: BlockId) -> Option<(BlockRef, StorageIndex)> {
        let entry = self.table.get(id)?;
        let &[place] = self.proven_places(entry.places.as_slice()).as_slice() else { return None };
        let waits = |mark: &Bad| {
            mark.verified != Some(self.life_of(place))
                && self.nodes.counts(mark.storage)
                && self.is_outnumbered((id, entry), mark, 1)
        };
        let block = BlockRef { id, stamp: entry.stamp, length: entry.length };
        self.bad.get(&id)?.iter().any(waits).then_some((block, place))
    }

    /// A volume, and the life of its datanode.
    fn life_of(&self, place: StorageIndex) -> (StorageIndex, u64) {
        (place, self.nodes.node(self.nodes.storage(place).node).session)
    }

    /// The datanode of a replica has compared all its bytes with their checksums.
    pub(super) fn was_verified(&mut self, block: BlockRef, at: StorageIndex) {
        let life = self.life_of(at);
        let good = |entry: &Entry| {
            (entry.stamp, entry.length) == (block.stamp, block.length) && entry.places.contains(at)
        };
        if self.table.get(block.id).is_some_and(good)
            && let Some(marks) = self.bad.get_mut(&block.id)
        {
            marks.iter_mut().for_each(|mark| mark.verified = Some(life));
            self.evaluate(block.id);
        }
    }

    /// The replicas of a volume count when others are deleted, from now on: bad ones may have waited for that. Those on it that
    /// only a reader called bad can be looked at again.
    pub(super) fn judge_bad_beside(&mut self, at: StorageIndex) {
        if self.bad.len() > MAX_CHECKS {
            return self.sweep.request();
        }
        let beside = |id: &BlockId| self.table.get(*id).is_some_and(|entry| entry.places.contains(at));
        let blocks: Vec<BlockId> = self.bad.keys().copied().filter(beside).collect();
        blocks.into_iter().for_each(|id| self.evaluate(id));
        let doubted = |mark: &Bad| mark.storage == at && mark.cause == Cause::Suspected;
        let there = self.bad.iter().filter(|(_, marks)| marks.iter().any(doubted)).map(|(id, _)| *id);
        let node = self.nodes.storage(at).node;
        for id in there.collect::<Vec<_>>() {
            self.nodes.node_mut(node).orders.checks.ask(id);
        }
    }

    /// The replica there is bad: it no longer counts.
    pub(super) fn mark_bad(&mut self, id: BlockId, bad: Bad) {
        self.drop_place(id, bad.storage);
        let marks = self.bad.entry(id).or_default();
        match marks.iter_mut().find(|mark| mark.storage == bad.storage) {
            Some(mark)
                if mark.stamp == bad.stamp && mark.length == bad.length && mark.cause == Cause::Proven => {}
            Some(mark) => *mark = Bad { verified: mark.verified, ..bad },
            None => marks.push(bad),
        }
    }

    /// Why a replica of this state cannot be one of a complete block.
    pub(super) const fn cause_of(state: ReplicaState) -> Cause {
        match state {
            ReplicaState::BeingWritten | ReplicaState::WaitingRecovery => Cause::Unfinished,
            ReplicaState::Finalized | ReplicaState::Bad => Cause::Proven,
        }
    }

    /// Whether a replica that was not final is to be deleted as it is: what it has become goes with it.
    pub(super) fn is_doomed(&self, block: BlockRef, at: StorageIndex) -> bool {
        let unfinished = self
            .is_bad(block.id, at)
            .is_some_and(|mark| mark.cause == Cause::Unfinished && mark.stamp == block.stamp);
        unfinished && self.is_ordered_away(block, at)
    }

    /// Whether a replica is to be deleted. Its datanode may follow at any time, so it must not count, however good it is: others
    /// would be deleted for it.
    pub(super) fn is_ordered_away(&self, block: BlockRef, at: StorageIndex) -> bool {
        let orders = &self.nodes.node(self.nodes.storage(at).node).orders;
        orders.invalid(block.id).is_some_and(|order| order.storage == at && order.stamp >= block.stamp)
    }

    /// Its datanode has found that this replica is good.
    pub(super) fn absolve(&mut self, block: BlockRef, at: StorageIndex) {
        let this = |mark: &Bad| (mark.stamp, mark.length) == (block.stamp, block.length);
        if self.is_bad(block.id, at).is_some_and(this) {
            self.clear_bad(block.id, at);
        }
    }

    /// A bad replica is not to be deleted any more: it may be good by now, and nobody told because it was ordered away.
    pub(super) fn doubt_order(&mut self, id: BlockId, storage: StorageIndex) {
        if self.is_bad(id, storage).is_some() {
            let node = self.nodes.storage(storage).node;
            self.nodes.node_mut(node).orders.checks.ask(id);
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

    /// Whether a bad replica may go: enough good ones live, and if that is a single one it was verified. One that nobody read since
    /// it was written may be rotten itself, or was when it was extended, and what it lacks the others may have.
    pub(super) fn bad_is_deletable(&self, id: BlockId, storage: StorageIndex) -> bool {
        let (Some(entry), Some(mark)) = (self.table.get(id), self.is_bad(id, storage)) else { return false };
        let good = self.proven_places(entry.places.as_slice());
        self.is_outnumbered((id, entry), mark, good.len())
            && match good.as_slice() {
                [place] => mark.verified == Some(self.life_of(*place)),
                _ => true,
            }
    }

    /// Whether as many good replicas live as are wanted, or as the cluster has nodes without a bad one of this block. For one
    /// that only a reader called bad two must live (or all that are wanted).
    fn is_outnumbered(&self, (id, entry): (BlockId, &Entry), mark: &Bad, good: usize) -> bool {
        let wanted = usize::from(entry.replication.max(1));
        let spoilt = self
            .bad
            .get(&id)
            .map_or(0, |marks| marks.iter().filter(|mark| self.nodes.counts(mark.storage)).count());
        let possible = self.nodes.serving().saturating_sub(spoilt).max(1);
        let enough = match mark.cause {
            Cause::Proven | Cause::Unfinished => 1,
            Cause::Suspected => wanted.min(2),
        };
        good >= wanted.min(possible).max(enough)
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
        if let Some((_, place)) = self.unverified(id) {
            let node = self.nodes.storage(place).node;
            self.nodes.node_mut(node).orders.checks.ask(id);
        }
    }
}
