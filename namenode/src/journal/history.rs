//! Reading old entries beside the journal that is being written.
//!
//! For those who follow the namespace: what is gone, or rotten in every copy, is missed and passed over; nothing here is
//! needed to be right for the namespace to be.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::entry::{self, EntryKind};
use super::health::{CopyState, JournalHealth};
use super::segment::{self, HEADER_BYTES, SegmentHead};

/// Largest entry that is read, in bytes.
const MAX_ENTRY_BYTES: usize = 1 << 30;

/// The kept segments of a journal.
#[derive(Clone)]
pub(crate) struct History {
    folders: Vec<PathBuf>,
    health: JournalHealth,
}

/// One batch that was read.
pub(crate) struct OldEntry {
    /// Its index.
    #[cfg(test)]
    pub(crate) index: u64,
    /// Its bytes.
    pub(crate) payload: Vec<u8>,
    /// Where the next entry begins in its segment.
    pub(crate) next: u64,
}

impl History {
    /// The journal with a copy in each of these folders. A copy that `health` knows as left is not asked: its disk may not
    /// answer.
    pub(crate) const fn new(folders: Vec<PathBuf>, health: JournalHealth) -> Self {
        Self { folders, health }
    }

    fn asked(&self) -> impl Iterator<Item = &PathBuf> {
        let is_left = |copy: usize| matches!(self.health.state(copy), Some(CopyState::Left(_)));
        self.folders.iter().enumerate().filter(move |(copy, _)| !is_left(*copy)).map(|(_, folder)| folder)
    }

    /// The first indexes of the segments that some copy has, in order. What cannot be listed has none.
    pub(crate) fn segments(&self) -> Vec<u64> {
        let listed = self.asked().filter_map(|folder| segment::list(folder).ok());
        let firsts: BTreeSet<u64> = listed.flatten().map(|(first, _)| first).collect();
        firsts.into_iter().collect()
    }

    /// The first batch in segment `first` at or after byte `offset` (0 for its beginning), from a copy that has it.
    /// None at the end of what is good.
    pub(crate) fn batch_at(&self, first: u64, offset: u64) -> Option<OldEntry> {
        let mut best = None;
        for folder in self.asked() {
            best = OpenSegment::open(folder.join(segment::file_name(first)), first)
                .and_then(|segment| segment.batch_at(offset.max(HEADER_BYTES as u64)));
            if best.is_some() {
                break;
            }
        }
        best
    }
}

struct OpenSegment {
    file: File,
    head: SegmentHead,
}

impl OpenSegment {
    fn open(path: PathBuf, first: u64) -> Option<Self> {
        let file = File::open(path).ok()?;
        let mut bytes = [0; HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let head = SegmentHead::decode(&bytes).filter(|head| head.first == first)?;
        Some(Self { file, head })
    }

    fn batch_at(&self, mut offset: u64) -> Option<OldEntry> {
        loop {
            let bytes = self.entry_at(offset)?;
            let found = entry::find(self.head.salt, &bytes, 0)?;
            let next = offset + found.end() as u64;
            if found.head.kind == EntryKind::Batch {
                let from = entry::HEADER_BYTES;
                let payload = bytes[from..from + found.payload].to_vec();
                return Some(OldEntry {
                    #[cfg(test)]
                    index: found.head.index,
                    payload,
                    next,
                });
            }
            offset = next;
        }
    }

    /// The bytes of what may be an entry at `offset`.
    fn entry_at(&self, offset: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; entry::HEADER_BYTES];
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        let size = entry::size(entry::payload_bytes(&bytes)?);
        let end = offset.checked_add(size as u64)?;
        if size > MAX_ENTRY_BYTES || end > self.head.bytes {
            return None;
        }
        bytes.resize(size, 0);
        self.file
            .read_exact_at(&mut bytes[entry::HEADER_BYTES..], offset + entry::HEADER_BYTES as u64)
            .ok()?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Journal as _, Position, SegmentedJournal};
    use super::*;

    /// All batches from the beginning of what is kept.
    fn read(history: &History) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        for first in history.segments() {
            let mut at = 0;
            while let Some(entry) = history.batch_at(first, at) {
                at = entry.next;
                found.push((entry.index, entry.payload));
            }
        }
        found
    }

    #[test]
    fn what_is_kept_can_be_read_beside_the_writer() {
        let keep = tempfile::tempdir().unwrap();
        let folders = vec![keep.path().join("a"), keep.path().join("b")];
        let (mut journal, _) =
            SegmentedJournal::open(&folders, 1_024, Position::default(), |_, _| Ok(())).unwrap();
        let history = History::new(folders.clone(), journal.health());
        assert_eq!(read(&history), []);
        let mut written = Vec::new();
        for number in 0..70 {
            let payload = format!("batch {number}").into_bytes();
            written.push((journal.append(&payload).unwrap().index, payload));
            assert_eq!(read(&history), written);
        }
        // One copy is enough, and what is gone from all is passed over.
        let segments = history.segments();
        std::fs::remove_file(folders[0].join(segment::file_name(segments[0]))).unwrap();
        assert_eq!(read(&history), written);
        std::fs::remove_file(folders[1].join(segment::file_name(segments[0]))).unwrap();
        let rest: Vec<_> = written.into_iter().filter(|(index, _)| *index >= segments[1]).collect();
        assert_eq!(read(&history), rest);
    }

    #[test]
    fn segments_are_kept_behind_what_is_needed() {
        let keep = tempfile::tempdir().unwrap();
        let folders = vec![keep.path().join("a")];
        let (journal, _) =
            SegmentedJournal::open(&folders, 1_024, Position::default(), |_, _| Ok(())).unwrap();
        let mut journal = journal.keeping(4_096);
        for number in 0..200 {
            let at = journal.append(format!("batch {number}").as_bytes()).unwrap();
            journal.trim(at.index);
        }
        let history = History::new(folders.clone(), journal.health());
        assert_eq!(history.segments().len(), 5, "four and the open one");
        let store = journal.position();
        drop(journal);
        let (mut journal, recovered) =
            SegmentedJournal::open(&folders, 1_024, store, |_, _| panic!("nothing is replayed")).unwrap();
        assert_eq!((recovered.batches, recovered.repaired), (0, vec![]));
        assert_eq!(history.segments().len(), 5, "what is kept is not in the way of a start");
        journal.trim(store.index);
        assert_eq!(history.segments().len(), 1);
    }
}
