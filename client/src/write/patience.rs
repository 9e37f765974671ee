//! When a writer gives up the first datanode of its pipeline although the connection stands.
//!
//! Datanodes watch those behind them, and say which one acks nothing. Nobody but the writer watches the first. It waits for
//! some ticks more than they do, so that it is heard if another one is to blame. As with them, only ticks count that were
//! seen to pass.

use std::time::Duration;

use super::window::Window;

/// Ticks without any ack.
const STALLED: u32 = 10;
/// So many times as long, where a packet is to be on disk before it is acked.
const TO_DISK: u32 = 3;
/// More ticks for each datanode.
const PER_NODE: u32 = 2;

/// How long the oldest packet has been under way.
#[derive(Debug, Default)]
pub(super) struct Patience {
    oldest: Option<i64>,
    ticks: u32,
}

impl Patience {
    /// How often to look, where a pipeline may take `stall` for an ack.
    pub(super) fn tick(stall: Duration) -> Duration {
        stall / STALLED
    }

    /// Another tick has passed. True if the first of `nodes` datanodes is to be given up.
    pub(super) fn look(&mut self, window: &Window, nodes: usize) -> bool {
        let seqno = window.unacked().next().map(|packet| packet.header.seqno);
        self.ticks = if seqno.is_some() && seqno == self.oldest { self.ticks.saturating_add(1) } else { 0 };
        self.oldest = seqno;
        // What comes before such a packet may be written, and acked, together with it.
        let to_disk = window.unacked().any(|packet| packet.header.sync || packet.header.last);
        let most = if to_disk { STALLED * TO_DISK } else { STALLED };
        // A last one is better than none.
        nodes > 1 && self.ticks >= most.saturating_add(PER_NODE.saturating_mul(nodes as u32))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use steadfs_wire::transfer::{PipelineAck, Status};

    use super::*;
    use crate::write::packetizer::Piece;

    fn looks(patience: &mut Patience, window: &Window, nodes: usize) -> Option<u32> {
        (1..100).find(|_| patience.look(window, nodes))
    }

    #[test]
    fn the_first_datanode_is_given_up_when_nothing_is_acked() {
        let mut window = Window::new(0);
        let piece = |offset| Piece { offset, data: vec![0; 10].into(), checksums: Bytes::new() };
        assert_eq!(looks(&mut Patience::default(), &window, 3), None, "nothing is under way");
        window.push(1, piece(0), false);
        assert_eq!(looks(&mut Patience::default(), &window, 3), Some(17));
        assert_eq!(looks(&mut Patience::default(), &window, 1), None, "there is no other");
        let mut patience = Patience::default();
        assert!((0..16).all(|_| !patience.look(&window, 3)));
        window.push(2, piece(10), true);
        assert!(!patience.look(&window, 3), "both may be acked when both are on disk");
        assert_eq!(looks(&mut Patience::default(), &window, 3), Some(37));
        window.ack(&PipelineAck::new(1, vec![Status::Success; 3]), 3).unwrap();
        assert_eq!(looks(&mut patience, &window, 3), Some(37), "a disk may take longer");
    }
}
