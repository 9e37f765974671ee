//! One volume: its folder, its room, and whether it still works.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use steadfs_common::{BlockId, StorageId, StorageType};

use crate::disk::{DirSyncs, Disk};
use crate::error::is_full;
use crate::identity::VolumeIdentity;
use crate::layout::{self, PROBE_FILE, Place};
use crate::worker::Worker;
use crate::{StoreError, StoreResult};

/// A folder to keep replicas in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeConfig {
    /// The folder; made if it is not there.
    pub path: PathBuf,
    /// What its disk is.
    pub kind: StorageType,
    /// Bytes of the disk to leave free for others.
    pub reserved: u64,
}

/// How a volume is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeStatus {
    /// Its id.
    pub storage: StorageId,
    /// Its folder.
    pub path: PathBuf,
    /// Bytes of the disk that are left to others.
    pub reserved: u64,
    /// What its disk is.
    pub kind: StorageType,
    /// It has failed and is no longer used.
    pub failed: bool,
    /// Bytes that may be used in all.
    pub capacity: u64,
    /// Bytes of replicas and their checksums.
    pub used: u64,
    /// Bytes that can still be stored.
    pub remaining: u64,
    /// Replicas.
    pub blocks: u64,
}

/// A volume in use.
pub(crate) struct Volume {
    /// Its place in the store's list.
    pub(crate) index: usize,
    pub(crate) root: PathBuf,
    pub(crate) storage: StorageId,
    pub(crate) disk: Disk,
    pub(crate) worker: Worker,
    config: VolumeConfig,
    identity: RwLock<VolumeIdentity>,
    dirs: DirSyncs,
    failed: AtomicBool,
    checking: Mutex<()>,
    used: AtomicU64,
    /// Room kept for replicas that are still growing.
    kept: AtomicU64,
    _lock: File,
}

impl Volume {
    /// Takes over a folder that is locked and whose identity is known; makes the folders of replicas.
    pub(crate) fn new(
        index: usize,
        config: VolumeConfig,
        identity: VolumeIdentity,
        disk: Disk,
        lock: File,
    ) -> StoreResult<Arc<Self>> {
        let volume = Self {
            index,
            root: config.path.clone(),
            storage: identity.storage,
            disk,
            worker: Worker::start(index)?,
            config,
            identity: RwLock::new(identity),
            dirs: DirSyncs::default(),
            failed: AtomicBool::new(false),
            checking: Mutex::new(()),
            used: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            _lock: lock,
        };
        for place in [Place::Finalized, Place::Rbw, Place::Tmp] {
            volume.dirs.ensure(&volume.disk, &volume.root, &layout::folder(&volume.root, place))?;
        }
        Ok(Arc::new(volume))
    }

    pub(crate) fn identity(&self) -> VolumeIdentity {
        self.identity.read().clone()
    }

