//! Decoded inodes, names, totals, blocks and pages of folders in front of RocksDB.
//!
//! A cached value knows the journal index it was read at; a reader knows the index its view stands at. The value serves
//! the reader if the row did not change between the two. Which rows changed when is kept by [`Stamps`]: a fixed table in
//! which each row has a slot, by hash, that holds the index of the last batch that changed a row of that slot. The
//! writer raises the slots before it writes a batch, so a value put into the cache too late, by a reader who was
//! overtaken, is seen to be stale and needs no lock to keep it out. Rows that share a slot cost each other a miss, no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache as Kept;
use quick_cache::{Equivalent, Weighter};
use steadfs_common::{BlockId, InodeId, Name};
use steadfs_namenode_core::record::{Block, Inode, Totals};
use steadfs_namenode_core::{Changes, Children, Key, Record};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Slots of [`Stamps`]; a power of two. 2 MiB, so that a batch of a thousand changes spoils few rows that did not change.
const STAMP_SLOTS: usize = 1 << 18;

/// Folders whose totals are kept: every change asks for those of all folders above.
const TOTALS: usize = 1 << 16;
/// Blocks kept, and as many places of blocks in files; no more than inodes.
const BLOCKS: usize = 1 << 16;
/// About what a page takes in memory for each entry: name, inode, and what a door made of it.
const ENTRY_BYTES: u64 = 640;
/// And besides.
const PAGE_BYTES: u64 = 256;
/// A page of usual length: how many pages there may be, for the table of them.
const USUAL_PAGE_BYTES: u64 = 64 << 10;

#[derive(Clone)]
struct Cached<T> {
    /// The journal index the value was read at.
    at: u64,
    value: T,
}

struct Stamps(Box<[AtomicU64]>);

impl Stamps {
    fn slot(&self, hash: u64) -> &AtomicU64 {
        &self.0[hash as usize & (STAMP_SLOTS - 1)]
    }

    /// Whether a row with this hash is the same at both indexes, for all that is known.
    fn unchanged(&self, hash: u64, one: u64, other: u64) -> bool {
        self.slot(hash).load(Ordering::Acquire) <= one.min(other)
    }
}

impl Stamps {
    /// The value, if its row is the same at `at` as when it was read.
    fn current<T>(&self, hash: u64, cached: Cached<T>, at: u64) -> Option<T> {
        self.unchanged(hash, cached.at, at).then_some(cached.value)
    }

    fn raise(&self, hash: u64, at: u64) {
        self.slot(hash).store(at, Ordering::Release);
    }
}

/// Rows of different tables under one id have different hashes.
const INODE_SEED: u64 = 0;
const TOTALS_SEED: u64 = 1 << 61;
const CHILDREN_SEED: u64 = 2 << 61;
const BLOCK_SEED: u64 = 3 << 61;
const FILE_BLOCK_SEED: u64 = 4 << 61;

fn hash(seed: u64, id: u64) -> u64 {
    xxh3_64_with_seed(&id.to_le_bytes(), seed)
}

fn inode_hash(id: InodeId) -> u64 {
    hash(INODE_SEED, id.0)
}

fn entry_hash(folder: InodeId, name: &Name) -> u64 {
    xxh3_64_with_seed(name.as_str().as_bytes(), folder.0)
}

/// Of all pages of a folder.
fn children_hash(folder: InodeId) -> u64 {
    hash(CHILDREN_SEED, folder.0)
}

/// Of all places of blocks in a file.
fn file_block_hash(file: InodeId) -> u64 {
    hash(FILE_BLOCK_SEED, file.0)
}

/// A name in a folder, to look it up without making a key of it.
#[derive(Hash)]
struct EntryKey<'a>(InodeId, &'a Name);

impl Equivalent<(InodeId, Name)> for EntryKey<'_> {
    fn equivalent(&self, key: &(InodeId, Name)) -> bool {
        self.0 == key.0 && *self.1 == key.1
    }
}

/// Which page: the folder, the name it begins after, and how many entries it may have.
#[derive(Clone, PartialEq, Eq, Hash)]
struct PageKey(InodeId, Option<Name>, usize);

#[derive(Clone)]
struct PageWeight;

impl Weighter<PageKey, Cached<Arc<Children>>> for PageWeight {
    fn weight(&self, _key: &PageKey, page: &Cached<Arc<Children>>) -> u64 {
        PAGE_BYTES + ENTRY_BYTES * page.value.rows.len() as u64
    }
}

/// Bounded by numbers of rows, pages by bytes; which to keep is quick_cache's policy.
pub(super) struct Cache {
    inodes: Kept<InodeId, Cached<Option<Arc<Inode>>>>,
    entries: Kept<(InodeId, Name), Cached<Option<InodeId>>>,
    totals: Kept<InodeId, Cached<Totals>>,
    blocks: Kept<BlockId, Cached<Option<Block>>>,
    file_blocks: Kept<(InodeId, u32), Cached<Option<BlockId>>>,
    pages: Kept<PageKey, Cached<Arc<Children>>, PageWeight>,
    stamps: Stamps,
}

