//! Hadoop's messages, as stock clients and datanodes send them.
//!
//! Decode with [`decode`]: prost takes a message that lacks a required field and fills in a zero, where Hadoop refuses
//! it, and a frame of empty repeated fields would become many times its size in memory.

mod check;

pub use check::{MAX_FIELDS, decode};
pub use generated::*;

#[expect(missing_docs, clippy::all, reason = "generated")]
#[allow(unreachable_pub, reason = "generated")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/hadoop.rs"));
}
