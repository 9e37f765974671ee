//! Full reports of volumes on which much changes.

use super::*;

/// More changes than are remembered.
const MANY: u64 = 70_000;

impl World {
    /// A numbered change of the first datanode's volume; `end` is the number after it.
    fn numbered(&mut self, block: BlockRef, kind: ChangeKind, end: u64) {
        let facts = Facts { version: self.map.version(), blocks: &self.blocks, next_block: id(1_000) };
        let change = Change { storage: storage(0), block, kind };
        let again = self.map.changed((uuid(0), 1), (&[change], Some(end)), Some(&facts), self.now).unwrap();
        assert!(again.is_empty());
    }

    /// The first datanode deletes replicas that nobody knows of: changes up to number `end`.
    fn churn(&mut self, end: u64) {
        for number in end - MANY..end {
            self.numbered(named(10_000 + number), ChangeKind::Deleted, number + 1);
        }
    }

    /// The first datanode reports all that it has, as of before change `knows`.
    fn report_as_of(&mut self, replicas: &[Replica], knows: u64) -> FsResult<()> {
        let facts = Facts { version: self.map.version(), blocks: &self.blocks, next_block: id(1_000) };
        let who = (uuid(0), 1);
        let part = ReportPart { report: self.now.0 + knows, storage: storage(0), knows: Some(knows) };
        assert!(self.map.report(who, part, replicas, Some(&facts), self.now)?.is_empty());
        while !self.map.compare(who, part, replicas, BlockId(u64::MAX), 3, self.now)? {}
        self.map.storage_reported(who, part, self.now)
    }
}

#[test]
fn a_report_of_a_busy_volume_does_its_work() {
    let mut world = World::running(2);
    world.written(1, 2, &[0, 1]);
    world.written(2, 2, &[1]);
    world.pass(200, &[]);
    world.churn(MANY);
    world.report_as_of(&[finalized(2)], MANY).unwrap();
    assert_eq!((world.live(1), world.live(2)), (1, 2), "what is gone is gone, and what is there counts");
}

#[test]
fn a_datanode_that_registers_again_counts_though_its_volume_is_busy() {
    let mut world = World::running(3);
    world.written(1, 2, &[0, 1, 2]);
    world.map.register(registration(0, 1), world.now).unwrap();
    assert!(invalidated(&world.pass(1, &[])).is_empty(), "it has not reported in its present life");
    world.churn(MANY);
    world.report_as_of(&[finalized(1)], MANY).unwrap();
    assert!(world.map.nodes.all_reported());
}

#[test]
fn a_slice_does_not_undo_what_it_does_not_know_of() {
    let mut world = World::running(1);
    world.written(1, 1, &[0]);
    world.written(2, 1, &[]);
    world.pass(200, &[]);
    world.numbered(named(1), ChangeKind::Deleted, 1);
    world.numbered(named(2), ChangeKind::Received, 2);
    world.report_as_of(&[finalized(1)], 0).unwrap();
    assert_eq!((world.live(1), world.live(2)), (0, 1));
    // One call with several changes: the number after each is told by the last.
    let facts = Facts { version: world.map.version(), blocks: &world.blocks, next_block: id(1_000) };
    let change = |number, kind| Change { storage: storage(0), block: named(number), kind };
    let changes = [change(1, ChangeKind::Received), change(2, ChangeKind::Deleted)];
    assert!(
        world.map.changed((uuid(0), 1), (&changes, Some(4)), Some(&facts), world.now).unwrap().is_empty()
    );
    world.report_as_of(&[finalized(2)], 3).unwrap();
    assert_eq!((world.live(1), world.live(2)), (0, 0), "the third change is known, the fourth is not");
}

#[test]
fn a_slice_from_before_all_that_is_remembered_is_asked_for_again() {
    let mut world = World::running(1);
    world.written(1, 1, &[0]);
    world.pass(200, &[]);
    world.churn(MANY);
    let error = world.report_as_of(&[], MANY - 69_000).unwrap_err();
    assert_eq!((error.kind(), world.live(1)), (FsErrorKind::Retriable, 1));
    world.map.register(registration(0, 1), world.now).unwrap();
    let error = world.report_as_of(&[], MANY - 1).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::Retriable, "what was remembered is not, after it registered again");
    world.report_as_of(&[finalized(1)], MANY).unwrap();
    assert_eq!(world.live(1), 1);
}

/// With a budget of one block, whether a report is compared at once.
fn is_short(world: &mut World, node: u32, report: u64, replicas: &[Replica]) -> bool {
    let (who, what) = ((uuid(node), 1), part(report, storage(node)));
    let facts = Facts { version: world.map.version(), blocks: &world.blocks, next_block: id(1_000) };
    assert!(world.map.report(who, what, replicas, Some(&facts), world.now).unwrap().is_empty());
    let short = world.map.compare(who, what, replicas, BlockId(u64::MAX), 1, world.now).unwrap();
    while !world.map.compare(who, what, replicas, BlockId(u64::MAX), 1, world.now).unwrap() {}
    world.map.storage_reported(who, what, world.now).unwrap();
    short
}

