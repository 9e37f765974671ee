//! The status page: one document, nothing loaded from elsewhere, readable without colours.

use std::fmt::{self, Display, Write};
use std::time::Duration;

use steadfs_common::{FsError, Millis, format_bytes};
use steadfs_namenode_core::blocks::AdminState;

use crate::service::{ClusterReport, Node, NodeReport, RecentOperation};

const STYLE: &str = include_str!("page.css");
/// A live datanode that was silent this long is shown as late.
const LATE: Duration = Duration::from_secs(15);
/// How often a browser asks again, in seconds.
const REFRESH_SECONDS: u32 = 5;

/// The page for `report`, `recent` operations newest first or last, at the time `now`.
pub(super) fn render(report: &ClusterReport, recent: &[RecentOperation], now: Millis) -> String {
    let mut page = String::with_capacity(16 << 10);
    write_page(&mut page, report, recent, now).expect("a string takes all that is written");
    page
}

/// The page while the namespace cannot be read.
pub(super) fn unavailable(error: &FsError) -> String {
    let text = Text(error);
    format!(
        "<!doctype html><meta charset=utf-8><title>SteadFS</title><style>{STYLE}</style><h1>SteadFS</h1><p class=\"note bad\">{text}</p>"
    )
}

fn write_page(
    out: &mut String,
    report: &ClusterReport,
    recent: &[RecentOperation],
    now: Millis,
) -> fmt::Result {
    let up = Age(now.since(report.started));
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>SteadFS</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS}\">\n<style>\n{STYLE}</style></head>\n<body>\n\
         <header><h1>SteadFS</h1><span class=\"quiet\">cluster <code>{}</code> · up {up} · version {}</span></header>\n",
        Text(&report.cluster_id),
        env!("CARGO_PKG_VERSION"),
    )?;
    notes(out, report)?;
    capacity(out, report)?;
    counts(out, report)?;
    datanodes(out, report, now)?;
    operations(out, recent, now)?;
    out.write_str(
        "<footer>For programs: <a href=\"/metrics\">metrics</a>, <a href=\"/healthz\">health</a>, \
         <a href=\"/readyz\">readiness</a>. More: <code>steadfs admin report</code>, \
         <code>steadfs admin fsck /</code>.</footer>\n</body>\n</html>\n",
    )
}

/// What an operator must know before anything else.
fn notes(out: &mut String, report: &ClusterReport) -> fmt::Result {
    let stats = &report.stats;
    // Who is out of service may be down.
    let away = |node: &Node| matches!(node.admin, AdminState::InMaintenance | AdminState::Decommissioned);
    let dead = report.datanodes.iter().filter(|node| !node.node.live && !away(&node.node)).count();
    let before = out.len();
    let note = |out: &mut String, kind: &str, text: &dyn Display| {
        writeln!(out, "<p class=\"note {kind}\">{text}</p>")
    };
    if stats.missing > 0 {
        let first: Vec<String> =
            report.missing_blocks.iter().take(5).map(|id| format!("blk_{}", id.0)).collect();
        let text = format!(
            "<b>{} without any good replica</b> ({}). Bring back the datanodes that held them; \
             <code>steadfs admin fsck /</code> names the files.",
            Count(stats.missing, "block"),
            Text(&first.join(", ")),
        );
        note(out, "bad", &text)?;
    }
    if let Some(reason) = &report.safe_mode {
        note(out, "warn", &format!("<b>Safe mode</b>, changes are refused: {}", Text(reason)))?;
    }
    if dead > 0 {
        let text = format!(
            "<b>{}</b> not heard of; lost replicas are made again on the others.",
            Count(dead as u64, "datanode")
        );
        note(out, "warn", &text)?;
    }
    if stats.under_replicated > 0 {
        let text = format!(
            "<b>{}</b> with fewer replicas than wanted; {} under way.",
            Count(stats.under_replicated, "block"),
            Count(stats.pending_replication, "copy"),
        );
        note(out, "warn", &text)?;
    }
    if report.datanodes.is_empty() {
        note(out, "warn", &"<b>No datanode has registered.</b> Files can be listed but not written.")?;
    }
    for (resource, problem) in &report.kubernetes {
        let text = format!(
            "<b>Kubernetes does not tell of {resource}:</b> {}. What is known of who runs where may be old.",
            Text(problem)
        );
        note(out, "warn", &text)?;
    }
    if out.len() == before {
        note(out, "good", &"<b>All is well.</b> Every block has the replicas it should have.")?;
    }
    Ok(())
}

