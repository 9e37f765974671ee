//! Which replicas there are. Compact, since a datanode may have tens of millions.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;
use steadfs_common::{BlockId, GenStamp};

use crate::layout;
use crate::replica::OpenReplica;

/// A replica in the map.
#[derive(Clone)]
pub(crate) enum Slot {
    /// At rest: nothing but these numbers is in memory.
    Finalized { stamp: GenStamp, len: u64 },
    /// Being written, waiting, or changing its state.
    Open(Arc<OpenReplica>),
}

impl Slot {
    fn is(&self, open: &Arc<OpenReplica>) -> bool {
        matches!(self, Self::Open(here) if Arc::ptr_eq(here, open))
    }
}

/// The replicas of each volume in order of block id. A replica's `state` may be locked while the map is, not the other way round.
pub(crate) struct ReplicaMap {
    volumes: RwLock<Vec<BTreeMap<BlockId, Slot>>>,
    /// Finalized replicas that are known to be bad. Few.
    bad: RwLock<BTreeMap<BlockId, (usize, GenStamp)>>,
}

impl ReplicaMap {
    pub(crate) fn new(volumes: Vec<BTreeMap<BlockId, Slot>>) -> Self {
        Self { volumes: RwLock::new(volumes), bad: RwLock::default() }
    }

    /// Adds a volume with what lies on it. `listed` runs before anybody can see a replica of it.
    pub(crate) fn add_volume(&self, slots: BTreeMap<BlockId, Slot>, listed: impl FnOnce()) {
        let mut volumes = self.volumes.write();
        volumes.push(slots);
        listed();
    }

    /// Notes that the replica of this stamp on a volume is bad.
    pub(crate) fn mark_bad(&self, volume: usize, id: BlockId, stamp: GenStamp) {
        self.bad.write().insert(id, (volume, stamp));
    }

    /// Whether a replica is known to be bad.
    pub(crate) fn is_bad(&self, volume: usize, id: BlockId, stamp: GenStamp) -> bool {
        self.bad.read().get(&id) == Some(&(volume, stamp))
    }

    /// Forgets what was known of a bad replica; true if something was.
    pub(crate) fn clear_bad(&self, volume: usize, id: BlockId) -> bool {
        let mut bad = self.bad.write();
        bad.get(&id).is_some_and(|(at, _)| *at == volume) && bad.remove(&id).is_some()
    }

    pub(crate) fn count_bad(&self, volume: usize) -> u64 {
        self.bad.read().values().filter(|(at, _)| *at == volume).count() as u64
    }

    /// All places of a block: more than one where a disk with an older copy of it was put in.
    pub(crate) fn places(&self, id: BlockId) -> Vec<(usize, Slot)> {
        let volumes = self.volumes.read();
        let here = volumes.iter().enumerate();
        here.filter_map(|(index, slots)| slots.get(&id).map(|slot| (index, slot.clone()))).collect()
    }

    /// The volume and the slot of a block.
    pub(crate) fn get(&self, id: BlockId) -> Option<(usize, Slot)> {
        let volumes = self.volumes.read();
        volumes.iter().enumerate().find_map(|(index, slots)| slots.get(&id).map(|slot| (index, slot.clone())))
    }

    /// Adds a replica unless the block has one on any volume.
    pub(crate) fn insert_absent(&self, volume: usize, open: &Arc<OpenReplica>) -> bool {
        let mut volumes = self.volumes.write();
        if volumes.iter().any(|slots| slots.contains_key(&open.id)) {
            return false;
        }
        volumes[volume].insert(open.id, Slot::Open(open.clone()));
        true
    }

    /// Turns a finalized replica into an open one, if it is still the same.
    pub(crate) fn reopen(&self, volume: usize, stamp: GenStamp, len: u64, open: &Arc<OpenReplica>) -> bool {
        let mut volumes = self.volumes.write();
        let same =
            |slot: &Slot| matches!(slot, Slot::Finalized { stamp: s, len: l } if (*s, *l) == (stamp, len));
        match volumes[volume].get_mut(&open.id) {
            Some(slot) if same(slot) => {
                *slot = Slot::Open(open.clone());
                true
            }
            _ => false,
        }
    }

