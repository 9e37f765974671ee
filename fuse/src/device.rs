//! The kernel's descriptor under a session of fuser: the only unsafe code of the mount.

#![expect(
    unsafe_code,
    reason = "fuser owns the number of the descriptor that another must take the place of"
)]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Makes the number `target` mean what `with` means.
pub(crate) fn replace(target: BorrowedFd<'_>, with: impl AsFd) -> io::Result<()> {
    // SAFETY: the number is open for as long as `target` is borrowed, `dup2` leaves it open, and what is made of it here
    // is never dropped, so it stays the property of its owner.
    let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(target.as_raw_fd()) });
    Ok(rustix::io::dup2(with, &mut target)?)
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
