//! Segment files.
//!
//! A segment's first 64 bytes, all numbers little-endian: magic (8), its first index (8), hash of the entry before
//! that (8), size of the file (8), salt (8), epoch of the namenode that began it (8), zeros (12), CRC32C of the 60 bytes
//! before (4). Entries follow one upon another; the rest is zeros.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use steadfs_common::ChecksumKind;

use super::JournalError;
use super::entry::{self, ALIGNMENT, Found};

/// Bytes before the first entry.
pub(super) const HEADER_BYTES: usize = 64;
/// Begins a segment: its name and the version of this layout.
const MAGIC: [u8; 8] = *b"SFSJRNL\x01";
const CRC_AT: usize = 60;
/// Zeros are written in pieces of this.
const ZERO_STEP: usize = 1 << 20;
/// Largest file that is read as a segment.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHead {
    pub(super) first: u64,
    pub(super) previous: u64,
    pub(super) bytes: u64,
    pub(super) salt: u64,
    pub(super) epoch: u64,
}

impl SegmentHead {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        let numbers = [self.first, self.previous, self.bytes, self.salt, self.epoch];
        for (place, number) in numbers.iter().enumerate() {
            let at = 8 * (place + 1);
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let crc = ChecksumKind::Crc32c.of(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(file: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = file.first_chunk()?;
        let crc = ChecksumKind::Crc32c.of(&bytes[..CRC_AT]);
        if bytes[..8] != MAGIC || bytes[CRC_AT..] != crc.to_le_bytes() {
            return None;
        }
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        Some(Self { first: long(8), previous: long(16), bytes: long(24), salt: long(32), epoch: long(40) })
    }
}

/// How a segment file ends after its last good entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Zeros to the end, or to where the next entry would not fit.
    Clean,
    /// Something that is not an entry, and no entry of this segment after it.
    Torn,
    /// The file is shorter than it was made, or cannot be read to its end, and what is left does not show that nothing
    /// followed: entries may be gone.
    Cut,
}

/// What is on the disk under a segment's name.
#[derive(Debug)]
pub(super) struct Scan {
    /// None: the header is damaged, and with it all that follows.
    pub(super) head: Option<SegmentHead>,
    /// Good entries, those after damage included.
    pub(super) entries: Vec<Found>,
    pub(super) tail: Tail,
    /// Whether the file is to the byte what was written: nothing between entries, no torn tail, full size.
    pub(super) intact: bool,
    pub(super) bytes: Vec<u8>,
}

impl Scan {
    /// Reads the segment file that should begin with entry `first`.
    pub(super) fn read(path: &Path, first: u64) -> Result<Self, JournalError> {
        let file = File::open(path).map_err(JournalError::io(path))?;
        let length = file.metadata().map_err(JournalError::io(path))?.len();
        if length > MAX_FILE_BYTES {
            let error = io::Error::new(io::ErrorKind::InvalidData, "it is far too large for a segment");
            return Err(JournalError::Io { path: path.to_owned(), error });
        }
        let mut bytes = vec![0; length as usize];
        // A sector that cannot be read is as good as one that rotted: the other copy may have it.
        let unread = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Vec::new(),
            Err(_) => read_around_errors(&file, &mut bytes),
        };
        Ok(Self::of(bytes, first, &unread))
    }

    /// What these bytes are, of which the pieces at `unread` could not be read.
    fn of(bytes: Vec<u8>, first: u64, unread: &[usize]) -> Self {
        // A segment under the name of another is as bad as none.
        let Some(head) = SegmentHead::decode(&bytes).filter(|head| head.first == first) else {
            return Self { head: None, entries: Vec::new(), tail: Tail::Torn, intact: false, bytes };
        };
        let mut entries: Vec<Found> = Vec::new();
        let mut at = HEADER_BYTES;
        let mut holes = false;
        while at < bytes.len() {
            match entry::find(head.salt, &bytes, at) {
                Some(found) => {
                    holes |= entries.last().map_or(HEADER_BYTES, Found::end) != at;
                    at = found.end();
                    entries.push(found);
                }
                None => at = skip_zeros(&bytes, at + ALIGNMENT),
            }
        }
        let end = entries.last().map_or(HEADER_BYTES, Found::end);
        // What cannot be read may be an entry: for the tail, the file ends there.
        let seen =
            unread.iter().find(|piece| **piece + PIECE > end).map_or(bytes.len(), |piece| (*piece).max(end));
        let rest = bytes.get(end..seen).unwrap_or_default();
        let full = seen as u64 == head.bytes;
        let tail = match (full, is_zero(rest)) {
            (_, true) if full || rest.len() >= entry::HEADER_BYTES => Tail::Clean,
            (true, _) => Tail::Torn,
            (false, _) => Tail::Cut,
        };
        let padding_clean = entries.iter().all(|found| {
            let used = found.offset + entry::HEADER_BYTES + found.payload;
            bytes.get(used..found.end()).is_some_and(is_zero)
        });
        let intact = full && unread.is_empty() && !holes && tail == Tail::Clean && padding_clean;
        Self { head: Some(head), entries, tail, intact, bytes }
    }

