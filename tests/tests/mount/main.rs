//! Real mounts in the kernel, over a whole cluster. They want root and `/dev/fuse`.

#![cfg(test)]

mod beyond;
mod files;
mod locks;
mod model;
mod mounted;
mod survival;
mod together;

/// The program that mounts.
const BINARY: &str = env!("CARGO_BIN_EXE_steadfs-under-test");
