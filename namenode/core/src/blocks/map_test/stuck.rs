//! Orders and recoveries that would stand still: heard and not followed, too many, or given to who cannot answer.

use super::*;
use crate::blocks::nodes::NodeIndex;
use crate::blocks::work::{Invalid, Why};

const NEWER: GenStamp = GenStamp(STAMP.0 + 1);

impl World {
    /// A block that is being written on these nodes, and whose recovery is asked for.
    fn left_behind(&mut self, number: u64, nodes: &[u32]) {
        let storages: smallvec::SmallVec<[StorageId; 3]> = nodes.iter().copied().map(storage).collect();
        let pipeline = Effect::Pipeline {
            block: id(number),
            stamp: STAMP,
            replication: 2,
            room: 0,
            storages: storages.clone(),
        };
        self.map.apply(pipeline, self.now);
        let recover = Effect::Recover {
            block: named(number),
            recovery_stamp: NEWER,
            truncate_to: None,
            storages,
            synced: 5,
            unsure: false,
        };
        self.map.apply(recover, self.now);
    }
}

fn recovered(commands: &[(u32, NodeCommand)]) -> Vec<(u32, BlockId)> {
    let of = |(node, command): &(u32, NodeCommand)| match command {
        NodeCommand::Recover { block, .. } => Some((*node, block.id)),
        _ => None,
    };
    commands.iter().filter_map(of).collect()
}

#[test]
fn an_order_to_delete_that_was_heard_and_not_followed_is_given_again() {
    let mut world = World::running(2);
    world.written(1, 1, &[0]);
    world.map.apply(Effect::Removed { block: id(1) }, world.now);
    assert_eq!(invalidated(&world.pass(1, &[])), [(0, id(1))]);
    assert_eq!(invalidated(&world.pass(590, &[])), [], "it may wait for a slow disk");
    assert_eq!(invalidated(&world.pass(20, &[])), [(0, id(1))], "its datanode drops what waits too long");
    // Who never follows it is not asked for ever.
    let more = invalidated(&world.pass(20 * 600, &[])).len();
    assert!((2..10).contains(&more), "{more}");
    assert_eq!(world.map.counts().pending_deletion, 0);
}

#[test]
fn a_replica_whose_deletion_was_not_followed_counts_when_it_is_needed() {
    let mut world = World::running(3);
    world.written(1, 3, &[0, 1, 2]);
    world.map.apply(Effect::Replication { block: id(1), replication: 2 }, world.now);
    let told = invalidated(&world.pass(1, &[]));
    assert_eq!((told.len(), world.live(1)), (1, 2));
    world.map.apply(Effect::Replication { block: id(1), replication: 3 }, world.now);
    world.pass(610, &[]);
    assert_eq!(world.live(1), 3);
    assert_eq!(world.map.counts().under_replicated, 0);
}

#[test]
fn a_bad_replica_whose_deletion_was_not_followed_is_ordered_away_again() {
    let mut world = World::running(3);
    world.written(1, 3, &[0, 1, 2]);
    world.map.report_bad(named(1), &[storage(2)], true);
    assert_eq!(invalidated(&world.pass(1, &[])), [(2, id(1))]);
    let again = invalidated(&world.pass(20 * 600, &[]));
    assert!(again.len() >= 18, "as long as it is known to be there: {}", again.len());
}

#[test]
fn what_is_deleted_leaves_no_order_behind_whatever_its_stamp_was() {
    let mut world = World::running(3);
    let older = BlockRef { stamp: GenStamp(STAMP.0 - 1), ..named(1) };
    world.written(1, 3, &[1, 2]);
    world.change(0, older, ChangeKind::Received);
    assert_eq!(world.map.counts().pending_deletion, 1);
    // What lay there had a newer stamp than was known, and is gone.
    world.change(0, named(1), ChangeKind::Deleted);
    assert_eq!(world.map.counts().pending_deletion, 0);
}

#[test]
fn what_did_not_fit_among_the_orders_is_asked_for_when_there_is_room() {
    let mut world = World::running(1);
    world.written(1, 1, &[0]);
    let at = NodeIndex(0);
    let storage_at = world.map.nodes.find_storage(storage(0)).unwrap();
    let orders = &mut world.map.nodes.node_mut(at).orders;
    let many = 1_000_000;
    for number in 0..many {
        let order = Invalid::new(GenStamp(1), 1, storage_at, Why::Gone);
        orders.invalidate(id(1_000 + number), order);
    }
    world.map.apply(Effect::Removed { block: id(1) }, world.now);
    let asked = |commands: &[(u32, NodeCommand)]| {
        commands.iter().any(|(_, command)| matches!(command, NodeCommand::Report))
    };
    assert!(!asked(&world.pass(2, &[])), "there is no room yet");
    let orders = &mut world.map.nodes.node_mut(at).orders;
    for number in 0..many - 10 {
        orders.keep(id(1_000 + number));
    }
    assert!(asked(&world.pass(2, &[])));
    assert!(!asked(&world.pass(2, &[])), "once");
}

