//! Datanodes that leave service.

use std::time::Duration;

use steadfs_common::Millis;

use super::map_test::{World, finalized, id, named, registration, storage, transfers, uuid};
use super::*;

fn wishing(world: &mut World, wishes: &[(u32, Wish)]) {
    let named = wishes.iter().map(|(node, wish)| (uuid(*node), *wish)).collect();
    world.map.set_roster(Roster { named, ..Roster::default() }, world.now);
}

fn admin(world: &World, node: u32) -> AdminState {
    let at = world.map.datanodes().find(uuid(node)).unwrap();
    world.map.datanodes().node(at).admin
}

/// Seconds pass, with passes over the blocks of leaving datanodes.
fn settle(world: &mut World, seconds: u64, silent: &[u32]) -> Vec<(u32, NodeCommand)> {
    let mut commands = Vec::new();
    for _ in 0..seconds {
        commands.extend(world.pass(1, silent));
        world.map.depart(world.now);
    }
    commands
}

const FOR_EVER: Wish = Wish::Maintenance { until: None };

#[test]
fn a_datanode_is_decommissioned_once_its_blocks_are_elsewhere() {
    let mut world = World::running(4);
    world.written(1, 3, &[0, 1, 2]);
    world.written(2, 1, &[0]);
    world.written(3, 1, &[3]);
    wishing(&mut world, &[(0, Wish::Decommission)]);
    assert_eq!(admin(&world, 0), AdminState::Decommissioning);
    let commands = settle(&mut world, 3, &[]);
    let copies = transfers(&commands);
    let mut copied: Vec<_> = copies.iter().map(|(_, block, _)| *block).collect();
    copied.sort_unstable();
    assert_eq!(copied, [id(1), id(2)]);
    assert!(copies.iter().all(|(_, _, targets)| !targets.contains(&storage(0))), "{copies:?}");
    assert_eq!(admin(&world, 0), AdminState::Decommissioning);
    assert_eq!(world.map.counts().under_replicated, 2);
    world.change(3, named(1), ChangeKind::Received);
    world.change(3, named(2), ChangeKind::Received);
    settle(&mut world, 2, &[]);
    assert_eq!(admin(&world, 0), AdminState::Decommissioned);
    assert_eq!(world.map.counts().under_replicated, 0);
    // What it has can still be read, after what others have.
    let located = world.map.locate(&world.blocks[0].clone(), None, 7);
    assert_eq!((located.storages.len(), located.storages[3]), (4, storage(0)));
    // It may go: nothing is copied for it.
    assert!(transfers(&settle(&mut world, 70, &[0])).is_empty());
}

