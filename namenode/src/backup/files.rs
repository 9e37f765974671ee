//! Copying and checking files at a bounded pace.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use crc_fast::{CrcAlgorithm, Digest};

/// Files are read in pieces of this.
pub(crate) const PIECE: usize = 1 << 20;

/// How fast background work reads and writes, and whether it shall end.
#[derive(Clone)]
pub(crate) struct Pace {
    bytes_per_second: u64,
    stop: Arc<AtomicBool>,
}

impl Pace {
    /// 0 is as fast as the disks are.
    pub(crate) const fn new(bytes_per_second: u64, stop: Arc<AtomicBool>) -> Self {
        Self { bytes_per_second, stop }
    }

    /// As fast as the disks are, to the end.
    pub(crate) fn unbounded() -> Self {
        Self::new(0, Arc::default())
    }

    /// Waits so long that bytes moved since `began` were not too fast.
    pub(crate) fn keep(&self, began: Instant, moved: u64) -> anyhow::Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), "the namenode is stopping");
        if self.bytes_per_second > 0 {
            let due = Duration::from_secs_f64(moved as f64 / self.bytes_per_second as f64);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        Ok(())
    }
}

/// Hands the bytes of a file to `take`, piece by piece; gives their number and their CRC32C.
pub(crate) fn read(
    path: &Path,
    pace: &Pace,
    mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<(u64, u32)> {
    let shown = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(shown)?;
    let (began, mut bytes, mut digest) = (Instant::now(), 0, Digest::new(CrcAlgorithm::Crc32Iscsi));
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).with_context(shown)?;
        if read == 0 {
            return Ok((bytes, digest.finalize() as u32));
        }
        digest.update(&piece[..read]);
        take(&piece[..read])?;
        bytes += read as u64;
        pace.keep(began, bytes)?;
    }
}

/// As [`read`], from the disk and not from memory, as far as the system lets us.
pub(crate) fn sum_on_disk(path: &Path, pace: &Pace) -> anyhow::Result<(u64, u32)> {
    if let Ok(file) = File::open(path) {
        let _ = rustix::fs::fadvise(file.as_fd(), 0, None, rustix::fs::Advice::DontNeed);
    }
    read(path, pace, |_| Ok(()))
}

/// Copies a file durably: under another name first. Gives its length and CRC32C. The folder is still to be synced.
pub(crate) fn copy(from: &Path, to: &Path, pace: &Pace) -> anyhow::Result<(u64, u32)> {
    let temporary = to.with_extension("copying");
    let shown = || format!("cannot write {}", temporary.display());
    let mut file = File::create(&temporary).with_context(shown)?;
    let copied = read(from, pace, |piece| file.write_all(piece).with_context(shown));
    let copied = copied.and_then(|sum| {
        file.sync_all().with_context(shown)?;
        std::fs::rename(&temporary, to).with_context(shown)?;
        Ok(sum)
    });
    if copied.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    copied
}

/// Writes a small file durably in place of one of its name.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("writing");
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    });
    written.with_context(|| format!("cannot write {}", path.display()))?;
    sync_folder(path.parent().unwrap_or(path))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> anyhow::Result<()> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("cannot sync {}", folder.display()))
}

/// Removes a folder with all it holds; nothing is fine.
pub(crate) fn remove_folder(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
