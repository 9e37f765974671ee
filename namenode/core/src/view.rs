//! What the rules read.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use steadfs_common::{BlockId, CallKey, DatanodeUuid, InodeId, Name};

use crate::blocks::Wish;
use crate::locks::SessionId;
use crate::namespace::kept;
use crate::record::{Block, Counters, Inode, Lease, LockSession, Loss, Retry, Totals, XAttr};

/// A consistent picture of what is stored. Reads do not fail: a store that cannot read its own disk ends the process,
/// because there is nothing right to answer.
///
/// Listings return at most `limit` rows, in the order of the key, strictly after `after`.
pub trait View {
    /// The inode with this id, detached ones included.
    fn inode(&self, id: InodeId) -> Option<Arc<Inode>>;
    /// What `name` stands for in `folder`.
    fn entry(&self, folder: InodeId, name: &Name) -> Option<InodeId>;
    /// The entries of `folder` by name, in byte order.
    fn entries(&self, folder: InodeId, after: Option<&Name>, limit: usize) -> Vec<(Name, InodeId)>;
    /// As [`View::entries`], with the inodes, and without what nobody sees. Whoever keeps pages gives the same again as long
    /// as nothing in them changed.
    fn children(&self, folder: InodeId, after: Option<&Name>, limit: usize) -> Arc<Children> {
        let entries = self.entries(folder, after, Children::entries_for(limit));
        Arc::new(Children::read(folder, entries, limit, |id| self.inode(id)))
    }
    /// The totals of `folder`; zero if it has none.
    fn totals(&self, folder: InodeId) -> Totals;
    /// The block with this id.
    fn block(&self, id: BlockId) -> Option<Block>;
    /// The block at `index` of a file.
    fn file_block(&self, file: InodeId, index: u32) -> Option<BlockId>;
    /// The blocks of a file from `from` on, in order.
    fn file_blocks(&self, file: InodeId, from: u32, limit: usize) -> Vec<BlockId>;
    /// The lease on a file.
    fn lease(&self, file: InodeId) -> Option<Lease>;
    /// Leases by file id.
    fn leases(&self, after: Option<InodeId>, limit: usize) -> Vec<(InodeId, Lease)>;
    /// Trees to reclaim, by id, each with the last name removed from it.
    fn reclaims(&self, limit: usize) -> Vec<(InodeId, Option<Name>)>;
    /// A saved answer.
    fn retry(&self, key: &CallKey) -> Option<Retry>;
    /// Saved answers by key.
    fn retries(&self, after: Option<&CallKey>, limit: usize) -> Vec<(CallKey, Retry)>;
    /// The extended attributes of an inode, in the order they were set; none for most.
    fn xattrs(&self, id: InodeId) -> Vec<XAttr>;
    /// A mount's session.
    fn lock_session(&self, id: SessionId) -> Option<LockSession>;
    /// Sessions by id.
    fn lock_sessions(&self, after: Option<SessionId>, limit: usize) -> Vec<(SessionId, LockSession)>;
    /// What operators want of single datanodes, by uuid: those that shall not serve.
    fn node_wishes(&self) -> Vec<(DatanodeUuid, Wish)>;
    /// Losses whose replicas are kept, oldest first.
    fn losses(&self) -> Vec<Loss>;
    /// The counters; none in a store that was never formatted.
    fn counters(&self) -> Option<Counters>;
}

/// A page of a folder.
#[derive(Debug, Default)]
pub struct Children {
    /// The entries, by name in byte order. A file that was listed itself is one entry with no name.
    pub rows: Vec<(Option<Name>, Arc<Inode>)>,
    /// Whether there are entries after these.
    pub more: bool,
    derived: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Children {
    /// A page of these rows.
    #[must_use]
    pub fn new(rows: Vec<(Option<Name>, Arc<Inode>)>, more: bool) -> Self {
        Self { rows, more, derived: OnceLock::new() }
    }

    /// How many entries to read for a page of so many: with one more it is known whether others follow, and in the place
    /// of another the folder of kept files may come, which nobody sees.
    #[must_use]
    pub const fn entries_for(limit: usize) -> usize {
        limit.saturating_add(2)
    }

    /// The page of `folder` that these entries begin, as many as [`Children::entries_for`] says, with the inodes that `inode`
    /// knows; an entry without one is left out.
    pub fn read(
        folder: InodeId,
        mut entries: Vec<(Name, InodeId)>,
        limit: usize,
        inode: impl Fn(InodeId) -> Option<Arc<Inode>>,
    ) -> Self {
        entries.retain(|(name, _)| !kept::is_folder(folder, name));
        let more = entries.len() > limit;
        entries.truncate(limit);
        let rows = entries.into_iter().filter_map(|(name, id)| Some((Some(name), inode(id)?)));
        Self::new(rows.collect(), more)
    }

    /// What was made of this page once and is kept with it, if it is of this type; `make` makes it. One type and one thing
    /// are kept: the first.
    pub fn derived<T: Clone + Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Option<T> {
        self.derived.get_or_init(|| Box::new(make())).downcast_ref::<T>().cloned()
    }
}
