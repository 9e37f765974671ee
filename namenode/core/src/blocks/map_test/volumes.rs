//! Volumes that fail, are taken out, and of which a datanode has several.

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
    assert!(world.map.report(who, what, replicas, Some(&facts), world.now).unwrap().is_empty());
    while !world.map.compare(who, what, replicas, BlockId(u64::MAX), 3, world.now).unwrap() {}
    world.map.storage_reported(who, what, world.now).unwrap();
}

fn change(world: &mut World, number: u32, block: BlockRef, kind: ChangeKind) {
    let change = Change { storage: storage(number), block, kind };
    let facts = Facts { version: world.map.version(), blocks: &world.blocks, next_block: id(1_000) };
    assert!(world.map.changed((uuid(1), 1), (&[change], None), Some(&facts), world.now).unwrap().is_empty());
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

#[test]
fn a_failed_volume_loses_its_replicas() {
    let mut world = World::running(3);
    world.written(1, 2, &[0, 1]);
    let mut beat = heartbeat(0, 1);
    beat.volumes[0].failed = true;
    world.now = world.now.plus(Duration::from_secs(1));
    world.map.heartbeat(beat, world.now).unwrap();
    assert_eq!(world.live(1), 1);
    let commands = world.pass(0, &[]);
    assert!(commands.is_empty());
    world.map.round(1, 1, world.now);
    while world.map.sweep(10) {}
    world.map.round(1, 1, world.now);
    assert_eq!(world.map.counts().under_replicated, 1);
}

#[test]
fn a_volume_that_was_taken_out_is_gone_until_it_is_named_again() {
    let mut world = World::running(2);
    world.written(1, 2, &[0, 1]);
    let volumes = |world: &World| world.map.datanodes().iter().next().unwrap().1.count();
    let two = vec![volume(0), volume(7)];
    world.map.register(Registration { volumes: two, ..registration(0, 1) }, world.now).unwrap();
    assert_eq!(volumes(&world), 2);
    let other = Registration { volumes: vec![volume(7)], ..registration(0, 1) };
    world.map.register(other, world.now).unwrap();
    assert_eq!((volumes(&world), world.live(1)), (1, 1));
    let both = vec![volume(7), volume(0)];
    world.map.register(Registration { volumes: both, ..registration(0, 1) }, world.now).unwrap();
    world.report(0, &[finalized(1)]);
    assert_eq!((volumes(&world), world.live(1)), (2, 2));
}

#[test]
fn a_bad_replica_on_a_volume_that_failed_is_in_nobodys_way() {
    let mut world = World::running(2);
    let two = Registration { volumes: vec![volume(0), volume(7)], ..registration(0, 1) };
    world.map.register(two, world.now).unwrap();
    world.written(1, 2, &[0, 1]);
    world.map.report_bad(named(1), &[storage(0)], true);
    let mut beat = heartbeat(0, 1);
    beat.volumes = vec![VolumeReport { failed: true, ..volume(0) }, volume(7)];
    let copied = |commands: &[(u32, NodeCommand)]| {
        commands.iter().any(|(from, command)| {
            let to = matches!(command, NodeCommand::Transfer { targets, .. } if targets[..] == [storage(7)]);
            *from == 1 && to
        })
    };
    // Longer than what is waited for a datanode's first full report.
    let heard = (0..90).any(|_| {
        world.map.heartbeat(beat.clone(), world.now).unwrap();
        copied(&world.pass(1, &[0]))
    });
    assert!(heard, "the other volume of that datanode gets it");
}
