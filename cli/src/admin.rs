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
    misplaced: u64,
    endangered: u64,
    pending_replication: u64,
    pending_deletion: u64,
    live_datanodes: usize,
    dead_datanodes: usize,
    missing_blocks: &'a [String],
    data_problems: &'a [String],
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
    slow: bool,
    latency_micros: Option<u64>,
    node: &'a str,
    last_heartbeat: String,
    last_block_report: Option<String>,
    active_transfers: u32,
    version: &'a str,
    capacity: u64,
    used: u64,
    remaining: u64,
    blocks: u64,
    storages: Vec<StorageJson<'a>>,
    volume_failures: Vec<FailureJson<'a>>,
}

#[derive(Serialize)]
struct FailureJson<'a> {
    path: &'a str,
    id: Option<&'a str>,
    why: &'a str,
    since: String,
    capacity: u64,
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
    path: &'a str,
    stalled: bool,
    bad_replicas: u64,
    reserved: u64,
    reserved_for_replicas: u64,
    last_scan: Option<String>,
    scan_began: Option<String>,
    scan_bytes: u64,
    last_comparison: Option<String>,
}

fn time(at: Millis) -> Option<String> {
    (at.0 > 0).then(|| rfc3339(at))
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
        slow: node.slow,
        latency_micros: node.latency.map(|latency| latency.as_micros() as u64),
        node: &node.node,
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
                path: &storage.health.path,
                stalled: storage.health.stalled,
                bad_replicas: storage.health.bad,
                reserved: storage.health.reserved,
                reserved_for_replicas: storage.health.kept,
                last_scan: time(storage.health.scan_done),
                scan_began: time(storage.health.scan_began),
                scan_bytes: storage.health.scan_bytes,
                last_comparison: time(storage.health.compared),
            })
            .collect(),
        volume_failures: node
            .failures
            .iter()
            .map(|failure| FailureJson {
                path: &failure.path,
                id: Some(failure.id.as_str()).filter(|id| !id.is_empty()),
                why: &failure.why,
                since: rfc3339(failure.since),
                capacity: failure.capacity,
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
        misplaced: report.misplaced,
        endangered: report.endangered,
        pending_replication: report.pending_replication,
        pending_deletion: report.pending_deletion,
        live_datanodes: live,
        dead_datanodes: report.datanodes.len() - live,
        missing_blocks: &report.missing_blocks,
        data_problems: &report.data_problems,
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
        out.line("").await?;
        out.line(volume_table(&report.datanodes)).await?;
        for line in failures(&report.datanodes) {
            out.line(line).await?;
        }
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
                "{}; {} with too few replicas ({} with one alone), {} with replicas too near to each other, {} with damaged ones, {} missing",
                report.blocks,
                stats.under_replicated,
                report.endangered,
                report.misplaced,
                stats.corrupt,
                stats.missing
            ),
        ),
        (
            "work",
            format!("{} replicas to make, {} to delete", report.pending_replication, report.pending_deletion),
        ),
    ];
    for problem in &report.data_problems {
        lines.push(("PROBLEM", printable(problem)));
    }
    if !report.missing_blocks.is_empty() {
        lines.push((
            "missing",
            format!("{} (steadfs admin fsck names the files)", report.missing_blocks.join(", ")),
        ));
    }
    lines.iter().map(|(name, value)| format!("{name:<11}{value}")).collect::<Vec<_>>().join("\n")
}

fn state(report: &ClusterReport) -> String {
    let (mut failed, mut stalled) = (0, 0);
    for node in &report.datanodes {
        let of_volumes = node.storages.iter().filter(|storage| storage.failed).count();
        // Those that could not even be opened have no volume of their own in the report.
        failed += of_volumes.max(node.failures.len());
        stalled += node.storages.iter().filter(|storage| storage.health.stalled).count();
    }
    let mut troubles = Vec::new();
    if let Some(reason) = &report.safe_mode {
        troubles.push(format!("in safe mode ({})", printable(reason)));
    }
    if !report.data_problems.is_empty() {
        troubles.push("the namenode's own data is not whole".into());
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
    if stalled > 0 {
        troubles.push(format!("{stalled} volumes do not answer"));
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

fn volume_table(nodes: &[DatanodeReport]) -> String {
    let rows = nodes.iter().flat_map(|node| node.storages.iter().map(move |storage| (node, storage)));
    let rows = rows.map(|(node, storage)| {
        let health = &storage.health;
        let state = match (storage.failed, health.stalled) {
            (true, _) => "failed",
            (false, true) => "does not answer",
            (false, false) => "good",
        };
        vec![
            node.address.clone(),
            printable(&health.path),
            storage.kind.to_owned(),
            state.to_owned(),
            size(storage.capacity, false),
            percent(storage.used, storage.capacity),
            size(storage.remaining, false),
            storage.blocks.to_string(),
            health.bad.to_string(),
            seen(health.scan_done),
            seen(health.compared),
        ]
    });
    table(
        &[
            "address",
            "volume",
            "kind",
            "state",
            "size",
            "use%",
            "left",
            "blocks",
            "bad",
            "all checked",
            "compared",
        ],
        &[4, 5, 6, 7, 8],
        rows.collect(),
    )
}

/// A line for each volume that cannot be used.
fn failures(nodes: &[DatanodeReport]) -> Vec<String> {
    let each = nodes.iter().flat_map(|node| node.failures.iter().map(move |failure| (node, failure)));
    each.map(|(node, failure)| {
        format!(
            "{}: {} has failed since {}: {}",
            node.address,
            printable(&failure.path),
            seen(failure.since),
            printable(&failure.why)
        )
    })
    .collect()
}

/// Whether it is up, and what it does if it does not serve.
fn state_of(node: &DatanodeReport) -> String {
    let up = match (node.live, node.slow) {
        (true, true) => "up, slow",
        (true, false) => "up",
        (false, _) => "down",
    };
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
                slow: false,
                latency: None,
                node: String::new(),
                failures: vec![],
            }],
            missing_blocks: vec![],
            data_problems: vec![],
            misplaced: 0,
            endangered: 0,
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
