//! What the store's parts share: volumes, map, listener, and the steps that several operations are made of.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Duration;

use parking_lot::RwLock;
use steadfs_common::{BlockId, ChecksumSpec, GenStamp};

use crate::alone::Alone;
use crate::disk::NamedFile;
use crate::error::{is_full, is_no_memory, is_ours};
use crate::layout::{self, Place};
use crate::map::{ReplicaMap, Slot};
use crate::replica::{Files, Io, OpenReplica};
use crate::suspects::Suspects;
use crate::volume::Volume;
use crate::volumes::Volumes;
use crate::{
    Block, ChangeKind, Identity, Listener, ReplicaChange, ReplicaState, StoreError, StoreResult, bound, meta,
};

/// How often an operation looks a block up again that keeps changing its state under it.
pub(crate) const LOOKUPS: usize = 16;

/// How long whoever met an error of a disk waits for the check of the whole volume. It goes on without them.
const CHECK_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Core {
    pub(crate) volumes: Volumes,
    pub(crate) map: ReplicaMap,
    pub(crate) listener: Arc<dyn Listener>,
    /// Counts replicas made, so that volumes take turns.
    pub(crate) turn: AtomicUsize,
    /// Who this datanode is.
    pub(crate) identity: RwLock<Identity>,
    /// Replicas to be looked at before all others.
    pub(crate) suspects: Suspects,
    /// Replicas that were verified before they were extended here only.
    pub(crate) alone: Alone,
}

/// Bytes on disk that a replica of `len` bytes is counted as: with checksums of the usual kind, whatever it has.
pub(crate) fn footprint(len: u64) -> u64 {
    len + meta::file_len(ChecksumSpec::DEFAULT, len)
}

impl Core {
    pub(crate) fn tell(&self, volume: &Volume, block: Block, kind: ChangeKind) {
        self.listener.changed(ReplicaChange { storage: volume.storage, block, kind });
    }

    /// Passes a result on; if the disk failed, finds out whether the whole volume has.
    pub(crate) fn watch<T>(&self, volume: &Arc<Volume>, result: StoreResult<T>) -> StoreResult<T> {
        if let Err(StoreError::Io { source, path }) = &result
            && !is_full(source)
            && (!is_ours(source) || is_no_memory(source))
            && !volume.is_out()
        {
            tracing::warn!(path = %path.display(), error = %source, "an operation on a file failed; checking the volume");
            self.check_volume(volume);
            // A disk that is gone in part says so of what lay there, whatever its check finds.
            if is_no_memory(source) && !volume.is_out() && volume.probe_memory().is_ok() {
                volume.disk.wear.count(path, source);
            }
        }
        result
    }

    /// Checks a volume, and drops it if it does not work. Waits for a moment only; the check goes on.
    pub(crate) fn check_volume(&self, volume: &Arc<Volume>) {
        if !volume.is_out()
            && let Some(why) = volume.check_now(CHECK_PATIENCE)
        {
            self.fail_volume(volume, &why);
        }
    }

    /// Drops the volumes of which checks that nobody waited for have found out that they do not work, or do not end.
    pub(crate) fn oversee(&self) {
        for volume in self.volumes.serving() {
            if let Some(why) = volume.health.verdict(Duration::ZERO) {
                self.fail_volume(&volume, &why);
            }
        }
    }

    /// Drops a volume: its replicas are gone, the others serve on.
    fn fail_volume(&self, volume: &Volume, why: &str) {
        if !volume.mark_failed(why) {
            return;
        }
        tracing::error!(volume = %volume.root.display(), storage = %volume.storage, why, "the volume has failed and is dropped");
        self.forget_volume(volume);
        self.listener.volume_failed(volume.storage, why);
    }

    /// Takes an operator's volume out of service. What is on it stays on it.
    pub(crate) fn remove_volume(&self, volume: &Volume) {
        volume.mark_removed();
        self.forget_volume(volume);
        tracing::info!(volume = %volume.root.display(), storage = %volume.storage, "the volume was taken out of service");
    }

