//! The namespace as of one journal position.

use std::cell::Cell;
use std::sync::Arc;

use rocksdb::{DBPinnableSlice, DBRawIteratorWithThreadMode, ErrorKind, ReadOptions, ReadTier};
use steadfs_common::{BlockId, CallKey, DatanodeUuid, InodeId, Name};
use steadfs_namenode_core::blocks::Wish;
use steadfs_namenode_core::locks::SessionId;
use steadfs_namenode_core::record::{Block, Counters, Inode, Lease, LockSession, Loss, Retry, Totals, XAttr};
use steadfs_namenode_core::{Children, View};

use super::cache::Cache;
use super::codec::CodecError;
use super::database::{Database, Position, Snapshot};
use super::keys::{self, Table};
use super::records::{Entry, FileBlock, Losses, NodeWishes, Reclaim, Stored, XAttrs};

/// From so many on inodes of a page are read together.
const FETCHED_TOGETHER: usize = 4;

/// A consistent picture of the namespace. Everything read from it is as of [`StoreView::position`].
///
/// Reading may go to the disk; [`MemoryOnly`] reads what needs none.
pub struct StoreView {
    snapshot: Snapshot,
    cache: Arc<Cache>,
    position: Position,
    counters: Option<Counters>,
}

impl StoreView {
    /// The view of a store that was just opened.
    pub(super) fn initial(database: Arc<Database>, cache: Arc<Cache>, position: Position) -> Self {
        let mut view = Self { snapshot: Snapshot::take(database), cache, position, counters: None };
        view.counters = Rows { view: &view, missed: None }.point(Table::Counters, &keys::counters::encode());
        view
    }

    /// The view after the next batch was written.
    pub(super) fn successor(&self, position: Position, counters: Option<Counters>) -> Self {
        let snapshot = Snapshot::take(self.snapshot.borrow_owner().clone());
        Self { snapshot, cache: self.cache.clone(), position, counters }
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(super) const fn counters_at_hand(&self) -> Option<Counters> {
        self.counters
    }

    /// The last journal entry that this includes.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Up to `limit` blocks from `from` on, in order of id.
    #[must_use]
    pub fn blocks_from(&self, from: BlockId, limit: usize) -> Vec<Block> {
        self.rows().range(Table::Block, &keys::block::encode(from), &[], None, limit, |_, value| {
            Block::decode(value)
        })
    }

    /// Up to `limit` inodes past `after`, in order of id.
    #[must_use]
    pub fn inodes_after(&self, after: InodeId, limit: usize) -> Vec<Inode> {
        let first = keys::inode::encode(after.next());
        self.rows().range(Table::Inode, &first, &[], None, limit, |_, value| Inode::decode(value))
    }

    const fn rows(&self) -> Rows<'_> {
        Rows { view: self, missed: None }
    }
}

/// A view that never goes to the disk. Once it would have had to, [`MemoryOnly::missed`] says so, and everything it
/// answered is to be thrown away: ask the [`StoreView`] instead, where blocking is allowed.
pub struct MemoryOnly<'a> {
    view: &'a StoreView,
    missed: Cell<bool>,
}

impl<'a> MemoryOnly<'a> {
    /// Reads from `view` what is in memory.
    #[must_use]
    pub const fn new(view: &'a StoreView) -> Self {
        Self { view, missed: Cell::new(false) }
    }

    /// Whether something was asked for that is not in memory.
    #[must_use]
    pub const fn missed(&self) -> bool {
        self.missed.get()
    }

    const fn rows(&self) -> Rows<'_> {
        Rows { view: self.view, missed: Some(&self.missed) }
    }
}

/// Reads rows; with `missed`, from memory alone.
#[derive(Clone, Copy)]
struct Rows<'a> {
    view: &'a StoreView,
    missed: Option<&'a Cell<bool>>,
}

