//! A file's blocks while it is written: from the first block to the close.

use steadfs_common::{DatanodeUuid, FsError, FsErrorKind, FsPath, FsResult, StorageId};

use super::planner::Planner;
use super::quota::{self, Counted};
use super::usage::{block_at, effective_policy, last_block};
use super::{attributes, delete, lease, replace, resolve};
use crate::command::{BlockRef, Effect, FileRef, NewTimes, PlacedBlock, Reply};
use crate::placement::PlacementRequest;
use crate::record::{Block, BlockState, FileBody, Inode, InodeKind, Key, Record};
use crate::view::View;

/// What a writer asks of a new block's place; see [`crate::Command::AddBlock`].
pub(crate) struct Wishes<'a> {
    pub(crate) excluded: &'a [DatanodeUuid],
    pub(crate) favored: &'a [String],
    pub(crate) avoid_local: bool,
}

/// [`crate::Command::AddBlock`]
pub(crate) fn add(
    p: &mut Planner<'_>,
    file: &FileRef,
    client: &str,
    previous: Option<&BlockRef>,
    wishes: &Wishes<'_>,
) -> FsResult<Reply> {
    let inode = lease::open_file(&p.tx, &p.guard, file, client)?;
    let body = body_of(&inode)?.clone();
    let last = last_block(&p.tx, &inode);
    if !same_block(previous, last.as_ref())
        && let Some(again) = match_previous(p, &file.path, &inode, previous, last.as_ref())?
    {
        return Ok(Reply::Block(again));
    }
    complete_committed(p, &inode);
    if penultimate(p, &inode).is_some_and(|block| !block.is_complete()) {
        return Err(FsError::new(
            FsErrorKind::NotReplicatedYet,
            format!("Not replicated yet: {}", file.path),
        ));
    }
    if body.blocks >= p.ctx.settings.max_blocks_per_file {
        return Err(FsError::refused(format!(
            "File has reached the limit on maximum number of blocks (dfs.namenode.fs-limits.max-blocks-per-file): \
             {} >= {}",
            body.blocks, p.ctx.settings.max_blocks_per_file
        )));
    }
    let before = p.usage(&inode);
    let mut inode = Inode::clone(&inode);
    if let Some(previous) = previous {
        commit_last(p, &mut inode, previous)?;
        p.grown(&inode, body.length);
    }
    let committed = p.usage(&inode);
    let storages = choose(p, &file.path, &inode, &body, wishes)?;
    let block = Block {
        id: p.new_block_id(),
        stamp: p.new_stamp(),
        length: 0,
        replication: body.replication(),
        inode: inode.id,
        index: body.blocks,
        references: 1,
        state: BlockState::UnderConstruction {
            expected: storages.clone(),
            recovery: None,
            synced: 0,
            unsure: false,
        },
    };
    p.tx.put(Key::FileBlock(inode.id, block.index), Record::FileBlock(block.id));
    p.tx.put_block(block.clone());
    p.counters.blocks += 1;
    p.effect(Effect::Pipeline {
        block: block.id,
        stamp: block.stamp,
        replication: block.replication,
        room: body.block_size,
        storages: storages.clone(),
    });
    let body = body_mut(&mut inode)?;
    body.blocks += 1;
    let offset = body.length;
    let inode = p.write_content(inode, before)?;
    if replace::is_staged(&inode) {
        replace::check_quota(p, &inode)?;
    } else {
        let change = p.usage(&inode) - committed;
        quota::check(p, inode.parent, change, Counted::Yes, None)?;
    }
    Ok(Reply::Block(PlacedBlock { block, offset, storages }))
}

/// Says what a `previous` that is not the last block means: an append at a block's end (go on), or a repeated call (the
/// block that it made); anything else is an error.
fn match_previous(
    p: &Planner<'_>,
    path: &FsPath,
    inode: &Inode,
    previous: Option<&BlockRef>,
    last: Option<&Block>,
) -> FsResult<Option<PlacedBlock>> {
    let body = body_of(inode)?;
    if let (None, Some(last)) = (previous, last)
        && last.is_complete()
        && last.length >= body.block_size
    {
        return Ok(None);
    }
    if let Some(last) = last
        && same_block(previous, penultimate(p, inode).as_ref())
    {
        if last.length != 0 || last.is_complete() {
            return Err(FsError::refused(format!(
                "Request looked like a retry to allocate block {} but it already contains {} bytes",
                named(last),
                last.length
            )));
        }
        let storages = last.expected().into();
        return Ok(Some(PlacedBlock { block: last.clone(), offset: body.length, storages }));
    }
    Err(FsError::refused(format!(
        "Cannot allocate block in {path}: passed 'previous' block {} does not match actual last block in file {}",
        previous.map_or_else(|| "null".to_owned(), |block| format!("{}_{}", block.id, block.stamp)),
        last.map_or_else(|| "null".to_owned(), named)
    )))
}

