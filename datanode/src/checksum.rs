//! `BLOCK_CHECKSUM`: the checksum of a replica, made from the checksums that are stored with it.

use std::sync::Arc;

use bytes::Bytes;
use md5::{Digest, Md5};
use steadfs_common::ChecksumKind;
use steadfs_datanode_store::{ReplicaReader, StoreResult};
use steadfs_wire::transfer::{BlockChecksum, BlockChecksumKind, BlockChecksumReply, OpResponse, Status};

use crate::disks::Seat;
use crate::node::Node;
use crate::ranges::read_exact_checksums;
use crate::transfer::{Refusal, check_pool, seat_at};

/// Chunks whose checksums are read at once.
const CHUNKS_PER_STEP: u64 = 256 << 10;

/// The answer to a `BLOCK_CHECKSUM`.
pub(crate) async fn answer(node: &Arc<Node>, seat: &Seat, request: BlockChecksum) -> OpResponse {
    match try_answer(node, seat, request).await {
        Ok(reply) => OpResponse { block_checksum: Some(reply), ..OpResponse::new(Status::Success) },
        Err(refusal) => refusal.answer(),
    }
}

async fn try_answer(
    node: &Arc<Node>,
    seat: &Seat,
    request: BlockChecksum,
) -> Result<BlockChecksumReply, Refusal> {
    check_pool(node, &request.block)?;
    let store = node.store.clone();
    let disk = seat_at(node, seat, request.block.id)?;
    let computed = disk.run(move || {
        let reader = store.open_for_read(request.block.id, request.block.stamp)?;
        compute(&reader, request.kind, request.block.length)
    });
    computed.await?.ok_or_else(|| {
        let text = "the replica has no checksums (type NULL) to compose a checksum from";
        Refusal::new(Status::ErrorUnsupported, text)
    })
}

/// Checksum of the first `wanted` bytes, or of all if there are fewer. `None` where there is nothing to compose.
fn compute(
    reader: &ReplicaReader,
    kind: BlockChecksumKind,
    wanted: u64,
) -> StoreResult<Option<BlockChecksumReply>> {
    let (len, spec) = (reader.block().len, reader.spec());
    let checksum = match kind {
        BlockChecksumKind::Md5Crc => md5_of_checksums(reader, wanted.min(len))?,
        BlockChecksumKind::CompositeCrc if spec.kind == ChecksumKind::Null => return Ok(None),
        BlockChecksumKind::CompositeCrc => composed(reader, wanted.min(len))?,
    };
    let crc_per_block = if spec.kind == ChecksumKind::Null { 0 } else { spec.chunks(len) };
    Ok(Some(BlockChecksumReply { spec, crc_per_block, checksum, kind }))
}

/// Calls `each` with the checksums of the bytes from 0 to `end`, some chunks at a time, and the offset behind them.
fn each_step(reader: &ReplicaReader, end: u64, mut each: impl FnMut(&[u8], u64)) -> StoreResult<()> {
    let step = CHUNKS_PER_STEP * u64::from(reader.spec().bytes_per_checksum);
    let (mut start, mut sums) = (0, Vec::new());
    while start < end {
        let stop = end.min(start + step);
        sums.clear();
        read_exact_checksums(reader, start, stop, &mut sums)?;
        each(&sums, stop);
        start = stop;
    }
    Ok(())
}

fn md5_of_checksums(reader: &ReplicaReader, end: u64) -> StoreResult<Bytes> {
    let mut digest = Md5::new();
    each_step(reader, end, |sums, _| digest.update(sums))?;
    Ok(Bytes::copy_from_slice(&digest.finalize()))
}

fn composed(reader: &ReplicaReader, end: u64) -> StoreResult<Bytes> {
    let spec = reader.spec();
    let chunk = u64::from(spec.bytes_per_checksum);
    let (whole, last) = (spec.kind.power(chunk), spec.kind.power(end % chunk));
    let mut total = 0;
    each_step(reader, end, |sums, stop| {
        // Only the last chunk of all can be short.
        let full = if stop.is_multiple_of(chunk) { sums.len() } else { sums.len().saturating_sub(4) };
        for (index, sum) in sums.chunks_exact(4).enumerate() {
            let sum = u32::from_be_bytes(sum.try_into().expect("a chunk of four bytes"));
            total = spec.kind.compose(total, sum, if index * 4 < full { whole } else { last });
        }
    })?;
    Ok(Bytes::copy_from_slice(&total.to_be_bytes()))
}
