//! Scenarios, one by one.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use smallvec::smallvec;
use steadfs_common::{
    BlockId, DatanodeUuid, FIRST_BLOCK_ID, FsErrorKind, FsResult, GenStamp, InodeId, Millis, StorageId,
};

use super::*;
use crate::command::{BlockRef, Effect};
use crate::record::{Block, BlockState, Loss, Recovery};

mod bad;
mod copies;
mod deletions;
mod failed;
mod lives;
mod nothing_left;
mod recoveries;
mod reports;
mod spread;
mod stuck;
mod unfinished;
mod volumes;

const LENGTH: u64 = 1_000;
const STAMP: GenStamp = GenStamp(1_001);

pub(super) fn settings() -> BlockSettings {
    BlockSettings {
        min_replication: 1,
        default_replication: 3,
        min_maintenance_replication: 1,
        stale_after: Duration::from_secs(30),
        heartbeat: Duration::from_secs(3),
        dead_after: Duration::from_secs(60),
        max_transfers_per_node: 4,
        streams_per_node: 4,
        max_incoming_per_node: 100,
        light_copies: 0,
        copy_bandwidth: 0,
        avoid_slow: true,
        transfer_timeout: Duration::from_secs(20),
        completion_grace: Duration::from_secs(5),
        recovery_retry: Duration::from_secs(10),
        flushed_wait: Duration::from_secs(100),
        safe_mode: SafeModeSettings { threshold: 0.999, min_datanodes: 0, extension: Duration::from_secs(5) },
    }
}

pub(super) fn uuid(node: u32) -> DatanodeUuid {
    format!("00000000-0000-0000-0000-{node:012}").parse().unwrap()
}

pub(super) fn storage(node: u32) -> StorageId {
    format!("DS-00000000-0000-0000-0001-{node:012}").parse().unwrap()
}

fn address(node: u32) -> Address {
    let ip: IpAddr = Ipv4Addr::from(0x0A00_0000 + node).into();
    Address { ip, host: format!("host-{node}"), data_port: 9866, ipc_port: 9867, http_port: 0 }
}

fn volume(node: u32) -> VolumeReport {
    VolumeReport {
        id: storage(node),
        kind: steadfs_common::StorageType::Disk,
        failed: false,
        capacity: 1 << 40,
        used: 0,
        remaining: 1 << 40,
    }
}

pub(super) fn registration(node: u32, session: u64) -> Registration {
    Registration {
        uuid: uuid(node),
        session,
        address: address(node),
        version: "0".into(),
        rack: String::new(),
        node: String::new(),
        volumes: vec![volume(node)],
    }
}

pub(super) fn heartbeat(node: u32, session: u64) -> Heartbeat {
    Heartbeat {
        uuid: uuid(node),
        session,
        address: address(node),
        volumes: vec![volume(node)],
        active_transfers: 0,
        peers: Vec::new(),
        number: 0,
        answered: 0,
        ending: false,
    }
}

pub(super) fn id(number: u64) -> BlockId {
    BlockId(FIRST_BLOCK_ID.0 + number)
}

pub(super) fn named(number: u64) -> BlockRef {
    BlockRef { id: id(number), stamp: STAMP, length: LENGTH }
}

pub(super) fn finalized(number: u64) -> Replica {
    Replica { block: named(number), state: ReplicaState::Finalized }
}

/// Of a report that does not say which changes it knows of.
pub(super) fn part(report: u64, storage: StorageId) -> ReportPart {
    ReportPart { report, storage, knows: None }
}

fn complete(number: u64, replication: u16) -> Block {
    Block {
        id: id(number),
        stamp: STAMP,
        length: LENGTH,
        replication,
        inode: InodeId(1),
        index: 0,
        references: 1,
        state: BlockState::Complete,
    }
}

/// A map with a clock and the namespace's blocks.
pub(super) struct World {
    pub(super) map: BlockMap,
    pub(super) now: Millis,
    pub(super) blocks: Vec<Block>,
}

