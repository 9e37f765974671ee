//! A replica and its states.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use steadfs_common::{BlockId, ChecksumSpec, GenStamp};

use crate::chunks::Chunks;
use crate::disk::NamedFile;
use crate::layout::{self, Place};
use crate::moves::Strayed;
use crate::volume::Volume;
use crate::{StoreError, StoreResult, meta};

/// A block as the datanode or the namenode knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Block {
    /// Which block.
    pub id: BlockId,
    /// Which life of it.
    pub stamp: GenStamp,
    /// Bytes.
    pub len: u64,
}

/// The states of a replica, as in HDFS.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReplicaState {
    /// Complete and durable; never changed in place.
    Finalized,
    /// Being written by a pipeline.
    Rbw,
    /// Was being written when the datanode stopped; waits to be recovered.
    Rwr,
    /// A recovery has begun on it.
    Rur,
    /// A copy from another datanode on its way in; nobody may see it and a restart wipes it.
    Temporary,
}

impl ReplicaState {
    /// As HDFS spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finalized => "FINALIZED",
            Self::Rbw => "RBW",
            Self::Rwr => "RWR",
            Self::Rur => "RUR",
            Self::Temporary => "TEMPORARY",
        }
    }
}

/// A replica that is not at rest. Whoever changes its files holds `io`; `state` is locked for moments only and never
/// during I/O, so that acknowledging and reading lengths do not wait for the disk.
pub(crate) struct OpenReplica {
    pub(crate) id: BlockId,
    pub(crate) volume: Arc<Volume>,
    pub(crate) io: Mutex<Io>,
    pub(crate) state: Mutex<State>,
    /// Held during syncs outside `io`, so that a failure is noted before the next sync is tried.
    pub(crate) syncing: Mutex<()>,
}

/// What is known about an open replica without touching its files.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Its state, and during a recovery ([`ReplicaState::Rur`]) the one before and the recovery's stamp.
    pub(crate) role: ReplicaState,
    pub(crate) before: ReplicaState,
    pub(crate) recovery: GenStamp,
    pub(crate) stamp: GenStamp,
    pub(crate) spec: ChecksumSpec,
    /// Bytes received; of them given to the operating system; of them acknowledged by the pipeline.
    pub(crate) received: u64,
    pub(crate) flushed: u64,
    pub(crate) acked: u64,
    /// Bytes that a sync, which said so, has put on the disk with their checksums.
    pub(crate) synced: u64,
    /// As `last_checksum`, of `synced`.
    pub(crate) synced_checksum: Option<[u8; 4]>,
    /// The checksum of the chunk that `flushed` lies in, over its bytes up to there. The one in the file may cover more.
    pub(crate) last_checksum: Option<[u8; 4]>,
    /// Who may write: raised whenever somebody takes the replica over.
    pub(crate) owner: u64,
    /// Why it takes nothing more.
    pub(crate) failed: Option<String>,
    /// What a recovery can do with it although it failed.
    pub(crate) salvage: Option<Salvage>,
    /// Its files that are not where they should be.
    pub(crate) strayed: Option<Strayed>,
    /// It was written again once after a failed sync.
    pub(crate) rewritten: bool,
    /// It is no longer this: finalized, deleted, or its volume failed.
    pub(crate) gone: bool,
    pub(crate) files: Option<Files>,
    /// Room kept for it on its volume.
    pub(crate) kept: u64,
    /// Bytes that it is counted as on its volume.
    pub(crate) counted: u64,
}

/// Why bytes of a failed replica can still be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Salvage {
    /// A write failed, and no sync: what was written before is as good as it was.
    Written,
    /// A sync failed: what lies past the bytes that were synced before is perhaps in memory only, and no later sync will say
    /// so, since the pages count as clean.
    Unsynced,
}

/// The open files of a replica.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) data: NamedFile,
    pub(crate) meta: NamedFile,
}

