//! One volume: its folder, its room, and whether it still works.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use steadfs_common::{BlockId, StorageId, StorageType};

use crate::disk::{DirSyncs, Disk};
use crate::health::Health;
use crate::identity::VolumeIdentity;
use crate::layout::{self, IDENTITY_FILE, LOCK_FILE, Place};
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
    /// Bytes kept for replicas that are being written.
    pub kept: u64,
    /// What its disk is.
    pub kind: StorageType,
    /// It has failed and is no longer used.
    pub failed: bool,
    /// It has not answered for a while: nothing new is put on it.
    pub stalled: bool,
    /// Bytes that may be used in all.
    pub capacity: u64,
    /// Bytes of replicas and their checksums, and what the volume's own files and folders take: never 0 while it works.
    pub used: u64,
    /// Bytes that can still be stored.
    pub remaining: u64,
    /// Replicas.
    pub blocks: u64,
    /// Of them, those that are known to be bad.
    pub bad: u64,
}

/// A volume that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeFailure {
    /// Its folder.
    pub path: PathBuf,
    /// Its id, if it could be read.
    pub storage: Option<StorageId>,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: SystemTime,
    /// Bytes that could be used in all, as far as known.
    pub capacity: u64,
}

/// Whether a volume serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Service {
    In,
    Failed,
    /// Taken out by an operator.
    Removed,
}

/// A volume in use.
pub(crate) struct Volume {
    /// Its place in the store's list.
    pub(crate) index: usize,
    pub(crate) root: PathBuf,
    pub(crate) storage: StorageId,
    pub(crate) disk: Disk,
    pub(crate) worker: Worker,
    pub(crate) health: Health,
    pub(crate) config: VolumeConfig,
    identity: RwLock<VolumeIdentity>,
    pub(crate) dirs: DirSyncs,
    /// Whether it is out of service, whatever the reason: looked at all the time.
    out: AtomicBool,
    service: Mutex<Service>,
    failure: Mutex<Option<VolumeFailure>>,
    used: AtomicU64,
    /// Bytes of the volume's own files and folders.
    own: AtomicU64,
    /// Room kept for replicas that are still growing.
    kept: AtomicU64,
    /// What the file system said last.
    space: Mutex<Option<Space>>,
    lock: Mutex<Option<File>>,
}

