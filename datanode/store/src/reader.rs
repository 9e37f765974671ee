//! Reading a replica.

use std::fmt;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;

use rustix::fs::Advice;
use steadfs_common::{BlockId, ChecksumKind, ChecksumSpec, GenStamp, StorageId};

use crate::core::{Core, LOOKUPS};
use crate::layout::Place;
use crate::map::Slot;
use crate::replica::{Files, OpenReplica};
use crate::store::readable_stamp;
use crate::volume::Volume;
use crate::{Block, ChangeKind, ReplicaState, StoreError, StoreResult, meta};

/// Bytes verified at a time.
const VERIFY_BYTES: u64 = 1 << 20;

/// An open replica, finalized or being written. It goes on reading what it opened even if the replica is deleted.
pub struct ReplicaReader {
    core: Arc<Core>,
    volume: Arc<Volume>,
    block: Block,
    finalized: bool,
    spec: ChecksumSpec,
    files: Files,
    /// Bytes in the file when it was opened, and the checksum of the chunk that they end in if it still grows.
    on_disk: u64,
    last_checksum: Option<[u8; 4]>,
}

impl fmt::Debug for ReplicaReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaReader").field("block", &self.block).finish_non_exhaustive()
    }
}

impl ReplicaReader {
    /// Id, stamp, and bytes that may be read: all of a finalized replica, the acknowledged bytes of one being written.
    #[must_use]
    pub fn block(&self) -> Block {
        self.block
    }

    /// Where it lies.
    #[must_use]
    pub fn storage(&self) -> StorageId {
        self.volume.storage
    }

    /// The checksums that are stored with it.
    #[must_use]
    pub fn spec(&self) -> ChecksumSpec {
        self.spec
    }

    /// Whether it is finalized: only then may descriptors leave the process.
    #[must_use]
    pub fn is_finalized(&self) -> bool {
        self.finalized
    }

    /// The block file. Byte n of the block is byte n of the file. Read with explicit offsets only (`pread`, `sendfile`
    /// with an offset): the descriptor is shared.
    #[must_use]
    pub fn data(&self) -> &Arc<File> {
        &self.files.data.file
    }

    /// The checksum file: a header of 7 bytes, then a big-endian checksum a chunk.
    #[must_use]
    pub fn checksum_file(&self) -> &Arc<File> {
        &self.files.meta.file
    }

    /// Where reading must stop so that checksums cover what is sent, if a reader wants bytes up to `end`: the end of the
    /// chunk that holds byte `end - 1`, or the end of what is on disk. May lie past `block().len` by less than a chunk.
    #[must_use]
    pub fn covered_end(&self, end: u64) -> u64 {
        let end = end.min(self.block.len);
        if self.spec.kind == ChecksumKind::Null {
            return end;
        }
        end.next_multiple_of(u64::from(self.spec.bytes_per_checksum)).min(self.on_disk)
    }

    /// Passes a result on; a file that cannot be read is reported.
    fn watch<T>(&self, result: StoreResult<T>) -> StoreResult<T> {
        let result = self.core.watch(&self.volume, result);
        if self.finalized
            && let Err(error @ StoreError::Io { .. }) = &result
            && !error.is_ours()
        {
            self.core.found_bad(&self.volume, self.block, &error.to_string());
        }
        result
    }

    /// Reads bytes of the block at `offset`.
    ///
    /// # Errors
    /// The disk, or a file that is shorter than it should be; the volume is looked at.
    pub fn read_data(&self, offset: u64, buffer: &mut [u8]) -> StoreResult<()> {
        self.watch(self.volume.disk.read_at(&self.files.data, buffer, offset))
    }

    /// Appends to `out` the checksums of the bytes from `start` (a chunk's start) to `end` (as [`Self::covered_end`] gives it).
    /// Right also while the last chunk is being written. Nothing for checksums of kind NULL.
    ///
    /// # Errors
    /// A range that is not so; the disk, or a file that is shorter than it should be; the volume is looked at.
    pub fn read_checksums(&self, start: u64, end: u64, out: &mut Vec<u8>) -> StoreResult<()> {
        let chunk = u64::from(self.spec.bytes_per_checksum);
        let size = self.spec.kind.size();
        if size == 0 || end <= start {
            return Ok(());
        }
        if !start.is_multiple_of(chunk)
            || end > self.on_disk
            || (!end.is_multiple_of(chunk) && end != self.on_disk)
        {
            let why = format!("checksums were asked for bytes {start} to {end} of {}", self.on_disk);
            return Err(StoreError::Packet { block: self.block.id, why });
        }
        let old = out.len();
        out.resize(old + self.spec.checksum_bytes(end - start) as usize, 0);
        let offset = meta::HEADER_BYTES + self.spec.checksum_bytes(start);
        self.watch(self.volume.disk.read_at(&self.files.meta, &mut out[old..], offset))?;
        if let Some(sum) = self.last_checksum
            && end == self.on_disk
        {
            let at = out.len() - size;
            out[at..].copy_from_slice(&sum);
        }
        Ok(())
    }

