//! What every daemon needs: configuration, logs, the HTTP port for operators, shutdown, a clock, disk threads, fair places.
//!
//! Owns the process around the work and nothing of the work itself: no module here knows HDFS.
//!
//! Invariants:
//! * Blocking work runs on the threads of a [`pool::DiskPool`] and nowhere else; the pool is bounded.
//! * One [`shutdown::Shutdown`] per process (or per daemon, where several share a process) ends everything.
//! * Time is read through [`clock::Clock`] alone, so that a test can own it.

pub mod clock;
pub mod config;
pub mod descriptors;
pub mod fair;
pub mod http;
pub mod logs;
pub mod net;
pub mod origins;
pub mod parent;
pub mod pool;
pub mod shutdown;
