//! What is done when the namespace went back to an older state, because nothing newer was left.

use steadfs_common::{BlockId, FsError, FsErrorKind, FsResult, GenStamp, InodeId};

use super::planner::Planner;
use crate::command::Reply;
use crate::record::{Key, Loss, Record};
use crate::view::View as _;

/// So many ids of each kind are passed over: more than can have been given out since any backup.
const PASSED_OVER: u64 = 1 << 32;
/// Losses that are kept at a time.
const MAX_LOSSES: usize = 1_000;

/// [`crate::Command::AcceptLoss`]
pub(crate) fn accept(p: &mut Planner<'_>, incarnation: u64) -> FsResult<Reply> {
    let mut losses = p.tx.losses();
    if losses.iter().any(|loss| loss.incarnation == incarnation) {
        return Ok(Reply::Done);
    }
    if losses.len() >= MAX_LOSSES {
        return Err(FsError::new(
            FsErrorKind::Refused,
            "too many losses are kept: let go what is kept first",
        ));
    }
    let next = p.counters;
    p.counters.next_inode = InodeId(next.next_inode.0 + PASSED_OVER);
    p.counters.next_block = BlockId(next.next_block.0 + PASSED_OVER);
    p.counters.next_stamp = GenStamp(next.next_stamp.0 + PASSED_OVER);
    p.pass_over_transactions(PASSED_OVER);
    losses.push(Loss {
        incarnation,
        blocks: (next.next_block, p.counters.next_block),
        stamps: (next.next_stamp, p.counters.next_stamp),
    });
    p.tx.put(Key::Losses, Record::Losses(losses));
    Ok(Reply::Done)
}

/// [`crate::Command::ForgetLosses`]
pub(crate) fn forget(p: &mut Planner<'_>) -> Reply {
    if !p.tx.losses().is_empty() {
        p.tx.delete(Key::Losses);
    }
    Reply::Done
}
