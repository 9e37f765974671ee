//! Open files.

use std::ffi::OsStr;
use std::sync::Arc;

use bytes::Bytes;
use fuser::{Errno, FileAttr, OpenAccMode, OpenFlags};
use parking_lot::Mutex;
use steadfs_client::{Client, FsErrorKind, Reader, Writer};

use super::{Caller, Mount, by_number};
use crate::errno::{Answer, failed};
use crate::handles::Handle;
use crate::handoff::{Slot, SlotKind};
use crate::open::{Begin, OpenInode, Position, Way, Window, Write, WriteHandle};

/// A file that a program has open.
pub(crate) struct FileHandle {
    pub(crate) inode: Arc<OpenInode>,
    client: Client,
    path: String,
    /// Every write goes to the end (`O_APPEND`).
    append: bool,
    write: Option<WriteHandle>,
    way: Way,
    /// What is read, and the count of commits when it was opened.
    window: Mutex<Option<(u64, Arc<Window>)>>,
}

/// How the kernel shall treat a file that was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Opened {
    pub(crate) handle: u64,
    pub(crate) way: Way,
}

/// Flags of `open` that fuser has no name for.
const APPEND: i32 = 0o2000;
const EXCLUSIVE: i32 = 0o200;
/// What is remembered in place of the flags of a file that is read without the kernel's cache.
const DIRECT: i32 = -1;

impl Mount {
    pub(crate) async fn open_file(&self, caller: Caller, number: u64, flags: OpenFlags) -> Answer<Opened> {
        let client = self.client(caller).await?;
        let inode = self.open.open(number);
        let opened = self.open_as(client, &inode, caller, flags).await;
        if opened.is_err() {
            self.open.close(&inode);
        }
        opened
    }

    async fn open_as(
        &self,
        client: Client,
        inode: &Arc<OpenInode>,
        caller: Caller,
        flags: OpenFlags,
    ) -> Answer<Opened> {
        let path = self.path(inode.number);
        let access = match flags.acc_mode() {
            OpenAccMode::O_RDONLY => return self.open_to_read(client, inode, caller, path).await,
            OpenAccMode::O_WRONLY => 2,
            OpenAccMode::O_RDWR => 6,
        };
        self.may_change()?;
        client.check_access(&path, access).await.map_err(|error| by_number("an open", &error))?;
        inode.settled().await;
        let status = client.stat(&path).await.map_err(|error| by_number("an open", &error))?;
        if status.directory {
            return Err(Errno::EISDIR);
        }
        let begin = Begin::Opened(status.length);
        let write = self.open.join_writers(inode, client.clone(), path.clone(), begin).await;
        let handle = self.file_handle(client, inode, path, flags.0, Some(write), Way::Direct);
        Ok(Opened { handle: self.keep(handle, caller, flags.0)?, way: Way::Direct })
    }

    /// Gives a file a number, and remembers it.
    fn keep(&self, file: FileHandle, caller: Caller, flags: i32) -> Answer<u64> {
        let kind = if file.write.is_some() { SlotKind::Writing } else { SlotKind::Reading };
        let unlinked = file.inode.is_unlinked();
        let backing = match file.way {
            Way::Passed(backing) => Some(backing),
            Way::Cached | Way::Direct => None,
        };
        let slot = Slot { inode: file.inode.number, user: caller.user, flags, kind, unlinked, backing };
        self.handles.add(Handle::File(Arc::new(file)), slot)
    }

    /// A file that a process before this one had open.
    pub(super) async fn left_file(&self, client: Client, slot: Slot) -> FileHandle {
        let inode = self.open.open(slot.inode);
        if slot.unlinked {
            inode.set_unlinked();
        }
        let path = self.path(slot.inode);
        let write = match slot.kind {
            SlotKind::Writing => {
                Some(self.open.join_writers(&inode, client.clone(), path.clone(), Begin::TakeOver).await)
            }
            _ => None,
        };
        let way = match (slot.kind, slot.backing) {
            (SlotKind::Writing, _) => Way::Direct,
            (_, Some(backing)) => Way::Passed(backing),
            (_, None) if slot.flags == DIRECT => Way::Direct,
            _ => Way::Cached,
        };
        inode.rejoin_readers(way);
        self.file_handle(client, &inode, path, slot.flags, write, way)
    }

