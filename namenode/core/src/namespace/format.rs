//! The first records of a namespace.

use std::collections::BTreeMap;

use steadfs_common::{
    FIRST_BLOCK_ID, FIRST_GENERATION_STAMP, FIRST_INODE_ID, FsError, FsResult, InodeId, ROOT_INODE, TxId,
};

use crate::command::{Context, Outcome, Reply};
use crate::record::{Counters, Inode, InodeKind, Key, Record};
use crate::tx::Changes;
use crate::view::View;

/// [`crate::Command::Format`]. The caller owns the root, which belongs to the supergroup.
pub(crate) fn format(view: &dyn View, ctx: &Context<'_>) -> FsResult<(Changes, Outcome)> {
    if view.counters().is_some() || view.inode(ROOT_INODE).is_some() {
        return Err(FsError::refused("The namespace is formatted already"));
    }
    let tx = TxId(1);
    let root = Inode {
        id: ROOT_INODE,
        parent: ROOT_INODE,
        name: None,
        owner: ctx.caller.user.clone(),
        group: ctx.settings.supergroup.clone(),
        mode: 0o755,
        mtime: ctx.now,
        atime: steadfs_common::Millis(0),
        changed: tx,
        acl: None,
        has_xattrs: false,
        storage_policy: 0,
        kind: InodeKind::Directory { children: 0, quota: None },
    };
    let counters = Counters {
        next_inode: InodeId(FIRST_INODE_ID.0),
        next_block: FIRST_BLOCK_ID,
        next_stamp: FIRST_GENERATION_STAMP,
        last_tx: tx,
        complete_blocks: 0,
        blocks: 0,
    };
    let changes = BTreeMap::from([
        (Key::Inode(ROOT_INODE), Some(Record::Inode(root))),
        (Key::Counters, Some(Record::Counters(counters))),
    ]);
    Ok((changes, Outcome { reply: Reply::Done, effects: Vec::new(), events: Vec::new() }))
}
