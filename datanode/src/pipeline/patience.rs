//! When a node gives up the one behind it although the connection stands: that acks nothing, or far too late, what this node
//! itself has done long ago.
//!
//! Time is counted in ticks that were seen to pass: a process or a machine that stood still for a minute has lived one tick.
//! Each node above the slow one waits for two more ticks, so that the one right before it speaks first and the right one is
//! blamed.

use std::time::Duration;

use tokio::time::Instant;

/// Ticks without any ack.
const STALLED: u32 = 10;
/// So many times as long, where the packet is to be on disk before it is acked, and for packets that are acked at last.
const SLOW: u32 = 3;
/// More ticks for each further node.
const PER_NODE: u32 = 2;

/// What this node has done and those below have not acked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Awaited {
    /// The first such packet.
    pub(super) oldest: i64,
    /// The last one.
    pub(super) newest: i64,
    /// Something under way is to be on disk before it is acked.
    pub(super) to_disk: bool,
}

/// How long the nodes below have been waited for.
#[derive(Debug)]
pub(super) struct Patience {
    tick: Duration,
    due: Instant,
    /// Ticks more because of the nodes below the next one.
    more: u32,
    /// The first packet that was waited for, and for how many ticks.
    oldest: (i64, u32),
    /// A packet that was the last one when it was chosen, and the ticks since.
    marked: Option<(i64, u32)>,
}

impl Patience {
    /// For a node with `depth` nodes below. Those may take `stall` until they count as stalled.
    pub(super) fn new(stall: Duration, depth: usize) -> Self {
        let tick = stall / STALLED;
        let more = PER_NODE.saturating_mul(u32::try_from(depth).unwrap_or(u32::MAX));
        Self { tick, due: Instant::now() + tick, more, oldest: (-1, 0), marked: None }
    }

    /// When to look next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Looks, if it is time. Why the next node is to be given up, if so.
    pub(super) fn look(&mut self, awaited: Option<Awaited>) -> Option<&'static str> {
        let now = Instant::now();
        if now < self.due {
            return None;
        }
        self.due = now + self.tick;
        let Some(Awaited { oldest, newest, to_disk }) = awaited else {
            (self.oldest, self.marked) = ((-1, 0), None);
            return None;
        };
        let same = |ticks: u32| ticks.saturating_add(1);
        self.oldest = (oldest, if self.oldest.0 == oldest { same(self.oldest.1) } else { 0 });
        self.marked = match self.marked {
            Some((packet, ticks)) if packet >= oldest => Some((packet, same(ticks))),
            _ => Some((newest, 0)),
        };
        let stalled = if to_disk { STALLED * SLOW } else { STALLED };
        if self.oldest.1 >= stalled.saturating_add(self.more) {
            return Some("it acks nothing of what this node has done long ago");
        }
        let late = self.marked.is_some_and(|(_, ticks)| ticks >= (STALLED * SLOW).saturating_add(self.more));
        late.then_some("it is far slower than this node")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(10);

    fn awaited(oldest: i64, newest: i64) -> Option<Awaited> {
        Some(Awaited { oldest, newest, to_disk: false })
    }

    /// Looks once a second; the seconds until the next node is given up.
    async fn seconds(patience: &mut Patience, mut at: impl FnMut(i64) -> Option<Awaited>) -> Option<i64> {
        for second in 1..200 {
            tokio::time::advance(Duration::from_secs(1)).await;
            if patience.look(at(second)).is_some() {
                return Some(second);
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn who_acks_nothing_is_given_up_by_the_node_before_it() {
        let last = seconds(&mut Patience::new(STALL, 1), |_| awaited(3, 80)).await.unwrap();
        let first = seconds(&mut Patience::new(STALL, 2), |_| awaited(3, 80)).await.unwrap();
        assert_eq!((last, first), (13, 15));
        let to_disk = |_| Some(Awaited { oldest: 3, newest: 3, to_disk: true });
        assert_eq!(seconds(&mut Patience::new(STALL, 1), to_disk).await, Some(33));
    }

    #[tokio::test(start_paused = true)]
    async fn who_lags_far_behind_is_given_up_and_who_keeps_up_is_not() {
        // A packet a second, and eighty under way.
        let slow = seconds(&mut Patience::new(STALL, 1), |second| awaited(second, second + 80)).await;
        assert_eq!(slow, Some(33));
        assert_eq!(seconds(&mut Patience::new(STALL, 1), |second| awaited(second, second + 20)).await, None);
        // This node is the slower one: there is nothing that it has done and the next one has not.
        assert_eq!(seconds(&mut Patience::new(STALL, 1), |_| None).await, None);
        // It lags now and then.
        let at = |second| if second % 9 == 0 { None } else { awaited(second / 9, second / 9) };
        assert_eq!(seconds(&mut Patience::new(STALL, 1), at).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_stood_still_blames_nobody() {
        let mut patience = Patience::new(STALL, 1);
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(600)).await;
            assert_eq!(patience.look(awaited(1, 1)), None);
        }
        assert_eq!(patience.look(awaited(1, 1)), None, "no time has passed");
    }
}
