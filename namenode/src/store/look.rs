//! Rows of a store that nobody writes, as the rules read them. What cannot be read ends nothing: it is told.

use std::cell::RefCell;
use std::sync::Arc;

use steadfs_common::{BlockId, CallKey, DatanodeUuid, InodeId, Name};
use steadfs_namenode_core::View;
use steadfs_namenode_core::blocks::Wish;
use steadfs_namenode_core::locks::SessionId;
use steadfs_namenode_core::record::{Block, Counters, Inode, Lease, LockSession, Loss, Retry, Totals, XAttr};

use super::codec::CodecError;
use super::database::ReadOnlyStore;
use super::keys::{self, Table};
use super::records::{Entry, FileBlock, Losses, NodeWishes, Reclaim, Stored, XAttrs};

/// A view of a [`ReadOnlyStore`]. A row that cannot be read is not there, and the first such is kept.
pub(crate) struct LookView<'a> {
    store: &'a ReadOnlyStore,
    failed: RefCell<Option<String>>,
}

impl<'a> LookView<'a> {
    pub(crate) const fn new(store: &'a ReadOnlyStore) -> Self {
        Self { store, failed: RefCell::new(None) }
    }

    /// The first thing that could not be read since this was asked last.
    pub(crate) fn take_failure(&self) -> Option<String> {
        self.failed.take()
    }

    fn note(&self, error: &dyn std::fmt::Display) {
        self.failed.borrow_mut().get_or_insert_with(|| error.to_string());
    }

    fn point<T: Stored>(&self, table: Table, key: &[u8]) -> Option<T> {
        let bytes = match self.store.row(table, key) {
            Ok(bytes) => bytes?,
            Err(error) => {
                self.note(&format_args!("{error:#}"));
                return None;
            }
        };
        T::decode(&bytes).inspect_err(|error| self.note(error)).ok()
    }

    /// Up to `limit` rows past `after` whose keys begin with `prefix`.
    fn range<T>(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        row: impl Fn(&[u8], &[u8]) -> Result<T, CodecError>,
    ) -> Vec<T> {
        self.from(table, after.unwrap_or(prefix), prefix, after, limit, row)
    }

    fn from<T>(
        &self,
        table: Table,
        first: &[u8],
        prefix: &[u8],
        skip: Option<&[u8]>,
        limit: usize,
        row: impl Fn(&[u8], &[u8]) -> Result<T, CodecError>,
    ) -> Vec<T> {
        let mut out = Vec::new();
        let read = self.store.rows_from(table, first, |key, value| {
            if !key.starts_with(prefix) || out.len() == limit {
                return false;
            }
            if skip != Some(key) {
                match row(key, value) {
                    Ok(row) => out.push(row),
                    Err(error) => self.note(&error),
                }
            }
            true
        });
        if let Err(error) = read {
            self.note(&format_args!("{error:#}"));
        }
        out
    }
}

impl View for LookView<'_> {
    fn inode(&self, id: InodeId) -> Option<Arc<Inode>> {
        self.point::<Inode>(Table::Inode, &keys::inode::encode(id)).map(Arc::new)
    }

    fn entry(&self, folder: InodeId, name: &Name) -> Option<InodeId> {
        self.point::<Entry>(Table::Entry, &keys::entry::encode(folder, name)).map(|entry| entry.0)
    }

    fn entries(&self, folder: InodeId, after: Option<&Name>, limit: usize) -> Vec<(Name, InodeId)> {
        let after = after.map(|name| keys::entry::encode(folder, name));
        let row = |key: &[u8], value: &[u8]| Ok((keys::entry::decode(key)?.1, Entry::decode(value)?.0));
        self.range(Table::Entry, &keys::entry::prefix(folder), after.as_deref(), limit, row)
    }

    fn totals(&self, folder: InodeId) -> Totals {
        self.point(Table::Totals, &keys::totals::encode(folder)).unwrap_or_default()
    }

    fn block(&self, id: BlockId) -> Option<Block> {
        self.point(Table::Block, &keys::block::encode(id))
    }

    fn file_block(&self, file: InodeId, index: u32) -> Option<BlockId> {
        self.point::<FileBlock>(Table::FileBlock, &keys::file_block::encode(file, index)).map(|row| row.0)
    }

    fn file_blocks(&self, file: InodeId, from: u32, limit: usize) -> Vec<BlockId> {
        let (first, prefix) = (keys::file_block::encode(file, from), keys::file_block::prefix(file));
        self.from(Table::FileBlock, &first, &prefix, None, limit, |_, value| Ok(FileBlock::decode(value)?.0))
    }

    fn lease(&self, file: InodeId) -> Option<Lease> {
        self.point(Table::Lease, &keys::lease::encode(file))
    }

    fn leases(&self, after: Option<InodeId>, limit: usize) -> Vec<(InodeId, Lease)> {
        let after = after.map(|id| keys::lease::encode(id).to_vec());
        let row = |key: &[u8], value: &[u8]| Ok((keys::lease::decode(key)?, Lease::decode(value)?));
        self.range(Table::Lease, &[], after.as_deref(), limit, row)
    }

    fn reclaims(&self, limit: usize) -> Vec<(InodeId, Option<Name>)> {
        let row = |key: &[u8], value: &[u8]| Ok((keys::reclaim::decode(key)?, Reclaim::decode(value)?.0));
        self.range(Table::Reclaim, &[], None, limit, row)
    }

    fn retry(&self, key: &CallKey) -> Option<Retry> {
        self.point(Table::Retry, &keys::retry::encode(key))
    }

    fn retries(&self, after: Option<&CallKey>, limit: usize) -> Vec<(CallKey, Retry)> {
        let after = after.map(|key| keys::retry::encode(key).to_vec());
        let row = |key: &[u8], value: &[u8]| Ok((keys::retry::decode(key)?, Retry::decode(value)?));
        self.range(Table::Retry, &[], after.as_deref(), limit, row)
    }

    fn xattrs(&self, id: InodeId) -> Vec<XAttr> {
        self.point::<XAttrs>(Table::XAttrs, &keys::xattrs::encode(id)).map_or_else(Vec::new, |row| row.0)
    }

    fn lock_session(&self, id: SessionId) -> Option<LockSession> {
        self.point(Table::LockSession, &keys::lock_session::encode(id))
    }

    fn lock_sessions(&self, after: Option<SessionId>, limit: usize) -> Vec<(SessionId, LockSession)> {
        let after = after.map(|id| keys::lock_session::encode(id).to_vec());
        let row =
            |key: &[u8], value: &[u8]| Ok((keys::lock_session::decode(key)?, LockSession::decode(value)?));
        self.range(Table::LockSession, &[], after.as_deref(), limit, row)
    }

    fn node_wishes(&self) -> Vec<(DatanodeUuid, Wish)> {
        let row = self.point::<NodeWishes>(Table::NodeWishes, &keys::node_wishes::encode());
        row.map_or_else(Vec::new, |row| row.0)
    }

    fn losses(&self) -> Vec<Loss> {
        let row = self.point::<Losses>(Table::Losses, &keys::losses::encode());
        row.map_or_else(Vec::new, |row| row.0)
    }

    fn counters(&self) -> Option<Counters> {
        self.point(Table::Counters, &keys::counters::encode())
    }
}
