//! Looking for damage before somebody needs the bytes: every replica is read and compared with its checksums once in a
//! period, and what lies on a volume is compared with what is known of it.
//!
//! The check reads no faster than it must to be done in time, and never faster than the configuration lets it; replicas that
//! somebody has reason to doubt come first. What the system has in memory is dropped before, so that the disk is read.
//! Where it was is written down now and then: a restart goes on there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use steadfs_common::{BlockId, GenStamp, Millis, StorageId};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_datanode_store::{
    Block, Differences, ReplicaReader, ReplicaState, ScanProgress, Store, StoreError,
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::MIN_SCAN_BYTES_PER_SECOND;
use crate::node::Node;

/// Bytes read by one job of a disk thread.
const STEP: u64 = 1 << 20;
/// What a replica costs at least, however short it is: opening it takes a disk about as long as reading so much.
const LEAST: u64 = 64 << 10;
/// The check reads at least so fast, if it may: a small volume is done soon.
const USUAL: u64 = 1 << 20;
/// How long a check that has nothing to do rests before it looks again.
const REST: Duration = Duration::from_secs(5);
/// After so many bytes it is written down where the check is, and after so long.
const SAVE_BYTES: u64 = 1 << 30;
const SAVE_EVERY: Duration = Duration::from_secs(600);
/// A comparison of folders rests so many times as long as it works.
const RESTS: u32 = 9;

/// How far the checks of a volume are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanState {
    /// The check of all replicas.
    pub progress: ScanProgress,
    /// When folders were compared with memory last; 0 for never.
    pub compared: Millis,
}

/// The checks of all volumes.
#[derive(Default)]
pub struct Scans {
    states: Mutex<BTreeMap<StorageId, ScanState>>,
    bytes: Counter,
    replicas: Counter,
    bad: Counter,
    lost: Counter,
    damaged: Counter,
    found: Counter,
    removed: Counter,
}

impl Scans {
    /// How far the checks of a volume are.
    #[must_use]
    pub fn state(&self, storage: StorageId) -> ScanState {
        self.states.lock().get(&storage).copied().unwrap_or_default()
    }

    fn change(&self, storage: StorageId, change: impl FnOnce(&mut ScanState)) {
        change(self.states.lock().entry(storage).or_default());
    }

