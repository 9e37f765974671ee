//! `/fsck`: the check of the file system as text, for the stock `hdfs fsck`, which reads its exit code off the last line.
//! The lines are HDFS's own.

mod numbers;
mod options;
mod report;
mod sums;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use steadfs_common::{BlockId, FsErrorKind, FsPath, FsResult, Millis};
use steadfs_daemon::http::Peer;
use steadfs_namenode_core::command::Door as Origin;
use steadfs_namenode_core::{Caller, Command};
use steadfs_wire::webhdfs::RestError;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::dates::java_date;
use crate::service::{Claim, Found, Service, Walk};
use options::{Named, Options, What};
use report::{Report, Surveyed, of_block};
use sums::{Around, Sums};

/// Pieces of text that wait for a slow reader; the check waits beyond that.
const QUEUE: usize = 16;
/// Corrupt files told at a time; the tool asks on by its cookie.
const CORRUPT_PAGE: usize = 100;

/// What HDFS says of an option that means nothing any more.
const OLD_PROGRESS: &str = "The fsck switch -showprogress is deprecated and no longer has any effect. Progress is now \
     shown by default.\n";

struct Door {
    service: Arc<Service>,
}

pub(super) fn router(service: Arc<Service>) -> Router {
    Router::new().route("/fsck", get(serve)).with_state(Arc::new(Door { service }))
}

type Out = mpsc::Sender<Bytes>;

/// Nobody reads any more.
struct Gone;

async fn tell(out: &Out, text: String) -> Result<(), Gone> {
    if text.is_empty() {
        return Ok(());
    }
    out.send(text.into()).await.map_err(|_| Gone)
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
        Err(error) => return text(Body::from(format!("{}\n\n\nFsck on path FAILED", error.message()))),
    };
    let (out, lines) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let begun = door.service.now();
        let path = options.path.clone();
        if let Err(error) = check(&door.service, options, caller, address, &out).await {
            let end = if error.kind() == FsErrorKind::NotFound {
                format!("\n\nPath '{path}' does not exist")
            } else {
                let ended = ended(&door.service, begun);
                format!("{ended}{}\n\n\nFsck on path '{path}' FAILED", error.message())
            };
            let _ = tell(&out, end).await;
        }
    });
    text(Body::from_stream(ReceiverStream::new(lines).map(Ok::<_, std::convert::Infallible>)))
}

fn text(body: Body) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain;charset=utf-8")], body).into_response()
}

fn ended(service: &Service, begun: Millis) -> String {
    let now = service.now();
    format!("FSCK ended at {} in {} milliseconds\n", java_date(now), now.0.saturating_sub(begun.0))
}

/// Sends the whole answer; ends early if nobody reads any more.
async fn check(
    service: &Arc<Service>,
    options: Options,
    caller: Caller,
    address: Option<IpAddr>,
    out: &Out,
) -> FsResult<()> {
    service.fsck_asked(&caller, &options.path);
    let from = address.map_or_else(|| "unknown".into(), |address| address.to_string());
    let (user, at) = (&options.user, java_date(service.now()));
    let begin = format!("FSCK started by {user} (auth:SIMPLE) from /{from}");
    let told = match &options.what {
        What::Blocks(named) => {
            service.check_operator(&caller, "fsck")?;
            let named = named.clone();
            let _ = tell(out, format!("{begin} at {at}\n")).await;
            blocks(service, &named, options.maintenance, out).await
        }
        What::Corrupt(after) => {
            service.check_operator(&caller, "listCorruptFileBlocks")?;
            let _ = tell(out, format!("{begin} for path {} at {at}\n", options.path)).await;
            corrupt(service, &options.path, *after, out).await
        }
        What::Tree => {
            let old = if options.progress { OLD_PROGRESS } else { "" };
            let _ = tell(out, format!("{old}{begin} for path {} at {at}\n", options.path)).await;
            tree(service, options, caller, out).await?
        }
    };
    // Who went away is not told of it.
    let _: Result<(), Gone> = told;
    Ok(())
}

