//! All volumes and replicas of a datanode: the door of this crate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use steadfs_common::{BlockId, ChecksumSpec, GenStamp, StorageId};

use crate::alone::{Alone, VERIFIED_FOR};
use crate::core::{Core, LOOKUPS, footprint};
use crate::disk::Disk;
use crate::identity;
use crate::map::{ReplicaMap, Slot};
use crate::opening::{Lost, LostVolume, agree, claim_all, fill, leave_doubles, scan_all};
use crate::suspects::Suspects;
use crate::volume::Volume;
use crate::volumes::Volumes;
use crate::{
    Block, Cluster, Faults, Identity, ReplicaReader, ReplicaState, ReplicaWriter, StoreError, StoreResult,
    VolumeConfig, VolumeFailure, VolumeStatus,
};

/// How to open a store.
#[derive(Clone)]
pub struct StoreOptions {
    /// The volumes; at least one.
    pub volumes: Vec<VolumeConfig>,
    /// Makes operations on files fail, in tests.
    pub faults: Option<Arc<dyn Faults>>,
    /// How long a volume may take for a small file to be written and read before it counts as failed.
    pub check_timeout: Duration,
    /// How long a replica that was verified because its block was to be extended here only ([`Store::verify_alone`]) counts as
    /// verified.
    pub verified_for: Duration,
}

impl StoreOptions {
    /// Volumes with all else as usual.
    #[must_use]
    pub fn new(volumes: Vec<VolumeConfig>) -> Self {
        Self { volumes, faults: None, check_timeout: CHECK_TIMEOUT, verified_for: VERIFIED_FOR }
    }
}

/// How long a volume may take for its check, if nobody says otherwise.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(300);

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
    /// It was there already, and the namenode wants to know: all its bytes match their checksums.
    Verified,
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
    /// It is finalized and known to be bad.
    pub bad: bool,
}

/// All volumes and replicas of a datanode.
pub struct Store {
    pub(crate) core: Arc<Core>,
    pub(crate) disk: Disk,
    pub(crate) check_timeout: Duration,
    /// Volumes that could not be opened.
    pub(crate) lost: Mutex<Vec<LostVolume>>,
    /// One volume at a time is added or taken out.
    pub(crate) changing: Mutex<()>,
}

impl Drop for Store {
    fn drop(&mut self) {
        for volume in self.core.volumes.all().iter() {
            if volume.is_out() {
                volume.worker.close();
            } else {
                volume.worker.stop();
            }
            // A check that has just ended may hold the volume for a moment more.
            drop(volume.take_lock());
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
        let mut lost = Lost::default();
        let claimed = claim_all(options.volumes, &disk, &mut lost)?;
        let node = agree(&claimed)?;
        let mut volumes = Vec::new();
        for claimed in claimed {
            let config = claimed.config.clone();
            match claimed.adopt(volumes.len(), &node, &disk, options.check_timeout) {
                Ok(volume) => volumes.push(volume),
                Err(error) => lost.leave_out(config, error),
            }
        }
        let mut maps = Vec::new();
        let mut bad = Vec::new();
        for (volume, contents) in volumes.iter().zip(scan_all(&volumes)) {
            match contents {
                Ok(contents) => {
                    bad.extend(contents.bad.iter().map(|(id, stamp)| (volume.clone(), *id, *stamp)));
                    maps.push(fill(volume, contents));
                }
                Err(error) => {
                    volume.mark_failed(&error.to_string());
                    // Its disk may be replaced while the others serve.
                    volume.worker.close();
                    drop(volume.take_lock());
                    lost.error = Some(error);
                    maps.push(BTreeMap::new());
                }
            }
        }
        if volumes.iter().all(|volume| volume.is_out()) {
            return Err(lost.error.unwrap_or_else(|| StoreError::Refused {
                path: "volumes".into(),
                why: "no volume is configured: name at least one folder to keep replicas in".into(),
            }));
        }
        leave_doubles(&volumes, &mut maps);
        let core = Core {
            volumes: Volumes::new(volumes),
            map: ReplicaMap::new(maps),
            listener,
            turn: AtomicUsize::new(0),
            identity: RwLock::new(node),
            suspects: Suspects::default(),
            alone: Alone::new(options.verified_for),
        };
        for (volume, id, stamp) in bad {
            core.know_bad(&volume, id, stamp);
        }
        Ok(Arc::new(Self {
            core: Arc::new(core),
            disk,
            check_timeout: options.check_timeout,
            lost: Mutex::new(lost.volumes),
            changing: Mutex::default(),
        }))
    }

    /// Who this datanode is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.core.identity.read().clone()
    }

    /// Joins a cluster: writes it down durably the first time, and compares ever after.
    ///
    /// # Errors
    /// The replicas here belong to another cluster; no volume could note it.
    pub fn join(&self, cluster: &Cluster) -> StoreResult<()> {
        let refused = |volume: &Volume, why| StoreError::Refused { path: volume.root.clone(), why };
        let volumes = self.core.volumes.serving();
        for volume in &volumes {
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
        let noted = volumes.iter().map(|volume| {
            let mut identity = volume.identity();
            if identity.node.cluster.is_some() {
                return Ok(());
            }
            identity.node.cluster = Some(cluster.clone());
            self.core.watch(volume, volume.set_identity(identity))
        });
        // One that knows it is enough: after a start all volumes go by what one of them says.
        let noted: Vec<_> = noted.collect();
        if noted.iter().all(Result::is_err) {
            noted.into_iter().collect::<StoreResult<()>>()?;
        }
        self.core.identity.write().cluster = Some(cluster.clone());
        Ok(())
    }

    /// Waits until what nobody waits for is done: writing back early, and clearing away what writers left.
    pub fn settle(&self) {
        self.core
            .volumes
            .all()
            .iter()
            .filter(|volume| !volume.is_out())
            .for_each(|volume| volume.worker.settle());
    }

    /// How the volumes are. Asks the file systems, and waits for them; drops a volume that is not there any more.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeStatus> {
        self.volumes_in_service().into_iter().for_each(|storage| self.refresh(storage));
        self.statuses()
    }

