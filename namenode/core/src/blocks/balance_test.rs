//! Balance between datanodes.

use super::model_test::World;
use super::*;

const GOAL: BalanceGoal = BalanceGoal { threshold: 2.0, bytes_per_second: 0 };

fn held(world: &World) -> Vec<usize> {
    world.nodes.iter().map(|node| node.disk.len()).collect()
}

/// Four datanodes in two racks, all blocks on the first and the third.
fn uneven(blocks: usize) -> World {
    let mut world = World::new();
    world.pass(40, true);
    for _ in 0..blocks {
        world.write(&[0, 2], 2, false);
    }
    world.pass(10, true);
    assert_eq!(held(&world), [blocks, 0, blocks, 0]);
    world
}

#[test]
fn replicas_go_from_the_full_to_the_empty_until_nobody_is_out_of_balance() {
    let mut world = uneven(60);
    world.map.order_balance(Some(GOAL));
    world.pass(1, true);
    let status = world.map.balance_status();
    // 15 % full and empty, 7.5 % together: 5.5 % past the threshold each.
    assert_eq!((status.over, status.under, status.ordered), (2, 2, true));
    assert_eq!(status.left_bytes, 440);
    assert!(status.moving > 0);
    world.pass(400, true);
    let status = world.map.balance_status();
    assert_eq!(
        (status.over, status.under, status.left_bytes, status.ordered),
        (0, 0, 0, false),
        "{status:?}"
    );
    let held = held(&world);
    assert!(held.iter().all(|held| (22..=38).contains(held)), "{held:?}");
    assert_eq!(held.iter().sum::<usize>(), 120, "as many replicas as before");
    assert_eq!(status.moved_bytes, status.moved_blocks * 10);
    assert!(status.moved_blocks >= 44);
    world.settle();
}

#[test]
fn an_order_ends_when_it_is_taken_back_and_what_is_under_way_comes_to_its_end() {
    let mut world = uneven(60);
    world.map.order_balance(Some(GOAL));
    world.pass(1, true);
    world.map.order_balance(None);
    let under_way = world.map.balance_status().moving;
    assert!(under_way > 0);
    world.pass(100, true);
    let status = world.map.balance_status();
    assert_eq!((status.moving, status.goal), (0, None));
    assert!(status.moved_blocks <= under_way);
    world.settle();
}

#[test]
fn nothing_is_moved_while_a_block_is_endangered_or_what_lacks_replicas() {
    let mut world = uneven(30);
    // One more, of which two replicas are wanted and one is there.
    world.write(&[0], 2, false);
    world.map.order_balance(Some(GOAL));
    world.map.round(31, 1, steadfs_common::Millis(2_000_000));
    assert_eq!(world.map.balance_status().moving, 0);
}

#[test]
fn what_cannot_be_moved_ends_the_order_and_is_told() {
    let mut world = World::new();
    world.pass(40, true);
    // One replica for each datanode: wherever one went there is one already.
    for _ in 0..10 {
        world.write(&[0, 1, 2, 3], 4, false);
    }
    for _ in 0..60 {
        world.write(&[0, 1, 2], 3, false);
    }
    world.pass(10, true);
    world.map.order_balance(Some(BalanceGoal { threshold: 0.001, ..GOAL }));
    world.pass(2_000, true);
    let status = world.map.balance_status();
    assert!(!status.ordered, "{status:?}");
    world.settle();
}
