//! Block recovery: what a replica is before it, and making all replicas alike.

use std::sync::Arc;

use steadfs_common::{ChecksumSpec, GenStamp, StorageId};

use crate::chunks::Chunks;
use crate::core::{Core, LOOKUPS, footprint};
use crate::layout::Place;
use crate::map::Slot;
use crate::moves::Strayed;
use crate::replica::{Files, Io, OpenReplica, State};
use crate::{Block, ReplicaState, Store, StoreError, StoreResult, bound, meta};

/// Bytes copied at a time when a finalized replica is cut.
const COPY_BYTES: u64 = 1 << 20;

/// What a replica was before its recovery began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecoveryReplica {
    /// Its stamp and the bytes that it holds on disk.
    pub block: Block,
    /// Its state before the recovery.
    pub state: ReplicaState,
    /// Where it lies.
    pub storage: StorageId,
    /// It is known that not all its bytes match their checksums.
    pub bad: bool,
}

impl Store {
    /// Begins the recovery `recovery` of a block: its writer is stopped, and what is there is told. Repeating it is
    /// harmless, also when the recovery has ended here; a newer recovery takes over from an older one. None if there is
    /// no replica.
    ///
    /// # Errors
    /// The replica is older than `block.stamp` or not older than `recovery`; a newer recovery is under way; it had failed.
    pub fn init_recovery(&self, block: Block, recovery: GenStamp) -> StoreResult<Option<RecoveryReplica>> {
        self.core.init_recovery(block, recovery)
    }

    /// Ends the recovery `recovery`: the replica is cut to `len`, takes the stamp, and is finalized durably.
    /// Repeating it is harmless.
    ///
    /// # Errors
    /// No such recovery was begun here, or the replica is shorter than `len`; the disk.
    pub fn update_replica(&self, old: Block, recovery: GenStamp, len: u64) -> StoreResult<StorageId> {
        self.core.update_replica(old, recovery, len)
    }
}

impl Core {
    fn init_recovery(&self, block: Block, recovery: GenStamp) -> StoreResult<Option<RecoveryReplica>> {
        for _ in 0..LOOKUPS {
            match self.map.get(block.id) {
                None => return Ok(None),
                Some((volume, Slot::Finalized { stamp, len })) if is_done(block, stamp, recovery) => {
                    let volume = self.volumes.at(volume);
                    volume.alive()?;
                    let block = Block { id: block.id, stamp, len };
                    let state = ReplicaState::Finalized;
                    let bad = self.map.is_bad(volume.index, block.id, stamp);
                    return Ok(Some(RecoveryReplica { block, state, storage: volume.storage, bad }));
                }
                Some((volume, Slot::Finalized { stamp, len })) => {
                    check_recovery_stamp(block, stamp, recovery)?;
                    let volume = self.volumes.at(volume);
                    volume.alive()?;
                    let mut state = State::new(ReplicaState::Finalized, stamp, ChecksumSpec::DEFAULT, len);
                    state.role = ReplicaState::Rur;
                    state.recovery = recovery;
                    state.counted = footprint(len);
                    let open = OpenReplica::new(block.id, volume.clone(), state);
                    if self.map.reopen(volume.index, stamp, len, &open) {
                        return Ok(Some(self.told(&open)));
                    }
                }
                Some((_, Slot::Open(open))) => {
                    let mut io = open.io.lock();
                    if open.state.lock().gone {
                        continue;
                    }
                    let begun = self.begin_recovery(&open, &mut io, block, recovery);
                    drop(io);
                    return self.watch(&open.volume, begun);
                }
            }
        }
        Err(StoreError::Superseded { block: block.id })
    }

