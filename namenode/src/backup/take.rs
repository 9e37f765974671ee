//! A picture of the store that stands still while it is copied.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::files;
use crate::store::{Position, Store};

/// Hard links to the store's files as of one position. They go when this is dropped.
pub(crate) struct Taken {
    folder: PathBuf,
    pub(crate) position: Position,
    pub(crate) last_tx: u64,
    /// Names and lengths.
    pub(crate) files: Vec<(String, u64)>,
}

impl Taken {
    /// Takes one into `folder`, which is on the store's disk. What an earlier attempt left there goes.
    pub(crate) fn of(store: &Store, folder: &Path) -> anyhow::Result<Self> {
        files::remove_folder(folder)?;
        // From here on it is removed, whatever happens.
        let mut taken =
            Self { folder: folder.to_owned(), position: Position::default(), last_tx: 0, files: Vec::new() };
        store.checkpoint(folder)?;
        for item in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let item = item?;
            let name = item.file_name().to_string_lossy().into_owned();
            taken.files.push((name, item.metadata()?.len()));
        }
        taken.files.sort();
        (taken.position, taken.last_tx) = crate::store::read_position(folder)?;
        Ok(taken)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // What cannot be removed goes when the next is taken.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
