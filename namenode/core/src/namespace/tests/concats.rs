use std::time::Duration;

use steadfs_common::{CallKey, FsErrorKind, ROOT_INODE, limits};

use super::world::{BLOCK, World, chmod, create, path, user};
use crate::command::BlockRef;
use crate::namespace::read::Reader;
use crate::record::{Key, Record};
use crate::tx::Changes;
use crate::view::View;
use crate::{Command, Effect, Reply};

fn concat(target: &str, sources: &[&str]) -> Command {
    Command::Concat { target: path(target), sources: sources.iter().map(|source| path(source)).collect() }
}

#[test]
fn the_target_gets_the_blocks_in_order_and_the_sources_go() {
    let mut world = World::new();
    let target = world.file("ann", "/open/t", &[BLOCK, 10]);
    let first = world.file("ann", "/open/a", &[20]);
    let second = world.file("ann", "/open/b", &[BLOCK, 30]);
    let blocks = |world: &World, file| world.view.file_blocks(file, 0, usize::MAX);
    let expected = [blocks(&world, target.id), blocks(&world, second.id), blocks(&world, first.id)].concat();
    let before = world.view.totals(ROOT_INODE);
    let counters = world.view.counters().unwrap();
    world.pass(Duration::from_secs(5));
    assert_eq!(world.run("ann", &concat("/open/t", &["/open/b", "/open/a"])), Ok(Reply::Done));
    assert!(world.effects.is_empty(), "no datanode notices: {:?}", world.effects);
    assert_eq!(blocks(&world, target.id), expected);
    let joined = world.inode("/open/t").unwrap();
    let body = joined.file().unwrap();
    assert_eq!((joined.id, body.blocks, body.length), (target.id, 5, 2 * BLOCK + 60));
    assert_eq!((joined.mtime, world.inode("/open").unwrap().mtime), (world.now, world.now));
    assert_eq!((world.inode("/open/a"), world.by_id(second.id)), (None, None));
    let after = world.view.totals(ROOT_INODE);
    assert_eq!((after.bytes, after.space, after.files), (before.bytes, before.space, 1));
    let now = world.view.counters().unwrap();
    assert_eq!((now.blocks, now.complete_blocks), (counters.blocks, counters.complete_blocks));

    // A block that is not full lies in the middle now: places are found all the same.
    let ann = user("ann");
    let reader = Reader { view: &world.view, caller: &ann, settings: &world.settings };
    let offsets = |from, length| {
        let found = reader.blocks(&path("/open/t"), from, length, 10).unwrap();
        found.blocks.iter().map(|block| (block.offset, block.block.length)).collect::<Vec<_>>()
    };
    assert_eq!(offsets(BLOCK + 5, 10), [(BLOCK, 10), (BLOCK + 10, BLOCK)]);
    assert_eq!(offsets(2 * BLOCK + 45, 1), [(2 * BLOCK + 40, 20)]);
}

#[test]
fn the_sources_get_the_targets_replication() {
    let mut world = World::new();
    world.file("ann", "/open/t", &[10]);
    let source = world.file("ann", "/open/a", &[20]);
    let block = world.view.file_block(source.id, 0).unwrap();
    world.run("ann", &Command::SetReplication { path: path("/open/t"), replication: 3 }).unwrap();
    world.run("ann", &concat("/open/t", &["/open/a"])).unwrap();
    assert_eq!(world.effects, [Effect::Replication { block, replication: 3 }]);
    assert_eq!(world.view.totals(ROOT_INODE).space, 3 * 30);
}

#[test]
fn what_cannot_be_joined_is_refused_in_hdfs_words() {
    let mut world = World::new();
    world.file("ann", "/open/t", &[BLOCK]);
    world.file("ann", "/open/a", &[10]);
    world.file("ann", "/open/empty", &[]);
    world.file("ann", "/open/d/a", &[10]);
    world.create("ann", "/open/written").unwrap();
    let Command::Create { mut block_size, .. } = create("/open/small", "c1") else { panic!() };
    block_size /= 2;
    let mut small = create("/open/small", "c1");
    if let Command::Create { block_size: size, .. } = &mut small {
        *size = block_size;
    }
    let Reply::File(small) = world.run("ann", &small).unwrap() else { panic!() };
    assert!(world.complete(&small, None).unwrap());
    let cases: [(&str, &[&str], &str); 7] = [
        ("/open/t", &[], "No sources given"),
        ("/open/t", &["/open/t"], "concat: the src file /open/t is the same with the target file /open/t"),
        ("/open/t", &["/open/a", "/open/a"], "concat: at least two of the source files are the same"),
        (
            "/open/t",
            &["/open/d/a"],
            "Source file /open/d/a is not in the same directory with the target /open/t",
        ),
        (
            "/open/t",
            &["/open/empty"],
            "concat: source file /open/empty is invalid or empty or underConstruction",
        ),
        ("/open/written", &["/open/a"], "concat: target file /open/written is under construction"),
        (
            "/open/small",
            &["/open/a"],
            "concat: source file /open/a has preferred block size 1000 which is greater than the target file's \
             preferred block size 500",
        ),
    ];
    for (target, sources, words) in cases {
        let error = world.run("ann", &concat(target, sources)).unwrap_err();
        assert_eq!((error.kind(), error.message()), (FsErrorKind::InvalidArgument, words));
    }
    for (target, sources) in [("/open/none", ["/open/a"]), ("/open/t", ["/open/none"])] {
        assert_eq!(world.words("ann", &concat(target, &sources)), "File does not exist: /open/none");
    }
    assert_eq!(world.kind("ann", &concat("/open", &["/open/a"])), FsErrorKind::IsADirectory);
    assert_eq!(world.kind("ann", &concat("/open/t", &["/open/d"])), FsErrorKind::IsADirectory);
    let by_id = format!("/.reserved/.inodes/{}", small.id);
    for reserved in [by_id.as_str(), "/.reserved/raw/open/t"] {
        let words = format!("Concat operation doesn't support .reserved relative path : {reserved}");
        assert_eq!(world.words("hdfs", &concat(reserved, &["/open/a"])), words);
        assert_eq!(world.words("hdfs", &concat("/open/t", &[reserved])), words);
    }
}

