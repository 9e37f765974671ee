//! Staged bytes of a file that is streamed: the last ones, written over those that the datanodes have.
//!
//! A stream that stages every byte at its own place has the kernel find new pages for all of them, which costs more than sending
//! them. Here the pages are always the same.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes kept. More than a stream ever has under way: packets that are not acknowledged, what waits for its task, one write.
pub(super) const RING_BYTES: u64 = 8 << 20;

/// The file of a ring, and what lies in it: the byte at `offset` of the file that is written lies at `(offset - from)` modulo
/// [`RING_BYTES`].
#[derive(Clone)]
pub(super) struct Ring {
    file: Arc<File>,
    /// The first byte that ever was in it.
    from: u64,
    /// Where what was written to it ends.
    end: u64,
}

impl Ring {
    pub(super) fn new(file: File, from: u64, end: u64) -> Self {
        Self { file: Arc::new(file), from, end: end.max(from) }
    }

    pub(super) fn from(&self) -> u64 {
        self.from
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The first byte that is still there.
    pub(super) fn first(&self) -> u64 {
        self.end.saturating_sub(RING_BYTES).max(self.from)
    }

    /// Notes that it goes on to `end`.
    pub(super) fn reaches(&mut self, end: u64) {
        self.end = end;
    }

    /// Calls `each` with the places of `length` bytes from `offset` on: where in the ring, and which of the bytes.
    fn parts(
        &self,
        offset: u64,
        length: usize,
        mut each: impl FnMut(u64, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let at = (offset + done as u64 - self.from) % RING_BYTES;
            let count = usize::try_from(RING_BYTES - at).unwrap_or(usize::MAX).min(length - done);
            each(at, done..done + count)?;
            done += count;
        }
        Ok(())
    }

    /// Puts `bytes` at `offset`, which is not before its start. Blocks.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.parts(offset, bytes.len(), |at, range| self.file.write_all_at(&bytes[range], at))
    }

    /// Fills `bytes` with those at `offset`. Blocks.
    ///
    /// # Errors
    /// They were written over, or never there.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        if offset < self.first() || offset + bytes.len() as u64 > self.end {
            return Err(io::Error::other("these bytes are not staged any more"));
        }
        let length = bytes.len();
        self.parts(offset, length, |at, range| self.file.read_exact_at(&mut bytes[range], at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn byte(offset: u64) -> u8 {
        (offset % 251) as u8
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn it_holds_the_last_bytes(from in 0_u64..1_000_000_000, pieces in prop::collection::vec(1_usize..3_000_000, 1..12)) {
            let mut ring = Ring::new(tempfile::tempfile().unwrap(), from, from);
            for piece in pieces {
                let at = ring.end();
                let bytes: Vec<u8> = (at..at + piece as u64).map(byte).collect();
                ring.write(at, &bytes).unwrap();
                ring.reaches(at + piece as u64);
                let mut all = vec![0; (ring.end() - ring.first()) as usize];
                prop_assert!(all.len() as u64 <= RING_BYTES);
                ring.read(ring.first(), &mut all).unwrap();
                let first = ring.first();
                prop_assert!(all.iter().enumerate().all(|(index, found)| *found == byte(first + index as u64)));
                prop_assert!(ring.read(ring.end(), &mut [0]).is_err());
                prop_assert!(ring.first() == 0 || ring.read(ring.first() - 1, &mut [0]).is_err());
            }
        }
    }
}
