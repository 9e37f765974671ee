//! Which orders to delete and to copy a datanode may not have heard: those that went with an answer to a heartbeat that was lost.
//!
//! A datanode numbers its heartbeats, and says in each which was the last that it has an answer to.

use std::collections::VecDeque;

use steadfs_common::BlockId;

use super::work::Copy;

/// Orders of one life of a datanode, each with the number of the heartbeat that it answered.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    /// The number of the last heartbeat.
    last: u64,
    /// In the order of their numbers. No more than orders to delete that are out.
    orders: VecDeque<(u64, BlockId)>,
    /// In the order of their numbers. No more than copies that are under way.
    copies: VecDeque<(u64, Copy)>,
    bandwidth: Option<(u64, u64)>,
}

impl Unheard {
    /// Takes the number of a heartbeat, and that of the last one before it whose answer arrived. False for one that came
    /// late or twice: nobody waits for its answer.
    pub(super) fn take(&mut self, number: u64, answered: u64) -> bool {
        // A datanode of before does not number them.
        if number == 0 {
            return true;
        }
        if number <= self.last {
            return false;
        }
        self.last = number;
        while self.orders.front().is_some_and(|(of, _)| *of <= answered) {
            self.orders.pop_front();
        }
        while self.copies.front().is_some_and(|(of, _)| *of <= answered) {
            self.copies.pop_front();
        }
        self.bandwidth = self.bandwidth.filter(|(of, _)| *of > answered);
        true
    }

    /// An order went with the answer to the last heartbeat.
    pub(super) fn sent(&mut self, block: BlockId) {
        if self.last > 0 {
            self.orders.push_back((self.last, block));
        }
    }

    /// The next order that an earlier answer took along, and that was not heard.
    pub(super) fn next(&mut self) -> Option<BlockId> {
        self.orders.pop_front_if(|(of, _)| *of < self.last).map(|(_, block)| block)
    }

    /// An order to copy went with the answer to the last heartbeat.
    pub(super) fn sent_copy(&mut self, copy: Copy) {
        if self.last > 0 {
            self.copies.push_back((self.last, copy));
        }
    }

    /// As [`Self::next`], of copies.
    pub(super) fn next_copy(&mut self) -> Option<Copy> {
        self.copies.pop_front_if(|(of, _)| *of < self.last).map(|(_, copy)| copy)
    }

    /// The bandwidth of moves went with the answer to the last heartbeat.
    pub(super) fn sent_bandwidth(&mut self, bytes_per_second: u64) {
        self.bandwidth = Some((self.last, bytes_per_second)).filter(|_| self.last > 0);
    }

    /// The bandwidth, if it was not heard.
    pub(super) fn next_bandwidth(&mut self) -> Option<u64> {
        self.bandwidth.take_if(|(of, _)| *of < self.last).map(|(_, bytes)| bytes)
    }
}

#[cfg(test)]
impl Unheard {
    pub(super) fn len(&self) -> usize {
        self.orders.len() + self.copies.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(unheard: &mut Unheard) -> Vec<u64> {
        std::iter::from_fn(|| unheard.next()).map(|block| block.0).collect()
    }

    #[test]
    fn what_went_with_a_lost_answer_comes_again() {
        let mut unheard = Unheard::default();
        assert!(unheard.take(1, 0));
        unheard.sent(BlockId(10));
        unheard.sent(BlockId(11));
        assert_eq!(all(&mut unheard), [0_u64; 0], "they are on their way");
        assert!(unheard.take(2, 0));
        assert_eq!(all(&mut unheard), [10, 11]);
        unheard.sent(BlockId(11));
        assert!(!unheard.take(1, 0) && !unheard.take(2, 0), "late, and twice");
        assert!(unheard.take(3, 2));
        assert_eq!(all(&mut unheard), [0_u64; 0], "it was heard");
    }

    #[test]
    fn a_datanode_that_does_not_number_them_is_believed() {
        let mut unheard = Unheard::default();
        assert!(unheard.take(0, 0));
        unheard.sent(BlockId(10));
        assert!(unheard.take(0, 0));
        assert_eq!(unheard.next(), None);
    }
}
