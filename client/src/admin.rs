//! What an operator asks.

use futures::{Stream, StreamExt};
use steadfs_common::{FsPath, FsResult, Millis};
use steadfs_proto::steadfs as pb;

use crate::operate::NodeState;
use crate::types::foreign;
use crate::{Client, FsStats, Replica};

/// The cluster at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterReport {
    /// The namenode's version.
    pub version: String,
    /// The cluster.
    pub cluster_id: String,
    /// The block pool.
    pub block_pool: String,
    /// When the namenode started.
    pub started: Millis,
    /// Why the namenode is in safe mode, if it is.
    pub safe_mode: Option<String>,
    /// Space, and blocks in trouble.
    pub stats: FsStats,
    /// Files.
    pub files: u64,
    /// Folders.
    pub directories: u64,
    /// Blocks.
    pub blocks: u64,
    /// Replicas that are being made, or wait to be.
    pub pending_replication: u64,
    /// Replicas that are to be deleted.
    pub pending_deletion: u64,
    /// Files that are being written.
    pub open_files: u64,
    /// All datanodes that the namenode knows.
    pub datanodes: Vec<DatanodeReport>,
    /// The first few blocks without any good replica.
    pub missing_blocks: Vec<String>,
    /// Blocks with enough replicas, all in one zone or rack, or several on one machine, although there are others.
    pub misplaced: u64,
    /// Blocks that the loss of one more replica would lose.
    pub endangered: u64,
    /// What is wrong with the namenode's own data, a sentence each.
    pub data_problems: Vec<String>,
}

impl ClusterReport {
    /// Whether nothing needs a person: no block missing or corrupt, no datanode dead, no safe mode, and
    /// the namenode's own data whole.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.safe_mode.is_none()
            && self.data_problems.is_empty()
            && self.stats.missing == 0
            && self.stats.corrupt == 0
            && !self.datanodes.is_empty()
            && self.datanodes.iter().all(|node| {
                (node.live || node.state.is_out()) && node.storages.iter().all(|storage| !storage.failed)
            })
    }
}

/// A datanode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatanodeReport {
    /// Its identity.
    pub uuid: String,
    /// `ip:port` of its data server.
    pub address: String,
    /// Its host as it calls itself.
    pub host_name: String,
    /// Its port for operators; 0 if it has none.
    pub http_port: u16,
    /// Where it stands.
    pub rack: String,
    /// Whether it is heard of.
    pub live: bool,
    /// When it was heard of last.
    pub last_heartbeat: Millis,
    /// When it told of all its replicas last; 0 if never.
    pub last_block_report: Millis,
    /// Reads and writes under way.
    pub active_transfers: u32,
    /// Its version.
    pub version: String,
    /// Its volumes.
    pub storages: Vec<StorageReport>,
    /// Whether it serves, or leaves.
    pub state: NodeState,
    /// Blocks that keep it from leaving.
    pub lacking: u64,
    /// And blocks of open files.
    pub lacking_open: u64,
    /// Others find it far slower than the rest: it is avoided.
    pub slow: bool,
    /// How long it takes to take a packet, as others find; none if they have not said.
    pub latency: Option<std::time::Duration>,
    /// The Kubernetes node that it runs on; empty if it told none.
    pub node: String,
    /// Volumes that it cannot use.
    pub failures: Vec<VolumeFailure>,
}

/// A volume that a datanode cannot use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFailure {
    /// Its folder.
    pub path: String,
    /// Its identity; empty if it could not be read.
    pub id: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Millis,
    /// Its bytes, as far as known.
    pub capacity: u64,
}

/// What an operator should know of a volume, beside how full it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeHealth {
    /// Its folder.
    pub path: String,
    /// It has not answered for a while: nothing new is put on it.
    pub stalled: bool,
    /// Replicas known to be bad.
    pub bad: u64,
    /// Bytes left to others.
    pub reserved: u64,
    /// Bytes kept for replicas that are being written.
    pub kept: u64,
    /// When all replicas had been read and checked last; 0 if never.
    pub scan_done: Millis,
    /// When the present pass of that began; 0 if none did.
    pub scan_began: Millis,
    /// Bytes read and checked in it.
    pub scan_bytes: u64,
    /// When folders were compared with what is known of them last; 0 if never.
    pub compared: Millis,
}

