//! Who may use a file while others do, as far as they ask: `flock` and `fcntl` locks across the mounts of a cluster.
//!
//! The rules alone, over a table in memory: no time, no waiting. A lock belongs to an owner (a process, or an open file)
//! of a session (a mount). Locks of whole files ([`LockKind::Flock`]) and of byte ranges ([`LockKind::Range`]) know
//! nothing of each other, as in Linux. Locks bind only those who ask for them: reads and writes are not looked at.
//!
//! Who must wait stands in a queue: when a lock goes, those who waited longest are looked at first. As in Linux, who asks
//! for a lock that nobody's lock forbids gets it, whoever waits.

mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use steadfs_common::InodeId;

use file::Held;

/// Locks of one session at most.
pub const MAX_LOCKS_PER_SESSION: usize = 65_536;
/// Locks on one file at most, of each kind.
pub const MAX_LOCKS_PER_FILE: usize = 16_384;
/// Requests that wait for locks on one file at most.
pub const MAX_WAITERS_PER_FILE: usize = 1_024;
/// Requests of one session that wait at most.
pub const MAX_WAITERS_PER_SESSION: usize = 4_096;
/// Waiting requests looked at to find a deadlock at most. A longer chain is taken for none: somebody may interrupt it.
const MAX_CHAIN: usize = 10_000;

/// A mount's session. Its locks go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Whose a lock is: its own locks do not stand in an owner's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockOwner {
    /// The session.
    pub session: SessionId,
    /// The process or open file, as the session numbers them.
    pub owner: u64,
}

/// The two kinds of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockKind {
    /// Of a whole file, for an open file (`flock`).
    Flock,
    /// Of a range of bytes, for a process (`fcntl`).
    Range,
}

/// How many may hold a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockMode {
    /// Many, as long as nobody holds it alone.
    Shared,
    /// One.
    Exclusive,
}

/// Bytes of a file, from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    /// The first byte.
    pub first: u64,
    /// The last byte, not before the first.
    pub last: u64,
}

impl ByteRange {
    /// All bytes that are and will be.
    pub const WHOLE: Self = Self { first: 0, last: u64::MAX };

    /// From `first` to `last`, if these are in order.
    #[must_use]
    pub const fn new(first: u64, last: u64) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    const fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether they meet, or one begins where the other ends.
    const fn touches(self, other: Self) -> bool {
        self.first <= other.last.saturating_add(1) && other.first <= self.last.saturating_add(1)
    }
}

/// A lock that somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRequest {
    /// The file.
    pub inode: InodeId,
    /// Which kind.
    pub kind: LockKind,
    /// Who.
    pub owner: LockOwner,
    /// How.
    pub mode: LockMode,
    /// Which bytes; [`ByteRange::WHOLE`] for [`LockKind::Flock`].
    pub range: ByteRange,
    /// The process on its machine, for those who ask who is in the way.
    pub pid: u32,
}

impl LockRequest {
    const fn conflicts(&self, held: &Held) -> bool {
        let same = self.owner.session.0 == held.owner.session.0 && self.owner.owner == held.owner.owner;
        let shared = matches!((self.mode, held.mode), (LockMode::Shared, LockMode::Shared));
        !same && !shared && self.range.meets(held.range)
    }
}

/// A lock that is in somebody's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Whose it is.
    pub owner: LockOwner,
    /// How it is held.
    pub mode: LockMode,
    /// Which bytes.
    pub range: ByteRange,
    /// The holder's process on its machine.
    pub pid: u32,
}

/// Names a request that waits. Never used twice by one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockAnswer {
    /// The lock is held.
    Granted,
    /// Somebody else's is in the way, and the request did not want to wait.
    Blocked(Blocker),
    /// It waits, under this name.
    Waits(Ticket),
    /// To wait would be to wait for oneself (`EDEADLK`). Of ranges alone.
    Deadlock,
    /// One of the bounds of this module is reached (`ENOLCK`).
    TooMany,
}

#[derive(Default)]
struct FileLocks {
    flocks: Vec<Held>,
    ranges: Vec<Held>,
    queue: VecDeque<(Ticket, LockRequest)>,
}

impl FileLocks {
    const fn held(&self, kind: LockKind) -> &Vec<Held> {
        match kind {
            LockKind::Flock => &self.flocks,
            LockKind::Range => &self.ranges,
        }
    }

    const fn held_mut(&mut self, kind: LockKind) -> &mut Vec<Held> {
        match kind {
            LockKind::Flock => &mut self.flocks,
            LockKind::Range => &mut self.ranges,
        }
    }

