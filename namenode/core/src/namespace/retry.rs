//! Calls that are carried out at most once: a repeated one gets the answer of the first.

use std::time::Duration;

use steadfs_common::{CallKey, FsError, FsResult, Millis};

use super::planner::Planner;
use super::resolve;
use super::usage::last_block;
use crate::command::{Command, Context, Outcome, PlacedBlock, Reply};
use crate::record::{Key, Record, Retry, RetryReply};
use crate::tx::Tx;
use crate::view::View;

/// Whether a repetition of this command must not be carried out again. All others may be repeated harmlessly.
#[must_use]
pub const fn is_at_most_once(command: &Command) -> bool {
    matches!(
        command,
        Command::Create { .. }
            | Command::MakeFolder { .. }
            | Command::Append { .. }
            | Command::Rename { .. }
            | Command::Delete { .. }
            | Command::Concat { .. }
            | Command::UpdatePipeline { .. }
            | Command::SetXAttr { .. }
            | Command::RemoveXAttr { .. }
    )
}

/// Plans `command` if the call `key` was not carried out before, and saves its answer; else gives the saved answer.
/// Without a key, and for commands that may be repeated, this is [`super::plan`].
///
/// # Errors
/// As [`super::plan`]. A failed call is not saved: repeated, it is carried out again.
pub fn plan_once(
    tx: &mut Tx<'_>,
    ctx: &Context<'_>,
    key: Option<CallKey>,
    command: &Command,
) -> FsResult<Outcome> {
    let Some(key) = key.filter(|key| key.call >= 0 && is_at_most_once(command)) else {
        return super::plan(tx, ctx, command);
    };
    // Also past its time: keys are never used again, and a clock that jumps must not have a call carried out twice.
    if let Some(saved) = tx.retry(&key) {
        let reply = answer_again(tx, command, &saved.reply)?;
        return Ok(Outcome { reply, effects: Vec::new(), events: Vec::new() });
    }
    let outcome = super::plan(tx, ctx, command)?;
    let reply = match &outcome.reply {
        Reply::Done => RetryReply::Done,
        Reply::Bool(value) => RetryReply::Bool(*value),
        Reply::File(inode) | Reply::Appended { inode, .. } => RetryReply::File(inode.id),
        Reply::Block(_) | Reply::Session(_) | Reply::Failed(_) => return Ok(outcome),
    };
    let expires = ctx.even.plus(ctx.settings.retry_expiry);
    tx.put(Key::Retry(key), Record::Retry(Retry { expires, reply }));
    Ok(outcome)
}

/// What the first call answered, as far as it is still true.
fn answer_again(view: &dyn View, command: &Command, saved: &RetryReply) -> FsResult<Reply> {
    match (command, saved) {
        (Command::Create { path, .. }, RetryReply::File(id)) => {
            let inode = view.inode(*id).filter(|_| !resolve::is_detached(view, *id));
            Ok(Reply::File((*inode.ok_or_else(|| FsError::not_found(path))?).clone()))
        }
        (Command::Append { path, new_block, .. }, RetryReply::File(id)) => {
            let inode = view.inode(*id).filter(|_| !resolve::is_detached(view, *id));
            let inode = inode.ok_or_else(|| FsError::not_found(path))?;
            let length = inode.file().map_or(0, |body| body.length);
            let last = last_block(view, &inode).filter(|block| *new_block || !block.is_complete());
            let last = last.map(|block| {
                let (offset, storages) = (length.saturating_sub(block.length), block.expected().into());
                PlacedBlock { block, offset, storages }
            });
            Ok(Reply::Appended { inode: (*inode).clone(), last })
        }
        (Command::Rename { .. } | Command::Delete { .. }, RetryReply::Bool(value)) => Ok(Reply::Bool(*value)),
        (
            Command::Rename { .. }
            | Command::UpdatePipeline { .. }
            | Command::Concat { .. }
            | Command::MakeFolder { .. }
            | Command::SetXAttr { .. }
            | Command::RemoveXAttr { .. },
            RetryReply::Done,
        ) => Ok(Reply::Done),
        _ => Err(FsError::invalid_argument("The call's number was used before, for another operation")),
    }
}

/// The time by which answers expire.
#[derive(Clone, Copy, Debug)]
pub struct Age {
    /// As [`Context::even`].
    pub even: Millis,
    /// How long the process runs, as [`Context::steady`].
    pub steady: Millis,
    /// How long an answer is kept.
    pub expiry: Duration,
}

impl Age {
    /// Whether an answer's time is over. The clock of an earlier process may have been off: nothing that may come from there is
    /// forgotten before this process itself has waited for so long, and then all of it may be.
    fn is_over(self, saved: &Retry) -> bool {
        let waited = self.steady >= Millis(0).plus(self.expiry);
        waited && (saved.expires <= self.even || saved.expires > self.even.plus(self.expiry))
    }
}

/// Saved answers whose time is over, among the `limit` after `after`; and where to go on, if there is more.
/// For [`Command::ForgetCalls`]; meant to be run off the commit thread.
pub fn expired(
    view: &dyn View,
    age: Age,
    after: Option<&CallKey>,
    limit: usize,
) -> (Vec<CallKey>, Option<CallKey>) {
    let rows = view.retries(after, limit);
    let next = if rows.len() < limit { None } else { rows.last().map(|(key, _)| *key) };
    (rows.into_iter().filter(|(_, retry)| age.is_over(retry)).map(|(key, _)| key).collect(), next)
}

/// [`Command::ForgetCalls`]
pub(crate) fn forget(p: &mut Planner<'_>, keys: &[CallKey]) -> Reply {
    let age = Age { even: p.ctx.even, steady: p.ctx.steady, expiry: p.ctx.settings.retry_expiry };
    for key in keys {
        if p.tx.retry(key).is_some_and(|saved| age.is_over(&saved)) {
            p.tx.delete(Key::Retry(*key));
        }
    }
    Reply::Done
}
