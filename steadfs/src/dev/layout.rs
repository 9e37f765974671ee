//! The folder of a cluster: its lock, its configuration files, and where everything lies.

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use steadfs_datanode::VolumeSettings;

use super::doors::Endpoints;
use super::settings::Configurations;
use super::{MAX_DATANODES, Options};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// On one machine heartbeats are cheap, and a person waits for the first one.
const HEARTBEAT_MS: u64 = 1_000;
/// How long a start waits for the lock, and how often it asks: a child that this process is starting holds it too, until its
/// exec, and a process that was killed holds it until it is gone.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Where everything of a cluster lies. Its functions block.
pub(crate) struct Layout {
    dir: PathBuf,
    /// Held as long as this lives; the kernel gives it back however the process ends.
    _lock: File,
}

impl Layout {
    /// Takes the folder for this process.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let logs = dir.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("making the folder {}", logs.display()))?;
        let dir = dir.canonicalize().with_context(|| format!("looking up {}", dir.display()))?;
        let path = dir.join("lock");
        let lock = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        let begun = Instant::now();
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            ensure!(
                begun.elapsed() < LOCK_PATIENCE,
                "another cluster runs on {}: stop it, or choose another folder with --dir",
                dir.display()
            );
            std::thread::sleep(LOCK_PAUSE);
        }
        let layout = Self { dir, _lock: lock };
        layout.forget_endpoints()?;
        Ok(layout)
    }

    /// The configuration file of a node; `None` is the namenode, `Some(0)` the first datanode.
    pub(crate) fn config(&self, datanode: Option<usize>) -> PathBuf {
        self.node(datanode).join("config.toml")
    }

    /// The log file of a child process.
    pub(crate) fn log(&self, datanode: Option<usize>) -> PathBuf {
        self.dir.join("logs").join(format!("{}.log", node_name(datanode)))
    }

    /// The folder of a node.
    pub(crate) fn node(&self, datanode: Option<usize>) -> PathBuf {
        self.dir.join(node_name(datanode))
    }

    /// The folder of one volume of a datanode, from 0.
    pub(crate) fn volume(&self, datanode: usize, volume: usize) -> PathBuf {
        self.node(Some(datanode)).join(format!("volume-{}", volume + 1))
    }

    /// The configurations that `options` ask for. Volumes and the namenode's address are not filled in yet.
    pub(crate) fn configurations(&self, options: &Options) -> anyhow::Result<Configurations> {
        if !(1..=MAX_DATANODES).contains(&options.datanodes) || options.volumes == 0 {
            bail!("--datanodes: 1 to {MAX_DATANODES}");
        }
        let home = self.node(None);
        let mut namenode = steadfs_namenode::Config {
            listen: SocketAddr::new(LOOPBACK, options.port),
            http_listen: SocketAddr::new(LOOPBACK, options.http_port),
            data_dirs: vec![home.join("a"), home.join("b")],
            ..steadfs_namenode::Config::default()
        };
        namenode.namespace.default_replication = options.replication;
        namenode.namespace.default_block_size_bytes = options.block_size;
        namenode.namespace.min_block_size_bytes = options.min_block_size;
        namenode.datanodes.heartbeat_interval_ms = HEARTBEAT_MS;
        // All nodes start together, so that nobody is waited for once the replicas are known.
        namenode.safe_mode.extension_ms = 0;
        namenode.insecure.simple = true;
        let datanode = steadfs_datanode::Config {
            data_listen: SocketAddr::new(LOOPBACK, 0),
            ipc_listen: SocketAddr::new(LOOPBACK, 0),
            http_listen: Some(SocketAddr::new(LOOPBACK, 0)),
            advertised_ip: Some(LOOPBACK),
            ..steadfs_datanode::Config::default()
        };
        let mut both = Configurations { namenode, datanode, single: Vec::new() };
        for setting in &options.settings {
            both.set(setting)?;
        }
        both.namenode.validate()?;
        Ok(both)
    }

    /// The configuration of one datanode, from the one they share.
    pub(crate) fn datanode_config(
        &self,
        shared: &steadfs_datanode::Config,
        namenode: SocketAddr,
        index: usize,
        volumes: u16,
    ) -> steadfs_datanode::Config {
        let volume = |volume| VolumeSettings {
            path: self.volume(index, volume),
            kind: "disk".into(),
            ..VolumeSettings::default()
        };
        steadfs_datanode::Config {
            namenode: namenode.to_string(),
            volumes: (0..usize::from(volumes)).map(volume).collect(),
            ..shared.clone()
        }
    }

    /// Writes a node's configuration file.
    pub(crate) fn write_config(
        &self,
        datanode: Option<usize>,
        config: &impl Serialize,
    ) -> anyhow::Result<()> {
        let path = self.config(datanode);
        let home = self.node(datanode);
        fs::create_dir_all(&home).with_context(|| format!("making the folder {}", home.display()))?;
        let text = toml::to_string_pretty(config).context("writing the configuration as TOML")?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Tells where the cluster is reached: the file is whole whenever it is there.
    pub(crate) fn write_endpoints(&self, endpoints: &Endpoints) -> anyhow::Result<()> {
        let (path, temporary) = (self.dir.join("endpoints.json"), self.dir.join("endpoints.json.new"));
        let mut text = serde_json::to_string_pretty(endpoints).context("writing the endpoints as JSON")?;
        text.push('\n');
        File::create(&temporary)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&temporary, &path))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Takes back what [`Layout::write_endpoints`] told.
    pub(crate) fn forget_endpoints(&self) -> anyhow::Result<()> {
        let path = self.dir.join("endpoints.json");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// What a node is called in messages, and its folder and log.
pub(crate) fn node_name(datanode: Option<usize>) -> String {
    datanode.map_or_else(|| "namenode".into(), |index| format!("datanode-{}", index + 1))
}
