use steadfs_common::{FsErrorKind, FsResult, Name};

use super::world::{BLOCK, World, append, chmod, create, delete, named, of, path, user};
use crate::command::{BlockRef, Caller};
use crate::namespace::read::{Action, ContentSummary, FileBlocks, Reader, full_path, is_detached};
use crate::{Command, Reply};

fn reader<'a>(world: &'a World, caller: &'a Caller) -> Reader<'a> {
    Reader { view: &world.view, caller, settings: &world.settings }
}

fn blocks(world: &World, at: &str, offset: u64, length: u64) -> FsResult<FileBlocks> {
    reader(world, &user("ann")).blocks(&path(at), offset, length, 100)
}

fn offsets(found: &FileBlocks) -> Vec<u64> {
    found.blocks.iter().map(|block| block.offset).collect()
}

#[test]
fn a_path_through_a_file_is_denied_to_all_but_superusers() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[]);
    let (ann, root) = (user("ann"), user("hdfs"));
    let error = reader(&world, &ann).stat(&path("/open/f/x/y")).unwrap_err();
    assert_eq!((error.kind(), error.message()), (FsErrorKind::AccessDenied, "/open/f (is not a directory)"));
    assert_eq!(reader(&world, &root).stat(&path("/open/f/x")), Ok(None));
    assert_eq!(
        reader(&world, &root).list(&path("/open/f/x"), None, 9).unwrap_err().kind(),
        FsErrorKind::AccessDenied
    );
    assert_eq!(reader(&world, &ann).stat(&path("/open/none/x")), Ok(None));
}

#[test]
fn looking_wants_the_way_only() {
    let mut world = World::new();
    world.mkdirs("ann", "/open/d", 0o700).unwrap();
    world.file("ann", "/open/d/f", &[]);
    let eve = user("eve");
    assert!(reader(&world, &eve).stat(&path("/open/d")).unwrap().is_some());
    assert_eq!(reader(&world, &eve).stat(&path("/open/d/f")).unwrap_err().kind(), FsErrorKind::AccessDenied);
    let error = reader(&world, &eve).list(&path("/open/d"), None, 9).unwrap_err();
    assert!(error.message().contains("access=READ_EXECUTE, inode=\"/open/d\""), "{error}");
    assert_eq!(
        reader(&world, &eve).content_summary(&path("/open/d")).unwrap_err().kind(),
        FsErrorKind::AccessDenied
    );
}

#[test]
fn listings_come_in_pages_by_name() {
    let mut world = World::new();
    for name in ["b", "a", "é", "c"] {
        world.file("ann", &format!("/open/{name}"), &[]);
    }
    let ann = user("ann");
    let list = |after: Option<&str>, limit| {
        let after = after.map(|name| Name::new(name).unwrap());
        let listing = reader(&world, &ann).list(&path("/open"), after.as_ref(), limit).unwrap().unwrap();
        let names: Vec<String> =
            listing.page.rows.iter().map(|(name, _)| name.as_ref().unwrap().to_string()).collect();
        (names.join(" "), listing.page.more)
    };
    assert_eq!(list(None, 2), ("a b".into(), true));
    assert_eq!(list(Some("b"), 2), ("c é".into(), false));
    assert_eq!(list(Some("aa"), 1), ("b".into(), true), "an entry that is gone");
    assert_eq!(list(Some("é"), 2), (String::new(), false));
    assert_eq!(list(None, 0), ("a".into(), true), "no page is empty while there is more");
    assert!(reader(&world, &ann).list(&path("/none"), None, 2).unwrap().is_none());
    let file = reader(&world, &ann).list(&path("/open/a"), None, 2).unwrap().unwrap();
    assert_eq!((file.page.rows.len(), file.page.rows[0].0.clone(), file.page.more), (1, None, false));
}

