//! Replicas that are bad or outdated: when they go, and what must be read before.

use super::failed::checks;
use super::*;

#[test]
fn a_stale_replica_is_bad_and_goes_once_the_others_are_enough() {
    let mut world = World::running(4);
    world.written(1, 3, &[0, 1]);
    let old = BlockRef { stamp: GenStamp(STAMP.0 - 1), ..named(1) };
    world.change(2, old, ChangeKind::Received);
    assert_eq!((world.live(1), world.map.counts().corrupt), (2, 1));
    let commands = world.pass(4, &[]);
    assert!(invalidated(&commands).is_empty(), "only two good ones live");
    let orders = transfers(&commands);
    assert_eq!(orders[0].2, [storage(3)], "not to the node with the bad one");
    world.change(3, named(1), ChangeKind::Received);
    let orders = world.pass(1, &[]);
    assert_eq!(orders, [(2, NodeCommand::Invalidate(vec![old]))]);
    world.change(2, old, ChangeKind::Deleted);
    assert_eq!(world.map.counts().corrupt, 0);
}

#[test]
fn a_bad_replica_is_replaced_on_its_own_node_if_there_is_no_other() {
    let mut world = World::running(3);
    world.written(1, 3, &[0, 1, 2]);
    world.map.report_bad(named(1), &[storage(2)], false);
    assert_eq!(world.live(1), 2);
    assert_eq!(invalidated(&world.pass(1, &[])), [(2, id(1))]);
    world.change(2, named(1), ChangeKind::Deleted);
    let orders = transfers(&world.pass(2, &[]));
    assert_eq!(orders[0].2, [storage(2)]);
}

#[test]
fn readers_cannot_talk_the_last_replicas_away() {
    let mut world = World::running(3);
    world.written(1, 3, &[0, 1, 2]);
    world.map.report_bad(named(1), &[storage(0), storage(1), storage(2)], false);
    assert!(invalidated(&world.pass(100, &[])).is_empty());
    let located = world.map.locate(&complete(1, 3), None, 1);
    assert!(located.corrupt && located.storages.len() == 3, "they are offered all the same");
    assert_eq!(world.map.missing(BlockId(0), 9), [id(1)]);
    let facts = world.facts();
    assert!(facts.blocks.len() == 1);
    world.report(0, &[finalized(1)]);
    assert_eq!(world.live(1), 0, "a report alone does not clear it");
    world.change(1, named(1), ChangeKind::Received);
    assert_eq!(world.live(1), 0, "nor does a datanode that says the same again while the suspicion stands");
}

#[test]
fn a_replica_that_its_datanode_knows_to_be_bad_counts_as_such_from_the_first_report_on() {
    let mut world = World::starting(3, vec![complete(1, 2)]);
    world.report(0, &[Replica { state: ReplicaState::Bad, ..finalized(1) }]);
    world.report(1, &[finalized(1)]);
    world.report(2, &[]);
    world.pass(120, &[]);
    assert!(world.map.safe_mode(world.now).is_none());
    assert_eq!((world.live(1), world.map.counts().corrupt), (1, 1));
    world.change(2, named(1), ChangeKind::Received);
    let orders = world.pass(5, &[]);
    assert_eq!(invalidated(&orders), [(0, id(1))], "once enough good ones are there it goes");
}

/// A block of which node 0 has the only good replica, and node 1 one from before an append.
fn outdated() -> World {
    let mut world = World::running(2);
    world.written(1, 2, &[0]);
    let former = BlockRef { stamp: GenStamp(STAMP.0 - 1), length: LENGTH - 1, ..named(1) };
    world.change(1, former, ChangeKind::Received);
    assert_eq!((world.live(1), world.map.counts().corrupt), (1, 1));
    world
}

#[test]
fn for_a_single_good_replica_others_go_only_once_it_was_verified() {
    let mut world = outdated();
    let commands = world.pass(1, &[]);
    assert_eq!((invalidated(&commands), checks(&commands)), (vec![], vec![(0, vec![named(1)])]));
    assert!(checks(&world.pass(50, &[])).is_empty());
    let commands = world.pass(20, &[]);
    assert_eq!((invalidated(&commands), checks(&commands).len()), (vec![], 1), "it has not answered");

    world.change(0, named(1), ChangeKind::Verified);
    let commands = world.pass(3, &[]);
    assert_eq!((invalidated(&commands), checks(&commands)), (vec![(1, id(1))], vec![]));
    world.change(1, BlockRef { stamp: GenStamp(STAMP.0 - 1), ..named(1) }, ChangeKind::Deleted);
    let commands = world.pass(130, &[]);
    assert_eq!((transfers(&commands).first().map(|order| order.0), checks(&commands)), (Some(0), vec![]));
}

#[test]
fn if_the_single_good_replica_is_rotten_the_others_stay() {
    let mut world = outdated();
    assert!(invalidated(&world.pass(1, &[])).is_empty());
    world.map.report_bad(named(1), &[storage(0)], true);
    let commands = world.pass(700, &[]);
    assert_eq!((invalidated(&commands), checks(&commands)), (vec![], vec![]));
    assert_eq!(world.map.counts().missing, 1);
}

