//! Content replaced whole, and the sessions of mounts.

use std::time::Duration;

use steadfs_common::{FsErrorKind, InodeId, ROOT_INODE, TxId};

use super::world::{BLOCK, World, chmod, path};
use crate::command::{BlockRef, FileRef, NewTimes};
use crate::locks::SessionId;
use crate::namespace::lease::due;
use crate::namespace::quota::Bound;
use crate::namespace::read::{full_path, is_detached};
use crate::record::Inode;
use crate::view::View;
use crate::{Command, Effect, Reply};

fn stage(world: &mut World, who: &str, at: &str) -> Inode {
    let command = Command::Stage { path: path(at), client: "c1".into(), block_size: 0 };
    match world.run(who, &command) {
        Ok(Reply::File(inode)) => inode,
        other => panic!("{other:?}"),
    }
}

/// Writes blocks of these lengths; gives the last one as its writer knows it.
fn fill(world: &mut World, staged: &Inode, lengths: &[u64]) -> Option<BlockRef> {
    let mut previous = None;
    for length in lengths {
        let command = Command::AddBlock {
            file: FileRef { path: path("/whatever"), inode: Some(staged.id) },
            client: "c1".into(),
            previous,
            excluded: Vec::new(),
            favored: Vec::new(),
            avoid_local: false,
        };
        let Ok(Reply::Block(placed)) = world.run("ann", &command) else { panic!("no block") };
        previous = Some(BlockRef { id: placed.block.id, stamp: placed.block.stamp, length: *length });
    }
    previous
}

fn replace(at: &str, staged: InodeId, last: Option<BlockRef>, expected: Option<TxId>) -> Command {
    Command::ReplaceContent { path: path(at), staged, client: "c1".into(), last, expected }
}

fn content(world: &World, at: &str) -> TxId {
    world.inode(at).unwrap().file().unwrap().content
}

#[test]
fn the_content_is_replaced_at_once_and_nothing_else() {
    let mut world = World::new();
    let file = world.file("ann", "/open/f", &[BLOCK, 10]);
    world.run("ann", &chmod("/open/f", 0o640)).unwrap();
    let old: Vec<_> = world.view.file_blocks(file.id, 0, 10);
    let version = content(&world, "/open/f");
    let totals = world.view.totals(ROOT_INODE);

    world.pass(Duration::from_secs(5));
    let staged = stage(&mut world, "ann", "/open/f");
    assert_eq!((world.events.len(), full_path(&world.view, staged.id)), (0, None), "nobody sees it");
    assert!(!is_detached(&world.view, staged.id));
    let last = fill(&mut world, &staged, &[BLOCK, BLOCK, 7]);
    assert_eq!(world.view.totals(ROOT_INODE).bytes, totals.bytes, "no folder counts it");
    assert_eq!(world.inode("/open/f").unwrap().file().unwrap().length, BLOCK + 10);

    let command = replace("/open/f", staged.id, last, Some(version));
    assert_eq!(world.run("ann", &command), Ok(Reply::Bool(true)));
    let removed: Vec<_> = old.iter().rev().map(|block| Effect::Removed { block: *block }).collect();
    assert!(removed.iter().all(|effect| world.effects.contains(effect)), "{:?}", world.effects);
    let now = world.inode("/open/f").unwrap();
    let body = now.file().unwrap();
    assert_eq!((now.id, now.mode, &*now.owner), (file.id, 0o640, "ann"));
    assert_eq!((now.mtime, body.length, body.blocks), (world.now, 2 * BLOCK + 7, 3));
    assert!(body.content > version && !body.under_construction);
    assert_eq!((world.by_id(staged.id), world.view.lease(staged.id)), (None, None));
    let sum = world.view.totals(ROOT_INODE);
    assert_eq!((sum.files, sum.bytes), (totals.files, 2 * BLOCK + 7));

    // The answer was lost: the call comes again.
    assert_eq!(world.run("ann", &command), Ok(Reply::Bool(true)));
    assert_eq!(world.events, []);
}

#[test]
fn a_file_is_emptied_too() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[10]);
    let staged = stage(&mut world, "ann", "/open/f");
    world.run("ann", &replace("/open/f", staged.id, None, None)).unwrap();
    assert_eq!(world.inode("/open/f").unwrap().file().unwrap().length, 0);
    assert_eq!(world.view.totals(ROOT_INODE).bytes, 0);
}

#[test]
fn who_comes_late_is_refused() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[10]);
    let version = content(&world, "/open/f");
    let staged = stage(&mut world, "ann", "/open/f");
    let last = fill(&mut world, &staged, &[5]);
    let append = Command::Append { path: path("/open/f"), client: "c2".into(), new_block: false };
    world.run("ann", &append).unwrap();
    let command = replace("/open/f", staged.id, last, Some(version));
    assert_eq!(world.kind("ann", &command), FsErrorKind::AlreadyBeingCreated);
    let truncate = Command::Truncate { path: path("/open/g"), length: 0, client: "c3".into() };
    world.file("ann", "/open/g", &[10]);
    let other = stage(&mut world, "ann", "/open/g");
    let old = content(&world, "/open/g");
    world.run("ann", &truncate).unwrap();
    let late = replace("/open/g", other.id, None, Some(old));
    assert_eq!(world.kind("ann", &late), FsErrorKind::ContentChanged);
    assert_eq!(world.run("ann", &replace("/open/g", other.id, None, None)), Ok(Reply::Bool(true)), "forced");
    // What is staged belongs to its file, its writer, and its lease.
    assert_eq!(world.kind("ann", &replace("/open/g", staged.id, last, None)), FsErrorKind::InvalidArgument);
    let eve = replace("/open/f", staged.id, last, None);
    world.run("ann", &chmod("/open/f", 0o600)).unwrap();
    assert_eq!(world.kind("eve", &eve), FsErrorKind::AccessDenied);
    let foreign = Command::DropStaged { staged: staged.id, client: "c2".into() };
    assert_eq!(world.kind("ann", &foreign), FsErrorKind::LeaseExpired);
    let complete = Command::Complete {
        file: FileRef { path: path("/open/f"), inode: Some(staged.id) },
        client: "c1".into(),
        last,
        times: NewTimes::default(),
    };
    assert_eq!(world.kind("ann", &complete), FsErrorKind::InvalidArgument);
}

