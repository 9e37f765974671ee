use std::time::Duration;

use steadfs_common::{FsErrorKind, ROOT_INODE};

use super::world::{BLOCK, World, chmod, chown, create, delete, rename, user};
use crate::command::RenameMode;
use crate::namespace::subtree::{Clearance, INLINE_ROWS, Walk};
use crate::record::Totals;
use crate::view::View;
use crate::{Command, Effect, Reply};

#[test]
fn what_is_not_there_is_false() {
    let mut world = World::new();
    let before = world.view.clone();
    assert_eq!(world.run("ann", &delete("/open/none", true)), Ok(Reply::Bool(false)));
    assert_eq!(world.run("ann", &delete("/none/x", true)), Ok(Reply::Bool(false)));
    assert_eq!(world.run("hdfs", &delete("/", true)), Ok(Reply::Bool(false)));
    assert_eq!(world.view, before);
    assert_eq!(world.kind("hdfs", &delete("/", false)), FsErrorKind::NotEmpty);
}

#[test]
fn a_filled_folder_wants_recursion() {
    let mut world = World::new();
    world.file("ann", "/open/d/f", &[BLOCK]);
    let error = world.run("ann", &delete("/open/d", false)).unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (FsErrorKind::NotEmpty, "`/open/d is non empty': Directory is not empty")
    );
    world.pass(Duration::from_secs(1));
    assert_eq!(world.run("ann", &delete("/open/d", true)), Ok(Reply::Bool(true)));
    assert_eq!(world.inode("/open").unwrap().mtime, world.now);
    let totals = world.view.totals(ROOT_INODE);
    let expected = Totals { directories: 1, guarded: totals.guarded, ..Totals::default() };
    assert_eq!(totals, expected, "given back at once");
}

#[test]
fn small_things_are_removed_at_once() {
    let mut world = World::new();
    let file = world.file("ann", "/open/f", &[BLOCK, 3]);
    world.mkdirs("ann", "/open/d", 0o755).unwrap();
    assert_eq!(world.run("ann", &delete("/open/f", false)), Ok(Reply::Bool(true)));
    assert!(matches!(world.effects[..], [Effect::Removed { .. }, Effect::Removed { .. }]));
    assert!(world.view.inode(file.id).is_none());
    assert_eq!(world.run("ann", &delete("/open/d", false)), Ok(Reply::Bool(true)));
    assert!(world.view.reclaims(1).is_empty());
}

#[test]
fn a_tree_is_reclaimed_in_bounded_steps() {
    let mut world = World::new();
    for index in 0..5 {
        world.file("ann", &format!("/open/d/x/f{index}"), &[BLOCK, BLOCK, 1]);
        world.mkdirs("ann", &format!("/open/d/y{index}/z"), 0o755).unwrap();
    }
    world.create("ann", "/open/d/open").unwrap();
    world.run("ann", &delete("/open/d", true)).unwrap();
    world.mkdirs("ann", "/open/d", 0o755).unwrap();
    let before = world.view.records().len();
    let mut steps = 0;
    let mut left = before;
    loop {
        let more = world.run("hdfs", &Command::Reclaim { limit: 4 }).unwrap() == Reply::Bool(true);
        steps += 1;
        let now = world.view.records().len();
        assert!(left - now.min(left) <= 4 * 5, "an inode takes at most five records with it");
        left = now;
        if !more {
            break;
        }
        assert!(steps < 100);
    }
    assert!(steps > 5);
    assert_eq!(world.view.counters().unwrap().blocks, 0);
    assert!(world.view.leases(None, 10).is_empty());
    assert_eq!(
        world.view.inode(world.inode("/open/d").unwrap().id).unwrap().name.as_ref().unwrap().as_str(),
        "d"
    );
    let inodes = world.view.records().keys().filter(|key| matches!(key, crate::Key::Inode(_))).count();
    assert_eq!(inodes, 3, "the root, /open and the new /open/d");
}

