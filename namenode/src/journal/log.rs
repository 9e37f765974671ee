//! The journal as it is written.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use uuid::Uuid;

use super::copies::{Copies, Spares};
use super::entry::{self, EntryHead, EntryKind};
use super::recover::{self, Chain};
use super::segment::{self, HEADER_BYTES, SegmentHead};
use super::{Journal, JournalError, Position};

/// A journal of segments in one or more folders.
pub struct SegmentedJournal {
    folders: Vec<PathBuf>,
    segment_bytes: u64,
    copies: Copies,
    spares: Spares,
    head: SegmentHead,
    /// Where the next entry goes in the open segment.
    offset: usize,
    position: Position,
    epoch: u64,
    sealed: bool,
    /// First indexes of the segments that are kept, the open one last.
    segments: VecDeque<u64>,
    /// How many segments are kept that nobody needs to start.
    spared: usize,
    /// Set by a failed write or sync.
    failed: bool,
}

/// What opening a journal found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Batches replayed.
    pub batches: u64,
    /// Segment files that were damaged, torn or missing, and were written anew.
    pub repaired: Vec<PathBuf>,
}

impl SegmentedJournal {
    /// Opens the journal in `folders`, one copy each, and hands what comes after `store` to `replay`. Makes an empty
    /// journal if there is none and `store` is at the beginning. A seal with a new epoch is appended.
    ///
    /// # Errors
    /// Acknowledged entries are missing, journal and store do not belong together, `replay` refuses an entry, or the
    /// disk fails. Copies are repaired only after all was replayed.
    pub fn open(
        folders: &[PathBuf],
        segment_bytes: u64,
        store: Position,
        mut replay: impl FnMut(Position, &[u8]) -> Result<(), JournalError>,
    ) -> Result<(Self, Recovered), JournalError> {
        for folder in folders {
            std::fs::create_dir_all(folder).map_err(JournalError::io(folder))?;
            recover::remove_leftovers(folder)?;
        }
        let chain = Chain::read(folders, store)?;
        chain.settle(folders)?;
        let mut recovered = Recovered::default();
        chain.replay(|position, payload| {
            recovered.batches += 1;
            replay(position, payload)
        })?;
        let repaired = chain.repair(folders)?;
        recovered.repaired = repaired.files;
        let journal = Self::resume(folders, segment_bytes, &chain, repaired.active);
        Ok((journal.map_err(JournalError::io(&folders[0]))?, recovered))
    }

    fn resume(
        folders: &[PathBuf],
        segment_bytes: u64,
        chain: &Chain,
        active: Option<(SegmentHead, usize)>,
    ) -> io::Result<Self> {
        let epoch = chain.epoch() + 1;
        let spares = Spares::start(folders.to_vec(), segment_bytes)?;
        let (head, offset, files) = match active {
            Some((head, offset)) => {
                let open = |folder: &PathBuf| {
                    File::options().read(true).write(true).open(folder.join(segment::file_name(head.first)))
                };
                (head, offset, folders.iter().map(open).collect::<io::Result<_>>()?)
            }
            None => {
                let head = new_head(chain.end, segment_bytes, epoch);
                (head, HEADER_BYTES, spares.begin(&head, segment_bytes)?)
            }
        };
        let listed = segment::list(&folders[0]).map_err(io::Error::other)?;
        let mut journal = Self {
            folders: folders.to_vec(),
            segment_bytes,
            copies: Copies::new(files)?,
            spares,
            head,
            offset,
            position: chain.end,
            epoch,
            sealed: false,
            segments: listed.into_iter().map(|(first, _)| first).collect(),
            spared: 0,
            failed: false,
        };
        journal.write(EntryKind::Seal, &[])?;
        Ok(journal)
    }

    /// Keeps about so many bytes of entries that are no longer needed, for those who ask what happened.
    #[must_use]
    pub fn keeping(self, bytes: u64) -> Self {
        let spared = usize::try_from(bytes / self.segment_bytes.max(1)).unwrap_or(usize::MAX);
        Self { spared, ..self }
    }

    fn write(&mut self, kind: EntryKind, payload: &[u8]) -> io::Result<Position> {
        if self.failed {
            return Err(failed_before());
        }
        // Until all copies have it, nobody knows whether it is there.
        self.failed = true;
        let index = self.position.index + 1;
        if self.offset + entry::size(payload.len()) > self.head.bytes as usize {
            self.next_segment(payload.len())?;
        }
        let head = EntryHead { kind, index, epoch: self.epoch, previous: self.position.hash };
        let (bytes, hash) = entry::encode(self.head.salt, head, payload);
        let length = bytes.len();
        self.copies.write(self.offset as u64, bytes)?;
        self.offset += length;
        self.position = Position { index, hash };
        self.sealed = kind == EntryKind::Seal;
        self.failed = false;
        Ok(self.position)
    }

    fn next_segment(&mut self, payload: usize) -> io::Result<()> {
        let bytes = self.segment_bytes.max((HEADER_BYTES + entry::size(payload)) as u64);
        let head = new_head(self.position, bytes, self.epoch);
        self.copies.switch(self.spares.begin(&head, self.segment_bytes)?);
        // One that holds nothing and is too small for what comes was replaced by another of its name: there is one.
        if self.segments.back() != Some(&head.first) {
            self.segments.push_back(head.first);
        }
        self.head = head;
        self.offset = HEADER_BYTES;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn break_files(&mut self, files: Vec<File>) {
        self.copies.switch(files);
    }
}

fn failed_before() -> io::Error {
    io::Error::other("a write to the journal failed before; it is not tried again")
}

fn new_head(last: Position, bytes: u64, epoch: u64) -> SegmentHead {
    SegmentHead {
        first: last.index + 1,
        previous: last.hash,
        bytes,
        salt: Uuid::new_v4().as_u64_pair().1,
        epoch,
    }
}

impl Journal for SegmentedJournal {
    fn append(&mut self, payload: &[u8]) -> io::Result<Position> {
        self.write(EntryKind::Batch, payload)
    }

    fn seal(&mut self) -> io::Result<()> {
        if !self.sealed {
            self.write(EntryKind::Seal, &[])?;
        }
        Ok(())
    }

    fn roll(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(failed_before());
        }
        if self.offset > HEADER_BYTES {
            self.failed = true;
            self.next_segment(0)?;
            self.failed = false;
        }
        Ok(())
    }

    fn position(&self) -> Position {
        self.position
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn trim(&mut self, through: u64) {
        let spared = self.spared;
        while self.segments.get(spared.saturating_add(1)).is_some_and(|next| *next <= through + 1)
            && let Some(first) = self.segments.pop_front()
        {
            for folder in &self.folders {
                let path = folder.join(segment::file_name(first));
                if let Err(error) = std::fs::remove_file(&path)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(path = %path.display(), %error, "an old journal segment cannot be removed");
                }
            }
        }
    }
}
