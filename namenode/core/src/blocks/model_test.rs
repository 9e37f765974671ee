//! Random histories against datanodes that really hold replicas: nothing good is deleted that is needed, and in the end
//! every block has what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use steadfs_common::{BlockId, FIRST_BLOCK_ID, GenStamp, InodeId, Millis};

use super::map_test::{heartbeat, id, part, settings, storage, uuid};
use super::*;
use crate::command::{BlockRef, Effect};
use crate::record::{Block, BlockState};

const NODES: u32 = 4;
/// Bytes of each disk.
const CAPACITY: u64 = 4_000;
const LENGTH: u64 = 10;

/// Two datanodes in each of two racks.
fn registration(at: u32, session: u64) -> Registration {
    let rack = if at < 2 { "/a" } else { "/b" }.into();
    Registration { rack, ..super::map_test::registration(at, session) }
}

/// A datanode and its disk.
#[derive(Debug, Default)]
pub(super) struct Node {
    up: bool,
    session: u64,
    registered: bool,
    pub(super) disk: BTreeMap<BlockId, BlockRef>,
    /// Changes not yet told.
    untold: Vec<(BlockRef, ChangeKind)>,
}

/// The cluster, with the truth beside what the map believes.
pub(super) struct World {
    pub(super) map: BlockMap,
    now: Millis,
    pub(super) nodes: Vec<Node>,
    /// The namespace.
    blocks: BTreeMap<BlockId, Block>,
    next: u64,
    /// Replicas that readers call bad, and are.
    rotten: BTreeSet<(u32, BlockId)>,
    /// Replicas that their datanodes were asked to read, and found good.
    verified: BTreeSet<(u32, BlockId)>,
}

#[derive(Clone, Debug)]
enum Step {
    Write { nodes: Vec<u32>, replication: u16, late: bool },
    Remove(usize),
    Replication(usize, u16),
    Kill(u32),
    Start(u32),
    Rot(u32, usize),
    Tell(u32),
    Report(u32),
    Beat(u32, bool),
    Pass(u64),
    Wish(u32, Wish),
    Balance(bool),
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        2 => Just(Wish::InService),
        1 => Just(Wish::Decommission),
        1 => Just(Wish::Maintenance { until: None }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    prop_oneof![
        4 => (prop::collection::vec(0..NODES, 1..4), 1_u16..4, any::<bool>())
            .prop_map(|(nodes, replication, late)| Step::Write { nodes, replication, late }),
        1 => any::<usize>().prop_map(Step::Remove),
        2 => (any::<usize>(), 1_u16..4).prop_map(|(at, replication)| Step::Replication(at, replication)),
        1 => node.clone().prop_map(Step::Kill),
        2 => node.clone().prop_map(Step::Start),
        1 => (node.clone(), any::<usize>()).prop_map(|(node, at)| Step::Rot(node, at)),
        3 => node.clone().prop_map(Step::Tell),
        2 => node.clone().prop_map(Step::Report),
        6 => (node, any::<bool>()).prop_map(|(node, obeys)| Step::Beat(node, obeys)),
        3 => (1_u64..40).prop_map(Step::Pass),
        2 => (0..NODES, wish()).prop_map(|(node, wish)| Step::Wish(node, wish)),
        1 => any::<bool>().prop_map(Step::Balance),
    ]
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self {
            map: BlockMap::new(settings()),
            now: Millis(1_000_000),
            nodes: (0..NODES).map(|_| Node::default()).collect(),
            blocks: BTreeMap::new(),
            next: 0,
            rotten: BTreeSet::new(),
            verified: BTreeSet::new(),
        };
        for node in 0..NODES {
            world.start(node);
        }
        world
    }

    fn pick(&self, at: usize) -> Option<BlockId> {
        (!self.blocks.is_empty()).then(|| *self.blocks.keys().nth(at % self.blocks.len()).unwrap())
    }

    fn start(&mut self, at: u32) {
        let node = &mut self.nodes[at as usize];
        if !node.up {
            node.session += 1;
            (node.up, node.registered) = (true, false);
            // What was not told is in the report that follows.
            node.untold.clear();
        }
        self.register(at);
    }

    fn register(&mut self, at: u32) {
        let node = &mut self.nodes[at as usize];
        self.map.register(registration(at, node.session), self.now).unwrap();
        node.registered = true;
        self.report(at);
    }

    fn facts_of(&self) -> (u64, Vec<Block>, BlockId) {
        (self.map.version(), self.blocks.values().cloned().collect(), id(self.next))
    }

