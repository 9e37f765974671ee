//! Going on where something was left half done: by a process that was killed, or by a commit that failed.

use std::ops::Range;
use std::time::Duration;

use fuser::Errno;
use steadfs_client::{FsErrorKind, InodeId, Writer};

use super::{COPY_BYTES, Task};
use crate::errno::{Answer, failed};
use crate::open::extents::Extents;
use crate::open::stage::{Found, Stage};

/// How long a file that a killed process was writing is waited for, and how often it is looked at.
const RECOVERY_LIMIT: Duration = Duration::from_secs(120);
const RECOVERY_LOOK: Duration = Duration::from_millis(100);

impl Task {
    /// Goes on where a killed process was.
    pub(super) async fn take_over(&mut self) -> Answer<()> {
        let found = Stage::find(self.place.clone(), self.written.inode()).await?;
        let mut status = self.known().await?;
        let mut ours = false;
        if status.under_construction {
            let writing = self.client.is_writing(&self.path, status.inode).await;
            ours = writing.map_err(|error| failed("a file that is taken over", &error))?;
            status = match ours {
                true => self.closed().await?,
                // Its recovery was begun by a process that was killed in its turn: its end tells what has arrived.
                false if found.is_some() => self.recovered().await?,
                // Closed in between, by the last call of the process that was killed, or written by somebody else.
                false => self.known().await?,
            };
        }
        let length = status.length;
        (self.committed, self.kept, self.size) = (length, length, length);
        let Some(found) = found else { return Ok(()) };
        if let Some(hidden) = found.replacing {
            self.drop_hidden(InodeId(hidden)).await;
        }
        self.taken = found.request;
        self.times = found.times;
        self.written.times_are(found.times.0, found.times.1);
        let uncut = found.kept == found.committed;
        if found.extents.is_empty() && uncut && found.request == 0 && self.times == (None, None) {
            found.stage.discard().await;
            return Ok(());
        }
        if !ours {
            self.check_found(&found, length).await?;
        }
        if found.stage.begins() > length && !found.extents.is_empty() {
            tracing::error!(path = %self.path, length, "the cluster has lost what it had acknowledged");
            return Err(Errno::EIO);
        }
        let (mut stage, mut extents) = (found.stage, found.extents);
        self.written_over = found.written_over;
        self.size = if extents.is_empty() && uncut { length } else { found.size };
        let appended = extents.is_empty()
            || length >= found.committed
                && extents.is_exactly(&(found.committed..found.size))
                && (length == found.committed || !found.written_over);
        if uncut && appended {
            // What arrived needs no sending again.
            let rest = length.min(self.size)..self.size;
            stage.rebase(length, rest.clone(), self.times).await?;
            self.written_over = false;
            extents = Extents::default();
            extents.insert(rest);
            self.kept = length;
        } else {
            self.kept = found.kept.min(length);
            // The next process shall not take what this one finds for somebody else's.
            stage.now_committed(length).await?;
        }
        (self.extents, self.size) = (extents, self.size.max(if self.kept == length { length } else { 0 }));
        self.stage = Some(stage);
        self.owners.note(None);
        Ok(())
    }

    /// Whether a file that nobody writes may have got its length by what was staged here.
    ///
    /// # Errors
    /// ESTALE: somebody elsewhere has changed it, and what was written here at offsets cannot come behind that.
    async fn check_found(&self, found: &Found, length: u64) -> Answer<()> {
        let staged = found.committed..found.size;
        let same = if length == found.committed || found.extents.is_empty() {
            true
        } else if length > found.committed && found.extents.is_exactly(&staged) {
            let from = found.stage.begins().max(staged.start);
            self.has_arrived(&found.stage, from..length.min(staged.end)).await?
        } else {
            // The whole content was replaced, or cut.
            length == found.size
        };
        if !same {
            tracing::warn!(path = %self.path, "a file was changed elsewhere while it was written here");
            return Err(Errno::ESTALE);
        }
        Ok(())
    }

    /// Gives back what a killed process had sent of a new content that has not taken the old one's place.
    async fn drop_hidden(&self, hidden: InodeId) {
        if let Err(error) = self.client.drop_staged(hidden).await {
            tracing::warn!(%error, %hidden, "a new content that was sent in part takes room until its lease ends");
        }
    }

