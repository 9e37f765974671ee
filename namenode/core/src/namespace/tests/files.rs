use std::time::Duration;

use steadfs_common::{FsErrorKind, GenStamp, InodeId, Millis};

use super::world::{BLOCK, World, add_block, append, chmod, complete, create, delete, named, of, path};
use crate::command::{BlockRef, FileRef, NewTimes, PlacedBlock};
use crate::record::{BlockState, Inode};
use crate::view::View;
use crate::{Command, Effect, Reply};

fn over(at: &str) -> Command {
    let mut command = create(at, "c1");
    if let Command::Create { overwrite, .. } = &mut command {
        *overwrite = true;
    }
    command
}

fn full(block: &PlacedBlock) -> BlockRef {
    BlockRef { length: BLOCK, ..named(block) }
}

#[test]
fn a_file_s_life() {
    let mut world = World::new();
    let file = world.create("ann", "/open/f").unwrap();
    assert_eq!((file.owner.as_str(), file.group.as_str(), file.mode), ("ann", "supergroup", 0o644));
    assert!(file.file().unwrap().under_construction);
    let first = world.add_block(&file, None).unwrap();
    assert_eq!((first.block.id.0, first.block.stamp.0, first.offset), (1_073_741_825, 1_001, 0));
    assert_eq!(first.storages.len(), 2);
    let second = world.add_block(&file, Some(full(&first))).unwrap();
    assert_eq!((second.block.id.0, second.block.stamp.0, second.offset), (1_073_741_826, 1_002, BLOCK));
    assert!(world.effects.contains(&Effect::Completed {
        block: first.block.id,
        stamp: first.block.stamp,
        length: BLOCK,
        replication: 2
    }));
    let root = steadfs_common::ROOT_INODE;
    assert_eq!(world.view.totals(root).space, 2 * 2 * BLOCK, "a block that is written counts as a whole one");
    world.pass(Duration::from_secs(5));
    assert!(world.complete(&file, Some(BlockRef { length: 10, ..named(&second) })).unwrap());
    let closed = world.inode("/open/f").unwrap();
    assert_eq!(closed.mtime, world.now);
    let body = closed.file().unwrap();
    assert_eq!((body.length, body.blocks, body.under_construction), (BLOCK + 10, 2, false));
    let totals = world.view.totals(root);
    assert_eq!((totals.bytes, totals.space, totals.files), (BLOCK + 10, 2 * (BLOCK + 10), 1));
    assert!(world.view.lease(file.id).is_none());
}

#[test]
fn create_looks_at_what_is_there() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[BLOCK]);
    let error = world.run("ann", &create("/open/f", "c1")).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::AlreadyExists);
    assert_eq!(error.message(), "/open/f for client 10.0.0.7 already exists");
    assert_eq!(world.words("hdfs", &over("/open")), "/open already exists as a directory");
    assert_eq!(
        world.kind("ann", &over("/open")),
        FsErrorKind::AccessDenied,
        "who may not write hears no more"
    );
    assert_eq!(world.kind("ann", &create("/none/x", "c1")), FsErrorKind::AccessDenied);
    assert_eq!(world.kind("ann", &over("/")), FsErrorKind::AlreadyExists);
    assert_eq!(world.kind("ann", &create("/open/f/x", "c1")), FsErrorKind::ParentNotDirectory);
    let only_over = Command::Create {
        path: path("/open/none"),
        mode: 0,
        unmasked: None,
        client: "c1".into(),
        create: false,
        overwrite: true,
        create_parent: true,
        replication: 1,
        block_size: BLOCK,
        policy: 0,
    };
    assert_eq!(world.words("ann", &only_over), "Can't overwrite non-existent /open/none for client 10.0.0.7");
    assert_eq!(world.kind("ann", &only_over), FsErrorKind::NotFound);
}