impl World {
    /// `nodes` datanodes that have registered, still in safe mode.
    pub(super) fn starting(nodes: u32, blocks: Vec<Block>) -> Self {
        let mut world = Self { map: BlockMap::new(settings()), now: Millis(1_000_000), blocks };
        for node in 0..nodes {
            world.map.register(registration(node, 1), world.now).unwrap();
        }
        world
    }

    /// The same, after safe mode and with empty reports.
    pub(super) fn running(nodes: u32) -> Self {
        let mut world = Self::starting(nodes, Vec::new());
        world.map.set_safe_mode(false, world.now);
        for node in 0..nodes {
            world.report(node, &[]);
        }
        world
    }

    fn facts(&self) -> Facts<'_> {
        Facts { version: self.map.version(), blocks: &self.blocks, next_block: id(1_000) }
    }

    pub(super) fn report(&mut self, node: u32, replicas: &[Replica]) {
        let (who, what) = ((uuid(node), 1), part(self.now.0, storage(node)));
        let facts = Facts { version: self.map.version(), blocks: &self.blocks, next_block: id(1_000) };
        assert!(self.map.report(who, what, replicas, Some(&facts), self.now).unwrap().is_empty());
        while !self.map.compare(who, what, replicas, BlockId(u64::MAX), 3, self.now).unwrap() {}
        self.map.storage_reported(who, what, self.now).unwrap();
    }

    pub(super) fn change(&mut self, node: u32, block: BlockRef, kind: ChangeKind) {
        let facts = Facts { version: self.map.version(), blocks: &self.blocks, next_block: id(1_000) };
        let change = Change { storage: storage(node), block, kind };
        let again = self.map.changed((uuid(node), 1), (&[change], None), Some(&facts), self.now).unwrap();
        assert!(again.is_empty());
    }

    /// A block written to these nodes and complete.
    pub(super) fn written(&mut self, number: u64, replication: u16, nodes: &[u32]) {
        self.written_late(number, replication, nodes, &[]);
    }

    /// As [`World::written`]; the nodes of `late` are in the pipeline and do not report.
    fn written_late(&mut self, number: u64, replication: u16, nodes: &[u32], late: &[u32]) {
        let storages = nodes.iter().chain(late).copied().map(storage).collect();
        self.map.apply(
            Effect::Pipeline { block: id(number), stamp: STAMP, replication, room: 0, storages },
            self.now,
        );
        for node in nodes {
            self.change(*node, named(number), ChangeKind::Received);
        }
        let effect = Effect::Completed { block: id(number), stamp: STAMP, length: LENGTH, replication };
        self.map.apply(effect, self.now);
        self.blocks.push(complete(number, replication));
    }

    /// Time passes; everybody but `silent` sends heartbeats. Gives each node's commands of the last second.
    pub(super) fn pass(&mut self, seconds: u64, silent: &[u32]) -> Vec<(u32, NodeCommand)> {
        let mut commands = Vec::new();
        for _ in 0..seconds {
            self.now = self.now.plus(Duration::from_secs(1));
            for node in 0..self.map.datanodes().iter().count() as u32 {
                if !silent.contains(&node) {
                    let orders = self.map.heartbeat(heartbeat(node, 1), self.now).unwrap();
                    commands.extend(orders.into_iter().map(|order| (node, order)));
                }
            }
            self.map.round(self.blocks.len() as u64, self.now.0, self.now);
            while self.map.sweep(2) {}
            self.map.retry_postponed(10);
        }
        commands
    }

    pub(super) fn live(&self, number: u64) -> usize {
        self.map.live(id(number), STAMP).len()
    }
}