/// A volume of a datanode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageReport {
    /// Its identity (`DS-…`).
    pub id: String,
    /// Its kind: `disk`, `ssd` or `archive`.
    pub kind: &'static str,
    /// Whether it failed and is out of use.
    pub failed: bool,
    /// Its bytes.
    pub capacity: u64,
    /// Bytes taken by replicas.
    pub used: u64,
    /// Bytes that replicas may still take.
    pub remaining: u64,
    /// Its replicas.
    pub blocks: u64,
    /// What its datanode says of it; empty if it says nothing.
    pub health: VolumeHealth,
}

/// Whether the namenode is in safe mode, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafeMode {
    /// Changes are refused.
    pub on: bool,
    /// Why; empty when off.
    pub reason: String,
}

/// What a check of files tells: files one by one, a summary at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FsckItem {
    /// A file that is not healthy (or any, if all are asked for).
    File(FsckFile),
    /// The totals; comes once, last.
    Summary(FsckSummary),
}

/// A file and its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsckFile {
    /// Where it is.
    pub path: String,
    /// Bytes.
    pub length: u64,
    /// Replicas wanted.
    pub replication: u32,
    /// Whether it is being written.
    pub under_construction: bool,
    /// Its blocks, in order.
    pub blocks: Vec<FsckBlock>,
}

/// A block and its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsckBlock {
    /// `blk_<id>_<stamp>`.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// Replicas wanted.
    pub wanted: u32,
    /// Good replicas.
    pub live: Vec<Replica>,
    /// Damaged replicas.
    pub corrupt: Vec<Replica>,
}

impl FsckBlock {
    /// No good replica is left.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.live.is_empty() && self.length > 0
    }
}

/// The totals of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FsckSummary {
    /// Files looked at.
    pub files: u64,
    /// Folders looked at.
    pub directories: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Blocks of the files.
    pub blocks: u64,
    /// Blocks with fewer replicas than wanted.
    pub under_replicated: u64,
    /// Blocks without a good replica.
    pub missing: u64,
    /// Blocks with a damaged replica.
    pub corrupt: u64,
    /// Blocks with more replicas than wanted.
    pub over_replicated: u64,
    /// Files being written.
    pub open_files: u64,
    /// Whether every closed file can be read.
    pub healthy: bool,
}

impl Client {
    /// The cluster at a glance.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn report(&self) -> FsResult<ClusterReport> {
        let answer =
            self.inner.calls.admin(pb::Empty {}, |mut c, r| async move { c.report(r).await }).await?;
        Ok(ClusterReport {
            version: answer.version,
            cluster_id: answer.cluster_id,
            block_pool: answer.block_pool,
            started: Millis(answer.started),
            safe_mode: Some(answer.safe_mode).filter(|reason| !reason.is_empty()),
            stats: answer.stats.unwrap_or_default().into(),
            files: answer.files,
            directories: answer.directories,
            blocks: answer.blocks,
            pending_replication: answer.pending_replication,
            pending_deletion: answer.pending_deletion,
            open_files: answer.open_files,
            datanodes: answer.datanodes.into_iter().map(datanode).collect::<FsResult<_>>()?,
            missing_blocks: answer.missing_blocks,
            data_problems: answer.data_problems,
            misplaced: answer.misplaced,
            endangered: answer.endangered,
        })
    }

    /// Whether the namenode is in safe mode.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn safe_mode(&self) -> FsResult<SafeMode> {
        self.safe_mode_action(pb::safe_mode_request::Action::Get).await
    }

    /// Enters safe mode (nothing can be changed) or leaves it.
    ///
    /// # Errors
    /// `AccessDenied` unless the caller is a superuser.
    pub async fn set_safe_mode(&self, on: bool) -> FsResult<SafeMode> {
        use pb::safe_mode_request::Action;
        self.safe_mode_action(if on { Action::Enter } else { Action::Leave }).await
    }

    async fn safe_mode_action(&self, action: pb::safe_mode_request::Action) -> FsResult<SafeMode> {
        let request = pb::SafeModeRequest { action: action.into() };
        let answer = self.inner.calls.admin(request, |mut c, r| async move { c.safe_mode(r).await }).await?;
        Ok(SafeMode { on: answer.on, reason: answer.reason })
    }

    /// Checks a file, or all files below a folder: those that are not healthy (with `all`, every one), then a summary.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied` unless the caller is a superuser. The stream ends with an error if the server goes
    /// away meanwhile: without a summary nothing is said about health.
    pub async fn fsck(
        &self,
        path: &str,
        all: bool,
    ) -> FsResult<impl Stream<Item = FsResult<FsckItem>> + Send + use<>> {
        let request = pb::FsckRequest { path: FsPath::parse(path)?.to_string(), all };
        let items = self.inner.calls.admin(request, |mut c, r| async move { c.fsck(r).await }).await?;
        let inner = self.inner.clone();
        Ok(items.map(move |item| match item {
            Ok(item) => fsck_item(item),
            Err(status) => Err(inner.calls.error_of(&status)),
        }))
    }
}

