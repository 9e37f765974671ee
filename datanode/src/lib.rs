//! The datanode: data server, write pipeline, reports and replication work.

mod checksum;
mod config;
mod connection;
mod node;
mod pipeline;
mod ranges;
mod read;
pub mod send;
pub mod server;
mod transfer;

pub use config::{Config, VolumeSettings};
pub use node::Node;
pub use transfer::{TransferMetrics, TransferTimeouts};