#[test]
fn numbers_of_a_new_file_are_checked() {
    let mut world = World::new();
    let with = |replication: u16, block_size: u64, client: &str| {
        let mut command = create("/open/f", client);
        if let Command::Create { replication: r, block_size: b, .. } = &mut command {
            (*r, *b) = (replication, block_size);
        }
        command
    };
    assert_eq!(
        world.words("ann", &with(0, BLOCK, "c1")),
        "Requested replication factor of 0 is less than the required minimum of 1 for /open/f"
    );
    assert_eq!(
        world.words("ann", &with(513, BLOCK, "c1")),
        "Requested replication factor of 513 exceeds maximum of 512 for /open/f"
    );
    assert_eq!(
        world.words("ann", &with(1, 9, "c1")),
        "Specified block size is less than configured minimum value (dfs.namenode.fs-limits.min-block-size): 9 < 10"
    );
    assert_eq!(world.kind("ann", &with(1, u64::MAX, "c1")), FsErrorKind::Refused);
    assert_eq!(world.kind("ann", &with(1, BLOCK, "")), FsErrorKind::InvalidArgument);
    assert_eq!(world.kind("ann", &with(1, BLOCK, "NN_Recovery")), FsErrorKind::InvalidArgument);
    assert_eq!(world.kind("ann", &with(1, BLOCK, &"x".repeat(1_025))), FsErrorKind::InvalidArgument);
}

#[test]
fn overwriting_makes_another_file() {
    let mut world = World::new();
    let old = world.file("ann", "/open/f", &[BLOCK, 5]);
    let writer = world.create("ann", "/open/g").unwrap();
    let Reply::File(new) = world.run("ann", &over("/open/f")).unwrap() else { panic!() };
    assert_ne!(new.id, old.id);
    assert_eq!(world.effects.iter().filter(|effect| matches!(effect, Effect::Removed { .. })).count(), 2);
    assert!(world.view.inode(old.id).is_none());
    world.run("ann", &over("/open/g")).unwrap();
    let error = world.run("ann", &add_block(&writer, None)).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::NotFound);
    assert!(error.message().starts_with("File does not exist: /open/of (inode "), "{error}");
}

#[test]
fn overwriting_wants_the_file_whatever_the_sticky_bit() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[]);
    assert_eq!(
        world.words("eve", &over("/open/f")),
        "Permission denied: user=eve, access=WRITE, inode=\"/open/f\":ann:supergroup:-rw-r--r--"
    );
    world.run("ann", &chmod("/open/f", 0o666)).unwrap();
    world.run("hdfs", &chmod("/open", 0o755)).unwrap();
    assert_eq!(world.kind("eve", &over("/open/f")), FsErrorKind::AccessDenied);
    world.run("hdfs", &chmod("/open", 0o1777)).unwrap();
    world.run("eve", &over("/open/f")).unwrap();
    assert_eq!(world.inode("/open/f").unwrap().owner, "eve");
}

#[test]
fn a_repeated_add_block_gets_the_same_block() {
    let mut world = World::new();
    let file = world.create("ann", "/open/f").unwrap();
    let first = world.add_block(&file, None).unwrap();
    assert_eq!(world.add_block(&file, None).unwrap(), first, "the first one, both previous absent");
    let second = world.add_block(&file, Some(full(&first))).unwrap();
    assert_eq!(world.add_block(&file, Some(full(&first))).unwrap(), second);
    world
        .run(
            "ann",
            &Command::Fsync {
                file: of(&file),
                client: "c1".into(),
                last_block_length: Some(7),
                synced: Some(true),
            },
        )
        .unwrap();
    let words = world.words("ann", &add_block(&file, Some(full(&first))));
    assert_eq!(
        words,
        "Request looked like a retry to allocate block blk_1073741826_1002 but it already contains 7 bytes"
    );
    let words = world.words("ann", &add_block(&file, None));
    assert_eq!(
        words,
        "Cannot allocate block in /open/of: passed 'previous' block null does not match actual last block in file \
         blk_1073741826_1002"
    );
    let wrong = BlockRef { stamp: GenStamp(9), ..full(&second) };
    assert_eq!(world.kind("ann", &add_block(&file, Some(wrong))), FsErrorKind::Refused);
}

