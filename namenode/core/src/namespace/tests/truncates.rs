use std::time::Duration;

use steadfs_common::{FsErrorKind, GenStamp, ROOT_INODE};

use super::world::{BLOCK, World, append, chmod, complete, delete, of, path};
use crate::command::BlockRef;
use crate::record::{BlockState, Inode};
use crate::view::View;
use crate::{Command, Effect, Reply};

fn truncate(at: &str, length: u64, client: &str) -> Command {
    Command::Truncate { path: path(at), length, client: client.into() }
}

fn length(world: &World) -> u64 {
    world.inode("/open/f").unwrap().file().unwrap().length
}

fn is_open(world: &World) -> bool {
    world.inode("/open/f").unwrap().file().unwrap().under_construction
}

/// What the datanodes say of the last recovery that was asked for.
fn finish(world: &World, new_length: u64) -> Command {
    let (block, new_stamp) = *world.recoveries.last().unwrap();
    Command::CommitBlockSynchronization {
        block,
        new_stamp,
        new_length,
        close_file: true,
        delete_block: false,
        storages: world.nodes.storages.iter().map(|(_, storage)| *storage).take(2).collect(),
    }
}

/// Three blocks, the last of 10 bytes.
fn long(world: &mut World) -> Inode {
    world.file("ann", "/open/f", &[BLOCK, BLOCK, 10])
}

#[test]
fn whole_blocks_go_at_once() {
    for (to, left) in [(2 * BLOCK, 2), (BLOCK, 1), (0, 0)] {
        let mut world = World::new();
        long(&mut world);
        world.pass(Duration::from_secs(5));
        assert_eq!(world.run("ann", &truncate("/open/f", to, "c1")), Ok(Reply::Bool(true)));
        let inode = world.inode("/open/f").unwrap();
        let body = inode.file().unwrap();
        assert_eq!((body.length, body.blocks, body.under_construction), (to, left, false));
        assert_eq!(inode.mtime, world.now);
        assert_eq!(world.effects.len() as u32, 3 - left);
        assert!(world.effects.iter().all(|effect| matches!(effect, Effect::Removed { .. })));
        assert_eq!(world.view.totals(ROOT_INODE).space, 2 * to);
    }
}

#[test]
fn the_rest_of_a_block_goes_by_its_recovery() {
    let mut world = World::new();
    let file = long(&mut world);
    let block = world.view.file_block(file.id, 1).and_then(|id| world.view.block(id)).unwrap();
    assert_eq!(world.run("ann", &truncate("/open/f", BLOCK + 400, "c1")), Ok(Reply::Bool(false)));
    let (named, stamp) = *world.recoveries.last().unwrap();
    assert_eq!(named, BlockRef { id: block.id, stamp: block.stamp, length: BLOCK });
    let storages = world.nodes.storages.iter().map(|(_, storage)| *storage).take(2).collect();
    let recover = Effect::Recover {
        block: named,
        recovery_stamp: stamp,
        truncate_to: Some(400),
        storages,
        synced: BLOCK,
        unsure: false,
    };
    assert!(
        world.effects.contains(&recover) && world.effects.contains(&Effect::Reopened { block: block.id })
    );
    assert_eq!(world.view.lease(file.id).unwrap().holder, "c1");
    assert_eq!(length(&world), 2 * BLOCK, "the old length, until it is done");
    assert_eq!(world.view.totals(ROOT_INODE).space, 2 * 2 * BLOCK, "a block being cut counts as a whole one");

    world.run("hdfs", &finish(&world, 400)).unwrap();
    let inode = world.inode("/open/f").unwrap();
    let body = inode.file().unwrap();
    assert_eq!((body.length, body.blocks, body.under_construction), (BLOCK + 400, 2, false));
    let cut = world.view.block(block.id).unwrap();
    assert_eq!((cut.stamp, cut.length, cut.state), (stamp, 400, BlockState::Complete));
    assert_eq!(world.view.totals(ROOT_INODE).space, 2 * (BLOCK + 400));
    let held = BlockRef { id: block.id, stamp, length: 400 };
    assert!(
        world.effects.iter().any(|effect| matches!(effect, Effect::Held { block, .. } if *block == held))
    );
    assert_eq!(world.run("hdfs", &finish(&world, 400)), Ok(Reply::Done), "repeated");
    let Reply::Appended { last: Some(last), .. } = world.run("ann", &append("/open/f", "c1")).unwrap() else {
        panic!()
    };
    assert_eq!((last.block.length, last.offset), (400, BLOCK));
}

#[test]
fn lengths_are_compared_in_hdfs_words() {
    let mut world = World::new();
    long(&mut world);
    assert_eq!(world.run("ann", &truncate("/open/f", 2 * BLOCK + 10, "c1")), Ok(Reply::Bool(true)));
    assert!(world.effects.is_empty());
    let error = world.run("ann", &truncate("/open/f", 2 * BLOCK + 11, "c1")).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::InvalidArgument);
    let words = "Cannot truncate to a larger file size. Current size: 2010, truncate size: 2011.";
    assert_eq!(error.message(), words);
    let words = world.words("ann", &truncate("/open/f", -7_i64 as u64, "c1"));
    assert_eq!(words, "Cannot truncate to a negative file size: -7.");
    assert_eq!(world.kind("ann", &truncate("/open", 0, "c1")), FsErrorKind::IsADirectory);
    assert_eq!(world.kind("ann", &truncate("/open/none", 0, "c1")), FsErrorKind::NotFound);
    assert_eq!(world.kind("ann", &truncate("/open/f", 0, "NN_Recovery")), FsErrorKind::InvalidArgument);
    world.run("ann", &chmod("/open/f", 0o644)).unwrap();
    assert!(world.words("eve", &truncate("/open/f", 0, "c1")).contains("access=WRITE"));
}

