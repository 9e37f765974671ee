//! Every change of state, and what is refused.

use std::os::unix::fs::FileExt;

use steadfs_common::{BlockId, ChecksumKind, ChecksumSpec, FsErrorKind, GenStamp};
use steadfs_datanode_store::{ChangeKind, CreateOptions, ReplicaState, StoreError, StoreResult};

use crate::fixture::*;

fn kind<T: std::fmt::Debug>(result: StoreResult<T>) -> FsErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn a_replica_is_written_read_and_finalized() {
    let fixture = Fixture::new(1);
    let store = fixture.store();
    let writer = store.create_rbw(create(ID, G1)).unwrap();
    let data = bytes(1, 1_300);
    assert_eq!(write(&writer, 0, &data[..700]).unwrap(), 700);
    assert_eq!(store.visible_length(ID, G1).unwrap(), 0);
    writer.set_acked(600);
    writer.set_acked(500);
    assert_eq!(store.visible_length(ID, G1).unwrap(), 600);
    assert_eq!(read_all(store, ID, G1), data[..600]);
    let early = store.open_for_read(ID, G1).unwrap();
    // The partial chunk once more, with more bytes.
    assert_eq!(write(&writer, 512, &data[512..]).unwrap(), 1_300);
    assert_eq!(read(&early, 0, 600), data[..600], "with the checksum of the chunk as it was");
    assert_eq!(store.status(ID).unwrap().state, ReplicaState::Rbw);
    let finalized = writer.finalize().unwrap();
    assert_eq!(finalized, block(ID, G1, 1_300));
    assert_eq!(store.status(ID).unwrap().state, ReplicaState::Finalized);
    assert_eq!(read_all(store, ID, G1), data);
    assert!(matches!(writer.flush(), Err(StoreError::Superseded { .. })));
    let heard = fixture.heard.changes.lock().clone();
    assert_eq!(heard, [(ChangeKind::Receiving, block(ID, G1, 0)), (ChangeKind::Received, finalized)]);
    assert!(fixture.file("blk_1073741825").ends_with("finalized/subdir0/subdir0/blk_1073741825"));
    let meta = std::fs::read(fixture.file("blk_1073741825_1001.meta")).unwrap();
    assert_eq!(meta[..7], [0, 1, 2, 0, 0, 2, 0]);
    assert_eq!(meta[7..], sums(SPEC.kind, 512, 0, &data));
}

#[test]
fn an_empty_block_is_finalized() {
    let mut fixture = Fixture::new(1);
    fixture.finalized(ID, G1, 0);
    fixture.restart();
    assert_eq!(read_all(fixture.store(), ID, G1), b"");
}

#[test]
fn bad_packets_are_refused_and_nothing_of_them_is_kept() {
    let fixture = Fixture::new(1);
    let writer = fixture.store().create_rbw(create(ID, G1)).unwrap();
    let data = bytes(1, 2_000);
    write(&writer, 0, &data[..700]).unwrap();
    let mut wrong = sums(SPEC.kind, 512, 512, &data[512..1_600]);
    wrong[5] ^= 1;
    assert!(matches!(
        writer.write(512, &data[512..1_600], &wrong),
        Err(StoreError::Checksum { offset: 1_024, .. })
    ));
    assert_eq!(
        kind(writer.write(512, &data[512..1_600], &wrong[..8])),
        FsErrorKind::InvalidRequest,
        "too few checksums"
    );
    assert_eq!(kind(write(&writer, 1_024, &data[1_024..])), FsErrorKind::InvalidRequest, "a gap");
    assert_eq!(kind(write(&writer, u64::MAX, &data)), FsErrorKind::InvalidRequest, "overflow");
    let mut other = data.clone();
    other[600] ^= 1;
    assert_eq!(kind(write(&writer, 512, &other[512..])), FsErrorKind::InvalidRequest, "other bytes");
    assert_eq!(writer.block().len, 700);
    write(&writer, 512, &data[512..]).unwrap();
    assert_eq!(write(&writer, 0, &data[..512]).unwrap(), 2_000, "a repetition is fine");
    writer.finalize().unwrap();
    assert_eq!(read_all(fixture.store(), ID, G1), data);
}

