//! What is told of files and their blocks.

use std::fmt::Write as _;
use std::sync::Arc;

use steadfs_common::{BlockId, FsPath};
use steadfs_namenode_core::blocks::Condition;
use steadfs_namenode_core::policy;

use super::options::Options;
use super::sums::Sums;
use crate::service::{FileBlocks, FileStatus, LocatedBlock, Location, Service};

/// Files between two signs of life, where healthy files are not told.
const SIGN_EVERY: u64 = 100;

macro_rules! add {
    ($text:expr, $($format:tt)*) => {
        write!($text, $($format)*).expect("text takes all")
    };
}

/// A block and its replicas.
pub(super) struct Surveyed {
    pub(super) replicas: Vec<(Location, Condition)>,
}

impl Surveyed {
    pub(super) fn of(service: &Service, block: &LocatedBlock) -> Self {
        let replicas = service.survey(block.block.id);
        if replicas.is_empty() && !block.corrupt {
            // The table has complete blocks alone: one that is about to be is where its pipeline put it.
            let live = block.locations.iter().cloned().map(|location| (location, Condition::Live));
            return Self { replicas: live.collect() };
        }
        Self { replicas }
    }

    pub(super) fn count(&self, wanted: &[Condition]) -> u64 {
        self.replicas.iter().filter(|(_, is)| wanted.contains(is)).count() as u64
    }

    pub(super) fn live(&self) -> u64 {
        self.count(&[Condition::Live, Condition::Stale])
    }

    /// All that can be read, or may come back.
    fn there(&self) -> u64 {
        self.replicas.len() as u64 - self.count(&[Condition::Corrupt, Condition::Excess])
    }
}

/// A check of a tree under way.
pub(super) struct Report {
    pub(super) options: Options,
    pub(super) pool: String,
    pub(super) min_replication: u16,
    /// Racks with datanodes.
    pub(super) racks: usize,
    pub(super) sums: Sums,
}

/// What came of a file.
#[derive(Default)]
struct Findings {
    under: u64,
    misplaced: u64,
    missing: u64,
    missing_bytes: u64,
    corrupt: u64,
    corrupt_bytes: u64,
    /// One line a block.
    lines: String,
}

impl Report {
    /// A folder.
    pub(super) fn folder(&mut self, path: &FsPath) -> String {
        self.sums.directories += 1;
        if self.options.files { format!("{path} <dir>\n") } else { String::new() }
    }

    /// A file: what is to be told of it, and whether it has lost bytes.
    pub(super) fn file(
        &mut self,
        service: &Arc<Service>,
        path: &FsPath,
        status: &FileStatus,
    ) -> (String, bool) {
        let (Some(body), Some(blocks)) = (status.inode.file(), &status.blocks) else {
            return (String::new(), false);
        };
        if body.under_construction {
            self.sums.open_files += 1;
            self.sums.open_bytes += body.length;
            self.sums.open_blocks += blocks.blocks.len() as u64;
            if !self.options.open {
                return (String::new(), false);
            }
        }
        self.sums.files += 1;
        self.sums.bytes += body.length;
        let mut text = String::new();
        if self.options.files {
            let open = if body.under_construction { ", OPENFORWRITE" } else { "" };
            add!(
                text,
                "{path} {} bytes, replicated: replication={}, {} block(s){open}: ",
                body.length,
                body.replication(),
                blocks.blocks.len()
            );
        } else if self.sums.files.is_multiple_of(SIGN_EVERY) {
            text.push('\n');
        }
        let building = blocks.under_construction && !blocks.last_complete;
        let complete = blocks.blocks.len() - usize::from(building && !blocks.blocks.is_empty());
        let mut found = Findings::default();
        for (number, block) in blocks.blocks[..complete].iter().enumerate() {
            self.block(
                service,
                &mut text,
                &mut found,
                path,
                (number, block),
                (body.replication(), status.policy),
            );
        }
        if building {
            self.open_block(&mut found, blocks, complete);
        }
        self.verdict(&mut text, path, &found);
        (text, (found.missing > 0 || found.corrupt > 0) && !body.under_construction)
    }

    fn name(&self, block: &LocatedBlock) -> String {
        format!("{}:{}_{}", self.pool, block.block.id, block.block.stamp.0)
    }