fn capacity(out: &mut String, report: &ClusterReport) -> fmt::Result {
    let stats = &report.stats;
    let other = stats.capacity.saturating_sub(stats.used).saturating_sub(stats.remaining);
    writeln!(
        out,
        "<div class=\"card wide\"><b>{} free</b><div class=\"bar\"><i style=\"width:{:.2}%\"></i>\
         <i class=\"other\" style=\"width:{:.2}%\"></i></div><span class=\"quiet\">{} used by replicas · {} used by \
         others or reserved · {} in all</span></div>",
        format_bytes(stats.remaining),
        percent(stats.used, stats.capacity),
        percent(other, stats.capacity),
        format_bytes(stats.used),
        format_bytes(other),
        format_bytes(stats.capacity),
    )
}

fn counts(out: &mut String, report: &ClusterReport) -> fmt::Result {
    let stats = &report.stats;
    let live = report.datanodes.iter().filter(|node| node.node.live).count() as u64;
    let kind = |bad: bool, kind: &'static str| if bad { kind } else { "" };
    let dead = live < report.datanodes.len() as u64;
    let cards = [
        (kind(dead, "warn"), live, "datanodes live"),
        ("", report.files, "files"),
        ("", report.directories, "folders"),
        ("", report.blocks, "blocks"),
        ("", report.open_files, "open for writing"),
        (kind(stats.under_replicated > 0, "warn"), stats.under_replicated, "under-replicated"),
        (kind(stats.missing > 0, "bad"), stats.missing, "missing blocks"),
        (kind(stats.corrupt > 0, "bad"), stats.corrupt, "corrupt replicas"),
        ("", stats.pending_replication, "copies pending"),
        ("", stats.pending_deletion, "deletions pending"),
    ];
    out.write_str("<div class=\"cards\">\n")?;
    for (kind, value, label) in cards {
        let of =
            if label == "datanodes live" { format!(" of {}", report.datanodes.len()) } else { String::new() };
        writeln!(
            out,
            "<div class=\"card {kind}\"><b>{}{of}</b><span class=\"quiet\">{label}</span></div>",
            Thousands(value)
        )?;
    }
    out.write_str("</div>\n")
}

fn datanodes(out: &mut String, report: &ClusterReport, now: Millis) -> fmt::Result {
    out.write_str(
        "<h2>Datanodes</h2>\n<div class=\"scroll\"><table>\n<tr><th>State</th><th>Address</th><th>Rack</th>\
         <th>Last contact</th><th>Last block report</th><th class=\"n\">Blocks</th><th class=\"n\">Transfers</th>\
         <th>Space</th><th>Volumes</th></tr>\n",
    )?;
    for report in &report.datanodes {
        datanode(out, report, now)?;
    }
    out.write_str("</table></div>\n")
}