pub(super) fn transfers(commands: &[(u32, NodeCommand)]) -> Vec<(u32, BlockId, Vec<StorageId>)> {
    let of = |(node, command): &(u32, NodeCommand)| match command {
        NodeCommand::Transfer { block, targets, .. } => Some((*node, block.id, targets.to_vec())),
        _ => None,
    };
    commands.iter().filter_map(of).collect()
}

fn invalidated(commands: &[(u32, NodeCommand)]) -> Vec<(u32, BlockId)> {
    let of = |(node, command): &(u32, NodeCommand)| match command {
        NodeCommand::Invalidate(blocks) => blocks.iter().map(|block| (*node, block.id)).collect(),
        _ => Vec::new(),
    };
    commands.iter().flat_map(of).collect()
}

#[test]
fn a_lost_datanode_is_replaced_once() {
    let mut world = World::running(4);
    world.written(1, 3, &[0, 1, 2]);
    assert!(transfers(&world.pass(50, &[2])).is_empty(), "silent is not dead");
    let commands = world.pass(15, &[2]);
    let orders = transfers(&commands);
    assert_eq!(orders.len(), 1, "{commands:?}");
    assert_eq!((orders[0].1, &orders[0].2[..]), (id(1), &[storage(3)][..]));
    assert_eq!(world.map.counts().under_replicated, 1);
    world.change(3, named(1), ChangeKind::Received);
    assert_eq!(world.map.counts(), BlockCounts { known: 1, ..BlockCounts::default() });
    assert_eq!(world.live(1), 3);
}

#[test]
fn a_copy_that_does_not_arrive_is_ordered_again() {
    let mut world = World::running(3);
    world.written_late(1, 2, &[0], &[1]);
    assert!(transfers(&world.pass(4, &[])).is_empty(), "the rest of the pipeline has a moment");
    assert_eq!(transfers(&world.pass(4, &[])).len(), 1);
    assert!(transfers(&world.pass(15, &[])).is_empty());
    assert_eq!(transfers(&world.pass(10, &[])).len(), 1, "the first did not come");
}

#[test]
fn a_returning_datanode_makes_too_many_and_one_is_deleted() {
    let mut world = World::running(4);
    world.written(1, 3, &[0, 1, 2]);
    world.pass(65, &[2]);
    world.change(3, named(1), ChangeKind::Received);
    world.map.register(registration(2, 1), world.now).unwrap();
    assert!(invalidated(&world.pass(2, &[])).is_empty());
    world.report(2, &[finalized(1)]);
    let orders = invalidated(&world.pass(2, &[]));
    assert_eq!(orders.len(), 1);
    assert_eq!(world.live(1), 3);
    world.change(orders[0].0, named(1), ChangeKind::Deleted);
    assert_eq!(world.map.counts().pending_deletion, 0);
    assert!(invalidated(&world.pass(700, &[])).is_empty());
}

#[test]
fn a_moved_replica_takes_the_place_of_the_one_that_the_balancer_named() {
    for left in 0..3 {
        let mut world = World::running(4);
        world.written(1, 3, &[0, 1, 2]);
        world.map.moving(id(1), uuid(left));
        world.change(3, named(1), ChangeKind::Received);
        assert_eq!(invalidated(&world.pass(2, &[])), [(left, id(1))]);
        assert_eq!(world.live(1), 3);
    }
    // One who has no replica changes nothing.
    let mut world = World::running(4);
    world.written(1, 2, &[0, 1]);
    world.map.moving(id(1), uuid(3));
    world.map.moving(id(1), uuid(77));
    assert!(invalidated(&world.pass(2, &[])).is_empty());
}

