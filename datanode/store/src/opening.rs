//! Opening volumes: whose they are, what lies on them, and adding and taking out while the datanode runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use steadfs_common::{BlockId, DatanodeUuid, GenStamp, StorageId};
use uuid::Uuid;

use crate::core::{Core, footprint};
use crate::disk::Disk;
use crate::identity::VolumeIdentity;
use crate::map::Slot;
use crate::scan::{self, Contents};
use crate::volume::{Volume, claim};
use crate::volumes::MAX_VOLUMES_EVER;
use crate::{Identity, Store, StoreError, StoreResult, VolumeConfig, VolumeFailure};

/// A folder that is locked and whose identity was read.
pub(crate) struct Claimed {
    pub(crate) config: VolumeConfig,
    lock: File,
    identity: Option<VolumeIdentity>,
}

impl Claimed {
    /// Writes the identity at the first use, and takes the volume into service.
    pub(crate) fn adopt(
        self,
        index: usize,
        node: &Identity,
        disk: &Disk,
        check_timeout: Duration,
    ) -> StoreResult<Arc<Volume>> {
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
        Volume::new(index, self.config, identity, disk.another(), self.lock, check_timeout)
    }
}

/// A volume that could not be opened.
pub(crate) struct LostVolume {
    pub(crate) config: VolumeConfig,
    pub(crate) failure: VolumeFailure,
}

/// Volumes that could not be opened.
#[derive(Default)]
pub(crate) struct Lost {
    pub(crate) volumes: Vec<LostVolume>,
    /// The last reason.
    pub(crate) error: Option<StoreError>,
}

impl Lost {
    pub(crate) fn leave_out(&mut self, config: VolumeConfig, error: StoreError) {
        tracing::error!(volume = %config.path.display(), %error, "the volume cannot be used and is left out");
        let failure = VolumeFailure {
            path: config.path.clone(),
            storage: None,
            why: error.to_string(),
            since: SystemTime::now(),
            capacity: 0,
        };
        self.volumes.push(LostVolume { config, failure });
        self.error = Some(error);
    }
}

pub(crate) fn claim_all(
    configs: Vec<VolumeConfig>,
    disk: &Disk,
    lost: &mut Lost,
) -> StoreResult<Vec<Claimed>> {
    let mut claimed = Vec::new();
    for config in configs {
        match claim(&config.path, disk) {
            Ok((lock, identity)) => claimed.push(Claimed { config, lock, identity }),
            Err(refused @ StoreError::Refused { .. }) => return Err(refused),
            Err(error) => lost.leave_out(config, error),
        }
    }
    match lost.error.take() {
        Some(error) if claimed.is_empty() => Err(error),
        error => {
            lost.error = error;
            Ok(claimed)
        }
    }
}

/// The identity that all folders agree on; a new one at the first start.
pub(crate) fn agree(claimed: &[Claimed]) -> StoreResult<Identity> {
    let mut node: Option<Identity> = None;
    let mut seen: BTreeMap<StorageId, &Path> = BTreeMap::new();
    for (identity, root) in claimed.iter().filter_map(|c| Some((c.identity.as_ref()?, &c.config.path))) {
        if let Some(other) = seen.insert(identity.storage, root) {
            return Err(copied(root, other));
        }
        let Some(first) = &mut node else {
            node = Some(identity.node.clone());
            continue;
        };
        belongs(&identity.node, first, root)?;
        if first.cluster.is_none() {
            first.cluster.clone_from(&identity.node.cluster);
        }
    }
    Ok(node.unwrap_or_else(|| Identity { uuid: DatanodeUuid(Uuid::new_v4()), cluster: None }))
}

fn copied(root: &Path, of: &Path) -> StoreError {
    StoreError::Refused {
        path: root.to_owned(),
        why: format!(
            "the folder is a copy of {}: leave one of them out, or give an empty folder",
            of.display()
        ),
    }
}

/// An error if a folder is of another datanode or cluster than the others.
fn belongs(found: &Identity, node: &Identity, root: &Path) -> StoreResult<()> {
    let other_cluster = matches!((&node.cluster, &found.cluster), (Some(a), Some(b)) if a != b);
    if found.uuid == node.uuid && !other_cluster {
        return Ok(());
    }
    Err(StoreError::Refused {
        path: root.to_owned(),
        why: format!(
            "the folder belongs to datanode {} and another of the volumes to {}: give each datanode its own folders",
            found.uuid, node.uuid
        ),
    })
}

