//! Made-up trees.

use proptest::prelude::*;
use steadfs_common::{FsErrorKind, Millis, Name, ROOT_INODE};

use super::world::{World, path};
use crate::command::Command;
use crate::memory::check;
use crate::namespace::synthetic::{Builder, Shape};
use crate::view::View;

fn shape(files: u64, files_per_folder: u64, blocks_per_file: u32) -> Shape {
    Shape {
        name: Name::new("made-up").unwrap(),
        files,
        files_per_folder,
        blocks_per_file,
        block_bytes: 1 << 20,
        replication: 3,
        owner: "ann".into(),
        group: "staff".into(),
        now: Millis(7),
    }
}

/// Makes it, and looks after every step whether all is sound.
fn build(world: &mut World, shape: Shape, rows: usize) -> Builder {
    let mut builder = Builder::new(&world.view, shape).unwrap();
    loop {
        let changes = builder.step(&world.view, rows);
        world.view.apply(changes);
        check(&world.view).unwrap();
        if builder.is_done() {
            return builder;
        }
    }
}

#[test]
fn what_is_made_up_is_there_and_counted() {
    let mut world = World::new();
    let builder = build(&mut world, shape(25, 10, 2), 30);
    let totals = world.view.totals(world.inode("/made-up").unwrap().id);
    assert_eq!((totals.files, totals.bytes, totals.space), (25, 50 << 20, 150 << 20));
    assert_eq!(totals.directories, 4, "one in the middle, three of files");
    let made = builder.made();
    assert_eq!(made.blocks.1.0 - made.blocks.0.0, 50);
    assert_eq!(world.view.block(made.blocks.0).unwrap().stamp, made.stamp);
    let last = world.inode("/made-up/d0000/d0000002/part-00000004").unwrap();
    assert_eq!(last.file().unwrap().blocks, 2);
    assert_eq!(world.inode("/made-up/d0000/d0000002/part-00000005"), None);
}

#[test]
fn it_is_a_tree_like_any_other() {
    let mut world = World::new();
    build(&mut world, shape(25, 10, 1), 1_000);
    world.mkdirs("hdfs", "/made-up/more", 0o755).unwrap();
    world.file("hdfs", "/made-up/more/file", &[5]);
    let delete = Command::Delete { path: path("/made-up"), recursive: true };
    world.run("hdfs", &delete).unwrap();
    world.reclaim_all();
    check(&world.view).unwrap();
    assert_eq!(world.view.totals(ROOT_INODE).files, 0);
}

#[test]
fn what_cannot_be_made_is_refused() {
    let mut world = World::new();
    world.mkdirs("hdfs", "/made-up", 0o755).unwrap();
    let kind = |shape| Builder::new(&world.view, shape).err().unwrap().kind();
    assert_eq!(kind(shape(1, 1, 1)), FsErrorKind::AlreadyExists);
    let other = Shape { name: Name::new("other").unwrap(), ..shape(1, 0, 1) };
    assert_eq!(kind(other), FsErrorKind::InvalidArgument);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_shape_in_any_steps_is_sound(
        files in 0_u64..60,
        per_folder in 1_u64..20,
        blocks in 0_u32..4,
        rows in 1_usize..200,
    ) {
        let mut world = World::new();
        build(&mut world, shape(files, per_folder, blocks), rows);
        prop_assert_eq!(world.view.totals(ROOT_INODE).files, files);
    }
}
