//! One side: a folder, and what is open in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, SeekFrom, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::ops::{Access, Flag, From, How, Op};

/// Handles open at the same time.
const MAX_OPEN: usize = 8;
/// Longest list of attributes and longest value that a case makes.
const MAX_ATTRIBUTE: usize = 4_096;

/// What an operation gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    Refused(Errno),
    Number(u64),
    Bytes(Short),
    Status(Status),
    Names(Vec<String>),
}

/// Bytes, told shortly.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Short(Vec<u8>);

impl std::fmt::Debug for Short {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sum = self.0.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        write!(out, "{} bytes {:?}…, sum {sum:x}", self.0.len(), &self.0[..self.0.len().min(12)])
    }
}

/// What is compared of a status: inode numbers, times that nobody set and blocks are each side's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    folder: bool,
    mode: u32,
    /// Of files.
    length: u64,
    links: u64,
    /// The time of the content in milliseconds, if it was set just now.
    modified: Option<u64>,
}

/// What is left of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Left {
    mode: u32,
    attributes: Vec<(String, Short)>,
    content: Option<Short>,
    pub(super) bytes: Option<bytes::Bytes>,
}

pub(super) struct World {
    folder: PathBuf,
    open: Vec<(OwnedFd, bool)>,
}

type Done = Result<Seen, Errno>;

impl World {
    pub(super) fn new(folder: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir(&folder)?;
        Ok(Self { folder, open: Vec::new() })
    }

    pub(super) fn close(&mut self) {
        self.open.clear();
    }