/// Scans all volumes at once.
pub(crate) fn scan_all(volumes: &[Arc<Volume>]) -> Vec<StoreResult<Contents>> {
    thread::scope(|scope| {
        let scans: Vec<_> = volumes.iter().map(|volume| scope.spawn(|| scan::scan(volume))).collect();
        scans
            .into_iter()
            .map(|scan| scan.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

pub(crate) fn fill(volume: &Volume, contents: Contents) -> BTreeMap<BlockId, Slot> {
    volume.add_used(contents.replicas.iter().map(|found| footprint(found.len)).sum());
    // What the file system said does not change by counting what was there before.
    volume.refresh_space();
    contents.replicas.into_iter().map(|found| (found.id, found.slot)).collect()
}

/// How good a replica is among others of its block; its length comes last.
fn rank(slot: &Slot) -> (GenStamp, bool, u64) {
    match slot {
        Slot::Finalized { stamp, len } => (*stamp, true, *len),
        Slot::Open(open) => {
            let block = open.block();
            (block.stamp, false, block.len)
        }
    }
}

/// Leaves all but the best replica of a block out of memory, where a disk with an older copy of it was put in: the newest
/// stamp counts, then a finalized one, then the longest. The comparison of folders removes what is left over on the disks.
pub(crate) fn leave_doubles(volumes: &[Arc<Volume>], maps: &mut [BTreeMap<BlockId, Slot>]) {
    let mut doubles = Vec::new();
    let mut walks: Vec<_> = maps.iter().map(|map| map.iter().peekable()).collect();
    while let Some(id) = walks.iter_mut().filter_map(|walk| walk.peek().map(|(id, _)| **id)).min() {
        let mut best = None;
        for (index, walk) in walks.iter_mut().enumerate() {
            let Some((_, slot)) = walk.next_if(|(here, _)| **here == id) else { continue };
            match best.replace((rank(slot), index)) {
                Some(other) if other.0 >= rank(slot) => {
                    best = Some(other);
                    doubles.push((index, id));
                }
                Some((_, other)) => doubles.push((other, id)),
                None => {}
            }
        }
    }
    drop(walks);
    for (index, id) in doubles {
        tracing::warn!(block = %id, volume = %volumes[index].root.display(), "the block has a better replica on another volume");
        if let Some(slot) = maps[index].remove(&id) {
            volumes[index].remove_used(footprint(rank(&slot).2));
        }
    }
}

impl Core {
    /// Notes a replica that was known to be bad before this start. It is looked at once more, first of all.
    pub(crate) fn know_bad(&self, volume: &Volume, id: BlockId, stamp: GenStamp) {
        let here = |(index, slot): &(usize, Slot)| {
            *index == volume.index && matches!(slot, Slot::Finalized { stamp: found, .. } if *found == stamp)
        };
        if !self.map.places(id).iter().any(here) {
            return;
        }
        self.map.mark_bad(volume.index, id, stamp);
        self.suspects.add(volume.storage, id);
    }
}

impl Store {
    /// Takes one more folder into service. Its replicas are there when this returns; the namenode is to be told all of them.
    ///
    /// # Errors
    /// A folder of another datanode, cluster or version, one that is in use already, or one that does not work.
    pub fn add_volume(&self, config: VolumeConfig) -> StoreResult<StorageId> {
        let refused = |why: &str| StoreError::Refused { path: config.path.clone(), why: why.into() };
        let serves = |volume: &Arc<Volume>| !volume.is_out() && volume.root == config.path;
        if self.core.volumes.all().iter().any(serves) {
            return Err(refused("the folder is in use already"));
        }
        // A disk that does not answer holds up nobody else here.
        let (lock, identity) = claim(&config.path, &self.disk)?;
        let _one = self.changing.lock();
        let volumes = self.core.volumes.all();
        if volumes.len() >= MAX_VOLUMES_EVER {
            return Err(refused("too many volumes were added since the datanode began: start it again"));
        }
        let node = self.identity();
        if let Some(identity) = &identity {
            belongs(&identity.node, &node, &config.path)?;
            let same = |volume: &&Arc<Volume>| !volume.is_out() && volume.storage == identity.storage;
            if let Some(other) = volumes.iter().find(same) {
                return Err(copied(&config.path, &other.root));
            }
        }
        let (path, claimed) = (config.path.clone(), Claimed { config, lock, identity });
        let volume = claimed.adopt(volumes.len(), &node, &self.disk, self.check_timeout)?;
        let contents = scan::scan(&volume)?;
        // Its earlier life, if it had one that failed, is over.
        for old in volumes.iter().filter(|old| old.root == path || old.storage == volume.storage) {
            old.mark_removed();
        }
        self.lost.lock().retain(|lost| lost.config.path != path);
        let bad = contents.bad.clone();
        let core = &self.core;
        let mut slots = fill(&volume, contents);
        // What is here already is newer, or as good.
        slots.retain(|id, slot| {
            let new = core.map.get(*id).is_none();
            if !new {
                volume.remove_used(footprint(rank(slot).2));
            }
            new
        });
        core.map.add_volume(slots, || core.volumes.push(volume.clone()));
        for (id, stamp) in bad {
            core.know_bad(&volume, id, stamp);
        }
        tracing::info!(volume = %path.display(), storage = %volume.storage, "a volume was added");
        Ok(volume.storage)
    }

    /// Takes a folder out of service, whether it works or not. What is on it stays there; whoever writes on it is superseded.
    /// Gives the volume's id, if it had one.
    ///
    /// # Errors
    /// There is no such volume; it is the last one that works.
    pub fn remove_volume(&self, path: &Path) -> StoreResult<Option<StorageId>> {
        let _one = self.changing.lock();
        let refused = |why: &str| StoreError::Refused { path: path.to_owned(), why: why.into() };
        let volumes = self.core.volumes.all();
        let Some(volume) = volumes.iter().find(|volume| volume.root == path && !volume.is_removed()) else {
            let mut lost = self.lost.lock();
            let before = lost.len();
            lost.retain(|lost| lost.config.path != path);
            return if lost.len() < before { Ok(None) } else { Err(refused("there is no such volume")) };
        };
        if !volume.is_out() && self.core.volumes.serving().len() == 1 {
            return Err(refused("it is the last volume that works: end the datanode instead"));
        }
        self.core.remove_volume(volume);
        Ok(Some(volume.storage))
    }

    /// The folders that are or should be in service, with how they were configured.
    #[must_use]
    pub fn configured(&self) -> Vec<VolumeConfig> {
        let volumes = self.core.volumes.all();
        let opened = volumes.iter().filter(|volume| !volume.is_removed()).map(|volume| volume.config.clone());
        opened.chain(self.lost.lock().iter().map(|lost| lost.config.clone())).collect()
    }
}