    /// The caller holds `io`, so no writer is in the middle of anything.
    fn begin_recovery(
        &self,
        open: &Arc<OpenReplica>,
        io: &mut Io,
        block: Block,
        recovery: GenStamp,
    ) -> StoreResult<Option<RecoveryReplica>> {
        self.salvage(open, io)?;
        open.check(None)?;
        let state = open.state.lock().clone();
        match state.role {
            ReplicaState::Temporary => return Ok(None),
            ReplicaState::Rur if state.recovery > recovery => {
                return Err(StoreError::RecoveryInProgress { block: open.id, recovery: state.recovery });
            }
            ReplicaState::Rur | ReplicaState::Rbw | ReplicaState::Rwr | ReplicaState::Finalized => {}
        }
        // One that has the recovery's stamp already was on its way to the end of this very recovery.
        if !is_done(block, state.stamp, recovery) {
            check_recovery_stamp(block, state.stamp, recovery)?;
        }
        if state.effective() == ReplicaState::Rbw {
            open.flush(io, true)?;
            self.recount(open);
        }
        let mut state = open.state.lock();
        if state.role != ReplicaState::Rur {
            state.before = state.role;
            state.role = ReplicaState::Rur;
        }
        state.recovery = recovery;
        state.owner += 1;
        drop(state);
        Ok(Some(self.told(open)))
    }

    fn told(&self, open: &OpenReplica) -> RecoveryReplica {
        let (block, state) = (open.block(), open.state.lock().before);
        let bad =
            state == ReplicaState::Finalized && self.map.is_bad(open.volume.index, open.id, block.stamp);
        RecoveryReplica { block, state, storage: open.volume.storage, bad }
    }

    fn update_replica(&self, old: Block, recovery: GenStamp, len: u64) -> StoreResult<StorageId> {
        let open = match self.map.get(old.id) {
            None => return Err(StoreError::not_found(old.id, "no replica here")),
            Some((volume, Slot::Finalized { stamp, len: here })) => {
                if (stamp, here) == (recovery, len) {
                    return Ok(self.volumes.at(volume).storage);
                }
                return Err(StoreError::not_found(old.id, "it is FINALIZED and not under recovery"));
            }
            Some((_, Slot::Open(open))) => open,
        };
        let mut io = open.io.lock();
        open.check(None)?;
        let state = open.state.lock().clone();
        if state.role != ReplicaState::Rur {
            return Err(StoreError::not_found(
                old.id,
                format!("it is {} and not under recovery", state.role.name()),
            ));
        }
        if state.recovery != recovery {
            return Err(StoreError::RecoveryInProgress { block: old.id, recovery: state.recovery });
        }
        if state.received < len {
            return Err(StoreError::Length {
                block: old.id,
                found: state.received,
                expected: format!("at least {len}"),
            });
        }
        let ended = self.end_recovery(&open, &mut io, &state, len);
        let updated = ended.map_err(|(error, changed)| {
            if matches!(error, StoreError::Checksum { .. }) {
                self.listener.bad_replica(open.volume.storage, open.block());
            }
            // For want of room the next try may find it as it is.
            if changed || !error.is_shortage() {
                open.give_up(&error);
            }
            error
        });
        drop(io);
        self.watch(&open.volume, updated).map(|()| open.volume.storage)
    }

    /// An error says whether something of the replica was changed.
    fn end_recovery(
        &self,
        open: &Arc<OpenReplica>,
        io: &mut Io,
        state: &State,
        len: u64,
    ) -> Result<(), (StoreError, bool)> {
        let opened = match &state.files {
            Some(files) => Ok((files.clone(), state.spec)),
            None => self.open_files(&open.volume, state.place(), open.id, state.stamp, true),
        };
        let (files, spec) = opened.map_err(|error| (error, false))?;
        let shorter = state.before == ReplicaState::Finalized && len < state.received;
        let copy = match shorter {
            true => Some(self.copy_shorter(open, &files, spec, state, len).map_err(|error| (error, false))?),
            false => None,
        };
        self.change(open, io, state, (files, spec), copy, len).map_err(|error| (error, true))
    }

    /// Gives the replica its length and stamp: `copy` takes the place of its files, if there is one.
    fn change(
        &self,
        open: &Arc<OpenReplica>,
        io: &mut Io,
        state: &State,
        (files, spec): (Files, ChecksumSpec),
        copy: Option<Files>,
        len: u64,
    ) -> StoreResult<()> {
        if let Some(copy) = copy {
            self.put_in_place(open, copy, spec, state, len)?;
            io.chunks = Chunks::new(open.id, spec, len);
        } else {
            self.use_files(open, io, files, spec);
            // Also at equal length: what a replica that waits has on disk past its good bytes must go.
            if state.before != ReplicaState::Finalized {
                self.cut(open, io, len)?;
            }
            self.restamp(open, state.recovery)?;
        }
        self.finish(open, io).map(|_| ())
    }

