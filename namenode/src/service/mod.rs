//! What can be asked of the namenode, once for all doors.
//!
//! Identity, retry cache, audit, metrics and waiting are here; the rules are in the core, and a door only translates.
//! Reads run beside the commit thread on the view published last: in memory if they can, and then without waiting for
//! anything; else on a thread of the store's pool.

mod admin;
mod attributes;
mod audit;
mod check;
pub mod effects;
mod follow;
mod groups;
mod hosts;
mod identity;
pub(crate) mod locks;
mod meta;
pub mod metrics;
mod nodes;
mod prefetch;
mod proxies;
mod questions;
mod quotas;
mod reads;
mod tokens;
mod trash;
pub mod types;
pub(crate) mod upkeep;
mod walk;
pub(crate) mod watch;
mod workers;
mod writes;

#[cfg(test)]
pub(crate) mod test_sink;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use steadfs_common::{DatanodeUuid, FsError, FsResult, Millis, StorageId};
use steadfs_daemon::clock::SharedClock;
use steadfs_daemon::pool::DiskPool;
use steadfs_namenode_core::blocks::BlocksOn;
use steadfs_namenode_core::command::{BlockRef, Origin, PlacedBlock};
use steadfs_namenode_core::locality::Pods;
use steadfs_namenode_core::{Caller, Settings};
use tokio::sync::{Notify, mpsc};

use crate::commit::Commits;
use crate::commit::answers::SavedAnswers;
use crate::commit::renewals::Renewals;
use crate::config::NamenodeConfig;
use crate::events::Events;
use crate::identity::Identity;
use crate::kubernetes;
use crate::locality::Locality;
use crate::locks::Locks;
use crate::store::Store;
use crate::upkeep::{Health, Upkeep};

use admin::Desk;
use audit::Audit;
pub use effects::{EffectSink, SharedCluster};
use groups::{Groups, process_user};
pub use identity::Claim;
use metrics::Readings;
pub use nodes::{NodeNames, NodeStop, StopAnswer};
use proxies::Proxies;
pub(crate) use proxies::is_address_range;
pub use steadfs_namenode_core::namespace::read::ContentSummary;
pub use types::{
    BlockOnNode, ClusterReport, Defaults, FileBlocks, FileStatus, FsStats, Listing, LocatedBlock, Location,
    Node, NodeReport, RecentOperation, StorageReport,
};
use upkeep::BackupDesk;
pub(crate) use upkeep::BackupPiece;
pub(crate) use walk::{Found, Walk};
pub(crate) use workers::start as start_workers;

/// Reads that wait for a thread; more wait for a place.
const READ_QUEUE: usize = 1_024;
/// Access times that wait to be written down; more are forgotten, as a read is no promise.
const TOUCH_QUEUE: usize = 1_024;
/// HDFS's defaults of `io.bytes.per.checksum` and `dfs.client-write-packet-size`, in bytes.
const BYTES_PER_CHECKSUM: u32 = 512;
const PACKET_BYTES: u32 = 65_536;

/// The namenode as its doors see it.
pub struct Service {
    store: Arc<Store>,
    commits: Commits,
    blocks: Arc<dyn EffectSink>,
    renewals: Arc<Renewals>,
    answers: Arc<SavedAnswers>,
    events: Arc<Events>,
    locks: Arc<Locks>,
    settings: Arc<Settings>,
    clock: SharedClock,
    pool: DiskPool,
    desk: Desk,
    groups: Groups,
    proxies: Proxies,
    audit: Audit,
    /// Where to read again what may change.
    config_file: Option<PathBuf>,
    /// How long what was thrown away is kept; 0 leaves it to clients.
    trash_minutes: u64,
    identity: Identity,
    health: Health,
    backups: BackupDesk,
    /// Reads everything and makes good what rotted, once it is there.
    scrubber: OnceLock<Arc<Upkeep>>,
    /// The namenode's own user, for what nobody asked for.
    own: Caller,
    superuser: String,
    started: Millis,
    complete_wait: Duration,
    insecure: bool,
    touches: mpsc::Sender<Touch>,
    /// Told when a tree was detached.
    detached: Notify,
    /// Likewise, for those who keep what is open in it.
    lost: Notify,
    locality: Arc<Locality>,
    kubernetes: kubernetes::Status,
}

/// A file that was read, and when.
pub(crate) struct Touch {
    file: steadfs_common::InodeId,
    at: Millis,
}

