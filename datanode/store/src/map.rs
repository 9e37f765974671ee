//! Which replicas there are. Compact, since a datanode may have tens of millions.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;
use steadfs_common::{BlockId, GenStamp};

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
}

impl ReplicaMap {
    pub(crate) fn new(volumes: Vec<BTreeMap<BlockId, Slot>>) -> Self {
        Self { volumes: RwLock::new(volumes) }
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
        match self.volumes.write()[volume].get_mut(&open.id) {
            Some(slot) if slot.is(open) => {
                *slot = Slot::Finalized { stamp, len };
                true
            }
            _ => false,
        }
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
        std::mem::take(&mut self.volumes.write()[volume])
    }
}