#[test]
fn a_block_is_created_once_and_newer_lives_replace_older_ones() {
    let fixture = Fixture::new(2);
    let store = fixture.store();
    let first = store.create_rbw(create(ID, G2)).unwrap();
    assert_eq!(kind(store.create_rbw(create(ID, G2))), FsErrorKind::AlreadyExists);
    assert_eq!(kind(store.create_temporary(create(ID, G1))), FsErrorKind::AlreadyExists);
    let second = store.create_rbw(create(ID, G3)).unwrap();
    assert!(matches!(write(&first, 0, b"x"), Err(StoreError::Superseded { .. })));
    write(&second, 0, b"x").unwrap();
    second.finalize().unwrap();
    assert_eq!(kind(store.create_rbw(create(ID, G3))), FsErrorKind::AlreadyExists);
    let third = store.create_temporary(create(ID, GenStamp(2_000))).unwrap();
    assert_eq!(third.block().stamp, GenStamp(2_000));
}

#[test]
fn temporary_replicas_are_seen_by_nobody_until_they_are_done() {
    let mut fixture = Fixture::new(1);
    let store = fixture.store().clone();
    let broken = store.create_temporary(create(ID, G1)).unwrap();
    write(&broken, 0, b"abc").unwrap();
    assert_eq!(kind(store.open_for_read(ID, G1)), FsErrorKind::ReplicaNotFound);
    assert_eq!(kind(store.visible_length(ID, G1)), FsErrorKind::ReplicaNotFound);
    let storage = store.volumes()[0].storage;
    assert!(store.report_page(storage, None, 10).is_empty());
    let writer = store.create_temporary(create(ID, G1)).unwrap();
    assert!(matches!(write(&broken, 3, b"d"), Err(StoreError::Superseded { .. })), "replaced");
    drop(broken);
    write(&writer, 0, b"abcd").unwrap();
    writer.finalize().unwrap();
    assert_eq!(*fixture.heard.changes.lock(), [(ChangeKind::Received, block(ID, G1, 4))]);
    drop(writer);
    assert_eq!(read_all(&store, ID, G1), b"abcd");
    let left = store.create_temporary(create(ID.next(), G1)).unwrap();
    write(&left, 0, b"abcd").unwrap();
    drop(left);
    drop(store);
    fixture.restart();
    assert!(fixture.store().status(ID.next()).is_none());
    assert!(fixture.find("blk_1073741826").is_none(), "what broke off is cleared away");
}

#[test]
fn a_transferred_unfinished_replica_can_be_recovered_by_its_pipeline() {
    let fixture = Fixture::new(1);
    let store = fixture.store();
    let transfer = store.create_temporary(create(ID, G1)).unwrap();
    let data = bytes(3, 1_500);
    write(&transfer, 0, &data[..700]).unwrap();
    assert_eq!(transfer.convert_to_rbw().unwrap(), block(ID, G1, 700));
    assert!(transfer.convert_to_rbw().is_err());
    assert_eq!(store.visible_length(ID, G1).unwrap(), 700);
    let writer = store.recover_rbw(block(ID, G1, 0), G2, 700, 1_500, SPEC).unwrap();
    write(&writer, 512, &data[512..]).unwrap();
    writer.finalize().unwrap();
    assert_eq!(read_all(store, ID, G2), data);
}

#[test]
fn appending_goes_on_inside_a_chunk() {
    let fixture = Fixture::new(1);
    let store = fixture.store();
    let mut data = fixture.finalized(ID, G1, 700);
    let old_reader = store.open_for_read(ID, G1).unwrap();
    data.extend(bytes(9, 600));
    assert_eq!(
        kind(store.append(block(ID, G2, 700), G3, SPEC)),
        FsErrorKind::ReplicaNotFound,
        "another stamp"
    );
    assert_eq!(kind(store.append(block(ID, G1, 699), G2, SPEC)), FsErrorKind::Refused, "another length");
    assert_eq!(
        kind(store.append(block(ID, G2, 700), G1, SPEC)),
        FsErrorKind::ReplicaNotFound,
        "a stamp gone back"
    );
    let other = ChecksumSpec { bytes_per_checksum: 1_024, ..SPEC };
    let refused = store.append(block(ID, G1, 700), G2, other).unwrap_err();
    assert!(refused.to_string().contains("different chunk size"), "{refused}");
    let writer = store.append(block(ID, G1, 700), G2, SPEC).unwrap();
    assert_eq!(store.visible_length(ID, G1).unwrap(), 700);
    assert_eq!(
        kind(store.append(block(ID, G1, 700), G2, SPEC)),
        FsErrorKind::ReplicaNotFound,
        "not finalized"
    );
    // The first packet starts at the exact end, and its checksum covers only its own bytes.
    write(&writer, 700, &data[700..800]).unwrap();
    write(&writer, 700, &data[700..1_024]).unwrap();
    write(&writer, 1_024, &data[1_024..]).unwrap();
    writer.finalize().unwrap();
    assert_eq!(read_all(store, ID, G2), data);
    assert_eq!(kind(store.open_for_read(ID, G3)), FsErrorKind::ReplicaNotFound);
    assert_eq!(read(&old_reader, 0, 700), data[..700], "who had it open still reads right checksums");
    assert!(fixture.find("blk_1073741825_1001.meta").is_none());
}

