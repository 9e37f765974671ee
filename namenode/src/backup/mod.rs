//! Copies of the namespace that can be put back: those that an operator takes, and the one that the namenode keeps for
//! itself in its second data folder.
//!
//! A backup is a folder: the store's files as of one journal position in `files`, and the manifest `BACKUP`, which is
//! written last. A backup without a manifest, or with a file that is not to the bit what the manifest says, is refused.

pub(crate) mod files;
pub mod manifest;
mod restore;
pub(crate) mod second;
pub(crate) mod take;

pub use manifest::{FileSum, Manifest};
pub(crate) use restore::copy_store;
pub use restore::verify;

use crate::identity::Identity;
use take::Taken;

/// The folder of the store's files in a backup.
pub const FILES: &str = "files";
/// The second copy of the store, below a data folder.
pub(crate) const SECOND: &str = "store-copy";

/// Whose backup it is, and when it is taken.
pub(crate) struct Stamp {
    pub(crate) identity: Identity,
    pub(crate) taken_ms: u64,
}

impl Stamp {
    pub(crate) fn manifest(&self, taken: &Taken, files: Vec<FileSum>) -> Manifest {
        Manifest {
            cluster_id: self.identity.cluster_id.clone(),
            block_pool: self.identity.block_pool.clone(),
            incarnation: self.identity.incarnation,
            epoch: self.identity.epoch,
            position: taken.position,
            last_tx: taken.last_tx,
            taken_ms: self.taken_ms,
            files,
        }
    }
}
