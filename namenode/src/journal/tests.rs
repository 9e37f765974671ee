use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::recover::Chain;
use super::{Journal, JournalError, Position, Recovered, SegmentedJournal, segment};

const SEGMENT: u64 = 1_024;

/// A journal in two folders of a temporary one.
struct Bench {
    folder: tempfile::TempDir,
    copies: usize,
}

type Entries = Vec<(u64, Vec<u8>)>;

impl Bench {
    fn new(copies: usize) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), copies }
    }

    fn folders(&self) -> Vec<PathBuf> {
        (0..self.copies).map(|copy| self.folder.path().join(copy.to_string())).collect()
    }

    fn open_at(&self, store: Position) -> Result<(SegmentedJournal, Recovered, Entries), JournalError> {
        let mut entries = Vec::new();
        let (journal, recovered) =
            SegmentedJournal::open(&self.folders(), SEGMENT, store, |position, payload| {
                entries.push((position.index, payload.to_vec()));
                Ok(())
            })?;
        Ok((journal, recovered, entries))
    }

    fn open(&self) -> Result<(SegmentedJournal, Recovered, Entries), JournalError> {
        self.open_at(Position::default())
    }

    /// Reads the entries without repairing or writing anything: cheap enough for thousands of damages.
    fn read(&self) -> Result<Entries, JournalError> {
        let mut entries = Vec::new();
        Chain::read(&self.folders(), Position::default())?.replay(|position, payload| {
            entries.push((position.index, payload.to_vec()));
            Ok(())
        })?;
        Ok(entries)
    }

    /// The segment files of a copy, in order.
    fn files(&self, copy: usize) -> Vec<PathBuf> {
        segment::list(&self.folders()[copy]).unwrap().into_iter().map(|(_, path)| path).collect()
    }

    /// Copies everything into a new bench, as a disk image would be.
    fn image(&self) -> Self {
        let image = Self::new(self.copies);
        for (from, to) in self.folders().iter().zip(image.folders()) {
            std::fs::create_dir_all(&to).unwrap();
            for item in std::fs::read_dir(from).unwrap() {
                let path = item.unwrap().path();
                std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
            }
        }
        image
    }
}

fn payload(number: u64) -> Vec<u8> {
    format!("entry {number} {}", "x".repeat((number % 7) as usize * 9)).into_bytes()
}

/// A journal with this many batches; gives them as they should be read back.
fn filled(copies: usize, batches: u64) -> (Bench, Entries) {
    let bench = Bench::new(copies);
    let (mut journal, ..) = bench.open().unwrap();
    let entries = (0..batches)
        .map(|number| {
            let position = journal.append(&payload(number)).unwrap();
            (position.index, payload(number))
        })
        .collect();
    (bench, entries)
}

#[test]
fn entries_come_back_in_order_across_segments() {
    let (bench, written) = filled(2, 100);
    assert!(bench.files(0).len() > 3);
    let (mut journal, recovered, read) = bench.open().unwrap();
    assert_eq!(read, written);
    assert_eq!(recovered, Recovered { batches: 100, repaired: Vec::new() });
    assert_eq!(journal.epoch(), 2);
    let next = journal.append(b"more").unwrap();
    assert_eq!(next.index, written.last().unwrap().0 + 2, "a new life begins with a seal");
    drop(journal);
    assert_eq!(bench.open().unwrap().2.last().unwrap(), &(next.index, b"more".to_vec()));
}

#[test]
fn replay_starts_where_the_store_stands() {
    let bench = Bench::new(2);
    let (mut journal, ..) = bench.open().unwrap();
    let positions: Vec<Position> = (0..40).map(|number| journal.append(&payload(number)).unwrap()).collect();
    drop(journal);
    let (mut journal, _, read) = bench.open_at(positions[29]).unwrap();
    assert_eq!(read.len(), 10);
    journal.trim(positions[29].index);
    assert!(segment::list(&bench.folders()[1]).unwrap()[0].0 <= positions[29].index + 1);
    drop(journal);
    let image = bench.image();
    assert_eq!(bench.open_at(positions[29]).unwrap().2, read);
    // What was trimmed is missed if the store is older.
    assert!(matches!(image.open_at(positions[2]).map(|_| ()), Err(JournalError::Gap { .. })));
    let foreign = Position { hash: 1, ..positions[29] };
    assert!(matches!(image.open_at(foreign).map(|_| ()), Err(JournalError::Foreign { .. })));
    let ahead = Position { index: 1_000, hash: 1 };
    assert!(matches!(image.open_at(ahead).map(|_| ()), Err(JournalError::Behind { .. })));
}

