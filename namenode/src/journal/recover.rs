//! Opening a journal: from what lies in the copies to one chain of entries, and every copy made to hold it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::copies::Failure;
use super::entry::{self, EntryKind, Found, HEADER_BYTES};
use super::segment::{self, Scan, SegmentHead, Tail};
use super::{JournalError, Position, notes};

/// One entry of the chain and where to read it.
#[derive(Clone, Copy, Debug)]
struct Link {
    copy: usize,
    segment: u64,
    found: Found,
}

/// The segments of one copy, by the first index in their names.
type Copy = BTreeMap<u64, Scan>;

/// What was found.
pub(super) struct Chain {
    /// The entries after the store's position, in order.
    links: Vec<Link>,
    copies: Vec<Copy>,
    /// Whether a copy may tell where the journal ends: not one that was left while others went on.
    vouches: Vec<bool>,
    /// The first entry that not every copy has, if one was left.
    left_at: Option<u64>,
    /// Whether copies were left at all.
    pub(super) has_notes: bool,
    /// The last entry.
    pub(super) end: Position,
}

impl Chain {
    /// Reads all copies and chains their entries from `store` on. Changes nothing.
    pub(super) fn read(folders: &[PathBuf], store: Position) -> Result<Self, JournalError> {
        let names: Vec<Vec<(u64, PathBuf)>> =
            folders.iter().map(|folder| segment::list(folder)).collect::<Result<_, _>>()?;
        let start = first_needed(&names, store)?;
        let copies = names
            .iter()
            .map(|copy| {
                let needed = copy.iter().filter(|(first, _)| *first >= start);
                needed.map(|(first, path)| Ok((*first, Scan::read(path, *first)?))).collect()
            })
            .collect::<Result<Vec<Copy>, JournalError>>()?;
        let noted = folders
            .iter()
            .map(|folder| notes::highest(folder).map_err(JournalError::io(folder)))
            .collect::<Result<Vec<_>, _>>()?;
        let left_at = noted.iter().flatten().max().copied();
        let vouches = noted.iter().map(|note| *note == left_at).collect();
        let has_notes = left_at.is_some();
        let mut chain = Self { links: Vec::new(), copies, vouches, left_at, has_notes, end: store };
        chain.link(store)?;
        Ok(chain)
    }

    /// Whether there is no segment at all: a journal that is being made.
    pub(super) fn is_empty(&self) -> bool {
        self.copies.iter().all(BTreeMap::is_empty)
    }

    /// The highest epoch that anything good has; 0 in an empty journal.
    pub(super) fn epoch(&self) -> u64 {
        let entries = self.copies.iter().flat_map(BTreeMap::values).flat_map(|scan| &scan.entries);
        let epochs = entries.map(|found| found.head.epoch).chain(self.heads().map(|(_, head)| head.epoch));
        epochs.max().unwrap_or(0)
    }

    /// Hands the batches after the store's position to `replay`, in order.
    pub(super) fn replay<E>(
        &self,
        mut replay: impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for link in self.links.iter().filter(|link| link.found.head.kind == EntryKind::Batch) {
            if let Some(scan) = self.copies[link.copy].get(&link.segment) {
                let position = Position { index: link.found.head.index, hash: link.found.hash };
                replay(position, scan.payload(&link.found))?;
            }
        }
        Ok(())
    }

    /// Segments by first index: the good entries of all copies, first copy first.
    fn candidates(&self, index: u64) -> impl Iterator<Item = Link> {
        self.copies.iter().enumerate().filter_map(move |(copy, segments)| {
            // A file under a name that no segment has must not hide the one that holds the entry.
            let (first, scan) = segments.range(..=index).rfind(|(_, scan)| scan.head.is_some())?;
            let at = scan.entries.binary_search_by_key(&index, |found| found.head.index).ok()?;
            Some(Link { copy, segment: *first, found: scan.entries[at] })
        })
    }

    fn heads(&self) -> impl Iterator<Item = (u64, SegmentHead)> {
        self.copies.iter().flatten().filter_map(|(first, scan)| scan.head.map(|head| (*first, head)))
    }

    fn next_link(&self) -> Option<Link> {
        self.candidates(self.end.index + 1).find(|link| link.found.head.previous == self.end.hash)
    }

