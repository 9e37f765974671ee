//! How long other datanodes take to take a packet from this one. The namenode compares what all say and avoids who is far
//! slower than the rest.
//!
//! Only the last datanode of a pipeline is measured, by the one before it: what others take holds what those behind them
//! take. A packet that ends a block, or is to be on disk, is not measured: that is the disk's time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use steadfs_proto::steadfs::PeerLatency;
use tokio::time::Instant;

/// Most peers that are measured at a time: as many as a heartbeat may tell of.
const MAX_PEERS: usize = 1_024;
/// What was measured counts for this long.
const WINDOW: Duration = Duration::from_secs(60);
/// Fewer packets say nothing.
const LEAST: u64 = 5;
/// A packet that was not taken for so long counts, though the pipeline broke.
const STALLED: Duration = Duration::from_secs(1);

/// What was measured of one peer.
#[derive(Clone, Copy, Debug)]
struct Measured {
    since: Instant,
    total: Duration,
    packets: u64,
    /// The window before this one: mean and packets.
    before: Option<(Duration, u64)>,
}

/// What was measured of other datanodes. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    peers: Arc<Mutex<BTreeMap<String, Measured>>>,
}

impl Latencies {
    /// A packet was taken after `took`.
    pub(crate) fn note(&self, peer: &str, took: Duration) {
        let now = Instant::now();
        let mut peers = self.peers.lock();
        if !peers.contains_key(peer) && peers.len() >= MAX_PEERS {
            peers.retain(|_, measured| now.duration_since(measured.since) < WINDOW * 2);
            if peers.len() >= MAX_PEERS {
                return;
            }
        }
        let fresh = Measured { since: now, total: Duration::ZERO, packets: 0, before: None };
        let measured = peers.entry(peer.to_owned()).or_insert(fresh);
        measured.turn(now);
        measured.total += took;
        measured.packets += 1;
    }

    /// A packet was not taken until the pipeline broke.
    pub(crate) fn note_broken(&self, peer: &str, waited: Duration) {
        if waited >= STALLED {
            // One such says as much as many that went well.
            for _ in 0..LEAST {
                self.note(peer, waited);
            }
        }
    }

    /// What a heartbeat tells.
    pub(crate) fn told(&self) -> Vec<PeerLatency> {
        let now = Instant::now();
        let mut peers = self.peers.lock();
        peers.values_mut().for_each(|measured| measured.turn(now));
        peers.retain(|_, measured| measured.packets > 0 || measured.before.is_some());
        let said = |(uuid, measured): (&String, &Measured)| {
            let micros = measured.mean()?.as_micros();
            Some(PeerLatency { uuid: uuid.clone(), micros: u64::try_from(micros).unwrap_or(u64::MAX) })
        };
        peers.iter().filter_map(said).collect()
    }
}

impl Measured {
    /// Begins another window if this one is over.
    fn turn(&mut self, now: Instant) {
        let age = now.duration_since(self.since);
        if age < WINDOW {
            return;
        }
        let last = (self.packets > 0).then_some((self.total, self.packets));
        *self =
            Self { since: now, total: Duration::ZERO, packets: 0, before: last.filter(|_| age < WINDOW * 2) };
    }

    /// The mean of this window and the one before it.
    fn mean(&self) -> Option<Duration> {
        let (total, packets) = self.before.unwrap_or_default();
        let (total, packets) = (self.total + total, self.packets + packets);
        (packets >= LEAST).then(|| total / u32::try_from(packets).unwrap_or(u32::MAX))
    }
}

/// The packet that is measured now.
#[derive(Debug, Default)]
pub(crate) struct Probe(Option<(i64, Instant)>);

impl Probe {
    /// A packet was given to the next datanode.
    pub(crate) fn sent(&mut self, seqno: i64) {
        self.0.get_or_insert_with(|| (seqno, Instant::now()));
    }

    /// A packet was acked: how long the one that is measured took, if that was it.
    pub(crate) fn acked(&mut self, seqno: i64) -> Option<Duration> {
        let (probed, since) = self.0?;
        (seqno >= probed).then(|| {
            self.0 = None;
            since.elapsed()
        })
    }

    /// How long the packet has been on its way that is measured.
    pub(crate) fn waited(&self) -> Option<Duration> {
        self.0.map(|(_, since)| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(latencies: &Latencies) -> Vec<(String, u64)> {
        latencies.told().into_iter().map(|told| (told.uuid, told.micros)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_mean_of_the_last_minutes_is_told_once_there_is_enough() {
        let latencies = Latencies::default();
        for _ in 0..4 {
            latencies.note("a", Duration::from_millis(10));
        }
        assert!(told(&latencies).is_empty(), "too few");
        latencies.note("a", Duration::from_millis(60));
        assert_eq!(told(&latencies), [("a".to_owned(), 20_000)]);
        tokio::time::advance(WINDOW).await;
        assert_eq!(told(&latencies), [("a".to_owned(), 20_000)], "the window before counts");
        tokio::time::advance(WINDOW).await;
        assert!(told(&latencies).is_empty(), "that was long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_told_of_as_well() {
        let latencies = Latencies::default();
        latencies.note_broken("quick", Duration::from_millis(900));
        latencies.note_broken("stalled", Duration::from_secs(5));
        assert_eq!(told(&latencies), [("stalled".to_owned(), 5_000_000)]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_packet_is_measured_at_a_time() {
        let mut probe = Probe::default();
        probe.sent(1);
        tokio::time::advance(Duration::from_millis(5)).await;
        probe.sent(2);
        assert_eq!(probe.waited(), Some(Duration::from_millis(5)));
        assert_eq!(probe.acked(0), None);
        assert_eq!(probe.acked(1), Some(Duration::from_millis(5)));
        assert_eq!((probe.acked(2), probe.waited()), (None, None));
    }

    #[tokio::test]
    async fn peers_are_bounded() {
        let latencies = Latencies::default();
        for number in 0..MAX_PEERS + 10 {
            latencies.note(&number.to_string(), Duration::from_millis(1));
        }
        assert_eq!(latencies.peers.lock().len(), MAX_PEERS);
    }
}
