//! Recoveries of blocks that nobody may have written to.

use super::*;

#[test]
fn a_block_whose_storages_are_all_lost_is_recovered_by_anybody_once_they_were_waited_for() {
    let orders = |synced, unsure, truncate_to| {
        let mut world = World::running(2);
        let storages: smallvec::SmallVec<[StorageId; 3]> = smallvec![storage(77), storage(78)];
        let pipeline = Effect::Pipeline {
            block: id(1),
            stamp: STAMP,
            replication: 2,
            room: 0,
            storages: storages.clone(),
        };
        world.map.apply(pipeline, world.now);
        let recover = Effect::Recover {
            block: named(1),
            recovery_stamp: GenStamp(STAMP.0 + 1),
            truncate_to,
            storages,
            synced,
            unsure,
        };
        world.map.apply(recover, world.now);
        let early = recovers(&world.pass(90, &[]));
        assert!(early.is_empty(), "their disks may be put back: {early:?}");
        recovers(&world.pass(60, &[]))
    };
    let told = orders(0, false, None);
    assert!(told.len() > 1 && told[0].0 != told[1].0, "one that does not come back is followed: {told:?}");
    assert!(told.iter().all(|(_, asked, left_out, waited)| (*asked, *left_out, *waited) == (0, 2, true)));
    assert!(orders(0, true, None).is_empty(), "its writer may have synced some");
    assert!(orders(5, false, None).is_empty(), "five bytes were synced");
    assert!(orders(0, false, Some(0)).is_empty());
}

/// Who is told to recover a block: how many storages it asks, how many it cannot, and whether these were waited for.
fn recovers(commands: &[(u32, NodeCommand)]) -> Vec<(u32, usize, u32, bool)> {
    let of = |(node, command): &(u32, NodeCommand)| match command {
        NodeCommand::Recover { storages, left_out, waited, .. } => {
            Some((*node, storages.len(), *left_out, *waited))
        }
        _ => None,
    };
    commands.iter().filter_map(of).collect()
}

/// A recovery of a block on these storages is asked for (again).
fn asked(world: &mut World, stamp: u64, storages: &[StorageId]) {
    let recover = Effect::Recover {
        block: named(1),
        recovery_stamp: GenStamp(stamp),
        truncate_to: None,
        storages: storages.iter().copied().collect(),
        synced: 5,
        unsure: false,
    };
    world.map.apply(recover, world.now);
}

#[test]
fn a_recovery_is_asked_for_again_ever_later_until_there_is_news_of_it() {
    let mut world = World::running(3);
    let storages: Vec<StorageId> = vec![storage(0), storage(1)];
    let pipeline = Effect::Pipeline {
        block: id(1),
        stamp: STAMP,
        replication: 2,
        room: 0,
        storages: storages.iter().copied().collect(),
    };
    world.map.apply(pipeline, world.now);
    let seconds = |world: &World| world.map.recovery_wait(id(1)).as_secs();
    assert_eq!(seconds(&world), 30, "none runs that is known");
    let mut waits = Vec::new();
    for nth in 0..12 {
        asked(&mut world, STAMP.0 + 1 + nth, &storages);
        waits.push(seconds(&world));
    }
    assert_eq!(waits[..4], [30, 60, 120, 120]);
    world.change(1, named(1), ChangeKind::Receiving);
    assert_eq!(seconds(&world), 30, "one of its storages told of it");
    asked(&mut world, STAMP.0 + 50, &storages);
    assert_eq!(seconds(&world), 60);
    world.map.register(registration(2, 1), world.now).unwrap();
    assert_eq!(seconds(&world), 60, "none of its storages");
    world.map.register(registration(0, 1), world.now).unwrap();
    assert_eq!(seconds(&world), 30);
}

#[test]
fn a_recovery_of_which_nobody_was_told_needs_no_new_stamp() {
    let mut world = World::running(3);
    let pipeline = Effect::Pipeline {
        block: id(1),
        stamp: STAMP,
        replication: 2,
        room: 0,
        storages: smallvec![storage(0)],
    };
    world.map.apply(pipeline, world.now);
    world.pass(70, &[0]);
    asked(&mut world, STAMP.0 + 1, &[storage(0)]);
    assert_eq!(world.map.recovery_wait(id(1)).as_secs(), 600);
    world.map.register(registration(0, 1), world.now).unwrap();
    assert_eq!(recovers(&world.pass(2, &[])).len(), 1, "it leads the one that is there at once");
    assert_eq!(world.map.recovery_wait(id(1)).as_secs(), 30);
}
