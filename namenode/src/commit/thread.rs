//! The thread that drives the commit loop, and the one that flushes the store behind it.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use super::queue::Queue;
use super::{CommitLoop, Commits, Parts};
use crate::config::JournalConfig;
use crate::fatal;
use crate::store::Store;

/// The running threads. Wait for them with [`CommitThread::join`] after [`Commits::stop`].
pub(crate) struct CommitThread {
    committer: JoinHandle<()>,
    flusher: JoinHandle<()>,
}

impl CommitThread {
    /// Starts them.
    ///
    /// # Errors
    /// The operating system has no room for threads.
    pub(crate) fn start(parts: Parts, config: &JournalConfig) -> io::Result<(Self, Commits)> {
        let queue = Arc::new(Queue::new(config.queue));
        let orders = Arc::clone(&queue);
        let (ask_flush, flushes) = sync_channel::<()>(1);
        let store = parts.store.clone();
        let flusher = thread::Builder::new().name("store-flush".into()).spawn(move || {
            while flushes.recv().is_ok() {
                flush(&store);
            }
        })?;
        let config = config.clone();
        let committer = thread::Builder::new().name("commit".into()).spawn(move || {
            let run = || drive(CommitLoop::new(parts), &orders, &ask_flush, &config);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
                // A batch may be planned, journalled and not applied: nothing may be answered from here on.
                fatal::end(
                    format!("the commit thread panicked: {}", describe(&*panic)),
                    "This is a bug: please report it with the log. Start again: nothing acknowledged is lost",
                );
            }
        })?;
        Ok((Self { committer, flusher }, Commits { queue }))
    }

    /// Waits until everything queued was carried out, sealed and flushed. Blocks.
    pub(crate) fn join(self) {
        // A panic there has ended the process, or in tests is told by the test itself.
        let _ = self.committer.join();
        let _ = self.flusher.join();
    }
}

fn flush(store: &Arc<Store>) {
    let index = store.flush();
    tracing::debug!(index, "the store is flushed");
}

fn drive(mut commits: CommitLoop, queue: &Queue, ask_flush: &SyncSender<()>, config: &JournalConfig) {
    while queue.wait() {
        // What comes while a batch is planned may still be of it.
        let jobs = std::iter::from_fn(|| queue.next()).take(config.batch);
        commits.commit_shared(jobs, || queue.is_shared());
        let rolls = queue.take_rolls();
        if let Some(index) = queue.take_seal() {
            commits.seal(index);
        }
        if !rolls.is_empty() {
            commits.roll();
            // Who asked may have gone.
            for answer in rolls {
                let _ = answer.send(());
            }
        }
        let begun = queue.take_readmit() && commits.readmit();
        // After a new segment, too: older ones can go then, however often copies come back.
        if begun || commits.flush_is_due(config.flush_distance_bytes, config.flush_distance_entries) {
            match ask_flush.try_send(()) {
                // One is asked for already: it will take these entries along.
                Ok(()) | Err(TrySendError::Full(())) => {}
                Err(TrySendError::Disconnected(())) => {
                    fatal::end("the thread that flushes the store ended", "This is a bug: please report it")
                }
            }
        }
    }
    commits.finish();
}

fn describe(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
