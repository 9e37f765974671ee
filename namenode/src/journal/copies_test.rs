//! Copies that fail while others live, and come back.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};

use super::health::CopyState;
use super::{Journal, JournalError, Position, SegmentedJournal, notes, segment};

const SEGMENT: u64 = 1_024;

pub(super) struct Bench {
    pub(super) keep: tempfile::TempDir,
    copies: usize,
}

impl Bench {
    pub(super) fn new(copies: usize) -> Self {
        Self { keep: tempfile::tempdir().unwrap(), copies }
    }

    pub(super) fn folders(&self) -> Vec<PathBuf> {
        (0..self.copies).map(|copy| self.keep.path().join(copy.to_string())).collect()
    }

    pub(super) fn open(&self) -> Result<(SegmentedJournal, Vec<Vec<u8>>), JournalError> {
        open(&self.folders())
    }
}

pub(super) fn open(folders: &[PathBuf]) -> Result<(SegmentedJournal, Vec<Vec<u8>>), JournalError> {
    let mut entries = Vec::new();
    let (journal, _) = SegmentedJournal::open(folders, SEGMENT, Position::default(), |_, payload| {
        entries.push(payload.to_vec());
        Ok(())
    })?;
    Ok((journal, entries))
}

/// The open segment of a folder, for writing.
fn newest(folder: &Path) -> File {
    let (_, path) = segment::list(folder).unwrap().pop().unwrap();
    File::options().read(true).write(true).open(path).unwrap()
}

/// A disk without room: it takes no byte.
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// Makes the given copies fail from now on.
pub(super) fn break_copies(journal: &mut SegmentedJournal, folders: &[PathBuf], broken: &[usize]) {
    let files = folders.iter().enumerate();
    let files = files.map(|(copy, folder)| if broken.contains(&copy) { full() } else { newest(folder) });
    journal.break_files(files.collect());
}

pub(super) fn append(journal: &mut SegmentedJournal, written: &mut Vec<Vec<u8>>, count: usize) {
    for _ in 0..count {
        let payload = format!("entry {}", written.len()).into_bytes();
        journal.append(&payload).unwrap();
        written.push(payload);
    }
}

#[test]
fn the_journal_goes_on_with_the_copies_that_live() {
    for broken in 0..3 {
        let bench = Bench::new(3);
        let (mut journal, _) = bench.open().unwrap();
        let health = journal.health();
        let mut written = Vec::new();
        append(&mut journal, &mut written, 3);
        assert!(!health.is_degraded());
        break_copies(&mut journal, &bench.folders(), &[broken]);
        append(&mut journal, &mut written, 2);
        assert!(health.is_degraded());
        let left = |copy: usize| matches!(health.copies()[copy].state, CopyState::Left(_));
        assert_eq!([0, 1, 2].map(left), [0, 1, 2].map(|copy| copy == broken));
        drop(journal);
        // What lives is enough, and a start makes all whole again.
        assert_eq!(bench.open().unwrap().1, written);
        for copy in 0..3 {
            assert_eq!(open(&bench.folders()[copy..=copy]).unwrap().1, written);
            assert_eq!(notes::highest(&bench.folders()[copy]).unwrap(), None);
        }
    }
}

#[test]
fn with_too_few_copies_it_ends() {
    let bench = Bench::new(2);
    let (journal, _) = bench.open().unwrap();
    let mut journal = journal.needing(2);
    journal.append(b"both").unwrap();
    break_copies(&mut journal, &bench.folders(), &[0]);
    assert!(journal.append(b"one").is_err());
    assert!(journal.append(b"after").unwrap_err().to_string().contains("not tried again"));
}