fn datanode(out: &mut String, report: &NodeReport, now: Millis) -> fmt::Result {
    let node = &report.node;
    let silent = now.since(node.last_heartbeat);
    let (kind, state) = match (node.admin, node.live, silent > LATE) {
        (AdminState::InMaintenance, ..) => ("warn", "in maintenance"),
        (AdminState::Decommissioned, ..) => ("warn", "decommissioned"),
        (_, false, _) => ("bad", "dead"),
        (AdminState::Decommissioning, ..) => ("warn", "decommissioning"),
        (AdminState::EnteringMaintenance, ..) => ("warn", "entering maintenance"),
        (AdminState::Normal, true, true) => ("warn", "late"),
        (AdminState::Normal, true, false) => ("good", "live"),
    };
    let reported = match node.last_block_report {
        Millis(0) => "never".to_owned(),
        at => format!("{} ago", Age(now.since(at))),
    };
    let failed = report.storages.iter().filter(|storage| storage.failed).count();
    let volumes = match failed {
        0 => report.storages.len().to_string(),
        _ => format!("<span class=\"error\">{failed} failed</span> of {}", report.storages.len()),
    };
    writeln!(
        out,
        "<tr><td><span class=\"tag {kind}\">{state}</span></td><td title=\"{}\">{}:{}</td><td>{}</td>\
         <td>{} ago</td><td>{reported}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td><span class=\"bar small\"><i style=\"width:{:.1}%\"></i></span>{} · {} free</td><td>{volumes}</td></tr>",
        Text(&node.uuid),
        Text(&node.host_name),
        node.data_port,
        Text(&node.rack),
        Age(silent),
        Thousands(node.blocks),
        node.active_transfers,
        percent(node.used, node.capacity),
        format_bytes(node.used),
        format_bytes(node.remaining),
    )
}

fn operations(out: &mut String, recent: &[RecentOperation], now: Millis) -> fmt::Result {
    out.write_str("<h2>Recent operations</h2>\n<div class=\"scroll\"><table>\n")?;
    if recent.is_empty() {
        return out.write_str("<tr><td class=\"quiet\">None since the start.</td></tr></table></div>\n");
    }
    out.write_str(
        "<tr><th>When</th><th>Operation</th><th>Path</th><th>User</th><th>From</th><th class=\"n\">Took</th>\
         <th>Outcome</th></tr>\n",
    )?;
    let mut newest_first: Vec<&RecentOperation> = recent.iter().collect();
    newest_first.sort_by_key(|operation| std::cmp::Reverse(operation.at));
    for operation in newest_first {
        let outcome = match &operation.error {
            None => "ok".to_owned(),
            Some(error) => format!("<span class=\"error\">{}</span>", Text(error)),
        };
        let from = operation.address.map(|address| address.to_string()).unwrap_or_default();
        writeln!(
            out,
            "<tr><td>{} ago</td><td>{}</td><td class=\"path\"><code>{}</code></td><td>{}</td><td>{from}</td>\
             <td class=\"n\">{:.1} ms</td><td>{outcome}</td></tr>",
            Age(now.since(operation.at)),
            Text(operation.operation),
            Text(&operation.path),
            Text(&operation.user),
            operation.took.as_secs_f64() * 1_000.0,
        )?;
    }
    out.write_str("</table></div>\n")
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 100.0).min(100.0) }
}

/// Text from outside, harmless in HTML and in its attributes.
struct Text<T>(T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.to_string().chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// A span as a person says it, in one unit or two.
struct Age(Duration);

impl Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..60 => write!(f, "{seconds} s"),
            60..3_600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            3_600..86_400 => write!(f, "{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
            _ => write!(f, "{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
        }
    }
}

/// A number with a space between thousands.
struct Thousands(u64);

