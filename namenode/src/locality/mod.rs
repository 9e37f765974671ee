//! Who runs where, as a file tells it. The rules are in `steadfs_namenode_core::locality`.

mod file;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use steadfs_daemon::shutdown::Shutdown;
use steadfs_namenode_core::locality::{Asked, Pods, named, renames};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::LocalityConfig;
use crate::service::{LocatedBlock, Service};

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
    pub(crate) fn replace(&self, pods: Arc<Pods>) {
        self.pods.store(pods);
    }

    /// Who names places for this caller; none if it shall hear the names that datanodes registered with.
    #[must_use]
    pub fn namer(&self, caller: Option<IpAddr>, asked: Asked) -> Option<Namer> {
        let caller = caller.filter(|_| self.name_executors)?;
        let pods = self.pods.load_full();
        let reader = pods.reader(caller)?;
        renames(asked, &reader).then(|| Namer { pods: pods.clone(), caller })
    }

    /// The ranges and addresses of the pods on a node, at most `MAX_PEERS`.
    #[must_use]
    pub fn peers_on(&self, node: &str) -> Vec<String> {
        let pods = self.pods.load();
        let ranges = pods.ranges_of(node).map(|range| range.to_string());
        ranges.chain(pods.addresses_on(node).iter().map(IpAddr::to_string)).take(MAX_PEERS).collect()
    }

    /// Reads the file now and whenever it has changed, until `shutdown`. A file that cannot be used changes nothing.
    pub(crate) fn watch(&self, service: &Arc<Service>, shutdown: &Shutdown) {
        if self.file.as_os_str().is_empty() {
            return;
        }
        let (service, ended) = (service.clone(), shutdown.clone());
        let (mut watched, mut turn) = (file::Watched::new(self.file.clone()), interval(self.interval));
        shutdown.spawn(async move {
            turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = turn.tick() => {}
                    () = ended.triggered() => return,
                }
                let (after, change) = service
                    .disk_pool()
                    .run(move || {
                        let change = watched.look();
                        (watched, change)
                    })
                    .await;
                watched = after;
                if let Some(pods) = service.locality().judged(change) {
                    service.set_pods(pods);
                }
            }
        });
    }

    /// Other pods, if the file told some; the log says what it told.
    fn judged(&self, change: file::Change) -> Option<Pods> {
        let file = self.file.display();
        match change {
            file::Change::None => None,
            file::Change::Pods(pods) => {
                tracing::info!(%file, pods = pods.len(), "who runs where was read");
                Some(pods)
            }
            file::Change::Bad(problem) => {
                let kept = self.pods.load().len();
                tracing::warn!(%file, problem, kept, "the file of pods cannot be used: what it said before still holds");
                None
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