/// What a service is made of.
pub(crate) struct ServiceParts {
    pub(crate) store: Arc<Store>,
    pub(crate) commits: Commits,
    pub(crate) blocks: Arc<dyn EffectSink>,
    pub(crate) renewals: Arc<Renewals>,
    pub(crate) answers: Arc<SavedAnswers>,
    pub(crate) events: Arc<Events>,
    pub(crate) locks: Arc<Locks>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: SharedClock,
    pub(crate) identity: Identity,
    pub(crate) health: Health,
}

impl Service {
    /// Puts the parts together. Access times to write down come out of the receiver.
    ///
    /// # Errors
    /// The operating system has no room for threads, or the audit log cannot be opened.
    pub(crate) fn new(
        config: &NamenodeConfig,
        parts: ServiceParts,
    ) -> std::io::Result<(Arc<Self>, mpsc::Receiver<Touch>)> {
        let pool = DiskPool::new("store-read", config.store.read_threads, READ_QUEUE)?;
        let (touches, to_touch) = mpsc::channel(TOUCH_QUEUE);
        let service = Arc::new(Self {
            store: parts.store,
            commits: parts.commits,
            blocks: parts.blocks,
            renewals: parts.renewals,
            answers: parts.answers,
            events: parts.events,
            locks: parts.locks,
            settings: parts.settings,
            groups: Groups::new(&config.users, parts.clock.clone(), pool.clone()),
            proxies: Proxies::new(&config.users.proxies, pool.clone()),
            audit: Audit::new(parts.clock.clone(), &config.audit)?,
            config_file: config.file.clone(),
            trash_minutes: config.trash.interval_minutes,
            desk: Desk::new(config),
            identity: parts.identity,
            health: parts.health,
            backups: BackupDesk::new(&config.data_dirs),
            scrubber: OnceLock::new(),
            own: own_caller(),
            superuser: config.users.superuser.clone(),
            started: parts.clock.now(),
            complete_wait: Duration::from_millis(config.namespace.complete_wait_ms),
            insecure: config.insecure.simple,
            touches,
            detached: Notify::new(),
            lost: Notify::new(),
            locality: Locality::new(&config.locality),
            kubernetes: kubernetes::Status::default(),
            clock: parts.clock,
            pool,
        });
        Ok((service, to_touch))
    }

    /// The namenode's own user: for work that nobody asked for, such as what datanodes report.
    #[must_use]
    pub const fn own_caller(&self) -> &Caller {
        &self.own
    }

    /// Which cluster this is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How the namenode's own data is.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Who runs where.
    #[must_use]
    pub const fn locality(&self) -> &Arc<Locality> {
        &self.locality
    }

    /// How the watch of Kubernetes goes.
    #[must_use]
    pub const fn kubernetes(&self) -> &kubernetes::Status {
        &self.kubernetes
    }

    /// Takes another picture of who runs where.
    pub fn set_pods(&self, pods: Pods) {
        let pods = Arc::new(pods);
        self.locality.replace(Arc::clone(&pods));
        self.blocks.set_pods(pods);
    }

    /// The threads for what blocks.
    pub(crate) const fn disk_pool(&self) -> &DiskPool {
        &self.pool
    }

    /// The rules' settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The time as the namenode sees it.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Writes the rest of the audit log. Nothing is written to it afterwards.
    pub(crate) async fn close_audit(self: &Arc<Self>) {
        let service = Arc::clone(self);
        self.pool.run(move || service.audit.close()).await;
    }

    /// Lines of the audit log that were lost, if it has a file.
    #[must_use]
    pub fn lost_audit_lines(&self) -> Option<prometheus_client::metrics::counter::Counter> {
        self.audit.lost()
    }

    /// The last changes, newest first.
    #[must_use]
    pub fn recent(&self) -> Vec<RecentOperation> {
        self.audit.recent()
    }

    /// What is counted.
    #[must_use]
    pub const fn metrics(&self) -> &metrics::Metrics {
        &self.audit.metrics
    }

