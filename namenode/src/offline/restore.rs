//! A namenode's folders from a backup.

use std::path::Path;

use anyhow::Context as _;

use crate::backup::{self, Manifest};
use crate::config::NamenodeConfig;
use crate::identity::{DataFolders, Identity};
use crate::journal;

/// Lives passed over: the cluster may have had some since, without a transaction in them.
const PASSED_EPOCHS: u64 = 1 << 20;

/// Puts the backup in `folder` into the empty `data_dirs` of `config`, after it was checked to the last byte. A namenode
/// that is started there goes on where the backup was taken.
///
/// # Errors
/// The backup is not whole, the folders are not empty or in use, or the disk says no. Nothing is there then that a
/// namenode would start with.
pub fn restore(config: &NamenodeConfig, folder: &Path) -> anyhow::Result<Manifest> {
    config.validate()?;
    let manifest = backup::verify(folder)?;
    let identity = Identity {
        cluster_id: manifest.cluster_id.clone(),
        block_pool: manifest.block_pool.clone(),
        epoch: manifest.epoch,
        incarnation: manifest.incarnation,
    };
    let mut folders = DataFolders::restore(&config.data_dirs, &identity)?;
    backup::copy_store(folder, &manifest, &folders.store())?;
    for journal in folders.journals() {
        journal::begin_after(
            &journal,
            manifest.position,
            manifest.epoch + PASSED_EPOCHS,
            config.journal.segment_bytes,
        )
        .with_context(|| format!("cannot begin a journal in {}", journal.display()))?;
    }
    folders.finish()?;
    Ok(manifest)
}
