//! Blocks that passed through leave nothing behind.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

impl BlockMap {
    /// How many blocks are remembered where, but for what is bounded by a number of its own.
    fn remembered(&self) -> Vec<(&'static str, usize)> {
        let orders = self.nodes.indexes().map(|at| self.nodes.node(at).orders.remembered()).sum();
        let stored =
            self.nodes.iter().flat_map(|(_, storages)| storages).map(|storage| storage.blocks as usize).sum();
        let all = [
            ("table", self.table.len() as usize),
            ("building", self.building.len()),
            ("bad", self.bad.len()),
            ("needed", self.needed.iter().map(BTreeSet::len).sum()),
            ("mixed", self.mixed.len()),
            ("missing", self.missing.len()),
            ("postponed", self.postponed.len()),
            ("pending", self.pending.len()),
            ("moves", self.moves.active.len()),
            ("recoveries", self.recoveries.len()),
            ("blocking", self.blocking.len()),
            ("received", self.received.len()),
            ("policies", self.policies.as_ref().map_or(0, BTreeMap::len)),
            ("orders", orders),
            ("blocks of storages", stored),
        ];
        all.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

/// One life of a block, of several kinds, up to its removal.
fn live_and_go(world: &mut World, number: u64) {
    let storages: smallvec::SmallVec<[StorageId; 3]> = smallvec![storage(0), storage(1), storage(2)];
    let pipeline = Effect::Pipeline {
        block: id(number),
        stamp: STAMP,
        replication: 3,
        room: 9,
        storages: storages.clone(),
    };
    world.map.apply(pipeline, world.now);
    for node in 0..3 {
        world.change(node, named(number), ChangeKind::Receiving);
    }
    let complete = Effect::Completed { block: id(number), stamp: STAMP, length: LENGTH, replication: 3 };
    match number % 6 {
        // Given back by its writer.
        0 => {}
        // Recovered, and nothing was found.
        1 => {
            let (recovery_stamp, truncate_to) = (GenStamp(STAMP.0 + 1), None);
            let block = named(number);
            let recover =
                Effect::Recover { block, recovery_stamp, truncate_to, storages, synced: 0, unsure: true };
            world.map.apply(recover, world.now);
        }
        // One replica never came.
        2 => {
            for node in 0..2 {
                world.change(node, named(number), ChangeKind::Received);
            }
            world.map.apply(complete, world.now);
        }
        kind => {
            for node in 0..3 {
                world.change(node, named(number), ChangeKind::Received);
            }
            world.map.apply(complete, world.now);
            match kind {
                3 => world.map.report_bad(named(number), &[storage(1)], number.is_multiple_of(4)),
                4 => world.map.apply(Effect::Replication { block: id(number), replication: 1 }, world.now),
                _ => {}
            }
        }
    }
    beat_all(world, number);
    world.map.apply(Effect::Removed { block: id(number) }, world.now);
}

/// Everybody sends a heartbeat, and most do what they are told.
fn beat_all(world: &mut World, number: u64) {
    world.now = world.now.plus(Duration::from_secs(1));
    for node in 0..4 {
        // Some answers are lost.
        let answered = number - 1 - u64::from(number.is_multiple_of(7));
        let beat = Heartbeat { number, answered, ..heartbeat(node, 1) };
        let orders = world.map.heartbeat(beat, world.now).unwrap();
        if number.is_multiple_of(5) {
            continue;
        }
        for order in orders {
            let NodeCommand::Invalidate(blocks) = order else { continue };
            for block in blocks {
                world.change(node, BlockRef { stamp: STAMP, ..block }, ChangeKind::Deleted);
            }
        }
    }
    world.map.round(number, world.now.0, world.now);
    while world.map.sweep(2) {}
    world.map.retry_postponed(10);
    world.map.take_received();
}

#[test]
fn of_blocks_that_are_gone_nothing_is_remembered() {
    let mut world = World::running(4);
    for number in 1..=900 {
        live_and_go(&mut world, number);
    }
    // Longer than any order is waited for, and once more.
    for number in 901..=2_200 {
        beat_all(&mut world, number);
    }
    assert_eq!(world.map.remembered(), []);
    world.map.check_streams();
}
