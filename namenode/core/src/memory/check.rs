//! Everything that must be true of what is stored, looked at the slow way.

use std::collections::BTreeSet;

use steadfs_common::{BlockId, InodeId, ROOT_INODE};

use super::MemoryView;
use crate::policy;
use crate::record::{Block, BlockState, Counters, FileBody, Inode, InodeKind, Key, Record, Settled, Totals};
use crate::view::View;

/// Verifies every invariant of the namespace: entries and inodes name each other, child counts and totals are exact,
/// blocks and block rows agree, an open file has a lease and a closed one complete blocks, counters count right, and
/// nothing is stored that nothing leads to.
///
/// # Errors
/// The first thing that is wrong, in words for a developer.
pub fn check(view: &MemoryView) -> Result<(), String> {
    let counters = view.counters().ok_or("there are no counters")?;
    let mut checker = Checker { view, counters, seen: BTreeSet::new(), blocks: 0, complete: 0 };
    checker.tree(ROOT_INODE, true)?;
    for (id, _) in view.leases(None, usize::MAX) {
        if view.inode(id).is_some_and(|inode| inode.name.is_none() && id != ROOT_INODE) {
            checker.tree(id, true)?;
        }
    }
    for (id, after) in view.reclaims(usize::MAX) {
        if checker.seen.contains(&id) {
            return Err(format!("inode {id} is to be reclaimed, and part of a tree"));
        }
        if let (Some((name, _)), Some(after)) = (view.entries(id, None, 1).pop(), after)
            && name <= after
        {
            return Err(format!("entry {name} of inode {id} was passed by its removal"));
        }
        checker.tree(id, false)?;
    }
    checker.nothing_is_left()
}

struct Checker<'a> {
    view: &'a MemoryView,
    counters: Counters,
    seen: BTreeSet<InodeId>,
    blocks: u64,
    complete: u64,
}

macro_rules! require {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(format!($($message)*));
        }
    };
}

/// A folder whose entries are being looked at.
struct Level {
    id: InodeId,
    ids: std::vec::IntoIter<InodeId>,
    sum: Totals,
}

