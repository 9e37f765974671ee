//! Where there is no room for a block, by quota or on the disks.

use fuser::Errno;

use super::Task;
use crate::errno::Answer;

/// By how much blocks are made smaller from one try to the next.
const SQUEEZE_BY: u64 = 8;
/// Blocks of a file beyond which smaller ones save no room worth a try.
const MANY_BLOCKS: u64 = 16;

impl Task {
    /// A stream has failed. For want of room, and as long as everything is still staged, nothing is lost: it is tried again
    /// when the file is committed, with smaller blocks.
    pub(super) async fn salvage(
        &mut self,
        what: &'static str,
        error: &steadfs_client::FsError,
    ) -> Answer<()> {
        if let Some(writer) = self.stream.take() {
            writer.abort().await;
        }
        self.streaming = None;
        let here = self.stage.as_ref().is_none_or(|stage| stage.begins() <= self.committed);
        let staged = here && self.extents.is_exactly(&(self.committed..self.size));
        if !staged || !is_room(crate::errno::errno(error)) {
            return Err(self.lost(what, error));
        }
        tracing::info!(path = %self.path, %error, "no room for a block: what is written waits here until it is committed");
        self.rewrite = true;
        self.closed_in_between().await.map(drop)
    }

    /// There is no room for a block of the file's size: the content is written with blocks as small as they must be.
    pub(super) async fn squeeze(&mut self, errno: Errno) -> Answer<()> {
        let status = self.closed_in_between().await?;
        self.rewrite = true;
        // Of so many blocks even the last one is small beside the file: what does not fit then never does.
        let least = self.client.defaults().min_block_size.max((self.size / MANY_BLOCKS).next_power_of_two());
        let mut block = self.size.next_power_of_two().max(least);
        while block < status.block_size {
            match self.replace_with(block).await {
                Err(errno) if is_room(errno) && block > least => block = (block / SQUEEZE_BY).max(least),
                Ok(()) => {
                    tracing::info!(path = %self.path, block, "no room for larger blocks: the file got smaller ones");
                    return Ok(());
                }
                refused => return refused,
            }
        }
        Err(errno)
    }
}

/// Whether there was no room, by quota or on the disks.
pub(super) fn is_room(errno: Errno) -> bool {
    [Errno::EDQUOT.code(), Errno::ENOSPC.code()].contains(&errno.code())
}
