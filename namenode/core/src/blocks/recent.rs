//! What changed a moment ago: an older picture must not undo it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use steadfs_common::{BlockId, Millis};

/// A full report that does not say which changes it knows of may have been written down this long before its first slice
/// arrives.
const REPORT_LEAD: Duration = Duration::from_secs(60);
/// Changes of one volume that are remembered, of each kind. At 2,000 a second, a slice that says what it knows of may be half
/// a minute old: they are written down one at a time, as the namenode takes them.
pub(super) const MAX_RECENT: usize = 65_536;
/// Changes of the namespace's blocks that are remembered.
const MAX_CHANGES: usize = 65_536;

/// How old a part of a report is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age {
    /// When the report's first slice came.
    pub(super) began: Millis,
    /// The slice knows of its datanode's changes before this number, if it says.
    pub(super) knows: Option<u64>,
}

/// The last change of a replica.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Millis,
    /// The number after the greatest of its changes.
    end: u64,
}

/// Changes that happened to some replicas, bounded in age and number.
#[derive(Debug, Default)]
struct Log {
    order: VecDeque<(Millis, BlockId)>,
    latest: BTreeMap<BlockId, Mark>,
    /// The time of the last change that was forgotten for want of room.
    forgotten: Option<Millis>,
    /// All changes from this number on are remembered.
    floor: u64,
}

impl Log {
    fn note(&mut self, block: BlockId, end: u64, now: Millis) {
        while let Some((at, old)) = self.order.front().copied() {
            let aged = now.since(at) > REPORT_LEAD * 2;
            if !aged && self.order.len() < MAX_RECENT {
                break;
            }
            if !aged {
                self.forgotten = Some(at);
            }
            self.order.pop_front();
            if let Some(mark) = self.latest.get(&old).copied().filter(|mark| mark.at == at) {
                self.floor = self.floor.max(mark.end);
                self.latest.remove(&old);
            }
        }
        self.order.push_back((now, block));
        let end = self.latest.get(&block).map_or(end, |mark| mark.end.max(end));
        self.latest.insert(block, Mark { at: now, end });
    }

    /// Whether a report that began at `began` may be older than what is known of this block.
    fn outdates(&self, block: BlockId, began: Millis) -> bool {
        self.doubts(began) || self.latest.get(&block).is_some_and(|mark| reaches(mark.at, began))
    }

    /// Whether a change that such a report may not know of is forgotten.
    fn doubts(&self, began: Millis) -> bool {
        self.forgotten.is_some_and(|at| reaches(at, began))
    }

    /// Whether the block changed after what a slice knows of.
    fn is_ahead(&self, block: BlockId, knows: u64) -> bool {
        self.latest.get(&block).is_some_and(|mark| mark.end > knows)
    }
}

/// Replicas of one volume that came or went lately. What was written down before may not know of it.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// What a datanode told, numbered.
    numbered: Log,
    /// What was not numbered, or is known from somebody else.
    timed: Log,
}

impl Recent {
    /// A replica changed. `end` is the number after its datanode's for this change, if it has one.
    pub(super) fn note(&mut self, block: BlockId, end: Option<u64>, now: Millis) {
        match end {
            Some(end) => self.numbered.note(block, end, now),
            None => self.timed.note(block, 0, now),
        }
    }

    /// Whether a part of a report may be older than what is known of this block.
    pub(super) fn outdates(&self, block: BlockId, age: Age) -> bool {
        let numbered = match age.knows {
            Some(knows) => self.numbered.is_ahead(block, knows),
            None => self.numbered.outdates(block, age.began),
        };
        numbered || self.timed.outdates(block, age.began)
    }

    /// Whether a part of a report may be older than what is known of any block: so much changed that some of it is forgotten.
    pub(super) fn doubts(&self, age: Age) -> bool {
        self.timed.doubts(age.began) || (age.knows.is_none() && self.numbered.doubts(age.began))
    }

    /// Whether a part of a report is so old that a change which it does not know of may be forgotten: nothing can be told from
    /// it, and a new one can be had at once.
    pub(super) fn is_too_late(&self, age: Age) -> bool {
        age.knows.is_some_and(|knows| knows < self.numbered.floor)
    }

    /// A report will follow, by one who has told the changes before number `taken`.
    pub(super) fn clear(&mut self, taken: u64) {
        *self = Self::default();
        self.numbered.floor = taken;
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

    const fn timed(began: u64) -> Age {
        Age { began: Millis(began), knows: None }
    }

    const fn numbered(knows: u64) -> Age {
        Age { began: Millis(100_500), knows: Some(knows) }
    }

    #[test]
    fn a_report_does_not_undo_what_came_while_it_was_under_way() {
        for end in [None, Some(7)] {
            let mut recent = Recent::default();
            recent.note(BlockId(1), end, Millis(100_000));
            assert!(recent.outdates(BlockId(1), timed(90_000)));
            assert!(recent.outdates(BlockId(1), timed(160_000)));
            assert!(!recent.outdates(BlockId(1), timed(160_001)), "a later report knows");
            assert!(!recent.outdates(BlockId(2), timed(100_000)));
            for block in 0..=MAX_RECENT as u64 {
                recent.note(BlockId(1_000 + block), end.map(|end| end + block), Millis(100_500));
            }
            assert!(recent.outdates(BlockId(1), timed(100_500)), "forgotten for want of room: doubt stays");
            assert!(recent.timed.order.len() <= MAX_RECENT && recent.numbered.order.len() <= MAX_RECENT);
        }
    }

    #[test]
    fn a_slice_that_tells_what_it_knows_of_is_believed_in_all_else() {
        let mut recent = Recent::default();
        recent.note(BlockId(1), Some(5), Millis(100_000));
        recent.note(BlockId(2), None, Millis(100_000));
        assert!(recent.outdates(BlockId(1), numbered(4)));
        assert!(!recent.outdates(BlockId(1), numbered(5)));
        assert!(recent.outdates(BlockId(2), numbered(5)), "what somebody else told has no number");
        for nth in 0..MAX_RECENT as u64 + 10 {
            recent.note(BlockId(1_000 + nth), Some(6 + nth), Millis(100_500));
        }
        assert!(recent.is_too_late(numbered(4)), "changes that it does not know of are forgotten");
        let now = numbered(MAX_RECENT as u64);
        assert!(!recent.is_too_late(now) && !recent.doubts(now) && !recent.outdates(BlockId(1), now));
        assert!(recent.outdates(BlockId(1_000 + MAX_RECENT as u64), now));
        assert!(recent.numbered.order.len() <= MAX_RECENT && recent.numbered.latest.len() <= MAX_RECENT);
        recent.clear(9);
        assert!(recent.is_too_late(numbered(8)) && !recent.is_too_late(numbered(9)));
    }

    #[test]
    fn what_is_forgotten_for_its_age_is_not_judged_by_older_slices() {
        let mut recent = Recent::default();
        recent.note(BlockId(1), Some(5), Millis(100_000));
        recent.note(BlockId(2), Some(6), Millis(100_000 + 2 * 60_000 + 1));
        assert!(recent.is_too_late(numbered(4)) && !recent.is_too_late(numbered(5)));
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
