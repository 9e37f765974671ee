//! How writers come to be: new replicas, appends, and the recoveries of a pipeline.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use steadfs_common::{BlockId, ChecksumSpec, FsErrorKind, GenStamp, StorageId};

use crate::core::{Core, LOOKUPS, footprint};
use crate::layout::Place;
use crate::map::Slot;
use crate::replica::{Files, Io, OpenReplica, State};
use crate::volume::Volume;
use crate::{
    Block, ChangeKind, CreateOptions, MAX_REPLICA_BYTES, ReplicaState, ReplicaWriter, StoreError,
    StoreResult, bound, meta,
};

/// What a pipeline's recovery demands of a replica.
#[derive(Clone, Copy)]
struct Demand {
    old_stamp: GenStamp,
    new_stamp: GenStamp,
    min: u64,
    max: u64,
}

impl Core {
    pub(crate) fn create(
        self: &Arc<Self>,
        options: CreateOptions,
        role: ReplicaState,
    ) -> StoreResult<ReplicaWriter> {
        let Block { id, stamp, len } = options.block;
        if len > MAX_REPLICA_BYTES {
            let expected = format!("at most {MAX_REPLICA_BYTES}");
            return Err(StoreError::Length { block: id, found: len, expected });
        }
        self.make_way(id, stamp, role)?;
        let mut full: Vec<StorageId> = Vec::new();
        loop {
            let volume = self.choose_volume(footprint(len), options.storage, &full)?;
            match self.create_on(&volume, options, role) {
                // Its file system has no room for another file, whatever it said: the next one may.
                Err(error) if error.kind() == FsErrorKind::NoSpace => full.push(volume.storage),
                other => return other,
            }
        }
    }

    fn create_on(
        self: &Arc<Self>,
        volume: &Arc<Volume>,
        options: CreateOptions,
        role: ReplicaState,
    ) -> StoreResult<ReplicaWriter> {
        let Block { id, stamp, len } = options.block;
        let mut state = State::new(role, stamp, options.spec, 0);
        state.kept = footprint(len);
        volume.keep_room(state.kept);
        let open = OpenReplica::new(id, volume.clone(), state);
        let io = open.io.lock();
        if !self.map.insert_absent(volume.index, &open) {
            open.release_room();
            return Err(StoreError::Exists { block: id, state: "unknown: it was created meanwhile" });
        }
        match self.create_files(volume, role, options) {
            Ok(files) => open.state.lock().files = Some(files),
            Err(error) => {
                // The first error is the one to tell.
                let _ = self.remove_open(&open);
                return self.watch(volume, Err(error));
            }
        }
        let writer = ReplicaWriter::new(self.clone(), open.clone(), options.spec.kind);
        if role == ReplicaState::Rbw {
            // Before anything can take its place, and tell that it has gone.
            self.tell(volume, Block { id, stamp, len: 0 }, ChangeKind::Receiving);
        }
        drop(io);
        self.recount(&open);
        Ok(writer)
    }

    fn create_files(
        &self,
        volume: &Volume,
        role: ReplicaState,
        options: CreateOptions,
    ) -> StoreResult<Files> {
        let Block { id, stamp, .. } = options.block;
        let place = if role == ReplicaState::Temporary { Place::Tmp } else { Place::Rbw };
        volume.ensure_folder(place, id)?;
        let meta = volume.disk.create(crate::layout::meta_path(&volume.root, place, id, stamp))?;
        bound::bind(&meta, id);
        volume.disk.write_at(&meta, &meta::encode(options.spec), 0)?;
        let data = volume.disk.create(crate::layout::data_path(&volume.root, place, id))?;
        Ok(Files { data, meta })
    }