    /// How the volumes are as far as it is known: waits for no disk. Drops those whose check found that they do not work, or
    /// does not end.
    #[must_use]
    pub fn statuses(&self) -> Vec<VolumeStatus> {
        self.core.oversee();
        let map = &self.core.map;
        let volumes = self.core.volumes.all();
        let ours = volumes.iter().filter(|volume| !volume.is_removed());
        ours.map(|volume| volume.status(map.count(volume.index), map.count_bad(volume.index))).collect()
    }

    /// Asks a volume's file system how full it is, and waits for it; drops a volume that is not there any more.
    pub fn refresh(&self, storage: StorageId) {
        if let Some(volume) = self.core.volumes.find(storage)
            && !volume.is_out()
            && !volume.refresh_space()
        {
            self.core.check_volume(&volume);
        }
    }

    /// The volumes that cannot be used: those that could not be opened, and those that failed since.
    #[must_use]
    pub fn failures(&self) -> Vec<VolumeFailure> {
        let mut failures: Vec<_> = self.lost.lock().iter().map(|lost| lost.failure.clone()).collect();
        failures.extend(self.core.volumes.all().iter().filter_map(|volume| volume.failure()));
        failures
    }

    /// The volumes that have not failed.
    #[must_use]
    pub fn volumes_in_service(&self) -> Vec<StorageId> {
        self.core.volumes.serving().iter().map(|volume| volume.storage).collect()
    }

    /// Whether a volume serves.
    #[must_use]
    pub fn serves(&self, storage: StorageId) -> bool {
        self.core.volumes.find(storage).is_some_and(|volume| !volume.is_out())
    }

    /// Writes and reads a small file on a volume, and drops it if that fails. Waits for a moment only: a disk that does not
    /// answer is dropped by [`Self::statuses`] when it has had its time.
    pub fn check_volume(&self, storage: StorageId) {
        if let Some(volume) = self.core.volumes.find(storage) {
            self.core.check_volume(&volume);
        }
    }

    /// Begins to write and read a small file on a volume, and waits for nothing: [`Self::statuses`] looks what came of it.
    pub fn begin_check(&self, storage: StorageId) {
        if let Some(volume) = self.core.volumes.find(storage)
            && !volume.is_out()
        {
            volume.begin_check();
        }
    }

    /// The volume that a new replica of `len` bytes would be put on: for who wants to know its threads before it is made.
    ///
    /// # Errors
    /// No volume has room, or answers.
    pub fn volume_for(&self, len: u64, storage: Option<StorageId>) -> StoreResult<StorageId> {
        self.core.choose_volume(footprint(len), storage, &[]).map(|volume| volume.storage)
    }

    /// The replica of a block, if there is one.
    #[must_use]
    pub fn status(&self, id: BlockId) -> Option<ReplicaStatus> {
        let (volume, slot) = self.core.map.get(id)?;
        let volume = self.core.volumes.at(volume);
        let storage = volume.storage;
        Some(match slot {
            Slot::Finalized { stamp, len } => {
                let bad = self.core.map.is_bad(volume.index, id, stamp);
                ReplicaStatus {
                    block: Block { id, stamp, len },
                    state: ReplicaState::Finalized,
                    storage,
                    bad,
                }
            }
            Slot::Open(open) => {
                let state = open.state.lock();
                let block = Block { id, stamp: state.stamp, len: state.received };
                ReplicaStatus { block, state: state.role, storage, bad: false }
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
        let Some(volume) = self.core.volumes.find(storage) else { return Vec::new() };
        let mut after = after;
        let mut replicas = Vec::new();
        while replicas.is_empty() {
            let page = self.core.map.page(volume.index, after, max.max(1));
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            replicas.extend(page.iter().filter_map(|(id, slot)| self.reported(&volume, *id, slot)));
        }
        replicas
    }

    fn reported(&self, volume: &Volume, id: BlockId, slot: &Slot) -> Option<ReplicaStatus> {
        let (stamp, len, state, bad) = match slot {
            Slot::Finalized { stamp, len } => {
                let bad = self.core.map.is_bad(volume.index, id, *stamp);
                (*stamp, *len, ReplicaState::Finalized, bad)
            }
            Slot::Open(open) => {
                let state = open.state.lock();
                if state.effective() == ReplicaState::Temporary {
                    return None;
                }
                (state.stamp, state.received, state.effective(), false)
            }
        };
        Some(ReplicaStatus { block: Block { id, stamp, len }, state, storage: volume.storage, bad })
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

    /// To be called before a replica of stamp `stamp` or newer is extended while no other datanode is in the pipeline: it is
    /// read, for half a minute at most, unless that was done a short while ago or another one of its volume is being read.
    /// Whether it can be extended at all is not asked.
    ///
    /// # Errors
    /// [`StoreError::Checksum`]: it is bad; a finalized one is known as that from now on. The disk.
    pub fn verify_alone(&self, id: BlockId, stamp: GenStamp) -> StoreResult<()> {
        self.core.verify_alone(id, stamp)
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
