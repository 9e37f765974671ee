//! Files and folders by their ids, which renames do not change.

use futures::Stream;
use steadfs_common::{FsResult, InodeId};
use steadfs_proto::steadfs as pb;

use crate::read::Reader;
use crate::{Client, FileStatus};

/// The path by which an inode is found wherever it lies; names in a folder may follow. Every call takes it, with the
/// permissions of the real path.
#[must_use]
pub fn inode_path(id: InodeId) -> String {
    format!("/.reserved/.inodes/{id}")
}

/// The path of what has this name in the folder with this id.
#[must_use]
pub fn entry_path(folder: InodeId, name: &str) -> String {
    format!("/.reserved/.inodes/{folder}/{name}")
}

impl Client {
    /// What is known about an inode.
    ///
    /// # Errors
    /// As [`Client::stat`]; `NotFound` once it is deleted.
    pub async fn stat_inode(&self, id: InodeId) -> FsResult<FileStatus> {
        self.stat(&inode_path(id)).await
    }

    /// What has this name in a folder.
    ///
    /// # Errors
    /// As [`Client::stat`].
    pub async fn lookup(&self, folder: InodeId, name: &str) -> FsResult<FileStatus> {
        self.stat(&entry_path(folder, name)).await
    }

    /// The entries of a folder, each with all that is known about it.
    pub fn list_inode(&self, folder: InodeId) -> impl Stream<Item = FsResult<FileStatus>> + Send + use<> {
        self.list(&inode_path(folder))
    }

    /// Lets a new content go that a process of the same name was sending and that has not taken the old one's place
    /// ([`Client::replace`]); one that is gone is no error.
    ///
    /// # Errors
    /// `LeaseExpired` if it is another client's; those of any call.
    pub async fn drop_staged(&self, staged: InodeId) -> FsResult<()> {
        let request = pb::DropStagedRequest { staged: staged.0, client: self.inner.name.clone() };
        let calls = &self.inner.calls;
        calls.mounts(request, |mut c, r| async move { c.drop_staged(r).await }).await.map(drop)
    }

    /// Opens a file for reading, wherever it lies.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub async fn open_inode(&self, id: InodeId) -> FsResult<Reader> {
        self.open(&inode_path(id)).await
    }
}
