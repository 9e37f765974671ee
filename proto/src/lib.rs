//! Protocol messages of Hadoop and of SteadFS, generated at build time, and their conversions. Holds no rules.

pub mod convert;
pub mod hadoop;
mod status;

pub use status::{code, from_status, to_status};

/// Our own messages and services.
#[expect(missing_docs, clippy::all, reason = "generated")]
pub mod steadfs {
    tonic::include_proto!("steadfs.v1");
}

/// The Container Storage Interface: what Kubernetes asks of a driver of volumes.
#[expect(missing_docs, clippy::all, reason = "generated")]
pub mod csi {
    tonic::include_proto!("csi.v1");
}
