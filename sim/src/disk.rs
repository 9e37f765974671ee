//! A datanode's disk: every operation on files goes past it, may fail, and survives a power cut only if it was synced.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use parking_lot::Mutex;
use steadfs_datanode_store::{DiskOp, Faults};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::random::{Random, mix};

/// What a disk writes wholly or not at all, in bytes.
const SECTOR: usize = 512;

type FileId = usize;

#[derive(Clone, Debug)]
enum NameOp {
    Make(PathBuf),
    Create(PathBuf, FileId),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl NameOp {
    fn is_in(&self, folder: &Path) -> bool {
        match self {
            Self::Make(path) | Self::Create(path, _) | Self::Remove(path) => path.parent() == Some(folder),
            Self::Rename(from, to) => from.parent() == Some(folder) || to.parent() == Some(folder),
        }
    }
}

/// How operations fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Nothing is wrong.
    None,
    /// Everything that changes something fails.
    Broken,
    /// The next sync fails, and then nothing.
    OneSync,
    /// No room: what needs some fails.
    Full,
    /// Syncs say yes and keep nothing.
    Lying,
}

#[derive(Default)]
struct State {
    /// So many more operations, then the power is gone.
    left: Option<u64>,
    off: bool,
    trouble: Option<Trouble>,
    /// Something failed while it was broken.
    failed: bool,
    /// A sync said yes and kept nothing.
    lied: bool,
    folders: BTreeSet<PathBuf>,
    base: BTreeMap<PathBuf, FileId>,
    ops: Vec<NameOp>,
    /// Operations before this one are durable.
    durable: usize,
    /// The file behind a name now, and behind the name that a handle was opened by.
    names: BTreeMap<PathBuf, FileId>,
    opened: BTreeMap<PathBuf, FileId>,
    synced: BTreeMap<FileId, Vec<u8>>,
    files: usize,
}

/// The disk of one life of a datanode.
pub struct Disk {
    root: PathBuf,
    state: Mutex<State>,
}

fn walk(folder: &Path, take: &mut impl FnMut(&Path, bool)) -> io::Result<()> {
    let mut items: Vec<_> = fs::read_dir(folder)?.collect::<io::Result<_>>()?;
    items.sort_by_key(fs::DirEntry::file_name);
    for item in items {
        let path = item.path();
        let is_folder = item.file_type()?.is_dir();
        take(&path, is_folder);
        if is_folder {
            walk(&path, take)?;
        }
    }
    Ok(())
}

impl Disk {
    /// The disk whose files are below `root`; all that is there is durable.
    ///
    /// # Errors
    /// The real disk.
    pub fn new(root: &Path) -> io::Result<Self> {
        let mut state = State::default();
        state.folders.insert(root.to_owned());
        let mut found = Vec::new();
        walk(root, &mut |path, is_folder| found.push((path.to_owned(), is_folder)))?;
        for (path, is_folder) in found {
            if is_folder {
                state.folders.insert(path);
                continue;
            }
            state.files += 1;
            let id = state.files;
            state.synced.insert(id, fs::read(&path)?);
            state.names.insert(path.clone(), id);
            state.base.insert(path, id);
        }
        Ok(Self { root: root.to_owned(), state: Mutex::new(state) })
    }

