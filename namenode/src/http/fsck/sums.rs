//! The end of a report.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::numbers::{float, percent};

/// What a check counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    pub(super) directories: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) blocks: u64,
    pub(super) open_files: u64,
    pub(super) open_bytes: u64,
    pub(super) open_blocks: u64,
    /// Replicas that the files' replication asks for.
    pub(super) expected: u64,
    /// Replicas that are there, whatever their datanodes do.
    pub(super) replicas: u64,
    pub(super) below_minimum: u64,
    pub(super) at_minimum: u64,
    pub(super) over: u64,
    pub(super) under: u64,
    pub(super) lacking: u64,
    pub(super) misplaced: u64,
    pub(super) corrupt_files: u64,
    pub(super) missing: u64,
    pub(super) missing_bytes: u64,
    pub(super) corrupt: u64,
    pub(super) corrupt_bytes: u64,
    pub(super) decommissioned: u64,
    pub(super) decommissioning: u64,
    pub(super) entering_maintenance: u64,
    pub(super) in_maintenance: u64,
    /// Blocks by the types of their replicas and their policy, and whether that is what the policy asks for.
    pub(super) policies: BTreeMap<(bool, String), u64>,
}

/// What is not counted.
pub(super) struct Around {
    pub(super) datanodes: usize,
    pub(super) racks: usize,
    pub(super) default_replication: u16,
    pub(super) min_replication: u16,
    pub(super) queued: u64,
    pub(super) policies: bool,
}

/// The part about erasure-coded files, of which there are none.
const ERASURE_CODED: &str = "\n\nErasure Coded Block Groups:\n Total size:\t0 B\n Total files:\t0\n \
     Total block groups (validated):\t0\n Minimally erasure-coded block groups:\t0\n \
     Over-erasure-coded block groups:\t0\n Under-erasure-coded block groups:\t0\n \
     Unsatisfactory placement block groups:\t0\n Average block group size:\t0.0\n Missing block groups:\t\t0\n \
     Corrupt block groups:\t\t0\n Missing internal blocks:\t0\n Blocks queued for replication:\t0\n";

macro_rules! add {
    ($text:ident, $($format:tt)*) => {
        write!($text, $($format)*).expect("text takes all")
    };
}

impl Sums {
    /// Whether every closed file can be read.
    pub(super) const fn is_healthy(&self) -> bool {
        self.missing == 0 && self.corrupt == 0
    }

    fn share(&self, part: u64) -> String {
        if self.blocks == 0 {
            return part.to_string();
        }
        format!("{part} ({} %)", float(percent(part, self.blocks)))
    }

    /// Everything from `Status:` on, but for the last lines.
    pub(super) fn render(&self, around: &Around) -> String {
        let mut text = String::new();
        let verdict = if self.is_healthy() { "HEALTHY" } else { "CORRUPT" };
        add!(text, "\nStatus: {verdict}\n Number of data-nodes:\t{}\n", around.datanodes);
        add!(text, " Number of racks:\t\t{}\n Total dirs:\t\t\t{}\n", around.racks, self.directories);
        add!(text, " Total symlinks:\t\t0\n\nReplicated Blocks:\n Total size:\t{} B", self.bytes);
        if self.open_bytes > 0 {
            add!(text, " (Total open files size: {} B)", self.open_bytes);
        }
        add!(text, "\n Total files:\t{}", self.files);
        if self.open_files > 0 {
            add!(text, " (Files currently being written: {})", self.open_files);
        }
        add!(text, "\n Total blocks (validated):\t{}", self.blocks);
        if let Some(average) = self.bytes.checked_div(self.blocks) {
            add!(text, " (avg. block size {average} B)");
        }
        if self.open_blocks > 0 {
            add!(text, " (Total open file blocks (not validated): {})", self.open_blocks);
        }
        self.trouble(&mut text, around);
        add!(text, "\n Minimally replicated blocks:\t{}", self.share(self.at_minimum));
        add!(text, "\n Over-replicated blocks:\t{}", self.share(self.over));
        add!(text, "\n Under-replicated blocks:\t{}", self.share(self.under));
        add!(text, "\n Mis-replicated blocks:\t\t{}", self.share(self.misplaced));
        add!(text, "\n Default replication factor:\t{}", around.default_replication);
        let average = if self.blocks == 0 { 0.0 } else { self.replicas as f32 / self.blocks as f32 };
        add!(text, "\n Average block replication:\t{}", float(average));
        add!(text, "\n Missing blocks:\t\t{}\n Corrupt blocks:\t\t{}", self.missing, self.corrupt);
        add!(text, "\n Missing replicas:\t\t{}", self.lacking);
        if self.replicas > 0 {
            add!(text, " ({} %)", float(percent(self.lacking, self.expected)));
        }
        for (name, count) in [
            ("DecommissionedReplicas", self.decommissioned),
            ("DecommissioningReplicas", self.decommissioning),
            ("EnteringMaintenanceReplicas", self.entering_maintenance),
            ("InMaintenanceReplicas", self.in_maintenance),
        ] {
            if count > 0 {
                add!(text, "\n {name}:\t{count}");
            }
        }
        add!(text, "\n Blocks queued for replication:\t{}{ERASURE_CODED}", around.queued);
        if around.policies {
            self.satisfied(&mut text);
        }
        text
    }