    /// Its replicas are none of ours any more: whoever writes one is superseded.
    fn forget_volume(&self, volume: &Volume) {
        volume.worker.close();
        let mut files = Vec::new();
        for (_, slot) in self.map.take_volume(volume.index) {
            if let Slot::Open(open) = slot {
                let mut state = open.state.lock();
                state.gone = true;
                files.extend(state.files.take());
            }
        }
        // Even closing a file may wait for a disk that hangs. If there is no thread to be had, it happens here.
        let lock = volume.take_lock();
        let _ = thread::Builder::new().name("let-go".into()).spawn(move || drop((files, lock)));
    }

    /// A finalized replica was found to be bad. That is written down beside it, so that it is known after a restart too, and
    /// told; the replica stays until the namenode has it deleted, since it may be the last one.
    pub(crate) fn found_bad(&self, volume: &Arc<Volume>, block: Block, why: &str) {
        if volume.is_out() {
            return;
        }
        let here = || {
            let slot = self.map.places(block.id).into_iter().find(|(index, _)| *index == volume.index);
            matches!(slot, Some((_, Slot::Finalized { stamp, len })) if (stamp, len) == (block.stamp, block.len))
        };
        if here() && !self.map.is_bad(volume.index, block.id, block.stamp) {
            // In memory first: who deletes the replica from now on deletes the mark too.
            self.map.mark_bad(volume.index, block.id, block.stamp);
            if let Err(error) = self.write_mark(volume, block, why) {
                tracing::warn!(block = %block.id, %error, "that a replica is bad cannot be written down");
            }
            if !here() {
                self.clear_mark(volume, block.id, block.stamp);
            }
        }
        self.listener.bad_replica(volume.storage, block);
    }

    fn write_mark(&self, volume: &Volume, block: Block, why: &str) -> StoreResult<()> {
        let mark = volume.disk.create(layout::bad_path(&volume.root, block.id, block.stamp))?;
        volume.disk.write_at(&mark, format!("{why}\n").as_bytes(), 0)?;
        volume.disk.sync(&mark)?;
        volume.sync_folder(Place::Finalized, block.id)
    }

    /// Forgets that a replica is bad: it is gone, or was found to be good. True if it was known to be bad.
    pub(crate) fn clear_mark(&self, volume: &Volume, id: BlockId, stamp: GenStamp) -> bool {
        let known = self.map.clear_bad(volume.index, id);
        if known && let Err(error) = volume.disk.remove(&layout::bad_path(&volume.root, id, stamp)) {
            tracing::warn!(block = %id, %error, "the mark of a bad replica cannot be removed");
        }
        known
    }

    /// Counts what an open replica takes on its volume, and gives back the room that it has filled.
    pub(crate) fn recount(&self, open: &OpenReplica) {
        let (before, now) = {
            let mut state = open.state.lock();
            let now = footprint(state.flushed);
            (std::mem::replace(&mut state.counted, now), now)
        };
        if now >= before {
            open.volume.add_used(now - before);
            open.use_room(now - before);
        } else {
            open.volume.remove_used(before - now);
        }
    }

    /// Finalizes a replica whose `io` the caller holds: everything written, synced, renamed, and the folder synced.
    /// On an error it takes nothing more.
    pub(crate) fn finish(&self, open: &Arc<OpenReplica>, io: &mut Io) -> StoreResult<Block> {
        let finished = self.finish_files(open, io);
        if let Err(error) = &finished {
            open.give_up(error);
        }
        let block = finished?;
        self.recount(open);
        let tell = || self.tell(&open.volume, block, ChangeKind::Received);
        if !self.map.settle_and(open.volume.index, open, (block.stamp, block.len), tell) {
            return Err(StoreError::Superseded { block: open.id });
        }
        open.state.lock().gone = true;
        open.release_room();
        Ok(block)
    }

    fn finish_files(&self, open: &OpenReplica, io: &mut Io) -> StoreResult<Block> {
        open.flush(io, true)?;
        let files = open.files()?;
        let (place, spec, block) = {
            let state = open.state.lock();
            (state.place(), state.spec, Block { id: open.id, stamp: state.stamp, len: state.received })
        };
        self.check_lengths(open, &files, spec, block.len)?;
        open.sync_files(&files)?;
        if place == Place::Finalized {
            open.volume.sync_folder(place, open.id)?;
        } else {
            open.volume.ensure_folder(Place::Finalized, open.id)?;
            self.move_files(open, Place::Finalized)?;
        }
        Ok(block)
    }

