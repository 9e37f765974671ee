//! Commands that look: `ls`, `tree`, `stat`, `du`, `df`, `checksum`.

use std::pin::Pin;

use futures::stream::Peekable;
use futures::{Stream, StreamExt, TryStreamExt};
use serde::Serialize;
use steadfs_client::{Client, ContentSummary, FileStatus, FsResult};

use crate::args::{DfArgs, DuArgs, LsArgs, PathsArgs, TreeArgs};
use crate::failure::{Failure, Outcome};
use crate::mode;
use crate::out::{Out, minute, printable, rfc3339, size, table};
use crate::run::Run;
use crate::session::{Remote, Session};

/// Rows of a long listing that are aligned with each other.
const ALIGNED_ROWS: usize = 1_000;

/// A file or folder in JSON. Times are RFC 3339, modes octal.
#[derive(Serialize)]
struct StatusJson<'a> {
    path: String,
    #[serde(rename = "type")]
    kind: &'a str,
    length: u64,
    mode: String,
    owner: &'a str,
    group: &'a str,
    modified: String,
    accessed: Option<String>,
    replication: u16,
    block_size: u64,
    children: Option<u64>,
    inode: u64,
    under_construction: bool,
    has_acl: bool,
}

impl<'a> StatusJson<'a> {
    fn of(status: &'a FileStatus) -> Self {
        Self {
            path: status.path.to_string(),
            kind: if status.directory { "directory" } else { "file" },
            length: status.length,
            mode: format!("{:03o}", status.mode),
            owner: &status.owner,
            group: &status.group,
            modified: rfc3339(status.modified),
            accessed: (status.accessed.0 > 0).then(|| rfc3339(status.accessed)),
            replication: status.replication,
            block_size: status.block_size,
            children: status.directory.then_some(status.children),
            inode: status.inode.0,
            under_construction: status.under_construction,
            has_acl: status.has_acl,
        }
    }
}

pub(crate) async fn ls(session: &Session, args: LsArgs, run: &mut Run) -> Outcome<()> {
    let mut out = session.out();
    let several = args.paths.len() > 1;
    for text in &args.paths {
        for remote in run.paths(session.expand(text).await)? {
            let listed = ls_one(&remote, &args, several, &mut out).await;
            run.note(listed)?;
        }
    }
    out.flush().await
}

async fn ls_one(remote: &Remote, args: &LsArgs, several: bool, out: &mut Out) -> Outcome<()> {
    let at = || Failure::at(&remote.path);
    let status = remote.client.stat(&remote.path).await.map_err(at())?;
    let mut listing = Listing { args, rows: Vec::new(), full_path: args.recursive || !status.directory };
    if args.directory || !status.directory {
        listing.full_path = true;
        listing.entry(&status, out).await?;
        return listing.finish(out).await;
    }
    if several && !args.recursive && !args.json {
        out.line(format!("{}:", printable(&remote.path))).await?;
    }
    let mut entries: Entries = match args.recursive {
        true => Box::pin(remote.client.walk(&remote.path)),
        false => Box::pin(remote.client.list(&remote.path)),
    };
    while let Some(entry) = entries.try_next().await.map_err(at())? {
        listing.entry(&entry, out).await?;
    }
    listing.finish(out).await?;
    if several && !args.recursive && !args.json { out.line("").await } else { Ok(()) }
}

type Entries = Pin<Box<dyn Stream<Item = FsResult<FileStatus>> + Send>>;

/// A listing being printed: long rows wait until they can be aligned with their neighbours.
struct Listing<'a> {
    args: &'a LsArgs,
    rows: Vec<[String; 7]>,
    full_path: bool,
}

