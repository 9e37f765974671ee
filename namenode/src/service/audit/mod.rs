//! What is kept of each call: a line of the audit log, numbers, and for a while the last changes.
//!
//! The line is HDFS's own ([`line`]), under HDFS's names ([`names`]). With a file of its own the log has everything; in
//! the process's log (target `audit`) changes and refusals are at `info`, questions at `debug`.

mod file;
pub(super) mod line;
mod names;

use std::collections::VecDeque;
use std::fmt::Display;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use steadfs_common::{FsErrorKind, FsResult};
use steadfs_daemon::clock::SharedClock;
use steadfs_namenode_core::Caller;
use steadfs_namenode_core::command::Door;

use super::metrics::Metrics;
use super::types::RecentOperation;
use crate::config::AuditConfig;
use file::LogFile;
use line::Line;
use names::{Named, When, named};

/// Changes shown on the status page.
const RECENT: usize = 100;
/// Characters of a path or message that are kept of it.
const SHOWN_CHARS: usize = 200;

/// A call that is going on.
pub(crate) struct Started {
    at: Duration,
}

/// What a change was about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    pub(crate) source: String,
    pub(crate) destination: Option<String>,
    /// Owner, group and mode of what it left, if HDFS writes them.
    pub(crate) permission: Option<String>,
    /// What stands behind the operation's name.
    pub(crate) options: &'static str,
}

/// Notes every call once it has ended.
pub(crate) struct Audit {
    clock: SharedClock,
    pub(crate) metrics: Metrics,
    recent: Mutex<VecDeque<RecentOperation>>,
    file: Option<LogFile>,
    with_context: bool,
}

impl Audit {
    /// Opens the log.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn new(clock: SharedClock, config: &AuditConfig) -> std::io::Result<Self> {
        let named = Some(&config.file).filter(|path| !path.as_os_str().is_empty());
        let file = named.map(|path| LogFile::open(path)).transpose()?;
        Ok(Self {
            clock,
            metrics: Metrics::default(),
            recent: Mutex::default(),
            file,
            with_context: config.caller_context,
        })
    }

    pub(crate) fn start(&self) -> Started {
        Started { at: self.clock.monotonic() }
    }

    /// A question was answered.
    pub(crate) fn asked<T>(
        &self,
        started: &Started,
        operation: &'static str,
        caller: &Caller,
        path: &dyn Display,
        result: &FsResult<T>,
    ) {
        let took = self.ended(started, operation, result);
        let denied = is_denied(result);
        let Some(named) = self.wants(operation, caller, result.is_ok(), denied, denied) else { return };
        let source = path.to_string();
        let line = self.line(&named, caller, !denied, named.about_a_path.then_some(&source));
        match &self.file {
            Some(file) => file.write(self.clock.now(), &line),
            None if denied => tracing::info!(target: "audit", ?took, "{line}"),
            None => tracing::debug!(target: "audit", ?took, "{line}"),
        }
    }

    /// A change was made or refused.
    pub(crate) fn changed<T>(
        &self,
        started: &Started,
        operation: &'static str,
        caller: &Caller,
        path: &dyn Display,
        result: &FsResult<T>,
    ) {
        let subject = Subject { source: path.to_string(), ..Subject::default() };
        self.committed(started, operation, caller, &subject, Some(true), result);
    }

    /// As [`Audit::changed`], with all that is known of it. `did` says what came of a change that did not fail: none that
    /// it is not worth a line, as HDFS sees it.
    pub(crate) fn committed<T>(
        &self,
        started: &Started,
        operation: &'static str,
        caller: &Caller,
        subject: &Subject,
        did: Option<bool>,
        result: &FsResult<T>,
    ) {
        let took = self.ended(started, operation, result);
        let denied = is_denied(result);
        if let Some(named) = self.wants(operation, caller, result.is_ok() && did.is_some(), denied, true) {
            let command = format!("{}{}", named.command, subject.options);
            let line = Line {
                command: &command,
                destination: subject.destination.as_deref(),
                permission: subject.permission.as_deref().filter(|_| !denied),
                ..self.line(
                    &named,
                    caller,
                    !denied && did != Some(false),
                    named.about_a_path.then_some(&subject.source),
                )
            };
            match &self.file {
                Some(file) => file.write(self.clock.now(), &line),
                None => tracing::info!(target: "audit", ?took, "{line}"),
            }
        }
        let path = match &subject.destination {
            Some(to) => format!("{} -> {to}", subject.source),
            None => subject.source.clone(),
        };
        self.keep(RecentOperation {
            at: self.clock.now(),
            operation,
            user: shown(&caller.user),
            address: caller.address,
            path: shown(&path),
            error: result.as_ref().err().map(|error| shown(&error.message())),
            took,
        });
    }

    /// Whether anybody reads a line about owner, group and mode: then they are worth looking up.
    pub(crate) fn wants_permission(&self, caller: &Caller) -> bool {
        caller.origin.door != Door::Inside
            && (self.file.is_some() || tracing::enabled!(target: "audit", tracing::Level::INFO))
    }

    /// How the operation is written down, if it is. As in HDFS an error other than a denial is not.
    fn wants(
        &self,
        operation: &str,
        caller: &Caller,
        carried_out: bool,
        denied: bool,
        at_info: bool,
    ) -> Option<Named> {
        let inside = caller.origin.door == Door::Inside;
        let read = self.file.is_some()
            || if at_info {
                tracing::enabled!(target: "audit", tracing::Level::INFO)
            } else {
                tracing::enabled!(target: "audit", tracing::Level::DEBUG)
            };
        if inside || !read || !(carried_out || denied) {
            return None;
        }
        let named = named(operation);
        let written = match named.when {
            When::Always => true,
            When::Denied => denied,
            When::Never => false,
        };
        written.then_some(named)
    }

    fn line<'a>(
        &self,
        named: &'a Named,
        caller: &'a Caller,
        allowed: bool,
        source: Option<&'a String>,
    ) -> Line<'a> {
        Line {
            allowed,
            caller,
            command: &named.command,
            source: source.map(String::as_str),
            destination: None,
            permission: None,
            with_context: self.with_context,
        }
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

    /// How many lines were lost, if the log has a file.
    pub(crate) fn lost(&self) -> Option<Counter> {
        self.file.as_ref().map(LogFile::lost)
    }

    /// Writes what waits to be written. Blocks. Nothing can be written afterwards.
    pub(crate) fn close(&self) {
        if let Some(file) = &self.file {
            file.close();
        }
    }
}

/// HDFS writes `allowed=false` for this kind of error, and nothing for others.
fn is_denied<T>(result: &FsResult<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == FsErrorKind::AccessDenied)
}

fn shown(text: &dyn Display) -> String {
    let text = text.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