    pub(super) fn apply(&mut self, op: &Op) -> Seen {
        self.done(op).unwrap_or_else(Seen::Refused)
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.folder.clone() } else { self.folder.join(path) }
    }

    fn done(&mut self, op: &Op) -> Done {
        match op {
            Op::Open { path, how, mode } => self.opened(path, *how, *mode),
            Op::Close(slot) => {
                if !self.open.is_empty() {
                    let slot = slot % self.open.len();
                    self.open.remove(slot);
                }
                Ok(Seen::Nothing)
            }
            Op::Kill => Ok(Seen::Nothing),
            op => match self.on_handle(op) {
                Some(done) => done,
                None => self.on_path(op),
            },
        }
    }

    fn opened(&mut self, path: &str, how: How, mode: u32) -> Done {
        if self.open.len() >= MAX_OPEN {
            return Ok(Seen::Nothing);
        }
        let mut flags = OFlags::CLOEXEC
            | match how.access {
                Access::Read => OFlags::RDONLY,
                Access::Write => OFlags::WRONLY,
                Access::Both => OFlags::RDWR,
            };
        for (wanted, flag) in [
            (how.create, OFlags::CREATE),
            (how.exclusive, OFlags::EXCL),
            // What it does to a file that is opened for reading is not specified.
            (how.truncate && how.access != Access::Read, OFlags::TRUNC),
            (how.append, OFlags::APPEND),
        ] {
            flags.set(flag, wanted);
        }
        let file = rustix::fs::open(self.at(path), flags, Mode::from_raw_mode(mode))?;
        let folder = rustix::fs::fstat(&file)?.st_mode & 0o170_000 == 0o040_000;
        self.open.push((file, folder));
        Ok(Seen::Nothing)
    }

    fn slot(&self, slot: usize) -> Option<&(OwnedFd, bool)> {
        self.open.get(slot % self.open.len().max(1))
    }

    fn on_handle(&mut self, op: &Op) -> Option<Done> {
        let slot = match op {
            Op::Duplicate(slot) | Op::Sync(slot) | Op::StatusOf(slot) => *slot,
            Op::Read { slot, .. }
            | Op::Write { slot, .. }
            | Op::ReadAt { slot, .. }
            | Op::WriteAt { slot, .. }
            | Op::WriteMapped { slot, .. }
            | Op::Seek { slot, .. }
            | Op::SetLength { slot, .. }
            | Op::Reach { slot, .. }
            | Op::ModeOf { slot, .. } => *slot,
            _ => return None,
        };
        let Some((file, folder)) = self.slot(slot) else { return Some(Ok(Seen::Nothing)) };
        if *op == Op::Duplicate(slot) {
            let made =
                (self.open.len() < MAX_OPEN).then(|| rustix::io::dup(file).map(|file| (file, *folder)));
            return Some(made.transpose().map(|made| {
                self.open.extend(made);
                Seen::Nothing
            }));
        }
        // What places in a folder mean is each side's own.
        let skipped = *folder
            && matches!(op, Op::Seek { .. } | Op::Read { .. } | Op::ReadAt { .. } | Op::WriteMapped { .. });
        Some(if skipped { Ok(Seen::Nothing) } else { on_file(file, op) })
    }

    fn on_path(&self, op: &Op) -> Done {
        match op {
            Op::Status(path) => Ok(Seen::Status(status(&rustix::fs::stat(self.at(path))?))),
            Op::Truncate { path, length } => {
                let file = rustix::fs::open(self.at(path), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
                rustix::fs::ftruncate(&file, *length)?;
                Ok(Seen::Nothing)
            }
            Op::Rename { from, to, replace } => {
                let flags = if *replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
                rustix::fs::renameat_with(CWD, self.at(from), CWD, self.at(to), flags)?;
                Ok(Seen::Nothing)
            }
            Op::Unlink(path) => nothing(rustix::fs::unlink(self.at(path))),
            Op::MakeFolder { path, mode } => {
                nothing(rustix::fs::mkdir(self.at(path), Mode::from_raw_mode(*mode)))
            }
            Op::RemoveFolder(path) => nothing(rustix::fs::rmdir(self.at(path))),
            Op::Mode { path, mode } => nothing(rustix::fs::chmod(self.at(path), Mode::from_raw_mode(*mode))),
            Op::Times { path, accessed, modified } => self.set_times(path, *accessed, *modified),
            Op::List(path) => self.list(path),
            Op::ReadAll(path) => {
                let read = fs::read(self.at(path));
                let read = read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
                Ok(Seen::Bytes(Short(read)))
            }
            op => self.on_attributes(op),
        }
    }

    fn set_times(&self, path: &str, accessed: u64, modified: u64) -> Done {
        let spec = |millis: u64| Timespec {
            tv_sec: (millis / 1_000) as i64,
            tv_nsec: (millis % 1_000 * 1_000_000) as _,
        };
        let times = Timestamps { last_access: spec(accessed), last_modification: spec(modified) };
        rustix::fs::utimensat(CWD, self.at(path), &times, AtFlags::empty())?;
        let found = rustix::fs::stat(self.at(path))?;
        let mut seen = status(&found);
        // Whoever looks for a file's bytes meanwhile moves the time of access.
        seen.modified = Some(found.st_mtime as u64 * 1_000 + found.st_mtime_nsec as u64 / 1_000_000);
        Ok(Seen::Status(seen))
    }

    fn list(&self, path: &str) -> Done {
        let read = || -> std::io::Result<Vec<String>> {
            let mut names: Vec<_> = fs::read_dir(self.at(path))?
                .map(|entry| {
                    let entry = entry?;
                    let kind = if entry.file_type()?.is_dir() { "/" } else { "" };
                    Ok(entry.file_name().to_string_lossy().into_owned() + kind)
                })
                .collect::<std::io::Result<_>>()?;
            names.sort();
            Ok(names)
        };
        read().map(Seen::Names).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    fn on_attributes(&self, op: &Op) -> Done {
        match op {
            Op::SetAttribute { path, name, value, flag } => {
                let flags = match flag {
                    Flag::Any => XattrFlags::empty(),
                    Flag::Create => XattrFlags::CREATE,
                    Flag::Replace => XattrFlags::REPLACE,
                };
                nothing(rustix::fs::setxattr(self.at(path), *name, value, flags))
            }
            Op::GetAttribute { path, name } => {
                let mut value = vec![0; MAX_ATTRIBUTE];
                let length = rustix::fs::getxattr(self.at(path), *name, &mut value[..])?;
                value.truncate(length);
                Ok(Seen::Bytes(Short(value)))
            }
            Op::RemoveAttribute { path, name } => nothing(rustix::fs::removexattr(self.at(path), *name)),
            Op::Attributes(path) => self.attributes(&self.at(path)).map(Seen::Names),
            other => unreachable!("{other:?} is done elsewhere"),
        }
    }

    fn attributes(&self, path: &std::path::Path) -> Result<Vec<String>, Errno> {
        let mut list = vec![0; MAX_ATTRIBUTE];
        let length = rustix::fs::listxattr(path, &mut list[..])?;
        let names =
            list[..length].split(|byte| *byte == 0).map(|name| String::from_utf8_lossy(name).into_owned());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("user.")).collect();
        names.sort();
        Ok(names)
    }

    /// Everything that is left, by path.
    pub(super) fn tree(&self) -> anyhow::Result<BTreeMap<String, Left>> {
        let mut left = BTreeMap::new();
        self.walk("", &mut left)?;
        Ok(left)
    }

    fn walk(&self, below: &str, left: &mut BTreeMap<String, Left>) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.at(below))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            let known = entry.metadata()?;
            let bytes = if known.is_dir() { None } else { Some(fs::read(entry.path())?) };
            let mut attributes = Vec::new();
            for name in self.attributes(&entry.path())? {
                let mut value = vec![0; MAX_ATTRIBUTE];
                let length = rustix::fs::getxattr(entry.path(), name.as_str(), &mut value[..])?;
                value.truncate(length);
                attributes.push((name, Short(value)));
            }
            let mode = std::os::unix::fs::PermissionsExt::mode(&known.permissions()) & 0o7777;
            let content = bytes.clone().map(Short);
            left.insert(path.clone(), Left { mode, attributes, content, bytes: bytes.map(Into::into) });
            if known.is_dir() {
                self.walk(&path, left)?;
            }
        }
        Ok(())
    }
}

