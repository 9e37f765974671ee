//! Who may write a file, for how long, and what happens when the writer is gone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult, InodeId, Millis, limits};

use super::permission::Guard;
use super::planner::Planner;
use super::read::Action;
use super::resolve::{self, Purpose};
use super::{blocks, delete, replace, usage};
use crate::command::{BlockRef, Context, Effect, FileRef, Reply, Settings};
use crate::record::{Block, BlockState, Inode, InodeKind, Key, Lease, Record, Recovery};
use crate::view::View;

/// Holder of a file that the namenode itself is closing.
pub const RECOVERY_HOLDER: &str = "NN_Recovery";

/// A block's recovery that has not ended after this is asked for again, under a new stamp, unless the cluster wants it left alone
/// for longer: see [`crate::placement::Cluster::recovery_wait`].
pub const RECOVERY_RETRY: Duration = Duration::from_secs(30);

/// Looks at up to `limit` leases after `after`, and gives the files for which [`crate::Command::ExpireLease`] is due; and
/// where to go on, if there is more. Leases of the namenode's own are always among them. `now` is in the time of
/// `renewals`: see [`Context::steady`].
pub fn due(
    view: &dyn View,
    renewals: &BTreeMap<String, Millis>,
    settings: &Settings,
    now: Millis,
    after: Option<InodeId>,
    limit: usize,
) -> (Vec<InodeId>, Option<InodeId>) {
    let rows = view.leases(after, limit);
    let next = if rows.len() < limit { None } else { rows.last().map(|(id, _)| *id) };
    let due = |lease: &Lease| is_past(renewals, &lease.holder, now, settings.lease_hard_limit);
    (rows.into_iter().filter(|(_, lease)| due(lease)).map(|(id, _)| id).collect(), next)
}

/// Whether a holder has not renewed for longer than `limit`. The namenode's own leases are always past it, a holder
/// nobody has heard of since a restart never is.
fn is_past(renewals: &BTreeMap<String, Millis>, holder: &str, now: Millis, limit: Duration) -> bool {
    holder == RECOVERY_HOLDER || renewals.get(holder).is_some_and(|renewed| now.since(*renewed) > limit)
}

/// Refuses a client's name that cannot be stored, or that is the namenode's own.
pub(crate) fn check_client(client: &str) -> FsResult<()> {
    if client.is_empty() || client.len() > limits::MAX_PRINCIPAL_BYTES || client == RECOVERY_HOLDER {
        return Err(FsError::invalid_argument(format!(
            "A client's name has 1 to {} bytes and is not {RECOVERY_HOLDER}",
            limits::MAX_PRINCIPAL_BYTES
        )));
    }
    Ok(())
}

/// The machine a call came from, for messages.
pub(crate) fn machine(ctx: &Context<'_>) -> String {
    ctx.caller.address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}

/// Gives a file to a new holder.
pub(crate) fn start(p: &mut Planner<'_>, file: InodeId, holder: &str) {
    end(p, file);
    let lease = Lease { holder: holder.to_owned(), machine: machine(p.ctx) };
    p.tx.put(Key::Lease(file), Record::Lease(lease));
    p.effect(Effect::LeaseStarted { holder: holder.to_owned(), file });
}

/// Takes the lease on a file away, if there is one.
pub(crate) fn end(p: &mut Planner<'_>, file: InodeId) {
    if let Some(lease) = p.tx.lease(file) {
        p.tx.delete(Key::Lease(file));
        p.effect(Effect::LeaseEnded { holder: lease.holder, file });
    }
}

/// The file that `client` is writing.
pub(crate) fn open_file(
    view: &dyn View,
    guard: &Guard<'_>,
    file: &FileRef,
    client: &str,
) -> FsResult<Arc<Inode>> {
    let id = file.inode.filter(|id| id.0 != 0);
    let inode = match id {
        Some(id) => view.inode(id).filter(|_| !resolve::is_detached(view, id)),
        None => resolve::resolve(view, guard, &file.path, Purpose::Use)?.target().cloned(),
    };
    let who = |inode: InodeId| {
        format!("{} (inode {inode}) Holder {client} does not have it open for writing.", file.path)
    };
    let Some(inode) = inode else {
        return Err(FsError::not_found(who(id.unwrap_or_default())));
    };
    let expired = |message: String| Err(FsError::new(FsErrorKind::LeaseExpired, message));
    let who = who(inode.id);
    match (inode.file(), view.lease(inode.id)) {
        (None, _) => expired(format!("INode is not a regular file: {who}")),
        (Some(body), Some(lease)) if body.under_construction => {
            if lease.holder == client {
                return Ok(inode);
            }
            expired(format!("Client (={client}) is not the lease owner (={}: {who}", lease.holder))
        }
        _ => expired(format!("File is not open for writing: {who}")),
    }
}

