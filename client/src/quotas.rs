//! Sums, quotas and storage policies.

use steadfs_common::{FsResult, StorageType};
use steadfs_proto::convert::{storage_kind, storage_type};
use steadfs_proto::steadfs as pb;

use crate::Client;
use crate::client::checked;

/// What becomes of a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Bound {
    /// It stays as it is.
    #[default]
    Keep,
    /// There is none any more.
    Clear,
    /// It is this from now on.
    Set(u64),
}

impl Bound {
    /// As the message has it.
    fn number(self) -> Option<i64> {
        match self {
            Self::Keep => None,
            Self::Clear => Some(-1),
            Self::Set(bound) => Some(i64::try_from(bound).unwrap_or(i64::MAX - 1)),
        }
    }
}

/// Totals of a file or of a folder and all below it, and what they may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ContentSummary {
    /// Bytes of the files.
    pub length: u64,
    /// Files.
    pub files: u64,
    /// Folders, the one asked for included.
    pub directories: u64,
    /// Bytes on disks: each file's length times its replication. A block being written counts as a whole one.
    pub space: u64,
    /// How many files and folders there may be, the folder itself included; none for any number.
    pub name_quota: Option<u64>,
    /// How large `space` may become; none for any size.
    pub space_quota: Option<u64>,
    /// Space and quota by type of storage, at [`StorageType::index`]. Files without a storage policy are in none.
    pub types: [TypeUsage; StorageType::COUNT],
}

/// Space on one type of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TypeUsage {
    /// Bytes that the files' storage policies want there.
    pub used: u64,
    /// How many there may be; none for any number.
    pub quota: Option<u64>,
}

impl ContentSummary {
    pub(crate) fn from_proto(answer: &pb::ContentSummaryResponse) -> Self {
        let mut types = [TypeUsage::default(); StorageType::COUNT];
        for usage in &answer.types {
            types[storage_type(usage.kind()).index()] = TypeUsage { used: usage.used, quota: usage.quota };
        }
        Self {
            length: answer.length,
            files: answer.files,
            directories: answer.directories,
            space: answer.space,
            name_quota: answer.name_quota,
            space_quota: answer.space_quota,
            types,
        }
    }
}

impl Client {
    /// Totals of a file or a tree, and the folder's quotas. Wants the right to look into every folder of the tree.
    ///
    /// # Errors
    /// `NotFound`, `AccessDenied`.
    pub async fn content_summary(&self, path: &str) -> FsResult<ContentSummary> {
        let request = pb::PathRequest { path: checked(path)? };
        let answer =
            self.inner.calls.namespace(request, |mut c, r| async move { c.content_summary(r).await }).await?;
        Ok(ContentSummary::from_proto(&answer))
    }

    /// Bounds how many files and folders lie in and below a folder (itself included), and how many bytes they take times
    /// replication. What is above a new bound stays, and cannot grow.
    ///
    /// # Errors
    /// `AccessDenied`: the caller is no superuser; `NotFound`; `NotADirectory`.
    pub async fn set_quota(&self, path: &str, names: Bound, space: Bound) -> FsResult<()> {
        self.send_quota(path, names, space, None).await
    }

    /// Bounds how many bytes of replicas the storage policies of the files below a folder may want on one type of storage.
    ///
    /// # Errors
    /// Those of [`Client::set_quota`].
    pub async fn set_type_quota(&self, path: &str, kind: StorageType, space: Bound) -> FsResult<()> {
        self.send_quota(path, Bound::Keep, space, Some(kind)).await
    }

    async fn send_quota(
        &self,
        path: &str,
        names: Bound,
        space: Bound,
        kind: Option<StorageType>,
    ) -> FsResult<()> {
        let request = pb::SetQuotaRequest {
            path: checked(path)?,
            names: names.number(),
            space: space.number(),
            kind: kind.map(|kind| storage_kind(kind).into()),
        };
        self.inner.calls.namespace(request, |mut c, r| async move { c.set_quota(r).await }).await?;
        Ok(())
    }

    /// The storage policy (`HOT`, `COLD`, `WARM`, `ONE_SSD`, `ALL_SSD`, …) that a file or folder has or inherits; none
    /// if it has none, which is as good as `HOT`.
    ///
    /// # Errors
    /// `NotFound`, `AccessDenied`.
    pub async fn storage_policy(&self, path: &str) -> FsResult<Option<String>> {
        let request = pb::PathRequest { path: checked(path)? };
        let answer = self
            .inner
            .calls
            .namespace(request, |mut c, r| async move { c.get_storage_policy(r).await })
            .await?;
        Ok(Some(answer.policy).filter(|policy| !policy.is_empty()))
    }

    /// Gives a file or folder a storage policy, or with none takes its own away. It decides where new replicas go; those
    /// there are stay where they are.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied`; `InvalidArgument`: there is no such policy.
    pub async fn set_storage_policy(&self, path: &str, policy: Option<&str>) -> FsResult<()> {
        let request = pb::SetStoragePolicyRequest {
            path: checked(path)?,
            policy: policy.unwrap_or_default().to_owned(),
        };
        self.inner.calls.namespace(request, |mut c, r| async move { c.set_storage_policy(r).await }).await?;
        Ok(())
    }
}