    /// Turns an open replica into a finalized one; false if it is no longer in the map.
    pub(crate) fn settle(&self, volume: usize, open: &Arc<OpenReplica>, stamp: GenStamp, len: u64) -> bool {
        self.settle_and(volume, open, (stamp, len), || ())
    }

    /// As [`ReplicaMap::settle`]; tells of it before anybody can delete the replica, and tell of that.
    pub(crate) fn settle_and(
        &self,
        volume: usize,
        open: &Arc<OpenReplica>,
        (stamp, len): (GenStamp, u64),
        tell: impl FnOnce(),
    ) -> bool {
        match self.volumes.write()[volume].get_mut(&open.id) {
            Some(slot) if slot.is(open) => {
                *slot = Slot::Finalized { stamp, len };
                tell();
                true
            }
            _ => false,
        }
    }

    /// Tells of a finalized replica if it is there, before anybody can delete it, and tell of that. Says whether it is.
    pub(crate) fn tell_finalized(
        &self,
        volume: usize,
        id: BlockId,
        (stamp, len): (GenStamp, u64),
        tell: impl FnOnce(),
    ) -> bool {
        let volumes = self.volumes.read();
        let there = matches!(volumes[volume].get(&id), Some(Slot::Finalized { stamp: s, len: l }) if (*s, *l) == (stamp, len));
        if there {
            tell();
        }
        there
    }

    /// Removes an open replica; false if it is no longer in the map.
    pub(crate) fn remove_open(&self, volume: usize, open: &Arc<OpenReplica>) -> bool {
        let mut volumes = self.volumes.write();
        let here = volumes[volume].get(&open.id).is_some_and(|slot| slot.is(open));
        here && volumes[volume].remove(&open.id).is_some()
    }

    /// Up to `max` slots of a volume after a block.
    pub(crate) fn page(&self, volume: usize, after: Option<BlockId>, max: usize) -> Vec<(BlockId, Slot)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let volumes = self.volumes.read();
        volumes[volume]
            .range((from, Bound::Unbounded))
            .take(max)
            .map(|(id, slot)| (*id, slot.clone()))
            .collect()
    }

    pub(crate) fn count(&self, volume: usize) -> u64 {
        self.volumes.read()[volume].len() as u64
    }

    /// Takes all replicas of a volume out.
    pub(crate) fn take_volume(&self, volume: usize) -> BTreeMap<BlockId, Slot> {
        self.bad.write().retain(|_, (at, _)| *at != volume);
        std::mem::take(&mut self.volumes.write()[volume])
    }

    /// Adds a finalized replica that was found on a volume, if the block has none on any.
    pub(crate) fn adopt(&self, volume: usize, id: BlockId, stamp: GenStamp, len: u64) -> bool {
        let mut volumes = self.volumes.write();
        if volumes.iter().any(|slots| slots.contains_key(&id)) {
            return false;
        }
        volumes[volume].insert(id, Slot::Finalized { stamp, len });
        true
    }

    /// The replicas of a volume whose finalized files lie in the folder that `number` names.
    pub(crate) fn in_folder(&self, volume: usize, number: u16) -> Vec<(BlockId, Slot)> {
        let volumes = self.volumes.read();
        let slots = &volumes[volume];
        let mut found = Vec::new();
        let mut from = BlockId(0);
        // The blocks of a folder come in runs of 256 neighbours; between them whole runs are stepped over.
        while let Some((id, _)) = slots.range(from..).next() {
            let run = id.0 >> 8;
            let first = layout::next_run(run, number);
            let Some(start) = first.checked_mul(256) else { break };
            found.extend(
                slots.range(BlockId(start)..=BlockId(start | 255)).map(|(id, slot)| (*id, slot.clone())),
            );
            match first.checked_add(1).and_then(|next| next.checked_mul(256)) {
                Some(next) => from = BlockId(next),
                None => break,
            }
        }
        found
    }
}
