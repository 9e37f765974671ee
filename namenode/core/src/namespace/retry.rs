//! Calls that are carried out at most once: a repeated one gets the answer of the first.

use steadfs_common::{CallKey, FsResult, Millis};

use crate::command::{Command, Context, Outcome};
use crate::tx::Tx;
use crate::view::View;

/// Whether a repetition of this command must not be carried out again. All others may be repeated harmlessly.
#[must_use]
pub const fn is_at_most_once(command: &Command) -> bool {
    matches!(
        command,
        Command::Create { .. }
            | Command::Append { .. }
            | Command::Rename { .. }
            | Command::Delete { .. }
            | Command::UpdatePipeline { .. }
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
    let _ = key;
    super::plan(tx, ctx, command)
}

/// Saved answers that have expired at `now`, among the `limit` after `after`; and where to go on, if there is more.
/// For [`Command::ForgetCalls`]; meant to be run off the commit thread.
pub fn expired(
    view: &dyn View,
    now: Millis,
    after: Option<&CallKey>,
    limit: usize,
) -> (Vec<CallKey>, Option<CallKey>) {
    let rows = view.retries(after, limit);
    let next = if rows.len() < limit { None } else { rows.last().map(|(key, _)| *key) };
    (rows.into_iter().filter(|(_, retry)| retry.expires <= now).map(|(key, _)| key).collect(), next)
}
