//! The SteadFS client library: files over hdfs:// from Rust

mod options;
mod types;
mod url;
pub use options::*;
pub use types::*;
pub use url::*;
pub use steadfs_common::{ChecksumKind, ChecksumSpec, FsError, FsErrorKind, FsPath, FsResult, Millis};