    /// A replica of an older life of the block, or a copy that broke off, does not stand in the way of a new one.
    fn make_way(&self, id: BlockId, stamp: GenStamp, role: ReplicaState) -> StoreResult<()> {
        let exists = |state: ReplicaState| StoreError::Exists { block: id, state: state.name() };
        for _ in 0..LOOKUPS {
            match self.map.get(id) {
                None => return Ok(()),
                Some((_, Slot::Finalized { stamp: old, .. })) if old < stamp => {
                    return self.delete(id, old).map(|_| ());
                }
                Some((_, Slot::Finalized { .. })) => return Err(exists(ReplicaState::Finalized)),
                Some((_, Slot::Open(open))) => {
                    let _io = open.io.lock();
                    let (state, gone) = {
                        let state = open.state.lock();
                        (state.role, state.gone)
                    };
                    if gone {
                        continue;
                    }
                    let former = open.block();
                    let is_copy = state == ReplicaState::Temporary;
                    let replaces = former.stamp < stamp
                        || (role == ReplicaState::Temporary && is_copy && former.stamp == stamp);
                    if !replaces {
                        return Err(exists(state));
                    }
                    let removed = self.remove_open(&open);
                    if !is_copy {
                        // The new replica may fail, or lie on another volume: what the namenode holds against this one
                        // would keep every copy away from here.
                        self.tell(&open.volume, former, ChangeKind::Deleted);
                    }
                    return removed;
                }
            }
        }
        Err(StoreError::Superseded { block: id })
    }

