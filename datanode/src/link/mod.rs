//! The link to the namenode: registration, heartbeats, reports. Everything is started from here; the namenode only answers.
//!
//! A namenode that is away is normal: the link tries for ever, and registers again when it is asked to. An answer of a
//! namenode with an older epoch than one heard before is not obeyed.

pub(crate) mod beats;
pub(crate) mod commands;
mod failed;
mod heard;
pub(crate) mod reports;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use steadfs_common::{BlockPoolId, FsError, FsErrorKind, FsResult};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_datanode_store::{Cluster, Heard, VolumeStatus};
use steadfs_proto::from_status;
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::datanode_link_client::DatanodeLinkClient;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tonic::transport::{Channel, Endpoint};

use self::beats::Beats;
use crate::changes::Changes;
use crate::convert::{to_failure, to_health, to_storage_report};
use crate::metrics::LinkMetrics;
use crate::node::Node;
pub(crate) use commands::Commands;
use heard::Notes;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an ordinary call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last call may take: whoever ends should not be waited for.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Waits between tries while the namenode is away: doubled each time, up to the second.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(5);
/// How often it is written down how far the namenode is.
const HEARD_EVERY: Duration = Duration::from_secs(60);
/// Bounds of what the namenode may ask for.
const HEARTBEAT_BOUNDS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));
const REPORT_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(7 * 24 * 3600));

/// Runs a call with a deadline, and reads our error out of its status.
pub(crate) async fn call<T>(
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> FsResult<T> {
    match timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(from_status(&status)),
        Err(_) => Err(FsError::new(FsErrorKind::Timeout, format!("no answer within {deadline:?}"))),
    }
}

/// Dials a gRPC port when the first call is made, and again whenever the connection was lost.
pub(crate) fn dial(address: &str) -> FsResult<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| {
        FsError::new(
            FsErrorKind::InvalidArgument,
            format!("`{address}` is not an address (host:port): {error}"),
        )
    })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(CALL_TIMEOUT)
        .keep_alive_timeout(CALL_TIMEOUT)
        .connect_lazy())
}

/// Notes in `heard` how far a namenode is, and gives what is to be written down.
///
/// # Errors
/// Standby: it is behind what was heard before, and must not be obeyed.
pub(crate) fn hear(heard: &mut Heard, epoch: u64, now: Option<pb::Heard>) -> FsResult<Heard> {
    let now = now.unwrap_or_default();
    let now = Heard { incarnation: now.incarnation, epoch, transaction: now.transaction };
    if heard.allows(&now) {
        *heard = heard.and(now);
        return Ok(*heard);
    }
    let text = format!(
        "the namenode has epoch {epoch}, one with epoch {} was heard before: it was restored from an old copy, or started \
         beside a newer one. Start the newer one; if it is gone, `steadfs namenode accept-loss` lets this one go on",
        heard.epoch
    );
    Err(FsError::new(FsErrorKind::Standby, text))
}

/// The link of one datanode.
pub(crate) struct Link {
    node: Arc<Node>,
    changes: Arc<Changes>,
    client: DatanodeLinkClient<Channel>,
    address: pb::DatanodeAddress,
    /// Drawn at this start.
    session: u64,
    beats: Beats,
    /// The farthest that a namenode of the cluster was, and when that was written down last.
    heard: Mutex<(Heard, Instant)>,
    notes: Notes,
    registered: AtomicBool,
    commands: Commands,
    shutdown: Shutdown,
    metrics: LinkMetrics,
}

/// Why serving one registration ended.
enum End {
    /// The namenode wants a new registration.
    RegisterAgain,
    /// Another process has this datanode's identity.
    Superseded(FsError),
}

/// What a registration gave.
struct Intervals {
    heartbeat: Duration,
    report: Duration,
}

