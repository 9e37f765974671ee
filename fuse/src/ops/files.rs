//! Open files.

use std::ffi::OsStr;
use std::sync::Arc;

use fuser::{Errno, FileAttr, OpenAccMode, OpenFlags};
use parking_lot::Mutex;
use steadfs_client::{Client, FileStatus, FsErrorKind, FsResult, InodeId, Reader, Writer};

use super::{Caller, Mount, by_number};
use crate::budget::Share;
use crate::errno::{Answer, failed};
use crate::handles::Handle;
use crate::handoff::{Slot, SlotKind};
use crate::nodes::{joined, split};
use crate::open::{Begin, OpenInode, Pieces, Position, Way, Window, Write, WriteHandle};

/// A file that a program has open.
pub(crate) struct FileHandle {
    pub(crate) inode: Arc<OpenInode>,
    /// Which of the inode's numbers was opened.
    alias: u8,
    /// Who opened it.
    pub(super) caller: Caller,
    pub(super) client: Client,
    pub(super) path: String,
    /// Every write goes to the end (`O_APPEND`).
    append: bool,
    write: Option<WriteHandle>,
    pub(super) way: Way,
    /// What is read, and the count of commits when it was opened.
    window: Mutex<Option<(u64, Arc<Window>)>>,
}

/// How the kernel shall treat a file that was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Opened {
    pub(crate) handle: u64,
    pub(crate) way: Way,
    /// Whether what the kernel has of it is of the content that was opened.
    pub(crate) keeps: bool,
}

/// What was read, and its share of the mount's memory.
pub(crate) struct Read {
    pub(crate) bytes: Pieces,
    _share: Share,
}

/// Flags of `open` that fuser has no name for.
const APPEND: i32 = 0o2000;
const EXCLUSIVE: i32 = 0o200;
/// What is remembered in place of the flags of a file that is read without the kernel's cache.
const DIRECT: i32 = -1;
/// Numbers of a file tried, one after the other.
const NUMBERS_TRIED: usize = 3;

/// A handle of the inode's own number that the kernel keeps nothing of. `write`: what it is written through, and the flags
/// of `open`.
fn file_handle(
    (client, caller): (Client, Caller),
    inode: &Arc<OpenInode>,
    path: String,
    write: Option<(WriteHandle, i32)>,
) -> FileHandle {
    let append = write.as_ref().is_some_and(|(_, flags)| flags & APPEND != 0);
    let (inode, write, window) = (inode.clone(), write.map(|(write, _)| write), Mutex::default());
    FileHandle { inode, alias: 0, caller, client, path, append, write, way: Way::Direct, window }
}

/// A file that is being opened. Dropped before its end, because that failed or nobody waits for it any more, it is as if it
/// had never been begun.
struct Opening<'a> {
    mount: &'a Mount,
    inode: Arc<OpenInode>,
    alias: u8,
    /// By which the kernel wants it.
    request: u64,
    way: Option<Way>,
    ended: bool,
}

impl<'a> Opening<'a> {
    /// With `now`, the namenode is told at once that the file is open.
    fn begin(
        mount: &'a Mount,
        client: &Client,
        (number, alias): (u64, u8),
        (request, now): (u64, bool),
    ) -> Self {
        mount.keeper.opened(client, InodeId(number), now);
        Self { mount, inode: mount.open.open(number), alias, request, way: None, ended: false }
    }

    /// Whoever deletes the file from here on, it is kept until it is closed. If its name has another meaning already, the kernel
    /// shall look that up again.
    async fn kept(&self, status: &FileStatus) -> Answer<()> {
        let by_name = !self.inode.is_unlinked_here();
        if status.nameless && by_name || !self.mount.keeper.is_kept(status.inode).await {
            return Err(Errno::ESTALE);
        }
        Ok(())
    }

    /// `way`: how it is counted as open now; none: the kernel cannot open it under this number in the way that is wanted, and
    /// finds another one when it looks again.
    fn join(&mut self, way: Option<Way>) -> Answer<Way> {
        self.way = way;
        way.ok_or_else(|| {
            let is_free = |alias| self.inode.is_free(alias);
            let turned = self.mount.nodes.turn(self.inode.number, self.alias, is_free);
            if turned { Errno::ESTALE } else { Errno::ETXTBSY }
        })
    }