#[test]
fn joining_wants_to_write_to_the_target_and_to_take_the_sources() {
    let mut world = World::new();
    for name in ["/open/t", "/open/a"] {
        world.file("ann", name, &[10]);
    }
    let it = concat("/open/t", &["/open/a"]);
    let denied = |world: &mut World, access: &str, inode: &str| {
        let words = world.words("eve", &it);
        assert!(words.contains(&format!("access={access}, inode=\"{inode}\"")), "{words}");
    };
    denied(&mut world, "WRITE", "/open/t");
    world.run("ann", &chmod("/open/t", 0o666)).unwrap();
    world.run("ann", &chmod("/open/a", 0o600)).unwrap();
    denied(&mut world, "READ", "/open/a");
    world.run("ann", &chmod("/open/a", 0o644)).unwrap();
    world.run("hdfs", &chmod("/open", 0o755)).unwrap();
    denied(&mut world, "WRITE", "/open");
    world.run("hdfs", &chmod("/open", 0o1777)).unwrap();
    assert!(world.words("eve", &it).starts_with("Permission denied by sticky bit"));
    world.run("hdfs", &chmod("/open", 0o777)).unwrap();
    world.run("eve", &it).unwrap();
}

#[test]
fn a_repeated_concat_is_not_carried_out_again() {
    let mut world = World::new();
    world.file("ann", "/open/t", &[10]);
    world.file("ann", "/open/a", &[20]);
    let key = Some(CallKey { client: [1; 16], call: 5 });
    let it = concat("/open/t", &["/open/a"]);
    assert_eq!(world.run_as(&user("ann"), key, &it), Ok(Reply::Done));
    assert_eq!(world.run_as(&user("ann"), key, &it), Ok(Reply::Done));
    assert_eq!(world.inode("/open/t").unwrap().file().unwrap().length, 30);
    assert_eq!(world.kind("ann", &it), FsErrorKind::NotFound);
}

#[test]
fn too_many_blocks_are_not_joined() {
    let mut world = World::new();
    world.file("ann", "/open/t", &[10]);
    let source = world.file("ann", "/open/a", &[10]);
    // As if it had all the blocks that a file may have; only their number is looked at.
    let mut many = source.clone();
    if let crate::record::InodeKind::File(body) = &mut many.kind {
        body.blocks = limits::MAX_BLOCKS_PER_FILE;
    }
    let changes = |inode: &crate::record::Inode| {
        Changes::from([(Key::Inode(inode.id), Some(Record::Inode(inode.clone())))])
    };
    world.view.apply(changes(&many));
    assert!(world.words("ann", &concat("/open/t", &["/open/a"])).contains("would have 10001 blocks"));
    world.view.apply(changes(&source));
    world.run("ann", &concat("/open/t", &["/open/a"])).unwrap();
}

#[test]
fn a_joined_file_is_appended_to() {
    let mut world = World::new();
    world.file("ann", "/open/t", &[10]);
    world.file("ann", "/open/a", &[20]);
    world.run("ann", &concat("/open/t", &["/open/a"])).unwrap();
    let appended = world.run("ann", &super::world::append("/open/t", "c1")).unwrap();
    let Reply::Appended { inode, last: Some(last) } = appended else { panic!() };
    assert_eq!((last.offset, last.block.length), (10, 20));
    let last = BlockRef { id: last.block.id, stamp: last.block.stamp, length: 25 };
    assert!(world.complete(&inode, Some(last)).unwrap());
    assert_eq!(world.inode("/open/t").unwrap().file().unwrap().length, 35);
}
