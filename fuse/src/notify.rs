//! Telling the kernel that what it remembers is old.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use steadfs_daemon::pool::DiskPool;

use crate::device::Device;
use crate::nodes::Nodes;

/// A notification about an inode; behind its number, from where on pages are forgotten (negative: only attributes) and how
/// many bytes of them (0: all).
const INODE: u8 = 2;
const ATTRIBUTES: i64 = -1;
const PAGES: i64 = 0;
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

/// The way to the kernel.
#[derive(Clone)]
pub(crate) struct Notify {
    device: Device,
    nodes: Arc<Nodes>,
    pool: DiskPool,
}

impl Notify {
    pub(crate) fn new(device: Device, nodes: Arc<Nodes>) -> io::Result<Self> {
        Ok(Self { device, nodes, pool: DiskPool::new("mount-notify", THREADS, QUEUE)? })
    }

    /// The content and attributes of an inode have changed here: nobody waits for the kernel to know.
    pub(crate) fn changed(&self, inode: u64) {
        let notify = self.clone();
        tokio::spawn(async move { notify.content(inode).await });
    }

    /// The content and attributes of an inode have changed.
    pub(crate) async fn content(&self, inode: u64) {
        for node in self.nodes.all(inode) {
            self.tell(INODE, inode_to_forget(node, PAGES)).await;
        }
    }

    /// The attributes of an inode have changed.
    pub(crate) async fn attributes(&self, inode: u64) {
        for node in self.nodes.all(inode) {
            self.tell(INODE, inode_to_forget(node, ATTRIBUTES)).await;
        }
    }

    /// A name has another meaning, or none.
    pub(crate) async fn entry(&self, folder: u64, name: OsString) {
        self.tell(NAME, name_to_ask(folder, name.as_bytes())).await;
    }

    /// Any name may have another meaning.
    pub(crate) async fn all(&self) {
        let device = self.device.clone();
        if let Err(error) = self.pool.run(move || device.notify(ALL, &[])).await {
            tracing::debug!(%error, "the kernel does not forget all names at once");
        }
    }

    async fn tell(&self, code: u8, body: Vec<u8>) {
        let device = self.device.clone();
        match self.pool.run(move || device.notify(code, &body)).await {
            Ok(()) => {}
            // It did not remember it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::debug!(%error, "the kernel was not told of a change"),
        }
    }
}

/// `fuse_notify_inval_inode_out`.
fn inode_to_forget(inode: u64, from: i64) -> Vec<u8> {
    [inode.to_le_bytes(), from.to_le_bytes(), [0; 8]].concat()
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
