//! `/fsck`: the check of the file system as text, for the stock `hdfs fsck`, which reads its exit code off the last line.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use steadfs_common::{BlockId, FsError, FsPath, FsResult, GenStamp, Millis};
use steadfs_daemon::http::Peer;
use steadfs_namenode_core::Caller;
use steadfs_namenode_core::command::Door as Origin;
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::fsck_item::Item;
use steadfs_wire::webhdfs::{Query, RestError};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::blocks::Blocks;
use crate::grpc::Fsck;
use crate::service::{Claim, Service};

/// Findings, and pieces of text, that wait for a slow reader; the check waits beyond that.
const QUEUE: usize = 16;
/// Corrupt files told at a time; the tool asks on by its cookie.
const CORRUPT_PAGE: u64 = 100;
/// Flags of the stock tool that would change something, or ask what is not kept.
const NOT_THERE: [&str; 4] = ["move", "delete", "replicate", "blockid"];

struct Door {
    service: Arc<Service>,
    blocks: Arc<Blocks>,
}

pub(super) fn router(service: Arc<Service>, blocks: Arc<Blocks>) -> Router {
    Router::new().route("/fsck", get(serve)).with_state(Arc::new(Door { service, blocks }))
}

/// What the tool asks for.
struct Options {
    user: String,
    path: FsPath,
    files: bool,
    blocks: bool,
    locations: bool,
    racks: bool,
    open: bool,
    /// Only the corrupt files, past so many of them.
    corrupt_after: Option<u64>,
}

impl Options {
    fn of(raw: &str) -> Result<Self, RestError> {
        let query = Query::parse(raw)?;
        let has = |name: &str| query.optional(name).is_some();
        if let Some(name) = NOT_THERE.into_iter().find(|name| has(name)) {
            return Err(RestError::unsupported(name));
        }
        let after = query.text("startblockafter").trim().parse().unwrap_or(0);
        Ok(Self {
            user: query.optional("ugi").map_or_else(|| query.user(), Ok)?.to_owned(),
            path: FsPath::parse(query.optional("path").unwrap_or("/"))?,
            files: has("files"),
            blocks: has("blocks") || has("locations") || has("racks") || has("replicadetails"),
            locations: has("locations") || has("replicadetails"),
            racks: has("racks"),
            open: has("openforwrite"),
            corrupt_after: has("listcorruptfileblocks").then_some(after),
        })
    }
}

async fn serve(State(door): State<Arc<Door>>, request: Request) -> Response {
    let address = request.extensions().get::<Peer>().map(|peer| peer.0.ip().to_canonical());
    let options = Options::of(request.uri().query().unwrap_or(""));
    let begin = async {
        let options = options?;
        let claim = Claim { user: &options.user, address, door: Origin::Http, ..Claim::default() };
        let caller = door.service.identify(claim).await?;
        Ok::<_, RestError>((options, caller))
    };
    let (options, caller) = match begin.await {
        Ok(begun) => begun,
        // The tool shows the text of an answer that is 200 alone.
        Err(error) => return text(Body::from(format!("\n\nFsck FAILED: {}\n", error.message()))),
    };
    let (out, lines) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let path = options.path.clone();
        if let Err(error) = check(&door, options, caller, address, &out).await {
            let end = if error.kind() == steadfs_common::FsErrorKind::NotFound {
                format!("\nFsck on path '{path}' FAILED\nPath '{path}' does not exist\n")
            } else {
                format!("\n{error}\n\n\nFsck on path '{path}' FAILED\n")
            };
            let _ = out.send(Bytes::from(end)).await;
        }
    });
    text(Body::from_stream(ReceiverStream::new(lines).map(Ok::<_, std::convert::Infallible>)))
}

fn text(body: Body) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain;charset=utf-8")], body).into_response()
}

/// Sends the whole report; ends early if nobody reads any more.
async fn check(
    door: &Door,
    options: Options,
    caller: Caller,
    address: Option<IpAddr>,
    out: &mpsc::Sender<Bytes>,
) -> FsResult<()> {
    let begun = door.service.now();
    let from = address.map_or_else(|| "unknown".into(), |address| address.to_string());
    let head = format!(
        "FSCK started by {} (auth:SIMPLE) from /{from} for path {} at {}\n\n",
        options.user,
        options.path,
        date(begun)
    );
    let _ = out.send(head.into()).await;
    let all = options.files || options.blocks || options.open;
    let fsck = Fsck::new(Arc::clone(&door.service), Arc::clone(&door.blocks), caller, all);
    let (send, mut items) = mpsc::channel(QUEUE);
    let top = options.path.clone();
    let walk = tokio::spawn(async move { fsck.run(top, &send).await });
    let mut report = Report { options, pool: door.service.identity().block_pool.clone(), corrupt: 0 };
    while let Some(item) = items.recv().await {
        let item = item.map_err(|status| steadfs_proto::from_status(&status))?;
        let text = match item.item {
            Some(Item::File(file)) => report.file(&file),
            Some(Item::Summary(sums)) => report.end(door, &sums),
            None => String::new(),
        };
        if !text.is_empty() && out.send(text.into()).await.is_err() {
            return Ok(());
        }
    }
    walk.await.unwrap_or_else(|_| Err(FsError::refused("the check ended early")))
}

struct Report {
    options: Options,
    pool: String,
    corrupt: u64,
}