    fn is_empty(&self) -> bool {
        self.flocks.is_empty() && self.ranges.is_empty() && self.queue.is_empty()
    }
}

#[derive(Default)]
struct Session {
    files: BTreeSet<InodeId>,
    locks: usize,
    waiting: usize,
}

/// All locks and who waits for them.
#[derive(Default)]
pub struct LockTable {
    files: BTreeMap<InodeId, FileLocks>,
    sessions: BTreeMap<SessionId, Session>,
    /// Where each request waits.
    waiting: BTreeMap<Ticket, InodeId>,
    /// The waiting requests for ranges by their owners.
    owners: BTreeMap<LockOwner, BTreeSet<Ticket>>,
    next: u64,
    granted: Vec<Ticket>,
}

impl LockTable {
    /// Nobody holds anything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The first lock that would be in the way of `request`.
    #[must_use]
    pub fn blocker(&self, request: &LockRequest) -> Option<Blocker> {
        let held = self.files.get(&request.inode)?.held(request.kind);
        held.iter().find(|held| request.conflicts(held)).map(|held| Blocker {
            owner: held.owner,
            mode: held.mode,
            range: held.range,
            pid: held.pid,
        })
    }

    /// Asks for a lock, in place of what its owner holds of these bytes. With `wait`, a request that is blocked is put
    /// into the queue; an owner's lock on the whole file is given up for the time, so that two that want more than they
    /// have do not wait for each other.
    pub fn lock(&mut self, request: LockRequest, wait: bool) -> LockAnswer {
        let Some(blocker) = self.blocker(&request) else {
            return if self.has_room(&request) { self.hold(&request) } else { LockAnswer::TooMany };
        };
        if !wait {
            return LockAnswer::Blocked(blocker);
        }
        if request.kind == LockKind::Range && self.closes_a_circle(&request) {
            return LockAnswer::Deadlock;
        }
        let queued = self.files.get(&request.inode).map_or(0, |file| file.queue.len());
        let waiting = self.sessions.get(&request.owner.session).map_or(0, |session| session.waiting);
        if queued >= MAX_WAITERS_PER_FILE || waiting >= MAX_WAITERS_PER_SESSION || !self.has_room(&request) {
            return LockAnswer::TooMany;
        }
        let ticket = self.enqueue(request);
        if request.kind == LockKind::Flock {
            self.unlock(request.inode, request.kind, request.owner, ByteRange::WHOLE);
        }
        LockAnswer::Waits(ticket)
    }

    /// Gives up what `owner` holds of these bytes; nothing is no error.
    pub fn unlock(&mut self, inode: InodeId, kind: LockKind, owner: LockOwner, range: ByteRange) {
        self.change(inode, owner.session, kind, |held| file::remove(held, owner, range));
        self.grant(inode);
    }

