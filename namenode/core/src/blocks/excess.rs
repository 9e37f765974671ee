//! Which replicas go when there are too many.
//!
//! What goes leaves the others lying as widely as can be, and goes from a type of storage that the policy does not want before
//! one that it wants.

use smallvec::SmallVec;
use steadfs_common::{BlockId, StorageType};

use super::map::BlockMap;
use super::nodes::NodeIndex;
use super::places::StorageIndex;
use super::work::{Invalid, Why};
use crate::policy::{self, StoragePolicy, Types};

/// Blocks with too many replicas on several types of storage that one round looks at.
pub(super) const MIXED_PER_ROUND: usize = 500;

impl BlockMap {
    pub(super) fn kind_of(&self, place: StorageIndex) -> StorageType {
        self.nodes.storage(place).report.kind
    }

    /// Orders the replicas past `wanted` to be deleted, once all are known to be there.
    pub(super) fn trim(&mut self, id: BlockId, wanted: usize) {
        let Some(entry) = self.table.get(id) else { return };
        let (stamp, length) = (entry.stamp, entry.length);
        let live: SmallVec<[StorageIndex; 8]> =
            entry.places.as_slice().iter().copied().filter(|place| self.serves(*place)).collect();
        // Wanting none is not an order to delete the last.
        let wanted = wanted.max(1);
        if self.proven(&live) < live.len() {
            self.postponed.insert(id);
            return;
        }
        let several = live.windows(2).any(|pair| self.kind_of(pair[0]) != self.kind_of(pair[1]));
        let policy = match (several, self.policy_of(id)) {
            (false, _) => policy::HOT,
            (true, Some(number)) => policy::by_id(number).unwrap_or(policy::HOT),
            (true, None) => {
                self.mixed.insert(id);
                return;
            }
        };
        let from = self.moves.end(id);
        for storage in self.superfluous(&live, wanted, from, policy) {
            self.drop_place(id, storage);
            let node = self.nodes.storage(storage).node;
            let invalid = Invalid::new(stamp, length, storage, Why::Excess);
            self.nodes.node_mut(node).orders.invalidate(id, invalid);
        }
    }

    /// Judges blocks again whose policies are known by now.
    pub(super) fn trim_mixed(&mut self) {
        let round: Vec<BlockId> = self.mixed.iter().take(MIXED_PER_ROUND).copied().collect();
        for id in round {
            self.evaluate(id);
        }
    }

    /// Which of these replicas to give up so that `wanted` stay: first the one at `from`, then those without which the
    /// others lie as widely, then those on types that the policy does not want, then those whose rack has others, then those whose volume has least room.
    fn superfluous(
        &self,
        live: &[StorageIndex],
        wanted: usize,
        from: Option<NodeIndex>,
        policy: &StoragePolicy,
    ) -> SmallVec<[StorageIndex; 4]> {
        let mut kept: SmallVec<[StorageIndex; 8]> = live.into();
        let mut gone: SmallVec<[StorageIndex; 4]> = SmallVec::new();
        if let Some(left) = from.filter(|_| kept.len() > wanted).and_then(|from| self.moved_away(live, from))
        {
            kept.retain(|place| *place != left);
            gone.push(left);
        }
        while kept.len() > wanted {
            let unwanted = self.unwanted(&kept, policy.types_of(wanted));
            let value = |place: StorageIndex| {
                let others = kept.iter().copied().filter(|other| *other != place);
                let left = self.spread(others.clone()).of_use(kept.len() - 1);
                let crowded = others.clone().any(|other| self.rack_of(other) == self.rack_of(place));
                let free = self.nodes.storage(place).report.remaining;
                (left, unwanted.contains(&self.kind_of(place)), crowded, u64::MAX - free, place)
            };
            let worst = kept
                .iter()
                .copied()
                .max_by_key(|place| value(*place))
                .expect("there are more than are wanted");
            kept.retain(|place| *place != worst);
            gone.push(worst);
        }
        gone
    }

    /// The types of these replicas past those that are wanted.
    fn unwanted(&self, kept: &[StorageIndex], mut wanted: Types) -> Types {
        let mut unwanted = Types::new();
        for place in kept {
            let kind = self.kind_of(*place);
            match wanted.iter().position(|other| *other == kind) {
                Some(at) => drop(wanted.remove(at)),
                None => unwanted.push(kind),
            }
        }
        unwanted
    }

    /// Of `live`, the replica that a move leaves behind, if the others lie as widely without it.
    fn moved_away(&self, live: &[StorageIndex], from: NodeIndex) -> Option<StorageIndex> {
        let left = live.iter().copied().find(|place| self.nodes.storage(*place).node == from)?;
        let before = self.spread(live.iter().copied()).of_use(live.len() - 1);
        let after = self.spread(live.iter().copied().filter(|place| *place != left));
        after.covers(before).then_some(left)
    }
}
