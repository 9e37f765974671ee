//! The locks of the cluster's mounts, who waits for them, and the files that mounts have open.
//!
//! The rules are in the core's table. Here is what has a time: sessions that are renewed, requests whose caller waits for
//! an answer, and the grace after a start, in which only those who held locks before may take them, and take them up
//! again. The table is in memory alone; sessions are stored, so that a start knows whom to wait for.

mod open;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_daemon::clock::SharedClock;
use steadfs_namenode_core::locks::{
    Blocker, ByteRange, LockAnswer, LockKind, LockOwner, LockRequest, LockTable, MAX_WAITERS_PER_SESSION,
    SessionId, Ticket,
};
use steadfs_namenode_core::record::LockSession;
use tokio::sync::{Notify, watch};

pub(crate) use open::Naming;
use open::OpenTable;

/// A session that is not renewed for so long is gone, with its locks.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// The grace after a start ends after this, even if some session that is renewed never says that it has taken up its locks.
const LONGEST_GRACE: Duration = Duration::from_secs(90);

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockOutcome {
    /// The lock is held.
    Granted,
    /// This one is in the way.
    Blocked(Blocker),
    /// It waits still: to be asked again.
    Waiting,
    /// To wait would be to wait for oneself.
    Deadlock,
    /// A bound is reached.
    TooMany,
    /// Those who held locks before the namenode started come first: to be asked again.
    Grace,
    /// It was taken back, or nobody knows it.
    Cancelled,
}

/// Sessions, their locks, and who waits.
pub(crate) struct Locks {
    state: Mutex<State>,
    clock: SharedClock,
    /// Counts when what was planned by which files are open was carried out.
    settled: watch::Sender<u64>,
}

struct State {
    table: LockTable,
    sessions: BTreeMap<SessionId, Session>,
    /// Sessions of the life before that have not said that they have taken up their locks.
    expected: BTreeSet<SessionId>,
    /// When this life began, by the clock that nobody sets.
    began: Duration,
    /// Whose request each ticket is.
    tickets: BTreeMap<Ticket, (SessionId, u64)>,
    open: OpenTable,
}

struct Session {
    user: String,
    /// When it was heard of last, by the clock that nobody sets.
    renewed: Duration,
    requests: BTreeMap<u64, Request>,
}

enum Request {
    Waits(Ticket, Arc<Notify>),
    /// Its caller has not heard of it yet.
    Granted,
}

/// One step of a request: its end, or what to wait for.
pub(crate) enum Step {
    Done(LockOutcome),
    Wait(Arc<Notify>),
}

impl Locks {
    /// Nobody holds anything; these sessions are waited for.
    pub(crate) fn new(clock: SharedClock, stored: Vec<(SessionId, LockSession)>) -> Self {
        let renewed = clock.monotonic();
        let expected = stored.iter().map(|(id, _)| *id).collect();
        let session = |stored: LockSession| Session { user: stored.user, renewed, requests: BTreeMap::new() };
        let sessions = stored.into_iter().map(|(id, stored)| (id, session(stored))).collect();
        let state = State {
            table: LockTable::new(),
            sessions,
            expected,
            began: renewed,
            tickets: BTreeMap::new(),
            open: OpenTable::default(),
        };
        Self { state: Mutex::new(state), clock, settled: watch::Sender::new(0) }
    }

    /// A session was opened.
    pub(crate) fn opened(&self, id: SessionId, user: &str) {
        let session =
            Session { user: user.to_owned(), renewed: self.clock.monotonic(), requests: BTreeMap::new() };
        self.state.lock().sessions.insert(id, session);
    }

    /// A session is heard of. With `reclaimed`, it has taken up all locks it had.
    ///
    /// # Errors
    /// It is gone, or another user's.
    pub(crate) fn renew(&self, id: SessionId, user: Option<&str>, reclaimed: bool) -> FsResult<()> {
        let mut state = self.state.lock();
        state.session(id, user)?.renewed = self.clock.monotonic();
        if reclaimed {
            state.expected.remove(&id);
        }
        Ok(())
    }

    /// Ends a session: its locks go, and its requests are taken back.
    pub(crate) fn close(&self, id: SessionId) {
        self.state.lock().end(id);
    }

    /// Sessions that were not heard of for too long. They are ended; and so is the grace, once it has taken too long.
    pub(crate) fn expire(&self) -> Vec<SessionId> {
        let now = self.clock.monotonic();
        let mut state = self.state.lock();
        let late = |session: &Session| now.saturating_sub(session.renewed) > LEASE;
        let gone: Vec<SessionId> =
            state.sessions.iter().filter(|(_, session)| late(session)).map(|(id, _)| *id).collect();
        gone.iter().for_each(|id| state.end(*id));
        if now.saturating_sub(state.began) > LONGEST_GRACE {
            state.expected.clear();
        }
        gone
    }