impl Listing<'_> {
    async fn entry(&mut self, status: &FileStatus, out: &mut Out) -> Outcome<()> {
        if self.args.json {
            return out.json(&StatusJson::of(status)).await;
        }
        let mut name =
            printable(&if self.full_path { status.path.to_string() } else { status.name().to_owned() });
        if status.directory && !name.ends_with('/') {
            name.push('/');
        }
        if !self.args.long {
            return out.line(name).await;
        }
        self.rows.push(long_row(status, name, self.args.bytes));
        if self.rows.len() >= ALIGNED_ROWS { self.finish(out).await } else { Ok(()) }
    }

    async fn finish(&mut self, out: &mut Out) -> Outcome<()> {
        for line in align(&std::mem::take(&mut self.rows)) {
            out.line(line).await?;
        }
        Ok(())
    }
}

/// The mode in letters, with Hadoop's plus sign where more than it decides.
fn shown_mode(status: &FileStatus) -> String {
    let plus = if status.has_acl { "+" } else { "" };
    mode::show(status.mode, status.directory) + plus
}

fn long_row(status: &FileStatus, name: String, exact: bool) -> [String; 7] {
    let of_files = |text: String| if status.directory { "-".to_owned() } else { text };
    [
        shown_mode(status),
        of_files(status.replication.to_string()),
        printable(&status.owner),
        printable(&status.group),
        of_files(size(status.length, exact)),
        minute(status.modified),
        name,
    ]
}

/// Pads every column but the last to the same width; replication and size to the right.
fn align(rows: &[[String; 7]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let pad = |row: &[String; 7], column: usize| {
        let width = widths[column];
        if matches!(column, 1 | 4) {
            format!("{:>width$}", row[column])
        } else {
            format!("{:<width$}", row[column])
        }
    };
    rows.iter()
        .map(|row| {
            let front: Vec<_> = (0..6).map(|column| pad(row, column)).collect();
            format!("{}  {}", front.join("  "), row[6])
        })
        .collect()
}

/// The entries of one folder on the way down, the next one known, so that the last is drawn as the last.
type Level = Pin<Box<Peekable<Entries>>>;

fn level(client: &Client, path: &str) -> Level {
    let entries: Entries = Box::pin(client.list(path));
    Box::pin(entries.peekable())
}

pub(crate) async fn tree(session: &Session, args: TreeArgs) -> Outcome<()> {
    let mut out = session.out();
    let remote = session.literal(&args.path).await?;
    let top = remote.client.stat(&remote.path).await.map_err(Failure::at(&remote.path))?;
    out.line(printable(&remote.path)).await?;
    let (mut files, mut folders) = (0_u64, 0_u64);
    let mut levels = if top.directory { vec![level(&remote.client, &remote.path)] } else { Vec::new() };
    let mut prefix = String::new();
    while let Some(entries) = levels.last_mut() {
        let Some(entry) = entries.try_next().await.map_err(Failure::at(&remote.path))? else {
            levels.pop();
            for _ in 0..4 {
                prefix.pop();
            }
            continue;
        };
        let last = entries.as_mut().peek().await.is_none();
        let size = if args.size && !entry.directory {
            format!("  [{}]", size(entry.length, false))
        } else {
            String::new()
        };
        let slash = if entry.directory { "/" } else { "" };
        let branch = if last { "└── " } else { "├── " };
        out.line(format!("{prefix}{branch}{}{slash}{size}", printable(entry.name()))).await?;
        if !entry.directory {
            files += 1;
            continue;
        }
        folders += 1;
        if args.level.is_none_or(|deepest| levels.len() < deepest) {
            prefix.push_str(if last { "    " } else { "│   " });
            levels.push(level(&remote.client, &entry.path.to_string()));
        }
    }
    let plural =
        |count: u64, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    out.line(format!("\n{}, {}", plural(folders, "folder"), plural(files, "file"))).await?;
    out.flush().await
}

pub(crate) async fn stat(session: &Session, args: PathsArgs, run: &mut Run) -> Outcome<()> {
    let mut out = session.out();
    let mut first = true;
    for text in &args.paths {
        for remote in run.paths(session.expand(text).await)? {
            match remote.client.stat(&remote.path).await.map_err(Failure::at(&remote.path)) {
                Ok(status) if args.json => out.json(&StatusJson::of(&status)).await?,
                Ok(status) => {
                    if !std::mem::take(&mut first) {
                        out.line("").await?;
                    }
                    out.line(describe(&status)).await?;
                }
                Err(failure) => run.note(Err(failure))?,
            }
        }
    }
    out.flush().await
}

fn describe(status: &FileStatus) -> String {
    let mut lines = vec![
        ("path", printable(&status.path.to_string())),
        ("type", if status.directory { "folder".into() } else { "file".into() }),
        ("mode", format!("{:03o} ({})", status.mode, shown_mode(status))),
        ("owner", printable(&status.owner)),
        ("group", printable(&status.group)),
        ("modified", rfc3339(status.modified)),
    ];
    if status.directory {
        lines.push(("entries", status.children.to_string()));
    } else {
        lines.push(("accessed", rfc3339(status.accessed)));
        lines.push(("length", format!("{} ({})", status.length, size(status.length, false))));
        lines.push(("replication", status.replication.to_string()));
        lines.push(("block size", size(status.block_size, false)));
        lines.push(("being written", if status.under_construction { "yes" } else { "no" }.into()));
    }
    lines.push(("inode", status.inode.to_string()));
    lines.iter().map(|(name, value)| format!("{name:<14}{value}")).collect::<Vec<_>>().join("\n")
}

#[derive(Serialize)]
struct UsageJson<'a> {
    path: &'a str,
    length: u64,
    space: u64,
    files: u64,
    directories: u64,
}