    fn report(&mut self, at: u32) {
        self.tell(at);
        let node = &self.nodes[at as usize];
        if !node.up || !node.registered {
            return;
        }
        let who = (uuid(at), node.session);
        let replicas: Vec<Replica> = node
            .disk
            .values()
            .map(|block| Replica { block: *block, state: ReplicaState::Finalized })
            .collect();
        let (version, blocks, next_block) = self.facts_of();
        let facts = Facts { version, blocks: &blocks, next_block };
        let what = part(self.now.0, storage(at));
        for part in replicas.chunks(3) {
            // Another life may be dead for the map: then it is told to register at its next heartbeat.
            let Ok(rest) = self.map.report(who, what, part, None, self.now) else { return };
            assert!(self.map.report(who, what, &rest, Some(&facts), self.now).unwrap().is_empty());
            let last = part[part.len() - 1].block.id;
            while !self.map.compare(who, what, part, last, 2, self.now).unwrap() {}
        }
        let Ok(mut done) = self.map.compare(who, what, &[], BlockId(u64::MAX), 2, self.now) else { return };
        while !done {
            done = self.map.compare(who, what, &[], BlockId(u64::MAX), 2, self.now).unwrap();
        }
        self.map.storage_reported(who, what, self.now).unwrap();
    }

    fn tell(&mut self, at: u32) {
        let node = &mut self.nodes[at as usize];
        if !node.up || !node.registered {
            return;
        }
        let change = |(block, kind): (BlockRef, ChangeKind)| Change { storage: storage(at), block, kind };
        let changes: Vec<Change> = node.untold.iter().copied().map(change).collect();
        let session = node.session;
        let (version, blocks, next_block) = self.facts_of();
        let facts = Facts { version, blocks: &blocks, next_block };
        let who = (uuid(at), session);
        if let Ok(rest) = self.map.changed(who, (&changes, None), None, self.now) {
            assert!(self.map.changed(who, (&rest, None), Some(&facts), self.now).unwrap().is_empty());
            self.nodes[at as usize].untold.clear();
        }
    }

    fn store(&mut self, at: u32, block: BlockRef) {
        let node = &mut self.nodes[at as usize];
        node.disk.insert(block.id, block);
        node.untold.push((block, ChangeKind::Received));
        self.rotten.remove(&(at, block.id));
        self.verified.remove(&(at, block.id));
    }

    /// Reads a replica, and tells what it finds.
    fn check(&mut self, at: u32, block: BlockRef) {
        let node = &mut self.nodes[at as usize];
        if node.disk.get(&block.id) == Some(&block) && !self.rotten.contains(&(at, block.id)) {
            node.untold.push((block, ChangeKind::Verified));
            self.verified.insert((at, block.id));
        }
    }

    pub(super) fn write(&mut self, nodes: &[u32], replication: u16, late: bool) {
        let pipeline: BTreeSet<u32> =
            nodes.iter().copied().filter(|at| self.nodes[*at as usize].up).collect();
        if pipeline.is_empty() {
            return;
        }
        let block = id(self.next);
        self.next += 1;
        let stamp = GenStamp(1_000 + self.next);
        let named = BlockRef { id: block, stamp, length: LENGTH };
        let storages = pipeline.iter().copied().map(storage).collect();
        self.map.apply(Effect::Pipeline { block, stamp, replication, room: 0, storages }, self.now);
        for at in &pipeline {
            self.store(*at, named);
        }
        for at in pipeline.iter().skip(usize::from(late)) {
            self.tell(*at);
        }
        let record = Block {
            id: block,
            stamp,
            length: LENGTH,
            replication,
            inode: InodeId(1),
            index: 0,
            references: 1,
            state: BlockState::Complete,
        };
        self.blocks.insert(block, record);
        self.map.apply(Effect::Completed { block, stamp, length: LENGTH, replication }, self.now);
    }

    /// Good replicas on the disks of datanodes that count as alive, or have only just gone.
    fn good(&self, block: &Block) -> usize {
        self.good_on(block, |node| node.live)
    }

    fn good_on(&self, block: &Block, counts: impl Fn(&Datanode) -> bool) -> usize {
        let live: BTreeSet<_> =
            self.map.datanodes().iter().filter(|(node, _)| counts(node)).map(|(node, _)| node.uuid).collect();
        let holds = |at: &u32| {
            live.contains(&uuid(*at))
                && !self.rotten.contains(&(*at, block.id))
                && self.nodes[*at as usize].disk.get(&block.id).is_some_and(|held| held.stamp == block.stamp)
        };
        (0..NODES).filter(holds).count()
    }