    async fn open_to_read(
        &self,
        client: Client,
        inode: &Arc<OpenInode>,
        caller: Caller,
        path: String,
    ) -> Answer<Opened> {
        let writing = inode.settled().await.is_some();
        let commits = inode.commits();
        let reader = client.open(&path).await.map_err(|error| by_number("an open", &error))?;
        let way = if writing || reader.under_construction() {
            Way::Direct
        } else {
            self.way_to_read(inode, &reader).await
        };
        let handle = self.file_handle(client, inode, path, 0, None, way);
        *handle.window.lock() = Some((commits, Arc::new(Window::new(reader, self.budget.clone()))));
        let flags = if way == Way::Direct { DIRECT } else { 0 };
        let kept = self.keep(handle, caller, flags).inspect_err(|_| self.leave_readers(inode, way));
        Ok(Opened { handle: kept?, way })
    }

    /// How the kernel shall read a file that is complete.
    async fn way_to_read(&self, inode: &OpenInode, reader: &Reader) -> Way {
        let local = match reader.local_file(&self.settings.local).await {
            Ok(local) => local,
            Err(error) => {
                tracing::debug!(%error, "no local replica");
                None
            }
        };
        let block = local.as_ref().map(|(block, _)| (block.block.0, block.stamp.0));
        inode.join_readers(block, || {
            let (_, file) = local.as_ref()?;
            match self.device.register(file) {
                Ok(number) => Some(number),
                Err(error) => {
                    tracing::debug!(%error, "the kernel passes nothing through");
                    None
                }
            }
        })
    }

    fn leave_readers(&self, inode: &OpenInode, way: Way) {
        if let Some(backing) = inode.leave_readers(way)
            && let Err(error) = self.device.forget(backing.number)
        {
            tracing::debug!(%error, "the kernel keeps a file that it need not");
        }
    }

    fn file_handle(
        &self,
        client: Client,
        inode: &Arc<OpenInode>,
        path: String,
        flags: i32,
        write: Option<WriteHandle>,
        way: Way,
    ) -> FileHandle {
        let append = write.is_some() && flags & APPEND != 0;
        FileHandle { inode: inode.clone(), client, path, append, write, way, window: Mutex::default() }
    }

    /// Makes a file and opens it for writing.
    pub(crate) async fn create_file(
        &self,
        caller: Caller,
        (parent, name): (u64, &OsStr),
        mode: u32,
        flags: i32,
    ) -> Answer<(FileAttr, Opened)> {
        self.may_change()?;
        let path = self.entry(parent, name)?;
        let client = self.client(caller).await?;
        match self.create(&client, &path, mode).await {
            Ok(writer) => {
                let status = writer.status().clone();
                let inode = self.open.open(status.inode.0);
                let path = self.path(inode.number);
                let begin = Begin::Created(Box::new(writer));
                let write = self.open.join_writers(&inode, client.clone(), path.clone(), begin).await;
                let attributes = self.attributes(&client, &status).await;
                let handle = self.file_handle(client, &inode, path, flags, Some(write), Way::Direct);
                let handle = self.keep(handle, caller, flags).inspect_err(|_| {
                    self.open.close(&inode);
                })?;
                Ok((attributes, Opened { handle, way: Way::Direct }))
            }
            // Somebody was faster, which only matters to who wanted to be the first.
            Err(errno) if errno.code() == Errno::EEXIST.code() && flags & EXCLUSIVE == 0 => {
                let attributes = self.lookup(caller, parent, name).await?;
                let opened = self.open_file(caller, attributes.ino.0, OpenFlags(flags)).await?;
                Ok((attributes, opened))
            }
            Err(errno) => Err(errno),
        }
    }

    async fn create(&self, client: &Client, path: &str, mode: u32) -> Answer<Writer> {
        let create = client.create(path).create_parent(false).mode((mode & 0o1777) as u16);
        create.block_size(self.settings.block_size).await.map_err(|error| match error.kind() {
            // Who has it is writing it: it exists.
            FsErrorKind::AlreadyBeingCreated => Errno::EEXIST,
            _ => failed("a new file", &error),
        })
    }

