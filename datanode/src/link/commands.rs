//! What the namenode wants done: executed by a bounded number of workers, each command once at a time.
//!
//! All commands may be repeated and none is urgent, so what does not fit is dropped: the namenode sends it again. A copy that
//! fails, or is not begun, is told at once.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use steadfs_common::{BlockId, FsResult, GenStamp, StorageId};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_datanode_store::{Block, Store};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::command::Command;
use steadfs_proto::steadfs::datanode_link_client::DatanodeLinkClient;
use tokio::sync::Semaphore;
use tonic::transport::Channel;

use super::failed;
use crate::TransferTimeouts;
use crate::changes::Changes;
use crate::connection::LinkError;
use crate::convert::block;
use crate::disks::Seat;
use crate::node::Node;
use crate::recovery;
use crate::scanner::check_doubted;
use crate::send::{Pace, send_replica};

/// Copies, recoveries and checks that are under way or wait for a worker.
const MAX_WAITING: usize = 4_096;
/// Recoveries at the same time.
const MAX_RECOVERIES: usize = 16;
/// Checks of replicas at the same time.
const MAX_CHECKS: usize = 2;
/// Checks that wait: more are dropped, and asked for again. They must not keep recoveries and copies out.
const MAX_WAITING_CHECKS: usize = 256;
/// Copies for the sake of balance at the same time.
const MAX_MOVES: usize = 2;
/// Deletions that wait for one volume; more are dropped.
const MAX_DELETIONS: usize = 1 << 20;
/// A deletion that waited so long is dropped. The namenode takes an order back that was not followed for ten minutes, and may
/// then count on the replica, or put it here again.
const DELETION_EXPIRY: Duration = Duration::from_secs(300);
/// Replicas deleted by one job of a disk thread.
const DELETIONS_PER_JOB: usize = 64;

/// A command that must not run twice at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// To which storages, as a hash: the same block may be on its way to others.
    Transfer(BlockId, u64),
    Recover(BlockId, GenStamp),
    Check(BlockId),
}

/// The workers.
#[derive(Clone)]
pub(crate) struct Commands {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    node: Arc<Node>,
    session: u64,
    changes: Arc<Changes>,
    client: DatanodeLinkClient<Channel>,
    shutdown: Shutdown,
    busy: Mutex<HashSet<Key>>,
    copies: Semaphore,
    /// Copies for the sake of balance have workers of their own: nothing that is lacking waits for them.
    moves: Semaphore,
    recoveries: Semaphore,
    checks: Semaphore,
    waiting_checks: Arc<Semaphore>,
    /// Failed copies that are told again.
    pub(super) told_again: Semaphore,
    /// Of each volume.
    deletions: Mutex<BTreeMap<StorageId, Deletions>>,
}

/// A replica to delete.
pub(crate) struct Deletion {
    id: BlockId,
    stamp: GenStamp,
    /// Where it was when the order came: one that came to another volume since is another.
    storage: StorageId,
    ordered: Instant,
}

#[derive(Default)]
struct Deletions {
    waiting: VecDeque<Deletion>,
    running: bool,
}

