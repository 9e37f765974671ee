//! What a plan tells those who follow the namespace. To be told before the change is planned where a path is needed that
//! the change takes away.

use std::sync::Arc;

use steadfs_common::{FsPath, FsResult, InodeId, TxId};

use super::kept;
use super::planner::Planner;
use super::resolve::{self, Resolved};
use super::usage::Usage;
use crate::event::{Created, Event, EventBatch, EventKind, MetadataChange};
use crate::record::{Inode, InodeKind};
use crate::view::View;

impl Planner<'_> {
    /// Tells things that happen at once, under an id of their own.
    fn tell(&mut self, events: Vec<Event>) {
        let tx = self.events.last().map_or(self.id(), |batch| batch.tx.next());
        self.events.push(EventBatch { tx, events });
    }

    /// Where an inode lies, if anybody is told of it: not of what no path leads to, nor of files that have lost their names.
    fn told_at(&self, inode: &Inode) -> Option<FsPath> {
        resolve::full_path(&self.tx, inode.id).filter(|path| !kept::leads_there(path))
    }

    /// Tells one thing that happens to `inode`, wherever that lies.
    fn tell_of(&mut self, inode: &Inode, kind: EventKind) {
        if let Some(path) = self.told_at(inode) {
            self.tell(vec![event(inode, path, kind)]);
        }
    }

    /// `inode` was made at `path`.
    pub(crate) fn created(
        &mut self,
        inode: &Inode,
        path: FsPath,
        overwrite: bool,
        replaced: Option<InodeId>,
    ) {
        let file = inode.file();
        let made = Created {
            directory: file.is_none(),
            mtime: self.ctx.now,
            owner: inode.owner.clone(),
            group: inode.group.clone(),
            mode: inode.mode,
            replication: file.map_or(0, |body| body.replication()),
            block_size: file.map_or(0, |body| body.block_size),
            overwrite,
            replaced,
        };
        self.tell(vec![event(inode, path, EventKind::Create(made))]);
    }

    /// `inode` goes from `path`, with all below it.
    pub(crate) fn unlinked(&mut self, inode: &Inode, path: FsPath) {
        let mtime = self.ctx.now;
        self.tell(vec![gone(inode, path, EventKind::Unlink { mtime })]);
    }

    /// `inode` moves from `from` to `destination`, in the folder `parent`.
    pub(crate) fn renamed(
        &mut self,
        inode: &Inode,
        from: &FsPath,
        destination: &Resolved<'_>,
        parent: InodeId,
    ) {
        let to = destination.path.clone().into_owned();
        let replaced = destination.target().map(|target| target.id).filter(|id| *id != inode.id);
        let kind = EventKind::Rename { to, parent, replaced, mtime: self.ctx.now };
        self.tell(vec![event(inode, from.clone(), kind)]);
    }

    /// Something beside the bytes of an inode changes.
    pub(crate) fn metadata_changed(&mut self, id: InodeId, change: MetadataChange) {
        if let Some(inode) = self.tx.inode(id) {
            self.tell_of(&inode, EventKind::Metadata(change));
        }
    }

    /// A file is written on.
    pub(crate) fn appended(&mut self, inode: &Inode, new_block: bool) {
        self.tell_of(inode, EventKind::Append { new_block });
    }

    /// A file is cut to `length` bytes.
    pub(crate) fn truncated(&mut self, inode: &Inode, length: u64) {
        let kind = EventKind::Truncate { length, mtime: self.ctx.now };
        self.tell_of(&self.as_changed(inode), kind);
    }

    /// A file is closed.
    pub(crate) fn closed(&mut self, inode: &Inode) {
        let length = inode.file().map(|body| body.length);
        self.tell_of(inode, EventKind::Close { length, mtime: self.ctx.now });
    }

    /// A file that is being written had `before` bytes: says so if more are known now.
    pub(crate) fn grown(&mut self, inode: &Inode, before: u64) {
        if let Some(length) = inode.file().map(|body| body.length).filter(|length| *length != before) {
            self.tell_of(&self.as_changed(inode), EventKind::Flushed { length });
        }
    }

    /// The blocks of `sources` become part of `target`.
    pub(crate) fn joined(&mut self, target: &Inode, path: &FsPath, sources: &[Arc<Inode>]) {
        let (folder, mtime) = (path.parent().unwrap_or_else(FsPath::root), self.ctx.now);
        let target = self.as_changed(target);
        let mut events = vec![event(&target, path.clone(), EventKind::Append { new_block: false })];
        for source in sources {
            let Some(name) = source.name.clone() else { continue };
            events.push(gone(source, folder.join(name), EventKind::Unlink { mtime }));
        }
        events.push(event(&target, path.clone(), EventKind::Close { length: None, mtime }));
        self.tell(events);
    }

    /// All bytes of a file are replaced by those that it has now.
    pub(crate) fn replaced(&mut self, inode: &Inode) {
        let Some(path) = self.told_at(inode) else { return };
        let (inode, mtime) = (self.as_changed(inode), self.ctx.now);
        let length = inode.file().map(|body| body.length);
        let kinds = [
            EventKind::Truncate { length: 0, mtime },
            EventKind::Append { new_block: false },
            EventKind::Close { length, mtime },
        ];
        self.tell(kinds.into_iter().map(|kind| event(&inode, path.clone(), kind)).collect());
    }

    /// A file as it is once its bytes have changed in this transaction.
    fn as_changed(&self, inode: &Inode) -> Inode {
        let mut inode = inode.clone();
        if let InodeKind::File(body) = &mut inode.kind {
            body.content = self.id();
        }
        inode
    }

    /// Writes a file whose bytes changed, `before` being what it used.
    pub(crate) fn write_content(&mut self, inode: Inode, before: Usage) -> FsResult<Inode> {
        let inode = self.as_changed(&inode);
        self.write_file(inode, before)
    }
}

fn event(inode: &Inode, path: FsPath, kind: EventKind) -> Event {
    let content = inode.file().map_or(TxId(0), |body| body.content);
    Event { inode: inode.id, parent: inode.parent, path, content, kind }
}

fn gone(inode: &Inode, path: FsPath, kind: EventKind) -> Event {
    Event { content: TxId(0), ..event(inode, path, kind) }
}
