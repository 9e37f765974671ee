//! Telling the kernel that what it remembers is old.

use std::sync::{Arc, OnceLock};

use fuser::{INodeNo, Notifier};
use steadfs_daemon::pool::DiskPool;

/// The way to the kernel, once there is one. A notification may wait for pages that are being read, so it is sent from a
/// thread of its own.
#[derive(Clone)]
pub(crate) struct Notify {
    notifier: Arc<OnceLock<Notifier>>,
    pool: DiskPool,
}

impl Notify {
    pub(crate) fn new(pool: DiskPool) -> Self {
        Self { notifier: Arc::default(), pool }
    }

    pub(crate) fn connect(&self, notifier: Notifier) {
        let _ = self.notifier.set(notifier);
    }

    /// The content and attributes of an inode have changed.
    pub(crate) fn changed(&self, inode: u64) {
        let Some(notifier) = self.notifier.get().cloned() else { return };
        let pool = self.pool.clone();
        tokio::spawn(async move {
            let told = pool.run(move || notifier.inval_inode(INodeNo(inode), 0, 0)).await;
            if let Err(error) = told {
                tracing::debug!(inode, %error, "the kernel was not told of a change");
            }
        });
    }
}
