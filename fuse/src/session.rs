//! The kernel's requests: each is taken apart, carried out by a task of its own, and answered.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use tokio::runtime;
use tokio::sync::Semaphore;

use crate::coherence::Begun;
use crate::device::opened_passed;
use crate::errno::Answer;
use crate::handles::Handle;
use crate::interrupt::interruptible;
use crate::open::{Position, Way, Write};
use crate::ops::{Caller, Entry, Mount, NewAttributes, Opened, When};

/// Requests under way at most. The kernel sends no more of its own than [`BACKGROUND`]; the rest are programs that wait.
const MAX_REQUESTS: usize = 4_096;
/// Requests that the kernel may have under way for itself (read-ahead, write-back).
const BACKGROUND: u16 = 64;
/// Set in the number of a request that is sent again.
const RESENT: u64 = 1 << 63;
/// Bytes of one read or write.
const MAX_IO: u32 = 1 << 20;
/// The block in which space is told.
const SPACE_UNIT: u32 = 4_096;
/// Files that might be made, to who asks how many: as many as anybody cares for.
const FILES: u64 = 1 << 40;
const MAX_NAME: u32 = 255;
/// Bits of `fallocate`: nothing but space is wanted.
const KEEP_SIZE: i32 = 1;

/// What fuser calls.
pub(crate) struct Session {
    mount: Arc<Mount>,
    runtime: runtime::Handle,
    room: Arc<Semaphore>,
}

/// What is asked of the kernel where it can be had.
///
/// With `HANDLE_KILLPRIV_V2` the kernel does not ask for the attribute `security.capability` before every write: no file
/// here has any, nor the bits that a write would have to clear.
///
/// Without `ATOMIC_O_TRUNC` the kernel opens first and truncates then, having looked whether the file is a program that
/// runs.
const CAPABILITIES: [InitFlags; 9] = [
    InitFlags::FUSE_PASSTHROUGH,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    InitFlags::FUSE_HAS_RESEND,
];

impl Session {
    pub(crate) fn new(mount: Arc<Mount>, runtime: runtime::Handle) -> Self {
        let room = Arc::new(Semaphore::new(MAX_REQUESTS));
        Self { mount, runtime, room }
    }

