//! The state of one block on its way through this node: packet in, disk done, downstream ack in; forward, write, ack
//! out. It does no I/O and reads no clock: [`super::run`] carries out what it says.

use std::collections::VecDeque;

use steadfs_common::ChecksumSpec;
use steadfs_wire::transfer::{ChecksumMismatch, Packet, PipelineAck, Status};

use super::patience::Awaited;
use crate::transfer::MAX_UNACKED_PACKETS;

/// How the rest of the pipeline is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Downstream {
    /// This node is the last.
    None,
    /// It takes packets and acks them.
    Alive,
    /// It is gone: what it has not acked is answered with an error in its place.
    Failed,
}

/// What the other end did that the protocol does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Violation(String);

/// Packets to be written by one job, in order.
#[derive(Debug)]
pub(super) struct Batch {
    /// The packets.
    pub(super) packets: Vec<Packet>,
    /// Whether all of it is to be on disk before it counts as written.
    pub(super) sync: bool,
    /// Whether the last of them ends the block.
    pub(super) last: bool,
    /// The checksums that all of them were compared with when they came; none if somebody has to do that yet.
    pub(super) verified: Option<ChecksumSpec>,
}

/// How a batch went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Written {
    /// Packets of the batch that are written, from its first on.
    pub(super) packets: usize,
    /// What happened to the one behind them.
    pub(super) failure: Option<Status>,
}

/// What the nodes below said of a packet.
#[derive(Debug)]
enum Below {
    /// There are none.
    Nobody,
    /// Nothing yet.
    Awaited,
    /// This.
    Said(Vec<Status>),
}

#[derive(Debug)]
struct Entry {
    seqno: i64,
    /// Offset behind its data.
    end: u64,
    last: bool,
    sync: bool,
    /// There until it is given to the disk.
    packet: Option<Packet>,
    /// How this node fared with it.
    own: Option<Status>,
    below: Below,
}

/// See the module.
#[derive(Debug)]
pub(super) struct PipelineState {
    /// Received and not acked, in order.
    queue: VecDeque<Entry>,
    downstream: Downstream,
    /// Nodes below.
    depth: usize,
    highest_seqno: i64,
    /// Bytes of packets that are not yet written.
    unwritten: usize,
    /// Whether a batch is being written.
    writing: bool,
    /// Bytes of the block that this node and all below have.
    acked: u64,
    /// Whether no further packet will be taken: the last came, or one failed here.
    ended: bool,
    /// Whether a write failed: nothing more is written.
    failed: bool,
    /// Whether the last ack was given out.
    over: bool,
    /// Whether the block ended well on this node.
    complete: bool,
}

impl PipelineState {
    /// A pipeline with `depth` nodes below this one.
    pub(super) fn new(depth: usize) -> Self {
        let downstream = if depth == 0 { Downstream::None } else { Downstream::Alive };
        Self {
            queue: VecDeque::new(),
            downstream,
            depth,
            highest_seqno: -1,
            unwritten: 0,
            writing: false,
            acked: 0,
            ended: false,
            failed: false,
            over: false,
            complete: false,
        }
    }

    /// Takes a packet from upstream and the verdict on its checksums. True if it is to be forwarded.
    pub(super) fn receive(
        &mut self,
        packet: Packet,
        verdict: Result<(), ChecksumMismatch>,
    ) -> Result<bool, Violation> {
        let header = *packet.header();
        if self.ended {
            return Err(Violation(format!("packet {} after the end of the block", header.seqno)));
        }
        if !header.is_heartbeat() {
            if header.seqno <= self.highest_seqno {
                return Err(Violation(format!(
                    "packet {} after packet {}",
                    header.seqno, self.highest_seqno
                )));
            }
            self.highest_seqno = header.seqno;
        }
        let own = match (verdict, header.is_heartbeat()) {
            (Err(_), _) => Some(Status::ErrorChecksum),
            (Ok(()), true) => Some(Status::Success),
            (Ok(()), false) => None,
        };
        // What is bad stops here: the nodes below must not be blamed for it.
        let good = own != Some(Status::ErrorChecksum);
        self.ended = header.last || !good;
        let forward = good && self.downstream == Downstream::Alive;
        let below = match self.downstream {
            Downstream::None => Below::Nobody,
            Downstream::Alive | Downstream::Failed => Below::Awaited,
        };
        if own.is_none() {
            self.unwritten += packet.frame().len();
        }
        self.queue.push_back(Entry {
            seqno: header.seqno,
            end: header.end(),
            last: header.last,
            sync: header.sync,
            packet: own.is_none().then_some(packet),
            own,
            below,
        });
        Ok(forward)
    }

