//! Older events, read from the journal's segments.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use steadfs_common::TxId;
use steadfs_namenode_core::event::EventBatch;

use crate::commit::payload;
use crate::journal::history::History;

/// Places remembered at most; the oldest are forgotten first.
const MAX_PLACES: usize = 1_024;
/// Entries looked at in one read at most: who asks gets what was found by then.
const MAX_ENTRIES: usize = 200_000;

/// What a read found: the first and the last transaction looked at, and what happened in between.
type Found = (TxId, TxId, Vec<Arc<EventBatch>>);

/// Where to begin to read.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The segment's first index.
    segment: u64,
    offset: u64,
}

/// The journal as a source of events.
pub(super) struct Archive {
    history: History,
    /// Where entries begin, by their first transaction: those of segments, and those where readers stopped.
    places: Mutex<BTreeMap<TxId, Place>>,
}

impl Archive {
    pub(super) fn new(history: History) -> Self {
        Self { history, places: Mutex::default() }
    }

    /// What happened from `from` on and before `end`, up to where about `most` events are together. None if there is
    /// nothing.
    pub(super) fn read(&self, from: TxId, end: TxId, most: usize) -> Option<Found> {
        let segments = self.history.segments();
        let start = self.start(from, &segments)?;
        let (mut first, mut last, mut found, mut events) = (None, from, Vec::new(), 0);
        let (mut segment, mut at) = (start.segment, start.offset);
        for _ in 0..MAX_ENTRIES {
            let Some(entry) = self.history.batch_at(segment, at) else {
                let Some(next) = segments.iter().find(|next| **next > segment) else { break };
                (segment, at) = (*next, 0);
                continue;
            };
            let place = Place { segment, offset: at };
            at = entry.next;
            // A batch that cannot be understood is passed over, as one that is gone.
            for transaction in payload::transactions(&entry.payload).unwrap_or_default() {
                if transaction.last() < from {
                    continue;
                }
                // Ids have no holes: what lies between is rotten in every copy. The next read begins there, and finds
                // that the first it can tell is later than what was asked for.
                let hole = first.is_some() && transaction.id > last.next();
                if hole || transaction.id >= end || events >= most {
                    self.remember(transaction.id, place);
                    return first.map(|first| (first, last, found));
                }
                first.get_or_insert(transaction.id.max(from));
                last = transaction.last();
                let batches = transaction.events.into_iter().filter(|batch| batch.tx >= from);
                for batch in batches {
                    events += batch.events.len();
                    found.push(Arc::new(batch));
                }
            }
        }
        first.map(|first| (first, last, found))
    }

    /// The last known place that is not behind `from`, or the oldest there is.
    fn start(&self, from: TxId, segments: &[u64]) -> Option<Place> {
        self.know(segments);
        let places = self.places.lock();
        places.range(..=from).next_back().or_else(|| places.iter().next()).map(|(_, place)| *place)
    }

    /// Knows where each of these segments begins, and forgets others.
    fn know(&self, segments: &[u64]) {
        let known: Vec<u64> = {
            let mut places = self.places.lock();
            places.retain(|_, place| segments.contains(&place.segment));
            places.values().filter(|place| place.offset == 0).map(|place| place.segment).collect()
        };
        for segment in segments.iter().filter(|segment| !known.contains(segment)) {
            let Some(entry) = self.history.batch_at(*segment, 0) else { continue };
            let first = payload::transactions(&entry.payload).ok().and_then(|all| Some(all.first()?.id));
            if let Some(first) = first {
                self.places.lock().insert(first, Place { segment: *segment, offset: 0 });
            }
        }
    }

    fn remember(&self, tx: TxId, place: Place) {
        let mut places = self.places.lock();
        places.entry(tx).or_insert(place);
        while places.len() > MAX_PLACES {
            let Some(oldest) = places.iter().find(|(_, place)| place.offset != 0).map(|(tx, _)| *tx) else {
                return;
            };
            places.remove(&oldest);
        }
    }
}
