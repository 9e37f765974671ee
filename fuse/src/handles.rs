//! The numbers by which the kernel knows open files and folders.

use std::collections::HashMap;
use std::sync::Arc;

use fuser::Errno;
use parking_lot::RwLock;

use crate::errno::Answer;
use crate::handoff::{MAX_HANDLES, Memory, Slot};
use crate::ops::{FileHandle, FolderHandle};

/// What is open.
#[derive(Clone)]
pub(crate) enum Handle {
    File(Arc<FileHandle>),
    Folder(Arc<FolderHandle>),
}

/// All that are open, remembered where a process that takes over finds it.
pub(crate) struct Handles {
    memory: Memory,
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    open: HashMap<u64, (Handle, Slot)>,
    /// Numbers below `next` that are free.
    free: Vec<u64>,
    next: u64,
    /// What a process before this one opened, by the request that wanted it: the kernel may not have been answered.
    left: HashMap<u64, u64>,
}

impl Handles {
    pub(crate) fn new(memory: Memory) -> Self {
        Self { memory, table: RwLock::new(Table { next: 1, ..Table::default() }) }
    }

    /// What a process before this one had open.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(crate) fn left(&self) -> std::io::Result<Vec<(u64, Slot)>> {
        self.memory.slots()
    }

    /// Gives back what was left, under its own number.
    pub(crate) fn put_back(&self, number: u64, handle: Handle, slot: Slot) {
        let mut table = self.table.write();
        let skipped = table.next..number;
        table.free.extend(skipped);
        table.next = table.next.max(number + 1);
        table.open.insert(number, (handle, slot));
        if slot.request != 0 {
            table.left.insert(slot.request, number);
        }
    }

    /// What a process before this one opened for a request that the kernel sends again: it is open already.
    pub(crate) fn opened_before(&self, request: u64) -> Option<(u64, Handle)> {
        let table = self.table.read();
        let number = *table.left.get(&request)?;
        let (handle, slot) = table.open.get(&number)?;
        (slot.request == request).then(|| (number, handle.clone()))
    }

    /// Gives a handle a number.
    ///
    /// # Errors
    /// ENFILE if there are too many.
    pub(crate) fn add(&self, handle: Handle, slot: Slot) -> Answer<u64> {
        let mut table = self.table.write();
        let number = match table.free.pop() {
            Some(number) => number,
            None if table.next > MAX_HANDLES => return Err(Errno::ENFILE),
            None => {
                table.next += 1;
                table.next - 1
            }
        };
        self.remember(number, Some(slot));
        table.open.insert(number, (handle, slot));
        Ok(number)
    }

    pub(crate) fn file(&self, number: u64) -> Answer<Arc<FileHandle>> {
        match self.table.read().open.get(&number) {
            Some((Handle::File(file), _)) => Ok(file.clone()),
            _ => Err(Errno::EBADF),
        }
    }

    pub(crate) fn folder(&self, number: u64) -> Answer<Arc<FolderHandle>> {
        match self.table.read().open.get(&number) {
            Some((Handle::Folder(folder), _)) => Ok(folder.clone()),
            _ => Err(Errno::EBADF),
        }
    }

    /// Takes a handle out, whose number is free once [`Handles::free`] was called.
    pub(crate) fn remove(&self, number: u64) -> Option<Handle> {
        let mut table = self.table.write();
        let (handle, slot) = table.open.remove(&number)?;
        table.left.remove(&slot.request);
        Some(handle)
    }

    /// All that the handle was open for is done.
    pub(crate) fn free(&self, number: u64) {
        let mut table = self.table.write();
        self.remember(number, None);
        table.free.push(number);
    }

    /// Notes that an inode has lost its name.
    pub(crate) fn unlinked(&self, inode: u64) {
        let mut table = self.table.write();
        for (number, (_, slot)) in &mut table.open {
            if slot.inode == inode {
                slot.unlinked = true;
                self.remember(*number, Some(*slot));
            }
        }
    }

    /// A write to memory: it does not block, and fails only if there is none left.
    fn remember(&self, number: u64, slot: Option<Slot>) {
        if let Err(error) = self.memory.set_slot(number, slot) {
            tracing::error!(%error, "an open file is not remembered for a process that takes over");
        }
    }
}
