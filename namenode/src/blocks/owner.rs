//! The one lock around the soft state.

use parking_lot::RwLock;
use steadfs_namenode_core::blocks::BlockMap;

/// Lends the state to closures, which neither block nor await: no guard leaves this file.
pub(super) struct Owner(RwLock<BlockMap>);

impl Owner {
    pub(super) const fn new(map: BlockMap) -> Self {
        Self(RwLock::new(map))
    }

    /// Looks at the state, beside others who do.
    pub(super) fn read<T>(&self, look: impl FnOnce(&BlockMap) -> T) -> T {
        look(&self.0.read())
    }

    /// Changes the state, alone.
    pub(super) fn write<T>(&self, change: impl FnOnce(&mut BlockMap) -> T) -> T {
        change(&mut self.0.write())
    }
}
