//! What a start finds, and what it refuses.

use std::fs;
use std::os::unix::fs::FileExt;

use steadfs_common::{BlockPoolId, FsErrorKind};
use steadfs_datanode_store::{Cluster, NoListener, ReplicaState, Store, StoreError};

use crate::fixture::*;

fn cluster(id: &str) -> Cluster {
    Cluster { cluster_id: id.into(), block_pool: BlockPoolId("BP-1".into()) }
}

fn refusal(fixture: &Fixture) -> String {
    match Store::open(fixture.options(), std::sync::Arc::new(NoListener)) {
        Err(StoreError::Refused { why, .. }) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn identity_and_replicas_are_found_again() {
    let mut fixture = Fixture::new(3);
    let identity = fixture.store().identity();
    assert_eq!(identity.cluster, None);
    fixture.store().join(&cluster("CID-1")).unwrap();
    let data: Vec<_> =
        (0..20).map(|i| fixture.finalized(steadfs_common::BlockId(ID.0 + i), G1, 700)).collect();
    let storages: Vec<_> = fixture.store().volumes().iter().map(|volume| volume.storage).collect();
    fixture.restart();
    let store = fixture.store();
    assert_eq!(store.identity().uuid, identity.uuid);
    assert_eq!(store.identity().cluster, Some(cluster("CID-1")));
    assert_eq!(store.volumes().iter().map(|volume| volume.storage).collect::<Vec<_>>(), storages);
    for (i, data) in data.iter().enumerate() {
        assert_eq!(read_all(store, steadfs_common::BlockId(ID.0 + i as u64), G1), *data);
    }
    store.join(&cluster("CID-1")).unwrap();
    let refused = store.join(&cluster("CID-2")).unwrap_err().to_string();
    assert!(
        refused.contains("CID-1") && refused.contains("CID-2") && refused.contains("empty folder"),
        "{refused}"
    );
    assert!(store.join(&cluster("two\nlines")).is_err());
}

#[test]
fn folders_in_use_or_of_others_are_refused_with_the_remedy() {
    let mut fixture = Fixture::new(2);
    assert!(refusal(&fixture).contains("another process uses this folder"));
    fixture.close();
    let stranger = Fixture::new(1);
    let identity = stranger.root(0).join("steadfs-volume");
    let own = fs::read(fixture.root(1).join("steadfs-volume")).unwrap();
    fs::copy(&identity, fixture.root(1).join("steadfs-volume")).unwrap();
    assert!(refusal(&fixture).contains("give each datanode its own folders"));
    fs::remove_file(fixture.root(1).join("steadfs-volume")).unwrap();
    assert!(refusal(&fixture).contains("restore the file"));
    let newer = String::from_utf8(own.clone()).unwrap().replace("layout = 1", "layout = 7");
    fs::write(fixture.root(1).join("steadfs-volume"), newer).unwrap();
    assert!(refusal(&fixture).contains("layout version 7"));
    fs::write(fixture.root(1).join("steadfs-volume"), [0xff; 100]).unwrap();
    fixture.open();
    let failures = fixture.store().failures();
    assert!(
        failures[0].why.contains("damaged"),
        "the disk is to blame, and the other volume serves: {failures:?}"
    );
    assert_eq!((failures.len(), &failures[0].path), (1, &fixture.root(1)));
    fixture.close();
    fs::write(fixture.root(1).join("steadfs-volume"), own).unwrap();
    fixture.open();
    assert!(fixture.store().failures().is_empty());
}

#[test]
fn a_folder_copied_beside_itself_is_refused() {
    let mut fixture = Fixture::new(1);
    fixture.finalized(ID, G1, 700);
    fixture.close();
    let copied =
        std::process::Command::new("cp").arg("-a").arg(fixture.root(0)).arg(fixture.root(1)).status();
    assert!(copied.unwrap().success());
    fixture.volumes = 2;
    assert!(refusal(&fixture).contains("is a copy of"));
}

#[test]
fn hdfs_folders_are_not_taken_over() {
    let mut fixture = Fixture::new(1);
    fixture.close();
    fs::remove_dir_all(fixture.root(0)).unwrap();
    fs::create_dir_all(fixture.root(0).join("current")).unwrap();
    assert!(refusal(&fixture).contains("`current`"));
}

#[test]
fn a_new_disk_joins_a_known_datanode() {
    let mut fixture = Fixture::new(1);
    fixture.store().join(&cluster("CID-1")).unwrap();
    let uuid = fixture.store().identity().uuid;
    fixture.volumes = 2;
    fixture.restart();
    assert_eq!(fixture.store().identity().uuid, uuid);
    fixture.close();
    fs::remove_dir_all(fixture.root(0)).unwrap();
    fixture.open();
    assert_eq!(fixture.store().identity().uuid, uuid);
    assert_eq!(fixture.store().identity().cluster, Some(cluster("CID-1")));
}

#[test]
fn what_was_being_written_waits_with_its_good_prefix() {
    for (damage, good) in [(None, 1_700), (Some(1_600), 1_536), (Some(600), 512), (Some(3), 0)] {
        let mut fixture = Fixture::new(1);
        let writer = fixture.store().create_rbw(create(ID, G1)).unwrap();
        let data = bytes(1, 1_700);
        write(&writer, 0, &data).unwrap();
        writer.set_acked(1_700);
        drop(writer);
        fixture.close();
        if let Some(at) = damage {
            let file = fs::OpenOptions::new().write(true).open(fixture.file("blk_1073741825")).unwrap();
            file.write_all_at(&[!data[at]], at as u64).unwrap();
        }
        fixture.open();
        let store = fixture.store();
        let status = store.status(ID).unwrap();
        assert_eq!((status.state, status.block), (ReplicaState::Rwr, block(ID, G1, good)), "{damage:?}");
        assert_eq!(store.open_for_read(ID, G1).unwrap_err().kind(), FsErrorKind::Refused);
        assert_eq!(store.visible_length(ID, G1).unwrap_err().kind(), FsErrorKind::Refused);
        let recovered = store.init_recovery(block(ID, G1, 0), G2).unwrap().unwrap();
        assert_eq!((recovered.state, recovered.block.len), (ReplicaState::Rwr, good));
        store.update_replica(recovered.block, G2, good).unwrap();
        assert_eq!(read_all(store, ID, G2), data[..good as usize]);
    }
}

#[test]
fn bytes_past_the_last_checksum_do_not_hide_those_before() {
    let mut fixture = Fixture::new(1);
    let writer = fixture.store().create_rbw(create(ID, G1)).unwrap();
    let data = bytes(1, 1_000);
    write(&writer, 0, &data[..700]).unwrap();
    drop(writer);
    fixture.close();
    // As if the data of a later write had reached the disk and its checksum had not.
    fs::write(fixture.file("blk_1073741825"), &data).unwrap();
    fixture.open();
    assert_eq!(fixture.store().status(ID).unwrap().block.len, 700);
    let told = fixture.store().init_recovery(block(ID, G1, 0), G2).unwrap().unwrap();
    fixture.store().update_replica(told.block, G2, 650).unwrap();
    assert_eq!(read_all(fixture.store(), ID, G2), data[..650]);
}

#[test]
fn files_half_moved_are_paired() {
    let mut fixture = Fixture::new(1);
    let data = fixture.finalized(ID, G1, 700);
    fixture.close();
    let (data_file, meta_file) = (fixture.file("blk_1073741825"), fixture.file("blk_1073741825_1001.meta"));
    // Finalizing stopped after the first rename.
    let rbw = fixture.root(0).join("rbw");
    fs::rename(&data_file, rbw.join("blk_1073741825")).unwrap();
    fixture.open();
    let status = fixture.store().status(ID).unwrap();
    assert_eq!((status.state, status.block.len), (ReplicaState::Rwr, 700));
    fixture.close();
    assert!(!meta_file.exists() && rbw.join("blk_1073741825_1001.meta").exists());
    // An append stopped before its data was moved, but after its checksum file was made.
    fs::rename(rbw.join("blk_1073741825"), &data_file).unwrap();
    fs::copy(rbw.join("blk_1073741825_1001.meta"), rbw.join("blk_1073741825_1002.meta")).unwrap();
    fs::rename(rbw.join("blk_1073741825_1001.meta"), &meta_file).unwrap();
    fixture.open();
    assert_eq!(fixture.store().status(ID).unwrap().state, ReplicaState::Finalized);
    assert_eq!(read_all(fixture.store(), ID, G1), data);
    assert!(!rbw.join("blk_1073741825_1002.meta").exists());
    fixture.close();
    // An old checksum file was left beside the new one.
    fs::copy(&meta_file, meta_file.with_file_name("blk_1073741825_1000.meta")).unwrap();
    fixture.open();
    assert_eq!(read_all(fixture.store(), ID, G1), data);
    fixture.close();
    assert!(fixture.find("blk_1073741825_1000.meta").is_none());
}

#[test]
fn a_truncation_inside_the_last_chunk_that_stopped_half_way_is_ended() {
    let mut fixture = Fixture::new(1);
    let data = fixture.finalized(ID, G1, 1_000);
    fixture.close();
    // Both lengths have two checksums. The shorter data file took its place, its checksum file did not.
    let data_file = fixture.file("blk_1073741825");
    fs::write(&data_file, &data[..900]).unwrap();
    let mut meta = fs::read(fixture.file("blk_1073741825_1001.meta")).unwrap();
    meta.truncate(7);
    SPEC.append_checksums(&data[..900], &mut meta);
    fs::write(fixture.root(0).join("rbw/blk_1073741825_1002.meta"), &meta).unwrap();
    fixture.open();
    let status = fixture.store().status(ID).unwrap();
    assert_eq!((status.state, status.block.stamp, status.block.len), (ReplicaState::Finalized, G2, 900));
    assert_eq!(read_all(fixture.store(), ID, G2), data[..900]);
    fixture.close();
    assert!(fixture.find("blk_1073741825_1001.meta").is_none());
    // And one that stopped before.
    fs::write(&data_file, &data).unwrap();
    let kept = fixture.file("blk_1073741825_1002.meta");
    fs::rename(&kept, fixture.root(0).join("rbw/blk_1073741825_1002.meta")).unwrap();
    meta.truncate(7);
    SPEC.append_checksums(&data, &mut meta);
    fs::write(kept.with_file_name("blk_1073741825_1001.meta"), &meta).unwrap();
    fixture.open();
    assert_eq!(read_all(fixture.store(), ID, G1), data);
}

#[test]
fn strange_files_are_left_alone() {
    let mut fixture = Fixture::new(1);
    fixture.finalized(ID, G1, 700);
    fixture.close();
    let folder = fixture.file("blk_1073741825").parent().unwrap().to_path_buf();
    let strange = [
        folder.join("notes.txt"),
        folder.join("blk_99999999"),
        folder.join("blk_x"),
        fixture.root(0).join("rbw/blk_1073741999"),
        fixture.root(0).join("finalized/readme"),
    ];
    for path in &strange {
        fs::write(path, b"mine").unwrap();
    }
    fs::create_dir(folder.join("blk_1073741830")).unwrap();
    fixture.open();
    let storage = fixture.store().volumes()[0].storage;
    assert_eq!(fixture.store().report_page(storage, None, 100).len(), 1);
    assert!(strange.iter().all(|path| path.exists()));
}
