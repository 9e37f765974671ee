//! What is done without being asked: rounds, sweeps, and the comparison with the namespace.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use steadfs_common::{BlockId, FIRST_BLOCK_ID, Millis};
use steadfs_daemon::pool::DiskPool;
use steadfs_daemon::shutdown::Shutdown;
use steadfs_namenode_core::View as _;
use steadfs_namenode_core::blocks::BlockMap;
use steadfs_namenode_core::namespace::read::policies_of;
use tracing::{info, warn};

use super::{Blocks, Shared};
use crate::service::EffectSink as _;

/// Blocks judged in one hold of the lock: some 0.2 ms. Heartbeats wait for it on the threads that answer everybody.
const SWEEP_STEP: usize = 500;
/// Holds of the lock for judging blocks in one round: the rest waits for the next.
const SWEEPS_PER_ROUND: usize = 2_000;
/// Blocks learnt from the namespace in one hold of the lock.
const LEARN_STEP: usize = 1_000;
/// Blocks compared with the namespace in one hold of the lock.
const RECONCILE_STEP: usize = 2_000;
/// Steps of that comparison in one round.
const RECONCILES_PER_ROUND: usize = 10;
/// A comparison of all blocks begins this long after the last one ended.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(3_600);
/// The first comparison waits this long after safe mode for datanodes that have not reported.
const RECONCILE_DELAY: Duration = Duration::from_secs(30);
/// Blocks with too many replicas looked at again in one round.
const POSTPONED_PER_ROUND: usize = 1_000;

/// Where the comparison with the namespace is.
#[derive(Clone, Copy)]
pub(crate) struct Progress {
    next: BlockId,
    /// Not before this.
    due: Millis,
}

impl Blocks {
    /// Begins the rounds, which end with `shutdown`, and learns what blocks there are.
    ///
    /// # Errors
    /// The operating system has no room for a thread.
    pub fn start(&self, shutdown: &Shutdown) -> std::io::Result<()> {
        // Of its own: the threads of reports have enough to do meanwhile.
        let pool = DiskPool::new("blocks-learnt", 1, 0)?;
        let (learning, stop) = (self.clone(), shutdown.clone());
        shutdown.spawn(async move { learning.learn(&pool, &stop).await });
        let blocks = self.clone();
        let stop = shutdown.clone();
        shutdown.spawn_critical("blocks", async move {
            let mut timer = tokio::time::interval(blocks.shared.round);
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut progress = None;
            loop {
                tokio::select! {
                    () = stop.triggered() => return Ok::<(), anyhow::Error>(()),
                    _ = timer.tick() => {}
                }
                progress = blocks.round(progress).await;
            }
        });
        Ok(())
    }

    /// Reads the namespace's blocks once, in their order, while datanodes begin to report them: of many datanodes each has few,
    /// far apart, whose rows would be read one by one.
    pub(super) async fn learn(&self, pool: &DiskPool, stop: &Shutdown) {
        let mut next = Some(FIRST_BLOCK_ID);
        while let Some(from) = next
            && !stop.is_triggered()
        {
            let shared = Arc::clone(&self.shared);
            next = pool.run(move || shared.learn_step(from)).await;
        }
    }

    /// One round, and how far the comparison with the namespace is after it.
    pub(crate) async fn round(&self, progress: Option<Progress>) -> Option<Progress> {
        let shared = Arc::clone(&self.shared);
        let blocks = self.clone();
        self.shared
            .pool
            .run(move || {
                shared.tend();
                blocks.reconcile(progress)
            })
            .await
    }

    /// One round without the timer, for tests of other modules.
    #[cfg(test)]
    pub(crate) fn tend(&self) {
        self.shared.tend();
    }

    /// Some steps of the comparison with the namespace, outside of safe mode.
    fn reconcile(&self, progress: Option<Progress>) -> Option<Progress> {
        if self.safe_mode().is_some() {
            return None;
        }
        let now = self.shared.now();
        let mut progress =
            progress.unwrap_or_else(|| Progress { next: FIRST_BLOCK_ID, due: now.plus(RECONCILE_DELAY) });
        if progress.due > now {
            return Some(progress);
        }
        for _ in 0..RECONCILES_PER_ROUND {
            match self.shared.reconcile_step(progress.next) {
                Some(next) => progress.next = next,
                None => {
                    return Some(Progress { next: FIRST_BLOCK_ID, due: now.plus(RECONCILE_INTERVAL) });
                }
            }
        }
        Some(progress)
    }
}

impl Shared {
    /// Who is dead, whether safe mode ends, what is to be done.
    fn tend(&self) {
        let total = self.store.view_guard().counters().map_or(0, |counters| counters.complete_blocks);
        let (seed, now) = (self.seed(), self.now());
        let policies = self.policies();
        let (before, ended, after) = self.owner.write(|map| {
            map.set_policies(policies);
            let before = map.datanodes().live();
            let ended = map.round(total, seed, now);
            map.retry_postponed(POSTPONED_PER_ROUND);
            (before, ended, map.datanodes().live())
        });
        if after < before {
            warn!(
                lost = before - after,
                live = after,
                "datanodes were not heard for too long and count as dead"
            );
        }
        if ended {
            info!(blocks = total, datanodes = after, "safe mode is over");
        }
        for _ in 0..SWEEPS_PER_ROUND {
            if !self.owner.step(|map| map.sweep(SWEEP_STEP)) {
                break;
            }
        }
        self.owner.write(|map| map.depart(now));
        self.publish();
    }

    /// Which storage policies the blocks have that are to be copied now.
    fn policies(&self) -> BTreeMap<BlockId, u8> {
        let due = self.owner.read(BlockMap::copies_due);
        let view = self.store.view_guard();
        policies_of(&**view, &due)
    }

    /// One step; gives the block to go on from, none at the end.
    fn reconcile_step(&self, from: BlockId) -> Option<BlockId> {
        let known = self.range(from, RECONCILE_STEP);
        let last = known.last(RECONCILE_STEP);
        self.owner.step(|map| map.reconcile(from, last, &known.facts()));
        (last < BlockId(u64::MAX)).then(|| last.next())
    }

    /// One step; gives the block to go on from, none at the end or when there is nothing more to learn.
    fn learn_step(&self, from: BlockId) -> Option<BlockId> {
        let known = self.range(from, LEARN_STEP);
        let last = known.last(LEARN_STEP);
        let learns = self.owner.step(|map| map.learn(&known.facts()));
        (learns && last < BlockId(u64::MAX)).then(|| last.next())
    }
}