    /// The bytes of an entry, as it lies in the file.
    pub(super) fn payload(&self, found: &Found) -> &[u8] {
        let from = found.offset + entry::HEADER_BYTES;
        &self.bytes[from..from + found.payload]
    }
}

const ZEROS: [u8; 4_096] = [0; 4_096];

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|piece| *piece == ZEROS[..piece.len()])
}

/// From `at` on, the next place at which an entry could begin: whole pages of zeros are passed over.
fn skip_zeros(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at..at + ZEROS.len()).is_some_and(|page| *page == ZEROS) {
        at += ZEROS.len();
    }
    at
}

/// Around damage, a file is read in pieces of this.
const PIECE: usize = 4_096;

/// Reads what can be read, piece by piece; gives where those begin that cannot, which are left as zeros.
fn read_around_errors(file: &File, bytes: &mut [u8]) -> Vec<usize> {
    let mut unread = Vec::new();
    for (index, piece) in bytes.chunks_mut(PIECE).enumerate() {
        if file.read_exact_at(piece, (index * PIECE) as u64).is_err() {
            piece.fill(0);
            unread.push(index * PIECE);
        }
    }
    unread
}

/// Whether a file begins as the segment of its name does.
pub(super) fn has_head(path: &Path, first: u64) -> bool {
    let mut bytes = [0; HEADER_BYTES];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut bytes, 0));
    read.is_ok() && SegmentHead::decode(&bytes).is_some_and(|head| head.first == first)
}

/// The name of the segment that begins with this entry.
pub(super) fn file_name(first: u64) -> String {
    format!("segment-{first:020}.log")
}

/// The first index in a segment's name.
pub(super) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// The segments in a folder by first index.
pub(super) fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder).map_err(JournalError::io(folder))? {
        let item = item.map_err(JournalError::io(folder))?;
        if let Some(first) = item.file_name().to_str().and_then(first_of) {
            found.push((first, item.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes a durable file of `bytes` zeros.
pub(super) fn make_zeros(path: &Path, bytes: u64) -> io::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    append_zeros(&file, bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Writes zeros where the file's cursor stands, which is at the end of a new file.
pub(super) fn append_zeros(mut file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_STEP];
    let mut left = bytes;
    while left > 0 {
        let step = left.min(ZERO_STEP as u64);
        file.write_all(&zeros[..step as usize])?;
        left -= step;
    }
    Ok(())
}

/// Makes names in a folder durable: a rename or removal that was not synced can be undone by a power cut.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Writes a whole segment anew and puts it in place of what was there: by a temporary file, so that a crash leaves the
/// old or the new one.
pub(super) fn rewrite(folder: &Path, head: &SegmentHead, entries: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("{}.rewrite", file_name(head.first)));
    let file = make_zeros(&temporary, head.bytes)?;
    file.write_all_at(&head.encode(), 0)?;
    file.write_all_at(entries, HEADER_BYTES as u64)?;
    file.sync_all()?;
    std::fs::rename(&temporary, folder.join(file_name(head.first)))?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::super::entry::{EntryHead, EntryKind};
    use super::*;

    #[test]
    fn what_cannot_be_read_is_no_end() {
        let head = SegmentHead { first: 1, previous: 0, bytes: 4 * PIECE as u64, salt: 7, epoch: 1 };
        let mut bytes = head.encode().to_vec();
        let batch = EntryHead { kind: EntryKind::Batch, index: 1, epoch: 1, previous: 0 };
        bytes.extend(entry::encode(head.salt, batch, &[1; PIECE]).0);
        bytes.resize(4 * PIECE, 0);
        let tail = |unread: &[usize]| {
            let mut seen = bytes.clone();
            unread.iter().for_each(|piece| seen[*piece..piece + PIECE].fill(0));
            let scan = Scan::of(seen, 1, unread);
            (scan.entries.len(), scan.tail, scan.intact)
        };
        assert_eq!(tail(&[]), (1, Tail::Clean, true));
        assert_eq!(tail(&[PIECE]), (0, Tail::Cut, false), "the entry itself");
        assert_eq!(tail(&[2 * PIECE]), (1, Tail::Clean, false), "zeros say that nothing follows");
        let end = HEADER_BYTES + entry::size(PIECE);
        let last = SegmentHead { bytes: 3 * PIECE as u64, ..head };
        let fill = entry::size(2 * PIECE - end - 2 * entry::HEADER_BYTES);
        let mut bytes = last.encode().to_vec();
        let (first, hash) = entry::encode(last.salt, batch, &[1; PIECE]);
        bytes.extend(first);
        let second = EntryHead { index: 2, previous: hash, ..batch };
        bytes.extend(entry::encode(last.salt, second, &vec![2; fill]).0);
        assert_eq!(bytes.len(), 2 * PIECE, "the next entry would begin with the piece");
        bytes.resize(3 * PIECE, 0);
        assert_eq!(Scan::of(bytes.clone(), 1, &[2 * PIECE]).tail, Tail::Cut, "an entry may have been there");
        assert_eq!(Scan::of(bytes, 1, &[]).tail, Tail::Clean);
    }
}
