//! A view with changes on top: what one command, or one batch of them, has planned so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use steadfs_common::{BlockId, CallKey, DatanodeUuid, InodeId, Name};

use crate::blocks::Wish;
use crate::locks::SessionId;
use crate::record::{Block, Counters, Inode, Key, Lease, LockSession, Loss, Record, Retry, Totals, XAttr};
use crate::view::View;

#[cfg(test)]
#[path = "tx_test.rs"]
mod tests;

/// After-images by key; none deletes.
pub type Changes = BTreeMap<Key, Option<Record>>;

/// A [`View`] that remembers what is written to it. Drop it and nothing happened.
pub struct Tx<'v> {
    base: &'v dyn View,
    changes: Changes,
}

impl<'v> Tx<'v> {
    /// Starts with nothing changed.
    #[must_use]
    pub fn new(base: &'v dyn View) -> Self {
        Self { base, changes: Changes::new() }
    }

    /// Starts with changes made before over the same base.
    #[must_use]
    pub fn resume(base: &'v dyn View, changes: Changes) -> Self {
        Self { base, changes }
    }

    /// Takes over what was written elsewhere on top of this.
    pub fn absorb(&mut self, changes: Changes) {
        self.changes.extend(changes);
    }

    /// What was written, latest state by key.
    #[must_use]
    pub fn into_changes(self) -> Changes {
        self.changes
    }

    /// Whether anything was written.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// How many rows were written.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.changes.len()
    }

    /// Writes a record.
    pub fn put(&mut self, key: Key, record: Record) {
        self.changes.insert(key, Some(record));
    }

    /// Removes a record; harmless if there is none.
    pub fn delete(&mut self, key: Key) {
        self.changes.insert(key, None);
    }

    /// Writes an inode under its own id.
    pub fn put_inode(&mut self, inode: Inode) {
        self.put(Key::Inode(inode.id), Record::Inode(inode));
    }

    /// Writes a block under its own id.
    pub fn put_block(&mut self, block: Block) {
        self.put(Key::Block(block.id), Record::Block(block));
    }

    fn changed(&self, key: &Key) -> Option<Option<&Record>> {
        self.changes.get(key).map(Option::as_ref)
    }

    /// Rows of the base and changes in one key range, merged: `base` reads on after a row, `row` turns a change in the range
    /// into a row (none where the range ends).
    fn merged<T: Clone, O: Ord>(
        &self,
        first: &Key,
        limit: usize,
        base: impl Fn(Option<&T>, usize) -> Vec<T>,
        row: impl Fn(&Key, Option<&Record>) -> Option<(O, Option<T>)>,
        order: impl Fn(&T) -> O,
    ) -> Vec<T> {
        let mut overlay: BTreeMap<O, Option<T>> = BTreeMap::new();
        for (key, record) in self.changes.range(first.clone()..) {
            let Some((at, change)) = row(key, record.as_ref()) else { break };
            overlay.insert(at, change);
        }
        let mut out: Vec<T> = Vec::new();
        let mut last: Option<T> = None;
        let mut exhausted = false;
        let mut pending = overlay.into_iter().peekable();
        while out.len() < limit && !exhausted {
            let page = base(last.as_ref(), limit);
            exhausted = page.len() < limit;
            last = page.last().cloned().or(last);
            for stored in page {
                let at = order(&stored);
                while let Some((_, change)) = pending.next_if(|(key, _)| *key < at) {
                    out.extend(change);
                }
                match pending.next_if(|(key, _)| *key == at) {
                    Some((_, change)) => out.extend(change),
                    None => out.push(stored),
                }
            }
        }
        if exhausted {
            out.extend(pending.filter_map(|(_, change)| change));
        }
        out.truncate(limit);
        out
    }
}

macro_rules! point {
    ($self:ident, $key:expr, $variant:ident, $base:expr) => {
        match $self.changed(&$key) {
            Some(Some(Record::$variant(record))) => Some(record.clone()),
            Some(_) => None,
            None => $base,
        }
    };
}

