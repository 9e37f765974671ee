//! How many answers are kept for repeated calls.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bounds the retry cache by number; its time is bounded by the rules. What is over the bound is carried out all the
/// same, but a repetition of it is carried out again.
pub(crate) struct SavedAnswers {
    kept: AtomicU64,
    most: u64,
}

impl SavedAnswers {
    pub(crate) const fn new(most: u64) -> Self {
        Self { kept: AtomicU64::new(0), most }
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.kept.load(Ordering::Relaxed) < self.most
    }

    /// One more is kept.
    pub(crate) fn saved(&self) {
        self.kept.fetch_add(1, Ordering::Relaxed);
    }

    /// So many were found to be kept.
    pub(crate) fn counted(&self, kept: u64) {
        self.kept.store(kept, Ordering::Relaxed);
    }
}
