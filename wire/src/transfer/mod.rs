//! Hadoop's data-transfer protocol: operations, packets, acks and answers, as bytes in and bytes out.
//!
//! A connection carries operations one after the other. Each opens with [`VERSION`], a code and a length-delimited
//! message ([`decode_op`], [`Op::encode`]); what follows depends on the operation: packets ([`decode_packet`],
//! [`Packet`]), acks ([`PipelineAck`]) and answers ([`OpResponse`]), each of them length-delimited but the packets,
//! which have a frame of their own.
//!
//! Every decoder takes what has arrived so far, gives `None` while something is missing, and takes nothing from the
//! buffer then. None of them allocates by what a length claims: they only split what is there. [`room`] says how much
//! more to read.

mod ack;
mod balance;
mod delimited;
mod error;
mod intake;
mod message;
mod node;
mod op;
mod packet;
mod status;

pub use ack::{AckReplies, PipelineAck, UNKNOWN_SEQNO};
pub use balance::{CopyBlock, ReplaceBlock};
pub use delimited::{decode_delimited, decode_message, encode_delimited, room};
pub use error::TransferError;
pub use intake::PacketRoom;
pub use message::{
    BlockChecksum, BlockChecksumKind, BlockChecksumReply, OpResponse, ReadBlock, ReadChecksum, TransferBlock,
    WriteBlock, client_read_status, decode_client_read_status,
};
pub use node::{BlockRef, Peer, Token, bracketed, host_literal};
pub use op::{Op, OpCode, VERSION, decode_op, encode_op};
pub use packet::{
    ChecksumMismatch, HEARTBEAT_SEQNO, MAX_PACKET_HEADER_BYTES, Packet, PacketHead, PacketHeader,
    decode_packet,
};
pub use status::{Stage, Status};