    /// It is open.
    fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.ended {
            if let Some(way) = self.way {
                self.mount.leave(&self.inode, self.alias, way);
            }
            self.mount.open.close(&self.inode);
            self.mount.keeper.closed(InodeId(self.inode.number));
        }
    }
}

impl Mount {
    /// Opens a file under one of its numbers; ESTALE: not under this one, look it up again.
    pub(crate) async fn open_file(
        &self,
        caller: Caller,
        (number, alias): (u64, u8),
        flags: OpenFlags,
        request: u64,
    ) -> Answer<Opened> {
        if let Some((_, opened)) = self.opened_before(request) {
            return Ok(opened);
        }
        let client = self.client(caller).await?;
        let mut opening = Opening::begin(self, &client, (number, alias), (request, true));
        let inode = &opening.inode.clone();
        let path = self.path(number);
        let access = match flags.acc_mode() {
            OpenAccMode::O_RDONLY => return self.open_to_read((client, caller), opening, path).await,
            OpenAccMode::O_WRONLY => 2,
            OpenAccMode::O_RDWR => 6,
        };
        self.may_change()?;
        client.check_access(&path, access).await.map_err(|error| by_number("an open", &error))?;
        // A writer that failed and was closed is not joined.
        inode.is_written().await;
        let status = client.stat(&path).await.map_err(|error| by_number("an open", &error))?;
        if status.directory {
            return Err(Errno::EISDIR);
        }
        opening.kept(&status).await?;
        self.tell_length(&status).await;
        let way = opening.join(inode.join_direct(alias))?;
        self.pages.doubt(self.nodes.all(number));
        let begin = Begin::Opened(status.length);
        let write = self.open.join_writers(inode, client.clone(), path.clone(), begin).await;
        let file =
            FileHandle { alias, way, ..file_handle((client, caller), inode, path, Some((write, flags.0))) };
        Ok(Opened { handle: self.keep(file, flags.0, opening)?, way, keeps: false })
    }

    /// Gives a file a number, and remembers it.
    fn keep(&self, file: FileHandle, flags: i32, opening: Opening<'_>) -> Answer<u64> {
        let kind = if file.write.is_some() { SlotKind::Writing } else { SlotKind::Reading };
        let unlinked = file.inode.is_unlinked();
        let backing = match file.way {
            Way::Passed(backing) => Some(backing),
            Way::Cached | Way::Direct => None,
        };
        let (number, alias, user) = (file.inode.number, file.alias, file.caller.user);
        let request = opening.request;
        let slot = Slot { inode: number, user, flags, kind, unlinked, alias, backing, request };
        let kept = self.handles.add(Handle::File(Arc::new(file)), slot)?;
        opening.end();
        Ok(kept)
    }

    /// A file that a process before this one opened for this request, and did not live to say so: were it opened once more, the
    /// first time would never be closed.
    fn opened_before(&self, request: u64) -> Option<(Arc<FileHandle>, Opened)> {
        match self.handles.opened_before(request)? {
            (handle, Handle::File(file)) => {
                let way = file.way;
                Some((file, Opened { handle, way, keeps: false }))
            }
            (_, Handle::Folder(_)) => None,
        }
    }

    /// A file that a process before this one had open.
    pub(super) async fn left_file(&self, client: Client, slot: Slot) -> FileHandle {
        let inode = self.open.open(slot.inode);
        self.keeper.opened(&client, InodeId(slot.inode), true);
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
        inode.rejoin(slot.alias, way);
        self.nodes.note(slot.inode, slot.alias);
        let as_user = (client, Caller { user: slot.user });
        let write = write.map(|write| (write, slot.flags));
        FileHandle { alias: slot.alias, way, ..file_handle(as_user, &inode, path, write) }
    }

    async fn open_to_read(
        &self,
        (client, caller): (Client, Caller),
        mut opening: Opening<'_>,
        path: String,
    ) -> Answer<Opened> {
        let (inode, alias) = (&opening.inode.clone(), opening.alias);
        let writing = inode.is_written().await;
        let commits = inode.commits();
        let reader = client.open(&path).await.map_err(|error| by_number("an open", &error))?;
        opening.kept(reader.status()).await?;
        self.tell_length(reader.status()).await;
        let way = if writing || reader.under_construction() {
            inode.join_direct(alias)
        } else {
            self.way_to_read(inode, alias, &reader).await
        };
        let way = opening.join(way)?;
        let (node, content) = (joined(inode.number, alias), reader.status().content_version);
        let keeps = way == Way::Cached && self.pages.may_stay(node, content, || inode.is_alone(alias));
        let file = FileHandle { alias, way, ..file_handle((client, caller), inode, path, None) };
        *file.window.lock() = Some((commits, Arc::new(self.new_window(reader))));
        let flags = if way == Way::Direct { DIRECT } else { 0 };
        Ok(Opened { handle: self.keep(file, flags, opening)?, way, keeps })
    }

