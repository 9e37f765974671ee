//! All volumes and replicas of a datanode: the door of this crate.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;

use steadfs_common::{BlockId, ChecksumSpec, DatanodeUuid, GenStamp, StorageId};
use uuid::Uuid;

use crate::core::{Core, LOOKUPS, footprint};
use crate::disk::Disk;
use crate::identity::{self, VolumeIdentity};
use crate::map::{ReplicaMap, Slot};
use crate::scan::{self, Found};
use crate::volume::{Volume, claim};
use crate::{
    Block, Cluster, Faults, Identity, ReplicaReader, ReplicaState, ReplicaWriter, StoreError, StoreResult,
    VolumeConfig, VolumeStatus,
};

/// How to open a store.
#[derive(Clone)]
pub struct StoreOptions {
    /// The volumes; at least one.
    pub volumes: Vec<VolumeConfig>,
    /// Makes operations on files fail, in tests.
    pub faults: Option<Arc<dyn Faults>>,
}

/// How to make a replica.
#[derive(Clone, Copy, Debug)]
pub struct CreateOptions {
    /// Id and stamp; `len` is how long it will probably get (the block size): room is kept for it.
    pub block: Block,
    /// The volume that the namenode chose; another is taken if it has no room.
    pub storage: Option<StorageId>,
    /// The checksums of the packets, which will be stored as they come.
    pub spec: ChecksumSpec,
}

/// What happened to a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    /// A pipeline began to write it.
    Receiving,
    /// It was finalized.
    Received,
    /// It was deleted.
    Deleted,
}

/// A replica that changed: the namenode wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaChange {
    /// Where it lies.
    pub storage: StorageId,
    /// Which.
    pub block: Block,
    /// What happened.
    pub kind: ChangeKind,
}

/// Who hears what happens in the store. Called on disk threads, sometimes under a replica's lock: must not block or call back.
pub trait Listener: Send + Sync {
    /// A replica changed.
    fn changed(&self, change: ReplicaChange);
    /// A replica's bytes do not match its checksums, or cannot be read.
    fn bad_replica(&self, storage: StorageId, block: Block);
    /// A volume failed: its replicas are gone from the map.
    fn volume_failed(&self, storage: StorageId, why: &str);
}

/// A listener that does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoListener;

impl Listener for NoListener {
    fn changed(&self, _change: ReplicaChange) {}
    fn bad_replica(&self, _storage: StorageId, _block: Block) {}
    fn volume_failed(&self, _storage: StorageId, _why: &str) {}
}

/// A replica at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaStatus {
    /// Id, stamp, and bytes received.
    pub block: Block,
    /// Its state; in reports the one before a recovery, if one is under way.
    pub state: ReplicaState,
    /// Where it lies.
    pub storage: StorageId,
}

/// All volumes and replicas of a datanode.
pub struct Store {
    pub(crate) core: Arc<Core>,
}

impl Drop for Store {
    fn drop(&mut self) {
        for volume in &self.core.volumes {
            volume.worker.stop();
        }
    }
}

impl Store {
    /// Opens the volumes: locks them, checks whose they are, makes them at the first start, and scans them. A volume that
    /// cannot be read is left out, if another works.
    ///
    /// # Errors
    /// A folder of another datanode, cluster or version, or used by another process; no volume that works.
    pub fn open(options: StoreOptions, listener: Arc<dyn Listener>) -> StoreResult<Arc<Self>> {
        let disk = Disk::new(options.faults);
        let claimed = claim_all(options.volumes, &disk)?;
        let node = agree(&claimed)?;
        let mut volumes = Vec::new();
        let mut broken = None;
        for claimed in claimed {
            let root = claimed.config.path.clone();
            match claimed.adopt(volumes.len(), &node, &disk) {
                Ok(volume) => volumes.push(volume),
                Err(error) => broken = leave_out(&root, error),
            }
        }
        let mut maps = Vec::new();
        for (volume, found) in volumes.iter().zip(scan_all(&volumes)) {
            match found {
                Ok(found) => maps.push(fill(volume, found)),
                Err(error) => {
                    broken = leave_out(&volume.root, error);
                    volume.mark_failed();
                    maps.push(Default::default());
                }
            }
        }
        if volumes.iter().all(|volume| volume.has_failed()) {
            return Err(broken.unwrap_or_else(|| StoreError::Refused {
                path: "volumes".into(),
                why: "no volume is configured: name at least one folder to keep replicas in".into(),
            }));
        }
        let core = Core { volumes, map: ReplicaMap::new(maps), listener, turn: AtomicUsize::new(0) };
        Ok(Arc::new(Self { core: Arc::new(core) }))
    }

