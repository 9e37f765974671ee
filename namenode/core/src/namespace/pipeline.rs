//! A block's writers and stamps: pipelines that are set up anew, and recoveries of blocks whose writer is gone.

use steadfs_common::{FsError, FsErrorKind, FsResult, GenStamp, StorageId, limits};

use super::blocks::{all_complete, body_of, complete_committed, make_complete, named, set_length};
use super::planner::Planner;
use super::{delete, lease, resolve};
use crate::command::{BlockRef, Effect, PlacedBlock, Reply};
use crate::record::{Block, BlockState, Inode};
use crate::view::View;

/// [`crate::Command::UpdateBlockForPipeline`]
pub(crate) fn new_stamp(p: &mut Planner<'_>, block: &BlockRef, client: &str) -> FsResult<Reply> {
    let (inode, stored) = block_being_written(p, block, client)?;
    let offset = body_of(&inode)?.length.saturating_sub(stored.length);
    let storages = stored.expected().into();
    let stamp = p.new_stamp();
    Ok(Reply::Block(PlacedBlock { block: Block { stamp, length: block.length, ..stored }, offset, storages }))
}

/// [`crate::Command::UpdatePipeline`]
pub(crate) fn update_pipeline(
    p: &mut Planner<'_>,
    client: &str,
    old: &BlockRef,
    new: &BlockRef,
    storages: &[StorageId],
    synced: Option<u64>,
) -> FsResult<Reply> {
    let (mut inode, mut stored) = block_being_written(p, old, client)?;
    let refuse = |why: &str| {
        Err(FsError::refused(format!("Update {}_{} (size={}) {why}", old.id, old.stamp, old.length)))
    };
    if new.id != old.id {
        return refuse(&format!("but the new block {} is another", new.id));
    }
    if new.stamp <= stored.stamp {
        return refuse(&format!(
            "but the new block {}_{} does not have a larger generation stamp than the last block {}",
            new.id,
            new.stamp,
            named(&stored)
        ));
    }
    if new.stamp >= p.counters.next_stamp {
        return refuse(&format!("but nobody was given the generation stamp {}", new.stamp));
    }
    if new.length < stored.length {
        return refuse(&format!("to a smaller size block {}_{} (size={})", new.id, new.stamp, new.length));
    }
    if storages.is_empty() || storages.len() > usize::from(limits::MAX_REPLICATION) {
        return refuse(&format!("to {} storages", storages.len()));
    }
    let before = p.usage(&inode);
    let had = body_of(&inode)?.length;
    set_length(&mut inode, &mut stored, new.length)?;
    p.grown(&inode, had);
    stored.stamp = new.stamp;
    let (had_synced, was_unsure) = stored.synced();
    // Of nothing, nothing can be synced.
    let unsure = was_unsure || synced.is_none() && new.length > had_synced;
    let synced = synced.map_or(had_synced, |synced| synced.min(new.length).max(had_synced));
    stored.state =
        BlockState::UnderConstruction { expected: storages.into(), recovery: None, synced, unsure };
    p.effect(Effect::Pipeline {
        block: stored.id,
        stamp: stored.stamp,
        replication: stored.replication,
        room: 0,
        storages: storages.into(),
    });
    p.tx.put_block(stored);
    p.write_content(inode, before)?;
    Ok(Reply::Done)
}

/// The block that `client` is writing, and its file.
fn block_being_written(p: &Planner<'_>, block: &BlockRef, client: &str) -> FsResult<(Inode, Block)> {
    let name = format!("{}_{}", block.id, block.stamp);
    let stored = p.tx.block(block.id).ok_or_else(|| FsError::refused(format!("{name} does not exist.")))?;
    let state = match stored.state {
        BlockState::UnderConstruction { recovery: None, .. } => None,
        BlockState::UnderConstruction { recovery: Some(_), .. } => Some("UNDER_RECOVERY"),
        BlockState::Committed { .. } => Some("COMMITTED"),
        BlockState::Complete => Some("COMPLETE"),
    };
    if let Some(state) = state {
        return Err(FsError::refused(format!(
            "Unexpected BlockUCState: {name} is {state} but not UNDER_CONSTRUCTION"
        )));
    }
    let inode =
        p.tx.inode(stored.inode)
            .filter(|inode| inode.file().is_some_and(|body| body.under_construction))
            .filter(|inode| !resolve::is_detached(&p.tx, inode.id))
            .ok_or_else(|| {
                FsError::refused(format!(
                    "The file {name} belonged to does not exist or it is not under construction."
                ))
            })?;
    if p.tx.lease(inode.id).is_none_or(|lease| lease.holder != client) {
        return Err(FsError::new(
            FsErrorKind::LeaseExpired,
            format!("Lease mismatch: {name} is accessed by a non lease holder {client}"),
        ));
    }
    Ok((Inode::clone(&inode), stored))
}

