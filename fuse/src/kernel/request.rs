//! What the kernel asks for.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;

use super::{REQUEST_HEADER, RESENT};
use crate::nodes::split;

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    /// By which it is answered.
    pub(super) number: u64,
    pub(crate) inode: u64,
    /// By which of the inode's numbers it was asked for.
    pub(crate) alias: u8,
    pub(crate) user: u32,
    /// The thread that waits, as far as it can be seen from where the mount was made; 0 if not.
    pub(crate) thread: u32,
    pub(crate) operation: Operation,
}

impl Request {
    /// The request's own number, also if it is sent again.
    pub(crate) const fn unique(&self) -> u64 {
        self.number & !RESENT
    }
}

/// What is asked for. Handles are those that were given out at opening.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Lookup {
        name: OsString,
    },
    GetAttributes,
    SetAttributes(Box<SetAttributes>),
    MakeNode {
        name: OsString,
        mode: u32,
    },
    MakeFolder {
        name: OsString,
        mode: u32,
    },
    Unlink {
        name: OsString,
    },
    RemoveFolder {
        name: OsString,
    },
    Rename {
        name: OsString,
        new_parent: u64,
        new_name: OsString,
        flags: u32,
    },
    /// A symbolic or hard link.
    Link,
    Open {
        flags: i32,
    },
    Create {
        name: OsString,
        mode: u32,
        flags: i32,
    },
    Read {
        handle: u64,
        offset: u64,
        size: u32,
    },
    Write {
        handle: u64,
        offset: u64,
        data: Bytes,
        owner: Option<u64>,
        /// Pages that a program changed through a mapping: where they lie, however the file was opened.
        mapped: bool,
    },
    Flush {
        handle: u64,
        owner: u64,
    },
    Sync {
        handle: u64,
    },
    Allocate {
        handle: u64,
        offset: u64,
        length: u64,
        mode: i32,
    },
    /// With `flock_owner`, the locks of the whole file that were taken through it go.
    Release {
        handle: u64,
        flock_owner: Option<u64>,
    },
    OpenFolder,
    ReadFolder {
        handle: u64,
        position: u64,
        size: u32,
        with_attributes: bool,
    },
    SyncFolder,
    ReleaseFolder {
        handle: u64,
    },
    Space,
    Access {
        mask: u8,
    },
    SetXattr {
        name: OsString,
        value: Vec<u8>,
        flags: i32,
    },
    GetXattr {
        name: OsString,
        size: u32,
    },
    ListXattrs {
        size: u32,
    },
    RemoveXattr {
        name: OsString,
    },
    TestLock(LockCall),
    SetLock {
        lock: LockCall,
        wait: bool,
    },
    Interrupt {
        number: u64,
    },
    /// Commands for devices.
    Control,
    /// Needs no answer.
    Forget,
    Destroy,
    /// Nothing that this mount knows: the kernel asks for it no more.
    Unknown,
}

/// What shall be other.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SetAttributes {
    pub(crate) mode: Option<u32>,
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) accessed: Option<Times>,
    pub(crate) modified: Option<Times>,
}

/// A time: now, or seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    Now,
    At(i64, u32),
}

/// A lock, or the end of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockCall {
    pub(crate) handle: u64,
    /// A process or an open file, by a number of the kernel's for this mount.
    pub(crate) owner: u64,
    /// Bytes; the last is included, `i64::MAX` for all that follow.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) kind: LockWanted,
    pub(crate) process: u32,
    /// As by `flock`, not by `fcntl`.
    pub(crate) whole_file: bool,
}

