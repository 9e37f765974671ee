//! Locks across the clients of a cluster.

mod held;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use steadfs_common::{FsErrorKind, FsResult, InodeId};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::lock_response::Outcome;
use tokio::sync::{Notify, watch};

use crate::Client;
use crate::client::Inner;
use held::HeldLocks;

/// A call that waits for a lock comes back after so long at the latest, and is made again.
const POLL: Duration = Duration::from_secs(10);
/// While the server lets others come first, it is asked again after this.
const GRACE_WAIT: Duration = Duration::from_millis(200);
/// A renewal that failed is tried again after this.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// What a lock is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockTarget {
    /// A whole file, as by `flock`.
    Whole,
    /// Bytes of a file, as by `fcntl`. These locks and those of whole files know nothing of each other.
    Bytes {
        /// The first.
        first: u64,
        /// The last, included; `u64::MAX` for all that follow.
        last: u64,
    },
}

impl LockTarget {
    const fn kind(self) -> pb::LockKind {
        match self {
            Self::Whole => pb::LockKind::Flock,
            Self::Bytes { .. } => pb::LockKind::Range,
        }
    }

    const fn bytes(self) -> (u64, u64) {
        match self {
            Self::Whole => (0, u64::MAX),
            Self::Bytes { first, last } => (first, last),
        }
    }
}

/// A lock that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockWish {
    /// The file.
    pub inode: InodeId,
    /// Whose it shall be: a process or an open file, by a number of the caller's. An owner's locks are not in its own
    /// way.
    pub owner: u64,
    /// Of what.
    pub target: LockTarget,
    /// Whether nobody else may hold it.
    pub exclusive: bool,
    /// The process, for others who ask who is in the way.
    pub pid: u32,
}

/// What came of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockResult {
    /// It is held.
    Granted,
    /// This is in the way.
    Blocked(LockHolder),
    /// To wait would be to wait for oneself (`EDEADLK`).
    Deadlock,
    /// There are too many locks (`ENOLCK`).
    TooMany,
}

/// A lock of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// Whether it is held alone.
    pub exclusive: bool,
    /// The first byte.
    pub first: u64,
    /// The last byte, included.
    pub last: u64,
    /// The process on its machine.
    pub pid: u32,
    /// The session of its client.
    pub session: u64,
}

/// A session that may hold locks. It is kept alive until it is dropped or closed; its locks go with it.
///
/// When the namenode restarts, the session takes its locks up again, and nobody else gets them meanwhile. Only when the
/// namenode could not be reached for longer than the session's lease (30 s) are its locks gone: [`LockSession::losses`]
/// tells, and the next wish begins a new session.
pub struct LockSession {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Arc<Inner>,
    state: Mutex<State>,
    next: AtomicU64,
    losses: watch::Sender<u64>,
    /// Told when the session should be renewed at once.
    renew: Notify,
    /// One at a time opens a session.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// 0 for none.
    session: u64,
    life: u64,
    lease: Duration,
    /// When the call was made by which the namenode last heard of the session.
    renewed: Option<Instant>,
    held: HeldLocks,
}

impl Client {
    /// Opens a session that may hold locks.
    ///
    /// # Errors
    /// `Refused` if there are too many; those of any call.
    pub async fn lock_session(&self) -> FsResult<LockSession> {
        let shared = Shared::new(self.inner.clone());
        shared.session().await?;
        tokio::spawn(keep_alive(Arc::downgrade(&shared)));
        Ok(LockSession { shared })
    }

    /// Goes on with a session that another process had: it held these locks ([`LockSession::id`], [`LockSession::held`]).
    /// If it is over by now, its locks are lost: [`LockSession::losses`] is not 0 then.
    ///
    /// # Errors
    /// `AccessDenied` if it is another user's; those of any call.
    pub async fn resume_lock_session(&self, session: u64, held: Vec<LockWish>) -> FsResult<LockSession> {
        let shared = Shared::new(self.inner.clone());
        {
            let mut state = shared.state.lock();
            // No life of a namenode is 0: what is held is taken up again, whatever happened meanwhile.
            (state.session, state.life) = (session, 0);
            held.iter().for_each(|wish| state.held.put(wish));
        }
        shared.renew().await?;
        shared.session().await?;
        tokio::spawn(keep_alive(Arc::downgrade(&shared)));
        Ok(LockSession { shared })
    }
}

