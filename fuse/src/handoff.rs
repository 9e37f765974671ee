//! What a holder hands to each server, and a server whose holder was killed to the next: the kernel's descriptor, and a file
//! in memory of what must outlive a server.
//!
//! The file begins with one page:
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | [`MAGIC`], with the version |
//! | 8 | 16 | the mount: the name under which its servers hold leases and repeat calls |
//! | 24 | 4 | length of the kernel's first request |
//! | 32 | 8 | what the first server answered to it: the flags agreed on; 0 while there is no answer |
//! | 40 | 8 | the session by which the namenode knows what is open; 0 for none |
//! | 64 | 512 | the kernel's first request |
//! | 1024 | 4 | length of what follows; 0 while the cluster was not reached |
//! | 1032 | 8 | the inode that is mounted |
//! | 1040 | 2048 | what the client library remembers of the cluster |
//!
//! From [`SLOTS`] on follow the open files and folders, 64 bytes each, in the order of their numbers (the first is 1): inode,
//! user, flags of `open`, kind (0: free), whether its name is gone, which of the inode's numbers was opened, and of files that are passed through what they are
//! backed by: the kernel's number, the block, its stamp; and which request opened it.
//!
//! From [`LOCKS`] on follow the locks, as `locks::rows` describes them.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use crate::locks::ROW;

const MAGIC: &[u8; 8] = b"SFSMNT01";
/// Longest first request that is kept. Today's kernels send 104 bytes.
const MAX_FIRST: usize = 512;
/// Where stands what is known of the cluster, and how much that may be.
const CLUSTER: u64 = 1_024;
const MAX_CLUSTER: usize = 2_048;
/// What is said with descriptors, what a server says when it answers, and a holder that took a mount over.
const TAKE: &[u8] = b"take";
const SERVING: &[u8] = b"serving";
const TAKEN: &[u8] = b"taken";

/// Where the open files begin, and the bytes of each.
const SLOTS: u64 = 4_096;
const SLOT: u64 = 64;
/// Open files and folders at most.
pub(crate) const MAX_HANDLES: u64 = 65_536;
/// Where the locks begin, and how many there are at most.
const LOCKS: u64 = SLOTS + MAX_HANDLES * SLOT;
pub(crate) const MAX_LOCK_ROWS: usize = 65_536;

/// What is remembered of an open file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) inode: u64,
    pub(crate) user: u32,
    pub(crate) flags: i32,
    pub(crate) kind: SlotKind,
    pub(crate) unlinked: bool,
    /// Which of the inode's numbers was opened.
    pub(crate) alias: u8,
    pub(crate) backing: Option<Backing>,
    /// The number of the request that opened it; 0 if it is not known.
    pub(crate) request: u64,
}

/// What a file is backed by that is passed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backing {
    /// The kernel's number of it.
    pub(crate) number: u32,
    pub(crate) block: u64,
    pub(crate) stamp: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotKind {
    Reading = 1,
    Writing = 2,
    Folder = 3,
}

impl Slot {
    fn bytes(self) -> [u8; SLOT as usize] {
        let mut bytes = [0; SLOT as usize];
        bytes[..8].copy_from_slice(&self.inode.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.user.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.flags.to_le_bytes());
        (bytes[16], bytes[17], bytes[18]) = (self.kind as u8, u8::from(self.unlinked), self.alias);
        if let Some(backing) = self.backing {
            bytes[20..24].copy_from_slice(&backing.number.to_le_bytes());
            bytes[24..32].copy_from_slice(&backing.block.to_le_bytes());
            bytes[32..40].copy_from_slice(&backing.stamp.to_le_bytes());
        }
        bytes[40..48].copy_from_slice(&self.request.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (inode, rest) = bytes.split_first_chunk::<8>()?;
        let (user, rest) = rest.split_first_chunk::<4>()?;
        let (flags, rest) = rest.split_first_chunk::<4>()?;
        let kind = match rest.first()? {
            1 => SlotKind::Reading,
            2 => SlotKind::Writing,
            3 => SlotKind::Folder,
            _ => return None,
        };
        let (number, behind) = rest.get(4..)?.split_first_chunk::<4>()?;
        let (block, behind) = behind.split_first_chunk::<8>()?;
        let (stamp, behind) = behind.split_first_chunk::<8>()?;
        let (request, _) = behind.split_first_chunk::<8>()?;
        let backing = Backing {
            number: u32::from_le_bytes(*number),
            block: u64::from_le_bytes(*block),
            stamp: u64::from_le_bytes(*stamp),
        };
        Some(Self {
            backing: Some(backing).filter(|backing| backing.number != 0),
            inode: u64::from_le_bytes(*inode),
            user: u32::from_le_bytes(*user),
            flags: i32::from_le_bytes(*flags),
            kind,
            unlinked: rest.get(1) == Some(&1),
            alias: *rest.get(2)?,
            request: u64::from_le_bytes(*request),
        })
    }
}

/// The file in memory.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    file: Arc<File>,
}