    /// Makes the counts known to the operators' port.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let counters = [
            (
                "datanode_scan_bytes",
                "Bytes of replicas read and checked without being asked for",
                &self.bytes,
            ),
            ("datanode_scan_replicas", "Replicas read and checked without being asked for", &self.replicas),
            ("datanode_scan_bad", "Of these, replicas that are damaged", &self.bad),
            ("datanode_compare_lost", "Replicas whose file was gone", &self.lost),
            (
                "datanode_compare_damaged",
                "Replicas whose files have the wrong length, or lack one",
                &self.damaged,
            ),
            ("datanode_compare_found", "Replicas that lay on a volume and were not known", &self.found),
            (
                "datanode_compare_removed",
                "Copies and checksum files removed because nobody needs them",
                &self.removed,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Bytes a second that the rest of a pass wants: `left` bytes in `left_ms` milliseconds.
fn speed(left: u64, left_ms: u64, most: u64) -> u64 {
    let needed = u128::from(left) * 1_000 / u128::from(left_ms.max(1));
    u64::try_from(needed).unwrap_or(u64::MAX).max(USUAL).clamp(MIN_SCAN_BYTES_PER_SECOND, most)
}

/// Checks the replicas of a volume, over and over, until the volume or the datanode ends.
pub(crate) async fn check_replicas(node: Arc<Node>, storage: StorageId, shutdown: Shutdown) {
    let (store, disk) = (node.store.clone(), node.disks.of(storage));
    let progress = disk.run(move || store.scan_progress(storage)).await.unwrap_or_default();
    let mut scan = Scan { node, storage, progress, saved: Instant::now(), unsaved: 0 };
    scan.publish();
    while scan.node.store.serves(storage) {
        tokio::select! {
            () = shutdown.triggered() => return,
            () = scan.step() => {}
        }
    }
}

struct Scan {
    node: Arc<Node>,
    storage: StorageId,
    progress: ScanProgress,
    saved: Instant,
    /// Bytes checked since.
    unsaved: u64,
}

impl Scan {
    fn publish(&self) {
        self.node.scans.change(self.storage, |state| state.progress = self.progress);
    }

    /// One replica, or a rest.
    async fn step(&mut self) {
        let (period, most) = (self.node.config.scan_period_ms, self.node.config.scan_bytes_per_second);
        if let Some(id) = self.node.store.next_suspect(self.storage) {
            self.check(id, most).await;
            return;
        }
        if period == 0 {
            return sleep(REST).await;
        }
        let time = now();
        // A clock that was set back must not stop the check.
        let begun = Millis(self.progress.began.0.min(time.0));
        if self.progress.done || self.progress.began == Millis(0) {
            if self.progress.began != Millis(0) && time.0 < begun.0.saturating_add(period) {
                return sleep(REST.min(Duration::from_millis(period))).await;
            }
            self.progress =
                ScanProgress { began: time, last_done: self.progress.last_done, ..ScanProgress::default() };
            self.save().await;
        }
        match self.next() {
            Some(id) => {
                let status = self.node.store.statuses();
                let used = status
                    .iter()
                    .find(|volume| volume.storage == self.storage)
                    .map_or(0, |volume| volume.used);
                let left = used.saturating_sub(self.progress.bytes);
                let left_ms = begun.0.saturating_add(period).saturating_sub(time.0);
                let bytes = self.check(id, speed(left, left_ms, most)).await;
                self.progress.after = Some(id);
                self.progress.bytes += bytes;
                self.unsaved += bytes;
            }
            None => {
                self.progress = ScanProgress { done: true, last_done: now(), ..self.progress };
                tracing::info!(storage = %self.storage, bytes = self.progress.bytes, "all replicas of the volume were checked");
            }
        }
        self.publish();
        if self.progress.done || self.unsaved >= SAVE_BYTES || self.saved.elapsed() >= SAVE_EVERY {
            self.save().await;
        }
    }

    /// The next finalized replica.
    fn next(&self) -> Option<BlockId> {
        let mut after = self.progress.after;
        loop {
            let page = self.node.store.report_page(self.storage, after, 64);
            let replica = page.iter().find(|replica| replica.state == ReplicaState::Finalized);
            match (replica, page.last()) {
                (Some(replica), _) => return Some(replica.block.id),
                (None, Some(last)) => after = Some(last.block.id),
                (None, None) => return None,
            }
        }
    }

    async fn save(&mut self) {
        (self.saved, self.unsaved) = (Instant::now(), 0);
        let (store, storage, progress) = (self.node.store.clone(), self.storage, self.progress);
        let saved =
            self.node.disks.of(storage).run(move || store.save_scan_progress(storage, &progress)).await;
        if let Err(error) = saved {
            tracing::warn!(%storage, %error, "it could not be written down how far the check of the volume is");
        }
    }

    /// Checks one replica at so many bytes a second; gives the bytes that were read.
    async fn check(&self, id: BlockId, bytes_per_second: u64) -> u64 {
        let begun = Instant::now();
        let (bytes, good) =
            check_replica(&self.node, self.storage, (id, GenStamp(0)), bytes_per_second).await;
        if let Some(reader) = good {
            self.node.disks.of(self.storage).run(move || reader.found_good()).await;
        }
        if bytes > 0 {
            sleep_until(begun + takes(bytes.max(LEAST), bytes_per_second)).await;
        }
        bytes
    }
}

/// Reads a replica at so many bytes a second; gives the bytes that were read, and the replica if all of them are good. What is
/// bad is reported.
async fn check_replica(
    node: &Node,
    storage: StorageId,
    (id, stamp): (BlockId, GenStamp),
    bytes_per_second: u64,
) -> (u64, Option<Arc<ReplicaReader>>) {
    let begun = Instant::now();
    let (disk, store) = (node.disks.of(storage), node.store.clone());
    // What cannot be opened is reported where it was tried.
    let Ok(reader) = disk.run(move || store.open_for_read(id, stamp)).await else { return (0, None) };
    if !reader.is_finalized() || reader.storage() != storage {
        return (0, None);
    }
    let (length, reader) = (reader.block().len, Arc::new(reader));
    let (mut at, mut good) = (0, true);
    while good && at < length {
        let (step, to) = (reader.clone(), length.min(at + STEP));
        let Some(fits) = disk.run(move || check_step(&step, at, to)).await else { return (at, None) };
        (good, at) = (fits, to);
        sleep_until(begun + takes(at, bytes_per_second)).await;
    }
    node.scans.replicas.inc();
    node.scans.bytes.inc_by(at);
    if !good {
        node.scans.bad.inc();
    }
    (at, good.then_some(reader))
}

/// Checks a replica that the namenode asks about, and tells it what is found.
pub(crate) async fn check_doubted(node: &Node, block: Block) {
    let Some(here) = node.store.status(block.id) else { return };
    let (what, most) = ((block.id, block.stamp), node.config.scan_bytes_per_second);
    let check = async {
        if let (_, Some(reader)) = check_replica(node, here.storage, what, most).await {
            tracing::info!(block = %block.id, "a replica that was to be looked at verifies");
            node.disks.of(here.storage).run(move || reader.vouch()).await;
        }
    };
    tokio::select! {
        () = check => {}
        // A disk that hangs never answers.
        () = node.disks.gone(here.storage) => {}
    }
}

fn takes(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64)
}

/// Reads a part of a replica from the disk and compares it with its checksums; what differs is reported. None if that could
/// not be found out, through no fault of the disk.
fn check_step(reader: &ReplicaReader, from: u64, to: u64) -> Option<bool> {
    reader.uncache(from, to);
    let verified = reader.verify(from, to);
    reader.uncache(from, to);
    match verified {
        Ok(()) => Some(true),
        Err(StoreError::Checksum { .. }) => Some(!reader.suspect()),
        Err(error) if error.is_ours() => None,
        // Reported where it was read.
        Err(_) => Some(false),
    }
}

/// Compares what lies on a volume with what is known of it, again and again, until the volume or the datanode ends.
pub(crate) async fn compare_folders(node: Arc<Node>, storage: StorageId, shutdown: Shutdown) {
    let period = Duration::from_millis(node.config.compare_period_ms);
    if period.is_zero() {
        return;
    }
    // Volumes do not all begin at once; and the first time, what the start found is still fresh.
    let share = (storage.0.as_u128() % 1_000) as u32;
    let mut due = Instant::now() + period / 2 + period / 2_000 * share;
    loop {
        tokio::select! {
            () = shutdown.triggered() => return,
            () = sleep_until(due) => {}
        }
        if !node.store.serves(storage) {
            return;
        }
        due = Instant::now() + period;
        tokio::select! {
            () = shutdown.triggered() => return,
            () = compare_all(&node, storage) => {}
        }
    }
}

async fn compare_all(node: &Arc<Node>, storage: StorageId) {
    let disk = node.disks.of(storage);
    let mut sum = Differences::default();
    for number in 0..Store::folders() {
        if !node.store.serves(storage) {
            return;
        }
        let (store, begun) = (node.store.clone(), Instant::now());
        match disk.run(move || store.compare_folder(storage, number)).await {
            Ok(found) => sum.add(&found),
            Err(error) => tracing::warn!(%storage, %error, "a folder of replicas could not be compared"),
        }
        sleep(begun.elapsed() * RESTS).await;
    }
    let scans = &node.scans;
    scans.lost.inc_by(sum.lost);
    scans.damaged.inc_by(sum.damaged);
    scans.found.inc_by(sum.found);
    scans.removed.inc_by(sum.doubled + sum.stray);
    scans.change(storage, |state| state.compared = now());
    if sum.any() {
        tracing::warn!(%storage, ?sum, "the volume was not as it was left");
    } else {
        tracing::debug!(%storage, ?sum, "the volume is as it was left");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_fast_as_it_must_and_may() {
        const DAY: u64 = 24 * 3_600_000;
        let most = 32 << 20;
        assert_eq!(speed(1 << 30, 14 * DAY, most), USUAL, "little is done soon");
        assert_eq!(speed(10 << 40, 14 * DAY, most), (10 << 40) / (14 * DAY / 1_000));
        assert_eq!(speed(1 << 50, 14 * DAY, most), most, "never faster than it may");
        assert_eq!(speed(1 << 30, 0, most), most, "late");
        assert_eq!(speed(0, DAY, 100_000), 100_000, "slower than usual, if so configured");
    }
}
