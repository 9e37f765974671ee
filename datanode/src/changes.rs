//! What the store tells and the namenode should hear: a bounded queue between disk threads and the link.

use std::collections::VecDeque;

use parking_lot::Mutex;
use steadfs_common::StorageId;
use steadfs_datanode_store::{Block, ChangeKind, Listener, ReplicaChange};
use tokio::sync::{Notify, watch};

/// Changes kept while the namenode is away. Past it they are dropped, and a full report tells them instead.
const MAX_PENDING: usize = 100_000;
/// Bad replicas kept while the namenode is away. Past it they are dropped: whoever reads them finds them again.
const MAX_BAD: usize = 1_000;

/// What waits to be told. Every change has a number, from 0.
#[derive(Default)]
struct Pending {
    changes: VecDeque<ReplicaChange>,
    /// The number of the first of `changes`.
    first: u64,
    bad: VecDeque<(StorageId, Block)>,
}

/// The queue, and who is to be woken.
pub(crate) struct Changes {
    pending: Mutex<Pending>,
    /// Somebody should send what is pending.
    pub(crate) wake: Notify,
    /// A full report is wanted.
    pub(crate) report: Notify,
    /// A heartbeat is wanted before its time: a volume has failed.
    pub(crate) heartbeat: Notify,
    /// The namenode should be told anew which volumes there are.
    pub(crate) register: Notify,
    /// A volume has failed: who waits for it should not.
    pub(crate) failed: Notify,
    /// How many changes were sent, or given up for a full report.
    sent: watch::Sender<u64>,
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self {
            pending: Mutex::default(),
            wake: Notify::new(),
            report: Notify::new(),
            heartbeat: Notify::new(),
            register: Notify::new(),
            failed: Notify::new(),
            sent: watch::Sender::new(0),
        }
    }

    /// The oldest changes that were not sent, and what to call [`Self::sent`] with once they are.
    pub(crate) fn batch(&self, max: usize) -> (Vec<ReplicaChange>, u64) {
        let pending = self.pending.lock();
        let batch: Vec<_> = pending.changes.iter().take(max).copied().collect();
        let end = pending.first + batch.len() as u64;
        (batch, end)
    }

    /// Forgets the changes before number `end`.
    pub(crate) fn sent(&self, end: u64) {
        let mut pending = self.pending.lock();
        while pending.first < end && pending.changes.pop_front().is_some() {
            pending.first += 1;
        }
        self.sent.send_replace(pending.first);
    }

    /// The number of the next change.
    pub(crate) fn end(&self) -> u64 {
        let pending = self.pending.lock();
        pending.first + pending.changes.len() as u64
    }

    /// Returns when everything that happened before this call was sent. Safe to cancel.
    pub(crate) async fn all_sent(&self) {
        let end = self.end();
        self.wake.notify_one();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.sent.subscribe().wait_for(|sent| *sent >= end).await;
    }

    /// The oldest bad replica that was not reported.
    pub(crate) fn bad(&self) -> Option<(StorageId, Block)> {
        self.pending.lock().bad.front().copied()
    }

    /// Forgets a bad replica that was reported.
    pub(crate) fn bad_sent(&self, reported: (StorageId, Block)) {
        let mut pending = self.pending.lock();
        if pending.bad.front() == Some(&reported) {
            pending.bad.pop_front();
        }
    }
}

impl Listener for Changes {
    fn changed(&self, change: ReplicaChange) {
        let mut pending = self.pending.lock();
        pending.changes.push_back(change);
        if pending.changes.len() > MAX_PENDING {
            pending.first += pending.changes.len() as u64;
            pending.changes.clear();
            self.sent.send_replace(pending.first);
            self.report.notify_one();
        }
        drop(pending);
        // Whoever closes a file waits for the one, whoever lacks a good replica for the other. The rest goes with these, or with
        // the next heartbeat.
        if matches!(change.kind, ChangeKind::Received | ChangeKind::Verified) {
            self.wake.notify_one();
        }
    }

    fn bad_replica(&self, storage: StorageId, block: Block) {
        let mut pending = self.pending.lock();
        if pending.bad.len() < MAX_BAD && !pending.bad.contains(&(storage, block)) {
            pending.bad.push_back((storage, block));
        }
        drop(pending);
        self.wake.notify_one();
    }

    fn volume_failed(&self, _storage: StorageId, _why: &str) {
        self.failed.notify_one();
        self.heartbeat.notify_one();
        self.report.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use steadfs_common::{BlockId, GenStamp};
    use uuid::Uuid;

    use super::*;

    fn change(id: u64) -> ReplicaChange {
        ReplicaChange {
            storage: StorageId(Uuid::nil()),
            block: Block { id: BlockId(id), stamp: GenStamp(1), len: 1 },
            kind: ChangeKind::Received,
        }
    }

    #[tokio::test]
    async fn what_was_not_sent_stays_in_order() {
        let changes = Changes::new();
        for id in 0..5 {
            changes.changed(change(id));
        }
        let (batch, end) = changes.batch(3);
        assert_eq!((batch.len(), end), (3, 3));
        assert_eq!(changes.batch(3).0, batch, "until it is known to be sent");
        changes.sent(end);
        let (batch, end) = changes.batch(10);
        assert_eq!(batch.iter().map(|change| change.block.id.0).collect::<Vec<_>>(), [3, 4]);
        changes.changed(change(5));
        changes.sent(end);
        changes.sent(end);
        assert_eq!(changes.batch(10).0, [change(5)]);
        let mut waiting = Box::pin(changes.all_sent());
        assert!(futures::poll!(&mut waiting).is_pending());
        changes.sent(6);
        waiting.await;
    }

    #[tokio::test]
    async fn too_many_become_a_full_report() {
        let changes = Changes::new();
        for id in 0..=MAX_PENDING as u64 {
            changes.changed(change(id));
        }
        assert!(changes.batch(10).0.is_empty());
        changes.report.notified().await;
        changes.all_sent().await;
        changes.changed(change(7));
        let (batch, end) = changes.batch(10);
        assert_eq!(batch.len(), 1);
        changes.sent(end);
        changes.all_sent().await;
    }

    #[test]
    fn bad_replicas_are_kept_once_and_bounded() {
        let changes = Changes::new();
        let block = |id| Block { id: BlockId(id), stamp: GenStamp(1), len: 1 };
        for id in 0..2 * MAX_BAD as u64 {
            changes.bad_replica(StorageId(Uuid::nil()), block(id / 2));
        }
        let first = changes.bad().unwrap();
        assert_eq!(first.1, block(0));
        changes.bad_sent(first);
        assert_eq!(changes.bad().unwrap().1, block(1));
        assert_eq!(changes.pending.lock().bad.len(), MAX_BAD - 1);
    }
}
