//! Access control lists and extended attributes: `getfacl`, `setfacl`, `getfattr`, `setfattr`. What they print is what
//! Hadoop's shell prints.

use std::fmt::Write as _;

use bytes::Bytes;
use steadfs_client::acl::{AclKind, AclScope, AclStatus, ScopedAclEntry, permission_symbol};
use steadfs_client::xattr::{XAttrEncoding, XAttrFlags, XAttrName};
use steadfs_client::{AclChange, FileStatus};

use crate::args::{GetfaclArgs, GetfattrArgs, SetfaclArgs, SetfattrArgs};
use crate::change::for_all;
use crate::failure::{Failure, Outcome};
use crate::out::{Out, printable};
use crate::run::Run;
use crate::session::{Remote, Session};

const STICKY: u16 = 0o1000;
const OTHERS_PASS: u16 = 0o001;

pub(crate) async fn getfacl(session: &Session, args: GetfaclArgs, run: &mut Run) -> Outcome<()> {
    let out = tokio::sync::Mutex::new(session.out());
    for text in &args.paths {
        for_all(session, text, args.recursive, run, async |remote: &Remote, _: &FileStatus| {
            let status = remote.client.acl(&remote.path).await.map_err(Failure::at(&remote.path))?;
            out.lock().await.line(shown_acl(&remote.path, &status)).await
        })
        .await?;
    }
    out.into_inner().flush().await
}

/// A list as Hadoop's shell prints it, with an empty line behind.
fn shown_acl(path: &str, status: &AclStatus) -> String {
    let mut text = format!(
        "# file: {}\n# owner: {}\n# group: {}\n",
        printable(path),
        printable(&status.owner),
        printable(&status.group)
    );
    let mode = status.mode;
    if mode & STICKY != 0 {
        text.push_str(if mode & OTHERS_PASS == 0 { "# flags: --T\n" } else { "# flags: --t\n" });
    }
    let digit = |shift: u32| (mode >> shift & 7) as u8;
    let (access, default): (Vec<_>, Vec<_>) =
        status.entries.iter().partition(|entry| entry.scope == AclScope::Access);
    let shown = |entry: &ScopedAclEntry, mask| printable(&entry.to_string()) + &effective(entry, mask);
    let mut line = |entry: String| {
        text.push_str(&entry);
        text.push('\n');
    };
    line(format!("user::{}", permission_symbol(digit(6))));
    if access.is_empty() {
        line(format!("group::{}", permission_symbol(digit(3))));
    } else {
        for entry in access {
            line(shown(entry, digit(3)));
        }
        line(format!("mask::{}", permission_symbol(digit(3))));
    }
    line(format!("other::{}", permission_symbol(digit(0))));
    let is_mask = |entry: &&&ScopedAclEntry| entry.entry.kind == AclKind::Mask;
    let mask = default.iter().find(is_mask).map_or(7, |entry| entry.entry.permission);
    for entry in &default {
        line(shown(entry, mask));
    }
    text
}

/// What the mask leaves of an entry, if that is less than it says.
fn effective(entry: &ScopedAclEntry, mask: u8) -> String {
    let entry = &entry.entry;
    let masked = entry.kind == AclKind::Group || entry.kind == AclKind::User && entry.name.is_some();
    let left = entry.permission & mask;
    if masked && left != entry.permission {
        format!("\t#effective:{}", permission_symbol(left))
    } else {
        String::new()
    }
}

pub(crate) async fn setfacl(session: &Session, args: SetfaclArgs, run: &mut Run) -> Outcome<()> {
    let spec = |text: &str, permissions| {
        ScopedAclEntry::parse_list(text, permissions).map_err(|error| Failure::usage(error.message()))
    };
    let change = match (&args.modify, &args.remove, &args.set) {
        (Some(text), ..) => AclChange::Modify(spec(text, true)?),
        (_, Some(text), _) => AclChange::RemoveEntries(spec(text, false)?),
        (.., Some(text)) => AclChange::Set(spec(text, true)?),
        _ if args.remove_default => AclChange::RemoveDefault,
        _ => AclChange::Remove,
    };
    for text in &args.paths {
        for_all(session, text, args.recursive, run, async |remote: &Remote, status: &FileStatus| {
            let Some(change) = fitting(&change, args.recursive && !status.directory) else { return Ok(()) };
            remote.client.change_acl(&remote.path, &change).await.map_err(Failure::at(&remote.path))
        })
        .await?;
    }
    Ok(())
}

/// The change, for a file in a tree without its default entries; none if nothing is left of it.
fn fitting(change: &AclChange, access_only: bool) -> Option<AclChange> {
    let cut = |entries: &[ScopedAclEntry]| {
        let kept = entries.iter().filter(|entry| !access_only || entry.scope == AclScope::Access);
        Some(kept.cloned().collect::<Vec<_>>()).filter(|kept| !kept.is_empty())
    };
    match change {
        AclChange::Modify(entries) => cut(entries).map(AclChange::Modify),
        AclChange::RemoveEntries(entries) => cut(entries).map(AclChange::RemoveEntries),
        AclChange::Set(entries) => cut(entries).map(AclChange::Set),
        other => Some(other.clone()),
    }
}