    fn block(
        &mut self,
        service: &Arc<Service>,
        text: &mut String,
        found: &mut Findings,
        path: &FsPath,
        (number, block): (usize, &LocatedBlock),
        (wanted, policy): (u16, u8),
    ) {
        let surveyed = Surveyed::of(service, block);
        let (live, there, target) = (surveyed.live(), surveyed.there(), u64::from(wanted));
        let corrupt = there == 0 && surveyed.count(&[Condition::Corrupt]) > 0;
        let missing = there == 0;
        let name = self.name(block);
        self.count(&surveyed, there, target);
        if live > target {
            self.sums.over += 1;
        }
        if corrupt {
            found.corrupt += 1;
            found.corrupt_bytes += block.block.length;
            add!(text, "\n{path}: CORRUPT blockpool {} block {}\n", self.pool, block.block.id);
        } else if missing {
            found.missing += 1;
            found.missing_bytes += block.block.length;
        }
        if !missing && there < target {
            found.under += 1;
            self.sums.under += 1;
            self.sums.lacking += target - there;
            self.lead(text, path);
            let leaving = format!(
                "{} decommissioned replica(s), {} decommissioning replica(s)",
                surveyed.count(&[Condition::Decommissioned]),
                surveyed.count(&[Condition::Decommissioning])
            );
            add!(
                text,
                " Under replicated {name}. Target Replicas is {target} but found {live} live replica(s), {leaving}"
            );
            if self.options.maintenance {
                // The comma stands where HDFS puts it.
                add!(
                    text,
                    "{}, entering maintenance replica(s) and {} in maintenance replica(s)",
                    surveyed.count(&[Condition::EnteringMaintenance]),
                    surveyed.count(&[Condition::InMaintenance])
                );
            }
            text.push_str(".\n");
        }
        self.placement(text, found, path, &name, &surveyed, wanted);
        if self.options.policies {
            self.policy(&surveyed, policy, wanted);
        }
        self.line(found, number, block, &surveyed, missing && !corrupt);
    }

    fn count(&mut self, surveyed: &Surveyed, there: u64, target: u64) {
        let sums = &mut self.sums;
        sums.blocks += 1;
        sums.replicas += there;
        sums.expected += target;
        if there < u64::from(self.min_replication) {
            sums.below_minimum += 1;
        } else {
            sums.at_minimum += 1;
        }
        sums.decommissioned += surveyed.count(&[Condition::Decommissioned]);
        sums.decommissioning += surveyed.count(&[Condition::Decommissioning]);
        sums.entering_maintenance += surveyed.count(&[Condition::EnteringMaintenance]);
        sums.in_maintenance += surveyed.count(&[Condition::InMaintenance]);
    }

    /// The path in front of a finding, where it does not stand already.
    fn lead(&self, text: &mut String, path: &FsPath) {
        if !self.options.files {
            add!(text, "\n{path}: ");
        }
    }

    /// Replicas shall be on two racks where there are two.
    fn placement(
        &mut self,
        text: &mut String,
        found: &mut Findings,
        path: &FsPath,
        name: &str,
        surveyed: &Surveyed,
        wanted: u16,
    ) {
        let good =
            surveyed.replicas.iter().filter(|(_, is)| !matches!(is, Condition::Corrupt | Condition::Excess));
        let mut racks: Vec<&str> = good.map(|(location, _)| location.node.rack.as_str()).collect();
        let replicas = racks.len();
        racks.sort_unstable();
        racks.dedup();
        let least = self.racks.min(2).min(usize::from(wanted)).min(replicas);
        if racks.len() >= least {
            return;
        }
        found.misplaced += 1;
        self.sums.misplaced += 1;
        self.lead(text, path);
        add!(
            text,
            " Replica placement policy is violated for {name}. Block should be additionally replicated on {} more rack(s). \
             Total number of racks in the cluster: {}\n",
            least - racks.len(),
            self.racks
        );
    }

    fn policy(&mut self, surveyed: &Surveyed, policy: u8, wanted: u16) {
        let policy = policy::by_id(policy).or_else(|| policy::by_name("HOT"));
        let Some(policy) = policy else { return };
        let good =
            surveyed.replicas.iter().filter(|(_, is)| !matches!(is, Condition::Corrupt | Condition::Excess));
        let mut kinds: Vec<_> = good.map(|(location, _)| location.kind).collect();
        if kinds.is_empty() {
            return;
        }
        kinds.sort_unstable_by_key(|kind| kind.index());
        let mut asked = policy.types_of(usize::from(wanted)).to_vec();
        asked.truncate(kinds.len());
        asked.sort_unstable_by_key(|kind| kind.index());
        let mut parts: Vec<(&str, usize)> = Vec::new();
        for kind in &kinds {
            match parts.last_mut() {
                Some((name, count)) if *name == kind.name() => *count += 1,
                _ => parts.push((kind.name(), 1)),
            }
        }
        let parts: Vec<String> = parts.into_iter().map(|(name, count)| format!("{name}:{count}")).collect();
        let right = asked == kinds;
        let name = if right {
            format!("{}({})", parts.join(","), policy.name)
        } else {
            format!("{:<31} {}", parts.join(","), policy.name)
        };
        *self.sums.policies.entry((right, name)).or_default() += 1;
    }

    fn line(
        &self,
        found: &mut Findings,
        number: usize,
        block: &LocatedBlock,
        surveyed: &Surveyed,
        missing: bool,
    ) {
        if !self.options.blocks {
            return;
        }
        add!(found.lines, "{number}. {} len={}", self.name(block), block.block.length);
        if missing {
            found.lines.push_str(" MISSING!\n");
        } else {
            add!(found.lines, " Live_repl={}{}\n", surveyed.live(), self.places(&surveyed.replicas));
        }
    }

