//! Recoveries: who leads them, whom they ask, and what nobody may have written to.

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

#[test]
fn a_recovery_goes_to_a_live_primary_and_to_another_if_it_does_not_come_back() {
    let mut world = World::running(3);
    let storages = smallvec![storage(0), storage(1)];
    let pipeline = Effect::Pipeline { block: id(1), stamp: STAMP, replication: 2, room: 0, storages };
    world.map.apply(pipeline, world.now);
    world.change(0, named(1), ChangeKind::Receiving);
    let storages = smallvec![storage(0), storage(1)];
    let stamp = GenStamp(STAMP.0 + 1);
    let recover = Effect::Recover {
        block: named(1),
        recovery_stamp: stamp,
        truncate_to: None,
        storages,
        synced: 0,
        unsure: false,
    };
    world.map.apply(recover, world.now);
    let told = |commands: Vec<(u32, NodeCommand)>| -> Vec<u32> {
        let recovers =
            commands.into_iter().filter(|(_, command)| matches!(command, NodeCommand::Recover { .. }));
        recovers.map(|(node, _)| node).collect()
    };
    let first = told(world.pass(1, &[]));
    assert_eq!(first.len(), 1);
    assert!(told(world.pass(8, &[])).is_empty());
    let second = told(world.pass(4, &[]));
    assert_eq!(second.len(), 1);
    assert_ne!(first, second);
    let done = Effect::Completed { block: id(1), stamp, length: 10, replication: 2 };
    world.map.apply(done, world.now);
    assert!(told(world.pass(60, &[])).is_empty());
    assert_eq!(world.map.counts().recovering, 0);
}

#[test]
fn a_recovery_tells_how_many_storages_cannot_be_asked() {
    let mut world = World::running(3);
    let storages: smallvec::SmallVec<[StorageId; 3]> = smallvec![storage(0), storage(1), storage(77)];
    let pipeline =
        Effect::Pipeline { block: id(1), stamp: STAMP, replication: 3, room: 0, storages: storages.clone() };
    world.map.apply(pipeline, world.now);
    world.pass(60, &[1]);
    let stamp = GenStamp(STAMP.0 + 1);
    let recover = Effect::Recover {
        block: named(1),
        recovery_stamp: stamp,
        truncate_to: None,
        storages,
        synced: 0,
        unsure: false,
    };
    world.map.apply(recover, world.now);
    let told: Vec<_> = world
        .pass(1, &[1])
        .into_iter()
        .filter_map(|(_, command)| match command {
            NodeCommand::Recover { storages, left_out, .. } => Some((storages.to_vec(), left_out)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(vec![storage(0)], 2)], "one is dead, one was never heard of");
}

#[test]
fn a_recovery_waits_its_time_for_what_was_flushed_and_for_ever_where_nobody_can_tell_what_is_synced() {
    for (unsure, expected) in [(false, 0), (true, 0), (false, 78), (true, 78)] {
        let told = recoveries_of_what_was_flushed(unsure, expected);
        assert_eq!(told.first(), Some(&(3, false)));
        let turned = told.iter().position(|(_, waited)| *waited);
        assert_eq!(turned.is_some(), !unsure || expected == 0, "{unsure} {expected}: {told:?}");
        assert!(turned.is_none_or(|at| at > 3 && told[at..].iter().all(|(_, waited)| *waited)), "{told:?}");
    }
}

/// What is ordered while a storage that may hold the block stays away: bytes that must be left, and whether it was waited for.
/// Node 0 has a replica; besides that, this one was in the pipeline.
fn recoveries_of_what_was_flushed(unsure: bool, expected: u32) -> Vec<(u64, bool)> {
    let mut world = World::running(3);
    let storages: smallvec::SmallVec<[StorageId; 3]> = smallvec![storage(expected), storage(77)];
    let pipeline =
        Effect::Pipeline { block: id(1), stamp: STAMP, replication: 2, room: 0, storages: storages.clone() };
    world.map.apply(pipeline, world.now);
    world.change(0, named(1), ChangeKind::Receiving);
    let mut told = Vec::new();
    // Asked for under a new stamp again and again, as the namespace does.
    for round in 1..=14 {
        let recover = Effect::Recover {
            block: named(1),
            recovery_stamp: GenStamp(STAMP.0 + round),
            truncate_to: None,
            storages: storages.clone(),
            synced: 3,
            unsure,
        };
        world.map.apply(recover, world.now);
        told.extend(world.pass(10, &[]).into_iter().filter_map(|(_, command)| match command {
            NodeCommand::Recover { synced, waited, .. } => Some((synced, waited)),
            _ => None,
        }));
    }
    // A writer that went on with it ends the wait.
    world.map.apply(
        Effect::Pipeline { block: id(1), stamp: STAMP, replication: 2, room: 0, storages: storages.clone() },
        world.now,
    );
    let recovery_stamp = GenStamp(STAMP.0 + 50);
    let block = named(1);
    let recover = Effect::Recover { block, recovery_stamp, truncate_to: None, storages, synced: 3, unsure };
    world.map.apply(recover, world.now);
    let waits = |(_, command)| matches!(command, NodeCommand::Recover { waited: false, .. });
    assert!(world.pass(1, &[]).into_iter().any(waits));
    told
}

#[test]
fn what_a_recovery_made_is_read_before_it_is_reported() {
    let mut world = World::running(3);
    for node in 0..3 {
        world.change(node, named(1), ChangeKind::Received);
    }
    world.map.apply(Effect::Reopened { block: id(1) }, world.now);
    let stamp = GenStamp(STAMP.0 + 1);
    let cut = BlockRef { stamp, length: 4, ..named(1) };
    let storages: smallvec::SmallVec<[StorageId; 3]> = smallvec![storage(0), storage(1)];
    for effect in [
        Effect::Pipeline { block: id(1), stamp, replication: 2, room: 0, storages: storages.clone() },
        Effect::Held { block: cut, storages: storages.clone() },
        Effect::Completed { block: id(1), stamp, length: 4, replication: 2 },
    ] {
        world.map.apply(effect, world.now);
    }
    let block = Block { stamp, length: 4, ..complete(1, 2) };
    let located = world.map.locate(&block, None, 1);
    assert!(!located.corrupt && located.storages.len() == 2, "{located:?}");
    assert!(!located.storages.contains(&storage(2)), "the one that was not cut is no replica any more");
}

#[test]
fn a_recovery_of_the_last_process_goes_on() {
    let recovery = Some(Recovery { stamp: GenStamp(2_000), truncate_to: None, started: Millis(0) });
    let state =
        BlockState::UnderConstruction { expected: smallvec![storage(0)], recovery, synced: 0, unsure: false };
    let mut world = World::starting(1, vec![Block { state, ..complete(1, 1) }]);
    world.report(0, &[Replica { state: ReplicaState::WaitingRecovery, ..finalized(1) }]);
    world.map.set_safe_mode(false, world.now);
    let commands = world.pass(2, &[]);
    assert!(
        commands
            .iter()
            .any(|(_, command)| matches!(command, NodeCommand::Recover { stamp: GenStamp(2_000), .. })),
        "{commands:?}"
    );
}
