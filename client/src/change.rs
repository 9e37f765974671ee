//! Owner, group, mode and times of files and folders.

use steadfs_common::{FsPath, FsResult, Millis};
use steadfs_proto::steadfs as pb;

use crate::client::unnamed;
use crate::{Client, FileStatus};

impl Client {
    /// Sets the permission bits.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied` unless the caller owns it.
    pub async fn set_permission(&self, path: &str, mode: u16) -> FsResult<()> {
        self.set_permission_told(path, mode).await.map(drop)
    }

    /// As [`Client::set_permission`], and gives what is there then; none if the caller may not see it any more, or the namenode
    /// does not tell.
    ///
    /// # Errors
    /// As [`Client::set_permission`].
    pub async fn set_permission_told(&self, path: &str, mode: u16) -> FsResult<Option<FileStatus>> {
        let path = FsPath::parse(path)?;
        let request = pb::SetPermissionRequest { path: path.to_string(), mode: u32::from(mode) };
        let answer =
            self.inner.calls.namespace(request, |mut c, r| async move { c.set_permission(r).await }).await?;
        told(answer, &path)
    }

    /// Sets the owner, the group, or both.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied` unless the caller is a superuser (or owns it and is in the new group).
    pub async fn set_owner(&self, path: &str, owner: Option<&str>, group: Option<&str>) -> FsResult<()> {
        self.set_owner_told(path, owner, group).await.map(drop)
    }

    /// As [`Client::set_owner`], and gives what is there then, as [`Client::set_permission_told`] does.
    ///
    /// # Errors
    /// As [`Client::set_owner`].
    pub async fn set_owner_told(
        &self,
        path: &str,
        owner: Option<&str>,
        group: Option<&str>,
    ) -> FsResult<Option<FileStatus>> {
        let path = FsPath::parse(path)?;
        let request = pb::SetOwnerRequest {
            path: path.to_string(),
            owner: owner.unwrap_or_default().to_owned(),
            group: group.unwrap_or_default().to_owned(),
        };
        let answer =
            self.inner.calls.namespace(request, |mut c, r| async move { c.set_owner(r).await }).await?;
        told(answer, &path)
    }

    /// Sets the time of the last change, of the last access, or both.
    ///
    /// # Errors
    /// `NotFound`, `AccessDenied`.
    pub async fn set_times(
        &self,
        path: &str,
        modified: Option<Millis>,
        accessed: Option<Millis>,
    ) -> FsResult<()> {
        let request = pb::SetTimesRequest {
            path: FsPath::parse(path)?.to_string(),
            mtime: modified.map(|time| time.0),
            atime: accessed.map(|time| time.0),
        };
        self.inner.calls.namespace(request, |mut c, r| async move { c.set_times(r).await }).await?;
        Ok(())
    }
}

fn told(answer: pb::StatResponse, path: &FsPath) -> FsResult<Option<FileStatus>> {
    let status = answer.status.map(|status| unnamed(Some(status)));
    status.transpose()?.map(|status| FileStatus::from_proto(status, path)).transpose()
}
