//! The namenode's machine: disks that keep what was synced, and of the rest what a power cut happens to leave.
//!
//! The files are real ones, in memory. Each sync of a file keeps its bytes as of then, each sync of a folder the names in it.
//! When the power fails the folders are made anew: names as last synced or as they were; bytes as last synced, as they were,
//! or some sectors of either.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::io::Errno;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::random::{Random, mix};

/// What a disk writes wholly or not at all, in bytes.
const SECTOR: usize = 512;

static MACHINE: Mutex<Option<Machine>> = Mutex::new(None);
/// Whether calls are to be looked at; without, they cost nothing.
static WATCHING: AtomicBool = AtomicBool::new(false);
static FAULTY: AtomicBool = AtomicBool::new(false);
static SEED: AtomicU64 = AtomicU64::new(0);
static EPOCH: AtomicU64 = AtomicU64::new(0);
static SYNCS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static DRAWN: Cell<u64> = const { Cell::new(0) };
    static IS_MAIN: Cell<bool> = const { Cell::new(false) };
}

/// A name in a folder: the number of a file, or a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    File(u64),
    Folder,
}

struct Machine {
    root: PathBuf,
    /// Bytes of files as last synced, by the file's number.
    files: BTreeMap<u64, Vec<u8>>,
    /// Names of folders as last synced.
    folders: BTreeMap<PathBuf, BTreeMap<String, Entry>>,
    /// So many more syncs of journal segments, then the power fails.
    left: Option<u64>,
    off: bool,
    /// What is below this fails so.
    bad: Option<(PathBuf, Errno)>,
    /// Syncs of what is below this say yes and do nothing.
    lying: Option<PathBuf>,
}

/// From here on, random bytes come from `seed`, and this thread has a sequence of its own.
pub fn begin(seed: u64) {
    SEED.store(seed, Ordering::SeqCst);
    EPOCH.store(0, Ordering::SeqCst);
    IS_MAIN.set(true);
    DRAWN.set(0);
    *MACHINE.lock() = None;
    WATCHING.store(false, Ordering::SeqCst);
    FAULTY.store(false, Ordering::SeqCst);
}

/// Whether the calls of this process come by here: without it nothing would be proved.
#[must_use]
pub fn is_in_place() -> bool {
    let before = SYNCS.load(Ordering::SeqCst);
    let Ok(file) = tempfile::tempfile() else { return false };
    file.sync_data().is_ok() && SYNCS.load(Ordering::SeqCst) > before
}

/// Random bytes from the seed.
pub fn random_bytes(buffer: &mut [u8]) {
    let (drawn, main) = (DRAWN.get(), IS_MAIN.get());
    DRAWN.set(drawn + 1);
    // Other threads begin anew with each life of the namenode.
    let stream = if main { 1 } else { 2 | EPOCH.load(Ordering::Relaxed) << 8 };
    let random = Random::new(mix(SEED.load(Ordering::Relaxed) ^ mix(stream) ^ mix(drawn << 2)));
    for piece in buffer.chunks_mut(8) {
        piece.copy_from_slice(&random.draw().to_le_bytes()[..piece.len()]);
    }
}

