//! What somebody does to the files behind our back, and what is known of replicas that are bad.

use std::fs;

use steadfs_common::{BlockId, StorageId};
use steadfs_datanode_store::{ChangeKind, CreateOptions, Differences, Store};

use crate::fixture::*;

/// Compares all folders of a volume.
fn compare(store: &Store, storage: StorageId) -> Differences {
    let mut sum = Differences::default();
    for number in 0..Store::folders() {
        sum.add(&store.compare_folder(storage, number).unwrap());
    }
    sum
}

fn storage(fixture: &Fixture, volume: usize) -> StorageId {
    fixture.store().statuses()[volume].storage
}

/// The names of a finalized replica's files.
fn names(id: BlockId) -> (String, String) {
    (format!("blk_{}", id.0), format!("blk_{}_{}.meta", id.0, G1.0))
}

fn on(fixture: &Fixture, volume: usize, id: BlockId, len: usize) -> Vec<u8> {
    let data = bytes(id.0, len);
    let at = CreateOptions { storage: Some(storage(fixture, volume)), ..create(id, G1) };
    let writer = fixture.store().create_rbw(at).unwrap();
    write(&writer, 0, &data).unwrap();
    writer.finalize().unwrap();
    data
}

#[test]
fn what_is_as_it_was_is_left_alone() {
    let fixture = Fixture::new(1);
    for id in [1, 2, 255, 256, 8_191, 70_000, 1 << 30, (1 << 30) + 5_000_000] {
        fixture.finalized(BlockId(id), G1, 700);
    }
    let open = fixture.store().create_rbw(create(BlockId(3), G1)).unwrap();
    let found = compare(fixture.store(), storage(&fixture, 0));
    assert_eq!(found, Differences { replicas: 8, ..Differences::default() });
    drop(open);
}

#[test]
fn a_block_file_that_is_gone_is_a_replica_less() {
    let fixture = Fixture::new(1);
    fixture.finalized(ID, G1, 700);
    let other = fixture.finalized(ID.next(), G1, 700);
    let used = fixture.store().statuses()[0].used;
    fs::remove_file(fixture.file(&names(ID).0)).unwrap();
    let found = compare(fixture.store(), storage(&fixture, 0));
    assert_eq!((found.lost, found.damaged), (1, 0));
    assert!(fixture.store().status(ID).is_none() && fixture.find(&names(ID).1).is_none());
    assert_eq!(fixture.heard.changes.lock().last(), Some(&(ChangeKind::Deleted, block(ID, G1, 700))));
    assert!(fixture.store().statuses()[0].used < used);
    assert_eq!(read_all(fixture.store(), ID.next(), G1), other);
    assert!(!compare(fixture.store(), storage(&fixture, 0)).any());
}

#[test]
fn damage_that_can_be_seen_without_reading_makes_a_replica_bad() {
    type Damage = fn(&Fixture);
    let damages: [Damage; 5] = [
        |fixture| fs::remove_file(fixture.file(&names(ID).1)).unwrap(),
        |fixture| {
            // A checksum file of an earlier life.
            let meta = fixture.file(&names(ID).1);
            fs::rename(&meta, meta.with_file_name(format!("blk_{}_{}.meta", ID.0, G1.0 - 1))).unwrap();
        },
        |fixture| {
            fs::OpenOptions::new().write(true).open(fixture.file(&names(ID).0)).unwrap().set_len(699).unwrap()
        },
        |fixture| {
            fs::OpenOptions::new().write(true).open(fixture.file(&names(ID).0)).unwrap().set_len(701).unwrap()
        },
        |fixture| {
            fs::OpenOptions::new().write(true).open(fixture.file(&names(ID).1)).unwrap().set_len(8).unwrap()
        },
    ];
    for damage in damages {
        let fixture = Fixture::new(1);
        fixture.finalized(ID, G1, 700);
        damage(&fixture);
        let found = compare(fixture.store(), storage(&fixture, 0));
        assert_eq!((found.lost, found.damaged), (0, 1));
        assert_eq!(*fixture.heard.bad.lock(), [block(ID, G1, 700)]);
        let status = fixture.store().status(ID).unwrap();
        assert!(status.bad);
        assert_eq!(compare(fixture.store(), storage(&fixture, 0)).damaged, 0, "it is told once");
        assert!(fixture.store().delete(ID, G1).unwrap());
        assert!(fixture.find(&format!("blk_{}_{}.bad", ID.0, G1.0)).is_none());
    }
}

