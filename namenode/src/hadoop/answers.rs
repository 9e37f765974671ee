//! What commands reply, as methods answer.

use steadfs_common::FsResult;
use steadfs_namenode_core::command::{PlacedBlock, Reply};

use super::unexpected;

/// Success and nothing to say.
pub(super) fn done(reply: Reply) -> FsResult<()> {
    match reply {
        Reply::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// A truth value.
pub(super) fn truth(reply: Reply) -> FsResult<bool> {
    match reply {
        Reply::Bool(value) => Ok(value),
        other => Err(unexpected(&other)),
    }
}

/// A block to write.
pub(super) fn block(reply: Reply) -> FsResult<PlacedBlock> {
    match reply {
        Reply::Block(block) => Ok(block),
        other => Err(unexpected(&other)),
    }
}
