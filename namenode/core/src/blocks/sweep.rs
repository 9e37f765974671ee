//! Passes over all blocks, in steps: after a volume is gone or safe mode ends every block is judged again, and now and then
//! what is known is compared with the namespace.

use smallvec::SmallVec;
use steadfs_common::BlockId;

use super::map::BlockMap;
use super::places::StorageIndex;
use super::report::Facts;
use crate::record::Block;

/// A pass over the table.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Where it goes on; none if there is nothing to do.
    next: Option<BlockId>,
    /// Something happened behind its back: another pass follows.
    again: bool,
}

impl Sweep {
    /// Whether a pass is under way.
    pub(super) const fn is_under_way(&self) -> bool {
        self.next.is_some()
    }

    /// All blocks are to be judged.
    pub(super) fn request(&mut self) {
        match self.next {
            Some(_) => self.again = true,
            None => self.next = Some(BlockId(0)),
        }
    }
}

impl BlockMap {
    /// Whether some blocks are still to be judged.
    #[must_use]
    pub const fn is_sweeping(&self) -> bool {
        self.sweep.is_under_way()
    }

    /// Judges up to `limit` more blocks, if a pass is under way; true if there is more to do.
    pub fn sweep(&mut self, limit: usize) -> bool {
        let Some(from) = self.sweep.next else { return false };
        let ids: Vec<BlockId> =
            self.table.range(from..=BlockId(u64::MAX)).map(|(id, _)| id).take(limit).collect();
        for id in &ids {
            if self.is_heard_of(*id) {
                self.forget_dropped(*id);
                self.evaluate(*id);
            }
        }
        let end = if ids.len() < limit { None } else { ids.last().map(|last| last.next()) };
        self.sweep.next = match end {
            Some(next) => Some(next),
            None => std::mem::take(&mut self.sweep.again).then_some(BlockId(0)),
        };
        self.sweep.next.is_some()
    }

    /// Whether there was ever word of a replica of this block. A block that is known from the namespace alone is judged by the
    /// comparison with it, which waits for datanodes that are late.
    fn is_heard_of(&self, id: BlockId) -> bool {
        self.table.get(id).is_some_and(|entry| !entry.places.as_slice().is_empty())
            || self.bad.contains_key(&id)
            || self.missing.contains(&id)
    }

    /// Forgets replicas on volumes that are gone, but not which datanodes that are leaving had them.
    fn forget_dropped(&mut self, id: BlockId) {
        let Some(entry) = self.table.get(id) else { return };
        let gone: SmallVec<[StorageIndex; 4]> = entry
            .places
            .as_slice()
            .iter()
            .copied()
            .filter(|place| self.nodes.storage(*place).dropped)
            .collect();
        for place in gone {
            self.drop_place(id, place);
            self.had(id, self.nodes.storage(place).node);
        }
    }

    /// Judges again up to `limit` blocks with too many replicas that waited for reports.
    pub fn retry_postponed(&mut self, limit: usize) {
        let after = self.postponed_cursor;
        let round: Vec<BlockId> = self.postponed.range(after.next()..).copied().take(limit).collect();
        self.postponed_cursor =
            if round.len() < limit { BlockId(0) } else { *round.last().unwrap_or(&BlockId(0)) };
        for id in round {
            self.evaluate(id);
        }
    }

    /// Takes in complete blocks of the namespace that nobody has reported yet: a report then finds them known, and their facts
    /// need not be read one by one. Blocks that changed after the facts were read are left out; whoever reports them reads
    /// them again. False once blocks are judged: then there is nothing more to learn but by [`BlockMap::reconcile`].
    pub fn learn(&mut self, facts: &Facts<'_>) -> bool {
        if self.active_since.is_some() {
            return false;
        }
        self.put_right(facts);
        true
    }

    /// Compares what is known of the blocks from `from` to `last` with all that the namespace has there: blocks that
    /// nobody reported are found missing, those that the namespace does not have are given up, facts are put right.
    /// Blocks that changed after the facts were read are left for the next time. Call outside of safe mode only.
    pub fn reconcile(&mut self, from: BlockId, last: BlockId, facts: &Facts<'_>) {
        if self.safe_mode.is_on() || self.active_since.is_none() {
            return;
        }
        let known: Vec<BlockId> = self
            .table
            .range(from..=last)
            .map(|(id, _)| id)
            .chain(self.building.range(from..=last).map(|(id, _)| *id))
            .collect();
        for id in known {
            let exists = facts.blocks.binary_search_by_key(&id, |block| block.id).is_ok();
            if !exists && !self.changes.changed_since(id, facts.version) {
                self.removed(id);
            }
        }
        self.put_right(facts);
    }

    fn put_right(&mut self, facts: &Facts<'_>) {
        for block in facts.blocks.iter().filter(|block| block.is_complete()) {
            if !self.changes.changed_since(block.id, facts.version) {
                self.put_block_right(block);
            }
        }
    }

    fn put_block_right(&mut self, block: &Block) {
        match self.table.get_mut(block.id) {
            Some(entry) if entry.stamp == block.stamp && entry.length == block.length => {
                if entry.replication != block.replication || entry.places.as_slice().is_empty() {
                    entry.replication = block.replication;
                    self.evaluate(block.id);
                }
            }
            Some(_) => {}
            None if self.building.contains_key(&block.id) => {}
            None => {
                self.table.insert(block.id, block.stamp, block.length, block.replication);
                self.evaluate(block.id);
            }
        }
    }
}
