//! What a driver tells: one line for a person, or JSON for `scripts/bench`.

use std::time::Duration;

use serde_json::{Value, json};

/// The `percent`th of times in order.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// Calls that were made within a time.
pub(crate) struct Calls {
    /// How long each took, in order.
    pub(crate) times: Vec<Duration>,
    /// How long all of them took together.
    pub(crate) took: Duration,
}

impl Calls {
    pub(crate) fn new(mut times: Vec<Duration>, took: Duration) -> Self {
        times.sort_unstable();
        Self { times, took }
    }

    pub(crate) fn rate(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64().max(1e-9)
    }

    pub(crate) fn json(&self) -> Value {
        let micros = |percent| percentile(&self.times, percent).as_secs_f64() * 1e6;
        json!({
            "calls": self.times.len(),
            "seconds": self.took.as_secs_f64(),
            "calls_per_s": self.rate(),
            "p50_us": micros(50),
            "p99_us": micros(99),
        })
    }
}

/// Bytes that were moved within a time.
pub(crate) fn moved(bytes: u64, took: Duration) -> Value {
    let seconds = took.as_secs_f64();
    json!({ "bytes": bytes, "seconds": seconds, "gb_per_s": bytes as f64 / seconds.max(1e-9) / 1e9 })
}
