//! Access control lists of files and folders. What a list is, [`crate::acl`] knows.

use steadfs_common::acl::{AclScope, AclStatus};
use steadfs_common::{FsPath, FsResult};

use super::attributes::{owned, write_guarded};
use super::planner::Planner;
use super::read::{Reader, existing};
use crate::acl::{self, AclChange};
use crate::command::Reply;
use crate::event::MetadataChange;
use crate::record::AclEntry;

/// [`crate::Command::SetAcl`]
pub(crate) fn change(p: &mut Planner<'_>, path: &FsPath, change: &AclChange) -> FsResult<Reply> {
    let before = owned(p, path)?;
    let mut inode = before.clone();
    acl::change(&mut inode, path, change)?;
    if inode != before {
        let entries = |wanted: AclScope| -> Vec<AclEntry> {
            let list = acl::logical(&inode);
            list.into_iter().filter(|entry| entry.scope == wanted).map(|entry| entry.entry).collect()
        };
        let removed = inode.acl.is_none() && matches!(change, AclChange::Remove | AclChange::Set(_));
        let (access, default) = match removed {
            true => (Vec::new(), Vec::new()),
            false => (entries(AclScope::Access), entries(AclScope::Default)),
        };
        p.metadata_changed(inode.id, MetadataChange::Acl { access, default });
        write_guarded(p, inode)?;
    }
    Ok(Reply::Done)
}

/// What is refused in safe mode, in HDFS's words.
pub(crate) fn named(path: &FsPath, change: &AclChange) -> String {
    match change {
        AclChange::Modify(_) => format!("modify ACL entries on {path}"),
        AclChange::RemoveEntries(_) => format!("remove ACL entries on {path}"),
        AclChange::RemoveDefault => format!("remove default ACL entries on {path}"),
        AclChange::Remove => format!("remove ACL on {path}"),
        AclChange::Set(_) => format!("set ACL on {path}"),
    }
}

impl Reader<'_> {
    /// Who may do what with a file or folder. Whoever may pass the folders above may ask.
    ///
    /// # Errors
    /// See [`Reader`]; NotFound.
    pub fn acl_status(&self, path: &FsPath) -> FsResult<AclStatus> {
        let inode = existing(&self.resolve(path)?)?;
        Ok(AclStatus {
            owner: inode.owner.clone(),
            group: inode.group.clone(),
            mode: inode.mode,
            entries: acl::extended(&inode),
        })
    }
}
