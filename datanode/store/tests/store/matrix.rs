//! Every kind of damage to the files of a volume: it is found, and no byte that was not written is given out as checked.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use steadfs_common::FsErrorKind;
use steadfs_datanode_store::{DiskOp, Faults, NoListener, Store};

use crate::fixture::*;

const LEN: usize = 10_000;

/// Whether somebody finds out by himself that the first replica is bad: whoever opens it, the comparison of folders, or the
/// check of all its bytes. What a reader gets meanwhile must match its checksums or be what was written.
fn found(fixture: &Fixture, written: &[u8]) -> bool {
    let store = fixture.store();
    let storage = store.statuses()[0].storage;
    if let Ok(reader) = store.open_for_read(ID, G1) {
        let mut bytes = vec![0; LEN];
        let read = reader.read_data(0, &mut bytes);
        let mut sums = Vec::new();
        let checked = reader.read_checksums(0, LEN as u64, &mut sums);
        if read.is_ok() && checked.is_ok() && reader.spec().verify(&bytes, &sums).is_ok() {
            assert_eq!(bytes, written, "bytes that were not written there pass for good");
        }
        reader.suspect();
    }
    for number in 0..Store::folders() {
        store.compare_folder(storage, number).unwrap();
    }
    match store.status(ID) {
        Some(status) => status.bad && fixture.heard.bad.lock().contains(&status.block),
        // Its file is gone, and the namenode was told.
        None => true,
    }
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn zero(path: &Path, from: u64, len: usize) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(&vec![0; len], from).unwrap();
}

