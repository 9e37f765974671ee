//! The audit log's own file.
//!
//! Lines are put into memory and written by a thread, so that no call waits for a disk. A file that was moved away (by
//! `logrotate` or by hand) is opened anew, so nobody needs to be told of a rotation.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::mem;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;
use steadfs_common::Millis;

/// Bytes of lines that may wait for the disk. What comes while it is full is counted and not written.
const MAX_WAITING_BYTES: usize = 32 << 20;
/// The thread looks at least this often whether the file is still the one under the name.
const LOOK: Duration = Duration::from_secs(1);
/// Others than the owner may not read who did what.
const MODE: u32 = 0o640;

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines that found no room since the last one that did.
    lost: u64,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    told: Condvar,
    lost: Counter,
}

/// A log file and the thread that writes it. Dropping it writes what waits.
pub(crate) struct LogFile {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LogFile {
    /// Opens or creates the file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let shared = Arc::new(Shared::default());
        let (path, theirs) = (path.to_owned(), Arc::clone(&shared));
        let thread =
            thread::Builder::new().name("audit".into()).spawn(move || Writer { path, file }.run(&theirs))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Writes a line behind the time, soon.
    pub(crate) fn write(&self, at: Millis, line: &dyn Display) {
        let mut waiting = self.shared.waiting.lock();
        if waiting.lines.len() >= MAX_WAITING_BYTES {
            waiting.lost += 1;
            self.shared.lost.inc();
            return;
        }
        if waiting.lost > 0 {
            let lost = mem::take(&mut waiting.lost);
            begin(&mut waiting.lines, at);
            writeln!(waiting.lines, "{lost} lines were lost here: the disk was too slow")
                .expect("memory takes it");
        }
        begin(&mut waiting.lines, at);
        writeln!(waiting.lines, "{line}").expect("memory takes it");
        drop(waiting);
        self.shared.told.notify_one();
    }

    /// How many lines found no room.
    pub(crate) fn lost(&self) -> Counter {
        self.shared.lost.clone()
    }

    /// Writes what waits and ends the thread. Blocks.
    pub(crate) fn close(&self) {
        self.shared.waiting.lock().closed = true;
        self.shared.told.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            // A panic there was told by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.close();
    }
}

/// The time as log4j writes it (in UTC), and where the line comes from, as HDFS says it.
fn begin(out: &mut Vec<u8>, at: Millis) {
    let at = std::time::UNIX_EPOCH + Duration::from_millis(at.0);
    let at = humantime::format_rfc3339_millis(at).to_string();
    let at = at.trim_end_matches('Z').replace('T', " ").replace('.', ",");
    write!(out, "{at} INFO FSNamesystem.audit: ").expect("memory takes it");
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

struct Writer {
    path: PathBuf,
    file: File,
}

impl Writer {
    fn run(mut self, shared: &Shared) {
        let mut failing = false;
        loop {
            let (lines, closed) = {
                let mut waiting = shared.waiting.lock();
                if waiting.lines.is_empty() && !waiting.closed {
                    shared.told.wait_for(&mut waiting, LOOK);
                }
                (mem::take(&mut waiting.lines), waiting.closed)
            };
            let written = self.follow().and_then(|()| self.file.write_all(&lines));
            match written {
                Ok(()) => failing = false,
                Err(error) => {
                    shared.lost.inc_by(lines.iter().filter(|byte| **byte == b'\n').count() as u64);
                    if !mem::replace(&mut failing, true) {
                        tracing::error!(path = %self.path.display(), %error, "the audit log cannot be written: lines are lost");
                    }
                }
            }
            if closed && shared.waiting.lock().lines.is_empty() {
                return;
            }
        }
    }

    /// Opens the file anew if another, or none, is under its name.
    fn follow(&mut self) -> io::Result<()> {
        let held = self.file.metadata()?;
        let same = std::fs::metadata(&self.path)
            .is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino()));
        if !same {
            self.file = open(&self.path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_stand_behind_their_time_and_a_rotated_file_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let log = LogFile::open(&path).unwrap();
        log.write(Millis(1_795_239_334_318), &"allowed=true");
        log.close();
        let first = "2026-11-21 05:35:34,318 INFO FSNamesystem.audit: allowed=true\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), first);

        let log = LogFile::open(&path).unwrap();
        let moved = folder.path().join("audit.log.1");
        fs::rename(&path, &moved).unwrap();
        log.write(Millis(0), &"after");
        log.close();
        assert_eq!(fs::read_to_string(&moved).unwrap(), first);
        let second = "1970-01-01 00:00:00,000 INFO FSNamesystem.audit: after\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), second);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let log = LogFile::open(&path).unwrap();
        {
            // The thread cannot take the lines while this holds them.
            let mut waiting = log.shared.waiting.lock();
            waiting.lost = 2;
        }
        log.write(Millis(0), &"next");
        log.close();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("2 lines were lost here"), "{text}");
        assert!(text.ends_with("audit: next\n"));
    }
}