#[test]
fn a_report_that_drowned_in_changes_is_asked_for_again() {
    let mut world = World::running(2);
    world.written(1, 2, &[0, 1]);
    world.pass(65, &[0]);
    world.map.register(registration(0, 1), world.now).unwrap();
    for number in 2..70_000 {
        world.change(0, named(number), ChangeKind::Deleted);
    }
    world.report(0, &[finalized(1)]);
    assert_eq!(world.live(1), 1);
    let asked = world.pass(70, &[]).into_iter().filter(|(_, order)| *order == NodeCommand::Report);
    assert_eq!(asked.map(|(node, _)| node).collect::<Vec<_>>(), [0]);
    world.report(0, &[finalized(1)]);
    assert_eq!(world.live(1), 2);
    let orders = world.pass(200, &[]);
    assert!(orders.iter().all(|(_, order)| *order != NodeCommand::Report));
}

#[test]
fn nothing_is_deleted_because_of_what_an_earlier_life_reported() {
    let mut world = World::running(3);
    world.written(1, 2, &[0, 1, 2]);
    let mut world = {
        // All were reported: the third is too many, and goes.
        assert_eq!(invalidated(&world.pass(1, &[])).len(), 1);
        World::running(3)
    };
    world.map.register(registration(0, 2), world.now).unwrap();
    world.written_in_sessions(1, 2);
    assert!(invalidated(&world.pass_sessions()).is_empty(), "node 0 has not reported in its present life");
}

impl World {
    /// As [`World::written`] on nodes 0 to 2, where node 0 is in its second life.
    fn written_in_sessions(&mut self, number: u64, replication: u16) {
        let storages = smallvec![storage(0), storage(1), storage(2)];
        self.map.apply(
            Effect::Pipeline { block: id(number), stamp: STAMP, replication, room: 0, storages },
            self.now,
        );
        for node in 0..3 {
            let change = Change { storage: storage(node), block: named(number), kind: ChangeKind::Received };
            let session = if node == 0 { 2 } else { 1 };
            let facts = Facts { version: self.map.version(), blocks: &self.blocks, next_block: id(1_000) };
            assert!(
                self.map
                    .changed((uuid(node), session), (&[change], None), Some(&facts), self.now)
                    .unwrap()
                    .is_empty()
            );
        }
        let effect = Effect::Completed { block: id(number), stamp: STAMP, length: LENGTH, replication };
        self.map.apply(effect, self.now);
    }

    fn pass_sessions(&mut self) -> Vec<(u32, NodeCommand)> {
        self.now = self.now.plus(Duration::from_secs(1));
        self.map.round(1, 1, self.now);
        let orders = (0..3).flat_map(|node| {
            let session = if node == 0 { 2 } else { 1 };
            let orders = self.map.heartbeat(heartbeat(node, session), self.now).unwrap();
            orders.into_iter().map(move |order| (node, order)).collect::<Vec<_>>()
        });
        orders.collect()
    }
}

#[test]
fn an_earlier_life_is_refused_everywhere() {
    let mut world = World::running(1);
    world.map.register(registration(0, 2), world.now).unwrap();
    let refused = |result: Result<(), steadfs_common::FsError>| {
        assert_eq!(result.unwrap_err().kind(), FsErrorKind::NotRegistered);
    };
    refused(world.map.heartbeat(heartbeat(0, 1), world.now).map(drop));
    refused(world.map.register(registration(0, 1), world.now));
    let facts = Facts { version: 0, blocks: &[], next_block: id(0) };
    refused(world.map.changed((uuid(0), 1), (&[], None), Some(&facts), world.now).map(drop));
    refused(world.map.report((uuid(0), 1), part(1, storage(0)), &[], Some(&facts), world.now).map(drop));
    assert_eq!(world.map.heartbeat(heartbeat(9, 1), world.now).unwrap(), [NodeCommand::Register]);
}

#[test]
fn a_copied_volume_is_refused_while_its_owner_lives_and_may_move_when_it_is_dead() {
    let mut world = World::running(1);
    let copied = Registration { volumes: vec![volume(0)], ..registration(1, 1) };
    let error = world.map.register(copied.clone(), world.now).unwrap_err();
    assert!(error.message().contains("a volume was copied"), "{error}");
    world.pass(61, &[0]);
    world.map.register(copied, world.now).unwrap();
    let at = world.map.datanodes().find_storage(storage(0)).unwrap();
    assert_eq!(world.map.datanodes().owner(at).uuid, uuid(1));
}

