//! Every operation on files and folders, and what makes it survive a crash.
//!
//! A name is durable once its folder was synced after the name was made; bytes are durable once the file was synced after
//! they were written. So a file that matters is made in this order: write, sync the file, rename, **sync the folder**.
//! A sync that failed is never tried again: Linux marks the pages clean, and the next sync would say yes with the data gone.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::wear::Wear;
use crate::{StoreError, StoreResult};

/// Slices that one call writes at most.
const SLICES: usize = 128;

/// What is about to be done to a file or folder.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DiskOp {
    /// A file is made.
    Create,
    /// An existing file is opened.
    Open,
    /// Bytes are written.
    Write,
    /// Bytes are read.
    Read,
    /// A file's end is moved.
    Truncate,
    /// A file is synced.
    Sync,
    /// A folder is synced.
    SyncDir,
    /// A file is renamed.
    Rename,
    /// A file is removed.
    Remove,
    /// A folder is made.
    MakeDir,
    /// A folder is listed.
    List,
}

/// Makes operations fail, and watches those that succeed: for tests. All operations on files go past it.
pub trait Faults: Send + Sync {
    /// Called before an operation; an error is returned to whoever wanted it, and nothing is done.
    ///
    /// # Errors
    /// Whatever the test wants to happen.
    fn before(&self, op: DiskOp, path: &Path) -> io::Result<()>;

    /// Called after an operation succeeded; `to` is the new name of a rename.
    fn after(&self, _op: DiskOp, _path: &Path, _to: Option<&Path>) {}
}

/// A file and the name it was opened by, for messages. The name may have changed since.
#[derive(Clone, Debug)]
pub(crate) struct NamedFile {
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
}

/// The file system below one volume.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    faults: Option<Arc<dyn Faults>>,
    /// Shared by all clones.
    pub(crate) wear: Arc<Wear>,
}

impl Disk {
    pub(crate) fn new(faults: Option<Arc<dyn Faults>>) -> Self {
        Self { faults, wear: Arc::default() }
    }

    /// One more, on which nothing has failed yet.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.faults.clone())
    }

    fn run<T>(&self, op: DiskOp, path: &Path, action: impl FnOnce() -> io::Result<T>) -> StoreResult<T> {
        self.run_to(op, path, None, action)
    }

    fn run_to<T>(
        &self,
        op: DiskOp,
        path: &Path,
        to: Option<&Path>,
        action: impl FnOnce() -> io::Result<T>,
    ) -> StoreResult<T> {
        let before = self.faults.as_ref().map_or(Ok(()), |faults| faults.before(op, path));
        let done = before.and_then(|()| action()).map_err(|error| {
            self.wear.note(op, path, &error);
            StoreError::io(path, error)
        })?;
        if let Some(faults) = &self.faults {
            faults.after(op, path, to);
        }
        Ok(done)
    }

    /// An empty file to read and write; one that was there is emptied.
    pub(crate) fn create(&self, path: PathBuf) -> StoreResult<NamedFile> {
        let file = self.run(DiskOp::Create, &path, || {
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)
        })?;
        Ok(NamedFile { file: Arc::new(file), path })
    }

    /// A file in memory, on no disk at all.
    pub(crate) fn create_in_memory(&self) -> StoreResult<NamedFile> {
        let path = PathBuf::from("(memory)");
        let file = self.run(DiskOp::Create, &path, || {
            Ok(File::from(rustix::fs::memfd_create("probe", rustix::fs::MemfdFlags::CLOEXEC)?))
        })?;
        Ok(NamedFile { file: Arc::new(file), path })
    }

    pub(crate) fn open(&self, path: PathBuf, write: bool) -> StoreResult<NamedFile> {
        let file =
            self.run(DiskOp::Open, &path, || OpenOptions::new().read(true).write(write).open(&path))?;
        Ok(NamedFile { file: Arc::new(file), path })
    }

    pub(crate) fn write_at(&self, file: &NamedFile, bytes: &[u8], offset: u64) -> StoreResult<()> {
        self.run(DiskOp::Write, &file.path, || file.file.write_all_at(bytes, offset))
    }

    /// Writes slices one behind the other, as few calls as there can be.
    pub(crate) fn write_all_at(&self, file: &NamedFile, slices: &[&[u8]], offset: u64) -> StoreResult<()> {
        self.run(DiskOp::Write, &file.path, || write_slices(&file.file, slices, offset))
    }

    pub(crate) fn read_at(&self, file: &NamedFile, buffer: &mut [u8], offset: u64) -> StoreResult<()> {
        self.run(DiskOp::Read, &file.path, || file.file.read_exact_at(buffer, offset))
    }

    pub(crate) fn len(&self, file: &NamedFile) -> StoreResult<u64> {
        self.run(DiskOp::Open, &file.path, || Ok(file.file.metadata()?.len()))
    }

    pub(crate) fn truncate(&self, file: &NamedFile, len: u64) -> StoreResult<()> {
        self.run(DiskOp::Truncate, &file.path, || file.file.set_len(len))
    }

    /// Makes a file's bytes and length durable, not its name.
    pub(crate) fn sync(&self, file: &NamedFile) -> StoreResult<()> {
        self.run(DiskOp::Sync, &file.path, || file.file.sync_data())
    }

    /// Makes the names in a folder durable. Use [`DirSyncs::sync`] for folders of replicas.
    pub(crate) fn sync_dir(&self, path: &Path) -> StoreResult<()> {
        self.sync_opened(path, &self.open_dir(path)?)
    }

    fn open_dir(&self, path: &Path) -> StoreResult<File> {
        self.run(DiskOp::Open, path, || File::open(path))
    }

    fn sync_opened(&self, path: &Path, folder: &File) -> StoreResult<()> {
        self.run(DiskOp::SyncDir, path, || folder.sync_all())
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> StoreResult<()> {
        self.run_to(DiskOp::Rename, from, Some(to), || fs::rename(from, to))
    }

    /// Removes a file; it is fine if it is not there.
    pub(crate) fn remove(&self, path: &Path) -> StoreResult<()> {
        self.run(DiskOp::Remove, path, || match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        })
    }

    /// The names in a folder with whether each is a folder.
    pub(crate) fn list(&self, path: &Path) -> StoreResult<Vec<(String, bool)>> {
        self.run(DiskOp::List, path, || {
            let mut names = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let is_dir = entry.file_type()?.is_dir();
                // A name that is not UTF-8 is none of ours.
                if let Ok(name) = entry.file_name().into_string() {
                    names.push((name, is_dir));
                }
            }
            Ok(names)
        })
    }

    /// The length of a file by its name.
    pub(crate) fn len_of(&self, path: &Path) -> StoreResult<u64> {
        self.run(DiskOp::Open, path, || Ok(fs::metadata(path)?.len()))
    }

    /// A folder and those above it, durably if they were not there.
    pub(crate) fn make_dirs(&self, path: &Path) -> StoreResult<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.make_dirs(parent)?;
        }
        self.make_dir(path)?;
        self.sync_dir(parent.unwrap_or(Path::new(".")))
    }

    fn make_dir(&self, path: &Path) -> StoreResult<()> {
        self.run(DiskOp::MakeDir, path, || match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        })
    }

    /// Writes a small file so that a crash leaves either what was there before or all of the new bytes.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> StoreResult<()> {
        let temporary = path.with_extension("new");
        let file = self.create(temporary.clone())?;
        self.write_at(&file, bytes, 0)?;
        self.sync(&file)?;
        self.rename(&temporary, path)?;
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }
}