#[test]
fn a_block_waits_for_the_one_before_the_last() {
    let mut world = World::new();
    world.nodes.reports.set(false);
    let file = world.create("ann", "/open/f").unwrap();
    let first = world.add_block(&file, None).unwrap();
    let second = world.add_block(&file, Some(full(&first))).unwrap();
    let error = world.run("ann", &add_block(&file, Some(full(&second)))).unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (FsErrorKind::NotReplicatedYet, "Not replicated yet: /open/of")
    );
    assert!(!world.complete(&file, Some(full(&second))).unwrap());
    let stored = world.view.block(second.block.id).unwrap();
    assert_eq!(stored.length, 0, "not even committed while the one before waits");
    world.nodes.reports.set(true);
    world.add_block(&file, Some(full(&second))).unwrap();
}

#[test]
fn complete_waits_and_may_be_repeated() {
    let mut world = World::new();
    let file = world.create("ann", "/open/f").unwrap();
    let block = world.add_block(&file, None).unwrap();
    let named = BlockRef { length: 5, ..named(&block) };
    let last = Some(named);
    world.nodes.reports.set(false);
    assert!(!world.complete(&file, None).unwrap(), "the last block was not named");
    assert!(!world.complete(&file, last).unwrap());
    assert!(matches!(world.view.block(block.block.id).unwrap().state, BlockState::Committed { .. }));
    assert_eq!(world.by_id(file.id).unwrap().file().unwrap().length, 5);
    assert!(!world.complete(&file, last).unwrap());
    world.nodes.reports.set(true);
    assert!(world.complete(&file, last).unwrap());
    assert!(world.complete(&file, last).unwrap(), "closed already, with this last block");
    let other = Some(BlockRef { stamp: GenStamp(1), ..named });
    let error = world.complete(&file, other).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::LeaseExpired);
    assert!(error.message().starts_with("File is not open for writing: /open/of (inode "), "{error}");
    assert_eq!(world.complete(&file, None).unwrap_err().kind(), FsErrorKind::LeaseExpired);
}

#[test]
fn a_file_is_closed_with_the_times_that_its_writer_wants() {
    let mut world = World::new();
    let close = |world: &mut World, at: &str, mtime: Option<u64>, atime: Option<u64>| {
        let file = world.create("ann", at).unwrap();
        let times = NewTimes { mtime: mtime.map(Millis), atime: atime.map(Millis) };
        let complete = Command::Complete { file: of(&file), client: "c1".into(), last: None, times };
        assert_eq!(world.run("ann", &complete), Ok(Reply::Bool(true)));
        // Said again, it is done already, whatever it says.
        assert_eq!(world.run("ann", &complete), Ok(Reply::Bool(true)));
        let closed = world.by_id(file.id).unwrap();
        assert!(!closed.file().unwrap().under_construction);
        (closed.mtime, closed.atime, file)
    };
    let (mtime, atime, _) = close(&mut world, "/open/both", Some(5), Some(7));
    assert_eq!((mtime, atime), (Millis(5), Millis(7)));
    let (mtime, atime, file) = close(&mut world, "/open/one", None, Some(9));
    assert!(mtime >= file.mtime && mtime != Millis(9));
    assert_eq!(atime, Millis(9));
    world.settings.access_time_precision = std::time::Duration::ZERO;
    let (mtime, atime, file) = close(&mut world, "/open/unkept", Some(5), Some(7));
    assert_eq!((mtime, atime), (Millis(5), file.atime), "access times are not kept: nothing is refused");
}

#[test]
fn an_old_client_names_files_by_path_alone() {
    let mut world = World::new();
    world.create("ann", "/open/f").unwrap();
    let file = FileRef { path: path("/open/f"), inode: Some(InodeId(0)) };
    let times = NewTimes::default();
    let done = world.run("ann", &Command::Complete { file, client: "c1".into(), last: None, times });
    assert_eq!(done, Ok(Reply::Bool(true)));
    let again = FileRef { path: path("/open/f"), inode: None };
    let done = world.run("ann", &Command::Complete { file: again, client: "c1".into(), last: None, times });
    assert_eq!(done, Ok(Reply::Bool(true)));
}

