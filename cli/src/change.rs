//! Commands that change names and attributes: `mkdir`, `mv`, `rm`, `touch`, `chmod`, `chown`, `setrep`, `truncate`,
//! `concat`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::TryStreamExt;
use steadfs_client::{FileStatus, FsErrorKind, Millis};

use crate::args::{
    ChmodArgs, ChownArgs, ConcatArgs, MkdirArgs, MvArgs, RmArgs, SetrepArgs, TouchArgs, TruncateArgs,
};
use crate::failure::{Failure, Outcome};
use crate::run::Run;
use crate::session::{Remote, Session};
use crate::trash;

/// Mode of new folders where none is asked for: as with a umask of 022.
const FOLDER_MODE: u16 = 0o755;
/// Between two looks at a file that is being truncated.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(crate) async fn mkdir(session: &Session, args: MkdirArgs, run: &mut Run) -> Outcome<()> {
    for text in &args.paths {
        let remote = session.literal(text).await?;
        let made = mkdir_one(&remote, &args).await;
        run.note(made)?;
    }
    Ok(())
}

async fn mkdir_one(remote: &Remote, args: &MkdirArgs) -> Outcome<()> {
    if !args.parents && remote.is_folder().await?.is_some() {
        return Err(Failure::other(format!("{}: exists already (-p does not mind)", remote.path)));
    }
    let made = remote.client.mkdirs_with(&remote.path, args.mode.unwrap_or(FOLDER_MODE), args.parents).await;
    made.map_err(|error| match error.kind() {
        FsErrorKind::NotFound if !args.parents => {
            Failure::other(format!("{}: the folder above is missing (-p makes it)", remote.path))
        }
        _ => Failure::at(&remote.path)(error),
    })
}

pub(crate) async fn mv(session: &Session, args: MvArgs, run: &mut Run) -> Outcome<()> {
    let Some((destination, sources)) = args.paths.split_last() else {
        return Err(Failure::usage("sources and a destination are needed"));
    };
    let target = session.literal(destination).await?;
    let mut found = Vec::new();
    for text in sources {
        found.extend(run.paths(session.expand(text).await)?);
    }
    let into = target.is_folder().await? == Some(true);
    if !into && (found.len() > 1 || destination.ends_with('/')) {
        return Err(Failure::other(format!("{}: is not a folder to move into", target.path)));
    }
    for source in found {
        let moved = mv_one(&source, &target, into, args.force).await;
        run.note(moved)?;
    }
    Ok(())
}

async fn mv_one(source: &Remote, target: &Remote, into: bool, force: bool) -> Outcome<()> {
    if source.client.url() != target.client.url() {
        return Err(Failure::other(format!(
            "{}: is on another cluster than {}: copy with cp, then remove it",
            source.path, target.path
        )));
    }
    let target = if into { target.join(source.name()) } else { target.clone() };
    let moved = match force {
        true => source.client.rename_over(&source.path, &target.path).await,
        false => source.client.rename(&source.path, &target.path).await,
    };
    moved.map_err(|error| match error.kind() {
        FsErrorKind::AlreadyExists if !force => {
            Failure::other(format!("{}: exists already (-f replaces it)", target.path))
        }
        _ => Failure::at(&source.path)(error),
    })
}

pub(crate) async fn rm(session: &Session, args: RmArgs, run: &mut Run) -> Outcome<()> {
    for text in &args.paths {
        let found = match session.expand(text).await {
            Err(Failure::Other(_)) if args.force => continue,
            found => run.paths(found)?,
        };
        for remote in found {
            let removed = rm_one(&remote, &args).await;
            run.note(removed)?;
        }
    }
    Ok(())
}

async fn rm_one(remote: &Remote, args: &RmArgs) -> Outcome<()> {
    if remote.path == "/" {
        return Err(Failure::other("/: the root cannot be removed (name what is in it: /*)"));
    }
    match remote.is_folder().await? {
        None if args.force => return Ok(()),
        None => return Err(Failure::at(&remote.path)(steadfs_client::FsError::not_found(&remote.path))),
        Some(true) if !args.recursive => {
            return Err(Failure::other(format!(
                "{}: is a folder (-r removes it with all it holds)",
                remote.path
            )));
        }
        Some(_) => {}
    }
    if !args.skip_trash && trash::take(remote).await? {
        return Ok(());
    }
    remote.client.delete(&remote.path, args.recursive).await.map_err(Failure::at(&remote.path))?;
    Ok(())
}

pub(crate) async fn touch(session: &Session, args: TouchArgs, run: &mut Run) -> Outcome<()> {
    for text in &args.paths {
        for remote in run.paths(session.expand(text).await)? {
            let touched = touch_one(&remote, &args).await;
            run.note(touched)?;
        }
    }
    Ok(())
}

