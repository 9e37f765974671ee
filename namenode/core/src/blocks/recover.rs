//! Recoveries of blocks: who leads them, who is asked, and how long who cannot be asked is waited for.

use std::time::Duration;

use smallvec::SmallVec;
use steadfs_common::{BlockId, GenStamp, Millis, StorageId};

use super::map::BlockMap;
use super::nodes::NodeIndex;
use super::work::{BLOCKS_PER_ROUND, NodeCommand};
use crate::command::BlockRef;
use crate::namespace::lease::RECOVERY_RETRY;

/// Recoveries that one answer to a heartbeat orders. No more wait for a datanode: it would be told of them when others already
/// lead them.
const RECOVERS_PER_HEARTBEAT: usize = 64;
/// The longest that a recovery which does not end is left alone before it is asked for again: who is cut off from the others and
/// not from the namenode comes back without any news here, and its file is to be closed soon after.
const LONGEST_RETRY: Duration = Duration::from_secs(120);
/// The same where nobody can lead it: who comes is told at once.
const UNLED_RETRY: Duration = Duration::from_secs(600);
/// The wait doubles no more often.
const MAX_DOUBLINGS: u32 = 8;
/// Datanodes that may lead the recovery of a block of which nothing is left.
const WITNESSES: usize = 8;

/// A recovery that some primary shall bring to its end.
#[derive(Debug)]
pub(super) struct RecoveryWork {
    pub(super) block: BlockRef,
    pub(super) stamp: GenStamp,
    pub(super) truncate_to: Option<u64>,
    pub(super) storages: SmallVec<[StorageId; 3]>,
    /// Bytes that are known to be on disks.
    pub(super) synced: u64,
    /// The others may be, too.
    pub(super) unsure: bool,
    /// Since when it is tried to be recovered, as far as this process knows.
    pub(super) since: Option<Millis>,
    /// Who was told, and when it counts as not coming back.
    pub(super) primary: Option<(NodeIndex, Millis)>,
    /// Primaries that did not come back.
    pub(super) tried: SmallVec<[NodeIndex; 3]>,
    /// Somebody was told of it, under this stamp.
    pub(super) led: bool,
    /// How often it was asked for anew since there was news of one of its storages.
    pub(super) repeats: u32,
}

impl BlockMap {
    /// How long a block's recovery that runs is left alone before it is asked for again, under a new stamp. That helps only where
    /// somebody could be told of the old one, and each time less, until there is news of one of its storages: whoever can lead
    /// it is told at once, whatever its stamp.
    #[must_use]
    pub fn recovery_wait(&self, block: BlockId) -> Duration {
        match self.recoveries.get(&block) {
            None => RECOVERY_RETRY,
            Some(work) if work.led => {
                RECOVERY_RETRY.saturating_mul(1 << work.repeats.min(MAX_DOUBLINGS)).min(LONGEST_RETRY)
            }
            Some(_) => UNLED_RETRY,
        }
    }

    /// A replica of a block was reported: a recovery of it that did not end may end now.
    pub(super) fn news_for_recovery(&mut self, block: BlockId) {
        if let Some(work) = self.recoveries.get_mut(&block) {
            work.repeats = 0;
        }
    }

    /// Tells a datanode which recoveries it leads.
    pub(super) fn give_recovers(&mut self, at: NodeIndex, commands: &mut Vec<NodeCommand>, now: Millis) {
        for _ in 0..RECOVERS_PER_HEARTBEAT {
            let Some(id) = self.nodes.node_mut(at).orders.recovers.pop_front() else { return };
            let Some(work) =
                self.recoveries.get(&id).filter(|work| work.primary.is_some_and(|(node, _)| node == at))
            else {
                continue;
            };
            let left_out = work.storages.iter().filter(|id| !self.answers(**id)).count();
            commands.push(NodeCommand::Recover {
                block: work.block,
                stamp: work.stamp,
                truncate_to: work.truncate_to,
                storages: self.recovery_storages(work).into_iter().map(|(_, id)| id).collect(),
                left_out: u32::try_from(left_out).unwrap_or(u32::MAX),
                synced: work.synced,
                waited: self.was_waited_for(work, now),
                unsure: work.unsure,
            });
        }
    }

    /// Whether those that cannot be asked were waited for long enough: what was not synced may be gone. What was synced lies on
    /// all of the pipeline: where nobody knows how much that is, one of it must be left to tell.
    fn was_waited_for(&self, work: &RecoveryWork, now: Millis) -> bool {
        let told = !work.unsure || work.storages.iter().any(|id| self.answers(*id));
        told && work.since.is_some_and(|since| now.since(since) >= self.settings.flushed_wait)
    }

