use steadfs_common::{FsErrorKind, FsPath, Millis, ROOT_INODE, limits};

use super::world::{World, chmod, create, mkdirs, path, rename};
use crate::command::RenameMode;
use crate::record::{InodeKind, Key, Record, Totals};
use crate::view::View;
use crate::{Command, Reply};

fn single(at: &str) -> Command {
    Command::Mkdirs { path: path(at), mode: 0o755, unmasked: None, create_parent: false }
}

#[test]
fn a_namespace_is_formatted_once() {
    let mut world = World::new();
    assert_eq!(world.words("hdfs", &Command::Format), "The namespace is formatted already");
    let root = world.inode("/").unwrap();
    assert_eq!((root.owner.as_str(), root.group.as_str(), root.mode), ("hdfs", "supergroup", 0o755));
}

#[test]
fn folders_on_the_way_are_made_passable_for_their_maker() {
    let mut world = World::new();
    world.now = Millis(2_000_000);
    world.mkdirs("ann", "/open/a/b/c", 0o1050).unwrap();
    let modes = ["/open/a", "/open/a/b", "/open/a/b/c"].map(|at| world.inode(at).unwrap().mode);
    assert_eq!(modes, [0o350, 0o350, 0o1050]);
    let folder = world.inode("/open/a/b").unwrap();
    assert_eq!(
        (folder.owner.as_str(), folder.group.as_str()),
        ("ann", "supergroup"),
        "the group is the parent's"
    );
    assert_eq!(world.inode("/open").unwrap().mtime, Millis(2_000_000));
    assert_eq!(world.inode("/").unwrap().mtime, Millis(1_000_000), "only the parent's content changed");
    let totals = world.view.totals(ROOT_INODE);
    assert_eq!(Totals { directories: 4, guarded: totals.guarded, ..Totals::default() }, totals);
}

#[test]
fn a_file_s_missing_folders_take_the_mode_of_the_one_above() {
    let mut world = World::new();
    world.run("hdfs", &chmod("/open", 0o1747)).unwrap();
    world.create("ann", "/open/x/y/f").unwrap();
    assert_eq!(world.inode("/open/x").unwrap().mode, 0o747);
    assert_eq!(world.inode("/open/x/y").unwrap().mode, 0o747);
    assert_eq!(world.inode("/open/x/y/f").unwrap().mode, 0o644);
}

#[test]
fn what_exists_decides() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[]);
    let before = world.view.clone();
    assert_eq!(world.mkdirs("eve", "/open", 0o700), Ok(Reply::Done));
    assert_eq!(world.mkdirs("eve", "/", 0o700), Ok(Reply::Done));
    assert_eq!(world.view, before, "nothing changes, not even the counters");
    assert_eq!(world.words("ann", &mkdirs("/open/f", 0o755)), "Path is not a directory: /open/f");
    assert_eq!(world.kind("ann", &mkdirs("/open/f", 0o755)), FsErrorKind::AlreadyExists);
    assert_eq!(world.words("ann", &mkdirs("/open/f/x/y", 0o755)), "/open/f (is not a directory)");
    assert_eq!(world.kind("hdfs", &mkdirs("/open/f/x", 0o755)), FsErrorKind::ParentNotDirectory);
    assert_eq!(world.words("ann", &single("/open/m/x")), "Parent directory doesn't exist: /open/m");
    assert_eq!(world.kind("ann", &single("/open/m/x")), FsErrorKind::NotFound);
    assert_eq!(world.run("ann", &single("/open/m")), Ok(Reply::Done));
}

#[test]
fn making_wants_to_pass_and_to_write() {
    let mut world = World::new();
    assert_eq!(
        world.words("eve", &mkdirs("/a/b", 0o755)),
        "Permission denied: user=eve, access=WRITE, inode=\"/\":hdfs:supergroup:drwxr-xr-x"
    );
    world.mkdirs("ann", "/open/private", 0o700).unwrap();
    for at in ["/open/private/x", "/open/private/x/y"] {
        assert_eq!(
            world.words("eve", &mkdirs(at, 0o755)),
            "Permission denied: user=eve, access=EXECUTE, inode=\"/open/private\":ann:supergroup:drwx------"
        );
    }
    world.settings.permissions = false;
    assert_eq!(world.mkdirs("eve", "/open/private/x", 0o755), Ok(Reply::Done));
}

