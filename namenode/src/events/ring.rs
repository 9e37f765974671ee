//! The newest events, in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use steadfs_common::TxId;
use steadfs_namenode_core::event::{EventBatch, EventKind, MetadataChange};

use crate::commit::payload::Transaction;

/// Batches kept at most.
const MAX_BATCHES: usize = 65_536;
/// What a name in a path takes beside its text, and an event beside its texts.
const NAME_BYTES: usize = 40;
const EVENT_BYTES: usize = 200;

/// Batches by their transactions, without a gap from [`Ring::first`] on.
pub(super) struct Ring {
    batches: VecDeque<(Arc<EventBatch>, usize)>,
    bytes: usize,
    /// Bytes kept at most, about.
    most: usize,
    /// The first transaction that is wholly known.
    first: TxId,
    /// The last one.
    last: TxId,
}

impl Ring {
    /// Knows nothing up to `last`. Keeps about `most` bytes.
    pub(super) const fn behind(last: TxId, most: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, most, first: last.next(), last }
    }

    pub(super) const fn first(&self) -> TxId {
        self.first
    }

    pub(super) fn push(&mut self, transaction: Transaction) {
        self.last = transaction.last();
        for batch in transaction.events {
            let bytes = size_of_batch(&batch);
            self.bytes += bytes;
            self.batches.push_back((Arc::new(batch), bytes));
        }
        while self.batches.len() > MAX_BATCHES || self.bytes > self.most {
            let Some((batch, bytes)) = self.batches.pop_front() else { return };
            self.bytes -= bytes;
            self.first = batch.tx.next();
        }
    }

    /// What happened from `from` on, up to where about `most` events are together, and the last transaction looked at.
    /// None if `from` is no longer known.
    pub(super) fn read(&self, from: TxId, most: usize) -> Option<(TxId, Vec<Arc<EventBatch>>)> {
        if from < self.first {
            return None;
        }
        let begin = self.batches.partition_point(|(batch, _)| batch.tx < from);
        let (mut found, mut events) = (Vec::new(), 0);
        for (batch, _) in self.batches.range(begin..) {
            if events >= most {
                let last = found.last().map_or(from, |batch: &Arc<EventBatch>| batch.tx);
                return Some((last, found));
            }
            events += batch.events.len();
            found.push(batch.clone());
        }
        Some((self.last, found))
    }
}

/// About what a batch takes.
pub(crate) fn size_of_batch(batch: &EventBatch) -> usize {
    let path = |path: &steadfs_common::FsPath| -> usize {
        path.names().iter().map(|name| name.as_str().len() + NAME_BYTES).sum()
    };
    let of = |event: &steadfs_namenode_core::event::Event| {
        let more = match &event.kind {
            EventKind::Rename { to, .. } => path(to),
            EventKind::Metadata(
                MetadataChange::XAttrsSet(attributes) | MetadataChange::XAttrsRemoved(attributes),
            ) => attributes
                .iter()
                .map(|attribute| attribute.name.name.len() + attribute.value.len() + NAME_BYTES)
                .sum(),
            EventKind::Metadata(MetadataChange::Acl { access, default }) => {
                (access.len() + default.len()) * NAME_BYTES
            }
            _ => 0,
        };
        EVENT_BYTES + path(&event.path) + more
    };
    batch.events.iter().map(of).sum()
}