    /// The kernel may still believe that a file which is opened has its former length: it would read no further, and a program
    /// that looks for the end would write before it.
    async fn tell_length(&self, status: &FileStatus) {
        if self.coherence.is_unheard(status.content_version) {
            self.notify.attributes(self.number(status)).await;
        }
    }

    /// How the kernel shall read a file that is complete.
    async fn way_to_read(&self, inode: &OpenInode, alias: u8, reader: &Reader) -> Option<Way> {
        if self.locked_before(inode.number) {
            return inode.join_readers(alias, None, || None);
        }
        let local = match reader.local_file(&self.settings.local).await {
            Ok(local) => local,
            Err(error) => {
                tracing::debug!(%error, "no local replica");
                None
            }
        };
        let block = local.as_ref().map(|(block, _)| (block.block.0, block.stamp.0));
        inode.join_readers(alias, block, || {
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

    fn leave(&self, inode: &OpenInode, alias: u8, way: Way) {
        if let Some(backing) = inode.leave(alias, way)
            && let Err(error) = self.device.forget(backing.number)
        {
            tracing::debug!(%error, "the kernel keeps a file that it need not");
        }
    }

    /// Makes a file and opens it for writing.
    pub(crate) async fn create_file(
        &self,
        caller: Caller,
        (parent, name): (u64, &OsStr),
        mode: u32,
        (flags, request): (i32, u64),
    ) -> Answer<(FileAttr, u64, Opened)> {
        self.may_change()?;
        let path = self.entry(parent, name)?;
        let client = self.client(caller).await?;
        if let Some((file, opened)) = self.opened_before(request) {
            let inode = file.inode.number;
            return Ok((self.stat(&client, inode).await?, joined(inode, file.alias), opened));
        }
        match self.create(&client, &path, mode).await {
            Ok(writer) => {
                let status = writer.status().clone();
                let mut opening = Opening::begin(self, &client, (status.inode.0, 0), (request, false));
                let inode = opening.inode.clone();
                let path = self.path(inode.number);
                let begin = Begin::Created(Box::new(writer));
                let write = self.open.join_writers(&inode, client.clone(), path.clone(), begin).await;
                let attributes = self.attributes(&client, &status).await;
                let way = opening.join(inode.join_direct(0))?;
                let file = file_handle((client, caller), &inode, path, Some((write, flags)));
                let handle = self.keep(file, flags, opening)?;
                Ok((attributes, inode.number, Opened { handle, way, keeps: false }))
            }
            // Somebody was faster, which only matters to who wanted to be the first.
            Err(errno) if errno.code() == Errno::EEXIST.code() && flags & EXCLUSIVE == 0 => {
                self.open_created(caller, (parent, name), (flags, request)).await
            }
            Err(errno) => Err(errno),
        }
    }

    /// Opens what was to be made and is there already, under whichever number can be had.
    async fn open_created(
        &self,
        caller: Caller,
        (parent, name): (u64, &OsStr),
        (flags, request): (i32, u64),
    ) -> Answer<(FileAttr, u64, Opened)> {
        let attributes = self.lookup(caller, parent, name).await?;
        for _ in 0..NUMBERS_TRIED {
            let node = self.nodes.of(attributes.ino.0);
            match self.open_file(caller, split(node), OpenFlags(flags), request).await {
                Err(errno) if errno.code() == Errno::ESTALE.code() => {}
                opened => return Ok((attributes, node, opened?)),
            }
        }
        Err(Errno::ESTALE)
    }

    async fn create(&self, client: &Client, path: &str, mode: u32) -> Answer<Writer> {
        let mut create = client.create(path).create_parent(false).mode((mode & 0o1777) as u16);
        if let Some(replication) = self.settings.replication {
            create = create.replication(replication);
        }
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

    pub(crate) async fn read(&self, handle: u64, offset: u64, length: usize) -> Answer<Read> {
        let share = self.memory.data.take(length).await;
        Ok(Read { bytes: self.read_bytes(handle, offset, length).await?, _share: share })
    }

    async fn read_bytes(&self, handle: u64, offset: u64, length: usize) -> Answer<Pieces> {
        let file = &*self.handles.file(handle)?;
        self.locks.check(InodeId(file.inode.number), handle)?;
        if file.inode.dirty().await.is_some()
            && let Some(writer) = file.inode.settled().await
        {
            return writer.read(offset, length).await.map(|bytes| vec![bytes]);
        }
        let read = self.read_once(file, offset, length).await?;
        let read = match read {
            // As after a write in place: whoever has the file open sees what it holds now.
            Err(error) if error.kind() == FsErrorKind::ContentChanged => {
                file.inode.doubt();
                self.read_once(file, offset, length).await?
            }
            read => read,
        };
        read.map_err(|error| by_number("a read", &error))
    }

    async fn read_once(&self, file: &FileHandle, offset: u64, length: usize) -> Answer<FsResult<Pieces>> {
        let window = self.window(file).await?;
        let reader = window.reader();
        if reader.under_construction() && offset.saturating_add(length as u64) > reader.length() {
            // It may have grown.
            if let Err(error) = reader.refresh().await {
                return Ok(Err(error));
            }
        }
        Ok(window.read(offset, length).await)
    }

    fn new_window(&self, reader: Reader) -> Window {
        Window::new(reader, self.memory.ahead.clone(), &self.locals)
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
        let window = Arc::new(self.new_window(reader));
        *file.window.lock() = Some((commits, window.clone()));
        Ok(window)
    }

    /// `share` is that of the bytes.
    pub(crate) async fn write(&self, handle: u64, write: Write, share: Share) -> Answer<u32> {
        let file = &*self.handles.file(handle)?;
        self.locks.check(InodeId(file.inode.number), handle)?;
        let handle = file.write.as_ref().ok_or(Errno::EBADF)?;
        handle.set_closing(false);
        let writer = handle.requests();
        let at = match write.at {
            Position::AsOpened(_) if file.append => Position::End,
            at => at,
        };
        writer.write(Write { at, ..write }, share).await
    }

    /// `owner` closes.
    pub(crate) async fn flush(&self, handle: u64, owner: u64) -> Answer<()> {
        let file = &*self.handles.file(handle)?;
        let committed = self.commit_of(file, handle, owner).await;
        // Its locks go when others can see what it wrote under them.
        let inode = InodeId(file.inode.number);
        if self.locks.has_ranges(inode, owner) {
            committed.and(self.locks.closed_by(inode, owner).await)
        } else {
            committed
        }
    }

    async fn commit_of(&self, file: &FileHandle, handle: u64, owner: u64) -> Answer<()> {
        let Some(write) = &file.write else { return Ok(()) };
        if file.inode.is_unlinked() && file.inode.is_last() {
            // Nobody else can see it.
            return Ok(());
        }
        self.locks.confirm(InodeId(file.inode.number), handle).await?;
        write.set_closing(true);
        let before = file.inode.commits();
        let committed = write.requests().commit(Some(owner)).await;
        // That may have taken its time.
        write.set_closing(true);
        committed?;
        if file.inode.commits() != before {
            // Before `close` returns: the times that the kernel knows are those from before.
            self.notify.attributes(file.inode.number).await;
            self.notify.changed(file.inode.number);
        }
        Ok(())
    }

    /// Everything is wanted durable.
    pub(crate) async fn sync(&self, handle: u64) -> Answer<()> {
        let file = &*self.handles.file(handle)?;
        self.locks.confirm(InodeId(file.inode.number), handle).await?;
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
    pub(crate) async fn close_file(&self, file: Arc<FileHandle>, handle: u64, flock_owner: Option<u64>) {
        self.locks.released(InodeId(file.inode.number), handle, flock_owner).await;
        let inode = file.inode.clone();
        if inode.is_unlinked()
            && inode.is_last()
            && let Some(write) = &file.write
        {
            write.requests().forget().await;
        }
        self.leave(&inode, file.alias, file.way);
        drop(file);
        inode.settled().await;
        self.open.close(&inode);
        self.keeper.closed(InodeId(inode.number));
    }
}
