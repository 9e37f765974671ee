//! Commands that move files: `put`, `get`, `cp`.
//!
//! Each file is written under a temporary name beside its own and renamed when it is whole: nobody ever sees half a file
//! under the final name. What is interrupted is removed again.

mod copy;
mod get;
mod local;
mod progress;
mod put;
mod temporary;

pub(crate) use copy::cp;
pub(crate) use get::get;
pub(crate) use put::put;
pub(crate) use temporary::Temporaries;

use futures::{Stream, StreamExt};

use crate::args::WriteArgs;
use crate::failure::{Failure, Outcome};
use crate::run::Run;
use crate::session::{Remote, Session};

/// Files that one command moves at most: what is to be done is listed before it is begun.
const MAX_FILES: usize = 10_000_000;

/// Where several sources go: into a folder, or (one of them) under a name.
struct Destination {
    target: Remote,
    into: bool,
}

impl Destination {
    /// `text` as the destination of `sources` sources.
    async fn remote(session: &Session, text: &str, sources: usize) -> Outcome<Self> {
        let target = session.literal(text).await?;
        let into = target.is_folder().await? == Some(true);
        if !into && (sources > 1 || text.ends_with('/')) {
            return Err(Failure::other(format!(
                "{}: is not a folder (steadfs fs mkdir -p makes it)",
                target.path
            )));
        }
        Ok(Self { target, into })
    }

    /// Where a source called `name` goes.
    fn of(&self, name: &str) -> Remote {
        if self.into { self.target.join(name) } else { self.target.clone() }
    }
}

/// A remote file that is to be moved, and where from its source's top it is.
struct RemoteFile {
    file: Remote,
    /// Below the destination, `/` between names; empty for a source that is a file itself.
    below: String,
    length: u64,
}

/// What is at `source`: the file, or with `recursive` all folders and files below it.
async fn scan_remote(source: &Remote, recursive: bool) -> Outcome<(Vec<String>, Vec<RemoteFile>)> {
    let at = || Failure::at(&source.path);
    let status = source.client.stat(&source.path).await.map_err(at())?;
    if !status.directory {
        let file = RemoteFile { file: source.clone(), below: String::new(), length: status.length };
        return Ok((Vec::new(), vec![file]));
    }
    if !recursive {
        return Err(Failure::other(format!("{}: is a folder (-r copies it with all it holds)", source.path)));
    }
    let (mut folders, mut files) = (vec![String::new()], Vec::new());
    let mut below = std::pin::pin!(source.client.walk(&source.path));
    while let Some(entry) = below.next().await {
        let entry = entry.map_err(at())?;
        let path = entry.path.to_string();
        let inside = path.strip_prefix(&source.path).unwrap_or(&path).trim_start_matches('/').to_owned();
        if entry.directory {
            folders.push(inside);
        } else {
            let file = Remote { client: source.client.clone(), path };
            files.push(RemoteFile { file, below: inside, length: entry.length });
        }
        if files.len() + folders.len() > MAX_FILES {
            return Err(Failure::other(format!(
                "{}: holds more than {MAX_FILES} files: copy it in parts",
                source.path
            )));
        }
    }
    Ok((folders, files))
}

/// Complains about the jobs that fail, as they end.
async fn note_all(jobs: impl Stream<Item = Outcome<()>>, run: &mut Run) -> Outcome<()> {
    let mut jobs = std::pin::pin!(jobs);
    while let Some(done) = jobs.next().await {
        run.note(done)?;
    }
    Ok(())
}

/// Refuses a target that is there already, unless it may be replaced; a folder never may.
async fn check_target(target: &Remote, force: bool) -> Outcome<()> {
    match target.is_folder().await? {
        Some(true) => Err(Failure::other(format!("{}: is a folder, not a file to replace", target.path))),
        Some(false) if !force => {
            Err(Failure::other(format!("{}: exists already (-f replaces it)", target.path)))
        }
        _ => Ok(()),
    }
}

/// Writes `target` by way of a temporary name: `fill` writes, the rest happens here.
async fn write_whole(
    session: &Session,
    target: &Remote,
    write: &WriteArgs,
    force: bool,
    fill: impl AsyncFnOnce(&mut steadfs_client::Writer) -> Outcome<()>,
) -> Outcome<()> {
    check_target(target, force).await?;
    let temporary = session.temporaries.remote(target);
    let at = || Failure::at(&target.path);
    let client = &target.client;
    let create = client
        .create(temporary.path())
        .create_parent(false)
        .replication(write.replication.unwrap_or(0))
        .block_size(write.block_size.unwrap_or(0));
    let mut writer = create.await.map_err(|error| match error.kind() {
        steadfs_client::FsErrorKind::NotFound => Failure::other(format!(
            "{}: the folder above is missing (steadfs fs mkdir -p makes it)",
            target.path
        )),
        // About the file that was asked for, not about the name that we chose.
        kind => {
            at()(steadfs_client::FsError::new(kind, error.message().replace(temporary.path(), &target.path)))
        }
    })?;
    let filled = fill(&mut writer).await;
    let written = match filled {
        Ok(()) => writer.close().await.map_err(at()),
        Err(failure) => {
            writer.abort().await;
            Err(failure)
        }
    };
    if let Err(failure) = written {
        temporary.remove().await;
        return Err(failure);
    }
    let renamed = match force {
        true => client.rename_over(temporary.path(), &target.path).await,
        false => client.rename(temporary.path(), &target.path).await,
    };
    if let Err(error) = renamed {
        temporary.remove().await;
        return Err(at()(error));
    }
    temporary.forget();
    Ok(())
}
