//! The kernel's protocol: requests as they come from `/dev/fuse`, and answers to them.
//!
//! fuser agrees with the kernel on what is used (`server`) and lends the words for numbers of errors, attributes and flags.
//! Requests are taken apart here, because two things matter that it does not tell: whether a lock is wanted as by `flock` or
//! as by `fcntl`, and that a waiting program was interrupted.
//!
//! Numbers are little-endian here, as on every machine that we are built for; the kernel speaks the machine's own order.

mod reply;
mod request;
mod running;
mod serve;

pub(crate) use self::reply::{FolderPage, Found, LockFound, OpenAnswer, Reply, Space};
pub(crate) use self::request::{LockCall, LockWanted, Operation, Request, SetAttributes, Times};
pub(crate) use self::running::{Interrupted, Running};
pub(crate) use self::serve::{Handler, MAX_IO, READERS, serve};

/// Bytes of the header of a request.
const REQUEST_HEADER: usize = 40;
/// Bytes of the header of an answer.
const ANSWER_HEADER: usize = 16;
/// Set in the number of a request that is sent again.
const RESENT: u64 = 1 << 63;
