//! Datanodes with several volumes.

use super::*;

/// Datanode 0 has a volume, datanode 1 has two: `storage(1)` and `storage(11)`.
fn with_two_volumes() -> World {
    let mut world = World::running(0);
    let two = Registration { volumes: vec![volume(1), volume(11)], ..registration(1, 1) };
    world.map.register(registration(0, 1), world.now).unwrap();
    world.map.register(two, world.now).unwrap();
    world.report(0, &[]);
    for storage_of in [1, 11] {
        on_volume(&mut world, storage_of, &[]);
    }
    world
}

/// Datanode 1 reports all that is on one of its volumes.
fn on_volume(world: &mut World, number: u32, replicas: &[Replica]) {
    let (who, what) = ((uuid(1), 1), part(world.now.0, storage(number)));
    let facts = Facts { version: world.map.version(), blocks: &world.blocks, next_block: id(1_000) };
    assert!(world.map.report(who, what, replicas, &facts, world.now).unwrap().is_empty());
    while !world.map.compare(who, what, replicas, BlockId(u64::MAX), 3, world.now).unwrap() {}
    world.map.storage_reported(who, what, world.now).unwrap();
}

fn change(world: &mut World, number: u32, block: BlockRef, kind: ChangeKind) {
    let change = Change { storage: storage(number), block, kind };
    let facts = Facts { version: world.map.version(), blocks: &world.blocks, next_block: id(1_000) };
    assert!(world.map.changed((uuid(1), 1), (&[change], None), &facts, world.now).unwrap().is_empty());
}

/// A pipeline met a full volume, went on without that datanode, and a copy went to another volume of it, where nobody tells
/// what became of the beginning on the first.
#[test]
fn a_good_replica_ends_what_an_older_stamp_left_on_another_volume() {
    for reported in [false, true] {
        let mut world = with_two_volumes();
        world.written(1, 2, &[0]);
        let begun = BlockRef { stamp: GenStamp(STAMP.0 - 1), length: 0, ..named(1) };
        change(&mut world, 1, begun, ChangeKind::Receiving);
        assert_eq!(world.map.counts().corrupt, 1);
        if reported {
            on_volume(&mut world, 11, &[finalized(1)]);
        } else {
            change(&mut world, 11, named(1), ChangeKind::Received);
        }
        let counts = world.map.counts();
        assert_eq!((counts.corrupt, counts.under_replicated, counts.pending_deletion), (0, 0, 0));
        let orders = world.pass(2, &[]);
        assert!(!orders.iter().any(|(_, order)| matches!(order, NodeCommand::Invalidate(_))), "{orders:?}");
        assert_eq!(world.live(1), 2);
    }
}