#[test]
fn only_the_lease_holder_writes() {
    let mut world = World::new();
    let file = world.create("ann", "/open/f").unwrap();
    let mut command = add_block(&file, None);
    if let Command::AddBlock { client, .. } = &mut command {
        *client = "c2".into();
    }
    let error = world.run("ann", &command).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::LeaseExpired);
    assert!(
        error.message().starts_with("Client (=c2) is not the lease owner (=c1: /open/of (inode "),
        "{error}"
    );
    let folder = world.inode("/open").unwrap();
    let error = world.run("ann", &add_block(&folder, None)).unwrap_err();
    assert!(error.message().starts_with("INode is not a regular file: "), "{error}");
    assert_eq!(error.kind(), FsErrorKind::LeaseExpired);
}

#[test]
fn lengths_that_lie_are_refused() {
    let mut world = World::new();
    let file = world.create("ann", "/open/f").unwrap();
    let block = world.add_block(&file, None).unwrap();
    let fsync = |length| Command::Fsync {
        file: of(&file),
        client: "c1".into(),
        last_block_length: Some(length),
        synced: Some(true),
    };
    assert_eq!(world.kind("ann", &fsync(u64::MAX)), FsErrorKind::Refused);
    world.run("ann", &fsync(50)).unwrap();
    world.run("ann", &fsync(20)).unwrap();
    assert_eq!(world.by_id(file.id).unwrap().file().unwrap().length, 50, "what was seen is never taken back");
    for length in [49, BLOCK + 1, u64::MAX] {
        let last = Some(BlockRef { length, ..named(&block) });
        assert_eq!(world.kind("ann", &complete(&file, last)), FsErrorKind::Refused, "{length}");
    }
    let abandon = Command::AbandonBlock { file: of(&file), client: "c1".into(), block: named(&block) };
    world.run("ann", &abandon).unwrap();
    assert_eq!(world.by_id(file.id).unwrap().file().unwrap().length, 0, "flushed bytes go with their block");
}

#[test]
fn an_abandoned_block_is_gone() {
    let mut world = World::new();
    let file = world.create("ann", "/open/f").unwrap();
    let block = world.add_block(&file, None).unwrap();
    let abandon = Command::AbandonBlock { file: of(&file), client: "c1".into(), block: named(&block) };
    assert_eq!(world.run("ann", &abandon), Ok(Reply::Done));
    assert_eq!(world.effects, [Effect::Removed { block: block.block.id }]);
    assert_eq!(world.run("ann", &abandon), Ok(Reply::Done), "again: nothing to do");
    let again = Command::AddBlock {
        file: of(&file),
        client: "c1".into(),
        previous: None,
        excluded: vec![world.nodes.storages[0].0],
        favored: Vec::new(),
        avoid_local: false,
    };
    let Reply::Block(other) = world.run("ann", &again).unwrap() else { panic!() };
    assert!(!other.storages.contains(&world.nodes.storages[0].1));
}

#[test]
fn no_datanode_is_an_error_in_hdfs_words() {
    let mut world = World::new();
    let file = world.create("ann", "/open/f").unwrap();
    world.nodes.storages.truncate(1);
    let excluded = vec![world.nodes.storages[0].0];
    let command = Command::AddBlock {
        file: of(&file),
        client: "c1".into(),
        previous: None,
        excluded,
        favored: Vec::new(),
        avoid_local: false,
    };
    let error = world.run("ann", &command).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::NoDatanode);
    assert_eq!(
        error.message(),
        "File /open/of could only be written to 0 of the 1 minReplication nodes. There are 1 datanode(s) running and \
         1 node(s) are excluded in this operation."
    );
    // Our clients wait for the first one.
    world.nodes.storages.clear();
    let error = world.run("ann", &command).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::NoDatanodeYet);
    assert!(error.message().contains("There are 0 datanode(s) running"), "{error}");
}

