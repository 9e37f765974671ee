//! The report of `dfsadmin -metasave`, in HDFS's form.

use std::fmt::Write as _;
use std::sync::Arc;

use steadfs_common::{BlockId, StorageId};
use steadfs_namenode_core::View;
use steadfs_namenode_core::blocks::{AdminState, Condition, WorkLists};
use steadfs_namenode_core::namespace::read::full_path;

use super::effects::EffectSink;
use super::types::{ClusterReport, Location, Node};
use crate::dates::java_date;

/// Blocks that a part of the report names.
pub(super) const MAX_LINES: usize = 10_000;
/// Bytes of a report; what does not fit is left out, and said.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// What is reported.
pub(super) struct Facts {
    pub(super) lists: WorkLists,
    pub(super) report: ClusterReport,
    pub(super) blocks: Arc<dyn EffectSink>,
}

macro_rules! line {
    ($text:ident, $($format:tt)*) => {
        writeln!($text, $($format)*).expect("text takes all")
    };
}

impl Facts {
    /// The whole report.
    pub(super) fn render(&self, view: &dyn View) -> String {
        let mut text = String::new();
        let report = &self.report;
        let nodes: Vec<&Node> = report.datanodes.iter().map(|datanode| &*datanode.node).collect();
        let names = report.files + report.directories;
        let live = nodes.iter().filter(|node| node.live).count();
        line!(
            text,
            "{names} files and directories, {} blocks = {} total filesystem objects",
            report.blocks,
            names + report.blocks
        );
        line!(text, "Live Datanodes: {live}");
        line!(text, "Dead Datanodes: {}", nodes.len() - live);
        let [lacking, missing, postponed, copying, _] = self.lists.totals;
        line!(text, "Metasave: Blocks waiting for reconstruction: {lacking}");
        self.blocks(&mut text, view, &self.lists.lacking, "");
        line!(text, "Metasave: Blocks currently missing: {missing}");
        self.blocks(&mut text, view, &self.lists.missing, " MISSING");
        line!(text, "Mis-replicated blocks that have been postponed: {postponed}");
        self.blocks(&mut text, view, &self.lists.postponed, "");
        line!(text, "Metasave: Blocks being reconstructed: {copying}");
        for (block, targets) in &self.lists.copying {
            line!(text, "{block} to {}", self.names(targets));
        }
        let deletions: u64 = self.lists.deletions.iter().map(|(_, count)| count).sum();
        line!(
            text,
            "Metasave: Blocks {deletions} waiting deletion from {} datanodes.",
            self.lists.deletions.len()
        );
        for (uuid, count) in &self.lists.deletions {
            let name = nodes.iter().find(|node| node.uuid == *uuid).map(|node| transfer_address(node));
            line!(text, "{} {count}", name.unwrap_or_else(|| uuid.to_string()));
        }
        line!(text, "Corrupt Blocks:");
        for (block, storages) in &self.lists.corrupt {
            self.corrupt(&mut text, view, *block, storages);
        }
        line!(text, "Metasave: Number of datanodes: {}", nodes.len());
        for node in nodes {
            line!(text, "{}", describe(node));
        }
        if text.len() > MAX_BYTES {
            let end = (0..=MAX_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
            line!(text, "\nThe report is cut off here: it has reached {MAX_BYTES} bytes.");
        }
        text
    }

    fn blocks(&self, text: &mut String, view: &dyn View, ids: &[BlockId], note: &str) {
        for id in ids {
            let Some(block) = view.block(*id) else { continue };
            let path =
                full_path(view, block.inode).map_or_else(|| "[orphaned]".to_owned(), |path| path.to_string());
            let found = self.blocks.survey(*id);
            let count = |wanted: &[Condition]| found.iter().filter(|(_, is)| wanted.contains(is)).count();
            let places: String = found.iter().map(place).collect();
            line!(
                text,
                "{path}: {id}_{}{note} (replicas: live: {} decommissioning and decommissioned: {} corrupt: {} in excess: {} \
                 maintenance mode: {}) {places}",
                block.stamp.0,
                count(&[Condition::Live, Condition::Stale]),
                count(&[Condition::Decommissioning, Condition::Decommissioned]),
                count(&[Condition::Corrupt]),
                count(&[Condition::Excess]),
                count(&[Condition::EnteringMaintenance, Condition::InMaintenance])
            );
            if text.len() > MAX_BYTES {
                return;
            }
        }
    }

    fn corrupt(&self, text: &mut String, view: &dyn View, id: BlockId, storages: &[StorageId]) {
        let Some(block) = view.block(id) else { return };
        let total = self.blocks.survey(id).len();
        for location in self.blocks.locations(storages) {
            line!(
                text,
                "Block={id}_{}\tSize={}\tNode={}\tStorageID={}\tStorageState=NORMAL\tTotalReplicas={total}\tReason=CORRUPTION_REPORTED",
                block.stamp.0,
                block.length,
                transfer_address(&location.node),
                location.storage
            );
        }
    }

    fn names(&self, storages: &[StorageId]) -> String {
        let places = self.blocks.locations(storages);
        places.iter().map(|place| transfer_address(&place.node)).collect::<Vec<_>>().join(", ")
    }
}

fn place((location, condition): &(Location, Condition)) -> String {
    let note = match condition {
        Condition::Corrupt => "(corrupt)",
        Condition::Excess => "(excess)",
        Condition::Decommissioning => "(decommissioning)",
        Condition::Decommissioned => "(decommissioned)",
        Condition::EnteringMaintenance | Condition::InMaintenance => "(maintenance)",
        Condition::Stale => "(block deletions maybe out of date)",
        Condition::Live => "",
    };
    format!(" {}{note} : ", transfer_address(&location.node))
}

/// `ip:port` of the data-transfer protocol.
fn transfer_address(node: &Node) -> String {
    std::net::SocketAddr::new(node.ip, node.data_port).to_string()
}

/// A datanode in a line, as HDFS writes it.
fn describe(node: &Node) -> String {
    let state = match node.admin {
        AdminState::Normal => "IN",
        AdminState::Decommissioning => "DP",
        AdminState::Decommissioned => "DD",
        AdminState::EnteringMaintenance => "EM",
        AdminState::InMaintenance => "IM",
    };
    let share = if node.capacity == 0 { 100.0 } else { 100.0 * node.used as f64 / node.capacity as f64 };
    let rack = if node.rack == steadfs_namenode_core::blocks::DEFAULT_RACK { "" } else { &node.rack };
    let rack = if rack.is_empty() { String::new() } else { format!("{rack}/") };
    format!(
        "{rack}{} {state} {}({}) {}({}) {share:.2}% {}({}) 0(0 B) 0(0 B) 100.00% 0(0 B) {}",
        transfer_address(node),
        node.capacity,
        size(node.capacity),
        node.used,
        size(node.used),
        node.remaining,
        size(node.remaining),
        java_date(node.last_heartbeat)
    )
}

/// Bytes as Hadoop writes them for people: `62.53 GB`.
fn size(bytes: u64) -> String {
    let units = ["KB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in units {
        if value < 1_024.0 {
            break;
        }
        (value, unit) = (value / 1_024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.2} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_hadoop_does() {
        for (bytes, text) in
            [(0, "0 B"), (1_023, "1023 B"), (39_980, "39.04 KB"), (270_553_174_016, "251.97 GB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
