//! Where replicas lie: racks, types, streams and room.

use super::*;

/// Datanodes in racks `/a` and `/b` by turns.
fn in_racks(nodes: u32) -> World {
    let mut world = World::running(0);
    for node in 0..nodes {
        let rack = if node % 2 == 0 { "/a" } else { "/b" }.into();
        world.map.register(Registration { rack, ..registration(node, 1) }, world.now).unwrap();
        world.report(node, &[]);
    }
    world
}

#[test]
fn replicas_in_one_rack_are_spread_once_there_is_another() {
    let mut world = World::running(3);
    world.written(1, 2, &[0, 1]);
    world.pass(3, &[]);
    assert_eq!(world.map.counts().misplaced, 0, "there is one rack alone");
    let other = Registration { rack: "/other".into(), ..registration(3, 1) };
    world.map.register(other, world.now).unwrap();
    world.report(3, &[]);
    world.pass(1, &[]);
    while world.map.sweep(10) {}
    assert_eq!(world.map.counts().misplaced, 1);
    let copies = transfers(&world.pass(2, &[]));
    assert_eq!(copies.iter().map(|(_, _, targets)| targets.clone()).collect::<Vec<_>>(), [[storage(3)]]);
    assert_eq!(
        (world.map.counts().misplaced, world.map.counts().under_replicated),
        (1, 0),
        "it is on its way"
    );
    world.change(3, named(1), ChangeKind::Received);
    assert_eq!(world.map.counts().misplaced, 0);
    assert_eq!(world.live(1), 2);
    assert!(world.map.live(id(1), STAMP).contains(&storage(3)), "one of the crowded rack goes");
    assert!(transfers(&world.pass(30, &[])).is_empty());
}

#[test]
fn what_lacks_replicas_goes_before_what_lies_badly_and_the_last_replica_before_all() {
    let mut world = in_racks(6);
    // All in `/a`; then one with two replicas of three, then one with one.
    world.written(1, 2, &[0, 2]);
    world.written(2, 3, &[0, 1]);
    world.written(3, 3, &[0]);
    let order = world.map.copies_due();
    assert_eq!(order, [id(3), id(2), id(1)]);
    let counts = world.map.counts();
    assert_eq!((counts.endangered, counts.under_replicated, counts.misplaced), (1, 2, 1));
}

#[test]
fn a_rack_is_never_given_up_for_the_sake_of_room() {
    let mut world = in_racks(6);
    world.written(1, 3, &[0, 2, 1]);
    // The only one in `/b` has least room.
    let mut beat = heartbeat(1, 1);
    beat.volumes[0].remaining = 1;
    world.map.heartbeat(beat, world.now).unwrap();
    world.map.apply(Effect::Replication { block: id(1), replication: 2 }, world.now);
    assert!(world.map.live(id(1), STAMP).contains(&storage(1)));
    assert_eq!(world.live(1), 2);
}

#[test]
fn too_many_replicas_go_from_the_types_that_the_policy_does_not_want() {
    let mut world = World::running(3);
    let ssd = |node: u32| {
        let mut beat = heartbeat(node, 1);
        beat.volumes[0].kind = steadfs_common::StorageType::Ssd;
        beat
    };
    world.map.heartbeat(ssd(1), world.now).unwrap();
    world.written(1, 3, &[0, 1, 2]);
    world.map.set_policies(std::collections::BTreeMap::new());
    world.map.apply(Effect::Replication { block: id(1), replication: 2 }, world.now);
    assert_eq!(world.live(1), 3, "its policy is not known yet");
    assert_eq!(world.map.copies_due(), [id(1)]);
    // ONE_SSD: one replica on each type.
    world.map.set_policies([(id(1), 10)].into_iter().collect());
    world.map.round(1, 1, world.now);
    assert!(world.live(1) == 2 && world.map.live(id(1), STAMP).contains(&storage(1)));
    // HOT: the one on an SSD goes.
    let mut world = World::running(3);
    world.map.heartbeat(ssd(1), world.now).unwrap();
    world.written(1, 3, &[0, 1, 2]);
    world.map.apply(Effect::Replication { block: id(1), replication: 2 }, world.now);
    assert!(world.live(1) == 2 && !world.map.live(id(1), STAMP).contains(&storage(1)));
}

#[test]
fn streams_are_bounded_and_the_last_replica_may_use_more() {
    let mut settings = settings();
    (settings.streams_per_node, settings.max_transfers_per_node, settings.max_incoming_per_node) = (1, 2, 3);
    let mut world = World { map: BlockMap::new(settings), now: Millis(1_000_000), blocks: Vec::new() };
    for node in 0..3 {
        world.map.register(registration(node, 1), world.now).unwrap();
    }
    world.map.set_safe_mode(false, world.now);
    (0..3).for_each(|node| world.report(node, &[]));
    for number in 1..=6 {
        world.written(number, 3, &[0, 1]);
    }
    assert_eq!(transfers(&world.pass(2, &[])).len(), 2, "one of each source");
    for number in 7..=12 {
        world.written(number, 2, &[0]);
    }
    let more = transfers(&world.pass(2, &[]));
    assert_eq!(more.len(), 1, "the source may make one more for those: {more:?}");
    assert!(more[0].1 >= id(7));
}

