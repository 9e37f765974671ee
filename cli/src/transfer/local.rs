//! Files of this machine. Everything here blocks: it runs on the session's threads.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

use super::MAX_FILES;

/// A local file that is to be moved.
pub(super) struct LocalFile {
    pub(super) path: PathBuf,
    /// Below the destination, `/` between names; empty for a source that is a file itself.
    pub(super) below: String,
    pub(super) length: u64,
}

/// What was found, and what cannot be moved.
#[derive(Default)]
pub(super) struct Scan {
    /// Each before what it holds.
    pub(super) folders: Vec<String>,
    pub(super) files: Vec<LocalFile>,
    pub(super) problems: Vec<Failure>,
}

/// Looks at `source`, and with `recursive` at all below it. Links to files are followed, links to folders are not (they
/// may lead round in a circle).
pub(super) fn scan(source: &Path, recursive: bool) -> Scan {
    let mut scan = Scan::default();
    let shown = || source.display().to_string();
    match fs::metadata(source) {
        Err(error) => scan.problems.push(Failure::Local(shown(), error)),
        Ok(metadata) if metadata.is_file() => {
            scan.files.push(LocalFile {
                path: source.to_owned(),
                below: String::new(),
                length: metadata.len(),
            });
        }
        Ok(metadata) if !metadata.is_dir() => scan.refuse(source, "is neither a file nor a folder"),
        Ok(_) if !recursive => scan.refuse(source, "is a folder (-r copies it with all it holds)"),
        Ok(_) => {
            scan.folders.push(String::new());
            scan.below(source, "");
        }
    }
    scan
}

impl Scan {
    fn refuse(&mut self, path: &Path, why: &str) {
        self.problems.push(Failure::Other(format!("{}: {why}", path.display())));
    }

    fn below(&mut self, top: &Path, prefix: &str) {
        let mut waiting = vec![(top.to_owned(), prefix.to_owned())];
        while let Some((folder, prefix)) = waiting.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) => {
                    self.problems.push(Failure::Local(folder.display().to_string(), error));
                    continue;
                }
            };
            for entry in entries {
                match entry.and_then(|entry| Ok((entry.file_type()?, entry))) {
                    Ok((kind, entry)) => self.entry(&entry.path(), kind, &prefix, &mut waiting),
                    Err(error) => self.problems.push(Failure::Local(folder.display().to_string(), error)),
                }
            }
            if self.files.len() + self.folders.len() > MAX_FILES {
                return self.refuse(top, &format!("holds more than {MAX_FILES} files: copy it in parts"));
            }
        }
    }

    fn entry(&mut self, path: &Path, kind: fs::FileType, prefix: &str, waiting: &mut Vec<(PathBuf, String)>) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return self.refuse(path, "its name is not UTF-8, which a name in the file system must be");
        };
        let below = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        if kind.is_dir() {
            self.folders.push(below.clone());
            waiting.push((path.to_owned(), below));
            return;
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => {
                self.files.push(LocalFile { path: path.to_owned(), below, length: metadata.len() });
            }
            Ok(metadata) if metadata.is_dir() => {
                self.refuse(path, "is a link to a folder, which is not followed")
            }
            Ok(_) => self.refuse(path, "is neither a file nor a folder"),
            Err(error) => self.problems.push(Failure::Local(path.display().to_string(), error)),
        }
    }
}

/// Makes a new file; one that is there is an error.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).open(path)
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Gives a file its final name. Without `replace`, a file that appeared there meanwhile is left as it is.
pub(super) fn publish(temporary: &Path, target: &Path, replace: bool) -> io::Result<()> {
    if replace {
        return fs::rename(temporary, target);
    }
    match fs::hard_link(temporary, target) {
        Ok(()) => fs::remove_file(temporary),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // A file system without links: the check and the rename are two steps there.
        Err(_) if fs::symlink_metadata(target).is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(temporary, target),
    }
}

/// The last component of a path, as a name in the file system.
pub(super) fn name_of(path: &Path) -> Outcome<String> {
    // `.` and `..` have a name once they are resolved.
    let resolved = if path.file_name().is_none() { fs::canonicalize(path).ok() } else { None };
    let name = resolved.as_deref().unwrap_or(path).file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        Failure::Other(format!(
            "{}: has no name that could be taken over: name the destination in full",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_listed_with_folders_first_and_odd_things_refused() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("a/b")).unwrap();
        fs::write(top.path().join("a/b/x"), "123").unwrap();
        fs::write(top.path().join("y"), "").unwrap();
        std::os::unix::fs::symlink(top.path().join("y"), top.path().join("link")).unwrap();
        std::os::unix::fs::symlink(top.path(), top.path().join("circle")).unwrap();
        let scan_all = scan(top.path(), true);
        assert_eq!(scan_all.folders, ["", "a", "a/b"]);
        let mut files: Vec<_> =
            scan_all.files.iter().map(|file| (file.below.as_str(), file.length)).collect();
        files.sort_unstable();
        assert_eq!(files, [("a/b/x", 3), ("link", 0), ("y", 0)]);
        assert_eq!(scan_all.problems.len(), 1);
        assert!(scan_all.problems[0].to_string().contains("circle: is a link to a folder"));
        assert!(scan(top.path(), false).problems[0].to_string().contains("-r"));
        assert!(
            scan(&top.path().join("none"), true).problems[0]
                .to_string()
                .ends_with("No such file or directory")
        );
    }

    #[test]
    fn publishing_replaces_only_when_told() {
        let top = tempfile::tempdir().unwrap();
        let (temporary, target) = (top.path().join("t"), top.path().join("x"));
        fs::write(&temporary, "new").unwrap();
        fs::write(&target, "old").unwrap();
        assert_eq!(publish(&temporary, &target, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        publish(&temporary, &target, true).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        fs::write(&temporary, "other").unwrap();
        publish(&temporary, &top.path().join("z"), false).unwrap();
        assert!(!temporary.exists());
    }

    #[test]
    fn names_are_taken_from_paths() {
        assert_eq!(name_of(Path::new("/a/b.csv")).unwrap(), "b.csv");
        assert!(name_of(Path::new(".")).is_ok());
        assert!(name_of(Path::new("/")).is_err());
    }
}
