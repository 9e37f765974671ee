//! A view in memory: for tests, here and in other crates.

mod check;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

pub use check::check;
use steadfs_common::{BlockId, CallKey, DatanodeUuid, InodeId, Name};

use crate::blocks::Wish;
use crate::locks::SessionId;
use crate::record::{Block, Counters, Inode, Key, Lease, LockSession, Loss, Record, Retry, Totals, XAttr};
use crate::tx::Changes;
use crate::view::View;

/// Records in a map. The simplest [`View`] there is, so others are compared with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryView {
    records: BTreeMap<Key, Record>,
}

impl MemoryView {
    /// One without any record.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `changes` true.
    pub fn apply(&mut self, changes: Changes) {
        for (key, record) in changes {
            match record {
                Some(record) => self.records.insert(key, record),
                None => self.records.remove(&key),
            };
        }
    }

    /// All records.
    #[must_use]
    pub const fn records(&self) -> &BTreeMap<Key, Record> {
        &self.records
    }

    /// Rows of one table from `first` on, as `row` reads them; it gives none where the table ends.
    fn rows<T>(&self, first: Bound<Key>, limit: usize, row: impl Fn(&Key, &Record) -> Option<T>) -> Vec<T> {
        self.records
            .range((first, Bound::Unbounded))
            .map_while(|(key, record)| row(key, record))
            .take(limit)
            .collect()
    }
}

impl FromIterator<(Key, Record)> for MemoryView {
    fn from_iter<I: IntoIterator<Item = (Key, Record)>>(records: I) -> Self {
        Self { records: records.into_iter().collect() }
    }
}

macro_rules! point {
    ($self:ident, $key:expr, $variant:ident) => {
        match $self.records.get(&$key) {
            Some(Record::$variant(record)) => Some(record.clone()),
            _ => None,
        }
    };
}

impl View for MemoryView {
    fn inode(&self, id: InodeId) -> Option<Arc<Inode>> {
        point!(self, Key::Inode(id), Inode).map(Arc::new)
    }

    fn entry(&self, folder: InodeId, name: &Name) -> Option<InodeId> {
        point!(self, Key::Entry(folder, name.clone()), Entry)
    }

    fn entries(&self, folder: InodeId, after: Option<&Name>, limit: usize) -> Vec<(Name, InodeId)> {
        let first = match after {
            Some(name) => Bound::Excluded(Key::Entry(folder, name.clone())),
            None => Bound::Included(Key::Entry(folder, Name::smallest())),
        };
        self.rows(first, limit, |key, record| match (key, record) {
            (Key::Entry(parent, name), Record::Entry(id)) if *parent == folder => Some((name.clone(), *id)),
            _ => None,
        })
    }

    fn totals(&self, folder: InodeId) -> Totals {
        point!(self, Key::Totals(folder), Totals).unwrap_or_default()
    }

    fn block(&self, id: BlockId) -> Option<Block> {
        point!(self, Key::Block(id), Block)
    }

    fn file_block(&self, file: InodeId, index: u32) -> Option<BlockId> {
        point!(self, Key::FileBlock(file, index), FileBlock)
    }

    fn file_blocks(&self, file: InodeId, from: u32, limit: usize) -> Vec<BlockId> {
        self.rows(Bound::Included(Key::FileBlock(file, from)), limit, |key, record| match (key, record) {
            (Key::FileBlock(owner, _), Record::FileBlock(id)) if *owner == file => Some(*id),
            _ => None,
        })
    }

    fn lease(&self, file: InodeId) -> Option<Lease> {
        point!(self, Key::Lease(file), Lease)
    }

    fn leases(&self, after: Option<InodeId>, limit: usize) -> Vec<(InodeId, Lease)> {
        let first =
            after.map_or(Bound::Included(Key::Lease(InodeId(0))), |id| Bound::Excluded(Key::Lease(id)));
        self.rows(first, limit, |key, record| match (key, record) {
            (Key::Lease(id), Record::Lease(lease)) => Some((*id, lease.clone())),
            _ => None,
        })
    }

    fn reclaims(&self, limit: usize) -> Vec<(InodeId, Option<Name>)> {
        self.rows(Bound::Included(Key::Reclaim(InodeId(0))), limit, |key, record| match (key, record) {
            (Key::Reclaim(id), Record::Reclaim { after }) => Some((*id, after.clone())),
            _ => None,
        })
    }

    fn retry(&self, key: &CallKey) -> Option<Retry> {
        point!(self, Key::Retry(*key), Retry)
    }

    fn retries(&self, after: Option<&CallKey>, limit: usize) -> Vec<(CallKey, Retry)> {
        let least = CallKey { client: [0; 16], call: i32::MIN };
        let first = after.map_or(Bound::Included(Key::Retry(least)), |key| Bound::Excluded(Key::Retry(*key)));
        self.rows(first, limit, |key, record| match (key, record) {
            (Key::Retry(key), Record::Retry(retry)) => Some((*key, retry.clone())),
            _ => None,
        })
    }

    fn xattrs(&self, id: InodeId) -> Vec<XAttr> {
        point!(self, Key::XAttrs(id), XAttrs).unwrap_or_default()
    }

    fn lock_session(&self, id: SessionId) -> Option<LockSession> {
        point!(self, Key::LockSession(id), LockSession)
    }

    fn lock_sessions(&self, after: Option<SessionId>, limit: usize) -> Vec<(SessionId, LockSession)> {
        let least = Key::LockSession(SessionId(0));
        let first = after.map_or(Bound::Included(least), |id| Bound::Excluded(Key::LockSession(id)));
        self.rows(first, limit, |key, record| match (key, record) {
            (Key::LockSession(id), Record::LockSession(session)) => Some((*id, session.clone())),
            _ => None,
        })
    }

    fn losses(&self) -> Vec<Loss> {
        point!(self, Key::Losses, Losses).unwrap_or_default()
    }

    fn node_wishes(&self) -> Vec<(DatanodeUuid, Wish)> {
        point!(self, Key::NodeWishes, NodeWishes).unwrap_or_default()
    }

    fn counters(&self) -> Option<Counters> {
        point!(self, Key::Counters, Counters)
    }
}