fn datanode(report: pb::DatanodeReport) -> FsResult<DatanodeReport> {
    let state = NodeState::of(report.state());
    let address = report.address.ok_or_else(|| foreign("datanode address"))?;
    let ip = if address.ip.contains(':') { format!("[{}]", address.ip) } else { address.ip };
    Ok(DatanodeReport {
        state,
        lacking: report.lacking,
        lacking_open: report.lacking_open,
        slow: report.slow,
        latency: (report.latency_micros > 0).then(|| std::time::Duration::from_micros(report.latency_micros)),
        node: report.node,
        uuid: address.uuid,
        address: format!("{ip}:{}", address.data_port),
        host_name: address.host_name,
        http_port: u16::try_from(address.http_port).map_err(|_| foreign("http_port"))?,
        rack: report.rack,
        live: report.live,
        last_heartbeat: Millis(report.last_heartbeat),
        last_block_report: Millis(report.last_block_report),
        active_transfers: report.active_transfers,
        version: report.version,
        storages: report.storages.into_iter().map(storage).collect(),
        failures: report.failures.into_iter().map(failure).collect(),
    })
}

fn storage(report: pb::StorageReport) -> StorageReport {
    let kind = match report.kind() {
        pb::StorageKind::Disk => "disk",
        pb::StorageKind::Ssd => "ssd",
        pb::StorageKind::Archive => "archive",
        pb::StorageKind::RamDisk => "ram_disk",
        pb::StorageKind::Provided => "provided",
        pb::StorageKind::Nvdimm => "nvdimm",
    };
    StorageReport {
        id: report.storage_id,
        kind,
        failed: report.failed,
        capacity: report.capacity,
        used: report.used,
        remaining: report.remaining,
        blocks: report.blocks,
        health: report.health.map(health).unwrap_or_default(),
    }
}

fn health(health: pb::VolumeHealth) -> VolumeHealth {
    VolumeHealth {
        path: health.path,
        stalled: health.stalled,
        bad: health.bad,
        reserved: health.reserved,
        kept: health.kept,
        scan_done: Millis(health.scan_done_ms),
        scan_began: Millis(health.scan_began_ms),
        scan_bytes: health.scan_bytes,
        compared: Millis(health.compared_ms),
    }
}

fn failure(failure: pb::VolumeFailure) -> VolumeFailure {
    VolumeFailure {
        path: failure.path,
        id: failure.storage_id,
        why: failure.why,
        since: Millis(failure.since_ms),
        capacity: failure.capacity,
    }
}

fn fsck_item(item: pb::FsckItem) -> FsResult<FsckItem> {
    match item.item.ok_or_else(|| foreign("item"))? {
        pb::fsck_item::Item::File(file) => Ok(FsckItem::File(FsckFile {
            path: file.path,
            length: file.length,
            replication: file.replication,
            under_construction: file.under_construction,
            blocks: file.blocks.into_iter().map(fsck_block).collect::<FsResult<_>>()?,
        })),
        pb::fsck_item::Item::Summary(summary) => Ok(FsckItem::Summary(FsckSummary {
            files: summary.files,
            directories: summary.directories,
            bytes: summary.bytes,
            blocks: summary.blocks,
            under_replicated: summary.under_replicated,
            missing: summary.missing,
            corrupt: summary.corrupt,
            over_replicated: summary.over_replicated,
            open_files: summary.open_files,
            healthy: summary.healthy,
        })),
    }
}

fn fsck_block(block: pb::FsckBlock) -> FsResult<FsckBlock> {
    let replicas = |locations: Vec<pb::Location>| {
        locations.into_iter().map(Replica::from_proto).collect::<FsResult<Vec<_>>>()
    };
    let id = block.block.ok_or_else(|| foreign("block"))?;
    Ok(FsckBlock {
        name: format!("{}_{}", steadfs_common::BlockId(id.id), id.stamp),
        length: id.length,
        wanted: block.wanted,
        live: replicas(block.live)?,
        corrupt: replicas(block.corrupt)?,
    })
}