pub(crate) async fn getfattr(session: &Session, args: GetfattrArgs, run: &mut Run) -> Outcome<()> {
    let out = tokio::sync::Mutex::new(session.out());
    let name = args.name.as_deref().map(name).transpose()?;
    for text in &args.paths {
        for_all(session, text, args.recursive, run, async |remote: &Remote, _: &FileStatus| {
            let at = || Failure::at(&remote.path);
            let found = match &name {
                Some(name) => {
                    vec![(name.clone(), remote.client.xattr(&remote.path, name).await.map_err(at())?)]
                }
                None => remote.client.xattrs(&remote.path).await.map_err(at())?,
            };
            show_attributes(&mut *out.lock().await, &remote.path, &found, args.encoding).await
        })
        .await?;
    }
    out.into_inner().flush().await
}

async fn show_attributes(
    out: &mut Out,
    path: &str,
    found: &[(XAttrName, Bytes)],
    encoding: Option<XAttrEncoding>,
) -> Outcome<()> {
    let mut text = format!("# file: {}", printable(path));
    for (name, value) in found {
        write!(text, "\n{}", printable(&name.to_string())).expect("a text grows as needed");
        if !value.is_empty() {
            let encoding = encoding.unwrap_or_else(|| encoding_for(value));
            write!(text, "={}", printable(&encoding.encode(value))).expect("a text grows as needed");
        }
    }
    out.line(text).await
}

/// Text, if it is some; else hexadecimal digits.
fn encoding_for(value: &[u8]) -> XAttrEncoding {
    match std::str::from_utf8(value) {
        Ok(text) if !text.chars().any(char::is_control) => XAttrEncoding::Text,
        _ => XAttrEncoding::Hex,
    }
}

pub(crate) async fn setfattr(session: &Session, args: SetfattrArgs, run: &mut Run) -> Outcome<()> {
    let value = args.value.as_deref().map(XAttrEncoding::decode).transpose();
    let value = value.map_err(|error| Failure::usage(error.message()))?;
    let (set, remove) = (args.name.as_deref(), args.remove.as_deref());
    let (set, remove) = (set.map(name).transpose()?, remove.map(name).transpose()?);
    for text in &args.paths {
        for_all(session, text, false, run, async |remote: &Remote, _: &FileStatus| {
            let (client, path) = (&remote.client, &remote.path);
            let done = match (&set, &remove) {
                (Some(name), _) => client.set_xattr(path, name, value.as_deref(), XAttrFlags::SET).await,
                (None, Some(name)) => client.remove_xattr(path, name).await,
                (None, None) => Ok(()),
            };
            done.map_err(Failure::at(path))
        })
        .await?;
    }
    Ok(())
}

fn name(text: &str) -> Outcome<XAttrName> {
    XAttrName::parse(text).map_err(|error| Failure::usage(error.message()))
}

/// How values are to be written, as an argument says it.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn parse_encoding(text: &str) -> Result<XAttrEncoding, String> {
    XAttrEncoding::from_word(text).ok_or_else(|| format!("`{text}` is not text, hex or base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_look_as_in_hadoops_shell() {
        let entries = ScopedAclEntry::parse_list(
            "user:bob:rwx,group::r-x,default:user::rwx,default:user:bob:rwx,default:group::r-x,default:mask::r--,\
             default:other::---",
            true,
        );
        let status =
            AclStatus { owner: "ann".into(), group: "staff".into(), mode: 0o1750, entries: entries.unwrap() };
        assert_eq!(
            shown_acl("/d", &status),
            "# file: /d\n# owner: ann\n# group: staff\n# flags: --T\nuser::rwx\nuser:bob:rwx\t#effective:r-x\n\
             group::r-x\nmask::r-x\nother::---\ndefault:user::rwx\ndefault:user:bob:rwx\t#effective:r--\n\
             default:group::r-x\t#effective:r--\ndefault:mask::r--\ndefault:other::---\n"
        );
        let plain = AclStatus { mode: 0o1641, entries: Vec::new(), ..status };
        assert_eq!(
            shown_acl("/d", &plain),
            "# file: /d\n# owner: ann\n# group: staff\n# flags: --t\nuser::rw-\ngroup::r--\nother::--x\n"
        );
    }

    #[test]
    fn files_in_a_tree_get_no_default_entries() {
        let entries = |text| ScopedAclEntry::parse_list(text, true).unwrap();
        let both = AclChange::Modify(entries("user:bob:rwx,default:user:bob:rwx"));
        assert_eq!(fitting(&both, false), Some(both.clone()));
        assert_eq!(fitting(&both, true), Some(AclChange::Modify(entries("user:bob:rwx"))));
        assert_eq!(fitting(&AclChange::Set(entries("default:user:bob:rwx")), true), None);
        assert_eq!(fitting(&AclChange::Remove, true), Some(AclChange::Remove));
    }

    #[test]
    fn values_that_are_no_text_are_shown_in_hexadecimal() {
        assert_eq!(encoding_for("grün".as_bytes()), XAttrEncoding::Text);
        assert_eq!(encoding_for(b"a\nb"), XAttrEncoding::Hex);
        assert_eq!(encoding_for(&[0xff]), XAttrEncoding::Hex);
        assert!(parse_encoding("HEX").is_ok() && parse_encoding("rot13").is_err());
    }
}
