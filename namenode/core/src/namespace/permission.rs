//! Owner, group, mode, access control list, sticky bit and superuser, as HDFS's `FSPermissionChecker` has them, and its words.

use std::fmt;

use steadfs_common::{FsError, FsResult};

use super::read::Action;
use crate::acl;
use crate::command::{Caller, Settings};
use crate::record::Inode;

/// The bit that lets only owners delete out of a folder.
pub(crate) const STICKY: u16 = 0o1000;
/// All bits of a mode.
pub(crate) const MODE_BITS: u16 = 0o1777;

/// What a caller may do.
#[derive(Clone, Copy)]
pub(crate) struct Guard<'a> {
    user: &'a str,
    groups: &'a [String],
    superuser: bool,
    enabled: bool,
}

impl<'a> Guard<'a> {
    pub(crate) fn new(caller: &'a Caller, settings: &Settings) -> Self {
        Self {
            user: &caller.user,
            groups: &caller.groups,
            superuser: caller.superuser,
            enabled: settings.permissions,
        }
    }

    /// Whether nothing is checked: a superuser, or permissions are off.
    pub(crate) const fn passes_everywhere(&self) -> bool {
        self.superuser || !self.enabled
    }

    pub(crate) const fn is_superuser(&self) -> bool {
        self.superuser
    }

    pub(crate) const fn user(&self) -> &str {
        self.user
    }

    pub(crate) fn is_member(&self, group: &str) -> bool {
        self.groups.iter().any(|member| member == group)
    }

    /// Whether the mode, or the access control list, allows `action`.
    pub(crate) fn may(&self, inode: &Inode, action: Action) -> bool {
        if self.passes_everywhere() {
            return true;
        }
        if let Some(acl) = inode.acl.as_deref().filter(|acl| !acl.access.is_empty()) {
            let of = (inode.owner.as_str(), inode.group.as_str(), inode.mode);
            return acl::grants(&acl.access, of, self.user, |group| self.is_member(group), action.0);
        }
        let shift = if inode.owner == self.user {
            6
        } else if self.is_member(&inode.group) {
            3
        } else {
            0
        };
        (inode.mode >> shift) as u8 & action.0 == action.0
    }

    /// Refuses `action` on an inode whose mode does not allow it.
    pub(crate) fn check(&self, inode: &Inode, path: impl fmt::Display, action: Action) -> FsResult<()> {
        if self.may(inode, action) {
            return Ok(());
        }
        Err(FsError::denied(format!(
            "Permission denied: user={}, access={action}, inode=\"{path}\":{}",
            self.user,
            Description(inode)
        )))
    }

    /// Refuses to take an entry out of a sticky folder if neither is the caller's.
    pub(crate) fn check_sticky(
        &self,
        parent: &Inode,
        parent_path: impl fmt::Display,
        inode: &Inode,
        path: impl fmt::Display,
    ) -> FsResult<()> {
        let violated = parent.mode & STICKY != 0 && parent.owner != self.user && inode.owner != self.user;
        if self.passes_everywhere() || !violated {
            return Ok(());
        }
        Err(FsError::denied(format!(
            "Permission denied by sticky bit: user={}, path=\"{path}\":{}, parent=\"{parent_path}\":{}",
            self.user,
            Description(inode),
            Description(parent)
        )))
    }

    /// Refuses everybody but the owner and superusers, even where permissions are off (as HDFS does for chmod and chown).
    pub(crate) fn check_owner(&self, inode: &Inode, path: impl fmt::Display) -> FsResult<()> {
        if self.superuser || inode.owner == self.user {
            return Ok(());
        }
        Err(FsError::denied(format!(
            "Permission denied. user={} is not the owner of inode={path}",
            self.user
        )))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] =
            ["NONE", "EXECUTE", "WRITE", "WRITE_EXECUTE", "READ", "READ_EXECUTE", "READ_WRITE", "ALL"];
        f.write_str(NAMES[usize::from(self.0 & 7)])
    }
}

/// `owner:group:drwxr-xr-t`
struct Description<'a>(&'a Inode);

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inode { owner, group, mode, .. } = self.0;
        let kind = if self.0.is_directory() { 'd' } else { '-' };
        write!(f, "{owner}:{group}:{kind}")?;
        for (index, letter) in "rwxrwxrwx".chars().enumerate() {
            let set = mode & (0o400 >> index) != 0;
            let letter = match (index == 8 && mode & STICKY != 0, set) {
                (true, true) => 't',
                (true, false) => 'T',
                (false, true) => letter,
                (false, false) => '-',
            };
            write!(f, "{letter}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use steadfs_common::{FsErrorKind, InodeId, Millis, TxId};

    use super::*;
    use crate::record::InodeKind;

    fn folder(owner: &str, group: &str, mode: u16) -> Inode {
        Inode {
            id: InodeId(1),
            parent: InodeId(1),
            name: None,
            owner: owner.into(),
            group: group.into(),
            mode,
            mtime: Millis(0),
            atime: Millis(0),
            changed: TxId(0),
            acl: None,
            has_xattrs: false,
            storage_policy: 0,
            kind: InodeKind::Directory { children: 0, quota: None },
        }
    }

    fn caller(user: &str, groups: &[&str]) -> Caller {
        Caller {
            user: user.into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            superuser: false,
            address: None,
            origin: crate::command::Origin::default(),
        }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let settings = Settings::default();
        let inode = folder("ann", "staff", 0o070);
        let ann = caller("ann", &["staff"]);
        let bob = caller("bob", &["x", "staff"]);
        let eve = caller("eve", &[]);
        assert!(
            !Guard::new(&ann, &settings).may(&inode, Action::READ),
            "the owner's bits count, not the group's"
        );
        assert!(Guard::new(&bob, &settings).may(&inode, Action::ALL));
        assert!(!Guard::new(&eve, &settings).may(&inode, Action::EXECUTE));
        assert!(Guard::new(&eve, &settings).may(&inode, Action::NONE));
        let off = Settings { permissions: false, ..Settings::default() };
        assert!(Guard::new(&eve, &off).may(&inode, Action::ALL));
        assert!(Guard::new(&eve, &off).check_owner(&inode, "/d").is_err());
    }

    #[test]
    fn hdfs_words() {
        let settings = Settings::default();
        let eve = caller("eve", &[]);
        let guard = Guard::new(&eve, &settings);
        let error = guard.check(&folder("ann", "staff", 0o1750), "/d", Action::READ_EXECUTE).unwrap_err();
        assert_eq!(error.kind(), FsErrorKind::AccessDenied);
        assert_eq!(
            error.message(),
            "Permission denied: user=eve, access=READ_EXECUTE, inode=\"/d\":ann:staff:drwxr-x--T"
        );
        let error = guard
            .check_sticky(
                &folder("root", "supergroup", 0o1777),
                "/tmp",
                &folder("ann", "staff", 0o755),
                "/tmp/x",
            )
            .unwrap_err();
        assert_eq!(
            error.message(),
            "Permission denied by sticky bit: user=eve, path=\"/tmp/x\":ann:staff:drwxr-xr-x, \
             parent=\"/tmp\":root:supergroup:drwxrwxrwt"
        );
        let error = guard.check_owner(&folder("ann", "staff", 0o755), "/d").unwrap_err();
        assert_eq!(error.message(), "Permission denied. user=eve is not the owner of inode=/d");
    }
}
