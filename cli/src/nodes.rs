//! `steadfs admin`: datanodes that leave service and come back.

use std::time::Duration;

use serde::Serialize;
use steadfs_client::{Client, DatanodeReport, Millis, NodeNames, NodeStop, NodeWish, StopAnswer};
use tokio::time::Instant;

use crate::args::{DecommissionArgs, MaintenanceArgs, NodeArgs, WaitArgs};
use crate::failure::{Failure, Outcome};
use crate::out::{printable, rfc3339, table};
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
