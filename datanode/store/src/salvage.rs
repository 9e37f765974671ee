//! What can be used of a replica that failed: a recovery needs what was acknowledged, and that may lie nowhere else.

use steadfs_common::{ChecksumKind, ChecksumSpec};

use crate::chunks::Chunks;
use crate::core::Core;
use crate::replica::{Files, Io, OpenReplica, Salvage, State};
use crate::{ReplicaState, StoreResult, meta};

/// Bytes read, verified and written again at a time.
const STEP_BYTES: u64 = 1 << 20;

impl Core {
    /// A replica that failed takes part in recoveries again, if it can. The caller holds `io`.
    ///
    /// # Errors
    /// The disk, or the end does not match its checksum: the replica stays failed. For want of room it is tried again the next
    /// time.
    pub(crate) fn salvage(&self, open: &OpenReplica, io: &mut Io) -> StoreResult<()> {
        let (how, finalized) = {
            let mut state = open.state.lock();
            let known = state.effective() != ReplicaState::Temporary && !state.gone;
            match state.salvage.take() {
                Some(how) if known => (how, state.effective() == ReplicaState::Finalized),
                _ => return Ok(()),
            }
        };
        let salvaged = self.bring_home(open).and_then(|()| match finalized {
            // Its bytes were synced before it was finalized, and have not changed since.
            true => {
                open.state.lock().failed = None;
                Ok(())
            }
            false => self.salvage_written(open, io, how),
        });
        salvaged.inspect_err(|error| {
            if error.is_shortage() {
                open.state.lock().salvage.get_or_insert(how);
            }
        })
    }

    /// One that was being written counts as one that waits, since it may lack bytes that were acknowledged.
    ///
    /// If a write failed, it has what had been written before. If a sync did, the bytes that had been synced are certain; the
    /// others are read, compared with their checksums and written again, so that the sync which ends the recovery tells the
    /// truth about them. That is tried once: if a sync fails again, only what was synced counts.
    fn salvage_written(&self, open: &OpenReplica, io: &mut Io, how: Salvage) -> StoreResult<()> {
        if how == Salvage::Unsynced {
            // What it had received was not at fault. If it cannot be written, it is not counted.
            let _ = open.flush(io, true);
        }
        let before = open.state.lock().clone();
        let (len, partial) = self.salvage_files(open, &before, how)?;
        io.chunks = Chunks::new(open.id, before.spec, len);
        io.chunks.resume(partial);
        io.written_back = io.written_back.min(len);
        let mut state = open.state.lock();
        if state.role != ReplicaState::Rur {
            state.role = ReplicaState::Rwr;
            state.owner += 1;
        }
        state.before = ReplicaState::Rwr;
        (state.received, state.flushed) = (len, len);
        state.acked = state.acked.min(len);
        state.last_checksum = io.chunks.last_checksum_at(len);
        state.rewritten |= how == Salvage::Unsynced;
        state.failed = None;
        drop(state);
        self.recount(open);
        open.release_room();
        tracing::warn!(
            block = %open.id, why = ?before.failed, len, had = before.received, synced = before.synced,
            "a replica that had failed is used for a recovery"
        );
        Ok(())
    }

    /// Brings the files to what can be used. Gives its length, and the bytes of the chunk that it ends in.
    fn salvage_files(&self, open: &OpenReplica, before: &State, how: Salvage) -> StoreResult<(u64, Vec<u8>)> {
        let (files, spec) = (open.files()?, before.spec);
        let synced = (before.synced, before.synced_checksum);
        // Without checksums nothing tells whether what is read is what was written.
        let again = !before.rewritten && spec.kind != ChecksumKind::Null;
        let mut end = match how {
            Salvage::Unsynced if !again => synced,
            _ => (before.flushed, before.last_checksum),
        };
        self.end_files_at(open, &files, before, end)?;
        if how == Salvage::Unsynced && again {
            let good = self.write_again(open, &files, spec, before.synced, before.flushed)?;
            if good < before.flushed {
                end = if good <= before.synced { synced } else { (good, None) };
                self.end_files_at(open, &files, before, end)?;
            }
        }
        Ok((end.0, self.partial_chunk(open, &files, spec, end.0, end.0)?))
    }

    /// Cuts both files to a length. A part of what came after it may have replaced the checksum of the chunk in which it lies.
    fn end_files_at(
        &self,
        open: &OpenReplica,
        files: &Files,
        before: &State,
        (len, sum): (u64, Option<[u8; 4]>),
    ) -> StoreResult<()> {
        let (disk, spec) = (&open.volume.disk, before.spec);
        if let Some(sum) = sum {
            disk.write_at(&files.meta, &sum, meta::file_len(spec, len) - sum.len() as u64)?;
            if len < before.flushed {
                // On disk before the bytes go that the one before it covers.
                disk.sync(&files.meta)?;
            }
        }
        disk.truncate(&files.data, len)?;
        disk.truncate(&files.meta, meta::file_len(spec, len))
    }

    /// Writes what is there from the chunk of `from` on up to `to` once more, as far as it matches its checksums. Gives how far
    /// that is.
    fn write_again(
        &self,
        open: &OpenReplica,
        files: &Files,
        spec: ChecksumSpec,
        from: u64,
        to: u64,
    ) -> StoreResult<u64> {
        let (disk, chunk) = (&open.volume.disk, u64::from(spec.bytes_per_checksum));
        let step = STEP_BYTES.next_multiple_of(chunk);
        let mut at = from - from % chunk;
        while at < to {
            let end = (at + step).min(to);
            let sums_at = meta::HEADER_BYTES + spec.checksum_bytes(at);
            let (mut bytes, mut sums) =
                (vec![0; (end - at) as usize], vec![0; spec.checksum_bytes(end - at) as usize]);
            let read = disk
                .read_at(&files.data, &mut bytes, at)
                .and_then(|()| disk.read_at(&files.meta, &mut sums, sums_at));
            if let Err(error) = read {
                tracing::warn!(block = %open.id, %error, at, "what was not synced cannot be read");
                return Ok(at);
            }
            if let Err(bad) = spec.verify(&bytes, &sums) {
                bytes.truncate(bad);
                sums.truncate(spec.checksum_bytes(bad as u64) as usize);
            }
            disk.write_at(&files.data, &bytes, at)?;
            disk.write_at(&files.meta, &sums, sums_at)?;
            at += bytes.len() as u64;
            if at < end {
                return Ok(at);
            }
        }
        Ok(to)
    }
}