#[test]
fn ranges_meet_blocks() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[BLOCK, BLOCK, 10]);
    let all = blocks(&world, "/open/f", 0, u64::MAX).unwrap();
    assert_eq!(
        (offsets(&all), all.length, all.last_complete),
        (vec![0, BLOCK, 2 * BLOCK], 2 * BLOCK + 10, true)
    );
    assert_eq!(all.last.unwrap().offset, 2 * BLOCK);
    let cases: [(u64, u64, &[u64]); 7] = [
        (0, 1, &[0]),
        (0, BLOCK, &[0]),
        (0, BLOCK + 1, &[0, BLOCK]),
        (BLOCK - 1, 2, &[0, BLOCK]),
        (BLOCK, 0, &[BLOCK]),
        (2 * BLOCK + 9, 50, &[2 * BLOCK]),
        (2 * BLOCK + 10, 50, &[]),
    ];
    for (offset, length, expected) in cases {
        assert_eq!(
            offsets(&blocks(&world, "/open/f", offset, length).unwrap()),
            expected,
            "{offset} {length}"
        );
    }
    assert!(offsets(&blocks(&world, "/open/f", u64::MAX, u64::MAX).unwrap()).is_empty());
    let two = reader(&world, &user("ann")).blocks(&path("/open/f"), 0, u64::MAX, 2).unwrap();
    assert_eq!(offsets(&two), [0, BLOCK]);
}

#[test]
fn blocks_that_are_not_whole_are_found_too() {
    let mut world = World::new();
    let lengths: Vec<u64> = (0..200).map(|index| 1 + index % 7).collect();
    world.file("ann", "/open/f", &lengths);
    let total: u64 = lengths.iter().sum();
    for offset in 0..total + 2 {
        let mut expected = Vec::new();
        let mut position = 0;
        for length in &lengths {
            if position + length > offset && position < offset + 5 {
                expected.push(position);
            }
            position += length;
        }
        assert_eq!(offsets(&blocks(&world, "/open/f", offset, 5).unwrap()), expected, "{offset}");
    }
}

#[test]
fn a_file_that_is_written_shows_its_last_block_apart() {
    let mut world = World::new();
    let file = world.create("ann", "/open/f").unwrap();
    let none = blocks(&world, "/open/f", 0, 10).unwrap();
    assert_eq!((none.length, none.blocks.len(), none.last, none.last_complete), (0, 0, None, false));
    assert!(none.inode.file().unwrap().under_construction);

    let first = world.add_block(&file, None).unwrap();
    let empty = blocks(&world, "/open/f", 0, 10).unwrap();
    assert_eq!(
        (empty.length, offsets(&empty), empty.last_complete),
        (0, vec![0], false),
        "listed without bytes"
    );
    let sync = Command::Fsync {
        file: of(&file),
        client: "c1".into(),
        last_block_length: Some(30),
        synced: Some(true),
    };
    world.run("ann", &sync).unwrap();
    let known = blocks(&world, "/open/f", 0, 10).unwrap();
    assert_eq!(
        (known.length, known.inode.file().unwrap().length),
        (0, 30),
        "the status counts what is known"
    );
    assert_eq!(known.last.unwrap().block.length, 30);

    let second = world.add_block(&file, Some(BlockRef { length: BLOCK, ..named(&first) })).unwrap();
    let more = blocks(&world, "/open/f", 0, BLOCK + 1).unwrap();
    assert_eq!((more.length, offsets(&more)), (BLOCK, vec![0, BLOCK]));
    assert_eq!(offsets(&blocks(&world, "/open/f", 0, BLOCK).unwrap()), [0]);
    assert!(offsets(&blocks(&world, "/open/f", BLOCK, 9).unwrap()).is_empty());
    assert_eq!(blocks(&world, "/open/f", BLOCK, 9).unwrap().last.unwrap().block.id, second.block.id);
    world.nodes.reports.set(false);
    world.complete(&file, Some(BlockRef { length: 4, ..named(&second) })).unwrap();
    let committed = blocks(&world, "/open/f", 0, 9).unwrap();
    assert_eq!((committed.length, committed.last_complete), (BLOCK, false), "not yet seen on a datanode");
    world.nodes.reports.set(true);
    world.complete(&file, Some(BlockRef { length: 4, ..named(&second) })).unwrap();
    world.run("ann", &append("/open/f", "c1")).unwrap();
    assert_eq!(blocks(&world, "/open/f", 0, 9).unwrap().length, BLOCK, "open again");
}

