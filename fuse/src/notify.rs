//! Telling the kernel that what it remembers is old.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};

use fuser::{INodeNo, Notifier};
use steadfs_daemon::pool::DiskPool;

use crate::device::Device;

/// A notification that takes back all names (from Linux 6.16 on).
const ALL: u8 = 8;
/// A notification about one name, and its flag (from Linux 6.2 on) by which the kernel asks again instead of throwing the
/// name away: with the name would go what is mounted below it.
const NAME: u8 = 3;
const ASK_AGAIN: u32 = 1;
/// Threads and notifications that wait for one. Each may wait for a folder that a program's call holds, or pages that are
/// being read, so they share no thread with what those need.
const THREADS: usize = 2;
const QUEUE: usize = 1_024;

/// The way to the kernel, once there is one.
#[derive(Clone)]
pub(crate) struct Notify {
    notifier: Arc<OnceLock<Notifier>>,
    device: Device,
    pool: DiskPool,
}

impl Notify {
    pub(crate) fn new(device: Device) -> io::Result<Self> {
        Ok(Self { notifier: Arc::default(), device, pool: DiskPool::new("mount-notify", THREADS, QUEUE)? })
    }

    pub(crate) fn connect(&self, notifier: Notifier) {
        let _ = self.notifier.set(notifier);
    }

    /// The content and attributes of an inode have changed here: nobody waits for the kernel to know.
    pub(crate) fn changed(&self, inode: u64) {
        let notify = self.clone();
        tokio::spawn(async move { notify.content(inode).await });
    }

    /// The content and attributes of an inode have changed.
    pub(crate) async fn content(&self, inode: u64) {
        self.tell(move |notifier| notifier.inval_inode(INodeNo(inode), 0, 0)).await;
    }

    /// The attributes of an inode have changed.
    pub(crate) async fn attributes(&self, inode: u64) {
        self.tell(move |notifier| notifier.inval_inode(INodeNo(inode), -1, 0)).await;
    }

    /// A name has another meaning, or none.
    pub(crate) async fn entry(&self, folder: u64, name: OsString) {
        let device = self.device.clone();
        self.tell(move |_| device.notify(NAME, &name_to_ask(folder, name.as_bytes()))).await;
    }

    /// Any name may have another meaning.
    pub(crate) async fn all(&self) {
        let device = self.device.clone();
        if let Err(error) = self.pool.run(move || device.notify(ALL, &[])).await {
            tracing::debug!(%error, "the kernel does not forget all names at once");
        }
    }

    async fn tell(&self, tell: impl FnOnce(&Notifier) -> io::Result<()> + Send + 'static) {
        let Some(notifier) = self.notifier.get().cloned() else { return };
        match self.pool.run(move || tell(&notifier)).await {
            Ok(()) => {}
            // It did not remember it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::debug!(%error, "the kernel was not told of a change"),
        }
    }
}

/// `fuse_notify_inval_entry_out`: the folder, the length of the name, flags, the name and a zero.
fn name_to_ask(folder: u64, name: &[u8]) -> Vec<u8> {
    let length = u32::try_from(name.len()).expect("names have up to 255 bytes");
    let mut body = Vec::with_capacity(17 + name.len());
    body.extend_from_slice(&folder.to_le_bytes());
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(&ASK_AGAIN.to_le_bytes());
    body.extend_from_slice(name);
    body.push(0);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_as_the_kernel_reads_it() {
        let body = name_to_ask(0x0102, b"ab");
        assert_eq!(body, [2, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, b'a', b'b', 0]);
    }
}
