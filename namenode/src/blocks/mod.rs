//! The owner of soft state: replicas, datanodes, replication work, safe mode.
//!
//! The rules are in `steadfs_namenode_core::blocks`; here they get a clock, seeds, the namespace's facts and a lock.
//! The lock is `owner::Owner`'s and stands behind closures; nobody holds it while reading the store or awaiting.
//!
//! Placement and replies work on a `directory::Directory`, a picture of the datanodes that is renewed every round and
//! at each registration, so that a plan never waits for a report.

mod directory;
mod house;
mod intake;
mod leaving;
mod owner;
mod sink;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use steadfs_common::{BlockId, DatanodeUuid, Millis};
use steadfs_daemon::clock::SharedClock;
use steadfs_daemon::pool::DiskPool;
use steadfs_namenode_core::blocks::{BlockMap, BlockSettings, SafeModeSettings};
use steadfs_namenode_core::placement::Random;
use tokio::sync::Notify;

use crate::config::NamenodeConfig;
use crate::store::Store;
use directory::Directory;
pub(crate) use house::Progress;
pub use intake::ReportSlice;
use owner::Owner;

/// Waiters for replicas are told apart by this many bits of the block id.
const WAIT_SHARDS: usize = 64;
/// Small copies of a datanode may be more than its streams, while all together are no more than so many bytes.
const LIGHT_COPIES: u64 = 64 << 20;
/// Threads that compare reports with the namespace.
const REPORT_THREADS: usize = 2;
/// Parts of reports that wait for them; their senders wait beyond that.
const REPORT_QUEUE: usize = 64;
/// A block's pipeline has this long to report after the file was closed, before replicas are made elsewhere.
const COMPLETION_GRACE: Duration = Duration::from_secs(10);
/// A block's recovery is given to another datanode after this.
const RECOVERY_RETRY: Duration = Duration::from_secs(10);

/// Replicas and datanodes as known now. Cloning shares it.
#[derive(Clone)]
pub struct Blocks {
    shared: Arc<Shared>,
}

/// What all clones share.
struct Shared {
    owner: Owner,
    directory: ArcSwap<Directory>,
    store: Arc<Store>,
    clock: SharedClock,
    /// The time of day when this began: with the monotonic clock it makes a time that no jump of the day's disturbs.
    began: Millis,
    seeds: AtomicU64,
    arrivals: [Notify; WAIT_SHARDS],
    pool: DiskPool,
    round: Duration,
    heartbeat_interval: Duration,
    report_interval: Duration,
    /// The name of this machine, which an answer in safe mode tells.
    host: String,
}

impl Blocks {
    /// Knows nothing yet, and is in safe mode.
    ///
    /// # Errors
    /// The operating system has no room for threads.
    pub fn new(config: &NamenodeConfig, clock: SharedClock, store: Arc<Store>) -> std::io::Result<Arc<Self>> {
        let millis = Duration::from_millis;
        let nodes = &config.datanodes;
        let settings = BlockSettings {
            min_replication: config.namespace.min_replication,
            default_replication: config.namespace.default_replication,
            min_maintenance_replication: nodes.min_maintenance_replication,
            stale_after: millis(nodes.stale_after_ms),
            heartbeat: millis(nodes.heartbeat_interval_ms),
            dead_after: millis(nodes.dead_after_ms),
            max_transfers_per_node: nodes.max_transfers_per_node,
            streams_per_node: config.replication.streams_per_node,
            max_incoming_per_node: config.replication.incoming_per_node,
            light_copies: LIGHT_COPIES,
            copy_bandwidth: config.replication.bytes_per_second,
            avoid_slow: config.replication.avoid_slow_nodes,
            transfer_timeout: millis(nodes.transfer_timeout_ms),
            completion_grace: COMPLETION_GRACE.min(millis(nodes.transfer_timeout_ms)),
            recovery_retry: RECOVERY_RETRY,
            flushed_wait: millis(nodes.flushed_wait_ms),
            safe_mode: SafeModeSettings {
                threshold: config.safe_mode.threshold,
                min_datanodes: config.safe_mode.min_datanodes,
                extension: millis(config.safe_mode.extension_ms),
            },
        };
        let round = nodes.heartbeat_interval_ms.min(nodes.dead_after_ms / 4).clamp(10, 1_000);
        let began = Millis(clock.now().0.saturating_sub(clock.monotonic().as_millis() as u64));
        let mut map = BlockMap::new(settings);
        map.set_background_balance(config.balancer.goal());
        Ok(Arc::new(Self {
            shared: Arc::new(Shared {
                owner: Owner::new(map),
                directory: ArcSwap::default(),
                store,
                began,
                seeds: AtomicU64::new(clock.now().0),
                clock,
                arrivals: std::array::from_fn(|_| Notify::new()),
                pool: DiskPool::new("blocks", REPORT_THREADS, REPORT_QUEUE)?,
                round: millis(round),
                heartbeat_interval: millis(nodes.heartbeat_interval_ms),
                report_interval: millis(nodes.block_report_interval_ms),
                host: host_name(config.listen.ip()),
            }),
        }))
    }

    /// The (Kubernetes) node of a datanode, if it told one.
    #[must_use]
    pub fn node_name(&self, uuid: DatanodeUuid) -> Option<String> {
        self.shared.directory.load().node_name(uuid)
    }

    /// The namenode's own disk runs low, or has room again.
    pub(crate) fn set_low_resources(&self, low: bool) {
        let now = self.shared.now();
        self.shared.owner.write(|map| map.set_low_resources(low, now));
    }

    /// How often a datanode shall send heartbeats, and how often a full report.
    #[must_use]
    pub fn intervals(&self) -> (Duration, Duration) {
        (self.shared.heartbeat_interval, self.shared.report_interval)
    }
}

/// What a server that listens at `address` is called.
fn host_name(address: IpAddr) -> String {
    if address.is_loopback() {
        return "localhost".to_owned();
    }
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

impl Shared {
    /// The time for spans: as the time of day at the start, but it never jumps.
    fn now(&self) -> Millis {
        self.began.plus(self.clock.monotonic())
    }

    fn seed(&self) -> u64 {
        Random::new(self.seeds.fetch_add(1, Ordering::Relaxed)).draw()
    }

    fn arrival(&self, block: BlockId) -> &Notify {
        &self.arrivals[block.0 as usize % WAIT_SHARDS]
    }

    /// Wakes those who wait for replicas of these blocks.
    fn announce(&self, blocks: Vec<BlockId>) {
        for block in blocks {
            self.arrival(block).notify_waiters();
        }
    }

    /// Renews the picture of the datanodes. Nothing changes meanwhile: an older picture never takes the place of a newer one.
    fn publish(&self) {
        self.owner.read(|map| self.directory.store(Arc::new(Directory::of(map))));
    }
}
