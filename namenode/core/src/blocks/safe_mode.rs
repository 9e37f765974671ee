//! Safe mode: nothing changes until enough blocks are known to be there.

use std::time::Duration;

use steadfs_common::{Millis, SAFE_MODE_ENDS};

/// When safe mode ends by itself.
#[derive(Clone, Copy, Debug)]
pub struct SafeModeSettings {
    /// The share of complete blocks, 0 to 1, that must have enough replicas.
    pub threshold: f64,
    /// How many datanodes must be live.
    pub min_datanodes: usize,
    /// How long both must hold.
    pub extension: Duration,
}

/// What safe mode is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SafeCounts {
    /// Complete blocks in the namespace.
    pub total: u64,
    /// Those with enough live replicas.
    pub safe: u64,
    /// Live datanodes.
    pub datanodes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Off,
    /// Since the start: ends by itself. With when the counts began to suffice.
    Startup {
        since: Option<Millis>,
    },
    /// Until an operator says otherwise.
    Manual,
}

/// Whether changes are refused.
#[derive(Clone, Debug)]
pub struct SafeMode {
    settings: SafeModeSettings,
    state: State,
    /// The namenode's own disk has too little room for changes.
    low: bool,
    seen: SafeCounts,
}

impl SafeMode {
    /// On, as after every start.
    #[must_use]
    pub const fn starting(settings: SafeModeSettings) -> Self {
        Self {
            settings,
            state: State::Startup { since: None },
            low: false,
            seen: SafeCounts { total: 0, safe: 0, datanodes: 0 },
        }
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.low || self.state != State::Off
    }

    /// An operator turns it on or off.
    pub const fn set(&mut self, on: bool) {
        self.state = if on { State::Manual } else { State::Off };
    }

    /// The namenode's own disk runs low: on, whatever else holds, until there is room again.
    pub const fn set_low_resources(&mut self, low: bool) {
        self.low = low;
    }

    /// How many blocks the threshold asks for: rounded down as HDFS does, so that one lost block of a small cluster does
    /// not keep it shut, but never none.
    fn needed(&self) -> u64 {
        let share = (self.seen.total as f64 * self.settings.threshold) as u64;
        share.max(u64::from(self.seen.total > 0 && self.settings.threshold > 0.0))
    }

    fn suffices(&self) -> bool {
        self.seen.safe >= self.needed() && self.seen.datanodes >= self.settings.min_datanodes
    }

    /// Looks at the counts; true if safe mode ended just now. An empty cluster does not wait for the extension: nothing
    /// could be reported during it.
    pub fn check(&mut self, counts: SafeCounts, now: Millis) -> bool {
        self.seen = counts;
        let State::Startup { since } = self.state else { return false };
        if !self.suffices() {
            self.state = State::Startup { since: None };
            return false;
        }
        let began = since.unwrap_or(now);
        let over = now.since(began) >= self.settings.extension || counts.total == 0;
        self.state = if over { State::Off } else { State::Startup { since: Some(began) } };
        over && !self.low
    }

