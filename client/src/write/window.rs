//! Packets on their way: which are not yet acknowledged, and how far the block is safe.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use steadfs_wire::transfer::{HEARTBEAT_SEQNO, PacketHeader, PipelineAck, Status};

use super::packetizer::Piece;

/// A numbered packet, kept until every datanode of the pipeline has acknowledged it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) header: PacketHeader,
    pub(crate) checksums: Bytes,
    pub(crate) data: Bytes,
}

/// Why a pipeline cannot go on as it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The index in the pipeline of the datanode to blame.
    pub(crate) bad: usize,
    pub(crate) reason: String,
}

impl Failure {
    pub(crate) fn of(bad: usize, reason: impl Into<String>) -> Self {
        Self { bad, reason: reason.into() }
    }
}

/// The packets of one block that are not yet acknowledged, oldest first.
///
/// Invariants: acknowledged bytes never go back and never pass the sent ones; packets leave in the order they came.
#[derive(Debug)]
pub(crate) struct Window {
    unacked: VecDeque<Arc<Packet>>,
    acked: u64,
    sent: u64,
}

impl Window {
    /// For a block of which `length` bytes are safe.
    pub(crate) fn new(length: u64) -> Self {
        Self { unacked: VecDeque::new(), acked: length, sent: length }
    }

    /// Numbers a piece. `sync`: it must be on disk before it is acknowledged.
    pub(crate) fn push(&mut self, seqno: i64, piece: Piece, sync: bool) -> Arc<Packet> {
        self.sent = self.sent.max(piece.end());
        let data_len = piece.data.len() as u32;
        let header = PacketHeader { offset: piece.offset, seqno, last: false, data_len, sync };
        self.keep(Packet { header, checksums: piece.checksums, data: piece.data })
    }

    /// An empty packet: the last of the block, or one that only asks for what is there to be on disk.
    pub(crate) fn push_empty(&mut self, seqno: i64, last: bool) -> Arc<Packet> {
        let header = PacketHeader { offset: self.sent, seqno, last, data_len: 0, sync: true };
        self.keep(Packet { header, checksums: Bytes::new(), data: Bytes::new() })
    }

    fn keep(&mut self, packet: Packet) -> Arc<Packet> {
        let packet = Arc::new(packet);
        self.unacked.push_back(packet.clone());
        packet
    }

    /// Takes the ack of a pipeline of `nodes` datanodes; whether it was a packet's.
    pub(crate) fn ack(&mut self, ack: &PipelineAck, nodes: usize) -> Result<bool, Failure> {
        if ack.replies.len() > nodes {
            return Err(Failure::of(0, "an ack of more datanodes than there are"));
        }
        // The last one that failed is the cause: those before it only pass its failure on.
        if let Some(bad) = ack.replies.iter().rposition(|status| *status != Status::Success) {
            return Err(Failure::of(bad, format!("a packet was answered with {:?}", ack.replies[bad])));
        }
        if ack.seqno == HEARTBEAT_SEQNO {
            return Ok(false);
        }
        match self.unacked.front() {
            Some(packet) if packet.header.seqno == ack.seqno => {
                self.acked = self.acked.max(packet.header.end());
                self.unacked.pop_front();
                Ok(true)
            }
            _ => Err(Failure::of(0, format!("an ack of packet {}, which is not the next one", ack.seqno))),
        }
    }

    /// Forgets what is not acknowledged, once the datanodes have closed the block without it (only its empty last
    /// packet was open).
    pub(crate) fn clear(&mut self) {
        self.unacked.clear();
    }

    /// Packets not yet acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.unacked.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unacked.is_empty()
    }

    /// Bytes of the block that every datanode of the pipeline has.
    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    /// Bytes of the block that some datanode may have.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// What a mended pipeline must be sent again.
    pub(crate) fn unacked(&self) -> impl Iterator<Item = &Arc<Packet>> {
        self.unacked.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(offset: u64, len: usize) -> Piece {
        Piece { offset, data: vec![0; len].into(), checksums: Bytes::new() }
    }

    fn ok(seqno: i64) -> PipelineAck {
        PipelineAck::new(seqno, vec![Status::Success; 3])
    }

    #[test]
    fn acks_must_come_in_order() {
        let mut window = Window::new(0);
        window.push(4, piece(0, 512), false);
        window.push(6, piece(512, 10), false);
        assert_eq!(window.ack(&ok(HEARTBEAT_SEQNO), 3), Ok(false));
        assert_eq!(window.ack(&ok(6), 3).unwrap_err().bad, 0);
        assert_eq!((window.ack(&ok(4), 3), window.acked(), window.sent()), (Ok(true), 512, 522));
        assert_eq!((window.ack(&ok(6), 3), window.acked(), window.is_empty()), (Ok(true), 522, true));
        assert!(window.ack(&ok(6), 3).is_err());
        assert!(window.ack(&ok(-2), 3).is_err());
    }

    #[test]
    fn the_last_failure_in_the_pipeline_is_blamed() {
        let mut window = Window::new(0);
        window.push(0, piece(0, 1), false);
        let ack = PipelineAck::new(0, vec![Status::Success, Status::Error, Status::ErrorChecksum]);
        assert_eq!(window.ack(&ack, 3).unwrap_err().bad, 2);
        let ack = PipelineAck::new(-2, vec![Status::Error]);
        assert_eq!(window.ack(&ack, 3).unwrap_err().bad, 0);
        assert_eq!(window.len(), 1);
        assert!(window.ack(&ok(0), 2).unwrap_err().reason.contains("more datanodes"));
    }

    #[test]
    fn a_chunk_sent_again_does_not_count_twice() {
        let mut window = Window::new(0);
        window.push(0, piece(0, 700), false);
        window.push(1, piece(512, 188), false);
        window.push_empty(2, true);
        assert_eq!(window.sent(), 700);
        for seqno in 0..3 {
            window.ack(&ok(seqno), 3).unwrap();
            assert_eq!(window.acked(), 700);
        }
    }

    proptest! {
        #[test]
        fn acked_never_passes_sent_nor_goes_back(
            steps in prop::collection::vec((any::<bool>(), 1_usize..2_000, -2_i64..40), 1..60),
        ) {
            let mut window = Window::new(0);
            let (mut seqno, mut before) = (0, 0);
            for (send, len, ack) in steps {
                if send {
                    window.push(seqno, piece(window.sent(), len), false);
                    seqno += 1;
                } else {
                    let oldest = window.unacked().next().map(|packet| packet.header.seqno);
                    let result = window.ack(&ok(ack), 3);
                    prop_assert_eq!(result == Ok(true), oldest == Some(ack));
                }
                prop_assert!(window.acked() >= before && window.acked() <= window.sent());
                prop_assert!(window.is_empty() == (window.acked() == window.sent()));
                before = window.acked();
            }
        }
    }
}