    /// Builds the chain from the store's position to the last entry that some copy has.
    fn link(&mut self, store: Position) -> Result<(), JournalError> {
        let of_store = self.candidates(store.index).next();
        let next = self.candidates(store.index + 1).next();
        let parted = of_store.is_some_and(|link| link.found.hash != store.hash)
            || next.is_some_and(|link| link.found.head.previous != store.hash);
        if parted {
            return Err(JournalError::Foreign { index: store.index });
        }
        while let Some(link) = self.next_link() {
            self.end = Position { index: link.found.head.index, hash: link.found.hash };
            self.links.push(link);
        }
        self.check_end(store)
    }

    /// The chain ends here: is that the end, or was there more?
    fn check_end(&self, store: Position) -> Result<(), JournalError> {
        let end = self.end.index;
        let later_entry = self
            .copies
            .iter()
            .flat_map(BTreeMap::values)
            .flat_map(|scan| &scan.entries)
            .any(|found| found.head.index > end);
        let later_segment = self.copies.iter().flat_map(BTreeMap::keys).any(|first| *first > end + 1);
        // Every copy of the segment that should go on is cut short right where the chain ends, or has lost its header. A
        // copy without that segment says nothing.
        let firsts = self.copies.iter().flat_map(|copy| copy.range(..=end + 1)).map(|(first, _)| *first);
        let newest = firsts.filter(|first| !self.is_stray(*first)).max();
        let vouching =
            || self.copies.iter().zip(&self.vouches).filter(|(_, vouches)| **vouches).map(|(copy, _)| copy);
        let all_lost = newest.is_some_and(|newest| {
            let mut scans = vouching().filter_map(|copy| copy.get(&newest));
            scans.all(|scan| scan.head.is_none() || scan.tail == Tail::Cut)
        });
        // What only some copies have was acknowledged by them alone.
        let lost_alone = self.left_at.is_some_and(|left_at| end + 1 < left_at);
        if later_entry || later_segment || all_lost || lost_alone {
            return Err(JournalError::Rotten { index: end + 1, copies: self.describe(end + 1) });
        }
        // The chain begins at the store's position even if no entry reaches it: then the journal must say it was there.
        let reaches = |first: u64, scan: &Scan| {
            let last = scan.entries.iter().map(|found| found.head.index).max();
            last.unwrap_or(first.saturating_sub(1)) >= store.index
        };
        if !self.is_empty() && !self.copies.iter().flatten().any(|(first, scan)| reaches(*first, scan)) {
            let ends = self.copies.iter().flat_map(BTreeMap::values).flat_map(|scan| &scan.entries);
            let end = ends.map(|found| found.head.index).max().unwrap_or(0);
            return Err(JournalError::Behind { end, store: store.index });
        }
        Ok(())
    }

    /// Whether no segment begins with this entry, whatever a file's name says: an earlier one goes on beyond it.
    fn is_stray(&self, first: u64) -> bool {
        let earlier = self.copies.iter().flat_map(|copy| copy.range(..first));
        earlier.flat_map(|(_, scan)| &scan.entries).any(|found| found.head.index >= first)
    }

