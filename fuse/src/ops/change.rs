//! Changes of the tree.

use std::ffi::OsStr;
use std::sync::Arc;

use fuser::{Errno, FileAttr};
use steadfs_client::{Client, FsErrorKind};

use super::{Caller, Mount};
use crate::errno::{Answer, failed};
use crate::open::OpenInode;

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
        let open = self.about_to_go(&client, &path).await;
        self.delete(&client, &path).await?;
        self.has_gone(open).await;
        Ok(())
    }

    /// The file at a path that is to lose its name, if it is open here: the namenode knows that when this returns, and keeps it.
    async fn about_to_go(&self, client: &Client, path: &str) -> Option<Arc<OpenInode>> {
        if self.open.is_empty() {
            return None;
        }
        let status = client.stat(path).await.ok().filter(|status| !status.directory)?;
        let open = self.open.get(status.inode.0)?;
        self.keeper.is_kept(status.inode).await;
        Some(open)
    }

    /// It has lost its name: whoever has it open goes on. Unless somebody elsewhere gave it another in between: then it was
    /// another file that went, and what is written to this one is still to be committed.
    async fn has_gone(&self, open: Option<Arc<OpenInode>>) {
        let Some(open) = open else { return };
        // As the mount itself: the caller need not see where it lies now.
        let known = self.client.stat(&self.path(open.number)).await;
        if known.is_ok_and(|status| !status.nameless) {
            return;
        }
        open.set_unlinked();
        self.handles.unlinked(open.number);
        self.notify.changed(open.number);
    }

    async fn delete(&self, client: &Client, path: &str) -> Answer<()> {
        match client.delete(path, false).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Errno::ENOENT),
            Err(error) => Err(failed("a deletion", &error)),
        }
    }

    pub(crate) async fn remove_folder(&self, caller: Caller, parent: u64, name: &OsStr) -> Answer<()> {
        self.may_change()?;
        let path = self.entry(parent, name)?;
        let client = self.client(caller).await?;
        self.delete(&client, &path).await
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
        let replaced = self.about_to_go(&client, &to).await;
        match client.rename_over(&from, &to).await {
            Ok(()) => {}
            Err(error) => return Err(self.why_not(&client, &from, &to, &error).await),
        }
        self.has_gone(replaced).await;
        Ok(())
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
