//! The list of volumes: grows when one is added, and keeps the places of those that are gone.

use std::sync::Arc;

use parking_lot::RwLock;
use steadfs_common::StorageId;

use crate::volume::Volume;

/// Most volumes that one process has had, those that were taken out included.
pub(crate) const MAX_VOLUMES_EVER: usize = 1 << 10;

/// All volumes that were ever in use, by their index.
pub(crate) struct Volumes {
    list: RwLock<Arc<[Arc<Volume>]>>,
}

impl Volumes {
    pub(crate) fn new(volumes: Vec<Arc<Volume>>) -> Self {
        Self { list: RwLock::new(volumes.into()) }
    }

    /// All of them, those that are gone included.
    pub(crate) fn all(&self) -> Arc<[Arc<Volume>]> {
        self.list.read().clone()
    }

    /// The volume with an index that this gave out.
    pub(crate) fn at(&self, index: usize) -> Arc<Volume> {
        self.list.read()[index].clone()
    }

    /// The volume with this id that serves, or has failed.
    pub(crate) fn find(&self, storage: StorageId) -> Option<Arc<Volume>> {
        let list = self.list.read();
        // One that was added again comes after its earlier life.
        list.iter().rev().find(|volume| volume.storage == storage && !volume.is_removed()).cloned()
    }

    /// Those that serve.
    pub(crate) fn serving(&self) -> Vec<Arc<Volume>> {
        self.list.read().iter().filter(|volume| !volume.is_out()).cloned().collect()
    }

    pub(crate) fn push(&self, volume: Arc<Volume>) {
        let mut list = self.list.write();
        *list = list.iter().cloned().chain([volume]).collect();
    }
}