    /// Who this datanode is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.core.volumes[0].identity().node
    }

    /// Joins a cluster: writes it down durably the first time, and compares ever after.
    ///
    /// # Errors
    /// The replicas here belong to another cluster.
    pub fn join(&self, cluster: &Cluster) -> StoreResult<()> {
        let volumes = || self.core.volumes.iter().filter(|volume| !volume.has_failed());
        let refused = |volume: &Volume, why| StoreError::Refused { path: volume.root.clone(), why };
        for volume in volumes() {
            identity::check_names(cluster).map_err(|why| refused(volume, why))?;
            if let Some(here) = volume.identity().node.cluster
                && here != *cluster
            {
                return Err(refused(
                    volume,
                    format!(
                        "the folder belongs to cluster {} ({}), the namenode is of cluster {} ({}): point the datanode at \
                         its own namenode, or give an empty folder",
                        here.cluster_id, here.block_pool, cluster.cluster_id, cluster.block_pool
                    ),
                ));
            }
        }
        for volume in volumes() {
            let mut identity = volume.identity();
            if identity.node.cluster.is_none() {
                identity.node.cluster = Some(cluster.clone());
                self.core.watch(volume, volume.set_identity(identity))?;
            }
        }
        Ok(())
    }

    /// How the volumes are. Asks the file systems; drops a volume that is not there any more.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeStatus> {
        let core = &self.core;
        for volume in core.volumes.iter().filter(|volume| !volume.has_failed() && !volume.is_there()) {
            core.check_volume(volume);
        }
        core.volumes.iter().map(|volume| volume.status(core.map.count(volume.index))).collect()
    }

    /// The volumes that have not failed.
    #[must_use]
    pub fn volumes_in_service(&self) -> Vec<StorageId> {
        self.core.volumes.iter().filter(|volume| !volume.has_failed()).map(|volume| volume.storage).collect()
    }

    /// Writes and reads a small file on a volume, and drops it if that fails.
    pub fn check_volume(&self, storage: StorageId) {
        let volumes = self.core.volumes.iter();
        for volume in volumes.filter(|volume| volume.storage == storage && !volume.has_failed()) {
            self.core.check_volume(volume);
        }
    }

    /// The replica of a block, if there is one.
    #[must_use]
    pub fn status(&self, id: BlockId) -> Option<ReplicaStatus> {
        let (volume, slot) = self.core.map.get(id)?;
        let storage = self.core.volumes[volume].storage;
        Some(match slot {
            Slot::Finalized { stamp, len } => {
                ReplicaStatus { block: Block { id, stamp, len }, state: ReplicaState::Finalized, storage }
            }
            Slot::Open(open) => {
                let state = open.state.lock();
                let block = Block { id, stamp: state.stamp, len: state.received };
                ReplicaStatus { block, state: state.role, storage }
            }
        })
    }

    /// Bytes that a reader may see of a replica whose stamp is `stamp` or newer.
    ///
    /// # Errors
    /// No such replica, or one that cannot be read.
    pub fn visible_length(&self, id: BlockId, stamp: GenStamp) -> StoreResult<u64> {
        for _ in 0..LOOKUPS {
            match self.core.map.get(id) {
                None => return Err(StoreError::not_found(id, "no replica here")),
                Some((_, Slot::Finalized { stamp: here, len })) => {
                    return readable_stamp(id, here, stamp).map(|()| len);
                }
                Some((_, Slot::Open(open))) => {
                    let state = open.state.lock();
                    if state.gone {
                        continue;
                    }
                    readable_stamp(id, state.stamp, stamp)?;
                    return match state.effective() {
                        ReplicaState::Rbw => Ok(state.visible()),
                        ReplicaState::Finalized => Ok(state.received),
                        ReplicaState::Temporary => Err(StoreError::not_found(id, "it is TEMPORARY")),
                        ReplicaState::Rwr | ReplicaState::Rur => Err(StoreError::NotReadable { block: id }),
                    };
                }
            }
        }
        Err(StoreError::Superseded { block: id })
    }

    /// Up to `max` replicas of a volume in order of id, those after `after`; empty at the end. What is only on its way in is
    /// not among them.
    #[must_use]
    pub fn report_page(&self, storage: StorageId, after: Option<BlockId>, max: usize) -> Vec<ReplicaStatus> {
        let Some(volume) = self.core.volumes.iter().find(|volume| volume.storage == storage) else {
            return Vec::new();
        };
        let mut after = after;
        let mut replicas = Vec::new();
        while replicas.is_empty() {
            let page = self.core.map.page(volume.index, after, max.max(1));
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            replicas.extend(page.iter().filter_map(|(id, slot)| reported(storage, *id, slot)));
        }
        replicas
    }

    /// A new replica, being written (stage PIPELINE_SETUP_CREATE).
    ///
    /// # Errors
    /// There is one already; no room; the disk.
    pub fn create_rbw(&self, options: CreateOptions) -> StoreResult<ReplicaWriter> {
        self.core.create(options, ReplicaState::Rbw)
    }

    /// A new replica that nobody sees until it is finalized (replication, TRANSFER_RBW, TRANSFER_FINALIZED). An earlier
    /// temporary one is replaced.
    ///
    /// # Errors
    /// There is one that is not temporary; no room; the disk.
    pub fn create_temporary(&self, options: CreateOptions) -> StoreResult<ReplicaWriter> {
        self.core.create(options, ReplicaState::Temporary)
    }

    /// Opens a finalized replica for more bytes under `new_stamp` (stage PIPELINE_SETUP_APPEND). `block` is its stamp and
    /// length now (the operation's `minBytesRcvd`); `requested` the checksums that packets will have.
    ///
    /// # Errors
    /// Not finalized, another stamp or length, another chunk size; the disk.
    pub fn append(
        &self,
        block: Block,
        new_stamp: GenStamp,
        requested: ChecksumSpec,
    ) -> StoreResult<ReplicaWriter> {
        self.core.append(block, new_stamp, requested)
    }

    /// As [`Self::append`], for a replica that an earlier try may have opened already (stage PIPELINE_SETUP_APPEND_RECOVERY).
    ///
    /// # Errors
    /// Another stamp or length, another chunk size; the disk.
    pub fn recover_append(
        &self,
        block: Block,
        new_stamp: GenStamp,
        requested: ChecksumSpec,
    ) -> StoreResult<ReplicaWriter> {
        self.core.recover_append(block, new_stamp, requested)
    }

    /// Takes over a replica being written from its earlier pipeline (stage PIPELINE_SETUP_STREAMING_RECOVERY): it is cut to
    /// `min` bytes and takes `new_stamp`. `block` carries the old stamp.
    ///
    /// # Errors
    /// Not being written, a stamp outside `block.stamp..=new_stamp`, fewer than `min` bytes acknowledged or more than `max`
    /// received; another chunk size; the disk.
    pub fn recover_rbw(
        &self,
        block: Block,
        new_stamp: GenStamp,
        min: u64,
        max: u64,
        requested: ChecksumSpec,
    ) -> StoreResult<ReplicaWriter> {
        self.core.recover_rbw(block, new_stamp, (min, max), requested)
    }

    /// Finalizes a replica whose pipeline broke at its end (stage PIPELINE_CLOSE_RECOVERY), durably, under `new_stamp`, with
    /// `len` bytes. Gives where it lies.
    ///
    /// # Errors
    /// A stamp outside `block.stamp..=new_stamp`, another length; the disk.
    pub fn recover_close(&self, block: Block, new_stamp: GenStamp, len: u64) -> StoreResult<StorageId> {
        self.core.recover_close(block, new_stamp, len)
    }

    /// Opens a replica with stamp `stamp` or newer.
    ///
    /// # Errors
    /// No such replica, or one that cannot be read (waiting to be recovered, temporary); the disk.
    pub fn open_for_read(&self, id: BlockId, stamp: GenStamp) -> StoreResult<ReplicaReader> {
        self.core.open_for_read(id, stamp)
    }

    /// Deletes the replica if its stamp is `stamp` or older. Open readers go on; its writer is superseded. False if there is
    /// none.
    ///
    /// # Errors
    /// The disk; the replica is gone from the map all the same.
    pub fn delete(&self, id: BlockId, stamp: GenStamp) -> StoreResult<bool> {
        self.core.delete(id, stamp)
    }
}

