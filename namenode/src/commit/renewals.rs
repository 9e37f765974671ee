//! When each writer was heard of last. Kept in memory: after a restart every lease is fresh.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::RwLock;
use steadfs_common::Millis;

/// Holders of leases and when they renewed last.
///
/// Only holders of leases are in it, so it is bounded by the files being written: a holder enters with its first lease,
/// or when the lease monitor meets its lease after a restart; the monitor drops those it no longer meets.
#[derive(Default)]
pub(crate) struct Renewals {
    holders: RwLock<BTreeMap<String, Millis>>,
}

impl Renewals {
    /// A holder got a lease.
    pub(crate) fn started(&self, holder: &str, now: Millis) {
        self.holders.write().insert(holder.to_owned(), now);
    }

    /// A holder renewed all its leases. One that has none is not remembered.
    pub(crate) fn renewed(&self, holder: &str, now: Millis) {
        if let Some(last) = self.holders.write().get_mut(holder) {
            *last = now.max(*last);
        }
    }

    /// The monitor met a lease of this holder: fresh, if nothing is known of it.
    pub(crate) fn met(&self, holder: &str, now: Millis) {
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
    use super::*;

    #[test]
    fn only_holders_of_leases_are_kept() {
        let renewals = Renewals::default();
        renewals.renewed("nobody", Millis(1));
        assert_eq!(renewals.len(), 0);
        renewals.started("one", Millis(1));
        renewals.met("two", Millis(2));
        renewals.met("one", Millis(2));
        renewals.renewed("two", Millis(5));
        renewals.renewed("two", Millis(4));
        let seen = renewals.with(BTreeMap::clone);
        assert_eq!(seen, BTreeMap::from([("one".into(), Millis(1)), ("two".into(), Millis(5))]));
        renewals.started("new", Millis(9));
        renewals.keep(&BTreeSet::from(["two".to_owned()]), Millis(8));
        assert_eq!(renewals.with(|holders| holders.keys().cloned().collect::<Vec<_>>()), ["new", "two"]);
    }
}
