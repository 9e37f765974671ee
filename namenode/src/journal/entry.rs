//! Bytes of an entry.
//!
//! All numbers little-endian: magic (4), CRC32C (4), payload length (4), kind (4), index (8), epoch (8), hash of the
//! entry before (8), payload, zeros up to a multiple of eight. The CRC covers the segment's salt and everything after
//! the CRC but the zeros; the hash (xxh3, 64 bits) covers the same without the salt. The salt is drawn for each segment
//! and makes bytes of another segment, or bytes that somebody put into a payload, not an entry here.

use crc_fast::{CrcAlgorithm, Digest};
use xxhash_rust::xxh3::Xxh3;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 40;
/// Entries begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// Begins an entry: "SJE" and the version of this layout.
const MAGIC: [u8; 4] = *b"SJE\x01";

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EntryKind {
    /// Changes.
    Batch = 1,
    /// Nothing: the entry before is complete.
    Seal = 2,
}

/// An entry's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryHead {
    pub(super) kind: EntryKind,
    pub(super) index: u64,
    pub(super) epoch: u64,
    pub(super) previous: u64,
}

/// An entry found in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) head: EntryHead,
    /// Where it begins in its file.
    pub(super) offset: usize,
    /// Bytes of its payload.
    pub(super) payload: usize,
    /// Its hash.
    pub(super) hash: u64,
}

impl Found {
    /// Where the next entry begins.
    pub(super) const fn end(&self) -> usize {
        self.offset + size(self.payload)
    }
}

/// Bytes that an entry with such a payload takes.
pub(super) const fn size(payload: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(ALIGNMENT)
}

fn checksum(salt: u64, after_crc: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&salt.to_le_bytes());
    digest.update(after_crc);
    digest.finalize() as u32
}

fn hash(after_crc: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(after_crc);
    hasher.digest()
}

/// The bytes of an entry and its hash.
pub(super) fn encode(salt: u64, head: EntryHead, payload: &[u8]) -> (Vec<u8>, u64) {
    let mut bytes = Vec::with_capacity(size(payload.len()));
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    let length = u32::try_from(payload.len()).expect("a batch is bounded far below 4 GiB");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&(head.kind as u32).to_le_bytes());
    bytes.extend_from_slice(&head.index.to_le_bytes());
    bytes.extend_from_slice(&head.epoch.to_le_bytes());
    bytes.extend_from_slice(&head.previous.to_le_bytes());
    bytes.extend_from_slice(payload);
    let (crc, hash) = (checksum(salt, &bytes[8..]), hash(&bytes[8..]));
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes.resize(size(payload.len()), 0);
    (bytes, hash)
}

/// Bytes of the payload that the entry with this header claims to have; none if it is no header.
pub(super) fn payload_bytes(header: &[u8]) -> Option<usize> {
    let bytes: &[u8; HEADER_BYTES] = header.first_chunk()?;
    let length = [bytes[8], bytes[9], bytes[10], bytes[11]];
    (bytes[..4] == MAGIC).then(|| u32::from_le_bytes(length) as usize)
}

/// The entry at `offset`, if a whole and undamaged one begins there.
pub(super) fn find(salt: u64, file: &[u8], offset: usize) -> Option<Found> {
    let bytes = file.get(offset..)?;
    let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    if header[..4] != MAGIC {
        return None;
    }
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let payload = word(8) as usize;
    let after_crc = bytes.get(..size(payload))?.get(8..HEADER_BYTES + payload)?;
    if checksum(salt, after_crc) != word(4) {
        return None;
    }
    let kind = match word(12) {
        1 => EntryKind::Batch,
        2 => EntryKind::Seal,
        _ => return None,
    };
    let head = EntryHead { kind, index: long(16), epoch: long(24), previous: long(32) };
    Some(Found { head, offset, payload, hash: hash(after_crc) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let head = EntryHead { kind: EntryKind::Batch, index: 7, epoch: 2, previous: 0x0102_0304_0506_0708 };
        let (bytes, hash) = encode(9, head, b"abc");
        assert_eq!(bytes.len(), 48);
        assert_eq!(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            GOLDEN,
            "an entry that version 1 wrote must stay readable"
        );
        let found = find(9, &bytes, 0).unwrap();
        assert_eq!((found.head, found.payload, found.hash, found.end()), (head, 3, hash, 48));
        assert!(find(8, &bytes, 0).is_none(), "an entry of another segment is none here");
    }

    const GOLDEN: &str =
        "534a4501aa1ea29203000000010000000700000000000000020000000000000008070605040302016162630000000000";
}
