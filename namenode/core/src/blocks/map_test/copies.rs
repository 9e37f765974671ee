//! Orders to copy, and answers that are lost.

use super::*;

/// One of two replicas of a block is lost, and its copy is ordered from datanode 0. Gives the number of its heartbeats so far.
fn lacking(world: &mut World) -> u64 {
    world.written(1, 2, &[0, 1]);
    let mut number = 0;
    while world.map.nodes.node(world.map.nodes.find(uuid(0)).unwrap()).orders.transfers.is_empty() {
        world.now = world.now.plus(Duration::from_secs(1));
        number += 1;
        let orders = beat(world, number, number - 1);
        assert!(orders.is_empty(), "{orders:?}");
        world.map.heartbeat(heartbeat(2, 1), world.now).unwrap();
        world.map.round(1, world.now.0, world.now);
        while world.map.sweep(2) {}
    }
    number
}

fn beat(world: &mut World, number: u64, answered: u64) -> Vec<BlockId> {
    let beat = Heartbeat { number, answered, ..heartbeat(0, 1) };
    let orders = world.map.heartbeat(beat, world.now).unwrap();
    transfers(&orders.into_iter().map(|order| (0, order)).collect::<Vec<_>>())
        .into_iter()
        .map(|(_, id, targets)| {
            assert_eq!(targets, [storage(2)]);
            id
        })
        .collect()
}

#[test]
fn an_order_to_copy_that_was_lost_with_its_answer_is_repeated_by_the_next() {
    let mut world = World::running(3);
    let number = lacking(&mut world);
    assert_eq!(beat(&mut world, number + 1, number), [id(1)]);
    assert_eq!(beat(&mut world, number + 2, number), [id(1)], "the answer was lost");
    assert_eq!(beat(&mut world, number + 3, number), [id(1)], "that one too");
    assert!(
        beat(&mut world, number + 3, number).is_empty(),
        "nobody waits for the answer to a repeated heartbeat"
    );
    assert!(beat(&mut world, number + 4, number + 3).is_empty(), "it was heard");
    assert!(beat(&mut world, number + 5, number + 4).is_empty());
    world.map.check_streams();
}

#[test]
fn a_copy_that_came_or_was_given_up_is_not_repeated() {
    for came in [true, false] {
        let mut world = World::running(3);
        let number = lacking(&mut world);
        assert_eq!(beat(&mut world, number + 1, number), [id(1)]);
        if came {
            world.change(2, named(1), ChangeKind::Received);
        } else {
            world.map.apply(Effect::Removed { block: id(1) }, world.now);
        }
        assert!(beat(&mut world, number + 2, number).is_empty());
        world.map.check_streams();
    }
}

#[test]
fn the_bandwidth_of_moves_is_told_until_it_is_heard() {
    let mut world = World::running(1);
    let mut told = |number, answered| -> Vec<NodeCommand> {
        world.map.heartbeat(Heartbeat { number, answered, ..heartbeat(0, 1) }, world.now).unwrap()
    };
    told(1, 0);
    world.map.set_bandwidth(7);
    let mut told = |number, answered| -> bool {
        let beat = Heartbeat { number, answered, ..heartbeat(0, 1) };
        world.map.heartbeat(beat, world.now).unwrap().contains(&NodeCommand::Bandwidth(7))
    };
    assert!(told(2, 1) && told(3, 1), "the first answer was lost");
    assert!(!told(4, 3) && !told(5, 4));
}

#[test]
fn a_datanode_that_ends_is_no_source() {
    let mut world = World::running(4);
    world.written(1, 3, &[0, 1, 2]);
    world.map.heartbeat(Heartbeat { ending: true, ..heartbeat(0, 1) }, world.now).unwrap();
    let orders = transfers(&world.pass(64, &[0, 2]));
    assert!(!orders.is_empty() && orders.iter().all(|(from, _, _)| *from == 1), "{orders:?}");
}
