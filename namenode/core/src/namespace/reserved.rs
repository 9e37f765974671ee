//! `/.reserved` as it is shown: a folder that no record stands for, with the two that are found in it.

use std::sync::Arc;

use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult, InodeId, Millis, Name, ROOT_INODE, TxId};

use super::create;
use crate::command::{Command, Settings};
use crate::record::{Inode, InodeKind};

const RESERVED: &str = ".reserved";
/// What is in it: inodes by their ids, and the tree with the attributes of the `raw` namespace.
const INSIDE: [&str; 2] = [".inodes", "raw"];
/// Nobody owns it, and HDFS shows it with the sticky bit.
const MODE: u16 = 0o1770;
const MODE_INSIDE: u16 = 0o770;
/// HDFS's -1: it is no inode.
const NO_INODE: InodeId = InodeId(u64::MAX);

/// Whether the path is `/.reserved` itself.
pub(super) fn is_top(path: &FsPath) -> bool {
    matches!(path.names(), [name] if name.as_str() == RESERVED)
}

/// Refuses to change `/.reserved` itself.
pub(super) fn check(command: &Command) -> FsResult<()> {
    match command {
        Command::SetPermission { path, .. }
        | Command::SetOwner { path, .. }
        | Command::SetTimes { path, .. }
        | Command::SetAcl { path, .. }
        | Command::SetXAttr { path, .. }
        | Command::RemoveXAttr { path, .. }
        | Command::SetQuota { path, .. }
        | Command::SetStoragePolicy { path, .. }
        | Command::Delete { path, .. }
            if is_top(path) =>
        {
            Err(FsError::new(FsErrorKind::InvalidPath, format!("Invalid path name {path}")))
        }
        Command::Mkdirs { path, .. } | Command::MakeFolder { path, .. } if is_top(path) => {
            create::check_reserved(path)
        }
        _ => Ok(()),
    }
}

/// What `/.reserved` looks like.
pub(super) fn top(settings: &Settings) -> Arc<Inode> {
    folder(RESERVED, MODE, settings)
}

/// What is listed in it after `after`.
pub(super) fn entries(settings: &Settings, after: Option<&Name>) -> Vec<(Option<Name>, Arc<Inode>)> {
    let shown = INSIDE.into_iter().filter(|name| after.is_none_or(|after| *name > after.as_str()));
    let entries = shown.map(|name| (Name::new(name).ok(), folder(name, MODE_INSIDE, settings)));
    entries.collect()
}

fn folder(name: &str, mode: u16, settings: &Settings) -> Arc<Inode> {
    Arc::new(Inode {
        id: NO_INODE,
        parent: ROOT_INODE,
        name: Name::new(name).ok(),
        owner: String::new(),
        group: settings.supergroup.clone(),
        mode,
        mtime: Millis(0),
        atime: Millis(0),
        changed: TxId::default(),
        acl: None,
        has_xattrs: false,
        storage_policy: 0,
        kind: InodeKind::Directory { children: INSIDE.len() as u64, quota: None },
    })
}
