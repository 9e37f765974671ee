//! `steadfs admin`: the namenode's own data.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use serde::Serialize;
use steadfs_client::{BackupPiece, DataHealth};

use crate::failure::{Failure, Outcome};
use crate::out::{printable, size};
use crate::run::Run;
use crate::session::Session;

/// The folder of the store's files in a backup, and the file that makes it one.
const FILES: &str = "files";
const MANIFEST: &str = "BACKUP";

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A backup as it is written: beside its place, until it is whole.
struct Target {
    folder: PathBuf,
    partial: PathBuf,
    open: Option<(String, File)>,
    files: u64,
    bytes: u64,
}

impl Target {
    fn begin(folder: PathBuf) -> io::Result<Self> {
        if folder.exists() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it is there already: name a folder that is not",
            ));
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let partial = folder.with_file_name(format!("{name}.partial"));
        fs::create_dir(&partial).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => io::Error::new(
                error.kind(),
                format!("{} is there: the rest of a backup that was cut short, or one that is being taken. Remove it first", partial.display()),
            ),
            _ => error,
        })?;
        fs::create_dir(partial.join(FILES))?;
        Ok(Self { folder, partial, open: None, files: 0, bytes: 0 })
    }

    fn write(&mut self, file: String, data: &[u8]) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|(name, _)| *name != file) {
            self.close()?;
            let made = File::create_new(self.partial.join(FILES).join(&file))?;
            self.files += 1;
            self.open = Some((file, made));
        }
        self.bytes += data.len() as u64;
        self.open.as_mut().map_or(Ok(()), |(_, file)| file.write_all(data))
    }

    fn close(&mut self) -> io::Result<()> {
        self.open.take().map_or(Ok(()), |(_, file)| file.sync_all())
    }

    /// The manifest makes it a backup: it is written when all else is on the disk.
    fn finish(&mut self, manifest: &[u8]) -> io::Result<()> {
        self.close()?;
        sync_folder(&self.partial.join(FILES))?;
        let mut file = File::create_new(self.partial.join(MANIFEST))?;
        file.write_all(manifest)?;
        file.sync_all()?;
        sync_folder(&self.partial)?;
        fs::rename(&self.partial, &self.folder)?;
        sync_folder(
            self.folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        )
    }
}

pub(crate) async fn backup(session: &Session, folder: PathBuf) -> Outcome<()> {
    let client = session.client().await?;
    let shown = folder.display().to_string();
    let local = || Failure::local(shown.clone());
    let mut target = session.pool.run(move || Target::begin(folder)).await.map_err(local())?;
    let partial = target.partial.clone();
    let taken = async {
        let mut pieces = std::pin::pin!(client.backup().await?);
        while let Some(piece) = pieces.try_next().await? {
            let (back, done, written) = session
                .pool
                .run(move || {
                    let (done, written) = match piece {
                        BackupPiece::Part { file, data } => (false, target.write(file, &data)),
                        BackupPiece::Manifest(bytes) => (true, target.finish(&bytes)),
                    };
                    (target, done, written)
                })
                .await;
            target = back;
            written.map_err(local())?;
            if done {
                return Ok((target.files, target.bytes));
            }
        }
        Err(Failure::other("the namenode ended the backup early; take it again"))
    };
    match taken.await {
        Ok((files, bytes)) => {
            let mut out = session.out();
            out.line(format!("{}: {files} files, {}", printable(&shown), size(bytes, false))).await?;
            out.flush().await
        }
        Err(failure) => {
            // What is left is no backup: nobody could use it.
            let _ = session.pool.run(move || fs::remove_dir_all(partial)).await;
            Err(failure)
        }
    }
}

#[derive(Serialize)]
struct HealthJson<'a> {
    healthy: bool,
    journal: Vec<JournalJson<'a>>,
    problems: &'a [String],
    findings: &'a [String],
}

#[derive(Serialize)]
struct JournalJson<'a> {
    folder: &'a str,
    state: &'a str,
}

async fn show(session: &Session, health: &DataHealth, json: bool, run: &mut Run) -> Outcome<()> {
    let mut out = session.out();
    if json {
        let journal = health.journal.iter().map(|(folder, state)| JournalJson { folder, state }).collect();
        let healthy = health.problems.is_empty();
        out.json(&HealthJson { healthy, journal, problems: &health.problems, findings: &health.findings })
            .await?;
    } else {
        for (folder, state) in &health.journal {
            out.line(format!("journal  {}: {}", printable(folder), printable(state))).await?;
        }
        for finding in &health.findings {
            out.line(format!("found    {}", printable(finding))).await?;
        }
        for problem in &health.problems {
            out.line(format!("PROBLEM  {}", printable(problem))).await?;
        }
    }
    if !health.problems.is_empty() {
        run.mark_failed();
    }
    out.flush().await
}

pub(crate) async fn health(session: &Session, json: bool, run: &mut Run) -> Outcome<()> {
    let health = session.client().await?.data_health().await?;
    show(session, &health, json, run).await
}

pub(crate) async fn scrub(session: &Session, json: bool, run: &mut Run) -> Outcome<()> {
    let health = session.client().await?.scrub().await?;
    show(session, &health, json, run).await
}

#[derive(Serialize)]
struct KeptJson {
    block: String,
    length: u64,
}

pub(crate) async fn kept(session: &Session, delete: bool, json: bool) -> Outcome<()> {
    let client = session.client().await?;
    let mut out = session.out();
    let first = client.kept_blocks(0).await?;
    if delete {
        client.forget_kept().await?;
        out.line(format!("{} blocks are let go: datanodes delete them", first.blocks)).await?;
        return out.flush().await;
    }
    let (mut page, mut count) = (first.page, 0_u64);
    while let Some((last, _)) = page.last().copied() {
        for (id, length) in &page {
            count += 1;
            let (block, length) = (format!("blk_{id}"), *length);
            if json {
                out.json(&KeptJson { block, length }).await?;
            } else {
                out.line(format!("{block}  {}", size(length, false))).await?;
            }
        }
        page = client.kept_blocks(last).await?.page;
    }
    if !json {
        out.line(format!("{count} blocks that no file has are kept ({})", size(first.bytes, false))).await?;
    }
    out.flush().await
}

#[derive(Serialize)]
struct CheckJson<'a> {
    healthy: bool,
    inodes: u64,
    blocks: u64,
    problems: &'a [String],
    repaired: &'a [String],
}

pub(crate) async fn check_namespace(
    session: &Session,
    repair: bool,
    json: bool,
    run: &mut Run,
) -> Outcome<()> {
    let found = session.client().await?.check_namespace(repair).await?;
    let mut out = session.out();
    let healthy = found.problems.is_empty();
    if json {
        let (problems, repaired) = (&found.problems[..], &found.repaired[..]);
        let (inodes, blocks) = (found.inodes, found.blocks);
        out.json(&CheckJson { healthy, inodes, blocks, problems, repaired }).await?;
    } else {
        for text in &found.repaired {
            out.line(format!("repaired: {}", printable(text))).await?;
        }
        for text in &found.problems {
            out.line(format!("WRONG: {}", printable(text))).await?;
        }
        let verdict = match (healthy, repair) {
            (true, _) => "the namespace is sound",
            (false, true) => "the namespace is NOT sound, and this is left",
            (false, false) => "the namespace is NOT sound: --repair puts right what can be",
        };
        out.line(format!("{verdict} ({} files and folders, {} blocks)", found.inodes, found.blocks)).await?;
    }
    if !healthy {
        run.mark_failed();
    }
    out.flush().await
}
