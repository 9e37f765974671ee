//! Wiring: ports, store, link.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::registry::Registry;
use steadfs_common::DatanodeUuid;
use steadfs_daemon::http::{self, Endpoints};
use steadfs_daemon::net::listen;
use steadfs_daemon::origins::guarded;
use steadfs_daemon::shutdown::Shutdown;
use steadfs_datanode_store::{Faults, Store, StoreOptions};
use steadfs_proto::steadfs as pb;
use tokio::net::{TcpListener, UdpSocket};

use crate::admin::Admin;
use crate::admin_door::AdminDoor;
use crate::balance::Moves;
use crate::changes::Changes;
use crate::config::Config;
use crate::disks::Disks;
use crate::ipc::Ipc;
use crate::link::Link;
use crate::local::LocalDoor;
use crate::metrics::LinkMetrics;
use crate::node::Node;
use crate::reconfigure::Reload;
use crate::scanner::Scans;
use crate::transfer::{TransferMetrics, TransferTimeouts};
use crate::{peer, server, volumes, webhdfs};

/// Wait between tries to find the own address.
const ADDRESS_RETRY: Duration = Duration::from_secs(1);
/// How long tasks may take to end.
const DRAIN: Duration = Duration::from_secs(10);

/// A running datanode.
pub struct Datanode {
    node: Arc<Node>,
    data: SocketAddr,
    ipc: SocketAddr,
    http: Option<SocketAddr>,
    tasks: Shutdown,
    shutdown: Shutdown,
}

struct Ports {
    data: TcpListener,
    ipc: TcpListener,
    http: Option<TcpListener>,
}

impl Datanode {
    /// Opens the ports and the store, and begins to serve and to look for the namenode. Returns when the ports listen.
    ///
    /// # Errors
    /// The configuration, a port, or the folders cannot be used: the sentence says why and what to do.
    pub async fn start(config: Config, shutdown: Shutdown) -> anyhow::Result<Self> {
        Self::start_reloading(config, None, shutdown).await
    }

    /// As [`Self::start`]; operators may have the configuration read again while it runs.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_reloading(
        config: Config,
        reload: Option<Reload>,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        Self::start_on(config, reload, None, shutdown).await
    }

    /// As [`Self::start_reloading`], on disks that fail as a test wants.
    pub(crate) async fn start_on(
        config: Config,
        reload: Option<Reload>,
        faults: Option<Arc<dyn Faults>>,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        config.validate()?;
        let ports = Ports {
            data: listen(config.data_listen, "data_listen").await?,
            ipc: listen(config.ipc_listen, "ipc_listen").await?,
            http: match config.http_listen {
                Some(address) => Some(listen(address, "http_listen").await?),
                None => None,
            },
        };
        let (data, ipc) = (ports.data.local_addr()?, ports.ipc.local_addr()?);
        let http = ports.http.as_ref().map(TcpListener::local_addr).transpose()?;
        let ip = own_ip(&config, data, &shutdown).await?;
        let threads = config.disk_threads_per_volume.max(1);
        let disks =
            Disks::new(threads, config.connections_per_volume()).context("starting the disk threads")?;
        let changes = Arc::new(Changes::new());
        let options = StoreOptions {
            faults,
            check_timeout: Duration::from_millis(config.volume_check_timeout_ms),
            ..StoreOptions::new(config.store_volumes()?)
        };
        let listener = changes.clone();
        let store = disks.shared().run(move || Store::open(options, listener)).await?;
        disks.add(store.volumes_in_service()).context("starting the disk threads")?;
        let uuid = store.identity().uuid;
        let address = pb::DatanodeAddress {
            uuid: uuid.to_string(),
            ip: ip.to_string(),
            host_name: if config.host_name.is_empty() { ip.to_string() } else { config.host_name.clone() },
            data_port: data.port().into(),
            ipc_port: ipc.port().into(),
            http_port: http.map_or(0, |http| http.port().into()),
        };
        let node = Arc::new(Node {
            config,
            store,
            disks,
            uuid,
            ip,
            data_port: data.port(),
            active_transfers: AtomicU32::new(0),
            transfer_metrics: TransferMetrics::default(),
            moves: Moves::default(),
            admin: Admin::reloading(reload),
            scans: Scans::default(),
        });
        let tasks = shutdown.child();
        serve(node.clone(), changes, address, ports, &shutdown, &tasks)?;
        tracing::info!(%uuid, %data, %ipc, "the datanode serves");
        Ok(Self { node, data: reachable(data, ip), ipc: reachable(ipc, ip), http, tasks, shutdown })
    }

    /// Who it is.
    #[must_use]
    pub fn uuid(&self) -> DatanodeUuid {
        self.node.uuid
    }

    /// What its parts share.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Where others reach its data-transfer port.
    #[must_use]
    pub fn data_address(&self) -> SocketAddr {
        self.data
    }

    /// Where others reach its RPC port.
    #[must_use]
    pub fn ipc_address(&self) -> SocketAddr {
        self.ipc
    }

    /// Where its port for operators listens, if it has one.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Waits for the end that `shutdown` tells, and for all work to have ended, that on the disks included: its folders can
    /// then be opened again once this is dropped. A disk that hangs is not waited for without end.
    pub async fn stopped(&self) {
        self.shutdown.triggered().await;
        if !self.tasks.drained(DRAIN).await {
            tracing::warn!("some of the datanode's tasks did not end in time");
        }
        if tokio::time::timeout(DRAIN, self.node.disks.drain()).await.is_err() {
            tracing::warn!("some of the work on the disks did not end in time");
        }
    }
}

