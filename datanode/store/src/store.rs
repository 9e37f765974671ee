//! All volumes and replicas of a datanode.
use crate::{
    Block, Cluster, Faults, Identity, ReplicaReader, ReplicaState, ReplicaWriter, StoreResult, VolumeConfig,
    VolumeStatus,
};
use std::sync::Arc;
use steadfs_common::{BlockId, ChecksumSpec, GenStamp, StorageId};

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
    /// Its state.
    pub state: ReplicaState,
    /// Where it lies.
    pub storage: StorageId,
}

/// All volumes and replicas of a datanode.
pub struct Store {}

impl Store {
    /// Opens the volumes: locks them, checks whose they are, makes them at the first start, and scans them. A volume that
    /// cannot be read is left out as failed, if another is there.
    ///
    /// # Errors
    /// A folder of another datanode, cluster or version, or used by another process; no volume that works.
    pub fn open(_options: StoreOptions, _listener: Arc<dyn Listener>) -> StoreResult<Arc<Self>> {
        todo!()
    }

    /// Who this datanode is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        todo!()
    }

    /// Joins a cluster: writes it down durably the first time, and compares ever after.
    ///
    /// # Errors
    /// The replicas here belong to another cluster.
    pub fn join(&self, _cluster: &Cluster) -> StoreResult<()> {
        todo!()
    }

    /// How the volumes are. Asks the file systems.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeStatus> {
        todo!()
    }

    /// The replica of a block, if there is one.
    #[must_use]
    pub fn status(&self, _id: BlockId) -> Option<ReplicaStatus> {
        todo!()
    }

    /// Bytes that a reader may see of a replica whose stamp is `stamp` or newer.
    ///
    /// # Errors
    /// No such replica, or one that cannot be read.
    pub fn visible_length(&self, _id: BlockId, _stamp: GenStamp) -> StoreResult<u64> {
        todo!()
    }

    /// Up to `max` replicas of a volume in order of id, those after `after`. What is only on its way in is not among them.
    #[must_use]
    pub fn report_page(
        &self,
        _storage: StorageId,
        _after: Option<BlockId>,
        _max: usize,
    ) -> Vec<ReplicaStatus> {
        todo!()
    }

    /// A new replica, being written (stage PIPELINE_SETUP_CREATE).
    ///
    /// # Errors
    /// There is one already; no room; the disk.
    pub fn create_rbw(self: &Arc<Self>, _options: CreateOptions) -> StoreResult<ReplicaWriter> {
        todo!()
    }

    /// A new replica that nobody sees until it is finalized (replication, TRANSFER_RBW, TRANSFER_FINALIZED). An earlier
    /// temporary one is replaced.
    ///
    /// # Errors
    /// There is one that is not temporary; no room; the disk.
    pub fn create_temporary(self: &Arc<Self>, _options: CreateOptions) -> StoreResult<ReplicaWriter> {
        todo!()
    }

    /// Opens a finalized replica for more bytes under `new_stamp` (stage PIPELINE_SETUP_APPEND). `block` is its stamp and length
    /// now; `requested` the checksums that packets will have.
    ///
    /// # Errors
    /// Not finalized, another stamp or length, another chunk size; the disk.
    pub fn append(
        self: &Arc<Self>,
        _block: Block,
        _new_stamp: GenStamp,
        _requested: ChecksumSpec,
    ) -> StoreResult<ReplicaWriter> {
        todo!()
    }

    /// As [`Self::append`], for a replica that an earlier try may have opened already (stage PIPELINE_SETUP_APPEND_RECOVERY).
    ///
    /// # Errors
    /// Another stamp or length, another chunk size; the disk.
    pub fn recover_append(
        self: &Arc<Self>,
        _block: Block,
        _new_stamp: GenStamp,
        _requested: ChecksumSpec,
    ) -> StoreResult<ReplicaWriter> {
        todo!()
    }

    /// Takes over a replica being written from its earlier pipeline (stage PIPELINE_SETUP_STREAMING_RECOVERY): it is cut to `min`
    /// bytes and takes `new_stamp`. `block` carries the old stamp.
    ///
    /// # Errors
    /// Not being written, a stamp outside `block.stamp..=new_stamp`, fewer than `min` bytes acknowledged or more than `max` received.
    pub fn recover_rbw(
        self: &Arc<Self>,
        _block: Block,
        _new_stamp: GenStamp,
        _min: u64,
        _max: u64,
        _requested: ChecksumSpec,
    ) -> StoreResult<ReplicaWriter> {
        todo!()
    }

    /// Finalizes a replica whose pipeline broke at its end (stage PIPELINE_CLOSE_RECOVERY), durably, under `new_stamp`, with
    /// `len` bytes. Gives where it lies.
    ///
    /// # Errors
    /// A stamp outside `block.stamp..=new_stamp`, another length.
    pub fn recover_close(
        self: &Arc<Self>,
        _block: Block,
        _new_stamp: GenStamp,
        _len: u64,
    ) -> StoreResult<StorageId> {
        todo!()
    }

    /// Opens a replica with stamp `stamp` or newer.
    ///
    /// # Errors
    /// No such replica, or one that cannot be read (waiting to be recovered, temporary).
    pub fn open_for_read(self: &Arc<Self>, _id: BlockId, _stamp: GenStamp) -> StoreResult<ReplicaReader> {
        todo!()
    }

    /// Deletes the replica of exactly this stamp. Open readers go on; its writer is superseded. False if there is none.
    ///
    /// # Errors
    /// The disk; the replica is gone from the map all the same.
    pub fn delete(self: &Arc<Self>, _id: BlockId, _stamp: GenStamp) -> StoreResult<bool> {
        todo!()
    }
}