#[test]
fn unknown_blocks_are_deleted_only_if_they_were_given_out_and_are_gone() {
    let mut world = World::starting(1, vec![complete(1, 1)]);
    let future = Replica { block: BlockRef { id: id(5_000), ..named(0) }, ..finalized(0) };
    let group = Replica { block: BlockRef { id: BlockId(u64::MAX - 31), ..named(0) }, ..finalized(0) };
    let replicas = [finalized(1), finalized(2), future, group];
    world.report(0, &replicas);
    assert!(invalidated(&world.pass(4, &[])).is_empty(), "not in safe mode");
    assert!(world.map.safe_mode(world.now).is_some());
    let commands = world.pass(120, &[]);
    assert!(world.map.safe_mode(world.now).is_none());
    assert!(commands.contains(&(0, NodeCommand::Report)), "it is asked for again");
    assert!(invalidated(&commands).is_empty());
    world.report(0, &replicas);
    assert_eq!(invalidated(&world.pass(1, &[])), [(0, id(2))]);
}

#[test]
fn what_was_made_after_a_restored_state_is_kept_until_it_is_let_go() {
    let mut world = World::starting(2, vec![complete(1, 1), complete(3, 1)]);
    let loss =
        Loss { incarnation: 1, blocks: (id(500), id(900)), stamps: (GenStamp(5_000), GenStamp(6_000)) };
    world.map.set_losses(vec![loss], world.now);
    let lost = Replica { block: BlockRef { id: id(600), length: 7, ..named(0) }, ..finalized(0) };
    // Appended to after that state: the datanode has more than the namespace knows.
    let longer =
        Replica { block: BlockRef { stamp: GenStamp(5_001), length: 99, ..named(3) }, ..finalized(3) };
    let replicas = [finalized(1), longer, lost];
    world.report(0, &replicas);
    world.report(1, &[finalized(3)]);
    world.pass(120, &[]);
    assert!(world.map.safe_mode(world.now).is_none());
    world.report(0, &replicas);
    assert!(invalidated(&world.pass(5, &[])).is_empty());
    assert_eq!((world.map.kept(), world.map.kept_after(id(0), 9)), ((1, 7), vec![(id(600), 7)]));
    world.map.set_losses(Vec::new(), world.now);
    assert!(world.pass(1, &[]).contains(&(0, NodeCommand::Report)));
    world.report(0, &replicas);
    let mut gone = invalidated(&world.pass(5, &[]));
    world.change(1, named(3), ChangeKind::Verified);
    gone.extend(invalidated(&world.pass(5, &[])));
    gone.sort_unstable();
    assert_eq!((gone, world.map.kept()), (vec![(0, id(3)), (0, id(600))], (0, 0)));
}

#[test]
fn facts_from_before_a_change_are_not_used() {
    let mut world = World::running(1);
    let facts_version = world.map.version();
    world.map.apply(Effect::Removed { block: id(1) }, world.now);
    let old = [complete(1, 1)];
    let facts = Facts { version: facts_version, blocks: &old, next_block: id(1_000) };
    let change = Change { storage: storage(0), block: named(1), kind: ChangeKind::Received };
    let again = world.map.changed((uuid(0), 1), (&[change], None), Some(&facts), world.now).unwrap();
    assert_eq!(again, [change], "the facts may be older than the removal");
    assert_eq!(world.map.counts().known, 0);
    let facts = Facts { version: world.map.version(), blocks: &[], next_block: id(1_000) };
    assert!(world.map.changed((uuid(0), 1), (&[change], None), Some(&facts), world.now).unwrap().is_empty());
    assert_eq!(invalidated(&world.pass(1, &[])), [(0, id(1))]);
}

