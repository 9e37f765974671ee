//! Locks across mounts.

use std::time::Duration;

use steadfs_common::limits::RECLAIM_STEP;
use steadfs_common::{FsError, FsPath, FsResult, InodeId};
use steadfs_namenode_core::locks::{ByteRange, LockKind, LockOwner, LockRequest, SessionId};
use steadfs_namenode_core::namespace::kept::{self, OpenFiles as _};
use steadfs_namenode_core::namespace::read::{Action, Reader, is_detached};
use steadfs_namenode_core::record::Inode;
use steadfs_namenode_core::{Caller, Command, Reply, View};

use super::Service;
use crate::locks::{LEASE, LockOutcome, Naming, Step};

/// The longest that a call waits for a lock.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// Files that are let go in one step: each may take its blocks along, and other changes wait for it.
const LET_GO_STEP: usize = 16;
/// Permission bits that let a caller lock a file: it may read or write it.
const READ: u8 = 4;
const WRITE: u8 = 2;

/// A session as its mount needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// The session.
    pub id: SessionId,
    /// Without a renewal for so long, it is gone.
    pub lease: Duration,
    /// The namenode's life. In another one, locks must be taken up again.
    pub life: u64,
}

/// What a mount says of the files that it has open.
#[derive(Clone, Debug, Default)]
pub struct NamedOpen {
    /// Open.
    pub files: Vec<InodeId>,
    /// Open no longer.
    pub released: Vec<InodeId>,
    /// From here on all are named that are open.
    pub begins: bool,
    /// All were named since: others are released.
    pub ended: bool,
}

impl Service {
    fn session_state(&self, id: SessionId) -> SessionState {
        SessionState { id, lease: LEASE, life: self.identity.epoch }
    }

    /// Whose sessions a caller may use: its own, or, for a superuser, anybody's.
    fn session_user(caller: &Caller) -> Option<&str> {
        (!caller.superuser).then_some(&*caller.user)
    }

    /// Opens a session for a mount that calls itself `client`.
    ///
    /// # Errors
    /// Refused: there are too many.
    pub async fn open_lock_session(&self, caller: &Caller, client: String) -> FsResult<SessionState> {
        match self.submit(caller, None, Command::OpenLockSession { client }).await? {
            Reply::Session(id) => {
                self.locks.opened(id, &caller.user);
                Ok(self.session_state(id))
            }
            other => Err(FsError::refused(format!("a session was opened with {other:?}"))),
        }
    }

    /// Keeps a session alive.
    ///
    /// # Errors
    /// LeaseExpired: it is gone, and its locks are. AccessDenied: it is another user's.
    pub fn renew_lock_session(
        &self,
        caller: &Caller,
        id: SessionId,
        reclaimed: bool,
    ) -> FsResult<SessionState> {
        self.locks.renew(id, Self::session_user(caller), reclaimed)?;
        Ok(self.session_state(id))
    }

    /// Ends a session and gives up its locks.
    ///
    /// # Errors
    /// AccessDenied: it is another user's.
    pub async fn close_lock_session(&self, caller: &Caller, id: SessionId) -> FsResult<()> {
        self.submit(caller, None, Command::CloseLockSession { session: id }).await?;
        self.locks.close(id);
        Ok(())
    }

    /// Asks for a lock, and waits for it for at most `wait` if the request has a name.
    ///
    /// # Errors
    /// LeaseExpired, AccessDenied: of the session; NotFound, AccessDenied: of the file.
    pub async fn lock(
        &self,
        caller: &Caller,
        request: LockRequest,
        name: u64,
        wait: Duration,
        reclaim: bool,
    ) -> FsResult<LockOutcome> {
        self.check_lockable(caller, request.inode).await?;
        let user = Self::session_user(caller);
        let told = match self.locks.ask(user, request, name, reclaim)? {
            Step::Done(outcome) => return Ok(outcome),
            Step::Wait(told) => told,
        };
        // Whoever is told looks what it is: the waiting may have ended for other reasons.
        tokio::select! {
            () = told.notified() => {}
            () = tokio::time::sleep(wait.min(MAX_WAIT)) => {}
            () = self.events.stopped() => {}
        }
        self.locks.outcome(user, request.owner.session, name)
    }

    /// Gives up what an owner holds of these bytes.
    ///
    /// # Errors
    /// LeaseExpired, AccessDenied: of the session.
    pub fn unlock(
        &self,
        caller: &Caller,
        inode: InodeId,
        kind: LockKind,
        owner: LockOwner,
        range: ByteRange,
    ) -> FsResult<()> {
        self.locks.unlock(Self::session_user(caller), inode, kind, owner, range)
    }

    /// Which lock would be in the way of a request.
    ///
    /// # Errors
    /// As [`Service::lock`].
    pub async fn test_lock(&self, caller: &Caller, request: &LockRequest) -> FsResult<LockOutcome> {
        self.check_lockable(caller, request.inode).await?;
        self.locks.test(Self::session_user(caller), request)
    }

    /// Takes a waiting request back.
    ///
    /// # Errors
    /// LeaseExpired, AccessDenied: of the session.
    pub fn cancel_lock(&self, caller: &Caller, session: SessionId, name: u64) -> FsResult<LockOutcome> {
        self.locks.cancel(Self::session_user(caller), session, name)
    }

