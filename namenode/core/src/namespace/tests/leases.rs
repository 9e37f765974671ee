use std::time::Duration;

use steadfs_common::{FsErrorKind, GenStamp, InodeId};

use super::world::{BLOCK, World, add_block, append, create, named, of, path};
use crate::command::{BlockRef, PlacedBlock};
use crate::namespace::lease::{RECOVERY_HOLDER, RECOVERY_RETRY, due};
use crate::record::{BlockState, Inode};
use crate::view::View;
use crate::{Command, Effect, Reply};

const SOFT: Duration = Duration::from_secs(61);
const HARD: Duration = Duration::from_secs(20 * 60 + 1);

fn recover(at: &str) -> Command {
    Command::RecoverLease { path: path(at) }
}

/// `/open/f`, whose writer has the first block open.
fn written(world: &mut World) -> (Inode, PlacedBlock) {
    let file = world.create("ann", "/open/f").unwrap();
    let block = world.add_block(&file, None).unwrap();
    (file, block)
}

fn synchronized(block: &PlacedBlock, stamp: GenStamp, length: u64) -> Command {
    Command::CommitBlockSynchronization {
        block: named(block),
        new_stamp: stamp,
        new_length: length,
        close_file: true,
        delete_block: false,
        storages: block.storages[..1].to_vec(),
    }
}

fn due_now(world: &World) -> Vec<InodeId> {
    due(&world.view, &world.renewals, &world.settings, world.steady, None, 10).0
}

#[test]
fn a_file_that_is_written_is_not_given_away() {
    let mut world = World::new();
    world.create("ann", "/open/f").unwrap();
    for (command, cause) in
        [(create("/open/f", "c2"), "CREATE_FILE"), (append("/open/f", "c2"), "APPEND_FILE")]
    {
        let error = world.run("ann", &command).unwrap_err();
        assert_eq!(error.kind(), FsErrorKind::AlreadyBeingCreated);
        assert_eq!(
            error.message(),
            format!(
                "Failed to {cause} /open/f for c2 on 10.0.0.7 because this file lease is currently owned by c1 on \
                 10.0.0.7"
            )
        );
    }
    let error = world.run("ann", &append("/open/f", "c1")).unwrap_err();
    assert_eq!(
        error.message(),
        "Failed to APPEND_FILE /open/f for c1 on 10.0.0.7 because c1 is already the current lease holder."
    );
}

#[test]
fn a_jump_of_the_time_of_day_ends_no_lease() {
    let mut world = World::new();
    let file = world.create("ann", "/open/f").unwrap();
    world.now = world.now.plus(2 * HARD);
    let error = world.run("ann", &append("/open/f", "c2")).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::AlreadyBeingCreated);
    assert_eq!(world.run("hdfs", &Command::ExpireLease { file: file.id }), Ok(Reply::Bool(false)));
    assert!(world.view.lease(file.id).is_some());
}

#[test]
fn past_the_soft_limit_another_writer_starts_a_recovery() {
    let mut world = World::new();
    let (file, block) = written(&mut world);
    world.pass(SOFT);
    let error = world.run("ann", &append("/open/f", "c2")).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::RecoveryInProgress);
    assert!(error.message().ends_with("because lease recovery is in progress. Try again later."), "{error}");
    assert_eq!(world.recoveries.len(), 1, "the changes of the failed call are kept");
    assert_eq!(world.view.lease(file.id).unwrap().holder, RECOVERY_HOLDER);
    let error = world.run("ann", &add_block(&file, Some(named(&block)))).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::LeaseExpired, "the old writer is out");

    let stamp = world.recoveries[0].1;
    assert_eq!(world.run("hdfs", &synchronized(&block, stamp, 40)), Ok(Reply::Done));
    let closed = world.inode("/open/f").unwrap();
    assert_eq!(closed.file().unwrap().length, 40);
    assert!(!closed.file().unwrap().under_construction);
    let Reply::Appended { last, .. } = world.run("ann", &append("/open/f", "c2")).unwrap() else { panic!() };
    assert_eq!(last.unwrap().block.stamp, stamp);
}

#[test]
fn a_file_between_blocks_is_taken_at_once() {
    let mut world = World::new();
    world.create("ann", "/open/f").unwrap();
    world.pass(SOFT);
    let Reply::Appended { inode, last } = world.run("ann", &append("/open/f", "c2")).unwrap() else {
        panic!()
    };
    assert!(last.is_none() && inode.file().unwrap().under_construction);
    assert_eq!(world.view.lease(inode.id).unwrap().holder, "c2");

    world.pass(SOFT);
    let error = world.run("ann", &create("/open/f", "c3")).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::AlreadyExists);
    assert!(world.view.lease(inode.id).is_none(), "closed, though the create failed");
}

