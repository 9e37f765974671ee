//! `flock` and `fcntl` locks of programs on this mount, held in the namenode for all mounts of the cluster.
//!
//! Each user who locks has a session with the namenode ([`LockSession`]). What its programs hold is also kept where the next
//! server of this mount finds it ([`Row`]): it goes on with the session, and with the locks.
//!
//! The kernel tells of the end of an owner in two ways: a process that closes a file loses its `fcntl` locks on it (`flush`),
//! and an open file that goes takes its `flock` with it (`release`). Locks of `F_OFD_SETLK` belong to an open file too, and are
//! known by the handle through which they were taken.
//!
//! Whoever takes a lock sees what was written under it before: what was written here is committed before a lock is given up,
//! and what is remembered of the file is forgotten when one is granted.
//!
//! A session that the namenode did not hear of for its lease is over, and somebody else may hold its locks. Then reads and
//! writes through a handle whose lock is lost are refused (EIO) until the program gives the lock up or closes the file.

mod rows;
mod table;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fuser::Errno;
use parking_lot::Mutex;
use steadfs_client::{Client, FsErrorKind, FsResult, InodeId, LockResult, LockSession, LockTarget, LockWish};
use tokio::sync::OnceCell;

pub(crate) use self::rows::ROW;
use self::table::{Key, Table};
use crate::errno::{Answer, failed};
use crate::handoff::Memory;
use crate::kernel::{LockCall, LockFound, LockWanted};
use crate::notify::Notify;

/// Between two tries of what must reach the namenode before the session's lease ends, and how long it is tried.
const TRY_AGAIN: Duration = Duration::from_secs(1);
const TRY_FOR: Duration = Duration::from_secs(90);
/// How long a request that a killed server had is waited for: the kernel sends it again at once.
const SENT_AGAIN: Duration = Duration::from_secs(5);
/// How long the end of a mount waits for its sessions to be closed.
pub(crate) const CLOSE_FOR: Duration = Duration::from_secs(2);
/// The last byte that Linux knows.
const LAST: u64 = i64::MAX as u64;

/// All locks of a mount.
pub(crate) struct Locks {
    table: Arc<Mutex<Table>>,
    /// Owners that have lost something.
    lost: Arc<AtomicUsize>,
    users: Mutex<HashMap<u32, Arc<UserLocks>>>,
    notify: Notify,
}

/// The locks of one user.
struct UserLocks {
    user: u32,
    client: Client,
    session: OnceCell<LockSession>,
    /// The session of a server before this one, and what it held.
    left: Mutex<Option<(u64, Vec<LockWish>)>>,
}

/// A lock, or the end of one, of an open file.
#[derive(Clone)]
pub(crate) struct LockOf {
    pub(crate) inode: InodeId,
    pub(crate) user: u32,
    pub(crate) client: Client,
    pub(crate) call: LockCall,
    /// The number of the request.
    pub(crate) request: u64,
}

impl LockOf {
    fn key(&self) -> Key {
        Key { inode: self.inode.0, owner: self.call.owner, whole: self.call.whole_file, user: self.user }
    }

    fn target(&self) -> LockTarget {
        if self.call.whole_file {
            return LockTarget::Whole;
        }
        let last = if self.call.last >= LAST { u64::MAX } else { self.call.last };
        LockTarget::Bytes { first: self.call.first, last }
    }

    fn wish(&self) -> LockWish {
        LockWish {
            inode: self.inode,
            owner: self.call.owner,
            target: self.target(),
            exclusive: self.call.kind == LockWanted::Exclusive,
            pid: self.call.process,
        }
    }
}

impl Locks {
    pub(crate) fn new(memory: Memory, notify: Notify) -> Self {
        let table = Table::new(memory);
        let lost = table.lost();
        Self { table: Arc::new(Mutex::new(table)), lost, users: Mutex::default(), notify }
    }

