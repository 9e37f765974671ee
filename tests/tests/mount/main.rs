//! Real mounts in the kernel, over a whole cluster. They want root and `/dev/fuse`.

#![cfg(test)]

mod beyond;
mod driver;
mod files;
mod limits;
mod locks;
mod model;
mod mounted;
mod nameless;
mod names;
mod streams;
mod survival;
mod together;
mod volumes;

/// The program that mounts.
const BINARY: &str = env!("CARGO_BIN_EXE_steadfs-under-test");
