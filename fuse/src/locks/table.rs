//! Which owners hold or wait for what, and the rows that say so to the next server.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuser::Errno;
use steadfs_client::{InodeId, LockTarget, LockWish};

use super::rows::{Row, What};
use crate::errno::Answer;
use crate::handoff::{MAX_LOCK_ROWS, Memory};

/// Rows that are kept free for locks that fall apart when a part of them is given up.
const SPARE_ROWS: usize = 1_024;

/// Whose locks of a file: those of the whole file and those of bytes know nothing of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) inode: u64,
    pub(super) owner: u64,
    pub(super) whole: bool,
    /// The user whose session it is.
    pub(super) user: u32,
}

#[derive(Default)]
struct Entry {
    /// The handle through which a lock was asked for last.
    handle: u64,
    /// The session in which `held` is held.
    session: u64,
    held: Vec<(LockWish, Option<u32>)>,
    asked: Vec<Asked>,
    /// Calls under way that give something up.
    unlocking: usize,
    /// Something of it was lost, and the program did not say since that it does without.
    lost: bool,
}

struct Asked {
    name: u64,
    row: Option<u32>,
    /// By a server before this one, and not yet again.
    left: bool,
}

impl Entry {
    const fn is_over(&self) -> bool {
        self.held.is_empty() && self.asked.is_empty() && self.unlocking == 0 && !self.lost
    }
}

/// What a server before this one had, by user: session, locks, wishes.
pub(super) type Left = HashMap<u32, (u64, Vec<LockWish>, Vec<(Key, u64)>)>;

/// The table.
pub(super) struct Table {
    memory: Memory,
    entries: BTreeMap<Key, Entry>,
    free: Vec<u32>,
    next: u32,
    /// Entries that have lost something.
    lost: Arc<AtomicUsize>,
}

/// The users who have rows.
pub(super) fn users(memory: &Memory) -> io::Result<Vec<u32>> {
    let mut users: Vec<u32> = rows(memory)?.map(|(_, row)| row.key.user).collect();
    users.sort_unstable();
    users.dedup();
    Ok(users)
}

/// The files that are locked.
pub(super) fn inodes(memory: &Memory) -> io::Result<Vec<u64>> {
    Ok(rows(memory)?.map(|(_, row)| row.key.inode).collect())
}

fn rows(memory: &Memory) -> io::Result<impl Iterator<Item = (u32, Row)>> {
    let rows = memory.lock_rows()?;
    Ok((0..).zip(rows).filter_map(|(number, row)| Some((number, Row::read(&row)?))))
}

impl Table {
    pub(super) fn new(memory: Memory) -> Self {
        Self { memory, entries: BTreeMap::new(), free: Vec::new(), next: 0, lost: Arc::default() }
    }

    /// How many entries have lost something, for who asks often.
    pub(super) fn lost(&self) -> Arc<AtomicUsize> {
        self.lost.clone()
    }

