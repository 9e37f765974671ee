//! `steadfs admin`: the cluster at a glance, its datanodes, safe mode.

use serde::Serialize;
use steadfs_client::{ClusterReport, DatanodeReport, Millis, NodeState};

use crate::args::SafemodeCommand;
use crate::failure::Outcome;
use crate::list::percent;
use crate::out::{minute, printable, rfc3339, size, table};
use crate::run::Run;
use crate::session::Session;

#[derive(Serialize)]
struct ReportJson<'a> {
    healthy: bool,
    version: &'a str,
    cluster_id: &'a str,
    block_pool: &'a str,
    started: String,
    safe_mode: Option<&'a str>,
    capacity: u64,
    used: u64,
    remaining: u64,
    files: u64,
    directories: u64,
    blocks: u64,
    open_files: u64,
    under_replicated: u64,
    corrupt: u64,
    missing: u64,
    pending_replication: u64,
    pending_deletion: u64,
    live_datanodes: usize,
    dead_datanodes: usize,
    missing_blocks: &'a [String],
    datanodes: Vec<DatanodeJson<'a>>,
}

#[derive(Serialize)]
struct DatanodeJson<'a> {
    uuid: &'a str,
    address: &'a str,
    host_name: &'a str,
    http_port: u16,
    rack: &'a str,
    live: bool,
    state: &'static str,
    lacking: u64,
    lacking_open: u64,
    last_heartbeat: String,
    last_block_report: Option<String>,
    active_transfers: u32,
    version: &'a str,
    capacity: u64,
    used: u64,
    remaining: u64,
    blocks: u64,
    storages: Vec<StorageJson<'a>>,
}

#[derive(Serialize)]
struct StorageJson<'a> {
    id: &'a str,
    kind: &'a str,
    failed: bool,
    capacity: u64,
    used: u64,
    remaining: u64,
    blocks: u64,
}

/// What a datanode's volumes have together: capacity, used, remaining, blocks.
fn totals(node: &DatanodeReport) -> [u64; 4] {
    node.storages.iter().filter(|storage| !storage.failed).fold([0; 4], |sum, storage| {
        let of = [storage.capacity, storage.used, storage.remaining, storage.blocks];
        std::array::from_fn(|index| sum[index].saturating_add(of[index]))
    })
}

fn datanode_json(node: &DatanodeReport) -> DatanodeJson<'_> {
    let [capacity, used, remaining, blocks] = totals(node);
    DatanodeJson {
        uuid: &node.uuid,
        address: &node.address,
        host_name: &node.host_name,
        http_port: node.http_port,
        rack: &node.rack,
        live: node.live,
        state: node.state.name(),
        lacking: node.lacking,
        lacking_open: node.lacking_open,
        last_heartbeat: rfc3339(node.last_heartbeat),
        last_block_report: (node.last_block_report.0 > 0).then(|| rfc3339(node.last_block_report)),
        active_transfers: node.active_transfers,
        version: &node.version,
        capacity,
        used,
        remaining,
        blocks,
        storages: node
            .storages
            .iter()
            .map(|storage| StorageJson {
                id: &storage.id,
                kind: storage.kind,
                failed: storage.failed,
                capacity: storage.capacity,
                used: storage.used,
                remaining: storage.remaining,
                blocks: storage.blocks,
            })
            .collect(),
    }
}

fn report_json(report: &ClusterReport) -> ReportJson<'_> {
    let live = report.datanodes.iter().filter(|node| node.live).count();
    ReportJson {
        healthy: report.is_healthy(),
        version: &report.version,
        cluster_id: &report.cluster_id,
        block_pool: &report.block_pool,
        started: rfc3339(report.started),
        safe_mode: report.safe_mode.as_deref(),
        capacity: report.stats.capacity,
        used: report.stats.used,
        remaining: report.stats.remaining,
        files: report.files,
        directories: report.directories,
        blocks: report.blocks,
        open_files: report.open_files,
        under_replicated: report.stats.under_replicated,
        corrupt: report.stats.corrupt,
        missing: report.stats.missing,
        pending_replication: report.pending_replication,
        pending_deletion: report.pending_deletion,
        live_datanodes: live,
        dead_datanodes: report.datanodes.len() - live,
        missing_blocks: &report.missing_blocks,
        datanodes: report.datanodes.iter().map(datanode_json).collect(),
    }
}

