//! Comparing what lies on a volume with what is in memory, one folder at a time.
//!
//! Somebody may delete, copy or exchange files behind our back, and a disk may lose them. Listing a folder and looking into
//! memory are not one step, so each difference is looked at again while the replica is held: no writer, recovery or deletion
//! is in the middle of it then.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use steadfs_common::{BlockId, ChecksumSpec, GenStamp, StorageId};

use crate::core::{Core, footprint};
use crate::layout::{self, FOLDERS, FileName, Place};
use crate::map::Slot;
use crate::replica::{OpenReplica, State};
use crate::scan;
use crate::volume::Volume;
use crate::{Block, ChangeKind, ReplicaState, Store, StoreError, StoreResult};

/// What the comparison of folders came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Differences {
    /// Replicas looked at.
    pub replicas: u64,
    /// Replicas whose block file was gone: the namenode was told.
    pub lost: u64,
    /// Replicas whose block or checksum file has another length than it must, or whose checksum file was gone: they are bad.
    pub damaged: u64,
    /// Replicas that lay on the disk and were not known: they are now.
    pub found: u64,
    /// Older or equal copies of a block that has a good replica on another volume: removed.
    pub doubled: u64,
    /// Checksum files that belong to nothing: removed.
    pub stray: u64,
    /// Files that are not ours, or that nothing can be made of: left alone.
    pub strange: u64,
}

impl Differences {
    /// Counts what another folder came to.
    pub fn add(&mut self, other: &Self) {
        self.replicas += other.replicas;
        self.lost += other.lost;
        self.damaged += other.damaged;
        self.found += other.found;
        self.doubled += other.doubled;
        self.stray += other.stray;
        self.strange += other.strange;
    }

    /// Whether something was done.
    #[must_use]
    pub fn any(&self) -> bool {
        Self { replicas: 0, strange: 0, ..*self } != Self::default()
    }
}

/// What a folder holds.
#[derive(Default)]
struct Listing {
    data: BTreeSet<BlockId>,
    metas: BTreeMap<BlockId, Vec<GenStamp>>,
    strange: u64,
}

impl Store {
    /// How many folders of a volume there are to compare.
    #[must_use]
    pub const fn folders() -> u16 {
        FOLDERS
    }

    /// Compares one folder of a volume with memory, and puts right what differs. `number` is below [`Self::folders`].
    ///
    /// # Errors
    /// The folder cannot be listed; the volume is looked at.
    pub fn compare_folder(&self, storage: StorageId, number: u16) -> StoreResult<Differences> {
        let Some(volume) = self.core.volumes.find(storage).filter(|volume| !volume.is_out()) else {
            return Ok(Differences::default());
        };
        let compared = self.core.compare(&volume, number);
        self.core.watch(&volume, compared)
    }
}

fn list(volume: &Volume, number: u16) -> StoreResult<Listing> {
    let path = layout::numbered_folder(&volume.root, number);
    let mut listing = Listing::default();
    let names = match volume.disk.list(&path) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(listing),
        names => names?,
    };
    for (name, is_dir) in names {
        let parsed = layout::parse(&name).filter(|_| !is_dir);
        let id = match parsed {
            Some(FileName::Data(id) | FileName::Meta(id, _) | FileName::Bad(id, _)) => Some(id),
            None => None,
        };
        let here = id.is_some_and(|id| layout::folder_of(&volume.root, Place::Finalized, id) == path);
        match parsed.filter(|_| here) {
            Some(FileName::Data(id)) => drop(listing.data.insert(id)),
            Some(FileName::Meta(id, stamp)) => listing.metas.entry(id).or_default().push(stamp),
            Some(FileName::Bad(..)) => {}
            None => listing.strange += 1,
        }
    }
    Ok(listing)
}

/// What is wrong with the files of a finalized replica.
enum Wrong {
    /// The block file is gone.
    Gone,
    /// It is bad, and why.
    Bad(String),
}

fn inspect(volume: &Volume, block: Block) -> StoreResult<Option<Wrong>> {
    let missing = |error: &StoreError| matches!(error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound);
    match volume.disk.len_of(&layout::data_path(&volume.root, Place::Finalized, block.id)) {
        Err(error) if missing(&error) => return Ok(Some(Wrong::Gone)),
        Err(error) => return Err(error),
        Ok(len) if len != block.len => {
            let why = format!("its block file is {len} bytes long and should be {}", block.len);
            return Ok(Some(Wrong::Bad(why)));
        }
        Ok(_) => {}
    }
    match scan::fits(volume, block.id, Place::Finalized, block.stamp, block.len) {
        Err(error) if missing(&error) => Ok(Some(Wrong::Bad("its checksum file is gone".into()))),
        Err(error) => Err(error),
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some(Wrong::Bad("its checksum file does not fit it".into()))),
    }
}

