//! The journal as it is written.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::copies::{Copies, Failure, Place, Spares};
use super::entry::{self, EntryHead, EntryKind};
use super::health::{CopyState, JournalHealth};
use super::recover::{self, Chain};
use super::refill::Refill;
use super::segment::{self, HEADER_BYTES, SegmentHead};
use super::{Journal, JournalError, Position, notes};

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
    /// Set when too few copies took a write.
    failed: bool,
    /// With fewer copies than this it does not go on.
    least_copies: usize,
    health: JournalHealth,
    refill: Refill,
    attempts: Attempts,
}

/// A copy that comes back and fails again is let in less often: each time begins a segment in the others.
#[derive(Default)]
struct Attempts {
    made: u32,
    /// Chances still to be let pass.
    skip: u32,
}

impl Attempts {
    /// Most chances that are let pass: with one every five seconds, five minutes.
    const MOST: u32 = 63;

    /// Whether this chance is to be taken.
    fn take(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.skip = (1_u32 << self.made.min(6)).saturating_sub(1).min(Self::MOST);
        self.made += 1;
        true
    }
}

/// Segments that are kept for the second copy of the store, beyond those kept anyway: so many times these.
const HELD_TIMES: usize = 2;
/// And at least so many.
const HELD_LEAST: usize = 16;

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
        let mut unwritable = chain.settle(folders)?;
        let mut recovered = Recovered::default();
        chain.replay(|position, payload| {
            recovered.batches += 1;
            replay(position, payload)
        })?;
        let repaired = chain.repair(folders)?;
        recovered.repaired = repaired.files;
        unwritable.extend(repaired.failed);
        let journal = Self::resume(folders, segment_bytes, &chain, repaired.active, unwritable);
        Ok((journal.map_err(JournalError::io(&folders[0]))?, recovered))
    }

    fn resume(
        folders: &[PathBuf],
        segment_bytes: u64,
        chain: &Chain,
        active: Option<(SegmentHead, usize)>,
        unwritable: Vec<Failure>,
    ) -> io::Result<Self> {
        let epoch = chain.epoch() + 1;
        let mut spares = Spares::start(folders, segment_bytes)?;
        let mut failures = unwritable;
        let failed = |failures: &[Failure], copy: usize| failures.iter().any(|(known, _)| *known == copy);
        let (head, offset, opened) = match active {
            Some((head, offset)) => {
                let open = |folder: &PathBuf| {
                    let path = folder.join(segment::file_name(head.first));
                    File::options().read(true).write(true).open(path).map(Some)
                };
                (head, offset, folders.iter().map(open).collect())
            }
            None => {
                let head = new_head(chain.end, segment_bytes, epoch);
                let place = |copy| if failed(&failures, copy) { Place::Left } else { Place::Live };
                (head, HEADER_BYTES, spares.begin(&head, segment_bytes, place))
            }
        };
        let mut files = Vec::new();
        for (copy, opened) in opened.into_iter().enumerate() {
            match opened {
                Ok(file) => files.push(file.filter(|_| !failed(&failures, copy))),
                Err(error) => {
                    failures.push((copy, error));
                    files.push(None);
                }
            }
        }
        let mut segments: Vec<u64> = Vec::new();
        for folder in folders {
            let listed = segment::list(folder).map_err(io::Error::other)?;
            segments.extend(listed.into_iter().map(|(first, _)| first));
        }
        segments.sort_unstable();
        segments.dedup();
        let health = JournalHealth::default();
        health.begin(folders);
        health.open.store(head.first, Ordering::Release);
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
            segments: segments.into(),
            spared: 0,
            failed: false,
            least_copies: 1,
            health,
            refill: Refill::default(),
            attempts: Attempts::default(),
        };
        journal.health.note_oldest(journal.segments.front().copied().unwrap_or_default());
        journal.leave(failures)?;
        journal.write(EntryKind::Seal, &[])?;
        if chain.has_notes && !journal.health.is_degraded() {
            for folder in folders {
                notes::clear(folder)?;
            }
        }
        Ok(journal)
    }

    /// How the copies are.
    #[must_use]
    pub fn health(&self) -> JournalHealth {
        self.health.clone()
    }

    /// Ends the process rather than go on with fewer than `least` copies.
    #[must_use]
    pub fn needing(self, least: usize) -> Self {
        Self { least_copies: least.clamp(1, self.folders.len()), ..self }
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
        self.note_filled();
        // Until all copies have it, nobody knows whether it is there.
        self.failed = true;
        let index = self.position.index + 1;
        if self.offset + entry::size(payload.len()) > self.head.bytes as usize {
            if !self.health.is_degraded() {
                self.attempts = Attempts::default();
            }
            self.next_segment(payload.len())?;
        }
        let head = EntryHead { kind, index, epoch: self.epoch, previous: self.position.hash };
        let (bytes, hash) = entry::encode(self.head.salt, head, payload);
        let length = bytes.len();
        let (health, least) = (&self.health, self.least_copies);
        let complete = |copy: &&usize| health.state(**copy) == Some(CopyState::Complete);
        let enough = |written: &[usize]| written.iter().filter(complete).count() >= least;
        let failures = self.copies.write(self.offset as u64, bytes, enough);
        self.leave(failures)?;
        self.offset += length;
        self.position = Position { index, hash };
        self.sealed = kind == EntryKind::Seal;
        self.failed = false;
        Ok(self.position)
    }

    /// Whether a copy that was left can be written again.
    fn comes_back(&mut self) -> bool {
        (0..self.folders.len())
            .any(|copy| self.copies.place(copy) == Place::Left && self.spares.is_ready(copy))
    }

    fn next_segment(&mut self, payload: usize) -> io::Result<()> {
        let bytes = self.segment_bytes.max((HEADER_BYTES + entry::size(payload)) as u64);
        let head = new_head(self.position, bytes, self.epoch);
        let places: Vec<Place> = (0..self.folders.len()).map(|copy| self.copies.place(copy)).collect();
        let begun = self.spares.begin(&head, self.segment_bytes, |copy| places[copy]);
        let (mut files, mut failures) = (Vec::new(), Vec::new());
        for (copy, begun) in begun.into_iter().enumerate() {
            files.push(begun.unwrap_or_else(|error| {
                failures.push((copy, error));
                None
            }));
        }
        self.copies.switch(files);
        self.leave(failures)?;
        // One that holds nothing and is too small for what comes was replaced by another of its name: there is one.
        if self.segments.back() != Some(&head.first) {
            self.segments.push_back(head.first);
        }
        self.head = head;
        self.health.open.store(head.first, Ordering::Release);
        self.offset = HEADER_BYTES;
        let was_left = |copy: &usize| places[*copy] != Place::Live;
        let back = (0..self.folders.len()).filter(|copy| was_left(copy) && self.copies.is_live(*copy));
        for copy in back.collect::<Vec<_>>() {
            self.health.set(copy, CopyState::Filling);
        }
        self.note_filled();
        self.fill();
        Ok(())
    }

    /// Goes on without the copies that failed. Those that have what they lack say so on their disks, before anything is
    /// acknowledged on their word.
    fn leave(&mut self, failures: Vec<Failure>) -> io::Result<()> {
        let mut failures: std::collections::VecDeque<Failure> = failures.into();
        let mut last = None;
        while let Some((copy, error)) = failures.pop_front() {
            self.copies.leave(copy);
            self.refill.forget(copy);
            if self.copies.place(copy) == Place::Silent {
                self.spares.distrust(copy);
            }
            let reason = format!("{}: {error}", self.folders[copy].display());
            self.health.set(copy, CopyState::Left(reason));
            last = Some(error);
            let live: Vec<usize> = self.copies.live().collect();
            for copy in live {
                if let Err(error) = notes::write(&self.folders[copy], self.position.index + 1) {
                    failures.push_back((copy, error));
                    self.copies.leave(copy);
                }
            }
        }
        // One that is still being filled lacks what came before: on its word alone nothing is acknowledged.
        let complete = |copy: &usize| self.health.state(*copy) == Some(CopyState::Complete);
        match last {
            Some(error) if self.copies.live().filter(complete).count() < self.least_copies => Err(error),
            _ => Ok(()),
        }
    }

    /// Begins to fill copies that came back. What fails is tried again with the next segment.
    fn fill(&mut self) {
        let behind: Vec<usize> =
            self.copies.live().filter(|copy| self.health.state(*copy) == Some(CopyState::Filling)).collect();
        if behind.is_empty() || self.refill.is_running() {
            return;
        }
        let live = self.copies.live().map(|copy| self.folders[copy].clone()).collect();
        if let Err(error) = self.refill.start((behind, live), self.head.first, self.health.kept.clone()) {
            tracing::warn!(%error, "no thread to fill a copy of the journal: tried again with the next segment");
        }
    }

    /// Looks whether copies were filled: they are complete then, and say so beside the others. Once all are, nobody need
    /// say so any more.
    fn note_filled(&mut self) {
        let Some((copies, result)) = self.refill.finished() else { return };
        if let Err(error) = result {
            tracing::warn!(%error, "a copy of the journal could not be filled: tried again with the next segment");
            return;
        }
        for copy in copies.into_iter().filter(|copy| self.copies.is_live(*copy)).collect::<Vec<_>>() {
            self.health.set(copy, CopyState::Complete);
        }
        let all = !self.health.is_degraded();
        // One that was left may not answer.
        let live = self.copies.live().map(|copy| &self.folders[copy]);
        let highest = live.filter_map(|folder| notes::highest(folder).ok().flatten()).max();
        for copy in self.copies.live() {
            let folder = &self.folders[copy];
            let noted = match highest.filter(|_| !all) {
                Some(index) if self.health.state(copy) == Some(CopyState::Complete) => {
                    notes::write(folder, index)
                }
                Some(_) => Ok(()),
                None => notes::clear(folder),
            };
            // Without its note it is not asked where the journal ends: that is safe.
            if let Err(error) = noted {
                tracing::warn!(%error, folder = %folder.display(), "the notes on copies of the journal cannot be changed");
            }
        }
    }

    #[cfg(test)]
    pub(super) fn hold_up(
        &mut self,
        copy: usize,
        patience: std::time::Duration,
        order: super::copies::Order,
    ) {
        self.copies.hold_up(copy, patience, order);
    }

    /// Waits for copies as long as ever again.
    #[cfg(test)]
    pub(super) const fn be_patient(&mut self) {
        self.copies.be_patient();
    }

    #[cfg(test)]
    pub(super) fn break_files(&mut self, files: Vec<File>) {
        self.copies.switch(files.into_iter().map(Some).collect());
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
        let comes_back = self.comes_back();
        if self.offset > HEADER_BYTES || comes_back {
            self.failed = true;
            self.next_segment(0)?;
            self.failed = false;
        }
        Ok(())
    }

    fn readmit(&mut self) -> io::Result<bool> {
        if self.failed {
            return Err(failed_before());
        }
        self.note_filled();
        let comes_back = self.comes_back();
        let is_behind =
            (0..self.folders.len()).any(|copy| self.health.state(copy) == Some(CopyState::Filling));
        if self.refill.is_running() || !(comes_back || is_behind) || !self.attempts.take() {
            return Ok(false);
        }
        if comes_back {
            self.failed = true;
            self.next_segment(0)?;
            self.failed = false;
        } else {
            self.fill();
        }
        Ok(comes_back)
    }

    fn position(&self) -> Position {
        self.position
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn trim(&mut self, through: u64) {
        let spared = self.spared;
        let (copied, held) =
            (self.health.needed_after(), (spared.saturating_mul(HELD_TIMES)).max(HELD_LEAST));
        let goes = |segments: &VecDeque<u64>| {
            let next =
                segments.get(spared.saturating_add(1)).filter(|next| **next <= through.saturating_add(1))?;
            let needed = *next > copied.saturating_add(1);
            (!needed || segments.len() > spared.saturating_add(held)).then_some(())
        };
        while goes(&self.segments).is_some()
            && let Some(first) = self.segments.pop_front()
        {
            self.health.kept.store(first + 1, Ordering::Release);
            for copy in self.copies.live() {
                let path = self.folders[copy].join(segment::file_name(first));
                if let Err(error) = std::fs::remove_file(&path)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(path = %path.display(), %error, "an old journal segment cannot be removed");
                }
            }
        }
        let oldest = self.segments.front().copied().unwrap_or_default();
        self.health.note_oldest(oldest);
        let is_held = self.segments.len() > spared.saturating_add(held / 2);
        self.health.note_pressing(is_held && copied != u64::MAX);
    }
}