#[test]
fn a_holder_nobody_heard_of_is_fresh() {
    let mut world = World::new();
    world.create("ann", "/open/f").unwrap();
    world.renewals.clear();
    world.pass(HARD);
    assert_eq!(world.kind("ann", &append("/open/f", "c2")), FsErrorKind::AlreadyBeingCreated);
    assert!(due_now(&world).is_empty());
}

#[test]
fn recover_lease_is_forced_and_polled() {
    let mut world = World::new();
    let (file, block) = written(&mut world);
    assert_eq!(world.words("ann", &recover("/open/none")), "File does not exist: /open/none");
    assert_eq!(world.words("ann", &recover("/open")), "Path is not a file: /open");
    assert_eq!(world.kind("eve", &recover("/open/f")), FsErrorKind::AccessDenied);
    assert_eq!(world.run("ann", &recover("/open/f")), Ok(Reply::Bool(false)));
    let [(asked, stamp)] = world.recoveries[..] else { panic!() };
    assert_eq!(asked, named(&block));
    let before = world.view.clone();
    assert_eq!(world.run("ann", &recover("/open/f")), Ok(Reply::Bool(false)));
    assert_eq!(world.view, before, "asked a moment ago: nothing changes");
    world.pass(RECOVERY_RETRY);
    assert_eq!(world.run("ann", &recover("/open/f")), Ok(Reply::Bool(false)));
    assert_eq!(world.recoveries.len(), 2);
    let newer = world.recoveries[1].1;
    assert!(newer > stamp);
    let words = world.words("hdfs", &synchronized(&block, stamp, 40));
    assert_eq!(
        words,
        "The recovery id 1002 does not match current recovery id 1003 for block blk_1073741825_1001"
    );
    world.run("hdfs", &synchronized(&block, newer, 40)).unwrap();
    assert_eq!(world.run("hdfs", &synchronized(&block, newer, 40)), Ok(Reply::Done), "told twice");
    assert_eq!(world.run("ann", &recover("/open/f")), Ok(Reply::Bool(true)));
    assert!(world.view.lease(file.id).is_none());
}

#[test]
fn a_recovery_that_found_nothing_drops_the_block() {
    let mut world = World::new();
    let (file, block) = written(&mut world);
    world.run("ann", &recover("/open/f")).unwrap();
    let nothing = Command::CommitBlockSynchronization {
        block: named(&block),
        new_stamp: world.recoveries[0].1,
        new_length: 0,
        close_file: true,
        delete_block: true,
        storages: Vec::new(),
    };
    assert_eq!(world.run("hdfs", &nothing), Ok(Reply::Done));
    let body = world.by_id(file.id).unwrap();
    let body = body.file().unwrap();
    assert_eq!((body.blocks, body.length, body.under_construction), (0, 0, false));
    assert_eq!(world.run("hdfs", &nothing), Ok(Reply::Done), "told twice");
    let found = synchronized(&block, GenStamp(1_002), 3);
    assert_eq!(world.words("hdfs", &found), "Block (=blk_1073741825_1001) not found");
}

#[test]
fn a_recovery_does_not_lose_what_was_acknowledged() {
    let mut world = World::new();
    let (file, block) = written(&mut world);
    let synced = Command::Fsync {
        file: of(&file),
        client: "c1".into(),
        last_block_length: Some(7),
        synced: Some(true),
    };
    world.run("ann", &synced).unwrap();
    world.run("ann", &recover("/open/f")).unwrap();
    let stamp = world.recoveries[0].1;
    let mut nothing = synchronized(&block, stamp, 0);
    if let Command::CommitBlockSynchronization { delete_block, storages, .. } = &mut nothing {
        *delete_block = true;
        storages.clear();
    }
    for lost in [nothing, synchronized(&block, stamp, 6)] {
        assert_eq!(world.kind("hdfs", &lost), FsErrorKind::Refused);
    }
    world.run("hdfs", &synchronized(&block, stamp, 7)).unwrap();
    assert_eq!(world.by_id(file.id).unwrap().file().unwrap().length, 7);
}