    /// The process is killed: its files go on at `to` as they are, and what was not synced is still not durable.
    ///
    /// # Errors
    /// The real disk.
    pub fn carry_over(&self, to: &Path) -> io::Result<Self> {
        crate::machine::copy_all(&self.root, to)?;
        let state = self.state.lock();
        let moved = |path: &PathBuf| to.join(path.strip_prefix(&self.root).unwrap_or(path));
        let moved_names =
            |names: &BTreeMap<PathBuf, FileId>| names.iter().map(|(path, id)| (moved(path), *id)).collect();
        let moved_op = |op: &NameOp| match op {
            NameOp::Make(path) => NameOp::Make(moved(path)),
            NameOp::Create(path, id) => NameOp::Create(moved(path), *id),
            NameOp::Rename(from, to) => NameOp::Rename(moved(from), moved(to)),
            NameOp::Remove(path) => NameOp::Remove(moved(path)),
        };
        let next = State {
            folders: state.folders.iter().map(moved).collect(),
            base: moved_names(&state.base),
            names: moved_names(&state.names),
            ops: state.ops.iter().map(moved_op).collect(),
            durable: state.durable,
            synced: state.synced.clone(),
            files: state.files,
            lied: state.lied,
            ..State::default()
        };
        Ok(Self { root: to.to_owned(), state: Mutex::new(next) })
    }

    /// Where its files are.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// From now on operations fail so.
    pub fn trouble(&self, trouble: Trouble) {
        self.state.lock().trouble = (trouble != Trouble::None).then_some(trouble);
    }

    /// The power fails after so many operations; none takes it back.
    pub fn fail_power_after(&self, operations: Option<u64>) {
        self.state.lock().left = operations;
    }

    /// Whether it has.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state.lock().off
    }

    /// Whether it was broken.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.state.lock().failed
    }

    /// Whether syncs that said yes kept nothing.
    #[must_use]
    pub fn has_lied(&self) -> bool {
        self.state.lock().lied
    }

    /// It keeps all that it lied about, so that a power cut takes nothing that was synced.
    pub fn make_good(&self) {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.lied) {
            state.keep_all();
        }
    }

    /// Nothing more succeeds.
    pub fn switch_off(&self) {
        self.state.lock().off = true;
    }

    /// Makes `target` what the disk may be after a power cut.
    ///
    /// # Errors
    /// The real disk.
    pub fn rebuild(&self, target: &Path, seed: u64) -> io::Result<()> {
        let state = self.state.lock();
        let kept = state.durable
            + Random::new(mix(seed)).below((state.ops.len() - state.durable) as u64 + 1) as usize;
        let mut folders = state.folders.clone();
        let mut names = state.base.clone();
        for op in &state.ops[..kept] {
            match op {
                NameOp::Make(path) => drop(folders.insert(path.clone())),
                NameOp::Create(path, id) => drop(names.insert(path.clone(), *id)),
                NameOp::Remove(path) => drop(names.remove(path)),
                NameOp::Rename(from, to) => {
                    if let Some(id) = names.remove(from) {
                        names.insert(to.clone(), id);
                    }
                }
            }
        }
        let moved = |path: &Path| target.join(path.strip_prefix(&self.root).unwrap_or(path));
        let lucky =
            |path: &Path| xxh3_64_with_seed(path.as_os_str().as_encoded_bytes(), seed).is_multiple_of(2);
        folders.retain(|folder| state.folders.contains(folder) || lucky(folder));
        for folder in &folders {
            let mut above = folder.ancestors().take_while(|above| above.starts_with(&self.root));
            if above.all(|above| folders.contains(above)) {
                fs::create_dir_all(moved(folder))?;
            }
        }
        names.retain(|path, _| path.parent().is_some_and(|folder| moved(folder).is_dir()));
        for (path, id) in names {
            let relative = path.strip_prefix(&self.root).unwrap_or(&path).as_os_str().as_encoded_bytes();
            let random = Random::new(xxh3_64_with_seed(relative, seed));
            fs::write(moved(&path), state.bytes(id, &random))?;
        }
        Ok(())
    }
}

impl State {
    fn keep_all(&mut self) {
        self.durable = self.ops.len();
        let made = self.ops.iter().filter_map(|op| match op {
            NameOp::Make(folder) => Some(folder.clone()),
            _ => None,
        });
        self.folders.extend(made);
        for (name, id) in &self.names {
            if let Ok(bytes) = fs::read(name) {
                self.synced.insert(*id, bytes);
            }
        }
    }

