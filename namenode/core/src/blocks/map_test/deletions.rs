//! Orders to delete, and answers that are lost.

use super::*;

fn numbered(node: u32, number: u64, answered: u64) -> Heartbeat {
    Heartbeat { number, answered, ..heartbeat(node, 1) }
}

fn beat(world: &mut World, number: u64, answered: u64) -> Vec<BlockId> {
    world.now = world.now.plus(Duration::from_secs(3));
    let orders = world.map.heartbeat(numbered(0, number, answered), world.now).unwrap();
    let orders: Vec<_> = orders.into_iter().map(|order| (0, order)).collect();
    invalidated(&orders).into_iter().map(|(_, id)| id).collect()
}

#[test]
fn an_order_to_delete_that_was_lost_with_its_answer_is_repeated_by_the_next() {
    let mut world = World::running(3);
    world.written(1, 2, &[0, 1]);
    world.map.apply(Effect::Removed { block: id(1) }, world.now);
    assert_eq!(beat(&mut world, 1, 0), [id(1)]);
    assert_eq!(beat(&mut world, 2, 0), [id(1)], "the first answer was lost");
    assert!(beat(&mut world, 2, 0).is_empty(), "nobody waits for the answer to a repeated heartbeat");
    assert!(beat(&mut world, 3, 2).is_empty(), "it was heard");
    assert!(beat(&mut world, 4, 3).is_empty());
}

#[test]
fn an_order_that_was_followed_is_not_repeated() {
    let mut world = World::running(3);
    world.written(1, 2, &[0, 1]);
    world.map.apply(Effect::Removed { block: id(1) }, world.now);
    assert_eq!(beat(&mut world, 1, 0), [id(1)]);
    world.change(0, named(1), ChangeKind::Deleted);
    assert!(beat(&mut world, 2, 0).is_empty());
}

#[test]
fn a_lost_order_that_would_not_be_given_again_is_taken_back() {
    let mut world = World::running(3);
    world.written(1, 3, &[0, 1, 2]);
    world.map.apply(Effect::Replication { block: id(1), replication: 2 }, world.now);
    let (mut first, mut number) = (Vec::new(), 0);
    // Whichever of the three is to go.
    let node = (0..3)
        .find(|node| {
            number = 1;
            let orders = world.map.heartbeat(numbered(*node, number, 0), world.now).unwrap();
            first = orders.into_iter().map(|order| (*node, order)).collect();
            !invalidated(&first).is_empty()
        })
        .unwrap();
    world.map.apply(Effect::Replication { block: id(1), replication: 3 }, world.now);
    assert_eq!(world.live(1), 2, "nothing is known of the answer yet");
    let orders = world.map.heartbeat(numbered(node, number + 1, 0), world.now).unwrap();
    assert!(invalidated(&orders.into_iter().map(|order| (node, order)).collect::<Vec<_>>()).is_empty());
    assert_eq!(world.live(1), 3, "it was not heard: the replica is there and counts");
}

#[test]
fn a_lost_order_that_could_not_be_repeated_is_given_as_soon_as_it_may_be() {
    let mut world = World::running(3);
    world.written(1, 2, &[1, 2]);
    let old = BlockRef { stamp: GenStamp(STAMP.0 - 1), ..named(1) };
    world.change(0, old, ChangeKind::Received);
    assert_eq!(beat(&mut world, 1, 0), [id(1)]);
    let beside = |world: &mut World| {
        for node in [1, 2] {
            world.map.heartbeat(heartbeat(node, 1), world.now).unwrap();
        }
    };
    world.change(2, named(1), ChangeKind::Deleted);
    beside(&mut world);
    assert!(beat(&mut world, 2, 0).is_empty(), "the answer was lost, and one good replica is too few by now");
    world.change(2, named(1), ChangeKind::Received);
    beside(&mut world);
    assert_eq!(beat(&mut world, 3, 2), [id(1)]);
}

#[test]
fn an_order_for_an_older_stamp_is_given_anew_for_what_turns_out_to_be_there() {
    let mut world = World::running(3);
    let at = |stamp: u64| BlockRef { stamp: GenStamp(stamp), ..named(1) };
    let storages = smallvec![storage(0), storage(1), storage(2)];
    let pipeline = Effect::Pipeline { block: id(1), stamp: GenStamp(5), replication: 2, room: 0, storages };
    world.map.apply(pipeline, world.now);
    world.change(0, at(5), ChangeKind::Receiving);
    // Its writer gave it a newer stamp, of which it did not tell before it was killed; the others went on without it.
    for node in [1, 2] {
        world.change(node, named(1), ChangeKind::Received);
    }
    let done = Effect::Completed { block: id(1), stamp: STAMP, length: LENGTH, replication: 2 };
    world.map.apply(done, world.now);
    world.blocks.push(complete(1, 2));
    let orders = world.pass(1, &[]);
    assert_eq!(orders, [(0, NodeCommand::Invalidate(vec![at(5)]))]);
    // Reports are believed when nothing was heard of the replica for a minute.
    assert_eq!(world.pass(70, &[]), []);
    let here = Replica { block: at(6), state: ReplicaState::WaitingRecovery };
    world.report(0, &[here]);
    let orders = world.pass(1, &[]);
    assert_eq!(orders, [(0, NodeCommand::Invalidate(vec![at(6)]))], "the first order left it alone");
    world.report(0, &[here]);
    assert_eq!(world.pass(1, &[]), [], "the second is on its way");
    world.change(0, at(6), ChangeKind::Deleted);
    assert_eq!(world.map.counts().corrupt, 0);
}

#[test]
fn a_call_that_comes_after_its_repetition_brings_nothing_back() {
    let mut world = World::running(3);
    world.written(1, 2, &[0]);
    let of = |kind| Change { storage: storage(1), block: named(1), kind };
    let (came, went) = (of(ChangeKind::Received), of(ChangeKind::Deleted));
    let tell = |world: &mut World, changes: &[Change], end| {
        let facts = Facts { version: world.map.version(), blocks: &world.blocks, next_block: id(1_000) };
        let again = world.map.changed((uuid(1), 1), (changes, Some(end)), Some(&facts), world.now).unwrap();
        assert!(again.is_empty());
        world.live(1)
    };
    assert_eq!(tell(&mut world, &[came, went], 2), 1);
    assert_eq!(tell(&mut world, &[came], 1), 1, "of the two it was the first: it came late");
    assert_eq!(tell(&mut world, &[came], 3), 2, "another one came");
    // Known by the same session again, the datanode goes on with its numbers; another begins anew.
    world.map.register(registration(1, 1), world.now).unwrap();
    assert_eq!(tell(&mut world, &[went], 3), 2);
    assert_eq!(tell(&mut world, &[went], 4), 1);
}
