//! Looking at a journal that nobody writes, without changing a byte of it.

use std::path::{Path, PathBuf};

use super::entry::{EntryKind, HEADER_BYTES};
use super::recover::Chain;
use super::segment::{self, Scan, Tail};
use super::{JournalError, Position, notes};

/// An entry that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenEntry {
    /// Its index.
    pub index: u64,
    /// The life of the namenode that wrote it.
    pub epoch: u64,
    /// What it holds.
    pub kind: EntryKind,
}

/// What a comparison of copies found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Good entries: the first and the last index that some copy has.
    pub range: Option<(u64, u64)>,
    /// What is wrong, each with its file. A start of the namenode repairs it as long as `lost` is empty.
    pub damaged: Vec<String>,
    /// Indexes of entries that are good in no copy although later ones are there.
    pub lost: Vec<u64>,
}

/// Most indexes of lost entries that are told.
const MAX_LOST: usize = 1_000;

/// Hands every good entry in `folder` to `take`, in order, with the name of its segment and its payload.
///
/// # Errors
/// A file cannot be read, or `take` says so.
pub fn read_all(
    folder: &Path,
    mut take: impl FnMut(&str, SeenEntry, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let segments = segment::list(folder)?;
    anyhow::ensure!(!segments.is_empty(), "{} holds no segment of a journal", folder.display());
    for (first, path) in segments {
        let scan = Scan::read(&path, first)?;
        anyhow::ensure!(scan.head.is_some(), "{}: its header is damaged", path.display());
        for found in &scan.entries {
            let from = found.offset + HEADER_BYTES;
            let seen = SeenEntry { index: found.head.index, epoch: found.head.epoch, kind: found.head.kind };
            take(&segment::file_name(first), seen, &scan.bytes[from..from + found.payload])?;
        }
    }
    Ok(())
}

/// Chains the entries after `store` as a start would, hands the batches to `take`, and gives the last entry.
///
/// # Errors
/// What a start would refuse.
pub(crate) fn follow(
    folders: &[PathBuf],
    store: Position,
    take: impl FnMut(Position, &[u8]) -> Result<(), JournalError>,
) -> Result<Position, JournalError> {
    let chain = Chain::read(folders, store)?;
    chain.replay(take)?;
    Ok(chain.end)
}

/// Reads all copies and compares them with themselves and with each other.
///
/// # Errors
/// A folder cannot be listed.
pub fn verify(folders: &[PathBuf]) -> Result<Verified, JournalError> {
    let mut verified = Verified::default();
    // By index, the hash of a good entry and of the one before it.
    let mut good = std::collections::BTreeMap::new();
    for folder in folders {
        let segments = segment::list(folder)?;
        if segments.is_empty() {
            verified.damaged.push(format!("{}: no segment", folder.display()));
        }
        if let Ok(Some(index)) = notes::highest(folder) {
            verified
                .damaged
                .push(format!("{}: another copy lacks entries from {index} on", folder.display()));
        }
        let mut expected = None;
        let count = segments.len();
        for (at, (first, path)) in segments.into_iter().enumerate() {
            let shown = path.display();
            let scan = match Scan::read(&path, first) {
                Ok(scan) => scan,
                Err(error) => {
                    verified.damaged.push(error.to_string());
                    continue;
                }
            };
            let mut complain = |what: &str| verified.damaged.push(format!("{shown}: {what}"));
            match (scan.head, scan.tail) {
                (None, _) => complain("its header is damaged"),
                (_, Tail::Cut) => complain("it is cut short, or cannot be read to its end"),
                (_, Tail::Torn) if at + 1 == count => {
                    complain("its end is an append that a crash tore, or rot")
                }
                _ if !scan.intact => complain("something in it is no good entry"),
                _ => {}
            }
            for found in &scan.entries {
                let index = found.head.index;
                if expected.is_some_and(|expected| expected != index) {
                    verified.damaged.push(format!("{shown}: entry {index} comes after a gap"));
                }
                expected = Some(index + 1);
                good.entry(index).or_insert((found.hash, found.head.previous));
            }
        }
    }
    verified.range =
        good.first_key_value().zip(good.last_key_value()).map(|(first, last)| (*first.0, *last.0));
    if let Some((first, last)) = verified.range {
        verified.lost = (first..=last).filter(|index| !good.contains_key(index)).take(MAX_LOST).collect();
    }
    for ((index, (hash, _)), (next, (_, previous))) in good.iter().zip(good.iter().skip(1)) {
        if index + 1 == *next && hash != previous {
            verified
                .damaged
                .push(format!("entry {next} does not follow from entry {index}: files of another history"));
        }
    }
    Ok(verified)
}
