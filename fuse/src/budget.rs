//! The memory that the mount may take for bytes of files.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted: pages of 4 KiB.
const UNIT: usize = 4 << 10;

/// A bound on bytes held at one time by reads, read-ahead and writes of all files together.
#[derive(Clone)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    all: u32,
}

/// A share of it, given back when dropped.
pub(crate) struct Share(#[expect(dead_code, reason = "held until dropped")] OwnedSemaphorePermit);

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        let units =
            usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(UNIT).clamp(1, Semaphore::MAX_PERMITS);
        let all = u32::try_from(units).unwrap_or(u32::MAX);
        Self { units: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits for `bytes`; more than all there is waits for all.
    pub(crate) async fn take(&self, bytes: usize) -> Share {
        Share(self.units.clone().acquire_many_owned(self.units_of(bytes)).await.expect("never closed"))
    }

    /// `bytes` if that leaves half of all free: what may be needed stands behind what is.
    pub(crate) fn spare(&self, bytes: usize) -> Option<Share> {
        let units = self.units_of(bytes);
        if self.units.available_permits() < units as usize + self.all as usize / 2 {
            return None;
        }
        self.units.clone().try_acquire_many_owned(units).ok().map(Share)
    }

    fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_may_wait_leaves_room_for_what_may_not() {
        let budget = Budget::new(1 << 20);
        let ahead = budget.spare(512 << 10);
        assert!(ahead.is_some());
        assert!(budget.spare(UNIT).is_none());
        let read = budget.take(512 << 10).await;
        drop(ahead);
        drop(read);
        // More than there is takes all there is, and does not wait for ever.
        drop(budget.take(usize::MAX).await);
        assert!(budget.spare(UNIT).is_some());
    }
}
