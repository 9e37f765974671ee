//! The driver of volumes: folders of a cluster as volumes of Kubernetes, by the Container Storage Interface.
//!
//! A volume is a folder with a quota. The **controller** (one in a Kubernetes cluster) makes, lists and deletes them; the
//! **node** process (one on every node) mounts them for pods. Both hold no state of their own: what is known of a volume is
//! written in the cluster (`volumes`), and what is mounted is known to the kernel and to a keeper of descriptors.
//!
//! ```text
//!   sidecars ── controller ── namespace ─┐
//!                                        ├─ client library → namenode
//!   kubelet ─── node ─┬───── namespace ──┘
//!                     └ mounts: one server a volume, and a keeper in another pod
//! ```
//!
//! Invariants:
//! * Nothing from outside becomes part of a path before it was looked up or checked: see `handle` and `parameters`.
//! * Every call can be made again, at the same time, and after any other was cut off in its middle.
//! * Unpublishing and unstaging need nobody: neither the cluster, nor the mount's server.

mod capability;
mod controller;
mod ephemeral;
mod handle;
mod identity;
mod locks;
mod namespace;
mod node;
mod node_door;
mod parameters;
mod places;
mod serve;
mod status;
mod volumes;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub use serve::run;

/// Serve volumes to Kubernetes
#[derive(Args, Clone, Debug)]
pub struct CsiArgs {
    /// Which part.
    #[command(subcommand)]
    pub part: Part,
}

/// The parts of the driver.
#[derive(Subcommand, Clone, Debug)]
pub enum Part {
    /// Make, list, enlarge and delete volumes, as the sidecars ask
    Controller {
        /// What both parts need.
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Mount volumes of this node for its pods, as its kubelet asks
    Node {
        /// What both parts need.
        #[command(flatten)]
        common: CommonArgs,
        /// What mounts need.
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Both at one socket, as tests of the interface want it
    #[command(hide = true)]
    Both {
        /// What both parts need.
        #[command(flatten)]
        common: CommonArgs,
        /// What mounts need.
        #[command(flatten)]
        node: NodeArgs,
    },
}

/// What both parts need.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// The socket where it is asked
    #[arg(long, env = "CSI_ENDPOINT", value_name = "unix:///FILE", default_value = "unix:///csi/csi.sock")]
    pub endpoint: String,
    /// The cluster
    #[arg(long, env = "STEADFS_URL", value_name = "URL")]
    pub fs: String,
    /// Who the driver is in the cluster: a superuser
    #[arg(long, value_name = "NAME", default_value = "root")]
    pub user: String,
    /// What the driver is called
    #[arg(long, value_name = "NAME", default_value = "csi.steadfs.dev")]
    pub driver: String,
    /// The folder of volumes whose storage class does not say another
    #[arg(long, value_name = "FOLDER", default_value = "/volumes")]
    pub parent: String,
    /// The driver's own folder in the cluster
    #[arg(long, value_name = "FOLDER", default_value = "/.steadfs/csi")]
    pub state_folder: String,
}

/// What mounts need.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// The node's name in Kubernetes
    #[arg(long, env = "STEADFS_NODE", value_name = "NAME")]
    pub node: String,
    /// The socket of the keeper of descriptors (steadfs mount-keeper)
    #[arg(long, value_name = "FILE", default_value = "/run/steadfs/keeper/keeper.sock")]
    pub keeper: PathBuf,
    /// A folder of this node, on a real disk, where bytes wait that are not written in order
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/steadfs/csi")]
    pub state: PathBuf,
    /// Where datanodes of this node open the sockets that give descriptors of their replicas
    #[arg(long, value_name = "FOLDER", default_value = steadfs_client::LOCAL_FOLDER)]
    pub local: PathBuf,
    /// Memory of all volumes' servers together; it says how many volumes the node takes
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = steadfs_common::parse_bytes)]
    pub memory: u64,
    /// Memory for bytes of files being read and written, of each volume
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = steadfs_common::parse_bytes)]
    pub volume_memory: u64,
    /// The cluster's folder of volumes that pods ask for inline
    #[arg(long, value_name = "FOLDER", default_value = "/volumes/.inline")]
    pub inline_folder: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        _args: super::CsiArgs,
    }

    #[test]
    fn the_command_line_is_sound() {
        Line::command().debug_assert();
    }
}