impl<'a> Rows<'a> {
    fn database(&self) -> &'a Database {
        self.view.snapshot.borrow_owner()
    }

    fn position(&self) -> u64 {
        self.view.position.index
    }

    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if self.missed.is_some() {
            options.set_read_tier(ReadTier::BlockCache);
        }
        options
    }

    fn gave_up(&self) -> bool {
        self.missed.is_some_and(Cell::get)
    }

    /// Notes that memory alone was not enough; any other error ends the process.
    fn failed(&self, error: &rocksdb::Error) {
        match self.missed {
            Some(missed) if error.kind() == ErrorKind::Incomplete => missed.set(true),
            _ => self.database().failed(error),
        }
    }

    fn get(&self, table: Table, key: &[u8]) -> Option<DBPinnableSlice<'a>> {
        if self.gave_up() {
            return None;
        }
        let database = self.database();
        database.count_row();
        let snapshot = self.view.snapshot.borrow_dependent();
        snapshot.get_pinned_cf_opt(database.family(table), key, self.options()).unwrap_or_else(|error| {
            self.failed(&error);
            None
        })
    }

    fn point<T: Stored>(&self, table: Table, key: &[u8]) -> Option<T> {
        let bytes = self.get(table, key)?;
        Some(T::decode(&bytes).unwrap_or_else(|error| self.database().damaged(&error)))
    }

    /// Rows from `first` on whose keys begin with `prefix`, the row at `skip` left out.
    fn range<T>(
        &self,
        table: Table,
        first: &[u8],
        prefix: &[u8],
        skip: Option<&[u8]>,
        limit: usize,
        row: impl Fn(&[u8], &[u8]) -> Result<T, CodecError>,
    ) -> Vec<T> {
        let mut out = Vec::new();
        if self.gave_up() || limit == 0 {
            return out;
        }
        let database = self.database();
        let snapshot = self.view.snapshot.borrow_dependent();
        let mut options = self.options();
        if let Some(end) = after_prefix(prefix) {
            // Without it an iterator passes over what was deleted behind the last row, however much that is.
            options.set_iterate_upper_bound(end);
        }
        let mut rows = snapshot.raw_iterator_cf_opt(database.family(table), options);
        rows.seek(first);
        while out.len() < limit
            && let Some((key, value)) = item(&rows)
            && key.starts_with(prefix)
        {
            database.count_row();
            if skip != Some(key) {
                out.push(row(key, value).unwrap_or_else(|error| database.damaged(&error)));
            }
            rows.next();
        }
        if let Err(error) = rows.status() {
            self.failed(&error);
        }
        out
    }

    fn inode(&self, id: InodeId) -> Option<Arc<Inode>> {
        let at = self.position();
        if let Some(known) = self.view.cache.inode(at, id) {
            return known;
        }
        let inode = self.point::<Inode>(Table::Inode, &keys::inode::encode(id)).map(Arc::new);
        if !self.gave_up() {
            self.view.cache.keep_inode(at, id, inode.clone());
        }
        inode
    }

    fn entry(&self, folder: InodeId, name: &Name) -> Option<InodeId> {
        let at = self.position();
        if let Some(known) = self.view.cache.entry(at, folder, name) {
            return known;
        }
        let id = self.point::<Entry>(Table::Entry, &keys::entry::encode(folder, name)).map(|entry| entry.0);
        if !self.gave_up() {
            self.view.cache.keep_entry(at, folder, name, id);
        }
        id
    }

    fn totals(&self, folder: InodeId) -> Totals {
        let at = self.position();
        if let Some(known) = self.view.cache.totals(at, folder) {
            return known;
        }
        let totals = self.point(Table::Totals, &keys::totals::encode(folder)).unwrap_or_default();
        if !self.gave_up() {
            self.view.cache.keep_totals(at, folder, totals);
        }
        totals
    }

    fn block(&self, id: BlockId) -> Option<Block> {
        let at = self.position();
        if let Some(known) = self.view.cache.block(at, id) {
            return known;
        }
        let block: Option<Block> = self.point(Table::Block, &keys::block::encode(id));
        if !self.gave_up() {
            self.view.cache.keep_block(at, id, block.clone());
        }
        block
    }

    fn file_block(&self, file: InodeId, index: u32) -> Option<BlockId> {
        let at = self.position();
        if let Some(known) = self.view.cache.file_block(at, file, index) {
            return known;
        }
        let row = self.point::<FileBlock>(Table::FileBlock, &keys::file_block::encode(file, index));
        let id = row.map(|row| row.0);
        if !self.gave_up() {
            self.view.cache.keep_file_block(at, file, index, id);
        }
        id
    }

    fn children(&self, folder: InodeId, after: Option<&Name>, limit: usize) -> Arc<Children> {
        let at = self.position();
        if let Some(known) = self.view.cache.page(at, folder, after, limit) {
            return known;
        }
        let entries = self.entries(folder, after, Children::entries_for(limit));
        self.fetch_inodes(&entries);
        let page = Arc::new(Children::read(folder, entries, limit, |id| self.inode(id)));
        if !self.gave_up() {
            self.view.cache.keep_page(at, folder, after, limit, page.clone());
        }
        page
    }

    /// Reads the inodes of a page that are not at hand, at once and in the order in which they lie.
    fn fetch_inodes(&self, entries: &[(Name, InodeId)]) {
        let at = self.position();
        let unknown = |id: &InodeId| self.view.cache.inode(at, *id).is_none();
        let mut missing: Vec<InodeId> = entries.iter().map(|(_, id)| *id).filter(unknown).collect();
        if missing.len() < FETCHED_TOGETHER || self.gave_up() {
            return;
        }
        missing.sort_unstable();
        let database = self.database();
        let family = database.family(Table::Inode);
        let keys = missing.iter().map(|id| (family, keys::inode::encode(*id)));
        let found = self.view.snapshot.borrow_dependent().multi_get_cf_opt(keys, self.options());
        for (id, row) in missing.into_iter().zip(found) {
            database.count_row();
            match row {
                Ok(bytes) => {
                    let inode = bytes.map(|bytes| {
                        Arc::new(Inode::decode(&bytes).unwrap_or_else(|error| database.damaged(&error)))
                    });
                    self.view.cache.keep_inode(at, id, inode);
                }
                Err(error) => return self.failed(&error),
            }
        }
    }

    fn entries(&self, folder: InodeId, after: Option<&Name>, limit: usize) -> Vec<(Name, InodeId)> {
        let prefix = keys::entry::prefix(folder);
        let after = after.map(|name| keys::entry::encode(folder, name));
        self.range(
            Table::Entry,
            after.as_deref().unwrap_or(&prefix),
            &prefix,
            after.as_deref(),
            limit,
            |key, value| Ok((keys::entry::decode(key)?.1, Entry::decode(value)?.0)),
        )
    }

    fn file_blocks(&self, file: InodeId, from: u32, limit: usize) -> Vec<BlockId> {
        let first = keys::file_block::encode(file, from);
        let prefix = keys::file_block::prefix(file);
        self.range(Table::FileBlock, &first, &prefix, None, limit, |_, value| Ok(FileBlock::decode(value)?.0))
    }

    fn leases(&self, after: Option<InodeId>, limit: usize) -> Vec<(InodeId, Lease)> {
        let after = after.map(keys::lease::encode);
        let first = after.as_ref().map_or(&[][..], |key| &key[..]);
        self.range(Table::Lease, first, &[], after.as_ref().map(|key| &key[..]), limit, |key, value| {
            Ok((keys::lease::decode(key)?, Lease::decode(value)?))
        })
    }

    fn lock_sessions(&self, after: Option<SessionId>, limit: usize) -> Vec<(SessionId, LockSession)> {
        let after = after.map(keys::lock_session::encode);
        let first = after.as_ref().map_or(&[][..], |key| &key[..]);
        let last = after.as_ref().map(|key| &key[..]);
        self.range(Table::LockSession, first, &[], last, limit, |key, value| {
            Ok((keys::lock_session::decode(key)?, LockSession::decode(value)?))
        })
    }

    fn reclaims(&self, limit: usize) -> Vec<(InodeId, Option<Name>)> {
        self.range(Table::Reclaim, &[], &[], None, limit, |key, value| {
            Ok((keys::reclaim::decode(key)?, Reclaim::decode(value)?.0))
        })
    }

    fn retries(&self, after: Option<&CallKey>, limit: usize) -> Vec<(CallKey, Retry)> {
        let after = after.map(keys::retry::encode);
        let first = after.as_ref().map_or(&[][..], |key| &key[..]);
        self.range(Table::Retry, first, &[], after.as_ref().map(|key| &key[..]), limit, |key, value| {
            Ok((keys::retry::decode(key)?, Retry::decode(value)?))
        })
    }
}

