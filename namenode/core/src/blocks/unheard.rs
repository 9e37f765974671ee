//! Which orders to delete a datanode may not have heard: those that went with an answer to a heartbeat that was lost.
//!
//! A datanode numbers its heartbeats, and says in each which was the last that it has an answer to.

use std::collections::VecDeque;

use steadfs_common::BlockId;

/// Orders of one life of a datanode, each with the number of the heartbeat that it answered.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    /// The number of the last heartbeat.
    last: u64,
    /// In the order of their numbers. No more than orders to delete that are out.
    orders: VecDeque<(u64, BlockId)>,
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