fn choose(
    p: &Planner<'_>,
    path: &FsPath,
    inode: &Inode,
    body: &FileBody,
    wishes: &Wishes<'_>,
) -> FsResult<smallvec::SmallVec<[StorageId; 3]>> {
    let cluster = p.ctx.cluster;
    let storages = cluster.choose(&PlacementRequest {
        wanted: usize::from(body.replication()),
        least: p.min_replication(),
        writer: p.ctx.caller.address,
        existing: &[],
        excluded: wishes.excluded,
        favored: wishes.favored,
        avoid_local: wishes.avoid_local,
        block_size: body.block_size,
        policy: effective_policy(&p.tx, inode),
        seed: p.ctx.seed,
    });
    let least = p.min_replication();
    if storages.len() >= least {
        return Ok(storages);
    }
    let excluded = match wishes.excluded.len() {
        0 => "no".to_owned(),
        count => count.to_string(),
    };
    let kind = if cluster.datanodes() == 0 { FsErrorKind::NoDatanodeYet } else { FsErrorKind::NoDatanode };
    Err(FsError::new(
        kind,
        format!(
            "File {path} could only be written to {} of the {least} minReplication nodes. There are {} datanode(s) \
             running and {excluded} node(s) are excluded in this operation.",
            storages.len(),
            cluster.datanodes()
        ),
    ))
}

/// [`crate::Command::AbandonBlock`]
pub(crate) fn abandon(
    p: &mut Planner<'_>,
    file: &FileRef,
    client: &str,
    block: &BlockRef,
) -> FsResult<Reply> {
    let inode = lease::open_file(&p.tx, &p.guard, file, client)?;
    let Some(last) = last_block(&p.tx, &inode).filter(|last| last.id == block.id) else {
        return Ok(Reply::Done);
    };
    // What was flushed into a block that is being written goes with it, if its writer says so.
    if !matches!(last.state, BlockState::UnderConstruction { .. }) {
        let block = named(&last);
        return Err(FsError::refused(format!(
            "Cannot abandon block {block} of {}: it is written",
            file.path
        )));
    }
    let before = p.usage(&inode);
    let inode = delete::drop_blocks(p, &inode, 1);
    p.write_content(inode, before)?;
    Ok(Reply::Done)
}

/// [`crate::Command::Complete`]
pub(crate) fn complete(
    p: &mut Planner<'_>,
    file: &FileRef,
    client: &str,
    last: Option<&BlockRef>,
    times: NewTimes,
) -> FsResult<Reply> {
    let inode = match lease::open_file(&p.tx, &p.guard, file, client) {
        Ok(inode) => inode,
        Err(error) if error.kind() == FsErrorKind::LeaseExpired && was_completed(p, file, last) => {
            return Ok(Reply::Bool(true));
        }
        Err(error) => return Err(error),
    };
    replace::refuse_to_complete(&inode, file)?;
    complete_committed(p, &inode);
    if penultimate(p, &inode).is_some_and(|block| !block.is_complete()) {
        return Ok(Reply::Bool(false));
    }
    let mut inode = Inode::clone(&inode);
    let had = body_of(&inode)?.length;
    if let Some(last) = last {
        let before = p.usage(&inode);
        if commit_last(p, &mut inode, last)? {
            inode = p.write_content(inode, before)?;
        }
    }
    if !all_complete(p, &inode) {
        p.grown(&inode, had);
        return Ok(Reply::Bool(false));
    }
    let closed = lease::close(p, inode)?;
    attributes::set_at_close(p, closed, times);
    Ok(Reply::Bool(true))
}

/// Whether a file is closed already, with just this last block: then the call is a repetition.
fn was_completed(p: &Planner<'_>, file: &FileRef, last: Option<&BlockRef>) -> bool {
    let by_id = file.inode.filter(|id| id.0 != 0);
    let inode = match by_id {
        Some(id) => p.tx.inode(id),
        None => p.resolve(&file.path, resolve::Purpose::Use).ok().and_then(|at| at.target().cloned()),
    };
    inode.is_some_and(|inode| {
        inode.file().is_some_and(|body| !body.under_construction)
            && same_block(last, last_block(&p.tx, &inode).as_ref())
    })
}

/// [`crate::Command::Fsync`]
pub(crate) fn fsync(
    p: &mut Planner<'_>,
    file: &FileRef,
    client: &str,
    length: Option<u64>,
    synced: Option<bool>,
) -> FsResult<Reply> {
    let inode = lease::open_file(&p.tx, &p.guard, file, client)?;
    let Some(mut last) = last_block(&p.tx, &inode) else { return Ok(Reply::Done) };
    let BlockState::UnderConstruction { recovery: None, synced: on_disk, unsure, .. } = &mut last.state
    else {
        return Ok(Reply::Done);
    };
    let Some(length) = length else {
        // It relies on bytes that it does not count: the block is never taken for one of which nothing was written.
        if *on_disk == 0 && !std::mem::replace(unsure, true) {
            p.tx.put_block(last);
        }
        return Ok(Reply::Done);
    };
    let more = length > *on_disk;
    let news = match synced {
        Some(true) if more => {
            *on_disk = length;
            true
        }
        None if more => !std::mem::replace(unsure, true),
        _ => false,
    };
    if length <= last.length && !news {
        return Ok(Reply::Done);
    }
    let before = p.usage(&inode);
    let mut inode = Inode::clone(&inode);
    let had = body_of(&inode)?.length;
    let length = length.max(last.length);
    set_length(&mut inode, &mut last, length)?;
    p.grown(&inode, had);
    p.tx.put_block(last);
    p.write_content(inode, before)?;
    Ok(Reply::Done)
}

