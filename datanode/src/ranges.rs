//! Bytes of a replica with checksums that cover exactly them.

use steadfs_common::ChecksumKind;
use steadfs_datanode_store::{ReplicaReader, StoreError, StoreResult};

/// Appends the checksums of the bytes from `start` (a chunk's start) to `end`. Where `end` cuts a chunk short of what its
/// stored checksum covers, that chunk is read, compared, and its beginning summed anew.
///
/// # Errors
/// The disk, or a chunk that does not match its checksum.
pub(crate) fn read_exact_checksums(
    reader: &ReplicaReader,
    start: u64,
    end: u64,
    out: &mut Vec<u8>,
) -> StoreResult<()> {
    let covered = reader.covered_end(end);
    if covered == end || reader.spec().kind == ChecksumKind::Null {
        return reader.read_checksums(start, end, out);
    }
    let last_chunk = end - end % u64::from(reader.spec().bytes_per_checksum);
    if last_chunk > start {
        reader.read_checksums(start, last_chunk, out)?;
    }
    let mut data = vec![0; (covered - last_chunk) as usize];
    reader.read_data(last_chunk, &mut data)?;
    let mut stored = Vec::new();
    reader.read_checksums(last_chunk, covered, &mut stored)?;
    check(reader, last_chunk, &data, &stored)?;
    reader.spec().append_checksums(&data[..(end - last_chunk) as usize], out);
    Ok(())
}

/// Compares bytes that were read at `start` with their checksums; a replica that fails is looked at by the store.
///
/// # Errors
/// [`StoreError::Checksum`].
pub(crate) fn check(reader: &ReplicaReader, start: u64, data: &[u8], checksums: &[u8]) -> StoreResult<()> {
    reader.spec().verify(data, checksums).map_err(|at| {
        reader.suspect();
        StoreError::Checksum { block: reader.block().id, offset: start + at as u64 }
    })
}
