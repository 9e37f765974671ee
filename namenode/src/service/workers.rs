//! What the namenode does by itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use steadfs_common::limits::RECLAIM_STEP;
use steadfs_common::{FsErrorKind, FsResult, InodeId};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_namenode_core::namespace::{lease, retry};
use steadfs_namenode_core::{Command, Reply, View};
use tokio::sync::mpsc;

use super::{Service, Touch};
use crate::config::NamenodeConfig;

/// Reclaiming is looked at this often even if nobody deleted anything: it may have been interrupted.
const RECLAIM_INTERVAL: Duration = Duration::from_secs(5);
/// Leases are looked through at least this often.
const LEASE_INTERVAL: Duration = Duration::from_secs(30);
/// And at most this often.
const LEASE_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Saved answers are looked through this often.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// And at most this often, while calls wait for room.
const RETRY_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Mounts' sessions are looked through this often.
const SESSIONS_INTERVAL: Duration = Duration::from_secs(1);
/// Deleted files that are kept because they are open are looked through this often while there are few, and where there are
/// more.
const KEPT_INTERVAL: Duration = Duration::from_secs(1);
const FEW_KEPT: usize = 1_000;
const MANY_KEPT_INTERVAL: Duration = Duration::from_secs(10);
/// Readings for the metrics are taken this often.
const READINGS_INTERVAL: Duration = Duration::from_secs(5);
/// Rows looked at in one step.
const PAGE: usize = 1_000;

/// Starts all workers; they end with `shutdown`.
pub(crate) fn start(
    service: &Arc<Service>,
    config: &NamenodeConfig,
    touches: mpsc::Receiver<Touch>,
    shutdown: &Shutdown,
) {
    let lease_interval = (service.settings.lease_hard_limit / 4).clamp(LEASE_INTERVAL_MIN, LEASE_INTERVAL);
    let seal_after = Duration::from_millis(config.journal.seal_after_idle_ms);
    every(service, shutdown, "reclaim", RECLAIM_INTERVAL, |service| async move { service.reclaim().await });
    every(service, shutdown, "lease monitor", lease_interval, |service| async move {
        service.expire_leases().await
    });
    shutdown.spawn(forget_answers(service.clone(), shutdown.clone()));
    every(service, shutdown, "lock sessions", SESSIONS_INTERVAL, |service| async move {
        service.expire_lock_sessions().await
    });
    shutdown.spawn(let_go(service.clone(), shutdown.clone()));
    shutdown.spawn(keep_lost(service.clone(), shutdown.clone()));
    every(service, shutdown, "readings", READINGS_INTERVAL, |service| async move {
        let asked = service.clone();
        let readings = service.pool.run(move || asked.readings()).await;
        service.audit.metrics.read(readings);
        Ok(())
    });
    super::trash::start(service, &config.trash, shutdown);
    service.locality.watch(service, shutdown);
    crate::kubernetes::start(service, &config.kubernetes, shutdown);
    shutdown.spawn(seal_when_idle(service.clone(), seal_after, shutdown.clone()));
    shutdown.spawn(write_touches(service.clone(), touches, shutdown.clone()));
}

/// Runs `step` now and then, and where it is the reclaim's turn also when a tree was detached.
fn every<F, A>(service: &Arc<Service>, shutdown: &Shutdown, name: &'static str, interval: Duration, step: F)
where
    F: Fn(Arc<Service>) -> A + Send + 'static,
    A: Future<Output = FsResult<()>> + Send,
{
    let (service, shutdown) = (service.clone(), shutdown.clone());
    let told = shutdown.clone();
    shutdown.spawn(async move {
        let wakes_early = name == "reclaim";
        loop {
            if let Err(error) = step(service.clone()).await {
                tracing::warn!(%error, "{name}: will be tried again");
            }
            tokio::select! {
                () = told.triggered() => return,
                () = tokio::time::sleep(interval) => {}
                () = service.detached.notified(), if wakes_early => {}
            }
        }
    });
}

/// Forgets saved answers now and then, and more often while calls wait for room.
async fn forget_answers(service: Arc<Service>, shutdown: Shutdown) {
    loop {
        if let Err(error) = service.forget_calls().await {
            tracing::warn!(%error, "saved answers: will be tried again");
        }
        let early = async {
            tokio::time::sleep(RETRY_INTERVAL_MIN).await;
            service.answers.wanted().await;
        };
        tokio::select! {
            () = shutdown.triggered() => return,
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
            () = early => {}
        }
    }
}

/// Lets files go that lost their names while they were open; the more are kept, the more rarely it is looked at them.
async fn let_go(service: Arc<Service>, shutdown: Shutdown) {
    loop {
        let wait = match service.let_go().await {
            Ok(kept) if kept < FEW_KEPT => KEPT_INTERVAL,
            Ok(_) => MANY_KEPT_INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "files that nobody has open any more: will be tried again");
                MANY_KEPT_INTERVAL
            }
        };
        tokio::select! {
            () = shutdown.triggered() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Keeps what is open in trees that were deleted, without waiting for their removal, which may take long.
async fn keep_lost(service: Arc<Service>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.triggered() => return,
            () = service.lost.notified() => {}
        }
        if let Err(error) = service.keep_all_lost().await {
            tracing::warn!(%error, "open files of a deleted tree: they are kept when its removal comes to them");
        }
        // Not before: of what is kept from here on the folders tell who may open it.
        service.detached.notify_one();
    }
}