#[test]
fn epochs_never_go_back_even_when_everything_is_trimmed() {
    let bench = Bench::new(1);
    let mut last = Position::default();
    for life in 1..6 {
        let (mut journal, ..) = bench.open_at(last).unwrap();
        assert_eq!(journal.epoch(), life);
        for number in 0..30 {
            last = journal.append(&payload(number)).unwrap();
        }
        journal.trim(last.index);
        assert_eq!(bench.files(0).len(), 1);
    }
}

#[test]
fn large_entries_get_a_segment_of_their_own() {
    let bench = Bench::new(2);
    let (mut journal, ..) = bench.open().unwrap();
    let large = vec![7; 5_000];
    journal.append(b"small").unwrap();
    journal.append(&large).unwrap();
    journal.append(b"small again").unwrap();
    drop(journal);
    let payloads: Vec<_> = bench.open().unwrap().2.into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, [b"small".to_vec(), large, b"small again".to_vec()]);
}

#[test]
fn a_failed_write_is_not_tried_again() {
    let bench = Bench::new(2);
    let (mut journal, ..) = bench.open().unwrap();
    let good = journal.append(b"good").unwrap();
    let read_only =
        || bench.folders().iter().map(|_| File::open(bench.files(0)[0].clone()).unwrap()).collect();
    journal.break_files(read_only());
    assert!(journal.append(b"lost").is_err());
    let writable: Vec<File> =
        (0..2).map(|copy| File::options().write(true).open(&bench.files(copy)[0]).unwrap()).collect();
    journal.break_files(writable);
    assert!(journal.append(b"after").unwrap_err().to_string().contains("not tried again"));
    assert!(journal.seal().is_err());
    assert_eq!(journal.position(), good);
    drop(journal);
    assert_eq!(bench.open().unwrap().2, [(good.index, b"good".to_vec())]);
}

/// Damages the last segment of a copy of a throw-away image, reads, and hands the outcome to `check`.
fn with_damage(
    bench: &Bench,
    copy: usize,
    damage: impl Fn(&Path),
    check: impl Fn(Result<Entries, JournalError>),
) {
    let path = bench.files(copy).pop().unwrap();
    let before = std::fs::read(&path).unwrap();
    damage(&path);
    check(bench.read());
    std::fs::write(&path, before).unwrap();
}

/// As [`with_damage`], and opens for good: both copies must be whole afterwards.
fn with_repaired_damage(bench: &Bench, copy: usize, damage: impl Fn(&Path), written: &Entries) {
    let image = bench.image();
    damage(image.files(copy).last().unwrap());
    assert_eq!(image.open().unwrap().2, *written);
    let files: Vec<Vec<u8>> =
        (0..2).map(|copy| std::fs::read(image.files(copy).last().unwrap()).unwrap()).collect();
    assert_eq!(files[0].len() as u64, SEGMENT);
    assert_eq!(files[0], files[1]);
}

fn flip(path: &Path, bit: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    std::fs::write(path, bytes).unwrap();
}

fn cut(path: &Path, length: usize) {
    File::options().write(true).open(path).unwrap().set_len(length as u64).unwrap();
}