/// What a file is taken from its writer for.
#[derive(Clone, Copy)]
pub(crate) enum TakeoverCause {
    Create,
    Append,
    Truncate,
}

impl fmt::Display for TakeoverCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "CREATE_FILE",
            Self::Append => "APPEND_FILE",
            Self::Truncate => "TRUNCATE_FILE",
        })
    }
}

/// What came of trying to take a file from its writer.
pub(crate) enum Takeover {
    /// Nobody writes it.
    Unneeded,
    /// It is closed now.
    Closed(Arc<Inode>),
    /// Its recovery has begun, or goes on; the caller gets this error.
    Begun(FsError),
}

/// Takes a file from a writer past the soft limit, for another client.
pub(crate) fn take_over(
    p: &mut Planner<'_>,
    cause: TakeoverCause,
    inode: &Arc<Inode>,
    path: &FsPath,
    client: &str,
) -> FsResult<Takeover> {
    if !inode.file().is_some_and(|body| body.under_construction) {
        return Ok(Takeover::Unneeded);
    }
    let prefix = format!("Failed to {cause} {path} for {client} on {} because ", machine(p.ctx));
    let being_created = |why: String| FsError::new(FsErrorKind::AlreadyBeingCreated, prefix.clone() + &why);
    let recovering = |why: String| FsError::new(FsErrorKind::RecoveryInProgress, prefix.clone() + &why);
    let Some(lease) = p.tx.lease(inode.id) else {
        return Err(being_created("the file is under construction but no leases found.".into()));
    };
    if lease.holder == client {
        return Err(being_created(format!("{client} is already the current lease holder.")));
    }
    if !is_past(p.ctx.renewals, &lease.holder, p.ctx.steady, p.ctx.settings.lease_soft_limit) {
        let owner = format!("{} on {}", lease.holder, lease.machine);
        let recovers = usage::last_block(&p.tx, inode).is_some_and(|block| recovery(&block).is_some());
        return Err(if recovers {
            recovering(format!("another recovery is in progress by {owner}"))
        } else {
            being_created(format!("this file lease is currently owned by {owner}"))
        });
    }
    Ok(match release(p, inode, path)? {
        Some(closed) => Takeover::Closed(Arc::new(closed)),
        None => Takeover::Begun(recovering("lease recovery is in progress. Try again later.".into())),
    })
}

/// [`crate::Command::RecoverLease`]
pub(crate) fn recover(p: &mut Planner<'_>, path: &FsPath) -> FsResult<Reply> {
    let at = p.resolve(path, Purpose::Use)?;
    let target = at.target().ok_or_else(|| FsError::not_found(path))?;
    let body = target.file().ok_or_else(|| FsError::not_a_file(path))?;
    if !body.under_construction {
        return Ok(Reply::Bool(true));
    }
    at.check_target(&p.guard, Action::WRITE)?;
    Ok(Reply::Bool(release(p, target, path)?.is_some()))
}

/// [`crate::Command::ExpireLease`]
pub(crate) fn expire(p: &mut Planner<'_>, file: InodeId) -> FsResult<Reply> {
    let Some(lease) = p.tx.lease(file) else { return Ok(Reply::Bool(true)) };
    if !is_past(p.ctx.renewals, &lease.holder, p.ctx.steady, p.ctx.settings.lease_hard_limit) {
        return Ok(Reply::Bool(false));
    }
    if let Some(staged) = p.tx.inode(file).filter(|inode| replace::is_staged(inode)) {
        replace::discard(p, &staged);
        return Ok(Reply::Bool(true));
    }
    let (Some(inode), Some(path)) = (p.tx.inode(file), resolve::full_path(&p.tx, file)) else {
        // Deleted: the lease goes when the file is reclaimed.
        return Ok(Reply::Bool(true));
    };
    match release(p, &inode, &path) {
        Ok(closed) => Ok(Reply::Bool(closed.is_some())),
        Err(error) if error.kind() == FsErrorKind::AlreadyBeingCreated => Ok(Reply::Bool(false)),
        Err(error) => Err(error),
    }
}

