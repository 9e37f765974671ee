//! RocksDB behind tables and positions. Nothing else in the crate names a RocksDB type but the view.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    FlushOptions, Options, WriteBatch, WriteOptions,
};
use steadfs_namenode_core::Changes;

use super::codec::{CodecError, Reader, Writer};
use super::keys::{self, Table};
use super::records;
use crate::config::StoreConfig;
use crate::fatal;

/// Where in the journal something stands: the last entry that it includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Position {
    /// The entry's index; 0 before the first.
    pub index: u64,
    /// The entry's hash, by which the next one is chained to it; 0 before the first.
    pub hash: u64,
}

/// The row, in the default column family, that holds the [`Position`].
const POSITION_KEY: &[u8] = b"position";
/// Version of its value: the version, index as a varint, hash as eight bytes little-endian.
const POSITION_VERSION: u8 = 1;
/// RocksDB's own log files kept, and their size: they are for people.
const LOG_FILES: usize = 4;
const LOG_FILE_BYTES: usize = 8 << 20;
/// Bits of bloom filter a key: 1 % of the look-ups of a missing key read the disk.
const BLOOM_BITS: f64 = 10.0;
const BLOCK_BYTES: usize = 8 << 10;
/// Pieces of a table file's index and filter.
const METADATA_BLOCK_BYTES: usize = 8 << 10;
/// A table file in which, of so many rows in a row, so many are deletions is compacted; so is one that consists of them to
/// this share.
const DELETION_WINDOW: usize = 4_096;
const DELETIONS: usize = 2_048;
const DELETION_SHARE: f64 = 0.5;
const SYNC_STEP_BYTES: u64 = 1 << 20;
/// Who reads all rows is told after so many bytes.
const READ_STEP_BYTES: u64 = 1 << 20;

pub(super) struct Database {
    pub(super) db: DB,
    folder: PathBuf,
    cache: rocksdb::Cache,
    rows_read: AtomicU64,
}

impl Database {
    pub(super) fn open(folder: &Path, config: &StoreConfig) -> anyhow::Result<Self> {
        let cache = rocksdb::Cache::new_lru_cache(config.block_cache_bytes);
        let tables = Table::ALL.iter().map(|table| table.family());
        let families = std::iter::once(rocksdb::DEFAULT_COLUMN_FAMILY_NAME)
            .chain(tables)
            .map(|name| ColumnFamilyDescriptor::new(name, family_options(config, &cache)));
        let db = DB::open_cf_descriptors(&database_options(config), folder, families).with_context(|| {
            format!(
                "the store in {} cannot be opened; if it is damaged, put back a copy of it: the journal replays what \
                 came after",
                folder.display()
            )
        })?;
        Ok(Self { db, folder: folder.to_owned(), cache, rows_read: AtomicU64::new(0) })
    }

    /// The column family of a table.
    pub(super) fn family(&self, table: Table) -> &ColumnFamily {
        self.db.cf_handle(table.family()).expect("every table's family is opened with the store")
    }

    /// Where the store stands, from its own row.
    pub(super) fn position(&self) -> Position {
        match self.db.get_pinned(POSITION_KEY) {
            Ok(None) => Position::default(),
            Ok(Some(bytes)) => decode_position(&bytes).unwrap_or_else(|error| self.damaged(&error)),
            Err(error) => self.failed(&error),
        }
    }

    /// Writes changes and the position they lead to, as one. It is durable after the next flush.
    pub(super) fn write(&self, position: Position, changes: &Changes) {
        let mut batch = WriteBatch::default();
        for (key, record) in changes {
            let family = self.family(keys::table_of(key));
            match record {
                Some(record) => batch.put_cf(family, keys::encode(key), records::encode(record)),
                None => batch.delete_cf(family, keys::encode(key)),
            }
        }
        batch.put(POSITION_KEY, encode_position(position));
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        if let Err(error) = self.db.write_opt(batch, &options) {
            self.failed(&error);
        }
    }

    /// Makes everything written durable.
    pub(super) fn flush(&self) {
        let mut families: Vec<&ColumnFamily> = Table::ALL.iter().map(|table| self.family(*table)).collect();
        families.extend(self.db.cf_handle(rocksdb::DEFAULT_COLUMN_FAMILY_NAME));
        let families: Vec<&&ColumnFamily> = families.iter().collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        if let Err(error) = self.db.flush_cfs_opt(&families, &options) {
            self.failed(&error);
        }
    }

    #[cfg(test)]
    pub(super) fn settle(&self) {
        let mut options = rocksdb::WaitForCompactOptions::default();
        options.set_flush(true);
        self.db.wait_for_compact(&options).unwrap();
    }