/// Runs a datanode until `shutdown`.
///
/// # Errors
/// It cannot start, or could not go on.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let node = Datanode::start(config, shutdown.clone()).await?;
    node.stopped().await;
    match shutdown.failure() {
        Some(reason) => anyhow::bail!(reason),
        None => Ok(()),
    }
}

fn serve(
    node: Arc<Node>,
    changes: Arc<Changes>,
    address: pb::DatanodeAddress,
    ports: Ports,
    shutdown: &Shutdown,
    tasks: &Shutdown,
) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    node.transfer_metrics.register(&mut registry);
    node.scans.register(&mut registry);
    let metrics = LinkMetrics::default();
    metrics.register(&mut registry);
    let rpc_metrics = steadfs_rpc::Metrics::registered(&mut registry);
    let ipc = Ipc::new(node.clone(), changes.clone(), shutdown.clone());
    let admin = AdminDoor { node: node.clone(), changes: changes.clone(), tasks: tasks.clone() };
    let link = Link::new(node.clone(), changes.clone(), address, tasks.clone(), metrics)?;
    let rpc = steadfs_rpc::Server::new(Arc::new(ipc), rpc_metrics).with_grpc(peer::routes(&node, admin));
    tasks.spawn(rpc.serve(ports.ipc, tasks.clone()));
    tasks.spawn(server::serve(ports.data, node.clone(), TransferTimeouts::default(), tasks.clone()));
    open_local_door(&node, tasks);
    if let Some(listener) = ports.http {
        let (watched, namenode) = (link.clone(), node.config.namenode.clone());
        let ready = move || match watched.is_registered() {
            true => Ok(()),
            false => Err(format!("not registered with the namenode {namenode}")),
        };
        let origins = &node.config.webhdfs_cors_origins;
        let extra = guarded(webhdfs::router(&node.config.namenode), origins);
        let endpoints = Endpoints { registry: Arc::new(registry), ready: Arc::new(ready), extra };
        tasks.spawn(http::serve(listener, endpoints, tasks.clone()));
    }
    tasks.spawn(volumes::watch(node, changes, tasks.clone(), shutdown.clone()));
    // The link's failure is the datanode's: it belongs to another cluster, or has a double.
    shutdown.spawn_critical("datanode", tasks.track(link.run(tasks.clone())));
    Ok(())
}

/// Lets readers of this machine have descriptors, where the folder for it can be had.
fn open_local_door(node: &Arc<Node>, tasks: &Shutdown) {
    let folder = &node.config.local_folder;
    if folder.as_os_str().is_empty() {
        return;
    }
    match LocalDoor::open(node, folder) {
        Ok(door) => drop(tasks.spawn(door.serve(node.clone(), tasks.clone()))),
        Err(error) => tracing::warn!(
            folder = %folder.display(), %error,
            "mounts on this machine read through the network: the local socket cannot be had (see local_folder)"
        ),
    }
}

/// The address that others dial: as configured, else the one listened on, else the one this machine has towards the
/// namenode. Waits until the namenode's name can be resolved.
async fn own_ip(config: &Config, data: SocketAddr, shutdown: &Shutdown) -> anyhow::Result<IpAddr> {
    if let Some(ip) = config.advertised_ip {
        return Ok(ip);
    }
    if !data.ip().is_unspecified() {
        return Ok(data.ip());
    }
    loop {
        match ip_towards(&config.namenode).await {
            Ok(ip) => return Ok(ip),
            Err(error) => tracing::warn!(
                namenode = config.namenode,
                %error,
                "cannot tell the own address by the namenode's; trying on (or set advertised_ip)"
            ),
        }
        tokio::select! {
            () = shutdown.triggered() => anyhow::bail!("stopped before the namenode {} was found", config.namenode),
            () = tokio::time::sleep(ADDRESS_RETRY) => {}
        }
    }
}

async fn ip_towards(namenode: &str) -> std::io::Result<IpAddr> {
    let mut last = std::io::Error::other("the name has no address");
    for address in tokio::net::lookup_host(namenode).await? {
        let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
        // Connecting a UDP socket sends nothing: it only asks the kernel for the way.
        let socket = UdpSocket::bind((any, 0)).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket.local_addr()?.ip()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A listening address with the address that others dial in place of "all".
fn reachable(listening: SocketAddr, ip: IpAddr) -> SocketAddr {
    if listening.ip().is_unspecified() { SocketAddr::new(ip, listening.port()) } else { listening }
}
