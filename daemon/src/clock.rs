//! The only place that reads the time of day.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use steadfs_common::Millis;

/// Tells the time. Daemons take one at their start and hand it down.
pub trait Clock: Send + Sync + 'static {
    /// The time of day. Never goes back while the process lives, even if the machine's clock does.
    fn now(&self) -> Millis;

    /// Time since some fixed moment, for spans: it counts at the rate of a clock that nobody sets.
    fn monotonic(&self) -> Duration;
}

/// A clock as it is shared.
pub type SharedClock = Arc<dyn Clock>;

/// Of the time that the machine's clock was set back by, the part by which ours goes slower until they agree again.
const SLOWER_BY: u64 = 2;

/// The machine's clock.
///
/// Set back, it would stand still in ours until it has caught up: for an hour, if somebody mended an hour's error. So
/// ours goes on meanwhile at half the speed, and they agree again after twice the span.
pub struct SystemClock {
    started: Instant,
    told: Mutex<Told>,
}

/// What was told last: the time of day, and when that was.
#[derive(Clone, Copy, Default)]
struct Told {
    day_ms: u64,
    passed_ms: u64,
}

impl Told {
    /// The time to tell when the machine's clock says `read`, and `passed` is on the clock that nobody sets. Never less
    /// than before.
    fn next(self, read: u64, passed: u64) -> Self {
        if read >= self.day_ms {
            return Self { day_ms: read, passed_ms: passed };
        }
        let steps = passed.saturating_sub(self.passed_ms) / SLOWER_BY;
        // What is left of a step stays to be counted.
        Self { day_ms: self.day_ms + steps, passed_ms: self.passed_ms + steps * SLOWER_BY }
    }
}

impl SystemClock {
    /// The machine's clock, ready to be shared.
    #[must_use]
    pub fn shared() -> SharedClock {
        Arc::new(Self { started: Instant::now(), told: Mutex::default() })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        let read = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let passed = self.started.elapsed().as_millis() as u64;
        let mut told = self.told.lock();
        *told = told.next(read, passed);
        Millis(told.day_ms)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that moves only when it is told to, for tests.
#[derive(Default)]
pub struct ManualClock {
    epoch_ms: AtomicU64,
    passed_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn shared(now: Millis) -> Arc<Self> {
        Arc::new(Self { epoch_ms: AtomicU64::new(now.0), passed_ms: AtomicU64::new(0) })
    }

    /// Lets `span` pass.
    pub fn advance(&self, span: Duration) {
        let span = span.as_millis() as u64;
        self.epoch_ms.fetch_add(span, Ordering::Relaxed);
        self.passed_ms.fetch_add(span, Ordering::Relaxed);
    }

    /// Sets the time of day, also backwards, as an operator may; [`Clock::monotonic`] does not move.
    pub fn set(&self, now: Millis) {
        self.epoch_ms.store(now.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Millis {
        Millis(self.epoch_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.passed_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_never_goes_back() {
        let ages = Told { day_ms: u64::MAX / 2, passed_ms: 0 };
        let clock = SystemClock { started: Instant::now(), told: Mutex::new(ages) };
        assert!(clock.now() >= Millis(u64::MAX / 2), "the machine's clock was set back by ages");
        assert!(SystemClock::shared().now() > Millis(1_600_000_000_000));
    }

    #[test]
    fn a_clock_set_back_is_caught_up_with_while_time_goes_on() {
        let (hour, start) = (3_600_000, 10_000_000);
        let mut told = Told { day_ms: start + hour, passed_ms: 0 };
        let mut last = told.day_ms;
        for passed in 1..=2 * hour {
            told = told.next(start + passed, passed);
            assert!(told.day_ms >= last, "it went back");
            assert!(told.day_ms - last <= 1, "it jumped");
            last = told.day_ms;
        }
        assert_eq!(last, start + 2 * hour, "they agree again");
        // And from then on it is the machine's clock, forward jumps too.
        assert_eq!(told.next(start + 9 * hour, 2 * hour + 1).day_ms, start + 9 * hour);
    }

    #[test]
    fn a_manual_clock_moves_when_told() {
        let clock = ManualClock::shared(Millis(1_000));
        clock.advance(Duration::from_millis(5));
        clock.set(Millis(7));
        assert_eq!((clock.now(), clock.monotonic()), (Millis(7), Duration::from_millis(5)));
    }
}