impl Memory {
    /// A new one, of a mount whose kernel sent `first`.
    pub(crate) fn new(mount: [u8; 16], first: &[u8]) -> io::Result<Self> {
        let length = u32::try_from(first.len()).ok().filter(|length| *length as usize <= MAX_FIRST);
        let length = length.ok_or_else(|| io::Error::other("the kernel's first request is too long"))?;
        let file = rustix::fs::memfd_create("steadfs-mount", rustix::fs::MemfdFlags::CLOEXEC)?;
        let file = File::from(file);
        file.write_all_at(&mount, 8)?;
        file.write_all_at(&length.to_le_bytes(), 24)?;
        file.write_all_at(&[0; 8], 32)?;
        file.write_all_at(first, 64)?;
        file.write_all_at(&[0; 1], 4_095)?;
        file.write_all_at(MAGIC, 0)?;
        Ok(Self { file: Arc::new(file) })
    }

    /// One that another process made.
    pub(crate) fn open(file: OwnedFd) -> io::Result<Self> {
        let file = File::from(file);
        let mut magic = [0; 8];
        file.read_exact_at(&mut magic, 0)?;
        if &magic != MAGIC {
            return Err(io::Error::other("the holder is of another version: unmount and mount again"));
        }
        Ok(Self { file: Arc::new(file) })
    }

    /// For others to hold.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The mount's own name.
    pub(crate) fn mount(&self) -> io::Result<[u8; 16]> {
        let mut mount = [0; 16];
        self.file.read_exact_at(&mut mount, 8)?;
        Ok(mount)
    }

    /// The kernel's first request.
    pub(crate) fn first(&self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.file.read_exact_at(&mut length, 24)?;
        let mut first = vec![0; (u32::from_le_bytes(length) as usize).min(MAX_FIRST)];
        self.file.read_exact_at(&mut first, 64)?;
        Ok(first)
    }

    /// The flags that were agreed on with the kernel; none before the first server answered.
    pub(crate) fn agreed(&self) -> io::Result<Option<u64>> {
        let mut flags = [0; 8];
        self.file.read_exact_at(&mut flags, 32)?;
        Ok(Some(u64::from_le_bytes(flags)).filter(|flags| *flags != 0))
    }

    /// The session by which the namenode knows what is open; none while it was not told of anything.
    pub(crate) fn session(&self) -> io::Result<Option<u64>> {
        let mut session = [0; 8];
        self.file.read_exact_at(&mut session, 40)?;
        Ok(Some(u64::from_le_bytes(session)).filter(|session| *session != 0))
    }

    /// Remembers that session. A write to memory: it does not block.
    pub(crate) fn set_session(&self, session: u64) -> io::Result<()> {
        self.file.write_all_at(&session.to_le_bytes(), 40)
    }

    /// The inode that is mounted, and what the client library remembers of the cluster; none before it was reached.
    pub(crate) fn cluster(&self) -> io::Result<Option<(u64, Vec<u8>)>> {
        let (mut length, mut inode) = ([0; 4], [0; 8]);
        self.file.read_exact_at(&mut length, CLUSTER)?;
        self.file.read_exact_at(&mut inode, CLUSTER + 8)?;
        let length = u32::from_le_bytes(length) as usize;
        if length == 0 || length > MAX_CLUSTER {
            return Ok(None);
        }
        let mut known = vec![0; length];
        self.file.read_exact_at(&mut known, CLUSTER + 16)?;
        Ok(Some((u64::from_le_bytes(inode), known)))
    }

    /// Remembers the cluster, if there is room for what is known of it.
    pub(crate) fn set_cluster(&self, inode: u64, known: &[u8]) -> io::Result<()> {
        let length = u32::try_from(known.len()).ok().filter(|length| *length as usize <= MAX_CLUSTER);
        self.file.write_all_at(known.get(..MAX_CLUSTER).unwrap_or(known), CLUSTER + 16)?;
        self.file.write_all_at(&inode.to_le_bytes(), CLUSTER + 8)?;
        // Last: without it the rest says nothing.
        self.file.write_all_at(&length.unwrap_or(0).to_le_bytes(), CLUSTER)
    }

    pub(crate) fn set_agreed(&self, flags: u64) -> io::Result<()> {
        self.file.write_all_at(&flags.to_le_bytes(), 32)
    }
}

impl Memory {
    /// Remembers what is open as `number`; none: nothing any more.
    pub(crate) fn set_slot(&self, number: u64, slot: Option<Slot>) -> io::Result<()> {
        let bytes = slot.map_or([0; SLOT as usize], Slot::bytes);
        self.file.write_all_at(&bytes, SLOTS + (number - 1) * SLOT)
    }

