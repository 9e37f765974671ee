//! What operators may do to a running datanode (`hdfs dfsadmin … DATANODE:IPC_PORT`).

use std::sync::atomic::{AtomicU64, Ordering};

use steadfs_common::{FsError, FsResult};
use tokio::sync::watch;

use crate::reconfigure::{Reconfiguration, Reload};

/// Bytes a second for moving replicas until the namenode says otherwise (HDFS: `dfs.datanode.balance.bandwidthPerSec`).
const BALANCER_BYTES_PER_SECOND: u64 = 100 << 20;

/// What operators change while a datanode runs.
pub struct Admin {
    balancer_bandwidth: AtomicU64,
    /// Counts the orders to let go of all writers.
    evictions: watch::Sender<u64>,
    /// The configuration that is read again while the datanode runs.
    pub(crate) reconfiguration: Reconfiguration,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            balancer_bandwidth: AtomicU64::new(BALANCER_BYTES_PER_SECOND),
            evictions: watch::Sender::new(0),
            reconfiguration: Reconfiguration::default(),
        }
    }
}

impl Admin {
    /// With a way to read the configuration again.
    pub(crate) fn reloading(reload: Option<Reload>) -> Self {
        Self { reconfiguration: Reconfiguration::new(reload), ..Self::default() }
    }

    /// How many bytes a second may be used to move replicas for the sake of balance.
    #[must_use]
    pub fn balancer_bandwidth(&self) -> u64 {
        self.balancer_bandwidth.load(Ordering::Relaxed)
    }

    /// Sets it. 0 is refused silently, as in HDFS: it would stop all moves for ever.
    pub(crate) fn set_balancer_bandwidth(&self, bytes_per_second: u64) {
        if bytes_per_second > 0 {
            self.balancer_bandwidth.store(bytes_per_second, Ordering::Relaxed);
        }
    }

    /// Ends all blocks being written by clients here; they go on with other datanodes.
    pub(crate) fn evict_writers(&self) {
        self.evictions.send_modify(|count| *count += 1);
    }

    /// Ends when an operator asks writers to leave.
    pub(crate) fn eviction(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut orders = self.evictions.subscribe();
        async move {
            if orders.changed().await.is_err() {
                // The datanode is going down: its own end is told elsewhere.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The user that this process runs as: who may administer it.
pub(crate) fn process_user() -> String {
    uzers::get_effective_username().map_or_else(
        || uzers::get_effective_uid().to_string(),
        |name| String::from_utf8_lossy(name.as_encoded_bytes()).into_owned(),
    )
}

/// Refuses all but who runs the datanode and those that its configuration names.
pub(crate) fn check_operator(
    user: &str,
    acts_for_another: bool,
    named: &[String],
    own: &str,
) -> FsResult<()> {
    if !acts_for_another && (user == own || named.iter().any(|name| name == user)) {
        return Ok(());
    }
    Err(FsError::denied("Permission denied.".into()))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn only_those_who_are_named_may() {
        let named = ["ann".to_owned()];
        assert!(check_operator("root", false, &named, "root").is_ok());
        assert!(check_operator("ann", false, &named, "root").is_ok());
        assert_eq!(check_operator("bob", false, &named, "root").unwrap_err().message(), "Permission denied.");
        assert!(check_operator("root", true, &named, "root").is_err());
    }

    #[tokio::test]
    async fn writers_hear_of_orders_after_they_began() {
        let admin = Admin::default();
        admin.evict_writers();
        let waiting = admin.eviction();
        assert!(admin.eviction().now_or_never().is_none());
        admin.evict_writers();
        waiting.await;
    }

    #[test]
    fn bandwidth_is_never_none() {
        let admin = Admin::default();
        admin.set_balancer_bandwidth(0);
        assert_eq!(admin.balancer_bandwidth(), 100 << 20);
        admin.set_balancer_bandwidth(7);
        assert_eq!(admin.balancer_bandwidth(), 7);
    }
}
