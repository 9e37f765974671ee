//! The streams of changes, and when a new picture is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use steadfs_daemon::shutdown::Shutdown;
use steadfs_namenode_core::locality::Pods;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::facts::{NodeFacts, PodFacts, Stay, Watched};
use super::objects::{NodeObject, PodObject, SpaceObject};
use super::picture::picture;
use super::{MAX_NODES, MAX_PODS, MAX_SPACES, Status};
use crate::config::KubernetesConfig;
use crate::service::Service;

/// Objects asked for at a time: what a page of a list costs in memory.
const PAGE: u32 = 250;
/// Changes that wait for being noted; the streams wait beyond that.
const QUEUE: usize = 1_024;
/// Changes of this span make one picture, and pictures take at most a fifth of the time.
const SETTLE: Duration = Duration::from_millis(100);
const SHARE: u32 = 4;
/// After an error, the first and the longest wait before everything is listed again.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What a stream tells.
enum Change<F> {
    /// A list begins: what is not in it is gone.
    Begin,
    /// An object as it is now; none of its facts if it does not matter (any more).
    Now { uid: String, facts: Option<F>, listed: bool },
    /// The list is whole.
    Whole,
}

enum Update {
    /// Of the stream with this number.
    Pods(usize, Change<PodFacts>),
    Nodes(Change<NodeFacts>),
    Spaces(Change<String>),
}

/// The objects of one stream.
struct Table<F> {
    now: BTreeMap<String, F>,
    /// The list under way.
    coming: Option<BTreeMap<String, F>>,
    /// A list was whole once.
    whole: bool,
    most: usize,
}

impl<F: PartialEq> Table<F> {
    const fn new(most: usize) -> Self {
        Self { now: BTreeMap::new(), coming: None, whole: false, most }
    }

    /// Notes a change; says whether the objects that are believed are others now.
    fn take(&mut self, change: Change<F>, status: &Status) -> bool {
        match change {
            Change::Begin => {
                self.coming = Some(BTreeMap::new());
                false
            }
            Change::Now { uid, facts, listed } => {
                let table = match &mut self.coming {
                    Some(coming) if listed => coming,
                    _ => &mut self.now,
                };
                let Some(facts) = facts else { return table.remove(&uid).is_some() && !listed };
                if table.len() >= self.most && !table.contains_key(&uid) {
                    status.passed_over();
                    return false;
                }
                let before = table.get(&uid);
                if before == Some(&facts) {
                    return false;
                }
                table.insert(uid, facts);
                !listed
            }
            Change::Whole => {
                let first = !std::mem::replace(&mut self.whole, true);
                let coming = self.coming.take().unwrap_or_default();
                let differs = self.now != coming;
                self.now = coming;
                first || differs
            }
        }
    }

    /// The objects, once they are known.
    fn known(&self) -> impl Iterator<Item = &F> {
        self.now.values().filter(|_| self.whole)
    }
}

/// All that is known.
struct Known {
    pods: Vec<Table<PodFacts>>,
    nodes: Table<NodeFacts>,
    spaces: Table<String>,
}

impl Known {
    fn take(&mut self, update: Update, status: &Status) -> bool {
        match update {
            Update::Pods(stream, change) => self.pods[stream].take(change, status),
            Update::Nodes(change) => self.nodes.take(change, status),
            Update::Spaces(change) => self.spaces.take(change, status),
        }
    }

    fn picture(&self) -> Result<Pods, String> {
        let silent: BTreeSet<&str> = self.spaces.known().map(String::as_str).collect();
        let pods = self.pods.iter().flat_map(Table::known);
        picture(pods, self.nodes.known(), &silent).map_err(|error| error.to_string())
    }

    /// The nodes that are about to go, once the nodes are known.
    fn leaving(&self) -> Option<BTreeMap<String, Stay>> {
        let leaving = self.nodes.known().filter(|node| node.stay != Stay::Stays);
        self.nodes.whole.then(|| leaving.map(|node| (node.name.clone(), node.stay)).collect())
    }
}

/// Begins to watch, until `shutdown`.
pub(crate) fn start(service: &Arc<Service>, config: &KubernetesConfig, shutdown: &Shutdown) {
    if config.watch {
        let (service, config, ended) = (service.clone(), config.clone(), shutdown.clone());
        shutdown.spawn(async move {
            tokio::select! {
                () = connect_and_watch(service, config) => {}
                () = ended.triggered() => {}
            }
        });
    }
}