fn appended(world: &mut World, command: &Command) -> (Inode, Option<PlacedBlock>) {
    match world.run("ann", command).unwrap() {
        Reply::Appended { inode, last } => (inode, last),
        other => panic!("{other:?}"),
    }
}

#[test]
fn appending_goes_on_in_a_partial_block() {
    let mut world = World::new();
    let file = world.file("ann", "/open/f", &[BLOCK, 10]);
    let (inode, last) = appended(&mut world, &append("/open/f", "c1"));
    let last = last.unwrap();
    assert_eq!(inode.file().unwrap().length, BLOCK + 10);
    assert_eq!(
        (last.offset, last.block.length, last.block.stamp.0),
        (BLOCK, 10, 1_002),
        "it keeps its stamp"
    );
    assert_eq!(last.storages.len(), 2);
    assert!(world.effects.contains(&Effect::Reopened { block: last.block.id }));
    let stamped = Command::UpdateBlockForPipeline { block: named(&last), client: "c1".into() };
    let Reply::Block(new) = world.run("ann", &stamped).unwrap() else { panic!() };
    assert_eq!((new.block.stamp.0, new.block.length), (1_003, 10));
    let update = Command::UpdatePipeline {
        client: "c1".into(),
        old: named(&last),
        new: named(&new),
        storages: last.storages.to_vec(),
        synced: Some(0),
    };
    assert_eq!(world.run("ann", &update), Ok(Reply::Done));
    let shown = world.words("ann", &update);
    assert_eq!(
        shown,
        "Update blk_1073741826_1002 (size=10) but the new block blk_1073741826_1003 does not have a larger generation \
         stamp than the last block blk_1073741826_1003"
    );
    assert!(world.complete(&file, Some(BlockRef { length: 25, ..named(&new) })).unwrap());
    assert_eq!(world.inode("/open/f").unwrap().file().unwrap().length, BLOCK + 25);
}

#[test]
fn appending_at_a_block_s_end_or_to_nothing_names_no_block() {
    let mut world = World::new();
    let file = world.file("ann", "/open/f", &[BLOCK]);
    assert_eq!(appended(&mut world, &append("/open/f", "c1")).1, None);
    let second = world.add_block(&file, None).unwrap();
    assert_eq!(second.offset, BLOCK);
    assert_eq!(world.add_block(&file, None).unwrap_err().kind(), FsErrorKind::Refused);
    world.file("ann", "/open/empty", &[]);
    assert_eq!(appended(&mut world, &append("/open/empty", "c1")).1, None);
}

#[test]
fn appending_in_a_new_block_names_the_last_without_places() {
    let mut world = World::new();
    let file = world.file("ann", "/open/f", &[10]);
    let command = Command::Append { path: path("/open/f"), client: "c1".into(), new_block: true };
    let last = appended(&mut world, &command).1.unwrap();
    assert!(last.storages.is_empty() && last.block.is_complete());
    let next = world.add_block(&file, Some(named(&last))).unwrap();
    assert_eq!(next.offset, 10);
    assert!(world.complete(&file, Some(BlockRef { length: 3, ..named(&next) })).unwrap());
}

#[test]
fn appending_is_refused_where_it_cannot_be() {
    let mut world = World::new();
    assert_eq!(
        world.words("ann", &append("/open", "c1")),
        "Cannot append to directory /open; already exists as a directory."
    );
    assert_eq!(
        world.words("ann", &append("/open/f", "c1")),
        "Failed to append to non-existent file /open/f for client 10.0.0.7"
    );
    world.file("ann", "/open/f", &[10]);
    assert_eq!(world.kind("eve", &append("/open/f", "c1")), FsErrorKind::AccessDenied);
    assert_eq!(
        world.words("ann", &append("/open/f/x", "c1")),
        "/open/f (is not a directory)",
        "not a call that creates: access is denied"
    );
    world.nodes.reports.set(false);
    assert_eq!(
        world.words("ann", &append("/open/f", "c1")),
        "append: lastBlock=blk_1073741825_1001 of src=/open/f is not sufficiently replicated yet."
    );
}

