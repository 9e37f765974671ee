//! The server side of Hadoop RPC: sockets, handshake, calls and fairness; and the port's other languages, gRPC and HTTP.
//!
//! Owns connections and knows no method's meaning: a daemon gives it a [`Handler`] and, if it serves gRPC or HTTP as well,
//! their routes. Bytes are read and written by `steadfs_wire::rpc`; this crate decides when.
//!
//! Invariants:
//! * Every answer is to a call that this connection made and that was not answered yet.
//! * What a client makes the server hold is bounded: by connection, and by all of them together.
//! * A connection that sends what cannot be understood ends with a logged reason; no other notices.

mod connection;
mod grpc;
mod handler;
mod metrics;
mod options;
mod prefixed;
mod server;

pub use handler::{Call, Handler};
pub use metrics::{Door, Metrics};
pub use options::Options;
pub use server::Server;

#[cfg(test)]
mod server_test;