#[test]
fn two_good_replicas_need_not_be_verified() {
    let mut world = World::running(3);
    world.written(1, 3, &[0, 1]);
    world.change(2, BlockRef { stamp: GenStamp(STAMP.0 - 1), ..named(1) }, ChangeKind::Received);
    let commands = world.pass(1, &[]);
    assert_eq!((invalidated(&commands), checks(&commands)), (vec![(2, id(1))], vec![]));
}

#[test]
fn what_was_read_before_its_datanode_was_started_again_is_read_again() {
    let mut world = outdated();
    world.pass(1, &[]);
    // Node 1 is away when node 0 has read its replica, and the power fails there.
    world.pass(65, &[1]);
    world.change(0, named(1), ChangeKind::Verified);
    world.now = world.now.plus(Duration::from_secs(1));
    world.map.register(registration(0, 2), world.now).unwrap();
    world.map.register(registration(1, 1), world.now).unwrap();
    world.change(1, BlockRef { stamp: GenStamp(STAMP.0 - 1), ..named(1) }, ChangeKind::Received);
    let report = |world: &mut World| {
        let (who, what) = ((uuid(0), 2), part(world.now.0, storage(0)));
        let facts = Facts { version: world.map.version(), blocks: &world.blocks, next_block: id(1_000) };
        assert!(world.map.report(who, what, &[finalized(1)], Some(&facts), world.now).unwrap().is_empty());
        while !world.map.compare(who, what, &[finalized(1)], BlockId(u64::MAX), 3, world.now).unwrap() {}
        world.map.storage_reported(who, what, world.now).unwrap();
    };
    let orders = |world: &mut World, seconds| {
        let mut commands = Vec::new();
        for _ in 0..seconds {
            world.now = world.now.plus(Duration::from_secs(1));
            for (node, session) in [(0, 2), (1, 1)] {
                let orders = world.map.heartbeat(heartbeat(node, session), world.now).unwrap();
                commands.extend(orders.into_iter().map(|order| (node, order)));
            }
        }
        commands
    };
    assert!(checks(&orders(&mut world, 65)).is_empty(), "it is not known to be there yet");
    report(&mut world);
    let commands = orders(&mut world, 5);
    assert_eq!((invalidated(&commands), checks(&commands)), (vec![], vec![(0, vec![named(1)])]));
}

/// A block that was complete on node 0 with bad replicas on 1 and 2, and is appended to on node 0; what it is then.
fn appended_to() -> (World, BlockRef) {
    let mut world = World::running(3);
    world.written(1, 2, &[0]);
    let former = BlockRef { stamp: GenStamp(STAMP.0 - 1), length: LENGTH - 1, ..named(1) };
    world.change(1, former, ChangeKind::Received);
    world.change(2, former, ChangeKind::Received);
    let block = BlockRef { stamp: GenStamp(STAMP.0 + 1), length: LENGTH + 1, ..named(1) };
    let storages = smallvec![storage(0)];
    let pipeline = Effect::Pipeline { block: id(1), stamp: block.stamp, replication: 2, room: 0, storages };
    world.map.apply(pipeline, world.now);
    (world, block)
}

fn complete_with(world: &mut World, block: BlockRef) {
    world.change(0, block, ChangeKind::Received);
    let BlockRef { id, stamp, length } = block;
    world.map.apply(Effect::Completed { block: id, stamp, length, replication: 2 }, world.now);
    world.blocks[0] = Block { stamp, length, ..complete(1, 2) };
}

#[test]
fn a_bad_replica_is_remembered_while_its_block_is_appended_to() {
    let (mut world, block) = appended_to();
    world.change(2, named(1), ChangeKind::Deleted);
    complete_with(&mut world, block);
    assert_eq!(world.map.counts().corrupt, 1);
    let commands = world.pass(20, &[]);
    assert_eq!(transfers(&commands)[0].2, [storage(2)], "not over the one that is there");
}

#[test]
fn a_bad_replica_that_a_report_does_not_list_any_more_is_forgotten_also_while_its_block_is_appended_to() {
    let (mut world, block) = appended_to();
    world.pass(200, &[]);
    world.report(1, &[]);
    world.report(2, &[]);
    complete_with(&mut world, block);
    assert_eq!(world.map.counts().corrupt, 0);
    let commands = world.pass(20, &[]);
    assert_eq!((invalidated(&commands), checks(&commands)), (vec![], vec![]));
}

#[test]
fn bad_replicas_of_a_block_that_is_deleted_while_it_is_appended_to_are_deleted_too() {
    let (mut world, _) = appended_to();
    world.map.apply(Effect::Removed { block: id(1) }, world.now);
    world.blocks.clear();
    let mut nodes: Vec<_> = invalidated(&world.pass(20, &[])).into_iter().map(|(node, _)| node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes, [0, 1, 2]);
}

#[test]
fn nothing_is_to_be_deleted_on_a_volume_that_has_failed() {
    let mut world = outdated();
    let mut beat = heartbeat(1, 1);
    beat.volumes[0].failed = true;
    world.map.heartbeat(beat, world.now).unwrap();
    world.map.apply(Effect::Removed { block: id(1) }, world.now);
    assert_eq!(world.map.counts().pending_deletion, 1, "on node 0 only");
    world.blocks.clear();
    // It comes back, and lists what it still has.
    world.now = world.now.plus(Duration::from_secs(200));
    world.map.heartbeat(heartbeat(1, 1), world.now).unwrap();
    world.report(1, &[finalized(1)]);
    assert_eq!(world.map.counts().pending_deletion, 2);
}
