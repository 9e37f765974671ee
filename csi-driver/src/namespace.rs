//! What the driver asks of a cluster, so that tests can stand in for one and fail where they like.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures::TryStreamExt;
use steadfs_client::xattr::{XAttrFlags, XAttrName};
use steadfs_client::{Bound, Client, ClientOptions, FsErrorKind, FsResult, InodeId};
use tokio::sync::OnceCell;

/// How long a call may wait for a cluster that does not answer: the sidecars and kubelets ask again.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// A folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) inode: InodeId,
    pub(crate) directory: bool,
    pub(crate) mode: u16,
    pub(crate) group: String,
}

/// What a folder holds, and may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Bytes of the files, replicas counted.
    pub(crate) space: u64,
    pub(crate) space_quota: Option<u64>,
    /// Files and folders, the folder itself included.
    pub(crate) names: u64,
    pub(crate) name_quota: Option<u64>,
}

/// The room of a cluster, in bytes of replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) capacity: u64,
    pub(crate) remaining: u64,
    /// Replicas of files that do not say how many.
    pub(crate) replication: u16,
}

/// A cluster's namespace. Paths may name a folder by its inode, as `/.reserved/.inodes/<id>`.
pub(crate) trait Namespace: Send + Sync + 'static {
    fn stat(&self, path: &str) -> impl Future<Output = FsResult<Option<Folder>>> + Send;
    /// Makes a folder with this mode, and those above it with `above`, where they are missing.
    fn make(&self, path: &str, above: u16, mode: u16) -> impl Future<Output = FsResult<()>> + Send;
    /// Renames; refused if something has the new name.
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = FsResult<()>> + Send;
    /// Deletes a tree; no error if it is not there.
    fn delete(&self, path: &str) -> impl Future<Output = FsResult<()>> + Send;
    fn attribute(&self, path: &str, name: &str) -> impl Future<Output = FsResult<Option<Vec<u8>>>> + Send;
    /// With `new`, refused if there is one already.
    fn set_attribute(
        &self,
        path: &str,
        name: &str,
        value: &[u8],
        new: bool,
    ) -> impl Future<Output = FsResult<()>> + Send;
    fn remove_attribute(&self, path: &str, name: &str) -> impl Future<Output = FsResult<()>> + Send;
    fn set_mode(&self, path: &str, mode: u16) -> impl Future<Output = FsResult<()>> + Send;
    fn set_owner(
        &self,
        path: &str,
        owner: Option<&str>,
        group: Option<&str>,
    ) -> impl Future<Output = FsResult<()>> + Send;
    fn set_policy(&self, path: &str, policy: &str) -> impl Future<Output = FsResult<()>> + Send;
    fn set_space_quota(&self, path: &str, quota: Option<u64>) -> impl Future<Output = FsResult<()>> + Send;
    fn usage(&self, path: &str) -> impl Future<Output = FsResult<Usage>> + Send;
    /// At most `limit` entries of a folder, in the order of their inodes, behind the inode `after`. None of a folder that is
    /// not there.
    fn entries(
        &self,
        path: &str,
        after: InodeId,
        limit: usize,
    ) -> impl Future<Output = FsResult<Vec<(InodeId, String)>>> + Send;
    fn room(&self) -> impl Future<Output = FsResult<Room>> + Send;
}

/// The path of an inode.
pub(crate) fn inode_path(inode: InodeId) -> String {
    steadfs_client::inode_path(inode)
}

/// A cluster that need not be there when the driver starts.
pub(crate) struct Cluster {
    url: String,
    options: ClientOptions,
    client: OnceCell<Client>,
}

impl Cluster {
    pub(crate) fn new(url: &str, user: &str) -> Self {
        let options = ClientOptions {
            call_timeout: CALL_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            ..ClientOptions::for_user(user)
        };
        Self { url: url.to_owned(), options, client: OnceCell::new() }
    }

    async fn client(&self) -> FsResult<&Client> {
        self.client.get_or_try_init(|| Client::connect_with(&self.url, self.options.clone())).await
    }
}

/// None for what is not there.
fn found<T>(answer: FsResult<T>) -> FsResult<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.kind() {
            FsErrorKind::NotFound | FsErrorKind::ParentNotDirectory => Ok(None),
            _ => Err(error),
        },
    }
}

impl Namespace for Cluster {
    async fn stat(&self, path: &str) -> FsResult<Option<Folder>> {
        let status = found(self.client().await?.stat(path).await)?;
        Ok(status.map(|status| Folder {
            inode: status.inode,
            directory: status.directory,
            mode: status.mode,
            group: status.group,
        }))
    }

    async fn make(&self, path: &str, above: u16, mode: u16) -> FsResult<()> {
        let client = self.client().await?;
        if let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            client.mkdirs_with(parent, above, true).await?;
        }
        client.mkdirs_with(path, mode, false).await
    }

    async fn rename(&self, from: &str, to: &str) -> FsResult<()> {
        self.client().await?.rename(from, to).await
    }

    async fn delete(&self, path: &str) -> FsResult<()> {
        found(self.client().await?.delete(path, true).await).map(|_| ())
    }

    async fn attribute(&self, path: &str, name: &str) -> FsResult<Option<Vec<u8>>> {
        let name = XAttrName::parse(name)?;
        let all = self.client().await?.xattrs(path).await?;
        Ok(all.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_vec()))
    }

    async fn set_attribute(&self, path: &str, name: &str, value: &[u8], new: bool) -> FsResult<()> {
        let flags = XAttrFlags { create: true, replace: !new };
        self.client().await?.set_xattr(path, &XAttrName::parse(name)?, Some(value), flags).await
    }

    async fn remove_attribute(&self, path: &str, name: &str) -> FsResult<()> {
        self.client().await?.remove_xattr(path, &XAttrName::parse(name)?).await
    }

    async fn set_mode(&self, path: &str, mode: u16) -> FsResult<()> {
        self.client().await?.set_permission(path, mode).await
    }

    async fn set_owner(&self, path: &str, owner: Option<&str>, group: Option<&str>) -> FsResult<()> {
        self.client().await?.set_owner(path, owner, group).await
    }

    async fn set_policy(&self, path: &str, policy: &str) -> FsResult<()> {
        self.client().await?.set_storage_policy(path, Some(policy)).await
    }

    async fn set_space_quota(&self, path: &str, quota: Option<u64>) -> FsResult<()> {
        let bound = quota.map_or(Bound::Clear, Bound::Set);
        self.client().await?.set_quota(path, Bound::Keep, bound).await
    }

    async fn usage(&self, path: &str) -> FsResult<Usage> {
        let summary = self.client().await?.content_summary(path).await?;
        Ok(Usage {
            space: summary.space,
            space_quota: summary.space_quota,
            names: summary.files + summary.directories,
            name_quota: summary.name_quota,
        })
    }

    async fn entries(&self, path: &str, after: InodeId, limit: usize) -> FsResult<Vec<(InodeId, String)>> {
        let listing = self.client().await?.list(path);
        let first = listing.try_fold(BTreeMap::new(), |mut first, status| {
            if status.inode > after {
                first.insert(status.inode, status.name().to_owned());
            }
            if first.len() > limit {
                first.pop_last();
            }
            std::future::ready(Ok(first))
        });
        Ok(found(first.await)?.unwrap_or_default().into_iter().collect())
    }

    async fn room(&self) -> FsResult<Room> {
        let client = self.client().await?;
        let stats = client.fs_stats().await?;
        let replication = client.defaults().replication.max(1);
        Ok(Room { capacity: stats.capacity, remaining: stats.remaining, replication })
    }
}
