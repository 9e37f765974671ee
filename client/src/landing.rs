//! Packets of a long read, received so that their data begin on pages of their own.
//!
//! Whoever hands data on to the kernel page by page, as a mount does, pays for each page that lies across two of ours. And the memory
//! is the same again and again: what was given back last is used first, while the processor still has it.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use steadfs_wire::transfer::PacketHeader;

/// Bytes of a page.
const PAGE: usize = 4 << 10;
/// Most and least data of a packet that is received so: what is much shorter would leave most of its memory unused.
const MAX_DATA: usize = 128 << 10;
const MIN_DATA: usize = 64 << 10;
/// Most bytes before the data of such a packet.
const MAX_HEAD: usize = MAX_DATA / 8;
/// Packets that are received together at most.
const TOGETHER: usize = 8;
/// Buffers that are kept for later at most.
const KEPT: usize = 24;

/// Memory for packets' data.
#[derive(Clone, Default)]
pub(crate) struct Pages {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// Room for the data of one packet. It goes back when it is dropped.
struct Room {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
    home: Pages,
}

impl Pages {
    fn take(&self, length: usize) -> Room {
        let kept = self.free.lock().pop();
        let bytes = kept.unwrap_or_else(|| vec![0; MAX_DATA + PAGE]);
        let start = bytes.as_ptr().align_offset(PAGE).min(PAGE);
        Room { bytes, start, length, home: self.clone() }
    }
}

impl Room {
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut free = self.home.free.lock();
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A packet that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Landed {
    pub(crate) header: PacketHeader,
    pub(crate) checksums: Bytes,
    pub(crate) data: Bytes,
}

/// How the packets look that are expected: one like the other but for their place and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The next one.
    pub(crate) next: PacketHeader,
    /// Bytes of its checksums.
    pub(crate) checksums: usize,
    /// How many of them come.
    pub(crate) count: u64,
}

impl Expected {
    fn head(&self) -> usize {
        self.next.head(self.checksums).as_slice().len() + self.checksums
    }

    fn data(&self) -> usize {
        self.next.data_len as usize
    }

    /// Whether packets of this length are received so.
    fn fits(&self) -> bool {
        (MIN_DATA..=MAX_DATA).contains(&self.data()) && self.head() <= MAX_HEAD
    }
}

/// Packets that are being received.
pub(crate) struct Landing {
    pages: Pages,
    frames: VecDeque<(BytesMut, Room)>,
    /// Bytes of them that came, from the start of the first.
    came: usize,
    /// Something else came than was expected: nothing more is.
    missed: bool,
}

/// What is in a landing.
pub(crate) enum Found {
    Packet(Landed),
    /// More has to come.
    Part,
    /// Something else than was expected, or the start of it: these bytes, as they came.
    Other(BytesMut),
}

impl Landing {
    pub(crate) fn new(pages: &Pages) -> Self {
        Self { pages: pages.clone(), frames: VecDeque::new(), came: 0, missed: false }
    }

    /// Makes room for the packets that are expected, if they can be received so, into which `before` has arrived already (which is
    /// taken then). False if they cannot.
    pub(crate) fn prepare(&mut self, expected: &Expected, before: &mut BytesMut) -> bool {
        let frame = expected.head() + expected.data();
        if self.missed || !expected.fits() || before.len() >= frame {
            return false;
        }
        if expected.count == 0 {
            return false;
        }
        let wanted = usize::try_from(expected.count).unwrap_or(TOGETHER).min(TOGETHER);
        while self.frames.len() < wanted {
            let room = self.pages.take(expected.data());
            self.frames.push_back((BytesMut::zeroed(expected.head()), room));
        }
        if !before.is_empty() {
            // Nothing is in the frames yet: it came before this.
            let (head, room) = &mut self.frames[0];
            let cut = before.len().min(head.len());
            head[..cut].copy_from_slice(&before[..cut]);
            room.bytes_mut()[..before.len() - cut].copy_from_slice(&before[cut..]);
            self.came = before.len();
            before.clear();
        }
        true
    }

    /// Whether anything of it came that was not taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.came == 0
    }

    /// Where what comes next goes.
    pub(crate) fn room(&mut self) -> Vec<IoSliceMut<'_>> {
        let mut skipped = self.came;
        let mut rooms = Vec::with_capacity(2 * self.frames.len());
        for (head, room) in &mut self.frames {
            for part in [&mut head[..], room.bytes_mut()] {
                let from = skipped.min(part.len());
                skipped -= from;
                if from < part.len() {
                    rooms.push(IoSliceMut::new(&mut part[from..]));
                }
            }
        }
        rooms
    }

    /// So many bytes came into the room.
    pub(crate) fn came(&mut self, bytes: usize) {
        self.came += bytes;
    }

    /// The first packet, if it is all there. It must be the one expected, byte for byte.
    pub(crate) fn take(&mut self, expected: &Expected) -> Found {
        let Some((head, _)) = self.frames.front() else { return Found::Part };
        let wanted = expected.next.head(expected.checksums);
        let wanted = wanted.as_slice();
        let seen = self.came.min(wanted.len());
        if head.len() != expected.head() || head[..seen] != wanted[..seen] {
            self.missed = true;
            return Found::Other(self.as_it_came());
        }
        if self.came < expected.head() + expected.data() {
            return Found::Part;
        }
        let Some((mut head, room)) = self.frames.pop_front() else { return Found::Part };
        self.came -= head.len() + room.length;
        let checksums = head.split_off(wanted.len()).freeze();
        Found::Packet(Landed { header: expected.next, checksums, data: Bytes::from_owner(room) })
    }

    /// What came and was not taken, in one piece; nothing is left here.
    fn as_it_came(&mut self) -> BytesMut {
        let mut all = BytesMut::with_capacity(self.came);
        for (head, room) in self.frames.drain(..) {
            for part in [&head[..], room.as_ref()] {
                let rest = self.came - all.len();
                all.extend_from_slice(&part[..rest.min(part.len())]);
            }
        }
        self.came = 0;
        all
    }
}

#[cfg(test)]
#[path = "landing_test.rs"]
mod tests;