    /// The volume that the namenode chose if it has room, else one of those that have most. Asks no disk. Those that are
    /// `full` were tried already.
    pub(crate) fn choose_volume(
        &self,
        wanted: u64,
        storage: Option<StorageId>,
        full: &[StorageId],
    ) -> StoreResult<Arc<Volume>> {
        let serving = self.volumes.serving();
        let answering: Vec<_> = serving.iter().filter(|volume| !volume.health.is_stalled()).collect();
        if answering.is_empty()
            && let Some(volume) = serving.first()
        {
            return Err(StoreError::Stalled { path: volume.root.clone() });
        }
        let rooms: Vec<(u64, &Arc<Volume>)> = answering
            .into_iter()
            .map(|volume| (if full.contains(&volume.storage) { 0 } else { volume.room() }, volume))
            .collect();
        if let Some((_, volume)) =
            rooms.iter().find(|(room, volume)| Some(volume.storage) == storage && *room >= wanted)
        {
            return Ok(Arc::clone(volume));
        }
        let most = rooms.iter().map(|(room, _)| *room).max().unwrap_or(0);
        // Volumes with about as much room take turns, so that their disks work together.
        let enough = wanted.max(most / 10 * 9);
        let candidates: Vec<_> = rooms.into_iter().filter(|(room, _)| *room >= enough).collect();
        if candidates.is_empty() {
            return Err(StoreError::Full { wanted, most });
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % candidates.len();
        Ok(candidates[turn].1.clone())
    }

    pub(crate) fn append(
        self: &Arc<Self>,
        block: Block,
        new_stamp: GenStamp,
        requested: ChecksumSpec,
    ) -> StoreResult<ReplicaWriter> {
        check_new_stamp(block, new_stamp)?;
        match self.map.get(block.id) {
            Some((volume, Slot::Finalized { stamp, len })) => {
                Self::check_stamp(block.id, stamp, block.stamp, block.stamp)?;
                check_len(block.id, len, block.len, block.len)?;
                self.reopen(volume, Block { stamp, ..block }, new_stamp, requested)
            }
            Some((_, Slot::Open(open))) => {
                let state = open.state.lock().role;
                Err(StoreError::not_found(block.id, format!("it is {} and not FINALIZED", state.name())))
            }
            None => Err(StoreError::not_found(block.id, "no replica here")),
        }
    }

    pub(crate) fn recover_append(
        self: &Arc<Self>,
        block: Block,
        new_stamp: GenStamp,
        requested: ChecksumSpec,
    ) -> StoreResult<ReplicaWriter> {
        check_new_stamp(block, new_stamp)?;
        if let Some((volume, Slot::Finalized { stamp, len })) = self.map.get(block.id) {
            Self::check_stamp(block.id, stamp, block.stamp, new_stamp)?;
            check_len(block.id, len, block.len, block.len)?;
            return self.reopen(volume, Block { stamp, ..block }, new_stamp, requested);
        }
        let demand = Demand { old_stamp: block.stamp, new_stamp, min: block.len, max: block.len };
        self.take_over(block.id, demand, requested)
    }

    pub(crate) fn recover_rbw(
        self: &Arc<Self>,
        block: Block,
        new_stamp: GenStamp,
        (min, max): (u64, u64),
        requested: ChecksumSpec,
    ) -> StoreResult<ReplicaWriter> {
        check_new_stamp(block, new_stamp)?;
        self.take_over(block.id, Demand { old_stamp: block.stamp, new_stamp, min, max }, requested)
    }

    /// Opens a finalized replica for more bytes. Its checksum file is copied and not changed, so that those who hold its
    /// descriptors still read what they opened; of its data no byte changes.
    fn reopen(
        self: &Arc<Self>,
        volume: usize,
        old: Block,
        new_stamp: GenStamp,
        requested: ChecksumSpec,
    ) -> StoreResult<ReplicaWriter> {
        let volume = self.volumes.at(volume);
        volume.alive()?;
        if self.map.is_bad(volume.index, old.id, old.stamp) {
            return Err(StoreError::Failed { block: old.id, why: "it is known to be bad".into() });
        }
        let opened = self.open_files(&volume, Place::Finalized, old.id, old.stamp, true);
        let (files, spec) = self.watch(&volume, opened)?;
        check_spec(old.id, spec, requested)?;
        let mut state = State::new(ReplicaState::Rbw, old.stamp, spec, old.len);
        state.counted = footprint(old.len);
        let open = OpenReplica::new(old.id, volume.clone(), state);
        let mut io = open.io.lock();
        if !self.map.reopen(volume.index, old.stamp, old.len, &open) {
            return Err(StoreError::Superseded { block: old.id });
        }
        let reopened = self.reopen_files(&open, &mut io, &files, old, new_stamp, spec);
        if let Err(error) = reopened {
            self.reopen_failed(&open, old, &error);
            drop(io);
            return self.watch(&volume, Err(error));
        }
        let writer = ReplicaWriter::new(self.clone(), open.clone(), requested.kind);
        drop(io);
        self.tell(&volume, Block { stamp: new_stamp, ..old }, ChangeKind::Receiving);
        Ok(writer)
    }

    fn reopen_files(
        &self,
        open: &OpenReplica,
        io: &mut Io,
        files: &Files,
        old: Block,
        new_stamp: GenStamp,
        spec: ChecksumSpec,
    ) -> StoreResult<()> {
        let volume = &open.volume;
        let partial = self.partial_chunk(open, files, spec, old.len, old.len)?;
        let mut sums = vec![0; meta::file_len(spec, old.len) as usize];
        volume.disk.read_at(&files.meta, &mut sums, 0)?;
        let meta = volume.disk.create(open.meta_path(Place::Rbw, new_stamp))?;
        bound::bind(&meta, old.id);
        volume.disk.write_at(&meta, &sums, 0)?;
        volume.disk.sync(&meta)?;
        volume.sync_folder(Place::Rbw, old.id)?;
        let moved = volume.disk.rename(&open.data_path(Place::Finalized), &open.data_path(Place::Rbw));
        moved.inspect_err(|_| drop(volume.disk.remove(&open.meta_path(Place::Rbw, new_stamp))))?;
        // From here on the replica lies among those being written: what fails now fails the replica.
        let mut state = open.state.lock();
        state.stamp = new_stamp;
        state.files = Some(Files { data: files.data.clone(), meta });
        io.chunks.resume(partial);
        state.last_checksum = io.chunks.last_checksum_at(old.len);
        (state.synced, state.synced_checksum) = (old.len, state.last_checksum);
        drop(state);
        io.names_unsynced = false;
        io.synced();
        volume
            .sync_folder(Place::Rbw, old.id)
            .and_then(|()| volume.sync_folder(Place::Finalized, old.id))
            .and_then(|()| volume.disk.remove(&open.meta_path(Place::Finalized, old.stamp)))
            .inspect_err(|error| open.give_up(error))
    }

    /// Before its data was moved the replica is as it was; after that it has failed and stays so.
    fn reopen_failed(&self, open: &Arc<OpenReplica>, old: Block, error: &StoreError) {
        if open.state.lock().failed.is_some() {
            return;
        }
        self.map.settle(open.volume.index, open, old.stamp, old.len);
        open.state.lock().gone = true;
        if matches!(error, StoreError::Checksum { .. }) {
            self.found_bad(&open.volume, old, &error.to_string());
        }
    }

    /// Takes a replica being written over from whoever wrote it.
    fn take_over(
        self: &Arc<Self>,
        id: BlockId,
        demand: Demand,
        requested: ChecksumSpec,
    ) -> StoreResult<ReplicaWriter> {
        let open = self.being_written(id)?;
        let mut io = open.io.lock();
        open.check(None)?;
        check_spec(id, open.state.lock().spec, requested)?;
        let seized = self.seize(&open, &mut io, demand);
        // Made while nobody else can take the replica over.
        let writer = ReplicaWriter::new(self.clone(), open.clone(), requested.kind);
        drop(io);
        self.watch(&open.volume, seized).map(|()| writer)
    }

    fn being_written(&self, id: BlockId) -> StoreResult<Arc<OpenReplica>> {
        match self.map.get(id) {
            Some((_, Slot::Open(open))) => Ok(open),
            Some((_, Slot::Finalized { .. })) => {
                Err(StoreError::not_found(id, "it is FINALIZED and not RBW"))
            }
            None => Err(StoreError::not_found(id, "no replica here")),
        }
    }

    /// Checks a replica being written against the demand, ends its writer, cuts it to `min` bytes and restamps it.
    fn seize(&self, open: &OpenReplica, io: &mut Io, demand: Demand) -> StoreResult<()> {
        let (acked, received) = {
            let state = open.state.lock();
            if state.role != ReplicaState::Rbw {
                return Err(StoreError::not_found(
                    open.id,
                    format!("it is {} and not RBW", state.role.name()),
                ));
            }
            Self::check_stamp(open.id, state.stamp, demand.old_stamp, demand.new_stamp)?;
            (state.acked, state.received)
        };
        if acked < demand.min || received > demand.max {
            let expected = format!("{} to {} ({acked} bytes are acknowledged)", demand.min, demand.max);
            return Err(StoreError::Length { block: open.id, found: received, expected });
        }
        open.state.lock().owner += 1;
        let changed = open.flush(io, true).and_then(|()| {
            if received > demand.min {
                self.cut(open, io, demand.min)?;
            }
            self.restamp(open, demand.new_stamp)
        });
        io.names_unsynced = false;
        changed.inspect_err(|error| open.give_up(error))
    }

    pub(crate) fn recover_close(
        &self,
        block: Block,
        new_stamp: GenStamp,
        len: u64,
    ) -> StoreResult<StorageId> {
        check_new_stamp(block, new_stamp)?;
        for _ in 0..LOOKUPS {
            match self.map.get(block.id) {
                None => return Err(StoreError::not_found(block.id, "no replica here")),
                Some((volume, Slot::Finalized { stamp, len: found })) => {
                    Self::check_stamp(block.id, stamp, block.stamp, new_stamp)?;
                    check_len(block.id, found, len, len)?;
                    let old = Block { id: block.id, stamp, len };
                    if let Some(storage) = self.restamp_finalized(volume, old, new_stamp)? {
                        return Ok(storage);
                    }
                }
                Some((_, Slot::Open(open))) => {
                    let mut io = open.io.lock();
                    if open.state.lock().gone {
                        continue;
                    }
                    open.check(None)?;
                    let closed = self.close_open(&open, &mut io, block.stamp, new_stamp, len);
                    drop(io);
                    return self.watch(&open.volume, closed).map(|()| open.volume.storage);
                }
            }
        }
        Err(StoreError::Superseded { block: block.id })
    }

    fn close_open(
        &self,
        open: &Arc<OpenReplica>,
        io: &mut MutexGuard<'_, Io>,
        old_stamp: GenStamp,
        new_stamp: GenStamp,
        len: u64,
    ) -> StoreResult<()> {
        // Every byte was acknowledged before a pipeline closes; a longer replica only lacks the word of it.
        self.seize(open, io, Demand { old_stamp, new_stamp, min: len, max: u64::MAX })?;
        self.finish(open, io).map(|_| ())
    }

    /// Gives a finalized replica a new stamp, durably. None if it has changed meanwhile.
    pub(crate) fn restamp_finalized(
        &self,
        volume: usize,
        old: Block,
        stamp: GenStamp,
    ) -> StoreResult<Option<StorageId>> {
        let volume = self.volumes.at(volume);
        volume.alive()?;
        if old.stamp == stamp {
            return Ok(Some(volume.storage));
        }
        // The checksum kind does not matter for a rename.
        let mut state = State::new(ReplicaState::Finalized, old.stamp, ChecksumSpec::DEFAULT, old.len);
        state.counted = footprint(old.len);
        let open = OpenReplica::new(old.id, volume.clone(), state);
        let io = open.io.lock();
        if !self.map.reopen(volume.index, old.stamp, old.len, &open) {
            return Ok(None);
        }
        let restamped = self.restamp(&open, stamp);
        if let Err(error) = &restamped {
            self.restamp_failed(&open, old, error);
        } else {
            self.map.settle(volume.index, &open, stamp, old.len);
            open.state.lock().gone = true;
            self.tell(&volume, Block { stamp, ..old }, ChangeKind::Received);
        }
        drop(io);
        self.watch(&volume, restamped)?;
        Ok(Some(volume.storage))
    }

    /// For want of something the replica is as it was, under its old stamp, and the next try finds it so.
    fn restamp_failed(&self, open: &Arc<OpenReplica>, old: Block, error: &StoreError) {
        let now = open.state.lock().stamp;
        let name = |stamp| open.meta_path(Place::Finalized, stamp);
        let as_it_was = error.is_shortage()
            && (now == old.stamp || open.volume.disk.rename(&name(now), &name(old.stamp)).is_ok());
        if as_it_was {
            open.state.lock().stamp = old.stamp;
            self.map.settle(open.volume.index, open, old.stamp, old.len);
            open.state.lock().gone = true;
        } else {
            open.give_up(error);
        }
    }

    pub(crate) fn delete(&self, id: BlockId, stamp: GenStamp) -> StoreResult<bool> {
        for _ in 0..LOOKUPS {
            match self.map.get(id) {
                None => return Ok(false),
                Some((_, Slot::Finalized { stamp: here, .. })) if here > stamp => return Ok(false),
                Some((volume, Slot::Finalized { stamp, len })) => {
                    let volume = &self.volumes.at(volume);
                    let mut state = State::new(ReplicaState::Finalized, stamp, ChecksumSpec::DEFAULT, len);
                    state.counted = footprint(len);
                    let open = OpenReplica::new(id, volume.clone(), state);
                    let _io = open.io.lock();
                    if !self.map.reopen(volume.index, stamp, len, &open) {
                        continue;
                    }
                    let removed = self.remove_open(&open);
                    self.tell(volume, Block { id, stamp, len }, ChangeKind::Deleted);
                    return removed.map(|()| true);
                }
                Some((_, Slot::Open(open))) => {
                    let _io = open.io.lock();
                    let gone = open.state.lock().gone;
                    let block = open.block();
                    if gone {
                        continue;
                    }
                    if block.stamp > stamp {
                        return Ok(false);
                    }
                    let removed = self.remove_open(&open);
                    self.tell(&open.volume, block, ChangeKind::Deleted);
                    return removed.map(|()| true);
                }
            }
        }
        Err(StoreError::Superseded { block: id })
    }
}

fn check_new_stamp(block: Block, new_stamp: GenStamp) -> StoreResult<()> {
    if new_stamp >= block.stamp {
        return Ok(());
    }
    let expected = format!("a new one of at least {}", block.stamp);
    Err(StoreError::Stamp { block: block.id, found: new_stamp, expected })
}

fn check_len(id: BlockId, found: u64, min: u64, max: u64) -> StoreResult<()> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(StoreError::Length { block: id, found, expected: format!("{min}") })
}

fn check_spec(id: BlockId, stored: ChecksumSpec, requested: ChecksumSpec) -> StoreResult<()> {
    if stored.bytes_per_checksum == requested.bytes_per_checksum {
        return Ok(());
    }
    Err(StoreError::ChecksumSpec(format!(
        "Client requested checksum of {} bytes a chunk when appending to an existing block with different chunk size {}: {id}",
        requested.bytes_per_checksum, stored.bytes_per_checksum
    )))
}