impl Volume {
    /// Takes over a folder that is locked and whose identity is known; makes the folders of replicas.
    pub(crate) fn new(
        index: usize,
        config: VolumeConfig,
        identity: VolumeIdentity,
        disk: Disk,
        lock: File,
        check_timeout: Duration,
    ) -> StoreResult<Arc<Self>> {
        let volume = Self {
            index,
            root: config.path.clone(),
            storage: identity.storage,
            disk,
            worker: Worker::start(index)?,
            health: Health::new(check_timeout),
            config,
            identity: RwLock::new(identity),
            dirs: DirSyncs::default(),
            out: AtomicBool::new(false),
            service: Mutex::new(Service::In),
            failure: Mutex::default(),
            used: AtomicU64::new(0),
            own: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            space: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        };
        for place in [Place::Finalized, Place::Rbw, Place::Tmp] {
            volume.dirs.ensure(&volume.disk, &volume.root, &layout::folder(&volume.root, place))?;
        }
        volume.own.store(own_bytes(&volume.root), Ordering::Relaxed);
        volume.refresh_space();
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

    /// Whether it is out of service: failed, or taken out.
    pub(crate) fn is_out(&self) -> bool {
        self.out.load(Ordering::Acquire)
    }

    /// Whether an operator took it out: then it is none of ours any more.
    pub(crate) fn is_removed(&self) -> bool {
        *self.service.lock() == Service::Removed
    }

    /// An error if the volume is out of service.
    pub(crate) fn alive(&self) -> StoreResult<()> {
        if self.is_out() { Err(StoreError::VolumeFailed { path: self.root.clone() }) } else { Ok(()) }
    }

    /// Notes that it has failed; true the first time.
    pub(crate) fn mark_failed(&self, why: &str) -> bool {
        let mut service = self.service.lock();
        if *service != Service::In {
            return false;
        }
        *service = Service::Failed;
        self.out.store(true, Ordering::Release);
        *self.failure.lock() = Some(VolumeFailure {
            path: self.root.clone(),
            storage: Some(self.storage),
            why: why.to_owned(),
            since: SystemTime::now(),
            capacity: self.space.lock().as_ref().map_or(0, |space| space.capacity),
        });
        true
    }

    /// Takes it out of service for good, failed or not.
    pub(crate) fn mark_removed(&self) {
        *self.service.lock() = Service::Removed;
        self.out.store(true, Ordering::Release);
    }

    /// The file by which it holds its folder, until that is given up.
    pub(crate) fn lock_file(&self) -> Option<File> {
        self.lock.lock().as_ref().and_then(|file| file.try_clone().ok())
    }

    /// Lets others use its folder. Once the file that is given is closed too, the disk can be taken out.
    pub(crate) fn take_lock(&self) -> Option<File> {
        let lock = self.lock.lock().take()?;
        if let Err(error) = lock.unlock() {
            tracing::warn!(volume = %self.root.display(), %error, "the folder's lock cannot be given back yet");
        }
        Some(lock)
    }

    /// Why and since when it has failed, if it has.
    pub(crate) fn failure(&self) -> Option<VolumeFailure> {
        self.failure.lock().clone().filter(|_| !self.is_removed())
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

    /// Bytes that can be promised to a new replica now. Does not ask the file system: a disk that hangs must not keep
    /// anybody from the others.
    pub(crate) fn room(&self) -> u64 {
        let free =
            self.space.lock().as_ref().map_or(0, |space| space.free_at(self.used.load(Ordering::Relaxed)));
        free.saturating_sub(self.kept.load(Ordering::Relaxed))
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

    /// How it is, as far as is known without asking the disk.
    pub(crate) fn status(&self, blocks: u64, bad: u64) -> VolumeStatus {
        let out = self.is_out();
        let stalled = !out && self.health.is_stalled();
        let used = self.used.load(Ordering::Relaxed).saturating_add(self.own.load(Ordering::Relaxed));
        let capacity = self.space.lock().as_ref().map_or(0, |space| space.capacity);
        VolumeStatus {
            storage: self.storage,
            path: self.root.clone(),
            reserved: self.config.reserved,
            kept: self.kept.load(Ordering::Relaxed),
            kind: self.config.kind,
            failed: out,
            stalled,
            capacity: if out { 0 } else { capacity },
            used: if out { 0 } else { used },
            remaining: if out || stalled { 0 } else { self.room() },
            blocks,
            bad,
        }
    }

    /// Asks the file system how full it is; false if it does not answer for the volume's folder.
    pub(crate) fn refresh_space(&self) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        let Ok(stat) = rustix::fs::statvfs(&self.root) else {
            if let Some(space) = self.space.lock().as_mut() {
                space.available = 0;
            }
            return false;
        };
        let reserved = self.config.reserved;
        *self.space.lock() = Some(Space {
            capacity: stat.f_blocks.saturating_mul(stat.f_frsize).saturating_sub(reserved),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
            reserved,
            used,
        });
        true
    }
}

/// What the file system said.
struct Space {
    /// Less what is reserved for others.
    capacity: u64,
    /// With what is reserved.
    available: u64,
    /// Bytes to leave for others.
    reserved: u64,
    /// Bytes that replicas took at that moment.
    used: u64,
}

impl Space {
    /// What is free when replicas take `used` bytes, if nobody else has written meanwhile. What others took of their reserve or
    /// beyond it is given back before anything is free.
    fn free_at(&self, used: u64) -> u64 {
        let deleted = self.available.saturating_add(self.used.saturating_sub(used));
        deleted.saturating_sub(used.saturating_sub(self.used)).saturating_sub(self.reserved)
    }
}

/// What a volume takes of its disk before it has any replica: as `du` counts it, and as HDFS does.
fn own_bytes(root: &Path) -> u64 {
    let folders = [Place::Finalized, Place::Rbw, Place::Tmp].map(|place| layout::folder(root, place));
    let all = folders.into_iter().chain([root.to_owned(), root.join(IDENTITY_FILE), root.join(LOCK_FILE)]);
    // What cannot be looked at counts for nothing: the number is for operators only.
    all.filter_map(|path| std::fs::metadata(path).ok()).map(|meta| meta.blocks() * 512).sum()
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

#[cfg(test)]
mod tests {
    use super::Space;

    #[test]
    fn what_is_deleted_where_the_reserve_is_used_up_makes_no_room() {
        let space = Space { capacity: 900, available: 60, reserved: 100, used: 500 };
        assert_eq!(space.free_at(500), 0);
        assert_eq!(space.free_at(470), 0, "the reserve is still short of ten");
        assert_eq!(space.free_at(450), 10);
        let roomy = Space { available: 300, ..space };
        assert_eq!((roomy.free_at(500), roomy.free_at(400), roomy.free_at(650)), (200, 300, 50));
        assert_eq!(roomy.free_at(800), 0);
    }
}