impl LockSession {
    /// Asks for a lock, in place of what its owner holds of these bytes. With `wait`, waits for it however long that
    /// takes; dropping the future takes the wish back.
    ///
    /// # Errors
    /// `NotFound`, `AccessDenied` of the file; those of any call.
    pub async fn lock(&self, wish: LockWish, wait: bool) -> FsResult<LockResult> {
        let name = if wait { self.shared.next.fetch_add(1, Ordering::Relaxed) } else { 0 };
        self.lock_as(name, wish).await
    }

    /// As [`LockSession::lock`], waiting under a name of the caller's choice (0: without waiting). Another process that goes
    /// on with the session and asks again under the same name goes on waiting where this one stood.
    ///
    /// # Errors
    /// As [`LockSession::lock`].
    pub async fn lock_as(&self, name: u64, wish: LockWish) -> FsResult<LockResult> {
        let shared = &self.shared;
        let mut waiting = Waiting { shared: shared.clone(), session: 0, name, wish };
        loop {
            let session = shared.session().await?;
            waiting.session = session;
            let mut request = request_of(session, &wish);
            request.request = name;
            request.wait_ms = POLL.min(shared.inner.calls.attempt_timeout() / 2).as_millis() as u32;
            let answer = shared.inner.calls.mounts(request, |mut c, r| async move { c.lock(r).await }).await;
            let answer = match answer {
                Err(error) if error.kind() == FsErrorKind::LeaseExpired => {
                    shared.lose(session);
                    continue;
                }
                other => other?,
            };
            let result = match answer.outcome() {
                Outcome::Granted => {
                    shared.state.lock().held.put(&wish);
                    LockResult::Granted
                }
                Outcome::Blocked => LockResult::Blocked(holder(&answer)),
                Outcome::Deadlock => LockResult::Deadlock,
                Outcome::TooMany => LockResult::TooMany,
                Outcome::Waiting => {
                    // Who waits for another lock of a whole file has given up the one that it had.
                    if wish.target == LockTarget::Whole {
                        shared.state.lock().held.remove(wish.inode, wish.owner, wish.target);
                    }
                    continue;
                }
                Outcome::Cancelled => continue,
                Outcome::Grace => {
                    shared.renew.notify_one();
                    tokio::time::sleep(GRACE_WAIT).await;
                    continue;
                }
                Outcome::Unknown => return Err(crate::types::foreign("outcome")),
            };
            waiting.name = 0;
            return Ok(result);
        }
    }

    /// Gives up what an owner holds of a file or of its bytes; nothing is no error.
    ///
    /// # Errors
    /// Those of any call. The lock is then given up once the session is renewed, or is over.
    pub async fn unlock(&self, inode: InodeId, owner: u64, target: LockTarget) -> FsResult<()> {
        Self::unlock_of(&self.shared, inode, owner, target).await
    }

