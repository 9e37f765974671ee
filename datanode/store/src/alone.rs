//! Replicas that a pipeline is about to extend on this datanode only. All others of the block will be outdated then, so what is
//! wrong with this one must be found before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use steadfs_common::{BlockId, GenStamp, StorageId};

use crate::core::Core;
use crate::{ReplicaReader, StoreError, StoreResult};

/// How long a replica is extended without being read anew, if nobody says otherwise: who appends a line every second to a
/// file with one replica must not have its whole last block read for each.
pub const VERIFIED_FOR: Duration = Duration::from_secs(3_600);

/// A writer waits meanwhile, a stock client for 65 s (`dfs.client.socket-timeout` and 5 s for its one datanode), and what is
/// bad is read twice. What cannot be read in time is left to the scans.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes verified between two looks at the clock.
const STEP_BYTES: u64 = 8 << 20;
/// Replicas that are remembered. Past that all are forgotten, and read anew.
const MAX_REMEMBERED: usize = 10_000;

/// When replicas were verified that were then extended.
pub(crate) struct Alone {
    read: Mutex<BTreeMap<(StorageId, BlockId), Instant>>,
    /// Volumes on which one is being read: others must not have all threads of a disk at it.
    reading: Mutex<BTreeSet<StorageId>>,
    lasts: Duration,
}

impl Alone {
    pub(crate) fn new(lasts: Duration) -> Self {
        Self { read: Mutex::default(), reading: Mutex::default(), lasts }
    }

    fn is_fresh(&self, replica: (StorageId, BlockId)) -> bool {
        self.read.lock().get(&replica).is_some_and(|when| when.elapsed() < self.lasts)
    }

    fn note(&self, replica: (StorageId, BlockId)) {
        let mut read = self.read.lock();
        if read.len() >= MAX_REMEMBERED {
            read.clear();
        }
        read.insert(replica, Instant::now());
    }
}

impl Core {
    /// Reads the replica and compares it with its checksums. What cannot be looked at is left to whoever extends it.
    pub(crate) fn verify_alone(self: &Arc<Self>, id: BlockId, stamp: GenStamp) -> StoreResult<()> {
        let Ok(reader) = self.open_for_read(id, stamp) else { return Ok(()) };
        let replica = (reader.storage(), id);
        if self.alone.is_fresh(replica) || !self.alone.reading.lock().insert(replica.0) {
            return Ok(());
        }
        let verified = verify(&reader);
        self.alone.reading.lock().remove(&replica.0);
        verified?;
        self.alone.note(replica);
        Ok(())
    }
}

fn verify(reader: &ReplicaReader) -> StoreResult<()> {
    let (begun, len) = (Instant::now(), reader.block().len);
    let mut at = 0;
    while at < len {
        if begun.elapsed() >= PATIENCE {
            let block = reader.block().id;
            tracing::warn!(%block, verified = at, len, "the only replica of a pipeline takes too long to be verified first");
            return Ok(());
        }
        let end = len.min(at + STEP_BYTES);
        // What lies in memory may be better than what the disk has.
        reader.uncache(at, end);
        match reader.verify(at, end) {
            // Unless a second look finds nothing: then the first was at fault.
            Err(error @ StoreError::Checksum { .. }) if reader.suspect() => return Err(error),
            Err(StoreError::Checksum { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        at = end;
    }
    Ok(())
}
