//! Whether a volume works: a small file is written to it, synced and read.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::Duration;

use crate::error::{is_full, is_no_memory, is_ours};
use crate::layout::{self, LOCK_FILE, PROBE_FILE, Place};
use crate::volume::Volume;
use crate::{StoreError, StoreResult};

const PROBE: [u8; 4096] = [0xA5; 4096];

/// A disk that says there is no memory, where there is, is asked so often, with a rest between.
const MEMORY_PROBES: u32 = 3;
const MEMORY_REST: Duration = Duration::from_secs(1);
/// Bytes that must be had where no disk is: more than an operation on files takes.
const MEMORY: usize = 1 << 20;

impl Volume {
    /// Whether the volume works at all, found out by writing and reading a small file, and by how often writing failed of
    /// late; the reason if not. A full disk works, and so does one that this process has no descriptors or memory left for. May
    /// take as long as the disk likes: [`Self::check_now`] is for those who wait.
    pub(crate) fn examine(&self) -> Result<(), String> {
        if self.dirs.failed() {
            return Err("a folder could not be synced".into());
        }
        if let Some(why) = self.disk.wear.verdict() {
            return Err(why);
        }
        if self.is_covered() {
            return Err("another file system lies where it was: was it unmounted?".into());
        }
        for turn in 0..MEMORY_PROBES {
            if turn > 0 {
                thread::sleep(MEMORY_REST);
            }
            match self.probe() {
                Err(StoreError::Io { path, source }) if is_no_memory(&source) => {
                    if self.probe_memory().is_err() {
                        return Ok(());
                    }
                    tracing::warn!(path = %path.display(), "the file system of the volume says there is no memory, and there is");
                }
                Err(StoreError::Io { source, .. }) if is_full(&source) || is_ours(&source) => return Ok(()),
                probed => return probed.map_err(|error| error.to_string()),
            }
        }
        Err("its file system says that there is no memory, and there is: is the disk still there?".into())
    }

    fn probe(&self) -> StoreResult<()> {
        let path = self.root.join(PROBE_FILE);
        for place in [Place::Finalized, Place::Rbw, Place::Tmp] {
            let folder = layout::folder(&self.root, place);
            self.disk.len_of(&folder)?;
        }
        let file = self.disk.create(path.clone())?;
        self.disk.write_at(&file, &PROBE, 0)?;
        self.disk.sync(&file)?;
        let mut back = [0; PROBE.len()];
        self.disk.read_at(&file, &mut back, 0)?;
        self.disk.remove(&path)?;
        if back == PROBE {
            Ok(())
        } else {
            Err(StoreError::io(&path, io::Error::other("what was written is not what is read")))
        }
    }

    /// The same where no disk is: fails if it is memory that is lacking.
    pub(crate) fn probe_memory(&self) -> StoreResult<()> {
        let file = self.disk.create_in_memory()?;
        self.disk.write_at(&file, &vec![0xA5; MEMORY], 0)
    }

    /// Whether the lock file's name leads to another file: the volume's file system is no longer what one finds by name.
    fn is_covered(&self) -> bool {
        let identity = |about: std::fs::Metadata| (about.dev(), about.ino());
        let Some(held) = self.lock_file().and_then(|file| file.metadata().ok()) else { return false };
        std::fs::metadata(self.root.join(LOCK_FILE)).is_ok_and(|found| identity(found) != identity(held))
    }
}
