//! The socket, and what stands behind it.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use steadfs_client::{FsPath, FsUrl};
use steadfs_daemon::pool::DiskPool;
use steadfs_daemon::shutdown::Shutdown;
use steadfs_fuse::{Mounts, MountsOptions, SERVER_TAKES};
use steadfs_proto::csi::controller_server::ControllerServer;
use steadfs_proto::csi::identity_server::IdentityServer;
use steadfs_proto::csi::node_server::NodeServer;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::controller::ControllerDoor;
use crate::ephemeral::Ephemeral;
use crate::identity::IdentityDoor;
use crate::locks::Locks;
use crate::namespace::Cluster;
use crate::node::{Node, NodeSettings};
use crate::node_door::NodeDoor;
use crate::parameters::folder;
use crate::volumes::Volumes;
use crate::{CommonArgs, CsiArgs, NodeArgs, Part};

/// Largest request, in bytes.
const MAX_REQUEST: usize = 4 << 20;
/// Calls of one connection carried out at a time.
const MAX_CALLS: usize = 64;
/// How long calls under way may take once this process is told to end.
const LAST_CALLS: Duration = Duration::from_secs(2);
/// Between two looks for inline volumes whose pods are gone.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Serves until it is told to stop. Mounts live on.
///
/// # Errors
/// An argument is wrong, or the socket cannot be made.
pub async fn run(args: CsiArgs) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("listening for signals")?;
    let (common, node, controller) = match args.part {
        Part::Controller { common } => (common, None, true),
        Part::Node { common, node } => (common, Some(node), false),
        Part::Both { common, node } => (common, Some(node), true),
    };
    let common = Common::read(&common)?;
    let mut server = Server::builder()
        .concurrency_limit_per_connection(MAX_CALLS)
        .add_service(IdentityServer::new(IdentityDoor { driver: common.driver.clone(), controller }));
    if controller {
        let door = ControllerDoor { volumes: common.volumes(), locks: Locks::default() };
        server = server.add_service(ControllerServer::new(door).max_decoding_message_size(MAX_REQUEST));
    }
    if let Some(args) = node {
        let node = Arc::new(common.node(&args).await?);
        shutdown.spawn(sweep(node.clone(), shutdown.clone()));
        server = server.add_service(NodeServer::new(NodeDoor(node)).max_decoding_message_size(MAX_REQUEST));
    }
    // Last: who finds the socket finds everything behind it.
    let socket = common.socket.clone();
    let listener = listen(&socket)?;
    tracing::info!(socket = %socket.display(), driver = common.driver, "serving");
    let stop = shutdown.clone();
    let served = server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
        stop.triggered().await
    });
    let late = async {
        shutdown.triggered().await;
        tokio::time::sleep(LAST_CALLS).await;
    };
    tokio::select! {
        served = served => served.context("serving")?,
        // The kubelet and the sidecars keep their connections; what they ask for is repeated to the next process.
        () = late => {}
    }
    Ok(())
}

/// Arguments that were looked at.
struct Common {
    socket: PathBuf,
    url: String,
    user: String,
    driver: String,
    parent: FsPath,
    state: FsPath,
}

impl Common {
    fn read(args: &CommonArgs) -> anyhow::Result<Self> {
        let socket = args.endpoint.strip_prefix("unix://").unwrap_or(&args.endpoint);
        ensure!(Path::new(socket).is_absolute(), "--endpoint {}: write unix:///csi/csi.sock", args.endpoint);
        let url: FsUrl = args.fs.parse()?;
        let place =
            |name: &str, text: &str| folder(text).map_err(|why| anyhow::anyhow!("{name} {text}: {why}"));
        let well = args.driver.len() <= 63
            && args.driver.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
        ensure!(
            well && !args.driver.is_empty(),
            "--driver {}: write a name such as csi.steadfs.dev",
            args.driver
        );
        Ok(Self {
            socket: socket.into(),
            url: url.to_string(),
            user: args.user.clone(),
            driver: args.driver.clone(),
            parent: place("--parent", &args.parent)?,
            state: place("--state-folder", &args.state_folder)?,
        })
    }

    fn volumes(&self) -> Volumes<Cluster> {
        Volumes::new(Cluster::new(&self.url, &self.user), self.state.clone(), self.parent.clone())
    }

    async fn node(&self, args: &NodeArgs) -> anyhow::Result<Node<Cluster>> {
        let each = args.volume_memory.saturating_add(SERVER_TAKES);
        let max_volumes = args.memory / each;
        ensure!(
            max_volumes > 0,
            "--memory {} is too little for one volume: each takes {each} bytes (--volume-memory and its server)",
            args.memory
        );
        let volumes = Arc::new(self.volumes());
        let inline = folder(&args.inline_folder);
        let inline =
            inline.map_err(|why| anyhow::anyhow!("--inline-folder {}: {why}", args.inline_folder))?;
        let options = MountsOptions { keeper: args.keeper.clone(), state: args.state.clone() };
        Ok(Node {
            settings: NodeSettings {
                driver: self.driver.clone(),
                node: args.node.clone(),
                url: self.url.clone(),
                local: args.local.clone(),
                volume_memory: args.volume_memory,
                max_volumes,
            },
            ephemeral: Ephemeral::new(volumes.clone(), &inline, &args.node)?,
            volumes,
            mounts: Mounts::start(options).await?,
            locks: Locks::default(),
            pool: DiskPool::new("places", 4, 64)?,
        })
    }
}

/// The socket; one that a former process left is taken away.
fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let at = || format!("the socket {}", path.display());
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => std::fs::remove_file(path).with_context(at)?,
        Ok(_) => bail!("{} exists and is no socket", path.display()),
        Err(_) => {}
    }
    UnixListener::bind(path).with_context(at)
}

/// Deletes inline volumes whose pods are gone, now and then.
async fn sweep(node: Arc<Node<Cluster>>, shutdown: Shutdown) {
    loop {
        if let Err(failure) = node.ephemeral.sweep(&node.locks).await {
            tracing::info!(?failure, "inline volumes were not looked at");
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP_EVERY) => {}
            () = shutdown.triggered() => return,
        }
    }
}
