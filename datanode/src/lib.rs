//! The datanode: data server, write pipeline, reports and replication work.
//!
//! Serves the replicas of `steadfs-datanode-store`: bulk bytes at its data-transfer port, lengths and recoveries at its RPC
//! port. It does what the namenode says in answer to its heartbeats, and never allocates a name or a block.
//!
//! Invariants:
//! * The store's calls block: they run on [`Node::disks`] and nowhere else, each on the threads of its volume.
//! * The namenode never dials; nobody but the configuration says who it is.
//! * Commands may be lost, repeated or late: each is checked against the store when it runs.

mod admin;
mod admin_door;
mod balance;
mod changes;
mod checksum;
mod config;
mod connection;
mod convert;
mod datanode;
mod disks;
#[cfg(test)]
mod hanging_test;
pub mod inline;
mod ipc;
mod latency;
mod link;
#[cfg(test)]
mod link_test;
mod local;
mod metrics;
mod node;
#[cfg(test)]
mod orders_test;
mod peer;
mod peers;
mod pipeline;
mod ranges;
mod read;
mod reconfigure;
mod recovery;
mod scanner;
pub mod send;
pub mod server;
mod transfer;
#[cfg(test)]
mod transfer_tests;
mod volumes;
#[cfg(test)]
mod volumes_test;
mod webhdfs;

pub use config::{Config, VolumeSettings};
pub use datanode::{Datanode, run};
pub use disks::Disks;
pub use node::Node;
pub use reconfigure::Reload;
pub use scanner::Scans;
pub use transfer::{TransferMetrics, TransferTimeouts};