/// Bytes of the last segment that are not the zeros at its end.
fn used(path: &Path) -> usize {
    let bytes = std::fs::read(path).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[test]
fn any_bit_flipped_in_one_of_two_copies_loses_nothing() {
    let (bench, written) = filled(2, 4);
    for copy in 0..2 {
        let length = used(bench.files(copy).last().unwrap());
        for bit in 0..(length + 16) * 8 {
            let check =
                |outcome: Result<_, _>| assert_eq!(outcome.unwrap(), written, "bit {bit} of copy {copy}");
            with_damage(&bench, copy, |path| flip(path, bit), check);
        }
        for bit in (0..(length + 16) * 8).step_by(397) {
            with_repaired_damage(&bench, copy, |path| flip(path, bit), &written);
        }
    }
}

#[test]
fn any_byte_cut_from_one_of_two_copies_loses_nothing() {
    let (bench, written) = filled(2, 4);
    for copy in 0..2 {
        for length in 0..SEGMENT as usize {
            let check =
                |outcome: Result<_, _>| assert_eq!(outcome.unwrap(), written, "{length} bytes of {copy}");
            with_damage(&bench, copy, |path| cut(path, length), check);
        }
        for length in (0..SEGMENT as usize).step_by(127) {
            with_repaired_damage(&bench, copy, |path| cut(path, length), &written);
        }
    }
}

/// With one copy and a seal at the end, damage is either harmless or refused; never is an entry dropped silently.
#[test]
fn any_damage_of_a_single_sealed_copy_is_harmless_or_refused() {
    let (bench, written) = filled(1, 4);
    let (mut journal, ..) = bench.open().unwrap();
    journal.seal().unwrap();
    drop(journal);
    let length = used(bench.files(0).last().unwrap());
    let check = |outcome: Result<Entries, JournalError>, what: &str| match outcome {
        Ok(read) => assert_eq!(read, written, "{what}"),
        Err(JournalError::Rotten { .. }) => {}
        Err(other) => panic!("{what}: {other}"),
    };
    for bit in 0..length * 8 {
        with_damage(&bench, 0, |path| flip(path, bit), |outcome| check(outcome, &format!("bit {bit}")));
    }
}

/// Cutting a file is never taken for a crash: a segment has its full size before it is used.
#[test]
fn a_single_copy_that_was_cut_is_refused_where_entries_may_be_gone() {
    let (bench, written) = filled(1, 4);
    let path = bench.files(0).pop().unwrap();
    let length = used(&path);
    for cut_at in 0..SEGMENT as usize {
        with_damage(
            &bench,
            0,
            |path| cut(path, cut_at),
            |outcome| match outcome {
                Ok(read) => {
                    assert_eq!(read, written, "cut at {cut_at}");
                    assert!(cut_at > length);
                }
                Err(JournalError::Rotten { .. }) => {}
                Err(other) => panic!("cut at {cut_at}: {other}"),
            },
        );
    }
}

/// A crash may leave any part of the last append, in any copy: what was acknowledged before stays.
#[test]
fn a_torn_append_is_dropped_and_all_before_it_kept() {
    let (bench, written) = filled(2, 3);
    let before: Vec<Vec<u8>> =
        (0..2).map(|copy| std::fs::read(bench.files(copy).last().unwrap()).unwrap()).collect();
    let (mut with_seal, ..) = bench.open().unwrap();
    with_seal.append(b"torn").unwrap();
    drop(with_seal);
    let after: Vec<Vec<u8>> =
        (0..2).map(|copy| std::fs::read(bench.files(copy).last().unwrap()).unwrap()).collect();
    let start = before[0].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let end = after[0].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for reached in start..end {
        for copies in [&[0][..], &[1], &[0, 1]] {
            let image = bench.image();
            for copy in 0..2 {
                let mut bytes = before[copy].clone();
                if copies.contains(&copy) {
                    bytes[start..reached].copy_from_slice(&after[copy][start..reached]);
                }
                std::fs::write(image.files(copy).last().unwrap(), bytes).unwrap();
            }
            let (_, _, read) = image.open().unwrap();
            assert_eq!(read[..3], written[..], "{reached} in {copies:?}");
            // And again: what was dropped stays dropped, what was kept stays kept.
            assert_eq!(image.open().unwrap().2, read);
        }
    }
}

#[test]
fn rot_in_the_middle_of_every_copy_is_refused_and_nothing_is_changed() {
    let (bench, written) = filled(2, 60);
    let (first, second) = (bench.files(0)[1].clone(), bench.files(1)[1].clone());
    flip(&first, 8 * 200);
    flip(&second, 8 * 200);
    let images = [std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap()];
    let error = bench.open().map(|_| ()).unwrap_err();
    assert!(matches!(error, JournalError::Rotten { .. }), "{error}");
    assert!(error.to_string().contains("Put back an intact copy"));
    assert_eq!([std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap()], images);
    // Rot in different places of the two copies is repaired.
    flip(&second, 8 * 200);
    flip(&second, 8 * 400);
    let (_, recovered, read) = bench.open().unwrap();
    assert_eq!(read, written);
    assert_eq!(recovered.repaired, [first, second]);
    assert!(bench.open().unwrap().1.repaired.is_empty());
}

#[test]
fn a_missing_copy_is_made_again() {
    let (bench, written) = filled(2, 60);
    // A spare segment of the journal that was just dropped may still be on its way into the folder.
    let remove = |folder: &Path| {
        while std::fs::remove_dir_all(folder).is_err_and(|error| error.kind() != ErrorKind::NotFound) {}
    };
    remove(&bench.folders()[1]);
    let (_, recovered, read) = bench.open().unwrap();
    assert_eq!(read, written);
    assert!(!recovered.repaired.is_empty());
    remove(&bench.folders()[0]);
    assert_eq!(bench.open().unwrap().2, written);
}

#[test]
fn a_missing_segment_in_every_copy_is_refused() {
    let (bench, _) = filled(2, 60);
    for copy in 0..2 {
        std::fs::remove_file(&bench.files(copy)[1]).unwrap();
    }
    assert!(matches!(bench.open().map(|_| ()), Err(JournalError::Rotten { .. })));
}

#[test]
fn segments_swapped_by_a_careless_hand_are_noticed() {
    let (bench, written) = filled(2, 60);
    let files = bench.files(0);
    let (one, other) = (std::fs::read(&files[1]).unwrap(), std::fs::read(&files[2]).unwrap());
    std::fs::write(&files[1], other).unwrap();
    std::fs::write(&files[2], one).unwrap();
    assert_eq!(bench.open().unwrap().2, written);
}

#[test]
fn an_image_taken_at_any_moment_has_all_acknowledged_entries() {
    let bench = Bench::new(2);
    let (mut journal, ..) = bench.open().unwrap();
    let mut written = Vec::new();
    for number in 0..40 {
        let position = journal.append(&payload(number)).unwrap();
        written.push((position.index, payload(number)));
        // The next spare may be half made in the image: that too must not matter.
        assert_eq!(bench.image_of_segments().open().unwrap().2, written);
    }
}

impl Bench {
    /// As [`Bench::image`], of the segments alone: a spare may vanish while it is copied.
    fn image_of_segments(&self) -> Self {
        let image = Self::new(self.copies);
        for (copy, to) in image.folders().iter().enumerate() {
            std::fs::create_dir_all(to).unwrap();
            for path in self.files(copy) {
                std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
            }
        }
        image
    }
}

#[test]
fn a_new_segment_begins_when_asked_and_an_empty_one_stays() {
    let bench = Bench::new(2);
    let (mut journal, ..) = bench.open().unwrap();
    let count = || bench.files(0).len();
    assert_eq!(count(), 1);
    journal.append(&payload(1)).unwrap();
    journal.roll().unwrap();
    assert_eq!((count(), bench.files(1).len()), (2, 2));
    journal.roll().unwrap();
    assert_eq!(count(), 2, "nothing was written since");
    journal.append(&payload(2)).unwrap();
    journal.roll().unwrap();
    drop(journal);
    // The last segment holds nothing yet.
    let (mut journal, recovered, entries) = bench.open().unwrap();
    let payloads = |entries: &Entries| entries.iter().map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>();
    assert_eq!((recovered.repaired, payloads(&entries)), (Vec::new(), vec![payload(1), payload(2)]));
    journal.append(&payload(3)).unwrap();
    drop(journal);
    let (_, _, entries) = bench.open().unwrap();
    assert_eq!(payloads(&entries), [payload(1), payload(2), payload(3)]);
}

#[test]
fn a_new_segment_that_is_too_small_is_replaced_and_not_trimmed() {
    let keep = tempfile::tempdir().unwrap();
    let folders = vec![keep.path().join("a"), keep.path().join("b")];
    let open = |entries: &mut Vec<Vec<u8>>, store| {
        SegmentedJournal::open(&folders, 1_024, store, |_, bytes| {
            entries.push(bytes.to_vec());
            Ok(())
        })
    };
    let (mut journal, _) = open(&mut Vec::new(), Position::default()).unwrap();
    let store = journal.append(b"stored").unwrap();
    journal.roll().unwrap();
    let large = vec![7; 5_000];
    journal.append(&large).unwrap();
    // The store has what came before the new segment, and nothing of it.
    journal.trim(store.index);
    journal.append(b"after").unwrap();
    journal.trim(store.index);
    drop(journal);
    let mut entries = Vec::new();
    open(&mut entries, store).unwrap();
    assert_eq!(entries, [large, b"after".to_vec()]);
}