    fn trouble(&self, text: &mut String, around: &Around) {
        if self.below_minimum == 0 && self.corrupt_files == 0 {
            return;
        }
        const STARS: &str = "\n  ********************************";
        text.push_str(STARS);
        if self.below_minimum > 0 {
            add!(text, "\n  UNDER MIN REPL'D BLOCKS:\t{}", self.share(self.below_minimum));
            add!(text, "\n  MINIMAL BLOCK REPLICATION:\t{}", around.min_replication);
        }
        if self.corrupt_files > 0 {
            add!(text, "\n  CORRUPT FILES:\t{}", self.corrupt_files);
            if self.missing > 0 {
                add!(
                    text,
                    "\n  MISSING BLOCKS:\t{}\n  MISSING SIZE:\t\t{} B",
                    self.missing,
                    self.missing_bytes
                );
            }
            if self.corrupt > 0 {
                add!(
                    text,
                    "\n  CORRUPT BLOCKS: \t{}\n  CORRUPT SIZE:\t\t{} B",
                    self.corrupt,
                    self.corrupt_bytes
                );
            }
        }
        text.push_str(STARS);
    }

    fn satisfied(&self, text: &mut String) {
        let total: u64 = self.policies.values().sum();
        let share = |count: u64| 100.0 * count as f64 / total as f64;
        let rows = |wanted: bool| self.policies.iter().filter(move |((right, _), _)| *right == wanted);
        text.push_str("\nBlocks satisfying the specified storage policy:\n");
        text.push_str("Storage Policy                  # of blocks       % of blocks\n");
        for ((_, name), count) in rows(true) {
            add!(text, "{name:<25} {count:>10} {:>20.4}%\n", share(*count));
        }
        if rows(false).next().is_none() {
            text.push_str("\nAll blocks satisfy specified storage policy.\n");
            return;
        }
        text.push_str("\nBlocks NOT satisfying the specified storage policy:\n");
        text.push_str(
            "Storage Policy                  Specified Storage Policy      # of blocks       % of blocks\n",
        );
        for ((_, name), count) in rows(false) {
            add!(text, "{name:<35} {count:>10} {:>20.4}%\n", share(*count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AROUND: Around = Around {
        datanodes: 2,
        racks: 1,
        default_replication: 2,
        min_replication: 1,
        queued: 0,
        policies: false,
    };

    #[test]
    fn a_healthy_tree_is_told_as_hdfs_tells_it() {
        let sums = Sums {
            directories: 3,
            files: 4,
            bytes: 15_255,
            blocks: 3,
            expected: 11,
            replicas: 6,
            at_minimum: 3,
            under: 3,
            lacking: 5,
            ..Sums::default()
        };
        let text = sums.render(&AROUND);
        assert!(text.starts_with(
            "\nStatus: HEALTHY\n Number of data-nodes:\t2\n Number of racks:\t\t1\n Total dirs:\t\t\t3\n Total symlinks:\t\t0\n\n\
             Replicated Blocks:\n Total size:\t15255 B\n Total files:\t4\n Total blocks (validated):\t3 (avg. block size 5085 \
             B)\n Minimally replicated blocks:\t3 (100.0 %)\n Over-replicated blocks:\t0 (0.0 %)\n Under-replicated \
             blocks:\t3 (100.0 %)\n Mis-replicated blocks:\t\t0 (0.0 %)\n Default replication factor:\t2\n Average block \
             replication:\t2.0\n Missing blocks:\t\t0\n Corrupt blocks:\t\t0\n Missing replicas:\t\t5 (45.454544 %)\n Blocks \
             queued for replication:\t0\n\nErasure Coded Block Groups:\n Total size:\t0 B\n"
        ), "{text}");
        assert!(
            text.ends_with(" Missing internal blocks:\t0\n Blocks queued for replication:\t0\n"),
            "{text}"
        );
    }

    #[test]
    fn trouble_stands_between_stars() {
        let sums = Sums {
            files: 2,
            bytes: 14_034,
            blocks: 2,
            below_minimum: 2,
            corrupt_files: 2,
            missing: 2,
            missing_bytes: 14_034,
            ..Sums::default()
        };
        let text = sums.render(&AROUND);
        assert!(text.contains(
            "7017 B)\n  ********************************\n  UNDER MIN REPL'D BLOCKS:\t2 (100.0 %)\n  MINIMAL BLOCK \
             REPLICATION:\t1\n  CORRUPT FILES:\t2\n  MISSING BLOCKS:\t2\n  MISSING SIZE:\t\t14034 B\n  \
             ********************************\n Minimally"
        ), "{text}");
        assert!(text.starts_with("\nStatus: CORRUPT\n"));
    }

    #[test]
    fn policies_are_a_table() {
        let policies = [((true, "DISK:2(HOT)".to_owned()), 3)].into();
        let text = Sums { policies, ..Sums::default() }.render(&Around { policies: true, ..AROUND });
        assert!(text.ends_with(
            "\n\nBlocks satisfying the specified storage policy:\nStorage Policy                  # of blocks       % of \
             blocks\nDISK:2(HOT)                        3             100.0000%\n\nAll blocks satisfy specified storage \
             policy.\n"
        ), "{text}");
    }
}