#[test]
fn an_append_is_recovered_whether_it_had_begun_or_not() {
    let fixture = Fixture::new(1);
    let store = fixture.store();
    let data = fixture.finalized(ID, G1, 700);
    let first = store.recover_append(block(ID, G1, 700), G2, SPEC).unwrap();
    let second = store.recover_append(block(ID, G1, 700), G3, SPEC).unwrap();
    assert!(matches!(write(&first, 700, b"x"), Err(StoreError::Superseded { .. })));
    write(&second, 700, b"x").unwrap();
    assert_eq!(
        kind(store.recover_append(block(ID, G1, 700), G3, SPEC)),
        FsErrorKind::Refused,
        "it has grown"
    );
    second.finalize().unwrap();
    assert_eq!(read_all(store, ID, G3), [&data[..], b"x"].concat());
}

#[test]
fn packets_of_another_checksum_kind_are_checked_and_translated() {
    for stored in [ChecksumKind::Null, ChecksumKind::Crc32, ChecksumKind::Crc32c] {
        for sent in [ChecksumKind::Null, ChecksumKind::Crc32, ChecksumKind::Crc32c] {
            let fixture = Fixture::new(1);
            let store = fixture.store();
            let spec = ChecksumSpec { kind: stored, bytes_per_checksum: 512 };
            let data = bytes(5, 3_000);
            let writer = store.create_rbw(CreateOptions { spec, ..create(ID, G1) }).unwrap();
            writer.write(0, &data[..700], &sums(stored, 512, 0, &data[..700])).unwrap();
            writer.finalize().unwrap();
            let requested = ChecksumSpec { kind: sent, bytes_per_checksum: 512 };
            let writer = store.append(block(ID, G1, 700), G2, requested).unwrap();
            assert_eq!(writer.spec(), spec);
            let mut packet = sums(sent, 512, 700, &data[700..]);
            writer.write(700, &data[700..], &packet).unwrap();
            if let Some(byte) = packet.last_mut() {
                *byte ^= 1;
                assert_eq!(kind(writer.write(700, &data[700..], &packet)), FsErrorKind::Checksum);
            }
            writer.finalize().unwrap();
            assert_eq!(read_all(store, ID, G2), data);
            let meta = std::fs::read(fixture.file("blk_1073741825_1002.meta")).unwrap();
            assert_eq!(meta[7..], sums(stored, 512, 0, &data), "{stored:?} {sent:?}");
        }
    }
}

#[test]
fn a_pipelines_recovery_takes_the_replica_over_and_cuts_it() {
    let fixture = Fixture::new(1);
    let store = fixture.store();
    let first = store.create_rbw(create(ID, G1)).unwrap();
    let data = bytes(2, 2_000);
    write(&first, 0, &data[..1_500]).unwrap();
    first.set_acked(1_100);
    let recover = |min, max| store.recover_rbw(block(ID, G1, 0), G2, min, max, SPEC);
    assert_eq!(kind(recover(1_200, 2_000)), FsErrorKind::Refused, "more than was acknowledged");
    assert_eq!(kind(recover(1_100, 1_400)), FsErrorKind::Refused, "more was received than was sent");
    write(&first, 1_024, &data[1_024..1_510]).unwrap();
    let second = recover(1_100, 2_000).unwrap();
    assert!(matches!(first.sync(), Err(StoreError::Superseded { .. })));
    first.set_acked(1_510);
    assert_eq!(store.visible_length(ID, G2).unwrap(), 1_100);
    assert_eq!(second.block(), block(ID, G2, 1_100));
    assert_eq!(kind(store.recover_rbw(block(ID, G1, 0), G1, 0, 9_999, SPEC)), FsErrorKind::ReplicaNotFound);
    write(&second, 1_024, &data[1_024..]).unwrap();
    second.finalize().unwrap();
    assert_eq!(read_all(store, ID, G2), data);
    assert_eq!(kind(recover(0, 9_999)), FsErrorKind::ReplicaNotFound, "finalized");
}

