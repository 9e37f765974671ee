//! Moves for the sake of balance: which are under way, and which replica is to go once there is one more than wanted.
//!
//! A move is a copy; only when the copy is there, the other replica goes. Moves are ordered by [`super::balance`] or by a
//! balancer outside, of which only the wish is known.

use std::collections::BTreeMap;

use steadfs_common::{BlockId, DatanodeUuid, Millis};

use super::map::BlockMap;
use super::nodes::NodeIndex;
use super::places::StorageIndex;

/// Moves that are remembered. What is forgotten is a wish: another replica may be given up instead.
const MAX_MOVES: usize = 10_000;

/// A move that this namenode ordered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    /// Who gives its replica up, and copies it.
    pub(super) from: StorageIndex,
    pub(super) to: StorageIndex,
    pub(super) bytes: u64,
    pub(super) deadline: Millis,
}

/// Moves under way.
#[derive(Debug, Default)]
pub(super) struct Moves {
    from: BTreeMap<BlockId, NodeIndex>,
    pub(super) active: BTreeMap<BlockId, Move>,
}

impl Moves {
    /// Forgets a block's move, and says whose replica may go.
    pub(super) fn end(&mut self, id: BlockId) -> Option<NodeIndex> {
        self.from.remove(&id)
    }

    fn wish(&mut self, id: BlockId, from: NodeIndex) {
        if self.from.len() >= MAX_MOVES {
            // Old ones, whose block never had a replica too many.
            self.from.clear();
        }
        self.from.insert(id, from);
    }

    /// Adds the bytes that are on their way to each volume.
    pub(super) fn promised(&self, promised: &mut BTreeMap<StorageIndex, u64>) {
        for going in self.active.values() {
            let bytes = promised.entry(going.to).or_default();
            *bytes = bytes.saturating_add(going.bytes);
        }
    }
}

impl BlockMap {
    /// A replica of the block was moved: the one at `instead_of` is the first to go when there is one too many.
    pub fn moving(&mut self, id: BlockId, instead_of: DatanodeUuid) {
        if let Some(node) = self.nodes.find(instead_of) {
            self.moves.wish(id, node);
        }
    }

    /// Notes a move that is ordered.
    pub(super) fn begin_move(&mut self, id: BlockId, going: Move) {
        let from = self.nodes.storage(going.from).node;
        self.moves.wish(id, from);
        self.moves.active.insert(id, going);
        for place in [going.from, going.to] {
            let node = self.nodes.storage(place).node;
            self.nodes.node_mut(node).orders.moving += 1;
        }
    }

    /// A move came to its end, one way or the other.
    pub(super) fn end_move(&mut self, id: BlockId) -> Option<Move> {
        let going = self.moves.active.remove(&id)?;
        for place in [going.from, going.to] {
            let node = self.nodes.storage(place).node;
            let moving = &mut self.nodes.node_mut(node).orders.moving;
            *moving = moving.saturating_sub(1);
        }
        Some(going)
    }

    /// A replica of the block arrived: if it was moved there, the move has succeeded.
    pub(super) fn end_move_to(&mut self, id: BlockId, to: StorageIndex) {
        if self.moves.active.get(&id).is_some_and(|going| going.to == to)
            && let Some(going) = self.end_move(id)
        {
            self.balance.moved(going.bytes);
        }
    }

    /// A datanode is gone: nothing moves from it or to it.
    pub(super) fn end_moves_of(&mut self, at: NodeIndex) {
        let here = |place: StorageIndex| self.nodes.storage(place).node == at;
        let gone = |going: &Move| here(going.from) || here(going.to);
        let ended: Vec<BlockId> =
            self.moves.active.iter().filter(|(_, going)| gone(going)).map(|(id, _)| *id).collect();
        for id in ended {
            self.end_move(id);
            self.moves.end(id);
        }
    }

    /// Gives up moves that took too long.
    pub(super) fn expire_moves(&mut self, now: Millis) {
        let late: Vec<BlockId> =
            self.moves.active.iter().filter(|(_, going)| going.deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            self.end_move(id);
            self.moves.end(id);
        }
    }
}