    /// Makes an empty file.
    pub(crate) async fn make_file(
        &self,
        caller: Caller,
        parent: u64,
        name: &OsStr,
        mode: u32,
    ) -> Answer<FileAttr> {
        self.may_change()?;
        let path = self.entry(parent, name)?;
        let client = self.client(caller).await?;
        let writer = self.create(&client, &path, mode).await?;
        let status = writer.status().clone();
        writer.close().await.map_err(|error| failed("a new file", &error))?;
        Ok(self.attributes(&client, &status).await)
    }

    pub(crate) async fn read(&self, file: &FileHandle, offset: u64, length: usize) -> Answer<Bytes> {
        if file.inode.dirty().await.is_some()
            && let Some(writer) = file.inode.settled().await
        {
            let _share = self.budget.take(length).await;
            return writer.read(offset, length).await;
        }
        let window = self.window(file).await?;
        let reader = window.reader();
        if reader.under_construction() && offset.saturating_add(length as u64) > reader.length() {
            // It may have grown.
            reader.refresh().await.map_err(|error| by_number("a read", &error))?;
        }
        window.read(offset, length).await.map_err(|error| by_number("a read", &error))
    }

    /// The window of a file as it is since the last commit from here.
    async fn window(&self, file: &FileHandle) -> Answer<Arc<Window>> {
        let commits = file.inode.commits();
        if let Some((opened, window)) = &*file.window.lock()
            && *opened == commits
        {
            return Ok(window.clone());
        }
        let reader = file.client.open(&file.path).await.map_err(|error| by_number("a read", &error))?;
        let window = Arc::new(Window::new(reader, self.budget.clone()));
        *file.window.lock() = Some((commits, window.clone()));
        Ok(window)
    }

    pub(crate) async fn write(&self, file: &FileHandle, write: Write) -> Answer<u32> {
        let writer = file.write.as_ref().ok_or(Errno::EBADF)?.requests();
        let share = self.budget.take(write.data.len()).await;
        let at = if file.append { Position::End } else { write.at };
        writer.write(Write { at, ..write }, share).await
    }

    /// `owner` closes.
    pub(crate) async fn flush(&self, file: &FileHandle, owner: u64) -> Answer<()> {
        let Some(write) = &file.write else { return Ok(()) };
        let before = file.inode.commits();
        write.requests().commit(Some(owner)).await?;
        if file.inode.commits() != before {
            // Before `close` returns: the times that the kernel knows are those from before.
            self.notify.attributes(file.inode.number).await;
            self.notify.changed(file.inode.number);
        }
        Ok(())
    }

    /// Everything is wanted durable.
    pub(crate) async fn sync(&self, file: &FileHandle) -> Answer<()> {
        match &file.write {
            Some(write) => write.requests().sync().await,
            None => Ok(()),
        }
    }

    /// `fallocate` without flags that change what is there.
    pub(crate) async fn allocate(&self, file: &FileHandle, length: u64) -> Answer<()> {
        let write = file.write.as_ref().ok_or(Errno::EBADF)?;
        write.requests().reach(length).await
    }

    /// The last reference to a handle is gone.
    pub(crate) async fn close_file(&self, file: Arc<FileHandle>) {
        let (inode, client) = (file.inode.clone(), file.client.clone());
        if inode.is_unlinked()
            && let Some(write) = &file.write
        {
            write.requests().forget().await;
        }
        self.leave_readers(&inode, file.way);
        drop(file);
        inode.settled().await;
        if self.open.close(&inode) && inode.is_unlinked() {
            self.delete_hidden(&client, inode.number).await;
        }
    }

    async fn delete_hidden(&self, client: &Client, number: u64) {
        // By its number, wherever it was moved to.
        let path = self.path(number);
        match client.delete(&path, false).await {
            Ok(_) => {}
            Err(error) if error.kind() == FsErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%path, %error, "a deleted file is left over"),
        }
    }
}