    /// Reads the rows of a server before this one.
    pub(super) fn take_over(&mut self) -> io::Result<Left> {
        let mut left = Left::new();
        let rows: Vec<(u32, Row)> = rows(&self.memory)?.collect();
        for (_, row) in &rows {
            // A later session has the greater number; what is of an earlier one was lost with it.
            let user = left.entry(row.key.user).or_default();
            user.0 = user.0.max(row.session);
        }
        for (number, row) in rows {
            self.free.extend(self.next..number);
            self.next = number + 1;
            let user = left.entry(row.key.user).or_default();
            let entry = self.entries.entry(row.key).or_default();
            (entry.handle, entry.session) = (row.handle, user.0);
            match row.what {
                What::Asked { name } => {
                    entry.asked.push(Asked { name, row: Some(number), left: true });
                    user.2.push((row.key, name));
                }
                What::Held { first, last, exclusive, process } => {
                    let target =
                        if row.key.whole { LockTarget::Whole } else { LockTarget::Bytes { first, last } };
                    let (inode, owner) = (InodeId(row.key.inode), row.key.owner);
                    let wish = LockWish { inode, owner, target, exclusive, pid: process };
                    entry.held.push((wish, Some(number)));
                    if row.session == user.0 {
                        user.1.push(wish);
                    }
                }
            }
        }
        Ok(left)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    /// What an owner has of a file, whichever user asked.
    pub(super) fn of_owner(&self, inode: u64, owner: u64, whole: bool) -> Vec<Key> {
        let (first, last) =
            (Key { inode, owner, whole, user: 0 }, Key { inode, owner, whole, user: u32::MAX });
        self.entries.range(first..=last).map(|(key, _)| *key).collect()
    }

    /// What was taken through a handle.
    pub(super) fn of_handle(&self, inode: u64, handle: u64) -> Vec<Key> {
        self.of_inode(inode).filter(|(_, entry)| entry.handle == handle).map(|(key, _)| *key).collect()
    }

    fn of_inode(&self, inode: u64) -> impl Iterator<Item = (&Key, &Entry)> {
        let first = Key { inode, owner: 0, whole: false, user: 0 };
        let last = Key { inode, owner: u64::MAX, whole: true, user: u32::MAX };
        self.entries.range(first..=last)
    }

    /// Whose sessions the locks of a handle are in.
    pub(super) fn users_of_handle(&self, inode: u64, handle: u64) -> Vec<u32> {
        let keys = self.of_inode(inode).filter(|(_, entry)| entry.handle == handle);
        let mut users: Vec<u32> = keys.map(|(key, _)| key.user).collect();
        users.dedup();
        users
    }

    pub(super) fn is_lost(&self, key: &Key) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.lost)
    }

    pub(super) fn is_handle_lost(&self, inode: u64, handle: u64) -> bool {
        self.of_inode(inode).any(|(_, entry)| entry.lost && entry.handle == handle)
    }

    /// Notes that a lock is asked for, under a name if it is waited for.
    pub(super) fn begin_asking(&mut self, key: &Key, name: u64, session: u64, handle: u64) -> Answer<()> {
        if self.free.len() + MAX_LOCK_ROWS - (self.next as usize) < SPARE_ROWS {
            return Err(Errno::ENOLCK);
        }
        let entry = self.entries.entry(*key).or_default();
        entry.handle = handle;
        if let Some(asked) = entry.asked.iter_mut().find(|asked| asked.name == name && name != 0) {
            asked.left = false;
            return Ok(());
        }
        let what = What::Asked { name };
        let row = (name != 0).then(|| self.add(Row { key: *key, session, handle, what })).flatten();
        self.entries.entry(*key).or_default().asked.push(Asked { name, row, left: false });
        Ok(())
    }

    pub(super) fn end_asking(&mut self, key: &Key, name: u64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let at = entry.asked.iter().position(|asked| asked.name == name);
        let row = at.and_then(|at| entry.asked.swap_remove(at).row);
        self.remove(row);
        self.forget_if_over(key);
    }

    /// Whether only a server before this one asked for it.
    pub(super) fn is_left_asking(&self, key: &Key, name: u64) -> bool {
        let asked = self.entries.get(key).map(|entry| &entry.asked);
        asked.is_some_and(|asked| asked.iter().any(|asked| asked.name == name && asked.left))
    }

    pub(super) fn begin_unlock(&mut self, key: &Key) {
        self.entries.entry(*key).or_default().unlocking += 1;
    }

    /// A call that gave something up has ended: the program knows that it has less.
    pub(super) fn end_unlock(&mut self, key: &Key, session: u64, held: &[LockWish]) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.unlocking = entry.unlocking.saturating_sub(1);
            if std::mem::take(&mut entry.lost) {
                self.lost.fetch_sub(1, Ordering::AcqRel);
            }
        }
        self.hold(key, session, held);
        self.forget_if_over(key);
    }

    /// What an owner holds now that a lock was asked for.
    pub(super) fn set_held(&mut self, key: &Key, session: u64, held: &[LockWish]) {
        let entry = self.entries.entry(*key).or_default();
        if !entry.held.is_empty() && entry.session != session && !entry.lost {
            entry.lost = true;
            self.lost.fetch_add(1, Ordering::AcqRel);
        }
        self.hold(key, session, held);
        self.forget_if_over(key);
    }

    /// Changes the rows of an owner: new ones first, so that a server that dies here leaves too much and not too little.
    fn hold(&mut self, key: &Key, session: u64, held: &[LockWish]) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let handle = entry.handle;
        let same = entry.session == session;
        let mut old = std::mem::take(&mut entry.held);
        let mut now = Vec::with_capacity(held.len());
        for wish in held {
            let at = old.iter().position(|(known, _)| same && known == wish);
            let known = at.map(|at| old.swap_remove(at));
            now.push(known.unwrap_or_else(|| (*wish, self.add(row_of(key, session, handle, wish)))));
        }
        old.into_iter().for_each(|(_, row)| self.remove(row));
        if let Some(entry) = self.entries.get_mut(key) {
            (entry.held, entry.session) = (now, session);
        }
    }

    /// Marks the entries of a user of which something is not held any more; gives their inodes.
    pub(super) fn find_lost(&mut self, user: u32, held: impl Fn(&Key) -> Vec<LockWish>) -> Vec<u64> {
        let entries = self.entries.iter().filter(|(key, entry)| {
            // While a call is under way, what it changes is not lost.
            let quiet = entry.asked.iter().all(|asked| asked.left) && entry.unlocking == 0;
            key.user == user && quiet && !entry.lost && !entry.held.is_empty()
        });
        let lost: Vec<(Key, Vec<LockWish>)> = entries
            .map(|(key, entry)| (key, entry, held(key)))
            .filter(|(_, entry, held)| entry.held.iter().any(|(wish, _)| !held.contains(wish)))
            .map(|(key, _, held)| (*key, held))
            .collect();
        for (key, held) in &lost {
            let session = self.entries.get(key).map_or(0, |entry| entry.session);
            self.hold(key, session, held);
            if let Some(entry) = self.entries.get_mut(key) {
                entry.lost = true;
                self.lost.fetch_add(1, Ordering::AcqRel);
            }
        }
        lost.into_iter().map(|(key, _)| key.inode).collect()
    }

    fn forget_if_over(&mut self, key: &Key) {
        if self.entries.get(key).is_some_and(Entry::is_over) {
            self.entries.remove(key);
        }
    }

    fn add(&mut self, row: Row) -> Option<u32> {
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.next as usize >= MAX_LOCK_ROWS => return None,
            None => {
                self.next += 1;
                self.next - 1
            }
        };
        self.write(number, Some(row));
        Some(number)
    }

    fn remove(&mut self, row: Option<u32>) {
        if let Some(number) = row {
            self.write(number, None);
            self.free.push(number);
        }
    }

    /// A write to memory: it does not block, and fails only if there is none left.
    fn write(&self, number: u32, row: Option<Row>) {
        if let Err(error) = self.memory.set_lock_row(number, row.map(|row| row.bytes())) {
            tracing::error!(%error, "a lock is not remembered for a process that takes over");
        }
    }
}