pub(crate) async fn du(session: &Session, args: DuArgs, run: &mut Run) -> Outcome<()> {
    let mut out = session.out();
    for text in &args.paths {
        for remote in run.paths(session.expand(text).await)? {
            let shown = du_one(&remote, &args, &mut out).await;
            run.note(shown)?;
        }
    }
    out.flush().await
}

async fn du_one(remote: &Remote, args: &DuArgs, out: &mut Out) -> Outcome<()> {
    let at = || Failure::at(&remote.path);
    let folder = !args.summarize && remote.client.stat(&remote.path).await.map_err(at())?.directory;
    if !folder {
        let summary = remote.client.content_summary(&remote.path).await.map_err(at())?;
        return usage(&remote.path, summary, args, out).await;
    }
    let mut entries = std::pin::pin!(remote.client.list(&remote.path));
    while let Some(entry) = entries.try_next().await.map_err(at())? {
        let path = entry.path.to_string();
        let summary = match entry.directory {
            true => remote.client.content_summary(&path).await.map_err(Failure::at(&path))?,
            false => ContentSummary {
                length: entry.length,
                files: 1,
                directories: 0,
                space: entry.length.saturating_mul(u64::from(entry.replication)),
                ..ContentSummary::default()
            },
        };
        usage(&path, summary, args, out).await?;
    }
    Ok(())
}

async fn usage(path: &str, summary: ContentSummary, args: &DuArgs, out: &mut Out) -> Outcome<()> {
    let ContentSummary { length, files, directories, space, .. } = summary;
    if args.json {
        return out.json(&UsageJson { path, length, space, files, directories }).await;
    }
    let (length, space) = (size(length, args.bytes), size(space, args.bytes));
    out.line(format!("{length:>12}  {space:>12}  {}", printable(path))).await
}

#[derive(Serialize)]
struct DfJson {
    file_system: String,
    capacity: u64,
    used: u64,
    remaining: u64,
    under_replicated: u64,
    corrupt: u64,
    missing: u64,
}

pub(crate) async fn df(session: &Session, args: DfArgs) -> Outcome<()> {
    let client = session.client().await?;
    let stats = client.fs_stats().await?;
    let mut out = session.out();
    let file_system = client.url().to_string();
    if args.json {
        let (capacity, used, remaining) = (stats.capacity, stats.used, stats.remaining);
        let (under_replicated, corrupt, missing) = (stats.under_replicated, stats.corrupt, stats.missing);
        let row = DfJson { file_system, capacity, used, remaining, under_replicated, corrupt, missing };
        out.json(&row).await?;
        return out.flush().await;
    }
    let sizes = [stats.capacity, stats.used, stats.remaining].map(|bytes| size(bytes, args.bytes));
    let [capacity, used, remaining] = sizes;
    let row = vec![file_system, capacity, used, remaining, percent(stats.used, stats.capacity)];
    out.line(table(&["file system", "size", "used", "available", "use%"], &[1, 2, 3, 4], vec![row])).await?;
    out.flush().await
}

