//! What the namenode wants done: executed by a bounded number of workers, each command once at a time.
//!
//! All commands may be repeated and none is urgent, so what does not fit is dropped: the namenode sends it again.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use steadfs_common::{BlockId, FsResult, GenStamp};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::command::Command;
use steadfs_proto::steadfs::datanode_link_client::DatanodeLinkClient;
use tokio::sync::Semaphore;
use tonic::transport::Channel;

use crate::TransferTimeouts;
use crate::changes::Changes;
use crate::convert::block;
use crate::node::Node;
use crate::recovery;
use crate::send::send_replica;

/// Copies and recoveries that are under way or wait for a worker.
const MAX_WAITING: usize = 4_096;
/// Recoveries at the same time.
const MAX_RECOVERIES: usize = 16;
/// Deletions that wait; more are dropped.
const MAX_DELETIONS: usize = 1 << 20;
/// Replicas deleted by one job of a disk thread.
const DELETIONS_PER_JOB: usize = 64;

/// A command that must not run twice at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Transfer(BlockId),
    Recover(BlockId, GenStamp),
}

/// The workers.
#[derive(Clone)]
pub(crate) struct Commands {
    shared: Arc<Shared>,
}

struct Shared {
    node: Arc<Node>,
    changes: Arc<Changes>,
    client: DatanodeLinkClient<Channel>,
    shutdown: Shutdown,
    busy: Mutex<HashSet<Key>>,
    copies: Semaphore,
    recoveries: Semaphore,
    deletions: Mutex<Deletions>,
}

#[derive(Default)]
struct Deletions {
    waiting: Vec<(BlockId, GenStamp)>,
    running: bool,
}

impl Commands {
    pub(crate) fn new(
        node: Arc<Node>,
        changes: Arc<Changes>,
        client: DatanodeLinkClient<Channel>,
        shutdown: Shutdown,
    ) -> Self {
        let copies = Semaphore::new(node.config.max_replication_streams.max(1));
        let shared = Shared {
            node,
            changes,
            client,
            shutdown,
            busy: Mutex::default(),
            copies,
            recoveries: Semaphore::new(MAX_RECOVERIES),
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
            Command::Invalidate(command) => self.invalidate(command),
            Command::Transfer(command) => self.transfer(command),
            Command::Recover(command) => self.recover(command),
        };
        if let Err(error) = taken {
            tracing::warn!(%error, "a command of the namenode makes no sense");
        }
    }

    /// Runs `work` unless the same is under way.
    fn start(&self, key: Key, work: impl Future<Output = ()> + Send + 'static) {
        {
            let mut busy = self.shared.busy.lock();
            if busy.len() >= MAX_WAITING || !busy.insert(key) {
                return;
            }
        }
        let done = Done { shared: self.shared.clone(), key };
        let shutdown = self.shared.shutdown.clone();
        self.shared.shutdown.spawn(async move {
            let _done = done;
            tokio::select! {
                () = shutdown.triggered() => {}
                () = work => {}
            }
        });
    }

    fn transfer(&self, command: pb::Transfer) -> FsResult<()> {
        let block = block("block", command.block)?;
        let shared = self.shared.clone();
        self.start(Key::Transfer(block.id), async move {
            let Ok(_worker) = shared.copies.acquire().await else { return };
            match send_replica(&shared.node, &TransferTimeouts::default(), block, &command.targets).await {
                Ok(()) => tracing::debug!(block = %block.id, "copied to other datanodes"),
                Err(error) => tracing::warn!(block = %block.id, %error, "a copy to another datanode failed"),
            }
        });
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
        let mut deletions = self.shared.deletions.lock();
        for wire in command.blocks {
            if deletions.waiting.len() < MAX_DELETIONS {
                let block = block("blocks", Some(wire))?;
                deletions.waiting.push((block.id, block.stamp));
            }
        }
        if !std::mem::replace(&mut deletions.running, true) {
            let shared = self.shared.clone();
            self.shared.shutdown.spawn(async move { shared.delete_all().await });
        }
        Ok(())
    }
}

impl Shared {
    /// Deletes what waits, in small jobs so that other work gets its turn on the disk threads.
    async fn delete_all(self: Arc<Self>) {
        while !self.shutdown.is_triggered() {
            let some = {
                let mut deletions = self.deletions.lock();
                let from = deletions.waiting.len().saturating_sub(DELETIONS_PER_JOB);
                let some = deletions.waiting.split_off(from);
                if some.is_empty() {
                    deletions.running = false;
                    return;
                }
                some
            };
            let store = self.node.store.clone();
            self.node
                .disks
                .run(move || {
                    for (id, stamp) in some {
                        if let Err(error) = store.delete(id, stamp) {
                            tracing::warn!(block = %id, %error, "a replica could not be deleted");
                        }
                    }
                })
                .await;
        }
    }
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
