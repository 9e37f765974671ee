//! Opening a file again.

use std::sync::Arc;

use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult};

use super::blocks::{body_mut, body_of, named};
use super::lease::{self, Takeover, TakeoverCause};
use super::planner::Planner;
use super::quota::{self, Counted};
use super::read::Action;
use super::resolve::Purpose;
use super::usage::{Usage, last_block};
use crate::command::{Effect, PlacedBlock, Reply};
use crate::record::{Block, BlockState, Inode};

/// [`crate::Command::Append`]
pub(crate) fn append(p: &mut Planner<'_>, path: &FsPath, client: &str, new_block: bool) -> FsResult<Reply> {
    lease::check_client(client)?;
    let at = p.resolve(path, Purpose::Use)?;
    if at.target().is_some_and(|target| target.is_directory()) {
        return Err(FsError::exists(format!(
            "Cannot append to directory {path}; already exists as a directory."
        )));
    }
    at.check_target(&p.guard, Action::WRITE)?;
    let Some(target) = at.target() else {
        return Err(FsError::new(
            FsErrorKind::NotFound,
            format!("Failed to append to non-existent file {path} for client {}", lease::machine(p.ctx)),
        ));
    };
    let (inode, taken) = match lease::take_over(p, TakeoverCause::Append, target, path, client)? {
        Takeover::Unneeded => (target.clone(), false),
        Takeover::Closed(inode) => (inode, true),
        Takeover::Begun(error) => return Ok(Reply::Failed(error)),
    };
    match reopen(p, &inode, path, client, new_block) {
        // The file stays closed: its writer is gone, whatever becomes of this append.
        Err(error) if taken => Ok(Reply::Failed(error)),
        other => other,
    }
}

fn reopen(
    p: &mut Planner<'_>,
    inode: &Arc<Inode>,
    path: &FsPath,
    client: &str,
    new_block: bool,
) -> FsResult<Reply> {
    let last = last_block(&p.tx, inode);
    if let Some(last) = &last {
        check_last(p, last, path)?;
        check_quota(p, inode, last)?;
    }
    p.appended(inode, new_block);
    let before = p.usage(inode);
    let mut inode = Inode::clone(inode);
    let body = body_mut(&mut inode)?;
    body.under_construction = true;
    let (length, block_size) = (body.length, body.block_size);
    lease::start(p, inode.id, client);
    let last = match last {
        Some(block) if new_block => Some((block, false)),
        Some(block) if block.length < block_size => Some((block, true)),
        _ => None,
    };
    let last = last.map(|(block, go_on)| {
        let offset = length.saturating_sub(block.length);
        let block = if go_on { reopen_block(p, block) } else { block };
        let storages = block.expected().into();
        PlacedBlock { block, offset, storages }
    });
    let inode = p.write_file(inode, before)?;
    Ok(Reply::Appended { inode, last })
}

/// The last block must be complete, and on enough datanodes to go on in it.
fn check_last(p: &Planner<'_>, last: &Block, path: &FsPath) -> FsResult<()> {
    if !last.is_complete() {
        // The Java client looks for the class in the text, and tries again for some seconds.
        return Err(FsError::new(
            FsErrorKind::Retriable,
            format!(
                "org.apache.hadoop.hdfs.server.namenode.NotReplicatedYetException: append: lastBlock={} of src={path} \
                 is COMMITTED but not yet COMPLETE.",
                named(last)
            ),
        ));
    }
    let wanted = p.min_replication().min(p.ctx.cluster.datanodes()).max(1);
    if p.ctx.cluster.live(last.id, last.stamp).len() < wanted {
        return Err(FsError::refused(format!(
            "append: lastBlock={} of src={path} is not sufficiently replicated yet.",
            named(last)
        )));
    }
    Ok(())
}

/// The last block will count as a whole one. As in HDFS, also if it is not that one which is gone on in.
fn check_quota(p: &Planner<'_>, inode: &Inode, last: &Block) -> FsResult<()> {
    let body = body_of(inode)?;
    let growth = body.block_size.saturating_sub(last.length).cast_signed();
    quota::check(p, inode.parent, Usage::of_growth(inode, body, growth), Counted::NotYet, None)
}

/// Makes a complete block one that is written again, where it is. It keeps its stamp: the client asks for a new one when
/// it sets up the pipeline.
pub(crate) fn reopen_block(p: &mut Planner<'_>, mut block: Block) -> Block {
    let expected = p.ctx.cluster.live(block.id, block.stamp);
    let synced = block.length;
    block.state = BlockState::UnderConstruction { expected, recovery: None, synced, unsure: false };
    p.counters.complete_blocks = p.counters.complete_blocks.saturating_sub(1);
    p.effect(Effect::Reopened { block: block.id });
    p.tx.put_block(block.clone());
    block
}
