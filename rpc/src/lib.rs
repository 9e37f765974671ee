//! The server side of Hadoop RPC: sockets, handshake, calls and fairness.
//!
//! Owns connections and knows no method's meaning: a daemon gives it a [`Handler`]. Bytes are read and written by
//! `steadfs_wire::rpc`; this crate decides when.

mod handler;

pub use handler::{Call, Handler};
