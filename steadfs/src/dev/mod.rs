//! A whole cluster on one machine: a namenode and several datanodes under one folder.
//!
//! `steadfs dev` runs it, and so do the tests. The nodes are libraries in this process, or child processes that can
//! be killed one by one; nothing that ends is started again by itself.
//!
//! ```text
//! DIR/lock                     held while a cluster runs here
//! DIR/endpoints.json           the doors, while it serves
//! DIR/namenode/config.toml     with the ports of the last start
//! DIR/namenode/{a,b}           the two copies of the journal
//! DIR/datanode-1/config.toml   and so on for each datanode
//! DIR/datanode-1/volume-1      its replicas
//! DIR/logs/*.log               of child processes
//! ```

mod cluster;
mod command;
mod doors;
mod layout;
mod node;
mod settings;

use std::path::PathBuf;

pub use cluster::Cluster;
pub use command::{Arguments, run};
pub use doors::{DatanodeDoors, DatanodeEndpoint, Endpoints, NamenodeDoors, NamenodeEndpoint};

/// The default port of Hadoop RPC and gRPC.
pub const DEFAULT_PORT: u16 = 8020;
/// The default port of HTTP.
pub const DEFAULT_HTTP_PORT: u16 = 9870;
/// Most datanodes of a cluster on one machine.
pub const MAX_DATANODES: u16 = 64;

/// What a cluster on one machine looks like.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder that holds everything; made if it is not there.
    pub dir: PathBuf,
    /// How many datanodes.
    pub datanodes: u16,
    /// Volumes of each datanode.
    pub volumes: u16,
    /// The namenode's port; 0 is any free one.
    pub port: u16,
    /// The namenode's HTTP port; 0 is any free one.
    pub http_port: u16,
    /// Replicas of files that do not name a number.
    pub replication: u16,
    /// Block size, in bytes, of files that do not name one.
    pub block_size: u64,
    /// The smallest block size, in bytes, that a file may name.
    pub min_block_size: u64,
    /// `key=value`: any other key of the namenode's or the datanodes' configuration.
    pub settings: Vec<String>,
    /// Nodes are child processes that run this program; without it they run in this process.
    pub binary: Option<PathBuf>,
}

impl Options {
    /// Three datanodes in this process under `dir`, on any free ports: what a test wants.
    #[must_use]
    pub fn any_ports(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            datanodes: 3,
            volumes: 1,
            port: 0,
            http_port: 0,
            replication: 3,
            block_size: 128 << 20,
            min_block_size: 1 << 20,
            settings: Vec::new(),
            binary: None,
        }
    }
}
