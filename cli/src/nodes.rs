//! `steadfs admin`: datanodes that leave service and come back.

use std::time::Duration;

use serde::Serialize;
use steadfs_client::{
    BalanceStatus, Client, DatanodeReport, Millis, NodeNames, NodeStop, NodeWish, StopAnswer,
};
use tokio::time::Instant;

use crate::args::{BalanceArgs, DecommissionArgs, MaintenanceArgs, NodeArgs, WaitArgs};
use crate::failure::{Failure, Outcome};
use crate::out::{printable, rfc3339, size, table};
use crate::run::Run;
use crate::session::Session;

/// How often the namenode is asked how far datanodes are.
const ASK_EVERY: Duration = Duration::from_secs(1);

impl From<NodeArgs> for NodeNames {
    fn from(args: NodeArgs) -> Self {
        Self { names: args.nodes, by_node: args.by_node }
    }
}

pub(crate) async fn decommission(session: &Session, args: DecommissionArgs) -> Outcome<()> {
    let DecommissionArgs { nodes, wait } = args;
    order(session, nodes, NodeWish::Decommission, "is being decommissioned", Some(wait)).await
}

pub(crate) async fn maintenance(session: &Session, args: MaintenanceArgs) -> Outcome<()> {
    let MaintenanceArgs { nodes, duration, until, wait } = args;
    let since_1970 = |time: std::time::SystemTime| {
        Millis(time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
    };
    let now = since_1970(std::time::SystemTime::now());
    let until = until.map(since_1970).or_else(|| duration.map(|span| now.plus(span)));
    let said = match until {
        Some(until) if until <= now => {
            return Err(Failure::usage(format!("{} has passed already", rfc3339(until))));
        }
        Some(until) => format!("goes into maintenance until {}", rfc3339(until)),
        None => "goes into maintenance until it is recommissioned".to_owned(),
    };
    order(session, nodes, NodeWish::Maintenance { until }, &said, Some(wait)).await
}

pub(crate) async fn recommission(session: &Session, args: NodeArgs) -> Outcome<()> {
    order(session, args, NodeWish::InService, "serves", None).await
}

async fn order(
    session: &Session,
    nodes: NodeArgs,
    wish: NodeWish,
    said: &str,
    wait: Option<WaitArgs>,
) -> Outcome<()> {
    let client = session.client().await?;
    let mut out = session.out();
    let uuids = client.set_node_states(&nodes.into(), wish).await?;
    for uuid in &uuids {
        out.line(format!("{uuid} {said}")).await?;
    }
    out.flush().await?;
    match wait.filter(|wait| wait.wait) {
        Some(wait) => gone(session, &client, &uuids, wait.timeout).await,
        None => Ok(()),
    }
}

/// Waits until datanodes have left, and says how far they are whenever that changes.
async fn gone(
    session: &Session,
    client: &Client,
    uuids: &[String],
    timeout: Option<Duration>,
) -> Outcome<()> {
    let begun = Instant::now();
    let (mut out, mut told) = (session.out(), String::new());
    loop {
        let report = client.report().await?;
        let left = |uuid: &&String| !has_left(report.datanodes.iter().find(|node| node.uuid == **uuid));
        let waiting: Vec<&String> = uuids.iter().filter(left).collect();
        if waiting.is_empty() {
            out.line("all they held is elsewhere as often as it must be: they can be stopped").await?;
            return out.flush().await;
        }
        let ours = report.datanodes.iter().filter(|node| waiting.contains(&&node.uuid));
        let (blocks, open) = ours.fold((0, 0), |sum, node| (sum.0 + node.lacking, sum.1 + node.lacking_open));
        let text = format!("{} datanodes to go: {blocks} blocks and {open} of open files", waiting.len());
        if timeout.is_some_and(|limit| begun.elapsed() >= limit) {
            return Err(Failure::other(format!("it takes longer than was given; {text}")));
        }
        if text != told {
            out.line(&text).await?;
            out.flush().await?;
            told = text;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn has_left(node: Option<&DatanodeReport>) -> bool {
    node.is_some_and(|node| node.state.is_out())
}

#[derive(Serialize)]
struct StopJson<'a> {
    safe: bool,
    reason: &'a str,
    datanodes: Vec<NodeStopJson<'a>>,
    blocks: &'a [String],
}

#[derive(Serialize)]
struct NodeStopJson<'a> {
    uuid: &'a str,
    address: &'a str,
    node: &'a str,
    state: &'static str,
    live: bool,
    blocks: u64,
    only_here: u64,
    open: u64,
}

fn node_json(node: &NodeStop) -> NodeStopJson<'_> {
    NodeStopJson {
        uuid: &node.uuid,
        address: &node.address,
        node: &node.node,
        state: node.state.name(),
        live: node.live,
        blocks: node.blocks,
        only_here: node.only_here,
        open: node.open,
    }
}

fn stop_json(answer: &StopAnswer) -> StopJson<'_> {
    StopJson {
        safe: answer.safe,
        reason: &answer.reason,
        datanodes: answer.nodes.iter().map(node_json).collect(),
        blocks: &answer.blocks,
    }
}

