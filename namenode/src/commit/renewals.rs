//! When each writer was heard of last. Kept in memory: after a restart every lease is fresh.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::RwLock;
use steadfs_common::Millis;
use steadfs_daemon::clock::SharedClock;

/// Holders of leases and when they renewed last.
///
/// The times are of the clock that nobody sets: if the time of day jumps, no lease ends.
///
/// Only holders of leases are in it, so it is bounded by the files being written: a holder enters with its first lease,
/// or when the lease monitor meets its lease after a restart; the monitor drops those it no longer meets.
pub(crate) struct Renewals {
    clock: SharedClock,
    /// The time of day when this process began.
    began: Millis,
    holders: RwLock<BTreeMap<String, Millis>>,
}

impl Renewals {
    pub(crate) fn new(clock: SharedClock) -> Self {
        let began = Millis(clock.now().0.saturating_sub(clock.monotonic().as_millis() as u64));
        Self { clock, began, holders: RwLock::default() }
    }

    /// The time by which renewals are noted.
    pub(crate) fn now(&self) -> Millis {
        Millis(0).plus(self.clock.monotonic())
    }

    /// The time of day by which saved answers expire: no jump of the machine's moves it.
    pub(crate) fn even(&self) -> Millis {
        self.began.plus(self.clock.monotonic())
    }

    /// A holder got a lease.
    pub(crate) fn started(&self, holder: &str) {
        let now = self.now();
        self.holders.write().insert(holder.to_owned(), now);
    }

    /// A holder renewed all its leases. One that has none is not remembered.
    pub(crate) fn renewed(&self, holder: &str) {
        let now = self.now();
        if let Some(last) = self.holders.write().get_mut(holder) {
            *last = now.max(*last);
        }
    }

    /// The monitor met a lease of this holder: fresh, if nothing is known of it.
    pub(crate) fn met(&self, holder: &str) {
        let now = self.now();
        self.holders.write().entry(holder.to_owned()).or_insert(now);
    }

    /// The monitor met leases of these holders, and of no others since `began`.
    pub(crate) fn keep(&self, met: &BTreeSet<String>, began: Millis) {
        self.holders.write().retain(|holder, last| met.contains(holder) || *last >= began);
    }

    /// Runs `read` over all holders; renewals wait meanwhile.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&BTreeMap<String, Millis>) -> T) -> T {
        read(&self.holders.read())
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.holders.read().len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use steadfs_daemon::clock::ManualClock;

    use super::*;

    #[test]
    fn only_holders_of_leases_are_kept() {
        let clock = ManualClock::shared(Millis(1_000));
        let second = || clock.advance(Duration::from_secs(1));
        let renewals = Renewals::new(clock.clone());
        renewals.renewed("nobody");
        assert_eq!(renewals.len(), 0);
        renewals.started("one");
        second();
        renewals.met("two");
        renewals.met("one");
        second();
        renewals.renewed("two");
        clock.set(Millis(9_999_999));
        renewals.renewed("two");
        let seen = renewals.with(BTreeMap::clone);
        assert_eq!(seen, BTreeMap::from([("one".into(), Millis(0)), ("two".into(), Millis(2_000))]));
        second();
        let began = renewals.now();
        renewals.started("new");
        renewals.keep(&BTreeSet::from(["two".to_owned()]), began);
        assert_eq!(renewals.with(|holders| holders.keys().cloned().collect::<Vec<_>>()), ["new", "two"]);
    }
}
