//! Whether what is stored is sound in itself, looked at piece by piece, and what can be put right.
//!
//! Each check needs one view and looks at one inode or block and its neighbours: so a namespace of any size is checked in
//! bounded memory, while it changes.

use std::sync::Arc;

use steadfs_common::{FsError, FsErrorKind, FsResult, InodeId, Name, ROOT_INODE};

use super::planner::Planner;
use super::usage::Usage;
use crate::command::{Command, Reply};
use crate::record::{Block, BlockState, FileBody, Inode, InodeKind, Key, Record, Totals};
use crate::view::View;

/// Entries read in one step.
const PAGE: usize = 1_000;
/// Deepest path that is walked up: deeper ones cannot be made.
const MAX_DEPTH: usize = 4_096;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What, in a sentence.
    pub text: String,
    /// What puts it right, if anything does.
    pub repair: Option<Command>,
}

fn problem(text: String) -> Problem {
    Problem { text, repair: None }
}

/// Looks at an inode, what it holds, and where it lies.
pub fn inode(view: &dyn View, inode: &Inode) -> Vec<Problem> {
    let id = inode.id;
    let mut found = Vec::new();
    if let Some(counters) = view.counters()
        && (id >= counters.next_inode || inode.changed > counters.last_tx)
    {
        found.push(problem(format!("inode {id} is newer than the counters: they went back")));
    }
    let attached = is_attached(view, inode);
    if !attached && view.reclaims(1).is_empty() && view.lease(id).is_none() {
        found.push(problem(format!("nothing leads to inode {id}")));
    }
    if inode.has_xattrs == view.xattrs(id).is_empty() {
        found.push(problem(format!("inode {id} and its extended attributes do not agree")));
    }
    match &inode.kind {
        InodeKind::Directory { children, .. } if attached => folder(view, inode, *children, &mut found),
        InodeKind::Directory { .. } => {}
        InodeKind::File(body) => file(view, id, body, attached, &mut found),
    }
    found
}

/// Whether names lead from the root to it.
fn is_attached(view: &dyn View, inode: &Inode) -> bool {
    let mut at = Arc::new(inode.clone());
    for _ in 0..MAX_DEPTH {
        if at.id == ROOT_INODE {
            return true;
        }
        let named = at.name.as_ref().and_then(|name| view.entry(at.parent, name));
        let Some(above) = view.inode(at.parent).filter(|_| named == Some(at.id)) else { return false };
        at = above;
    }
    false
}

/// What a folder's entries say: how many lead to something, what that uses, and those that lead to nothing.
struct Held {
    children: u64,
    totals: Totals,
    dangling: Vec<Name>,
}

fn held(view: &dyn View, id: InodeId) -> Held {
    let (mut children, mut totals, mut dangling) = (0, Totals::default(), Vec::new());
    let mut after: Option<Name> = None;
    loop {
        let page = view.entries(id, after.as_ref(), PAGE);
        for (name, child) in &page {
            let there =
                view.inode(*child).filter(|child| child.parent == id && child.name.as_ref() == Some(name));
            match there {
                Some(child) => {
                    children += 1;
                    totals = Usage::of(view, &child).added_to(totals);
                }
                None => dangling.push(name.clone()),
            }
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => after = Some(last.clone()),
            _ => return Held { children, totals, dangling },
        }
    }
}

fn folder(view: &dyn View, inode: &Inode, children: u64, found: &mut Vec<Problem>) {
    let id = inode.id;
    let held = held(view, id);
    let repair = || Some(Command::RepairFolder { folder: id });
    for name in &held.dangling {
        let text = format!("`{name}` in folder {id} leads to no inode that says so");
        found.push(Problem { text, repair: repair() });
    }
    if held.children != children {
        let text = format!("folder {id} counts {children} entries, and has {}", held.children);
        found.push(Problem { text, repair: repair() });
    }
    let stored = view.totals(id);
    let right = Totals { guarded: stored.guarded, ..held.totals };
    if right != stored {
        let text = format!("folder {id} has totals {stored:?}, and holds {right:?}");
        found.push(Problem { text, repair: repair() });
    }
}

