//! A whole cluster: files through it, and what it survives.

#![cfg(test)]

mod attributes;
mod bad_input;
mod cli;
mod client;
mod cut_and_join;
mod dev;
mod doors;
mod files;
mod hdfs_native;
mod kills;
mod mounts;
mod nodes;
mod raw_rpc;
mod stalls;
mod webhdfs;

/// The program whose processes are killed.
const BINARY: &str = env!("CARGO_BIN_EXE_steadfs-under-test");
