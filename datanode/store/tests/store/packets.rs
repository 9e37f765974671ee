//! Packets as they come: in many pieces, and verified already.

use bytes::Bytes;
use steadfs_common::{BlockId, ChecksumKind, ChecksumSpec};
use steadfs_datanode_store::{ReplicaWriter, StoreError, StoreResult};

use crate::fixture::*;

fn write_as(
    writer: &ReplicaWriter,
    offset: u64,
    data: &[u8],
    sums: &[u8],
    verified: Option<ChecksumSpec>,
) -> StoreResult<u64> {
    writer.write_verified(offset, Bytes::copy_from_slice(data), sums, verified)
}

#[test]
fn bytes_in_many_pieces_arrive_as_they_were_sent() {
    let fixture = Fixture::new(1);
    let writer = fixture.store().create_rbw(create(BlockId(1), G1)).unwrap();
    let data = bytes(7, 700_000);
    let chunk = SPEC.bytes_per_checksum as usize;
    // Whole chunks, some ends inside one, which the next packet repeats from its start.
    let (mut at, mut step) = (0, 1);
    while at < data.len() {
        let start = at - at % chunk;
        let end = (at + step * 617).min(data.len());
        let packet = &data[start..end];
        let sums = sums(SPEC.kind, SPEC.bytes_per_checksum, start as u64, packet);
        let received = write_as(&writer, start as u64, packet, &sums, Some(SPEC)).unwrap();
        assert_eq!(received, end as u64);
        if step % 3 == 0 {
            writer.flush().unwrap();
        }
        (at, step) = (end, step % 40 + 1);
    }
    writer.finalize().unwrap();
    assert_eq!(read_all(fixture.store(), BlockId(1), G1), data);
}

#[test]
fn only_what_was_compared_with_its_own_checksums_is_not_compared_again() {
    let fixture = Fixture::new(1);
    let writer = fixture.store().create_rbw(create(BlockId(1), G1)).unwrap();
    let data = bytes(9, SPEC.bytes_per_checksum as usize * 2);
    let good = sums(SPEC.kind, SPEC.bytes_per_checksum, 0, &data);
    let mut bad = good.clone();
    bad[0] ^= 1;
    let other = ChecksumSpec { kind: ChecksumKind::Crc32, ..SPEC };
    let wider = ChecksumSpec { bytes_per_checksum: SPEC.bytes_per_checksum * 2, ..SPEC };
    for verified in [None, Some(other), Some(wider)] {
        let refused = write_as(&writer, 0, &data, &bad, verified);
        assert!(matches!(refused, Err(StoreError::Checksum { offset: 0, .. })), "{verified:?}: {refused:?}");
    }
    // Their number is looked at in any case.
    let short = write_as(&writer, 0, &data, &good[..4], Some(SPEC));
    assert!(matches!(short, Err(StoreError::Packet { .. })), "{short:?}");
    assert_eq!(writer.block().len, 0);
    write_as(&writer, 0, &data, &good, Some(SPEC)).unwrap();
    writer.finalize().unwrap();
    assert_eq!(read_all(fixture.store(), BlockId(1), G1), data);
}
