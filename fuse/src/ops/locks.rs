//! Locks of open files.

use std::collections::HashMap;

use fuser::Errno;
use steadfs_client::InodeId;

use super::files::FileHandle;
use super::{Caller, Mount, by_number};
use crate::errno::Answer;
use crate::handoff::Memory;
use crate::kernel::{LockCall, LockFound, LockWanted};
use crate::locks::{CLOSE_FOR, LockOf, Locks};
use crate::open::Way;

impl Mount {
    /// Goes on with the locks of a process before this one.
    pub(super) async fn take_over_locks(&self, memory: &Memory) -> anyhow::Result<()> {
        let mut clients = HashMap::new();
        for user in Locks::users_left(memory)? {
            let client = self.client(Caller { user }).await;
            clients.insert(user, client.map_err(|errno| anyhow::anyhow!("user {user}: {errno:?}"))?);
        }
        for inode in Locks::inodes_left(memory)? {
            self.lockers.insert(inode, ());
        }
        Ok(self.locks.take_over(&clients)?)
    }

    /// What is in the way of a lock.
    pub(crate) async fn test_lock(&self, call: LockCall) -> Answer<Option<LockFound>> {
        let file = self.handles.file(call.handle)?;
        self.locks.test(lock_of(&file, call, 0)).await
    }

    /// Takes a lock, or gives one up.
    pub(crate) async fn set_lock(&self, call: LockCall, wait: bool, request: u64) -> Answer<()> {
        let file = self.handles.file(call.handle)?;
        let lock = lock_of(&file, call, request);
        // Who may read or write under it next sees what was written under it here.
        let committed = match call.kind {
            LockWanted::Exclusive => Ok(()),
            LockWanted::Shared | LockWanted::None if !self.locks.has(&lock) => Ok(()),
            LockWanted::Shared | LockWanted::None => self.commit_under(&file, call.handle).await,
        };
        if !call.is_wanted() {
            return committed.and(self.locks.unlock(lock).await);
        }
        committed?;
        self.lockers.insert(file.inode.number, ());
        self.locks.lock(lock.clone(), wait).await?;
        if let Err(errno) = self.look_again(&file).await {
            let _ = self.locks.unlock(lock).await;
            return Err(errno);
        }
        Ok(())
    }

    /// Whether somebody here locked the file at some time: it is not passed through then.
    pub(super) fn locked_before(&self, inode: u64) -> bool {
        self.lockers.get(&inode).is_some()
    }

    async fn commit_under(&self, file: &FileHandle, handle: u64) -> Answer<()> {
        let Some(writer) = file.inode.settled().await else { return Ok(()) };
        if file.inode.dirty().await.is_none() {
            return Ok(());
        }
        self.locks.confirm(InodeId(file.inode.number), handle).await?;
        let before = file.inode.commits();
        writer.commit(None).await?;
        if file.inode.commits() != before {
            self.notify.content(file.inode.number).await;
        }
        Ok(())
    }

    /// Forgets what is remembered of a file's content: somebody else may have changed it before giving its lock up.
    async fn look_again(&self, file: &FileHandle) -> Answer<()> {
        if let Way::Passed(backing) = file.way {
            let reader = file.client.open(&file.path).await.map_err(|error| by_number("a lock", &error))?;
            let blocks = reader.blocks(0..1).await.map_err(|error| by_number("a lock", &error))?;
            let same = blocks.first().is_some_and(|block| {
                (block.block.0, block.stamp.0) == (backing.block, backing.stamp)
                    && block.length == reader.length()
            });
            // The kernel reads a local file of the old content: it must be opened anew.
            if !same {
                return Err(Errno::ESTALE);
            }
        }
        file.inode.doubt();
        self.notify.content(file.inode.number).await;
        Ok(())
    }

    /// The mount is gone: nobody has anything open.
    pub(crate) async fn close(&self) {
        let kept = tokio::time::timeout(CLOSE_FOR, self.keeper.close());
        let ((), kept) = futures::join!(self.locks.close(), kept);
        if !matches!(kept, Ok(Ok(()))) {
            tracing::debug!("the session of what was open ends with its lease");
        }
    }
}

fn lock_of(file: &FileHandle, call: LockCall, request: u64) -> LockOf {
    LockOf {
        inode: InodeId(file.inode.number),
        user: file.caller.user,
        client: file.client.clone(),
        call,
        request,
    }
}