    /// Goes on with what a server before this one had: `client` acts as a user. Waits for nothing.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(crate) fn take_over(&self, clients: &HashMap<u32, Client>) -> std::io::Result<()> {
        let left = self.table.lock().take_over()?;
        for (user, (session, held, asked)) in left {
            let Some(client) = clients.get(&user) else { continue };
            let locks = self.user(user, client);
            *locks.left.lock() = Some((session, held));
            let (table, notify) = (self.table.clone(), self.notify.clone());
            tokio::spawn(async move {
                match locks.session(&table, &notify).await {
                    Ok(_) => locks.forget_asked(&table, asked).await,
                    Err(error) => tracing::error!(%error, "the locks of a killed server are lost"),
                }
            });
        }
        Ok(())
    }

    /// The users whose locks a server before this one had.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(crate) fn users_left(memory: &Memory) -> std::io::Result<Vec<u32>> {
        table::users(memory)
    }

    /// The files that were locked through a server before this one.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(crate) fn inodes_left(memory: &Memory) -> std::io::Result<Vec<u64>> {
        table::inodes(memory)
    }

    fn user(&self, user: u32, client: &Client) -> Arc<UserLocks> {
        let mut users = self.users.lock();
        let locks = users.entry(user).or_insert_with(|| {
            let (client, session, left) = (client.clone(), OnceCell::new(), Mutex::default());
            Arc::new(UserLocks { user, client, session, left })
        });
        locks.clone()
    }

    /// What is in the way of a lock.
    pub(crate) async fn test(&self, lock: LockOf) -> Answer<Option<LockFound>> {
        let user = self.user(lock.user, &lock.client);
        let session = user.session(&self.table, &self.notify).await.map_err(|error| refused(&error))?;
        let found = session.test(lock.wish()).await.map_err(|error| refused(&error))?;
        Ok(found.map(|found| LockFound {
            first: found.first,
            last: found.last.min(LAST),
            exclusive: found.exclusive,
            // The number of a process elsewhere says nothing here, or the wrong thing.
            process: if found.session == session.id() { found.pid } else { 0 },
        }))
    }

    /// Takes a lock, if need be when it can be had.
    pub(crate) async fn lock(&self, lock: LockOf, wait: bool) -> Answer<()> {
        let key = lock.key();
        if self.table.lock().is_lost(&key) {
            return Err(Errno::ENOLCK);
        }
        let user = self.user(lock.user, &lock.client);
        let session = user.session(&self.table, &self.notify).await.map_err(|error| refused(&error))?;
        // From here on the end of the owner gives it up, whatever becomes of this call.
        let name = if wait { lock.request } else { 0 };
        self.table.lock().begin_asking(&key, name, session.id(), lock.call.handle)?;
        let asking = Asking { table: &self.table, session, key, name };
        let result = session.lock_as(name, lock.wish()).await;
        drop(asking);
        match result.map_err(|error| refused(&error))? {
            LockResult::Granted => Ok(()),
            LockResult::Blocked(_) => Err(Errno::EAGAIN),
            LockResult::Deadlock => Err(Errno::EDEADLK),
            LockResult::TooMany => Err(Errno::ENOLCK),
        }
    }

    /// Gives up what an owner holds of these bytes.
    pub(crate) async fn unlock(&self, lock: LockOf) -> Answer<()> {
        let key = lock.key();
        if !self.table.lock().has(&key) {
            return Ok(());
        }
        let user = self.user(lock.user, &lock.client);
        self.give_up(&user, key, lock.target()).await
    }

    /// Whether the owner has a lock of this kind on the file, or waits for one.
    pub(crate) fn has(&self, lock: &LockOf) -> bool {
        self.table.lock().has(&lock.key())
    }

    /// Whether an owner has locks of bytes of a file, or asked for some.
    pub(crate) fn has_ranges(&self, inode: InodeId, owner: u64) -> bool {
        !self.table.lock().of_owner(inode.0, owner, false).is_empty()
    }

    /// A process closes a file: its locks of bytes go, whichever handle they were taken through.
    pub(crate) async fn closed_by(&self, inode: InodeId, owner: u64) -> Answer<()> {
        let keys = self.table.lock().of_owner(inode.0, owner, false);
        self.give_up_all(keys).await
    }

    /// An open file goes, and what was locked for it.
    pub(crate) async fn released(&self, inode: InodeId, handle: u64, flock_owner: Option<u64>) {
        let keys = {
            let table = self.table.lock();
            if table.is_empty() {
                return;
            }
            let mut keys = table.of_handle(inode.0, handle);
            if let Some(owner) = flock_owner {
                keys.extend(table.of_owner(inode.0, owner, true));
            }
            keys
        };
        if let Err(errno) = self.give_up_all(keys).await {
            tracing::debug!(?errno, "the locks of a file that was closed go later");
        }
    }

    async fn give_up_all(&self, keys: Vec<Key>) -> Answer<()> {
        let mut done = Ok(());
        for key in keys {
            let Some(user) = self.users.lock().get(&key.user).cloned() else { continue };
            let target =
                if key.whole { LockTarget::Whole } else { LockTarget::Bytes { first: 0, last: u64::MAX } };
            done = done.and(self.give_up(&user, key, target).await);
        }
        done
    }

    async fn give_up(&self, user: &Arc<UserLocks>, key: Key, target: LockTarget) -> Answer<()> {
        let session = user.session(&self.table, &self.notify).await.map_err(|error| refused(&error))?;
        let inode = InodeId(key.inode);
        self.table.lock().begin_unlock(&key);
        let unlocking = Unlocking { table: &self.table, session, key };
        let done = session.unlock(inode, key.owner, target).await;
        drop(unlocking);
        match done {
            Ok(()) => Ok(()),
            Err(error) => {
                // The namenode holds it still: it is told when it answers.
                let (user, table, notify) = (user.clone(), self.table.clone(), self.notify.clone());
                tokio::spawn(async move { user.unlock_later((table, notify), key, target).await });
                Err(refused(&error))
            }
        }
    }

    /// Whether a handle may be read and written: not while a lock that was taken through it is lost.
    pub(crate) fn check(&self, inode: InodeId, handle: u64) -> Answer<()> {
        let lost = self.lost.load(Ordering::Acquire) > 0 && self.table.lock().is_handle_lost(inode.0, handle);
        if lost { Err(Errno::EIO) } else { Ok(()) }
    }

    /// As [`Locks::check`], before something is made visible to all: makes sure, if there is a lock.
    pub(crate) async fn confirm(&self, inode: InodeId, handle: u64) -> Answer<()> {
        let users = self.table.lock().users_of_handle(inode.0, handle);
        for user in users {
            let Some(user) = self.users.lock().get(&user).cloned() else { continue };
            let session = user.session(&self.table, &self.notify).await.map_err(|error| refused(&error))?;
            session.confirm().await.map_err(|error| refused(&error))?;
            look_for_losses(&self.table, &self.notify, user.user, session);
        }
        self.check(inode, handle)
    }

    /// Ends all sessions: the mount is gone.
    pub(crate) async fn close(&self) {
        let users: Vec<Arc<UserLocks>> = self.users.lock().drain().map(|(_, user)| user).collect();
        let closed = futures::future::join_all(users.into_iter().map(|user| async move {
            if let Some(session) = Arc::into_inner(user).and_then(|user| user.session.into_inner()) {
                let _ = session.close().await;
            }
        }));
        let _ = tokio::time::timeout(CLOSE_FOR, closed).await;
    }
}

