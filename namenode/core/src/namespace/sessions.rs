//! Mounts that may hold locks. The locks themselves are not stored: see [`crate::locks`].

use steadfs_common::{FsError, FsErrorKind, FsResult};

use super::lease;
use super::planner::Planner;
use crate::command::Reply;
use crate::locks::SessionId;
use crate::record::{Key, LockSession, Record};
use crate::view::View;

/// Sessions at most.
const MAX_SESSIONS: usize = 16_384;

/// [`crate::Command::OpenLockSession`]
pub(crate) fn open(p: &mut Planner<'_>, client: &str) -> FsResult<Reply> {
    lease::check_client(client)?;
    if p.tx.lock_sessions(None, MAX_SESSIONS).len() >= MAX_SESSIONS {
        return Err(FsError::refused(format!(
            "There are {MAX_SESSIONS} mounts that hold locks: no more may"
        )));
    }
    let id = SessionId(p.id().0);
    let session =
        LockSession { user: p.ctx.caller.user.clone(), client: client.to_owned(), opened: p.ctx.now };
    p.tx.put(Key::LockSession(id), Record::LockSession(session));
    Ok(Reply::Session(id))
}

/// [`crate::Command::CloseLockSession`]
pub(crate) fn close(p: &mut Planner<'_>, id: SessionId) -> FsResult<Reply> {
    if let Some(session) = p.tx.lock_session(id) {
        if session.user != p.ctx.caller.user && !p.guard.is_superuser() {
            return Err(FsError::new(
                FsErrorKind::AccessDenied,
                format!("Session {} is not one of {}", id.0, p.ctx.caller.user),
            ));
        }
        p.tx.delete(Key::LockSession(id));
    }
    Ok(Reply::Done)
}