    /// Whether a further packet may be taken, with `backlog` bytes waiting to be forwarded and room for `limit`.
    pub(super) fn wants_more(&self, backlog: usize, limit: usize) -> bool {
        !self.ended && self.queue.len() < MAX_UNACKED_PACKETS && self.unwritten + backlog < limit
    }

    /// What is to be written next; `None` while a batch is being written, or if there is nothing.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        if self.writing || self.failed {
            return None;
        }
        let mut batch = Batch { packets: Vec::new(), sync: false, last: false, verified: None };
        for entry in &mut self.queue {
            let Some(packet) = entry.packet.take() else { continue };
            batch.packets.push(packet);
            batch.sync |= entry.sync;
            batch.last |= entry.last;
        }
        self.writing = !batch.packets.is_empty();
        self.writing.then_some(batch)
    }

    /// The batch given last was written, or part of it.
    pub(super) fn written(&mut self, mut outcome: Written, batch_bytes: usize) {
        debug_assert!(self.writing);
        self.writing = false;
        self.unwritten = self.unwritten.saturating_sub(batch_bytes);
        for entry in self.queue.iter_mut().filter(|entry| entry.own.is_none()) {
            if outcome.packets > 0 {
                outcome.packets -= 1;
                entry.own = Some(Status::Success);
                self.complete |= entry.last;
            } else {
                entry.own = outcome.failure;
                break;
            }
        }
        self.failed |= outcome.failure.is_some();
        self.ended |= self.failed;
    }

    /// Takes an ack from downstream.
    pub(super) fn downstream_ack(&mut self, ack: PipelineAck) -> Result<(), Violation> {
        let depth = self.depth;
        let awaited = self.queue.iter_mut().find(|entry| matches!(entry.below, Below::Awaited));
        match awaited {
            Some(entry) if entry.seqno == ack.seqno && (1..=depth).contains(&ack.replies.len()) => {
                entry.below = Below::Said(ack.replies);
                Ok(())
            }
            Some(entry) => Err(Violation(format!(
                "ack of packet {} with {} replies where that of packet {} was due from {depth} nodes",
                ack.seqno,
                ack.replies.len(),
                entry.seqno
            ))),
            None => Err(Violation(format!("ack of packet {}, which was not sent", ack.seqno))),
        }
    }

    /// Downstream is gone.
    pub(super) fn downstream_failed(&mut self) {
        self.downstream = Downstream::Failed;
    }

    /// Whether an ack is due from downstream.
    pub(super) fn awaits_downstream(&self) -> bool {
        self.downstream == Downstream::Alive
            && self.queue.iter().any(|entry| matches!(entry.below, Below::Awaited))
    }

    /// What this node has done, and those below have not acked.
    pub(super) fn awaited(&self) -> Option<Awaited> {
        let alone =
            |entry: &&Entry| matches!(entry.below, Below::Awaited) && entry.own == Some(Status::Success);
        let oldest = self.queue.iter().find(|entry| matches!(entry.below, Below::Awaited)).filter(alone)?;
        if self.downstream != Downstream::Alive {
            return None;
        }
        let newest = self.queue.iter().rev().find(alone).map_or(oldest.seqno, |entry| entry.seqno);
        // What comes before it may be written, and acked, together with it.
        let to_disk = self.queue.iter().any(|entry| entry.sync || entry.last);
        Some(Awaited { oldest: oldest.seqno, newest, to_disk })
    }

    /// The next ack to send upstream, if it can be known. [`Self::acked`] counts it.
    pub(super) fn next_ack(&mut self) -> Option<PipelineAck> {
        let front = self.queue.front_mut()?;
        let own = front.own?;
        let mut replies = vec![own];
        match (&mut front.below, self.downstream) {
            // Nothing more is known or wanted once this node failed.
            _ if own != Status::Success => {}
            (Below::Said(said), _) => replies.append(said),
            (Below::Awaited, Downstream::Failed) => replies.push(Status::Error),
            (Below::Awaited, Downstream::Alive | Downstream::None) => return None,
            (Below::Nobody, _) => {}
        }
        let ack = PipelineAck::new(front.seqno, replies);
        self.over = front.last || own != Status::Success;
        if ack.is_success() {
            self.acked = self.acked.max(front.end);
        }
        self.queue.pop_front();
        if self.over {
            self.queue.clear();
        }
        Some(ack)
    }

    /// Bytes of the block that this node and all below have.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// Whether every ack that there will be was given out.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the whole block is written and finished on this node.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }
}

#[cfg(test)]
#[path = "state_test.rs"]
mod tests;
