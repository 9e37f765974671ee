//! The datanode: data server, write pipeline, reports and replication work.

mod config;
mod node;

pub use config::{Config, VolumeSettings};
pub use node::Node;