pub(crate) async fn safe_to_stop(
    session: &Session,
    args: NodeArgs,
    json: bool,
    run: &mut Run,
) -> Outcome<()> {
    let answer = session.client().await?.safe_to_stop(&args.into()).await?;
    let mut out = session.out();
    if json {
        out.json(&stop_json(&answer)).await?;
    } else if answer.safe {
        out.line("safe: every block has enough live replicas elsewhere").await?;
    } else {
        out.line(format!("not safe: {}", printable(&answer.reason))).await?;
        let rows = answer.nodes.iter().map(|node| {
            let counts = [node.blocks, node.only_here, node.open].map(|count| count.to_string());
            [vec![node.address.clone(), node.state.name().to_owned()], counts.to_vec()].concat()
        });
        out.line(table(&["address", "state", "blocks", "only here", "open"], &[2, 3, 4], rows.collect()))
            .await?;
        if !answer.blocks.is_empty() {
            out.line(format!("such as {}", answer.blocks.join(", "))).await?;
        }
    }
    out.flush().await?;
    if !answer.safe {
        run.mark_failed();
    }
    Ok(())
}

#[derive(Serialize)]
struct BalanceJson {
    ordered: bool,
    background: bool,
    threshold: f64,
    over: u64,
    under: u64,
    left_bytes: u64,
    moving: u64,
    moved_blocks: u64,
    moved_bytes: u64,
    stuck: bool,
}

const fn balance_json(status: &BalanceStatus) -> BalanceJson {
    BalanceJson {
        ordered: status.ordered,
        background: status.background,
        threshold: status.threshold,
        over: status.over,
        under: status.under,
        left_bytes: status.left_bytes,
        moving: status.moving,
        moved_blocks: status.moved_blocks,
        moved_bytes: status.moved_bytes,
        stuck: status.stuck,
    }
}

/// What one look tells: `before` is what had been moved when it began.
fn balance_line(status: &BalanceStatus, before: &BalanceStatus) -> String {
    format!(
        "{} too full, {} too empty, {} to go; {} blocks moved ({}), {} under way",
        status.over,
        status.under,
        size(status.left_bytes, false),
        status.moved_blocks.saturating_sub(before.moved_blocks),
        size(status.moved_bytes.saturating_sub(before.moved_bytes), false),
        status.moving
    )
}

pub(crate) async fn balance(session: &Session, args: BalanceArgs, json: bool, run: &mut Run) -> Outcome<()> {
    let client = session.client().await?;
    let mut out = session.out();
    if args.status || args.stop {
        let status = if args.stop { client.stop_balance().await? } else { client.balance_status().await? };
        if json {
            out.json(&balance_json(&status)).await?;
        } else {
            let how = match (status.ordered, status.background) {
                (true, _) => format!("ordered, threshold {} %", status.threshold),
                (false, true) => format!("in the background, threshold {} %", status.threshold),
                (false, false) => "not asked for".to_owned(),
            };
            let none = BalanceStatus { moved_blocks: 0, moved_bytes: 0, ..status };
            out.line(format!("balance {how}: {}", balance_line(&status, &none))).await?;
        }
        return out.flush().await;
    }
    let before = client.start_balance(args.threshold, args.bandwidth).await?;
    if args.no_wait {
        out.line("ordered; `--status` tells how far it is, `--stop` ends it").await?;
        return out.flush().await;
    }
    let status = follow(&client, &before, &mut out, json).await?;
    if json {
        out.json(&balance_json(&status)).await?;
    } else if status.over + status.under == 0 {
        out.line("balanced: no datanode's use differs by more than the threshold from that of all").await?;
    } else {
        let text = "ended: somebody is out of balance and nothing can be moved, or the order was taken back";
        out.line(format!("{text}; {}", balance_line(&status, &before))).await?;
        run.mark_failed();
    }
    out.flush().await
}

async fn follow(
    client: &Client,
    before: &BalanceStatus,
    out: &mut crate::out::Out,
    json: bool,
) -> Outcome<BalanceStatus> {
    let mut told = String::new();
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        let status = client.balance_status().await?;
        if !status.ordered {
            return Ok(status);
        }
        let text = balance_line(&status, before);
        if text != told && !json {
            out.line(&text).await?;
            out.flush().await?;
            told = text;
        }
    }
}