    /// Reads the chunks of all bytes from `start` to `end` and compares them with their checksums.
    ///
    /// # Errors
    /// [`StoreError::Checksum`] where they differ; the disk.
    pub fn verify(&self, start: u64, end: u64) -> StoreResult<()> {
        let chunk = u64::from(self.spec.bytes_per_checksum);
        let end = self.covered_end(end);
        let step = VERIFY_BYTES.next_multiple_of(chunk);
        let mut at = start - start % chunk;
        let mut sums = Vec::new();
        let mut data = Vec::new();
        while at < end {
            let to = (at + step).min(end);
            data.resize((to - at) as usize, 0);
            sums.clear();
            self.read_data(at, &mut data)?;
            self.read_checksums(at, to, &mut sums)?;
            self.spec
                .verify(&data, &sums)
                .map_err(|bad| StoreError::Checksum { block: self.block.id, offset: at + bad as u64 })?;
            at = to;
        }
        Ok(())
    }

    /// Tells the store that bytes of this replica were found not to match their checksum: it checks for itself, and
    /// reports the replica as bad if it is so. Says whether it is.
    pub fn suspect(&self) -> bool {
        match self.verify(0, self.block.len) {
            Err(error @ StoreError::Checksum { .. }) => {
                tracing::error!(%error, file = %self.files.data.path.display(), "the replica is corrupt");
                self.core.found_bad(&self.volume, self.block, &error.to_string());
                true
            }
            // What cannot be read was reported where it was read.
            Err(error) => !error.is_ours(),
            Ok(()) => false,
        }
    }

    /// Tells the store that all bytes of this replica were found to match their checksums. One that was known to be bad is
    /// good again, and the namenode hears of it. Says whether it was.
    pub fn found_good(&self) -> bool {
        if !self.is_bad() || !self.core.clear_mark(&self.volume, self.block.id, self.block.stamp) {
            return false;
        }
        tracing::info!(block = %self.block.id, "a replica that was known to be bad verifies: it counts again");
        self.tell_good();
        true
    }

    /// As [`ReplicaReader::found_good`], where somebody else doubts the replica: the namenode hears of it even if nothing was held
    /// against it here. Says whether it was told.
    pub fn vouch(&self) -> bool {
        self.found_good() || (self.finalized && !self.is_bad() && self.tell_good())
    }

    /// Not if it was deleted meanwhile: a replica that is gone would count until the next full report.
    fn tell_good(&self) -> bool {
        let Block { id, stamp, len } = self.block;
        let tell = || self.core.tell(&self.volume, self.block, ChangeKind::Verified);
        self.core.map.tell_finalized(self.volume.index, id, (stamp, len), tell)
    }

    /// Asks the operating system to forget what it has of the files in memory, from byte `start` of the block to `end`: what
    /// is read next comes from the disk, or leaves the memory to others.
    pub fn uncache(&self, start: u64, end: u64) {
        let length = NonZeroU64::new(end.saturating_sub(start));
        // Only advice: where it is not taken, nothing is lost.
        let _ = rustix::fs::fadvise(&self.files.data.file, start, length, Advice::DontNeed);
        let _ = rustix::fs::fadvise(&self.files.meta.file, 0, None, Advice::DontNeed);
    }

    /// Whether the replica is known to be bad: its bytes still may be read, and most may be right.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.finalized && self.core.map.is_bad(self.volume.index, self.block.id, self.block.stamp)
    }
}

impl Core {
    pub(crate) fn open_for_read(
        self: &Arc<Self>,
        id: BlockId,
        stamp: GenStamp,
    ) -> StoreResult<ReplicaReader> {
        for _ in 0..LOOKUPS {
            let opened = match self.map.get(id) {
                None => return Err(StoreError::not_found(id, "no replica here")),
                Some((volume, Slot::Finalized { stamp: here, len })) => {
                    readable_stamp(id, here, stamp)?;
                    self.open_finalized(volume, Block { id, stamp: here, len })?
                }
                Some((_, Slot::Open(open))) => self.open_growing(&open, stamp)?,
            };
            if let Some(reader) = opened {
                return Ok(reader);
            }
        }
        Err(StoreError::not_found(id, "it keeps changing its state"))
    }

