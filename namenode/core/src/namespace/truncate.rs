//! Cutting a file short: whole blocks at once, the rest of the last one by a recovery of that block.

use std::sync::Arc;

use steadfs_common::{FsError, FsPath, FsResult};

use super::append::reopen_block;
use super::blocks::{body_mut, body_of};
use super::delete::drop_blocks;
use super::lease::{self, Takeover, TakeoverCause};
use super::planner::Planner;
use super::quota::{self, Counted};
use super::read::Action;
use super::resolve::Purpose;
use super::usage::{Usage, block_at, last_block};
use crate::command::{BlockRef, Effect, Reply};
use crate::record::{Block, BlockState, Inode, Recovery};

/// [`crate::Command::Truncate`]. The cost is the number of blocks that go, which is bounded.
pub(crate) fn truncate(p: &mut Planner<'_>, path: &FsPath, length: u64, client: &str) -> FsResult<Reply> {
    // Java's numbers are signed.
    if i64::try_from(length).is_err() {
        return Err(FsError::invalid_argument(format!(
            "Cannot truncate to a negative file size: {}.",
            length.cast_signed()
        )));
    }
    lease::check_client(client)?;
    let at = p.resolve(path, Purpose::Use)?;
    at.check_target(&p.guard, Action::WRITE)?;
    let target = at.target().ok_or_else(|| FsError::not_found(path))?;
    body_of(target).map_err(|_| FsError::not_a_file(path))?;
    if goal(p, target) == Some(length) {
        return Ok(Reply::Bool(false));
    }
    let (inode, taken) = match lease::take_over(p, TakeoverCause::Truncate, target, path, client)? {
        Takeover::Unneeded => (target.clone(), false),
        Takeover::Closed(inode) => (inode, true),
        Takeover::Begun(error) => return Ok(Reply::Failed(error)),
    };
    match cut(p, &inode, length, client) {
        // The file stays closed: its writer is gone, whatever becomes of this truncate.
        Err(error) if taken => Ok(Reply::Failed(error)),
        other => other,
    }
}

/// The length that a file will have when the truncate that is under way ends.
fn goal(p: &Planner<'_>, inode: &Inode) -> Option<u64> {
    let last = last_block(&p.tx, inode)?;
    let rest = lease::recovery(&last)?.truncate_to?;
    Some(inode.file()?.length.saturating_sub(last.length).saturating_add(rest))
}

/// Cuts a closed file.
fn cut(p: &mut Planner<'_>, inode: &Arc<Inode>, length: u64, client: &str) -> FsResult<Reply> {
    let has = body_of(inode)?.length;
    if has == length {
        return Ok(Reply::Bool(true));
    }
    if has < length {
        return Err(FsError::invalid_argument(format!(
            "Cannot truncate to a larger file size. Current size: {has}, truncate size: {length}."
        )));
    }
    check_quota(p, inode, length)?;
    let before = p.usage(inode);
    let mut inode = drop_blocks(p, inode, past(p, inode, length)?.0);
    inode.mtime = p.ctx.now;
    let left = body_of(&inode)?.length;
    if left > length
        && let Some(last) = last_block(&p.tx, &inode)
    {
        body_mut(&mut inode)?.under_construction = true;
        lease::start(p, inode.id, client);
        let rest = last.length.saturating_sub(left - length);
        ask(p, last, rest);
    }
    p.truncated(&inode, length);
    p.write_content(inode, before)?;
    Ok(Reply::Bool(left <= length))
}

/// A block that is cut counts as a whole one until that is done: this may take more than what goes gives back.
fn check_quota(p: &Planner<'_>, inode: &Inode, length: u64) -> FsResult<()> {
    let body = body_of(inode)?;
    let (gone, end) = past(p, inode, length)?;
    let cut = (body.blocks - gone).checked_sub(1).filter(|_| end > length);
    let cut = cut.and_then(|index| block_at(&p.tx, inode, index));
    let whole = cut.map_or(0, |cut| body.block_size.saturating_sub(cut.length));
    let growth = end.saturating_add(whole).cast_signed().wrapping_sub(body.length.cast_signed());
    quota::check(p, inode.parent, Usage::of_growth(inode, body, growth), Counted::NotYet, None)
}

/// How many of the last blocks lie wholly past `length`, and the bytes of those before them.
fn past(p: &Planner<'_>, inode: &Inode, length: u64) -> FsResult<(u32, u64)> {
    let body = body_of(inode)?;
    let (mut keep, mut end) = (body.blocks, body.length);
    while let Some(last) = keep.checked_sub(1).and_then(|index| block_at(&p.tx, inode, index))
        && end.saturating_sub(last.length) >= length
    {
        end = end.saturating_sub(last.length);
        keep -= 1;
    }
    Ok((body.blocks - keep, end))
}

/// Asks for the recovery that leaves `rest` bytes of a complete block. Until then it has its old length.
fn ask(p: &mut Planner<'_>, last: Block, rest: u64) {
    let mut last = reopen_block(p, last);
    let stamp = p.new_stamp();
    let expected = last.expected().into();
    p.effect(Effect::Recover {
        block: BlockRef { id: last.id, stamp: last.stamp, length: last.length },
        recovery_stamp: stamp,
        truncate_to: Some(rest),
        storages: last.expected().into(),
        synced: last.length,
        unsure: false,
    });
    let recovery = Some(Recovery { stamp, truncate_to: Some(rest), started: p.ctx.even });
    let synced = last.length;
    last.state = BlockState::UnderConstruction { expected, recovery, synced, unsure: false };
    p.tx.put_block(last);
}
