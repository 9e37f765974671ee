//! The kernel's descriptor: the only unsafe code of the mount.

#![expect(unsafe_code, reason = "a command to the device that no library has words for")]

use std::fs::File;
use std::io;
use std::sync::Arc;

/// Bytes before what an answer or a notification says.
const HEADER: usize = 16;

/// The kernel's descriptor.
#[derive(Clone)]
pub(crate) struct Device(Arc<File>);

impl Device {
    pub(crate) fn new(device: &File) -> io::Result<Self> {
        Ok(Self(Arc::new(device.try_clone()?)))
    }

    /// Reads one request into what `buffer` has room for.
    pub(crate) fn read(&self, buffer: &mut Vec<u8>) -> rustix::io::Result<()> {
        buffer.clear();
        rustix::io::read(&*self.0, rustix::buffer::spare_capacity(buffer)).map(|_| ())
    }

    /// Writes one answer. It does not block.
    pub(crate) fn write(&self, parts: &[io::IoSlice<'_>]) -> io::Result<()> {
        Ok(rustix::io::writev(&*self.0, parts).map(|_| ())?)
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

    /// Tells the kernel something unasked: a code and what belongs to it.
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