async fn blocks(service: &Service, named: &[Named], maintenance: bool, out: &Out) -> Result<(), Gone> {
    for name in named {
        let id = match name {
            Named::Block(id) => *id,
            Named::Nonsense(word) => {
                tell(out, format!("Incorrect blockId format: {word}\n")).await?;
                continue;
            }
        };
        let told = match service.file_of_block(id).await {
            None => format!("Block {id} does not exist\n"),
            Some(file) => {
                let replicas = service.survey(id);
                of_block(id, &file.path, file.block.replication, &Surveyed { replicas }, maintenance)
            }
        };
        tell(out, format!("\n{told}")).await?;
    }
    Ok(())
}

/// Files with lost blocks past `after`: a page of them, and where to go on.
async fn corrupt(service: &Service, top: &FsPath, after: BlockId, out: &Out) -> Result<(), Gone> {
    let (mut lines, mut last, mut count) = (String::new(), after, 0);
    while count < CORRUPT_PAGE {
        let missing = service.missing_blocks(last, CORRUPT_PAGE);
        let Some(end) = missing.last().copied() else { break };
        for id in missing {
            let found = service.file_of_block(id).await.filter(|file| file.path.starts_with(top));
            if let Some(file) = found {
                lines += &format!("{id}\t{}\t{}\n", file.block.replication, file.path);
                count += 1;
            }
        }
        last = end;
    }
    let number = match count {
        0 if after.0 == 0 => "no".to_owned(),
        0 => "no more".to_owned(),
        count => count.to_string(),
    };
    let end = format!("\n\nThe filesystem under path '{top}' has {number} CORRUPT files\n\n");
    tell(out, format!("Cookie:\t{}\n{lines}{end}", last.0)).await
}

async fn tree(
    service: &Arc<Service>,
    options: Options,
    caller: Caller,
    out: &Out,
) -> FsResult<Result<(), Gone>> {
    let begun = service.now();
    let (path, delete, salvage) = (options.path.clone(), options.delete, options.salvage);
    let policies = options.policies;
    let nodes: Vec<_> = service.datanodes().into_iter().filter(|node| node.live).collect();
    let mut racks: Vec<_> = nodes.iter().map(|node| node.rack.clone()).collect();
    racks.sort_unstable();
    racks.dedup();
    let mut report = Report {
        options,
        pool: service.identity().block_pool.clone(),
        min_replication: service.settings().min_replication,
        racks: racks.len(),
        sums: Sums::default(),
    };
    let mut walk = Walk::new(Arc::clone(service), caller.clone(), path.clone()).await?;
    if tell(out, "\n".to_owned()).await.is_err() {
        return Ok(Err(Gone));
    }
    while let Some(Found { path, status }) = walk.next().await? {
        let file = status.filter(|status| !status.inode.is_directory());
        let Some(status) = file else {
            let line = report.folder(&path);
            if tell(out, line).await.is_err() {
                return Ok(Err(Gone));
            }
            continue;
        };
        let (mut told, lost) = report.file(service, &path, &status);
        if lost && salvage {
            told += &format!("\n{path}: not moved to /lost+found: copy what can be read of it with a client");
        }
        if lost && delete {
            let command = Command::Delete { path: path.clone(), recursive: false };
            if let Err(error) = service.submit(&caller, None, command).await {
                told += &format!("\n{path}: not deleted: {}", error.message());
            }
        }
        if tell(out, told).await.is_err() {
            return Ok(Err(Gone));
        }
    }
    let around = Around {
        datanodes: nodes.len(),
        racks: racks.len(),
        default_replication: service.settings().default_replication,
        min_replication: service.settings().min_replication,
        queued: 0,
        policies,
    };
    let verdict = if report.sums.is_healthy() { "HEALTHY" } else { "CORRUPT" };
    let end = format!("{}\n\nThe filesystem under path '{path}' is {verdict}\n", ended(service, begun));
    Ok(tell(out, report.sums.render(&around) + &end).await)
}