    /// Hard links to all files as of now, in a folder that is not there yet. What is in memory is flushed first.
    pub(super) fn checkpoint(&self, folder: &Path) -> anyhow::Result<()> {
        let checkpoint =
            rocksdb::checkpoint::Checkpoint::new(&self.db).context("the store makes no checkpoint")?;
        checkpoint
            .create_checkpoint(folder)
            .with_context(|| format!("the store makes no checkpoint in {}", folder.display()))
    }

    pub(super) fn read_through(&self, mut pace: impl FnMut(u64) -> anyhow::Result<()>) -> anyhow::Result<()> {
        for table in Table::ALL {
            let mut options = rocksdb::ReadOptions::default();
            options.fill_cache(false);
            let mut rows = self.db.raw_iterator_cf_opt(self.family(*table), options);
            rows.seek_to_first();
            let mut bytes = 0;
            while let Some((key, value)) = rows.item() {
                bytes += (key.len() + value.len()) as u64;
                if bytes >= READ_STEP_BYTES {
                    pace(std::mem::take(&mut bytes))?;
                }
                rows.next();
            }
            if let Err(error) = rows.status() {
                self.failed(&error);
            }
            pace(bytes)?;
        }
        Ok(())
    }

    pub(super) fn count_row(&self) {
        self.rows_read.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn rows_read(&self) -> u64 {
        self.rows_read.load(Ordering::Relaxed)
    }

    /// Bytes in memory and on disk.
    pub(super) fn sizes(&self) -> (u64, u64) {
        let sum = |property: &str| {
            Table::ALL
                .iter()
                .filter_map(|table| {
                    self.db.property_int_value_cf(self.family(*table), property).ok().flatten()
                })
                .sum::<u64>()
        };
        let memory = self.cache.get_usage() as u64
            + sum("rocksdb.cur-size-all-mem-tables")
            + sum("rocksdb.estimate-table-readers-mem");
        (memory, sum("rocksdb.total-sst-files-size"))
    }

    /// RocksDB failed: the process ends.
    pub(super) fn failed(&self, error: &rocksdb::Error) -> ! {
        if error.kind() == rocksdb::ErrorKind::Corruption {
            self.mark_rotten(error);
        }
        fatal::end(
            format!("the store in {} failed: {error}", self.folder.display()),
            "Check that the disk is healthy and has room, then start again: the journal replays what the store misses",
        )
    }

    /// A row is not what it should be: the process ends.
    pub(super) fn damaged(&self, error: &CodecError) -> ! {
        self.mark_rotten(error);
        fatal::end(
            format!("the store in {} holds a damaged row: {error}", self.folder.display()),
            "Put back a copy of the store's folder from before and start again: the journal replays what came after",
        )
    }
}

/// Where it is noted that a store holds what it should not: beside its folder.
pub(crate) fn rotten_mark(store: &Path) -> PathBuf {
    store.with_extension("rotten")
}

impl Database {
    /// Has the next start put a good copy in place of this, if there is one.
    fn mark_rotten(&self, why: &dyn std::fmt::Display) {
        // The process ends anyway: without the note the next start finds out by itself.
        let _ = std::fs::write(rotten_mark(&self.folder), format!("{why}\n"));
    }
}

/// A store that nobody writes, and that is not changed by reading it.
pub struct ReadOnlyStore {
    db: DB,
    folder: PathBuf,
}

impl ReadOnlyStore {
    /// Opens the store in `folder`. Tables that it does not have yet are empty.
    ///
    /// # Errors
    /// It is damaged, of a newer release, or no store.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let shown = || format!("the store in {} cannot be read", folder.display());
        let options = Options::default();
        let there = DB::list_cf(&options, folder).with_context(shown)?;
        let known = |name: &&String| Table::ALL.iter().any(|table| table.family() == name.as_str());
        let families = there.iter().filter(known).map(String::as_str);
        let families: Vec<&str> =
            std::iter::once(rocksdb::DEFAULT_COLUMN_FAMILY_NAME).chain(families).collect();
        let db = DB::open_cf_for_read_only(&options, folder, families, false).with_context(shown)?;
        Ok(Self { db, folder: folder.to_owned() })
    }

    fn shown(&self) -> String {
        format!("the store in {} cannot be read", self.folder.display())
    }

