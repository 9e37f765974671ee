//! What is done for each kind of request.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FopenFlags, OpenFlags};

use super::{Call, Lasting, Session};
use crate::errno::Answer;
use crate::handles::Handle;
use crate::interrupt::Patience;
use crate::kernel::{FolderPage, Found, OpenAnswer, Operation, Reply, SetAttributes, Space, Times};
use crate::open::{Position, Way, Write};
use crate::ops::{Entry, Mount, NewAttributes, Opened, Read, When};

/// The block in which space is told.
const SPACE_UNIT: u32 = 4_096;
/// Files that might be made, to who asks how many: as many as anybody cares for.
const FILES: u64 = 1 << 40;
const MAX_NAME: u32 = 255;
/// Bits of `fallocate`: nothing but space is wanted.
const KEEP_SIZE: i32 = 1;
/// Bits of `renameat2`: nothing may be at the new name.
const NO_REPLACE: u32 = 1;
/// The kind of a file in its mode, and a regular one.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

impl Session {
    /// Names in folders.
    pub(super) fn name(&self, call: Call, operation: Operation, reply: Reply) {
        let mount = self.mount.clone();
        let lasting = Lasting::begin(&mount);
        let (caller, folder) = (call.caller, call.inode);
        let found = move |reply: Reply, attributes: FileAttr| {
            reply.entry(&lasting.found(Some(&attributes)));
        };
        match operation {
            Operation::Lookup { name } => {
                let work = async move { mount.lookup_or_absent(caller, folder, &name).await };
                let lasting = Lasting::begin(&self.mount);
                self.answer(call, reply, work, move |reply, attributes: Option<FileAttr>| {
                    reply.entry(&lasting.found(attributes.as_ref()));
                });
            }
            Operation::MakeNode { mode, .. } if !matches!(mode & KIND, 0 | REGULAR) => {
                reply.error(Errno::EPERM);
            }
            Operation::MakeNode { name, mode } => {
                let work = async move { mount.make_file(caller, folder, &name, mode).await };
                self.answer_change(call, reply, work, found);
            }
            Operation::MakeFolder { name, mode } => {
                let work = async move { mount.make_folder(caller, folder, &name, mode).await };
                self.answer_change(call, reply, work, found);
            }
            Operation::Unlink { name } => {
                let work = async move { mount.unlink(caller, folder, &name).await };
                self.answer_change(call, reply, work, |reply, ()| reply.ok());
            }
            Operation::RemoveFolder { name } => {
                let work = async move { mount.remove_folder(caller, folder, &name).await };
                self.answer_change(call, reply, work, |reply, ()| reply.ok());
            }
            Operation::Rename { flags, .. } if flags & !NO_REPLACE != 0 => reply.error(Errno::EINVAL),
            Operation::Rename { name, new_parent, new_name, flags } => {
                let work = async move {
                    mount.rename(caller, (folder, &name), (new_parent, &new_name), flags == 0).await
                };
                self.answer_change(call, reply, work, |reply, ()| reply.ok());
            }
            // HDFS has no links. EPERM is what POSIX has for a file system without.
            _ => reply.error(Errno::EPERM),
        }
    }

    /// What belongs to a file or folder, open or not.
    pub(super) fn inode(&self, call: Call, operation: Operation, reply: Reply) {
        let mount = self.mount.clone();
        let lasting = Lasting::begin(&mount);
        let (caller, inode) = (call.caller, call.inode);
        let told = move |reply: Reply, attributes: FileAttr| reply.attributes(&attributes, lasting.time());
        match operation {
            Operation::GetAttributes => {
                let work = async move { mount.get_attributes(caller, inode).await };
                self.answer(call, reply, work, told);
            }
            Operation::SetAttributes(new) => {
                let work = async move { mount.set_attributes(caller, inode, new_attributes(&new)).await };
                self.answer_change(call, reply, work, told);
            }
            Operation::Access { mask } => {
                let work = async move { mount.access(caller, inode, mask).await };
                self.answer(call, reply, work, |reply, ()| reply.ok());
            }
            Operation::SetXattr { name, value, flags } => {
                let work = async move { mount.set_xattr(caller, inode, &name, &value, flags).await };
                self.answer_change(call, reply, work, |reply, ()| reply.ok());
            }
            Operation::GetXattr { name, size } => {
                let work = async move { mount.get_xattr(caller, inode, &name).await };
                self.answer(call, reply, work, move |reply, value: Vec<u8>| reply.attribute(&value, size));
            }
            Operation::ListXattrs { size } => {
                let work = async move { mount.list_xattrs(caller, inode).await };
                self.answer(call, reply, work, move |reply, names: Vec<u8>| reply.attribute(&names, size));
            }
            Operation::RemoveXattr { name } => {
                let work = async move { mount.remove_xattr(caller, inode, &name).await };
                self.answer_change(call, reply, work, |reply, ()| reply.ok());
            }
            _ => {
                let work = async move { mount.space(caller).await };
                self.answer(call, reply, work, |reply, space| reply.space(&space_of(&space)));
            }
        }
    }

