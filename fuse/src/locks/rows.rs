//! What a server leaves of its locks for the next one: rows of 64 bytes.
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 1 | 0: free, 1: a lock that is held, 2: one that is waited for |
//! | 1 | 1 | bit 0: nobody else may hold it, bit 1: of the whole file |
//! | 4 | 4 | the process |
//! | 8 | 4 | the user |
//! | 16 | 8 | the session |
//! | 24 | 8 | the inode |
//! | 32 | 8 | the owner |
//! | 40 | 8 | the first byte; of one that is waited for: the name under which it waits |
//! | 48 | 8 | the last byte |
//! | 56 | 8 | the handle through which it was taken |

use super::table::Key;

/// Bytes of a row.
pub(crate) const ROW: usize = 64;

const EXCLUSIVE: u8 = 1;
const WHOLE: u8 = 2;

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) session: u64,
    pub(super) handle: u64,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Held { first: u64, last: u64, exclusive: bool, process: u32 },
    Asked { name: u64 },
}

impl Row {
    pub(super) fn bytes(&self) -> [u8; ROW] {
        let mut bytes = [0; ROW];
        let whole = if self.key.whole { WHOLE } else { 0 };
        let (kind, flags, process, first, last) = match self.what {
            What::Held { first, last, exclusive, process } => {
                (1, if exclusive { EXCLUSIVE | whole } else { whole }, process, first, last)
            }
            What::Asked { name } => (2, whole, 0, name, 0),
        };
        (bytes[0], bytes[1]) = (kind, flags);
        bytes[4..8].copy_from_slice(&process.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.key.user.to_le_bytes());
        let numbers = [self.session, self.key.inode, self.key.owner, first, last, self.handle];
        for (at, number) in (16..).step_by(8).zip(numbers) {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// None if it is free.
    pub(super) fn read(bytes: &[u8; ROW]) -> Option<Self> {
        let short = |at: usize| {
            let mut number = [0; 4];
            number.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(number)
        };
        let long = |at: usize| u64::from(short(at)) | u64::from(short(at + 4)) << 32;
        let (first, last) = (long(40), long(48));
        let what = match bytes[0] {
            1 => What::Held { first, last, exclusive: bytes[1] & EXCLUSIVE != 0, process: short(4) },
            2 => What::Asked { name: first },
            _ => return None,
        };
        let key = Key { inode: long(24), owner: long(32), whole: bytes[1] & WHOLE != 0, user: short(8) };
        Some(Self { key, session: long(16), handle: long(56), what })
    }
}
