//! What a session holds, to take it up again.

use std::collections::BTreeMap;

use steadfs_common::InodeId;

use super::{LockTarget, LockWish};

/// A lock that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    first: u64,
    last: u64,
    exclusive: bool,
    pid: u32,
}

/// The locks of one session, by file, kind and owner. Whole files and bytes know nothing of each other.
#[derive(Default)]
pub(super) struct HeldLocks {
    locks: BTreeMap<(InodeId, bool, u64), Vec<Held>>,
}

impl HeldLocks {
    /// A wish was granted, in place of what its owner held of these bytes.
    pub(super) fn put(&mut self, wish: &LockWish) {
        self.remove(wish.inode, wish.owner, wish.target);
        let (first, last) = wish.target.bytes();
        let held = Held { first, last, exclusive: wish.exclusive, pid: wish.pid };
        self.locks.entry(key(wish.inode, wish.owner, wish.target)).or_default().push(held);
    }

    /// An owner gives up what it holds of these bytes.
    pub(super) fn remove(&mut self, inode: InodeId, owner: u64, target: LockTarget) {
        let (key, (first, last)) = (key(inode, owner, target), target.bytes());
        let Some(locks) = self.locks.get_mut(&key) else { return };
        let mut rest = Vec::with_capacity(locks.len());
        for held in locks.drain(..) {
            if held.last < first || last < held.first {
                rest.push(held);
                continue;
            }
            if held.first < first {
                rest.push(Held { last: first - 1, ..held });
            }
            if last < held.last {
                rest.push(Held { first: last + 1, ..held });
            }
        }
        if rest.is_empty() {
            self.locks.remove(&key);
        } else {
            *locks = rest;
        }
    }

    /// Forgets all; false if there was nothing.
    pub(super) fn take(&mut self) -> bool {
        !std::mem::take(&mut self.locks).is_empty()
    }

    /// All, as the wishes that would have made them.
    pub(super) fn all(&self) -> Vec<LockWish> {
        self.locks.iter().flat_map(|(key, held)| held.iter().map(move |held| held.wish(key))).collect()
    }

    /// Those of one owner on one file.
    pub(super) fn of(&self, inode: InodeId, owner: u64, whole: bool) -> Vec<LockWish> {
        let key = (inode, whole, owner);
        self.locks.get(&key).into_iter().flatten().map(|held| held.wish(&key)).collect()
    }
}

impl Held {
    /// The wish that would have made it.
    const fn wish(&self, key: &(InodeId, bool, u64)) -> LockWish {
        let target =
            if key.1 { LockTarget::Whole } else { LockTarget::Bytes { first: self.first, last: self.last } };
        LockWish { inode: key.0, owner: key.2, target, exclusive: self.exclusive, pid: self.pid }
    }
}

const fn key(inode: InodeId, owner: u64, target: LockTarget) -> (InodeId, bool, u64) {
    (inode, matches!(target, LockTarget::Whole), owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(first: u64, last: u64, exclusive: bool) -> LockWish {
        let target = LockTarget::Bytes { first, last };
        LockWish { inode: InodeId(1), owner: 1, target, exclusive, pid: 9 }
    }

    #[test]
    fn locks_are_kept_as_the_server_keeps_them() {
        let mut held = HeldLocks::default();
        held.put(&wish(0, 99, false));
        held.put(&wish(40, 59, true));
        held.remove(InodeId(1), 1, LockTarget::Bytes { first: 0, last: 9 });
        let mut all = held.all();
        all.sort_by_key(|wish| wish.target);
        assert_eq!(all, [wish(10, 39, false), wish(40, 59, true), wish(60, 99, false)]);
        held.put(&LockWish { target: LockTarget::Whole, ..wish(0, 0, true) });
        assert_eq!(held.all().len(), 4);
        held.remove(InodeId(1), 1, LockTarget::Bytes { first: 0, last: u64::MAX });
        assert_eq!(held.all().len(), 1);
        assert!(held.take() && !held.take());
    }
}
