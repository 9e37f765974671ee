//! Access control entries as people and Hadoop's tools write them: `[default:]user|group|mask|other:[name]:rwx`.

use std::fmt;

use crate::limits::MAX_PRINCIPAL_BYTES;
use crate::{FsError, FsResult};

/// Whom an [`AclEntry`] is about. The numbers are HDFS's and are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AclKind {
    /// A user, or the owner.
    User = 0,
    /// A group, or the owning group.
    Group = 1,
    /// The most that named users and groups get.
    Mask = 2,
    /// Everybody else.
    Other = 3,
}

impl AclKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::User),
            1 => Some(Self::Group),
            2 => Some(Self::Mask),
            3 => Some(Self::Other),
            _ => None,
        }
    }

    /// Its word in Hadoop's notation.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Mask => "mask",
            Self::Other => "other",
        }
    }
}

/// One entry of an access control list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclEntry {
    /// Whom it is about.
    pub kind: AclKind,
    /// The user's or group's name; none for the owner, the owning group, the mask and others.
    pub name: Option<String>,
    /// rwx, as in a digit of a mode.
    pub permission: u8,
}

/// What an entry is for. The numbers are HDFS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AclScope {
    /// It decides about the inode itself.
    Access = 0,
    /// What is made in the folder begins with it.
    Default = 1,
}

/// An entry and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopedAclEntry {
    /// What it is for.
    pub scope: AclScope,
    /// The entry.
    pub entry: AclEntry,
}

impl ScopedAclEntry {
    /// Reads a list of entries separated by commas, as `setfacl` and WebHDFS take it. With `permissions`, each entry ends
    /// with some; without, each is only named (to be removed).
    ///
    /// # Errors
    /// InvalidArgument, in Hadoop's words.
    pub fn parse_list(text: &str, permissions: bool) -> FsResult<Vec<Self>> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(|entry| Self::parse(entry, permissions)).collect()
    }

    fn parse(text: &str, permissions: bool) -> FsResult<Self> {
        let invalid = || FsError::invalid_argument(format!("Invalid <aclSpec> : {text}"));
        // As in Java, empty parts at the end are none.
        let mut parts: Vec<&str> = text.split(':').collect();
        while parts.last().is_some_and(|part| part.is_empty()) {
            parts.pop();
        }
        let (scope, parts) = match parts.as_slice() {
            ["default", rest @ ..] => (AclScope::Default, rest),
            rest => (AclScope::Access, rest),
        };
        let (kind, rest) = parts.split_first().ok_or_else(invalid)?;
        let kind = match kind.to_ascii_lowercase().as_str() {
            "user" => AclKind::User,
            "group" => AclKind::Group,
            "mask" => AclKind::Mask,
            "other" => AclKind::Other,
            _ => {
                return Err(FsError::invalid_argument(format!("Invalid type of acl in <aclSpec> :{text}")));
            }
        };
        let (name, permission) = match rest {
            [] if !permissions => ("", 0),
            [name] if !permissions => (*name, 0),
            [name, symbol] if permissions => {
                let permission = parse_permission(symbol);
                let wrong = || FsError::invalid_argument(format!("Invalid permission in <aclSpec> : {text}"));
                (*name, permission.ok_or_else(wrong)?)
            }
            _ => return Err(invalid()),
        };
        let name = Some(name).filter(|name| !name.is_empty()).map(str::to_owned);
        let parsed = Self { scope, entry: AclEntry { kind, name, permission } };
        parsed.check_name()?;
        Ok(parsed)
    }

    /// Refuses a name that could not be a user's or group's.
    ///
    /// # Errors
    /// InvalidArgument.
    pub fn check_name(&self) -> FsResult<()> {
        match &self.entry.name {
            Some(name) if name.len() > MAX_PRINCIPAL_BYTES => Err(FsError::invalid_argument(format!(
                "A name of {} bytes is longer than a user's or group's may be: {MAX_PRINCIPAL_BYTES}",
                name.len()
            ))),
            Some(name) if name.is_empty() || name.chars().any(char::is_control) => {
                Err(FsError::invalid_argument("An entry's name is empty or holds a control character"))
            }
            _ => Ok(()),
        }
    }
}

/// `rwx` and the like: the letter or `-` at each place.
fn parse_permission(symbol: &str) -> Option<u8> {
    let bytes: [u8; 3] = symbol.as_bytes().try_into().ok()?;
    let mut permission = 0;
    for (place, letter) in (0..).zip(bytes) {
        match letter {
            b'-' => {}
            letter if letter == b"rwx"[place] => permission |= 4 >> place,
            _ => return None,
        }
    }
    Some(permission)
}

