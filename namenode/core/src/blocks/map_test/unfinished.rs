//! Replicas that were not final when their block was complete, and are final after all.

use super::*;

/// A block that is complete on datanodes 0 and 1, and whose replica on 2 has all its bytes and lost its writer.
fn with_one_that_waits(replication: u16) -> World {
    let mut world = World::running(4);
    let waiting = Replica { block: named(1), state: ReplicaState::WaitingRecovery };
    world.written(1, replication, &[0, 1]);
    world.pass(200, &[]);
    world.report(2, &[waiting]);
    assert_eq!((world.live(1), world.map.counts().corrupt), (2, 1));
    world
}

#[test]
fn a_replica_that_is_final_after_all_counts() {
    let mut world = with_one_that_waits(3);
    world.change(2, named(1), ChangeKind::Received);
    assert_eq!((world.live(1), world.map.counts().corrupt), (3, 0));
    assert!(invalidated(&world.pass(700, &[])).is_empty());
    // By a full report, too.
    let mut world = with_one_that_waits(3);
    world.pass(200, &[]);
    world.report(2, &[finalized(1)]);
    assert_eq!((world.live(1), world.map.counts().corrupt), (3, 0));
}

#[test]
fn one_that_is_to_be_deleted_does_not_count_for_having_become_final() {
    let mut world = with_one_that_waits(2);
    assert_eq!(invalidated(&world.pass(1, &[])), [(2, id(1))]);
    world.change(2, named(1), ChangeKind::Received);
    assert_eq!(world.live(1), 2, "the order reaches what it has become");
    assert!(invalidated(&world.pass(1, &[])).is_empty(), "and no other is too many");
    world.change(2, named(1), ChangeKind::Deleted);
    assert_eq!((world.live(1), world.map.counts().corrupt), (2, 0));
}

#[test]
fn one_that_is_not_to_be_deleted_after_all_is_asked_after() {
    let mut world = with_one_that_waits(2);
    world.change(2, named(1), ChangeKind::Received);
    world.change(0, named(1), ChangeKind::Deleted);
    world.change(1, named(1), ChangeKind::Deleted);
    let check = NodeCommand::Check(vec![named(1)]);
    assert!(world.pass(1, &[]).contains(&(2, check)));
    world.change(2, named(1), ChangeKind::Verified);
    assert_eq!((world.live(1), world.map.counts().corrupt), (1, 0));
}

#[test]
fn one_whose_bytes_are_bad_stays_so() {
    let mut world = World::running(3);
    world.written(1, 3, &[0, 1, 2]);
    world.map.report_bad(named(1), &[storage(2)], true);
    world.change(2, named(1), ChangeKind::Received);
    assert_eq!((world.live(1), world.map.counts().corrupt), (2, 1));
}
