//! The locks on one file.

use super::{ByteRange, LockMode, LockOwner};

/// A lock that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) owner: LockOwner,
    pub(super) mode: LockMode,
    pub(super) range: ByteRange,
    pub(super) pid: u32,
}

/// Puts a lock in place of what its owner holds of these bytes. Equal locks side by side become one.
pub(super) fn put(held: &mut Vec<Held>, mut lock: Held) {
    remove(held, lock.owner, lock.range);
    held.retain(|other| {
        let joins = other.owner == lock.owner && other.mode == lock.mode && other.range.touches(lock.range);
        if joins {
            lock.range.first = lock.range.first.min(other.range.first);
            lock.range.last = lock.range.last.max(other.range.last);
        }
        !joins
    });
    held.push(lock);
}

/// Takes away what `owner` holds of these bytes; what it holds before and behind stays.
pub(super) fn remove(held: &mut Vec<Held>, owner: LockOwner, range: ByteRange) {
    let mut rest = Vec::new();
    held.retain(|lock| {
        if lock.owner != owner || !lock.range.meets(range) {
            return true;
        }
        if let Some(last) = range.first.checked_sub(1)
            && let Some(before) = ByteRange::new(lock.range.first, last)
        {
            rest.push(Held { range: before, ..*lock });
        }
        if let Some(first) = range.last.checked_add(1)
            && let Some(behind) = ByteRange::new(first, lock.range.last)
        {
            rest.push(Held { range: behind, ..*lock });
        }
        false
    });
    held.extend(rest);
}