fn path_of(file: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{file}")).ok()
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

/// A sync of an open file or folder.
///
/// # Errors
/// The disk fails, or the power has gone.
pub fn synced(file: i32) -> Result<(), Errno> {
    SYNCS.fetch_add(1, Ordering::Relaxed);
    if !WATCHING.load(Ordering::Relaxed) {
        return Ok(());
    }
    let Some(path) = path_of(file) else { return Ok(()) };
    let mut machine = MACHINE.lock();
    let Some(machine) = machine.as_mut().filter(|machine| path.starts_with(&machine.root)) else {
        return Ok(());
    };
    machine.synced(file, &path)
}

/// Whether an open file takes bytes.
///
/// # Errors
/// The disk fails, or is full.
pub fn writable(file: i32) -> Result<(), Errno> {
    if !FAULTY.load(Ordering::Relaxed) {
        return Ok(());
    }
    let Some(path) = path_of(file) else { return Ok(()) };
    match MACHINE.lock().as_ref().and_then(|machine| machine.bad.as_ref()) {
        Some((bad, error)) if path.starts_with(bad) => Err(*error),
        _ => Ok(()),
    }
}

fn names_in(folder: &Path) -> io::Result<BTreeMap<String, Entry>> {
    let mut names = BTreeMap::new();
    for item in fs::read_dir(folder)? {
        let item = item?;
        let Ok(name) = item.file_name().into_string() else { continue };
        let Ok(meta) = item.metadata() else { continue };
        names.insert(name, if meta.is_dir() { Entry::Folder } else { Entry::File(meta.ino()) });
    }
    Ok(names)
}

impl Machine {
    fn synced(&mut self, file: i32, path: &Path) -> Result<(), Errno> {
        if self.off {
            return Err(Errno::IO);
        }
        let is_segment =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"segment-"));
        if is_segment && let Some(left) = &mut self.left {
            if *left == 0 {
                self.off = true;
                return Err(Errno::IO);
            }
            *left -= 1;
        }
        if let Some((bad, error)) = &self.bad
            && path.starts_with(bad)
        {
            return Err(*error);
        }
        if self.lying.as_ref().is_some_and(|lying| path.starts_with(lying)) {
            return Ok(());
        }
        self.keep(&format!("/proc/self/fd/{file}"), path).map_err(|error| errno(&error))
    }

    fn keep(&mut self, open: &str, path: &Path) -> io::Result<()> {
        let meta = fs::metadata(open)?;
        if meta.is_dir() {
            self.folders.insert(path.to_owned(), names_in(path)?);
        } else {
            self.files.insert(meta.ino(), fs::read(open)?);
        }
        Ok(())
    }

    /// Everything that is there is durable.
    fn keep_all(&mut self, folder: &Path) -> io::Result<()> {
        let names = names_in(folder)?;
        for (name, entry) in &names {
            let path = folder.join(name);
            match entry {
                Entry::Folder => self.keep_all(&path)?,
                Entry::File(number) => drop(self.files.insert(*number, fs::read(&path)?)),
            }
        }
        self.folders.insert(folder.to_owned(), names);
        Ok(())
    }

    fn rebuild(&self, from: &Path, to: &Path, seed: u64) -> io::Result<()> {
        let relative = from.strip_prefix(&self.root).unwrap_or(from).to_string_lossy().into_owned();
        let random = Random::new(xxh3_64_with_seed(relative.as_bytes(), seed));
        let (now, synced) = (names_in(from).unwrap_or_default(), self.folders.get(from));
        let names = match synced {
            Some(synced) if random.chance(60) => synced,
            // A folder that was never synced may be as it is, or empty.
            None if random.chance(50) => &BTreeMap::new(),
            _ => &now,
        };
        for (name, entry) in names {
            let (old, new) = (from.join(name), to.join(name));
            match entry {
                Entry::Folder => {
                    fs::create_dir(&new)?;
                    self.rebuild(&old, &new, seed)?;
                }
                Entry::File(number) => fs::write(&new, self.bytes(&old, *number, &now, name, seed))?,
            }
        }
        Ok(())
    }

    fn bytes(
        &self,
        path: &Path,
        number: u64,
        now: &BTreeMap<String, Entry>,
        name: &str,
        seed: u64,
    ) -> Vec<u8> {
        let random = Random::new(xxh3_64_with_seed(name.as_bytes(), seed ^ 1));
        let synced = self.files.get(&number).cloned().unwrap_or_default();
        let holder = now.iter().find(|(_, entry)| **entry == Entry::File(number));
        let current = holder.and_then(|(name, _)| fs::read(path.with_file_name(name)).ok());
        let Some(mut current) = current else { return synced };
        match random.below(3) {
            0 => synced,
            1 => current,
            _ => {
                for (index, sector) in current.chunks_mut(SECTOR).enumerate() {
                    if random.chance(50) {
                        let old = synced.get(index * SECTOR..).unwrap_or_default();
                        for (at, byte) in sector.iter_mut().enumerate() {
                            *byte = old.get(at).copied().unwrap_or(0);
                        }
                    }
                }
                current
            }
        }
    }
}

/// A machine starts, with its folders below `root`. All that is there is durable, unless its last process was only killed.
///
/// # Errors
/// The real disk.
pub fn start(root: &Path) -> io::Result<()> {
    let carried = CARRIED.lock().take().filter(|machine| machine.root == root);
    let is_new = carried.is_none();
    let mut machine = carried.unwrap_or_else(|| Machine {
        root: root.to_owned(),
        files: BTreeMap::new(),
        folders: BTreeMap::new(),
        left: None,
        off: false,
        bad: None,
        lying: None,
    });
    if is_new {
        machine.keep_all(root)?;
    }
    *MACHINE.lock() = Some(machine);
    EPOCH.fetch_add(1, Ordering::SeqCst);
    WATCHING.store(true, Ordering::SeqCst);
    FAULTY.store(false, Ordering::SeqCst);
    Ok(())
}