async fn touch_one(remote: &Remote, args: &TouchArgs) -> Outcome<()> {
    let at = || Failure::at(&remote.path);
    match remote.is_folder().await? {
        None if args.no_create => Ok(()),
        None => {
            let writer =
                remote.client.create(&remote.path).create_parent(false).expect_empty().await.map_err(at())?;
            writer.close().await.map_err(at())
        }
        Some(directory) => {
            let now = now();
            let accessed = (!directory).then_some(now);
            remote.client.set_times(&remote.path, Some(now), accessed).await.map_err(at())
        }
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(since.as_millis() as u64)
}

/// Does `act` to what `text` names, and with `recursive` to all below it.
pub(crate) async fn for_all(
    session: &Session,
    text: &str,
    recursive: bool,
    run: &mut Run,
    act: impl AsyncFn(&Remote, &FileStatus) -> Outcome<()>,
) -> Outcome<()> {
    for remote in run.paths(session.expand(text).await)? {
        let status = match remote.client.stat(&remote.path).await {
            Ok(status) => status,
            Err(error) => {
                run.note(Err(Failure::at(&remote.path)(error)))?;
                continue;
            }
        };
        let directory = status.directory;
        let done = act(&remote, &status).await;
        run.note(done)?;
        if !(recursive && directory) {
            continue;
        }
        let mut below = std::pin::pin!(remote.client.walk(&remote.path));
        loop {
            match below.try_next().await {
                Ok(Some(status)) => {
                    let one = Remote { client: remote.client.clone(), path: status.path.to_string() };
                    let done = act(&one, &status).await;
                    run.note(done)?;
                }
                Ok(None) => break,
                Err(error) => {
                    run.note(Err(Failure::at(&remote.path)(error)))?;
                    break;
                }
            }
        }
    }
    Ok(())
}

pub(crate) async fn chmod(session: &Session, args: ChmodArgs, run: &mut Run) -> Outcome<()> {
    let change = &args.mode;
    for text in &args.paths {
        for_all(session, text, args.recursive, run, async |remote: &Remote, status: &FileStatus| {
            let mode = change.apply(status.mode, status.directory);
            remote.client.set_permission(&remote.path, mode).await.map_err(Failure::at(&remote.path))
        })
        .await?;
    }
    Ok(())
}

pub(crate) async fn chown(session: &Session, args: ChownArgs, run: &mut Run) -> Outcome<()> {
    let (owner, group) = parse_owner(&args.owner).map_err(Failure::usage)?;
    for text in &args.paths {
        for_all(session, text, args.recursive, run, async |remote: &Remote, _: &FileStatus| {
            remote.client.set_owner(&remote.path, owner, group).await.map_err(Failure::at(&remote.path))
        })
        .await?;
    }
    Ok(())
}

/// `OWNER`, `OWNER:GROUP` or `:GROUP`.
fn parse_owner(text: &str) -> Result<(Option<&str>, Option<&str>), String> {
    let (owner, group) = text.split_once(':').map_or((text, ""), |(owner, group)| (owner, group));
    let named = |name: &'_ str| !name.is_empty();
    if !named(owner) && !named(group) || group.contains(':') {
        return Err(format!("`{text}` names no owner: write OWNER, OWNER:GROUP or :GROUP"));
    }
    Ok((Some(owner).filter(|name| named(name)), Some(group).filter(|name| named(name))))
}

pub(crate) async fn setrep(session: &Session, args: SetrepArgs, run: &mut Run) -> Outcome<()> {
    let replication = args.replication;
    for text in &args.paths {
        for_all(session, text, true, run, async |remote: &Remote, status: &FileStatus| {
            if status.directory {
                return Ok(());
            }
            remote
                .client
                .set_replication(&remote.path, replication)
                .await
                .map_err(Failure::at(&remote.path))?;
            Ok(())
        })
        .await?;
    }
    Ok(())
}

pub(crate) async fn truncate(session: &Session, args: TruncateArgs, run: &mut Run) -> Outcome<()> {
    for text in &args.paths {
        for remote in run.paths(session.expand(text).await)? {
            let cut = truncate_one(&remote, &args).await;
            run.note(cut)?;
        }
    }
    Ok(())
}

async fn truncate_one(remote: &Remote, args: &TruncateArgs) -> Outcome<()> {
    let cut = remote.client.truncate(&remote.path, args.length).await;
    let done = cut.map_err(Failure::at(&remote.path))?;
    if done || !args.wait {
        return Ok(());
    }
    loop {
        let status = remote.client.stat(&remote.path).await.map_err(Failure::at(&remote.path))?;
        if !status.under_construction {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

pub(crate) async fn concat(session: &Session, args: ConcatArgs) -> Outcome<()> {
    let target = session.literal(&args.target).await?;
    let mut sources = Vec::new();
    for text in &args.sources {
        for source in session.expand(text).await? {
            if source.client.url() != target.client.url() {
                return Err(Failure::other(format!("{}: is on another cluster", source.path)));
            }
            sources.push(source.path);
        }
    }
    target.client.concat(&target.path, &sources).await.map_err(Failure::at(&target.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_groups() {
        assert_eq!(parse_owner("a"), Ok((Some("a"), None)));
        assert_eq!(parse_owner("a:b"), Ok((Some("a"), Some("b"))));
        assert_eq!(parse_owner(":b"), Ok((None, Some("b"))));
        assert_eq!(parse_owner("a:"), Ok((Some("a"), None)));
        for text in ["", ":", "a:b:c"] {
            assert!(parse_owner(text).is_err(), "{text}");
        }
    }
}
