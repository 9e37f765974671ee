//! Datanodes that are started again while copies are under way.

use super::*;

impl World {
    /// The datanode is started again and reports what it has.
    fn restarts(&mut self, node: u32, session: u64, replicas: &[Replica]) {
        self.map.register(registration(node, session), self.now).unwrap();
        let (who, what) = ((uuid(node), session), (self.now.0, storage(node)));
        let facts = Facts { version: self.map.version(), blocks: &self.blocks, next_block: id(1_000) };
        assert!(self.map.report(who, what, replicas, &facts, self.now).unwrap().is_empty());
        while !self.map.compare(who, what, replicas, BlockId(u64::MAX), 3, self.now).unwrap() {}
        self.map.storage_reported(who, storage(node), self.now).unwrap();
    }

    /// Some seconds in which `node` is in its second life. What all are told.
    fn pass_with(&mut self, seconds: u64, node: u32) -> Vec<(u32, NodeCommand)> {
        let mut commands = Vec::new();
        for _ in 0..seconds {
            commands.extend(self.pass(1, &[node]));
            let orders = self.map.heartbeat(heartbeat(node, 2), self.now).unwrap();
            commands.extend(orders.into_iter().map(|order| (node, order)));
        }
        commands
    }
}

#[test]
fn a_copy_to_a_datanode_that_was_started_again_is_ordered_again_at_once() {
    let mut world = World::running(2);
    world.written(1, 2, &[0]);
    assert_eq!(transfers(&world.pass(2, &[])).len(), 1);
    // It broke off with the process that it went to, though its source will not say so.
    world.restarts(1, 2, &[]);
    assert_eq!(transfers(&world.pass_with(3, 1)), [(0, id(1), vec![storage(1)])]);
    assert!(transfers(&world.pass_with(10, 1)).is_empty(), "once is enough");
}

#[test]
fn a_copy_from_a_datanode_that_was_started_again_is_ordered_again_at_once() {
    let mut world = World::running(2);
    world.written(1, 2, &[0]);
    assert_eq!(transfers(&world.pass(2, &[])).len(), 1);
    world.restarts(0, 2, &[finalized(1)]);
    assert_eq!(transfers(&world.pass_with(3, 0)), [(0, id(1), vec![storage(1)])]);
    assert!(transfers(&world.pass_with(10, 0)).is_empty(), "once is enough");
}

#[test]
fn a_copy_that_nobody_was_told_of_is_not_ordered_twice() {
    let mut world = World::running(2);
    world.written(1, 2, &[0]);
    // The source is silent: the order waits for its next heartbeat.
    assert!(transfers(&world.pass(2, &[0])).is_empty());
    world.restarts(1, 2, &[]);
    let mut orders = Vec::new();
    for _ in 0..5 {
        orders.extend(transfers(&world.pass_with(1, 1)));
    }
    assert_eq!(orders, [(0, id(1), vec![storage(1)])]);
}

#[test]
fn bad_replicas_of_datanodes_that_are_gone_are_nobodys_work() {
    let mut world = World::running(4);
    world.written(1, 3, &[0, 1, 2]);
    world.map.report_bad(named(1), &[storage(2)], true);
    let listed = |world: &World| {
        let lists = world.map.work_lists(10);
        assert_eq!(lists.totals[4], lists.corrupt.len() as u64);
        (lists.corrupt.len(), world.map.replicas(id(1)).1.len(), world.map.counts().corrupt)
    };
    assert_eq!(listed(&world), (1, 1, 1));
    world.pass(65, &[2]);
    assert_eq!(listed(&world), (0, 0, 0));
    // It is not forgotten: what comes back is as bad as it was.
    world.map.register(registration(2, 2), world.now).unwrap();
    assert_eq!(listed(&world), (1, 1, 1));
}