#[test]
fn stamps_and_pipelines_are_the_writer_s() {
    let mut world = World::new();
    let file = world.create("ann", "/open/f").unwrap();
    let block = world.add_block(&file, None).unwrap();
    let stamp = |client: &str, block| Command::UpdateBlockForPipeline { block, client: client.into() };
    let error = world.run("ann", &stamp("c2", named(&block))).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::LeaseExpired);
    assert_eq!(error.message(), "Lease mismatch: blk_1073741825_1001 is accessed by a non lease holder c2");
    let unknown = BlockRef { id: steadfs_common::BlockId(1), ..named(&block) };
    assert_eq!(world.words("ann", &stamp("c1", unknown)), "blk_1_1001 does not exist.");

    let update = |new: BlockRef, storages: Vec<_>| Command::UpdatePipeline {
        client: "c1".into(),
        old: named(&block),
        new,
        storages,
        synced: Some(0),
    };
    let storages = block.storages.to_vec();
    let future = BlockRef { stamp: GenStamp(99), ..named(&block) };
    assert_eq!(world.kind("ann", &update(future, storages.clone())), FsErrorKind::Refused);
    let Reply::Block(new) = world.run("ann", &stamp("c1", named(&block))).unwrap() else { panic!() };
    let new = BlockRef { length: 30, ..named(&new) };
    assert_eq!(world.kind("ann", &update(new, Vec::new())), FsErrorKind::Refused);
    world.run("ann", &update(new, storages[..1].to_vec())).unwrap();
    assert_eq!(world.by_id(file.id).unwrap().file().unwrap().length, 30);
    assert!(world.complete(&file, Some(BlockRef { length: 30, ..new })).unwrap());
    assert_eq!(
        world.words("ann", &stamp("c1", new)),
        "Unexpected BlockUCState: blk_1073741825_1002 is COMPLETE but not UNDER_CONSTRUCTION"
    );
}

#[test]
fn a_deleted_file_cannot_be_written_on() {
    let mut world = World::new();
    let file = world.create("ann", "/open/d/f").unwrap();
    let block = world.add_block(&file, None).unwrap();
    assert_eq!(world.run("ann", &delete("/open/d", true)), Ok(Reply::Bool(true)));
    assert!(world.view.inode(file.id).is_some(), "not reclaimed yet");
    assert_eq!(world.kind("ann", &add_block(&file, Some(full(&block)))), FsErrorKind::NotFound);
    assert_eq!(world.kind("ann", &complete(&file, Some(full(&block)))), FsErrorKind::NotFound);
    let stamp = Command::UpdateBlockForPipeline { block: named(&block), client: "c1".into() };
    assert_eq!(world.kind("ann", &stamp), FsErrorKind::Refused);
    world.reclaim_all();
    assert!(world.view.inode(file.id).is_none() && world.view.lease(file.id).is_none());
}

#[test]
fn too_many_blocks_are_refused() {
    let mut world = World::new();
    let file = world.create("ann", "/open/f").unwrap();
    let block = world.add_block(&file, None).unwrap();
    let mut inode = world.by_id(file.id).unwrap();
    if let crate::record::InodeKind::File(body) = &mut inode.kind {
        body.blocks = steadfs_common::limits::MAX_BLOCKS_PER_FILE;
    }
    let mut moved = world.view.block(block.block.id).unwrap();
    moved.index = steadfs_common::limits::MAX_BLOCKS_PER_FILE - 1;
    world.view.apply(
        [
            (crate::Key::FileBlock(file.id, moved.index), Some(crate::Record::FileBlock(moved.id))),
            (crate::Key::Block(moved.id), Some(crate::Record::Block(moved))),
            (crate::Key::Inode(file.id), Some(crate::Record::Inode(inode))),
        ]
        .into(),
    );
    let words = world.words("ann", &add_block(&file, Some(full(&block))));
    assert!(words.starts_with("File has reached the limit on maximum number of blocks"), "{words}");
}
