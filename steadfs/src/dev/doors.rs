//! Where nodes are reached, and the file that tells it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use steadfs_datanode::Datanode;
use steadfs_namenode::Namenode;

/// Where a namenode is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamenodeDoors {
    /// Hadoop RPC and gRPC.
    pub rpc: SocketAddr,
    /// Metrics, health and the status page.
    pub http: SocketAddr,
}

/// Where a datanode is reached, and who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatanodeDoors {
    /// Who it is, for life.
    pub uuid: String,
    /// The data-transfer protocol.
    pub data: SocketAddr,
    /// Hadoop RPC and gRPC.
    pub ipc: SocketAddr,
}

/// `endpoints.json`: what a script needs to know of a running cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The URL for every client.
    pub hdfs: String,
    /// The URL of the status page.
    pub http: String,
    /// The namenode.
    pub namenode: NamenodeEndpoint,
    /// The datanodes, the first one first.
    pub datanodes: Vec<DatanodeEndpoint>,
}

/// The namenode's entry in `endpoints.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamenodeEndpoint {
    /// Its process.
    pub pid: u32,
}

/// A datanode's entry in `endpoints.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatanodeEndpoint {
    /// Who it is, for life.
    pub uuid: String,
    /// Its process.
    pub pid: u32,
    /// Its data-transfer port.
    pub data: SocketAddr,
    /// Its port for operators' tools: Hadoop RPC and gRPC.
    pub ipc: SocketAddr,
    /// Its folder.
    pub dir: PathBuf,
}

impl NamenodeDoors {
    /// Those of a node in this process.
    pub(crate) fn of(node: &Namenode) -> Self {
        Self { rpc: dialled(node.rpc_address()), http: dialled(node.http_address()) }
    }

    /// The URL for every client.
    #[must_use]
    pub fn url(&self) -> String {
        format!("hdfs://{}", self.rpc)
    }

    /// The URL of the status page.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://{}", self.http)
    }
}

impl DatanodeDoors {
    /// Those of a node in this process.
    pub(crate) fn of(node: &Datanode) -> Self {
        Self {
            uuid: node.uuid().to_string(),
            data: dialled(node.data_address()),
            ipc: dialled(node.ipc_address()),
        }
    }
}

/// An address that can be dialled from this machine: a node that listens on all addresses is at the loopback one too.
fn dialled(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        _ => address,
    }
}
