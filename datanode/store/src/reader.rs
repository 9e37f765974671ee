//! Reading a replica.
use crate::{Block, StoreResult};
use std::fs::File;
use std::sync::Arc;
use steadfs_common::{ChecksumSpec, StorageId};

/// An open replica, finalized or being written. It goes on reading what it opened even if the replica is deleted.
#[derive(Debug)]
pub struct ReplicaReader {
    pub(crate) block: Block,
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
        todo!()
    }

    /// The checksums that are stored with it.
    #[must_use]
    pub fn spec(&self) -> ChecksumSpec {
        todo!()
    }

    /// Whether it is finalized: only then may descriptors leave the process.
    #[must_use]
    pub fn is_finalized(&self) -> bool {
        todo!()
    }

    /// The block file. Byte n of the block is byte n of the file. Read with explicit offsets only (`pread`, `sendfile`
    /// with an offset): the descriptor is shared.
    #[must_use]
    pub fn data(&self) -> &Arc<File> {
        todo!()
    }

    /// The checksum file: a header of 7 bytes, then a big-endian checksum a chunk.
    #[must_use]
    pub fn checksum_file(&self) -> &Arc<File> {
        todo!()
    }

    /// Where reading must stop so that checksums cover what is sent, if a reader wants bytes up to `end`: the end of the
    /// chunk that holds byte `end - 1`, or the end of what is on disk. May lie past `block().len` by less than a chunk.
    #[must_use]
    pub fn covered_end(&self, _end: u64) -> u64 {
        todo!()
    }

    /// Reads bytes of the block at `offset`.
    ///
    /// # Errors
    /// The disk, or a file that is shorter than it should be; the volume is looked at.
    pub fn read_data(&self, _offset: u64, _buffer: &mut [u8]) -> StoreResult<()> {
        todo!()
    }

    /// Appends to `out` the checksums of the bytes from `start` (a chunk's start) to `end` (as [`Self::covered_end`] gives it).
    /// Right also while the last chunk is being written. Nothing for checksums of kind NULL.
    ///
    /// # Errors
    /// The disk, or a file that is shorter than it should be; the volume is looked at.
    pub fn read_checksums(&self, _start: u64, _end: u64, _out: &mut Vec<u8>) -> StoreResult<()> {
        todo!()
    }

    /// Reads all bytes from `start` to `end` and compares them with their checksums, for checksums of blocks and before a
    /// descriptor is handed out.
    ///
    /// # Errors
    /// [`crate::StoreError::Checksum`] where they differ.
    pub fn verify(&self, _start: u64, _end: u64) -> StoreResult<()> {
        todo!()
    }

    /// Tells the store that bytes of this replica were found not to match their checksum: it checks for itself, and
    /// reports the replica as bad if it is so.
    pub fn suspect(&self) {
        todo!()
    }
}