/// The machine stops: its folders are made again at `to`, as they are (a killed process), or with `power` as what was
/// synced and what luck left of the rest. What goes on in the old folders counts no more.
///
/// # Errors
/// The real disk.
pub fn stop(to: &Path, power: Option<u64>) -> io::Result<()> {
    FAULTY.store(false, Ordering::SeqCst);
    // Held while files are copied: a thread of the store waits at its next sync, so the list of tables never gets a table
    // that was made after the names were read, and no table goes that the list still names.
    let mut slot = MACHINE.lock();
    let copied = slot.take().map_or(Ok(()), |machine| machine.leave(to, power));
    WATCHING.store(false, Ordering::SeqCst);
    copied
}

impl Machine {
    fn leave(mut self, to: &Path, power: Option<u64>) -> io::Result<()> {
        fs::create_dir_all(to)?;
        if let Some(seed) = power {
            return self.rebuild(&self.root, to, seed);
        }
        let mut numbers = BTreeMap::new();
        copy_numbered(&self.root, to, &mut numbers)?;
        self.carry_over(to, &numbers);
        *CARRIED.lock() = Some(self);
        Ok(())
    }

    /// The same disk with its files under other names and numbers.
    fn carry_over(&mut self, to: &Path, numbers: &BTreeMap<u64, u64>) {
        // What is only durable, and not there any more, keeps its number where no file has one.
        let number = |old: &u64| numbers.get(old).copied().unwrap_or(old | GONE);
        self.files =
            std::mem::take(&mut self.files).iter().map(|(old, bytes)| (number(old), bytes.clone())).collect();
        let entry = |entry: &Entry| match entry {
            Entry::File(old) => Entry::File(number(old)),
            Entry::Folder => Entry::Folder,
        };
        let folders = std::mem::take(&mut self.folders);
        for (path, names) in folders {
            let path = to.join(path.strip_prefix(&self.root).unwrap_or(&path));
            self.folders.insert(path, names.iter().map(|(name, of)| (name.clone(), entry(of))).collect());
        }
        self.root = to.to_owned();
        (self.left, self.off, self.bad, self.lying) = (None, false, None, None);
    }
}

/// Marks numbers of files that are not there any more.
const GONE: u64 = 1 << 63;

/// What a killed namenode left: the machine goes on.
static CARRIED: Mutex<Option<Machine>> = Mutex::new(None);

/// Copies a folder, and tells which file became which.
fn copy_numbered(from: &Path, to: &Path, numbers: &mut BTreeMap<u64, u64>) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for (name, entry) in names_in(from)? {
        let (old, new) = (from.join(&name), to.join(&name));
        match entry {
            Entry::Folder => copy_numbered(&old, &new, numbers)?,
            Entry::File(number) => match fs::copy(&old, &new) {
                // Taken away by a thread in the background meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => {
                    other?;
                    numbers.insert(number, fs::metadata(&new)?.ino());
                }
            },
        }
    }
    Ok(())
}

/// Copies a folder of nobody's machine.
///
/// # Errors
/// The real disk.
pub fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for (name, entry) in names_in(from)? {
        let (old, new) = (from.join(&name), to.join(&name));
        match entry {
            Entry::Folder => copy_all(&old, &new)?,
            Entry::File(_) => match fs::copy(&old, &new) {
                // Taken away by a thread in the background meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => drop(other?),
            },
        }
    }
    Ok(())
}

/// The power fails at the sync after so many of journal segments; none takes it back.
pub fn fail_power_after(syncs: Option<u64>) {
    if let Some(machine) = MACHINE.lock().as_mut() {
        machine.left = syncs;
    }
}

/// What is below `folder` fails from now on with this, or not any more.
pub fn fail_disk(folder: Option<(&Path, Errno)>) {
    if let Some(machine) = MACHINE.lock().as_mut() {
        machine.bad = folder.map(|(path, error)| (path.to_owned(), error));
        FAULTY.store(machine.bad.is_some(), Ordering::SeqCst);
    }
}

/// Syncs of what is below `folder` say yes and keep nothing.
pub fn lie_about(folder: &Path) {
    if let Some(machine) = MACHINE.lock().as_mut() {
        machine.lying = Some(folder.to_owned());
    }
}