/// Three bits as `rwx`, with `-` for what is not set.
#[must_use]
pub fn permission_symbol(permission: u8) -> &'static str {
    ["---", "--x", "-w-", "-wx", "r--", "r-x", "rw-", "rwx"][usize::from(permission & 7)]
}

impl fmt::Display for AclEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("");
        write!(f, "{}:{name}:{}", self.kind.word(), permission_symbol(self.permission))
    }
}

impl fmt::Display for ScopedAclEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scope == AclScope::Default {
            f.write_str("default:")?;
        }
        self.entry.fmt(f)
    }
}

/// What an inode's access control list says beyond its mode, with what is needed to read it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AclStatus {
    /// The owner's name.
    pub owner: String,
    /// The group's name.
    pub group: String,
    /// Permission bits. With access entries, those of the group are the mask.
    pub mode: u16,
    /// Entries in HDFS's order: of the access list named users, the group and named groups, if it has more than a mode;
    /// then the default list, complete.
    pub entries: Vec<ScopedAclEntry>,
}

/// How an access control list is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AclChange {
    /// Adds entries, or gives those that are there other permissions.
    Modify(Vec<ScopedAclEntry>),
    /// Takes the entries named away.
    RemoveEntries(Vec<ScopedAclEntry>),
    /// Takes all default entries away.
    RemoveDefault,
    /// Takes all but the mode away.
    Remove,
    /// Replaces each scope of which entries are given. No entries at all are as good as [`AclChange::Remove`].
    Set(Vec<ScopedAclEntry>),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Vec<String> {
        let entries = ScopedAclEntry::parse_list(text, true).unwrap();
        entries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn entries_are_read_as_hadoop_reads_them() {
        assert_eq!(
            parsed("user::rwx, user:ann:r-x,default:group:x:--x,USER:bob:---,mask::rw-,,other::-w-"),
            ["user::rwx", "user:ann:r-x", "default:group:x:--x", "user:bob:---", "mask::rw-", "other::-w-"]
        );
        assert_eq!(parsed(""), Vec::<String>::new());
        let named = ScopedAclEntry::parse_list("user:ann,default:mask::,group:", false).unwrap();
        assert_eq!(named[0].entry.name.as_deref(), Some("ann"));
        assert_eq!((named[1].scope, named[1].entry.kind), (AclScope::Default, AclKind::Mask));
        assert_eq!(named[2].entry.name, None);
    }

    #[test]
    fn what_is_none_is_refused_in_hadoops_words() {
        let words = |text: &str, permissions| {
            ScopedAclEntry::parse_list(text, permissions).unwrap_err().message().to_owned()
        };
        assert_eq!(words("user:ann", true), "Invalid <aclSpec> : user:ann");
        assert_eq!(words("default:", true), "Invalid <aclSpec> : default:");
        assert_eq!(words("::", true), "Invalid <aclSpec> : ::");
        assert_eq!(words("users:ann:rwx", true), "Invalid type of acl in <aclSpec> :users:ann:rwx");
        assert_eq!(words("user:ann:rwxx", true), "Invalid permission in <aclSpec> : user:ann:rwxx");
        assert_eq!(words("user:ann:xwr", true), "Invalid permission in <aclSpec> : user:ann:xwr");
        assert_eq!(words("user:ann:rwx:x", true), "Invalid <aclSpec> : user:ann:rwx:x");
        assert_eq!(words("user:ann:rwx", false), "Invalid <aclSpec> : user:ann:rwx");
        assert!(words(&format!("user:{}:rwx", "n".repeat(2_000)), true).contains("longer"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            default in any::<bool>(), kind in 0..4_u8, name in "[a-z]{0,8}", permission in 0..8_u8,
        ) {
            let entry = ScopedAclEntry {
                scope: if default { AclScope::Default } else { AclScope::Access },
                entry: AclEntry {
                    kind: AclKind::from_number(kind).unwrap(),
                    name: Some(name).filter(|name| !name.is_empty()),
                    permission,
                },
            };
            prop_assert_eq!(ScopedAclEntry::parse_list(&entry.to_string(), true).unwrap(), [entry]);
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC*", permissions in any::<bool>()) {
            let _ = ScopedAclEntry::parse_list(&text, permissions);
        }
    }
}