const fn row_of(key: &Key, session: u64, handle: u64, wish: &LockWish) -> Row {
    let (first, last) = match wish.target {
        LockTarget::Whole => (0, u64::MAX),
        LockTarget::Bytes { first, last } => (first, last),
    };
    let what = What::Held { first, last, exclusive: wish.exclusive, process: wish.pid };
    Row { key: *key, session, handle, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { inode: 7, owner: 1, whole: false, user: 0 };

    fn wish(first: u64, last: u64) -> LockWish {
        let target = LockTarget::Bytes { first, last };
        LockWish { inode: InodeId(7), owner: 1, target, exclusive: true, pid: 3 }
    }

    fn rows(memory: &Memory) -> usize {
        memory.lock_rows().unwrap().iter().filter(|row| row[0] != 0).count()
    }

    #[test]
    fn the_next_server_finds_what_is_held_and_waited_for() {
        let memory = Memory::new([0; 16], b"x").unwrap();
        let mut table = Table::new(memory.clone());
        table.begin_asking(&KEY, 0, 5, 9).unwrap();
        table.set_held(&KEY, 5, &[wish(0, 4), wish(10, 14)]);
        table.end_asking(&KEY, 0);
        let flock = Key { whole: true, user: 2, ..KEY };
        table.begin_asking(&flock, 88, 6, 9).unwrap();
        assert_eq!(rows(&memory), 3);
        table.begin_unlock(&KEY);
        table.end_unlock(&KEY, 5, &[wish(10, 14)]);

        let mut next = Table::new(memory.clone());
        let left = next.take_over().unwrap();
        assert_eq!(left[&0], (5, vec![wish(10, 14)], vec![]));
        assert_eq!(left[&2], (6, vec![], vec![(flock, 88)]));
        assert_eq!(users(&memory).unwrap(), [0, 2]);
        assert!(next.is_left_asking(&flock, 88));
        next.begin_asking(&flock, 88, 6, 9).unwrap();
        assert!(!next.is_left_asking(&flock, 88));
        next.end_asking(&flock, 88);
        assert_eq!(next.of_handle(7, 9), [KEY]);
        assert_eq!(next.of_owner(7, 1, false), [KEY]);
        next.begin_unlock(&KEY);
        next.end_unlock(&KEY, 5, &[]);
        assert!(next.is_empty());
        assert_eq!(rows(&memory), 0);
    }

    #[test]
    fn what_is_lost_is_lost_until_it_is_given_up() {
        let mut table = Table::new(Memory::new([0; 16], b"x").unwrap());
        let count = table.lost();
        table.set_held(&KEY, 5, &[wish(0, 4)]);
        assert!(table.find_lost(0, |_| vec![wish(0, 4)]).is_empty());
        assert!(table.find_lost(1, |_| Vec::new()).is_empty());
        table.begin_unlock(&KEY);
        assert!(table.find_lost(0, |_| Vec::new()).is_empty());
        table.end_unlock(&KEY, 5, &[wish(0, 4)]);
        assert_eq!(table.find_lost(0, |_| Vec::new()), [7]);
        assert!(table.is_lost(&KEY) && table.is_handle_lost(7, 0));
        assert_eq!(count.load(Ordering::Relaxed), 1);
        table.begin_unlock(&KEY);
        table.end_unlock(&KEY, 6, &[]);
        assert!(table.is_empty());
        assert_eq!(count.load(Ordering::Relaxed), 0);
        // In another session, what was held in the one before is gone.
        table.set_held(&KEY, 5, &[wish(0, 4)]);
        table.set_held(&KEY, 6, &[wish(8, 9)]);
        assert!(table.is_lost(&KEY));
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let held = What::Held { first: 1, last: u64::MAX, exclusive: true, process: 77 };
        for (key, what) in [(KEY, held), (Key { whole: true, ..KEY }, What::Asked { name: 5 })] {
            let row = Row { key, session: 1 << 40, handle: 3, what };
            assert_eq!(Row::read(&row.bytes()), Some(row));
        }
        assert_eq!(Row::read(&[0; 64]), None);
    }
}