fn cut(path: &Path, len: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn swap(one: &Path, other: &Path) {
    let aside = one.with_extension("aside");
    fs::rename(one, &aside).unwrap();
    fs::rename(other, one).unwrap();
    fs::rename(aside, other).unwrap();
}

/// The files of the first and of the second replica: block file, checksum file.
struct Files {
    data: PathBuf,
    meta: PathBuf,
    other_data: PathBuf,
    other_meta: PathBuf,
}

#[test]
fn damage_to_a_block_file_or_its_checksum_file_is_found() {
    type Damage = (&'static str, fn(&Files));
    let damages: [Damage; 13] = [
        ("block file, bit flip", |files| flip(&files.data, 5_000)),
        ("block file, bit flip in its last byte", |files| flip(&files.data, LEN as u64 - 1)),
        ("block file, zeroed page", |files| zero(&files.data, 4_096, 4_096)),
        ("block file, cut short", |files| cut(&files.data, 9_000)),
        ("block file, empty", |files| cut(&files.data, 0)),
        ("block file, swapped with another", |files| swap(&files.data, &files.other_data)),
        ("block file, gone", |files| fs::remove_file(&files.data).unwrap()),
        ("checksum file, bit flip", |files| flip(&files.meta, 40)),
        ("checksum file, bit flip in its header", |files| flip(&files.meta, 1)),
        ("checksum file, zeroed page", |files| zero(&files.meta, 0, 87)),
        ("checksum file, cut short", |files| cut(&files.meta, 50)),
        ("checksum file, swapped with another", |files| swap(&files.meta, &files.other_meta)),
        ("checksum file, gone", |files| fs::remove_file(&files.meta).unwrap()),
    ];
    for (what, damage) in damages {
        for restart in [false, true] {
            let mut fixture = Fixture::new(1);
            let written = fixture.finalized(ID, G1, LEN);
            fixture.finalized(ID.next(), G1, LEN);
            let file = |id: u64, end: &str| fixture.file(&format!("blk_{id}{end}"));
            let meta = format!("_{}.meta", G1.0);
            let files = Files {
                data: file(ID.0, ""),
                meta: file(ID.0, &meta),
                other_data: file(ID.0 + 1, ""),
                other_meta: file(ID.0 + 1, &meta),
            };
            if restart {
                fixture.close();
            }
            damage(&files);
            if restart {
                fixture.open();
            }
            assert!(found(&fixture, &written), "{what}, restart: {restart}");
        }
    }
}

/// What a checksum file says of itself; none if nothing.
fn attribute(path: &Path) -> Option<Vec<u8>> {
    let mut value = [0; 100];
    let count = rustix::fs::getxattr(path, "user.steadfs.block", &mut value).ok()?;
    Some(value[..count].to_vec())
}

#[test]
fn two_blocks_that_got_each_others_files_are_both_found() {
    let meta_of = |id: u64, stamp: steadfs_common::GenStamp| format!("blk_{id}_{}.meta", stamp.0);
    for restart in [false, true] {
        let mut fixture = Fixture::on_disk();
        let written = fixture.finalized(ID, G1, LEN);
        fixture.finalized(ID.next(), G1, LEN - 10);
        // One was appended to, and so has a checksum file of a later life.
        let writer = fixture.store().append(block(ID.next(), G1, LEN as u64 - 10), G2, SPEC).unwrap();
        write(&writer, LEN as u64 - 10, &[7; 10]).unwrap();
        writer.finalize().unwrap();
        drop(writer);
        let (first, second) = (fixture.file(&meta_of(ID.0, G1)), fixture.file(&meta_of(ID.0 + 1, G2)));
        let golden = |id: u64| [&[1][..], &id.to_be_bytes()].concat();
        assert_eq!(attribute(&first), Some(golden(ID.0)));
        assert_eq!(attribute(&second), Some(golden(ID.0 + 1)));
        let data = |id: u64| fixture.file(&format!("blk_{id}"));
        let (one, other) = (data(ID.0), data(ID.0 + 1));
        if restart {
            fixture.close();
        }
        swap(&one, &other);
        swap(&first, &second);
        if restart {
            fixture.open();
        }
        assert!(found(&fixture, &written), "restart: {restart}");
        let error = fixture.store().open_for_read(ID.next(), G2).unwrap_err().to_string();
        assert!(error.contains("files were exchanged"), "{error}");
        assert!(fixture.store().status(ID.next()).unwrap().bad);
    }
}

#[test]
fn replicas_without_an_attribute_are_as_good_as_any() {
    let mut fixture = Fixture::on_disk();
    let written = fixture.finalized(ID, G1, LEN);
    let meta = fixture.file(&format!("blk_{}_{}.meta", ID.0, G1.0));
    // As older releases made them; and one of a later release that says more than we understand.
    for value in [None, Some(&b"\x02 more than is known of today"[..])] {
        match value {
            None => rustix::fs::removexattr(&meta, "user.steadfs.block").unwrap(),
            Some(value) => {
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::setxattr(&meta, "user.steadfs.block", value, flags).unwrap();
            }
        }
        fixture.restart();
        assert_eq!(read_all(fixture.store(), ID, G1), written);
    }
    let writer = fixture.store().append(block(ID, G1, LEN as u64), G2, SPEC).unwrap();
    write(&writer, LEN as u64, b"more").unwrap();
    writer.finalize().unwrap();
    drop(writer);
    let appended = fixture.file(&format!("blk_{}_{}.meta", ID.0, G2.0));
    assert_eq!(attribute(&appended).map(|value| value[0]), Some(1), "what is made now says so");
}

#[test]
fn a_stale_copy_of_a_replica_is_not_taken_for_the_newer_one() {
    let mut fixture = Fixture::new(1);
    fixture.finalized(ID, G1, 700);
    let (data, meta) =
        (fixture.file(&format!("blk_{}", ID.0)), fixture.file(&format!("blk_{}_{}.meta", ID.0, G1.0)));
    let (old_data, old_meta) = (fs::read(&data).unwrap(), fs::read(&meta).unwrap());
    let writer = fixture.store().append(block(ID, G1, 700), G2, SPEC).unwrap();
    write(&writer, 700, b"more").unwrap();
    writer.finalize().unwrap();
    drop(writer);
    fixture.close();
    // Only the block file is of last week: it does not go with its checksums.
    fs::write(&data, &old_data).unwrap();
    fixture.open();
    assert!(
        fixture.store().status(ID).unwrap().bad || fixture.store().open_for_read(ID, G2).unwrap().suspect()
    );
    fixture.close();
    // Both are of last week: an older life of the block, which nobody asks for and the namenode has removed.
    fs::remove_file(fixture.file(&format!("blk_{}_{}.meta", ID.0, G2.0))).unwrap();
    fs::write(&meta, old_meta).unwrap();
    fixture.open();
    assert_eq!(fixture.store().status(ID).unwrap().block, block(ID, G1, 700));
    assert_eq!(fixture.store().open_for_read(ID, G2).unwrap_err().kind(), FsErrorKind::ReplicaNotFound);
}

/// Fails one operation on files whose name ends so.
#[derive(Default)]
struct OneFails(Mutex<Option<(DiskOp, &'static str, io::ErrorKind)>>);

impl Faults for OneFails {
    fn before(&self, op: DiskOp, path: &Path) -> io::Result<()> {
        match *self.0.lock() {
            Some((failing, end, kind)) if failing == op && path.to_string_lossy().ends_with(end) => {
                Err(io::Error::new(kind, "injected"))
            }
            _ => Ok(()),
        }
    }
}

#[test]
fn a_file_that_cannot_be_written_or_synced_is_never_finalized() {
    const DATA: &str = "blk_1073741825";
    const META: &str = "blk_1073741825_1001.meta";
    for end in [DATA, META] {
        for (op, kind) in [
            (DiskOp::Create, io::ErrorKind::Other),
            (DiskOp::Create, io::ErrorKind::StorageFull),
            (DiskOp::Write, io::ErrorKind::Other),
            (DiskOp::Write, io::ErrorKind::StorageFull),
            (DiskOp::Write, io::ErrorKind::ReadOnlyFilesystem),
            (DiskOp::Sync, io::ErrorKind::Other),
            (DiskOp::Rename, io::ErrorKind::Other),
        ] {
            let faults = Arc::new(OneFails::default());
            let mut fixture = Fixture::with_faults(1, Some(faults.clone()));
            *faults.0.lock() = Some((op, end, kind));
            let finished = fixture.store().create_rbw(create(ID, G1)).and_then(|writer| {
                write(&writer, 0, &bytes(1, LEN))?;
                writer.finalize()
            });
            assert!(finished.is_err(), "{op:?} of {end}: {kind:?}");
            let told = fixture.heard.changes.lock().clone();
            assert!(told.iter().all(|(kind, _)| *kind != steadfs_datanode_store::ChangeKind::Received));
            *faults.0.lock() = None;
            fixture.restart();
            let state = fixture.store().status(ID).map(|status| status.state);
            assert_ne!(
                state,
                Some(steadfs_datanode_store::ReplicaState::Finalized),
                "{op:?} of {end}: {kind:?}"
            );
        }
    }
}

#[test]
fn damage_to_the_identity_of_a_volume_is_found() {
    type Damage = (&'static str, fn(&Path, &Path));
    let damages: [Damage; 5] = [
        ("bit flip", |identity, _| flip(identity, 120)),
        ("zeroed", |identity, _| zero(identity, 0, 200)),
        ("cut short", |identity, _| cut(identity, 100)),
        ("empty", |identity, _| cut(identity, 0)),
        ("copied from another volume", |identity, other| assert!(fs::copy(other, identity).unwrap() > 0)),
    ];
    for (what, damage) in damages {
        let mut fixture = Fixture::new(2);
        let written = fixture.finalized(ID, G1, LEN);
        let storages: Vec<_> = fixture.store().statuses().iter().map(|volume| volume.storage).collect();
        fixture.close();
        let identity = fixture.root(1).join("steadfs-volume");
        let kept = fs::read(&identity).unwrap();
        damage(&identity, &fixture.root(0).join("steadfs-volume"));
        match Store::open(fixture.options(), Arc::new(NoListener)) {
            Err(refused) => {
                assert!(refused.to_string().contains("give an empty folder"), "{what}: {refused}")
            }
            Ok(store) => {
                let failures = store.failures();
                assert!(
                    failures.len() == 1 && failures[0].why.contains("restore it from a copy"),
                    "{what}: {failures:?}"
                );
                assert_eq!(store.volumes_in_service(), [storages[0]], "{what}");
            }
        }
        fs::write(&identity, kept).unwrap();
        fixture.open();
        assert_eq!(fixture.store().volumes_in_service(), storages, "{what}: restored, all is as before");
        assert_eq!(read_all(fixture.store(), ID, G1), written);
    }
}