#[test]
fn a_large_block_has_its_time() {
    let world = World::running(1);
    let quick = world.map.patience(1 << 20, 1, 0);
    assert_eq!(quick, world.map.settings.transfer_timeout);
    let large = world.map.patience(8 << 30, 1, 0);
    assert!(large >= quick + Duration::from_secs(1_600), "8 GiB at 5 MiB/s: {large:?}");
    assert!(world.map.patience(8 << 30, 1, 1 << 20) >= Duration::from_secs(8 << 10));
}

#[test]
fn room_is_promised_to_a_block_that_is_allocated_until_its_datanode_knows_of_it() {
    let mut world = World::running(1);
    let storages = smallvec![storage(0)];
    let room = 5_000;
    world
        .map
        .apply(Effect::Pipeline { block: id(1), stamp: STAMP, replication: 1, room, storages }, world.now);
    let promised = |world: &mut World| {
        world.pass(1, &[]);
        world.map.topology().machine_of(storage(0)).unwrap().volumes[0].promised
    };
    assert_eq!(promised(&mut world), room);
    world.change(0, BlockRef { length: 0, ..named(1) }, ChangeKind::Receiving);
    assert_eq!(promised(&mut world), 0, "the datanode counts it itself");
}

/// A datanode in a rack, on a node of that name.
fn on(number: u32, rack: &str, node: &str) -> Registration {
    Registration { rack: rack.into(), node: node.into(), ..registration(number, 1) }
}

fn join(world: &mut World, registration: Registration) {
    let number = world.map.datanodes().iter().count() as u32;
    world.map.register(registration, world.now).unwrap();
    world.report(number, &[]);
}

/// Passes until nothing is copied any more, at most so many seconds: what is ordered arrives. Gives how many copies there were.
fn repaired(world: &mut World, number: u64, seconds: u32) -> usize {
    let mut copied = 0;
    for _ in 0..seconds {
        while world.map.sweep(10) {}
        for (_, block, targets) in transfers(&world.pass(1, &[])) {
            assert_eq!(block, id(number));
            for target in targets {
                let node = (0..20).find(|node| storage(*node) == target).unwrap();
                world.change(node, named(number), ChangeKind::Received);
                copied += 1;
            }
        }
    }
    copied
}

fn holders(world: &World, number: u64) -> Vec<u32> {
    (0..20).filter(|node| world.map.live(id(number), STAMP).contains(&storage(*node))).collect()
}

#[test]
fn replicas_on_one_machine_are_spread_once_there_is_another() {
    let mut world = World::running(0);
    for number in 0..2 {
        join(&mut world, on(number, "/a", "node-1"));
    }
    join(&mut world, on(2, "/a", "node-2"));
    world.written(1, 3, &[0, 1, 2]);
    world.written(2, 2, &[0, 2]);
    assert_eq!(repaired(&mut world, 1, 70), 0, "there is no third machine");
    assert_eq!(world.map.counts().misplaced, 0);
    join(&mut world, on(3, "/a", "node-3"));
    while world.map.sweep(10) {}
    assert_eq!(world.map.counts().misplaced, 1);
    assert_eq!(repaired(&mut world, 1, 70), 1);
    let held = holders(&world, 1);
    assert!(held == [0, 2, 3] || held == [1, 2, 3], "{held:?}");
    assert_eq!((world.map.counts().misplaced, holders(&world, 2)), (0, vec![0, 2]));
}

#[test]
fn what_rests_on_a_machine_neither_counts_as_a_crowd_nor_is_copied_for_ever() {
    let mut world = World::running(0);
    for (number, node) in ["a", "b", "c", "d", "a"].iter().zip(0..).map(|(node, number)| (number, node)) {
        join(&mut world, on(number, "/a", node));
    }
    world.written(1, 3, &[0, 1, 4]);
    let resting = Wish::Maintenance { until: None };
    world.map.set_roster(Roster { named: [(uuid(4), resting)].into(), ..Roster::default() }, world.now);
    world.map.depart(world.now);
    assert_eq!(repaired(&mut world, 1, 70), 0);
    world.map.set_roster(Roster::default(), world.now);
    assert_eq!(repaired(&mut world, 1, 70), 1, "it serves again, on the machine of another");
    assert_eq!(world.live(1), 3);
}

#[test]
fn replicas_in_one_zone_are_spread_once_there_is_another() {
    let mut world = World::running(0);
    for number in 0..4 {
        join(&mut world, on(number, if number < 2 { "/east/1" } else { "/east/2" }, ""));
    }
    world.written(1, 3, &[0, 1, 2]);
    assert_eq!(repaired(&mut world, 1, 70), 0, "two racks, and no other zone");
    join(&mut world, on(4, "/west/1", ""));
    assert_eq!(repaired(&mut world, 1, 70), 1);
    let held = holders(&world, 1);
    assert!(held.contains(&4) && held.len() == 3, "{held:?}");
    // Of four the one in the other zone stays, whatever room it has.
    let mut beat = heartbeat(4, 1);
    beat.volumes[0].remaining = 1;
    world.map.heartbeat(beat, world.now).unwrap();
    world.map.apply(Effect::Replication { block: id(1), replication: 2 }, world.now);
    assert!(holders(&world, 1).contains(&4));
}