    fn describe(&self, index: u64) -> String {
        let one = |copy: &Copy| match copy.range(..=index).next_back() {
            None => "no segment".to_owned(),
            Some((first, scan)) => {
                let name = segment::file_name(*first);
                match (scan.head, scan.tail) {
                    (None, _) => format!("{name}: header damaged"),
                    (_, Tail::Cut) => format!("{name}: cut short or not readable"),
                    _ => format!("{name}: no good entry {index}"),
                }
            }
        };
        self.copies.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// Where the entry is read: as in the chain, or before it from any copy.
    fn link_to(&self, index: u64) -> Option<Link> {
        let chained = self.links.first().and_then(|first| index.checked_sub(first.found.head.index));
        match chained {
            Some(place) => self.links.get(usize::try_from(place).ok()?).copied(),
            None => self.candidates(index).next(),
        }
    }

    /// The bytes of the good entries of a segment, one upon another.
    fn good_entries(&self, head: &SegmentHead) -> Vec<u8> {
        let next = self.heads().map(|(first, _)| first).filter(|first| *first > head.first).min();
        let last = next.map_or(self.end.index, |next| next - 1);
        let mut out = Vec::new();
        for link in (head.first..=last).filter_map(|index| self.link_to(index)) {
            if let Some(scan) = self.copies[link.copy].get(&link.segment) {
                // Copies of one segment may have been begun with other salts.
                out.extend(entry::encode(head.salt, link.found.head, scan.payload(&link.found)).0);
            }
        }
        out
    }

    /// Writes the last entry again, where it lies. It may have been read from memory and not be on the disk: the life that
    /// wrote it may have ended before its sync, or because of that. To be called before anything is made of the entry.
    /// Gives the copies that cannot be written.
    ///
    /// # Errors
    /// No copy can be written.
    pub(super) fn settle(&self, folders: &[PathBuf]) -> Result<Vec<Failure>, JournalError> {
        let Some(last) = self.links.last() else { return Ok(Vec::new()) };
        let mut failures = Vec::new();
        let mut settled = false;
        for (copy, (folder, segments)) in folders.iter().zip(&self.copies).enumerate() {
            let Some(scan) = segments.get(&last.segment) else { continue };
            let Some(found) = scan.entries.last().filter(|found| found.hash == last.found.hash) else {
                continue;
            };
            let path = folder.join(segment::file_name(last.segment));
            let written = File::options().write(true).open(&path).and_then(|file| {
                file.write_all_at(&scan.bytes[found.offset..found.end()], found.offset as u64)?;
                file.sync_data()
            });
            settled |= written.is_ok();
            failures.extend(written.err().map(|error| (copy, error)));
        }
        match failures.pop() {
            Some((copy, error)) if !settled => Err(JournalError::Io { path: folders[copy].clone(), error }),
            last => {
                failures.extend(last);
                Ok(failures)
            }
        }
    }

    /// Makes every copy hold the chain, but those that cannot be written.
    ///
    /// # Errors
    /// No copy can be written.
    pub(super) fn repair(&self, folders: &[PathBuf]) -> Result<Repaired, JournalError> {
        let heads: BTreeMap<u64, SegmentHead> = self.heads().collect();
        let mut repaired = Repaired { files: Vec::new(), active: None, failed: Vec::new() };
        for (first, head) in &heads {
            let entries = self.good_entries(head);
            for (at, (folder, copy)) in folders.iter().zip(&self.copies).enumerate() {
                let is_left = repaired.failed.iter().any(|(known, _)| *known == at);
                if is_left || copy.get(first).is_some_and(|scan| holds(scan, head, &entries)) {
                    continue;
                }
                match segment::rewrite(folder, head, &entries) {
                    Ok(()) => repaired.files.push(folder.join(segment::file_name(*first))),
                    Err(error) if repaired.failed.len() + 1 == folders.len() => {
                        return Err(JournalError::Io { path: folder.clone(), error });
                    }
                    Err(error) => repaired.failed.push((at, error)),
                }
            }
            repaired.active = Some((*head, segment::HEADER_BYTES + entries.len()));
        }
        Ok(repaired)
    }
}

/// What [`Chain::repair`] left.
pub(super) struct Repaired {
    /// The files that were written anew.
    pub(super) files: Vec<PathBuf>,
    /// The segment to go on in, and where in it.
    pub(super) active: Option<(SegmentHead, usize)>,
    /// The copies that could not be written.
    pub(super) failed: Vec<Failure>,
}

/// Whether the file is exactly header, entries and zeros.
fn holds(scan: &Scan, head: &SegmentHead, entries: &[u8]) -> bool {
    let end = scan.entries.last().map_or(segment::HEADER_BYTES, Found::end);
    scan.intact && scan.head.as_ref() == Some(head) && scan.bytes[segment::HEADER_BYTES..end] == *entries
}

/// The first index of the segment that holds what comes after the store's position.
fn first_needed(names: &[Vec<(u64, PathBuf)>], store: Position) -> Result<u64, JournalError> {
    let segments = || names.iter().flatten();
    let Some(oldest) = segments().map(|(first, _)| *first).min() else {
        return if store.index == 0 {
            Ok(1)
        } else {
            Err(JournalError::Behind { end: 0, store: store.index })
        };
    };
    let mut before: Vec<_> = segments().filter(|(first, _)| *first <= store.index + 1).collect();
    before.sort_unstable();
    // A name alone shows nothing. If no header does either, the chain will not be found, and that is said.
    let begun = before.iter().rfind(|(first, path)| segment::has_head(path, *first));
    let found = begun.or(before.last()).map(|(first, _)| *first);
    found.ok_or(JournalError::Gap { first: oldest, store: store.index })
}

/// Removes what a crash left half made.
pub(super) fn remove_leftovers(folder: &Path) -> Result<(), JournalError> {
    for item in std::fs::read_dir(folder).map_err(JournalError::io(folder))? {
        let path = item.map_err(JournalError::io(folder))?.path();
        let leftover =
            path.extension().is_some_and(|extension| extension == "rewrite" || extension == "spare");
        if leftover {
            match std::fs::remove_file(&path) {
                // A disk that only reads may still have what is needed.
                Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                    tracing::warn!(path = %path.display(), %error, "a leftover cannot be removed");
                }
                removed => removed.map_err(JournalError::io(&path))?,
            }
        }
    }
    Ok(())
}

