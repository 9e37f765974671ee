//! The numbers by which the kernel knows files: their inode ids in the cluster, and beside them other numbers of the same
//! file.
//!
//! While the kernel reads a file through to a local one, it lets nobody open it in any other way: neither for writing, nor
//! with another content that took the old one's place. Then the file gets another number: the open is answered with ESTALE,
//! the kernel looks the name up again, finds the other number, and opens that. Handles of the old number go on as they are.
//! Programs do not see these numbers.

use quick_cache::sync::Cache;

/// Above an inode id stands which of its numbers this is; 0 is the id itself.
const SHIFT: u32 = 56;
/// Numbers of one file at most.
const MAX_ALIAS: u8 = 126;
/// Files with other numbers that are remembered. The kernel asks again within half a minute about one that is forgotten.
const REMEMBERED: usize = 65_536;

/// The inode id in a number of the kernel's, and which of its numbers it is.
pub(crate) const fn split(node: u64) -> (u64, u8) {
    (node & ((1 << SHIFT) - 1), (node >> SHIFT) as u8)
}

pub(crate) const fn joined(inode: u64, alias: u8) -> u64 {
    inode | (alias as u64) << SHIFT
}

/// Which numbers files have beside their inode ids.
pub(crate) struct Nodes {
    /// The number that is told now, and the highest that was.
    table: Cache<u64, (u8, u8)>,
}

impl Nodes {
    pub(crate) fn new() -> Self {
        Self { table: Cache::new(REMEMBERED) }
    }

    /// The number by which a file is told to the kernel.
    pub(crate) fn of(&self, inode: u64) -> u64 {
        self.table.get(&inode).map_or(inode, |(now, _)| joined(inode, now))
    }

    /// All numbers by which the kernel may know it.
    pub(crate) fn all(&self, inode: u64) -> impl Iterator<Item = u64> + use<> {
        let highest = self.table.get(&inode).map_or(0, |(_, highest)| highest);
        (0..=highest).map(move |alias| joined(inode, alias))
    }

    /// A number that was told before this process began.
    pub(crate) fn note(&self, inode: u64, alias: u8) {
        if alias > 0 {
            let highest = self.table.get(&inode).map_or(0, |(_, highest)| highest);
            self.table.insert(inode, (alias, highest.max(alias)));
        }
    }

    /// Tells the file by another number from now on, if it is told by `alias` still. False if all are in use.
    pub(crate) fn turn(&self, inode: u64, alias: u8, is_free: impl Fn(u8) -> bool) -> bool {
        let (now, highest) = self.table.get(&inode).unwrap_or((0, 0));
        if now != alias {
            return true;
        }
        let Some(next) = (0..=MAX_ALIAS).find(|next| *next != alias && is_free(*next)) else { return false };
        self.table.insert(inode, (next, highest.max(next)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_another_number_and_is_found_by_all() {
        let nodes = Nodes::new();
        assert_eq!(nodes.of(77), 77);
        assert!(nodes.turn(77, 0, |alias| alias != 1));
        let second = nodes.of(77);
        assert_eq!(split(second), (77, 2));
        assert_eq!(nodes.all(77).map(split).collect::<Vec<_>>(), [(77, 0), (77, 1), (77, 2)]);
        // Somebody else turned it already.
        assert!(nodes.turn(77, 0, |_| true));
        assert_eq!(nodes.of(77), second);
        assert!(!nodes.turn(77, 2, |_| false));
        assert!(nodes.turn(77, 2, |_| true));
        assert_eq!(nodes.of(77), 77);
        assert_eq!(nodes.all(77).count(), 3);
    }
}
