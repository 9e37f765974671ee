//! Protocol messages of Hadoop and of SteadFS, generated at build time, and their conversions. Holds no rules.

/// Our own messages and services.
#[expect(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod steadfs {
    tonic::include_proto!("steadfs.v1");
}
