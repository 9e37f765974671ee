//! Keeping the leases of open files alive.
//!
//! Renewals have a thread and a connection of their own: they go on while the program's runtime is busy, and after the
//! one in which a file was opened has ended.

use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use steadfs_proto::steadfs as pb;
use tokio::runtime::{Builder, Handle};

use crate::calls::Calls;
use crate::client::Inner;

/// Renewal interval where the server does not say how long a lease lasts.
const USUAL_INTERVAL: Duration = Duration::from_secs(30);
/// Never more often than this, whatever the server says.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(20);

/// How many files this client has open for writing, and whether somebody renews their lease (one for all of them).
#[derive(Default)]
pub(crate) struct Leases {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: usize,
    renewing: bool,
}

/// One open file: while it lives, the lease is renewed.
pub(crate) struct LeaseGuard {
    inner: Arc<Inner>,
}

impl LeaseGuard {
    pub(crate) fn hold(inner: Arc<Inner>) -> Self {
        let start = {
            let mut state = inner.leases.state.lock();
            state.open += 1;
            !std::mem::replace(&mut state.renewing, true)
        };
        if start {
            let renewals = renew(Arc::downgrade(&inner), interval(inner.defaults.lease_soft_limit));
            match runtime() {
                Some(runtime) => drop(runtime.spawn(renewals)),
                None => drop(tokio::spawn(renewals)),
            }
        }
        Self { inner }
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.inner.leases.state.lock().open -= 1;
    }
}

/// Where renewals run: one thread for all clients of the process, started with the first open file. None if the operating
/// system gives no thread; then they run where the file was opened.
fn runtime() -> Option<&'static Handle> {
    static RUNTIME: OnceLock<Option<Handle>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            start()
                .inspect_err(
                    |error| tracing::warn!(%error, "leases are renewed without a thread of their own"),
                )
                .ok()
        })
        .as_ref()
}

fn start() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("steadfs-leases".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

/// Half of the soft limit, as in HDFS: one renewal may get lost.
fn interval(soft_limit: Duration) -> Duration {
    if soft_limit.is_zero() { USUAL_INTERVAL } else { (soft_limit / 2).max(SHORTEST_INTERVAL) }
}

async fn renew(inner: Weak<Inner>, interval: Duration) {
    let mut calls: Option<Calls> = None;
    loop {
        tokio::time::sleep(interval).await;
        let Some(inner) = inner.upgrade() else { return };
        {
            let mut state = inner.leases.state.lock();
            if state.open == 0 {
                state.renewing = false;
                return;
            }
        }
        let request = pb::RenewLeaseRequest { client: inner.name.clone() };
        // The client's own connection ends with the runtime that it was made in.
        let own = match calls.take() {
            Some(calls) => Ok(calls),
            None => Calls::new(inner.calls.url().clone(), &inner.options),
        };
        // The writers learn of a lost lease from their own calls.
        let renewed = match &own {
            Ok(calls) => {
                calls.namespace(request, |mut c, r| async move { c.renew_lease(r).await }).await.map(drop)
            }
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = renewed {
            tracing::warn!(%error, "the lease of open files was not renewed");
        }
        calls = own.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_leaves_room_for_a_lost_renewal() {
        assert_eq!(interval(Duration::from_secs(60)), Duration::from_secs(30));
        assert_eq!(interval(Duration::ZERO), USUAL_INTERVAL);
        assert_eq!(interval(Duration::from_millis(1)), SHORTEST_INTERVAL);
    }

    #[test]
    fn renewals_outlive_the_runtime_that_began_them() {
        let (told, hear) = std::sync::mpsc::channel();
        let short = Builder::new_current_thread().build().unwrap();
        short.block_on(async {
            runtime().unwrap().spawn(async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                told.send(()).unwrap();
            });
        });
        drop(short);
        hear.recv_timeout(Duration::from_secs(30)).unwrap();
    }
}
