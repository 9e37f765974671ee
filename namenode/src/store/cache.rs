//! Decoded inodes and names in front of RocksDB.
//!
//! A cached value knows the journal index it was read at; a reader knows the index its view stands at. The value serves
//! the reader if the row did not change between the two. Which rows changed when is kept by [`Stamps`]: a fixed table in
//! which each row has a slot, by hash, that holds the index of the last batch that changed a row of that slot. The
//! writer raises the slots before it writes a batch, so a value put into the cache too late, by a reader who was
//! overtaken, is seen to be stale and needs no lock to keep it out. Rows that share a slot cost each other a miss, no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use steadfs_common::{InodeId, Name};
use steadfs_namenode_core::record::Inode;
use steadfs_namenode_core::{Changes, Key, Record};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Slots of [`Stamps`]; a power of two. 2 MiB, so that a batch of a thousand changes spoils few rows that did not change.
const STAMP_SLOTS: usize = 1 << 18;

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

fn inode_hash(id: InodeId) -> u64 {
    xxh3_64_with_seed(&id.0.to_le_bytes(), 0)
}

fn entry_hash(folder: InodeId, name: &Name) -> u64 {
    xxh3_64_with_seed(name.as_str().as_bytes(), folder.0)
}

/// Bounded by numbers of rows; which to keep is quick_cache's policy.
pub(super) struct Cache {
    inodes: quick_cache::sync::Cache<InodeId, Cached<Option<Arc<Inode>>>>,
    entries: quick_cache::sync::Cache<(InodeId, Name), Cached<Option<InodeId>>>,
    stamps: Stamps,
}

impl Cache {
    pub(super) fn new(inodes: usize, entries: usize) -> Self {
        Self {
            inodes: quick_cache::sync::Cache::new(inodes.max(1)),
            entries: quick_cache::sync::Cache::new(entries.max(1)),
            stamps: Stamps((0..STAMP_SLOTS).map(|_| AtomicU64::new(0)).collect()),
        }
    }

    /// The inode as of `at`, if that is known: `Some(None)` if it is known that there is none.
    pub(super) fn inode(&self, at: u64, id: InodeId) -> Option<Option<Arc<Inode>>> {
        let cached = self.inodes.get(&id)?;
        self.stamps.unchanged(inode_hash(id), cached.at, at).then_some(cached.value)
    }

    /// Keeps what was read at `at`.
    pub(super) fn keep_inode(&self, at: u64, id: InodeId, value: Option<Arc<Inode>>) {
        self.inodes.insert(id, Cached { at, value });
    }

    /// What a name stood for as of `at`, if that is known.
    pub(super) fn entry(&self, at: u64, folder: InodeId, name: &Name) -> Option<Option<InodeId>> {
        let cached = self.entries.get(&(folder, name.clone()))?;
        self.stamps.unchanged(entry_hash(folder, name), cached.at, at).then_some(cached.value)
    }

    /// Keeps what was read at `at`.
    pub(super) fn keep_entry(&self, at: u64, folder: InodeId, name: &Name, value: Option<InodeId>) {
        self.entries.insert((folder, name.clone()), Cached { at, value });
    }

    /// Batch `at` is about to change these rows. To be called before it is written.
    pub(super) fn changing<'a>(&self, at: u64, keys: impl Iterator<Item = &'a Key>) {
        for key in keys {
            match key {
                Key::Inode(id) => self.stamps.slot(inode_hash(*id)).store(at, Ordering::Release),
                Key::Entry(folder, name) => {
                    self.stamps.slot(entry_hash(*folder, name)).store(at, Ordering::Release);
                }
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
                _ => {}
            }
        }
    }
}
