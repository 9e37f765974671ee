//! Whether the folders of a namenode that does not run are sound: every file is read, and nothing is written.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use steadfs_namenode_core::namespace::check as rules;
use steadfs_namenode_core::record::{Block, Inode};
use steadfs_namenode_core::{Key, Record, View as _};

use crate::backup::files::{self, Pace};
use crate::backup::{self, Manifest};
use crate::commit::payload;
use crate::identity::{self, Identity};
use crate::journal::{self, JournalError};
use crate::store::{LookView, Position, ReadOnlyStore, keys, records, rotten_mark};

/// Findings that are told; more are told only if they are graver than these.
const MAX_FINDINGS: usize = 1_000;

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// A start of the namenode puts it right by itself.
    Mends,
    /// The namenode starts, and then an order puts it right: the sentence says which.
    Repair,
    /// The namenode does not start, or something is lost: the sentence says what to do.
    Lost,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sound {
    /// What there is, a sentence each.
    pub facts: Vec<String>,
    /// What is wrong, gravest last.
    pub findings: Vec<(Gravity, String)>,
}

impl Sound {
    fn fact(&mut self, text: String) {
        self.facts.push(text);
    }

    fn found(&mut self, gravity: Gravity, text: impl Into<String>) {
        if !self.is_full() || self.worst() < Some(gravity) {
            self.findings.push((gravity, text.into()));
        }
    }

    fn is_full(&self) -> bool {
        self.findings.len() >= MAX_FINDINGS
    }

    /// The gravest finding.
    #[must_use]
    pub fn worst(&self) -> Option<Gravity> {
        self.findings.iter().map(|(gravity, _)| *gravity).max()
    }
}

/// From what the store can be made again.
struct Sources {
    copy: Option<(PathBuf, Manifest)>,
    /// The journal goes back to the first entry there ever was.
    whole_journal: bool,
}

impl Sources {
    fn remedy(&self) -> (Gravity, String) {
        match (&self.copy, self.whole_journal) {
            (Some((copy, manifest)), _) => (
                Gravity::Mends,
                format!(
                    "a start makes it again from its copy in {} (journal entry {}) and the journal",
                    copy.display(),
                    manifest.position.index
                ),
            ),
            (None, true) => {
                (Gravity::Mends, "a start makes it again from the journal, which goes back to the beginning".into())
            }
            (None, false) => (
                Gravity::Lost,
                "there is nothing to make it again from: restore a backup into empty folders (steadfs namenode restore)"
                    .into(),
            ),
        }
    }
}

/// Checks `folders`, all of `data_dirs` in their order: journals, store and its second copy, each with itself and with the
/// others. Writes nothing.
///
/// # Errors
/// They are in use or cannot be read, are no namenode's, or a start would refuse them for whose they are: with the remedy.
pub fn check(folders: &[PathBuf]) -> anyhow::Result<Sound> {
    ensure!(!folders.is_empty(), "name all of data_dirs, in their order");
    let mut sound = Sound::default();
    let looked = identity::look(folders)?;
    sound.fact(format!("cluster {}, block pool {}", looked.identity.cluster_id, looked.identity.block_pool));
    for text in &looked.damaged {
        sound.found(Gravity::Mends, text.clone());
    }
    let journals = check_journals(folders, &mut sound)?;
    let sources = Sources {
        copy: check_copies(folders, &journals, &looked.identity, &mut sound),
        whole_journal: journals.iter().any(|journal| journal::begins_at_the_first(journal)),
    };
    let stands_at = check_store(&folders[0].join("store"), &sources, &mut sound);
    if let Some(position) = stands_at {
        check_chain(&journals, position, &mut sound);
    }
    sound.findings.sort_by_key(|(gravity, _)| *gravity);
    Ok(sound)
}