/// The first key behind all that begin with `prefix`; none if there can be no such key.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

fn item<'r>(rows: &'r DBRawIteratorWithThreadMode<'_, rocksdb::DB>) -> Option<(&'r [u8], &'r [u8])> {
    Some((rows.key()?, rows.value()?))
}

macro_rules! view_by_rows {
    ($type:ty) => {
        impl View for $type {
            fn inode(&self, id: InodeId) -> Option<Arc<Inode>> {
                self.rows().inode(id)
            }

            fn entry(&self, folder: InodeId, name: &Name) -> Option<InodeId> {
                self.rows().entry(folder, name)
            }

            fn entries(&self, folder: InodeId, after: Option<&Name>, limit: usize) -> Vec<(Name, InodeId)> {
                self.rows().entries(folder, after, limit)
            }

            fn children(&self, folder: InodeId, after: Option<&Name>, limit: usize) -> Arc<Children> {
                self.rows().children(folder, after, limit)
            }

            fn totals(&self, folder: InodeId) -> Totals {
                self.rows().totals(folder)
            }

            fn block(&self, id: BlockId) -> Option<Block> {
                self.rows().block(id)
            }

            fn file_block(&self, file: InodeId, index: u32) -> Option<BlockId> {
                self.rows().file_block(file, index)
            }

            fn file_blocks(&self, file: InodeId, from: u32, limit: usize) -> Vec<BlockId> {
                self.rows().file_blocks(file, from, limit)
            }

            fn lease(&self, file: InodeId) -> Option<Lease> {
                self.rows().point(Table::Lease, &keys::lease::encode(file))
            }

            fn leases(&self, after: Option<InodeId>, limit: usize) -> Vec<(InodeId, Lease)> {
                self.rows().leases(after, limit)
            }

            fn reclaims(&self, limit: usize) -> Vec<(InodeId, Option<Name>)> {
                self.rows().reclaims(limit)
            }

            fn retry(&self, key: &CallKey) -> Option<Retry> {
                self.rows().point(Table::Retry, &keys::retry::encode(key))
            }

            fn retries(&self, after: Option<&CallKey>, limit: usize) -> Vec<(CallKey, Retry)> {
                self.rows().retries(after, limit)
            }

            fn xattrs(&self, id: InodeId) -> Vec<XAttr> {
                let row = self.rows().point::<XAttrs>(Table::XAttrs, &keys::xattrs::encode(id));
                row.map_or_else(Vec::new, |row| row.0)
            }

            fn lock_session(&self, id: SessionId) -> Option<LockSession> {
                self.rows().point(Table::LockSession, &keys::lock_session::encode(id))
            }

            fn lock_sessions(&self, after: Option<SessionId>, limit: usize) -> Vec<(SessionId, LockSession)> {
                self.rows().lock_sessions(after, limit)
            }

            fn losses(&self) -> Vec<Loss> {
                let row = self.rows().point::<Losses>(Table::Losses, &keys::losses::encode());
                row.map_or_else(Vec::new, |row| row.0)
            }

            fn node_wishes(&self) -> Vec<(DatanodeUuid, Wish)> {
                let row = self.rows().point::<NodeWishes>(Table::NodeWishes, &keys::node_wishes::encode());
                row.map_or_else(Vec::new, |row| row.0)
            }

            fn counters(&self) -> Option<Counters> {
                self.rows().view.counters
            }
        }
    };
}

view_by_rows!(StoreView);
view_by_rows!(MemoryOnly<'_>);