#[test]
fn reading_wants_a_file_and_leave() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[5]);
    world.run("ann", &chmod("/open/f", 0o600)).unwrap();
    let error = reader(&world, &user("eve")).blocks(&path("/open/f"), 0, 5, 5).unwrap_err();
    assert!(error.message().contains("access=READ, inode=\"/open/f\""), "{error}");
    assert_eq!(blocks(&world, "/open", 0, 1).unwrap_err().message(), "Path is not a file: /open");
    assert_eq!(blocks(&world, "/open/n", 0, 1).unwrap_err().message(), "File does not exist: /open/n");
    let ann = user("ann");
    assert_eq!(reader(&world, &ann).file(&path("/open")).unwrap_err().kind(), FsErrorKind::IsADirectory);
}

#[test]
fn sums_are_those_of_hdfs() {
    let mut world = World::new();
    world.file("ann", "/open/d/f", &[BLOCK, 10]);
    world.mkdirs("ann", "/open/d/e", 0o755).unwrap();
    let ann = user("ann");
    let sum = |at| reader(&world, &ann).content_summary(&path(at)).unwrap();
    let length = BLOCK + 10;
    assert_eq!(
        sum("/open/d"),
        ContentSummary { length, files: 1, directories: 2, space: 2 * length, ..ContentSummary::default() }
    );
    assert_eq!(
        sum("/open/d/f"),
        ContentSummary { length, files: 1, directories: 0, space: 2 * length, ..ContentSummary::default() }
    );
    assert_eq!(sum("/").directories, 4);
    assert_eq!(reader(&world, &ann).content_summary(&path("/n")).unwrap_err().kind(), FsErrorKind::NotFound);
    world.run("ann", &append("/open/d/f", "c1")).unwrap();
    let open = reader(&world, &ann).content_summary(&path("/open/d/f")).unwrap();
    assert_eq!((open.length, open.space), (length, 4 * BLOCK));
}

#[test]
fn access_is_asked_for() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[]);
    let eve = user("eve");
    let check =
        |at, action| reader(&world, &eve).check_access(&path(at), action).map_err(|error| error.kind());
    assert_eq!(check("/open/f", Action::READ), Ok(()));
    assert_eq!(check("/open/f", Action::from_bits(6).unwrap()), Err(FsErrorKind::AccessDenied));
    assert_eq!(check("/open/n", Action::NONE), Err(FsErrorKind::NotFound));
    assert_eq!(Action::from_bits(8), None);
}

#[test]
fn ids_lead_to_paths_while_they_are_in_the_tree() {
    let mut world = World::new();
    world.file("ann", "/open/d/f", &[]);
    let file = world.inode("/open/d/f").unwrap();
    assert_eq!(full_path(&world.view, file.id), Some(path("/open/d/f")));
    assert_eq!(full_path(&world.view, steadfs_common::ROOT_INODE), Some(path("/")));
    world.run("ann", &delete("/open/d", true)).unwrap();
    world.file("ann", "/open/d/f", &[]);
    assert!(is_detached(&world.view, file.id));
    assert!(reader(&world, &user("ann")).by_id(file.id).is_none());
    assert!(!is_detached(&world.view, world.inode("/open/d/f").unwrap().id));
}

#[test]
fn the_writer_s_file_is_found_by_id() {
    let mut world = World::new();
    let Reply::File(file) = world.run("ann", &create("/open/f", "c1")).unwrap() else { panic!() };
    let ann = user("ann");
    assert_eq!(reader(&world, &ann).open_file(&of(&file), "c1").unwrap().id, file.id);
    assert_eq!(
        reader(&world, &ann).open_file(&of(&file), "c2").unwrap_err().kind(),
        FsErrorKind::LeaseExpired
    );
}