/// Closes a file whose writer is gone, if its blocks allow it, and gives it as closed. If its last block must be
/// recovered first, that is asked for, and the namenode holds the lease until then.
fn release(p: &mut Planner<'_>, inode: &Arc<Inode>, path: &FsPath) -> FsResult<Option<Inode>> {
    let mut inode = Inode::clone(inode);
    blocks::complete_committed(p, &inode);
    let Some(last) = usage::last_block(&p.tx, &inode) else {
        return close(p, inode).map(Some);
    };
    let waits = || {
        FsError::new(
            FsErrorKind::AlreadyBeingCreated,
            format!(
                "Failed to release lease for file {path}. Committed blocks are waiting to be minimally replicated."
            ),
        )
    };
    match &last.state {
        BlockState::Complete if blocks::all_complete(p, &inode) => close(p, inode).map(Some),
        BlockState::Complete | BlockState::Committed { .. } => Err(waits()),
        BlockState::UnderConstruction { expected, .. } => {
            let mut expected = expected.clone();
            if expected.is_empty() {
                expected = p.ctx.cluster.live(last.id, last.stamp);
            }
            if expected.is_empty() && last.length == 0 {
                // Nobody was ever asked to store it.
                let before = p.usage(&inode);
                inode = delete::drop_blocks(p, &inode, 1);
                inode = p.write_content(inode, before)?;
                return if blocks::all_complete(p, &inode) {
                    close(p, inode).map(Some)
                } else {
                    Err(waits())
                };
            }
            begin_recovery(p, &inode, last, expected);
            Ok(None)
        }
    }
}

/// The recovery of a block, if one runs.
pub(crate) fn recovery(block: &Block) -> Option<Recovery> {
    match block.state {
        BlockState::UnderConstruction { recovery, .. } => recovery,
        _ => None,
    }
}

/// Asks for the recovery of a file's last block, unless that was done a moment ago.
fn begin_recovery(
    p: &mut Planner<'_>,
    inode: &Inode,
    mut last: Block,
    expected: SmallVec<[steadfs_common::StorageId; 3]>,
) {
    let before = recovery(&last);
    // One from the future was asked for by a process with another clock: nobody knows how long ago that is.
    let fresh = |running: Recovery| {
        let age = p.ctx.even.since(running.started);
        running.started <= p.ctx.even && (age < RECOVERY_RETRY || age < p.ctx.cluster.recovery_wait(last.id))
    };
    if before.is_some_and(fresh) {
        return;
    }
    let truncate_to = before.and_then(|running| running.truncate_to);
    let (stamp, (synced, unsure)) = (p.new_stamp(), last.synced());
    p.effect(Effect::Recover {
        block: BlockRef { id: last.id, stamp: last.stamp, length: last.length },
        recovery_stamp: stamp,
        truncate_to,
        storages: expected.clone(),
        synced,
        unsure,
    });
    let recovery = Some(Recovery { stamp, truncate_to, started: p.ctx.even });
    last.state = BlockState::UnderConstruction { expected, recovery, synced, unsure };
    p.tx.put_block(last);
    if p.tx.lease(inode.id).is_none_or(|lease| lease.holder != RECOVERY_HOLDER) {
        start(p, inode.id, RECOVERY_HOLDER);
    }
}

/// Closes a file all of whose blocks are complete.
pub(crate) fn close(p: &mut Planner<'_>, mut inode: Inode) -> FsResult<Inode> {
    let InodeKind::File(body) = &mut inode.kind else {
        return Err(FsError::not_a_file(inode.id));
    };
    body.under_construction = false;
    inode.mtime = p.ctx.now;
    end(p, inode.id);
    p.closed(&inode);
    Ok(p.write(inode))
}
