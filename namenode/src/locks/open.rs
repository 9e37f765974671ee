//! The files that mounts have open: deleted, they are kept until nobody has them open any more.
//!
//! A session says which files it has open. After a loss of memory on either side (the namenode's restart, another server of
//! the mount) it says so of all of them between a beginning and an end: what it did not name in between is released.

use std::collections::{HashMap, HashSet};

use steadfs_common::{FsError, FsErrorKind, FsResult, InodeId};
use steadfs_namenode_core::locks::SessionId;
use steadfs_namenode_core::namespace::kept::OpenFiles;
use tokio::sync::watch;

use super::{Locks, State};

/// Open files of one session at most: as many as a mount has handles.
pub(crate) const MAX_OPEN_PER_SESSION: usize = 65_536;
/// Open files of all sessions at most.
const MAX_OPEN: usize = 1 << 20;

/// Who has which file open.
#[derive(Default)]
pub(super) struct OpenTable {
    /// How many sessions have it open.
    files: HashMap<InodeId, u32>,
    /// Of each session its files, each with the round in which it was named last, and the present round.
    sessions: HashMap<SessionId, (HashMap<InodeId, u32>, u32)>,
    count: usize,
    /// Files that a plan which is not carried out yet may be removing: it was told that nobody has them open. As many as one
    /// batch may remove.
    going: HashSet<InodeId>,
}

impl OpenTable {
    /// Adds what a session has open; gives what is new of it.
    fn add(&mut self, session: SessionId, files: &[InodeId]) -> FsResult<Vec<InodeId>> {
        let (open, round) = self.sessions.entry(session).or_default();
        let mut new = Vec::new();
        for file in files {
            if let Some(named) = open.get_mut(file) {
                *named = *round;
                continue;
            }
            if open.len() >= MAX_OPEN_PER_SESSION || self.count >= MAX_OPEN {
                self.remove(session, &new);
                return Err(FsError::new(
                    FsErrorKind::Refused,
                    format!("Session {} has too many files open to keep those that are deleted", session.0),
                ));
            }
            open.insert(*file, *round);
            *self.files.entry(*file).or_default() += 1;
            self.count += 1;
            new.push(*file);
        }
        Ok(new)
    }

    fn remove(&mut self, session: SessionId, files: &[InodeId]) {
        let Some((open, _)) = self.sessions.get_mut(&session) else { return };
        let gone: Vec<InodeId> = files.iter().copied().filter(|file| open.remove(file).is_some()).collect();
        self.forget(&gone);
    }

    fn forget(&mut self, files: &[InodeId]) {
        for file in files {
            self.count -= 1;
            if let Some(sessions) = self.files.get_mut(file) {
                *sessions -= 1;
                if *sessions == 0 {
                    self.files.remove(file);
                }
            }
        }
    }

    fn begin(&mut self, session: SessionId) {
        let (_, round) = self.sessions.entry(session).or_default();
        *round = round.wrapping_add(1).max(1);
    }

    /// Whether a round had begun.
    fn end_round(&mut self, session: SessionId) -> bool {
        // A round that began in another life says nothing.
        let begun = |(_, round): &&mut (_, u32)| *round > 0;
        let Some((open, round)) = self.sessions.get_mut(&session).filter(begun) else { return false };
        let old = |(file, named): (&InodeId, &u32)| (named != round).then_some(*file);
        let gone: Vec<InodeId> = open.iter().filter_map(old).collect();
        open.retain(|_, named| *named == *round);
        self.forget(&gone);
        true
    }

    /// A session is over.
    pub(super) fn end(&mut self, session: SessionId) {
        if let Some((open, _)) = self.sessions.remove(&session) {
            let files: Vec<InodeId> = open.into_keys().collect();
            self.forget(&files);
        }
    }
}

/// What a session says of the files that it has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// It is about to name all.
    Begins,
    /// It has named all: others that it had are released.
    Ended,
}

impl Locks {
    /// A session has these files open; gives those that it had not, and what to wait for until a read tells which of them
    /// are there: one may just be being removed. Whoever may see a file may have it kept, through whichever session its mount
    /// has.
    ///
    /// # Errors
    /// The session is gone. Refused: it has too many.
    pub(crate) fn keep_open(
        &self,
        id: SessionId,
        files: &[InodeId],
    ) -> FsResult<(Vec<InodeId>, Option<watch::Receiver<u64>>)> {
        let mut state = self.state.lock();
        state.session(id, None)?;
        let new = state.open.add(id, files)?;
        let going = new.iter().any(|file| state.open.going.contains(file));
        Ok((new, going.then(|| self.settled.subscribe())))
    }