#[test]
fn a_step_goes_on_where_the_one_before_ended() {
    let mut world = World::new();
    for name in ["a", "b", "c", "d", "e"] {
        world.mkdirs("ann", &format!("/open/d/{name}"), 0o755).unwrap();
    }
    let folder = world.inode("/open/d").unwrap().id;
    world.run("ann", &delete("/open/d", true)).unwrap();
    let cursor = |world: &World| {
        let rows = world.view.reclaims(10);
        rows.into_iter().map(|(id, after)| (id, after.map(|name| name.to_string()))).collect::<Vec<_>>()
    };
    assert_eq!(cursor(&world), [(folder, None)]);
    for last in ["b", "d"] {
        assert_eq!(world.run("hdfs", &Command::Reclaim { limit: 2 }), Ok(Reply::Bool(true)));
        assert_eq!(cursor(&world), [(folder, Some(last.to_owned()))]);
    }
    assert_eq!(world.run("hdfs", &Command::Reclaim { limit: 2 }), Ok(Reply::Bool(false)));
    assert!(world.view.inode(folder).is_none());
}

#[test]
fn a_file_with_many_blocks_is_reclaimed_in_steps() {
    let mut world = World::new();
    let file = world.file("ann", "/open/f", &[BLOCK; 70]);
    world.run("ann", &delete("/open/f", false)).unwrap();
    assert!(world.effects.is_empty());
    assert!(world.view.inode(file.id).is_some());
    assert_eq!(world.run("hdfs", &Command::Reclaim { limit: 50 }), Ok(Reply::Bool(true)));
    assert_eq!(world.effects.len(), 50);
    assert_eq!(world.run("hdfs", &Command::Reclaim { limit: 50 }), Ok(Reply::Bool(false)));
    assert!(world.view.inode(file.id).is_none());
}

#[test]
fn deleting_wants_the_folder_above() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o755).unwrap();
    world.file("ann", "/open/d/f", &[]);
    let words = world.words("eve", &delete("/open/d/f", false));
    assert_eq!(
        words,
        "Permission denied: user=eve, access=WRITE, inode=\"/open/d\":ann:supergroup:drwxr-xr-x"
    );
    world.run("ann", &chmod("/open/d", 0o1777)).unwrap();
    assert!(world.words("eve", &delete("/open/d/f", false)).starts_with("Permission denied by sticky bit"));
    world.run("ann", &chmod("/open/d", 0o777)).unwrap();
    assert_eq!(world.run("eve", &delete("/open/d/f", false)), Ok(Reply::Bool(true)));
}

#[test]
fn deleting_a_tree_wants_every_filled_folder() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o777).unwrap();
    world.mkdirs("bob", "/open/d/bob", 0o755).unwrap();
    assert_eq!(world.run("ann", &rename("/open/d", "/open/e", RenameMode::Classic)), Ok(Reply::Bool(true)));
    world.file("bob", "/open/e/bob/f", &[]);
    assert_eq!(
        world.words("ann", &delete("/open/e", true)),
        "Permission denied: user=ann, access=ALL, inode=\"/open/e/bob\":bob:supergroup:drwxr-xr-x"
    );
    world.run("bob", &delete("/open/e/bob/f", false)).unwrap();
    assert_eq!(
        world.run("ann", &delete("/open/e", true)),
        Ok(Reply::Bool(true)),
        "empty folders are not asked"
    );

    world.mkdirs("bob", "/open/s", 0o1777).unwrap();
    world.file("bob", "/open/s/f", &[]);
    let words = world.words("eve", &delete("/open/s", true));
    assert!(
        words.starts_with("Permission denied by sticky bit: user=eve, path=\"/open/s/f\":bob"),
        "{words}"
    );
    assert_eq!(world.run("bob", &delete("/open/s", true)), Ok(Reply::Bool(true)));
}

/// `/open/d` with more entries than a plan looks at by itself, and the interesting ones last.
fn big() -> World {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d/y", 0o755).unwrap();
    world.mkdirs("ann", "/open/d/z", 0o700).unwrap();
    world.file("ann", "/open/d/y/f", &[]);
    for count in 0..INLINE_ROWS {
        let mut tx = crate::Tx::new(&world.view);
        // Written past `World::run`, which checks everything each time.
        let caller = user("ann");
        let ctx = crate::Context {
            now: world.now,
            steady: world.steady,
            even: world.even,
            seed: 0,
            caller: &caller,
            settings: &world.settings,
            cluster: &world.nodes,
            renewals: &world.renewals,
            safe_mode: None,
            clearance: None,
            open: &crate::namespace::kept::NothingOpen,
        };
        let at = format!("/open/d/x{count}");
        crate::namespace::plan(&mut tx, &ctx, &super::world::mkdirs(&at, 0o755)).unwrap();
        let changes = tx.into_changes();
        world.view.apply(changes);
    }
    world
}

