//! The SteadFS client library: files over hdfs:// from Rust
