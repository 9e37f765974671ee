//! The memory that the mount may take for bytes of files.
//!
//! Half of it is counted: buffers of connections and what the allocator keeps for later take as much again. That is divided, so
//! that what waits for one purpose never stands in the way of what must go on for another:
//!
//! | part | for | waits |
//! | --- | --- | --- |
//! | 1/8 | what the kernel handed over and is not yet accounted for | the thread that reads requests |
//! | 1/4 | bytes of reads and writes under way | the request |
//! | 1/4 | what is fetched ahead of readers | nobody: without room nothing is fetched ahead |
//! | 1/4 | pipelines of files that are being written: packets that are not acknowledged | nobody: without room a file is staged on |
//! | 1/8 | pipelines of files that are committed | the commit, for other commits alone |

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted: pages of 4 KiB.
const UNIT: usize = 4 << 10;
/// The least that each part has: a request of the largest size, twice.
const LEAST: u64 = 2 << 20;

/// All parts.
#[derive(Clone)]
pub(crate) struct Memory {
    pub(crate) arriving: Budget,
    pub(crate) data: Budget,
    pub(crate) ahead: Budget,
    pub(crate) pipelines: Pipelines,
}

/// The parts for pipelines.
#[derive(Clone)]
pub(crate) struct Pipelines {
    pub(crate) streams: Budget,
    pub(crate) commits: Budget,
}

impl Memory {
    pub(crate) fn new(bytes: u64) -> Self {
        let part = |eighths: u64| Budget::new((bytes / 2 / 8 * eighths).max(LEAST));
        let pipelines = Pipelines { streams: part(2), commits: part(1) };
        Self { arriving: part(1), data: part(2), ahead: part(2), pipelines }
    }
}

/// A bound on bytes held at one time.
#[derive(Clone)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    all: u32,
}

/// A share of it, given back when dropped.
pub(crate) struct Share(#[expect(dead_code, reason = "held until dropped")] OwnedSemaphorePermit);

impl Budget {
    fn new(bytes: u64) -> Self {
        let units =
            usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(UNIT).clamp(1, Semaphore::MAX_PERMITS);
        let all = u32::try_from(units).unwrap_or(u32::MAX);
        Self { units: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits for `bytes`; more than all there is waits for all.
    pub(crate) async fn take(&self, bytes: usize) -> Share {
        Share(self.units.clone().acquire_many_owned(self.units_of(bytes)).await.expect("never closed"))
    }

    /// `bytes` if they are there now.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<Share> {
        self.units.clone().try_acquire_many_owned(self.units_of(bytes)).ok().map(Share)
    }

    /// `bytes` if they are there now; not less, if there never are so many.
    pub(crate) fn try_take_all_of(&self, bytes: usize) -> Option<Share> {
        if bytes.div_ceil(UNIT) > self.all as usize { None } else { self.try_take(bytes) }
    }

    fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_is_only_so_much() {
        let budget = Budget::new(1 << 20);
        let first = budget.take(512 << 10).await;
        let second = budget.try_take(512 << 10);
        assert!(second.is_some() && budget.try_take(UNIT).is_none());
        drop((first, second));
        // More than there is takes all there is, and does not wait for ever.
        drop(budget.take(usize::MAX).await);
        assert!(budget.try_take(usize::MAX).is_some());
        assert!(budget.try_take_all_of((1 << 20) + 1).is_none() && budget.try_take_all_of(1 << 20).is_some());
    }

    #[test]
    fn the_parts_are_the_whole() {
        let memory = Memory::new(256 << 20);
        let Pipelines { streams, commits } = &memory.pipelines;
        let parts = [&memory.arriving, &memory.data, &memory.ahead, streams, commits];
        let all: usize = parts.iter().map(|part| part.all as usize * UNIT).sum();
        assert_eq!(all, 128 << 20);
    }
}
