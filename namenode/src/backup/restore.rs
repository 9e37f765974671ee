//! From a backup back to a store.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use super::FILES;
use super::files::{self, Pace};
use super::manifest::{FileSum, Manifest};

/// Reads a backup and compares each of its files with what was noted when it was taken.
///
/// # Errors
/// A file is missing, cut short or changed: it is named.
pub fn verify(folder: &Path) -> anyhow::Result<Manifest> {
    let manifest = Manifest::read(folder)?;
    for file in &manifest.files {
        let path = folder.join(FILES).join(&file.stored);
        let sum = files::sum_on_disk(&path, &Pace::unbounded())
            .with_context(|| format!("the backup in {} is not whole", folder.display()))?;
        check(folder, file, sum)?;
    }
    Ok(manifest)
}

fn check(folder: &Path, file: &FileSum, sum: (u64, u32)) -> anyhow::Result<()> {
    ensure!(
        sum == (file.bytes, file.crc32c),
        "the backup in {} is not whole: {} is not the file that was written ({} bytes with CRC32C {:08x}, not {} with \
         {:08x}). Use another backup; nothing was changed",
        folder.display(),
        file.stored,
        sum.0,
        sum.1,
        file.bytes,
        file.crc32c
    );
    Ok(())
}

/// Copies the store in a backup to `store`, which is not there, and checks every byte on the way. What was copied goes if
/// anything is wrong.
pub(crate) fn copy_store(backup: &Path, manifest: &Manifest, store: &Path) -> anyhow::Result<()> {
    if store.exists() {
        bail!("{} is there already: nothing is written over it", store.display());
    }
    let copied = copy_files(backup, manifest, store);
    if copied.is_err() {
        let _ = std::fs::remove_dir_all(store);
    }
    copied
}

fn copy_files(backup: &Path, manifest: &Manifest, store: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(store).with_context(|| format!("cannot make {}", store.display()))?;
    for file in &manifest.files {
        let sum =
            files::copy(&backup.join(FILES).join(&file.stored), &store.join(&file.name), &Pace::unbounded())?;
        check(backup, file, sum)?;
    }
    files::sync_folder(store)?;
    files::sync_folder(store.parent().unwrap_or(store))
}
