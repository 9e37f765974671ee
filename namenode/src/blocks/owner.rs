//! The one lock around the soft state.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
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
        let mut map = self.map.write();
        let changed = change(&mut map);
        self.safe_mode.store(map.is_in_safe_mode(), Ordering::Release);
        changed
    }

    /// Whether changes are refused, as of the last change of the state.
    pub(super) fn is_in_safe_mode(&self) -> bool {
        self.safe_mode.load(Ordering::Acquire)
    }
}