#[test]
fn a_full_folder_takes_no_more() {
    let mut world = World::new();
    let mut folder = world.inode("/open").unwrap();
    folder.kind = InodeKind::Directory { children: limits::MAX_DIRECTORY_ITEMS, quota: None };
    world.view.apply([(Key::Inode(folder.id), Some(Record::Inode(folder)))].into());
    assert_eq!(
        world.words("ann", &create("/open/f", "c1")),
        "The directory item limit of /open is exceeded: limit=1048576 items=1048576"
    );
    assert_eq!(world.kind("ann", &mkdirs("/open/a/b", 0o755)), FsErrorKind::TooManyEntries);
}

#[test]
fn the_deepest_path_can_be_made_at_once() {
    let mut world = World::new();
    let deep = format!("/open{}", "/d".repeat(limits::MAX_PATH_DEPTH - 1));
    world.mkdirs("ann", &deep, 0o755).unwrap();
    assert!(world.inode(&deep).is_some());
    let totals = world.view.totals(ROOT_INODE);
    assert_eq!(totals.directories, limits::MAX_PATH_DEPTH as u64);
}

#[test]
fn safe_mode_refuses_changes_in_hdfs_words() {
    let mut world = World::new();
    world.safe_mode = Some("The reported blocks 0 has not reached the threshold.".into());
    let error = world.run("hdfs", &mkdirs("/x", 0o755)).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::SafeMode);
    assert_eq!(
        error.message(),
        "Cannot create directory /x. Name node is in safe mode.\nThe reported blocks 0 has not reached the threshold."
    );
    let before = world.view.clone();
    assert_eq!(world.run("hdfs", &Command::Reclaim { limit: 10 }), Ok(Reply::Bool(false)));
    assert_eq!(world.run("hdfs", &Command::ExpireLease { file: ROOT_INODE }), Ok(Reply::Bool(false)));
    assert_eq!(world.view, before);
    let root = FsPath::root();
    assert!(
        world
            .words("hdfs", &Command::RecoverLease { path: root })
            .starts_with("Cannot recover the lease of /. Name")
    );
}

#[test]
fn reserved_names_cannot_be_made() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[]);
    assert_eq!(world.words("ann", &mkdirs("/open/.snapshot/x", 0o755)), "\".snapshot\" is a reserved name.");
    assert_eq!(world.kind("ann", &create("/open/.snapshot", "c1")), FsErrorKind::InvalidArgument);
    assert_eq!(world.kind("hdfs", &mkdirs("/.reserved/x", 0o755)), FsErrorKind::InvalidArgument);
    let renamed = rename("/open/f", "/open/.snapshot", RenameMode::NoReplace);
    assert_eq!(world.kind("ann", &renamed), FsErrorKind::InvalidArgument);
    assert_eq!(world.mkdirs("ann", "/open/.reserved", 0o755), Ok(Reply::Done), "only at the root");
}

#[test]
fn a_folder_is_made_once_where_nothing_is() {
    let make = |at: &str| Command::MakeFolder { path: path(at), mode: 0o750, unmasked: None };
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o755).unwrap();
    world.run("ann", &make("/open/d/e")).unwrap();
    assert_eq!(world.inode("/open/d/e").unwrap().mode, 0o750);
    assert_eq!(world.kind("ann", &make("/open/d/e")), FsErrorKind::AlreadyExists);
    world.file("ann", "/open/f", &[]);
    assert_eq!(world.kind("ann", &make("/open/f")), FsErrorKind::AlreadyExists);
    assert_eq!(world.kind("ann", &make("/open/none/e")), FsErrorKind::NotFound);
    assert_eq!(world.kind("ann", &make("/open/f/e")), FsErrorKind::ParentNotDirectory);
    assert_eq!(world.kind("eve", &make("/open/d/x")), FsErrorKind::AccessDenied);
}
