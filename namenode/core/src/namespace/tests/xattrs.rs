//! Extended attributes: whose they are, and how many there may be.

use steadfs_common::xattr::{XAttrFlags, XAttrName};
use steadfs_common::{CallKey, FsErrorKind, FsResult};

use super::world::{World, chmod, create, delete, path, rename, user};
use crate::command::RenameMode;
use crate::namespace::read::Reader;
use crate::record::Key;
use crate::{Command, Reply};

const UNREADABLE: &str = "security.hdfs.unreadable.by.superuser";

fn name(text: &str) -> XAttrName {
    XAttrName::parse(text).unwrap()
}

fn set(at: &str, text: &str, value: &[u8]) -> Command {
    Command::SetXAttr {
        path: path(at),
        name: name(text),
        value: Some(value.to_vec()),
        flags: XAttrFlags::SET,
    }
}

fn mark(at: &str, text: &str) -> Command {
    Command::SetXAttr { path: path(at), name: name(text), value: None, flags: XAttrFlags::SET }
}

fn remove(at: &str, text: &str) -> Command {
    Command::RemoveXAttr { path: path(at), name: name(text) }
}

/// What a user sees: names and values, the one set last first.
fn seen(world: &World, who: &str, at: &str, names: &[&str]) -> FsResult<String> {
    let caller = user(who);
    let reader = Reader { view: &world.view, caller: &caller, settings: &world.settings };
    let names: Vec<_> = names.iter().map(|text| name(text)).collect();
    let found = reader.xattrs(&path(at), &names)?;
    if names.is_empty() {
        let listed = reader.xattr_names(&path(at)).unwrap();
        assert_eq!(listed, found.iter().map(|attribute| attribute.name.clone()).collect::<Vec<_>>());
    }
    let shown = |attribute: &crate::record::XAttr| {
        format!("{}={}", attribute.name, String::from_utf8_lossy(&attribute.value))
    };
    Ok(found.iter().map(shown).collect::<Vec<_>>().join(" "))
}

#[test]
fn attributes_are_set_changed_and_removed() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[10]);
    world.run("ann", &set("/open/f", "user.a", b"1")).unwrap();
    world.run("ann", &set("/open/f", "user.b", b"2")).unwrap();
    assert_eq!(seen(&world, "bob", "/open/f", &[]).unwrap(), "user.b=2 user.a=1");
    world.run("ann", &set("/open/f", "user.a", b"3")).unwrap();
    assert_eq!(seen(&world, "bob", "/open/f", &[]).unwrap(), "user.a=3 user.b=2");
    assert_eq!(seen(&world, "bob", "/open/f", &["user.b", "user.a"]).unwrap(), "user.b=2 user.a=3");
    let missing = seen(&world, "bob", "/open/f", &["user.b", "user.c"]).unwrap_err();
    assert_eq!(missing.kind(), FsErrorKind::XAttrNotFound);
    assert_eq!(missing.message(), "At least one of the attributes provided was not found.");
    world.run("ann", &remove("/open/f", "user.b")).unwrap();
    world.run("ann", &remove("/open/f", "user.a")).unwrap();
    assert_eq!(seen(&world, "bob", "/open/f", &[]).unwrap(), "");
    assert!(!world.inode("/open/f").unwrap().has_xattrs);
    assert_eq!(
        world.words("ann", &remove("/open/f", "user.a")),
        "No matching attributes found for remove operation"
    );
    assert_eq!(world.words("ann", &set("/open/none", "user.a", b"")), "cannot find /open/none");
    assert_eq!(seen(&world, "ann", "/open/none", &[]).unwrap_err().message(), "cannot find /open/none");
}

#[test]
fn flags_say_what_may_be_there() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o755).unwrap();
    let with = |create, replace| Command::SetXAttr {
        path: path("/open/d"),
        name: name("user.a"),
        value: Some(b"1".to_vec()),
        flags: XAttrFlags { create, replace },
    };
    assert_eq!(
        world.words("ann", &with(false, true)),
        "XAttr: a does not exist. The CREATE flag must be specified."
    );
    world.run("ann", &with(true, false)).unwrap();
    assert_eq!(
        world.words("ann", &with(true, false)),
        "XAttr: a already exists. The REPLACE flag must be specified."
    );
    world.run("ann", &with(false, true)).unwrap();
    assert_eq!(world.words("ann", &with(false, false)), "A flag must be specified.");
}