    /// What is open, by number.
    pub(crate) fn slots(&self) -> io::Result<Vec<(u64, Slot)>> {
        let length = self.file.metadata()?.len().min(LOCKS).saturating_sub(SLOTS);
        let mut bytes = vec![0; usize::try_from(length - length % SLOT).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, SLOTS)?;
        let slots = bytes.chunks_exact(SLOT as usize).map(Slot::read);
        Ok((1..).zip(slots).filter_map(|(number, slot)| Some((number, slot?))).collect())
    }

    /// Writes a row of the locks; none: it is free.
    pub(crate) fn set_lock_row(&self, number: u32, row: Option<[u8; ROW]>) -> io::Result<()> {
        self.file.write_all_at(&row.unwrap_or([0; ROW]), LOCKS + u64::from(number) * ROW as u64)
    }

    /// All rows of the locks, free ones among them.
    pub(crate) fn lock_rows(&self) -> io::Result<Vec<[u8; ROW]>> {
        let length = self.file.metadata()?.len().saturating_sub(LOCKS) as usize;
        let mut rows = vec![[0; ROW]; (length / ROW).min(MAX_LOCK_ROWS)];
        self.file.read_exact_at(rows.as_flattened_mut(), LOCKS)?;
        Ok(rows)
    }
}

/// Gives a process what it needs to serve the mount, or to hold it.
pub(crate) fn give(to: &UnixDatagram, device: &File, memory: &Memory) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    let descriptors = [device.as_fd(), memory.file.as_fd()];
    if !rights.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for two descriptors"));
    }
    rustix::net::sendmsg(to, &[io::IoSlice::new(TAKE)], &mut rights, SendFlags::empty())?;
    Ok(())
}

/// Takes what is given.
pub(crate) fn take(from: &UnixDatagram) -> io::Result<(File, Memory)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; TAKE.len()];
    rustix::net::recvmsg(from, &mut [io::IoSliceMut::new(&mut text)], &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = rights.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    let mut descriptors = descriptors.next().into_iter().flatten();
    match (descriptors.next(), descriptors.next()) {
        (Some(device), Some(memory)) if text == TAKE => Ok((File::from(device), Memory::open(memory)?)),
        _ => Err(io::Error::other("no descriptors were given")),
    }
}

/// Tells the holder that requests are answered.
pub(crate) fn say_serving(to: &UnixDatagram) -> io::Result<()> {
    to.send(SERVING).map(|_| ())
}

/// Whether that was said.
pub(crate) fn is_serving(said: &[u8]) -> bool {
    said == SERVING
}

/// Tells a server that its mount has another holder.
pub(crate) fn say_taken(to: &UnixDatagram) -> io::Result<()> {
    to.send(TAKEN).map(|_| ())
}

/// Whether that was said.
pub(crate) fn is_taken(said: &[u8]) -> bool {
    said == TAKEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_arrives() {
        let (holder, server) = UnixDatagram::pair().unwrap();
        let memory = Memory::new([7; 16], b"hello kernel").unwrap();
        give(&holder, &File::open("/dev/null").unwrap(), &memory).unwrap();
        let (_device, taken) = take(&server).unwrap();
        assert_eq!((taken.mount().unwrap(), taken.first().unwrap()), ([7; 16], b"hello kernel".to_vec()));
        assert_eq!(taken.agreed().unwrap(), None);
        let slot = Slot {
            inode: 77,
            user: 5,
            flags: -3,
            kind: SlotKind::Writing,
            unlinked: true,
            alias: 3,
            backing: None,
            request: u64::MAX - 5,
        };
        memory.set_slot(3, Some(slot)).unwrap();
        memory.set_slot(9, Some(Slot { kind: SlotKind::Folder, unlinked: false, ..slot })).unwrap();
        memory.set_slot(9, None).unwrap();
        let backing = Some(Backing { number: 1, block: 2, stamp: 3 });
        let passed = Slot { kind: SlotKind::Reading, backing, ..slot };
        memory.set_slot(5, Some(passed)).unwrap();
        assert_eq!(taken.slots().unwrap(), [(3, slot), (5, passed)]);
        assert_eq!(memory.cluster().unwrap(), None);
        taken.set_cluster(77, b"a cluster").unwrap();
        assert_eq!(memory.cluster().unwrap(), Some((77, b"a cluster".to_vec())));
        taken.set_cluster(77, &[1; MAX_CLUSTER + 1]).unwrap();
        assert_eq!(memory.cluster().unwrap(), None);
        taken.set_agreed(5).unwrap();
        assert_eq!(memory.agreed().unwrap(), Some(5));
        say_serving(&server).unwrap();
        let mut said = [0; 16];
        let length = holder.recv(&mut said).unwrap();
        assert!(is_serving(&said[..length]));
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        assert!(Memory::new([0; 16], &[0; MAX_FIRST + 1]).is_err());
        let other = File::from(rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        other.write_all_at(b"SFSMNT99", 0).unwrap();
        assert!(Memory::open(other.into()).is_err());
    }
}