impl Commands {
    pub(crate) fn new(
        node: Arc<Node>,
        session: u64,
        changes: Arc<Changes>,
        client: DatanodeLinkClient<Channel>,
        shutdown: Shutdown,
    ) -> Self {
        let copies = Semaphore::new(node.config.max_replication_streams.max(1));
        let shared = Shared {
            node,
            session,
            changes,
            client,
            shutdown,
            busy: Mutex::default(),
            copies,
            moves: Semaphore::new(MAX_MOVES),
            recoveries: Semaphore::new(MAX_RECOVERIES),
            checks: Semaphore::new(MAX_CHECKS),
            waiting_checks: Arc::new(Semaphore::new(MAX_WAITING_CHECKS)),
            told_again: failed::places(),
            deletions: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Begins a command, or drops it if there is too much to do. Does not wait.
    pub(crate) fn take(&self, command: Command) {
        let taken = match command {
            Command::Register(_) => Ok(()),
            Command::Report(_) => {
                self.shared.changes.report.notify_one();
                Ok(())
            }
            Command::Bandwidth(command) => {
                self.shared.node.admin.set_balancer_bandwidth(command.bytes_per_second);
                Ok(())
            }
            Command::Invalidate(command) => self.invalidate(command),
            Command::Transfer(command) => self.transfer(command),
            Command::Recover(command) => self.recover(command),
            Command::Check(command) => self.check(command),
        };
        if let Err(error) = taken {
            tracing::warn!(%error, "a command of the namenode makes no sense");
        }
    }

    fn place(&self, key: Key) -> Place {
        let mut busy = self.shared.busy.lock();
        if busy.contains(&key) {
            Place::Taken
        } else if busy.len() >= MAX_WAITING {
            Place::Full
        } else {
            busy.insert(key);
            Place::Free(Done { shared: self.shared.clone(), key })
        }
    }

    /// Runs `work` until the datanode ends.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shared.shutdown.clone();
        self.shared.shutdown.spawn(async move {
            tokio::select! {
                () = shutdown.triggered() => {}
                () = work => {}
            }
        });
    }

    /// Runs `work` unless the same is under way.
    fn start(&self, key: Key, work: impl Future<Output = ()> + Send + 'static) {
        let Place::Free(done) = self.place(key) else { return };
        self.spawn(async move {
            let _done = done;
            work.await;
        });
    }

    fn transfer(&self, command: pb::Transfer) -> FsResult<()> {
        let block = block("block", command.block)?;
        let shared = self.shared.clone();
        let failed = pb::CopyFailedRequest {
            uuid: shared.node.uuid.to_string(),
            session: shared.session,
            block: command.block,
            storage_ids: command.targets.iter().map(|target| target.storage_id.clone()).collect(),
        };
        let key = Key::Transfer(block.id, hash_of(&failed.storage_ids));
        let done = match self.place(key) {
            Place::Free(done) => Some(done),
            Place::Full => None,
            // It is under way.
            Place::Taken => return Ok(()),
        };
        self.spawn(async move {
            let sent = match &done {
                Some(_) => shared.copy(block, command).await,
                None => false,
            };
            // Its place is free before the namenode can order it again.
            drop(done);
            if !sent {
                shared.tell_failed(key, failed).await;
            }
        });
        Ok(())
    }

    fn check(&self, command: pb::Check) -> FsResult<()> {
        for wire in command.blocks {
            let block = block("blocks", Some(wire))?;
            let shared = self.shared.clone();
            let Ok(place) = shared.waiting_checks.clone().try_acquire_owned() else { break };
            self.start(Key::Check(block.id), async move {
                let _place = place;
                let Ok(_worker) = shared.checks.acquire().await else { return };
                check_doubted(&shared.node, block).await;
            });
        }
        Ok(())
    }

    fn recover(&self, command: pb::Recover) -> FsResult<()> {
        let key = Key::Recover(block("block", command.block)?.id, GenStamp(command.new_stamp));
        let shared = self.shared.clone();
        self.start(key, async move {
            let Ok(_worker) = shared.recoveries.acquire().await else { return };
            let id = command.block.map(|block| BlockId(block.id)).unwrap_or_default();
            if let Err(error) = recovery::recover(&shared.node, shared.client.clone(), command).await {
                tracing::warn!(block = %id, %error, "a block's recovery failed; the namenode will ask again");
            }
        });
        Ok(())
    }

    fn invalidate(&self, command: pb::Invalidate) -> FsResult<()> {
        let ordered = Instant::now();
        for wire in command.blocks {
            let Some(deletion) = Deletion::ordered(&self.shared.node.store, wire, ordered)? else { continue };
            let storage = deletion.storage;
            let mut deletions = self.shared.deletions.lock();
            let volume = deletions.entry(storage).or_default();
            if volume.waiting.len() >= MAX_DELETIONS {
                continue;
            }
            volume.waiting.push_back(deletion);
            if !std::mem::replace(&mut volume.running, true) {
                let shared = self.shared.clone();
                self.shared.shutdown.spawn(async move { shared.delete_all(storage).await });
            }
        }
        Ok(())
    }
}

impl Shared {
    pub(super) fn client(&self) -> DatanodeLinkClient<Channel> {
        self.client.clone()
    }

    /// Whether a command is under way.
    pub(super) fn is_busy(&self, key: Key) -> bool {
        self.busy.lock().contains(&key)
    }