    /// What a client should do when it is not told otherwise.
    #[must_use]
    pub fn defaults(&self) -> Defaults {
        Defaults {
            block_size: self.settings.default_block_size,
            min_block_size: self.settings.min_block_size,
            replication: self.settings.default_replication,
            bytes_per_checksum: BYTES_PER_CHECKSUM,
            packet_size: PACKET_BYTES,
            block_pool: self.identity.block_pool.clone(),
            cluster_id: self.identity.cluster_id.clone(),
            lease_soft_limit: self.settings.lease_soft_limit,
            lease_hard_limit: self.settings.lease_hard_limit,
            trash_minutes: self.trash_minutes,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// The cluster's sums.
    #[must_use]
    pub fn fs_stats(&self) -> FsStats {
        self.blocks.stats()
    }

    /// The first blocks past `after` without any good replica.
    pub(crate) fn missing_blocks(
        &self,
        after: steadfs_common::BlockId,
        limit: usize,
    ) -> Vec<steadfs_common::BlockId> {
        self.blocks.missing_blocks(after, limit)
    }

    /// Some blocks with a replica on a datanode, for a balancer.
    pub(crate) fn blocks_on(&self, uuid: DatanodeUuid, wanted: &BlocksOn) -> Vec<BlockOnNode> {
        self.blocks.blocks_on(uuid, wanted)
    }

    /// All known datanodes.
    #[must_use]
    pub fn datanodes(&self) -> Vec<Arc<Node>> {
        self.blocks.datanodes().into_iter().map(|report| report.node).collect()
    }

    /// The store, for tests that look below.
    #[cfg(test)]
    pub(crate) const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Why changes are refused, if they are.
    #[must_use]
    pub fn safe_mode(&self) -> Option<String> {
        self.blocks.safe_mode()
    }

    /// Enters or leaves safe mode; says whether it is on afterwards.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser.
    pub fn set_safe_mode(&self, caller: &Caller, on: bool) -> FsResult<bool> {
        let started = self.audit.start();
        let action = if on { "safemode_enter" } else { "safemode_leave" };
        let result = self.check_operator(caller, action).map(|()| self.blocks.set_safe_mode(on));
        let operation = if on { "enter_safe_mode" } else { "leave_safe_mode" };
        self.audit.changed(&started, operation, caller, &"/", &result);
        result
    }

    /// Renews all leases of a client. One that has none is none the wiser, as in HDFS.
    pub fn renew_lease(&self, caller: &Caller, client: &str) {
        let started = self.audit.start();
        self.renewals.renewed(client);
        self.audit.asked(&started, "renew_lease", caller, &client, &Ok(()));
    }

    /// A reader found replicas to be bad.
    pub fn report_bad_replicas(&self, caller: &Caller, bad: &[(BlockRef, Vec<StorageId>)]) {
        let started = self.audit.start();
        for (block, storages) in bad {
            self.blocks.report_bad(*block, storages);
            self.audit.changed(&started, "report_bad_replicas", caller, &block.id, &Ok(()));
        }
    }

    /// All volumes of these datanodes: for reports that name datanodes alone.
    #[must_use]
    pub fn storages_of(&self, nodes: &[DatanodeUuid]) -> Vec<StorageId> {
        let known = self.blocks.datanodes();
        let named = known.iter().filter(|report| nodes.contains(&report.node.uuid));
        named.flat_map(|report| report.storages.iter().map(|storage| storage.storage)).collect()
    }

    /// A planned block with the nodes of its pipeline.
    #[must_use]
    pub fn located(&self, placed: &PlacedBlock) -> LocatedBlock {
        let block = &placed.block;
        LocatedBlock {
            block: BlockRef { id: block.id, stamp: block.stamp, length: block.length },
            offset: placed.offset,
            locations: self.blocks.locations(&placed.storages),
            corrupt: false,
        }
    }

    fn check_superuser(&self, caller: &Caller) -> FsResult<()> {
        if caller.superuser || !self.settings.permissions {
            return Ok(());
        }
        let user = &caller.user;
        Err(FsError::denied(format!("Access denied for user {user}. Superuser privilege is required")))
    }

    fn readings(&self) -> Readings {
        use steadfs_namenode_core::View as _;
        let view = self.store.view();
        let totals = view.totals(steadfs_common::ROOT_INODE);
        let (store_memory, store_disk) = self.store.sizes();
        Readings {
            waiting: self.commits.waiting() as u64,
            directories: totals.directories + 1,
            files: totals.files,
            blocks: view.counters().map_or(0, |counters| counters.blocks),
            store_memory,
            store_disk,
            insecure: self.insecure,
        }
    }
}

/// The user that runs the namenode, as a caller from nowhere.
pub(crate) fn own_caller() -> Caller {
    Caller {
        user: process_user(),
        groups: Vec::new(),
        superuser: true,
        address: None,
        origin: Origin::default(),
    }
}