#[test]
fn the_first_report_of_a_volume_is_not_compared_with_what_others_have() {
    let mut world = World::starting(2, (1..=5).map(|number| complete(number, 2)).collect());
    let all: Vec<Replica> = (1..=5).map(finalized).collect();
    assert!(is_short(&mut world, 0, 1, &all));
    assert!(is_short(&mut world, 1, 2, &all), "five blocks are known, none of them here");
    assert!(!is_short(&mut world, 1, 3, &all[..4]), "from now on what is not listed is gone");
    assert_eq!((world.live(4), world.live(5)), (2, 1));
}

/// What a node reports without facts, and what of it must be repeated with them.
fn unread(world: &mut World, node: u32, replicas: &[Replica]) -> Vec<Replica> {
    let what = part(1, storage(node));
    let rest = world.map.report((uuid(node), 1), what, replicas, None, world.now).unwrap();
    if rest.is_empty() {
        world.map.storage_reported((uuid(node), 1), what, world.now).unwrap();
    }
    rest
}

#[test]
fn without_facts_only_what_is_known_is_noted() {
    let mut world = World::starting(1, vec![complete(1, 1), complete(2, 1), complete(3, 1)]);
    world.report(0, &[finalized(2)]);
    assert_eq!(
        unread(&mut world, 0, &[finalized(1), finalized(2), finalized(3)]),
        [finalized(1), finalized(3)]
    );
    assert_eq!((world.live(1), world.live(2), world.live(3)), (0, 1, 0));

    let received =
        |number| Change { storage: storage(0), block: finalized(number).block, kind: ChangeKind::Received };
    let changes = [received(2), received(1), received(2)];
    let rest = world.map.changed((uuid(0), 1), (&changes, Some(3)), None, world.now).unwrap();
    assert_eq!(rest, changes[1..], "of one block the later word counts: none is taken before another");
    let facts = Facts { version: world.map.version(), blocks: &world.blocks, next_block: id(1_000) };
    assert!(world.map.changed((uuid(0), 1), (&rest, Some(3)), Some(&facts), world.now).unwrap().is_empty());
    assert_eq!((world.live(1), world.live(2)), (1, 1));
}

#[test]
fn what_was_learnt_of_the_namespace_needs_no_facts_when_it_is_reported() {
    let mut world = World::starting(2, vec![complete(1, 2), complete(2, 1)]);
    let (version, blocks) = (world.map.version(), world.blocks.clone());
    let facts = Facts { version, blocks: &blocks, next_block: id(1_000) };
    assert!(world.map.learn(&facts));
    assert_eq!(world.map.counts(), BlockCounts { known: 2, ..BlockCounts::default() });
    assert!(unread(&mut world, 0, &[finalized(1), finalized(2)]).is_empty());
    assert!(unread(&mut world, 1, &[finalized(1)]).is_empty());
    assert_eq!((world.live(1), world.live(2)), (2, 1));
    world.pass(10, &[]);
    assert!(world.map.safe_mode(world.now).is_none(), "both are safe");
    assert_eq!(world.map.counts(), BlockCounts { known: 2, ..BlockCounts::default() });
}

#[test]
fn a_block_that_was_learnt_and_that_nobody_reports_is_missing_once_that_was_compared() {
    let mut world = World::starting(1, vec![complete(1, 2), complete(2, 1)]);
    let blocks = world.blocks.clone();
    let facts = |map: &BlockMap| Facts { version: map.version(), blocks: &blocks, next_block: id(1_000) };
    let known = facts(&world.map);
    assert!(world.map.learn(&known));
    world.report(0, &[finalized(2)]);
    world.map.set_safe_mode(false, world.now);
    world.pass(5, &[]);
    assert_eq!(world.map.counts().missing, 0, "its datanode may be late");
    let known = facts(&world.map);
    world.map.reconcile(FIRST_BLOCK_ID, BlockId(u64::MAX), &known);
    assert_eq!(world.map.counts().missing, 1);
    assert!(!world.map.learn(&known), "blocks are judged");
}

#[test]
fn what_changed_after_it_was_read_is_not_learnt() {
    let mut world = World::starting(1, vec![complete(1, 1), complete(2, 1)]);
    let (version, blocks) = (world.map.version(), world.blocks.clone());
    world.map.apply(Effect::Removed { block: id(1) }, world.now);
    assert!(world.map.learn(&Facts { version, blocks: &blocks, next_block: id(1_000) }));
    assert_eq!(unread(&mut world, 0, &[finalized(1), finalized(2)]), [finalized(1)]);
}