pub(crate) fn readable_stamp(id: BlockId, found: GenStamp, wanted: GenStamp) -> StoreResult<()> {
    if found >= wanted {
        return Ok(());
    }
    Err(StoreError::Stamp { block: id, found, expected: format!("at least {wanted}") })
}

fn reported(storage: StorageId, id: BlockId, slot: &Slot) -> Option<ReplicaStatus> {
    let (stamp, len, state) = match slot {
        Slot::Finalized { stamp, len } => (*stamp, *len, ReplicaState::Finalized),
        Slot::Open(open) => {
            let state = open.state.lock();
            if state.effective() == ReplicaState::Temporary {
                return None;
            }
            (state.stamp, state.received, state.effective())
        }
    };
    Some(ReplicaStatus { block: Block { id, stamp, len }, state, storage })
}

/// A folder that is locked and whose identity was read.
struct Claimed {
    config: VolumeConfig,
    lock: File,
    identity: Option<VolumeIdentity>,
}

impl Claimed {
    /// Writes the identity at the first use, and takes the volume into service.
    fn adopt(self, index: usize, node: &Identity, disk: &Disk) -> StoreResult<Arc<Volume>> {
        let identity = match self.identity {
            Some(mut identity) => {
                let joined = identity.node.cluster.is_none() && node.cluster.is_some();
                identity.node.cluster.clone_from(&node.cluster);
                if joined {
                    identity.write(disk, &self.config.path)?;
                }
                identity
            }
            None => {
                let identity = VolumeIdentity::draw(node.clone());
                identity.write(disk, &self.config.path)?;
                identity
            }
        };
        Volume::new(index, self.config, identity, disk.clone(), self.lock)
    }
}