    /// None if the replica was moved or deleted while its files were opened.
    fn open_finalized(self: &Arc<Self>, index: usize, block: Block) -> StoreResult<Option<ReplicaReader>> {
        let volume = &self.volumes.at(index);
        volume.alive()?;
        let opened = self.open_files(volume, Place::Finalized, block.id, block.stamp, false).and_then(
            |(files, spec)| {
                let len = volume.disk.len(&files.data)?;
                if len == block.len {
                    return Ok((files, spec));
                }
                let why = format!("the file is {len} bytes long, the replica {}", block.len);
                Err(StoreError::io(&files.data.path, io::Error::new(io::ErrorKind::InvalidData, why)))
            },
        );
        let (files, spec) = match opened {
            Ok(opened) => opened,
            Err(error) if error.is_ours() => return self.watch(volume, Err(error)),
            Err(error) => {
                let same = |slot| matches!(slot, Slot::Finalized { stamp, len } if (stamp, len) == (block.stamp, block.len));
                if !self.map.get(block.id).is_some_and(|(_, slot)| same(slot)) {
                    return Ok(None);
                }
                let why = error.to_string();
                let error = self.watch(volume, Err(error));
                self.found_bad(volume, block, &why);
                return error;
            }
        };
        Ok(Some(ReplicaReader {
            core: self.clone(),
            volume: volume.clone(),
            block,
            finalized: true,
            spec,
            files,
            on_disk: block.len,
            last_checksum: None,
        }))
    }

    /// None if the replica has changed its state.
    fn open_growing(
        self: &Arc<Self>,
        open: &OpenReplica,
        stamp: GenStamp,
    ) -> StoreResult<Option<ReplicaReader>> {
        let mut state = open.state.lock().clone();
        if state.gone {
            return Ok(None);
        }
        readable_stamp(open.id, state.stamp, stamp)?;
        match state.effective() {
            ReplicaState::Temporary => return Err(StoreError::not_found(open.id, "it is TEMPORARY")),
            ReplicaState::Rwr | ReplicaState::Rur => return Err(StoreError::NotReadable { block: open.id }),
            ReplicaState::Finalized => {
                let block = Block { id: open.id, stamp: state.stamp, len: state.received };
                // Half way through a truncation the checksum file is still to come.
                let meta = state
                    .strayed
                    .filter(|strayed| strayed.meta)
                    .map_or(Place::Finalized, |strayed| strayed.place);
                return self.open_settled(open, block, meta);
            }
            ReplicaState::Rbw => {}
        }
        if state.files.is_none() || (state.failed.is_none() && state.flushed < state.acked) {
            let mut io = open.io.lock();
            if open.check(None).is_ok() {
                let flushed = open.flush(&mut io, true);
                drop(io);
                self.watch(&open.volume, flushed)?;
            }
            state = open.state.lock().clone();
        }
        let len = state.visible().min(state.flushed);
        let Some(files) = state.files.filter(|_| !state.gone) else { return Ok(None) };
        Ok(Some(ReplicaReader {
            core: self.clone(),
            volume: open.volume.clone(),
            block: Block { id: open.id, stamp: state.stamp, len },
            finalized: false,
            spec: state.spec,
            files,
            on_disk: state.flushed,
            last_checksum: state.last_checksum,
        }))
    }

    /// A finalized replica with a recovery or a change of stamp under way: its data file lies where it always did.
    fn open_settled(
        self: &Arc<Self>,
        open: &OpenReplica,
        block: Block,
        meta: Place,
    ) -> StoreResult<Option<ReplicaReader>> {
        let volume = &open.volume;
        match self.open_files_in(volume, (Place::Finalized, meta), block.id, block.stamp, false) {
            Ok((files, spec)) => Ok(Some(ReplicaReader {
                core: self.clone(),
                volume: volume.clone(),
                block,
                finalized: true,
                spec,
                files,
                on_disk: block.len,
                last_checksum: None,
            })),
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                // Being renamed at this moment: wait for it, then look again.
                drop(open.io.lock());
                Ok(None)
            }
            Err(error) => self.watch(volume, Err(error)),
        }
    }
}
