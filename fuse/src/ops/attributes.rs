//! What is known about files and folders, and changes of it.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, INodeNo};
use steadfs_client::{Client, FileStatus, FsErrorKind, FsStats, Millis};

use super::{Caller, Mount, RESERVED, ROOT, by_number};
use crate::coherence::Begun;
use crate::errno::{Answer, failed};
use crate::open::{Begin, OpenInode, OpenInodes, cut};
use crate::users::Kind;

/// What `stat` says is a good size of a read or write.
const GOOD_SIZE: u32 = 256 << 10;
/// What a folder's size is said to be, as other file systems do.
const FOLDER_SIZE: u64 = 4096;
/// Bits of a mode that are kept.
const MODE: u32 = 0o1777;

/// What a program wants changed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NewAttributes {
    pub(crate) mode: Option<u32>,
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) modified: Option<When>,
    pub(crate) accessed: Option<When>,
}

/// A time to set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Now,
    At(SystemTime),
}

impl When {
    fn millis(self) -> Millis {
        let time = match self {
            Self::Now => SystemTime::now(),
            Self::At(time) => time,
        };
        Millis(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
    }
}

impl Mount {
    /// How long the kernel may rely on an answer that was begun then.
    pub(crate) fn lasts(&self, begun: Begun) -> Duration {
        self.coherence.lasts(begun, self.settings.ttl)
    }

    pub(crate) async fn lookup(&self, caller: Caller, parent: u64, name: &OsStr) -> Answer<FileAttr> {
        let path = self.entry(parent, name)?;
        if parent == ROOT && self.is_whole() && name == RESERVED {
            return Err(Errno::ENOENT);
        }
        let client = self.client(caller).await?;
        let status = client.stat(&path).await.map_err(|error| failed("a lookup", &error))?;
        Ok(self.attributes(&client, &status).await)
    }

    /// Whether the kernel may remember that a name is not there.
    pub(crate) fn absence_lasts(&self) -> bool {
        self.coherence.is_live()
    }

    pub(crate) async fn get_attributes(&self, caller: Caller, inode: u64) -> Answer<FileAttr> {
        let client = self.client(caller).await?;
        self.stat(&client, inode).await
    }

    pub(super) async fn stat(&self, client: &Client, inode: u64) -> Answer<FileAttr> {
        let status = client.stat(&self.path(inode)).await.map_err(|error| by_number("a stat", &error))?;
        self.known(client, inode, &status).await
    }

    async fn known(&self, client: &Client, inode: u64, status: &FileStatus) -> Answer<FileAttr> {
        if status.nameless && self.open.get(inode).is_none() {
            // Somebody else has it open. Here its name has another meaning by now.
            return Err(Errno::ESTALE);
        }
        Ok(self.attributes(client, status).await)
    }

    /// What `stat` says, with what is known here and not yet in the cluster.
    pub(super) async fn attributes(&self, client: &Client, status: &FileStatus) -> FileAttr {
        let number = self.number(status);
        let mut size = if status.directory { FOLDER_SIZE } else { status.length };
        let (mut modified, mut accessed) = (status.modified, status.accessed);
        let mut links = if status.directory { 2 } else { 1 };
        let open = if self.open.is_empty() { None } else { self.open.get(number) };
        let dirty = match &open {
            Some(inode) => inode.dirty().await,
            None => None,
        };
        if dirty.is_some() || status.under_construction {
            self.coherence.doubt();
        }
        if let Some(dirty) = dirty {
            size = dirty.size;
            modified = if dirty.is_set { dirty.modified } else { modified.max(dirty.modified) };
            accessed = dirty.accessed.unwrap_or(accessed);
        } else if status.under_construction {
            // Written elsewhere: how far it can be read, the datanodes know.
            if let Ok(reader) = client.open(&self.path(number)).await {
                size = reader.length();
            }
        }
        if status.nameless || open.is_some_and(|inode| inode.is_unlinked()) {
            links = 0;
        }
        let (modified, accessed) = (time(modified), time(accessed));
        FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: if status.directory { modified } else { accessed },
            mtime: modified,
            ctime: modified,
            crtime: UNIX_EPOCH,
            kind: if status.directory { FileType::Directory } else { FileType::RegularFile },
            perm: status.mode,
            nlink: links,
            uid: self.names.number(Kind::User, &status.owner).await,
            gid: self.names.number(Kind::Group, &status.group).await,
            rdev: 0,
            blksize: GOOD_SIZE,
            flags: 0,
        }
    }

    pub(crate) async fn set_attributes(
        &self,
        caller: Caller,
        inode: u64,
        new: NewAttributes,
    ) -> Answer<FileAttr> {
        self.may_change()?;
        let client = self.client(caller).await?;
        let path = self.path(inode);
        // What the namenode told with its last answer.
        let mut told = None;
        if let Some(length) = new.size {
            self.set_size(&client, inode, &path, length).await?;
        }
        if new.user.is_some() || new.group.is_some() {
            let owner = match new.user {
                Some(user) => Some(self.names.name(Kind::User, user).await),
                None => None,
            };
            let group = match new.group {
                Some(group) => Some(self.names.name(Kind::Group, group).await),
                None => None,
            };
            let set = client.set_owner_told(&path, owner.as_deref(), group.as_deref()).await;
            told = set.map_err(|error| not_owner("a change of owner", &error))?;
        }
        if let Some(mode) = new.mode {
            let set = client.set_permission_told(&path, (mode & MODE) as u16).await;
            told = set.map_err(|error| not_owner("a change of mode", &error))?;
        }
        if new.modified.is_some() || new.accessed.is_some() {
            self.set_times(&client, inode, &path, new).await?;
            told = None;
        }
        match told {
            Some(status) => self.known(&client, inode, &status).await,
            None => self.stat(&client, inode).await,
        }
    }