    /// The last block of a file being written: where it is expected.
    fn open_block(&self, found: &mut Findings, blocks: &FileBlocks, number: usize) {
        let Some(block) = blocks.blocks.get(number).filter(|_| self.options.blocks) else { return };
        let expected: Vec<_> =
            block.locations.iter().cloned().map(|place| (place, Condition::Live)).collect();
        add!(
            found.lines,
            "\nUnder Construction Block:\n{number}. {} len={} Expected_repl={}{}\n",
            self.name(block),
            block.block.length,
            expected.len(),
            self.places(&expected)
        );
    }

    fn places(&self, replicas: &[(Location, Condition)]) -> String {
        if !self.options.places() || replicas.is_empty() {
            return String::new();
        }
        let shown: Vec<String> = replicas.iter().map(|replica| self.place(replica)).collect();
        format!("  [{}]", shown.join(", "))
    }

    fn place(&self, (location, condition): &(Location, Condition)) -> String {
        let node = &location.node;
        let address = std::net::SocketAddr::new(node.ip, node.data_port);
        let mut text = if self.options.racks {
            format!("{}/{address}", node.rack)
        } else {
            format!("DatanodeInfoWithStorage[{address},{},{}]", location.storage, location.kind.name())
        };
        if self.options.details {
            let (maintenance, condition) = (self.options.maintenance, *condition);
            text.push_str(match condition {
                Condition::Decommissioned => "(DECOMMISSIONED)",
                Condition::Decommissioning => "(DECOMMISSIONING)",
                Condition::EnteringMaintenance if maintenance => "(ENTERING MAINTENANCE)",
                Condition::InMaintenance if maintenance => "(IN MAINTENANCE)",
                Condition::Corrupt => "(CORRUPT)",
                Condition::Excess => "(EXCESS)",
                Condition::Stale => "(STALE_NODE)",
                Condition::EnteringMaintenance | Condition::InMaintenance | Condition::Live => "(LIVE)",
            });
        }
        if self.options.upgrade_domains {
            text.push_str("(ud=undefined)");
        }
        text
    }

    fn verdict(&mut self, text: &mut String, path: &FsPath, found: &Findings) {
        let lost = found.missing > 0 || found.corrupt > 0;
        for (what, count, bytes) in
            [("MISSING", found.missing, found.missing_bytes), ("CORRUPT", found.corrupt, found.corrupt_bytes)]
        {
            if count > 0 && self.options.files {
                add!(text, " {what} {count} blocks of total size {bytes} B\n");
            } else if count > 0 {
                add!(text, "\n{path}: {what} {count} blocks of total size {bytes} B.");
            }
        }
        if lost {
            self.sums.corrupt_files += 1;
            self.sums.missing += found.missing;
            self.sums.missing_bytes += found.missing_bytes;
            self.sums.corrupt += found.corrupt;
            self.sums.corrupt_bytes += found.corrupt_bytes;
        }
        if self.options.files {
            if !lost && found.under == 0 && found.misplaced == 0 {
                text.push_str(" OK\n");
            }
            if self.options.blocks {
                add!(text, "{}\n", found.lines);
            }
        }
    }
}

/// What is told of one block by its id.
pub(super) fn of_block(
    id: BlockId,
    path: &FsPath,
    wanted: u16,
    surveyed: &Surveyed,
    maintenance: bool,
) -> String {
    let mut text = format!("Block Id: {id}\nBlock belongs to: {path}\nNo. of Expected Replica: {wanted}\n");
    add!(text, "No. of live Replica: {}\n", surveyed.live());
    let mut rows = vec![
        ("excess", Condition::Excess),
        ("stale", Condition::Stale),
        ("decommissioned", Condition::Decommissioned),
        ("decommissioning", Condition::Decommissioning),
    ];
    if maintenance {
        rows.push(("entering maintenance", Condition::EnteringMaintenance));
        rows.push(("in maintenance", Condition::InMaintenance));
    }
    rows.push(("corrupted", Condition::Corrupt));
    for (name, condition) in rows {
        add!(text, "No. of {name} Replica: {}\n", surveyed.count(&[condition]));
    }
    for (location, condition) in &surveyed.replicas {
        let is = match condition {
            Condition::Corrupt => "CORRUPT\t ReasonCode: CORRUPTION_REPORTED",
            Condition::Decommissioned => "DECOMMISSIONED",
            Condition::Decommissioning => "DECOMMISSIONING",
            Condition::EnteringMaintenance if maintenance => "ENTERING MAINTENANCE",
            Condition::InMaintenance if maintenance => "IN MAINTENANCE",
            Condition::Excess => "EXCESS",
            Condition::Stale => "STALE",
            Condition::EnteringMaintenance | Condition::InMaintenance | Condition::Live => "HEALTHY",
        };
        let node = &location.node;
        add!(text, "Block replica on datanode/rack: {}{} is {is}\n", node.host_name, node.rack);
    }
    text
}
