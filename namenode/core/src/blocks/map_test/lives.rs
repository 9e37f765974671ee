//! Datanodes that are started again while copies are under way.

use super::*;

impl World {
    /// The datanode is started again and reports what it has.
    fn restarts(&mut self, node: u32, session: u64, replicas: &[Replica]) {
        self.map.register(registration(node, session), self.now).unwrap();
        let (who, what) = ((uuid(node), session), part(self.now.0, storage(node)));
        let facts = Facts { version: self.map.version(), blocks: &self.blocks, next_block: id(1_000) };
        assert!(self.map.report(who, what, replicas, Some(&facts), self.now).unwrap().is_empty());
        while !self.map.compare(who, what, replicas, BlockId(u64::MAX), 3, self.now).unwrap() {}
        self.map.storage_reported(who, what, self.now).unwrap();
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

impl World {
    /// One slice of a report of the first datanode's volume.
    fn slice(&mut self, report: u64, numbers: &[u64]) -> FsResult<()> {
        let (who, what) = ((uuid(0), 1), part(report, storage(0)));
        let replicas: Vec<Replica> = numbers.iter().copied().map(finalized).collect();
        let last = replicas.last().map_or(BlockId(u64::MAX), |replica| replica.block.id);
        let facts = Facts { version: self.map.version(), blocks: &self.blocks, next_block: id(1_000) };
        assert!(self.map.report(who, what, &replicas, Some(&facts), self.now)?.is_empty());
        while !self.map.compare(who, what, &replicas, last, 3, self.now)? {}
        if numbers.is_empty() {
            self.map.storage_reported(who, what, self.now)?;
        }
        Ok(())
    }
}

#[test]
fn what_is_left_of_a_report_that_broke_off_does_not_disturb_the_next() {
    let mut world = World::running(1);
    for number in 1..=8 {
        world.written(number, 1, &[0]);
    }
    world.now = world.now.plus(Duration::from_secs(300));
    let all = |world: &World| (1..=8).all(|number| world.live(number) == 1);
    world.slice(1, &[1, 2]).unwrap();
    world.slice(2, &[1, 2, 3]).unwrap();
    // It had come before the connection broke, and waited for its turn.
    let over = [world.slice(1, &[3, 4]), world.slice(1, &[])];
    world.slice(2, &[4, 5, 6, 7, 8]).unwrap();
    world.slice(2, &[]).unwrap();
    assert!(all(&world));
    assert!(over.iter().all(|over| over.as_ref().is_err_and(|error| error.to_string().contains("is over"))));
    // Likewise if it registers again in the middle.
    world.slice(3, &[1, 2]).unwrap();
    world.map.register(registration(0, 1), world.now).unwrap();
    let over = world.slice(3, &[3, 4]);
    for numbers in [&[1, 2, 3, 4, 5, 6][..], &[7, 8], &[]] {
        world.slice(4, numbers).unwrap();
    }
    assert!(all(&world) && over.is_err());
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
