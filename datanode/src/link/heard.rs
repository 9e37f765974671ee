//! Writing down how far the namenode is: on every volume, each on its own threads, so that a disk that hangs holds up nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use parking_lot::Mutex;
use steadfs_common::StorageId;
use steadfs_datanode_store::{Heard, StoreError, StoreResult, VolumeStatus, enough};
use tokio::time::timeout;

use super::CALL_TIMEOUT;
use crate::node::Node;

/// The volumes on which something is being written down: on one that does not answer, nothing more is begun.
#[derive(Clone, Default)]
pub(super) struct Notes {
    under_way: Arc<Mutex<BTreeSet<StorageId>>>,
}

/// A volume's turn, which ends when the disk has answered.
struct Turn {
    notes: Notes,
    storage: StorageId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.notes.under_way.lock().remove(&self.storage);
    }
}

impl Notes {
    /// Writes it down on the volumes that answer, and waits for those, at most [`CALL_TIMEOUT`].
    ///
    /// # Errors
    /// No volume took it, and not all for lack of room.
    pub(super) async fn write(&self, node: &Node, heard: Heard) -> StoreResult<()> {
        let volumes = node.store.statuses().into_iter().filter(|volume| !volume.failed);
        enough(join_all(volumes.map(|volume| self.write_on(node, volume, heard))).await)
    }

    async fn write_on(&self, node: &Node, volume: VolumeStatus, heard: Heard) -> StoreResult<()> {
        let VolumeStatus { storage, stalled, path, .. } = volume;
        let Some(turn) = self.begin(storage).filter(|_| !stalled) else {
            return Err(StoreError::Stalled { path });
        };
        let store = node.store.clone();
        let disk = node.disks.of(storage);
        let noted = disk.run(move || {
            let _turn = turn;
            store.note_heard_on(storage, heard)
        });
        timeout(CALL_TIMEOUT, noted).await.unwrap_or(Err(StoreError::Stalled { path }))
    }

    fn begin(&self, storage: StorageId) -> Option<Turn> {
        let first = self.under_way.lock().insert(storage);
        first.then(|| Turn { notes: self.clone(), storage })
    }
}