pub(crate) async fn report(session: &Session, json: bool, run: &mut Run) -> Outcome<()> {
    let client = session.client().await?;
    let report = client.report().await?;
    let mut out = session.out();
    if json {
        out.json(&report_json(&report)).await?;
    } else {
        out.line(describe(&report, &client.url().to_string())).await?;
        out.line("").await?;
        out.line(datanode_table(&report.datanodes)).await?;
    }
    out.flush().await?;
    if !report.is_healthy() {
        run.mark_failed();
    }
    Ok(())
}

fn describe(report: &ClusterReport, url: &str) -> String {
    let live = report.datanodes.iter().filter(|node| node.live).count();
    let stats = &report.stats;
    let mut lines = vec![
        (
            "cluster",
            format!("{} at {url}, version {}", printable(&report.cluster_id), printable(&report.version)),
        ),
        ("state", state(report)),
        ("up since", minute(report.started)),
        (
            "space",
            format!(
                "{} used of {} ({}), {} left",
                size(stats.used, false),
                size(stats.capacity, false),
                percent(stats.used, stats.capacity),
                size(stats.remaining, false)
            ),
        ),
        ("datanodes", format!("{live} up, {} down", report.datanodes.len() - live)),
        (
            "files",
            format!(
                "{} in {} folders, {} being written",
                report.files, report.directories, report.open_files
            ),
        ),
        (
            "blocks",
            format!(
                "{}; {} with too few replicas, {} with damaged ones, {} missing",
                report.blocks, stats.under_replicated, stats.corrupt, stats.missing
            ),
        ),
        (
            "work",
            format!("{} replicas to make, {} to delete", report.pending_replication, report.pending_deletion),
        ),
    ];
    if !report.missing_blocks.is_empty() {
        lines.push((
            "missing",
            format!("{} (steadfs admin fsck names the files)", report.missing_blocks.join(", ")),
        ));
    }
    lines.iter().map(|(name, value)| format!("{name:<11}{value}")).collect::<Vec<_>>().join("\n")
}

fn state(report: &ClusterReport) -> String {
    let failed =
        report.datanodes.iter().flat_map(|node| &node.storages).filter(|storage| storage.failed).count();
    let mut troubles = Vec::new();
    if let Some(reason) = &report.safe_mode {
        troubles.push(format!("in safe mode ({})", printable(reason)));
    }
    if report.datanodes.is_empty() {
        troubles.push("no datanode has registered".into());
    }
    if report.datanodes.iter().any(|node| !node.live && !node.state.is_out()) {
        troubles.push("a datanode is down".into());
    }
    if failed > 0 {
        troubles.push(format!("{failed} volumes have failed"));
    }
    if report.stats.missing > 0 {
        troubles.push("blocks are missing".into());
    }
    if report.stats.corrupt > 0 {
        troubles.push("replicas are damaged".into());
    }
    if troubles.is_empty() { "healthy".into() } else { troubles.join("; ") }
}

pub(crate) async fn datanodes(session: &Session, json: bool) -> Outcome<()> {
    let report = session.client().await?.report().await?;
    let mut out = session.out();
    if json {
        for node in &report.datanodes {
            out.json(&datanode_json(node)).await?;
        }
    } else {
        out.line(datanode_table(&report.datanodes)).await?;
    }
    out.flush().await
}

