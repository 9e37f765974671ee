//! Who runs where, as Kubernetes tells it: pods, nodes and namespaces are watched, and what matters of them becomes the
//! picture that `locality` works with.
//!
//! * `objects`: the few fields that are read of each object; `facts`: what is kept of it.
//! * `picture`: from facts to a picture, which application a pod belongs to, and which nodes are about to go. Pure.
//! * `leave`: what becomes of datanodes whose node is about to go.
//! * `watch`: the streams, and when a new picture is taken.
//!
//! The API server is not needed to serve: while it is away, or refuses, the last picture holds.

mod facts;
mod leave;
mod objects;
mod picture;
mod status;
#[cfg(test)]
mod tests;
mod watch;
#[cfg(test)]
mod watch_test;

pub use status::Status;
pub(crate) use watch::start;

/// Most pods that are known at a time: what Kubernetes promises to manage. More are passed over, and counted.
const MAX_PODS: usize = 150_000;
/// Most nodes that are known at a time.
const MAX_NODES: usize = 16_384;
/// Most namespaces that are known at a time.
const MAX_SPACES: usize = 65_536;
