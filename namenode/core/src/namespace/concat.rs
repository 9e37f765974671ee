//! Making one file of several, without moving a byte.

use std::collections::BTreeSet;
use std::sync::Arc;

use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult, limits};

use super::blocks::{body_mut, body_of};
use super::kept;
use super::planner::Planner;
use super::quota::{self, Counted};
use super::read::Action;
use super::resolve::{self, Purpose};
use crate::command::{Effect, Reply};
use crate::record::{Inode, Key, Record};
use crate::view::View;

/// [`crate::Command::Concat`]. The cost is the number of blocks that move, which is bounded as a file's is.
pub(crate) fn concat(p: &mut Planner<'_>, path: &FsPath, sources: &[FsPath]) -> FsResult<Reply> {
    check_names(path, sources)?;
    let at = p.resolve(path, Purpose::Use)?;
    at.check_target(&p.guard, Action::WRITE)?;
    let target = at.target().ok_or_else(|| FsError::not_found(path))?;
    let body = target.file().ok_or_else(|| FsError::not_a_file(path))?;
    if body.under_construction {
        return Err(FsError::invalid_argument(format!("concat: target file {path} is under construction")));
    }
    let mut files = Vec::with_capacity(sources.len());
    for source in sources {
        files.push(check_source(p, path, target, source)?);
    }
    if files.iter().map(|file| file.id).collect::<BTreeSet<_>>().len() < files.len() {
        return Err(FsError::invalid_argument("concat: at least two of the source files are the same"));
    }
    check_count(path, body.blocks, &files, p.ctx.settings.max_blocks_per_file)?;
    p.joined(target, &at.path, &files);
    let before = p.usage(target);
    let (mut target, mut all) = (Inode::clone(target), before);
    for file in &files {
        let usage = p.usage(file);
        all = all - -usage;
        p.leave(file, usage)?;
        move_blocks(p, &mut target, file)?;
        p.forget(file);
    }
    target.mtime = p.ctx.now;
    let target = p.write_content(target, before)?;
    // Blocks of another replication take more or less than they did.
    let change = p.usage(&target) - all;
    quota::check(p, target.parent, change, Counted::Yes, None)?;
    Ok(Reply::Done)
}

/// What can be said before anything is looked at.
fn check_names(path: &FsPath, sources: &[FsPath]) -> FsResult<()> {
    if sources.is_empty() {
        return Err(FsError::invalid_argument("No sources given"));
    }
    if sources.len() > limits::MAX_BLOCKS_PER_FILE as usize {
        return Err(FsError::invalid_argument(format!(
            "concat: {} source files are more than the blocks that a file may have",
            sources.len()
        )));
    }
    let reserved =
        |path: &&FsPath| resolve::names_inode(path) || resolve::names_raw(path) || kept::leads_there(path);
    match std::iter::once(path).chain(sources).find(reserved) {
        Some(path) => Err(FsError::refused(format!(
            "Concat operation doesn't support .reserved relative path : {path}"
        ))),
        None => Ok(()),
    }
}

/// The file at `source`, if it may become a part of `target`.
fn check_source(p: &Planner<'_>, path: &FsPath, target: &Inode, source: &FsPath) -> FsResult<Arc<Inode>> {
    let at = p.resolve(source, Purpose::Use)?;
    at.check_target(&p.guard, Action::READ)?;
    at.check_parent_write(&p.guard)?;
    let inode = at.target().ok_or_else(|| FsError::not_found(source))?;
    let body = inode.file().ok_or_else(|| FsError::not_a_file(source))?;
    let whole = body_of(target)?.block_size;
    let wrong = if inode.parent != target.parent {
        format!("Source file {source} is not in the same directory with the target {path}")
    } else if inode.id == target.id {
        format!("concat: the src file {source} is the same with the target file {path}")
    } else if body.under_construction || body.blocks == 0 {
        format!("concat: source file {source} is invalid or empty or underConstruction")
    } else if body.block_size > whole {
        format!(
            "concat: source file {source} has preferred block size {} which is greater than the target file's \
             preferred block size {whole}",
            body.block_size
        )
    } else {
        return Ok(inode.clone());
    };
    Err(FsError::invalid_argument(wrong))
}

fn check_count(path: &FsPath, own: u32, files: &[Arc<Inode>], most: u32) -> FsResult<()> {
    let of = |file: &Arc<Inode>| file.file().map_or(0, |body| u64::from(body.blocks));
    let blocks = u64::from(own) + files.iter().map(of).sum::<u64>();
    if blocks > u64::from(most) {
        return Err(FsError::refused(format!(
            "concat: {path} would have {blocks} blocks, above the limit on maximum number of blocks \
             (dfs.namenode.fs-limits.max-blocks-per-file): {most}"
        )));
    }
    Ok(())
}

/// Gives the blocks of `file` to `target`, behind its own. They get its replication.
pub(crate) fn move_blocks(p: &mut Planner<'_>, target: &mut Inode, file: &Inode) -> FsResult<()> {
    let id = target.id;
    let from = body_of(file)?;
    let body = body_mut(target)?;
    for index in 0..from.blocks {
        let mut block =
            p.tx.file_block(file.id, index).and_then(|block| p.tx.block(block)).ok_or_else(|| {
                FsError::new(FsErrorKind::Io, format!("Block {index} of inode {} is not stored", file.id))
            })?;
        p.tx.delete(Key::FileBlock(file.id, index));
        p.tx.put(Key::FileBlock(id, body.blocks), Record::FileBlock(block.id));
        (block.inode, block.index) = (id, body.blocks);
        if block.replication != body.replication() {
            block.replication = body.replication();
            p.effect(Effect::Replication { block: block.id, replication: block.replication });
        }
        body.length = body.length.saturating_add(block.length);
        body.blocks += 1;
        p.tx.put_block(block);
    }
    Ok(())
}