#[test]
fn a_recovery_may_lose_what_was_flushed_and_not_synced() {
    let mut world = World::new();
    let (file, block) = written(&mut world);
    let noted = |length, synced| Command::Fsync {
        file: of(&file),
        client: "c1".into(),
        last_block_length: Some(length),
        synced: Some(synced),
    };
    world.run("ann", &noted(4, true)).unwrap();
    world.run("ann", &noted(7, false)).unwrap();
    assert_eq!(world.by_id(file.id).unwrap().file().unwrap().length, 7);
    let stamp = Command::UpdateBlockForPipeline { block: named(&block), client: "c1".into() };
    let Reply::Block(new) = world.run("ann", &stamp).unwrap() else { panic!() };
    let update = Command::UpdatePipeline {
        client: "c1".into(),
        old: named(&block),
        new: BlockRef { length: 9, ..named(&new) },
        storages: block.storages.to_vec(),
        synced: Some(5),
    };
    world.run("ann", &update).unwrap();
    world.run("ann", &recover("/open/f")).unwrap();
    let told = world.effects.iter().find_map(|effect| match effect {
        Effect::Recover { block, synced, .. } => Some((block.length, *synced)),
        _ => None,
    });
    assert_eq!(told, Some((9, 5)));
    let stamp = world.recoveries[0].1;
    assert_eq!(world.kind("hdfs", &synchronized(&new, stamp, 4)), FsErrorKind::Refused, "5 were synced");
    world.run("hdfs", &synchronized(&new, stamp, 6)).unwrap();
    assert_eq!(world.by_id(file.id).unwrap().file().unwrap().length, 6);
}

#[test]
fn of_a_writer_that_does_not_say_what_is_synced_all_may_be() {
    assert_eq!(told_of_an_unsure_writer(false), Some((0, true)));
    assert_eq!(told_of_an_unsure_writer(true), Some((9, false)), "until it says that all of it is");
}

/// What the recovery of its block says is synced, and whether more may be.
fn told_of_an_unsure_writer(says_so: bool) -> Option<(u64, bool)> {
    let mut world = World::new();
    let (file, block) = written(&mut world);
    let stamp = Command::UpdateBlockForPipeline { block: named(&block), client: "c1".into() };
    let Reply::Block(new) = world.run("ann", &stamp).unwrap() else { panic!() };
    let update = Command::UpdatePipeline {
        client: "c1".into(),
        old: named(&block),
        new: BlockRef { length: 9, ..named(&new) },
        storages: block.storages.to_vec(),
        synced: None,
    };
    world.run("ann", &update).unwrap();
    let (client, last_block_length) = ("c1".into(), Some(9));
    let all = Command::Fsync { file: of(&file), client, last_block_length, synced: Some(true) };
    if says_so {
        world.run("ann", &all).unwrap();
    }
    world.run("ann", &recover("/open/f")).unwrap();
    world.effects.iter().find_map(|effect| match effect {
        Effect::Recover { synced, unsure, .. } => Some((*synced, *unsure)),
        _ => None,
    })
}

#[test]
fn nothing_told_is_not_the_same_as_bytes_that_were_not_counted() {
    let recovered = |noted: Option<Option<u64>>| {
        let mut world = World::new();
        let (file, block) = written(&mut world);
        if let Some(last_block_length) = noted {
            let client = "c1".into();
            let fsync = Command::Fsync { file: of(&file), client, last_block_length, synced: None };
            world.run("ann", &fsync).unwrap();
        }
        // A pipeline that lost a datanode before its first byte.
        let stamp = Command::UpdateBlockForPipeline { block: named(&block), client: "c1".into() };
        let Reply::Block(new) = world.run("ann", &stamp).unwrap() else { panic!() };
        let update = Command::UpdatePipeline {
            client: "c1".into(),
            old: named(&block),
            new: named(&new),
            storages: block.storages.to_vec(),
            synced: None,
        };
        world.run("ann", &update).unwrap();
        world.run("ann", &recover("/open/f")).unwrap();
        world.effects.iter().find_map(|effect| match effect {
            Effect::Recover { block, synced, unsure, .. } => Some((block.length, *synced, *unsure)),
            _ => None,
        })
    };
    assert_eq!(recovered(None), Some((0, 0, false)));
    assert_eq!(recovered(Some(Some(0))), Some((0, 0, false)));
    assert_eq!(recovered(Some(None)), Some((0, 0, true)), "it may have synced any");
}

