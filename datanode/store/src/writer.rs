//! Writing a replica.
use crate::{Block, StoreResult};
use steadfs_common::{ChecksumSpec, StorageId};

/// The right to write one replica. Methods take `&self`: one task may write while another tells what was acknowledged. When
/// somebody else takes the replica over (a pipeline's recovery, a block recovery, a deletion) every call fails with
/// [`crate::StoreError::Superseded`]. Dropped without [`Self::finalize`], a replica being written stays as it is and
/// waits for a recovery; a temporary one is removed.
#[derive(Debug)]
pub struct ReplicaWriter {}

impl ReplicaWriter {
    /// Id, stamp and bytes received so far.
    #[must_use]
    pub fn block(&self) -> Block {
        todo!()
    }

    /// Where it lies.
    #[must_use]
    pub fn storage(&self) -> StorageId {
        todo!()
    }

    /// The checksums that are stored with it (those of a packet may be of another kind).
    #[must_use]
    pub fn spec(&self) -> ChecksumSpec {
        todo!()
    }

    /// Takes a packet's data, which begins at byte `offset` of the block, and its checksums (of the kind that the writer was
    /// opened for). Everything is verified first; on an error nothing of the packet is kept. Rewriting the last, partial
    /// chunk and repeating what is there is fine if the bytes are the same. Bytes are handed to the operating system in
    /// large pieces, at the latest when a packet ends inside a chunk, and by [`Self::flush`]. Gives the bytes received.
    ///
    /// # Errors
    /// Checksum, a gap, a superseded writer, the disk.
    pub fn write(&self, _offset: u64, _data: &[u8], _checksums: &[u8]) -> StoreResult<u64> {
        todo!()
    }

    /// Bytes that the whole pipeline from here on has: readers may see so much. Never goes back. Does not block.
    pub fn set_acked(&self, _bytes: u64) {
        todo!()
    }

    /// Hands everything received to the operating system: then only the machine's crash can lose it.
    ///
    /// # Errors
    /// A superseded writer, the disk.
    pub fn flush(&self) -> StoreResult<()> {
        todo!()
    }

    /// Returns when everything received is on disk (`hsync`).
    ///
    /// # Errors
    /// A superseded writer, the disk. After a failed sync the replica takes nothing more.
    pub fn sync(&self) -> StoreResult<()> {
        todo!()
    }

    /// Syncs, and makes the replica finalized, durably. The listener hears of it.
    ///
    /// # Errors
    /// A superseded writer, the disk.
    pub fn finalize(&self) -> StoreResult<Block> {
        todo!()
    }

    /// Makes a temporary replica one that is being written, all its bytes acknowledged: the end of a TRANSFER_RBW.
    ///
    /// # Errors
    /// A superseded writer, the disk.
    pub fn convert_to_rbw(&self) -> StoreResult<Block> {
        todo!()
    }
}
