use std::time::Duration;

use steadfs_common::{FsErrorKind, ROOT_INODE};

use super::world::{BLOCK, World, chmod, named, rename};
use crate::command::{BlockRef, RenameMode};
use crate::view::View;
use crate::{Command, Reply};

use RenameMode::{Classic, NoReplace, Overwrite};

fn tree() -> World {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d/sub", 0o755).unwrap();
    world.file("ann", "/open/d/sub/f", &[BLOCK, 5]);
    world.file("ann", "/open/g", &[7]);
    world.mkdirs("ann", "/open/empty", 0o755).unwrap();
    world
}

#[test]
fn the_first_form_answers_false() {
    let mut world = tree();
    for (from, to) in [
        ("/open/none", "/open/x"),
        ("/", "/open/x"),
        ("/open/g", "/open/d/sub/f"),
        ("/open/g", "/open/none/x"),
        ("/open/d", "/open/d/sub/x"),
        ("/open/d", "/open/d"),
        ("/open/d", "/open/d/sub"),
    ] {
        let before = world.view.clone();
        assert_eq!(world.run("hdfs", &rename(from, to, Classic)), Ok(Reply::Bool(false)), "{from} {to}");
        assert_eq!(world.view, before);
    }
    assert_eq!(world.run("ann", &rename("/open/g", "/open/g", Classic)), Ok(Reply::Bool(true)));
    assert_eq!(world.kind("ann", &rename("/open/d", "/open/g/x", Classic)), FsErrorKind::ParentNotDirectory);
    assert_eq!(world.kind("ann", &rename("/open/g/x", "/open/y", Classic)), FsErrorKind::AccessDenied);
}

#[test]
fn the_first_form_moves_into_folders() {
    let mut world = tree();
    assert_eq!(world.run("ann", &rename("/open/g", "/open/d", Classic)), Ok(Reply::Bool(true)));
    assert!(world.inode("/open/g").is_none() && world.inode("/open/d/g").is_some());
    world.file("ann", "/open/g", &[]);
    assert_eq!(world.run("ann", &rename("/open/g", "/open/d", Classic)), Ok(Reply::Bool(false)), "taken");
}

#[test]
fn a_tree_moves_with_its_totals() {
    let mut world = tree();
    world.mkdirs("hdfs", "/other", 0o777).unwrap();
    let moved = world.inode("/open/d").unwrap();
    let below = world.view.totals(moved.id);
    let everything = world.view.totals(ROOT_INODE);
    world.pass(Duration::from_secs(9));
    assert_eq!(world.run("ann", &rename("/open/d", "/other/e", Classic)), Ok(Reply::Bool(true)));
    let now = world.inode("/other/e").unwrap();
    assert_eq!((now.id, now.mtime), (moved.id, moved.mtime), "its own time stays");
    assert_eq!(world.inode("/open").unwrap().mtime, world.now);
    assert_eq!(world.inode("/other").unwrap().mtime, world.now);
    let other = world.view.totals(world.inode("/other").unwrap().id);
    assert_eq!((other.directories, other.files, other.bytes), (below.directories + 1, 1, below.bytes));
    let after = world.view.totals(ROOT_INODE);
    assert_eq!(
        (after.files, after.bytes, after.space),
        (everything.files, everything.bytes, everything.space)
    );
}

#[test]
fn the_second_form_has_errors() {
    let mut world = tree();
    let cases = [
        ("/open/none", "/open/x", FsErrorKind::NotFound, "rename source /open/none is not found."),
        ("/", "/open/x", FsErrorKind::Refused, "rename source cannot be the root"),
        (
            "/open/g",
            "/open/g",
            FsErrorKind::AlreadyExists,
            "The source /open/g and destination /open/g are the same",
        ),
        (
            "/open/d",
            "/open/d/x",
            FsErrorKind::Refused,
            "Rename destination /open/d/x is a directory or file under source /open/d",
        ),
        ("/open/d", "/", FsErrorKind::Refused, "rename destination cannot be the root"),
        (
            "/open/g",
            "/open/d/sub/f",
            FsErrorKind::AlreadyExists,
            "rename destination /open/d/sub/f already exists",
        ),
        ("/open/g", "/open/n/x", FsErrorKind::NotFound, "rename destination parent /open/n/x not found."),
        ("/open/d", "/open/g/x", FsErrorKind::ParentNotDirectory, "/open/g (is not a directory)"),
        (
            "/open/g",
            "/open/d",
            FsErrorKind::Refused,
            "Source /open/g and destination /open/d must both be directories",
        ),
    ];
    for (from, to, kind, words) in cases {
        let error = world.run("hdfs", &rename(from, to, NoReplace)).unwrap_err();
        assert_eq!((error.kind(), error.message()), (kind, words), "{from} {to}");
    }
    let error = world.run("ann", &rename("/open/empty", "/open/d", Overwrite)).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::TargetNotEmpty);
    assert_eq!(error.message(), "rename destination directory is not empty: /open/d");
    assert_eq!(world.kind("ann", &rename("/open/g", "/open/empty", Overwrite)), FsErrorKind::Refused);
    assert_eq!(world.run("ann", &rename("/open/g", "/open/h", NoReplace)), Ok(Reply::Done));
}