/// What the writer of a replica needs.
pub(crate) struct Io {
    pub(crate) chunks: Chunks,
    /// Names in the replica's folder are not durable yet.
    pub(crate) names_unsynced: bool,
    /// The end of the chunk that the last sync ended in: see [`OpenReplica::flush`].
    pub(crate) guarded_to: u64,
    /// Where the next early write-back begins.
    pub(crate) written_back: u64,
}

impl Io {
    /// Notes that all that was received is synced.
    pub(crate) fn synced(&mut self) {
        self.guarded_to = self.chunks.received().next_multiple_of(self.chunks.chunk());
    }
}

impl State {
    pub(crate) fn new(role: ReplicaState, stamp: GenStamp, spec: ChecksumSpec, len: u64) -> Self {
        Self {
            role,
            before: role,
            recovery: GenStamp(0),
            stamp,
            spec,
            received: len,
            flushed: len,
            acked: len,
            synced: 0,
            synced_checksum: None,
            last_checksum: None,
            owner: 0,
            failed: None,
            salvage: None,
            strayed: None,
            rewritten: false,
            gone: false,
            files: None,
            kept: 0,
            counted: 0,
        }
    }

    /// The state that matters to others: during a recovery the one before it.
    pub(crate) fn effective(&self) -> ReplicaState {
        if self.role == ReplicaState::Rur { self.before } else { self.role }
    }

    /// Bytes that a reader may see. A failed replica cannot hand over what it had not given to the operating system.
    pub(crate) fn visible(&self) -> u64 {
        if self.failed.is_some() { self.acked.min(self.flushed) } else { self.acked }
    }

    /// The folder that its data file lies in.
    pub(crate) fn place(&self) -> Place {
        match self.effective() {
            ReplicaState::Finalized => Place::Finalized,
            ReplicaState::Temporary => Place::Tmp,
            ReplicaState::Rbw | ReplicaState::Rwr | ReplicaState::Rur => Place::Rbw,
        }
    }
}

impl OpenReplica {
    pub(crate) fn new(id: BlockId, volume: Arc<Volume>, state: State) -> Arc<Self> {
        let chunks = Chunks::new(id, state.spec, state.received);
        Arc::new(Self {
            id,
            volume,
            io: Mutex::new(Io { chunks, names_unsynced: true, guarded_to: 0, written_back: state.received }),
            state: Mutex::new(state),
            syncing: Mutex::new(()),
        })
    }

    pub(crate) fn block(&self) -> Block {
        let state = self.state.lock();
        Block { id: self.id, stamp: state.stamp, len: state.received }
    }

    pub(crate) fn data_path(&self, place: Place) -> PathBuf {
        layout::data_path(&self.volume.root, place, self.id)
    }

    pub(crate) fn meta_path(&self, place: Place, stamp: GenStamp) -> PathBuf {
        layout::meta_path(&self.volume.root, place, self.id, stamp)
    }

    /// An error unless the replica is still this, and whole; with an owner, unless that is who may write.
    pub(crate) fn check(&self, owner: Option<u64>) -> StoreResult<()> {
        let state = self.state.lock();
        self.volume.alive()?;
        if state.gone || owner.is_some_and(|owner| owner != state.owner) {
            return Err(StoreError::Superseded { block: self.id });
        }
        match &state.failed {
            Some(why) => Err(StoreError::Failed { block: self.id, why: why.clone() }),
            None => Ok(()),
        }
    }

    /// Notes that the replica can take nothing more; the first reason is kept.
    pub(crate) fn fail(&self, why: &StoreError) {
        self.state.lock().failed.get_or_insert_with(|| why.to_string());
    }

    /// As [`Self::fail`]. For lack of room or of this process's own means nothing is lost: what had been written is as good as it
    /// was, and the next recovery may use it.
    pub(crate) fn give_up(&self, why: &StoreError) {
        if why.is_shortage() { self.fail_write(why) } else { self.fail(why) }
    }