    /// Writes a new identity durably.
    pub(crate) fn set_identity(&self, identity: VolumeIdentity) -> StoreResult<()> {
        identity.write(&self.disk, &self.root)?;
        *self.identity.write() = identity;
        Ok(())
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// An error if the volume has failed.
    pub(crate) fn alive(&self) -> StoreResult<()> {
        if self.has_failed() { Err(StoreError::VolumeFailed { path: self.root.clone() }) } else { Ok(()) }
    }

    /// Notes that it has failed; true the first time.
    pub(crate) fn mark_failed(&self) -> bool {
        !self.failed.swap(true, Ordering::AcqRel)
    }

    /// Whether the volume works at all, found out by writing and reading a small file; the reason if not. A full disk works.
    pub(crate) fn check(&self) -> Result<(), String> {
        let _one = self.checking.lock();
        if self.dirs.failed() {
            return Err("a folder could not be synced".into());
        }
        match self.probe() {
            Ok(()) => Ok(()),
            Err(StoreError::Io { source, .. }) if is_full(&source) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn probe(&self) -> StoreResult<()> {
        const PROBE: [u8; 4096] = [0xA5; 4096];
        let path = self.root.join(PROBE_FILE);
        for place in [Place::Finalized, Place::Rbw, Place::Tmp] {
            let folder = layout::folder(&self.root, place);
            self.disk.len_of(&folder)?;
        }
        let file = self.disk.create(path.clone())?;
        self.disk.write_at(&file, &PROBE, 0)?;
        self.disk.sync(&file)?;
        let mut back = [0; PROBE.len()];
        self.disk.read_at(&file, &mut back, 0)?;
        self.disk.remove(&path)?;
        if back == PROBE {
            Ok(())
        } else {
            Err(StoreError::io(&path, std::io::Error::other("what was written is not what is read")))
        }
    }

    /// Makes the names in the folder of a replica durable.
    pub(crate) fn sync_folder(&self, place: Place, id: BlockId) -> StoreResult<()> {
        self.dirs.sync(&self.disk, &layout::folder_of(&self.root, place, id))
    }

    /// Makes the names that are found in a folder durable before they are trusted: the process may have been killed between
    /// a rename and its sync.
    pub(crate) fn settle_folder(&self, path: &Path) -> StoreResult<()> {
        self.dirs.sync(&self.disk, path)
    }

    /// Makes the folder of a replica if it is not there.
    pub(crate) fn ensure_folder(&self, place: Place, id: BlockId) -> StoreResult<()> {
        self.dirs.ensure(&self.disk, &self.root, &layout::folder_of(&self.root, place, id))
    }

    /// Bytes that can be promised to a new replica now.
    pub(crate) fn room(&self) -> u64 {
        self.space().map_or(0, |space| space.free).saturating_sub(self.kept.load(Ordering::Relaxed))
    }

    /// Keeps room for a replica that may still grow by so many bytes.
    pub(crate) fn keep_room(&self, bytes: u64) {
        self.kept.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back_room(&self, bytes: u64) {
        subtract(&self.kept, bytes);
    }

    pub(crate) fn add_used(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn remove_used(&self, bytes: u64) {
        subtract(&self.used, bytes);
    }

    pub(crate) fn status(&self, blocks: u64) -> VolumeStatus {
        let space = if self.has_failed() { None } else { self.space() };
        let used = self.used.load(Ordering::Relaxed);
        VolumeStatus {
            storage: self.storage,
            path: self.root.clone(),
            reserved: self.config.reserved,
            kind: self.config.kind,
            failed: self.has_failed(),
            capacity: space.as_ref().map_or(0, |space| space.capacity),
            used: if space.is_some() { used } else { 0 },
            remaining: space.map_or(0, |space| space.free.saturating_sub(self.kept.load(Ordering::Relaxed))),
            blocks,
        }
    }

    /// Whether the file system answers for the volume's folder.
    pub(crate) fn is_there(&self) -> bool {
        self.space().is_some()
    }

    fn space(&self) -> Option<Space> {
        let stat = rustix::fs::statvfs(&self.root).ok()?;
        let reserved = self.config.reserved;
        Some(Space {
            capacity: stat.f_blocks.saturating_mul(stat.f_frsize).saturating_sub(reserved),
            free: stat.f_bavail.saturating_mul(stat.f_frsize).saturating_sub(reserved),
        })
    }
}

/// What the file system says, less what is reserved for others.
struct Space {
    capacity: u64,
    free: u64,
}

fn subtract(counter: &AtomicU64, bytes: u64) {
    let _ =
        counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| Some(value.saturating_sub(bytes)));
}

/// Opens the folder of a volume as far as its identity, which is none at its first use.
pub(crate) fn claim(root: &Path, disk: &Disk) -> StoreResult<(File, Option<VolumeIdentity>)> {
    disk.make_dirs(root)?;
    let lock = crate::identity::lock(root)?;
    let identity = VolumeIdentity::read(disk, root)?;
    Ok((lock, identity))
}
