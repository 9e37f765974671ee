use std::time::Duration;

use steadfs_common::{FsErrorKind, Millis, ROOT_INODE};

use super::world::{BLOCK, World, append, chmod, chown, named, path};
use crate::view::View;
use crate::{Command, Effect, Reply};

fn group(at: &str, group: &str) -> Command {
    Command::SetOwner { path: path(at), owner: Some(String::new()), group: Some(group.into()) }
}

fn times(at: &str, mtime: Option<u64>, atime: Option<u64>) -> Command {
    Command::SetTimes { path: path(at), mtime: mtime.map(Millis), atime: atime.map(Millis) }
}

fn setrep(at: &str, replication: u16) -> Command {
    Command::SetReplication { path: path(at), replication }
}

#[test]
fn modes_are_the_owner_s() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[]);
    world.run("ann", &chmod("/open/f", 0o7644)).unwrap();
    assert_eq!(world.inode("/open/f").unwrap().mode, 0o1644);
    let error = world.run("bob", &chmod("/open/f", 0o777)).unwrap_err();
    assert_eq!(error.message(), "Permission denied. user=bob is not the owner of inode=/open/f");
    assert_eq!(error.kind(), FsErrorKind::AccessDenied);
    world.run("hdfs", &chmod("/open/f", 0o600)).unwrap();
    assert_eq!(world.kind("ann", &chmod("/open/none", 0o777)), FsErrorKind::NotFound);
    let before = world.view.clone();
    world.run("ann", &chmod("/open/f", 0o600)).unwrap();
    assert_eq!(world.view, before);
}

#[test]
fn owners_are_the_superuser_s_and_groups_the_member_s() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[]);
    let error = world.run("ann", &chown("/open/f", "bob")).unwrap_err();
    assert_eq!(error.message(), "User ann is not a super user (non-super user cannot change owner).");
    assert_eq!(world.words("ann", &group("/open/f", "dev")), "User ann does not belong to dev");
    assert_eq!(world.kind("bob", &group("/open/f", "dev")), FsErrorKind::AccessDenied);
    world.run("ann", &chown("/open/f", "ann")).unwrap();
    world.run("ann", &group("/open/f", "staff")).unwrap();
    world.run("hdfs", &chown("/open/f", "bob")).unwrap();
    let inode = world.inode("/open/f").unwrap();
    assert_eq!((inode.owner.as_str(), inode.group.as_str()), ("bob", "staff"));
    assert_eq!(world.kind("hdfs", &chown("/open/f", &"x".repeat(1_025))), FsErrorKind::InvalidArgument);
}

#[test]
fn times_want_write() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[]);
    world.run("ann", &times("/open/f", Some(5), None)).unwrap();
    let inode = world.inode("/open/f").unwrap();
    assert_eq!((inode.mtime, inode.atime), (Millis(5), world.now));
    world.run("ann", &times("/open", None, Some(9))).unwrap();
    assert_eq!(world.inode("/open").unwrap().atime, Millis(9), "folders too");
    assert_eq!(world.kind("eve", &times("/open/f", Some(5), None)), FsErrorKind::AccessDenied);
    assert_eq!(
        world.words("ann", &times("/open/n", Some(5), None)),
        "File/Directory /open/n does not exist."
    );
    world.settings.access_time_precision = Duration::ZERO;
    assert!(
        world
            .words("ann", &times("/open/f", None, Some(1)))
            .starts_with("Access time for hdfs is not configured.")
    );
    world.run("ann", &times("/open/f", Some(6), None)).unwrap();
}

#[test]
fn access_times_move_past_the_precision_only() {
    let mut world = World::new();
    let file = world.file("ann", "/open/f", &[]);
    let start = file.atime;
    let hour = Duration::from_secs(3_600);
    let touch = |time| Command::TouchAccessTime { file: file.id, atime: time };
    world.run("hdfs", &touch(start.plus(hour))).unwrap();
    assert_eq!(world.inode("/open/f").unwrap().atime, start);
    let later = start.plus(hour + Duration::from_millis(1));
    world.run("hdfs", &touch(later)).unwrap();
    assert_eq!(world.inode("/open/f").unwrap().atime, later);
    world.run("hdfs", &touch(start)).unwrap();
    assert_eq!(world.inode("/open/f").unwrap().atime, later, "a clock gone back changes nothing");
}

#[test]
fn replication_reaches_every_block_and_the_totals() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[BLOCK, 10]);
    assert_eq!(world.run("ann", &setrep("/open/f", 3)), Ok(Reply::Bool(true)));
    assert_eq!(world.effects.len(), 2);
    assert!(matches!(world.effects[0], Effect::Replication { replication: 3, .. }));
    assert_eq!(world.view.totals(ROOT_INODE).space, 3 * (BLOCK + 10));
    let Reply::Appended { last, .. } = world.run("ann", &append("/open/f", "c1")).unwrap() else { panic!() };
    assert_eq!(world.view.totals(ROOT_INODE).space, 3 * 2 * BLOCK);
    world.run("ann", &setrep("/open/f", 1)).unwrap();
    assert_eq!(world.view.totals(ROOT_INODE).space, 2 * BLOCK);
    let file = world.inode("/open/f").unwrap();
    assert!(world.complete(&file, Some(named(&last.unwrap()))).unwrap());

    assert_eq!(world.run("ann", &setrep("/open", 3)), Ok(Reply::Bool(false)));
    assert_eq!(world.run("ann", &setrep("/open/none", 3)), Ok(Reply::Bool(false)));
    assert_eq!(world.kind("ann", &setrep("/open/f", 0)), FsErrorKind::Refused);
    assert_eq!(world.kind("eve", &setrep("/open/f", 2)), FsErrorKind::AccessDenied);
}
