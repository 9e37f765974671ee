//! Acks of packets, one a packet and in their order, that travel up the pipeline.

use bytes::BytesMut;
use steadfs_proto::hadoop::PipelineAckProto;

use super::delimited::{decode_message, encode_delimited};
use super::error::TransferError;
use super::status::Status;

/// The sequence number of an ack that belongs to no packet: a failure, or out of band.
pub const UNKNOWN_SEQNO: i64 = -2;
/// Longest ack in bytes: the longest pipeline takes a few bytes a node.
const MAX_ACK_BYTES: usize = 64 << 10;
/// In a node's flag word the status is in these bits; the others tell of congestion and slowness.
const FLAG_STATUS_MASK: u32 = 0xf;

/// One status a node, the sender's own first, then downstream in order.
pub type AckReplies = Vec<Status>;

/// The ack of one packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PipelineAck {
    /// The packet's number.
    pub seqno: i64,
    /// How each node fared. May be shorter than the pipeline when one could not be asked.
    pub replies: AckReplies,
    /// How long the sender waited for its downstream's ack, in nanoseconds.
    pub downstream_nanos: u64,
}

impl PipelineAck {
    /// An ack of packet `seqno`.
    #[must_use]
    pub const fn new(seqno: i64, replies: AckReplies) -> Self {
        Self { seqno, replies, downstream_nanos: 0 }
    }

    /// Whether every node did its part.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.replies.iter().all(|status| *status == Status::Success)
    }

    /// Appends it, delimited.
    pub fn encode(&self, out: &mut BytesMut) {
        let message = PipelineAckProto {
            seqno: self.seqno,
            reply: self.replies.iter().map(|status| status.number()).collect(),
            downstream_ack_time_nanos: (self.downstream_nanos != 0).then_some(self.downstream_nanos),
            flag: Vec::new(),
        };
        encode_delimited(&message, out);
    }

    /// Takes one off the front of `buffer`; `None` while it is not all there. Where a node's flag word is present it
    /// overrides the plain status, as in Hadoop.
    ///
    /// # Errors
    /// A length past its bound, or a message that does not parse.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, TransferError> {
        let Some(message) = decode_message::<PipelineAckProto>(buffer, "pipeline ack", MAX_ACK_BYTES)? else {
            return Ok(None);
        };
        let replies = if message.flag.is_empty() {
            message.reply.iter().map(|number| Status::from_number(*number)).collect()
        } else {
            message.flag.iter().map(|word| Status::from_number((word & FLAG_STATUS_MASK) as i32)).collect()
        };
        Ok(Some(Self {
            seqno: message.seqno,
            replies,
            downstream_nanos: message.downstream_ack_time_nanos.unwrap_or(0),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_an_ack() {
        let mut out = BytesMut::new();
        let ack = PipelineAck::new(3, vec![Status::Success, Status::Error]);
        ack.encode(&mut out);
        // seqno is zigzag; statuses are unpacked.
        assert_eq!(&out[..], [6, 0x08, 6, 0x10, 0, 0x10, 1]);
        assert_eq!(PipelineAck::decode(&mut out).unwrap(), Some(ack));
        assert!(out.is_empty());
        PipelineAck::new(-1, vec![Status::Success]).encode(&mut out);
        assert_eq!(&out[..], [4, 0x08, 1, 0x10, 0]);
    }

    #[test]
    fn flag_words_override_statuses() {
        // reply [SUCCESS, SUCCESS], flags [SLOW normal | SUCCESS, ECN supported | ERROR_CHECKSUM], packed.
        let mut bytes = BytesMut::from(&[11, 0x08, 0, 0x10, 0, 0x10, 0, 0x22, 3, 0x80, 0x01, 0x22][..]);
        let ack = PipelineAck::decode(&mut bytes).unwrap().unwrap();
        assert_eq!(ack.replies, [Status::Success, Status::ErrorChecksum]);
        assert!(!ack.is_success());
    }

    #[test]
    fn an_unknown_status_is_an_error() {
        let mut bytes = BytesMut::from(&[4, 0x08, 0, 0x10, 77][..]);
        assert_eq!(PipelineAck::decode(&mut bytes).unwrap().unwrap().replies, [Status::Error]);
    }
}
