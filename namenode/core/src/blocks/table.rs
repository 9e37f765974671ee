//! Complete blocks by id, compactly: about 14 bytes a replica at three replicas a block.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use steadfs_common::{BlockId, GenStamp};

use super::places::Places;

/// Blocks of one page share all but this many low bits of their id. Ids count up, so pages are nearly full.
const PAGE_BITS: u32 = 7;
const LOW: u64 = (1 << PAGE_BITS) - 1;

/// What is known of a complete block.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) stamp: GenStamp,
    pub(super) length: u64,
    /// Storages with a good replica: right stamp, right length, not known to be bad.
    pub(super) places: Places,
    /// How many are wanted.
    pub(super) replication: u16,
    /// The low bits of the id.
    low: u8,
    /// Whether it counts as safe for safe mode.
    pub(super) safe: bool,
}

/// Pages of entries in order of id.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pages: BTreeMap<u64, Vec<Entry>>,
    len: u64,
}

const fn page_of(id: BlockId) -> u64 {
    id.0 >> PAGE_BITS
}

const fn low_of(id: BlockId) -> u8 {
    (id.0 & LOW) as u8
}

const fn id_of(page: u64, entry: &Entry) -> BlockId {
    BlockId((page << PAGE_BITS) | entry.low as u64)
}

fn find(page: &[Entry], id: BlockId) -> Result<usize, usize> {
    page.binary_search_by_key(&low_of(id), |entry| entry.low)
}

impl Table {
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// The last block.
    pub(super) fn last(&self) -> Option<BlockId> {
        let (page, entries) = self.pages.last_key_value()?;
        entries.last().map(|entry| id_of(*page, entry))
    }

    pub(super) fn get(&self, id: BlockId) -> Option<&Entry> {
        let page = self.pages.get(&page_of(id))?;
        find(page, id).ok().map(|at| &page[at])
    }

    pub(super) fn get_mut(&mut self, id: BlockId) -> Option<&mut Entry> {
        let page = self.pages.get_mut(&page_of(id))?;
        find(page, id).ok().map(|at| &mut page[at])
    }

    /// Puts a block without replicas there, in place of what was known before.
    pub(super) fn insert(&mut self, id: BlockId, stamp: GenStamp, length: u64, replication: u16) {
        let entry =
            Entry { stamp, length, places: Places::default(), replication, low: low_of(id), safe: false };
        let page = self.pages.entry(page_of(id)).or_default();
        match find(page, id) {
            Ok(at) => page[at] = entry,
            Err(at) => {
                if page.len() == page.capacity() {
                    // Doubling would waste a third of the memory.
                    page.reserve_exact((page.len() / 8).max(4));
                }
                page.insert(at, entry);
                self.len += 1;
            }
        }
    }

    pub(super) fn remove(&mut self, id: BlockId) -> Option<Entry> {
        let page = self.pages.get_mut(&page_of(id))?;
        let entry = page.remove(find(page, id).ok()?);
        if page.is_empty() {
            self.pages.remove(&page_of(id));
        }
        self.len -= 1;
        Some(entry)
    }

    /// The blocks with these ids, in order.
    pub(super) fn range(&self, ids: RangeInclusive<BlockId>) -> impl Iterator<Item = (BlockId, &Entry)> {
        let (first, last) = (*ids.start(), *ids.end());
        let pages = if first <= last { page_of(first)..page_of(last).saturating_add(1) } else { 0..0 };
        self.pages
            .range(pages)
            .flat_map(|(page, entries)| entries.iter().map(|entry| (id_of(*page, entry), entry)))
            .skip_while(move |(id, _)| *id < first)
            .take_while(move |(id, _)| *id <= last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_is_forty_bytes() {
        assert_eq!(size_of::<Entry>(), 40);
    }

    #[test]
    fn pages_do_not_waste_memory() {
        let mut table = Table::default();
        for number in 0..100_000 {
            table.insert(BlockId(1_073_741_825 + number), GenStamp(1), 1, 3);
        }
        let bytes: usize = table.pages.values().map(|page| page.capacity() * size_of::<Entry>() + 48).sum();
        assert!(bytes / 100_000 <= 48, "{} bytes a block: over 16 a replica", bytes / 100_000);
    }

    proptest! {
        #[test]
        fn a_table_is_a_sorted_map(
            steps in prop::collection::vec((any::<bool>(), prop_oneof![0_u64..600, Just(u64::MAX)]), 0..300),
            first in 0_u64..700, span in 0_u64..700,
        ) {
            let mut table = Table::default();
            let mut model = BTreeMap::new();
            for (at, (add, id)) in steps.into_iter().enumerate() {
                if add {
                    table.insert(BlockId(id), GenStamp(at as u64), 0, 1);
                    model.insert(id, at as u64);
                } else {
                    prop_assert_eq!(table.remove(BlockId(id)).map(|entry| entry.stamp.0), model.remove(&id));
                }
                prop_assert_eq!(table.get(BlockId(id)).map(|entry| entry.stamp.0), model.get(&id).copied());
                prop_assert_eq!(table.len(), model.len() as u64);
            }
            for range in [first..=first + span, first..=u64::MAX - 1] {
                let ids = BlockId(*range.start())..=BlockId(*range.end());
                let got: Vec<_> = table.range(ids).map(|(id, entry)| (id.0, entry.stamp.0)).collect();
                let want: Vec<_> = model.range(range).map(|(id, stamp)| (*id, *stamp)).collect();
                prop_assert_eq!(got, want);
            }
        }
    }
}
