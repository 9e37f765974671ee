//! Which bytes of a file are newer here than in the cluster.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of byte ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extents {
    /// Start to end.
    ranges: BTreeMap<u64, u64>,
}

impl Extents {
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ranges there are.
    pub(crate) fn count(&self) -> usize {
        self.ranges.len()
    }

    /// Bytes in all ranges.
    pub(crate) fn bytes(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// How many bytes of a range are not in the set.
    pub(crate) fn missing(&self, range: Range<u64>) -> u64 {
        let pieces = self.pieces(range).into_iter();
        pieces.filter(|(_, inside)| !inside).map(|(piece, _)| piece.end - piece.start).sum()
    }

    /// Adds a range; gives the bytes that were not there before.
    pub(crate) fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let (mut start, mut end) = (range.start, range.end);
        let mut known = 0;
        // Those that touch it, from the last one that begins before its end back.
        while let Some((&other, &other_end)) = self.ranges.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            self.ranges.remove(&other);
            known += other_end - other;
            start = start.min(other);
            end = end.max(other_end);
        }
        self.ranges.insert(start, end);
        end - start - known
    }

    /// Forgets everything from `length` on; gives the bytes that went.
    pub(crate) fn truncate(&mut self, length: u64) -> u64 {
        let mut gone = 0;
        while let Some((&start, &end)) = self.ranges.range(..).next_back() {
            if end <= length {
                break;
            }
            self.ranges.remove(&start);
            if start < length {
                self.ranges.insert(start, length);
                gone += end - length;
                break;
            }
            gone += end - start;
        }
        gone
    }

    /// Whether the set is exactly one range.
    pub(crate) fn is_exactly(&self, range: &Range<u64>) -> bool {
        self.ranges.len() == 1 && self.ranges.get(&range.start) == Some(&range.end)
    }

    /// Cuts `range` into pieces that are wholly inside the set (`true`) or wholly outside.
    pub(crate) fn pieces(&self, range: Range<u64>) -> Vec<(Range<u64>, bool)> {
        let mut pieces = Vec::new();
        let mut at = range.start;
        let first = self.ranges.range(..=at).next_back().map_or(at, |(start, _)| *start);
        for (&start, &end) in self.ranges.range(first..range.end) {
            let (start, end) = (start.max(range.start), end.min(range.end));
            if start >= end {
                continue;
            }
            if at < start {
                pieces.push((at..start, false));
            }
            pieces.push((start..end, true));
            at = end;
        }
        if at < range.end {
            pieces.push((at..range.end, false));
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_touches_becomes_one() {
        let mut set = Extents::default();
        assert_eq!(set.insert(0..10), 10);
        assert_eq!(set.insert(20..30), 10);
        assert_eq!(set.count(), 2);
        assert_eq!(set.insert(10..20), 10);
        assert!(set.is_exactly(&(0..30)));
        assert_eq!(set.insert(5..25), 0);
        assert_eq!(set.truncate(12), 18);
        assert!(set.is_exactly(&(0..12)));
        assert_eq!(set.truncate(0), 12);
        assert!(set.is_empty());
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_bytes(steps in prop::collection::vec((any::<bool>(), 0_u64..60, 0_u64..20), 1..40)) {
            let mut set = Extents::default();
            let mut model = [false; 100];
            for (cut, start, length) in steps {
                if cut {
                    let gone = model[start as usize..].iter().filter(|byte| **byte).count() as u64;
                    model[start as usize..].fill(false);
                    prop_assert_eq!(set.truncate(start), gone);
                } else {
                    let range = &mut model[start as usize..(start + length) as usize];
                    let fresh = range.iter().filter(|byte| !**byte).count() as u64;
                    prop_assert_eq!(set.missing(start..start + length), fresh);
                    range.fill(true);
                    prop_assert_eq!(set.insert(start..start + length), fresh);
                }
                prop_assert_eq!(set.bytes(), model.iter().filter(|byte| **byte).count() as u64);
                let mut seen = Vec::new();
                for (piece, inside) in set.pieces(3..90) {
                    prop_assert_eq!(piece.start, seen.len() as u64 + 3);
                    seen.extend(piece.map(|_| inside));
                }
                prop_assert_eq!(&seen[..], &model[3..90]);
            }
        }
    }
}