fn file(view: &dyn View, id: InodeId, body: &FileBody, attached: bool, found: &mut Vec<Problem>) {
    let leased = view.lease(id).is_some();
    if leased && !body.under_construction {
        found.push(problem(format!("closed file {id} has a lease")));
    }
    if !leased && body.under_construction && attached {
        found.push(problem(format!("open file {id} has no lease: recover it (hdfs debug recoverLease)")));
    }
    let (mut rows, mut length) = (0_u32, 0_u64);
    loop {
        let page = view.file_blocks(id, rows, PAGE);
        for block in &page {
            match view.block(*block) {
                None => found.push(problem(format!("block {block} of file {id} is not stored"))),
                Some(block) => {
                    length = length.saturating_add(block.length);
                    if (block.inode, block.index) != (id, rows) {
                        let text =
                            format!("block {} is number {rows} of file {id}, and says another", block.id);
                        found.push(problem(text));
                    }
                    if !block.is_complete() && !body.under_construction {
                        found
                            .push(problem(format!("block {} of closed file {id} is not complete", block.id)));
                    }
                }
            }
            rows += 1;
        }
        if page.len() < PAGE {
            break;
        }
    }
    if (rows, length) != (body.blocks, body.length) {
        found.push(problem(format!(
            "file {id} says {} blocks and {} bytes, and has {rows} and {length}",
            body.blocks, body.length
        )));
    }
}

/// Looks at a block from its own side.
pub fn block(view: &dyn View, block: &Block) -> Vec<Problem> {
    let id = block.id;
    let mut found = Vec::new();
    if view.file_block(block.inode, block.index) != Some(id) {
        found.push(problem(format!(
            "block {id} says that it is number {} of file {}, which says another",
            block.index, block.inode
        )));
    }
    if let Some(counters) = view.counters() {
        let recovery = match &block.state {
            BlockState::UnderConstruction { recovery: Some(recovery), .. } => recovery.stamp,
            _ => block.stamp,
        };
        if id >= counters.next_block || recovery.max(block.stamp) >= counters.next_stamp {
            found.push(problem(format!("block {id} is newer than the counters: they went back")));
        }
    }
    found
}

/// Compares the counters with what was counted over the same view.
pub fn counters(view: &dyn View, blocks: u64, complete: u64) -> Vec<Problem> {
    let Some(counters) = view.counters() else { return vec![problem("there are no counters".into())] };
    if (counters.blocks, counters.complete_blocks) == (blocks, complete) {
        return Vec::new();
    }
    let text = format!(
        "{} blocks and {} complete ones are counted, and {blocks} and {complete} stored",
        counters.blocks, counters.complete_blocks
    );
    let off = |right: u64, counted: u64| right.wrapping_sub(counted).cast_signed();
    let repair = Command::RepairCounters {
        blocks: off(blocks, counters.blocks),
        complete: off(complete, counters.complete_blocks),
    };
    vec![Problem { text, repair: Some(repair) }]
}

/// [`Command::RepairFolder`]
pub(crate) fn repair_folder(p: &mut Planner<'_>, folder: InodeId) -> FsResult<Reply> {
    let mut at = p.inode(folder)?;
    for _ in 0..MAX_DEPTH {
        let InodeKind::Directory { children, quota } = &at.kind else {
            return Err(FsError::new(FsErrorKind::InvalidArgument, format!("Inode {folder} is no folder")));
        };
        let held = held(&p.tx, at.id);
        for name in held.dangling {
            p.tx.delete(Key::Entry(at.id, name));
        }
        let stored = p.tx.totals(at.id);
        let right = Totals { guarded: stored.guarded, ..held.totals };
        if right != stored {
            p.tx.put(Key::Totals(at.id), Record::Totals(right));
        }
        if *children != held.children {
            let kind = InodeKind::Directory { children: held.children, quota: quota.clone() };
            p.write(Inode { kind, ..(*at).clone() });
        }
        if at.id == ROOT_INODE {
            return Ok(Reply::Done);
        }
        at = p.inode(at.parent)?;
    }
    Ok(Reply::Done)
}

/// [`Command::RepairCounters`]
pub(crate) fn repair_counters(p: &mut Planner<'_>, blocks: i64, complete: i64) -> Reply {
    p.counters.blocks = p.counters.blocks.wrapping_add_signed(blocks);
    p.counters.complete_blocks = p.counters.complete_blocks.wrapping_add_signed(complete);
    Reply::Done
}