#[test]
fn files_that_were_put_there_are_found() {
    let fixture = Fixture::new(2);
    let data = on(&fixture, 0, ID, 700);
    let (from, meta) = (fixture.file(&names(ID).0), fixture.file(&names(ID).1));
    let kept = fixture.dir.path().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::copy(&from, kept.join("data")).unwrap();
    fs::copy(&meta, kept.join("meta")).unwrap();
    assert!(fixture.store().delete(ID, G1).unwrap());
    fs::rename(kept.join("data"), &from).unwrap();
    assert_eq!(compare(fixture.store(), storage(&fixture, 0)).strange, 1, "without checksums it is nothing");
    assert!(fixture.store().status(ID).is_none());
    fs::rename(kept.join("meta"), &meta).unwrap();
    assert_eq!(compare(fixture.store(), storage(&fixture, 0)).found, 1);
    assert_eq!(read_all(fixture.store(), ID, G1), data);
    assert_eq!(fixture.heard.changes.lock().last(), Some(&(ChangeKind::Received, block(ID, G1, 700))));
    assert_eq!(fixture.store().next_suspect(storage(&fixture, 0)), Some(ID), "its bytes are checked soon");
    // A checksum file alone, and what is not ours.
    fs::copy(&meta, meta.with_file_name(format!("blk_{}_{}.meta", ID.next().0, G1.0))).unwrap();
    fs::write(meta.with_file_name("notes.txt"), "mine").unwrap();
    let found = compare(fixture.store(), storage(&fixture, 0));
    assert_eq!((found.stray, found.strange), (1, 1));
    assert!(fixture.find("notes.txt").is_some());
}

#[test]
fn of_two_copies_the_better_one_is_kept() {
    for newer_first in [true, false] {
        let mut fixture = Fixture::new(2);
        on(&fixture, usize::from(newer_first), ID, 700);
        let (data, meta) = (fixture.file(&names(ID).0), fixture.file(&names(ID).1));
        let kept = fixture.dir.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::copy(&data, kept.join("data")).unwrap();
        fs::copy(&meta, kept.join("meta")).unwrap();
        fixture.store().delete(ID, G1).unwrap();
        let to = usize::from(!newer_first);
        let at = CreateOptions { storage: Some(storage(&fixture, to)), ..create(ID, G2) };
        let writer = fixture.store().create_rbw(at).unwrap();
        write(&writer, 0, &bytes(9, 900)).unwrap();
        writer.finalize().unwrap();
        drop(writer);
        fixture.close();
        fs::rename(kept.join("data"), &data).unwrap();
        fs::rename(kept.join("meta"), &meta).unwrap();
        fixture.open();
        let store = fixture.store();
        assert_eq!(read_all(store, ID, G2), bytes(9, 900));
        assert_eq!(store.statuses().iter().map(|volume| volume.blocks).sum::<u64>(), 1);
        let found = compare(store, storage(&fixture, usize::from(newer_first)));
        assert_eq!(found.doubled, 1);
        assert!(!data.exists() && !meta.exists());
        assert_eq!(read_all(store, ID, G2), bytes(9, 900));
    }
}

