//! Waiting longer each time.

use std::time::Duration;

/// Waits that double up to a bound, each between a half and the whole of its step, so that clients which failed together
/// do not come back together.
pub(crate) struct Backoff {
    step: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { step: first, longest }
    }

    pub(crate) fn next_wait(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(self.longest);
        let (low, _) = uuid::Uuid::new_v4().as_u64_pair();
        step / 2 + (step / 2).mul_f64((low % 1_000) as f64 / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_bounds() {
        let mut waits = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        for step in [100, 200, 300, 300] {
            let wait = waits.next_wait().as_millis();
            assert!((step / 2..=step).contains(&wait), "{wait} for {step}");
        }
    }
}
