//! Copies that fail, and replicas that only a reader calls bad.

use super::*;

/// The copies that are ordered within some seconds, with all that a datanode does not tell of left out.
fn ordered(world: &mut World, seconds: u64) -> Vec<(u32, BlockId, Vec<StorageId>)> {
    transfers(&world.pass(seconds, &[]))
}

fn failed(world: &mut World, source: u32, targets: &[StorageId]) {
    world.map.copy_failed((uuid(source), 1), named(1), targets, world.now).unwrap();
}

/// A block on nodes 0 and 1 that wants a third replica, of `nodes` datanodes; and the first order for it.
fn lacking(nodes: u32) -> (World, u32, Vec<StorageId>) {
    let mut world = World::running(nodes);
    world.written(1, 2, &[0, 1]);
    world.map.apply(Effect::Replication { block: id(1), replication: 3 }, world.now);
    let mut orders = ordered(&mut world, 3);
    assert_eq!(orders.len(), 1, "{orders:?}");
    let (source, _, targets) = orders.remove(0);
    (world, source, targets)
}

#[test]
fn a_copy_that_failed_is_ordered_again_at_once_from_and_to_others() {
    for _ in 0..10 {
        let (mut world, source, targets) = lacking(4);
        failed(&mut world, source, &targets);
        let orders = ordered(&mut world, 2);
        assert_eq!(orders.len(), 1, "{orders:?}");
        assert_ne!((orders[0].0, &orders[0].2), (source, &targets));
        assert!(orders[0].0 != source && orders[0].2 != targets, "{orders:?}");
        world.map.check_streams();
        world.change(if targets[0] == storage(2) { 3 } else { 2 }, named(1), ChangeKind::Received);
        assert_eq!((world.live(1), world.map.counts().under_replicated), (3, 0));
        assert!(ordered(&mut world, 30).is_empty());
    }
}

#[test]
fn where_there_is_nobody_else_the_same_are_asked_again_and_rest_ever_longer() {
    let (mut world, source, targets) = lacking(3);
    assert_eq!(targets, [storage(2)]);
    failed(&mut world, source, &targets);
    let mut times = Vec::new();
    let begun = world.now;
    while world.now.since(begun) < Duration::from_secs(120) {
        for (source, _, targets) in ordered(&mut world, 1) {
            assert_eq!(targets, [storage(2)]);
            times.push(world.now.since(begun).as_secs());
            failed(&mut world, source, &targets);
        }
    }
    assert!(times[0] <= 2, "{times:?}");
    assert!((6..=12).contains(&times.len()), "it stays tried, and not all the time: {times:?}");
    let last = times.windows(2).map(|pair| pair[1] - pair[0]).next_back().unwrap();
    let most = settings().transfer_timeout.as_secs();
    assert!((most..=most + 3).contains(&last), "{times:?}");
    world.map.check_streams();
}

#[test]
fn what_is_not_under_way_cannot_fail() {
    let (mut world, source, targets) = lacking(4);
    failed(&mut world, 1 - source, &targets);
    failed(&mut world, source, &[storage(0)]);
    let older = BlockRef { stamp: GenStamp(STAMP.0 - 1), ..named(1) };
    world.map.copy_failed((uuid(source), 1), older, &targets, world.now).unwrap();
    assert!(ordered(&mut world, 5).is_empty(), "the copy is under way");
    let error = world.map.copy_failed((uuid(source), 7), named(1), &targets, world.now).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::NotRegistered);
    world.map.check_streams();
}

#[test]
fn one_of_two_copies_that_fails_leaves_the_other_under_way() {
    let mut world = World::running(5);
    world.written(1, 1, &[0]);
    world.map.apply(Effect::Replication { block: id(1), replication: 3 }, world.now);
    let orders = ordered(&mut world, 3);
    let targets: Vec<StorageId> = orders.iter().flat_map(|order| order.2.clone()).collect();
    assert_eq!(targets.len(), 2, "{orders:?}");
    failed(&mut world, 0, &targets[..1]);
    world.map.check_streams();
    let again: Vec<StorageId> = ordered(&mut world, 3).into_iter().flat_map(|order| order.2).collect();
    assert!(!again.is_empty() && !again.contains(&targets[0]), "{again:?}");
    world.map.check_streams();
}

