//! `put`: local files into the file system.

use std::path::PathBuf;

use futures::StreamExt;

use super::local::{self, LocalFile};
use super::progress::Progress;
use super::{Destination, note_all, write_whole};
use crate::args::PutArgs;
use crate::failure::{Failure, Outcome};
use crate::run::Run;
use crate::session::{Remote, Session};
use crate::stream::copy_in;

pub(crate) async fn put(session: &Session, args: PutArgs, run: &mut Run) -> Outcome<()> {
    let Some((destination, sources)) = args.paths.split_last() else {
        return Err(Failure::usage("sources and a destination are needed"));
    };
    let target = Destination::remote(session, destination, sources.len()).await?;
    if sources.iter().any(|source| source == "-") {
        return put_stdin(session, &args, sources, &target).await;
    }
    let mut jobs = Vec::new();
    for source in sources {
        let (path, recursive) = (PathBuf::from(source), args.recursive);
        let scanned = session.pool.run(move || (local::name_of(&path), local::scan(&path, recursive))).await;
        let (name, scan) = scanned;
        for problem in scan.problems {
            run.note(Err(problem))?;
        }
        if scan.files.is_empty() && scan.folders.is_empty() {
            continue;
        }
        let name = if target.into { name? } else { String::new() };
        let top = target.of(&name);
        for folder in scan.folders {
            let folder = below(&top, &folder);
            let made = folder.client.mkdirs(&folder.path).await.map_err(Failure::at(&folder.path));
            run.note(made)?;
        }
        jobs.extend(scan.files.into_iter().map(|file| (below(&top, &file.below), file)));
    }
    let total = jobs.iter().map(|(_, file)| file.length).sum();
    let progress = Progress::new(Some(total), jobs.len(), args.transfer.quiet);
    let uploads = futures::stream::iter(jobs)
        .map(|(target, file)| upload(session, &args, target, file, &progress))
        .buffer_unordered(usize::from(args.transfer.jobs));
    let done = note_all(uploads, run).await;
    progress.finish();
    done
}

async fn put_stdin(
    session: &Session,
    args: &PutArgs,
    sources: &[String],
    target: &Destination,
) -> Outcome<()> {
    if sources.len() > 1 {
        return Err(Failure::usage("standard input (-) cannot be put together with other sources"));
    }
    if target.into {
        return Err(Failure::other(format!("{}: is a folder: name the file to write", target.target.path)));
    }
    let progress = Progress::new(None, 1, args.transfer.quiet);
    let path = target.target.path.clone();
    let written = write_whole(session, &target.target, &args.write, args.force, async |writer| {
        copy_in(&session.pool, "-", writer, &path, |bytes| progress.add(bytes)).await
    });
    let done = written.await;
    progress.finish();
    done
}

async fn upload(
    session: &Session,
    args: &PutArgs,
    target: Remote,
    file: LocalFile,
    progress: &Progress,
) -> Outcome<()> {
    let source = file
        .path
        .to_str()
        .ok_or_else(|| Failure::other(format!("{}: the path is not UTF-8", file.path.display())))?;
    write_whole(session, &target, &args.write, args.force, async |writer| {
        copy_in(&session.pool, source, writer, &target.path, |bytes| progress.add(bytes)).await
    })
    .await
}

/// What is `inside` of `top`; `top` itself if that is empty.
fn below(top: &Remote, inside: &str) -> Remote {
    if inside.is_empty() { top.clone() } else { top.join(inside) }
}