    fn use_files(&self, open: &OpenReplica, io: &mut Io, files: Files, spec: ChecksumSpec) {
        let mut state = open.state.lock();
        state.files = Some(files);
        state.spec = spec;
        io.chunks = Chunks::new(open.id, spec, state.received);
    }

    /// Finalized bytes never change in place: a shorter replica is a new pair of files, durable when this returns. What could
    /// not be made whole goes.
    fn copy_shorter(
        &self,
        open: &OpenReplica,
        files: &Files,
        spec: ChecksumSpec,
        state: &State,
        len: u64,
    ) -> StoreResult<Files> {
        self.write_shorter(open, files, spec, state, len).inspect_err(|_| remove_copy(open, state.recovery))
    }

    fn write_shorter(
        &self,
        open: &OpenReplica,
        files: &Files,
        spec: ChecksumSpec,
        state: &State,
        len: u64,
    ) -> StoreResult<Files> {
        let volume = &open.volume;
        let disk = &volume.disk;
        let partial = self.partial_chunk(open, files, spec, state.received, len)?;
        let data = disk.create(open.data_path(Place::Tmp))?;
        let mut at = 0;
        let mut buffer = Vec::new();
        while at < len {
            buffer.resize(COPY_BYTES.min(len - at) as usize, 0);
            disk.read_at(&files.data, &mut buffer, at)?;
            disk.write_at(&data, &buffer, at)?;
            at += buffer.len() as u64;
        }
        let whole = len - partial.len() as u64;
        let mut sums = vec![0; meta::file_len(spec, whole) as usize];
        disk.read_at(&files.meta, &mut sums, 0)?;
        spec.append_checksums(&partial, &mut sums);
        let meta = disk.create(open.meta_path(Place::Rbw, state.recovery))?;
        bound::bind(&meta, open.id);
        disk.write_at(&meta, &sums, 0)?;
        disk.sync(&data)?;
        disk.sync(&meta)?;
        volume.sync_folder(Place::Rbw, open.id)?;
        Ok(Files { data, meta })
    }

    /// The data file takes its place first: after a crash behind it, it goes with the checksum file of its length.
    fn put_in_place(
        &self,
        open: &OpenReplica,
        copy: Files,
        spec: ChecksumSpec,
        state: &State,
        len: u64,
    ) -> StoreResult<()> {
        let disk = &open.volume.disk;
        disk.rename(&open.data_path(Place::Tmp), &open.data_path(Place::Finalized))
            .inspect_err(|_| remove_copy(open, state.recovery))?;
        // From here on it is the shorter one: its checksum file is on its way, and comes with the next try if not with this.
        self.doubt(open, Place::Finalized, state.stamp);
        let mut now = open.state.lock();
        now.stamp = state.recovery;
        now.received = len;
        now.flushed = len;
        now.acked = len;
        now.spec = spec;
        now.files = Some(copy);
        now.strayed = Some(Strayed { place: Place::Rbw, data: false, meta: true });
        drop(now);
        self.rename_home(open)?;
        // Its folder is synced at the end of the recovery.
        open.state.lock().strayed = None;
        if let Err(error) = disk.remove(&open.meta_path(Place::Finalized, state.stamp)) {
            // The next comparison of the folder finds it, or the next start.
            tracing::warn!(block = %open.id, %error, "the checksum file of a replica before its truncation is left");
        }
        Ok(())
    }
}

/// Removes the shorter copy of a replica that could not take its place.
fn remove_copy(open: &OpenReplica, recovery: GenStamp) {
    for path in [open.data_path(Place::Tmp), open.meta_path(Place::Rbw, recovery)] {
        // The error that is told is the one to mend; the next start clears what is left.
        let _ = open.volume.disk.remove(&path);
    }
}

/// Whether this very recovery has ended here before: its leader was not heard, and it is led again.
fn is_done(block: Block, found: GenStamp, recovery: GenStamp) -> bool {
    found == recovery && block.stamp < recovery
}

fn check_recovery_stamp(block: Block, found: GenStamp, recovery: GenStamp) -> StoreResult<()> {
    if found >= block.stamp && found < recovery {
        return Ok(());
    }
    let expected = format!("{} or newer and older than the recovery {recovery}", block.stamp);
    Err(StoreError::Stamp { block: block.id, found, expected })
}
