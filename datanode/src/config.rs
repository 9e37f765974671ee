//! Configuration of a datanode.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Configuration of a datanode; `config/datanode.example.toml` documents each key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The namenode, as `host:port`.
    pub namenode: String,
    /// Folders to keep replicas in, one a disk.
    pub volumes: Vec<VolumeSettings>,
    /// Where the data-transfer port listens. Port 0 takes any free one.
    pub data_listen: SocketAddr,
    /// Where the RPC port (Hadoop RPC and gRPC) listens.
    pub ipc_listen: SocketAddr,
    /// Where the HTTP port for operators listens; none to have no such port.
    pub http_listen: Option<SocketAddr>,
    /// The address that clients and other datanodes dial; none takes the address this machine has towards the namenode.
    pub advertised_ip: Option<IpAddr>,
    /// The host name that is told to clients; empty takes the advertised address.
    pub host_name: String,
    /// The rack or zone, beginning with `/`; empty means `/default-rack`.
    pub rack: String,
    /// The Kubernetes node, if any.
    pub node: String,
    /// Disk threads for each volume.
    pub disk_threads_per_volume: usize,
    /// Data-transfer connections served at the same time.
    pub max_transfer_connections: usize,
    /// Copies to other datanodes at the same time.
    pub max_replication_streams: usize,
}

/// One folder to keep replicas in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VolumeSettings {
    /// The folder; made if it is not there.
    pub path: PathBuf,
    /// `disk`, `ssd` or `archive`.
    pub kind: String,
    /// Bytes of the disk to leave free for others.
    pub reserved_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            namenode: "127.0.0.1:8020".into(),
            volumes: Vec::new(),
            data_listen: ([0, 0, 0, 0], 9866).into(),
            ipc_listen: ([0, 0, 0, 0], 9867).into(),
            http_listen: Some(([0, 0, 0, 0], 9864).into()),
            advertised_ip: None,
            host_name: String::new(),
            rack: String::new(),
            node: String::new(),
            disk_threads_per_volume: 4,
            max_transfer_connections: 4096,
            max_replication_streams: 2,
        }
    }
}
