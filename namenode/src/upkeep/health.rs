//! What is wrong with the namenode's own data, and what was found and mended, for the report, the metrics and the log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use steadfs_common::Millis;

use crate::journal::{CopyState, JournalHealth};

/// Findings that are remembered; older ones are in the log.
const MAX_FINDINGS: usize = 64;

/// What a standing problem is about: each has one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    /// A disk of the data folders does not answer.
    Stalled,
    /// Room in the data folders.
    Room,
    /// The second copy of the store.
    StoreCopy,
    /// The journal does not go back to the second copy of the store.
    Outran,
    /// What a scrub could not mend.
    Rot,
    /// A scrub that did not come to its end.
    Scrub,
    /// A datanode heard of a later state.
    Stale,
    /// What is kept after an accepted loss.
    Kept,
}

/// Cloning shares it.
#[derive(Clone, Default)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    journal: Mutex<JournalHealth>,
    problems: Mutex<BTreeMap<Topic, String>>,
    findings: Mutex<VecDeque<String>>,
    gauges: Gauges,
}

#[derive(Default)]
struct Gauges {
    problems: Gauge,
    left: Gauge,
    room: Gauge,
    copied: Gauge,
    scrub_ended: Gauge,
    scrubbed: Counter,
    healed: Counter,
    lost: Counter,
}

impl Health {
    pub(crate) fn new(journal: JournalHealth) -> Self {
        let health = Self::default();
        *health.shared.journal.lock() = journal;
        health
    }

    /// The copies of the journal.
    #[must_use]
    pub fn journal(&self) -> JournalHealth {
        self.shared.journal.lock().clone()
    }

    /// Shows the numbers in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("namenode");
        let gauges = &self.shared.gauges;
        for (name, help, gauge) in [
            ("data_problems", "What is wrong with the namenode's own data now", &gauges.problems),
            ("journal_copies_left", "Copies of the journal that failed or are not complete", &gauges.left),
            ("data_free_bytes", "Room in the first of data_dirs", &gauges.room),
            (
                "store_copy_index",
                "The journal entry up to which the second copy of the store goes",
                &gauges.copied,
            ),
            (
                "scrub_ended_seconds",
                "When journal and store were last read and checked to the end, since 1970; 0 for not since the start",
                &gauges.scrub_ended,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        for (name, help, counter) in [
            ("scrubbed_bytes", "Bytes of journal and store read to check them", &gauges.scrubbed),
            ("rot_healed", "Files of journal and store that had rotted and were made good", &gauges.healed),
            ("rot_lost", "Files of journal and store found rotten in every copy", &gauges.lost),
        ] {
            registry.register(name, help, counter.clone());
        }
    }

    /// A standing problem, or none any more. Said once in the log.
    pub(crate) fn problem(&self, topic: Topic, now: Option<String>) {
        let mut problems = self.shared.problems.lock();
        let before = match now.clone() {
            Some(problem) => problems.insert(topic, problem),
            None => problems.remove(&topic),
        };
        match (&before, &now) {
            (None, Some(problem)) => tracing::error!("{problem}"),
            (Some(problem), None) => tracing::info!("no more: {problem}"),
            _ => {}
        }
        drop(problems);
        self.read();
    }

    /// Something was found and mended, or cannot be.
    pub(crate) fn found(&self, finding: String) {
        tracing::warn!("{finding}");
        let mut findings = self.shared.findings.lock();
        findings.push_back(finding);
        while findings.len() > MAX_FINDINGS {
            findings.pop_front();
        }
    }

    /// The last findings, oldest first.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        self.shared.findings.lock().iter().cloned().collect()
    }

    /// What is wrong now: one sentence each, with what an operator can do.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let copies = self.journal().copies().into_iter().filter_map(|copy| match copy.state {
            CopyState::Complete => None,
            CopyState::Filling => Some(format!("the copy of the journal in {} is being filled", copy.folder.display())),
            CopyState::Left(reason) => Some(format!(
                "THE COPY OF THE JOURNAL in {} FAILED ({reason}): mend its disk or make room, and it comes back by itself",
                copy.folder.display()
            )),
        });
        copies.chain(self.shared.problems.lock().values().cloned()).collect()
    }

    /// Renews the numbers.
    pub(crate) fn read(&self) {
        let left = self.journal().copies().iter().filter(|copy| copy.state != CopyState::Complete).count();
        let problems = self.shared.problems.lock().len() + left;
        let set = |gauge: &Gauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.shared.gauges.left, left);
        set(&self.shared.gauges.problems, problems);
    }

    pub(crate) fn room(&self, bytes: u64) {
        self.shared.gauges.room.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn copied(&self, index: u64) {
        self.shared.gauges.copied.set(i64::try_from(index).unwrap_or(i64::MAX));
    }

    pub(crate) fn scrub_ended(&self, now: Millis) {
        self.shared.gauges.scrub_ended.set(i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX));
    }

    pub(crate) fn scrubbed(&self, bytes: u64, healed: usize, lost: usize) {
        self.shared.gauges.scrubbed.inc_by(bytes);
        self.shared.gauges.healed.inc_by(healed as u64);
        self.shared.gauges.lost.inc_by(lost as u64);
    }
}
