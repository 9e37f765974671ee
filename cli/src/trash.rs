//! The trash: what `rm` puts there, and `expunge`.

use std::time::{SystemTime, UNIX_EPOCH};

use futures::TryStreamExt as _;
use steadfs_client::{Client, FsErrorKind, Millis};
use steadfs_common::trash::{CURRENT, HOMES, TRASH, checkpoint_name, checkpoint_time, put_aside_by};

use crate::failure::{Failure, Outcome};
use crate::session::{Remote, Session};

/// Only the owner looks into his trash.
const FOLDER_MODE: u16 = 0o700;
/// Names tried for one thing thrown away, or one checkpoint.
const MAX_NAMES: u32 = 1_000;

/// Moves something to the caller's trash. False if there is no trash, or it is in it already: then it is to be deleted.
pub(crate) async fn take(remote: &Remote) -> Outcome<bool> {
    if remote.client.defaults().trash_minutes == 0 {
        return Ok(false);
    }
    let trash = trash_of(&remote.client);
    if is_in(&remote.path, &trash) {
        return Ok(false);
    }
    if is_in(&trash, &remote.path) {
        return Err(Failure::other(format!(
            "{}: holds the trash {trash}, so it cannot be moved there (--skip-trash deletes it)",
            remote.path
        )));
    }
    let place = format!("{trash}/{CURRENT}{}", remote.path);
    let parent = place.rsplit_once('/').map_or("/", |(parent, _)| parent);
    remote.client.mkdirs_with(parent, FOLDER_MODE, true).await.map_err(Failure::at(parent))?;
    for attempt in 0..MAX_NAMES {
        // What has the name already was thrown away before.
        let to = if attempt == 0 { place.clone() } else { format!("{place}{}{attempt:03}", now().0) };
        match remote.client.rename_to_trash(&remote.path, &to).await {
            Err(error) if error.kind() == FsErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::at(&remote.path)(error)),
            Ok(()) => {
                eprintln!("{}: moved to the trash: {to}", remote.path);
                return Ok(true);
            }
        }
    }
    Err(Failure::other(format!("{}: the trash is full of things with this name", remote.path)))
}

/// Deletes what was put aside longer ago than the interval, and puts aside the rest.
pub(crate) async fn expunge(session: &Session) -> Outcome<()> {
    let client = session.literal("/").await?.client;
    let (trash, now) = (trash_of(&client), now());
    let kept_ms = client.defaults().trash_minutes.saturating_mul(60_000);
    let found: Vec<_> = match client.list(&trash).try_collect().await {
        Err(error) if error.kind() == FsErrorKind::NotFound => return Ok(()),
        found => found.map_err(Failure::at(&trash))?,
    };
    for status in &found {
        let path = format!("{trash}/{}", status.name());
        let made = checkpoint_time(status.name()).map(|named| put_aside_by(named, status.modified));
        let old = made.is_some_and(|at| at.0.saturating_add(kept_ms) < now.0);
        if status.name() == CURRENT {
            put_aside(&client, &trash, &path, now).await?;
        } else if old {
            client.delete(&path, true).await.map_err(Failure::at(&path))?;
        }
    }
    Ok(())
}

async fn put_aside(client: &Client, trash: &str, current: &str, now: Millis) -> Outcome<()> {
    let base = format!("{trash}/{}", checkpoint_name(now));
    for attempt in 0..MAX_NAMES {
        let to = if attempt == 0 { base.clone() } else { format!("{base}-{attempt}") };
        match client.rename(current, &to).await {
            Err(error) if error.kind() == FsErrorKind::AlreadyExists => {}
            renamed => {
                renamed.map_err(Failure::at(current))?;
                // A time that cannot be set costs half a day: the name is not believed then.
                let name = to.rsplit('/').next().unwrap_or_default();
                let _ = client.set_times(&to, checkpoint_time(name), None).await;
                return Ok(());
            }
        }
    }
    Err(Failure::other(format!("{trash}: too many checkpoints in one second")))
}

fn trash_of(client: &Client) -> String {
    format!("{HOMES}/{}/{TRASH}", client.user())
}

/// Whether `path` is `folder` or below it.
fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn now() -> Millis {
    Millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_by_whole_names() {
        assert!(is_in("/user/ann/.Trash/x", "/user/ann/.Trash") && is_in("/a", "/a"));
        assert!(!is_in("/user/ann/.Trashy", "/user/ann/.Trash") && !is_in("/", "/a"));
    }
}
