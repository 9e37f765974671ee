//! Committing: the cheapest way that gives the file its content.

use fuser::Errno;

use super::{Change, MAX_SQUEEZED, Owners, PIPELINE, Task, is_room, pipeline_of};
use crate::errno::{Answer, failed};

impl Task {
    pub(super) async fn commit(&mut self, owner: Option<u64>) -> Answer<()> {
        if self.forgotten {
            return Ok(());
        }
        self.check()?;
        if self.owners.concern(owner) {
            self.commit_all().await?;
        }
        Ok(())
    }

    /// `fsync`: what was appended is on the disks of the datanodes and can be read by all, though the file stays open there;
    /// anything else is committed.
    pub(super) async fn sync(&mut self) -> Answer<()> {
        if self.forgotten {
            return Ok(());
        }
        self.check()?;
        if self.stream.is_none() {
            if self.change() != Change::Append {
                return self.commit_all().await;
            }
            let Some(share) = self.pipelines.streams.try_take(PIPELINE) else {
                return self.commit_all().await;
            };
            self.start_stream(share).await?;
        }
        let synced = match self.stream.as_mut() {
            Some(writer) => writer.hsync().await,
            None => return self.commit_all().await,
        };
        if let Err(error) = synced {
            self.salvage("bytes of a file were not written", &error).await?;
            return self.commit_all().await;
        }
        self.show_times().await;
        Ok(())
    }

    /// Has the cluster know the times that were set, though the file stays open there. The commit sets them again.
    async fn show_times(&self) {
        let (modified, accessed) = self.times;
        if (modified, accessed) != (None, None)
            && let Err(error) = self.client.set_times(&self.path, modified, accessed).await
        {
            tracing::debug!(path = %self.path, %error, "the times of a file are set when it is closed");
        }
    }

    pub(super) async fn commit_all(&mut self) -> Answer<()> {
        self.settle().await?;
        match self.change() {
            Change::Nothing => self.close_unwritten().await?,
            Change::Append => self.append().await?,
            Change::Truncate => self.cut(self.size).await?,
            Change::Replace => self.replace().await?,
        }
        self.owners = Owners::default();
        let (modified, accessed) = std::mem::take(&mut self.times);
        if modified.is_some() || accessed.is_some() {
            let set = self.client.set_times(&self.path, modified, accessed).await;
            set.map_err(|error| failed("the times of a file were not set", &error))?;
        }
        Ok(())
    }

    /// Gives up the lease of a file into which nothing was written.
    pub(super) async fn close_fresh(&mut self) -> Answer<()> {
        let Some(writer) = self.fresh.take() else { return Ok(()) };
        writer.close().await.map_err(|error| failed("a file was not closed", &error))?;
        // Closing sets the file's time.
        self.written.changed();
        Ok(())
    }

    /// As `close_fresh`, of a file that gets no content: the times that were set are its times.
    async fn close_unwritten(&mut self) -> Answer<()> {
        let Some(writer) = self.fresh.take() else { return Ok(()) };
        let closed = writer.close_with_times(self.times.0, self.times.1).await;
        closed.map_err(|error| failed("a file was not closed", &error))?;
        self.times = (None, None);
        self.written.changed();
        Ok(())
    }

    async fn append(&mut self) -> Answer<()> {
        let share = self.pipelines.commits.take(pipeline_of(self.size - self.committed)).await;
        let mut writer = self.appender().await?;
        let sent = match self.send(&mut writer, self.committed..self.size).await {
            Ok(()) => {
                let closed = writer.close_with_times(self.times.0, self.times.1).await;
                closed.map_err(|error| failed("a file was not closed", &error))
            }
            Err(errno) => {
                writer.abort().await;
                Err(errno)
            }
        };
        drop(share);
        match sent {
            Ok(()) => {
                self.times = (None, None);
                self.is_now(self.size).await;
                Ok(())
            }
            Err(errno) => {
                self.attempted = true;
                if is_room(errno) && self.kept <= MAX_SQUEEZED {
                    self.squeeze(errno).await
                } else {
                    Err(errno)
                }
            }
        }
    }

    /// Puts the whole new content in place of the old, at once: whoever reads sees one or the other.
    async fn replace(&mut self) -> Answer<()> {
        self.close_fresh().await?;
        match self.replace_with(0).await {
            Err(errno) if is_room(errno) && self.kept <= MAX_SQUEEZED => self.squeeze(errno).await,
            done => done,
        }
    }

    /// `block_size`: of the file from now on; 0: as before.
    pub(super) async fn replace_with(&mut self, block_size: u64) -> Answer<()> {
        let _share = self.pipelines.commits.take(pipeline_of(self.size)).await;
        self.open_base().await?;
        let mut replacement = self.client.replace(&self.path).block_size(block_size);
        if let Some(base) = &self.base {
            // Longer or shorter than all that is known to have been sent from here: somebody else's bytes would be lost.
            let ours = self.takes_over || self.attempted || self.rewrite;
            if base.length() != self.committed && !ours {
                tracing::warn!(path = %self.path, "a file was changed elsewhere while it was written here");
                return Err(Errno::ESTALE);
            }
            // What was read of the old content must still be the old content when it is replaced.
            replacement = replacement.expected(base.status().content_version);
        }
        let writer = replacement.await;
        let mut writer = writer.map_err(|error| failed("a new content was not begun", &error))?;
        if let Some(stage) = &self.stage {
            // Should this process be killed, its successor gives back what was sent.
            stage.replacing(Some(writer.status().inode.0)).await?;
        }
        if let Err(error) = self.send(&mut writer, 0..self.size).await {
            writer.abort().await;
            return Err(error);
        }
        writer.close().await.map_err(|error| failed("a content was not replaced", &error))?;
        self.is_now(self.size).await;
        Ok(())
    }
}
