//! The namespace on disk: RocksDB, one column family a table, without a write-ahead log of its own.
//!
//! The journal is the log. Each batch of changes is written together with the journal position it stands for, and all
//! column families are flushed as one, so what is on the disk is always the namespace as of one position; a start
//! replays the journal from there. An error of RocksDB ends the process: there is nothing right to answer.
//!
//! One thread writes (it owns the [`StoreWriter`]); everybody reads the [`StoreView`] published last, which is a
//! RocksDB snapshot and does not change.

mod cache;
pub mod codec;
mod database;
pub mod keys;
mod look;
pub mod records;
mod view;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use steadfs_common::BlockId;
use steadfs_namenode_core::record::Block;
use steadfs_namenode_core::{Changes, Key, Record};

use cache::Cache;
use database::Database;
pub use database::Position;
pub use database::ReadOnlyStore;
pub(crate) use database::rotten_mark;
pub(crate) use look::LookView;
pub use view::{MemoryOnly, StoreView};

use crate::config::StoreConfig;

/// The readers' side of the store.
pub struct Store {
    database: Arc<Database>,
    published: ArcSwap<StoreView>,
    flushed: AtomicU64,
}

/// The writer's side: there is one, and the commit thread owns it.
pub struct StoreWriter {
    store: Arc<Store>,
}

impl Store {
    /// Opens the store in `folder`, or makes an empty one.
    ///
    /// # Errors
    /// RocksDB cannot open it: it is damaged, of a newer version, or in use.
    pub fn open(folder: &Path, config: &StoreConfig) -> anyhow::Result<(Arc<Self>, StoreWriter)> {
        let database = Arc::new(Database::open(folder, config)?);
        let position = database.position();
        let cache = Arc::new(Cache::new(
            config.inode_cache_entries,
            config.entry_cache_entries,
            config.page_cache_bytes,
        ));
        let view = StoreView::initial(database.clone(), cache, position);
        let store = Arc::new(Self {
            database,
            published: ArcSwap::from_pointee(view),
            flushed: AtomicU64::new(position.index),
        });
        Ok((store.clone(), StoreWriter { store }))
    }

    /// The namespace as of the last batch applied. It does not change while it is held; do not hold it for long,
    /// because what it sees cannot be compacted away.
    #[must_use]
    pub fn view(&self) -> Arc<StoreView> {
        self.published.load_full()
    }

    /// As [`Store::view`] without counting a reference: for short reads.
    pub fn view_guard(&self) -> arc_swap::Guard<Arc<StoreView>> {
        self.published.load()
    }

    /// Up to `limit` blocks from `from` on, in order of id: one step of the merge of a block report with what should be.
    #[must_use]
    pub fn blocks_from(&self, from: BlockId, limit: usize) -> Vec<Block> {
        self.view_guard().blocks_from(from, limit)
    }

    /// Makes everything applied so far durable, and says up to which journal index that is. Takes as long as the disk.
    pub fn flush(&self) -> u64 {
        let applied = self.view_guard().position().index;
        if applied > self.flushed_index() {
            self.database.flush();
            self.flushed.fetch_max(applied, Ordering::AcqRel);
        }
        self.flushed_index()
    }

    /// Returns when nothing is in memory alone, and no file is about to be replaced.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        self.flush();
        self.database.settle();
    }

    /// Reads every row of every table past the caches; RocksDB checks each block on the way, and an error ends the process.
    /// `pace` is told how many bytes came, and may end it.
    ///
    /// # Errors
    /// `pace` says so.
    pub(crate) fn read_through(&self, pace: impl FnMut(u64) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.database.read_through(pace)
    }

    /// Hard links to the store's files as of now, in a folder that is not there yet.
    ///
    /// # Errors
    /// The disk says no.
    pub(crate) fn checkpoint(&self, folder: &Path) -> anyhow::Result<()> {
        self.database.checkpoint(folder)
    }

    /// The journal index up to which everything is durable here.
    #[must_use]
    pub fn flushed_index(&self) -> u64 {
        self.flushed.load(Ordering::Acquire)
    }

    /// Rows read from RocksDB since the start: a measure of what work a caller causes.
    #[must_use]
    pub fn rows_read(&self) -> u64 {
        self.database.rows_read()
    }

    /// Bytes that RocksDB holds in memory (caches, memtables, readers) and on disk, for the metrics.
    #[must_use]
    pub fn sizes(&self) -> (u64, u64) {
        self.database.sizes()
    }
}

/// The position and the last transaction of a store that nobody writes.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read_position(folder: &Path) -> anyhow::Result<(Position, u64)> {
    let store = ReadOnlyStore::open(folder)?;
    Ok((store.try_position()?, store.last_tx()?))
}

impl StoreWriter {
    /// The journal position that the store stands at.
    #[must_use]
    pub fn position(&self) -> Position {
        self.store.view_guard().position()
    }

    /// Writes the changes of one journal entry and publishes the view that has them.
    pub fn apply(&mut self, position: Position, changes: &Changes) {
        let last = self.store.view();
        assert!(
            position.index > last.position().index,
            "entry {} is applied after entry {}",
            position.index,
            last.position().index
        );
        last.cache().changing(position.index, changes);
        self.store.database.write(position, changes);
        let counters = match changes.get(&Key::Counters) {
            Some(Some(Record::Counters(counters))) => Some(*counters),
            _ => last.counters_at_hand(),
        };
        self.store.published.store(Arc::new(last.successor(position, counters)));
        last.cache().changed(position.index, changes);
    }
}

#[cfg(test)]
mod pages_test;
#[cfg(test)]
mod tests;
