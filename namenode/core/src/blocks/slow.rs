//! Datanodes that live and are slow: each tells how long others take to take a packet from it, and who is far slower than
//! the rest is avoided.

use std::time::Duration;

use smallvec::SmallVec;
use steadfs_common::{DatanodeUuid, Millis};

use super::nodes::{Datanodes, NodeIndex};

/// Peers that one heartbeat may tell of.
pub const MAX_PEERS: usize = 1_024;
/// What was said of a datanode counts for so long.
const EXPIRY: Duration = Duration::from_secs(180);
/// Nobody is slow below this.
const FLOOR: Duration = Duration::from_millis(20);
/// Who is slow takes so many times as long as most.
const FACTOR: u32 = 5;
/// And half as much when it is to be taken for recovered.
const RECOVERED: u32 = 2;

/// How long a datanode takes to take a packet, as another finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLatency {
    /// Which.
    pub peer: DatanodeUuid,
    /// The mean of the last minute.
    pub latency: Duration,
}

fn median(mut values: SmallVec<[Duration; 16]>) -> Option<Duration> {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

impl Datanodes {
    /// Notes how fast `by` finds others.
    pub(super) fn note_peers(&mut self, by: NodeIndex, peers: &[PeerLatency], now: Millis) {
        for said in peers.iter().take(MAX_PEERS) {
            if let Some(at) = self.find(said.peer).filter(|at| *at != by) {
                self.node_mut(at).latencies.insert(by, (said.latency, now));
            }
        }
    }

    /// Judges who is slow. Compared with the others that anything is known of; never more than a third of all, so that a
    /// load which slows everybody leaves somebody to use.
    pub(super) fn judge_slow(&mut self, now: Millis, avoid: bool) {
        for at in self.indexes() {
            let node = self.node_mut(at);
            node.latencies.retain(|_, (_, said)| now.since(*said) < EXPIRY);
            node.latency = median(node.latencies.values().map(|(latency, _)| *latency).collect());
        }
        let mut known: Vec<(Duration, NodeIndex)> =
            self.indexes().filter_map(|at| Some((self.node(at).latency?, at))).collect();
        known.sort_unstable();
        let most = self.live() / 3;
        let mut slow: Vec<(Duration, NodeIndex)> = Vec::new();
        for (place, (latency, at)) in known.iter().enumerate().filter(|_| avoid && most > 0) {
            // The median of the others.
            let middle = known.len().saturating_sub(2) / 2;
            let middle = if place <= middle { middle + 1 } else { middle };
            let Some((usual, _)) = known.get(middle) else { continue };
            let factor = if self.node(*at).slow { FACTOR / RECOVERED } else { FACTOR };
            if *latency >= FLOOR && *latency >= usual.saturating_mul(factor) {
                slow.push((*latency, *at));
            }
        }
        slow.sort_unstable_by(|one, two| two.cmp(one));
        slow.truncate(most);
        for at in self.indexes() {
            self.node_mut(at).slow = false;
        }
        for (_, at) in slow {
            self.node_mut(at).slow = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::map_test::{World, heartbeat, registration, uuid};
    use super::*;

    /// Each of four datanodes says of each other how long it takes, in milliseconds.
    fn said(world: &mut World, millis: [u64; 4]) {
        for by in 0..4 {
            let mut beat = heartbeat(by, 1);
            let of = |peer: u32| PeerLatency {
                peer: uuid(peer),
                latency: Duration::from_millis(millis[peer as usize]),
            };
            beat.peers = (0..4).map(of).collect();
            world.map.heartbeat(beat, world.now).unwrap();
        }
        world.pass(1, &[]);
    }

    fn slow(world: &World) -> Vec<bool> {
        world.map.datanodes().iter().map(|(node, _)| node.slow).collect()
    }

    #[test]
    fn who_is_far_slower_than_the_others_is_slow_until_it_recovers() {
        let mut world = World::running(4);
        said(&mut world, [1, 2, 1, 100]);
        assert_eq!(slow(&world), [false, false, false, true]);
        said(&mut world, [10, 20, 10, 30]);
        assert_eq!(slow(&world), [false, false, false, true], "a little better is not well");
        said(&mut world, [10, 20, 10, 19]);
        assert_eq!(slow(&world), [false; 4]);
    }

    #[test]
    fn what_slows_everybody_or_is_quick_enough_makes_nobody_slow() {
        let mut world = World::running(4);
        said(&mut world, [500, 600, 500, 700]);
        assert_eq!(slow(&world), [false; 4]);
        said(&mut world, [1, 1, 1, 19]);
        assert_eq!(slow(&world), [false; 4]);
        said(&mut world, [1, 1, 900, 800]);
        assert_eq!(slow(&world).iter().filter(|slow| **slow).count(), 1, "a third of them at most");
    }

    #[test]
    fn a_slow_datanode_gets_replicas_and_readers_only_if_there_is_nobody_else() {
        let mut world = World::running(4);
        world.written(1, 2, &[0, 3]);
        said(&mut world, [1, 1, 1, 100]);
        let mut request = crate::placement::PlacementRequest {
            wanted: 3,
            least: 1,
            writer: None,
            existing: &[],
            excluded: &[],
            favored: &[],
            avoid_local: false,
            block_size: 1,
            policy: 0,
            seed: 1,
        };
        for seed in 0..20 {
            request.seed = seed;
            let chosen = world.map.topology().choose(&request);
            assert!(!chosen.contains(&super::super::map_test::storage(3)), "{chosen:?}");
            let located = world.map.locate(&world.blocks[0].clone(), None, seed);
            assert_eq!(located.storages[1], super::super::map_test::storage(3));
        }
        request.wanted = 4;
        assert_eq!(world.map.topology().choose(&request).len(), 4);
    }

    #[test]
    fn what_was_said_long_ago_does_not_count() {
        let mut world = World::running(4);
        said(&mut world, [1, 1, 1, 100]);
        world.pass(EXPIRY.as_secs() + 1, &[]);
        assert_eq!(slow(&world), [false; 4]);
        // Of strangers and of oneself nothing is noted.
        let mut beat = heartbeat(0, 1);
        let of = |peer: u32| PeerLatency { peer: uuid(peer), latency: Duration::from_secs(9) };
        beat.peers = vec![of(0), of(77)];
        world.map.heartbeat(beat, world.now).unwrap();
        world.map.register(registration(0, 1), world.now).unwrap();
        assert!(world.map.datanodes().iter().all(|(node, _)| node.latency.is_none()));
    }
}
