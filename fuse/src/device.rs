//! The kernel's descriptor under a session of fuser: the only unsafe code of the mount.

#![expect(
    unsafe_code,
    reason = "fuser owns the number of the descriptor that another must take the place of"
)]

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use fuser::{FileHandle, FopenFlags, ReplyOpen};

/// Bytes of what stands before each message to the kernel.
const HEADER: usize = 16;

/// Makes the number `target` mean what `with` means.
pub(crate) fn replace(target: BorrowedFd<'_>, with: impl AsFd) -> io::Result<()> {
    // SAFETY: the number is open for as long as `target` is borrowed, `dup2` leaves it open, and what is made of it here
    // is never dropped, so it stays the property of its owner.
    let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(target.as_raw_fd()) });
    Ok(rustix::io::dup2(with, &mut target)?)
}

/// The kernel's descriptor, for what is asked of it beside requests.
#[derive(Clone)]
pub(crate) struct Device(Arc<File>);

impl Device {
    pub(crate) fn new(device: &File) -> io::Result<Self> {
        Ok(Self(Arc::new(device.try_clone()?)))
    }

    /// Lets the kernel read through `file`; gives its number of it.
    pub(crate) fn register(&self, file: &File) -> io::Result<u32> {
        fuser::BackingId::create_raw(&*self.0, file)
    }

    /// The kernel need not know a file any more.
    pub(crate) fn forget(&self, number: u32) -> io::Result<()> {
        // `FUSE_DEV_IOC_BACKING_CLOSE`: _IOW(229, 2, u32).
        const CLOSE: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<u32>(229, 2);
        // SAFETY: the call takes a pointer to 32 bits and reads them.
        let close = unsafe { rustix::ioctl::Setter::<CLOSE, u32>::new(number) };
        // SAFETY: as above; what the number means is checked by the kernel.
        Ok(unsafe { rustix::ioctl::ioctl(&*self.0, close) }?)
    }

    /// Tells the kernel something that fuser has no words for: a code and what belongs to it.
    pub(crate) fn notify(&self, code: u8, body: &[u8]) -> io::Result<()> {
        // `fuse_out_header`: the length of all, the code, and no request.
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(&u32::from(code).to_le_bytes());
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(body);
        (&mut &*self.0 as &mut dyn io::Write).write(&message).map(|_| ())
    }
}

/// Answers an `open`: reads go to the file that the kernel knows by `number`.
pub(crate) fn opened_passed(reply: ReplyOpen, handle: FileHandle, number: u32) {
    // SAFETY: the number is the kernel's own, given for this connection, and kept open until no handle uses it.
    let backing = unsafe { reply.wrap_backing(number) };
    reply.opened_passthrough(handle, FopenFlags::empty(), &backing);
    // It is closed when the last handle goes, not here.
    let _ = backing.into_raw();
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn the_number_stays_and_its_meaning_changes() {
        let (old, mut new) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        new.write_all(b"new").unwrap();
        new.rewind().unwrap();
        let number = old.as_raw_fd();
        replace(old.as_fd(), &new).unwrap();
        assert_eq!(old.as_raw_fd(), number);
        let mut text = String::new();
        (&old).read_to_string(&mut text).unwrap();
        assert_eq!(text, "new");
    }
}
