//! The second copy of the store: in another data folder, renewed now and then, file by file.
//!
//! RocksDB's table files never change, so only new ones are copied; and one whose bytes are not what they were when it was
//! copied has rotted, here or there, and is made good from the other. The manifest is put in place last, and what it does not
//! name is removed after that: whenever the machine stops, there is one whole copy.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::files::{self, Pace};
use super::manifest::{self, FileSum, Manifest};
use super::take::Taken;
use super::{FILES, Stamp};
use crate::store::{Position, Store};

/// A table file that was read: its inode number and length, and what its bytes summed up to.
type Known = (u64, u64, u32);

/// The copy in one folder.
pub(crate) struct SecondCopy {
    folder: PathBuf,
    /// The store that it is a copy of.
    store: PathBuf,
    last: Option<Manifest>,
    known: HashMap<String, Known>,
    /// Whether something in it is to be copied anew.
    spoilt: bool,
}

/// What was read and found.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) bytes: u64,
    pub(crate) healed: Vec<String>,
    pub(crate) lost: Vec<String>,
}

fn is_table(name: &str) -> bool {
    name.ends_with(".sst")
}

impl SecondCopy {
    /// The copy in `folder` of the store in `store`, which stood at `position` when it was opened. A copy that is ahead of
    /// that is of another line: somebody put an older store back. It is not compared with this one.
    pub(crate) fn at(folder: PathBuf, store: PathBuf, position: Position) -> Self {
        let last = Manifest::read(&folder).ok().filter(|last| last.position.index <= position.index);
        Self { folder, store, last, known: HashMap::new(), spoilt: false }
    }

    /// What it holds, if it is whole.
    pub(crate) const fn manifest(&self) -> Option<&Manifest> {
        self.last.as_ref()
    }

    /// Whether it holds the store as of this journal entry, and nothing rotten.
    pub(crate) fn is_current(&self, index: u64) -> bool {
        !self.spoilt && self.last.as_ref().is_some_and(|last| last.position.index == index)
    }

    fn stored(&self, file: &FileSum) -> PathBuf {
        self.folder.join(FILES).join(&file.stored)
    }

    /// Reads the copy and what the store has of the same files, and makes good what rotted.
    pub(crate) fn scrub(&mut self, pace: &Pace) -> anyhow::Result<Checked> {
        let mut checked = Checked::default();
        let files: Vec<FileSum> = self.last.iter().flat_map(|last| last.files.clone()).collect();
        for file in files {
            let right = (file.bytes, file.crc32c);
            let copy = files::sum_on_disk(&self.stored(&file), pace).ok();
            checked.bytes += file.bytes;
            let source = self.store.join(&file.name);
            // What the store has given up since is only here.
            let live = if is_table(&file.name) && source.exists() {
                checked.bytes += file.bytes;
                let sum = files::sum_on_disk(&source, pace).ok();
                if sum.is_none() && !source.exists() { None } else { Some(sum) }
            } else {
                None
            };
            match (copy == Some(right), live) {
                (true, None) | (true, Some(Some(_))) if live.flatten().is_none_or(|live| live == right) => {}
                (true, Some(_)) => {
                    self.heal(&file, pace)?;
                    checked.healed.push(source.display().to_string());
                }
                (false, Some(live)) if live == Some(right) => {
                    self.forget(&file.name);
                    checked.healed.push(self.stored(&file).display().to_string());
                }
                (false, None) => {
                    // The next renewal takes what the store has instead.
                    self.forget(&file.name);
                    checked.healed.push(self.stored(&file).display().to_string());
                }
                _ => checked.lost.push(source.display().to_string()),
            }
        }
        Ok(checked)
    }

    /// Puts the copy of a table file in place of the store's, which rotted. Whoever reads the old one still ends the process,
    /// and the next start reads this one.
    fn heal(&self, file: &FileSum, pace: &Pace) -> anyhow::Result<()> {
        let target = self.store.join(&file.name);
        if target.exists() {
            files::copy(&self.stored(file), &target, pace)?;
            files::sync_folder(&self.store)?;
        }
        Ok(())
    }

    /// Copies this file anew next time: what is there is rotten.
    fn forget(&mut self, name: &str) {
        self.spoilt = true;
        self.known.remove(name);
        if let Some(last) = &mut self.last {
            last.files.retain(|file| file.name != name);
        }
    }

    /// Brings the copy up to date. `scratch` is a folder on the store's disk.
    /// Gives the table files of the store that had rotted and were made good from here.
    pub(crate) fn renew(
        &mut self,
        store: &Store,
        scratch: &Path,
        stamp: &Stamp,
        pace: &Pace,
    ) -> anyhow::Result<Vec<String>> {
        let kept = self.folder.join(FILES);
        std::fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
        let taken = Taken::of(store, scratch)?;
        let mut sums = Vec::new();
        let (mut known, mut healed) = (HashMap::new(), Vec::new());
        for (name, bytes) in &taken.files {
            let source = taken.path(name);
            let inode = std::fs::metadata(&source)?.ino();
            let sum = self.one(&source, (name, inode, *bytes), taken.position.index, &mut healed, pace)?;
            if is_table(name) {
                known.insert(name.clone(), (inode, sum.bytes, sum.crc32c));
            }
            sums.push(sum);
        }
        files::sync_folder(&kept)?;
        let manifest = stamp.manifest(&taken, sums);
        files::replace(&self.folder.join(manifest::FILE), &manifest.encode()?)?;
        self.known = known;
        self.spoilt = false;
        self.last = Some(manifest);
        self.remove_others(&kept)?;
        Ok(healed)
    }

    fn one(
        &self,
        source: &Path,
        (name, inode, bytes): (&str, u64, u64),
        index: u64,
        healed: &mut Vec<String>,
        pace: &Pace,
    ) -> anyhow::Result<FileSum> {
        let last = self.last.as_ref().and_then(|last| last.files.iter().find(|file| file.name == name));
        let is_there = |file: &&FileSum| {
            let stored = std::fs::metadata(self.folder.join(FILES).join(&file.stored));
            file.bytes == bytes && stored.is_ok_and(|stored| stored.len() == bytes)
        };
        if let Some(there) = last.filter(is_there).filter(|_| is_table(name)) {
            let right = (bytes, there.crc32c);
            let same = match self.known.get(name) {
                Some(known) if (known.0, known.1) == (inode, bytes) => known.2 == there.crc32c,
                // The first look of this life at it.
                _ => files::read(source, pace, |_| Ok(())).is_ok_and(|sum| sum == right),
            };
            if !same && files::sum_on_disk(&self.stored(there), pace).is_ok_and(|sum| sum == right) {
                self.heal(there, pace)?;
                healed.push(self.store.join(name).display().to_string());
                return Ok(there.clone());
            }
            if same {
                return Ok(there.clone());
            }
        }
        // What the last manifest names must stay as it is until the next is in place.
        let plain = is_table(name) && last.is_none();
        let stored = if plain { name.to_owned() } else { format!("{name}.{index}") };
        let (bytes, crc32c) = files::copy(source, &self.folder.join(FILES).join(&stored), pace)?;
        Ok(FileSum { name: name.to_owned(), stored, bytes, crc32c })
    }

    fn remove_others(&self, kept: &Path) -> anyhow::Result<()> {
        let named: HashSet<&str> =
            self.last.iter().flat_map(|last| &last.files).map(|file| file.stored.as_str()).collect();
        for item in std::fs::read_dir(kept)? {
            let item = item?;
            if !item.file_name().to_str().is_some_and(|name| named.contains(name)) {
                std::fs::remove_file(item.path())?;
            }
        }
        Ok(())
    }
}