fn claim_all(configs: Vec<VolumeConfig>, disk: &Disk) -> StoreResult<Vec<Claimed>> {
    let mut claimed = Vec::new();
    let mut broken = None;
    for config in configs {
        match claim(&config.path, disk) {
            Ok((lock, identity)) => claimed.push(Claimed { config, lock, identity }),
            Err(refused @ StoreError::Refused { .. }) => return Err(refused),
            Err(error) => broken = leave_out(&config.path, error),
        }
    }
    match broken {
        Some(error) if claimed.is_empty() => Err(error),
        _ => Ok(claimed),
    }
}

fn leave_out(root: &std::path::Path, error: StoreError) -> Option<StoreError> {
    tracing::error!(volume = %root.display(), %error, "the volume cannot be used and is left out");
    Some(error)
}

/// The identity that all folders agree on; a new one at the first start.
fn agree(claimed: &[Claimed]) -> StoreResult<Identity> {
    let mut node: Option<Identity> = None;
    for (identity, root) in claimed.iter().filter_map(|c| Some((&c.identity.as_ref()?.node, &c.config.path)))
    {
        let Some(first) = &mut node else {
            node = Some(identity.clone());
            continue;
        };
        let other_cluster = matches!((&first.cluster, &identity.cluster), (Some(a), Some(b)) if a != b);
        if first.uuid != identity.uuid || other_cluster {
            return Err(StoreError::Refused {
                path: root.clone(),
                why: format!(
                    "the folder belongs to datanode {} and another of the volumes to {}: give each datanode its own folders",
                    identity.uuid, first.uuid
                ),
            });
        }
        if first.cluster.is_none() {
            first.cluster.clone_from(&identity.cluster);
        }
    }
    Ok(node.unwrap_or_else(|| Identity { uuid: DatanodeUuid(Uuid::new_v4()), cluster: None }))
}

/// Scans all volumes at once.
fn scan_all(volumes: &[Arc<Volume>]) -> Vec<StoreResult<Vec<Found>>> {
    thread::scope(|scope| {
        let scans: Vec<_> = volumes.iter().map(|volume| scope.spawn(|| scan::scan(volume))).collect();
        scans
            .into_iter()
            .map(|scan| scan.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn fill(volume: &Volume, found: Vec<Found>) -> std::collections::BTreeMap<BlockId, Slot> {
    volume.add_used(found.iter().map(|found| footprint(found.len)).sum());
    found.into_iter().map(|found| (found.id, found.slot)).collect()
}
