//! Which copies are complete, once one was left: empty files beside the segments, named by the first entry that the
//! copies without such a file may lack.
//!
//! A copy that was left ends early and looks whole. So before an entry is acknowledged that some copy lacks, those that
//! have it say so; and when a journal is opened, only copies with the highest note may tell where it ends.

use std::fs::File;
use std::io;
use std::path::Path;

use super::segment::sync_folder;

fn file_name(index: u64) -> String {
    format!("complete-{index:020}.note")
}

fn index_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("complete-")?.strip_suffix(".note")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// The notes in a folder.
fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder)? {
        found.extend(item?.file_name().to_str().and_then(index_of));
    }
    Ok(found)
}

/// The highest note in a folder, if there is one.
pub(super) fn highest(folder: &Path) -> io::Result<Option<u64>> {
    Ok(list(folder)?.into_iter().max())
}

/// Notes, durably, that this copy has `index` and what follows, and another may not.
pub(super) fn write(folder: &Path, index: u64) -> io::Result<()> {
    File::create(folder.join(file_name(index)))?.sync_all()?;
    sync_folder(folder)
}

/// Removes all notes: every copy is complete.
pub(super) fn clear(folder: &Path) -> io::Result<()> {
    let notes = list(folder)?;
    for index in &notes {
        std::fs::remove_file(folder.join(file_name(*index)))?;
    }
    if notes.is_empty() { Ok(()) } else { sync_folder(folder) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_note_counts_and_all_can_be_removed() {
        let keep = tempfile::tempdir().unwrap();
        assert_eq!(highest(keep.path()).unwrap(), None);
        std::fs::write(keep.path().join("complete-x.note"), "").unwrap();
        for index in [7, 123, 9] {
            write(keep.path(), index).unwrap();
        }
        assert_eq!(highest(keep.path()).unwrap(), Some(123));
        clear(keep.path()).unwrap();
        assert_eq!(highest(keep.path()).unwrap(), None);
        assert!(keep.path().join("complete-x.note").exists(), "what is not ours stays");
    }
}