    /// Open folders.
    pub(super) fn folder(&self, call: Call, operation: Operation, reply: Reply) {
        let mount = self.mount.clone();
        let caller = call.caller;
        match operation {
            Operation::OpenFolder => {
                let work = async move { mount.open_folder(caller, call.inode, call.unique).await };
                self.answer(call, reply, work, |reply, handle| {
                    reply.opened(&OpenAnswer { handle, flags: FopenFlags::empty(), backing: None });
                });
            }
            Operation::ReadFolder { handle, position, size, with_attributes } => {
                let lasting = Lasting::begin(&mount);
                let work = async move {
                    let folder = mount.handles.folder(handle)?;
                    let mut page = FolderPage::new(size, with_attributes);
                    let take = |entry: &Entry| {
                        page.add(&entry.name, entry.position, &lasting.found(Some(&entry.attributes)))
                    };
                    mount.read_folder(&folder, position, take).await?;
                    Ok(page)
                };
                self.answer(call, reply, work, |reply, page: FolderPage| reply.data(page.bytes()));
            }
            Operation::ReleaseFolder { handle } => {
                if mount.handles.remove(handle).is_some() {
                    mount.handles.free(handle);
                }
                reply.ok();
            }
            // Every change of the tree is durable when it is answered.
            _ => reply.ok(),
        }
    }

    /// Open files.
    pub(super) fn file(&self, call: Call, operation: Operation, reply: Reply) {
        let mount = self.mount.clone();
        let caller = call.caller;
        match operation {
            Operation::Open { flags } => {
                let work = async move {
                    mount.open_file(caller, (call.inode, call.alias), OpenFlags(flags), call.unique).await
                };
                self.answer(call, reply, work, |reply, opened| reply.opened(&open_answer(opened)));
            }
            Operation::Create { name, mode, flags } => {
                let lasting = Lasting::begin(&mount);
                let work = async move {
                    mount.create_file(caller, (call.inode, &name), mode, (flags, call.unique)).await
                };
                self.answer_change(call, reply, work, move |reply, (attributes, node, opened)| {
                    let found = Found { attributes: Some(&attributes), node, lasts: lasting.time() };
                    reply.created(&found, &open_answer(opened));
                });
            }
            Operation::Read { handle, offset, size } => {
                let work = async move { mount.read(handle, offset, size as usize).await };
                self.answer_here(call, reply, work, |reply, read: Read| reply.pieces(&read.bytes));
            }
            Operation::Write { handle, offset, data, owner, mapped } => {
                let at = if mapped { Position::At(offset) } else { Position::AsOpened(offset) };
                self.write(call, handle, Write { at, data, owner, request: call.unique }, reply);
            }
            Operation::Flush { handle, owner } => {
                let work = async move { mount.flush(handle, owner).await };
                self.answer_as(Patience::UntilSeenEnd, call, reply, work, |reply, ()| reply.ok());
            }
            Operation::Sync { handle } => {
                let work = async move { mount.sync(handle).await };
                self.answer_as(Patience::UntilSeenEnd, call, reply, work, |reply, ()| reply.ok());
            }
            Operation::Release { handle, flock_owner } => self.answer_surely(reply, async move {
                if let Some(Handle::File(file)) = mount.handles.remove(handle) {
                    mount.close_file(file, handle, flock_owner).await;
                    mount.handles.free(handle);
                }
            }),
            // Space cannot be had in advance, which with KEEP_SIZE is all that is asked.
            Operation::Allocate { mode: KEEP_SIZE, .. } => reply.ok(),
            Operation::Allocate { handle, offset, length, mode: 0 } => {
                let work = async move {
                    let end = offset.checked_add(length).ok_or(Errno::EFBIG)?;
                    mount.allocate(&*mount.handles.file(handle)?, end).await
                };
                self.answer(call, reply, work, |reply, ()| reply.ok());
            }
            _ => reply.error(Errno::EOPNOTSUPP),
        }
    }