#[test]
fn namespaces_are_whose_they_are() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[10]);
    world.run("hdfs", &set("/open/f", "trusted.t", b"1")).unwrap();
    world.run("ann", &set("/open/f", "user.u", b"2")).unwrap();
    assert_eq!(seen(&world, "hdfs", "/open/f", &[]).unwrap(), "user.u=2 trusted.t=1");
    assert_eq!(seen(&world, "ann", "/open/f", &[]).unwrap(), "user.u=2");
    let denied = |text: &str| format!("User doesn't have permission for xattr: {text}");
    for (who, text) in [
        ("ann", "trusted.t"),
        ("ann", "system.s"),
        ("hdfs", "system.s"),
        ("hdfs", "security.s"),
        ("hdfs", "raw.r"),
    ] {
        assert_eq!(world.words(who, &set("/open/f", text, b"")), denied(text));
        assert_eq!(world.words(who, &remove("/open/f", text)), denied(text));
        assert_eq!(seen(&world, who, "/open/f", &[text]).unwrap_err().message(), denied(text));
    }
    // Before anything is looked at.
    assert_eq!(seen(&world, "ann", "/none", &["trusted.t"]).unwrap_err().message(), denied("trusted.t"));
}

#[test]
fn raw_attributes_show_below_reserved_raw() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[10]);
    world.run("hdfs", &set("/.reserved/raw/open/f", "raw.r", b"1")).unwrap();
    assert_eq!(seen(&world, "hdfs", "/open/f", &[]).unwrap(), "");
    assert_eq!(seen(&world, "bob", "/.reserved/raw/open/f", &[]).unwrap(), "raw.r=1");
    assert_eq!(seen(&world, "bob", "/.reserved/raw/open/f", &["raw.r"]).unwrap(), "raw.r=1");
    assert_eq!(
        world.words("ann", &set("/.reserved/raw/open/f", "user.u", b"")),
        "Access denied for user ann. Superuser privilege is required for operation setXAttr"
    );
    assert_eq!(
        world.words("ann", &remove("/.reserved/raw/open/f", "raw.r")),
        "Access denied for user ann. Superuser privilege is required for operation removeXAttr"
    );
    world.run("hdfs", &remove("/.reserved/raw/open/f", "raw.r")).unwrap();
    assert_eq!(world.inode("/.reserved/raw/open/f"), world.inode("/open/f"));
}

#[test]
fn users_attributes_want_the_rights_of_the_mode() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o755).unwrap();
    assert_eq!(
        world.words("bob", &set("/open/d", "user.a", b"")),
        "Permission denied: user=bob, access=WRITE, inode=\"/open/d\":ann:supergroup:drwxr-xr-x"
    );
    world.run("ann", &chmod("/open/d", 0o777)).unwrap();
    world.run("bob", &set("/open/d", "user.a", b"")).unwrap();
    // On a folder with the sticky bit they are the owner's.
    world.run("ann", &chmod("/open/d", 0o1777)).unwrap();
    assert_eq!(
        world.words("bob", &set("/open/d", "user.a", b"")),
        "Permission denied. user=bob is not the owner of inode=/open/d"
    );
    assert_eq!(world.kind("bob", &remove("/open/d", "user.a")), FsErrorKind::AccessDenied);
    world.run("hdfs", &set("/open/d", "user.a", b"")).unwrap();
    world.run("ann", &remove("/open/d", "user.a")).unwrap();
    world.run("ann", &chmod("/open/d", 0o300)).unwrap();
    assert_eq!(
        seen(&world, "ann", "/open/d", &[]).unwrap_err().message(),
        "Permission denied: user=ann, access=READ, inode=\"/open/d\":ann:supergroup:d-wx------"
    );
    world.run("ann", &set("/open/d", "user.a", b"1")).unwrap();
}