async fn connect_and_watch(service: Arc<Service>, config: KubernetesConfig) {
    let mut wait = FIRST_WAIT;
    loop {
        match Client::try_default().await {
            Ok(client) => return watch(client, service, config).await,
            Err(error) => service.kubernetes().failed("client", told(error)),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Watches until it is dropped.
pub(super) async fn watch(client: Client, service: Arc<Service>, config: KubernetesConfig) {
    let status = service.kubernetes().clone();
    status.synced("client");
    let (updates, mut heard) = mpsc::channel(QUEUE);
    let pods: Vec<Api<PodObject>> = if config.namespaces.is_empty() {
        vec![Api::all(client.clone())]
    } else {
        config.namespaces.iter().map(|name| Api::namespaced(client.clone(), name)).collect()
    };
    let mut known = Known {
        pods: pods.iter().map(|_| Table::new(MAX_PODS / pods.len().max(1))).collect(),
        nodes: Table::new(MAX_NODES),
        spaces: Table::new(MAX_SPACES),
    };
    let mut streams = tokio::task::JoinSet::new();
    for (at, api) in pods.into_iter().enumerate() {
        let send = move |change| Update::Pods(at, change);
        streams.spawn(follow(api, "pods", Vec::new(), updates.clone(), send, status.clone()));
    }
    let nodes = Api::<NodeObject>::all(client.clone());
    streams.spawn(follow(
        nodes,
        "nodes",
        config.rack_labels.clone(),
        updates.clone(),
        Update::Nodes,
        status.clone(),
    ));
    // Whoever may see some namespaces alone may not list them all.
    if config.namespaces.is_empty() {
        let spaces = Api::<SpaceObject>::all(client);
        streams.spawn(follow(spaces, "namespaces", Vec::new(), updates, Update::Spaces, status.clone()));
    }
    let mut due: Option<Instant> = None;
    let mut pause = SETTLE;
    loop {
        let soon = due.unwrap_or_else(Instant::now);
        tokio::select! {
            update = heard.recv() => {
                let Some(update) = update else { return };
                if known.take(update, &status) {
                    due.get_or_insert_with(|| Instant::now() + pause);
                }
            }
            () = tokio::time::sleep_until(soon), if due.is_some() => {
                due = None;
                let began = Instant::now();
                known = publish(known, &service, &config).await;
                pause = SETTLE.max(began.elapsed() * SHARE);
            }
        }
    }
}

/// Takes a new picture of what is known.
async fn publish(known: Known, service: &Arc<Service>, config: &KubernetesConfig) -> Known {
    let (known, picture) = service
        .disk_pool()
        .run(move || {
            let picture = known.picture();
            (known, picture)
        })
        .await;
    let status = service.kubernetes();
    status.known("pods", known.pods.iter().map(|table| table.known().count()).sum());
    status.known("nodes", known.nodes.known().count());
    match picture {
        Ok(pods) => service.set_pods(pods),
        Err(problem) => status.failed("picture", problem),
    }
    if config.cordoned_to_maintenance
        && let Some(leaving) = known.leaving()
    {
        service.set_cordoned(super::leave::wishes(leaving)).await;
    }
    known
}

/// Lists and watches objects of one kind, and after every error from the beginning, for ever.
async fn follow<K>(
    api: Api<K>,
    resource: &'static str,
    labels: Vec<String>,
    updates: mpsc::Sender<Update>,
    wrap: impl Fn(Change<K::Facts>) -> Update + Send,
    status: Status,
) where
    K: Resource + Watched + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut wait = FIRST_WAIT;
    loop {
        let stream = watcher(api.clone(), watcher::Config::default().page_size(PAGE));
        pin_mut!(stream);
        while let Some(event) = stream.next().await {
            let change = match event {
                Err(error) => {
                    status.failed(resource, told(error));
                    break;
                }
                Ok(Event::Init) => Change::Begin,
                Ok(Event::InitApply(object)) => now(object, &labels, true),
                Ok(Event::Apply(object)) => now(object, &labels, false),
                Ok(Event::Delete(object)) => Change::Now { uid: object.uid(), facts: None, listed: false },
                Ok(Event::InitDone) => {
                    wait = FIRST_WAIT;
                    status.synced(resource);
                    Change::Whole
                }
            };
            if updates.send(wrap(change)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn now<K: Watched>(object: K, labels: &[String], listed: bool) -> Change<K::Facts> {
    Change::Now { uid: object.uid(), facts: object.facts(labels), listed }
}

/// An error with its causes, on one line.
fn told(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into()).replace('\n', " ")
}