    /// Who may lead a recovery: those that have or may have a replica. If there is none, nothing can have been synced, and they
    /// were waited for, anybody can say that nothing is left.
    fn primaries(&self, work: &RecoveryWork, now: Millis) -> SmallVec<[NodeIndex; 3]> {
        let mut nodes: SmallVec<[NodeIndex; 3]> =
            self.recovery_storages(work).into_iter().map(|(node, _)| node).collect();
        let unsynced = work.synced == 0 && work.truncate_to.is_none();
        if nodes.is_empty() && unsynced && self.was_waited_for(work, now) {
            let lives = |at: &NodeIndex| self.nodes.node(*at).live && !self.nodes.node(*at).ended;
            nodes.extend(self.nodes.indexes().filter(lives).take(WITNESSES));
        }
        nodes
    }

    /// Whether a storage is known and can be asked for its replicas now.
    fn answers(&self, id: StorageId) -> bool {
        self.nodes.find_storage(id).is_some_and(|storage| self.nodes.counts(storage))
    }

    /// Where a block under recovery has or may have replicas, on live datanodes.
    fn recovery_storages(&self, work: &RecoveryWork) -> SmallVec<[(NodeIndex, StorageId); 3]> {
        let reported = self.building.get(&work.block.id).into_iter().flat_map(|building| &building.reports);
        let expected = work.storages.iter().filter_map(|id| self.nodes.find_storage(*id));
        let mut found: SmallVec<[(NodeIndex, StorageId); 3]> = SmallVec::new();
        for storage in expected.chain(reported.map(|report| report.storage)) {
            let node = self.nodes.storage(storage).node;
            if self.nodes.counts(storage) && found.iter().all(|(other, _)| *other != node) {
                found.push((node, self.nodes.storage(storage).report.id));
            }
        }
        found
    }

    /// A datanode will not end the recoveries that it leads: others do.
    pub(super) fn pass_recoveries_on(&mut self, at: NodeIndex, now: Millis) {
        for work in self.recoveries.values_mut() {
            if let Some((node, until)) = &mut work.primary
                && *node == at
            {
                *until = now;
            }
            let of_it = |id: &StorageId| {
                self.nodes.find_storage(*id).is_some_and(|place| self.nodes.storage(place).node == at)
            };
            if work.storages.iter().any(of_it) {
                work.repeats = 0;
            }
        }
    }

    /// Gives recoveries that nobody works on a primary. They take turns: those that nobody can lead now keep no others waiting.
    pub(super) fn assign_recoveries(&mut self, now: Millis) {
        let after = self.recovery_cursor;
        let round = self.recoveries.range(after.next()..).chain(self.recoveries.range(..=after));
        let due: Vec<BlockId> = round
            .filter(|(_, work)| self.is_due(work, now))
            .map(|(id, _)| *id)
            .take(BLOCKS_PER_ROUND)
            .collect();
        for id in due {
            self.recovery_cursor = id;
            self.assign_recovery(id, now);
        }
    }

    fn is_due(&self, work: &RecoveryWork, now: Millis) -> bool {
        work.primary.is_none_or(|(node, until)| until <= now || !self.nodes.node(node).live)
    }

    /// Gives a recovery a primary that has a hand free: one that was not tried, if there is one.
    pub(super) fn assign_recovery(&mut self, id: BlockId, now: Millis) {
        let Some(work) = self.recoveries.get(&id) else { return };
        let mut candidates = self.primaries(work, now);
        candidates.retain(|node| !self.nodes.node(*node).ended);
        let free = |node: &NodeIndex| {
            let waiting = &self.nodes.node(*node).orders.recovers;
            waiting.len() < RECOVERS_PER_HEARTBEAT
        };
        let hands: SmallVec<[NodeIndex; 3]> = candidates.iter().copied().filter(free).collect();
        let until = now.plus(self.settings.recovery_retry);
        let Some(work) = self.recoveries.get_mut(&id) else { return };
        work.since.get_or_insert(now);
        if let Some((node, _)) = work.primary.take() {
            work.tried.push(node);
        }
        if candidates.iter().all(|node| work.tried.contains(node)) {
            work.tried.clear();
        }
        if let Some(node) = hands.iter().find(|node| !work.tried.contains(node)) {
            work.primary = Some((*node, until));
            work.led = true;
            self.nodes.node_mut(*node).orders.recovers.push_back(id);
        }
    }
}
