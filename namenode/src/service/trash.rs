//! The trash of users: what they threw away is put aside under the time, and deleted once it is old, as HDFS does it.
//!
//! A client moves what it throws away to `/user/<name>/.Trash/Current`. At every checkpoint `Current` becomes
//! `/user/<name>/.Trash/<yyMMddHHmmss>` (in UTC), and what was put aside longer ago than the interval is deleted.

use std::sync::Arc;
use std::time::Duration;

use steadfs_common::trash::{CURRENT, HOMES, TRASH, checkpoint_name, checkpoint_time, put_aside_by};
use steadfs_common::{FsErrorKind, FsPath, FsResult, Millis, Name};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_namenode_core::Command;
use steadfs_namenode_core::command::RenameMode;

use super::Service;
use crate::config::TrashConfig;

/// Names tried for one checkpoint: more than one only if two are made in a second.
const MAX_SAME_SECOND: u32 = 1_000;

/// Empties the trash of all users at every checkpoint, if there is an interval.
pub(super) fn start(service: &Arc<Service>, config: &TrashConfig, shutdown: &Shutdown) {
    if config.interval_minutes == 0 {
        return;
    }
    let minutes = |count: u64| Duration::from_secs(count.saturating_mul(60));
    let interval = minutes(config.interval_minutes);
    let every = match config.checkpoint_minutes {
        0 => interval,
        count => minutes(count),
    };
    let (service, shutdown) = (Arc::clone(service), shutdown.clone());
    shutdown.clone().spawn(async move {
        loop {
            tokio::select! {
                () = shutdown.triggered() => return,
                () = tokio::time::sleep(until_next(service.now(), every)) => {}
            }
            let emptied = tokio::select! {
                () = shutdown.triggered() => return,
                emptied = service.empty_trash(interval) => emptied,
            };
            if let Err(error) = emptied {
                tracing::warn!(%error, "the trash could not be emptied: it will be tried again");
            }
        }
    });
}

/// How long until the time is a multiple of `every`.
fn until_next(now: Millis, every: Duration) -> Duration {
    let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(every - now.0 % every)
}

impl Service {
    /// Deletes what was put aside longer than `interval` ago, then puts aside what was thrown away since.
    ///
    /// # Errors
    /// The folder of homes cannot be listed; what goes wrong with one user's trash is logged.
    pub(super) async fn empty_trash(&self, interval: Duration) -> FsResult<()> {
        if self.safe_mode().is_some() {
            return Ok(());
        }
        let homes = FsPath::parse(HOMES)?;
        for (home, _) in self.folders_in(&homes).await? {
            let trash = homes.join(home).join(name(TRASH));
            if let Err(error) = self.empty_one(&trash, interval).await {
                if error.kind() == FsErrorKind::Stopping {
                    return Err(error);
                }
                tracing::warn!(%trash, %error, "this trash could not be emptied: it will be tried again");
            }
        }
        Ok(())
    }

    async fn empty_one(&self, trash: &FsPath, interval: Duration) -> FsResult<()> {
        let own = self.own_caller().clone();
        let now = self.now();
        let too_old = Millis(now.0.saturating_sub(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)));
        let mut current = false;
        for (checkpoint, modified) in self.folders_in(trash).await? {
            if checkpoint.as_str() == CURRENT {
                current = true;
                continue;
            }
            let path = trash.join(checkpoint.clone());
            match checkpoint_time(checkpoint.as_str()) {
                Some(at) if put_aside_by(at, modified) < too_old => {
                    tracing::info!(%path, "what was thrown away long ago is deleted");
                    self.submit(&own, None, Command::Delete { path, recursive: true }).await?;
                }
                Some(_) => {}
                None => tracing::warn!(%path, "this is no checkpoint of the trash: it is left alone"),
            }
        }
        if current { self.put_aside(trash, now).await } else { Ok(()) }
    }

    /// `Current` becomes the checkpoint of now.
    async fn put_aside(&self, trash: &FsPath, now: Millis) -> FsResult<()> {
        let own = self.own_caller().clone();
        let base = checkpoint_name(now);
        for attempt in 0..MAX_SAME_SECOND {
            let to = if attempt == 0 { base.clone() } else { format!("{base}-{attempt}") };
            let path = trash.join(Name::new(&to)?);
            let command = Command::Rename {
                from: trash.join(name(CURRENT)),
                to: path.clone(),
                mode: RenameMode::NoReplace,
                to_trash: false,
            };
            match self.submit(&own, None, command).await {
                Err(error) if error.kind() == FsErrorKind::AlreadyExists => {}
                // The user emptied it meanwhile.
                Err(error) if error.kind() == FsErrorKind::NotFound => return Ok(()),
                other => {
                    other?;
                    let mtime = checkpoint_time(&to);
                    let marked =
                        self.submit(&own, None, Command::SetTimes { path, mtime, atime: None }).await;
                    return match marked {
                        // The user deleted it meanwhile.
                        Err(error) if error.kind() == FsErrorKind::NotFound => Ok(()),
                        other => other.map(|_| ()),
                    };
                }
            }
        }
        Ok(())
    }

    /// The names of the folders in a folder, with the times when they were changed; none if it is not there.
    async fn folders_in(&self, path: &FsPath) -> FsResult<Vec<(Name, Millis)>> {
        let own = self.own_caller().clone();
        let (mut names, mut after) = (Vec::new(), Vec::new());
        loop {
            let Some(page) = self.list(&own, path, &after, 0, false).await? else { return Ok(names) };
            let Some(last) = page.entries.last().and_then(|entry| entry.name.clone()) else {
                return Ok(names);
            };
            after = last.as_str().as_bytes().to_vec();
            let folders = page.entries.into_iter().filter(|entry| entry.inode.is_directory());
            names.extend(folders.filter_map(|entry| Some((entry.name?, entry.inode.mtime))));
            if page.remaining == 0 {
                return Ok(names);
            }
        }
    }
}

fn name(text: &'static str) -> Name {
    Name::new(text).expect("it is a plain name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_at_multiples_of_the_interval() {
        let minute = Duration::from_secs(60);
        assert_eq!(until_next(Millis(61_000), minute), Duration::from_secs(59));
        assert_eq!(until_next(Millis(120_000), minute), minute);
    }
}