impl Cache {
    pub(super) fn new(inodes: usize, entries: usize, page_bytes: u64) -> Self {
        let pages = (page_bytes / USUAL_PAGE_BYTES).max(1) as usize;
        Self {
            inodes: Kept::new(inodes.max(1)),
            entries: Kept::new(entries.max(1)),
            totals: Kept::new(TOTALS),
            blocks: Kept::new(BLOCKS.min(inodes.max(1))),
            file_blocks: Kept::new(BLOCKS.min(inodes.max(1))),
            pages: Kept::with_weighter(pages, page_bytes, PageWeight),
            stamps: Stamps((0..STAMP_SLOTS).map(|_| AtomicU64::new(0)).collect()),
        }
    }

    /// The inode as of `at`, if that is known: `Some(None)` if it is known that there is none.
    pub(super) fn inode(&self, at: u64, id: InodeId) -> Option<Option<Arc<Inode>>> {
        self.stamps.current(inode_hash(id), self.inodes.get(&id)?, at)
    }

    /// Keeps what was read at `at`.
    pub(super) fn keep_inode(&self, at: u64, id: InodeId, value: Option<Arc<Inode>>) {
        self.inodes.insert(id, Cached { at, value });
    }

    /// What a name stood for as of `at`, if that is known.
    pub(super) fn entry(&self, at: u64, folder: InodeId, name: &Name) -> Option<Option<InodeId>> {
        let cached = self.entries.get(&EntryKey(folder, name))?;
        self.stamps.current(entry_hash(folder, name), cached, at)
    }

    /// Keeps what was read at `at`.
    pub(super) fn keep_entry(&self, at: u64, folder: InodeId, name: &Name, value: Option<InodeId>) {
        self.entries.insert((folder, name.clone()), Cached { at, value });
    }

    /// A folder's totals as of `at`, if they are known.
    pub(super) fn totals(&self, at: u64, folder: InodeId) -> Option<Totals> {
        self.stamps.current(hash(TOTALS_SEED, folder.0), self.totals.get(&folder)?, at)
    }

    /// Keeps what was read at `at`.
    pub(super) fn keep_totals(&self, at: u64, folder: InodeId, value: Totals) {
        self.totals.insert(folder, Cached { at, value });
    }

    /// The block as of `at`, if that is known.
    pub(super) fn block(&self, at: u64, id: BlockId) -> Option<Option<Block>> {
        self.stamps.current(hash(BLOCK_SEED, id.0), self.blocks.get(&id)?, at)
    }

    /// Keeps what was read at `at`.
    pub(super) fn keep_block(&self, at: u64, id: BlockId, value: Option<Block>) {
        self.blocks.insert(id, Cached { at, value });
    }

    /// The block at an index of a file as of `at`, if that is known.
    pub(super) fn file_block(&self, at: u64, file: InodeId, index: u32) -> Option<Option<BlockId>> {
        self.stamps.current(file_block_hash(file), self.file_blocks.get(&(file, index))?, at)
    }

    /// Keeps what was read at `at`.
    pub(super) fn keep_file_block(&self, at: u64, file: InodeId, index: u32, value: Option<BlockId>) {
        self.file_blocks.insert((file, index), Cached { at, value });
    }

    /// A page of a folder as of `at`, if it is known.
    pub(super) fn page(
        &self,
        at: u64,
        folder: InodeId,
        after: Option<&Name>,
        limit: usize,
    ) -> Option<Arc<Children>> {
        let cached = self.pages.get(&PageKey(folder, after.cloned(), limit))?;
        self.stamps.current(children_hash(folder), cached, at)
    }

    /// Keeps what was read at `at`.
    pub(super) fn keep_page(
        &self,
        at: u64,
        folder: InodeId,
        after: Option<&Name>,
        limit: usize,
        page: Arc<Children>,
    ) {
        self.pages.insert(PageKey(folder, after.cloned(), limit), Cached { at, value: page });
    }

    /// Batch `at` is about to change these rows. To be called before it is written.
    ///
    /// A folder's pages are other ones when a name in it or an inode that lies in it changes. An inode is removed with its
    /// name, or after it.
    pub(super) fn changing(&self, at: u64, changes: &Changes) {
        let raise = |hash| self.stamps.raise(hash, at);
        for (key, record) in changes {
            match key {
                Key::Inode(id) => {
                    raise(inode_hash(*id));
                    if let Some(Record::Inode(inode)) = record {
                        raise(children_hash(inode.parent));
                    }
                }
                Key::Entry(folder, name) => {
                    raise(entry_hash(*folder, name));
                    raise(children_hash(*folder));
                }
                Key::Totals(id) => raise(hash(TOTALS_SEED, id.0)),
                Key::Block(id) => raise(hash(BLOCK_SEED, id.0)),
                Key::FileBlock(file, _) => raise(file_block_hash(*file)),
                _ => {}
            }
        }
    }

    /// Batch `at` is published: what it changed is likely to be asked for next.
    pub(super) fn changed(&self, at: u64, changes: &Changes) {
        for (key, record) in changes {
            match (key, record) {
                (Key::Inode(id), Some(Record::Inode(inode))) => {
                    self.keep_inode(at, *id, Some(Arc::new(inode.clone())));
                }
                (Key::Inode(id), _) => {
                    self.inodes.remove(id);
                }
                (Key::Entry(folder, name), Some(Record::Entry(id))) => {
                    self.keep_entry(at, *folder, name, Some(*id));
                }
                (Key::Entry(folder, name), _) => self.keep_entry(at, *folder, name, None),
                (Key::Totals(id), Some(Record::Totals(totals))) => self.keep_totals(at, *id, *totals),
                (Key::Totals(id), _) => {
                    self.totals.remove(id);
                }
                _ => {}
            }
        }
    }
}
