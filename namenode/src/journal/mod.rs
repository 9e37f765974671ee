//! The edit log: what happened, durable before anybody is told.
//!
//! A journal is a chain of entries in segments, kept in one to four copies. A segment is a file of fixed size, written
//! with zeros and synced before it is used, so that appending changes no metadata of the file system and one `fdatasync`
//! makes an entry durable. Each entry has its index, the epoch of the namenode that wrote it, a CRC32C, and the hash of
//! the entry before it.
//!
//! Opening a journal tells three things apart, over all copies together:
//! * An entry is intact in some copy: it counts, and copies that lack it are repaired.
//! * No copy has the next entry, and none has a later one: that is the end. What lies there, if not zeros, is an append
//!   that the crash tore; it was never acknowledged and is dropped.
//! * No copy has the next entry but some has a later one, or a file is shorter than it was made or cannot be read:
//!   acknowledged entries are gone. The namenode refuses to start and says where.
//!
//! An entry that rots while it is the very last, in every copy, looks like a torn one. So an idle journal appends a
//! seal: an entry that says nothing but that the one before it was complete.
//!
//! A copy whose write or sync failed is left, and never written again where it failed: the journal goes on with the
//! others, which first note on their disks that they alone are complete. It comes back with a new segment, and is given the
//! older ones by a thread beside the writer. When too few copies are left the journal refuses everything.

mod copies;
mod entry;
mod health;
pub(crate) mod history;
mod log;
mod look;
mod notes;
mod recover;
mod refill;
mod segment;

use std::io;
use std::path::{Path, PathBuf};

use segment::SegmentHead;

pub use crate::store::Position;
pub use entry::EntryKind;
pub use health::{CopyHealth, CopyState, JournalHealth};
pub use log::{Recovered, SegmentedJournal};
pub(crate) use look::follow;
pub use look::{SeenEntry, Verified, read_all, verify};
pub(crate) use refill::scrub;

/// Where commands become durable.
pub trait Journal: Send {
    /// Appends an entry and makes it durable on every copy that works. When this returns, it may be acknowledged.
    ///
    /// # Errors
    /// The entry may or may not be durable; the journal refuses everything from now on. The process must end.
    fn append(&mut self, payload: &[u8]) -> io::Result<Position>;

    /// Appends a seal if the last entry is not one.
    ///
    /// # Errors
    /// As [`Journal::append`].
    fn seal(&mut self) -> io::Result<()>;

    /// Begins a new segment, if the open one holds anything; the next entry goes there.
    ///
    /// # Errors
    /// As [`Journal::append`].
    fn roll(&mut self) -> io::Result<()>;

    /// Lets copies come back that were left and whose folders take files again: with a new segment, which nothing else
    /// here begins; copies that are back and lack older segments are given them. Says whether a segment was begun.
    /// Call it now and then while a copy is not complete.
    ///
    /// # Errors
    /// As [`Journal::append`].
    fn readmit(&mut self) -> io::Result<bool>;

    /// The last entry.
    fn position(&self) -> Position;

    /// The epoch of this namenode's life: higher than that of any before.
    fn epoch(&self) -> u64;

    /// Entries up to this index are no longer needed to start. Those that the second copy of the store needs are kept
    /// nevertheless, within a bound (see `JournalHealth::copied`).
    fn trim(&mut self, through: u64);
}

/// Why a journal cannot be opened. Each says what an operator can do.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused something.
    #[error("journal {path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its answer.
        error: io::Error,
    },
    /// An acknowledged entry is readable in no copy.
    #[error(
        "journal entry {index} is damaged in every copy ({copies}), but later entries exist: acknowledged changes would be \
         lost. Put back an intact copy of the journal folder; nothing was changed"
    )]
    Rotten {
        /// The first entry that is gone.
        index: u64,
        /// What each copy looks like there.
        copies: String,
    },
    /// The journal ends before the store.
    #[error(
        "the journal ends at entry {end}, but the store already holds entry {store}: the journal folders are older than the \
         store. Put back the newest copies of the journal folders; nothing was changed"
    )]
    Behind {
        /// The journal's last entry.
        end: u64,
        /// The store's last entry.
        store: u64,
    },
    /// The journal begins after the store.
    #[error(
        "the store ends at entry {store}, but the journal's oldest entry is {first}: the store is older than the journal. \
         Put back a newer copy of the store, or journal segments from {store} on; nothing was changed"
    )]
    Gap {
        /// The journal's first entry.
        first: u64,
        /// The store's last entry.
        store: u64,
    },
    /// The journal and the store are not of the same history.
    #[error(
        "journal entry {index} is not the one that the store was made from: journal and store are from different histories. \
         Put back journal and store of the same time; nothing was changed"
    )]
    Foreign {
        /// The entry where they part.
        index: u64,
    },
    /// An entry cannot be understood though its checksum is right.
    #[error(
        "journal entry {index}: {problem}. It was written by a newer version of SteadFS: start that version"
    )]
    Unreadable {
        /// The entry.
        index: u64,
        /// What is wrong.
        problem: String,
    },
}

/// Whether the journal in `folder` goes back to the first entry there ever was.
pub(crate) fn begins_at_the_first(folder: &Path) -> bool {
    segment::list(folder).is_ok_and(|segments| {
        segments.first().is_some_and(|(first, path)| *first == 1 && segment::has_head(path, 1))
    })
}

/// The first index of the oldest segment in `folder`, if there is one.
pub(crate) fn oldest(folder: &Path) -> Option<u64> {
    let segments = segment::list(folder).ok()?;
    segments.into_iter().find(|(first, path)| segment::has_head(path, *first)).map(|(first, _)| first)
}

/// Makes an empty journal in `folder` that goes on after `position`, in the life after `epoch`.
///
/// # Errors
/// The disk says no.
pub(crate) fn begin_after(folder: &Path, position: Position, epoch: u64, bytes: u64) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let salt = uuid::Uuid::new_v4().as_u64_pair().1;
    let head = SegmentHead { first: position.index + 1, previous: position.hash, bytes, salt, epoch };
    segment::rewrite(folder, &head, &[])
}

impl JournalError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }
}

#[cfg(test)]
mod copies_test;
#[cfg(test)]
mod readmit_test;
#[cfg(test)]
mod silent_test;
#[cfg(test)]
mod tests;