    /// Asks for a lock, or goes on asking: `name` names the request within its session, 0 for one that does not wait.
    ///
    /// # Errors
    /// The session is gone, or another user's.
    pub(crate) fn ask(
        &self,
        user: Option<&str>,
        request: LockRequest,
        name: u64,
        reclaim: bool,
    ) -> FsResult<Step> {
        let mut state = self.state.lock();
        let id = request.owner.session;
        match state.session(id, user)?.requests.get(&name) {
            Some(Request::Waits(_, told)) => return Ok(Step::Wait(told.clone())),
            Some(Request::Granted) => {
                state.session(id, user)?.requests.remove(&name);
                return Ok(Step::Done(LockOutcome::Granted));
            }
            None => {}
        }
        if !state.expected.is_empty() && !reclaim {
            return Ok(Step::Done(LockOutcome::Grace));
        }
        if name != 0 && state.session(id, user)?.requests.len() >= MAX_WAITERS_PER_SESSION {
            return Ok(Step::Done(LockOutcome::TooMany));
        }
        let answer = state.table.lock(request, name != 0);
        let step = match answer {
            LockAnswer::Granted => Step::Done(LockOutcome::Granted),
            LockAnswer::Blocked(blocker) => Step::Done(LockOutcome::Blocked(blocker)),
            LockAnswer::Deadlock => Step::Done(LockOutcome::Deadlock),
            LockAnswer::TooMany => Step::Done(LockOutcome::TooMany),
            LockAnswer::Waits(ticket) => {
                let told = Arc::new(Notify::new());
                state.tickets.insert(ticket, (id, name));
                state.session(id, user)?.requests.insert(name, Request::Waits(ticket, told.clone()));
                Step::Wait(told)
            }
        };
        state.tell_granted();
        Ok(step)
    }

    /// What has become of a request that waited.
    ///
    /// # Errors
    /// As [`Locks::ask`].
    pub(crate) fn outcome(&self, user: Option<&str>, id: SessionId, name: u64) -> FsResult<LockOutcome> {
        let mut state = self.state.lock();
        let requests = &mut state.session(id, user)?.requests;
        match requests.get(&name) {
            Some(Request::Waits(..)) => Ok(LockOutcome::Waiting),
            Some(Request::Granted) => {
                requests.remove(&name);
                Ok(LockOutcome::Granted)
            }
            None => Ok(LockOutcome::Cancelled),
        }
    }

    /// Gives up what an owner holds of these bytes.
    ///
    /// # Errors
    /// As [`Locks::ask`].
    pub(crate) fn unlock(
        &self,
        user: Option<&str>,
        inode: steadfs_common::InodeId,
        kind: LockKind,
        owner: LockOwner,
        range: ByteRange,
    ) -> FsResult<()> {
        let mut state = self.state.lock();
        state.session(owner.session, user)?;
        state.table.unlock(inode, kind, owner, range);
        state.tell_granted();
        Ok(())
    }

    /// Which lock would be in the way.
    ///
    /// # Errors
    /// As [`Locks::ask`].
    pub(crate) fn test(&self, user: Option<&str>, request: &LockRequest) -> FsResult<LockOutcome> {
        let mut state = self.state.lock();
        state.session(request.owner.session, user)?;
        if !state.expected.is_empty() {
            return Ok(LockOutcome::Grace);
        }
        Ok(state.table.blocker(request).map_or(LockOutcome::Granted, LockOutcome::Blocked))
    }

    /// Takes a request back; granted if that is too late.
    ///
    /// # Errors
    /// As [`Locks::ask`].
    pub(crate) fn cancel(&self, user: Option<&str>, id: SessionId, name: u64) -> FsResult<LockOutcome> {
        let mut state = self.state.lock();
        match state.session(id, user)?.requests.remove(&name) {
            Some(Request::Granted) => Ok(LockOutcome::Granted),
            Some(Request::Waits(ticket, told)) => {
                state.tickets.remove(&ticket);
                state.table.cancel(ticket);
                told.notify_one();
                Ok(LockOutcome::Cancelled)
            }
            None => Ok(LockOutcome::Cancelled),
        }
    }
}

impl State {
    /// A session of this user; of any without one.
    fn session(&mut self, id: SessionId, user: Option<&str>) -> FsResult<&mut Session> {
        let session = self.sessions.get_mut(&id).ok_or_else(|| {
            FsError::new(
                FsErrorKind::LeaseExpired,
                format!("Lock session {} is over, and its locks are gone: it was not renewed in time", id.0),
            )
        })?;
        if user.is_some_and(|user| user != session.user) {
            return Err(FsError::denied(format!("Lock session {} is another user's", id.0)));
        }
        Ok(session)
    }

    fn end(&mut self, id: SessionId) {
        self.expected.remove(&id);
        self.open.end(id);
        for ticket in self.table.end_session(id) {
            self.tickets.remove(&ticket);
        }
        if let Some(session) = self.sessions.remove(&id) {
            for request in session.requests.into_values() {
                if let Request::Waits(_, told) = request {
                    told.notify_one();
                }
            }
        }
        self.tell_granted();
    }

    /// Tells those who wait that they have their locks.
    fn tell_granted(&mut self) {
        for ticket in self.table.take_granted() {
            let Some((id, name)) = self.tickets.remove(&ticket) else { continue };
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if let Some(Request::Waits(_, told)) = session.requests.insert(name, Request::Granted) {
                told.notify_one();
            }
        }
    }
}