async fn seal_when_idle(service: Arc<Service>, after: Duration, shutdown: Shutdown) {
    let mut seen = 0;
    loop {
        tokio::select! {
            () = shutdown.triggered() => return,
            () = tokio::time::sleep(after) => {}
        }
        let index = service.store.view_guard().position().index;
        if index == seen {
            service.commits.seal(index);
        }
        seen = index;
    }
}

async fn write_touches(service: Arc<Service>, mut touches: mpsc::Receiver<Touch>, shutdown: Shutdown) {
    loop {
        let touch = tokio::select! {
            () = shutdown.triggered() => return,
            touch = touches.recv() => touch,
        };
        let Some(Touch { file, at }) = touch else { return };
        let command = Command::TouchAccessTime { file, atime: at };
        if let Err(error) = service.commits.submit(service.own.clone(), None, command, None).await {
            tracing::debug!(%error, inode = file.0, "an access time was not written down");
        }
    }
}

impl Service {
    /// A command of the namenode's own. Not audited: nobody asked for it.
    async fn own(&self, command: Command) -> FsResult<Reply> {
        self.commits.submit(self.own.clone(), None, command, None).await
    }

    /// Removes what detached trees hold, step by step.
    pub(crate) async fn reclaim(&self) -> FsResult<()> {
        loop {
            let command = Command::Reclaim { limit: RECLAIM_STEP };
            // What is removed was mostly not read for long: the commit thread, which others wait for, must not wait for it.
            self.prefetch(&command).await;
            if self.own(command).await? != Reply::Bool(true) {
                return Ok(());
            }
        }
    }

    /// Looks through all leases: takes files from writers past the hard limit, and forgets renewals of those that write
    /// nothing any more.
    pub(crate) async fn expire_leases(&self) -> FsResult<()> {
        let (began, mut met, mut after) = (self.renewals.now(), BTreeSet::new(), None);
        // One copy for the whole scan, so that nobody's renewal waits for the disk. Renewals since are seen when a lease
        // is taken.
        let renewals = Arc::new(self.renewals.with(Clone::clone));
        loop {
            let (holders, next) = self.read(move |view| page_of_holders(view, after)).await;
            for holder in holders {
                self.renewals.met(&holder);
                met.insert(holder);
            }
            let due = {
                let (renewals, settings) = (renewals.clone(), self.settings.clone());
                self.read(move |view| lease::due(view, &renewals, &settings, began, after, PAGE).0).await
            };
            for file in due {
                tracing::info!(inode = file.0, "nobody renews the lease on this file: it is taken over");
                goes_on_after(file, self.own(Command::ExpireLease { file }).await)?;
            }
            match next {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        self.renewals.keep(&met, began);
        Ok(())
    }

    /// Forgets answers that no client will ask for again, and counts those that stay.
    pub(crate) async fn forget_calls(&self) -> FsResult<()> {
        let (mut after, mut kept) = (None, 0);
        loop {
            let (even, steady) = (self.renewals.even(), self.renewals.now());
            let age = retry::Age { even, steady, expiry: self.settings.retry_expiry };
            let page = move |view: &dyn View| {
                (view.retries(after.as_ref(), PAGE).len(), retry::expired(view, age, after.as_ref(), PAGE))
            };
            let (rows, (keys, next)) = self.read(page).await;
            kept += rows - keys.len();
            if !keys.is_empty() {
                self.own(Command::ForgetCalls { keys }).await?;
            }
            match next {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        self.answers.counted(kept as u64);
        Ok(())
    }
}

/// A file that cannot be closed keeps no other from it: only the end of the namenode does.
fn goes_on_after(file: InodeId, taken_over: FsResult<Reply>) -> FsResult<()> {
    match taken_over {
        Err(error) if error.kind() == FsErrorKind::Stopping => Err(error),
        Err(error) => {
            tracing::warn!(%error, inode = file.0, "the lease was not taken over: it will be tried again");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

fn page_of_holders(view: &dyn View, after: Option<InodeId>) -> (BTreeSet<String>, Option<InodeId>) {
    let rows = view.leases(after, PAGE);
    let next = if rows.len() < PAGE { None } else { rows.last().map(|(id, _)| *id) };
    (rows.into_iter().map(|(_, lease)| lease.holder).collect(), next)
}

#[cfg(test)]
mod tests {
    use steadfs_common::FsError;

    use super::*;

    #[test]
    fn one_file_that_cannot_be_closed_keeps_no_other_from_it() {
        let odd = FsError::invalid_argument("it is odd");
        assert_eq!(goes_on_after(InodeId(1), Err(odd)), Ok(()));
        assert_eq!(goes_on_after(InodeId(2), Ok(Reply::Bool(true))), Ok(()));
        let stopping = FsError::new(FsErrorKind::Stopping, "The namenode is stopping");
        assert_eq!(goes_on_after(InodeId(3), Err(stopping.clone())), Err(stopping));
    }
}