    /// Why it is on, in HDFS's words; none if it is off.
    #[must_use]
    pub fn reason(&self, now: Millis) -> Option<String> {
        if self.low {
            return Some(
                "Resources are low on NN. Please add or free up more resources. Safe mode will be turned off automatically \
                 once there is room in data_dirs again. NOTE:  If you turn off safe mode before adding resources, the NN will \
                 stay in safe mode."
                    .into(),
            );
        }
        let since = match self.state {
            State::Off => return None,
            State::Manual => {
                return Some(
                    "It was turned on manually. Use \"hdfs dfsadmin -safemode leave\" or \"steadfs admin safemode leave\" \
                     to turn safe mode off."
                        .into(),
                );
            }
            State::Startup { since } => since,
        };
        let SafeCounts { total, safe, datanodes } = self.seen;
        let (threshold, least) = (self.settings.threshold, self.settings.min_datanodes);
        let blocks = if safe < self.needed() {
            let more = self.needed() - safe;
            format!(
                "The reported blocks {safe} has not reached the threshold {threshold:.4} of total blocks {total}: \
                 {more} more are needed."
            )
        } else {
            format!(
                "The reported blocks {safe} has reached the threshold {threshold:.4} of total blocks {total}."
            )
        };
        let nodes = if datanodes < least {
            format!(
                "The number of live datanodes {datanodes} needs an additional {} live datanodes to reach the minimum \
                 number {least}.",
                least - datanodes
            )
        } else {
            format!("The number of live datanodes {datanodes} has reached the minimum number {least}.")
        };
        let end = match since {
            Some(began) => {
                let left =
                    self.settings.extension.saturating_sub(now.since(began)).as_millis().div_ceil(1_000);
                format!("In safe mode extension. {SAFE_MODE_ENDS} in {left} seconds.")
            }
            None => format!("{SAFE_MODE_ENDS} once the thresholds have been reached."),
        };
        Some(format!("{blocks} {nodes} {end}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starting() -> SafeMode {
        SafeMode::starting(SafeModeSettings {
            threshold: 0.9,
            min_datanodes: 1,
            extension: Duration::from_secs(5),
        })
    }

    const fn counts(safe: u64) -> SafeCounts {
        SafeCounts { total: 10, safe, datanodes: 1 }
    }

    #[test]
    fn it_ends_when_the_counts_have_held_for_the_extension() {
        let mut mode = starting();
        assert!(!mode.check(counts(8), Millis(0)));
        let reason = mode.reason(Millis(0)).unwrap();
        assert!(
            reason
                .starts_with("The reported blocks 8 has not reached the threshold 0.9000 of total blocks 10")
        );
        assert!(!mode.check(counts(9), Millis(1_000)));
        assert!(mode.reason(Millis(2_500)).unwrap().contains("turned off automatically in 4 seconds"));
        assert!(!mode.check(counts(8), Millis(5_000)), "a loss starts it again");
        assert!(!mode.check(counts(9), Millis(6_000)));
        assert!(!mode.check(counts(9), Millis(10_999)));
        assert!(mode.check(counts(9), Millis(11_000)));
        assert_eq!(mode.reason(Millis(11_000)), None);
        assert!(!mode.check(counts(0), Millis(12_000)), "it does not come back by itself");
        assert!(!mode.is_on());
    }

    #[test]
    fn datanodes_are_waited_for_and_an_empty_cluster_is_not() {
        let mut mode = starting();
        assert!(!mode.check(SafeCounts { total: 0, safe: 0, datanodes: 0 }, Millis(0)));
        assert!(mode.reason(Millis(0)).unwrap().contains("needs an additional 1 live datanodes"));
        assert!(mode.check(SafeCounts { total: 0, safe: 0, datanodes: 1 }, Millis(0)));
    }

    #[test]
    fn a_full_disk_keeps_it_on_and_forgets_nothing() {
        let mut mode = starting();
        assert!(mode.check(counts(10), Millis(0)) || mode.check(counts(10), Millis(9_000)));
        mode.set_low_resources(true);
        assert!(mode.is_on());
        mode.set(false);
        assert!(mode.is_on() && mode.reason(Millis(0)).unwrap().starts_with("Resources are low on NN."));
        mode.set_low_resources(false);
        assert!(!mode.is_on(), "it goes by itself");
        mode.set(true);
        mode.set_low_resources(true);
        mode.set_low_resources(false);
        assert!(
            mode.reason(Millis(0)).unwrap().contains("turned on manually"),
            "what an operator wants stays"
        );
    }

    #[test]
    fn an_operator_has_the_last_word() {
        let mut mode = starting();
        mode.set(true);
        assert!(!mode.check(counts(10), Millis(99_000)));
        assert!(mode.reason(Millis(99_000)).unwrap().contains("turned on manually"));
        mode.set(false);
        assert!(!mode.is_on());
    }
}
