//! `cp`: files within the file system, or from one cluster to another.

use futures::StreamExt;

use super::progress::Progress;
use super::{Destination, RemoteFile, note_all, scan_remote, write_whole};
use crate::args::CpArgs;
use crate::failure::{Failure, Outcome};
use crate::run::Run;
use crate::session::{Remote, Session};

pub(crate) async fn cp(session: &Session, args: CpArgs, run: &mut Run) -> Outcome<()> {
    let Some((destination, sources)) = args.paths.split_last() else {
        return Err(Failure::usage("sources and a destination are needed"));
    };
    let mut found = Vec::new();
    for text in sources {
        found.extend(run.paths(session.expand(text).await)?);
    }
    let target = Destination::remote(session, destination, found.len()).await?;
    let mut jobs = Vec::new();
    for source in found {
        let top = target.of(source.name());
        let prepared = prepare(&source, &top, args.recursive).await;
        match prepared {
            Ok(files) => jobs.extend(files),
            Err(failure) => run.note(Err(failure))?,
        }
    }
    let total = jobs.iter().map(|(_, file)| file.length).sum();
    let progress = Progress::new(Some(total), jobs.len(), args.transfer.quiet);
    let copies = futures::stream::iter(jobs)
        .map(|(target, file)| copy(session, &args, target, file, &progress))
        .buffer_unordered(usize::from(args.transfer.jobs));
    let done = note_all(copies, run).await;
    progress.finish();
    done
}

/// Makes the folders and gives the files, each with where it goes.
async fn prepare(source: &Remote, top: &Remote, recursive: bool) -> Outcome<Vec<(Remote, RemoteFile)>> {
    if source.client.url() == top.client.url() && is_within(&top.path, &source.path) {
        let what = if source.path == top.path { "itself" } else { "a folder of its own" };
        return Err(Failure::other(format!("{}: cannot be copied into {what} ({})", source.path, top.path)));
    }
    let (folders, files) = scan_remote(source, recursive).await?;
    let below = |inside: &str| if inside.is_empty() { top.clone() } else { top.join(inside) };
    for folder in folders {
        let folder = below(&folder);
        folder.client.mkdirs(&folder.path).await.map_err(Failure::at(&folder.path))?;
    }
    Ok(files.into_iter().map(|file| (below(&file.below), file)).collect())
}

/// Whether `path` is `folder` or lies below it.
fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

async fn copy(
    session: &Session,
    args: &CpArgs,
    target: Remote,
    file: RemoteFile,
    progress: &Progress,
) -> Outcome<()> {
    let at = || Failure::at(&file.file.path);
    let reader = file.file.client.open(&file.file.path).await.map_err(at())?;
    write_whole(session, &target, &args.write, args.force, async |writer| {
        let mut stream = reader.stream();
        while let Some(chunk) = stream.next_chunk().await.map_err(at())? {
            progress.add(chunk.len() as u64);
            writer.write_all(chunk).await.map_err(Failure::at(&target.path))?;
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_not_copied_into_itself() {
        assert!(is_within("/a/b", "/a"));
        assert!(is_within("/a", "/a"));
        assert!(is_within("/a", "/"));
        assert!(!is_within("/ab", "/a"));
        assert!(!is_within("/b/a", "/a"));
    }
}