    /// Copies a replica to other datanodes. Says whether that went well.
    async fn copy(&self, block: Block, command: pb::Transfer) -> bool {
        let workers = if command.for_balance { &self.moves } else { &self.copies };
        let Ok(_worker) = workers.acquire().await else { return false };
        let pace = match (command.bytes_per_second, command.for_balance) {
            (0, false) => Pace::Free,
            (0, true) => Pace::Moves,
            (bytes_per_second, _) => Pace::Bound(bytes_per_second),
        };
        let timeouts = TransferTimeouts::default();
        let seat = Seat::default();
        let sent = tokio::select! {
            sent = send_replica(&self.node, &timeouts, &seat, block, &command.targets, pace) => sent,
            // What waits on a disk thread for a disk that does not answer would keep the worker for ever.
            storage = seat.given_up() => Err(LinkError::GivenUp(storage).into()),
        };
        match &sent {
            Ok(()) => tracing::debug!(block = %block.id, "copied to other datanodes"),
            Err(error) => tracing::warn!(block = %block.id, %error, "a copy to another datanode failed"),
        }
        sent.is_ok()
    }

    /// Deletes what waits for a volume, in small jobs so that other work gets its turn on the disk threads.
    async fn delete_all(self: Arc<Self>, storage: StorageId) {
        while !self.shutdown.is_triggered() {
            let some: Vec<Deletion> = {
                let mut deletions = self.deletions.lock();
                let volume = deletions.entry(storage).or_default();
                let count = volume.waiting.len().min(DELETIONS_PER_JOB);
                let some = volume.waiting.drain(..count).collect();
                volume.running = count > 0;
                some
            };
            if some.is_empty() {
                return;
            }
            let store = self.node.store.clone();
            self.node.disks.of(storage).run(move || some.iter().for_each(|one| one.follow(&store))).await;
        }
    }
}

impl Deletion {
    /// What an order to delete comes to; nothing if the replica is not here any more.
    pub(crate) fn ordered(store: &Store, wire: pb::Block, ordered: Instant) -> FsResult<Option<Self>> {
        let block = block("blocks", Some(wire))?;
        let here = store.status(block.id);
        Ok(here.map(|replica| Self { id: block.id, stamp: block.stamp, storage: replica.storage, ordered }))
    }

    /// Deletes the replica, if it is still the one that was meant.
    pub(crate) fn follow(&self, store: &Store) {
        if self.ordered.elapsed() >= DELETION_EXPIRY {
            tracing::debug!(block = %self.id, "an order to delete has waited too long and is dropped");
        } else if store.status(self.id).is_none_or(|replica| replica.storage != self.storage) {
            tracing::debug!(block = %self.id, "a replica that was to be deleted went with its volume");
        } else if let Err(error) = store.delete(self.id, self.stamp) {
            tracing::warn!(block = %self.id, %error, "a replica could not be deleted");
        }
    }
}

fn hash_of(names: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    names.hash(&mut hasher);
    hasher.finish()
}

/// Whether there is a place for a command.
enum Place {
    Free(Done),
    /// The same is under way.
    Taken,
    /// Too much is.
    Full,
}

/// Frees a command's place when it ends, however it ends.
struct Done {
    shared: Arc<Shared>,
    key: Key,
}

impl Drop for Done {
    fn drop(&mut self) {
        self.shared.busy.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use steadfs_common::ChecksumSpec;
    use steadfs_datanode_store::{CreateOptions, NoListener, StoreOptions, VolumeConfig};

    use super::*;

    #[test]
    fn an_order_to_delete_does_not_hold_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let volume =
            VolumeConfig { path: folder.path().into(), kind: steadfs_common::StorageType::Disk, reserved: 0 };
        let options = StoreOptions::new(vec![volume]);
        let store = Store::open(options, Arc::new(NoListener)).unwrap();
        let (id, stamp) = (BlockId(1), GenStamp(1));
        let block = Block { id, stamp, len: 10 };
        let create = CreateOptions { block, storage: None, spec: ChecksumSpec::DEFAULT };
        store.create_rbw(create).unwrap().finalize().unwrap();
        let now = Instant::now();
        let Some(before) = now.checked_sub(DELETION_EXPIRY) else { return };
        let storage = store.volumes_in_service()[0];
        let elsewhere = StorageId(uuid::Uuid::nil());
        Deletion { id, stamp, storage: elsewhere, ordered: now }.follow(&store);
        assert!(store.status(id).is_some(), "it is not the one that was meant");
        Deletion { id, stamp, storage, ordered: before }.follow(&store);
        assert!(store.status(id).is_some());
        Deletion { id, stamp, storage, ordered: now }.follow(&store);
        assert!(store.status(id).is_none());
    }
}