    /// The files must be as long as memory says before they are trusted for good.
    fn check_lengths(
        &self,
        open: &OpenReplica,
        files: &Files,
        spec: ChecksumSpec,
        len: u64,
    ) -> StoreResult<()> {
        let disk = &open.volume.disk;
        let is = (disk.len(&files.data)?, disk.len(&files.meta)?);
        let should = (len, meta::file_len(spec, len));
        if is == should {
            return Ok(());
        }
        let why = format!(
            "its files are {} and {} bytes long and should be {} and {}",
            is.0, is.1, should.0, should.1
        );
        Err(StoreError::io(&files.data.path, io::Error::new(io::ErrorKind::InvalidData, why)))
    }

    /// Moves a temporary replica to those being written, durably.
    pub(crate) fn move_to_rbw(&self, open: &OpenReplica, io: &mut Io) -> StoreResult<()> {
        open.flush(io, true)?;
        open.sync_files(&open.files()?)?;
        self.move_files(open, Place::Rbw)?;
        io.names_unsynced = false;
        io.synced();
        let mut state = open.state.lock();
        state.role = ReplicaState::Rbw;
        state.before = ReplicaState::Rbw;
        state.acked = state.received;
        Ok(())
    }

    /// Gives a replica a new stamp, durably, in the folder where it lies. The caller holds `io`.
    pub(crate) fn restamp(&self, open: &OpenReplica, stamp: GenStamp) -> StoreResult<()> {
        let (place, old) = {
            let state = open.state.lock();
            (state.place(), state.stamp)
        };
        if old != stamp {
            self.doubt(open, place, old);
            open.volume.disk.rename(&open.meta_path(place, old), &open.meta_path(place, stamp))?;
            open.state.lock().stamp = stamp;
        }
        open.volume.sync_folder(place, open.id)
    }

    /// A replica that is known to be bad gets a new name: whether it still is bad is found out anew.
    pub(crate) fn doubt(&self, open: &OpenReplica, place: Place, stamp: GenStamp) {
        if place == Place::Finalized && self.clear_mark(&open.volume, open.id, stamp) {
            self.suspects.add(open.volume.storage, open.id);
        }
    }

    /// Cuts a replica being written or waiting to be recovered to `len` bytes. The caller holds `io`; everything is flushed.
    pub(crate) fn cut(&self, open: &OpenReplica, io: &mut Io, len: u64) -> StoreResult<()> {
        let files = open.files()?;
        let (spec, received) = {
            let state = open.state.lock();
            (state.spec, state.received)
        };
        let disk = &open.volume.disk;
        let partial = self.partial_chunk(open, &files, spec, received, len)?;
        let mut chunks = crate::chunks::Chunks::new(open.id, spec, len);
        chunks.resume(partial);
        // The new last checksum goes first: bytes past it then only fail to verify, should we stop in between. And it goes
        // after its bytes, which may have been synced with another one.
        open.sync_data(&files)?;
        if let Some(sum) = chunks.last_checksum_at(len) {
            disk.write_at(&files.meta, &sum, meta::file_len(spec, len) - sum.len() as u64)?;
            // On disk before the bytes go that the checksum before it covers: without them nothing would match that one. If that
            // fails, neither the old nor the new end is certain.
            open.sync_files(&files).inspect_err(|_| open.state.lock().salvage = None)?;
        }
        let cut = disk.truncate(&files.data, len);
        cut.and_then(|()| disk.truncate(&files.meta, meta::file_len(spec, len)))
            // One of them may be cut and the other not: neither length is certain.
            .inspect_err(|error| open.fail(error))?;
        let mut state = open.state.lock();
        state.received = len;
        state.flushed = len;
        state.acked = state.acked.min(len);
        state.last_checksum = chunks.last_checksum_at(len);
        if len <= state.synced {
            (state.synced, state.synced_checksum) = (len, state.last_checksum);
        }
        drop(state);
        io.chunks = chunks;
        io.written_back = io.written_back.min(len);
        self.recount(open);
        Ok(())
    }