impl Checker<'_> {
    /// Looks at an inode and all below it. A tree that is being reclaimed has no exact totals and counts.
    fn tree(&mut self, top: InodeId, attached: bool) -> Result<(), String> {
        let mut levels: Vec<Level> = Vec::new();
        let mut next = Some(top);
        loop {
            if let Some(id) = next.take() {
                let inode = self.inode(id, levels.last().map(|level| level.id))?;
                match &inode.kind {
                    InodeKind::File(body) => {
                        let used = self.file(&inode, body, attached)?;
                        if let Some(level) = levels.last_mut() {
                            level.sum = sum(level.sum, used);
                        }
                    }
                    InodeKind::Directory { children, .. } => {
                        let entries = self.view.entries(id, None, usize::MAX);
                        require!(
                            !attached || *children == entries.len() as u64,
                            "folder {id} counts {children} entries and has {}",
                            entries.len()
                        );
                        let ids = entries.into_iter().map(|(_, id)| id).collect::<Vec<_>>().into_iter();
                        levels.push(Level { id, ids, sum: Totals::default() });
                    }
                }
            }
            let Some(level) = levels.last_mut() else { return Ok(()) };
            next = level.ids.next();
            if next.is_none() {
                let (id, mut used) = (level.id, level.sum);
                levels.pop();
                self.totals(id, used, attached)?;
                used.directories += 1;
                if let (Some(level), Some(inode)) = (levels.last_mut(), self.view.inode(id)) {
                    level.sum = sum(level.sum, settled(used, &inode));
                }
            }
        }
    }

    fn totals(&self, id: InodeId, used: Totals, attached: bool) -> Result<(), String> {
        let stored = self.view.totals(id);
        require!(stored.guarded <= self.counters.last_tx, "folder {id} is guarded by a transaction to come");
        let stored = Totals { guarded: used.guarded, ..stored };
        require!(!attached || stored == used, "folder {id} has totals {stored:?}, and holds {used:?}");
        Ok(())
    }

    fn inode(&mut self, id: InodeId, parent: Option<InodeId>) -> Result<Inode, String> {
        let inode = self.view.inode(id).ok_or_else(|| format!("inode {id} is not stored"))?;
        require!(inode.id == id, "inode {id} says that it is {}", inode.id);
        require!(self.seen.insert(id), "inode {id} is in two places");
        require!(id < self.counters.next_inode, "inode {id} was not given out");
        require!(inode.changed <= self.counters.last_tx, "inode {id} was changed by a transaction to come");
        require!(
            inode.storage_policy == 0 || policy::by_id(inode.storage_policy).is_some(),
            "inode {id} has the unknown storage policy {}",
            inode.storage_policy
        );
        require!(inode.quota().is_none_or(|quota| !quota.is_empty()), "inode {id} has an empty quota");
        require!(inode.mode <= 0o1777, "inode {id} has mode {:o}", inode.mode);
        require!(crate::acl::is_sound(&inode), "inode {id} has the list {:?}", inode.acl);
        let attributes = !self.view.xattrs(id).is_empty();
        require!(inode.has_xattrs == attributes, "inode {id} has attributes: {attributes}");
        if let Some(parent) = parent {
            require!(inode.parent == parent, "inode {id} lies in {parent}, and says {}", inode.parent);
            let named = inode.name.as_ref().and_then(|name| self.view.entry(parent, name));
            require!(named == Some(id), "the name of inode {id} stands for {named:?}");
        }
        Ok((*inode).clone())
    }

    fn file(&mut self, inode: &Inode, body: &FileBody, attached: bool) -> Result<Totals, String> {
        let id = inode.id;
        let leased = self.view.lease(id).is_some();
        require!(!leased || body.under_construction, "closed file {id} has a lease");
        require!(leased || !body.under_construction || !attached, "open file {id} has no lease");
        let rows = self.view.file_blocks(id, 0, usize::MAX);
        require!(
            rows.len() == body.blocks as usize,
            "file {id} counts {} blocks of {}",
            body.blocks,
            rows.len()
        );
        let (mut length, mut charged) = (0, 0);
        for (index, row) in rows.into_iter().enumerate() {
            let block = self.block(inode, body, index as u32, row)?;
            length += block.length;
            let whole = matches!(block.state, BlockState::UnderConstruction { .. });
            charged += if whole { body.block_size } else { block.length };
        }
        require!(length == body.length, "file {id} is {} bytes long, its blocks {length}", body.length);
        let space = charged * u64::from(body.replication());
        Ok(settled(Totals { files: 1, bytes: length, space, charged, ..Totals::default() }, inode))
    }

    fn block(&mut self, file: &Inode, body: &FileBody, index: u32, id: BlockId) -> Result<Block, String> {
        let block =
            self.view.block(id).ok_or_else(|| format!("block {id} of file {} is not stored", file.id))?;
        require!(
            block.id == id && block.inode == file.id && block.index == index && block.references == 1,
            "block {index} of file {} is {block:?}",
            file.id
        );
        require!(block.replication == body.replication(), "{id} has another replication than its file");
        require!(block.length <= body.block_size, "{id} is longer than a block of its file");
        require!(id < self.counters.next_block, "{id} was not given out");
        require!(block.stamp < self.counters.next_stamp, "the stamp of {id} was not given out");
        let from_end = body.blocks - index;
        let right = match &block.state {
            BlockState::Complete => true,
            BlockState::Committed { .. } => body.under_construction && from_end <= 2,
            BlockState::UnderConstruction { recovery, .. } => {
                let stamps = block.stamp.next()..self.counters.next_stamp;
                recovery.is_none_or(|recovery| stamps.contains(&recovery.stamp))
                    && body.under_construction
                    && from_end == 1
            }
        };
        require!(right, "{id}, number {index} of {}, is {:?}", body.blocks, block.state);
        self.blocks += 1;
        self.complete += u64::from(block.is_complete());
        Ok(block)
    }

    /// Counts what is stored against what was come across.
    fn nothing_is_left(&self) -> Result<(), String> {
        let Counters { blocks, complete_blocks, .. } = self.counters;
        require!(blocks == self.blocks, "{blocks} blocks are counted, {} there", self.blocks);
        require!(
            complete_blocks == self.complete,
            "{complete_blocks} are counted complete, {} are",
            self.complete
        );
        let (mut stored, mut rows) = (0, 0);
        for (key, record) in self.view.records() {
            let wanted = match key {
                Key::Inode(id) | Key::Entry(id, _) | Key::Totals(id) | Key::Lease(id) | Key::Reclaim(id) => {
                    self.seen.contains(id)
                }
                Key::XAttrs(id) => self.view.inode(*id).is_some_and(|inode| inode.has_xattrs),
                Key::FileBlock(id, _) => {
                    rows += 1;
                    self.seen.contains(id)
                }
                Key::Block(_) => {
                    stored += 1;
                    true
                }
                Key::Retry(_) | Key::Counters | Key::NodeWishes | Key::Losses | Key::LockSession(_) => true,
            };
            require!(wanted, "nothing leads to {key:?}: {record:?}");
            require!(agree(key, record), "{key:?} stands for {record:?}");
        }
        require!(
            stored == blocks && rows == blocks,
            "{stored} blocks and {rows} rows are stored, not {blocks}"
        );
        Ok(())
    }
}

const fn agree(key: &Key, record: &Record) -> bool {
    matches!(
        (key, record),
        (Key::Inode(_), Record::Inode(_))
            | (Key::Entry(..), Record::Entry(_))
            | (Key::Totals(_), Record::Totals(_))
            | (Key::Block(_), Record::Block(_))
            | (Key::FileBlock(..), Record::FileBlock(_))
            | (Key::Lease(_), Record::Lease(_))
            | (Key::Reclaim(_), Record::Reclaim { .. })
            | (Key::Retry(_), Record::Retry(_))
            | (Key::Counters, Record::Counters(_))
            | (Key::XAttrs(_), Record::XAttrs(_))
            | (Key::NodeWishes, Record::NodeWishes(_))
            | (Key::Losses, Record::Losses(_))
            | (Key::LockSession(_), Record::LockSession(_))
    )
}

/// What an inode uses, seen from above: with the storage policy that it has of its own.
fn settled(used: Totals, inode: &Inode) -> Totals {
    let Some(policy) = policy::by_id(inode.storage_policy) else { return used };
    let charged = used.charged - used.settled.charged;
    let space = used.space - used.settled.space;
    let rest = policy.space_by_type(charged as i64, space as i64);
    let types = std::array::from_fn(|at| used.settled.types[at] + rest[at] as u64);
    Totals { settled: Settled { charged: used.charged, space: used.space, types }, ..used }
}

fn sum(a: Totals, b: Totals) -> Totals {
    Totals {
        directories: a.directories + b.directories,
        files: a.files + b.files,
        bytes: a.bytes + b.bytes,
        space: a.space + b.space,
        charged: a.charged + b.charged,
        settled: Settled {
            charged: a.settled.charged + b.settled.charged,
            space: a.settled.space + b.settled.space,
            types: std::array::from_fn(|at| a.settled.types[at] + b.settled.types[at]),
        },
        guarded: a.guarded,
    }
}
