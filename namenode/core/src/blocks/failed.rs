//! Copies that failed, as their datanodes tell: ordered again at once, from and to others if there are others.
//!
//! Where every copy of a block fails it would be ordered without end: after the first two each further one waits twice as long
//! as the one before, up to the time after which a copy of which nothing is heard counts as failed.

use std::collections::BTreeMap;
use std::time::Duration;

use smallvec::SmallVec;
use steadfs_common::{BlockId, DatanodeUuid, FsResult, Millis, StorageId};

use super::map::BlockMap;
use super::nodes::NodeIndex;
use super::places::StorageIndex;
use crate::command::BlockRef;

/// Blocks whose failed copies are remembered. One that does not fit waits until its copy counts as failed by itself.
const MAX_BLOCKS: usize = 10_000;
/// Datanodes that are remembered for one block.
const MAX_NODES: usize = 16;
/// So many failures are made good without a rest.
const AT_ONCE: u32 = 2;
/// The first rest.
const REST: Duration = Duration::from_secs(1);
/// A block's failures are forgotten so long after its last rest.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What failed of one block.
#[derive(Debug, Default)]
struct Failed {
    /// Who copied and who was to get it: nobody knows to whom it was due.
    nodes: SmallVec<[NodeIndex; 4]>,
    count: u32,
    /// Nothing is ordered before.
    until: Millis,
}

/// Blocks whose last copies failed.
#[derive(Debug, Default)]
pub(super) struct Failures {
    blocks: BTreeMap<BlockId, Failed>,
}

/// How long a block's copy rests after so many failures; `most` is the longest rest.
fn rest(count: u32, most: Duration) -> Duration {
    match count.checked_sub(AT_ONCE + 1) {
        None => Duration::ZERO,
        Some(doublings) => REST.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(most),
    }
}

impl Failures {
    /// Notes a failure; false if there are too many to remember this one.
    fn note(
        &mut self,
        id: BlockId,
        nodes: impl IntoIterator<Item = NodeIndex>,
        most: Duration,
        now: Millis,
    ) -> bool {
        if self.blocks.len() >= MAX_BLOCKS && !self.blocks.contains_key(&id) {
            return false;
        }
        let failed = self.blocks.entry(id).or_default();
        for node in nodes {
            if !failed.nodes.contains(&node) {
                if failed.nodes.len() >= MAX_NODES {
                    failed.nodes.remove(0);
                }
                failed.nodes.push(node);
            }
        }
        failed.count = failed.count.saturating_add(1);
        failed.until = now.plus(rest(failed.count, most));
        true
    }

    /// Whether nothing is to be ordered for the block yet.
    pub(super) fn rests(&self, id: BlockId, now: Millis) -> bool {
        self.blocks.get(&id).is_some_and(|failed| failed.until > now)
    }

    /// Who had a hand in the block's failed copies: others come first.
    pub(super) fn nodes(&self, id: BlockId) -> &[NodeIndex] {
        self.blocks.get(&id).map_or(&[], |failed| &failed.nodes)
    }

    /// A copy arrived, or none is wanted any more.
    pub(super) fn forget(&mut self, id: BlockId) {
        self.blocks.remove(&id);
    }

    pub(super) fn expire(&mut self, now: Millis) {
        self.blocks.retain(|_, failed| failed.until.plus(REMEMBERED) > now);
    }
}

impl BlockMap {
    /// A datanode tells that a copy which it was to make to these storages failed. What is not under way (any more) is
    /// passed over.
    ///
    /// # Errors
    /// [`steadfs_common::FsErrorKind::NotRegistered`] for another life of the datanode.
    pub fn copy_failed(
        &mut self,
        (uuid, session): (DatanodeUuid, u64),
        block: BlockRef,
        targets: &[StorageId],
        now: Millis,
    ) -> FsResult<()> {
        let source = self.reporter(uuid, session)?;
        let id = block.id;
        let targets: SmallVec<[StorageIndex; 3]> =
            targets.iter().filter_map(|target| self.nodes.find_storage(*target)).collect();
        let moves = |going: &super::moves::Move| {
            self.nodes.storage(going.from).node == source && targets.contains(&going.to)
        };
        if self.moves.active.get(&id).is_some_and(moves) {
            self.end_move(id);
            self.moves.end(id);
            return Ok(());
        }
        let same = self.table.get(id).is_some_and(|entry| entry.stamp == block.stamp);
        let waiting = self.nodes.node(source).orders.transfers.iter().any(|copy| copy.block.id == id);
        let known = self.pending.get(&id).is_some_and(|pending| {
            pending.sources.contains(&source) && pending.targets.iter().any(|target| targets.contains(target))
        });
        if !same || waiting || !known {
            return Ok(());
        }
        let nodes: SmallVec<[NodeIndex; 4]> = std::iter::once(source)
            .chain(targets.iter().map(|target| self.nodes.storage(*target).node))
            .collect();
        if self.failures.note(id, nodes, self.settings.transfer_timeout, now) {
            self.break_off(id, source, &targets);
            self.evaluate(id);
        }
        Ok(())
    }

    /// One of the copies of a block that are under way will not come.
    fn break_off(&mut self, id: BlockId, source: NodeIndex, targets: &[StorageIndex]) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        if pending.sources.len() == 1 {
            return self.end_pending(id);
        }
        if let Some(at) = pending.sources.iter().position(|other| *other == source) {
            pending.sources.remove(at);
        }
        let (gone, left) = pending.targets.iter().copied().partition(|target| targets.contains(target));
        pending.targets = left;
        let (bytes, gone): (u64, SmallVec<[StorageIndex; 3]>) = (pending.bytes, gone);
        let empty = pending.targets.is_empty();
        self.nodes.node_mut(source).orders.outgoing.end(bytes);
        gone.into_iter().for_each(|target| self.less_incoming(target, bytes));
        if empty {
            self.end_pending(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rest_is_twice_the_one_before_up_to_a_bound() {
        let most = Duration::from_secs(5);
        let rests: Vec<u64> = (1..=7).map(|count| rest(count, most).as_secs()).collect();
        assert_eq!(rests, [0, 0, 1, 2, 4, 5, 5]);
        assert_eq!(rest(u32::MAX, most), most);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_passes() {
        let mut failures = Failures::default();
        let (now, most) = (Millis(1_000), Duration::from_secs(5));
        for number in 0..MAX_BLOCKS as u64 {
            assert!(failures.note(BlockId(number), [NodeIndex(1)], most, now));
        }
        assert!(!failures.note(BlockId(u64::MAX), [NodeIndex(1)], most, now));
        for node in 0..100 {
            assert!(failures.note(BlockId(0), [NodeIndex(node)], most, now));
        }
        assert_eq!(failures.nodes(BlockId(0)).len(), MAX_NODES);
        assert!(failures.rests(BlockId(0), now) && !failures.rests(BlockId(0), now.plus(most)));
        failures.expire(now.plus(REMEMBERED));
        assert_eq!(failures.blocks.len(), 1, "one still rests");
        failures.expire(now.plus(REMEMBERED + most));
        assert!(failures.nodes(BlockId(0)).is_empty());
    }
}
