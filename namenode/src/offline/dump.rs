//! What journal and store hold, as lines of JSON: for people, scripts and comparisons. Their form is stable.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use steadfs_namenode_core::{Key, Record};

use crate::commit::payload;
use crate::journal::{self, EntryKind, Verified};
use crate::store::{ReadOnlyStore, keys, records};

/// Writes every entry of the journal in `folder` as a line: where it is, and what it says. `folder` is a journal's own, or
/// one of `data_dirs`.
///
/// # Errors
/// It cannot be read, or holds an entry that is not understood. What is good before is written.
pub fn dump_journal(folder: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let folder = journal_folder(folder);
    journal::read_all(&folder, |segment, entry, bytes| {
        let mut line = json!({
            "segment": segment, "index": entry.index, "epoch": entry.epoch,
            "kind": match entry.kind { EntryKind::Batch => "batch", EntryKind::Seal => "seal" },
        });
        if entry.kind == EntryKind::Batch {
            let (transactions, changes) = payload::decode(bytes)
                .with_context(|| format!("entry {} was written by a newer release", entry.index))?;
            let transactions: Vec<Value> = transactions
                .iter()
                .map(|one| json!({"id": one.id.0, "operation": one.operation, "events": one.events.len()}))
                .collect();
            let changes: Vec<Value> = changes
                .iter()
                .map(|(key, record)| match record {
                    Some(record) => row(key, record),
                    None => json!({"key": format!("{key:?}"), "deleted": true}),
                })
                .collect();
            line["transactions"] = transactions.into();
            line["changes"] = changes.into();
        }
        writeln!(out, "{line}")?;
        Ok(())
    })
}

/// Compares what the copies of a journal hold, and each with itself: every checksum, and that each entry follows from the
/// one before.
///
/// # Errors
/// A folder cannot be read.
pub fn verify_journal(folders: &[PathBuf]) -> anyhow::Result<Verified> {
    let folders: Vec<PathBuf> = folders.iter().map(|folder| journal_folder(folder)).collect();
    Ok(journal::verify(&folders)?)
}

fn journal_folder(folder: &Path) -> PathBuf {
    let inner = folder.join("journal");
    if inner.is_dir() { inner } else { folder.to_owned() }
}

/// Writes every row of a store as a line, by table and key. `folder` is a store's own, one of `data_dirs`, or a backup. The
/// namenode must not run on it. The last line counts the rows.
///
/// # Errors
/// It cannot be read, or holds a row that is not understood.
pub fn dump_image(folder: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let inner = ["store", crate::backup::FILES].map(|name| folder.join(name));
    let found = inner.iter().map(PathBuf::as_path).chain([folder]).find(|path| path.join("CURRENT").exists());
    ensure!(
        found.is_some(),
        "{} holds no store: name one of data_dirs (the first), a store, or a backup",
        folder.display()
    );
    let store = ReadOnlyStore::open(found.unwrap_or(folder))?;
    writeln!(out, "{}", json!({"journal_index": store.try_position()?.index}))?;
    let mut rows = 0_u64;
    store.for_each(|table, key, value| {
        let key = keys::decode(table, key)?;
        let record = records::decode(table, value).with_context(|| format!("{key:?}"))?;
        rows += 1;
        writeln!(out, "{}", row(&key, &record))?;
        Ok(())
    })?;
    writeln!(out, "{}", json!({"rows": rows}))?;
    Ok(())
}

/// One row. What people look for has fields of its own; the rest is as the program shows it.
fn row(key: &Key, record: &Record) -> Value {
    match (key, record) {
        (Key::Inode(id), Record::Inode(inode)) => {
            let mut row = json!({
                "table": "inode", "id": id.0, "parent": inode.parent.0,
                "name": inode.name.as_ref().map(ToString::to_string),
                "owner": inode.owner, "group": inode.group, "mode": format!("{:o}", inode.mode),
                "mtime": inode.mtime.0, "atime": inode.atime.0, "changed": inode.changed.0,
                "storage_policy": inode.storage_policy,
            });
            match inode.file() {
                Some(file) => {
                    row["kind"] = "file".into();
                    row["length"] = file.length.into();
                    row["blocks"] = file.blocks.into();
                    row["block_size"] = file.block_size.into();
                    row["replication"] = file.replication().into();
                    row["under_construction"] = file.under_construction.into();
                }
                None => row["kind"] = "directory".into(),
            }
            row
        }
        (Key::Entry(folder, name), Record::Entry(id)) => {
            json!({"table": "entry", "folder": folder.0, "name": name.to_string(), "inode": id.0})
        }
        (Key::Totals(id), Record::Totals(totals)) => json!({
            "table": "totals", "id": id.0, "directories": totals.directories, "files": totals.files,
            "bytes": totals.bytes, "space": totals.space,
        }),
        (Key::Block(id), Record::Block(block)) => json!({
            "table": "block", "id": id.0, "stamp": block.stamp.0, "length": block.length,
            "replication": block.replication, "inode": block.inode.0, "index": block.index,
            "state": match &block.state {
                steadfs_namenode_core::record::BlockState::UnderConstruction { .. } => "under_construction",
                steadfs_namenode_core::record::BlockState::Committed { .. } => "committed",
                steadfs_namenode_core::record::BlockState::Complete => "complete",
            },
        }),
        (Key::FileBlock(file, index), Record::FileBlock(id)) => {
            json!({"table": "file_block", "file": file.0, "index": index, "block": id.0})
        }
        (Key::Lease(file), Record::Lease(lease)) => {
            json!({"table": "lease", "file": file.0, "holder": lease.holder, "machine": lease.machine})
        }
        (Key::Counters, Record::Counters(counters)) => json!({
            "table": "counters", "next_inode": counters.next_inode.0, "next_block": counters.next_block.0,
            "next_stamp": counters.next_stamp.0, "last_tx": counters.last_tx.0, "blocks": counters.blocks,
            "complete_blocks": counters.complete_blocks,
        }),
        (key, record) => json!({
            "table": keys::table_of(key).family(), "key": format!("{key:?}"), "value": format!("{record:?}"),
        }),
    }
}
