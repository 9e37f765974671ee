//! Bytes from a stranger, for every parser that faces a socket.
//!
//! A module a target; each has `run`, which panics if its parser does wrong by some bytes: a panic of its own, more
//! memory than [`memory`] allows, or another message when it is read again.

#[cfg(feature = "server")]
pub mod calls;
pub mod memory;
pub mod messages;
#[cfg(feature = "server")]
pub mod rest;
pub mod rpc;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
pub mod stored;
pub mod transfer;
pub mod volume;
pub mod webhdfs;