impl Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_char('\u{202f}')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// `1 block`, `2 blocks`.
struct Count(u64, &'static str);

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1.strip_suffix('y')) {
            (1, _) => write!(f, "1 {}", self.1),
            (many, Some(stem)) => write!(f, "{} {stem}ies", Thousands(many)),
            (many, None) => write!(f, "{} {}s", Thousands(many), self.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use steadfs_common::{BlockId, DatanodeUuid};

    use super::*;
    use crate::service::{FsStats, Node};

    fn report() -> ClusterReport {
        ClusterReport {
            cluster_id: "CID-1".into(),
            block_pool: "BP-1".into(),
            started: Millis(1_000),
            safe_mode: None,
            stats: FsStats { capacity: 1_000, used: 100, remaining: 700, ..FsStats::default() },
            files: 1_234_567,
            directories: 3,
            blocks: 9,
            open_files: 0,
            datanodes: vec![node(true), node(true)],
            data_problems: Vec::new(),
            missing_blocks: Vec::new(),
            kubernetes: Default::default(),
        }
    }

    fn node(live: bool) -> NodeReport {
        NodeReport {
            node: Arc::new(Node {
                uuid: "6f2d3a52-66f5-4a3e-9b42-3ddbd8f0a001".parse::<DatanodeUuid>().unwrap(),
                ip: [127, 0, 0, 1].into(),
                host_name: "127.0.0.1".into(),
                data_port: 9866,
                ipc_port: 9867,
                http_port: 0,
                rack: "/default-rack".into(),
                version: "0.1.0".into(),
                node: String::new(),
                live,
                stale: false,
                slow: false,
                latency: None,
                admin: steadfs_namenode_core::blocks::AdminState::Normal,
                lacking: steadfs_namenode_core::blocks::Lacking::default(),
                capacity: 500,
                used: 50,
                remaining: 350,
                last_heartbeat: Millis(60_000),
                last_block_report: Millis(0),
                active_transfers: 1,
                blocks: 9,
            }),
            storages: Vec::new(),
        }
    }

    fn operation(path: &str, error: Option<&str>) -> RecentOperation {
        RecentOperation {
            at: Millis(61_000),
            operation: "create",
            user: "ana".into(),
            address: None,
            path: path.into(),
            error: error.map(String::from),
            took: Duration::from_micros(1_500),
        }
    }

    #[test]
    fn a_healthy_cluster_is_said_to_be_well() {
        let page = render(&report(), &[operation("/data/x", None)], Millis(61_000));
        for text in
            ["All is well", "700 B free", "1\u{202f}234\u{202f}567", "2 of 2", "1 s ago", "1.5 ms", "/data/x"]
        {
            assert!(page.contains(text), "{text}\n{page}");
        }
        assert!(!page.contains("src=") && !page.contains("http://"), "nothing is loaded from elsewhere");
    }

    #[test]
    fn what_is_wrong_stands_first() {
        let mut report = report();
        report.datanodes = vec![node(true), node(false)];
        report.safe_mode = Some("3 blocks are not reported".into());
        report.stats.missing = 1;
        report.stats.under_replicated = 2;
        report.missing_blocks = vec![BlockId(1_073_741_825)];
        report.kubernetes.insert("pods", "pods is forbidden".into());
        let page = render(&report, &[], Millis(61_000));
        for text in [
            "1 block without",
            "blk_1073741825",
            "Safe mode",
            "3 blocks are not",
            "1 datanode",
            "2 blocks",
            "does not tell of pods",
            "pods is forbidden",
            ">dead<",
        ] {
            assert!(page.contains(text), "{text}\n{page}");
        }
        assert!(!page.contains("All is well"));
    }

    #[test]
    fn names_from_outside_do_not_become_markup() {
        let page = render(&report(), &[operation("/<script>alert('x')</script>", Some("\"&no"))], Millis(0));
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)") && page.contains("&quot;&amp;no"));
        assert!(!page.contains("<script"));
    }

    #[test]
    fn spans_and_numbers_are_for_people() {
        let age = |seconds| Age(Duration::from_secs(seconds)).to_string();
        assert_eq!([age(5), age(61), age(7_260), age(90_000)], ["5 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]);
        assert_eq!(
            [0, 999, 1_000, 1_000_000].map(|n| Thousands(n).to_string()),
            ["0", "999", "1\u{202f}000", "1\u{202f}000\u{202f}000"]
        );
        assert_eq!([Count(1, "copy").to_string(), Count(2, "copy").to_string()], ["1 copy", "2 copies"]);
    }
}
