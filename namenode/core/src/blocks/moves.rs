//! Moves that a balancer ordered: which replica is to go once there is one more than wanted.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use steadfs_common::{BlockId, DatanodeUuid};

use super::map::BlockMap;
use super::nodes::NodeIndex;
use super::places::StorageIndex;

/// Moves that are remembered. What is forgotten is a wish: another replica may be given up instead.
const MAX_MOVES: usize = 10_000;

/// Moves under way.
#[derive(Debug, Default)]
pub(super) struct Moves {
    from: BTreeMap<BlockId, NodeIndex>,
}

impl Moves {
    /// Forgets a block's move, and says whose replica may go.
    pub(super) fn end(&mut self, id: BlockId) -> Option<NodeIndex> {
        self.from.remove(&id)
    }
}

impl BlockMap {
    /// A replica of the block was moved: the one at `instead_of` is the first to go when there is one too many.
    pub fn moving(&mut self, id: BlockId, instead_of: DatanodeUuid) {
        let Some(node) = self.nodes.find(instead_of) else { return };
        if self.moves.from.len() >= MAX_MOVES {
            // Old ones, whose block never had a replica too many.
            self.moves.from.clear();
        }
        self.moves.from.insert(id, node);
    }

    /// Of `live`, the replica that a move leaves behind, if the others still are on two racks or there is but one.
    pub(super) fn moved_away(&self, live: &[StorageIndex], from: NodeIndex) -> Option<StorageIndex> {
        let left = live.iter().copied().find(|place| self.nodes.storage(*place).node == from)?;
        let racks = |places: &mut dyn Iterator<Item = StorageIndex>| {
            let mut racks: SmallVec<[&str; 4]> =
                places.map(|place| &*self.nodes.node(self.nodes.storage(place).node).rack).collect();
            racks.sort_unstable();
            racks.dedup();
            racks.len()
        };
        let before = racks(&mut live.iter().copied());
        let after = racks(&mut live.iter().copied().filter(|place| *place != left));
        (after >= before.min(2)).then_some(left)
    }
}