/// Each copy of the journal with itself and with the others. Gives the copies that are there.
fn check_journals(folders: &[PathBuf], sound: &mut Sound) -> anyhow::Result<Vec<PathBuf>> {
    let all: Vec<PathBuf> = folders.iter().map(|folder| folder.join("journal")).collect();
    let (there, gone): (Vec<_>, Vec<_>) = all.into_iter().partition(|journal| journal.is_dir());
    if there.is_empty() {
        let text = "there is no copy of the journal: put back the newest copies of the journal folders, or restore a backup";
        sound.found(Gravity::Lost, text);
        return Ok(there);
    }
    for journal in gone {
        let text = format!("{} is not there: a start makes it again from another copy", journal.display());
        sound.found(Gravity::Mends, text);
    }
    let verified = journal::verify(&there)?;
    if let Some((first, last)) = verified.range {
        sound.fact(format!("journal: entries {first} to {last}, {} copies", there.len()));
    }
    for text in verified.damaged {
        sound.found(
            Gravity::Mends,
            format!("{text}; a start makes it whole from the other copies, if they are"),
        );
    }
    for index in verified.lost {
        let text = format!(
            "journal entry {index} is good in no copy. Put back an intact copy of the journal folder"
        );
        sound.found(Gravity::Lost, text);
    }
    Ok(there)
}

/// Second copies of the store. Gives one that can be used.
fn check_copies(
    folders: &[PathBuf],
    journals: &[PathBuf],
    identity: &Identity,
    sound: &mut Sound,
) -> Option<(PathBuf, Manifest)> {
    let mut usable = None;
    for copy in folders.iter().map(|folder| folder.join(backup::SECOND)).filter(|copy| copy.exists()) {
        match check_copy(&copy, &folders[0].join("store"), journals, identity, sound) {
            Ok(manifest) => {
                sound.fact(format!(
                    "second copy of the store in {}: journal entry {}, {} files, whole",
                    copy.display(),
                    manifest.position.index,
                    manifest.files.len()
                ));
                usable = usable.or(Some((copy, manifest)));
            }
            Err(error) => {
                sound.found(Gravity::Mends, format!("{error:#}; the running namenode makes it anew"))
            }
        }
    }
    usable
}

fn check_copy(
    copy: &Path,
    store: &Path,
    journals: &[PathBuf],
    identity: &Identity,
    sound: &mut Sound,
) -> anyhow::Result<Manifest> {
    let manifest = backup::verify(copy)?;
    ensure!(
        (&manifest.cluster_id, &manifest.block_pool) == (&identity.cluster_id, &identity.block_pool),
        "{} is a copy of another cluster's store",
        copy.display()
    );
    let oldest = journals.iter().filter_map(|journal| journal::oldest(journal)).min();
    ensure!(
        oldest.is_some_and(|oldest| oldest <= manifest.position.index + 1),
        "{} ends with journal entry {}, and the journal begins later",
        copy.display(),
        manifest.position.index
    );
    // A table file never changes: the store's must be what the copy's is.
    for file in manifest.files.iter().filter(|file| file.name.ends_with(".sst")) {
        let path = store.join(&file.name);
        let sum = path.exists().then(|| files::sum_on_disk(&path, &Pace::unbounded()).ok());
        if sum.is_some_and(|sum| sum != Some((file.bytes, file.crc32c))) {
            let text = format!(
                "{} is not the file that was copied from there: it has rotted. Start the namenode and have it read \
                 everything (steadfs admin scrub): it is made good from {}",
                path.display(),
                copy.display()
            );
            sound.found(Gravity::Repair, text);
        }
    }
    Ok(manifest)
}