    /// The bytes of the chunk that `len` lies in, up to `len`, verified as part of a replica of `total` bytes.
    pub(crate) fn partial_chunk(
        &self,
        open: &OpenReplica,
        files: &Files,
        spec: ChecksumSpec,
        total: u64,
        len: u64,
    ) -> StoreResult<Vec<u8>> {
        let chunk = u64::from(spec.bytes_per_checksum);
        let start = len - len % chunk;
        if start == len {
            return Ok(Vec::new());
        }
        let end = (start + chunk).min(total);
        let disk = &open.volume.disk;
        let mut bytes = vec![0; (end - start) as usize];
        disk.read_at(&files.data, &mut bytes, start)?;
        let mut sum = vec![0; spec.kind.size()];
        disk.read_at(&files.meta, &mut sum, meta::HEADER_BYTES + spec.checksum_bytes(start))?;
        spec.verify(&bytes, &sum).map_err(|_| StoreError::Checksum { block: open.id, offset: start })?;
        bytes.truncate((len - start) as usize);
        Ok(bytes)
    }

    /// Opens the files of a replica in the folder where it lies, and reads which checksums it has.
    pub(crate) fn open_files(
        &self,
        volume: &Volume,
        place: Place,
        id: BlockId,
        stamp: GenStamp,
        write: bool,
    ) -> StoreResult<(Files, ChecksumSpec)> {
        self.open_files_in(volume, (place, place), id, stamp, write)
    }

    /// As [`Self::open_files`], of one whose data file lies in one folder and its checksum file in another.
    pub(crate) fn open_files_in(
        &self,
        volume: &Volume,
        (data, meta): (Place, Place),
        id: BlockId,
        stamp: GenStamp,
        write: bool,
    ) -> StoreResult<(Files, ChecksumSpec)> {
        let data = volume.disk.open(layout::data_path(&volume.root, data, id), write)?;
        let meta = volume.disk.open(layout::meta_path(&volume.root, meta, id, stamp), write)?;
        let spec = self.read_header(volume, &meta)?;
        bound::check(&meta, id)?;
        Ok((Files { data, meta }, spec))
    }

    fn read_header(&self, volume: &Volume, file: &NamedFile) -> StoreResult<ChecksumSpec> {
        let mut header = meta::Header::default();
        volume.disk.read_at(file, &mut header, 0)?;
        meta::decode(&header).ok_or_else(|| {
            StoreError::io(
                &file.path,
                io::Error::new(io::ErrorKind::InvalidData, "not a checksum file that we can read"),
            )
        })
    }

    /// Removes a replica that nobody owns any more, with its files.
    pub(crate) fn discard(&self, open: &Arc<OpenReplica>, owner: u64) {
        let _io = open.io.lock();
        {
            let state = open.state.lock();
            if state.gone || state.owner != owner {
                return;
            }
        }
        if let Err(error) = self.remove_open(open) {
            tracing::warn!(block = %open.id, %error, "cannot remove what a broken copy left");
        }
    }

    /// Removes an open replica's files and takes it out of the map. The caller holds its `io`. In this order: whoever makes
    /// a new replica of the block, which may bear the same names, waits for the end of this one.
    pub(crate) fn remove_open(&self, open: &Arc<OpenReplica>) -> StoreResult<()> {
        let (place, stamp, counted, strayed) = {
            let mut state = open.state.lock();
            state.gone = true;
            state.owner += 1;
            state.files = None;
            (state.place(), state.stamp, std::mem::take(&mut state.counted), state.strayed.take())
        };
        let removed = self.remove_files(&open.volume, place, open.id, stamp);
        let removed = removed.and(self.watch(&open.volume, self.remove_strayed(open, strayed)));
        self.map.remove_open(open.volume.index, open);
        open.volume.remove_used(counted);
        open.release_room();
        removed
    }

    pub(crate) fn remove_files(
        &self,
        volume: &Arc<Volume>,
        place: Place,
        id: BlockId,
        stamp: GenStamp,
    ) -> StoreResult<()> {
        if place == Place::Finalized {
            self.clear_mark(volume, id, stamp);
        }
        let data = volume.disk.remove(&layout::data_path(&volume.root, place, id));
        let meta = volume.disk.remove(&layout::meta_path(&volume.root, place, id, stamp));
        self.watch(volume, data.and(meta))
    }

    /// Whether a replica's stamp lies where a recovery of a pipeline wants it.
    pub(crate) fn check_stamp(id: BlockId, found: GenStamp, from: GenStamp, to: GenStamp) -> StoreResult<()> {
        if (from..=to).contains(&found) {
            return Ok(());
        }
        Err(StoreError::Stamp { block: id, found, expected: format!("{from} to {to}") })
    }
}