    async fn check_lockable(&self, caller: &Caller, inode: InodeId) -> FsResult<()> {
        let path = FsPath::parse(&format!("/.reserved/.inodes/{inode}"))?;
        match self.check_access(caller, &path, READ).await {
            Ok(()) => Ok(()),
            Err(_) => self.check_access(caller, &path, WRITE).await,
        }
    }

    /// A mount has files open, as `caller`, or has them open no longer: deleted, they are kept as long. Gives those that are
    /// not there any more, or that the caller may neither read nor write. Whoever may see a file may have it kept through the
    /// session of its mount; everything else is its user's alone.
    ///
    /// # Errors
    /// LeaseExpired, AccessDenied: of the session. Refused: it has too many files open.
    pub async fn keep_open(
        &self,
        caller: &Caller,
        id: SessionId,
        named: NamedOpen,
    ) -> FsResult<(SessionState, Vec<InodeId>)> {
        let NamedOpen { files, released, begins, ended } = named;
        let user = Self::session_user(caller);
        if begins || ended || files.is_empty() || !released.is_empty() {
            self.locks.renew(id, user, false)?;
        }
        if begins {
            self.locks.name_open(id, user, Naming::Begins)?;
        }
        // Before they are looked for: what is deleted from here on is kept.
        let (new, settled) = self.locks.keep_open(id, &files)?;
        if let Some(mut settled) = settled {
            // One of them is just being removed: until that is done it looks as if it were there. It always comes.
            let _ = settled.changed().await;
        }
        let (asker, settings) = (caller.clone(), self.settings.clone());
        // A tree that was deleted is removed little by little: what of it is open need not wait for that, nor be taken for lost.
        self.keep_lost(&files, (!caller.superuser).then_some(&*caller.user)).await?;
        let lacking = move |view: &dyn View| {
            let reader = Reader { view, caller: &asker, settings: &settings };
            files.iter().copied().filter(|file| !may_open(&reader, *file)).collect::<Vec<_>>()
        };
        let lacking = self.read(lacking).await;
        let unkept: Vec<InodeId> = new.into_iter().filter(|file| lacking.contains(file)).collect();
        self.locks.release_open(id, &unkept);
        self.locks.release_open(id, &released);
        if ended {
            self.locks.name_open(id, user, Naming::Ended)?;
        }
        Ok((self.session_state(id), lacking))
    }

    /// Those of these files that are open and lie in trees that were deleted are kept from here on; with `owner`, that user's.
    async fn keep_lost(&self, files: &[InodeId], owner: Option<&str>) -> FsResult<()> {
        for files in files.chunks(RECLAIM_STEP) {
            let (files, owner) = (files.to_vec(), owner.map(str::to_owned));
            let find = move |view: &dyn View| {
                let is_lost = |file: &InodeId| {
                    let inode = view.inode(*file);
                    inode.is_some_and(|inode| owner.as_ref().is_none_or(|owner| inode.owner == *owner))
                        && is_detached(view, *file)
                };
                files.iter().copied().filter(is_lost).collect::<Vec<_>>()
            };
            let lost = self.read(find).await;
            if !lost.is_empty() {
                self.commits.submit(self.own.clone(), None, Command::LetGo { files: lost }, None).await?;
            }
        }
        Ok(())
    }

    /// Keeps what is open in the trees that were deleted and are not yet removed.
    pub(super) async fn keep_all_lost(&self) -> FsResult<()> {
        if self.read(|view| view.reclaims(1).is_empty()).await {
            return Ok(());
        }
        self.keep_lost(&self.locks.open_files(), None).await
    }

    /// Whether a file lost its name, and is kept for those who have it open.
    pub async fn is_nameless(&self, inode: &Inode) -> bool {
        // It is called by its id then, as hardly any other is.
        let by_id = inode.name.as_ref().is_some_and(|name| name.as_str() == inode.id.to_string());
        let parent = inode.parent;
        by_id && self.read(move |view| kept::folder(view) == Some(parent)).await
    }

    /// Lets files go that lost their names and that nobody has open any more. Gives how many are kept still.
    pub(super) async fn let_go(&self) -> FsResult<usize> {
        let (mut after, mut still) = (None, 0);
        while self.locks.is_known() {
            let from = after.clone();
            let page = self.read(move |view| kept::page(view, from.as_ref(), RECLAIM_STEP)).await;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let (open, gone): (Vec<_>, Vec<_>) =
                page.into_iter().map(|(_, file)| file).partition(|file| self.locks.has_open(*file));
            still += open.len();
            for some in gone.chunks(LET_GO_STEP) {
                let command = Command::LetGo { files: some.to_vec() };
                self.prefetch(&command).await;
                self.commits.submit(self.own.clone(), None, command, None).await?;
                self.detached.notify_one();
            }
        }
        Ok(still)
    }

    /// Ends sessions that nobody renews.
    pub(super) async fn expire_lock_sessions(&self) -> FsResult<()> {
        for session in self.locks.expire() {
            tracing::info!(session = session.0, "nobody renews this lock session: its locks are gone");
            self.commits.submit(self.own.clone(), None, Command::CloseLockSession { session }, None).await?;
        }
        Ok(())
    }
}

/// Whether the caller may have a file open.
fn may_open(reader: &Reader<'_>, file: InodeId) -> bool {
    FsPath::parse(&format!("/.reserved/.inodes/{file}")).is_ok_and(|path| {
        [Action::READ, Action::WRITE].into_iter().any(|action| reader.check_access(&path, action).is_ok())
    })
}
