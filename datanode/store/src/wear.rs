//! How often a disk failed to take what was written to it.
//!
//! A disk may be broken in part: its file system and the small file of a check lie where it works, the replicas do not. Each
//! write to it then fails, each check passes, and every pipeline through it must be mended by its client. So a volume that
//! fails often within a short time has failed, whatever the check says. Reads do not count: a bad sector is a bad replica,
//! which is made anew elsewhere, and the others on the disk may be the last of their blocks.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::io::Errno;

use crate::disk::DiskOp;

/// So many failures within [`WINDOW`] are a failed disk. Both are what ZFS's diagnosis calls a disk faulted at.
const FAILURES: usize = 10;
const WINDOW: Duration = Duration::from_secs(600);

/// The last failures of a volume's disk, oldest first: at most [`FAILURES`], with what failed last.
#[derive(Default)]
pub(crate) struct Wear {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failures: VecDeque<Instant>,
    last: String,
}

impl Wear {
    /// Counts a failed operation if the disk is to blame and something should have been changed on it.
    pub(crate) fn note(&self, op: DiskOp, path: &Path, error: &io::Error) {
        let changes = !matches!(op, DiskOp::Open | DiskOp::Read | DiskOp::List);
        if !changes || !is_of_disk(error) {
            return;
        }
        let mut state = self.state.lock();
        if state.failures.len() == FAILURES {
            state.failures.pop_front();
        }
        state.failures.push_back(Instant::now());
        state.last = format!("{}: {error}", path.display());
    }

    /// Why the disk counts as failed, if it does.
    pub(crate) fn verdict(&self) -> Option<String> {
        let state = self.state.lock();
        let oldest = state.failures.front().filter(|_| state.failures.len() == FAILURES)?;
        let span = state.failures.back()?.duration_since(*oldest);
        (span <= WINDOW).then(|| {
            format!(
                "{FAILURES} writes to it failed within {} s, the last: {}",
                span.as_secs().max(1),
                state.last
            )
        })
    }
}

/// Whether the error is one that only a disk, or the file system on it, makes: what a caller did wrong is none.
fn is_of_disk(error: &io::Error) -> bool {
    let of_disk = [Errno::IO, Errno::UCLEAN, Errno::BADMSG];
    error.raw_os_error().is_some_and(|code| of_disk.iter().any(|errno| errno.raw_os_error() == code))
}
