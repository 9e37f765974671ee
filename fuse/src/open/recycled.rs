//! Memory for reads, used again and again: pages that are new each time cost as much as to fill them.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::kernel::MAX_IO;

/// Bytes of a buffer: the longest read.
const BUFFER: usize = MAX_IO as usize;
/// A read so short gets memory of its own: it would hold a buffer that is mostly empty.
const SHORT: usize = BUFFER / 4;
/// Buffers kept for later at most.
const KEPT: usize = 4;

/// The buffers of a mount.
#[derive(Clone, Default)]
pub(super) struct Recycled {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// Room for a read. It goes back when it is dropped.
pub(super) struct Lent {
    bytes: Vec<u8>,
    length: usize,
    home: Recycled,
}

impl Recycled {
    /// Room for `length` bytes, which hold anything.
    pub(super) fn take(&self, length: usize) -> Lent {
        let bytes = match length {
            0..=SHORT => vec![0; length],
            _ if length > BUFFER => vec![0; length],
            _ => self.free.lock().pop().unwrap_or_else(|| vec![0; BUFFER]),
        };
        Lent { bytes, length, home: self.clone() }
    }
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.bytes.len() == BUFFER {
            let mut free = self.home.free.lock();
            if free.len() < KEPT {
                free.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_come_back_and_only_so_many_are_kept() {
        let all = Recycled::default();
        let lent: Vec<_> = (0..KEPT + 2).map(|_| all.take(BUFFER - 1)).collect();
        assert!(lent.iter().all(|lent| lent.len() == BUFFER - 1));
        drop(lent);
        assert_eq!(all.free.lock().len(), KEPT);
        let (one, short, long) = (all.take(BUFFER), all.take(SHORT), all.take(BUFFER + 1));
        assert_eq!((one.len(), short.len(), long.len()), (BUFFER, SHORT, BUFFER + 1));
        assert_eq!(all.free.lock().len(), KEPT - 1);
        drop((one, short, long));
        assert_eq!(all.free.lock().len(), KEPT);
    }
}
