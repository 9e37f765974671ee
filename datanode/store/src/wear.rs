//! How often a disk failed to take what was written to it.
//!
//! A disk may be broken in part: its file system and the small file of a check lie where it works, the replicas do not. Each
//! write to it then fails, each check passes, and every pipeline through it must be mended by its client. So a volume that
//! fails often within a short time has failed, whatever the check says. Reads and removals do not count: a bad sector is a bad
//! replica, which is made anew elsewhere and removed, and the others on the disk may be the last of their blocks.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::io::Errno;

use crate::disk::DiskOp;

/// So many replicas that failed within [`WINDOW`] are a failed disk. Both are what ZFS's diagnosis calls a disk faulted at.
const FAILURES: usize = 10;
const WINDOW: Duration = Duration::from_secs(600);

/// The last failures of a volume's disk, oldest first: at most [`FAILURES`], each of another replica.
#[derive(Default)]
pub(crate) struct Wear {
    failures: Mutex<VecDeque<Failure>>,
}

struct Failure {
    at: Instant,
    replica: String,
    what: String,
}

impl Wear {
    /// Counts a failed operation if the disk is to blame, and something should have been written to it.
    pub(crate) fn note(&self, op: DiskOp, path: &Path, error: &io::Error) {
        let writes = matches!(
            op,
            DiskOp::Create
                | DiskOp::Write
                | DiskOp::Truncate
                | DiskOp::Sync
                | DiskOp::SyncDir
                | DiskOp::MakeDir
        );
        if writes && is_of_disk(error) {
            self.count(path, error);
        }
    }

    /// Counts a failure for which the disk is to blame, once for each replica.
    pub(crate) fn count(&self, path: &Path, error: &io::Error) {
        let replica = replica_of(path);
        let mut failures = self.failures.lock();
        if failures.iter().any(|failure| failure.replica == replica) {
            return;
        }
        if failures.len() == FAILURES {
            failures.pop_front();
        }
        let what = format!("{}: {error}", path.display());
        failures.push_back(Failure { at: Instant::now(), replica, what });
    }

    /// Why the disk counts as failed, if it does.
    pub(crate) fn verdict(&self) -> Option<String> {
        let failures = self.failures.lock();
        let (first, last) = (failures.front()?, failures.back()?);
        let span = last.at.duration_since(first.at);
        (failures.len() == FAILURES && span <= WINDOW).then(|| {
            let seconds = span.as_secs().max(1);
            format!("operations on {FAILURES} replicas failed within {seconds} s, the last: {}", last.what)
        })
    }
}

/// The replica that a file is of: what its name has before its stamp and its ending.
fn replica_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    stem.splitn(3, '_').take(2).collect::<Vec<_>>().join("_")
}

/// Whether the error is one that only a disk, or the file system on it, makes: what a caller did wrong is none.
fn is_of_disk(error: &io::Error) -> bool {
    let of_disk = [Errno::IO, Errno::UCLEAN, Errno::BADMSG];
    error.raw_os_error().is_some_and(|code| of_disk.iter().any(|errno| errno.raw_os_error() == code))
}
