//! From a configuration to a serving namenode, and back to nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use prometheus_client::registry::Registry;
use steadfs_common::TxId;
use steadfs_daemon::clock::{SharedClock, SystemClock};
use steadfs_daemon::http::Endpoints;
use steadfs_daemon::net;
use steadfs_daemon::pool::DiskPool;
use steadfs_daemon::shutdown::Shutdown;
use steadfs_namenode_core::{Command, View as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::blocks::Blocks;
use crate::commit::answers::SavedAnswers;
use crate::commit::renewals::Renewals;
use crate::commit::{CommitThread, Commits, Parts, payload};
use crate::config::NamenodeConfig;
use crate::events::Events;
use crate::identity::DataFolders;
use crate::journal::{Journal, JournalError, SegmentedJournal};
use crate::locks::Locks;
use crate::service::{EffectSink, Service, ServiceParts, Touch, own_caller, start_workers};
use crate::store::{Position, Store, StoreWriter};
use crate::upkeep::{Health, Upkeep, heal};
use crate::{grpc, hadoop, http};

/// How long connections and workers may take to end.
const DRAIN: Duration = Duration::from_secs(10);
/// While the data folders are being opened, this often is told that they are.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A running namenode.
pub struct Namenode {
    rpc: SocketAddr,
    http: SocketAddr,
    service: Arc<Service>,
    commits: Commits,
    thread: CommitThread,
    /// Keeps the data folders locked.
    folders: DataFolders,
    pool: DiskPool,
    shutdown: Shutdown,
}

/// Runs a namenode until `shutdown` is triggered.
///
/// # Errors
/// It cannot start, or could not go on.
pub async fn run(config: NamenodeConfig, shutdown: Shutdown) -> anyhow::Result<()> {
    Namenode::start(config, shutdown.clone()).await?.stopped().await;
    match shutdown.failure() {
        Some(reason) => bail!(reason),
        None => Ok(()),
    }
}

impl Namenode {
    /// Starts a namenode; when this returns, it serves. An empty folder is formatted.
    ///
    /// # Errors
    /// The configuration makes no sense, a port is taken, or the data folders are damaged, foreign or in use: each with
    /// what to do about it.
    pub async fn start(config: NamenodeConfig, shutdown: Shutdown) -> anyhow::Result<Self> {
        Self::start_at(config, shutdown, SystemClock::shared()).await
    }

    /// As [`Namenode::start`], by another clock.
    ///
    /// # Errors
    /// As [`Namenode::start`].
    pub async fn start_at(
        config: NamenodeConfig,
        shutdown: Shutdown,
        clock: SharedClock,
    ) -> anyhow::Result<Self> {
        config.validate()?;
        allow_simple(&config)?;
        let rpc = net::listen(config.listen, "listen").await?;
        let web = net::listen(config.http_listen, "http_listen").await?;
        let addresses = (rpc.local_addr()?, web.local_addr()?);

        let pool = DiskPool::new("namenode-start", 1, 1)?;
        let opened = {
            let config = config.clone();
            let folders = config.data_dirs.clone();
            telling(&folders, pool.run(move || Opened::open(&config))).await?
        };
        let blocks = Blocks::new(&config, clock.clone(), opened.store.clone())?;
        let (health, stood_at) = (opened.health.clone(), opened.stood_at);
        let store = opened.store.clone();
        let Assembled { service, touches, commits, thread, mut folders } =
            opened.assemble(&config, clock.clone(), blocks.clone()).await?;
        let folders = pool.run(move || folders.finish().map(|()| folders)).await?;

        start_workers(&service, &config, touches, &shutdown);
        let (stopping, waited_for) = (shutdown.clone(), service.clone());
        shutdown.spawn(async move {
            stopping.triggered().await;
            waited_for.stop_waiting();
        });
        service.apply_hosts().await.context("hosts: name files that can be read, or none")?;
        blocks.start(&shutdown)?;
        let identity = service.identity().clone();
        let upkeep =
            Upkeep::new(&config.upkeep, (store, stood_at), &config.data_dirs, health, identity, clock);
        service.set_scrubber(upkeep.clone());
        upkeep.start(&blocks, &commits, &shutdown)?;
        serve(&service, &blocks, rpc, web, &config.webhdfs_cors_origins, &shutdown)?;
        let (rpc, http) = addresses;
        let identity = service.identity();
        tracing::info!(%rpc, %http, cluster = identity.cluster_id, epoch = identity.epoch, "the namenode serves");
        Ok(Self { rpc, http, service, commits, thread, folders, pool, shutdown })
    }

    /// Where Hadoop RPC and gRPC are served.
    #[must_use]
    pub const fn rpc_address(&self) -> SocketAddr {
        self.rpc
    }

    /// Where HTTP is served.
    #[must_use]
    pub const fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// What the doors call.
    #[must_use]
    pub const fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Waits for the end to be told, and then until everything queued is carried out, sealed and flushed.
    pub async fn stopped(self) {
        self.shutdown.triggered().await;
        if !self.shutdown.drained(DRAIN).await {
            tracing::warn!("some connections did not end in time: they are left");
        }
        self.commits.stop();
        self.service.close_audit().await;
        let (thread, folders) = (self.thread, self.folders);
        self.pool
            .run(move || {
                thread.join();
                drop(folders);
            })
            .await;
        tracing::info!("the namenode has stopped");
    }
}

fn allow_simple(config: &NamenodeConfig) -> anyhow::Result<()> {
    ensure!(
        config.insecure.simple,
        "insecure.simple: the only way of telling users apart that this release has is to believe what a client says. Set \
         `simple = true` under [insecure] if everybody who can reach {} may be trusted",
        config.listen
    );
    tracing::warn!("user names are believed as clients send them (insecure.simple)");
    Ok(())
}

/// Serves all doors until `shutdown`.
fn serve(
    service: &Arc<Service>,
    blocks: &Arc<Blocks>,
    rpc: TcpListener,
    web: TcpListener,
    origins: &[String],
    shutdown: &Shutdown,
) -> std::io::Result<()> {
    let mut registry = Registry::with_prefix("steadfs");
    service.metrics().register(&mut registry);
    service.health().register(&mut registry);
    service.kubernetes().register(&mut registry);
    blocks.register_metrics(&mut registry);
    if let Some(lost) = service.lost_audit_lines() {
        registry.register("namenode_audit_lines_lost", "Lines of the audit log that were lost", lost);
    }
    let metrics = steadfs_rpc::Metrics::registered(&mut registry);
    let address = rpc.local_addr()?;
    let pages = http::router(service.clone(), address, origins);
    // WebHDFS is found where clients know the namenode, too.
    let server = steadfs_rpc::Server::new(hadoop::handler(service.clone()), metrics)
        .with_grpc(grpc::routes(service.clone(), blocks.clone()))
        .with_http(pages.clone());
    shutdown.spawn(server.serve(rpc, shutdown.clone()));
    let endpoints = Endpoints { registry: Arc::new(registry), ready: Arc::new(|| Ok(())), extra: pages };
    shutdown.spawn(steadfs_daemon::http::serve(web, endpoints, shutdown.clone()));
    Ok(())
}

/// Waits for the data folders to be opened, and says so from time to time.
async fn telling<T>(folders: &[PathBuf], opening: impl Future<Output = T>) -> T {
    let mut opening = std::pin::pin!(opening);
    let mut waited = Duration::ZERO;
    loop {
        match tokio::time::timeout(TELL_EVERY, &mut opening).await {
            Ok(opened) => return opened,
            Err(_) => waited += TELL_EVERY,
        }
        tracing::warn!(
            seconds = waited.as_secs(),
            ?folders,
            "STILL OPENING the data folders: there is much to replay, or a disk does not answer (dmesg, iostat). Without one \
             of two folders the namenode starts if data_dirs does not name it"
        );
    }
}

/// What is on the disk, opened and replayed.
pub(crate) struct Opened {
    pub(crate) folders: DataFolders,
    pub(crate) store: Arc<Store>,
    pub(crate) writer: StoreWriter,
    pub(crate) journal: SegmentedJournal,
    health: Health,
    /// Where the store stood before the journal was replayed.
    stood_at: Position,
}

impl Opened {
    /// Opens store and journal and brings the store to the journal's end. The cost is that of the journal since the last
    /// flush, whatever the number of files.
    pub(crate) fn open(config: &NamenodeConfig) -> anyhow::Result<Self> {
        let folders = DataFolders::open(&config.data_dirs)?;
        let journals: Vec<PathBuf> = folders.journals();
        let heal::OpenedStore { store, mut writer, healed } = heal::open_store(&folders, &config.store)?;
        let begins_at = writer.position();
        let (journal, recovered) =
            SegmentedJournal::open(&journals, config.journal.segment_bytes, begins_at, |position, bytes| {
                let changes = payload::changes(bytes).map_err(|error| JournalError::Unreadable {
                    index: position.index,
                    problem: error.to_string(),
                })?;
                writer.apply(position, &changes);
                Ok(())
            })?;
        tracing::info!(from = begins_at.index, batches = recovered.batches, "the journal is replayed");
        if !folders.is_new() {
            store.view().counters().context(
                "the data folders are marked as formatted, but store and journal hold no namespace: put back their content",
            )?;
        }
        let journal = journal.keeping(config.journal.kept_bytes).needing(config.journal.min_copies);
        if let Some(copied) = crate::upkeep::copied_at(config, begins_at) {
            journal.health().copied(copied);
        }
        let health = Health::new(journal.health());
        let repaired = recovered
            .repaired
            .iter()
            .map(|path| format!("{} was not as it should be and was written anew", path.display()));
        repaired.chain(healed).for_each(|finding| health.found(finding));
        Ok(Self { folders, store, writer, journal, health, stood_at: begins_at })
    }

    /// Starts the commit thread and puts a service on it; formats a namespace that is not there yet.
    pub(crate) async fn assemble(
        self,
        config: &NamenodeConfig,
        clock: SharedClock,
        sink: Arc<dyn EffectSink>,
    ) -> anyhow::Result<Assembled> {
        let identity = self.folders.identity(self.journal.epoch());
        let settings = Arc::new(config.settings());
        let renewals = Arc::new(Renewals::new(clock.clone()));
        let answers = Arc::new(SavedAnswers::new(config.namespace.retry_entries));
        let last = self.store.view().counters().map_or_else(TxId::default, |counters| counters.last_tx);
        let journals = (self.folders.journals(), self.journal.health());
        let events = Events::new(last, journals, config.store.event_cache_bytes)?;
        let locks = Arc::new(Locks::new(clock.clone(), self.store.view().lock_sessions(None, usize::MAX)));
        let parts = Parts {
            store: self.store.clone(),
            writer: self.writer,
            journal: Box::new(self.journal),
            settings: settings.clone(),
            clock: clock.clone(),
            sink: sink.clone(),
            renewals: renewals.clone(),
            answers: answers.clone(),
            events: events.clone(),
            open: locks.clone(),
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
        };
        let (thread, commits) = CommitThread::start(parts, &config.journal)?;
        sink.set_losses(self.store.view().losses());
        let store = self.store;
        if store.view().counters().is_none() {
            commits.submit(own_caller(), None, Command::Format, None).await?;
        }
        let commit = commits.clone();
        let parts = ServiceParts {
            store,
            commits,
            blocks: sink,
            renewals,
            answers,
            events,
            locks,
            settings,
            clock,
            identity,
            health: self.health,
        };
        let (service, touches) = Service::new(config, parts)?;
        Ok(Assembled { service, touches, commits: commit, thread, folders: self.folders })
    }
}

/// A service and what runs behind it.
pub(crate) struct Assembled {
    pub(crate) service: Arc<Service>,
    pub(crate) touches: mpsc::Receiver<Touch>,
    pub(crate) commits: Commits,
    pub(crate) thread: CommitThread,
    pub(crate) folders: DataFolders,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use steadfs_common::FsPath;

    use super::*;

    fn config(folder: &Path) -> NamenodeConfig {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = NamenodeConfig {
            listen: any,
            http_listen: any,
            data_dirs: vec![folder.join("a"), folder.join("b")],
            ..NamenodeConfig::default()
        };
        config.insecure.simple = true;
        config.safe_mode.extension_ms = 0;
        config.journal.segment_bytes = 64 << 10;
        config
    }

    async fn refusal(config: NamenodeConfig) -> String {
        match Namenode::start(config, Shutdown::new()).await {
            Ok(_) => panic!("it should not have started"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_starts_serves_stops_and_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut clusters = Vec::new();
        for life in 1..4 {
            let shutdown = Shutdown::new();
            let namenode = Namenode::start(config(folder.path()), shutdown.clone()).await.unwrap();
            assert_ne!(namenode.rpc_address().port(), 0);
            assert_ne!(namenode.http_address().port(), 0);
            let service = namenode.service();
            assert_eq!(service.identity().epoch, life);
            clusters.push(service.identity().cluster_id.clone());
            let root = service.own_caller().clone();
            service.set_safe_mode(&root, false).unwrap();
            let path = FsPath::parse(&format!("/life-{life}")).unwrap();
            let mkdirs = Command::Mkdirs { path, mode: 0o755, unmasked: None, create_parent: false };
            service.submit(&root, None, mkdirs).await.unwrap();
            let summary = service.content_summary(&root, &FsPath::root()).await.unwrap();
            assert_eq!(summary.directories, life + 1);
            shutdown.trigger();
            namenode.stopped().await;
        }
        clusters.dedup();
        assert_eq!(clusters.len(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_it_cannot_start_with_is_said_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let mut secure = config(folder.path());
        secure.insecure.simple = false;
        assert!(refusal(secure).await.contains("[insecure]"));

        let shutdown = Shutdown::new();
        let running = Namenode::start(config(folder.path()), shutdown.clone()).await.unwrap();
        assert!(refusal(config(folder.path())).await.contains("in use by another process"));
        let mut taken = config(&folder.path().join("other"));
        taken.listen = running.rpc_address();
        let error = refusal(taken).await;
        assert!(error.contains("listen"), "{error}");
        shutdown.trigger();
        running.stopped().await;

        for copy in ["a", "b"] {
            std::fs::remove_dir_all(folder.path().join(copy).join("journal")).unwrap();
        }
        let error = refusal(config(folder.path())).await;
        assert!(error.contains("Put back the newest copies"), "{error}");
    }
}