#[test]
fn it_waits_for_its_replicas() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[10]);
    let staged = stage(&mut world, "ann", "/open/f");
    let last = fill(&mut world, &staged, &[5]);
    world.nodes.reports.set(false);
    let command = replace("/open/f", staged.id, last, None);
    assert_eq!(world.run("ann", &command), Ok(Reply::Bool(false)));
    assert_eq!(world.inode("/open/f").unwrap().file().unwrap().length, 10, "the old content, whole");
    world.nodes.reports.set(true);
    assert_eq!(world.run("ann", &command), Ok(Reply::Bool(true)));
    assert_eq!(world.inode("/open/f").unwrap().file().unwrap().length, 5);
}

#[test]
fn what_nobody_finishes_goes_with_its_lease() {
    let mut world = World::new();
    let file = world.file("ann", "/open/f", &[10]);
    let staged = stage(&mut world, "ann", "/open/f");
    fill(&mut world, &staged, &[BLOCK, 5]);
    world.pass(world.settings.lease_hard_limit + Duration::from_secs(1));
    let (found, _) = due(&world.view, &world.renewals, &world.settings, world.steady, None, 10);
    assert_eq!(found, [staged.id]);
    assert_eq!(world.run("hdfs", &Command::ExpireLease { file: staged.id }), Ok(Reply::Bool(true)));
    assert_eq!((world.by_id(staged.id), world.view.counters().unwrap().blocks), (None, 1));

    // Or with its writer's word; and the file may be gone by then.
    let staged = stage(&mut world, "ann", "/open/f");
    fill(&mut world, &staged, &[5]);
    world.run("ann", &Command::Delete { path: path("/open/f"), recursive: false }).unwrap();
    assert!(is_detached(&world.view, staged.id), "{}", file.id);
    let drop = Command::DropStaged { staged: staged.id, client: "c1".into() };
    for _ in 0..2 {
        assert_eq!(world.run("ann", &drop), Ok(Reply::Done));
    }
    assert_eq!(world.view.counters().unwrap().blocks, 0);
}

#[test]
fn sessions_are_opened_and_closed_by_their_user() {
    let mut world = World::new();
    let open = Command::OpenLockSession { client: "mount".into() };
    let Ok(Reply::Session(first)) = world.run("ann", &open) else { panic!("no session") };
    let Ok(Reply::Session(second)) = world.run("bob", &open) else { panic!("no session") };
    assert!(second > first);
    let stored: Vec<SessionId> = world.view.lock_sessions(None, 10).into_iter().map(|(id, _)| id).collect();
    assert_eq!(stored, [first, second]);
    let close = |session| Command::CloseLockSession { session };
    assert_eq!(world.kind("bob", &close(first)), FsErrorKind::AccessDenied);
    assert_eq!(world.run("ann", &close(first)), Ok(Reply::Done));
    assert_eq!(world.run("ann", &close(first)), Ok(Reply::Done));
    assert_eq!(world.run("hdfs", &close(second)), Ok(Reply::Done));
    assert_eq!(world.view.lock_sessions(None, 10), []);
}

#[test]
fn quotas_count_what_will_be() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o755).unwrap();
    world.file("ann", "/open/d/f", &[BLOCK, BLOCK]);
    // Two replicas of three blocks.
    let quota = Command::SetQuota {
        path: path("/open/d"),
        names: Bound::Keep,
        space: Bound::Set(6 * BLOCK),
        kind: None,
    };
    world.run("hdfs", &quota).unwrap();
    let staged = stage(&mut world, "ann", "/open/d/f");
    let last = fill(&mut world, &staged, &[BLOCK, BLOCK, BLOCK]);
    let more = Command::AddBlock {
        file: FileRef { path: path("/open/d/f"), inode: Some(staged.id) },
        client: "c1".into(),
        previous: last,
        excluded: Vec::new(),
        favored: Vec::new(),
        avoid_local: false,
    };
    assert_eq!(world.kind("ann", &more), FsErrorKind::SpaceQuota, "said while it is written");
    world.run("ann", &replace("/open/d/f", staged.id, last, None)).unwrap();
    let less = stage(&mut world, "ann", "/open/d/f");
    let last = fill(&mut world, &less, &[7]);
    let tight =
        Command::SetQuota { path: path("/open/d"), names: Bound::Keep, space: Bound::Set(1), kind: None };
    world.run("hdfs", &tight).unwrap();
    world.run("ann", &replace("/open/d/f", less.id, last, None)).unwrap();
    let more = stage(&mut world, "ann", "/open/d/f");
    let loose =
        Command::SetQuota { path: path("/open/d"), names: Bound::Keep, space: Bound::Clear, kind: None };
    world.run("hdfs", &loose).unwrap();
    let last = fill(&mut world, &more, &[8]);
    world.run("hdfs", &tight).unwrap();
    assert_eq!(world.kind("ann", &replace("/open/d/f", more.id, last, None)), FsErrorKind::SpaceQuota);
    assert_eq!(world.inode("/open/d/f").unwrap().file().unwrap().length, 7, "the old content, whole");
}
