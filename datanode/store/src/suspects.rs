//! Replicas that somebody has reason to doubt: they are checked before all others.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use parking_lot::Mutex;
use steadfs_common::{BlockId, StorageId};

/// Suspects of one volume. More are dropped: their turn comes with all the others.
const MAX_SUSPECTS: usize = 10_000;

/// The suspects of each volume, oldest first.
#[derive(Default)]
pub(crate) struct Suspects {
    waiting: Mutex<BTreeMap<StorageId, VecDeque<BlockId>>>,
}

impl Suspects {
    pub(crate) fn add(&self, storage: StorageId, id: BlockId) {
        let mut waiting = self.waiting.lock();
        let queue = waiting.entry(storage).or_default();
        if queue.len() < MAX_SUSPECTS && !queue.contains(&id) {
            queue.push_back(id);
        }
    }

    pub(crate) fn next(&self, storage: StorageId) -> Option<BlockId> {
        self.waiting.lock().get_mut(&storage)?.pop_front()
    }

    pub(crate) fn count(&self, storage: StorageId) -> usize {
        self.waiting.lock().get(&storage).map_or(0, VecDeque::len)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn each_waits_once_and_not_too_many_do() {
        let storage = StorageId(Uuid::nil());
        let suspects = Suspects::default();
        for id in 0..2 * MAX_SUSPECTS as u64 {
            suspects.add(storage, BlockId(id / 2));
        }
        suspects.add(storage, BlockId(u64::MAX));
        assert_eq!((suspects.count(storage), suspects.next(storage)), (MAX_SUSPECTS, Some(BlockId(0))));
        assert_eq!(suspects.next(StorageId(Uuid::from_u128(1))), None);
    }
}
