//! The numbers of heartbeats: by them the namenode knows which of its answers arrived, and repeats the orders of the others.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the heartbeats of one life. They are sent one after the other.
#[derive(Debug, Default)]
pub(crate) struct Beats {
    sent: AtomicU64,
    answered: AtomicU64,
}

impl Beats {
    /// The number of the next heartbeat, and that of the last whose answer was taken (0 for none).
    pub(crate) fn next(&self) -> (u64, u64) {
        (self.sent.fetch_add(1, Ordering::Relaxed) + 1, self.answered.load(Ordering::Relaxed))
    }

    /// The answer to the last heartbeat has arrived, and its orders are taken.
    pub(crate) fn taken(&self) {
        self.answered.store(self.sent.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_once_it_is_taken() {
        let beats = Beats::default();
        assert_eq!((beats.next(), beats.next()), ((1, 0), (2, 0)));
        beats.taken();
        assert_eq!(beats.next(), (3, 2));
    }
}