impl View for Tx<'_> {
    fn inode(&self, id: InodeId) -> Option<Arc<Inode>> {
        match self.changed(&Key::Inode(id)) {
            Some(Some(Record::Inode(inode))) => Some(Arc::new(inode.clone())),
            Some(_) => None,
            None => self.base.inode(id),
        }
    }

    fn entry(&self, folder: InodeId, name: &Name) -> Option<InodeId> {
        point!(self, Key::Entry(folder, name.clone()), Entry, self.base.entry(folder, name))
    }

    fn entries(&self, folder: InodeId, after: Option<&Name>, limit: usize) -> Vec<(Name, InodeId)> {
        let first = Key::Entry(folder, after.cloned().unwrap_or_else(Name::smallest));
        self.merged(
            &first,
            limit,
            |last: Option<&(Name, InodeId)>, count| {
                self.base.entries(folder, last.map(|(name, _)| name).or(after), count)
            },
            |key, record| match key {
                Key::Entry(parent, name) if *parent == folder => {
                    let row = match record {
                        Some(Record::Entry(id)) if Some(name) > after => Some((name.clone(), *id)),
                        _ => None,
                    };
                    Some((name.clone(), row))
                }
                _ => None,
            },
            |(name, _)| name.clone(),
        )
    }

    fn totals(&self, folder: InodeId) -> Totals {
        match self.changed(&Key::Totals(folder)) {
            Some(Some(Record::Totals(totals))) => *totals,
            Some(_) => Totals::default(),
            None => self.base.totals(folder),
        }
    }

    fn block(&self, id: BlockId) -> Option<Block> {
        point!(self, Key::Block(id), Block, self.base.block(id))
    }

    fn file_block(&self, file: InodeId, index: u32) -> Option<BlockId> {
        point!(self, Key::FileBlock(file, index), FileBlock, self.base.file_block(file, index))
    }

    fn file_blocks(&self, file: InodeId, from: u32, limit: usize) -> Vec<BlockId> {
        // A file's rows are dense: the rows to read are known by their indexes, so no merge is needed.
        let untouched =
            self.changes.range(Key::FileBlock(file, from)..=Key::FileBlock(file, u32::MAX)).next().is_none();
        if untouched {
            return self.base.file_blocks(file, from, limit);
        }
        (from..).map_while(|index| self.file_block(file, index)).take(limit).collect()
    }

    fn lease(&self, file: InodeId) -> Option<Lease> {
        point!(self, Key::Lease(file), Lease, self.base.lease(file))
    }

    fn leases(&self, after: Option<InodeId>, limit: usize) -> Vec<(InodeId, Lease)> {
        let first = Key::Lease(after.unwrap_or(InodeId(0)));
        self.merged(
            &first,
            limit,
            |last: Option<&(InodeId, Lease)>, count| {
                self.base.leases(last.map(|(id, _)| *id).or(after), count)
            },
            |key, record| match (key, record) {
                (Key::Lease(id), Some(Record::Lease(lease))) if Some(*id) > after => {
                    Some((*id, Some((*id, lease.clone()))))
                }
                (Key::Lease(id), _) => Some((*id, None)),
                _ => None,
            },
            |(id, _)| *id,
        )
    }

    fn reclaims(&self, limit: usize) -> Vec<(InodeId, Option<Name>)> {
        let changed: BTreeMap<InodeId, Option<&Option<Name>>> = self
            .changes
            .range(Key::Reclaim(InodeId(0))..=Key::Reclaim(InodeId(u64::MAX)))
            .filter_map(|(key, record)| match (key, record) {
                (Key::Reclaim(id), Some(Record::Reclaim { after })) => Some((*id, Some(after))),
                (Key::Reclaim(id), _) => Some((*id, None)),
                _ => None,
            })
            .collect();
        let stored = self.base.reclaims(limit.saturating_add(changed.len()));
        let mut rows: Vec<_> = stored.into_iter().filter(|(id, _)| !changed.contains_key(id)).collect();
        rows.extend(changed.into_iter().filter_map(|(id, after)| Some((id, after?.clone()))));
        rows.sort_unstable();
        rows.truncate(limit);
        rows
    }

    fn retry(&self, key: &CallKey) -> Option<Retry> {
        point!(self, Key::Retry(*key), Retry, self.base.retry(key))
    }

    fn retries(&self, after: Option<&CallKey>, limit: usize) -> Vec<(CallKey, Retry)> {
        let first = Key::Retry(after.copied().unwrap_or(CallKey { client: [0; 16], call: i32::MIN }));
        self.merged(
            &first,
            limit,
            |last: Option<&(CallKey, Retry)>, count| {
                self.base.retries(last.map(|(key, _)| key).or(after), count)
            },
            |key, record| match key {
                Key::Retry(key) => {
                    let row = match record {
                        Some(Record::Retry(retry)) if Some(key) > after => Some((*key, retry.clone())),
                        _ => None,
                    };
                    Some((*key, row))
                }
                _ => None,
            },
            |(key, _)| *key,
        )
    }

    fn losses(&self) -> Vec<Loss> {
        match self.changed(&Key::Losses) {
            Some(Some(Record::Losses(losses))) => losses.clone(),
            Some(_) => Vec::new(),
            None => self.base.losses(),
        }
    }

    fn node_wishes(&self) -> Vec<(DatanodeUuid, Wish)> {
        match self.changed(&Key::NodeWishes) {
            Some(Some(Record::NodeWishes(wishes))) => wishes.clone(),
            Some(_) => Vec::new(),
            None => self.base.node_wishes(),
        }
    }

    fn xattrs(&self, id: InodeId) -> Vec<XAttr> {
        match self.changed(&Key::XAttrs(id)) {
            Some(Some(Record::XAttrs(attributes))) => attributes.clone(),
            Some(_) => Vec::new(),
            None => self.base.xattrs(id),
        }
    }

    fn lock_session(&self, id: SessionId) -> Option<LockSession> {
        point!(self, Key::LockSession(id), LockSession, self.base.lock_session(id))
    }

    fn lock_sessions(&self, after: Option<SessionId>, limit: usize) -> Vec<(SessionId, LockSession)> {
        let first = Key::LockSession(after.unwrap_or(SessionId(0)));
        self.merged(
            &first,
            limit,
            |last: Option<&(SessionId, LockSession)>, count| {
                self.base.lock_sessions(last.map(|(id, _)| *id).or(after), count)
            },
            |key, record| match (key, record) {
                (Key::LockSession(id), Some(Record::LockSession(session))) if Some(*id) > after => {
                    Some((*id, Some((*id, session.clone()))))
                }
                (Key::LockSession(id), _) => Some((*id, None)),
                _ => None,
            },
            |(id, _)| *id,
        )
    }

    fn counters(&self) -> Option<Counters> {
        point!(self, Key::Counters, Counters, self.base.counters())
    }
}
