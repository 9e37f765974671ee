//! `steadfs admin fsck`: which file misses which block, and where its replicas are.

use futures::TryStreamExt;
use serde::Serialize;
use steadfs_client::{FsckBlock, FsckFile, FsckItem, FsckSummary, Replica};

use crate::args::FsckArgs;
use crate::failure::{Failure, Outcome};
use crate::out::{printable, size};
use crate::run::Run;
use crate::session::Session;

#[derive(Serialize)]
struct FsckFileJson<'a> {
    path: &'a str,
    length: u64,
    replication: u32,
    under_construction: bool,
    blocks: Vec<FsckBlockJson<'a>>,
}

#[derive(Serialize)]
struct FsckBlockJson<'a> {
    block: &'a str,
    length: u64,
    wanted: u32,
    missing: bool,
    live: Vec<ReplicaJson<'a>>,
    corrupt: Vec<ReplicaJson<'a>>,
}

#[derive(Serialize)]
struct ReplicaJson<'a> {
    address: String,
    host_name: &'a str,
    datanode: &'a str,
    storage: &'a str,
    rack: &'a str,
}

#[derive(Serialize)]
struct FsckSummaryJson<'a> {
    path: &'a str,
    healthy: bool,
    files: u64,
    directories: u64,
    bytes: u64,
    blocks: u64,
    under_replicated: u64,
    over_replicated: u64,
    corrupt: u64,
    missing: u64,
    open_files: u64,
}

fn replicas_json(replicas: &[Replica]) -> Vec<ReplicaJson<'_>> {
    replicas
        .iter()
        .map(|replica| ReplicaJson {
            address: replica.address.to_string(),
            host_name: &replica.host_name,
            datanode: &replica.datanode,
            storage: &replica.storage,
            rack: &replica.rack,
        })
        .collect()
}

fn file_json(file: &FsckFile) -> FsckFileJson<'_> {
    let block =
        |block: &'_ FsckBlock| -> (u64, u32, bool) { (block.length, block.wanted, block.is_missing()) };
    FsckFileJson {
        path: &file.path,
        length: file.length,
        replication: file.replication,
        under_construction: file.under_construction,
        blocks: file
            .blocks
            .iter()
            .map(|one| {
                let (length, wanted, missing) = block(one);
                let (live, corrupt) = (replicas_json(&one.live), replicas_json(&one.corrupt));
                FsckBlockJson { block: &one.name, length, wanted, missing, live, corrupt }
            })
            .collect(),
    }
}

pub(crate) async fn fsck(session: &Session, args: FsckArgs, json: bool, run: &mut Run) -> Outcome<()> {
    let remote = session.literal(&args.path).await?;
    let at = || Failure::at(&remote.path);
    let mut items = std::pin::pin!(remote.client.fsck(&remote.path, args.all).await.map_err(at())?);
    let mut out = session.out();
    let mut summary = None;
    while let Some(item) = items.try_next().await.map_err(at())? {
        match item {
            FsckItem::File(file) if json => out.json(&file_json(&file)).await?,
            FsckItem::File(file) => {
                for line in file_lines(&file) {
                    out.line(line).await?;
                }
            }
            FsckItem::Summary(totals) => summary = Some(totals),
        }
    }
    let Some(summary) = summary else {
        return Err(Failure::other(format!("{}: the check was cut short; run it again", remote.path)));
    };
    if json {
        out.json(&summary_json(&remote.path, &summary)).await?;
    } else {
        out.line(summary_line(&remote.path, &summary)).await?;
    }
    out.flush().await?;
    if !summary.healthy {
        run.mark_failed();
    }
    Ok(())
}

fn summary_json<'a>(path: &'a str, summary: &FsckSummary) -> FsckSummaryJson<'a> {
    FsckSummaryJson {
        path,
        healthy: summary.healthy,
        files: summary.files,
        directories: summary.directories,
        bytes: summary.bytes,
        blocks: summary.blocks,
        under_replicated: summary.under_replicated,
        over_replicated: summary.over_replicated,
        corrupt: summary.corrupt,
        missing: summary.missing,
        open_files: summary.open_files,
    }
}

/// The file, and below it each block that is not as it should be, or each if all are.
fn file_lines(file: &FsckFile) -> Vec<String> {
    let writing = if file.under_construction { ", being written" } else { "" };
    let mut lines = vec![format!(
        "{}: {}, {} blocks{writing}",
        printable(&file.path),
        size(file.length, false),
        file.blocks.len()
    )];
    let bad = |block: &FsckBlock| block_state(block) != "ok";
    let any_bad = file.blocks.iter().any(bad);
    for block in file.blocks.iter().filter(|block| !any_bad || bad(block)) {
        let named = |replicas: &[Replica]| {
            replicas
                .iter()
                .map(|one| format!("{} ({})", one.address, one.storage))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut line = format!("  {}  {}  {}", block.name, size(block.length, false), block_state(block));
        if !block.live.is_empty() {
            line.push_str(&format!("; on {}", named(&block.live)));
        }
        if !block.corrupt.is_empty() {
            line.push_str(&format!("; damaged on {}", named(&block.corrupt)));
        }
        lines.push(line);
    }
    lines
}

fn block_state(block: &FsckBlock) -> String {
    let live = block.live.len() as u64;
    match live.cmp(&u64::from(block.wanted)) {
        _ if block.is_missing() => "MISSING: no good replica is known".into(),
        std::cmp::Ordering::Less => format!("{live} of {} replicas", block.wanted),
        std::cmp::Ordering::Greater => format!("{live} replicas, {} wanted", block.wanted),
        std::cmp::Ordering::Equal if !block.corrupt.is_empty() => "a replica is damaged".into(),
        std::cmp::Ordering::Equal => "ok".into(),
    }
}

fn summary_line(path: &str, summary: &FsckSummary) -> String {
    format!(
        "{}: {} ({} files, {} folders, {}; {} blocks: {} missing, {} damaged, {} with too few replicas, {} with too many; \
         {} files being written)",
        printable(path),
        if summary.healthy { "HEALTHY" } else { "NOT HEALTHY" },
        summary.files,
        summary.directories,
        size(summary.bytes, false),
        summary.blocks,
        summary.missing,
        summary.corrupt,
        summary.under_replicated,
        summary.over_replicated,
        summary.open_files
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(wanted: u32, length: u64) -> FsckBlock {
        FsckBlock { name: "blk_1073741825_1001".into(), length, wanted, live: vec![], corrupt: vec![] }
    }

    #[test]
    fn a_missing_block_is_shouted() {
        let file = FsckFile {
            path: "/x".into(),
            length: 5,
            replication: 3,
            under_construction: false,
            blocks: vec![block(3, 5)],
        };
        assert_eq!(
            file_lines(&file),
            ["/x: 5 B, 1 blocks", "  blk_1073741825_1001  5 B  MISSING: no good replica is known"]
        );
        assert!(file_json(&file).blocks[0].missing);
        assert_eq!(block_state(&block(0, 0)), "ok");
    }

    #[test]
    fn a_summary_is_one_line() {
        let text = summary_line("/", &FsckSummary { files: 2, healthy: true, ..Default::default() });
        assert!(text.starts_with("/: HEALTHY (2 files"), "{text}");
    }
}