/// Makes the last block's length what its writer says it is, and the block complete if it is seen on enough datanodes.
/// Whether anything changed.
pub(crate) fn commit_last(p: &mut Planner<'_>, inode: &mut Inode, commit: &BlockRef) -> FsResult<bool> {
    let Some(mut last) = last_block(&p.tx, inode) else { return Ok(false) };
    let expected = match &last.state {
        BlockState::Complete | BlockState::Committed { .. } => return Ok(false),
        BlockState::UnderConstruction { recovery: Some(_), .. } => {
            return Err(FsError::refused(format!(
                "Commit or complete block {}_{}, whereas it is under recovery.",
                commit.id, commit.stamp
            )));
        }
        BlockState::UnderConstruction { expected, .. } => expected.clone(),
    };
    if commit.id != last.id || commit.stamp != last.stamp {
        return Err(FsError::refused(format!(
            "Commit block with mismatching GS. NN has {}, client submits {}_{}",
            named(&last),
            commit.id,
            commit.stamp
        )));
    }
    if commit.length < last.length {
        return Err(FsError::refused(format!(
            "Commit block {} with {} bytes: {} were acknowledged",
            named(&last),
            commit.length,
            last.length
        )));
    }
    set_length(inode, &mut last, commit.length)?;
    last.state = BlockState::Committed { expected };
    p.tx.put_block(last.clone());
    complete_if_seen(p, last);
    Ok(true)
}

/// Changes a block's length, and its file's with it.
pub(crate) fn set_length(inode: &mut Inode, block: &mut Block, length: u64) -> FsResult<()> {
    let body = body_mut(inode)?;
    if length > body.block_size {
        return Err(FsError::refused(format!(
            "Block {} cannot have {length} bytes: the block size of its file is {}",
            named(block),
            body.block_size
        )));
    }
    body.length = body.length.saturating_sub(block.length).saturating_add(length);
    block.length = length;
    Ok(())
}

/// Makes committed blocks complete that are seen on enough datanodes by now. Only the last two can be committed.
pub(crate) fn complete_committed(p: &mut Planner<'_>, inode: &Inode) {
    for block in [penultimate(p, inode), last_block(&p.tx, inode)].into_iter().flatten() {
        complete_if_seen(p, block);
    }
}

fn complete_if_seen(p: &mut Planner<'_>, block: Block) {
    if matches!(block.state, BlockState::Committed { .. })
        && p.ctx.cluster.live(block.id, block.stamp).len() >= p.min_replication()
    {
        make_complete(p, block);
    }
}

/// Makes a block's length final: from now on its replicas are counted.
pub(crate) fn make_complete(p: &mut Planner<'_>, mut block: Block) {
    block.state = BlockState::Complete;
    p.counters.complete_blocks += 1;
    p.effect(Effect::Completed {
        block: block.id,
        stamp: block.stamp,
        length: block.length,
        replication: block.replication,
    });
    p.tx.put_block(block);
}

/// Whether every block is complete. Only the last two can be otherwise.
pub(crate) fn all_complete(p: &Planner<'_>, inode: &Inode) -> bool {
    [penultimate(p, inode), last_block(&p.tx, inode)].iter().flatten().all(Block::is_complete)
}

fn penultimate(p: &Planner<'_>, inode: &Inode) -> Option<Block> {
    block_at(&p.tx, inode, inode.file()?.blocks.checked_sub(2)?)
}

/// Whether a client means the stored block; both absent is the same too.
fn same_block(named: Option<&BlockRef>, stored: Option<&Block>) -> bool {
    match (named, stored) {
        (None, None) => true,
        (Some(named), Some(stored)) => named.id == stored.id && named.stamp == stored.stamp,
        _ => false,
    }
}

/// As HDFS prints a block.
pub(crate) fn named(block: &Block) -> String {
    format!("{}_{}", block.id, block.stamp)
}

/// The file's part of an inode.
pub(crate) fn body_of(inode: &Inode) -> FsResult<&FileBody> {
    inode.file().ok_or_else(|| FsError::not_a_file(inode.id))
}

/// The file's part of an inode, to change.
pub(crate) fn body_mut(inode: &mut Inode) -> FsResult<&mut FileBody> {
    let id = inode.id;
    match &mut inode.kind {
        InodeKind::File(body) => Ok(body),
        InodeKind::Directory { .. } => Err(FsError::not_a_file(id)),
    }
}