    async fn set_size(&self, client: &Client, inode: u64, path: &str, length: u64) -> Answer<()> {
        let here = OpenedHere { open: &self.open, inode: self.open.open(inode) };
        let opened = &here.inode;
        let done = async {
            if let Some(writer) = opened.settled().await {
                return writer.truncate(length).await;
            }
            let status = client.stat(path).await.map_err(|error| by_number("a truncation", &error))?;
            if status.directory {
                return Err(Errno::EISDIR);
            }
            if length == status.length && !status.under_construction {
                let may = client.check_access(path, 2).await;
                return may.map_err(|error| by_number("a truncation", &error));
            }
            if length < status.length {
                return cut(client, path, length).await.map_err(|error| by_number("a truncation", &error));
            }
            let may = client.check_access(path, 2).await;
            may.map_err(|error| by_number("a truncation", &error))?;
            let begin = Begin::Opened(status.length);
            let handle = self.open.join_writers(opened, client.clone(), path.to_owned(), begin).await;
            handle.requests().truncate(length).await?;
            handle.requests().commit(None).await
        };
        let done = done.await;
        self.notify.changed(inode);
        done
    }

    async fn set_times(&self, client: &Client, inode: u64, path: &str, new: NewAttributes) -> Answer<()> {
        let (modified, accessed) = (new.modified.map(When::millis), new.accessed.map(When::millis));
        let open = if self.open.is_empty() { None } else { self.open.get(inode) };
        let writer = match &open {
            Some(open) => open.settled().await,
            None => None,
        };
        let set = match writer {
            Some(writer) => writer.set_times(client.clone(), modified, accessed).await?,
            None => client.set_times(path, modified, accessed).await,
        };
        let other = [new.modified, new.accessed].iter().any(|time| matches!(time, Some(When::At(_))));
        set.map_err(|error| match error.kind() {
            // Who may not write may not set the time to now either; another time is the owner's.
            FsErrorKind::AccessDenied if other => Errno::EPERM,
            _ => by_number("a change of times", &error),
        })
    }

    /// Whether the caller may do what `mask` (read 4, write 2, execute 1) says.
    pub(crate) async fn access(&self, caller: Caller, inode: u64, mask: u8) -> Answer<()> {
        if mask & 2 != 0 {
            self.may_change()?;
        }
        let client = self.client(caller).await?;
        let may = client.check_access(&self.path(inode), mask).await;
        may.map_err(|error| by_number("a check of access", &error))
    }

    /// The space of the cluster, replicas counted; or, if the mounted folder has a quota, what files may take of that.
    pub(crate) async fn space(&self, caller: Caller) -> Answer<FsStats> {
        let client = self.client(caller).await?;
        let stats = client.fs_stats().await.map_err(|error| failed("the space of the cluster", &error))?;
        // Who may not see what the folder holds sees the cluster.
        let summary = self.client.content_summary(&self.path(ROOT)).await.ok();
        let Some((summary, quota)) = summary.and_then(|summary| Some((summary, summary.space_quota?))) else {
            return Ok(stats);
        };
        let replicas = self.settings.replication.unwrap_or(self.client.defaults().replication);
        Ok(within(stats, summary.space, quota, u64::from(replicas.max(1))))
    }
}

/// What files of so many replicas may take below a folder whose replicas take `space` of `quota`.
fn within(stats: FsStats, space: u64, quota: u64, replicas: u64) -> FsStats {
    let (capacity, left) = (quota / replicas, quota.saturating_sub(space) / replicas);
    FsStats { capacity, used: capacity - left, remaining: left.min(stats.remaining / replicas), ..stats }
}

/// An inode that is open for a call alone; not after it, whether it ended or not.
struct OpenedHere<'a> {
    open: &'a OpenInodes,
    inode: Arc<OpenInode>,
}

impl Drop for OpenedHere<'_> {
    fn drop(&mut self) {
        self.open.close(&self.inode);
    }
}

fn time(at: Millis) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at.0)
}

/// Changes that only the owner may make are refused with EPERM, as POSIX wants.
fn not_owner(what: &'static str, error: &steadfs_client::FsError) -> Errno {
    if error.kind() == FsErrorKind::AccessDenied { Errno::EPERM } else { by_number(what, error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_the_size_of_a_mounted_folder() {
        let cluster = FsStats { capacity: 9_000, used: 1_000, remaining: 8_000, ..FsStats::default() };
        let told = within(cluster, 600, 3_000, 3);
        assert_eq!((told.capacity, told.used, told.remaining), (1_000, 200, 800));
        // No more than there is, nor less than nothing.
        assert_eq!(within(FsStats { remaining: 30, ..cluster }, 600, 3_000, 3).remaining, 10);
        assert_eq!(within(cluster, 5_000, 3_000, 1).remaining, 0);
    }
}