    /// As [`Self::fail`], after a write.
    fn fail_write(&self, why: &StoreError) {
        let mut state = self.state.lock();
        if state.failed.is_none() {
            state.failed = Some(why.to_string());
            state.salvage = Some(Salvage::Written);
        }
    }

    /// As [`Self::fail`], after a sync.
    fn fail_sync(&self, why: &StoreError) {
        let mut state = self.state.lock();
        if state.failed.is_none() || state.salvage.is_some() {
            state.salvage = Some(Salvage::Unsynced);
        }
        state.failed.get_or_insert_with(|| why.to_string());
    }

    /// The open files; `io` is held, so they cannot be exchanged meanwhile.
    pub(crate) fn files(&self) -> StoreResult<Files> {
        self.state
            .lock()
            .files
            .clone()
            .ok_or_else(|| StoreError::Failed { block: self.id, why: "its files are not open".into() })
    }

    /// Hands what was received to the operating system: all of it, or only whole pieces. A failure fails the replica,
    /// since the bytes may lie half in the file.
    ///
    /// After a sync that ended inside a chunk, that chunk's checksum is written anew only when its new bytes are on disk:
    /// otherwise the power failing in between could leave synced bytes with a checksum that does not match them.
    pub(crate) fn flush(&self, io: &mut Io, all: bool) -> StoreResult<()> {
        let files = self.files()?;
        let Some(piece) = io.chunks.piece(all) else { return Ok(()) };
        let disk = &self.volume.disk;
        let chunk = piece.data_offset - piece.data_offset % io.chunks.chunk();
        let guarded = chunk < io.guarded_to;
        let data = disk.write_all_at(&files.data, &piece.data, piece.data_offset);
        data.inspect_err(|error| self.fail_write(error))?;
        if guarded {
            self.sync_data(&files)?;
        }
        let sums = disk.write_at(&files.meta, piece.checksums, meta::HEADER_BYTES + piece.checksums_offset);
        sums.inspect_err(|error| self.fail_write(error))?;
        let flushed = piece.data_end;
        io.chunks.flushed(flushed);
        let mut state = self.state.lock();
        state.flushed = flushed;
        state.last_checksum = io.chunks.last_checksum_at(flushed);
        Ok(())
    }

    /// Makes all bytes durable, and not the names. The caller holds `io` and has called `flush`.
    pub(crate) fn sync_files(&self, files: &Files) -> StoreResult<()> {
        let _one = self.syncing.lock();
        // A failure of an earlier sync was noted under this lock.
        self.check(None)?;
        let disk = &self.volume.disk;
        disk.sync(&files.data)
            .and_then(|()| disk.sync(&files.meta))
            .inspect_err(|error| self.fail_sync(error))?;
        let mut state = self.state.lock();
        (state.synced, state.synced_checksum) = (state.flushed, state.last_checksum);
        Ok(())
    }

    pub(crate) fn sync_data(&self, files: &Files) -> StoreResult<()> {
        let _one = self.syncing.lock();
        self.check(None)?;
        self.volume.disk.sync(&files.data).inspect_err(|error| self.fail_sync(error))
    }

    /// Syncs the data file alone, to have less to do at the end.
    pub(crate) fn write_back(&self) {
        let Ok(files) = self.files() else { return };
        if let Err(error) = self.sync_data(&files) {
            tracing::warn!(block = %self.id, %error, "early write-back failed");
        }
    }

    /// Gives the room back that was kept for it.
    pub(crate) fn release_room(&self) {
        let kept = std::mem::take(&mut self.state.lock().kept);
        self.volume.give_back_room(kept);
    }

    /// Less room is needed once bytes are on disk.
    pub(crate) fn use_room(&self, bytes: u64) {
        let used = {
            let mut state = self.state.lock();
            let used = bytes.min(state.kept);
            state.kept -= used;
            used
        };
        self.volume.give_back_room(used);
    }
}