    /// Carries out `work` in a task of its own, and hands what came of it to `reply`. Waits here while too much is under way:
    /// then no more requests are read.
    fn answer<T, W>(&self, request: &Request, work: W, reply: impl FnOnce(Answer<T>) + Send + 'static)
    where
        T: Send + 'static,
        W: Future<Output = Answer<T>> + Send + 'static,
    {
        let room = self.room.clone();
        let place = room.clone().try_acquire_owned().or_else(|_| self.runtime.block_on(room.acquire_owned()));
        let thread = request.pid();
        self.runtime.spawn(async move {
            reply(interruptible(thread, work).await);
            drop(place);
        });
    }

    /// As [`Session::answer`], for what changes something: sent again by the kernel because the server that had it died, it
    /// is not carried out twice.
    fn answer_change<T, W>(&self, request: &Request, work: W, reply: impl FnOnce(Answer<T>) + Send + 'static)
    where
        T: Send + 'static,
        W: Future<Output = Answer<T>> + Send + 'static,
    {
        let id = self.mount.request_id(request.unique().0 & !RESENT);
        self.answer(request, steadfs_client::repeatable(id, work), reply);
    }

    /// As [`Session::answer`], for what must be carried through whoever waits.
    fn answer_surely<T, W>(&self, work: W, reply: impl FnOnce(Answer<T>) + Send + 'static)
    where
        T: Send + 'static,
        W: Future<Output = Answer<T>> + Send + 'static,
    {
        self.runtime.spawn(async move { reply(work.await) });
    }
}

fn caller(request: &Request) -> Caller {
    Caller { user: request.uid() }
}

fn empty(reply: ReplyEmpty) -> impl FnOnce(Answer<()>) + Send + 'static {
    move |done| match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// How long an answer may be relied on: what is heard between its beginning and its end makes it old.
#[derive(Clone)]
struct Lasting {
    mount: Arc<Mount>,
    begun: Begun,
}

impl Lasting {
    fn begin(mount: &Arc<Mount>) -> Self {
        Self { mount: mount.clone(), begun: mount.coherence.begin() }
    }

    fn time(&self) -> Duration {
        self.mount.lasts(self.begun)
    }
}

fn entry(reply: ReplyEntry, lasting: Lasting) -> impl FnOnce(Answer<FileAttr>) + Send + 'static {
    move |done| match done {
        Ok(attributes) => reply.entry(&lasting.time(), &attributes, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn attr(reply: ReplyAttr, lasting: Lasting) -> impl FnOnce(Answer<FileAttr>) + Send + 'static {
    move |done| match done {
        Ok(attributes) => reply.attr(&lasting.time(), &attributes),
        Err(errno) => reply.error(errno),
    }
}

/// What says that a name is not there, and may be remembered.
const ABSENT: FileAttr = FileAttr {
    ino: INodeNo(0),
    size: 0,
    blocks: 0,
    atime: UNIX_EPOCH,
    mtime: UNIX_EPOCH,
    ctime: UNIX_EPOCH,
    crtime: UNIX_EPOCH,
    kind: FileType::RegularFile,
    perm: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: 0,
    flags: 0,
};

/// A program asks for the length first, with a size of zero.
fn sized(reply: ReplyXattr, size: u32) -> impl FnOnce(Answer<Vec<u8>>) + Send + 'static {
    move |done| match done {
        Ok(bytes) if size == 0 => reply.size(bytes.len() as u32),
        Ok(bytes) if bytes.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(bytes) => reply.data(&bytes),
        Err(errno) => reply.error(errno),
    }
}

fn flags(opened: Opened) -> FopenFlags {
    if opened.way == Way::Cached { FopenFlags::empty() } else { FopenFlags::FOPEN_DIRECT_IO }
}

fn when(time: TimeOrNow) -> When {
    match time {
        TimeOrNow::Now => When::Now,
        TimeOrNow::SpecificTime(time) => When::At(time),
    }
}

impl Filesystem for Session {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in CAPABILITIES {
            // What an old kernel does not have, it goes without.
            let _ = config.add_capabilities(capability);
        }
        // Files that are passed through lie on no file system that is itself made of others.
        let _ = config.set_max_stack_depth(1);
        let _ = config.set_max_write(MAX_IO);
        let _ = config.set_max_background(BACKGROUND);
        // The greatest that the kernel takes; more is set at the mount itself.
        if let Err(most) = config.set_max_readahead(MAX_IO) {
            let _ = config.set_max_readahead(most);
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (mount, caller, name) = (self.mount.clone(), caller(request), name.to_owned());
        let lasting = Lasting::begin(&mount);
        let work = async move { mount.lookup(caller, parent.0, &name).await };
        self.answer(request, work, move |done| match done {
            Err(errno) if errno.code() == Errno::ENOENT.code() && lasting.mount.absence_lasts() => {
                reply.entry(&lasting.time(), &ABSENT, Generation(0));
            }
            done => entry(reply, lasting)(done),
        });
    }

    fn getattr(&self, request: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let (mount, caller) = (self.mount.clone(), caller(request));
        let lasting = Lasting::begin(&mount);
        self.answer(
            request,
            async move { mount.get_attributes(caller, inode.0).await },
            attr(reply, lasting),
        );
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed_too: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let new = NewAttributes {
            mode,
            user,
            group,
            size,
            modified: modified.map(when),
            accessed: accessed.map(when),
        };
        let (mount, caller) = (self.mount.clone(), caller(request));
        let lasting = Lasting::begin(&mount);
        let work = async move { mount.set_attributes(caller, inode.0, new).await };
        self.answer_change(request, work, attr(reply, lasting));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        const KIND: u32 = 0o170_000;
        const REGULAR: u32 = 0o100_000;
        if !matches!(mode & KIND, 0 | REGULAR) {
            return reply.error(Errno::EPERM);
        }
        let (mount, caller, name) = (self.mount.clone(), caller(request), name.to_owned());
        let lasting = Lasting::begin(&mount);
        let work = async move { mount.make_file(caller, parent.0, &name, mode).await };
        self.answer_change(request, work, entry(reply, lasting));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (mount, caller, name) = (self.mount.clone(), caller(request), name.to_owned());
        let lasting = Lasting::begin(&mount);
        let work = async move { mount.make_folder(caller, parent.0, &name, mode).await };
        self.answer_change(request, work, entry(reply, lasting));
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (mount, caller, name) = (self.mount.clone(), caller(request), name.to_owned());
        self.answer_change(request, async move { mount.unlink(caller, parent.0, &name).await }, empty(reply));
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (mount, caller, name) = (self.mount.clone(), caller(request), name.to_owned());
        self.answer_change(
            request,
            async move { mount.remove_folder(caller, parent.0, &name).await },
            empty(reply),
        );
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        // HDFS has none. EPERM is what POSIX has for a file system without.
        reply.error(Errno::EPERM);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let replace = if flags.is_empty() {
            true
        } else if flags == RenameFlags::RENAME_NOREPLACE {
            false
        } else {
            return reply.error(Errno::EINVAL);
        };
        let (mount, caller) = (self.mount.clone(), caller(request));
        let (name, new_name): (OsString, OsString) = (name.to_owned(), new_name.to_owned());
        let work =
            async move { mount.rename(caller, (parent.0, &name), (new_parent.0, &new_name), replace).await };
        self.answer_change(request, work, empty(reply));
    }

    fn open(&self, request: &Request, inode: INodeNo, open: OpenFlags, reply: ReplyOpen) {
        let (mount, caller) = (self.mount.clone(), caller(request));
        let work = async move { mount.open_file(caller, inode.0, open).await };
        self.answer(request, work, |done| match done {
            Ok(Opened { handle, way: Way::Passed(backing) }) => {
                opened_passed(reply, FileHandle(handle), backing.number);
            }
            Ok(opened) => reply.opened(FileHandle(opened.handle), flags(opened)),
            Err(errno) => reply.error(errno),
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        open: i32,
        reply: ReplyCreate,
    ) {
        let (mount, caller, name) = (self.mount.clone(), caller(request), name.to_owned());
        let lasting = Lasting::begin(&mount);
        let work = async move { mount.create_file(caller, (parent.0, &name), mode, open).await };
        self.answer_change(request, work, move |done| match done {
            Ok((attributes, opened)) => {
                let handle = FileHandle(opened.handle);
                reply.created(&lasting.time(), &attributes, Generation(0), handle, flags(opened));
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn read(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mount = self.mount.clone();
        let work = async move {
            let file = mount.handles.file(handle.0)?;
            mount.read(&file, offset, size as usize).await
        };
        self.answer(request, work, |done| match done {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        });
    }

    fn write(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (mount, data) = (self.mount.clone(), Bytes::copy_from_slice(data));
        let write = Write {
            at: Position::At(offset),
            data,
            owner: owner.map(|owner| owner.0),
            request: request.unique().0 & !RESENT,
        };
        let work = async move {
            let file = mount.handles.file(handle.0)?;
            mount.write(&file, write).await
        };
        self.answer(request, work, |done| match done {
            Ok(written) => reply.written(written),
            Err(errno) => reply.error(errno),
        });
    }

    fn flush(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let mount = self.mount.clone();
        let work = async move {
            let file = mount.handles.file(handle.0)?;
            mount.flush(&file, owner.0).await
        };
        self.answer(request, work, empty(reply));
    }

    fn fsync(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let mount = self.mount.clone();
        let work = async move {
            let file = mount.handles.file(handle.0)?;
            mount.sync(&file).await
        };
        self.answer(request, work, empty(reply));
    }

    fn release(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let mount = self.mount.clone();
        let work = async move {
            if let Some(Handle::File(file)) = mount.handles.remove(handle.0) {
                mount.close_file(file).await;
                mount.handles.free(handle.0);
            }
            Ok(())
        };
        self.answer_surely(work, empty(reply));
    }

    fn opendir(&self, request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let (mount, caller) = (self.mount.clone(), caller(request));
        let work = async move { mount.open_folder(caller, inode.0).await };
        self.answer(request, work, |done| match done {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        });
    }

    fn readdir(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        position: u64,
        mut reply: ReplyDirectory,
    ) {
        let mount = self.mount.clone();
        let work = async move {
            let read = async {
                let folder = mount.handles.folder(handle.0)?;
                let take = |entry: &Entry| {
                    let attributes = &entry.attributes;
                    !reply.add(attributes.ino, entry.position, attributes.kind, &entry.name)
                };
                mount.read_folder(&folder, position, take).await
            };
            let done = read.await;
            match done {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
            Ok(())
        };
        self.answer(request, work, |_| {});
    }

    fn readdirplus(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        position: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let mount = self.mount.clone();
        let lasting = Lasting::begin(&mount);
        let work = async move {
            let read = async {
                let folder = mount.handles.folder(handle.0)?;
                let take = |entry: &Entry| {
                    let attributes = &entry.attributes;
                    let (number, time) = (attributes.ino, lasting.time());
                    !reply.add(number, entry.position, &entry.name, &time, attributes, Generation(0))
                };
                mount.read_folder(&folder, position, take).await
            };
            let done = read.await;
            match done {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
            Ok(())
        };
        self.answer(request, work, |_| {});
    }

    fn releasedir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        if self.mount.handles.remove(handle.0).is_some() {
            self.mount.handles.free(handle.0);
        }
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // Every change of the tree is durable when it is answered.
        reply.ok();
    }

    fn statfs(&self, request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        let (mount, caller) = (self.mount.clone(), caller(request));
        self.answer(request, async move { mount.space(caller).await }, |done| match done {
            Ok(space) => {
                let units = |bytes: u64| bytes / u64::from(SPACE_UNIT);
                // What replicas of other data take is neither used here nor free.
                let free = units(space.remaining);
                let total = units(space.used).saturating_add(free);
                reply.statfs(total, free, free, FILES, FILES, SPACE_UNIT, MAX_NAME, SPACE_UNIT);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn access(&self, request: &Request, inode: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let (mount, caller) = (self.mount.clone(), caller(request));
        let mask = (mask.bits() & 7) as u8;
        self.answer(request, async move { mount.access(caller, inode.0, mask).await }, empty(reply));
    }

    fn setxattr(
        &self,
        request: &Request,
        inode: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (mount, caller) = (self.mount.clone(), caller(request));
        let (name, value) = (name.to_owned(), value.to_vec());
        let work = async move { mount.set_xattr(caller, inode.0, &name, &value, flags).await };
        self.answer_change(request, work, empty(reply));
    }

    fn getxattr(&self, request: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (mount, caller, name) = (self.mount.clone(), caller(request), name.to_owned());
        self.answer(
            request,
            async move { mount.get_xattr(caller, inode.0, &name).await },
            sized(reply, size),
        );
    }

    fn listxattr(&self, request: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        let (mount, caller) = (self.mount.clone(), caller(request));
        self.answer(request, async move { mount.list_xattrs(caller, inode.0).await }, sized(reply, size));
    }

    fn removexattr(&self, request: &Request, inode: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (mount, caller, name) = (self.mount.clone(), caller(request), name.to_owned());
        let work = async move { mount.remove_xattr(caller, inode.0, &name).await };
        self.answer_change(request, work, empty(reply));
    }

    fn fallocate(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        // Space cannot be had in advance, which with KEEP_SIZE is all that is asked.
        match mode {
            0 => {}
            KEEP_SIZE => return reply.ok(),
            _ => return reply.error(Errno::EOPNOTSUPP),
        }
        let mount = self.mount.clone();
        let work = async move {
            let file = mount.handles.file(handle.0)?;
            mount.allocate(&file, offset.checked_add(length).ok_or(Errno::EFBIG)?).await
        };
        self.answer(request, work, empty(reply));
    }

    fn ioctl(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _data: &[u8],
        _size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        _to_inode: INodeNo,
        _to_handle: FileHandle,
        _to_offset: u64,
        _length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The kernel then copies by reading and writing.
        reply.error(Errno::ENOSYS);
    }

    fn lseek(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        // The kernel then takes the whole file for data, which it is.
        reply.error(Errno::ENOSYS);
    }
}
