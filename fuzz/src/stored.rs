//! What the namenode stores. The first byte says what the others are; where a format ends with its checksum, the right one
//! is put there, so that the parser behind it is reached.

use std::path::{Path, PathBuf};

use steadfs_common::ChecksumKind;
use steadfs_namenode::backup::Manifest;
use steadfs_namenode::journal::{Journal as _, SegmentedJournal, verify};
use steadfs_namenode::store::keys::{self, Table};
use steadfs_namenode::store::{Position, records};
use steadfs_namenode::{backup, offline};

use crate::memory;

/// Smallest segment: most inputs fit, and making it is quick.
const SEGMENT: u64 = 1_024;

/// Reads the bytes as one of the formats.
pub fn run(bytes: &[u8]) {
    let Some((&which, rest)) = bytes.split_first() else { return };
    match which % 8 {
        0 => record(rest),
        1 => key(rest),
        2 => manifest(rest),
        3 => segment(rest, false),
        4 => segment(rest, true),
        5 => entry(rest),
        6 => version(rest),
        _ => names(rest),
    }
}

fn table(byte: u8) -> Table {
    Table::ALL[usize::from(byte) % Table::ALL.len()]
}

fn record(bytes: &[u8]) {
    memory::limit_for(bytes.len());
    let Some((&which, rest)) = bytes.split_first() else { return };
    let Ok(record) = records::decode(table(which), rest) else { return };
    let written = records::encode(&record);
    let read = records::decode(table(which), &written).expect("what was written can be read");
    assert!(read == record, "{record:?} reads differently when it is written again");
}

fn key(bytes: &[u8]) {
    memory::limit_for(bytes.len());
    let Some((&which, rest)) = bytes.split_first() else { return };
    if let Ok(key) = keys::decode(table(which), rest) {
        assert_eq!(keys::encode(&key), rest, "two rows of one key: {key:?}");
    }
}

/// A text and the line with its checksum.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut text = bytes.to_vec();
    text.extend(format!("# crc32c {:08x}\n", ChecksumKind::Crc32c.of(bytes)).into_bytes());
    text
}

fn manifest(bytes: &[u8]) {
    // TOML's reader keeps several trees of it.
    memory::limit_for(bytes.len() * 8);
    let _ = Manifest::decode(bytes);
    let Ok(manifest) = Manifest::decode(&sealed(bytes)) else { return };
    for file in &manifest.files {
        for name in [&file.name, &file.stored] {
            assert!(!name.contains('/') && !name.starts_with('.'), "{name} leads out of the folder");
        }
    }
    // Numbers that the format cannot hold were read from nowhere.
    let again = Manifest::decode(&manifest.encode().expect("what was read can be written"));
    assert!(again.expect("what was written can be read") == manifest);
}

/// An empty folder on a file system in memory.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary folder can be made")
}

/// All that reads a journal.
fn read(journal: &Path) {
    let folders = [journal.to_owned()];
    let _ = verify(&folders);
    let _ = offline::dump_journal(journal, &mut std::io::sink());
    let opened = SegmentedJournal::open(&folders, SEGMENT, Position::default(), |_, _| Ok(()));
    if let Ok((mut journal, _)) = opened {
        // What was opened can be written and opened again.
        let position = journal.append(b"more").expect("a journal that was opened can be written");
        drop(journal);
        let mut last = Position::default();
        SegmentedJournal::open(&folders, SEGMENT, Position::default(), |at, _| {
            last = at;
            Ok(())
        })
        .expect("what was just written can be read");
        assert_eq!(last, position, "an acknowledged entry is gone");
    }
}

/// Bytes as a segment's file, or over one that is good from the place that the first two bytes say.
fn segment(bytes: &[u8], over: bool) {
    memory::limit(memory::SERVER_BYTES);
    let keep = folder();
    let journal = keep.path().join("journal");
    let path: PathBuf = journal.join("segment-00000000000000000001.log");
    if !over {
        std::fs::create_dir(&journal).expect("a folder can be made");
        std::fs::write(&path, bytes).expect("a file can be written");
        return read(&journal);
    }
    let [low, high, bytes @ ..] = bytes else { return };
    let opened = SegmentedJournal::open(&[journal.clone()], SEGMENT, Position::default(), |_, _| Ok(()));
    let (mut good, _) = opened.expect("a new journal can be made");
    for payload in ["one", "two", "three"] {
        good.append(payload.as_bytes()).expect("a new journal can be written");
    }
    drop(good);
    let mut file = std::fs::read(&path).expect("the segment is there");
    let at = usize::from(u16::from_le_bytes([*low, *high])) % file.len();
    for (place, byte) in file[at..].iter_mut().zip(bytes) {
        *place ^= byte;
    }
    std::fs::write(&path, file).expect("a file can be written");
    read(&journal);
}

/// The bytes as what a good entry says.
fn entry(bytes: &[u8]) {
    memory::limit(memory::SERVER_BYTES);
    let keep = folder();
    let journal = keep.path().join("journal");
    let opened = SegmentedJournal::open(&[journal.clone()], SEGMENT, Position::default(), |_, _| Ok(()));
    let (mut good, _) = opened.expect("a new journal can be made");
    good.append(bytes).expect("a new journal can be written");
    drop(good);
    let _ = offline::dump_journal(&journal, &mut std::io::sink());
}

/// The bytes as `VERSION`, with and without their checksum, and as a backup's manifest beside it.
fn version(bytes: &[u8]) {
    memory::limit(memory::SERVER_BYTES);
    let keep = folder();
    let data = keep.path().join("data");
    std::fs::create_dir_all(data.join("journal")).expect("a folder can be made");
    for text in [bytes.to_vec(), sealed(bytes)] {
        std::fs::write(data.join("VERSION"), &text).expect("a file can be written");
        let _ = offline::check(std::slice::from_ref(&data));
        std::fs::write(data.join(backup::manifest::FILE), &text).expect("a file can be written");
        assert!(backup::verify(&data).is_err() || !data.join(backup::FILES).exists());
    }
}

/// Names of files in a journal's folder: the bytes are some, one a line.
fn names(bytes: &[u8]) {
    memory::limit(memory::SERVER_BYTES);
    let keep = folder();
    let journal = keep.path().join("journal");
    std::fs::create_dir(&journal).expect("a folder can be made");
    for name in String::from_utf8_lossy(bytes).lines().take(20) {
        if !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != ".." && name.len() < 200
        {
            let _ = std::fs::write(journal.join(name), "");
        }
    }
    read(&journal);
}