    /// The journal position that it stands at.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn try_position(&self) -> anyhow::Result<Position> {
        let position = self.db.get(POSITION_KEY).with_context(|| self.shown())?;
        let position = position.map_or(Ok(Position::default()), |bytes| decode_position(&bytes));
        position.with_context(|| self.shown())
    }

    /// The last transaction in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn last_tx(&self) -> anyhow::Result<u64> {
        use super::records::Stored as _;
        let Some(family) = self.db.cf_handle(Table::Counters.family()) else { return Ok(0) };
        let row = self.db.get_cf(family, keys::counters::encode()).with_context(|| self.shown())?;
        let Some(bytes) = row else { return Ok(0) };
        let counters =
            steadfs_namenode_core::record::Counters::decode(&bytes).with_context(|| self.shown())?;
        Ok(counters.last_tx.0)
    }

    /// A row, if it is there.
    pub(super) fn row(&self, table: Table, key: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(family) = self.db.cf_handle(table.family()) else { return Ok(None) };
        self.db.get_cf(family, key).with_context(|| self.shown())
    }

    /// Hands the rows of a table from the key `first` on to `take`, until that says that it has enough.
    pub(super) fn rows_from(
        &self,
        table: Table,
        first: &[u8],
        mut take: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> anyhow::Result<()> {
        let Some(family) = self.db.cf_handle(table.family()) else { return Ok(()) };
        let mut rows = self.db.raw_iterator_cf(family);
        rows.seek(first);
        while let Some((key, value)) = rows.item()
            && take(key, value)
        {
            rows.next();
        }
        rows.status().with_context(|| self.shown())
    }

    /// Hands every row to `take`, by table and key.
    ///
    /// # Errors
    /// A row cannot be read, or `take` says so.
    pub fn for_each(
        &self,
        mut take: impl FnMut(Table, &[u8], &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for table in Table::ALL {
            let Some(family) = self.db.cf_handle(table.family()) else { continue };
            let mut rows = self.db.raw_iterator_cf(family);
            rows.seek_to_first();
            while let Some((key, value)) = rows.item() {
                take(*table, key, value)?;
                rows.next();
            }
            rows.status().with_context(|| self.shown())?;
        }
        Ok(())
    }
}

fn encode_position(position: Position) -> Vec<u8> {
    let mut out = Writer::new();
    out.byte(POSITION_VERSION);
    out.number(position.index);
    out.raw(&position.hash.to_le_bytes());
    out.into_bytes()
}

fn decode_position(bytes: &[u8]) -> Result<Position, CodecError> {
    let mut input = Reader::new("journal position", bytes);
    if input.byte()? != POSITION_VERSION {
        return Err(input.error("it was written by a newer version of SteadFS"));
    }
    let position = Position { index: input.number()?, hash: u64::from_le_bytes(input.array()?) };
    input.end()?;
    Ok(position)
}

fn database_options(config: &StoreConfig) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // All tables reach the disk as of the same position, or none.
    options.set_atomic_flush(true);
    options.set_db_write_buffer_size(config.write_buffer_bytes);
    options.set_max_open_files(config.max_open_files);
    options.set_paranoid_checks(true);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(SYNC_STEP_BYTES);
    options.set_keep_log_file_num(LOG_FILES);
    options.set_max_log_file_size(LOG_FILE_BYTES);
    options
}

fn family_options(config: &StoreConfig, cache: &rocksdb::Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(BLOCK_BYTES);
    // Indexes and filters live in the cache too, so that memory has one bound; in pieces, since a block that is larger than
    // a shard of the cache (capacity / 64) is read and checked anew by every look-up: with 10 million files, 5 ms each.
    table.set_cache_index_and_filter_blocks(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(METADATA_BLOCK_BYTES);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_bloom_filter(BLOOM_BITS, false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(config.write_buffer_bytes / 2);
    options.set_max_write_buffer_number(4);
    options.set_level_compaction_dynamic_level_bytes(true);
    // What is deleted in bulk, or as fast as it is made (leases, saved answers, trees to reclaim), is soon passed over by no
    // reader any more.
    options.add_compact_on_deletion_collector_factory(DELETION_WINDOW, DELETIONS, DELETION_SHARE);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options
}

/// A snapshot of a database it keeps open.
pub(super) type SnapshotOf<'a> = rocksdb::Snapshot<'a>;

self_cell::self_cell! {
    /// A RocksDB snapshot that keeps its database alive.
    pub(super) struct Snapshot {
        owner: Arc<Database>,
        #[covariant]
        dependent: SnapshotOf,
    }
}

impl Snapshot {
    pub(super) fn take(database: Arc<Database>) -> Self {
        Self::new(database, |database| database.db.snapshot())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_position() {
        let position = Position { index: 300, hash: 0x0102 };
        let bytes = encode_position(position);
        assert_eq!(bytes, [1, 0xac, 2, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode_position(&bytes).unwrap(), position);
    }
}
