//! What the rules read.

use std::sync::Arc;

use steadfs_common::{BlockId, CallKey, DatanodeUuid, InodeId, Name};

use crate::blocks::Wish;
use crate::locks::SessionId;
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
