//! `/.reserved/.inodes/<id>[/…]`

use steadfs_common::{FsErrorKind, ROOT_INODE};

use super::world::{World, chmod, create, delete, mkdirs, path, rename, user};
use crate::command::RenameMode;
use crate::namespace::read::{Action, Reader};
use crate::{Command, Reply};

fn by_id(id: impl std::fmt::Display, rest: &str) -> String {
    format!("/.reserved/.inodes/{id}{rest}")
}

#[test]
fn a_file_is_found_by_its_id_wherever_it_is() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o755).unwrap();
    let file = world.file("ann", "/open/d/f", &[10]);
    let folder = world.inode("/open/d").unwrap();
    for (at, id) in [
        (by_id(file.id, ""), file.id),
        (by_id(folder.id, "/f"), file.id),
        (by_id(folder.id, ""), folder.id),
        (by_id(ROOT_INODE, "/open/d/f"), file.id),
        (by_id(ROOT_INODE, ""), ROOT_INODE),
    ] {
        assert_eq!(world.inode(&at).unwrap().id, id, "{at}");
    }
    world.run("ann", &rename("/open/d/f", "/open/g", RenameMode::NoReplace)).unwrap();
    assert_eq!(world.inode(&by_id(file.id, "")).unwrap().id, file.id);
    let ann = user("ann");
    let reader = Reader { view: &world.view, caller: &ann, settings: &world.settings };
    assert_eq!(reader.blocks(&path(&by_id(file.id, "")), 0, 10, 1).unwrap().length, 10);
    assert_eq!(reader.list(&path(&by_id(folder.id, "")), None, 10).unwrap().unwrap().page.rows, []);
    assert_eq!(reader.stat(&path(&by_id(folder.id, "/f"))), Ok(None));
}

#[test]
fn the_way_to_it_must_be_open() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o700).unwrap();
    let file = world.file("ann", "/open/d/f", &[10]);
    let eve = user("eve");
    let reader = Reader { view: &world.view, caller: &eve, settings: &world.settings };
    let error = reader.stat(&path(&by_id(file.id, ""))).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::AccessDenied);
    assert!(error.message().contains("access=EXECUTE, inode=\"/open/d\""), "{error}");
    assert!(reader.check_access(&path(&by_id(file.id, "")), Action::NONE).is_err());
}

#[test]
fn what_is_not_there_is_not_found() {
    let mut world = World::new();
    let file = world.file("ann", "/open/f", &[10]);
    world.run("ann", &delete("/open/f", false)).unwrap();
    let root = user("hdfs");
    let reader = Reader { view: &world.view, caller: &root, settings: &world.settings };
    for (id, words) in [
        (file.id.to_string(), "File for given inode path does not exist"),
        ("99999999".into(), "File for given inode path does not exist"),
        ("x".into(), "Invalid inode path"),
        ("-1".into(), "Invalid inode path"),
        ("18446744073709551616".into(), "Invalid inode path"),
    ] {
        let at = by_id(&id, "");
        let error = reader.stat(&path(&at)).unwrap_err();
        assert_eq!((error.kind(), error.message()), (FsErrorKind::NotFound, &*format!("{words}: {at}")));
    }
    assert_eq!(reader.stat(&path("/.reserved/.inodes")), Ok(None));
    let top = reader.stat(&path("/.reserved")).unwrap().unwrap();
    assert_eq!((top.mode, &*top.owner, &*top.group), (0o1770, "", "supergroup"));
    let names = |after: Option<&str>| {
        let after = after.map(|name| steadfs_common::Name::new(name).unwrap());
        let listed = reader.list(&path("/.reserved"), after.as_ref(), 10).unwrap().unwrap();
        listed.page.rows.iter().map(|(name, _)| name.as_ref().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(None), [".inodes", "raw"]);
    assert_eq!(names(Some(".inodes")), ["raw"]);
    let delete = crate::command::Command::Delete { path: path("/.reserved"), recursive: true };
    assert_eq!(world.words("hdfs", &delete), "Invalid path name /.reserved");
    assert_eq!(world.kind("hdfs", &mkdirs("/.reserved/.inodes", 0o755)), FsErrorKind::InvalidArgument);
    assert_eq!(world.kind("hdfs", &mkdirs("/.reserved/x", 0o755)), FsErrorKind::InvalidArgument);
    assert_eq!(world.kind("hdfs", &mkdirs(&by_id("99999999", "/a"), 0o755)), FsErrorKind::NotFound);
}

#[test]
fn changes_are_made_where_it_is() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o755).unwrap();
    let folder = world.inode("/open/d").unwrap();
    world.run("ann", &mkdirs(&by_id(folder.id, "/x/y"), 0o755)).unwrap();
    assert!(world.inode("/open/d/x/y").is_some());
    world.run("ann", &create(&by_id(folder.id, "/f"), "c1")).unwrap();
    let file = world.inode("/open/d/f").unwrap();
    assert!(world.complete(&file, None).unwrap());
    world.run("ann", &chmod(&by_id(file.id, ""), 0o600)).unwrap();
    assert_eq!(world.inode("/open/d/f").unwrap().mode, 0o600);
    let classic = rename(&by_id(file.id, ""), &by_id(folder.id, "/x"), RenameMode::Classic);
    assert_eq!(world.run("ann", &classic), Ok(Reply::Bool(true)));
    assert_eq!(world.inode("/open/d/x/f").unwrap().id, file.id, "into the folder, under its own name");
    let same = rename("/open/d/x/f", &by_id(file.id, ""), RenameMode::NoReplace);
    assert_eq!(world.kind("ann", &same), FsErrorKind::AlreadyExists);
    let below = rename(&by_id(folder.id, ""), "/open/d/x/z", RenameMode::NoReplace);
    assert_eq!(world.kind("ann", &below), FsErrorKind::Refused);
    assert_eq!(world.run("hdfs", &delete(&by_id(ROOT_INODE, ""), true)), Ok(Reply::Bool(false)));
    assert_eq!(world.run("ann", &delete(&by_id(folder.id, ""), true)), Ok(Reply::Bool(true)));
    assert!(world.inode("/open/d").is_none());
}

#[test]
fn the_bounds_are_those_of_the_real_path() {
    let mut world = World::new();
    let deep = "/a".repeat(990);
    world
        .run(
            "ann",
            &Command::Mkdirs {
                path: path(&format!("/open{deep}")),
                mode: 0o755,
                unmasked: None,
                create_parent: true,
            },
        )
        .unwrap();
    let bottom = world.inode(&format!("/open{deep}")).unwrap();
    world.run("ann", &mkdirs(&by_id(bottom.id, &"/b".repeat(9)), 0o755)).unwrap();
    assert_eq!(
        world.kind("ann", &mkdirs(&by_id(bottom.id, &"/c".repeat(10)), 0o755)),
        FsErrorKind::PathTooLong
    );
}