#[test]
fn overwriting_replaces_files_and_empty_folders() {
    let mut world = tree();
    let source = world.inode("/open/g").unwrap();
    assert_eq!(world.run("ann", &rename("/open/g", "/open/d/sub/f", Overwrite)), Ok(Reply::Done));
    assert_eq!(world.inode("/open/d/sub/f").unwrap().id, source.id);
    assert_eq!(world.view.totals(ROOT_INODE).bytes, 7);
    assert_eq!(world.run("ann", &rename("/open/d", "/open/empty", Overwrite)), Ok(Reply::Done));
    assert!(world.inode("/open/empty/sub/f").is_some() && world.inode("/open/d").is_none());
}

#[test]
fn renaming_wants_both_folders() {
    let mut world = tree();
    world.mkdirs("ann", "/open/mine", 0o755).unwrap();
    world.mkdirs("eve", "/open/hers", 0o755).unwrap();
    world.file("eve", "/open/hers/x", &[]);
    for mode in [Classic, NoReplace, Overwrite] {
        let words = world.words("eve", &rename("/open/hers/x", "/open/mine/x", mode));
        assert!(words.contains("access=WRITE, inode=\"/open/mine\""), "{words}");
        let words = world.words("eve", &rename("/open/d/sub", "/open/hers/sub", mode));
        assert!(words.contains("access=WRITE, inode=\"/open/d\""), "{words}");
    }
    let words = world.words("eve", &rename("/open/hers/x", "/open/mine", Classic));
    assert!(words.contains("access=WRITE, inode=\"/open/mine\""), "moving into it is writing to it: {words}");
    world.run("hdfs", &chmod("/open", 0o1777)).unwrap();
    let words = world.words("eve", &rename("/open/g", "/open/h", NoReplace));
    assert!(words.starts_with("Permission denied by sticky bit: user=eve, path=\"/open/g\""), "{words}");
    let words = world.words("eve", &rename("/open/hers/x", "/open/g", Overwrite));
    assert!(words.starts_with("Permission denied by sticky bit: user=eve, path=\"/open/g\""), "{words}");
}

#[test]
fn an_open_file_is_written_on_after_its_rename() {
    let mut world = World::new();
    let file = world.create("ann", "/open/f").unwrap();
    let block = world.add_block(&file, None).unwrap();
    world.run("ann", &rename("/open/f", "/open/g", Classic)).unwrap();
    assert!(world.complete(&file, Some(BlockRef { length: 5, ..named(&block) })).unwrap());
    assert_eq!(world.inode("/open/g").unwrap().file().unwrap().length, 5);
}

#[test]
fn what_goes_to_the_trash_must_be_deletable() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o777).unwrap();
    world.mkdirs("bob", "/open/d/bob", 0o700).unwrap();
    world.file("bob", "/open/d/bob/f", &[]);
    let mut command = rename("/open/d", "/open/trash", NoReplace);
    world.mkdirs("ann", "/open/e", 0o700).unwrap();
    if let Command::Rename { to_trash, .. } = &mut command {
        *to_trash = true;
    }
    assert_eq!(
        world.words("ann", &command),
        "Permission denied: user=ann, access=ALL, inode=\"/open/d/bob\":bob:supergroup:drwx------"
    );
    assert_eq!(world.run("ann", &rename("/open/d", "/open/other", NoReplace)), Ok(Reply::Done));
    assert!(world.inode("/open/other/bob/f").is_some());
}