    /// The bytes of a file after a power cut.
    fn bytes(&self, id: FileId, random: &Random) -> Vec<u8> {
        let synced = self.synced.get(&id).cloned().unwrap_or_default();
        let now = self.names.iter().find(|(_, other)| **other == id);
        let Some(mut current) = now.and_then(|(name, _)| fs::read(name).ok()) else { return synced };
        match random.below(3) {
            0 => synced,
            1 => current,
            // Each sector is old or new.
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

    fn refusal(&mut self, op: DiskOp) -> Option<io::Error> {
        let changes = !matches!(op, DiskOp::Open | DiskOp::Read | DiskOp::List);
        if changes && let Some(left) = &mut self.left {
            self.off |= *left == 0;
            *left = left.saturating_sub(1);
        }
        if self.off && changes {
            return Some(io::Error::other("the power is gone"));
        }
        let failed = match self.trouble? {
            Trouble::None | Trouble::Lying => false,
            Trouble::Broken => changes,
            Trouble::OneSync => op == DiskOp::Sync,
            Trouble::Full => matches!(op, DiskOp::Write | DiskOp::Create | DiskOp::MakeDir),
        };
        let full = self.trouble == Some(Trouble::Full);
        // One failed sync needs no other disk: the datanode goes on with it.
        self.failed |= failed && self.trouble == Some(Trouble::Broken);
        if failed && self.trouble == Some(Trouble::OneSync) {
            self.trouble = None;
        }
        let number = if full { rustix::io::Errno::NOSPC } else { rustix::io::Errno::IO };
        failed.then(|| io::Error::from_raw_os_error(number.raw_os_error()))
    }
}

impl Faults for Disk {
    fn before(&self, op: DiskOp, _path: &Path) -> io::Result<()> {
        self.state.lock().refusal(op).map_or(Ok(()), Err)
    }

    fn after(&self, op: DiskOp, path: &Path, to: Option<&Path>) {
        let mut state = self.state.lock();
        let path = path.to_path_buf();
        if matches!(op, DiskOp::Sync | DiskOp::SyncDir) && state.trouble == Some(Trouble::Lying) {
            state.lied = true;
            return;
        }
        match op {
            DiskOp::Create => {
                state.files += 1;
                let id = state.files;
                state.names.insert(path.clone(), id);
                state.opened.insert(path.clone(), id);
                state.ops.push(NameOp::Create(path, id));
            }
            DiskOp::Open => {
                if let Some(id) = state.names.get(&path).copied() {
                    state.opened.insert(path, id);
                }
            }
            DiskOp::Rename => {
                let Some(to) = to.map(Path::to_path_buf) else { return };
                if let Some(id) = state.names.remove(&path) {
                    state.names.insert(to.clone(), id);
                }
                state.ops.push(NameOp::Rename(path, to));
            }
            DiskOp::Remove => {
                state.names.remove(&path);
                state.ops.push(NameOp::Remove(path));
            }
            DiskOp::MakeDir => state.ops.push(NameOp::Make(path)),
            DiskOp::Sync => {
                let Some(id) = state.opened.get(&path).copied() else { return };
                let now = state.names.iter().find(|(_, other)| **other == id).map(|(name, _)| name.clone());
                if let Some(bytes) = now.and_then(|now| fs::read(now).ok()) {
                    state.synced.insert(id, bytes);
                }
            }
            DiskOp::SyncDir => {
                let last = state.ops.iter().rposition(|op| op.is_in(&path));
                state.durable = state.durable.max(last.map_or(0, |last| last + 1));
                let made: Vec<PathBuf> = state
                    .ops
                    .iter()
                    .filter_map(|op| match op {
                        NameOp::Make(folder) if folder.parent() == Some(&path) => Some(folder.clone()),
                        _ => None,
                    })
                    .collect();
                state.folders.extend(made);
            }
            DiskOp::Write | DiskOp::Read | DiskOp::Truncate | DiskOp::List => {}
        }
    }
}
