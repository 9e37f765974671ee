//! Opening the store, and where it is lost or damaged, making it again from its copy and the journal.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};

use crate::backup::{self, Manifest};
use crate::config::StoreConfig;
use crate::identity::DataFolders;
use crate::journal;
use crate::store::{Store, StoreWriter, rotten_mark};

/// An opened store, and what was done so that it could be.
pub(crate) struct OpenedStore {
    pub(crate) store: Arc<Store>,
    pub(crate) writer: StoreWriter,
    pub(crate) healed: Option<String>,
}

/// Where a store can come from.
enum Source {
    /// A copy that was checked.
    Copy(PathBuf, Manifest),
    /// The journal alone: it has every entry there ever was.
    Journal,
}

/// Opens the store of these folders, or a new one in its place.
///
/// # Errors
/// It cannot be opened, and there is nothing to make it from.
pub(crate) fn open_store(folders: &DataFolders, config: &StoreConfig) -> anyhow::Result<OpenedStore> {
    let path = folders.store();
    let mark = rotten_mark(&path);
    let mut healed = None;
    if let Some(why) = damage(folders, &path, &mark) {
        match replace(folders, &path) {
            Ok(from) => {
                if mark.exists() {
                    std::fs::remove_file(&mark)
                        .with_context(|| format!("cannot remove {}", mark.display()))?;
                }
                healed =
                    Some(format!("the store in {} {why}: it was made again from {from}", path.display()));
            }
            // As it is it may do: what is rotten may never be read.
            Err(error) if path.join("CURRENT").exists() => tracing::error!(
                store = %path.display(), error = format!("{error:#}"),
                "the store {why}, and there is nothing to make it again from: it is used as it is. Take a backup now"
            ),
            Err(error) => return Err(error.context(format!("the store in {} {why}", path.display()))),
        }
    }
    match Store::open(&path, config) {
        Ok((store, writer)) => Ok(OpenedStore { store, writer, healed }),
        Err(error) if healed.is_none() && is_damage(&error) => {
            let from = replace(folders, &path)
                .map_err(|why| anyhow::anyhow!("{error:#}. It cannot be made again: {why:#}"))?;
            let healed = format!(
                "the store in {} could not be opened ({error:#}): it was made again from {from}",
                path.display()
            );
            let (store, writer) = Store::open(&path, config)?;
            Ok(OpenedStore { store, writer, healed: Some(healed) })
        }
        Err(error) => Err(error),
    }
}

/// What is known to be wrong with the store before it is opened.
fn damage(folders: &DataFolders, path: &Path, mark: &Path) -> Option<String> {
    if folders.is_new() {
        return None;
    }
    if !path.join("CURRENT").exists() {
        return Some("is gone".into());
    }
    let why = std::fs::read_to_string(mark).ok()?;
    Some(format!("was found damaged ({})", why.trim_end()))
}

/// Whether an error says that files are damaged, and not that there is no room or another process.
fn is_damage(error: &anyhow::Error) -> bool {
    error.downcast_ref::<rocksdb::Error>().is_some_and(|error| match error.kind() {
        rocksdb::ErrorKind::Corruption => true,
        rocksdb::ErrorKind::IOError => {
            let text = error.to_string();
            !["No space", "lock", "Permission denied", "Read-only", "Too many open", "Cannot allocate memory"]
                .iter()
                .any(|other| text.contains(other))
        }
        _ => false,
    })
}

/// Puts a good store in place of what is there, which is kept beside it. Says what it was made from.
fn replace(folders: &DataFolders, path: &Path) -> anyhow::Result<String> {
    let source = find(folders)?;
    let aside = path.with_extension("damaged");
    if path.exists() {
        backup::files::remove_folder(&aside)?;
        std::fs::rename(path, &aside).with_context(|| format!("cannot move {} aside", path.display()))?;
    }
    let made = match &source {
        Source::Copy(copy, manifest) => backup::copy_store(copy, manifest, path).map(|()| {
            format!(
                "its copy in {} (journal entry {}) and the journal",
                copy.display(),
                manifest.position.index
            )
        }),
        Source::Journal => Ok("the journal, which goes back to the beginning".to_owned()),
    };
    if made.is_err() && aside.exists() && !path.exists() {
        std::fs::rename(&aside, path).with_context(|| format!("cannot put {} back", path.display()))?;
    }
    made
}

fn find(folders: &DataFolders) -> anyhow::Result<Source> {
    let mut problems = Vec::new();
    for folder in folders.all() {
        let copy = folder.join(backup::SECOND);
        if !copy.exists() {
            continue;
        }
        match usable(folders, &copy) {
            Ok(manifest) => return Ok(Source::Copy(copy, manifest)),
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    if folders.journals().iter().any(|journal| journal::begins_at_the_first(journal)) {
        return Ok(Source::Journal);
    }
    problems.push("the journal does not go back to the beginning".into());
    anyhow::bail!("{}. Restore a backup into empty folders (steadfs namenode restore)", problems.join("; "))
}

fn usable(folders: &DataFolders, copy: &Path) -> anyhow::Result<Manifest> {
    let manifest = backup::verify(copy)?;
    let identity = folders.identity(0);
    ensure!(
        (&manifest.cluster_id, &manifest.block_pool) == (&identity.cluster_id, &identity.block_pool),
        "{} is a copy of another cluster's store",
        copy.display()
    );
    let oldest = folders.journals().iter().filter_map(|journal| journal::oldest(journal)).min();
    ensure!(
        oldest.is_some_and(|oldest| oldest <= manifest.position.index + 1),
        "{} ends with journal entry {}, and the journal begins later",
        copy.display(),
        manifest.position.index
    );
    Ok(manifest)
}
