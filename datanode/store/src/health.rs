//! Whether a volume works: found out by a thread that writes, syncs and reads a small file, while a clock watches it.
//!
//! A disk may fail loudly, or simply not answer. So nobody waits for a check longer than a moment: a check that takes long
//! makes the volume *stalled* (nothing new is put on it), and one that takes too long makes it failed.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::volume::Volume;

/// A check that takes longer than this makes the volume stalled, unless less is allowed for all of it.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// The check of a volume that is under way, and what checks found.
pub(crate) struct Health {
    check: Mutex<Check>,
    ended: Condvar,
    /// How long a check may take before the volume counts as failed.
    timeout: Duration,
}

#[derive(Default)]
struct Check {
    begun: Option<Instant>,
    /// Why the volume cannot be used; never taken back.
    trouble: Option<String>,
}

impl Health {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { check: Mutex::default(), ended: Condvar::new(), timeout }
    }

    /// Whether a check has been under way for so long that nothing new should be put on the volume.
    pub(crate) fn is_stalled(&self) -> bool {
        let limit = STALLED_AFTER.min(self.timeout / 2);
        self.check.lock().begun.is_some_and(|begun| begun.elapsed() >= limit)
    }

    /// Why the volume cannot be used, as far as that is known after waiting `patience` for a check that is under way.
    pub(crate) fn verdict(&self, patience: Duration) -> Option<String> {
        let until = Instant::now() + patience;
        let mut check = self.check.lock();
        while check.begun.is_some() && !self.ended.wait_until(&mut check, until).timed_out() {}
        if let Some(why) = &check.trouble {
            return Some(why.clone());
        }
        let taken = check.begun?.elapsed();
        (taken >= self.timeout).then(|| format!("it has not answered for {} s", taken.as_secs()))
    }

    fn end(&self, trouble: Option<String>) {
        let mut check = self.check.lock();
        check.begun = None;
        check.trouble = check.trouble.take().or(trouble);
        self.ended.notify_all();
    }
}

impl Volume {
    /// Begins a check; false if one is under way.
    pub(crate) fn begin_check(self: &Arc<Self>) -> bool {
        {
            let mut check = self.health.check.lock();
            if check.begun.is_some() {
                return false;
            }
            check.begun = Some(Instant::now());
        }
        let volume = self.clone();
        let checking = thread::Builder::new()
            .name(format!("check-{}", self.index))
            .spawn(move || volume.health.end(volume.examine().err()));
        if checking.is_err() {
            // No thread to be had: it is found out here.
            self.health.end(self.examine().err());
        }
        true
    }

    /// Why the volume does not work, if a check that begins now finds that out within `patience`.
    pub(crate) fn check_now(self: &Arc<Self>, patience: Duration) -> Option<String> {
        if !self.begin_check() {
            // One that began earlier may have passed before the trouble did.
            if let Some(why) = self.health.verdict(patience) {
                return Some(why);
            }
            self.begin_check();
        }
        self.health.verdict(patience)
    }
}
