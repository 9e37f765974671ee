//! What changed a moment ago: an older picture must not undo it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use steadfs_common::{BlockId, Millis};

/// A full report may have been written down this long before its first slice arrives.
const REPORT_LEAD: Duration = Duration::from_secs(60);
/// Changes of one volume that are remembered.
const MAX_RECENT: usize = 16_384;
/// Changes of the namespace's blocks that are remembered.
const MAX_CHANGES: usize = 65_536;

/// Replicas of one volume that came or went lately. A full report that was written down before may not know of it.
#[derive(Debug, Default)]
pub(super) struct Recent {
    order: VecDeque<(Millis, BlockId)>,
    latest: BTreeMap<BlockId, Millis>,
    /// The time of the last change that was forgotten for want of room.
    forgotten: Option<Millis>,
}

impl Recent {
    pub(super) fn note(&mut self, block: BlockId, now: Millis) {
        while let Some((at, old)) = self.order.front().copied() {
            let aged = now.since(at) > REPORT_LEAD * 2;
            if !aged && self.order.len() < MAX_RECENT {
                break;
            }
            if !aged {
                self.forgotten = Some(at);
            }
            self.order.pop_front();
            if self.latest.get(&old) == Some(&at) {
                self.latest.remove(&old);
            }
        }
        self.order.push_back((now, block));
        self.latest.insert(block, now);
    }

    /// Whether a report that began at `began` may be older than what is known of this block.
    pub(super) fn outdates(&self, block: BlockId, began: Millis) -> bool {
        self.doubts(began) || self.latest.get(&block).is_some_and(|at| reaches(*at, began))
    }

    /// Whether a report that began at `began` may be older than what is known of any block: so much changed that some of
    /// it is forgotten.
    pub(super) fn doubts(&self, began: Millis) -> bool {
        self.forgotten.is_some_and(|at| reaches(at, began))
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Whether a report that began at `began` may have been written down before a change at `at`.
fn reaches(at: Millis, began: Millis) -> bool {
    at.plus(REPORT_LEAD) >= began
}

/// Which blocks the namespace changed lately: facts that were read before are not used.
#[derive(Debug, Default)]
pub(super) struct ChangeLog {
    version: u64,
    order: VecDeque<(u64, BlockId)>,
    latest: BTreeMap<BlockId, u64>,
    /// Changes up to this one are forgotten.
    floor: u64,
}

impl ChangeLog {
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn note(&mut self, block: BlockId) {
        self.version += 1;
        if self.order.len() >= MAX_CHANGES
            && let Some((version, old)) = self.order.pop_front()
        {
            self.floor = version;
            if self.latest.get(&old) == Some(&version) {
                self.latest.remove(&old);
            }
        }
        self.order.push_back((self.version, block));
        self.latest.insert(block, self.version);
    }

    /// Whether the block may have changed after `version`.
    pub(super) fn changed_since(&self, block: BlockId, version: u64) -> bool {
        version < self.floor || self.latest.get(&block).is_some_and(|at| *at > version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_does_not_undo_what_came_while_it_was_under_way() {
        let mut recent = Recent::default();
        recent.note(BlockId(1), Millis(100_000));
        assert!(recent.outdates(BlockId(1), Millis(90_000)));
        assert!(recent.outdates(BlockId(1), Millis(160_000)));
        assert!(!recent.outdates(BlockId(1), Millis(160_001)), "a later report knows");
        assert!(!recent.outdates(BlockId(2), Millis(100_000)));
        for block in 0..=MAX_RECENT as u64 {
            recent.note(BlockId(1_000 + block), Millis(100_500));
        }
        assert!(recent.outdates(BlockId(1), Millis(100_500)), "forgotten for want of room: doubt stays");
        assert!(recent.order.len() <= MAX_RECENT);
    }

    #[test]
    fn changes_after_a_version_are_known_or_suspected() {
        let mut log = ChangeLog::default();
        let before = log.version();
        log.note(BlockId(7));
        assert!(log.changed_since(BlockId(7), before));
        assert!(!log.changed_since(BlockId(8), before));
        assert!(!log.changed_since(BlockId(7), log.version()));
        for block in 0..=MAX_CHANGES as u64 {
            log.note(BlockId(block));
        }
        assert!(log.changed_since(BlockId(u64::MAX), before));
        assert!(log.order.len() <= MAX_CHANGES && log.latest.len() <= MAX_CHANGES);
    }
}
