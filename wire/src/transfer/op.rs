//! The frame that opens an operation: version, code, delimited message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use steadfs_common::limits::MAX_OP_BYTES;

use super::balance::{CopyBlock, ReplaceBlock};
use super::delimited::{delimited_span, encode_delimited, parse};
use super::error::TransferError;
use super::message::{BlockChecksum, ReadBlock, TransferBlock, WriteBlock};

/// The version of the protocol; the same since Hadoop 2.
pub const VERSION: u16 = 28;
/// What opens a SASL handshake, where an operation would begin (0xDEADBEEF).
const SASL_MAGIC: u16 = 0xDEAD;
/// Bytes of version and code.
const PREFIX: usize = 3;

/// What is asked. The numbers are Hadoop's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[expect(missing_docs, reason = "Hadoop's names")]
pub enum OpCode {
    WriteBlock = 80,
    ReadBlock = 81,
    ReadMetadata = 82,
    ReplaceBlock = 83,
    CopyBlock = 84,
    BlockChecksum = 85,
    TransferBlock = 86,
    RequestShortCircuitFds = 87,
    ReleaseShortCircuitFds = 88,
    RequestShortCircuitShm = 89,
    BlockGroupChecksum = 90,
    Custom = 127,
}

impl OpCode {
    const ALL: [Self; 12] = [
        Self::WriteBlock,
        Self::ReadBlock,
        Self::ReadMetadata,
        Self::ReplaceBlock,
        Self::CopyBlock,
        Self::BlockChecksum,
        Self::TransferBlock,
        Self::RequestShortCircuitFds,
        Self::ReleaseShortCircuitFds,
        Self::RequestShortCircuitShm,
        Self::BlockGroupChecksum,
        Self::Custom,
    ];

    /// The code with Hadoop's number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u8 == number)
    }

    /// As Hadoop spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteBlock => "WRITE_BLOCK",
            Self::ReadBlock => "READ_BLOCK",
            Self::ReadMetadata => "READ_METADATA",
            Self::ReplaceBlock => "REPLACE_BLOCK",
            Self::CopyBlock => "COPY_BLOCK",
            Self::BlockChecksum => "BLOCK_CHECKSUM",
            Self::TransferBlock => "TRANSFER_BLOCK",
            Self::RequestShortCircuitFds => "REQUEST_SHORT_CIRCUIT_FDS",
            Self::ReleaseShortCircuitFds => "RELEASE_SHORT_CIRCUIT_FDS",
            Self::RequestShortCircuitShm => "REQUEST_SHORT_CIRCUIT_SHM",
            Self::BlockGroupChecksum => "BLOCK_GROUP_CHECKSUM",
            Self::Custom => "CUSTOM",
        }
    }
}

/// One operation and what it asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// A block comes.
    Write(Box<WriteBlock>),
    /// A range is wanted.
    Read(Box<ReadBlock>),
    /// A replica is to be copied to others.
    Transfer(Box<TransferBlock>),
    /// A checksum is wanted.
    Checksum(Box<BlockChecksum>),
    /// A whole replica is wanted.
    Copy(Box<CopyBlock>),
    /// A replica is to be taken over from another datanode.
    Replace(Box<ReplaceBlock>),
    /// One of Hadoop's that nobody here does; its message is left as it came.
    Other(OpCode, Bytes),
}

/// Appends the frame of `code` with `message`.
pub fn encode_op(code: OpCode, message: &impl Message, out: &mut BytesMut) {
    out.put_u16(VERSION);
    out.put_u8(code as u8);
    encode_delimited(message, out);
}

impl Op {
    /// Its code.
    #[must_use]
    pub const fn code(&self) -> OpCode {
        match self {
            Self::Write(_) => OpCode::WriteBlock,
            Self::Read(_) => OpCode::ReadBlock,
            Self::Transfer(_) => OpCode::TransferBlock,
            Self::Checksum(_) => OpCode::BlockChecksum,
            Self::Copy(_) => OpCode::CopyBlock,
            Self::Replace(_) => OpCode::ReplaceBlock,
            Self::Other(code, _) => *code,
        }
    }

    /// Its frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Write(request) => encode_op(self.code(), &request.to_proto(), &mut out),
            Self::Read(request) => encode_op(self.code(), &request.to_proto(), &mut out),
            Self::Transfer(request) => encode_op(self.code(), &request.to_proto(), &mut out),
            Self::Checksum(request) => encode_op(self.code(), &request.to_proto(), &mut out),
            Self::Copy(request) => encode_op(self.code(), &request.to_proto(), &mut out),
            Self::Replace(request) => encode_op(self.code(), &request.to_proto(), &mut out),
            Self::Other(code, message) => {
                out.put_u16(VERSION);
                out.put_u8(*code as u8);
                prost::encoding::encode_varint(message.len() as u64, &mut out);
                out.extend_from_slice(message);
            }
        }
        out.freeze()
    }

    fn parse(code: OpCode, message: Bytes) -> Result<Self, TransferError> {
        Ok(match code {
            OpCode::WriteBlock => {
                Self::Write(Box::new(WriteBlock::from_proto(parse(message, code.name())?)?))
            }
            OpCode::ReadBlock => Self::Read(Box::new(ReadBlock::from_proto(parse(message, code.name())?)?)),
            OpCode::TransferBlock => {
                Self::Transfer(Box::new(TransferBlock::from_proto(parse(message, code.name())?)?))
            }
            OpCode::BlockChecksum => {
                Self::Checksum(Box::new(BlockChecksum::from_proto(parse(message, code.name())?)?))
            }
            OpCode::CopyBlock => Self::Copy(Box::new(CopyBlock::from_proto(parse(message, code.name())?)?)),
            OpCode::ReplaceBlock => {
                Self::Replace(Box::new(ReplaceBlock::from_proto(parse(message, code.name())?)?))
            }
            OpCode::ReadMetadata
            | OpCode::RequestShortCircuitFds
            | OpCode::ReleaseShortCircuitFds
            | OpCode::RequestShortCircuitShm
            | OpCode::BlockGroupChecksum
            | OpCode::Custom => Self::Other(code, message),
        })
    }
}

/// Takes the frame of one operation off the front of `buffer`; `None` while it is not all there.
///
/// # Errors
/// Another version or protocol, an unknown code, a message longer than [`MAX_OP_BYTES`] or one that does not parse,
/// each as soon as the bytes that show it are there.
pub fn decode_op(buffer: &mut BytesMut) -> Result<Option<Op>, TransferError> {
    let mut front = &buffer[..];
    if front.len() < 2 {
        return Ok(None);
    }
    match front.get_u16() {
        VERSION => {}
        SASL_MAGIC => return Err(TransferError::SaslHandshake),
        other => return Err(TransferError::Version(other)),
    }
    if front.is_empty() {
        return Ok(None);
    }
    let number = front.get_u8();
    let code = OpCode::from_number(number).ok_or(TransferError::UnknownOp(number))?;
    let Some(span) = delimited_span(front, "operation", MAX_OP_BYTES)? else { return Ok(None) };
    buffer.advance(PREFIX);
    let mut frame = buffer.split_to(span.end);
    frame.advance(span.start);
    Op::parse(code, frame.freeze()).map(Some)
}

#[cfg(test)]
#[path = "op_test.rs"]
mod tests;