#[test]
fn a_bad_replica_is_known_after_a_restart_until_it_proves_to_be_good() {
    let mut fixture = Fixture::new(1);
    let data = fixture.finalized(ID, G1, 5_000);
    let path = fixture.file(&names(ID).0);
    fs::write(&path, {
        let mut rotten = data.clone();
        rotten[1_000] ^= 1;
        rotten
    })
    .unwrap();
    assert!(fixture.store().open_for_read(ID, G1).unwrap().suspect());
    for _ in 0..2 {
        fixture.restart();
        let store = fixture.store();
        let reported = store.report_page(storage(&fixture, 0), None, 9);
        assert!(reported.len() == 1 && reported[0].bad);
        assert_eq!(store.statuses()[0].bad, 1);
        assert_eq!(store.next_suspect(storage(&fixture, 0)), Some(ID));
        let reader = store.open_for_read(ID, G1).unwrap();
        assert!(reader.is_bad() && reader.suspect());
        assert_eq!(read(&reader, 2_000, 3_000), data[2_000..3_000], "what is right of it can be read");
        let appending = store.append(block(ID, G1, 5_000), G2, SPEC);
        assert!(appending.unwrap_err().to_string().contains("known to be bad"));
    }
    fs::write(&path, &data).unwrap();
    let reader = fixture.store().open_for_read(ID, G1).unwrap();
    assert!(!reader.suspect() && reader.found_good() && !reader.found_good());
    let told = fixture.heard.changes.lock().last().copied();
    assert_eq!(
        told,
        Some((ChangeKind::Verified, block(ID, G1, 5_000))),
        "the namenode forgets that it was bad"
    );
    assert!(fixture.store().delete(ID, G1).unwrap());
    assert!(!reader.vouch(), "what is gone must not count");
    let told = fixture.heard.changes.lock().last().copied();
    assert_eq!(told.map(|(kind, _)| kind), Some(ChangeKind::Deleted));
    drop(reader);
    fixture.restart();
    assert_eq!(fixture.store().statuses()[0].bad, 0);
}

#[test]
fn a_mark_goes_with_the_replica_that_it_is_of() {
    let mut fixture = Fixture::new(1);
    let data = fixture.finalized(ID, G1, 700);
    fs::write(fixture.file(&names(ID).0), vec![0; 700]).unwrap();
    assert!(fixture.store().open_for_read(ID, G1).unwrap().suspect());
    let mark = fixture.file(&format!("blk_{}_{}.bad", ID.0, G1.0));
    let kept = fs::read(&mark).unwrap();
    assert!(String::from_utf8(kept.clone()).unwrap().contains("Checksum error"));
    fixture.store().delete(ID, G1).unwrap();
    assert!(!mark.exists());
    let writer = fixture.store().create_rbw(create(ID, G2)).unwrap();
    write(&writer, 0, &data).unwrap();
    writer.finalize().unwrap();
    drop(writer);
    fs::write(&mark, kept).unwrap();
    fixture.restart();
    assert!(!fixture.store().status(ID).unwrap().bad && !mark.exists());
}

#[test]
fn the_progress_of_a_check_survives_a_restart() {
    let mut fixture = Fixture::new(1);
    let at = storage(&fixture, 0);
    assert_eq!(fixture.store().scan_progress(at), None);
    let progress = steadfs_datanode_store::ScanProgress { after: Some(ID), bytes: 7, ..Default::default() };
    fixture.store().save_scan_progress(at, &progress).unwrap();
    fixture.restart();
    assert_eq!(fixture.store().scan_progress(at), Some(progress));
    fs::write(fixture.root(0).join("scan"), b"\xff\xfe").unwrap();
    assert_eq!(fixture.store().scan_progress(at), None);
}

#[test]
fn how_far_the_namenode_was_is_remembered() {
    let mut fixture = Fixture::new(2);
    let at = |transaction| steadfs_datanode_store::Heard { incarnation: 1, epoch: 7, transaction };
    assert_eq!(fixture.store().heard(), Default::default());
    fixture.store().note_heard(at(50)).unwrap();
    fixture.restart();
    assert_eq!(fixture.store().heard(), at(50));
    fs::write(fixture.root(0).join("heard"), "rot").unwrap();
    assert_eq!(fixture.store().heard(), at(50), "the other volume knows");
    fs::remove_file(fixture.root(1).join("heard")).unwrap();
    assert_eq!(fixture.store().heard(), Default::default());
}