#[test]
fn who_does_not_say_whether_bytes_are_synced_may_have_synced_them() {
    let mut world = World::new();
    let (file, block) = written(&mut world);
    let fsync = |length, synced| {
        let (client, last_block_length) = ("c1".into(), Some(length));
        Command::Fsync { file: of(&file), client, last_block_length, synced }
    };
    for (length, synced) in [(4, None), (5, Some(false)), (3, None), (5, None)] {
        world.run("ann", &fsync(length, synced)).unwrap();
    }
    assert_eq!(world.by_id(file.id).unwrap().file().unwrap().length, 5);
    world.run("ann", &recover("/open/f")).unwrap();
    let told = world.effects.iter().find_map(|effect| match effect {
        Effect::Recover { block, synced, unsure, .. } => Some((block.length, *synced, *unsure)),
        _ => None,
    });
    assert_eq!(told, Some((5, 0, true)), "nobody who may have it is given up");
    // Everybody was heard, after the power had failed everywhere: they had not been synced.
    let stamp = world.recoveries[0].1;
    world.run("hdfs", &synchronized(&block, stamp, 2)).unwrap();
    assert_eq!(world.by_id(file.id).unwrap().file().unwrap().length, 2);
}

#[test]
fn what_was_there_before_an_append_is_synced() {
    let mut world = World::new();
    let file = world.file("ann", "/open/f", &[10]);
    let Reply::Appended { last: Some(last), .. } = world.run("ann", &append("/open/f", "c1")).unwrap() else {
        panic!()
    };
    world.run("ann", &recover("/open/f")).unwrap();
    let stamp = world.recoveries[0].1;
    assert_eq!(world.kind("hdfs", &synchronized(&last, stamp, 9)), FsErrorKind::Refused);
    world.run("hdfs", &synchronized(&last, stamp, 10)).unwrap();
    assert_eq!(world.by_id(file.id).unwrap().file().unwrap().length, 10);
}

#[test]
fn a_recovery_without_replicas_or_past_the_block_size_is_refused() {
    let mut world = World::new();
    let (_, block) = written(&mut world);
    world.run("ann", &recover("/open/f")).unwrap();
    let stamp = world.recoveries[0].1;
    assert_eq!(world.kind("hdfs", &synchronized(&block, stamp, BLOCK + 1)), FsErrorKind::Refused);
    let mut none = synchronized(&block, stamp, 4);
    if let Command::CommitBlockSynchronization { storages, .. } = &mut none {
        storages.clear();
    }
    assert_eq!(world.kind("hdfs", &none), FsErrorKind::Refused);
}

#[test]
fn a_block_nobody_was_asked_to_store_is_dropped() {
    let mut world = World::new();
    let (file, block) = written(&mut world);
    let mut stored = block.block.clone();
    stored.state = BlockState::UnderConstruction {
        expected: Default::default(),
        recovery: None,
        synced: 0,
        unsure: false,
    };
    world.view.apply([(crate::Key::Block(stored.id), Some(crate::Record::Block(stored)))].into());
    world.nodes.reports.set(false);
    assert_eq!(world.run("ann", &recover("/open/f")), Ok(Reply::Bool(true)));
    assert_eq!(world.by_id(file.id).unwrap().file().unwrap().blocks, 0);
}

#[test]
fn committed_blocks_hold_a_recovery_up_until_they_are_seen() {
    let mut world = World::new();
    world.nodes.reports.set(false);
    let (file, block) = written(&mut world);
    let last = BlockRef { length: 5, ..named(&block) };
    assert!(!world.complete(&file, Some(last)).unwrap());
    let error = world.run("ann", &recover("/open/f")).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::AlreadyBeingCreated);
    assert_eq!(
        error.message(),
        "Failed to release lease for file /open/f. Committed blocks are waiting to be minimally replicated."
    );
    world.pass(HARD);
    assert_eq!(world.run("hdfs", &Command::ExpireLease { file: file.id }), Ok(Reply::Bool(false)));
    world.nodes.reports.set(true);
    assert_eq!(world.run("hdfs", &Command::ExpireLease { file: file.id }), Ok(Reply::Bool(true)));
    assert_eq!(world.by_id(file.id).unwrap().file().unwrap().length, 5);
}