fn datanode_table(nodes: &[DatanodeReport]) -> String {
    let rows = nodes.iter().map(|node| {
        let [capacity, used, remaining, blocks] = totals(node);
        let failed = node.storages.iter().filter(|storage| storage.failed).count();
        let volumes = match failed {
            0 => node.storages.len().to_string(),
            failed => format!("{} ({failed} failed)", node.storages.len()),
        };
        vec![
            node.address.clone(),
            printable(&node.host_name),
            printable(&node.rack),
            state_of(node),
            size(capacity, false),
            percent(used, capacity),
            size(remaining, false),
            blocks.to_string(),
            volumes,
            node.active_transfers.to_string(),
            seen(node.last_heartbeat),
            node.uuid.clone(),
        ]
    });
    table(
        &[
            "address",
            "host",
            "rack",
            "state",
            "size",
            "use%",
            "left",
            "blocks",
            "volumes",
            "transfers",
            "last seen",
            "uuid",
        ],
        &[4, 5, 6, 7, 9],
        rows.collect(),
    )
}

/// Whether it is up, and what it does if it does not serve.
fn state_of(node: &DatanodeReport) -> String {
    let up = if node.live { "up" } else { "down" };
    match (node.state, node.lacking, node.lacking_open) {
        (NodeState::Normal, ..) => up.to_owned(),
        (state, 0, 0) => format!("{up}, {}", state.name()),
        (state, blocks, open) => {
            format!("{up}, {} ({blocks} blocks and {open} open ones to go)", state.name())
        }
    }
}

fn seen(time: Millis) -> String {
    if time.0 == 0 { "never".into() } else { rfc3339(time)[..19].replace('T', " ") }
}

#[derive(Serialize)]
struct SafeModeJson<'a> {
    on: bool,
    reason: &'a str,
}

pub(crate) async fn safemode(session: &Session, command: SafemodeCommand, json: bool) -> Outcome<()> {
    let client = session.client().await?;
    let state = match command {
        SafemodeCommand::Get => client.safe_mode().await?,
        SafemodeCommand::Enter => client.set_safe_mode(true).await?,
        SafemodeCommand::Leave => client.set_safe_mode(false).await?,
    };
    let mut out = session.out();
    if json {
        out.json(&SafeModeJson { on: state.on, reason: &state.reason }).await?;
    } else if state.on && !state.reason.is_empty() {
        out.line(format!("safe mode is on: {}", printable(&state.reason))).await?;
    } else {
        out.line(if state.on { "safe mode is on" } else { "safe mode is off" }).await?;
    }
    out.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> ClusterReport {
        ClusterReport {
            version: "0.1.0".into(),
            cluster_id: "c".into(),
            block_pool: "b".into(),
            started: Millis(1_763_692_980_123),
            safe_mode: None,
            stats: steadfs_client::FsStats { capacity: 1 << 30, remaining: 1 << 30, ..Default::default() },
            files: 1,
            directories: 1,
            blocks: 0,
            pending_replication: 0,
            pending_deletion: 0,
            open_files: 0,
            datanodes: vec![DatanodeReport {
                uuid: "u".into(),
                address: "127.0.0.1:1".into(),
                host_name: "h".into(),
                http_port: 0,
                rack: "/r".into(),
                live: true,
                last_heartbeat: Millis(0),
                last_block_report: Millis(0),
                active_transfers: 0,
                version: "0.1.0".into(),
                storages: vec![],
                state: NodeState::Normal,
                lacking: 0,
                lacking_open: 0,
            }],
            missing_blocks: vec![],
        }
    }

    #[test]
    fn the_report_says_what_is_wrong() {
        let mut report = report();
        assert!(describe(&report, "hdfs://h:1").contains("state      healthy"));
        report.datanodes[0].live = false;
        report.safe_mode = Some("starting".into());
        report.stats.missing = 1;
        let text = describe(&report, "hdfs://h:1");
        assert!(text.contains("in safe mode (starting); a datanode is down; blocks are missing"), "{text}");
        assert!(!report_json(&report).healthy);
        let table = datanode_table(&report.datanodes);
        assert!(table.starts_with("ADDRESS") && table.contains("down") && table.contains("never"), "{table}");
    }
}