impl UserLocks {
    /// The session: that of a server before this one, or a new one.
    async fn session(self: &Arc<Self>, table: &Arc<Mutex<Table>>, notify: &Notify) -> FsResult<&LockSession> {
        self.session
            .get_or_try_init(|| async {
                let left = self.left.lock().clone();
                let session = match left {
                    Some((id, held)) => {
                        let resumed = until_answered(|| self.client.resume_lock_session(id, held.clone()));
                        resumed.await?
                    }
                    None => self.client.lock_session().await?,
                };
                *self.left.lock() = None;
                look_for_losses(table, notify, self.user, &session);
                let watched =
                    watch_losses(session.losses(), Arc::downgrade(self), table.clone(), notify.clone());
                tokio::spawn(watched);
                Ok(session)
            })
            .await
    }

    /// What a killed server had asked for and nobody asks for again is taken back.
    async fn forget_asked(&self, table: &Mutex<Table>, asked: Vec<(Key, u64)>) {
        tokio::time::sleep(SENT_AGAIN).await;
        let Some(session) = self.session.get() else { return };
        for (key, name) in asked {
            if !table.lock().is_left_asking(&key, name) {
                continue;
            }
            let target =
                if key.whole { LockTarget::Whole } else { LockTarget::Bytes { first: 0, last: u64::MAX } };
            let wish =
                LockWish { inode: InodeId(key.inode), owner: key.owner, target, exclusive: true, pid: 0 };
            if let Err(error) = session.cancel(name, wish).await {
                tracing::debug!(%error, "a wish of a killed server goes with its session");
            }
            table.lock().end_asking(&key, name);
        }
    }

