//! Writing through a shared mapping.

#![expect(unsafe_code, reason = "a mapping is memory that the file's other users change, too")]

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

const PAGE: u64 = 4_096;

/// Writes as much of `bytes` as lies within the file, has it written back, and unmaps it. Gives how much that was.
pub(crate) fn write(file: &OwnedFd, at: u64, bytes: &[u8]) -> Result<u64, Errno> {
    let length = rustix::fs::fstat(file)?.st_size as u64;
    let end = length.min(at + bytes.len() as u64);
    // A mapping of nothing is refused, and writing behind the end is a signal.
    if at >= end {
        return Ok(0);
    }
    let from = at - at % PAGE;
    let (mapped, skipped, written) = ((end - from) as usize, (at - from) as usize, (end - at) as usize);
    // SAFETY: the kernel chooses a place where nothing is mapped.
    let start = unsafe {
        mmap(std::ptr::null_mut(), mapped, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, from)?
    };
    // SAFETY: `skipped + written` bytes are mapped, which is no more than the file has, and nobody else knows this mapping.
    let synced = unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.cast::<u8>().add(skipped), written);
        let synced = msync(start, mapped, MsyncFlags::SYNC);
        munmap(start, mapped)?;
        synced
    };
    synced.map(|()| written as u64)
}
