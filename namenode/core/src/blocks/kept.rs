//! Replicas that are kept although no file has them: made after a state to which the namespace went back.

use std::collections::BTreeMap;

use steadfs_common::{BlockId, GenStamp, Millis};

use super::map::BlockMap;
use crate::record::Loss;

/// Kept blocks of which this process remembers the length; more are kept and not counted.
pub const MAX_KEPT_COUNTED: usize = 200_000;

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    losses: Vec<Loss>,
    /// What was reported so far, and how long the longest replica is.
    seen: BTreeMap<BlockId, u64>,
}

impl Kept {
    fn has_block(&self, id: BlockId) -> bool {
        self.losses.iter().any(|loss| (loss.blocks.0..loss.blocks.1).contains(&id))
    }

    fn has_stamp(&self, stamp: GenStamp) -> bool {
        self.losses.iter().any(|loss| (loss.stamps.0..loss.stamps.1).contains(&stamp))
    }
}

impl BlockMap {
    /// Keeps from now on what may have been made after these states, and nothing else. What was kept before and is not
    /// any more is deleted as datanodes report it again, which they are asked for.
    pub fn set_losses(&mut self, losses: Vec<Loss>, now: Millis) {
        let fewer = self.kept.losses.iter().any(|known| !losses.contains(known));
        self.kept = Kept { losses, seen: BTreeMap::new() };
        if fewer {
            for node in self.nodes.indexes().collect::<Vec<_>>() {
                let node = self.nodes.node_mut(node);
                node.orders.report_again = true;
                node.report_due.get_or_insert(now);
            }
        }
    }

    /// Blocks that no file has and whose replicas are kept, as far as reported: how many, and their bytes.
    #[must_use]
    pub fn kept(&self) -> (u64, u64) {
        (self.kept.seen.len() as u64, self.kept.seen.values().copied().fold(0, u64::saturating_add))
    }

    /// The first of them past `after`.
    #[must_use]
    pub fn kept_after(&self, after: BlockId, limit: usize) -> Vec<(BlockId, u64)> {
        let range = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        self.kept.seen.range(range).take(limit).map(|(id, length)| (*id, *length)).collect()
    }

    /// Whether a replica of a block that no file has is kept; notes it then.
    pub(super) fn keeps(&mut self, id: BlockId, length: u64) -> bool {
        if !self.kept.has_block(id) {
            return false;
        }
        if self.kept.seen.len() < MAX_KEPT_COUNTED || self.kept.seen.contains_key(&id) {
            let longest = self.kept.seen.entry(id).or_default();
            *longest = length.max(*longest);
        }
        true
    }

    /// Whether a replica with this stamp was written after a state to which the namespace went back: it may be the only one
    /// with what was appended then.
    pub(super) fn keeps_stamp(&self, stamp: GenStamp) -> bool {
        self.kept.has_stamp(stamp)
    }
}
