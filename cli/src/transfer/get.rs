//! `get`: files out of the file system, several blocks at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use super::progress::Progress;
use super::{RemoteFile, local, note_all, scan_remote};
use crate::args::GetArgs;
use crate::failure::{Failure, Outcome};
use crate::run::Run;
use crate::session::Session;
use crate::stream::cat_one;

/// Bytes that are fetched in one piece. So many times the jobs are in memory at most.
const PIECE_BYTES: u64 = 4 << 20;

pub(crate) async fn get(session: &Session, args: GetArgs, run: &mut Run) -> Outcome<()> {
    let Some((destination, sources)) = args.paths.split_last() else {
        return Err(Failure::usage("sources and a destination are needed"));
    };
    let mut found = Vec::new();
    for text in sources {
        found.extend(run.paths(session.expand(text).await)?);
    }
    if destination == "-" {
        let mut out = session.out();
        for remote in found {
            let printed = cat_one(&remote, 0, None, &mut out).await;
            run.note(printed)?;
        }
        return out.flush().await;
    }
    let target = PathBuf::from(destination);
    let into = session.pool.run({
        let target = target.clone();
        move || target.is_dir()
    });
    let into = into.await;
    if !into && (found.len() > 1 || destination.ends_with('/')) {
        return Err(Failure::other(format!("{destination}: is not a folder")));
    }
    let mut jobs = Vec::new();
    for source in found {
        let (folders, files) = match scan_remote(&source, args.recursive).await {
            Ok(scan) => scan,
            Err(failure) => {
                run.note(Err(failure))?;
                continue;
            }
        };
        let top = if into && source.path != "/" { target.join(source.name()) } else { target.clone() };
        for folder in folders {
            let folder = below(&top, &folder);
            let shown = folder.display().to_string();
            let made = session.pool.run(move || std::fs::create_dir_all(folder)).await;
            run.note(made.map_err(Failure::local(shown)))?;
        }
        jobs.extend(files.into_iter().map(|file| (below(&top, &file.below), file)));
    }
    let total = jobs.iter().map(|(_, file)| file.length).sum();
    let progress = Progress::new(Some(total), jobs.len(), args.transfer.quiet);
    let parallel = usize::from(args.transfer.jobs);
    let pieces = Semaphore::new(parallel);
    let downloads = futures::stream::iter(jobs)
        .map(|(target, file)| download(session, args.force, target, file, &pieces, &progress))
        .buffer_unordered(parallel);
    let done = note_all(downloads, run).await;
    progress.finish();
    done
}

/// What is `inside` of `top`; `top` itself if that is empty.
fn below(top: &Path, inside: &str) -> PathBuf {
    if inside.is_empty() { top.to_owned() } else { top.join(inside) }
}

async fn download(
    session: &Session,
    force: bool,
    target: PathBuf,
    file: RemoteFile,
    pieces: &Semaphore,
    progress: &Progress,
) -> Outcome<()> {
    let shown = target.display().to_string();
    let there = session.pool.run({
        let target = target.clone();
        move || std::fs::symlink_metadata(target).map(|metadata| metadata.is_dir()).ok()
    });
    match there.await {
        Some(true) => return Err(Failure::other(format!("{shown}: is a folder, not a file to replace"))),
        Some(false) if !force => {
            return Err(Failure::other(format!("{shown}: exists already (-f replaces it)")));
        }
        _ => {}
    }
    let (temporary, path) = session.temporaries.local(&target);
    let fetched = fetch(session, &path, &shown, &file, pieces, progress).await;
    let published = match fetched {
        Ok(()) => {
            let published = session.pool.run(move || local::publish(&path, &target, force)).await;
            published.map_err(Failure::local(shown))
        }
        Err(failure) => Err(failure),
    };
    match published {
        Ok(()) => temporary.forget(),
        Err(_) => temporary.remove().await,
    }
    published
}

async fn fetch(
    session: &Session,
    path: &Path,
    shown: &str,
    file: &RemoteFile,
    pieces: &Semaphore,
    progress: &Progress,
) -> Outcome<()> {
    let at = || Failure::at(&file.file.path);
    let reader = file.file.client.open(&file.file.path).await.map_err(at())?;
    let path = path.to_owned();
    let local = session.pool.run(move || local::create_new(&path)).await.map_err(Failure::local(shown))?;
    let local = Arc::new(local);
    // As long as it was when it was opened, should somebody go on writing.
    let length = reader.length();
    let offsets = (0..length.div_ceil(PIECE_BYTES)).map(|index| index * PIECE_BYTES);
    let parallel = pieces.available_permits().max(1);
    futures::stream::iter(offsets)
        .map(|offset| {
            let (reader, local) = (&reader, local.clone());
            async move {
                let _share = pieces.acquire().await.expect("the semaphore is never closed");
                let wanted = PIECE_BYTES.min(length - offset);
                let bytes = reader.read_at(offset, wanted as usize).await.map_err(at())?;
                if (bytes.len() as u64) < wanted {
                    return Err(Failure::other(format!(
                        "{}: became shorter while it was read",
                        file.file.path
                    )));
                }
                session
                    .pool
                    .run(move || local::write_at(&local, &bytes, offset))
                    .await
                    .map_err(Failure::local(shown))?;
                progress.add(wanted);
                Ok(())
            }
        })
        .buffer_unordered(parallel)
        .try_collect::<()>()
        .await
}
