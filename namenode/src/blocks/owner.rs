//! The one lock around the soft state.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{RwLock, RwLockWriteGuard};
use steadfs_namenode_core::blocks::BlockMap;

/// Lends the state to closures, which neither block nor await: no guard leaves this file.
pub(super) struct Owner {
    map: RwLock<BlockMap>,
    /// Whether the last change left the state in safe mode: every command asks for it, and shall not wait for the lock.
    safe_mode: AtomicBool,
}

impl Owner {
    pub(super) fn new(map: BlockMap) -> Self {
        Self { safe_mode: AtomicBool::new(map.is_in_safe_mode()), map: RwLock::new(map) }
    }

    /// Looks at the state, beside others who do.
    pub(super) fn read<T>(&self, look: impl FnOnce(&BlockMap) -> T) -> T {
        look(&self.map.read())
    }

    /// Changes the state, alone.
    pub(super) fn write<T>(&self, change: impl FnOnce(&mut BlockMap) -> T) -> T {
        self.change(&mut self.map.write(), change)
    }

    /// As [`Owner::write`], for one of many steps that follow each other at once: whoever waits comes before the next. Without
    /// that heartbeats and calls wait for hundreds of steps.
    pub(super) fn step<T>(&self, change: impl FnOnce(&mut BlockMap) -> T) -> T {
        let mut map = self.map.write();
        let changed = self.change(&mut map, change);
        RwLockWriteGuard::unlock_fair(map);
        changed
    }

    fn change<T>(&self, map: &mut BlockMap, change: impl FnOnce(&mut BlockMap) -> T) -> T {
        let changed = change(map);
        self.safe_mode.store(map.is_in_safe_mode(), Ordering::Release);
        changed
    }

    /// Whether changes are refused, as of the last change of the state.
    pub(super) fn is_in_safe_mode(&self) -> bool {
        self.safe_mode.load(Ordering::Acquire)
    }
}
