//! What happened, for those who follow: stock clients' inotify streams and the mounts' change streams.
//!
//! The commit thread hands over what each transaction did. The newest of it is in memory, bounded in number and bytes;
//! what is older is read from the journal, as far back as that is kept.

mod archive;
pub(crate) mod codec;
mod ring;

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use steadfs_common::TxId;
use steadfs_daemon::pool::DiskPool;
use steadfs_namenode_core::event::EventBatch;
use tokio::sync::watch;

use crate::commit::payload::Transaction;
use crate::journal::JournalHealth;
use crate::journal::history::History;
use archive::Archive;
use ring::Ring;
pub(crate) use ring::size_of_batch;

/// Readers of old entries that wait for the thread; more wait for a place.
const ARCHIVE_QUEUE: usize = 256;

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first transaction looked at: later than asked for if what was before is gone. None if there is nothing new.
    pub first: Option<TxId>,
    /// The last transaction looked at: to go on behind.
    pub last: TxId,
    /// What happened in between. Transactions that nobody is told of are not there.
    pub batches: Vec<Arc<EventBatch>>,
    /// The newest transaction.
    pub newest: TxId,
}

/// What happened lately, and where to read what happened before.
pub(crate) struct Events {
    ring: Mutex<Ring>,
    newest: watch::Sender<TxId>,
    stopping: watch::Sender<bool>,
    archive: Arc<Archive>,
    pool: DiskPool,
}

impl Events {
    /// Begins behind `last`; what came before is in the journals in `folders`, which are as `health` says. About `most` bytes are kept in memory.
    ///
    /// # Errors
    /// The operating system has no room for a thread.
    pub(crate) fn new(
        last: TxId,
        (folders, health): (Vec<PathBuf>, JournalHealth),
        most: usize,
    ) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            ring: Mutex::new(Ring::behind(last, most)),
            newest: watch::Sender::new(last),
            stopping: watch::Sender::new(false),
            archive: Arc::new(Archive::new(History::new(folders, health))),
            pool: DiskPool::new("journal-read", 1, ARCHIVE_QUEUE)?,
        }))
    }

    /// The commit thread's: these transactions are durable and applied.
    pub(crate) fn publish(&self, transactions: Vec<Transaction>) {
        let Some(last) = transactions.last().map(Transaction::last) else { return };
        {
            let mut ring = self.ring.lock();
            for transaction in transactions {
                ring.push(transaction);
            }
        }
        self.newest.send_replace(last);
    }

    /// Lets those go who wait for what happens next: the namenode is stopping.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Waits until the namenode is stopping.
    pub(crate) async fn stopped(&self) {
        // The sender lives as long as this.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// The newest transaction.
    pub(crate) fn newest(&self) -> TxId {
        *self.newest.borrow()
    }

    /// Tells when there is a newer transaction.
    pub(crate) fn subscribe(&self) -> watch::Receiver<TxId> {
        self.newest.subscribe()
    }

    /// What happened from `from` on: about `most` events, or as far as is known.
    pub(crate) async fn read(&self, from: TxId, most: usize) -> Window {
        if let Some(window) = self.lately(from, most) {
            return window;
        }
        let (archive, end) = (self.archive.clone(), self.ring.lock().first());
        let found = self.pool.run(move || archive.read(from, end, most)).await;
        match found {
            Some((first, last, batches)) => {
                Window { first: Some(first), last, batches, newest: self.newest() }
            }
            // Nothing that old is left: what is in memory is the oldest there is.
            None => {
                let first = self.ring.lock().first().max(from);
                self.lately(first, most).unwrap_or_else(|| self.nothing(from))
            }
        }
    }

    /// What happened from `from` on, if that is in memory still.
    pub(crate) fn lately(&self, from: TxId, most: usize) -> Option<Window> {
        let newest = self.newest();
        if from > newest {
            return Some(self.nothing(from));
        }
        let ring = self.ring.lock();
        let (last, batches) = ring.read(from, most)?;
        Some(Window { first: Some(from), last, batches, newest: newest.max(last) })
    }

    fn nothing(&self, from: TxId) -> Window {
        let newest = self.newest();
        Window { first: None, last: TxId(from.0.saturating_sub(1)), batches: Vec::new(), newest }
    }
}

#[cfg(test)]
mod tests;