#[test]
fn a_close_is_recovered_whether_it_had_happened_or_not() {
    let fixture = Fixture::new(1);
    let store = fixture.store();
    let writer = store.create_rbw(create(ID, G1)).unwrap();
    let data = bytes(2, 1_300);
    write(&writer, 0, &data).unwrap();
    writer.set_acked(1_300);
    assert_eq!(kind(store.recover_close(block(ID, G1, 0), G2, 1_301)), FsErrorKind::Refused);
    store.recover_close(block(ID, G1, 0), G2, 1_300).unwrap();
    assert_eq!(store.status(ID).unwrap().block, block(ID, G2, 1_300));
    assert!(matches!(writer.finalize(), Err(StoreError::Superseded { .. })));
    store.recover_close(block(ID, G1, 0), G3, 1_300).unwrap();
    store.recover_close(block(ID, G1, 0), G3, 1_300).unwrap();
    assert_eq!(read_all(store, ID, G3), data);
    assert_eq!(kind(store.recover_close(block(ID, G1, 0), G3, 1_299)), FsErrorKind::Refused);
    assert_eq!(kind(store.recover_close(block(ID, G1, 0), G2, 1_300)), FsErrorKind::ReplicaNotFound);
}

#[test]
fn deleting_leaves_open_readers_alone() {
    let fixture = Fixture::new(1);
    let store = fixture.store();
    let own = store.volumes()[0].used;
    assert!(own > 0, "the volume's own files count");
    let data = fixture.finalized(ID, G2, 5_000);
    let reader = store.open_for_read(ID, G2).unwrap();
    assert!(!store.delete(ID, G1).unwrap(), "a newer life than was asked to delete");
    assert!(store.delete(ID, G2).unwrap());
    assert!(!store.delete(ID, G2).unwrap());
    assert_eq!(read(&reader, 0, 5_000), data);
    assert!(store.status(ID).is_none());
    assert!(fixture.find("blk_1073741825").is_none());
    assert_eq!(store.volumes()[0].used, own);
    assert_eq!(fixture.heard.changes.lock().last(), Some(&(ChangeKind::Deleted, block(ID, G2, 5_000))));
    let writer = store.create_rbw(create(ID, G3)).unwrap();
    write(&writer, 0, b"abc").unwrap();
    assert!(store.delete(ID, G3).unwrap());
    assert!(matches!(writer.finalize(), Err(StoreError::Superseded { .. })));
    drop(writer);
    assert_eq!((store.volumes()[0].used, store.volumes()[0].blocks), (own, 0));
}

#[test]
fn the_namenode_hears_that_an_unfinished_replica_made_way_for_a_copy() {
    let fixture = Fixture::new(1);
    let store = fixture.store();
    let writer = store.create_rbw(create(ID, G1)).unwrap();
    write(&writer, 0, b"abc").unwrap();
    drop(writer);
    let copy = store.create_temporary(create(ID, G2)).unwrap();
    let told = fixture.heard.changes.lock().clone();
    assert_eq!(
        told,
        [(ChangeKind::Receiving, block(ID, G1, 0)), (ChangeKind::Deleted, block(ID, G1, 3))],
        "a copy that may still fail is told of when it is whole"
    );
    assert_eq!(copy.block().stamp, G2);
}

#[test]
fn rot_is_found_on_reading_and_reported() {
    let fixture = Fixture::new(1);
    let store = fixture.store();
    fixture.finalized(ID, G1, 5_000);
    let reader = store.open_for_read(ID, G1).unwrap();
    assert!(!reader.suspect());
    let path = fixture.file("blk_1073741825");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"!", 3_000).unwrap();
    assert!(matches!(reader.verify(0, 5_000), Err(StoreError::Checksum { offset: 2_560, .. })));
    assert!(reader.verify(0, 2_560).is_ok());
    assert!(fixture.heard.bad.lock().is_empty());
    assert!(reader.suspect());
    assert_eq!(*fixture.heard.bad.lock(), [block(ID, G1, 5_000)]);
    file.set_len(4_000).unwrap();
    assert_eq!(kind(store.open_for_read(ID, G1)), FsErrorKind::Io);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(kind(store.open_for_read(ID, G1)), FsErrorKind::Io);
    assert_eq!(fixture.heard.bad.lock().len(), 3);
    assert!(fixture.heard.failed.lock().is_empty(), "the volume is fine");
}