fn nothing(done: rustix::io::Result<()>) -> Done {
    done.map(|()| Seen::Nothing)
}

fn status(found: &rustix::fs::Stat) -> Status {
    let folder = found.st_mode & 0o170_000 == 0o040_000;
    Status {
        folder,
        mode: found.st_mode & 0o7777,
        length: if folder { 0 } else { found.st_size as u64 },
        links: if folder { 2 } else { found.st_nlink },
        modified: None,
    }
}

fn on_file(file: &OwnedFd, op: &Op) -> Done {
    match op {
        Op::Read { length, .. } => read_fully(*length, |buffer, _| rustix::io::read(file, buffer)),
        Op::ReadAt { at, length, .. } => {
            read_fully(*length, |buffer, done| rustix::io::pread(file, buffer, at + done as u64))
        }
        Op::Write { data, .. } => write_fully(&data.bytes(), |bytes, _| rustix::io::write(file, bytes)),
        Op::WriteAt { at, data, .. } => {
            write_fully(&data.bytes(), |bytes, done| rustix::io::pwrite(file, bytes, at + done as u64))
        }
        Op::WriteMapped { at, data, .. } => super::mapped::write(file, *at, &data.bytes()).map(Seen::Number),
        Op::Seek { from, by, .. } => {
            let to = match from {
                From::Start => SeekFrom::Start(by.unsigned_abs()),
                From::Here => SeekFrom::Current(*by),
                From::End => SeekFrom::End(*by),
            };
            rustix::fs::seek(file, to).map(Seen::Number)
        }
        Op::SetLength { length, .. } => nothing(rustix::fs::ftruncate(file, *length)),
        Op::Reach { at, length, .. } => {
            nothing(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), *at, *length))
        }
        Op::Sync(_) => nothing(rustix::fs::fsync(file)),
        Op::StatusOf(_) => Ok(Seen::Status(status(&rustix::fs::fstat(file)?))),
        Op::ModeOf { mode, .. } => nothing(rustix::fs::fchmod(file, Mode::from_raw_mode(*mode))),
        other => unreachable!("{other:?} is done elsewhere"),
    }
}

/// As programs read: until there is enough, or no more.
fn read_fully(length: usize, mut read: impl FnMut(&mut [u8], usize) -> rustix::io::Result<usize>) -> Done {
    let mut bytes = vec![0; length];
    let mut done = 0;
    loop {
        let more = read(&mut bytes[done..], done)?;
        done += more;
        if more == 0 || done == length {
            bytes.truncate(done);
            return Ok(Seen::Bytes(Short(bytes)));
        }
    }
}

fn write_fully(bytes: &[u8], mut write: impl FnMut(&[u8], usize) -> rustix::io::Result<usize>) -> Done {
    let mut done = 0;
    loop {
        done += write(&bytes[done..], done)?;
        if done == bytes.len() {
            return Ok(Seen::Number(done as u64));
        }
    }
}