#[test]
fn an_inode_has_32_attributes_of_16_kib() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o755).unwrap();
    for number in 0..31 {
        world.run("ann", &set("/open/d", &format!("user.n{number}"), b"")).unwrap();
    }
    world.run("hdfs", &set("/open/d", "trusted.n", b"")).unwrap();
    let full = "Cannot add additional XAttr to inode, would exceed limit of 32";
    assert_eq!(world.words("ann", &set("/open/d", "user.more", b"")), full);
    assert_eq!(world.words("hdfs", &set("/open/d", "trusted.more", b"")), full);
    world.run("ann", &set("/open/d", "user.n3", b"again")).unwrap();
    world.run("hdfs", &set("/.reserved/raw/open/d", "raw.r", b"")).unwrap();

    world.run("ann", &remove("/open/d", "user.n0")).unwrap();
    world.run("ann", &set("/open/d", "user.big", &[0; 16_381])).unwrap();
    assert_eq!(
        world.words("ann", &set("/open/d", "user.big", &[0; 16_382])),
        "The XAttr is too big. The maximum combined size of the name and value is 16384, but the total size is 16385"
    );
}

#[test]
fn a_file_may_be_kept_from_superusers() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[10]);
    world.mkdirs("ann", "/open/d", 0o755).unwrap();
    assert_eq!(
        world.words("ann", &mark("/open/d", UNREADABLE)),
        format!("Can only set '{UNREADABLE}' on a file.")
    );
    assert_eq!(
        world.words("ann", &set("/open/f", UNREADABLE, b"")),
        format!("Attempt to set a value for '{UNREADABLE}'. Values are not allowed for this xattr.")
    );
    world.run("ann", &mark("/open/f", UNREADABLE)).unwrap();
    assert_eq!(seen(&world, "bob", "/open/f", &[]).unwrap(), format!("{UNREADABLE}="));
    assert_eq!(
        world.words("hdfs", &remove("/open/f", UNREADABLE)),
        format!("The xattr '{UNREADABLE}' can not be deleted.")
    );
    let blocks = |who: &str| {
        let caller = user(who);
        let reader = Reader { view: &world.view, caller: &caller, settings: &world.settings };
        reader.blocks(&path("/open/f"), 0, 10, 1).map(|found| found.length)
    };
    assert_eq!(blocks("bob").unwrap(), 10);
    assert_eq!(
        blocks("hdfs").unwrap_err().message(),
        "Access is denied for hdfs since the superuser is not allowed to perform this operation."
    );
}

#[test]
fn attributes_move_with_their_inode_and_go_with_it() {
    let mut world = World::new();
    let file = world.file("ann", "/open/f", &[10]);
    world.run("ann", &set("/open/f", "user.a", b"1")).unwrap();
    world.run("ann", &rename("/open/f", "/open/g", RenameMode::Classic)).unwrap();
    assert_eq!(seen(&world, "ann", "/open/g", &[]).unwrap(), "user.a=1");
    let mut again = create("/open/g", "c1");
    if let Command::Create { overwrite, .. } = &mut again {
        *overwrite = true;
    }
    world.run("ann", &again).unwrap();
    assert_eq!(seen(&world, "ann", "/open/g", &[]).unwrap(), "");
    assert!(!world.view.records().contains_key(&Key::XAttrs(file.id)));
    world.mkdirs("ann", "/open/d/e", 0o755).unwrap();
    world.run("ann", &set("/open/d/e", "user.a", b"1")).unwrap();
    world.run("ann", &delete("/open/d", true)).unwrap();
    world.reclaim_all();
    assert!(!world.view.records().keys().any(|key| matches!(key, Key::XAttrs(_))));
}

#[test]
fn a_repeated_call_changes_nothing_again() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o755).unwrap();
    let ann = user("ann");
    let (first, second) = (CallKey { client: [1; 16], call: 1 }, CallKey { client: [1; 16], call: 2 });
    let only_new = Command::SetXAttr {
        path: path("/open/d"),
        name: name("user.a"),
        value: None,
        flags: XAttrFlags { create: true, replace: false },
    };
    for _ in 0..2 {
        assert_eq!(world.run_as(&ann, Some(first), &only_new).unwrap(), Reply::Done);
    }
    for _ in 0..2 {
        assert_eq!(world.run_as(&ann, Some(second), &remove("/open/d", "user.a")).unwrap(), Reply::Done);
    }
    assert_eq!(world.kind("ann", &remove("/open/d", "user.a")), FsErrorKind::XAttrMissing);
}