/// What a datanode says of a recovery that it has done; see [`crate::Command::CommitBlockSynchronization`].
pub(crate) struct Recovered<'a> {
    pub(crate) block: &'a BlockRef,
    pub(crate) stamp: GenStamp,
    pub(crate) length: u64,
    pub(crate) close: bool,
    pub(crate) delete: bool,
    pub(crate) storages: &'a [StorageId],
}

/// [`crate::Command::CommitBlockSynchronization`]
pub(crate) fn recovered(p: &mut Planner<'_>, done: &Recovered<'_>) -> FsResult<Reply> {
    let name = format!("{}_{}", done.block.id, done.block.stamp);
    let Some(mut stored) = p.tx.block(done.block.id) else {
        // A repeated call whose first took the block away.
        return if done.delete {
            Ok(Reply::Done)
        } else {
            Err(FsError::refused(format!("Block (={name}) not found")))
        };
    };
    let Some(inode) = p.tx.inode(stored.inode).filter(|inode| !resolve::is_detached(&p.tx, inode.id)) else {
        return Err(FsError::new(
            FsErrorKind::NotFound,
            format!("File not found: inode {}, likely due to delayed block removal", stored.inode),
        ));
    };
    let body = body_of(&inode)?;
    let last = stored.index + 1 == body.blocks;
    let BlockState::UnderConstruction { recovery, synced, .. } = &stored.state else {
        return Ok(Reply::Done);
    };
    if !body.under_construction || !last {
        return Ok(Reply::Done);
    }
    let current = recovery.map(|recovery| recovery.stamp);
    if current != Some(done.stamp) {
        return Err(FsError::refused(format!(
            "The recovery id {} does not match current recovery id {} for block {name}",
            done.stamp,
            current.map_or_else(|| "none".to_owned(), |stamp| stamp.to_string())
        )));
    }
    let found = if done.delete { 0 } else { done.length };
    match recovery.and_then(|recovery| recovery.truncate_to) {
        // Every replica of a truncated block is longer: one that says otherwise has not looked at the right bytes.
        Some(length) if done.delete || found != length => {
            return Err(FsError::refused(format!(
                "The recovery of block {name} must end with {length} bytes, not {found}"
            )));
        }
        // A replica that was not reached may have them: the block waits for it, or for somebody who deletes the file. Whether
        // to wait for what was only flushed has been decided when the recovery was ordered.
        None if found < *synced => {
            return Err(FsError::refused(format!(
                "The recovery of block {name} found {found} bytes: {synced} were acknowledged"
            )));
        }
        Some(_) | None => {}
    }
    let before = p.usage(&inode);
    let mut inode = Inode::clone(&inode);
    if done.delete {
        inode = delete::drop_blocks(p, &inode, 1);
    } else {
        if done.storages.is_empty() || done.storages.len() > usize::from(limits::MAX_REPLICATION) {
            return Err(FsError::refused(format!("{} storages hold block {name}", done.storages.len())));
        }
        set_length(&mut inode, &mut stored, done.length)?;
        stored.stamp = done.stamp;
        p.effect(Effect::Pipeline {
            block: stored.id,
            stamp: stored.stamp,
            replication: stored.replication,
            room: 0,
            storages: done.storages.into(),
        });
        if done.close {
            // These storages are seen to hold it: no report is waited for.
            p.effect(Effect::Held {
                block: BlockRef { id: stored.id, stamp: stored.stamp, length: stored.length },
                storages: done.storages.into(),
            });
            make_complete(p, stored);
        } else {
            // Who ends a recovery has synced what it left.
            let (expected, synced) = (done.storages.into(), done.length);
            stored.state = BlockState::UnderConstruction { expected, recovery: None, synced, unsure: false };
            p.tx.put_block(stored);
        }
    }
    inode = p.write_content(inode, before)?;
    if done.close {
        complete_committed(p, &inode);
        if all_complete(p, &inode) {
            lease::close(p, inode)?;
        }
    }
    Ok(Reply::Done)
}
