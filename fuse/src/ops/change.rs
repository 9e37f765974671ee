//! Changes of the tree.

use std::ffi::OsStr;

use fuser::{Errno, FileAttr};
use futures::TryStreamExt;
use steadfs_client::{Client, FsErrorKind};

use super::{Caller, Mount, UNLINKED, is_hidden};
use crate::errno::{Answer, failed};

/// Entries looked at to see whether a folder holds nothing but deleted files that are still open.
const MAX_HIDDEN: usize = 64;

impl Mount {
    pub(crate) async fn make_folder(
        &self,
        caller: Caller,
        parent: u64,
        name: &OsStr,
        mode: u32,
    ) -> Answer<FileAttr> {
        self.may_change()?;
        let path = self.entry(parent, name)?;
        let client = self.client(caller).await?;
        let made = client.mkdir(&path, (mode & 0o1777) as u16, None).await;
        made.map_err(|error| failed("a new folder", &error))?;
        let status = client.stat(&path).await.map_err(|error| failed("a new folder", &error))?;
        Ok(self.attributes(&client, &status).await)
    }

    pub(crate) async fn unlink(&self, caller: Caller, parent: u64, name: &OsStr) -> Answer<()> {
        self.may_change()?;
        let path = self.entry(parent, name)?;
        let client = self.client(caller).await?;
        if self.hide_if_open(&client, parent, &path).await? {
            return Ok(());
        }
        self.delete(&client, &path).await
    }

    async fn delete(&self, client: &Client, path: &str) -> Answer<()> {
        match client.delete(path, false).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Errno::ENOENT),
            // The number of this call stands for a rename, by which the name went when it was made first.
            Err(error) if error.kind() == FsErrorKind::InvalidArgument => Ok(()),
            Err(error) => Err(failed("a deletion", &error)),
        }
    }

    /// A file that is open here loses its name, and goes when it is closed: whoever reads or writes it goes on.
    async fn hide_if_open(&self, client: &Client, parent: u64, path: &str) -> Answer<bool> {
        if self.open.is_empty() {
            return Ok(false);
        }
        let status = match client.stat(path).await {
            Ok(status) => status,
            // Sent again after it was done: the deletion itself is known to the server, and answered as it was.
            Err(error) if error.kind() == FsErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed("a deletion", &error)),
        };
        let Some(open) = self.open.get(status.inode.0).filter(|_| !status.directory) else {
            return Ok(false);
        };
        let hidden = format!("{}/{UNLINKED}{}", self.path(parent), status.inode);
        client.rename(path, &hidden).await.map_err(|error| failed("a deletion", &error))?;
        open.set_unlinked();
        self.handles.unlinked(status.inode.0);
        self.notify.changed(status.inode.0);
        // Closed in between: nobody else will.
        if self.open.get(status.inode.0).is_none() {
            self.delete(client, &hidden).await?;
        }
        Ok(true)
    }

    pub(crate) async fn remove_folder(&self, caller: Caller, parent: u64, name: &OsStr) -> Answer<()> {
        self.may_change()?;
        let path = self.entry(parent, name)?;
        let client = self.client(caller).await?;
        match self.delete(&client, &path).await {
            Err(errno) if errno.code() == Errno::ENOTEMPTY.code() => {
                self.lift_hidden(&client, parent, &path).await?;
                self.delete(&client, &path).await
            }
            done => done,
        }
    }

    /// Moves what is deleted but open out of a folder that is to go, if there is nothing else in it.
    async fn lift_hidden(&self, client: &Client, parent: u64, path: &str) -> Answer<()> {
        let mut entries = std::pin::pin!(client.list(path));
        let mut names = Vec::new();
        while let Some(entry) = entries.try_next().await.map_err(|error| failed("a deletion", &error))? {
            if !is_hidden(entry.name()) || names.len() >= MAX_HIDDEN {
                return Err(Errno::ENOTEMPTY);
            }
            names.push(entry.name().to_owned());
        }
        for name in names {
            let to = format!("{}/{name}", self.path(parent));
            let moved = client.rename(&format!("{path}/{name}"), &to).await;
            moved.map_err(|error| failed("a deletion", &error))?;
        }
        Ok(())
    }

    /// `replace`: whether something may be at the new name.
    pub(crate) async fn rename(
        &self,
        caller: Caller,
        (parent, name): (u64, &OsStr),
        (new_parent, new_name): (u64, &OsStr),
        replace: bool,
    ) -> Answer<()> {
        self.may_change()?;
        let (from, to) = (self.entry(parent, name)?, self.entry(new_parent, new_name)?);
        let client = self.client(caller).await?;
        if !replace {
            return client.rename(&from, &to).await.map_err(|error| failed("a rename", &error));
        }
        let replaced = self.replaced(&client, &to).await;
        match client.rename_over(&from, &to).await {
            Ok(()) => {}
            Err(error) => return Err(self.why_not(&client, &from, &to, &error).await),
        }
        if let Some(inode) = replaced.and_then(|inode| self.open.get(inode)) {
            inode.set_unlinked();
            self.handles.unlinked(inode.number);
            if let Some(writer) = inode.settled().await {
                writer.forget().await;
            }
            self.notify.changed(inode.number);
        }
        Ok(())
    }

    /// What is about to be replaced, if it may be open here.
    async fn replaced(&self, client: &Client, to: &str) -> Option<u64> {
        if self.open.is_empty() {
            return None;
        }
        client.stat(to).await.ok().map(|status| status.inode.0)
    }

    /// POSIX tells apart what is in the way of a rename.
    async fn why_not(&self, client: &Client, from: &str, to: &str, error: &steadfs_client::FsError) -> Errno {
        if matches!(
            error.kind(),
            FsErrorKind::AccessDenied | FsErrorKind::TargetNotEmpty | FsErrorKind::NotFound
        ) {
            return failed("a rename", error);
        }
        match (client.stat(from).await, client.stat(to).await) {
            (Ok(from), Ok(to)) if from.directory && !to.directory => Errno::ENOTDIR,
            (Ok(from), Ok(to)) if !from.directory && to.directory => Errno::EISDIR,
            (Ok(from), _) if from.directory && error.kind() == FsErrorKind::Refused => Errno::EINVAL,
            _ => failed("a rename", error),
        }
    }
}