    /// Every file that somebody is known to have open.
    pub(crate) fn open_files(&self) -> Vec<InodeId> {
        self.state.lock().open.files.keys().copied().collect()
    }

    /// Whether somebody has this file open, or may have; not to plan by.
    pub(crate) fn has_open(&self, file: InodeId) -> bool {
        self.state.lock().is_open(file)
    }

    /// A session has these files open no longer.
    pub(crate) fn release_open(&self, id: SessionId, files: &[InodeId]) {
        self.state.lock().open.remove(id, files);
    }

    /// See [`Naming`]; also renews the session.
    ///
    /// # Errors
    /// The session is gone, or another user's.
    pub(crate) fn name_open(&self, id: SessionId, user: Option<&str>, naming: Naming) -> FsResult<()> {
        let mut state = self.state.lock();
        state.session(id, user)?;
        match naming {
            Naming::Begins => state.open.begin(id),
            Naming::Ended => {
                if state.open.end_round(id) {
                    state.expected.remove(&id);
                }
            }
        }
        Ok(())
    }
}

impl State {
    fn is_open(&self, file: InodeId) -> bool {
        !self.expected.is_empty() || self.open.files.contains_key(&file)
    }
}

impl OpenFiles for Locks {
    fn is_open(&self, file: InodeId) -> bool {
        let mut state = self.state.lock();
        let open = state.is_open(file);
        if !open {
            state.open.going.insert(file);
        }
        open
    }

    fn is_known(&self) -> bool {
        self.state.lock().expected.is_empty()
    }

    fn settled(&self) {
        let mut state = self.state.lock();
        if !state.open.going.is_empty() {
            state.open.going.clear();
            self.settled.send_modify(|settled| *settled += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);
    const FILES: [InodeId; 3] = [InodeId(10), InodeId(11), InodeId(12)];

    #[test]
    fn who_opens_a_file_that_is_being_removed_waits_until_that_is_done() {
        let locks = Locks::new(steadfs_daemon::clock::ManualClock::shared(steadfs_common::Millis(1)), vec![]);
        locks.opened(A, "ann");
        assert!(!locks.has_open(FILES[0]));
        assert!(locks.keep_open(A, &FILES[..1]).unwrap().1.is_none(), "to ask removes nothing");
        assert!(!locks.is_open(FILES[1]) && locks.is_open(FILES[0]));
        let (new, settled) = locks.keep_open(A, &FILES).unwrap();
        let settled = settled.unwrap();
        assert_eq!(new, FILES[1..]);
        assert!(!settled.has_changed().unwrap());
        locks.settled();
        assert!(settled.has_changed().unwrap());
        locks.release_open(A, &FILES);
        assert!(locks.keep_open(A, &FILES).unwrap().1.is_none(), "what is carried out is to be read");
    }

    #[test]
    fn a_file_is_open_until_the_last_session_releases_it() {
        let mut table = OpenTable::default();
        assert_eq!(table.add(A, &FILES).unwrap(), FILES);
        assert_eq!(table.add(A, &FILES[..1]).unwrap(), []);
        assert_eq!(table.add(B, &FILES[..1]).unwrap(), FILES[..1]);
        table.remove(A, &FILES);
        table.remove(A, &FILES);
        assert_eq!(table.files.keys().collect::<Vec<_>>(), [&FILES[0]]);
        table.end(B);
        table.end(B);
        assert!(table.files.is_empty() && table.count == 0);
    }

    #[test]
    fn what_is_not_named_again_is_released() {
        let mut table = OpenTable::default();
        table.add(A, &FILES).unwrap();
        table.begin(A);
        table.add(A, &FILES[1..]).unwrap();
        assert_eq!(table.files.len(), 3, "until the end nothing is released");
        assert!(table.end_round(A) && !table.end_round(B));
        let mut left: Vec<_> = table.files.keys().copied().collect();
        left.sort_unstable();
        assert_eq!(left, FILES[1..]);
        assert_eq!(table.count, 2);
    }

    #[test]
    fn one_session_has_so_many_and_no_more() {
        let mut table = OpenTable::default();
        let many: Vec<InodeId> = (0..MAX_OPEN_PER_SESSION as u64).map(InodeId).collect();
        table.add(A, &many).unwrap();
        assert_eq!(table.add(A, &many[..5]).unwrap(), []);
        assert!(table.add(A, &[InodeId(1 << 40)]).is_err());
        assert_eq!(table.count, MAX_OPEN_PER_SESSION);
        table.add(B, &[InodeId(1 << 40)]).unwrap();
    }
}