#[test]
fn a_recommissioned_datanode_serves_again_and_what_is_too_much_goes() {
    let mut world = World::running(4);
    world.written(1, 3, &[0, 1, 2]);
    wishing(&mut world, &[(0, Wish::Decommission)]);
    settle(&mut world, 2, &[]);
    world.change(3, named(1), ChangeKind::Received);
    settle(&mut world, 2, &[]);
    assert_eq!(admin(&world, 0), AdminState::Decommissioned);
    wishing(&mut world, &[]);
    assert_eq!(admin(&world, 0), AdminState::Normal);
    let commands = settle(&mut world, 2, &[]);
    let deleted: usize = commands
        .iter()
        .map(|(_, command)| match command {
            NodeCommand::Invalidate(blocks) => blocks.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(deleted, 1, "{commands:?}");
    assert_eq!(world.live(1), 3);
}

#[test]
fn with_too_few_datanodes_it_stays_in_progress_and_nothing_new_goes_there() {
    let mut world = World::running(2);
    world.written(1, 2, &[0, 1]);
    wishing(&mut world, &[(0, Wish::Decommission)]);
    settle(&mut world, 5, &[]);
    assert_eq!(admin(&world, 0), AdminState::Decommissioning);
    let at = world.map.datanodes().find(uuid(0)).unwrap();
    assert_eq!(world.map.datanodes().node(at).lacking, Lacking { blocks: 1, only_here: 0, open: 0 });
    let request = crate::placement::PlacementRequest {
        wanted: 3,
        least: 1,
        writer: None,
        existing: &[],
        excluded: &[],
        favored: &["10.0.0.0:9866".into()],
        avoid_local: false,
        block_size: 1,
        policy: 0,
        seed: 1,
    };
    assert_eq!(world.map.topology().choose(&request).as_slice(), [storage(1)]);
    assert!(!world.map.counts().missing > 0 && world.live(1) == 2);
}

#[test]
fn an_open_file_keeps_a_datanode_until_enough_of_its_pipeline_serves() {
    let mut world = World::running(3);
    let pipeline = |storages: &[u32]| crate::Effect::Pipeline {
        block: id(9),
        stamp: steadfs_common::GenStamp(1_001),
        replication: 2,
        room: 0,
        storages: storages.iter().copied().map(storage).collect(),
    };
    world.map.apply(pipeline(&[0]), world.now);
    wishing(&mut world, &[(0, Wish::Decommission)]);
    settle(&mut world, 2, &[]);
    assert_eq!((admin(&world, 0), world.map.blocking()), (AdminState::Decommissioning, &[id(9)][..]));
    world.map.apply(pipeline(&[0, 1]), world.now);
    settle(&mut world, 2, &[]);
    assert_eq!((admin(&world, 0), world.map.blocking()), (AdminState::Decommissioned, &[][..]));
}

#[test]
fn in_maintenance_one_good_replica_elsewhere_is_enough_and_death_costs_nothing() {
    let mut world = World::running(4);
    world.written(1, 3, &[0, 1, 2]);
    world.written(2, 1, &[0]);
    wishing(&mut world, &[(0, FOR_EVER)]);
    let copies = transfers(&settle(&mut world, 3, &[]));
    assert_eq!(copies.iter().map(|(_, block, _)| *block).collect::<Vec<_>>(), [id(2)]);
    assert_eq!(admin(&world, 0), AdminState::EnteringMaintenance);
    world.change(3, named(2), ChangeKind::Received);
    settle(&mut world, 2, &[]);
    assert_eq!(admin(&world, 0), AdminState::InMaintenance);
    // It goes down: neither missing nor copied.
    assert!(transfers(&settle(&mut world, 90, &[0])).is_empty());
    assert_eq!(world.map.counts().under_replicated, 0);
    let conditions: Vec<_> = world.map.survey(id(1)).iter().map(|replica| replica.condition).collect();
    assert_eq!(conditions, [Condition::InMaintenance, Condition::Live, Condition::Live]);
    assert_eq!(world.live(1), 2);
    // It comes back.
    world.map.register(registration(0, 1), world.now).unwrap();
    world.report(0, &[finalized(1), finalized(2)]);
    assert_eq!(admin(&world, 0), AdminState::InMaintenance);
    wishing(&mut world, &[]);
    settle(&mut world, 2, &[]);
    assert_eq!((admin(&world, 0), world.live(1)), (AdminState::Normal, 3));
}

#[test]
fn maintenance_ends_by_itself_and_what_did_not_come_back_is_replaced() {
    let mut world = World::running(4);
    world.written(1, 2, &[0, 1]);
    let until = Some(world.now.plus(Duration::from_secs(100)));
    wishing(&mut world, &[(0, Wish::Maintenance { until })]);
    assert!(transfers(&settle(&mut world, 95, &[0])).is_empty());
    assert_eq!(admin(&world, 0), AdminState::InMaintenance);
    assert_eq!(transfers(&settle(&mut world, 10, &[0])).len(), 1);
    assert_eq!(admin(&world, 0), AdminState::Normal);
}

#[test]
fn a_datanode_that_is_not_admitted_is_dead_at_once_and_refused() {
    let mut world = World::running(2);
    world.written(1, 1, &[0]);
    let host = Host { name: "host-1".into(), addresses: Vec::new(), port: None };
    world.map.set_roster(Roster { included: vec![host], ..Roster::default() }, world.now);
    assert_eq!(world.map.datanodes().live(), 1);
    let orders = world.map.heartbeat(super::map_test::heartbeat(0, 1), world.now).unwrap();
    assert_eq!(orders, [NodeCommand::Register]);
    let refused = world.map.register(registration(0, 1), world.now).unwrap_err();
    assert_eq!(refused.kind(), steadfs_common::FsErrorKind::Refused);
    assert!(refused.message().contains("not in the include-list"), "{refused}");
    world.map.set_roster(Roster::default(), world.now);
    world.map.register(registration(0, 1), world.now).unwrap();
    assert_eq!(world.map.datanodes().live(), 2);
}

#[test]
fn nobody_leaves_before_all_replicas_are_known() {
    let mut world = World::starting(3, Vec::new());
    wishing(&mut world, &[(0, Wish::Decommission)]);
    settle(&mut world, 3, &[]);
    assert_eq!(admin(&world, 0), AdminState::Decommissioning);
    world.map.set_safe_mode(false, world.now);
    settle(&mut world, 3, &[]);
    assert_eq!(admin(&world, 0), AdminState::Decommissioning, "it has not reported");
    for node in 0..3 {
        world.report(node, &[]);
    }
    settle(&mut world, 2, &[]);
    assert_eq!(admin(&world, 0), AdminState::Decommissioned);
    assert!(world.now > Millis(0));
}

#[test]
fn what_is_lost_meanwhile_keeps_a_datanode_from_leaving() {
    let mut world = World::running(3);
    world.written(1, 2, &[0, 1]);
    world.written(2, 1, &[2]);
    wishing(&mut world, &[(0, Wish::Decommission)]);
    world.change(2, named(1), ChangeKind::Received);
    assert!(world.map.sweep(1), "the first block was judged: it is safe elsewhere");
    // The others lose theirs before the rest is judged.
    world.change(1, named(1), ChangeKind::Deleted);
    world.change(2, named(1), ChangeKind::Deleted);
    while world.map.sweep(1) {}
    world.map.depart(world.now);
    assert_eq!(admin(&world, 0), AdminState::Decommissioning, "only it has the block");
    settle(&mut world, 3, &[]);
    assert_eq!(admin(&world, 0), AdminState::Decommissioning);
    world.change(1, named(1), ChangeKind::Received);
    world.change(2, named(1), ChangeKind::Received);
    settle(&mut world, 3, &[]);
    assert_eq!(admin(&world, 0), AdminState::Decommissioned);
}

#[test]
fn a_block_that_is_completed_meanwhile_keeps_a_datanode_from_leaving() {
    let mut world = World::running(2);
    world.written(2, 1, &[1]);
    world.map.apply(
        crate::Effect::Pipeline {
            block: id(1),
            stamp: named(1).stamp,
            replication: 1,
            room: 0,
            storages: [storage(0)].into_iter().collect(),
        },
        world.now,
    );
    wishing(&mut world, &[(0, Wish::Decommission)]);
    while world.map.sweep(10) {}
    world.written(1, 1, &[0]);
    world.map.depart(world.now);
    assert_eq!(admin(&world, 0), AdminState::Decommissioning, "only it has the block");
}

#[test]
fn a_leaving_datanode_is_not_looked_through_again_and_its_count_falls_block_by_block() {
    let mut world = World::running(3);
    for number in 1..=4 {
        world.written(number, 1, &[0]);
    }
    wishing(&mut world, &[(0, Wish::Decommission)]);
    while world.map.sweep(10) {}
    let lacking = |world: &World| {
        let at = world.map.datanodes().find(uuid(0)).unwrap();
        world.map.datanodes().node(at).lacking
    };
    assert_eq!(lacking(&world), Lacking { blocks: 4, only_here: 4, open: 0 });
    for number in 1..=3 {
        world.change(1, named(number), ChangeKind::Received);
        assert_eq!(lacking(&world).blocks, 4 - number, "without a pass over the blocks");
    }
    world.map.apply(crate::Effect::Removed { block: id(4) }, world.now);
    assert_eq!(lacking(&world), Lacking::default());
    world.map.depart(world.now);
    assert_eq!(admin(&world, 0), AdminState::Decommissioned);
}

/// What a check of a stop finds, in small steps.
fn stop(world: &World, nodes: &[u32]) -> StopCheck {
    let uuids: Vec<_> = nodes.iter().copied().map(uuid).collect();
    let mut stopping = world.map.begin_stop_check(&uuids).unwrap();
    loop {
        if let Some(check) = world.map.check_stop(&mut stopping, 2) {
            return check;
        }
    }
}

#[test]
fn datanodes_may_be_stopped_if_every_block_has_replicas_elsewhere() {
    let mut world = World::running(4);
    world.written(1, 3, &[0, 1, 2]);
    world.written(2, 2, &[0, 1]);
    world.written(3, 1, &[3]);
    assert!(stop(&world, &[0]).is_safe() && stop(&world, &[1]).is_safe() && stop(&world, &[]).is_safe());
    let both = stop(&world, &[0, 1]);
    let one = Lacking { blocks: 1, only_here: 1, open: 0 };
    assert_eq!((both.is_safe(), both.lacking, both.examples), (false, vec![one, one], vec![id(2)]));
    let only = stop(&world, &[2, 3]);
    assert_eq!((only.lacking, only.examples), (vec![Lacking::default(), one], vec![id(3)]));
    // A replica that leaves service, or whose datanode has not reported in its present life, is none to rely on.
    wishing(&mut world, &[(1, FOR_EVER)]);
    assert_eq!(stop(&world, &[0]).examples, [id(2)]);
    wishing(&mut world, &[]);
    assert!(stop(&world, &[0]).is_safe());
    world.map.register(registration(1, 2), world.now).unwrap();
    assert_eq!(stop(&world, &[0]).examples, [id(2)]);
    assert!(stop(&world, &[1]).unknown.unwrap().contains("has not yet reported"));
    world.map.set_safe_mode(true, world.now);
    assert!(stop(&world, &[2]).unknown.unwrap().contains("safe mode"));
    let stranger = world.map.begin_stop_check(&[uuid(9)]).unwrap_err();
    assert_eq!(stranger.kind(), steadfs_common::FsErrorKind::NotFound);
}

#[test]
fn an_open_file_counts_when_a_stop_is_checked() {
    let mut world = World::running(3);
    let storages = [0, 1].into_iter().map(storage).collect();
    let stamp = steadfs_common::GenStamp(1_001);
    world
        .map
        .apply(crate::Effect::Pipeline { block: id(9), stamp, replication: 2, room: 0, storages }, world.now);
    assert!(stop(&world, &[0]).is_safe());
    let open = Lacking { open: 1, ..Lacking::default() };
    assert_eq!(stop(&world, &[0, 1]).lacking, [open, open]);
}

#[test]
fn a_cordoned_node_and_an_operators_order_add_up() {
    let mut world = World::running(2);
    let cordoned = |wish| [("worker-0".to_owned(), wish)].into_iter().collect();
    let mut register = registration(0, 1);
    register.node = "worker-0".into();
    world.map.register(register, world.now).unwrap();
    world.report(0, &[]);
    let roster = Roster { cordoned: cordoned(FOR_EVER), ..Roster::default() };
    world.map.set_roster(roster.clone(), world.now);
    settle(&mut world, 2, &[]);
    assert_eq!((admin(&world, 0), admin(&world, 1)), (AdminState::InMaintenance, AdminState::Normal));
    let named = [(uuid(0), Wish::Decommission)].into_iter().collect();
    world.map.set_roster(Roster { named, ..roster }, world.now);
    settle(&mut world, 2, &[]);
    assert_eq!(admin(&world, 0), AdminState::Decommissioned);
    // Uncordoned, it stays what the operator ordered.
    let named = [(uuid(0), Wish::Decommission)].into_iter().collect();
    world.map.set_roster(Roster { named, ..Roster::default() }, world.now);
    assert_eq!(admin(&world, 0), AdminState::Decommissioned);
}

#[test]
fn a_datanode_that_was_dead_when_it_was_to_leave_must_empty_itself_when_it_comes_back() {
    let mut world = World::running(2);
    world.written(1, 1, &[0]);
    settle(&mut world, 120, &[0]);
    wishing(&mut world, &[(0, Wish::Decommission)]);
    assert_eq!(admin(&world, 0), AdminState::Decommissioned, "of a dead one nothing is expected");
    world.map.register(registration(0, 1), world.now).unwrap();
    assert_eq!(admin(&world, 0), AdminState::Decommissioning);
    world.report(0, &[finalized(1)]);
    settle(&mut world, 3, &[]);
    assert_eq!(admin(&world, 0), AdminState::Decommissioning, "only it has the block");
    world.change(1, named(1), ChangeKind::Received);
    settle(&mut world, 3, &[]);
    assert_eq!(admin(&world, 0), AdminState::Decommissioned);
}

/// Datanode 0 leaves, with one block that is elsewhere and one that is not, while a third is missing for another reason.
fn dies_while_it_leaves() -> World {
    let mut world = World::running(4);
    world.written(1, 2, &[0, 1]);
    world.written(2, 1, &[3]);
    world.written(3, 2, &[2, 3]);
    wishing(&mut world, &[(0, Wish::Decommission)]);
    settle(&mut world, 3, &[3]);
    assert_eq!(lacking(&world), Lacking { blocks: 1, only_here: 0, open: 0 });
    // The other is dead a moment later: its block is missing for good.
    settle(&mut world, 120, &[0, 3]);
    assert_eq!(world.map.missing(steadfs_common::BlockId(0), 10), [id(2)]);
    world
}

fn lacking(world: &World) -> Lacking {
    world.map.lacking_of(uuid(0))
}

#[test]
fn a_datanode_that_dies_while_it_leaves_waits_for_its_own_blocks_only() {
    let mut world = dies_while_it_leaves();
    assert_eq!((admin(&world, 0), lacking(&world).blocks), (AdminState::Decommissioning, 1));
    world.change(2, named(1), ChangeKind::Received);
    settle(&mut world, 3, &[0, 3]);
    assert_eq!((admin(&world, 0), lacking(&world)), (AdminState::Decommissioned, Lacking::default()));
    world.map.check_leaving();
}

#[test]
fn a_datanode_that_dies_with_all_others_that_have_a_block_does_not_leave_it_behind() {
    let mut world = World::running(5);
    world.written(1, 1, &[0]);
    world.written(2, 2, &[0, 1, 2]);
    wishing(&mut world, &[(0, Wish::Decommission)]);
    world.pass(1, &[]);
    assert_eq!(lacking(&world).blocks, 1, "block 2 is safe without it");
    settle(&mut world, 120, &[0, 1, 2]);
    world.change(3, named(1), ChangeKind::Received);
    settle(&mut world, 3, &[0, 1, 2]);
    assert_eq!((admin(&world, 0), lacking(&world).only_here), (AdminState::Decommissioning, 1));
    world.map.check_leaving();
}

#[test]
fn a_datanode_that_died_before_its_blocks_were_known_tells_what_it_waits_for() {
    let mut world = dies_while_it_leaves();
    world.map.register(registration(0, 1), world.now).unwrap();
    assert_eq!(admin(&world, 0), AdminState::Decommissioning);
    // It dies again before it could report.
    settle(&mut world, 120, &[0, 3]);
    world.change(2, named(1), ChangeKind::Received);
    settle(&mut world, 3, &[0, 3]);
    let waits = lacking(&world);
    assert_eq!((admin(&world, 0), waits.only_here), (AdminState::Decommissioning, 1), "block 2 may be there");
    assert!(waits.blocks >= 1);
    world.map.check_leaving();
    // Back again, it tells itself what it has.
    world.map.register(registration(0, 1), world.now).unwrap();
    world.report(0, &[finalized(1)]);
    settle(&mut world, 3, &[3]);
    assert_eq!((admin(&world, 0), lacking(&world)), (AdminState::Decommissioned, Lacking::default()));
}
