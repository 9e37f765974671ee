//! Volumes, replica states, block and checksum files.
//!
//! Owns every file of a datanode: nothing else opens, renames or removes one. It is a synchronous library and knows
//! no network: callers run it on a bounded pool of disk threads. What the caller must know:
//!
//! * A replica is *temporary* (a copy on its way in), *being written*, *waiting to be recovered* (being written when the
//!   datanode stopped), *under recovery*, or *finalized*: see [`ReplicaState`].
//! * A finalized replica's bytes and checksum file never change in place, so its descriptors may be sent, mapped or handed out.
//! * [`ReplicaWriter`] checks every byte against its checksum before it keeps it; [`ReplicaWriter::finalize`] and
//!   [`ReplicaWriter::sync`] return when the bytes are on disk.
//! * A sync that failed is never tried again: the replica takes no more bytes and cannot be recovered in this process.
//! * File names are made of numbers only.
//!
//! Lock order: a replica's `io`, then its `state`, or the map; the map's lock is never held during I/O.

mod alone;
mod bound;
mod chunks;
mod compare;
mod core;
mod disk;
mod error;
mod health;
mod heard;
mod identity;
mod layout;
mod map;
mod meta;
mod moves;
mod opening;
mod pipeline;
mod probe;
mod progress;
mod reader;
mod recovery;
mod replica;
mod salvage;
mod scan;
mod store;
mod suspects;
mod volume;
mod volumes;
mod wear;
mod worker;
mod writer;

pub use alone::VERIFIED_FOR;
pub use compare::Differences;
pub use disk::{DiskOp, Faults};
pub use error::{StoreError, StoreResult};
pub use heard::{Heard, enough};
pub use identity::{Cluster, Identity};
pub use progress::ScanProgress;
pub use reader::ReplicaReader;
pub use recovery::RecoveryReplica;
pub use replica::{Block, ReplicaState};
pub use store::{
    CHECK_TIMEOUT, ChangeKind, CreateOptions, Listener, NoListener, ReplicaChange, ReplicaStatus, Store,
    StoreOptions,
};
pub use volume::{VolumeConfig, VolumeFailure, VolumeStatus};
pub use writer::ReplicaWriter;

/// Longest replica that is accepted, in bytes.
pub const MAX_REPLICA_BYTES: u64 = 1 << 40;