#[test]
fn what_a_left_copy_lacks_is_missed_and_never_taken_for_the_end() {
    for broken in 0..2 {
        let bench = Bench::new(2);
        let (mut journal, _) = bench.open().unwrap();
        let mut written = Vec::new();
        append(&mut journal, &mut written, 3);
        break_copies(&mut journal, &bench.folders(), &[broken]);
        append(&mut journal, &mut written, 4);
        drop(journal);
        let good = bench.folders()[1 - broken].clone();
        let (_, path) = segment::list(&good).unwrap().pop().unwrap();
        let whole = std::fs::read(&path).unwrap();
        // The one complete copy loses its header, or is cut, or is gone: the other looks whole and must not be believed.
        let mut headless = whole.clone();
        headless[3] ^= 1;
        for damaged in [Some(headless), Some(whole[..200].to_vec()), None] {
            match damaged {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            assert!(matches!(bench.open().map(|_| ()), Err(JournalError::Rotten { .. })));
        }
        std::fs::write(&path, whole).unwrap();
        assert_eq!(bench.open().unwrap().1, written);
    }
}

/// Rolls until the copy is complete: the thread that makes spare segments, and the one that fills, take their time.
fn roll_until_whole(journal: &mut SegmentedJournal, written: &mut Vec<Vec<u8>>) {
    while journal.health().is_degraded() {
        journal.roll().unwrap();
        append(journal, written, 1);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_copy_comes_back_and_is_filled() {
    for broken in 0..2 {
        let bench = Bench::new(2);
        let (mut journal, _) = bench.open().unwrap();
        let mut written = Vec::new();
        append(&mut journal, &mut written, 40);
        break_copies(&mut journal, &bench.folders(), &[broken]);
        append(&mut journal, &mut written, 1);
        assert!(journal.health().is_degraded());
        roll_until_whole(&mut journal, &mut written);
        append(&mut journal, &mut written, 3);
        drop(journal);
        for copy in 0..2 {
            assert_eq!(notes::highest(&bench.folders()[copy]).unwrap(), None);
            assert_eq!(open(&bench.folders()[copy..=copy]).unwrap().1, written, "copy {copy} alone");
        }
    }
}

#[test]
fn a_copy_that_was_wiped_while_it_was_away_is_made_again() {
    let bench = Bench::new(2);
    let folders = bench.folders();
    let (mut journal, _) = bench.open().unwrap();
    let mut written = Vec::new();
    append(&mut journal, &mut written, 30);
    // The folder is gone: its next segment cannot be begun, and the journal goes on in the other.
    let away = bench.keep.path().join("away");
    std::fs::rename(&folders[1], &away).unwrap();
    append(&mut journal, &mut written, 60);
    assert!(journal.health().is_degraded());
    std::fs::create_dir(&folders[1]).unwrap();
    roll_until_whole(&mut journal, &mut written);
    drop(journal);
    assert_eq!(open(&folders[1..]).unwrap().1, written);
}

#[test]
fn what_is_given_up_while_a_copy_is_away_does_not_come_back() {
    let bench = Bench::new(2);
    let folders = bench.folders();
    let (mut journal, _) = bench.open().unwrap();
    let mut written = Vec::new();
    append(&mut journal, &mut written, 40);
    let away = bench.keep.path().join("away");
    std::fs::rename(&folders[1], &away).unwrap();
    append(&mut journal, &mut written, 40);
    let store = journal.append(b"stored").unwrap();
    journal.trim(store.index);
    let kept = segment::list(&folders[0]).unwrap().len();
    assert!(segment::list(&away).unwrap().len() > kept, "nothing is removed from a copy that was left");
    std::fs::rename(&away, &folders[1]).unwrap();
    let mut after = Vec::new();
    roll_until_whole(&mut journal, &mut after);
    let firsts = |folder: &Path| -> Vec<u64> {
        segment::list(folder).unwrap().into_iter().map(|(first, _)| first).collect()
    };
    assert_eq!(firsts(&folders[0]), firsts(&folders[1]));
    drop(journal);
    for copy in 0..2 {
        let mut entries = Vec::new();
        SegmentedJournal::open(&folders[copy..=copy], SEGMENT, store, |_, payload| {
            entries.push(payload.to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!(entries, after);
    }
}

#[test]
fn a_copy_that_can_only_be_read_at_the_start_is_left_and_read() {
    // A folder in place of the open segment's file can be read by nobody; here it is the writing that fails.
    let bench = Bench::new(2);
    let folders = bench.folders();
    let mut written = Vec::new();
    let (mut journal, _) = bench.open().unwrap();
    append(&mut journal, &mut written, 3);
    drop(journal);
    let mount = ReadOnly::bind(&folders[1]);
    if mount.is_none() {
        // Without the right to mount there is no such disk to be had.
        return;
    }
    let (mut journal, entries) = bench.open().unwrap();
    assert_eq!(entries, written);
    assert!(matches!(journal.health().copies()[1].state, CopyState::Left(_)));
    append(&mut journal, &mut written, 3);
    drop(journal);
    drop(mount);
    assert_eq!(bench.open().unwrap().1, written);
}

/// A folder mounted upon itself, to be read only.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn bind(folder: &Path) -> Option<Self> {
        // No process is started for it: until its exec it would hold the locks of the tests beside this one.
        rustix::mount::mount_bind(folder, folder).ok()?;
        let mount = Self(folder.to_owned());
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        rustix::mount::mount_remount(folder, flags, "").unwrap();
        Some(mount)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}
