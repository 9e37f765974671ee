//! What happened, for those who follow.

use steadfs_common::{FsResult, TxId};
use steadfs_namenode_core::Caller;

use super::Service;
use crate::events::Window;

impl Service {
    /// The newest transaction.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser.
    pub fn newest_transaction(&self, caller: &Caller) -> FsResult<TxId> {
        self.check_superuser(caller)?;
        Ok(self.events.newest())
    }

    /// Ends what waits for something to happen: the namenode is stopping.
    pub(crate) fn stop_waiting(&self) {
        self.events.stop();
    }

    /// What happened from `from` on, about `most` events of it.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser.
    pub async fn what_happened(&self, caller: &Caller, from: TxId, most: usize) -> FsResult<Window> {
        self.check_superuser(caller)?;
        Ok(self.events.read(from, most).await)
    }
}