    async fn unlock_later(&self, (table, notify): (Arc<Mutex<Table>>, Notify), key: Key, target: LockTarget) {
        let Some(session) = self.session.get() else { return };
        let deadline = tokio::time::Instant::now() + TRY_FOR;
        while tokio::time::Instant::now() < deadline {
            tokio::time::sleep(TRY_AGAIN).await;
            // Taken again meanwhile: what is held is wanted.
            if table.lock().has(&key) || session.unlock(InodeId(key.inode), key.owner, target).await.is_ok() {
                break;
            }
        }
        look_for_losses(&table, &notify, self.user, session);
    }
}

/// Tries what a server that begins needs until the namenode answers, however long that takes.
async fn until_answered<T, W: Future<Output = FsResult<T>>>(work: impl Fn() -> W) -> FsResult<T> {
    loop {
        match work().await {
            Err(error) if error.is_transient() => tokio::time::sleep(TRY_AGAIN).await,
            done => return done,
        }
    }
}

async fn watch_losses(
    mut losses: tokio::sync::watch::Receiver<u64>,
    user: Weak<UserLocks>,
    table: Arc<Mutex<Table>>,
    notify: Notify,
) {
    while losses.changed().await.is_ok() {
        let Some(user) = user.upgrade() else { return };
        if let Some(session) = user.session.get() {
            look_for_losses(&table, &notify, user.user, session);
        }
    }
}

/// Marks what the session does not hold any more.
fn look_for_losses(table: &Mutex<Table>, notify: &Notify, user: u32, session: &LockSession) {
    let holds = |key: &Key| session.held_by(InodeId(key.inode), key.owner, key.whole);
    for inode in table.lock().find_lost(user, holds) {
        tracing::warn!(inode, "a lock was lost: the namenode did not hear of this mount for too long");
        // What the kernel remembers would be read without asking.
        notify.changed(inode);
    }
}

/// A request for a lock, under way.
struct Asking<'a> {
    table: &'a Mutex<Table>,
    session: &'a LockSession,
    key: Key,
    name: u64,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let held = self.session.held_by(InodeId(self.key.inode), self.key.owner, self.key.whole);
        let mut table = self.table.lock();
        table.set_held(&self.key, self.session.id(), &held);
        table.end_asking(&self.key, self.name);
    }
}

/// A call that gives something up, under way.
struct Unlocking<'a> {
    table: &'a Mutex<Table>,
    session: &'a LockSession,
    key: Key,
}

impl Drop for Unlocking<'_> {
    fn drop(&mut self) {
        let held = self.session.held_by(InodeId(self.key.inode), self.key.owner, self.key.whole);
        self.table.lock().end_unlock(&self.key, self.session.id(), &held);
    }
}

/// The errno of a failed call about a lock.
fn refused(error: &steadfs_client::FsError) -> Errno {
    match error.kind() {
        // The file is gone for the namenode, or may not even be read: no lock of it is to be had.
        FsErrorKind::NotFound | FsErrorKind::AccessDenied | FsErrorKind::LeaseExpired => Errno::ENOLCK,
        _ => failed("a lock", error),
    }
}
