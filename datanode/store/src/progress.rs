//! How far the check of all replicas of a volume has got: a small file, so that a restart goes on where it was.

use steadfs_common::{BlockId, Millis, StorageId};

use crate::identity::{is_sealed, seal};
use crate::layout::SCAN_FILE;
use crate::{Store, StoreResult};

/// Version of the file. 1: the first.
const VERSION: u32 = 1;
/// Longest file that is read.
const MAX_BYTES: u64 = 4 << 10;

/// How far the check of all replicas of a volume has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScanProgress {
    /// When the pass began.
    pub began: Millis,
    /// The last replica that was checked; none before the first.
    pub after: Option<BlockId>,
    /// Bytes checked in this pass.
    pub bytes: u64,
    /// The pass has come to the end; the next one begins when it is due.
    pub done: bool,
    /// When the last whole pass ended; 0 for never.
    pub last_done: Millis,
}

impl ScanProgress {
    fn encode(&self) -> String {
        let mut text = format!(
            "# How far the check of all replicas has got. It begins anew without this file.\nversion = {VERSION}\n\
             began = {}\nbytes = {}\ndone = {}\nlast_done = {}\n",
            self.began.0, self.bytes, self.done, self.last_done.0
        );
        if let Some(after) = self.after {
            text += &format!("after = {}\n", after.0);
        }
        seal(text)
    }

    fn decode(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once(" = "))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value)
        };
        if !is_sealed(text) || field("version")?.parse() != Ok(VERSION) {
            return None;
        }
        Some(Self {
            began: Millis(field("began")?.parse().ok()?),
            after: match field("after") {
                Some(after) => Some(BlockId(after.parse().ok()?)),
                None => None,
            },
            bytes: field("bytes")?.parse().ok()?,
            done: field("done")?.parse().ok()?,
            last_done: Millis(field("last_done")?.parse().ok()?),
        })
    }
}

impl Store {
    /// How far the check of a volume had got; none if it never began, or what was written down cannot be read.
    #[must_use]
    pub fn scan_progress(&self, storage: StorageId) -> Option<ScanProgress> {
        let volume = self.core.volumes.find(storage)?;
        let file = volume.disk.open(volume.root.join(SCAN_FILE), false).ok()?;
        let len = volume.disk.len(&file).ok().filter(|len| *len <= MAX_BYTES)?;
        let mut bytes = vec![0; len as usize];
        volume.disk.read_at(&file, &mut bytes, 0).ok()?;
        ScanProgress::decode(std::str::from_utf8(&bytes).ok()?)
    }

    /// Writes down how far the check of a volume has got.
    ///
    /// # Errors
    /// The disk; the volume is looked at.
    pub fn save_scan_progress(&self, storage: StorageId, progress: &ScanProgress) -> StoreResult<()> {
        let Some(volume) = self.core.volumes.find(storage) else { return Ok(()) };
        volume.alive()?;
        let saved = volume.disk.replace(&volume.root.join(SCAN_FILE), progress.encode().as_bytes());
        self.core.watch(&volume, saved)
    }

    /// The next replica of a volume that somebody has reason to doubt.
    #[must_use]
    pub fn next_suspect(&self, storage: StorageId) -> Option<BlockId> {
        self.core.suspects.next(storage)
    }

    /// Replicas of a volume that wait to be checked before all others.
    #[must_use]
    pub fn suspects(&self, storage: StorageId) -> usize {
        self.core.suspects.count(storage)
    }

    /// Asks for a replica to be checked before all others, if it is here.
    pub fn add_suspect(&self, id: BlockId) {
        if let Some(replica) = self.status(id) {
            self.core.suspects.add(replica.storage, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_damage_begins_anew() {
        let progress = ScanProgress {
            began: Millis(1_000),
            after: Some(BlockId(7)),
            bytes: 5,
            done: false,
            last_done: Millis(900),
        };
        for progress in [progress, ScanProgress { after: None, done: true, ..progress }] {
            let text = progress.encode();
            assert_eq!(ScanProgress::decode(&text), Some(progress));
            for cut in [0, 10, text.len() - 2] {
                assert_eq!(ScanProgress::decode(&text[..cut]), None);
            }
            assert_eq!(ScanProgress::decode(&text.replace("bytes = 5", "bytes = 6")), None);
        }
        // Golden: the first version.
        let golden = "# How far the check of all replicas has got. It begins anew without this file.\nversion = 1\n\
                      began = 1000\nbytes = 5\ndone = false\nlast_done = 900\nafter = 7\n";
        assert_eq!(progress.encode(), seal(golden.to_owned()));
    }
}