pub(super) fn checks(commands: &[(u32, NodeCommand)]) -> Vec<(u32, Vec<BlockRef>)> {
    let of = |(node, command): &(u32, NodeCommand)| match command {
        NodeCommand::Check(blocks) => Some((*node, blocks.clone())),
        _ => None,
    };
    commands.iter().filter_map(of).collect()
}

#[test]
fn a_replica_that_a_reader_calls_bad_is_looked_at_by_its_datanode_until_it_says_what_it_finds() {
    let mut world = World::running(3);
    world.written(1, 2, &[0, 1]);
    world.map.report_bad(named(1), &[storage(0)], false);
    assert_eq!(world.live(1), 1, "nobody is sent there meanwhile");
    let commands = world.pass(1, &[]);
    assert_eq!(checks(&commands), [(0, vec![named(1)])]);
    assert!(checks(&world.pass(50, &[])).is_empty());
    assert_eq!(checks(&world.pass(20, &[])).len(), 1, "it has not answered");

    // It finds nothing: the replica counts again, and is not looked at any more.
    world.change(0, named(1), ChangeKind::Verified);
    assert_eq!((world.live(1), world.map.counts().corrupt), (2, 0));
    assert!(checks(&world.pass(130, &[])).is_empty());

    // It finds that it is so.
    world.map.report_bad(named(1), &[storage(0)], false);
    assert_eq!(checks(&world.pass(1, &[])).len(), 1);
    world.map.report_bad(named(1), &[storage(0)], true);
    assert!(checks(&world.pass(130, &[])).is_empty());
}

/// A block on nodes 0 and 1 of which one replica is enough now; that of node 0 was called bad and is ordered away.
fn ordered_away() -> World {
    let mut world = World::running(3);
    world.written(1, 2, &[0, 1]);
    world.map.report_bad(named(1), &[storage(0)], false);
    world.map.apply(Effect::Replication { block: id(1), replication: 1 }, world.now);
    world.change(1, named(1), ChangeKind::Verified);
    world
}

#[test]
fn a_replica_that_is_ordered_away_does_not_count_however_good_it_is() {
    let mut world = ordered_away();
    assert_eq!(invalidated(&world.pass(1, &[])), [(0, id(1))]);
    world.change(0, named(1), ChangeKind::Verified);
    assert_eq!(world.live(1), 1, "its datanode may delete it at any time");
    assert!(invalidated(&world.pass(30, &[])).is_empty(), "and the other is not too many");
    world.change(0, named(1), ChangeKind::Deleted);
    assert_eq!((world.live(1), world.map.counts().corrupt), (1, 0));
}

#[test]
fn a_good_replica_whose_order_is_taken_back_is_asked_after_and_counts_again() {
    for proven in [false, true] {
        let mut world = ordered_away();
        world.map.report_bad(named(1), &[storage(0)], proven);
        // It says so before the order goes out; then the other one is lost.
        world.change(0, named(1), ChangeKind::Verified);
        world.change(1, named(1), ChangeKind::Deleted);
        let commands = world.pass(2, &[]);
        assert!(invalidated(&commands).is_empty(), "nothing else is left");
        assert_eq!(checks(&commands), [(0, vec![named(1)])]);
        world.change(0, named(1), ChangeKind::Verified);
        assert_eq!((world.live(1), world.map.counts().corrupt), (1, 0));
        assert!(checks(&world.pass(130, &[])).is_empty());
    }
}

#[test]
fn what_a_datanode_says_of_its_own_replica_is_not_asked_after() {
    let mut world = World::running(3);
    world.written(1, 2, &[0, 1]);
    world.map.report_bad(named(1), &[storage(0)], true);
    assert!(checks(&world.pass(130, &[])).is_empty());
}

#[test]
fn a_datanode_that_was_away_is_asked_when_it_is_back() {
    let mut world = World::running(3);
    world.written(1, 2, &[0, 1]);
    world.map.report_bad(named(1), &[storage(0)], false);
    world.pass(65, &[0]);
    world.map.register(registration(0, 1), world.now).unwrap();
    world.report(0, &[finalized(1)]);
    assert_eq!(checks(&world.pass(30, &[])), [(0, vec![named(1)])]);
}