impl LockCall {
    /// Whether it is a lock and not the end of one.
    pub(crate) fn is_wanted(&self) -> bool {
        self.kind != LockWanted::None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockWanted {
    Shared,
    Exclusive,
    None,
}

/// Bits of what shall be other.
mod set {
    pub(super) const MODE: u32 = 1;
    pub(super) const USER: u32 = 1 << 1;
    pub(super) const GROUP: u32 = 1 << 2;
    pub(super) const SIZE: u32 = 1 << 3;
    pub(super) const ACCESSED: u32 = 1 << 4;
    pub(super) const MODIFIED: u32 = 1 << 5;
    pub(super) const ACCESSED_NOW: u32 = 1 << 7;
    pub(super) const MODIFIED_NOW: u32 = 1 << 8;
}

/// A write is of pages that were changed in the kernel's cache, and one names its owner.
const WRITE_CACHE: u32 = 1 << 0;
const WRITE_OWNER: u32 = 1 << 1;
/// The end of an open file ends its locks.
const RELEASE_FLOCK: u32 = 1 << 1;
/// A lock is of the whole file, as by `flock`.
const LOCK_WHOLE: u32 = 1;

/// Takes a request apart; none if its bytes are none. Only what a program writes is not copied, if it is much.
pub(super) fn parse(bytes: &Bytes) -> Option<Request> {
    let mut header = Fields(bytes.get(..REQUEST_HEADER)?);
    let (_length, operation) = (header.u32()?, header.u32()?);
    let (number, inode) = (header.u64()?, header.u64()?);
    let (user, _group, thread) = (header.u32()?, header.u32()?, header.u32()?);
    let operation = operation_of(operation, bytes)?;
    let (inode, alias) = split(inode);
    Some(Request { number, inode, alias, user, thread, operation })
}

fn operation_of(code: u32, bytes: &Bytes) -> Option<Operation> {
    let mut body = Fields(bytes.get(REQUEST_HEADER..)?);
    Some(match code {
        1 => Operation::Lookup { name: body.name()? },
        2 | 42 => Operation::Forget,
        3 => Operation::GetAttributes,
        4 => Operation::SetAttributes(Box::new(body.set_attributes()?)),
        6 | 13 => Operation::Link,
        8 => {
            let (mode, _device, _umask, _) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
            Operation::MakeNode { mode, name: body.name()? }
        }
        9 => {
            let (mode, _umask) = (body.u32()?, body.u32()?);
            Operation::MakeFolder { mode, name: body.name()? }
        }
        10 => Operation::Unlink { name: body.name()? },
        11 => Operation::RemoveFolder { name: body.name()? },
        12 => {
            let (new_parent, _) = split(body.u64()?);
            Operation::Rename { new_parent, flags: 0, name: body.name()?, new_name: body.name()? }
        }
        14 => Operation::Open { flags: body.i32()? },
        15 => {
            let (handle, offset, size) = body.position()?;
            Operation::Read { handle, offset, size }
        }
        16 => body.write(bytes)?,
        17 => Operation::Space,
        18 => {
            let (handle, _flags, more, owner) = (body.u64()?, body.u32()?, body.u32()?, body.u64()?);
            Operation::Release { handle, flock_owner: (more & RELEASE_FLOCK != 0).then_some(owner) }
        }
        20 => Operation::Sync { handle: body.u64()? },
        21 => {
            let (size, flags, name) = (body.u32()?, body.i32()?, body.name()?);
            Operation::SetXattr { name, flags, value: body.take(size as usize)?.to_vec() }
        }
        22 => {
            let (size, _) = (body.u32()?, body.u32()?);
            Operation::GetXattr { size, name: body.name()? }
        }
        23 => Operation::ListXattrs { size: body.u32()? },
        24 => Operation::RemoveXattr { name: body.name()? },
        25 => {
            let (handle, _, owner) = (body.u64()?, body.u64()?, body.u64()?);
            Operation::Flush { handle, owner }
        }
        27 => Operation::OpenFolder,
        28 | 44 => {
            let (handle, position, size) = body.position()?;
            Operation::ReadFolder { handle, position, size, with_attributes: code == 44 }
        }
        29 => Operation::ReleaseFolder { handle: body.u64()? },
        30 => Operation::SyncFolder,
        31 => Operation::TestLock(body.lock()?),
        32 | 33 => Operation::SetLock { lock: body.lock()?, wait: code == 33 },
        34 => Operation::Access { mask: (body.u32()? & 7) as u8 },
        35 => {
            let (flags, mode, _umask, _) = (body.i32()?, body.u32()?, body.u32()?, body.u32()?);
            Operation::Create { flags, mode, name: body.name()? }
        }
        36 => Operation::Interrupt { number: body.u64()? },
        38 => Operation::Destroy,
        39 => Operation::Control,
        43 => {
            let (handle, offset, length) = (body.u64()?, body.u64()?, body.u64()?);
            Operation::Allocate { handle, offset, length, mode: body.i32()? }
        }
        45 => {
            let ((new_parent, _), flags, _) = (split(body.u64()?), body.u32()?, body.u32()?);
            Operation::Rename { new_parent, flags, name: body.name()?, new_name: body.name()? }
        }
        _ => Operation::Unknown,
    })
}

/// The bytes of a request that were not looked at yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn i32(&mut self) -> Option<i32> {
        self.u32().map(u32::cast_signed)
    }

    fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    /// A name, which a zero ends.
    fn name(&mut self) -> Option<OsString> {
        let length = self.0.iter().position(|byte| *byte == 0)?;
        let name = self.take(length)?.to_vec();
        self.take(1)?;
        Some(OsString::from_vec(name))
    }

    /// A handle, where, and how much.
    fn position(&mut self) -> Option<(u64, u64, u32)> {
        Some((self.u64()?, self.u64()?, self.u32()?))
    }

    fn write(&mut self, all: &Bytes) -> Option<Operation> {
        let (handle, offset, size) = self.position()?;
        let (flags, owner, _) = (self.u32()?, self.u64()?, self.u64()?);
        let data = all.slice_ref(self.take(size as usize)?);
        let owner = (flags & WRITE_OWNER != 0).then_some(owner);
        Some(Operation::Write { handle, offset, data, owner, mapped: flags & WRITE_CACHE != 0 })
    }

