//! Writing a replica.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use steadfs_common::{ChecksumKind, ChecksumSpec, StorageId};

use crate::core::Core;
use crate::replica::{Io, OpenReplica};
use crate::{Block, ChangeKind, ReplicaState, StoreError, StoreResult};

/// After so many bytes given to the operating system their write-back begins, so that the sync at the end is short.
const WRITE_BACK_BYTES: u64 = 16 << 20;

/// The right to write one replica. Methods take `&self`: one task may write while another tells what was acknowledged. When
/// somebody else takes the replica over (a pipeline's recovery, a block recovery, a deletion) every call fails with
/// [`StoreError::Superseded`]. Dropped without [`Self::finalize`], a replica being written stays as it is and
/// waits for a recovery; a temporary one is removed.
pub struct ReplicaWriter {
    core: Arc<Core>,
    replica: Arc<OpenReplica>,
    owner: u64,
    storage: StorageId,
    /// The checksums stored, and the kind that packets have.
    spec: ChecksumSpec,
    packets: ChecksumKind,
}

impl fmt::Debug for ReplicaWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaWriter").field("block", &self.block()).finish_non_exhaustive()
    }
}

impl ReplicaWriter {
    pub(crate) fn new(core: Arc<Core>, replica: Arc<OpenReplica>, packets: ChecksumKind) -> Self {
        let state = replica.state.lock();
        let (owner, spec) = (state.owner, state.spec);
        drop(state);
        let storage = replica.volume.storage;
        Self { core, replica, owner, storage, spec, packets }
    }

    /// Id, stamp and bytes received so far.
    #[must_use]
    pub fn block(&self) -> Block {
        self.replica.block()
    }

    /// Where it lies.
    #[must_use]
    pub fn storage(&self) -> StorageId {
        self.storage
    }

    /// The checksums that are stored with it (those of a packet may be of another kind).
    #[must_use]
    pub fn spec(&self) -> ChecksumSpec {
        self.spec
    }

    /// Runs `action` as the only one who touches the files, if this writer still may.
    fn with_io<T>(&self, action: impl FnOnce(&mut Io) -> StoreResult<T>) -> StoreResult<T> {
        let mut io = self.replica.io.lock();
        self.replica.check(Some(self.owner))?;
        let result = action(&mut io);
        drop(io);
        self.core.watch(&self.replica.volume, result)
    }

    /// Takes a packet's data, which begins at byte `offset` of the block, and its checksums (of the kind that the writer was
    /// opened for). Everything is verified first; on an error nothing of the packet is kept. Rewriting the last, partial
    /// chunk and repeating what is there is fine if the bytes are the same. Bytes are handed to the operating system in
    /// large pieces, at the latest when a packet ends inside a chunk, and by [`Self::flush`]. Gives the bytes received.
    ///
    /// # Errors
    /// Checksum, a gap, a superseded writer, the disk.
    pub fn write(&self, offset: u64, data: &[u8], checksums: &[u8]) -> StoreResult<u64> {
        self.write_verified(offset, Bytes::copy_from_slice(data), checksums, None)
    }

    /// As [`Self::write`] without copying the data. `verified`: which checksums the caller has found to be those of the data,
    /// one for each chunk of the block that the packet touches; if these are the packet's, they are not compared again.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_verified(
        &self,
        offset: u64,
        data: Bytes,
        checksums: &[u8],
        verified: Option<ChecksumSpec>,
    ) -> StoreResult<u64> {
        self.with_io(|io| {
            let received = io.chunks.accept(self.packets, offset, data, checksums, verified)?;
            self.replica.state.lock().received = received;
            let inside_a_chunk = received % u64::from(self.spec.bytes_per_checksum) != 0;
            self.flush_io(io, inside_a_chunk)?;
            Ok(received)
        })
    }

    fn flush_io(&self, io: &mut Io, all: bool) -> StoreResult<()> {
        self.replica.flush(io, all)?;
        self.core.recount(&self.replica);
        let flushed = self.replica.state.lock().flushed;
        if flushed.saturating_sub(io.written_back) >= WRITE_BACK_BYTES {
            io.written_back = flushed;
            let replica = self.replica.clone();
            // Not done if the thread is busy: then the sync at the end does it all.
            let _ = self.replica.volume.worker.offer(move || replica.write_back());
        }
        Ok(())
    }

    /// Bytes that the whole pipeline from here on has: readers may see so much. Never goes back. Does not block.
    pub fn set_acked(&self, bytes: u64) {
        let mut state = self.replica.state.lock();
        if state.owner == self.owner && !state.gone {
            state.acked = bytes.min(state.received).max(state.acked);
        }
    }

    /// Hands everything received to the operating system: then only the machine's crash can lose it.
    ///
    /// # Errors
    /// A superseded writer, the disk.
    pub fn flush(&self) -> StoreResult<()> {
        self.with_io(|io| self.flush_io(io, true))
    }

    /// Returns when everything received is on disk (`hsync`).
    ///
    /// # Errors
    /// A superseded writer, the disk. After a failed sync the replica takes nothing more.
    pub fn sync(&self) -> StoreResult<()> {
        self.with_io(|io| {
            self.flush_io(io, true)?;
            self.replica.sync_files(&self.replica.files()?)?;
            if io.names_unsynced {
                let place = self.replica.state.lock().place();
                let synced = self.replica.volume.sync_folder(place, self.replica.id);
                synced.inspect_err(|error| self.replica.give_up(error))?;
                io.names_unsynced = false;
            }
            io.synced();
            Ok(())
        })
    }

    /// Syncs, and makes the replica finalized, durably. The listener hears of it.
    ///
    /// # Errors
    /// A superseded writer, the disk.
    pub fn finalize(&self) -> StoreResult<Block> {
        self.with_io(|io| self.core.finish(&self.replica, io))
    }

    /// Makes a temporary replica one that is being written, durably and with all its bytes acknowledged: the end of a
    /// TRANSFER_RBW.
    ///
    /// # Errors
    /// A superseded writer, a replica that is not temporary, the disk.
    pub fn convert_to_rbw(&self) -> StoreResult<Block> {
        self.with_io(|io| {
            let role = self.replica.state.lock().role;
            if role != ReplicaState::Temporary {
                let why = format!("it is {} and not TEMPORARY", role.name());
                return Err(StoreError::not_found(self.replica.id, why));
            }
            let moved = self.core.move_to_rbw(&self.replica, io);
            if let Err(error) = &moved {
                self.replica.fail(error);
            }
            moved?;
            let block = self.replica.block();
            self.core.tell(&self.replica.volume, block, ChangeKind::Receiving);
            Ok(block)
        })
    }
}

impl Drop for ReplicaWriter {
    fn drop(&mut self) {
        let temporary = {
            let state = self.replica.state.lock();
            if state.gone || state.owner != self.owner {
                return;
            }
            state.role == ReplicaState::Temporary
        };
        let (core, replica, owner) = (self.core.clone(), self.replica.clone(), self.owner);
        let offered = self.replica.volume.worker.offer(move || {
            if temporary {
                core.discard(&replica, owner);
            } else {
                let mut io = replica.io.lock();
                if replica.check(Some(owner)).is_ok() {
                    let flushed = replica.flush(&mut io, true);
                    drop(io);
                    // The error was noted in the replica; here only the volume matters.
                    let _ = core.watch(&replica.volume, flushed);
                }
            }
        });
        // If the thread is busy: the next reader or recovery flushes, but nobody else gives back the room of a temporary one.
        if let Err(job) = offered
            && temporary
        {
            job();
        }
    }
}