#[test]
fn a_truncate_that_runs_is_told_from_another() {
    let mut world = World::new();
    let file = long(&mut world);
    world.run("ann", &truncate("/open/f", 400, "c1")).unwrap();
    for client in ["c1", "c2"] {
        assert_eq!(world.run("ann", &truncate("/open/f", 400, client)), Ok(Reply::Bool(false)), "the same");
    }
    assert_eq!(world.kind("ann", &truncate("/open/f", 300, "c1")), FsErrorKind::AlreadyBeingCreated);
    let words = world.words("ann", &truncate("/open/f", 300, "c2"));
    assert!(words.starts_with("Failed to TRUNCATE_FILE /open/f for c2"), "{words}");
    assert_eq!(world.kind("ann", &append("/open/f", "c2")), FsErrorKind::RecoveryInProgress);
    assert_eq!(world.recoveries.len(), 1);
    let fsync = Command::Fsync {
        file: of(&file),
        client: "c1".into(),
        last_block_length: Some(2_000),
        synced: Some(true),
    };
    assert_eq!(world.run("ann", &fsync), Ok(Reply::Done));
    assert_eq!(length(&world), BLOCK, "who truncates does not write");
    let (block, _) = *world.recoveries.last().unwrap();
    assert_eq!(world.kind("ann", &complete(&file, Some(block))), FsErrorKind::Refused);
}

#[test]
fn a_truncation_ends_with_its_length_or_not_at_all() {
    let mut world = World::new();
    long(&mut world);
    world.run("ann", &truncate("/open/f", 400, "c1")).unwrap();
    for wrong in [0, 399, BLOCK] {
        assert_eq!(world.kind("hdfs", &finish(&world, wrong)), FsErrorKind::Refused);
    }
    let mut nothing = finish(&world, 0);
    if let Command::CommitBlockSynchronization { delete_block, .. } = &mut nothing {
        *delete_block = true;
    }
    assert_eq!(world.kind("hdfs", &nothing), FsErrorKind::Refused, "the block is never taken for empty");
    world.run("hdfs", &finish(&world, 400)).unwrap();
    assert_eq!((length(&world), is_open(&world)), (400, false));
}

#[test]
fn a_truncation_is_asked_for_again_with_its_length() {
    let mut world = World::new();
    let file = long(&mut world);
    world.run("ann", &truncate("/open/f", 400, "c1")).unwrap();
    let old = finish(&world, 400);
    let recover = Command::RecoverLease { path: path("/open/f") };
    assert_eq!(world.run("ann", &recover), Ok(Reply::Bool(false)));
    assert_eq!(world.recoveries.len(), 1, "asked a moment ago");
    world.pass(Duration::from_secs(31));
    assert_eq!(world.run("ann", &recover), Ok(Reply::Bool(false)));
    assert_eq!(world.recoveries.len(), 2);
    assert!(
        world
            .effects
            .iter()
            .any(|effect| { matches!(effect, Effect::Recover { truncate_to: Some(400), .. }) })
    );
    assert_eq!(world.view.lease(file.id).unwrap().holder, "NN_Recovery");
    assert_eq!(world.kind("hdfs", &old), FsErrorKind::Refused, "the first one's stamp is over");
    world.run("hdfs", &finish(&world, 400)).unwrap();
    assert_eq!((length(&world), is_open(&world)), (400, false));
}

#[test]
fn a_file_of_a_writer_that_is_gone_is_taken_over_first() {
    let mut world = World::new();
    let file = world.create("ann", "/open/f").unwrap();
    let block = world.add_block(&file, None).unwrap();
    let named = BlockRef { length: 500, ..super::world::named(&block) };
    world.nodes.reports.set(false);
    assert!(!world.complete(&file, Some(named)).unwrap());
    world.nodes.reports.set(true);
    assert_eq!(world.kind("ann", &truncate("/open/f", 5, "c2")), FsErrorKind::AlreadyBeingCreated);
    world.pass(Duration::from_secs(61));
    let error = world.run("ann", &truncate("/open/f", 501, "c2")).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::InvalidArgument);
    assert!(!is_open(&world), "taken from its writer all the same");
    assert_eq!(world.run("ann", &truncate("/open/f", 5, "c2")), Ok(Reply::Bool(false)));
    world.run("hdfs", &finish(&world, 5)).unwrap();
    assert_eq!(length(&world), 5);
}

#[test]
fn a_file_being_truncated_is_deleted() {
    let mut world = World::new();
    long(&mut world);
    world.run("ann", &truncate("/open/f", 400, "c1")).unwrap();
    world.run("ann", &delete("/open/f", false)).unwrap();
    assert_eq!(world.kind("hdfs", &finish(&world, 400)), FsErrorKind::Refused);
    assert_eq!(world.view.totals(ROOT_INODE).space, 0);
}

#[test]
fn a_truncation_waits_for_replicas_that_nobody_has_reported() {
    let mut world = World::new();
    let file = long(&mut world);
    world.nodes.reports.set(false);
    world.run("ann", &truncate("/open/f", 400, "c1")).unwrap();
    let block = world.view.file_block(file.id, 0).and_then(|id| world.view.block(id)).unwrap();
    let BlockState::UnderConstruction { expected, recovery: Some(recovery), .. } = block.state else {
        panic!()
    };
    assert!(expected.is_empty() && recovery.truncate_to == Some(400));
    world.pass(Duration::from_secs(31));
    assert_eq!(
        world.run("ann", &Command::RecoverLease { path: path("/open/f") }),
        Ok(Reply::Bool(false)),
        "its bytes are somewhere: it is not closed without them"
    );
    assert!(recovery.stamp > GenStamp(0) && length(&world) == BLOCK);
}