const _: () = assert!(HEADER_BYTES.is_multiple_of(8) && segment::HEADER_BYTES.is_multiple_of(8));

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Journal as _, SegmentedJournal};
    use super::*;

    const SEGMENT: u64 = 1_024;

    /// Two folders with a journal of 70 batches; and the batches.
    fn filled() -> (tempfile::TempDir, Vec<PathBuf>, Vec<Vec<u8>>) {
        let keep = tempfile::tempdir().unwrap();
        let folders = vec![keep.path().join("a"), keep.path().join("b")];
        let (mut journal, _) =
            SegmentedJournal::open(&folders, SEGMENT, Position::default(), |_, _| Ok(())).unwrap();
        let batches: Vec<Vec<u8>> = (0..70).map(|number| format!("batch {number}").into_bytes()).collect();
        for batch in &batches {
            journal.append(batch).unwrap();
        }
        (keep, folders, batches)
    }

    fn open(folders: &[PathBuf]) -> Result<Vec<Vec<u8>>, JournalError> {
        let mut batches = Vec::new();
        SegmentedJournal::open(folders, SEGMENT, Position::default(), |_, batch| {
            batches.push(batch.to_vec());
            Ok(())
        })?;
        Ok(batches)
    }

    fn last(folder: &Path) -> (u64, PathBuf) {
        segment::list(folder).unwrap().pop().unwrap()
    }

    #[test]
    fn a_file_under_a_name_of_no_segment_takes_nothing_away() {
        for from_end in [1, 2] {
            let (_keep, folders, batches) = filled();
            let segments = segment::list(&folders[0]).unwrap();
            let (first, path) = &segments[segments.len() - from_end];
            let stray = folders[0].join(segment::file_name(first + 2));
            fs::copy(path, &stray).unwrap();
            assert_eq!(open(&folders).unwrap(), batches);
            assert_eq!(open(&folders).unwrap(), batches, "the repair has left all");
            assert_eq!(open(&folders[1..]).unwrap(), batches);
            fs::remove_file(stray).unwrap();
            assert_eq!(open(&folders[..1]).unwrap(), batches);
        }
    }

    #[test]
    fn a_copy_without_the_last_segment_does_not_vouch_for_the_end() {
        let (_keep, folders, _) = filled();
        let (first, path) = last(&folders[0]);
        fs::remove_file(last(&folders[1]).1).unwrap();
        let whole = fs::read(&path).unwrap();
        let second = Scan::read(&path, first).unwrap().entries[1].offset;
        let mut headless = whole.clone();
        headless[3] ^= 1;
        for damaged in [&whole[..second], &headless] {
            fs::write(&path, damaged).unwrap();
            assert!(matches!(open(&folders), Err(JournalError::Rotten { .. })));
        }
    }

    #[test]
    fn the_last_entry_is_written_again_before_it_is_believed() {
        let (_keep, folders, batches) = filled();
        let chain = Chain::read(&folders, Position::default()).unwrap();
        // As if it had been read from memory, and the disk had never got it.
        for folder in &folders {
            let (first, path) = last(folder);
            let offset = Scan::read(&path, first).unwrap().entries.last().unwrap().offset;
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .write_all_at(&[0; HEADER_BYTES], offset as u64)
                .unwrap();
        }
        chain.settle(&folders).unwrap();
        assert_eq!(open(&folders).unwrap(), batches);
    }
}