    /// Takes a request back; false if it does not wait (any more).
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let Some(inode) = self.waiting.get(&ticket).copied() else { return false };
        self.dequeue(inode, ticket);
        self.forget_if_empty(inode);
        true
    }

    /// Ends a session: its locks go, and its requests wait no more. Gives those.
    pub fn end_session(&mut self, id: SessionId) -> Vec<Ticket> {
        let Some(session) = self.sessions.remove(&id) else { return Vec::new() };
        let mut ended = Vec::new();
        for inode in session.files {
            let Some(file) = self.files.get_mut(&inode) else { continue };
            file.flocks.retain(|held| held.owner.session != id);
            file.ranges.retain(|held| held.owner.session != id);
            let tickets = file.queue.iter().filter(|(_, request)| request.owner.session == id);
            let tickets: Vec<Ticket> = tickets.map(|(ticket, _)| *ticket).collect();
            for ticket in &tickets {
                self.dequeue(inode, *ticket);
            }
            ended.extend(tickets);
            self.grant(inode);
            self.forget_if_empty(inode);
        }
        self.sessions.remove(&id);
        ended
    }

    /// The requests that have got their locks since this was asked last.
    pub fn take_granted(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.granted)
    }

    /// Locks held, and requests that wait.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.sessions.values().map(|session| session.locks).sum(), self.waiting.len())
    }

    fn has_room(&self, request: &LockRequest) -> bool {
        // One lock more may split another in two.
        let of_file = self.files.get(&request.inode).map_or(0, |file| file.held(request.kind).len());
        let of_session = self.sessions.get(&request.owner.session).map_or(0, |session| session.locks);
        of_file + 2 <= MAX_LOCKS_PER_FILE && of_session + 2 <= MAX_LOCKS_PER_SESSION
    }

    fn hold(&mut self, request: &LockRequest) -> LockAnswer {
        let lock = Held { owner: request.owner, mode: request.mode, range: request.range, pid: request.pid };
        self.change(request.inode, request.owner.session, request.kind, |held| file::put(held, lock));
        // What was held alone before may be shared now.
        self.grant(request.inode);
        LockAnswer::Granted
    }

    /// Changes what a session holds of a file, and counts anew.
    fn change(
        &mut self,
        inode: InodeId,
        session: SessionId,
        kind: LockKind,
        change: impl FnOnce(&mut Vec<Held>),
    ) {
        let file = self.files.entry(inode).or_default();
        let held = file.held_mut(kind);
        let before = held.len();
        change(held);
        let after = held.len();
        let of_session = |held: &[Held]| held.iter().any(|held| held.owner.session == session);
        let waits = file.queue.iter().any(|(_, request)| request.owner.session == session);
        let involved = waits || of_session(&file.flocks) || of_session(&file.ranges);
        let entry = self.sessions.entry(session).or_default();
        entry.locks = (entry.locks + after).saturating_sub(before);
        if involved {
            entry.files.insert(inode);
        } else {
            entry.files.remove(&inode);
        }
        if entry.files.is_empty() {
            self.sessions.remove(&session);
        }
        self.forget_if_empty(inode);
    }

    fn forget_if_empty(&mut self, inode: InodeId) {
        if self.files.get(&inode).is_some_and(FileLocks::is_empty) {
            self.files.remove(&inode);
        }
    }

    fn enqueue(&mut self, request: LockRequest) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.files.entry(request.inode).or_default().queue.push_back((ticket, request));
        self.waiting.insert(ticket, request.inode);
        let session = self.sessions.entry(request.owner.session).or_default();
        session.files.insert(request.inode);
        session.waiting += 1;
        if request.kind == LockKind::Range {
            self.owners.entry(request.owner).or_default().insert(ticket);
        }
        ticket
    }

    fn dequeue(&mut self, inode: InodeId, ticket: Ticket) -> Option<LockRequest> {
        self.waiting.remove(&ticket)?;
        let queue = &mut self.files.get_mut(&inode)?.queue;
        let place = queue.iter().position(|(waiting, _)| *waiting == ticket)?;
        let (_, request) = queue.remove(place)?;
        if let Some(tickets) = self.owners.get_mut(&request.owner) {
            tickets.remove(&ticket);
            if tickets.is_empty() {
                self.owners.remove(&request.owner);
            }
        }
        if let Some(session) = self.sessions.get_mut(&request.owner.session) {
            session.waiting = session.waiting.saturating_sub(1);
        }
        // Whether the session has to do with the file any more.
        self.change(inode, request.owner.session, request.kind, |_| {});
        Some(request)
    }

    /// Gives locks to those who wait and are blocked no more, the longest waiting first.
    fn grant(&mut self, inode: InodeId) {
        let mut place = 0;
        while let Some((ticket, request)) =
            self.files.get(&inode).and_then(|file| file.queue.get(place)).copied()
        {
            if self.blocker(&request).is_some() {
                place += 1;
                continue;
            }
            self.dequeue(inode, ticket);
            let lock =
                Held { owner: request.owner, mode: request.mode, range: request.range, pid: request.pid };
            self.change(inode, request.owner.session, request.kind, |held| file::put(held, lock));
            self.granted.push(ticket);
            // It may have turned a lock of its owner into a weaker one: who stands before it is looked at again.
            place = 0;
        }
    }

    /// Whether somebody who is in the way of `request` waits, over others or not, for its owner.
    fn closes_a_circle(&self, request: &LockRequest) -> bool {
        let (mut seen, mut left) = (BTreeSet::new(), vec![*request]);
        for _ in 0..MAX_CHAIN {
            let Some(waiting) = left.pop() else { return false };
            let held = self.files.get(&waiting.inode).map(|file| &file.ranges[..]).unwrap_or_default();
            for blocker in held.iter().filter(|held| waiting.conflicts(held)) {
                if blocker.owner == request.owner {
                    return true;
                }
                if seen.insert(blocker.owner) {
                    left.extend(self.requests_of(blocker.owner));
                }
            }
        }
        false
    }

    /// The ranges that an owner waits for.
    fn requests_of(&self, owner: LockOwner) -> impl Iterator<Item = LockRequest> {
        self.owners.get(&owner).into_iter().flatten().filter_map(|ticket| {
            let queue = &self.files.get(self.waiting.get(ticket)?)?.queue;
            queue.iter().find(|(waiting, _)| waiting == ticket).map(|(_, request)| *request)
        })
    }
}