    fn obey(&mut self, at: u32, command: NodeCommand) {
        match command {
            NodeCommand::Register => self.register(at),
            NodeCommand::Report => self.report(at),
            NodeCommand::Recover { .. } | NodeCommand::Bandwidth(_) => {}
            NodeCommand::Check(blocks) => blocks.into_iter().for_each(|block| self.check(at, block)),
            NodeCommand::Transfer { block, targets, .. } => {
                let held = self.nodes[at as usize].disk.get(&block.id) == Some(&block);
                let rotten = self.rotten.contains(&(at, block.id));
                for target in (0..NODES).filter(|node| targets.contains(&storage(*node))) {
                    let there = &self.nodes[target as usize];
                    if held && !rotten && there.up && !there.disk.contains_key(&block.id) {
                        self.store(target, block);
                    } else {
                        let who = (uuid(at), self.nodes[at as usize].session);
                        let told = self.map.copy_failed(who, block, &[storage(target)], self.now);
                        assert!(told.is_ok() || !self.nodes[at as usize].registered, "{told:?}");
                    }
                }
            }
            NodeCommand::Invalidate(blocks) => {
                for order in blocks {
                    self.delete(at, order);
                }
            }
        }
    }

    fn delete(&mut self, at: u32, order: BlockRef) {
        let Some(held) = self.nodes[at as usize].disk.get(&order.id).copied() else { return };
        if held.stamp > order.stamp {
            return;
        }
        if let Some(block) = self.blocks.get(&order.id).cloned() {
            let was_good = !self.rotten.contains(&(at, order.id)) && held.stamp == block.stamp;
            // What leaves service is not one of those that are wanted.
            let serves = |node: &Datanode| node.live && node.admin.serves();
            let here = self.map.datanodes().find(uuid(at)).map(|at| self.map.datanodes().node(at));
            let counted = was_good && here.is_some_and(serves);
            let left = self.good_on(&block, serves) - usize::from(counted);
            let wanted = usize::from(block.replication);
            assert!(
                !was_good || left >= wanted,
                "{order:?} deleted at {at}: {left} good ones left, {wanted} wanted"
            );
            assert!(left > 0, "{order:?} was the last at {at}");
            let read = |node: &u32| {
                let held = self.nodes[*node as usize].disk.get(&block.id);
                *node != at
                    && held.is_some_and(|held| held.stamp == block.stamp)
                    && self.verified.contains(&(*node, block.id))
            };
            assert!(
                was_good || left > 1 || (0..NODES).any(|node| read(&node)),
                "{order:?} at {at} went for one that nobody had read"
            );
        }
        let node = &mut self.nodes[at as usize];
        node.disk.remove(&order.id);
        node.untold.push((held, ChangeKind::Deleted));
        self.rotten.remove(&(at, order.id));
        self.verified.remove(&(at, order.id));
    }

    fn beat(&mut self, at: u32, obeys: bool) {
        let node = &self.nodes[at as usize];
        if !node.up {
            return;
        }
        let mut heartbeat = heartbeat(at, node.session);
        let used = node.disk.len() as u64 * LENGTH;
        for volume in &mut heartbeat.volumes {
            (volume.capacity, volume.used, volume.remaining) = (CAPACITY, used, CAPACITY - used);
        }
        let commands = self.map.heartbeat(heartbeat, self.now).unwrap();
        for command in commands.into_iter().filter(|_| obeys) {
            self.obey(at, command);
        }
    }

    pub(super) fn pass(&mut self, seconds: u64, everybody: bool) {
        for _ in 0..seconds {
            self.now = self.now.plus(Duration::from_secs(1));
            if everybody {
                for at in 0..NODES {
                    self.beat(at, true);
                    self.tell(at);
                }
            }
            self.map.round(self.blocks.len() as u64, self.now.0, self.now);
            self.map.sweep(3);
            self.map.retry_postponed(2);
            self.map.depart(self.now);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write { nodes, replication, late } => self.write(&nodes, replication, late),
            Step::Remove(at) => {
                if let Some(block) = self.pick(at) {
                    self.blocks.remove(&block);
                    self.map.apply(Effect::Removed { block }, self.now);
                }
            }
            Step::Replication(at, replication) => {
                if let Some(block) = self.pick(at) {
                    self.blocks.get_mut(&block).unwrap().replication = replication;
                    self.map.apply(Effect::Replication { block, replication }, self.now);
                }
            }
            Step::Kill(at) => self.nodes[at as usize].up = false,
            Step::Start(at) => self.start(at),
            Step::Rot(at, which) => self.rot(at, which),
            Step::Tell(at) => self.tell(at),
            Step::Report(at) => {
                // Reports come long after one another; what was told in the last minutes wins over them.
                self.report(at);
            }
            Step::Beat(at, obeys) => self.beat(at, obeys),
            Step::Pass(seconds) => self.pass(seconds, false),
            Step::Balance(on) => {
                let goal = BalanceGoal { threshold: 0.3, bytes_per_second: 0 };
                self.map.set_background_balance(on.then_some(goal));
            }
            Step::Wish(at, wish) => {
                let mut roster = self.map.roster().clone();
                roster.named.insert(uuid(at), wish);
                self.map.set_roster(roster, self.now);
            }
        }
    }

