//! The only place that reads the time of day.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// The machine's clock.
pub struct SystemClock {
    started: Instant,
    latest: AtomicU64,
}

impl SystemClock {
    /// The machine's clock, ready to be shared.
    #[must_use]
    pub fn shared() -> SharedClock {
        Arc::new(Self { started: Instant::now(), latest: AtomicU64::new(0) })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        let read = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Millis(self.latest.fetch_max(read, Ordering::Relaxed).max(read))
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
        let clock = SystemClock { started: Instant::now(), latest: AtomicU64::new(u64::MAX - 1) };
        assert_eq!(clock.now(), Millis(u64::MAX - 1), "the machine's clock was set back by ages");
        assert!(SystemClock::shared().now() > Millis(1_600_000_000_000));
    }

    #[test]
    fn a_manual_clock_moves_when_told() {
        let clock = ManualClock::shared(Millis(1_000));
        clock.advance(Duration::from_millis(5));
        clock.set(Millis(7));
        assert_eq!((clock.now(), clock.monotonic()), (Millis(7), Duration::from_millis(5)));
    }
}