#[test]
fn rot_in_the_last_chunk_stops_an_append_and_is_reported() {
    let fixture = Fixture::new(1);
    let store = fixture.store();
    let data = fixture.finalized(ID, G1, 700);
    let path = fixture.file("blk_1073741825");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[!data[600]], 600).unwrap();
    assert_eq!(kind(store.append(block(ID, G1, 700), G2, SPEC)), FsErrorKind::Checksum);
    assert_eq!(*fixture.heard.bad.lock(), [block(ID, G1, 700)]);
    assert_eq!(store.status(ID).unwrap().state, ReplicaState::Finalized, "it is as it was");
}

#[test]
fn large_writes_go_in_pieces_and_are_read_while_written() {
    let fixture = Fixture::new(1);
    let store = fixture.store();
    let writer = store.create_rbw(create(ID, G1)).unwrap();
    let data = bytes(4, 20 << 20);
    let path = fixture.file("blk_1073741825");
    let mut flushed = 0;
    for (index, packet) in data.chunks(64_512).enumerate() {
        let offset = index as u64 * 64_512;
        let received = write(&writer, offset, packet).unwrap();
        let on_disk = std::fs::metadata(&path).unwrap().len();
        assert!(on_disk == flushed || on_disk.is_multiple_of(256 << 10), "{on_disk} of {received}");
        writer.set_acked(received);
        if index % 100 == 99 {
            let reader = store.open_for_read(ID, G1).unwrap();
            assert_eq!(reader.block().len, received);
            assert_eq!(read(&reader, offset, received), *packet);
            flushed = received;
        }
    }
    writer.finalize().unwrap();
    assert!(read_all(store, ID, G1) == data);
    store.open_for_read(ID, G1).unwrap().verify(0, u64::MAX).unwrap();
}

#[test]
fn reports_are_in_order_and_paged() {
    let fixture = Fixture::new(2);
    let store = fixture.store();
    for id in [5_u64, 900, 70_000, 3, 256, 17] {
        fixture.finalized(BlockId(id), G1, id as usize % 300);
    }
    let open = store.create_rbw(create(BlockId(4), G1)).unwrap();
    write(&open, 0, b"abcd").unwrap();
    let mut seen = Vec::new();
    for volume in store.volumes() {
        let mut after = None;
        loop {
            let page = store.report_page(volume.storage, after, 2);
            let Some(last) = page.last() else { break };
            assert!(page.len() <= 2 && page.iter().all(|replica| replica.storage == volume.storage));
            assert!(page.is_sorted_by_key(|replica| replica.block.id) && Some(page[0].block.id) > after);
            after = Some(last.block.id);
            seen.extend(page.iter().map(|replica| (replica.block.id.0, replica.state)));
        }
    }
    seen.sort_by_key(|(id, _)| *id);
    let ids: Vec<_> = seen.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [3, 4, 5, 17, 256, 900, 70_000]);
    assert_eq!(seen[1].1, ReplicaState::Rbw);
}

#[test]
fn volumes_fill_evenly_and_full_ones_are_refused() {
    let fixture = Fixture::new(2);
    let store = fixture.store();
    let volumes = store.volumes();
    let half = volumes[0].remaining.min(volumes[1].remaining) / 2;
    let wanted = |id, len, storage| CreateOptions { block: block(BlockId(id), G1, len), storage, spec: SPEC };
    let a = store.create_rbw(wanted(1, half, Some(volumes[1].storage))).unwrap();
    assert_eq!(a.storage(), volumes[1].storage, "as the namenode chose");
    let b = store.create_rbw(wanted(2, half, None)).unwrap();
    assert_eq!(b.storage(), volumes[0].storage, "room was kept on the other");
    let full = store.create_rbw(wanted(3, 1 << 40, None)).unwrap_err();
    assert!(matches!(full, StoreError::Full { .. }) && full.kind() == FsErrorKind::NoSpace, "{full}");
    assert_eq!(kind(store.create_rbw(wanted(3, u64::MAX, None))), FsErrorKind::Refused);
}