impl Report {
    fn file(&mut self, file: &pb::FsckFile) -> String {
        let bad = |block: &pb::FsckBlock| block.live.is_empty() && !file.under_construction;
        let mut text = String::new();
        if let Some(after) = self.options.corrupt_after {
            for block in file.blocks.iter().filter(|block| bad(block)) {
                self.corrupt += 1;
                if self.corrupt > after && self.corrupt <= after.saturating_add(CORRUPT_PAGE) {
                    line(&mut text, format_args!("{}\t{}", name(block), file.path));
                }
            }
            return text;
        }
        if file.under_construction && !self.options.open {
            return text;
        }
        let problems: Vec<String> = file.blocks.iter().filter_map(|block| problem(file, block)).collect();
        if self.options.files || self.options.blocks || file.under_construction {
            let state = if file.under_construction { ", OPENFORWRITE" } else { "" };
            let verdict = if problems.is_empty() { "  OK" } else { "" };
            line(
                &mut text,
                format_args!(
                    "{} {} bytes, replicated: replication={}, {} block(s){state}:{verdict}",
                    file.path,
                    file.length,
                    file.replication,
                    file.blocks.len()
                ),
            );
        }
        for problem in &problems {
            line(&mut text, format_args!("{}: {problem}", file.path));
        }
        if self.options.blocks {
            self.blocks(&mut text, file);
            text.push('\n');
        }
        text
    }

    fn blocks(&self, text: &mut String, file: &pb::FsckFile) {
        for (at, block) in file.blocks.iter().enumerate() {
            let length = block.block.as_ref().map_or(0, |block| block.length);
            let places: Vec<String> = block.live.iter().filter_map(|place| self.place(place)).collect();
            let places = if places.is_empty() { String::new() } else { format!("  [{}]", places.join(", ")) };
            let (pool, name, live) = (&self.pool, name(block), block.live.len());
            line(text, format_args!("{at}. {pool}:{name} len={length} Live_repl={live}{places}"));
        }
    }

    fn place(&self, place: &pb::Location) -> Option<String> {
        let node = place.datanode.as_ref().filter(|_| self.options.locations || self.options.racks)?;
        let address = format!("{}:{}", node.ip, node.data_port);
        Some(if self.options.racks {
            format!("{}/{address}", place.rack)
        } else {
            format!("DatanodeInfoWithStorage[{address},{}]", place.storage_id)
        })
    }

    fn end(&self, door: &Door, sums: &pb::FsckSummary) -> String {
        let path = &self.options.path;
        let verdict = if sums.healthy { "HEALTHY" } else { "CORRUPT" };
        if let Some(after) = self.options.corrupt_after {
            return match self.corrupt.saturating_sub(after) {
                0 => format!("\n\nThe filesystem under path '{path}' has no CORRUPT files\n"),
                left => {
                    let told = left.min(CORRUPT_PAGE);
                    let cookie = after + told;
                    format!(
                        "Cookie:\t{cookie}\n\n\nThe filesystem under path '{path}' has {told} CORRUPT files\n"
                    )
                }
            };
        }
        let nodes: Vec<_> = door.service.datanodes().into_iter().filter(|node| node.live).collect();
        let racks: std::collections::BTreeSet<_> = nodes.iter().map(|node| node.rack.clone()).collect();
        let default = door.service.defaults().replication;
        let share = |part: u64| 100.0 * part as f64 / sums.blocks.max(1) as f64;
        let average = sums.bytes.checked_div(sums.blocks).unwrap_or(0);
        let sound = sums.blocks.saturating_sub(sums.missing);
        let mut text = format!("\nStatus: {verdict}\n");
        for (name, value) in [
            ("Number of data-nodes", nodes.len().to_string()),
            ("Number of racks", racks.len().to_string()),
            ("Total dirs", sums.directories.to_string()),
            ("Total symlinks", "0\n\nReplicated Blocks:".to_owned()),
            ("Total size", format!("{} B", sums.bytes)),
            ("Total files", format!("{} (Files currently being written: {})", sums.files, sums.open_files)),
            ("Total blocks (validated)", format!("{} (avg. block size {average} B)", sums.blocks)),
            ("Minimally replicated blocks", format!("{sound} ({:.1} %)", share(sound))),
            (
                "Over-replicated blocks",
                format!("{} ({:.1} %)", sums.over_replicated, share(sums.over_replicated)),
            ),
            (
                "Under-replicated blocks",
                format!("{} ({:.1} %)", sums.under_replicated, share(sums.under_replicated)),
            ),
            ("Default replication factor", default.to_string()),
            ("Missing blocks", sums.missing.to_string()),
            ("Corrupt blocks", sums.corrupt.to_string()),
        ] {
            line(&mut text, format_args!(" {name}:\t{value}"));
        }
        line(&mut text, format_args!("FSCK ended at {}\n\n", date(door.service.now())));
        line(&mut text, format_args!("The filesystem under path '{path}' is {verdict}"));
        text
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("text takes all");
}

fn date(time: Millis) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_millis(time.0))
}

/// `blk_<id>_<stamp>`.
fn name(block: &pb::FsckBlock) -> String {
    let (id, stamp) = block.block.as_ref().map_or((0, 0), |block| (block.id, block.stamp));
    format!("{}_{}", BlockId(id), GenStamp(stamp).0)
}

fn problem(file: &pb::FsckFile, block: &pb::FsckBlock) -> Option<String> {
    let (name, live, wanted) = (name(block), block.live.len(), block.wanted);
    if file.under_construction {
        return None;
    }
    if block.live.is_empty() {
        let length = block.block.as_ref().map_or(0, |block| block.length);
        let what = if block.corrupt.is_empty() { "MISSING" } else { "CORRUPT" };
        return Some(format!("{what} block {name} of {length} B: no good replica is left"));
    }
    (live < wanted as usize).then(|| {
        format!(" Under replicated {name}. Target Replicas is {wanted} but found {live} live replica(s).")
    })
}