fn walk(world: &World, who: &str, command: &Command) -> Clearance {
    let caller = user(who);
    let mut walk = Walk::begin(&world.view, &caller, &world.settings, command).unwrap();
    let mut steps = 0;
    loop {
        steps += 1;
        if let Some(clearance) = walk.step(&world.view, &caller, &world.settings, 100).unwrap() {
            assert!(steps > 10, "{steps}");
            return clearance;
        }
    }
}

#[test]
fn a_big_tree_wants_a_walk_that_is_still_true() {
    let mut world = big();
    let command = delete("/open/d", true);
    assert_eq!(world.kind("ann", &command), FsErrorKind::Retriable);
    world.clearance = Some(walk(&world, "ann", &command));
    let trusted = world.clearance.clone();

    // What cannot change a walk's end does not end its truth.
    world.run("ann", &create("/open/d/y/g", "c1")).unwrap();
    world.run("ann", &chmod("/open/d/y/g", 0)).unwrap();
    let plan_only = |world: &mut World| {
        let before = world.view.clone();
        let result = world.run("ann", &command);
        world.view = before;
        result
    };
    assert_eq!(plan_only(&mut world), Ok(Reply::Bool(true)));

    // What can, does.
    let untrusted: [&[(&str, Command)]; 5] = [
        &[("ann", chmod("/open/d/y", 0o555))],
        &[("hdfs", chown("/open/d/y", "bob"))],
        &[("ann", create("/open/d/z/f", "c1"))],
        &[("ann", super::world::mkdirs("/open/d/z/new/deep", 0o755))],
        &[
            ("bob", super::world::mkdirs("/open/bob/x", 0o755)),
            ("hdfs", rename("/open/bob", "/open/d/zz", RenameMode::Classic)),
        ],
    ];
    for changes in untrusted {
        let before = world.view.clone();
        for (who, change) in changes {
            world.run(who, change).unwrap();
        }
        assert_eq!(world.kind("ann", &command), FsErrorKind::Retriable, "{changes:?}");
        // The last resort ends with a real answer, and the walk's one: only new folders of ann's may go.
        let walked = world.clearance.replace(Clearance::WalkWhole);
        let may = changes.iter().all(|(who, _)| *who == "ann")
            && !matches!(changes[0].1, Command::SetPermission { .. });
        match world.run("ann", &command) {
            Ok(reply) => assert!(may && reply == Reply::Bool(true), "{changes:?}"),
            Err(error) => assert!(!may && error.kind() == FsErrorKind::AccessDenied, "{changes:?}"),
        }
        world.clearance = walked;
        world.view = before;
    }
    let bob = user("bob");
    assert!(Walk::begin(&world.view, &bob, &world.settings, &command).is_some());
    assert_ne!(world.kind("bob", &command), FsErrorKind::NotFound, "another's clearance is not his");
    world.clearance = trusted;
    assert_eq!(world.run("ann", &command), Ok(Reply::Bool(true)));
    world.clearance = None;
    while world.run("hdfs", &Command::Reclaim { limit: 500 }).unwrap() == Reply::Bool(true) {}
}

#[test]
fn a_walk_finds_what_is_forbidden() {
    let mut world = big();
    world.run("hdfs", &chown("/open/d/y", "bob")).unwrap();
    let (command, ann) = (delete("/open/d", true), user("ann"));
    let mut walk = Walk::begin(&world.view, &ann, &world.settings, &command).unwrap();
    let error = loop {
        match walk.step(&world.view, &ann, &world.settings, 64) {
            Ok(None) => {}
            Ok(Some(_)) => panic!("it may not"),
            Err(error) => break error,
        }
    };
    assert_eq!(
        error.message(),
        "Permission denied: user=ann, access=ALL, inode=\"/open/d/y\":bob:supergroup:drwxr-xr-x"
    );
    assert!(Walk::begin(&world.view, &user("hdfs"), &world.settings, &command).is_none());
    assert!(Walk::begin(&world.view, &ann, &world.settings, &delete("/open/none", true)).is_none());
}