impl Link {
    pub(crate) fn new(
        node: Arc<Node>,
        changes: Arc<Changes>,
        address: pb::DatanodeAddress,
        shutdown: Shutdown,
        metrics: LinkMetrics,
    ) -> anyhow::Result<Arc<Self>> {
        let client = DatanodeLinkClient::new(dial(&node.config.namenode)?);
        let session = uuid::Uuid::new_v4().as_u64_pair().0;
        Ok(Arc::new(Self {
            commands: Commands::new(node.clone(), session, changes.clone(), client.clone(), shutdown.clone()),
            shutdown,
            heard: Mutex::new((node.store.heard(), Instant::now())),
            notes: Notes::default(),
            node,
            changes,
            client,
            address,
            session,
            beats: Beats::default(),
            registered: AtomicBool::new(false),
            metrics,
        }))
    }

    /// Whether the namenode knows this datanode, as far as we know.
    pub(crate) fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Relaxed)
    }

    /// Serves until `shutdown`; an error if this datanode cannot belong to this namenode.
    pub(crate) async fn run(self: Arc<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        loop {
            let served = async {
                let intervals = self.register().await?;
                self.registered.store(true, Ordering::Relaxed);
                Ok::<End, FsError>(self.serve(&intervals).await)
            };
            let end = tokio::select! {
                () = shutdown.triggered() => {
                    self.say_that_it_ends().await;
                    return Ok(());
                }
                end = served => end?,
            };
            self.registered.store(false, Ordering::Relaxed);
            match end {
                End::RegisterAgain => tracing::info!("registering again"),
                End::Superseded(error) => anyhow::bail!(
                    "another process has registered as this datanode ({}): {error}. Two datanodes must not share a copy of a \
                     folder: give one of them an empty one",
                    self.node.uuid
                ),
            }
        }
    }

    /// Lets the namenode know, so that nothing new is placed here and the next life is taken in wherever it is. A namenode that
    /// does not hear it finds out by the silence.
    async fn say_that_it_ends(&self) {
        if self.is_registered() {
            let request = pb::HeartbeatRequest { ending: true, ..self.beat() };
            if let Err(error) = call(GOODBYE_TIMEOUT, self.client.clone().heartbeat(request)).await {
                tracing::debug!(%error, "the namenode was not told that this datanode ends");
            }
        }
    }

    /// Tries until it works.
    async fn register(&self) -> FsResult<Intervals> {
        let mut wait = RETRY_FIRST;
        let mut told = false;
        loop {
            match self.try_register().await {
                Ok(intervals) => return Ok(intervals),
                // Another cluster's, or a copy of another datanode: trying on cannot help.
                Err(error) if matches!(error.kind(), FsErrorKind::Refused | FsErrorKind::NotRegistered) => {
                    return Err(error);
                }
                Err(error) if told => tracing::debug!(%error, "cannot register yet"),
                Err(error) => {
                    told = true;
                    tracing::warn!(namenode = self.node.config.namenode, %error, "cannot register; trying on");
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_MOST);
        }
    }

    async fn try_register(&self) -> FsResult<Intervals> {
        let heard = self.heard.lock().0;
        let request = pb::RegisterRequest {
            address: Some(self.address.clone()),
            cluster_id: self
                .node
                .store
                .identity()
                .cluster
                .map(|cluster| cluster.cluster_id)
                .unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").into(),
            rack: self.node.config.rack.clone(),
            node: self.node.config.node.clone(),
            storages: self.storages().iter().map(to_storage_report).collect(),
            session: self.session,
            heard: Some(pb::Heard {
                incarnation: heard.incarnation,
                epoch: heard.epoch,
                transaction: heard.transaction,
            }),
        };
        let answer = call(CALL_TIMEOUT, self.client.clone().register(request)).await?;
        let heard = self.hear(answer.epoch, answer.now)?;
        let cluster = Cluster { cluster_id: answer.cluster_id, block_pool: BlockPoolId(answer.block_pool) };
        let (store, joining) = (self.node.store.clone(), cluster.clone());
        // Touches a disk the first time only.
        let joined = self.node.disks.shared().run(move || store.join(&joining));
        timeout(CALL_TIMEOUT, joined).await.map_err(|_| {
            FsError::new(FsErrorKind::Timeout, "the disks do not take down which cluster this is")
        })??;
        // Written down before anything of it is obeyed: a namenode restored from an old copy is known after a restart too.
        self.notes.write(&self.node, heard).await?;
        tracing::info!(cluster = cluster.cluster_id, epoch = answer.epoch, "registered with the namenode");
        let span = |ms, (least, most): (Duration, Duration)| Duration::from_millis(ms).clamp(least, most);
        Ok(Intervals {
            heartbeat: span(answer.heartbeat_interval_ms, HEARTBEAT_BOUNDS),
            report: span(answer.block_report_interval_ms, REPORT_BOUNDS),
        })
    }

    /// Notes how far a namenode is, and gives what is to be written down; an error if it is behind what was heard before.
    fn hear(&self, epoch: u64, now: Option<pb::Heard>) -> FsResult<Heard> {
        hear(&mut self.heard.lock().0, epoch, now)
    }

    /// Writes down how far the namenode is, if that was not done for a while.
    fn keep_heard(&self, heard: Heard) {
        {
            let mut last = self.heard.lock();
            if last.1.elapsed() < HEARD_EVERY {
                return;
            }
            last.1 = Instant::now();
        }
        let (node, notes) = (self.node.clone(), self.notes.clone());
        // What went wrong is told where it did.
        self.shutdown.spawn(async move { drop(notes.write(&node, heard).await) });
    }

    async fn serve(&self, intervals: &Intervals) -> End {
        tokio::select! {
            end = self.heartbeats(intervals.heartbeat) => end,
            end = self.send_changes() => end,
            end = self.send_reports(intervals.report) => end,
            () = self.changes.register.notified() => End::RegisterAgain,
        }
    }

    async fn heartbeats(&self, every: Duration) -> End {
        let mut timer = interval(every);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut away_since = None;
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                () = self.changes.heartbeat.notified() => {}
            }
            match self.heartbeat().await {
                Ok(true) => return End::RegisterAgain,
                Ok(false) => {
                    if let Some(since) = away_since.take() {
                        tracing::info!(away = ?Instant::now().duration_since(since), "the namenode answers again");
                    }
                    // What did not hurry goes now.
                    self.changes.wake.notify_one();
                }
                Err(error) if error.kind() == FsErrorKind::NotRegistered => return End::Superseded(error),
                Err(error) => {
                    self.metrics.heartbeats_failed.inc();
                    if away_since.is_none() {
                        away_since = Some(Instant::now());
                        tracing::warn!(%error, "the namenode does not answer heartbeats; trying on");
                    }
                    timer.reset_after(every.min(Duration::from_millis(500)));
                }
            }
        }
    }

    /// What a heartbeat says.
    fn beat(&self) -> pb::HeartbeatRequest {
        let volumes = self.storages();
        let scans = &self.node.scans;
        let (number, answered) = self.beats.next();
        pb::HeartbeatRequest {
            ending: false,
            number,
            answered,
            uuid: self.node.uuid.to_string(),
            session: self.session,
            storages: volumes.iter().map(to_storage_report).collect(),
            active_transfers: self.node.active_transfers.load(Ordering::Relaxed),
            peers: self.node.transfer_metrics.latencies.told(),
            address: Some(self.address.clone()),
            health: volumes.iter().map(|volume| to_health(volume, scans.state(volume.storage))).collect(),
            failures: self.node.store.failures().iter().map(to_failure).collect(),
        }
    }

    /// One heartbeat. True if the namenode wants a new registration.
    async fn heartbeat(&self) -> FsResult<bool> {
        let answer = call(CALL_TIMEOUT, self.client.clone().heartbeat(self.beat())).await?;
        let heard = self.hear(answer.epoch, answer.now)?;
        self.keep_heard(heard);
        self.metrics.heartbeats.inc();
        self.node.transfer_metrics.peers.on_this_node(&answer.local_peers);
        let mut register_again = false;
        for command in answer.commands.into_iter().filter_map(|command| command.command) {
            register_again |= matches!(command, pb::command::Command::Register(_));
            self.commands.take(command);
        }
        self.beats.taken();
        Ok(register_again)
    }

    /// How the volumes are, as far as is known without asking a disk: a slow one cannot hold heartbeats back.
    fn storages(&self) -> Vec<VolumeStatus> {
        let status = self.node.store.statuses();
        self.metrics.volumes(&status);
        status
    }
}