#[test]
fn a_replica_that_waits_with_the_stamp_of_the_complete_block_goes() {
    let mut world = World::running(3);
    let storages = smallvec![storage(0), storage(1), storage(2)];
    let pipeline = Effect::Pipeline { block: id(1), stamp: NEWER, replication: 2, room: 0, storages };
    world.map.apply(pipeline, world.now);
    let block = BlockRef { stamp: NEWER, ..named(1) };
    // The recovery had given it its stamp when its datanode was killed, and ended on the others.
    world.report(0, &[Replica { block, state: ReplicaState::WaitingRecovery }]);
    for node in [1, 2] {
        world.change(node, block, ChangeKind::Received);
    }
    let done = Effect::Completed { block: id(1), stamp: NEWER, length: LENGTH, replication: 2 };
    world.map.apply(done, world.now);
    world.blocks.push(Block { stamp: NEWER, ..complete(1, 2) });
    assert_eq!(invalidated(&world.pass(1, &[])), [(0, id(1))]);
}

#[test]
fn recoveries_that_nobody_can_lead_do_not_keep_others_waiting() {
    let mut world = World::running(2);
    for number in 1..=2_100 {
        world.left_behind(number, &[77]);
    }
    world.left_behind(5_000, &[0, 1]);
    let told = recovered(&world.pass(30, &[]));
    assert!(told.len() > 1 && told.iter().all(|(_, block)| *block == id(5_000)), "{told:?}");
    assert!(told[0].0 != told[1].0);
}

#[test]
fn many_recoveries_are_given_out_as_they_can_be_taken() {
    let mut world = World::running(2);
    for number in 1..=1_000 {
        world.left_behind(number, &[0, 1]);
    }
    let mut led = std::collections::BTreeSet::new();
    for second in 1..=10 {
        let told = recovered(&world.pass(1, &[]));
        led.extend(told.iter().map(|(_, block)| *block));
        assert!(led.len() >= 100 * second || led.len() == 1_000, "{} after {second} s", led.len());
        let waiting: usize =
            world.map.nodes.indexes().map(|at| world.map.nodes.node(at).orders.recovers.len()).sum();
        assert!(waiting <= 128, "{waiting}");
    }
}

#[test]
fn a_recovery_led_by_who_begins_a_new_life_goes_on_at_once() {
    let mut world = World::running(2);
    world.left_behind(1, &[0, 1]);
    let told = recovered(&world.pass(1, &[]));
    let [(leader, _)] = told[..] else { panic!("{told:?}") };
    world.map.register(registration(leader, 1), world.now).unwrap();
    assert_eq!(recovered(&world.pass(2, &[])).len(), 1);
}

#[test]
fn who_ends_leads_no_recovery() {
    let mut world = World::running(2);
    world.map.heartbeat(Heartbeat { ending: true, ..heartbeat(0, 1) }, world.now).unwrap();
    world.left_behind(1, &[0, 1]);
    assert_eq!(recovered(&world.pass(1, &[])), [(1, id(1))]);
    assert_eq!(recovered(&world.pass(12, &[])), [(1, id(1))], "there is nobody else");
}

#[test]
fn a_copy_whose_order_was_lost_before_safe_mode_is_ordered_after_it() {
    let mut world = World::running(2);
    world.written(1, 2, &[0]);
    world.map.round(1, 1, world.now);
    let beat = |world: &mut World, number, answered| {
        world.now = world.now.plus(Duration::from_secs(1));
        let heartbeat = Heartbeat { number, answered, ..heartbeat(0, 1) };
        let orders = world.map.heartbeat(heartbeat, world.now).unwrap();
        transfers(&orders.into_iter().map(|order| (0, order)).collect::<Vec<_>>()).len()
    };
    assert_eq!(beat(&mut world, 1, 0), 1);
    world.map.set_safe_mode(true, world.now);
    assert_eq!(beat(&mut world, 2, 0), 0, "the answer with the order was lost");
    assert_eq!(beat(&mut world, 3, 2), 0);
    world.map.set_safe_mode(false, world.now);
    assert_eq!(beat(&mut world, 4, 3), 1);
}
