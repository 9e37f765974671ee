//! Keeping the leases of open files alive.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use steadfs_proto::steadfs as pb;

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
            tokio::spawn(renew(Arc::downgrade(&inner), interval(inner.defaults.lease_soft_limit)));
        }
        Self { inner }
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.inner.leases.state.lock().open -= 1;
    }
}

/// Half of the soft limit, as in HDFS: one renewal may get lost.
fn interval(soft_limit: Duration) -> Duration {
    if soft_limit.is_zero() { USUAL_INTERVAL } else { (soft_limit / 2).max(SHORTEST_INTERVAL) }
}

async fn renew(inner: Weak<Inner>, interval: Duration) {
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
        // The writers learn of a lost lease from their own calls.
        if let Err(error) =
            inner.calls.namespace(request, |mut c, r| async move { c.renew_lease(r).await }).await
        {
            tracing::warn!(%error, "the lease of open files was not renewed");
        }
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
}