/// `part` of `whole` in percent, rounded up, so that something is never nothing.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".into();
    }
    format!("{}%", (u128::from(part) * 100).div_ceil(u128::from(whole)))
}

#[derive(Serialize)]
struct ChecksumJson<'a> {
    path: &'a str,
    algorithm: String,
    bytes: String,
}

pub(crate) async fn checksum(session: &Session, args: PathsArgs, run: &mut Run) -> Outcome<()> {
    let mut out = session.out();
    for text in &args.paths {
        for remote in run.paths(session.expand(text).await)? {
            match remote.client.checksum(&remote.path).await.map_err(Failure::at(&remote.path)) {
                Ok(sum) if args.json => {
                    let row =
                        ChecksumJson { path: &remote.path, algorithm: sum.algorithm(), bytes: sum.hex() };
                    out.json(&row).await?;
                }
                Ok(sum) => out.line(format!("{}\t{sum}", printable(&remote.path))).await?,
                Err(failure) => run.note(Err(failure))?,
            }
        }
    }
    out.flush().await
}

#[cfg(test)]
mod tests {
    use steadfs_client::{FsPath, Millis};

    use super::*;

    fn status(path: &str, directory: bool) -> FileStatus {
        FileStatus {
            path: FsPath::parse(path).unwrap(),
            inode: serde_inode(),
            directory,
            length: if directory { 0 } else { 1_536 },
            mode: 0o644,
            owner: "alice".into(),
            group: "staff".into(),
            modified: Millis(1_763_692_980_123),
            accessed: Millis(0),
            replication: if directory { 0 } else { 3 },
            block_size: 128 << 20,
            children: 2,
            under_construction: false,
            has_acl: false,
            nameless: false,
            content_version: 0,
        }
    }

    fn serde_inode() -> steadfs_common::InodeId {
        steadfs_common::InodeId(16_400)
    }

    #[test]
    fn long_rows_are_aligned() {
        let rows = [
            long_row(&status("/a", false), "a".into(), false),
            long_row(&status("/folder", true), "folder/".into(), false),
        ];
        assert_eq!(
            align(&rows),
            [
                "-rw-r--r--  3  alice  staff  1.5 KiB  2025-11-21 02:43  a",
                "drw-r--r--  -  alice  staff        -  2025-11-21 02:43  folder/",
            ]
        );
        assert_eq!(long_row(&status("/a", false), "a".into(), true)[4], "1536");
    }

    #[test]
    fn json_has_what_a_script_wants() {
        let status = status("/a/x", false);
        let json = serde_json::to_value(StatusJson::of(&status)).unwrap();
        assert_eq!(json["path"], "/a/x");
        assert_eq!(json["type"], "file");
        assert_eq!(json["mode"], "644");
        assert_eq!(json["modified"], "2025-11-21T02:43:00.123Z");
        assert!(json["accessed"].is_null() && json["children"].is_null());
    }

    #[test]
    fn a_stat_is_read_by_people() {
        let text = describe(&status("/a/x", false));
        assert!(text.contains("mode          644 (-rw-r--r--)"), "{text}");
        assert!(text.contains("length        1536 (1.5 KiB)"), "{text}");
    }

    #[test]
    fn percents_never_hide_something() {
        assert_eq!(percent(0, 100), "0%");
        assert_eq!(percent(1, 1_000_000), "1%");
        assert_eq!(percent(u64::MAX, u64::MAX), "100%");
        assert_eq!(percent(1, 0), "-");
    }
}