fn write_slices(file: &File, slices: &[&[u8]], mut offset: u64) -> io::Result<()> {
    for group in slices.chunks(SLICES) {
        let mut group: Vec<_> = group.iter().map(|slice| IoSlice::new(slice)).collect();
        let mut left = &mut group[..];
        // Also takes empty slices off the front.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match rustix::io::pwritev(file, left, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Syncs of folders, shared: those who want the same folder synced while a sync of it is under way get one sync together.
#[derive(Default)]
pub(crate) struct DirSyncs {
    folders: Mutex<HashMap<PathBuf, Arc<Folder>>>,
}

#[derive(Default)]
struct Folder {
    state: Mutex<FolderState>,
    wake: Condvar,
}

#[derive(Default)]
struct FolderState {
    /// Syncs asked for so far, and how many of them are done.
    asked: u64,
    done: u64,
    running: bool,
    failed: Option<String>,
}

impl DirSyncs {
    /// Makes every name that is in the folder now durable. After one failure it fails for good.
    pub(crate) fn sync(&self, disk: &Disk, path: &Path) -> StoreResult<()> {
        let folder = self.folders.lock().entry(path.to_owned()).or_default().clone();
        let mut state = folder.state.lock();
        state.asked += 1;
        let mine = state.asked;
        loop {
            if let Some(why) = &state.failed {
                return Err(StoreError::io(path, io::Error::other(format!("an earlier sync failed: {why}"))));
            }
            if state.done >= mine {
                return Ok(());
            }
            if state.running {
                folder.wake.wait(&mut state);
                continue;
            }
            state.running = true;
            let covers = state.asked;
            drop(state);
            let opened = disk.open_dir(path);
            // Nothing was synced, so nothing has failed for good.
            let untouched = opened.as_ref().is_err_and(StoreError::is_ours);
            let result = opened.and_then(|opened| disk.sync_opened(path, &opened));
            state = folder.state.lock();
            state.running = false;
            folder.wake.notify_all();
            match result {
                Ok(()) => state.done = covers,
                Err(error) if untouched => return Err(error),
                Err(error) => {
                    state.failed = Some(error.to_string());
                    return Err(error);
                }
            }
        }
    }

    /// Whether a sync of some folder has failed.
    pub(crate) fn failed(&self) -> bool {
        self.folders.lock().values().any(|folder| folder.state.lock().failed.is_some())
    }

    /// Makes a folder below `root`, and those between, if they are not there. Whoever made them: when this returns they are
    /// durable.
    pub(crate) fn ensure(&self, disk: &Disk, root: &Path, path: &Path) -> StoreResult<()> {
        if path == root || self.folders.lock().contains_key(path) {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(root);
        self.ensure(disk, root, parent)?;
        disk.make_dir(path)?;
        // Also if it was there: whoever made it may have stopped before this, or may be just about to do it.
        self.sync(disk, parent)?;
        self.folders.lock().entry(path.to_owned()).or_default();
        Ok(())
    }
}