    /// What the cluster knows of the file, as soon as it answers.
    pub(super) async fn known(&self) -> Answer<steadfs_client::FileStatus> {
        let deadline = tokio::time::Instant::now() + RECOVERY_LIMIT;
        loop {
            match self.client.stat(&self.path).await {
                Err(error) if error.is_transient() && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(RECOVERY_LOOK).await;
                }
                known => return known.map_err(|error| failed("a file that is taken over", &error)),
            }
        }
    }

    /// What the cluster knows of the file once nobody writes or recovers it any more.
    pub(super) async fn recovered(&self) -> Answer<steadfs_client::FileStatus> {
        let deadline = tokio::time::Instant::now() + RECOVERY_LIMIT;
        loop {
            let status = self.known().await?;
            if !status.under_construction {
                return Ok(status);
            }
            if tokio::time::Instant::now() >= deadline {
                tracing::error!(path = %self.path, "somebody else writes the file, or its last block is not recovered");
                return Err(Errno::EBUSY);
            }
            tokio::time::sleep(RECOVERY_LOOK).await;
        }
    }

    /// Has the cluster close a file that nobody writes any more, and waits for it.
    pub(super) async fn closed(&self) -> Answer<steadfs_client::FileStatus> {
        let deadline = tokio::time::Instant::now() + RECOVERY_LIMIT;
        loop {
            let late = tokio::time::Instant::now() >= deadline;
            let closed = match self.client.recover_lease(&self.path).await {
                // Its last block is on its way: the datanodes have not all told of it, or agree on its length just now.
                Err(error) if !late && (error.is_transient() || is_held(&error)) => false,
                closed => closed.map_err(|error| failed("the lease of a killed process", &error))?,
            };
            let status = self.known().await?;
            if closed && !status.under_construction {
                return Ok(status);
            }
            if late {
                tracing::error!(path = %self.path, "the last block is not recovered: are its datanodes up?");
                return Err(Errno::EIO);
            }
            tokio::time::sleep(RECOVERY_LOOK).await;
        }
    }

    /// Has the cluster close a file into which something was sent that is not all there is, and notes how far that came, so
    /// that a process which takes over does not take it for somebody else's.
    pub(super) async fn closed_in_between(&self) -> Answer<steadfs_client::FileStatus> {
        let status = self.closed().await?;
        if let Some(stage) = &self.stage {
            stage.now_committed(status.length).await?;
        }
        Ok(status)
    }

    pub(super) async fn opened_to_append(&self) -> Answer<Writer> {
        let deadline = tokio::time::Instant::now() + RECOVERY_LIMIT;
        loop {
            match self.client.append(&self.path).await {
                Err(error) if is_held(&error) && tokio::time::Instant::now() < deadline => {
                    let status = self.known().await?;
                    let ours = status.under_construction && self.takes_over;
                    if ours && self.client.is_writing(&self.path, status.inode).await.unwrap_or(false) {
                        // A call of the killed process came late and opened it.
                        self.closed().await?;
                    } else if error.kind() == FsErrorKind::RecoveryInProgress || self.takes_over {
                        tokio::time::sleep(RECOVERY_LOOK).await;
                    } else {
                        return Err(failed("a file was not opened for appending", &error));
                    }
                }
                opened => {
                    return opened.map_err(|error| failed("a file was not opened for appending", &error));
                }
            }
        }
    }

    /// Whether what the cluster has up to `end` is what is staged.
    pub(super) async fn is_ours(&self, end: u64) -> Answer<bool> {
        let Some(stage) = self.stage.as_ref().filter(|_| (self.committed..=self.size).contains(&end)) else {
            return Ok(false);
        };
        self.has_arrived(stage, self.committed..end).await
    }

    /// Whether the cluster has there what is staged.
    async fn has_arrived(&self, stage: &Stage, range: Range<u64>) -> Answer<bool> {
        let reader = self.client.open(&self.path).await;
        let reader = reader.map_err(|error| failed("a file that is taken over", &error))?;
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(COPY_BYTES) as usize;
            let there = reader.read_at(at, length).await;
            let there = there.map_err(|error| failed("a file that is taken over", &error))?;
            if there != stage.read(at, length).await? {
                return Ok(false);
            }
            at += length as u64;
        }
        Ok(true)
    }
}

/// Whether a file is refused because somebody has it, or had it a moment ago.
fn is_held(error: &steadfs_client::FsError) -> bool {
    matches!(error.kind(), FsErrorKind::AlreadyBeingCreated | FsErrorKind::RecoveryInProgress)
}
