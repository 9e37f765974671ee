//! What is told of each command. That it is all there is to tell, [`super::follower`] sees to.

use std::time::Duration;

use steadfs_common::{FsPath, Millis};

use super::world::{BLOCK, World, chmod, create, path};
use crate::Command;
use crate::command::{FileRef, NewTimes, RenameMode};
use crate::event::{Event, EventKind, MetadataChange};
use crate::view::View;

/// The last command's events: paths and kinds, by batch.
fn told(world: &World) -> Vec<Vec<(String, &'static str)>> {
    let one = |event: &Event| (event.path.to_string(), name(&event.kind));
    world.events.iter().map(|batch| batch.events.iter().map(one).collect()).collect()
}

fn name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Create(made) if made.directory => "mkdir",
        EventKind::Create(made) if made.overwrite => "overwrite",
        EventKind::Create(_) => "create",
        EventKind::Close { .. } => "close",
        EventKind::Append { .. } => "append",
        EventKind::Truncate { .. } => "truncate",
        EventKind::Rename { .. } => "rename",
        EventKind::Unlink { .. } => "unlink",
        EventKind::Metadata(MetadataChange::Times { .. }) => "times",
        EventKind::Metadata(MetadataChange::Replication(_)) => "replication",
        EventKind::Metadata(MetadataChange::Owner { .. }) => "owner",
        EventKind::Metadata(MetadataChange::Mode(_)) => "mode",
        EventKind::Metadata(_) => "metadata",
        EventKind::Flushed { .. } => "flushed",
    }
}

fn one(path: &str, kind: &'static str) -> Vec<Vec<(String, &'static str)>> {
    vec![vec![(path.to_owned(), kind)]]
}

#[test]
fn folders_on_the_way_are_told_one_by_one_under_ids_of_their_own() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/a/b", 0o755).unwrap();
    assert_eq!(told(&world), [one("/open/a", "mkdir"), one("/open/a/b", "mkdir")].concat());
    world.run("ann", &create("/open/c/d/f", "c")).unwrap();
    let expected = [one("/open/c", "mkdir"), one("/open/c/d", "mkdir"), one("/open/c/d/f", "create")];
    assert_eq!(told(&world), expected.concat());
    let ids: Vec<_> = world.events.iter().map(|batch| batch.tx.0).collect();
    assert_eq!(ids, [ids[0], ids[0] + 1, ids[0] + 2]);
    assert_eq!(world.view.counters().unwrap().last_tx.0, ids[2]);
    world.mkdirs("ann", "/open/a/b", 0o755).unwrap();
    assert_eq!(told(&world), Vec::<Vec<_>>::new(), "nothing was made");
}

#[test]
fn a_files_life_is_told() {
    let mut world = World::new();
    let file = world.file("ann", "/open/f", &[BLOCK, 10]);
    assert_eq!(told(&world), one("/open/f", "close"));
    let close = world.events[0].events[0].clone();
    assert_eq!(close.kind, EventKind::Close { length: Some(BLOCK + 10), mtime: world.now });
    world
        .run(
            "ann",
            &Command::Rename {
                from: path("/open/f"),
                to: path("/open/g"),
                mode: RenameMode::NoReplace,
                to_trash: false,
            },
        )
        .unwrap();
    assert_eq!(told(&world), one("/open/f", "rename"));
    world.pass(Duration::from_secs(1));
    world.run("ann", &chmod("/open/g", 0o600)).unwrap();
    assert_eq!(told(&world), one("/open/g", "mode"));
    world.run("ann", &chmod("/open/g", 0o600)).unwrap();
    assert_eq!(world.events, [], "nothing changed");
    let replication = Command::SetReplication { path: path("/open/g"), replication: 2 };
    for _ in 0..2 {
        world.run("ann", &replication).unwrap();
        assert_eq!(told(&world), one("/open/g", "replication"), "HDFS tells it each time");
    }
    let times = Command::SetTimes { path: path("/open/g"), mtime: Some(Millis(5)), atime: None };
    world.run("ann", &times).unwrap();
    assert_eq!(told(&world), one("/open/g", "times"));
    let by_id: FsPath = path(&format!("/.reserved/.inodes/{}", file.id));
    world.run("ann", &Command::Delete { path: by_id, recursive: false }).unwrap();
    assert_eq!(told(&world), one("/open/g", "unlink"), "by the path where it really lies");
}

#[test]
fn an_overwritten_file_is_told_as_one_event() {
    let mut world = World::new();
    let old = world.file("ann", "/open/f", &[10]);
    let mut again = create("/open/f", "c");
    if let Command::Create { overwrite, .. } = &mut again {
        *overwrite = true;
    }
    world.run("ann", &again).unwrap();
    assert_eq!(told(&world), one("/open/f", "overwrite"));
    let EventKind::Create(made) = &world.events[0].events[0].kind else { panic!("{:?}", world.events) };
    assert_eq!(made.replaced, Some(old.id));
}

#[test]
fn a_concat_is_one_batch() {
    let mut world = World::new();
    for name in ["t", "a", "b"] {
        world.file("ann", &format!("/open/{name}"), &[10]);
    }
    let sources = vec![path("/open/b"), path("/open/a")];
    world.run("ann", &Command::Concat { target: path("/open/t"), sources }).unwrap();
    let expected =
        [("/open/t", "append"), ("/open/b", "unlink"), ("/open/a", "unlink"), ("/open/t", "close")];
    assert_eq!(told(&world), [expected.map(|(path, kind)| (path.to_owned(), kind))]);
}

#[test]
fn the_contents_version_changes_with_the_bytes_alone() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[BLOCK]);
    let content = |world: &World| world.inode("/open/f").unwrap().file().unwrap().content;
    let first = content(&world);
    world.run("ann", &chmod("/open/f", 0o600)).unwrap();
    world.run("ann", &Command::SetReplication { path: path("/open/f"), replication: 2 }).unwrap();
    world
        .run("ann", &Command::SetTimes { path: path("/open/f"), mtime: Some(Millis(5)), atime: None })
        .unwrap();
    assert_eq!(content(&world), first);
    let truncate = Command::Truncate { path: path("/open/f"), length: 0, client: "c".into() };
    world.run("ann", &truncate).unwrap();
    assert_eq!(told(&world), one("/open/f", "truncate"));
    let second = content(&world);
    assert!(second > first && world.events[0].events[0].content == second);
    world
        .run("ann", &Command::Append { path: path("/open/f"), client: "c".into(), new_block: false })
        .unwrap();
    assert_eq!(told(&world), one("/open/f", "append"));
    let file = FileRef { path: path("/open/f"), inode: None };
    let times = NewTimes::default();
    world.run("ann", &Command::Complete { file, client: "c".into(), last: None, times }).unwrap();
    assert_eq!(told(&world), one("/open/f", "close"));
    assert_eq!(content(&world), second, "nothing was written");
}