#[test]
fn a_report_takes_away_what_it_does_not_list_but_not_what_just_came() {
    let mut world = World::running(2);
    for number in 1..=5 {
        world.written(number, 1, &[0]);
    }
    world.pass(200, &[]);
    world.written(6, 1, &[0]);
    world.report(0, &[finalized(2), finalized(5)]);
    assert_eq!([1, 2, 3, 4, 5, 6].map(|number| world.live(number)), [0, 1, 0, 0, 1, 1]);
    assert_eq!(world.map.missing(BlockId(0), 10), [id(1), id(3), id(4)]);
}

#[test]
fn a_report_does_not_bring_back_what_was_just_deleted() {
    let mut world = World::running(1);
    world.written(1, 1, &[0]);
    world.pass(200, &[]);
    world.change(0, named(1), ChangeKind::Deleted);
    world.report(0, &[finalized(1)]);
    assert_eq!(world.live(1), 0);
}

#[test]
fn reports_out_of_order_are_refused() {
    let mut world = World::running(1);
    let facts = Facts { version: 0, blocks: &[], next_block: id(0) };
    let who = (uuid(0), 1);
    let error = world
        .map
        .report(who, part(7, storage(0)), &[finalized(2), finalized(1)], Some(&facts), world.now)
        .unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::InvalidRequest);
    assert!(world.map.compare(who, part(7, storage(0)), &[], id(9), 10, world.now).unwrap());
    let error =
        world.map.report(who, part(7, storage(0)), &[finalized(9)], Some(&facts), world.now).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::InvalidRequest, "before what was compared already");
    let error = world.map.report(who, part(8, storage(3)), &[], Some(&facts), world.now).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::InvalidRequest, "not its volume");
}

#[test]
fn wanting_more_and_fewer_replicas() {
    let mut world = World::running(4);
    world.written(1, 2, &[0, 1]);
    world.map.apply(Effect::Replication { block: id(1), replication: 3 }, world.now);
    let orders = transfers(&world.pass(2, &[]));
    assert_eq!(orders.len(), 1);
    let target = (0..4).find(|node| orders[0].2 == [storage(*node)]).unwrap();
    world.change(target, named(1), ChangeKind::Received);
    world.map.apply(Effect::Replication { block: id(1), replication: 1 }, world.now);
    assert_eq!(invalidated(&world.pass(1, &[])).len(), 2);
    assert_eq!(world.live(1), 1);
}

#[test]
fn an_order_to_delete_is_taken_back_when_the_others_die_first() {
    let mut world = World::running(3);
    world.written(1, 3, &[0, 1, 2]);
    world.map.apply(Effect::Replication { block: id(1), replication: 1 }, world.now);
    assert_eq!(world.live(1), 1);
    // The one that stays dies before anybody is told to delete.
    let stays = world.map.live(id(1), STAMP)[0];
    let silent = (0..3).find(|node| storage(*node) == stays).unwrap();
    let bad: Vec<_> = (0..3).filter(|node| *node != silent).collect();
    world.map.report_bad(named(1), &[stays], true);
    assert_eq!(world.live(1), 0);
    let orders = invalidated(&world.pass(1, &[silent]));
    assert!(orders.len() <= 1, "{orders:?}");
    assert!(world.live(1) >= 1, "{bad:?}");
}

#[test]
fn safe_mode_waits_for_the_reports() {
    let blocks = vec![complete(1, 2), complete(2, 2)];
    let mut world = World::starting(2, blocks);
    world.pass(20, &[]);
    let reason = world.map.safe_mode(world.now).unwrap();
    assert!(reason.starts_with("The reported blocks 0 has not reached the threshold"), "{reason}");
    world.report(0, &[finalized(1), finalized(2)]);
    assert!(transfers(&world.pass(4, &[])).is_empty());
    assert!(world.map.safe_mode(world.now).unwrap().contains("extension"));
    world.pass(4, &[]);
    assert!(world.map.safe_mode(world.now).is_none());
    assert!(transfers(&world.pass(5, &[])).is_empty(), "node 1 lives and will report");
    world.report(1, &[finalized(1), finalized(2)]);
    assert!(transfers(&world.pass(5, &[])).is_empty());
    assert_eq!(world.map.counts(), BlockCounts { known: 2, ..BlockCounts::default() });
}

