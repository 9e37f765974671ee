//! Who runs where, as a file tells it. The rules are in `steadfs_namenode_core::locality`.

mod file;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use steadfs_daemon::pool::DiskPool;
use steadfs_daemon::shutdown::Shutdown;
use steadfs_namenode_core::locality::{Asked, Pods, Replica, distance, named, renames};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::LocalityConfig;
use crate::service::{LocatedBlock, Location};

/// Most addresses of pods that a datanode is told of its node. Kubernetes allows 110 pods a node unless told otherwise.
const MAX_PEERS: usize = 1_024;

/// The pods as known now.
pub struct Locality {
    pods: ArcSwap<Pods>,
    file: PathBuf,
    interval: Duration,
    name_executors: bool,
}

/// Names the places of blocks for one caller.
pub struct Namer {
    pods: Arc<Pods>,
    caller: IpAddr,
}

impl Locality {
    /// Knows no pods yet.
    #[must_use]
    pub fn new(config: &LocalityConfig) -> Arc<Self> {
        Arc::new(Self {
            pods: ArcSwap::default(),
            file: config.pods_file.clone(),
            interval: Duration::from_millis(config.pods_check_interval_ms),
            name_executors: config.name_executors,
        })
    }

    /// Puts other pods in place of those known.
    pub fn replace(&self, pods: Pods) {
        self.pods.store(Arc::new(pods));
    }

    /// Puts the replicas of a block that are on the reader's own node first; all else stays in its order.
    pub fn order(&self, reader: Option<IpAddr>, locations: &mut [Location]) {
        let pods = self.pods.load();
        if let Some(reader) = reader.and_then(|ip| pods.reader(ip)) {
            locations.sort_by_key(|place| {
                let node = &place.node;
                distance(reader.node, Replica { node: &node.node, fresh: node.live && !node.stale })
            });
        }
    }

    /// Who names places for this caller; none if it shall hear the names that datanodes registered with.
    #[must_use]
    pub fn namer(&self, caller: Option<IpAddr>, asked: Asked) -> Option<Namer> {
        let caller = caller.filter(|_| self.name_executors)?;
        let pods = self.pods.load_full();
        let reader = pods.reader(caller)?;
        renames(asked, &reader).then(|| Namer { pods: pods.clone(), caller })
    }

    /// The addresses of the pods on a node, at most `MAX_PEERS`.
    #[must_use]
    pub fn peers_on(&self, node: &str) -> Vec<String> {
        let pods = self.pods.load();
        pods.addresses_on(node).iter().take(MAX_PEERS).map(IpAddr::to_string).collect()
    }

    /// Reads the file now and whenever it has changed, until `shutdown`. A file that cannot be used changes nothing.
    pub(crate) fn watch(self: Arc<Self>, files: DiskPool, shutdown: &Shutdown) {
        if self.file.as_os_str().is_empty() {
            return;
        }
        let ended = shutdown.clone();
        shutdown.spawn(async move {
            let mut watched = file::Watched::new(self.file.clone());
            let mut turn = interval(self.interval);
            turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = turn.tick() => {}
                    () = ended.triggered() => return,
                }
                let (after, change) = files
                    .run(move || {
                        let change = watched.look();
                        (watched, change)
                    })
                    .await;
                watched = after;
                self.take(change);
            }
        });
    }

    fn take(&self, change: file::Change) {
        let file = self.file.display();
        match change {
            file::Change::None => {}
            file::Change::Pods(pods) => {
                tracing::info!(%file, pods = pods.len(), "who runs where was read");
                self.replace(pods);
            }
            file::Change::Bad(problem) => {
                let kept = self.pods.load().len();
                tracing::warn!(%file, problem, kept, "the file of pods cannot be used: what it said before still holds");
            }
        }
    }
}

impl Namer {
    /// The block's places by number, with their hosts. None for a block without replicas.
    #[must_use]
    pub fn name(&self, block: &LocatedBlock) -> Option<Vec<(usize, String)>> {
        let reader = self.pods.reader(self.caller)?;
        let nodes: Vec<&str> = block.locations.iter().map(|place| place.node.node.as_str()).collect();
        if nodes.is_empty() {
            return None;
        }
        let named = named(&self.pods, &reader, block.block.id, &nodes);
        Some(named.into_iter().map(|entry| (entry.replica, entry.host.to_owned())).collect())
    }
}
