//! How the copies of the journal are, as others may ask.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// What a copy of the journal is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// It has every entry.
    Complete,
    /// New entries go there; older ones are being copied.
    Filling,
    /// Its disk failed, and nothing goes there. With the reason.
    Left(String),
}

/// One copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyHealth {
    /// Its folder.
    pub folder: PathBuf,
    /// What it is doing.
    pub state: CopyState,
}

/// The state of all copies. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct JournalHealth {
    copies: Arc<Mutex<Vec<CopyHealth>>>,
    /// The first index that is still kept: raised before files are removed, so that nobody brings one back.
    pub(super) kept: Arc<AtomicU64>,
    /// The first index of the open segment.
    pub(super) open: Arc<AtomicU64>,
    /// The first index of the oldest segment, and how far the second copy of the store goes.
    second: Arc<Second>,
}

/// What the second copy of the store has of the journal.
#[derive(Debug)]
struct Second {
    oldest: AtomicU64,
    /// `u64::MAX`: there is no second copy.
    copied: AtomicU64,
    /// Segments are kept for its sake, more than half of what may be.
    pressing: AtomicBool,
    /// There is no room for that.
    low: AtomicBool,
}

impl Default for Second {
    fn default() -> Self {
        Self {
            oldest: AtomicU64::new(0),
            copied: AtomicU64::new(u64::MAX),
            pressing: AtomicBool::new(false),
            low: AtomicBool::new(false),
        }
    }
}

impl JournalHealth {
    /// All copies, in the order of `data_dirs`.
    #[must_use]
    pub fn copies(&self) -> Vec<CopyHealth> {
        self.copies.lock().clone()
    }

    /// The second copy of the store goes up to this entry: what comes after it is kept.
    pub(crate) fn copied(&self, through: u64) {
        self.second.copied.store(through, Ordering::Release);
    }

    /// Whether the disk runs low: then nothing is kept for the second copy's sake.
    pub(crate) fn low(&self, low: bool) {
        self.second.low.store(low, Ordering::Release);
    }

    /// Up to which entry the second copy of the store goes; `u64::MAX` if nothing is kept for one.
    pub(super) fn needed_after(&self) -> u64 {
        if self.second.low.load(Ordering::Acquire) {
            u64::MAX
        } else {
            self.second.copied.load(Ordering::Acquire)
        }
    }

    pub(super) fn note_oldest(&self, first: u64) {
        self.second.oldest.store(first, Ordering::Release);
    }

    pub(super) fn note_pressing(&self, pressing: bool) {
        self.second.pressing.store(pressing, Ordering::Release);
    }

    /// Whether the second copy of the store should be renewed now, before the journal outruns it.
    pub(crate) fn is_pressing(&self) -> bool {
        self.second.pressing.load(Ordering::Acquire)
    }

    /// The entry with which the second copy of the store ends, if the journal no longer goes back to it.
    pub(crate) fn outran(&self) -> Option<u64> {
        let copied = self.second.copied.load(Ordering::Acquire);
        let oldest = self.second.oldest.load(Ordering::Acquire);
        // At 0 there is no copy yet.
        (copied != u64::MAX && copied != 0 && oldest > copied + 1).then_some(copied)
    }

    /// The folders of copies that are complete.
    pub(crate) fn complete(&self) -> Vec<PathBuf> {
        let copies = self.copies.lock();
        let complete = copies.iter().filter(|copy| copy.state == CopyState::Complete);
        complete.map(|copy| copy.folder.clone()).collect()
    }

    /// Whether the open segment of a copy that is written is not where it should be: its folder is gone.
    pub(crate) fn misses_a_file(&self) -> bool {
        let name = super::segment::file_name(self.open.load(Ordering::Acquire));
        // A disk may take its time: others who ask how the copies are do not wait for it.
        let copies = self.copies();
        let mut written = copies.iter().filter(|copy| !matches!(copy.state, CopyState::Left(_)));
        written.any(|copy| {
            let path = copy.folder.join(&name);
            std::fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        }) && name == super::segment::file_name(self.open.load(Ordering::Acquire))
    }

    /// Whether a copy is not complete.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.copies.lock().iter().any(|copy| copy.state != CopyState::Complete)
    }

    pub(super) fn begin(&self, folders: &[PathBuf]) {
        let copy = |folder: &PathBuf| CopyHealth { folder: folder.clone(), state: CopyState::Complete };
        *self.copies.lock() = folders.iter().map(copy).collect();
    }

    pub(super) fn set(&self, copy: usize, state: CopyState) {
        let mut copies = self.copies.lock();
        let Some(known) = copies.get_mut(copy).filter(|known| known.state != state) else { return };
        tell(&known.folder, &state);
        known.state = state;
    }

    pub(super) fn state(&self, copy: usize) -> Option<CopyState> {
        self.copies.lock().get(copy).map(|known| known.state.clone())
    }
}

fn tell(folder: &Path, state: &CopyState) {
    let folder = folder.display();
    match state {
        CopyState::Complete => tracing::info!(%folder, "this copy of the journal is complete"),
        CopyState::Filling => {
            tracing::info!(%folder, "this copy of the journal is back, and is being filled")
        }
        CopyState::Left(reason) => tracing::error!(
            %folder, reason,
            "THIS COPY OF THE JOURNAL FAILED and is left out: changes go to the others alone. Mend its disk or make room: \
             it comes back by itself"
        ),
    }
}