#[test]
fn blocks_that_nobody_reports_are_found_missing() {
    let blocks = vec![complete(1, 2), complete(2, 2)];
    let mut world = World::starting(1, blocks.clone());
    world.report(0, &[finalized(1)]);
    world.map.set_safe_mode(false, world.now);
    world.pass(1, &[]);
    assert!(world.map.missing(BlockId(0), 9).is_empty());
    let version = world.map.version();
    let facts = Facts { version, blocks: &blocks, next_block: id(1_000) };
    world.map.reconcile(FIRST_BLOCK_ID, BlockId(u64::MAX), &facts);
    assert_eq!(world.map.missing(BlockId(0), 9), [id(2)]);
    // What the namespace does not have is given up.
    let facts = Facts { version, blocks: &blocks[1..], next_block: id(1_000) };
    world.map.reconcile(FIRST_BLOCK_ID, BlockId(u64::MAX), &facts);
    assert_eq!(invalidated(&world.pass(1, &[])), [(0, id(1))]);
}

#[test]
fn an_append_and_its_completion() {
    let mut world = World::running(3);
    world.written(1, 2, &[0, 1]);
    world.map.apply(Effect::Reopened { block: id(1) }, world.now);
    assert_eq!(world.live(1), 2, "still readable under its stamp");
    let stamp = GenStamp(STAMP.0 + 5);
    let storages = smallvec![storage(0), storage(1)];
    world.map.apply(Effect::Pipeline { block: id(1), stamp, replication: 2, room: 0, storages }, world.now);
    let longer = BlockRef { id: id(1), stamp, length: LENGTH + 7 };
    world.change(0, longer, ChangeKind::Receiving);
    world.change(0, longer, ChangeKind::Received);
    assert_eq!(world.map.take_received().last(), Some(&id(1)));
    assert_eq!(world.map.live(id(1), stamp)[..], [storage(0)]);
    let done = Effect::Completed { block: id(1), stamp, length: LENGTH + 7, replication: 2 };
    world.map.apply(done, world.now);
    assert_eq!(world.map.counts().corrupt, 1, "node 1 has the old replica as far as is known");
    world.change(1, longer, ChangeKind::Received);
    assert_eq!(world.map.counts(), BlockCounts { known: 1, ..BlockCounts::default() });
    assert_eq!(world.map.live(id(1), stamp).len(), 2);
}

#[test]
fn a_namenode_that_stood_still_declares_nobody_dead() {
    let mut world = World::running(2);
    world.pass(2, &[]);
    world.now = world.now.plus(Duration::from_secs(3_600));
    world.map.round(0, 1, world.now);
    assert_eq!(world.map.datanodes().live(), 2);
    world.pass(61, &[1]);
    assert_eq!(world.map.datanodes().live(), 1);
}

#[test]
fn orders_to_delete_are_bounded_in_each_answer() {
    let mut world = World::running(1);
    for number in 1..=1_500 {
        world.written(number, 1, &[0]);
    }
    for number in 1..=1_500 {
        world.map.apply(Effect::Removed { block: id(number) }, world.now);
    }
    assert_eq!(world.map.counts().pending_deletion, 1_500);
    assert_eq!(invalidated(&world.pass(1, &[])).len(), 1_000);
    assert_eq!(invalidated(&world.pass(1, &[])).len(), 500);
    assert_eq!(world.map.datanodes().iter().next().unwrap().0.uuid, uuid(0));
}
