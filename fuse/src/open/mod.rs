//! Open files: reading ahead, staging, committing.

mod extents;
mod file;
mod locals;
mod recycled;
mod ring;
mod stage;
mod task;
mod window;

pub(crate) use file::{Begin, OpenInode, OpenInodes, Way, WriteHandle};
pub(crate) use locals::Locals;
pub(crate) use stage::{StagePlace, claim, left_by_servers, sweep};
pub(crate) use task::{PACKET_BYTES, PACKETS, Position, Write, cut};
pub(crate) use window::{Pieces, Window};