    fn lock(&mut self) -> Option<LockCall> {
        let (handle, owner, first, last) = (self.u64()?, self.u64()?, self.u64()?, self.u64()?);
        let (kind, process, flags) = (self.u32()?, self.u32()?, self.u32()?);
        let kind = match kind {
            0 => LockWanted::Shared,
            1 => LockWanted::Exclusive,
            2 => LockWanted::None,
            _ => return None,
        };
        Some(LockCall { handle, owner, first, last, kind, process, whole_file: flags & LOCK_WHOLE != 0 })
    }

    fn set_attributes(&mut self) -> Option<SetAttributes> {
        let (what, _, _handle, size, _owner) =
            (self.u32()?, self.u32()?, self.u64()?, self.u64()?, self.u64()?);
        let (accessed, modified, _changed) = (self.u64()?, self.u64()?, self.u64()?);
        let (accessed_nanos, modified_nanos, _) = (self.u32()?, self.u32()?, self.u32()?);
        let (mode, _, user, group) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
        let has = |bit: u32| what & bit != 0;
        let time = |set: u32, now: u32, seconds: u64, nanos: u32| match (has(set), has(now)) {
            (false, _) => None,
            (true, true) => Some(Times::Now),
            (true, false) => Some(Times::At(seconds.cast_signed(), nanos)),
        };
        Some(SetAttributes {
            mode: has(set::MODE).then_some(mode),
            user: has(set::USER).then_some(user),
            group: has(set::GROUP).then_some(group),
            size: has(set::SIZE).then_some(size),
            accessed: time(set::ACCESSED, set::ACCESSED_NOW, accessed, accessed_nanos),
            modified: time(set::MODIFIED, set::MODIFIED_NOW, modified, modified_nanos),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(code: u32, body: &[u8]) -> Bytes {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&((REQUEST_HEADER + body.len()) as u32).to_le_bytes());
        bytes.extend_from_slice(&code.to_le_bytes());
        bytes.extend_from_slice(&(RESENT | 8).to_le_bytes());
        bytes.extend_from_slice(&77_u64.to_le_bytes());
        for number in [5_u32, 6, 7, 0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(body);
        Bytes::from(bytes)
    }

    fn body(words: &[u64], more: &[u8]) -> Vec<u8> {
        let mut body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        body.extend_from_slice(more);
        body
    }

    #[test]
    fn requests_are_taken_apart() {
        let lookup = parse(&request(1, b"a name\0")).unwrap();
        assert_eq!((lookup.inode, lookup.user, lookup.thread, lookup.unique()), (77, 5, 7, 8));
        assert_eq!(lookup.operation, Operation::Lookup { name: "a name".into() });
        let write = body(&[3, 4_096, 5 | (2 << 32), 99, 0], b"hello");
        let Operation::Write { handle, offset, data, owner, mapped } =
            parse(&request(16, &write)).unwrap().operation
        else {
            panic!("no write")
        };
        assert_eq!((handle, offset, &data[..], owner, mapped), (3, 4_096, &b"hello"[..], Some(99), false));
        let pages = parse(&request(16, &body(&[3, 4_096, 5 | (1 << 32), 99, 0], b"hello"))).unwrap();
        assert!(matches!(pages.operation, Operation::Write { owner: None, mapped: true, .. }));
        let rename = body(&[9, 1], b"from\0to\0");
        assert_eq!(
            parse(&request(45, &rename)).unwrap().operation,
            Operation::Rename { name: "from".into(), new_parent: 9, new_name: "to".into(), flags: 1 }
        );
        let release = body(&[3, 2 << 32, 11], b"");
        assert_eq!(
            parse(&request(18, &release)).unwrap().operation,
            Operation::Release { handle: 3, flock_owner: Some(11) }
        );
        let lock = body(&[3, 11, 0, i64::MAX as u64, 1 | (42 << 32), 1], b"");
        let Operation::SetLock { lock, wait } = parse(&request(33, &lock)).unwrap().operation else {
            panic!("no lock")
        };
        assert!(wait && lock.whole_file && lock.kind == LockWanted::Exclusive);
        assert_eq!((lock.owner, lock.process, lock.last), (11, 42, i64::MAX as u64));
        assert_eq!(parse(&request(999, b"")).unwrap().operation, Operation::Unknown);
    }

    #[test]
    fn what_shall_be_other_is_told_by_bits() {
        let times = body(&[0x188 | 0x30, 0, 5, 0, 1, 2, 3], &[0; 28]);
        let Operation::SetAttributes(new) = parse(&request(4, &times)).unwrap().operation else {
            panic!("nothing")
        };
        let expected = SetAttributes {
            size: Some(5),
            accessed: Some(Times::Now),
            modified: Some(Times::Now),
            ..SetAttributes::default()
        };
        assert_eq!(*new, expected);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(code in 0_u32..60, body in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse(&request(code, &body));
            let _ = parse(&Bytes::from(body));
        }
    }
}