impl Core {
    fn compare(&self, volume: &Arc<Volume>, number: u16) -> StoreResult<Differences> {
        let mut listing = list(volume, number)?;
        let mut differences = Differences { strange: listing.strange, ..Differences::default() };
        for (id, slot) in self.map.in_folder(volume.index, number) {
            let (data, metas) = (listing.data.remove(&id), listing.metas.remove(&id));
            // What is being written, recovered or deleted has owners that look after its files.
            let Slot::Finalized { stamp, len } = slot else { continue };
            differences.replicas += 1;
            let block = Block { id, stamp, len };
            let complete = data && metas.iter().flatten().any(|found| *found == stamp);
            if !complete || inspect(volume, block)?.is_some() {
                self.settle_difference(volume, block, &mut differences)?;
            }
            // An older checksum file is what a crash or a failed removal left of an earlier life.
            for old in metas.into_iter().flatten().filter(|found| *found < stamp) {
                volume.disk.remove(&layout::meta_path(&volume.root, Place::Finalized, id, old))?;
                differences.stray += 1;
            }
        }
        for id in listing.data {
            let stamps = listing.metas.remove(&id).unwrap_or_default();
            self.take_in(volume, id, stamps, &mut differences)?;
        }
        for (id, stamps) in listing.metas {
            self.remove_strays(volume, id, &stamps, &mut differences)?;
        }
        Ok(differences)
    }

    /// Looks at a replica that seems not to be right once more while nobody else can touch it, and settles what it is.
    fn settle_difference(
        &self,
        volume: &Arc<Volume>,
        block: Block,
        differences: &mut Differences,
    ) -> StoreResult<()> {
        let mut state = State::new(ReplicaState::Finalized, block.stamp, ChecksumSpec::DEFAULT, block.len);
        state.counted = footprint(block.len);
        let open = OpenReplica::new(block.id, volume.clone(), state);
        let io = open.io.lock();
        if !self.map.reopen(volume.index, block.stamp, block.len, &open) {
            return Ok(());
        }
        let settle = || {
            self.map.settle(volume.index, &open, block.stamp, block.len);
            open.state.lock().gone = true;
        };
        match inspect(volume, block) {
            Ok(None) => settle(),
            Err(error) => {
                settle();
                return Err(error);
            }
            Ok(Some(Wrong::Gone)) => {
                tracing::error!(block = %block.id, volume = %volume.root.display(), "the file of a replica is gone");
                differences.lost += 1;
                let removed = self.remove_open(&open);
                self.tell(volume, block, ChangeKind::Deleted);
                return removed;
            }
            Ok(Some(Wrong::Bad(why))) => {
                settle();
                drop(io);
                if !self.map.is_bad(volume.index, block.id, block.stamp) {
                    tracing::error!(block = %block.id, volume = %volume.root.display(), why, "a replica is damaged");
                    differences.damaged += 1;
                    self.found_bad(volume, block, &why);
                }
            }
        }
        Ok(())
    }

    /// Takes in a replica that lies on the disk and is not known, or removes it if the block has one on another volume that
    /// is newer or proves to be good.
    fn take_in(
        &self,
        volume: &Arc<Volume>,
        id: BlockId,
        mut stamps: Vec<GenStamp>,
        differences: &mut Differences,
    ) -> StoreResult<()> {
        let Ok(len) = volume.disk.len_of(&layout::data_path(&volume.root, Place::Finalized, id)) else {
            return Ok(());
        };
        stamps.sort_unstable();
        let fits = |stamp: &GenStamp| scan::fits(volume, id, Place::Finalized, *stamp, len).unwrap_or(false);
        let Some(stamp) = stamps.iter().rev().copied().find(fits) else {
            differences.strange += 1;
            return Ok(());
        };
        let places = self.map.places(id);
        match places.as_slice() {
            [] => {
                if self.map.adopt(volume.index, id, stamp, len) {
                    tracing::warn!(block = %id, volume = %volume.root.display(), "a replica that was not known lies on the volume");
                    volume.add_used(footprint(len));
                    differences.found += 1;
                    self.suspects.add(volume.storage, id);
                    self.tell(volume, Block { id, stamp, len }, ChangeKind::Received);
                }
                Ok(())
            }
            [(index, Slot::Finalized { stamp: other, len })] if *index != volume.index && *other >= stamp => {
                let block = Block { id, stamp: *other, len: *len };
                if *other == stamp && !self.is_whole(*index, block) {
                    differences.strange += 1;
                    return Ok(());
                }
                tracing::warn!(block = %id, volume = %volume.root.display(), "an older copy of a replica is removed");
                volume.disk.remove(&layout::data_path(&volume.root, Place::Finalized, id))?;
                for stamp in stamps {
                    volume.disk.remove(&layout::meta_path(&volume.root, Place::Finalized, id, stamp))?;
                }
                differences.doubled += 1;
                Ok(())
            }
            // It came into being meanwhile, or is being written elsewhere: the next comparison sees what became of it.
            _ => Ok(()),
        }
    }

    /// Whether all bytes of a replica match their checksums.
    fn is_whole(&self, index: usize, block: Block) -> bool {
        let volume = self.volumes.at(index);
        let opened = self.open_files(&volume, Place::Finalized, block.id, block.stamp, false);
        let Ok((files, spec)) = opened else { return false };
        scan::verify(&volume, &files, spec, block.len).unwrap_or(false)
    }

    fn remove_strays(
        &self,
        volume: &Volume,
        id: BlockId,
        stamps: &[GenStamp],
        differences: &mut Differences,
    ) -> StoreResult<()> {
        // A replica that is being finalized has its checksum file here first.
        if !self.map.places(id).is_empty() {
            return Ok(());
        }
        for stamp in stamps {
            volume.disk.remove(&layout::meta_path(&volume.root, Place::Finalized, id, *stamp))?;
            differences.stray += 1;
        }
        Ok(())
    }
}