    /// A replica of a block that has others goes bad, and its datanode says so.
    fn rot(&mut self, at: u32, which: usize) {
        let Some(block) = self.pick(which).map(|id| self.blocks[&id].clone()) else { return };
        let good_here =
            self.nodes[at as usize].disk.get(&block.id).is_some_and(|held| held.stamp == block.stamp)
                && !self.rotten.contains(&(at, block.id));
        let up = self.nodes[at as usize].up && self.nodes[at as usize].registered;
        let others = (0..NODES).filter(|other| {
            *other != at
                && !self.rotten.contains(&(*other, block.id))
                && self.nodes[*other as usize]
                    .disk
                    .get(&block.id)
                    .is_some_and(|held| held.stamp == block.stamp)
        });
        if good_here && up && others.count() > 0 {
            let named = BlockRef { id: block.id, stamp: block.stamp, length: block.length };
            let known = self.map.live(block.id, block.stamp).contains(&storage(at));
            if known {
                self.rotten.insert((at, block.id));
                self.verified.remove(&(at, block.id));
                self.map.report_bad(named, &[storage(at)], true);
            }
        }
    }

    fn check_sums(&self) {
        let known: u64 = self
            .map
            .datanodes()
            .iter()
            .flat_map(|(_, storages)| storages.map(|storage| storage.blocks))
            .sum();
        let places: usize = self
            .map
            .table
            .range(BlockId(0)..=BlockId(u64::MAX))
            .map(|(_, entry)| entry.places.as_slice().len())
            .sum();
        assert_eq!(known, places as u64);
        let safe =
            self.map.table.range(BlockId(0)..=BlockId(u64::MAX)).filter(|(_, entry)| entry.safe).count();
        assert_eq!(self.map.safe_blocks, safe as u64);
        self.map.check_leaving();
        self.map.check_streams();
    }

    /// Quiet: everybody lives, tells and obeys. Then all must be well.
    pub(super) fn settle(&mut self) {
        self.map.set_background_balance(None);
        self.map.set_roster(Roster::default(), self.now);
        for at in 0..NODES {
            self.start(at);
        }
        for _ in 0..6 {
            self.pass(130, true);
            for at in 0..NODES {
                self.report(at);
            }
        }
        self.pass(60, true);
        let (version, blocks, next_block) = self.facts_of();
        let facts = Facts { version, blocks: &blocks, next_block };
        self.map.reconcile(FIRST_BLOCK_ID, BlockId(u64::MAX), &facts);
        self.pass(60, true);
        for block in &blocks {
            let good = self.good(block);
            assert_eq!(good, usize::from(block.replication), "{block:?} {:?}", self.map.replicas(block.id));
            assert_eq!(self.map.live(block.id, block.stamp).len(), good);
            let holds = |at: &u32| self.nodes[*at as usize].disk.contains_key(&block.id);
            let racks: BTreeSet<u32> = (0..NODES).filter(holds).map(|at| at / 2).collect();
            assert_eq!(racks.len(), good.min(2), "{block:?}");
        }
        let held: usize = self.nodes.iter().map(|node| node.disk.len()).sum();
        let wanted: usize = blocks.iter().map(|block| usize::from(block.replication)).sum();
        assert_eq!(held, wanted, "nothing is left over");
        let counts = self.map.counts();
        assert_eq!(counts, BlockCounts { known: blocks.len() as u64, ..BlockCounts::default() });
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        max_shrink_iters: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_needed_stays_and_all_is_well_in_the_end(steps in prop::collection::vec(step(), 0..80)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.check_sums();
        }
        world.settle();
    }
}

#[test]
fn a_replica_that_an_earlier_life_deleted_is_not_counted_again() {
    let mut world = World::new();
    for step in [
        Step::Write { nodes: vec![2, 0], replication: 1, late: false },
        Step::Pass(29),
        Step::Beat(2, true),
        Step::Replication(0, 2),
        Step::Beat(3, false),
        Step::Beat(0, false),
        Step::Kill(2),
        Step::Pass(2),
    ] {
        world.step(step);
    }
    world.settle();
}
