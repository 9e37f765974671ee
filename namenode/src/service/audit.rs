//! What is kept of each call: a line in the log, numbers, and for a while the last changes.

use std::collections::VecDeque;
use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use steadfs_common::{FsErrorKind, FsResult};
use steadfs_daemon::clock::SharedClock;
use steadfs_namenode_core::Caller;

use super::metrics::Metrics;
use super::types::RecentOperation;

/// Changes shown on the status page.
const RECENT: usize = 100;
/// Characters of a path or message that are kept of it.
const SHOWN_CHARS: usize = 200;

/// A call that is going on.
pub(crate) struct Started {
    at: Duration,
}

/// Notes every call once it has ended.
pub(crate) struct Audit {
    clock: SharedClock,
    pub(crate) metrics: Metrics,
    recent: Mutex<VecDeque<RecentOperation>>,
}

impl Audit {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self { clock, metrics: Metrics::default(), recent: Mutex::default() }
    }

    pub(crate) fn start(&self) -> Started {
        Started { at: self.clock.monotonic() }
    }

    /// A question was answered. Questions are logged at `debug`, refused ones at `info`.
    pub(crate) fn asked<T>(
        &self,
        started: &Started,
        operation: &'static str,
        caller: &Caller,
        path: &dyn Display,
        result: &FsResult<T>,
    ) {
        let took = self.ended(started, operation, result);
        let (user, address) = (&caller.user, Address(caller.address));
        match result {
            Err(error) if error.kind() == FsErrorKind::AccessDenied => {
                tracing::info!(target: "audit", operation, user, %address, %path, allowed = false, %error);
            }
            Err(error) => {
                tracing::debug!(target: "audit", operation, user, %address, %path, ?took, %error);
            }
            Ok(_) => tracing::debug!(target: "audit", operation, user, %address, %path, ?took),
        }
    }

    /// A change was made or refused. Changes are logged at `info`.
    pub(crate) fn changed<T>(
        &self,
        started: &Started,
        operation: &'static str,
        caller: &Caller,
        path: &dyn Display,
        result: &FsResult<T>,
    ) {
        let took = self.ended(started, operation, result);
        let (user, address) = (&caller.user, Address(caller.address));
        match result {
            Ok(_) => tracing::info!(target: "audit", operation, user, %address, %path, ?took),
            Err(error) => {
                let allowed = error.kind() != FsErrorKind::AccessDenied;
                tracing::info!(target: "audit", operation, user, %address, %path, ?took, allowed, %error);
            }
        }
        self.keep(RecentOperation {
            at: self.clock.now(),
            operation,
            user: shown(user),
            address: caller.address,
            path: shown(path),
            error: result.as_ref().err().map(|error| shown(&error.message())),
            took,
        });
    }

    fn ended<T>(&self, started: &Started, operation: &'static str, result: &FsResult<T>) -> Duration {
        let took = self.clock.monotonic().saturating_sub(started.at);
        self.metrics.called(operation, if result.is_ok() { "ok" } else { "error" }, took);
        took
    }

    fn keep(&self, operation: RecentOperation) {
        let mut recent = self.recent.lock();
        if recent.len() == RECENT {
            recent.pop_back();
        }
        recent.push_front(operation);
    }

    /// The last changes, newest first.
    pub(crate) fn recent(&self) -> Vec<RecentOperation> {
        self.recent.lock().iter().cloned().collect()
    }
}

struct Address(Option<IpAddr>);

impl Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("-"),
        }
    }
}

fn shown(text: &dyn Display) -> String {
    let text = text.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