    /// What a program writes is accounted for before the next request is read: memory is bounded, however many write.
    fn write(&self, call: Call, handle: u64, write: Write, reply: Reply) {
        let mount = self.mount.clone();
        let arrived = self.runtime.block_on(mount.memory.arriving.take(write.data.len()));
        let work = async move {
            let share = mount.memory.data.take(write.data.len()).await;
            drop(arrived);
            mount.write(handle, write, share).await
        };
        self.answer_as(Patience::UntilSeenEnd, call, reply, work, |reply, written| reply.written(written));
    }

    /// Locks of files and their bytes.
    pub(super) fn lock(&self, call: Call, operation: Operation, reply: Reply) {
        let mount = self.mount.clone();
        match operation {
            Operation::TestLock(lock) => {
                let work = async move { mount.test_lock(lock).await };
                self.answer(call, reply, work, |reply, found| reply.lock(found.as_ref()));
            }
            Operation::SetLock { lock, wait } => {
                let work = async move { mount.set_lock(lock, wait, call.unique).await };
                if wait && lock.is_wanted() {
                    self.answer_lock(call, reply, work);
                } else {
                    self.answer_as(Patience::UntilSeenEnd, call, reply, work, |reply, ()| reply.ok());
                }
            }
            _ => reply.error(Errno::ENOSYS),
        }
    }
}

impl Mount {
    /// What a name means; none: nothing, and that may be remembered.
    async fn lookup_or_absent(
        self: Arc<Self>,
        caller: crate::ops::Caller,
        folder: u64,
        name: &std::ffi::OsStr,
    ) -> Answer<Option<FileAttr>> {
        match self.lookup(caller, folder, name).await {
            Err(errno) if errno.code() == Errno::ENOENT.code() && self.absence_lasts() => Ok(None),
            found => found.map(Some),
        }
    }
}

const fn open_answer(opened: Opened) -> OpenAnswer {
    let (flags, backing) = match opened.way {
        Way::Cached if opened.keeps => (FopenFlags::FOPEN_KEEP_CACHE, None),
        Way::Cached => (FopenFlags::empty(), None),
        Way::Direct => (FopenFlags::FOPEN_DIRECT_IO, None),
        Way::Passed(backing) => (FopenFlags::empty(), Some(backing.number)),
    };
    OpenAnswer { handle: opened.handle, flags, backing }
}

fn new_attributes(new: &SetAttributes) -> NewAttributes {
    NewAttributes {
        mode: new.mode,
        user: new.user,
        group: new.group,
        size: new.size,
        modified: new.modified.map(when),
        accessed: new.accessed.map(when),
    }
}

/// A time before 1970 is kept as 1970: HDFS has none.
fn when(time: Times) -> When {
    let at = |seconds: i64, nanos: u32| {
        let since = Duration::new(u64::try_from(seconds).ok()?, nanos);
        UNIX_EPOCH.checked_add(since)
    };
    match time {
        Times::Now => When::Now,
        Times::At(seconds, nanos) => When::At(at(seconds, nanos).unwrap_or(SystemTime::UNIX_EPOCH)),
    }
}

fn space_of(space: &steadfs_client::FsStats) -> Space {
    let units = |bytes: u64| bytes / u64::from(SPACE_UNIT);
    // What replicas of other data take is neither used here nor free.
    let free = units(space.remaining);
    let total = units(space.used.saturating_add(space.remaining));
    Space { total, free, files: FILES, unit: SPACE_UNIT, longest_name: MAX_NAME }
}
