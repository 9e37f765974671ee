//! What all plans share: writing records, handing out ids, and keeping totals.

use std::sync::Arc;

use steadfs_common::{
    BlockId, FsError, FsErrorKind, FsPath, FsResult, GenStamp, InodeId, Name, ROOT_INODE, TxId,
};

use super::permission::{Guard, STICKY};
use super::replace;
use super::resolve::{self, Purpose, Resolved};
use super::usage::Usage;
use crate::command::{Context, Effect, Outcome, Reply};
use crate::event::EventBatch;
use crate::record::{Counters, Inode, InodeKind, Key, Record};
use crate::tx::{Changes, Tx};
use crate::view::View;

/// One command on its way: its changes so far, over the view it reads.
pub(crate) struct Planner<'p> {
    pub(crate) tx: Tx<'p>,
    pub(crate) ctx: &'p Context<'p>,
    pub(crate) guard: Guard<'p>,
    pub(crate) counters: Counters,
    before: Counters,
    effects: Vec<Effect>,
    /// Transaction ids after this command's own that are not given out.
    passed_over: u64,
    pub(super) events: Vec<EventBatch>,
}

impl<'p> Planner<'p> {
    pub(crate) fn new(view: &'p dyn View, ctx: &'p Context<'p>) -> FsResult<Self> {
        let counters = view.counters().ok_or_else(|| {
            FsError::new(FsErrorKind::Io, "The namespace was never formatted: it has no counters")
        })?;
        let guard = Guard::new(ctx.caller, ctx.settings);
        Ok(Self {
            tx: Tx::new(view),
            ctx,
            guard,
            counters,
            before: counters,
            effects: Vec::new(),
            passed_over: 0,
            events: Vec::new(),
        })
    }

    /// The changes, under the next transaction if there are any, and what to answer.
    pub(crate) fn finish(mut self, reply: Reply) -> (Changes, Outcome) {
        if self.counters != self.before || self.tx.is_changed() || !self.events.is_empty() {
            let last = self.events.last().map_or(self.id(), |batch| batch.tx);
            self.counters.last_tx = TxId(last.0 + self.passed_over);
            self.tx.put(Key::Counters, Record::Counters(self.counters));
        }
        (self.tx.into_changes(), Outcome { reply, effects: self.effects, events: self.events })
    }

    /// Gives none of so many transaction ids out that would be next.
    pub(super) const fn pass_over_transactions(&mut self, count: u64) {
        self.passed_over = count;
    }

    /// Replicas that make a block safe.
    pub(crate) fn min_replication(&self) -> usize {
        usize::from(self.ctx.settings.min_replication.max(1))
    }

    /// This transaction's id: the first, if it has several events.
    pub(crate) const fn id(&self) -> TxId {
        self.before.last_tx.next()
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// What lies along the path of something that is to change. Below `/.reserved/raw` superusers change things alone.
    pub(crate) fn resolve<'a>(&self, path: &'a FsPath, purpose: Purpose) -> FsResult<Resolved<'a>> {
        if resolve::names_raw(path) && !self.guard.is_superuser() {
            let user = self.guard.user();
            let message = format!("Access denied for user {user}. Superuser privilege is required");
            return Err(FsError::denied(message));
        }
        resolve::resolve(&self.tx, &self.guard, path, purpose)
    }

    pub(crate) fn new_inode_id(&mut self) -> InodeId {
        let id = self.counters.next_inode;
        self.counters.next_inode = id.next();
        id
    }

    pub(crate) fn new_block_id(&mut self) -> BlockId {
        let id = self.counters.next_block;
        self.counters.next_block = id.next();
        id
    }

    pub(crate) fn new_stamp(&mut self) -> GenStamp {
        let stamp = self.counters.next_stamp;
        self.counters.next_stamp = stamp.next();
        stamp
    }

    /// Writes an inode as changed by this transaction, and gives it back as written.
    pub(crate) fn write(&mut self, mut inode: Inode) -> Inode {
        inode.changed = self.id();
        self.tx.put_inode(inode.clone());
        inode
    }

    /// Removes the record of an inode that nothing names any more, and what stands beside it.
    pub(crate) fn forget(&mut self, inode: &Inode) {
        self.tx.delete(Key::Inode(inode.id));
        if inode.has_xattrs {
            self.tx.delete(Key::XAttrs(inode.id));
        }
    }

    /// An inode that a record just read names.
    pub(crate) fn inode(&self, id: InodeId) -> FsResult<Arc<Inode>> {
        self.tx
            .inode(id)
            .ok_or_else(|| FsError::new(FsErrorKind::Io, format!("Inode {id} is named but not stored")))
    }

    /// Adds to the totals of `folder` and of every folder above. With `guarded`, says there that permissions below are
    /// others now.
    pub(crate) fn add_totals(&mut self, folder: InodeId, usage: Usage, guarded: bool) -> FsResult<()> {
        if usage.is_zero() && !guarded {
            return Ok(());
        }
        let (mut id, mut usage) = (folder, usage);
        loop {
            let mut totals = usage.added_to(self.tx.totals(id));
            if guarded {
                totals.guarded = self.id();
            }
            self.tx.put(Key::Totals(id), Record::Totals(totals));
            if id == ROOT_INODE {
                return Ok(());
            }
            let inode = self.inode(id)?;
            usage = usage.settled_by(inode.storage_policy);
            id = inode.parent;
        }
    }

    /// Enters `child` into a folder. `usage` is what it and all below it use; `folders` says whether it is a folder that
    /// holds something.
    pub(crate) fn enter(
        &mut self,
        folder: InodeId,
        name: &Name,
        child: InodeId,
        usage: Usage,
        folders: bool,
    ) -> FsResult<()> {
        let mut parent = Inode::clone(&*self.inode(folder)?);
        let sticky = parent.mode & STICKY != 0;
        let InodeKind::Directory { children, .. } = &mut parent.kind else {
            return Err(FsError::refused(format!("Inode {folder} is not a folder")));
        };
        let first = *children == 0;
        *children += 1;
        parent.mtime = parent.mtime.max(self.ctx.now);
        self.write(parent);
        self.tx.put(Key::Entry(folder, name.clone()), Record::Entry(child));
        self.add_totals(folder, usage, first || sticky || folders)
    }

    /// Takes an inode's entry out of its folder. The inode stays stored.
    pub(crate) fn leave(&mut self, inode: &Inode, usage: Usage) -> FsResult<()> {
        let name: Name =
            inode.name.clone().ok_or_else(|| FsError::refused("The root cannot be taken away"))?;
        let mut parent = Inode::clone(&*self.inode(inode.parent)?);
        let id = parent.id;
        if let InodeKind::Directory { children, .. } = &mut parent.kind {
            *children = children.saturating_sub(1);
        }
        parent.mtime = parent.mtime.max(self.ctx.now);
        self.write(parent);
        self.tx.delete(Key::Entry(id, name));
        self.add_totals(id, -usage, false)
    }

    /// What an inode and all below it use.
    pub(crate) fn usage(&self, inode: &Inode) -> Usage {
        Usage::of(&self.tx, inode)
    }

    /// Writes a file whose blocks or replication changed, `before` being what it used.
    pub(crate) fn write_file(&mut self, inode: Inode, before: Usage) -> FsResult<Inode> {
        let inode = self.write(inode);
        if replace::is_staged(&inode) {
            // No folder counts it: what it holds is counted once it is a file's content.
            return Ok(inode);
        }
        let change = self.usage(&inode) - before;
        self.add_totals(inode.parent, change, false)?;
        Ok(inode)
    }
}