    async fn unlock_of(shared: &Shared, inode: InodeId, owner: u64, target: LockTarget) -> FsResult<()> {
        let session = {
            let mut state = shared.state.lock();
            state.held.remove(inode, owner, target);
            state.session
        };
        let (first, last) = target.bytes();
        let request =
            pb::UnlockRequest { session, owner, inode: inode.0, kind: target.kind().into(), first, last };
        match shared.inner.calls.mounts(request, |mut c, r| async move { c.unlock(r).await }).await {
            Err(error) if error.kind() == FsErrorKind::LeaseExpired => {
                shared.lose(session);
                Ok(())
            }
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// Takes back a wish that waits under this name, and gives up what it got: for names that another process waited under.
    ///
    /// # Errors
    /// As [`LockSession::unlock`].
    pub async fn cancel(&self, name: u64, wish: LockWish) -> FsResult<()> {
        let session = self.id();
        take_back(&self.shared, session, name, wish).await
    }

    /// What one owner holds of a file, as the wishes that would have made it.
    #[must_use]
    pub fn held_by(&self, inode: InodeId, owner: u64, whole: bool) -> Vec<LockWish> {
        self.shared.state.lock().held.of(inode, owner, whole)
    }

    /// Makes sure that nobody else can have been given the locks of this session: asks the namenode if it was not heard of
    /// for a while. What is lost shows in [`LockSession::losses`] when this returns.
    ///
    /// # Errors
    /// Those of any call: then nothing is sure.
    pub async fn confirm(&self) -> FsResult<()> {
        let sure = {
            let state = self.shared.state.lock();
            state.session == 0 || state.renewed.is_some_and(|at| at.elapsed() < state.lease / 3 * 2)
        };
        if sure { Ok(()) } else { self.shared.renew().await }
    }

    /// Which lock would be in the way of a wish; none if it would be granted.
    ///
    /// # Errors
    /// As [`LockSession::lock`].
    pub async fn test(&self, wish: LockWish) -> FsResult<Option<LockHolder>> {
        loop {
            let session = self.shared.session().await?;
            let request = request_of(session, &wish);
            let calls = &self.shared.inner.calls;
            let answer = match calls.mounts(request, |mut c, r| async move { c.test_lock(r).await }).await {
                Err(error) if error.kind() == FsErrorKind::LeaseExpired => {
                    self.shared.lose(session);
                    continue;
                }
                other => other?,
            };
            match answer.outcome() {
                Outcome::Blocked => return Ok(Some(holder(&answer))),
                Outcome::Grace => {
                    self.shared.renew.notify_one();
                    tokio::time::sleep(GRACE_WAIT).await;
                }
                _ => return Ok(None),
            }
        }
    }

    /// Counts how often the locks of this session were lost. Whoever holds one should look when it changes.
    #[must_use]
    pub fn losses(&self) -> watch::Receiver<u64> {
        self.shared.losses.subscribe()
    }

    /// The number of the session by which others see it in [`LockHolder::session`].
    #[must_use]
    pub fn id(&self) -> u64 {
        self.shared.state.lock().session
    }

    /// What this session holds.
    #[must_use]
    pub fn held(&self) -> Vec<LockWish> {
        self.shared.state.lock().held.all()
    }

    /// Leaves the session to another process, which goes on with it within its lease
    /// ([`Client::resume_lock_session`]).
    pub fn leave(self) {
        // Nothing of it is closed then.
        self.shared.state.lock().session = 0;
    }

    /// Ends the session and gives up its locks.
    ///
    /// # Errors
    /// Those of any call. The session then ends with its lease.
    pub async fn close(self) -> FsResult<()> {
        let session = std::mem::take(&mut *self.shared.state.lock()).session;
        let request = pb::LockSessionRequest { session, reclaimed: false };
        let calls = &self.shared.inner.calls;
        calls.mounts(request, |mut c, r| async move { c.close_lock_session(r).await }).await?;
        Ok(())
    }
}

impl Shared {
    fn new(inner: Arc<Inner>) -> Arc<Self> {
        // Names of requests are those of the session: another process may have used small ones.
        let (first, _) = uuid::Uuid::new_v4().as_u64_pair();
        Arc::new(Self {
            inner,
            state: Mutex::default(),
            next: AtomicU64::new((first >> 1).max(1)),
            losses: watch::Sender::new(0),
            renew: Notify::new(),
            opening: tokio::sync::Mutex::new(()),
        })
    }

    /// The session; a new one if there is none.
    async fn session(&self) -> FsResult<u64> {
        let known = || Some(self.state.lock().session).filter(|session| *session != 0);
        if let Some(session) = known() {
            return Ok(session);
        }
        let _one = self.opening.lock().await;
        if let Some(session) = known() {
            return Ok(session);
        }
        let request = pb::OpenLockSessionRequest { client: self.inner.name.clone() };
        let asked = Instant::now();
        let opened =
            self.inner.calls.mounts(request, |mut c, r| async move { c.open_lock_session(r).await }).await?;
        let mut state = self.state.lock();
        (state.session, state.life) = (opened.session, opened.life);
        (state.lease, state.renewed) = (Duration::from_millis(opened.lease_ms), Some(asked));
        Ok(opened.session)
    }

    /// The session is over, and its locks are gone.
    fn lose(&self, session: u64) {
        let mut state = self.state.lock();
        if state.session != session || session == 0 {
            return;
        }
        state.session = 0;
        if state.held.take() {
            self.losses.send_modify(|losses| *losses += 1);
            tracing::warn!(session, "the namenode was not reached in time: all locks are lost");
        }
    }

    /// Renews the session, and takes its locks up again if the namenode is in another life.
    async fn renew(&self) -> FsResult<()> {
        let (session, life) = {
            let state = self.state.lock();
            (state.session, state.life)
        };
        if session == 0 {
            return Ok(());
        }
        let call = |reclaimed| {
            let request = pb::LockSessionRequest { session, reclaimed };
            self.inner.calls.mounts(request, |mut c, r| async move { c.renew_lock_session(r).await })
        };
        let asked = Instant::now();
        let renewed = match call(false).await {
            Err(error) if error.kind() == FsErrorKind::LeaseExpired => {
                self.lose(session);
                return Ok(());
            }
            other => other?,
        };
        if renewed.life != life {
            self.reclaim(session).await?;
            call(true).await?;
        }
        let mut state = self.state.lock();
        if state.session == session {
            state.life = renewed.life;
            (state.lease, state.renewed) = (Duration::from_millis(renewed.lease_ms), Some(asked));
        }
        Ok(())
    }

    /// Takes up again, in a new life of the namenode, what is held.
    async fn reclaim(&self, session: u64) -> FsResult<()> {
        let held = self.state.lock().held.all();
        for wish in held {
            let mut request = request_of(session, &wish);
            request.reclaim = true;
            let answer = self.inner.calls.mounts(request, |mut c, r| async move { c.lock(r).await }).await?;
            if answer.outcome() != Outcome::Granted {
                let mut state = self.state.lock();
                state.held.remove(wish.inode, wish.owner, wish.target);
                self.losses.send_modify(|losses| *losses += 1);
                tracing::warn!(inode = wish.inode.0, "a lock was not had again after the namenode's restart");
            }
        }
        Ok(())
    }
}

async fn keep_alive(shared: std::sync::Weak<Shared>) {
    let mut wait = Duration::ZERO;
    loop {
        {
            let Some(shared) = shared.upgrade() else { return };
            // Dropping the session must end this: the wait is bounded, and nothing is held longer.
            tokio::select! {
                () = shared.renew.notified() => {}
                () = tokio::time::sleep(wait.min(RENEW_AGAIN)) => {
                    wait = wait.saturating_sub(RENEW_AGAIN);
                    if !wait.is_zero() {
                        continue;
                    }
                }
            }
        }
        let Some(shared) = shared.upgrade() else { return };
        wait = match shared.renew().await {
            Ok(()) => (shared.state.lock().lease / 3).max(RENEW_AGAIN),
            Err(error) => {
                tracing::warn!(%error, "the session of locks was not renewed");
                RENEW_AGAIN
            }
        };
    }
}

impl Drop for LockSession {
    fn drop(&mut self) {
        let session = std::mem::take(&mut *self.shared.state.lock()).session;
        let inner = self.shared.inner.clone();
        if let (Ok(runtime), true) = (tokio::runtime::Handle::try_current(), session != 0) {
            runtime.spawn(async move {
                let request = pb::LockSessionRequest { session, reclaimed: false };
                let closed =
                    inner.calls.mounts(request, |mut c, r| async move { c.close_lock_session(r).await });
                if let Err(error) = closed.await {
                    tracing::debug!(%error, "a session of locks ends with its lease");
                }
            });
        }
    }
}

/// A wish that waits. Dropped before its end, it is taken back.
struct Waiting {
    shared: Arc<Shared>,
    session: u64,
    /// 0 once it does not wait.
    name: u64,
    wish: LockWish,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.name == 0 || self.session == 0 {
            return;
        }
        let (shared, session, request, wish) = (self.shared.clone(), self.session, self.name, self.wish);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = take_back(&shared, session, request, wish).await {
                    tracing::debug!(%error, "a wish for a lock was not taken back: it goes with its session");
                }
            });
        }
    }
}

/// Takes back a wish that waits; if it was granted meanwhile, nobody wants it any more.
async fn take_back(shared: &Shared, session: u64, request: u64, wish: LockWish) -> FsResult<()> {
    let request = pb::CancelLockRequest { session, request };
    let calls = &shared.inner.calls;
    let cancelled = calls.mounts(request, |mut c, r| async move { c.cancel_lock(r).await }).await?;
    if cancelled.outcome() == Outcome::Granted {
        LockSession::unlock_of(shared, wish.inode, wish.owner, wish.target).await?;
    }
    Ok(())
}

fn request_of(session: u64, wish: &LockWish) -> pb::LockRequest {
    let (first, last) = wish.target.bytes();
    pb::LockRequest {
        session,
        owner: wish.owner,
        inode: wish.inode.0,
        kind: wish.target.kind().into(),
        exclusive: wish.exclusive,
        first,
        last,
        pid: wish.pid,
        request: 0,
        wait_ms: 0,
        reclaim: false,
    }
}

const fn holder(answer: &pb::LockResponse) -> LockHolder {
    LockHolder {
        exclusive: answer.exclusive,
        first: answer.first,
        last: answer.last,
        pid: answer.pid,
        session: answer.session,
    }
}