#[test]
fn the_hard_limit_ends_a_lease() {
    let mut world = World::new();
    let (file, block) = written(&mut world);
    let expire = Command::ExpireLease { file: file.id };
    world.pass(SOFT);
    assert_eq!(world.run("hdfs", &expire), Ok(Reply::Bool(false)), "renewed in time");
    assert!(world.recoveries.is_empty() && due_now(&world).is_empty());
    world.pass(HARD);
    assert_eq!(due_now(&world), [file.id]);
    assert_eq!(world.run("hdfs", &expire), Ok(Reply::Bool(false)));
    assert_eq!(world.recoveries.len(), 1);
    assert!(world.effects.contains(&Effect::LeaseEnded { holder: "c1".into(), file: file.id }));
    assert_eq!(due_now(&world), [file.id], "the namenode's own are looked at again and again");
    assert_eq!(world.run("hdfs", &expire), Ok(Reply::Bool(false)));
    assert_eq!(world.recoveries.len(), 1);
    world.pass(RECOVERY_RETRY);
    world.run("hdfs", &expire).unwrap();
    assert_eq!(world.recoveries.len(), 2, "the primary may have died");
    let stamp = world.recoveries[1].1;
    world.run("hdfs", &synchronized(&block, stamp, 9)).unwrap();
    assert_eq!(world.run("hdfs", &expire), Ok(Reply::Bool(true)));
    assert_eq!(world.run("hdfs", &Command::ExpireLease { file: InodeId(3) }), Ok(Reply::Bool(true)));
}

#[test]
fn a_recovery_that_nobody_can_lead_is_not_journalled_over_and_over() {
    let mut world = World::new();
    let (file, _) = written(&mut world);
    world.pass(HARD);
    let expire = Command::ExpireLease { file: file.id };
    world.run("hdfs", &expire).unwrap();
    world.nodes.wait.set(RECOVERY_RETRY * 4);
    let before = world.view.clone();
    for _ in 0..3 {
        world.pass(RECOVERY_RETRY);
        world.run("hdfs", &expire).unwrap();
    }
    assert_eq!((world.recoveries.len(), world.view == before), (1, true));
    world.pass(RECOVERY_RETRY);
    world.run("hdfs", &expire).unwrap();
    assert_eq!(world.recoveries.len(), 2);
}

#[test]
fn due_files_come_in_pages() {
    let mut world = World::new();
    let ids: Vec<_> = ["/open/a", "/open/b", "/open/c"].map(|at| world.create("ann", at).unwrap().id).into();
    world.pass(HARD);
    let (first, next) = due(&world.view, &world.renewals, &world.settings, world.steady, None, 2);
    assert_eq!((first.as_slice(), next), (&ids[..2], Some(ids[1])));
    let (rest, next) = due(&world.view, &world.renewals, &world.settings, world.steady, next, 2);
    assert_eq!((rest.as_slice(), next), (&ids[2..], None));
}

#[test]
fn a_running_recovery_blocks_the_writer() {
    let mut world = World::new();
    let (file, block) = written(&mut world);
    world.run("ann", &recover("/open/f")).unwrap();
    // As in HDFS, the state of the block stops a writer that still had the lease.
    world.view.apply(
        [(
            crate::Key::Lease(file.id),
            Some(crate::Record::Lease(crate::record::Lease { holder: "c1".into(), machine: "m".into() })),
        )]
        .into(),
    );
    let stamp = Command::UpdateBlockForPipeline { block: named(&block), client: "c1".into() };
    assert_eq!(
        world.words("ann", &stamp),
        "Unexpected BlockUCState: blk_1073741825_1001 is UNDER_RECOVERY but not UNDER_CONSTRUCTION"
    );
    let error = world.complete(&file, Some(BlockRef { length: 3, ..named(&block) })).unwrap_err();
    assert_eq!(
        error.message(),
        "Commit or complete block blk_1073741825_1001, whereas it is under recovery."
    );
    let error = world.run("ann", &append("/open/f", "c2")).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::RecoveryInProgress);
}

#[test]
fn a_jump_of_the_clock_neither_holds_a_recovery_up_nor_repeats_it() {
    let mut world = World::new();
    written(&mut world);
    world.pass(HARD);
    world.run("ann", &recover("/open/f")).unwrap();
    for jumped in [5, 10_000_000_000_000] {
        world.now = steadfs_common::Millis(jumped);
        world.run("ann", &recover("/open/f")).unwrap();
    }
    assert_eq!(world.recoveries.len(), 1);
    world.pass(RECOVERY_RETRY);
    world.run("ann", &recover("/open/f")).unwrap();
    assert_eq!(world.recoveries.len(), 2);
    // The next process began with a clock that is behind.
    world.even = steadfs_common::Millis(5);
    world.run("ann", &recover("/open/f")).unwrap();
    world.run("ann", &recover("/open/f")).unwrap();
    assert_eq!(world.recoveries.len(), 3, "asked again, once");
}