/// The store and its rows. Gives the journal position from which a start goes on.
fn check_store(path: &Path, sources: &Sources, sound: &mut Sound) -> Option<Position> {
    let shown = path.display();
    let (gravity, remedy) = sources.remedy();
    let again = || {
        let copied = sources.copy.as_ref().map(|(_, manifest)| manifest.position);
        copied.or(sources.whole_journal.then(Position::default))
    };
    if !path.join("CURRENT").exists() {
        sound.found(gravity, format!("the store in {shown} is gone: {remedy}"));
        return again();
    }
    if let Ok(why) = std::fs::read_to_string(rotten_mark(path)) {
        sound
            .found(gravity, format!("the store in {shown} was found damaged ({}): {remedy}", why.trim_end()));
    }
    let opened = ReadOnlyStore::open(path).and_then(|store| {
        let position = store.try_position()?;
        Ok((store, position))
    });
    let (store, position) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            sound.found(gravity, format!("{error:#}: {remedy}"));
            return again();
        }
    };
    let view = LookView::new(&store);
    let mut rows = Rows { view: &view, sound, inodes: 0, blocks: 0, complete: 0 };
    let read = store.for_each(|table, key, value| {
        let row = keys::decode(table, key)
            .map_err(anyhow::Error::from)
            .and_then(|key| Ok((key, records::decode(table, value)?)));
        match row {
            Ok((key, record)) => rows.row(&key, &record)?,
            Err(error) => rows.sound.found(
                Gravity::Lost,
                format!(
                    "a row of table {} cannot be understood ({error:#}): start the release that wrote it, or restore a backup",
                    table.family()
                ),
            ),
        }
        ensure!(!rows.sound.is_full(), "there is more to find");
        Ok(())
    });
    let full = rows.sound.is_full();
    match read.and_then(|()| rows.end()).context("the check of the store did not come to its end") {
        Ok(()) => {}
        Err(_) if full => {
            sound.fact(format!("{MAX_FINDINGS} things are wrong: what else may be was not looked for"));
        }
        // A start does not read everything, so it would not notice.
        Err(error) => {
            sound.found(gravity.max(Gravity::Repair), format!("{error:#}. Move {shown} away: {remedy}"));
        }
    }
    sound.fact(format!("store: journal entry {}", position.index));
    Some(position)
}

struct Rows<'a, 'b> {
    view: &'a LookView<'b>,
    sound: &'a mut Sound,
    inodes: u64,
    blocks: u64,
    complete: u64,
}

impl Rows<'_, '_> {
    /// What is wrong with a row. Fails if one that it leads to cannot be read: then nothing is known of it, and all is to be read
    /// from elsewhere.
    fn row(&mut self, key: &Key, record: &Record) -> anyhow::Result<()> {
        let problems = match (key, record) {
            (Key::Inode(_), Record::Inode(inode)) => self.inode(inode),
            (Key::Block(_), Record::Block(block)) => self.block(block),
            (Key::Entry(id, _) | Key::Totals(id) | Key::FileBlock(id, _) | Key::XAttrs(id) | Key::Lease(id), _)
                // What is being reclaimed goes piece by piece.
                if self.view.inode(*id).is_none() && self.view.reclaims(1).is_empty() =>
            {
                vec![format!("{key:?} is of an inode that is not there")]
            }
            _ => Vec::new(),
        };
        if let Some(failure) = self.view.take_failure() {
            bail!("a row that {key:?} leads to: {failure}");
        }
        for text in problems {
            self.repair(&text);
        }
        Ok(())
    }

    fn repair(&mut self, text: &str) {
        self.sound.found(
            Gravity::Repair,
            format!("{text}. Start the namenode and run steadfs admin fsck --namespace --repair"),
        );
    }

    fn inode(&mut self, inode: &Inode) -> Vec<String> {
        self.inodes += 1;
        rules::inode(self.view, inode).into_iter().map(|problem| problem.text).collect()
    }

    fn block(&mut self, block: &Block) -> Vec<String> {
        self.blocks += 1;
        self.complete += u64::from(block.is_complete());
        rules::block(self.view, block).into_iter().map(|problem| problem.text).collect()
    }

    fn end(mut self) -> anyhow::Result<()> {
        let problems = rules::counters(self.view, self.blocks, self.complete);
        if let Some(failure) = self.view.take_failure() {
            bail!("the counters of the namespace: {failure}");
        }
        for problem in problems {
            self.repair(&problem.text);
        }
        self.sound.fact(format!("namespace: {} inodes, {} blocks", self.inodes, self.blocks));
        Ok(())
    }
}

/// Whether a start could go on from where the store stands.
fn check_chain(journals: &[PathBuf], position: Position, sound: &mut Sound) {
    if journals.is_empty() {
        return;
    }
    let mut batches = 0_u64;
    let followed = journal::follow(journals, position, |at, bytes| {
        batches += 1;
        payload::decode(bytes)
            .map(|_| ())
            .map_err(|error| JournalError::Unreadable { index: at.index, problem: error.to_string() })
    });
    match followed {
        Ok(end) => sound.fact(format!("a start replays {batches} batches, to journal entry {}", end.index)),
        Err(error) => sound.found(Gravity::Lost, error.to_string()),
    }
}

#[cfg(test)]
#[path = "check_test.rs"]
mod tests;
