//! Requests and answers of the operations, checked.

use bytes::{Bytes, BytesMut};
use steadfs_common::limits::{MAX_OP_BYTES, MAX_REPLICATION};
use steadfs_common::{ChecksumSpec, GenStamp};
use steadfs_proto::hadoop::op_write_block_proto::BlockConstructionStage;
use steadfs_proto::hadoop::{
    BaseHeaderProto, BlockChecksumOptionsProto, BlockChecksumTypeProto, BlockOpResponseProto, ChecksumProto,
    ChecksumTypeProto, ClientOperationHeaderProto, ClientReadStatusProto, DatanodeInfoProto,
    OpBlockChecksumProto, OpBlockChecksumResponseProto, OpReadBlockProto, OpTransferBlockProto,
    OpWriteBlockProto, ReadOpChecksumInfoProto, Status as StatusProto, StorageTypeProto,
};

use super::delimited::{decode_message, encode_delimited};
use super::error::TransferError;
use super::node::{BlockRef, Peer, Token};
use super::status::{Stage, Status};

/// Longest sentence sent with an answer, in bytes.
const MAX_MESSAGE_BYTES: usize = 4 << 10;

fn field(what: &'static str, field: &'static str) -> TransferError {
    TransferError::Field { what, field }
}

pub(super) fn base_header(block: &BlockRef, token: &Token) -> BaseHeaderProto {
    BaseHeaderProto { block: block.to_proto(), token: Some(token.to_proto()), trace_info: None }
}

fn client_header(block: &BlockRef, token: &Token, client: &str) -> ClientOperationHeaderProto {
    ClientOperationHeaderProto { base_header: base_header(block, token), client_name: client.to_owned() }
}

fn header_parts(header: ClientOperationHeaderProto) -> Result<(BlockRef, Token, String), TransferError> {
    let base = header.base_header;
    Ok((BlockRef::from_proto(base.block)?, Token::from_proto(base.token), header.client_name))
}

fn peers(messages: Vec<DatanodeInfoProto>, what: &'static str) -> Result<Vec<Peer>, TransferError> {
    if messages.len() > usize::from(MAX_REPLICATION) {
        return Err(field(what, "targets"));
    }
    messages.into_iter().map(Peer::from_proto).collect()
}

fn spec_from(message: &ChecksumProto, what: &'static str) -> Result<ChecksumSpec, TransferError> {
    ChecksumSpec::new(message.r#type, message.bytes_per_checksum).ok_or(field(what, "checksum"))
}

fn spec_to(spec: ChecksumSpec) -> ChecksumProto {
    ChecksumProto { r#type: spec.kind as i32, bytes_per_checksum: spec.bytes_per_checksum }
}

/// `WRITE_BLOCK`: a block comes, perhaps to be passed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteBlock {
    /// The block. In recoveries its stamp is the old one. Its length is the file's block size when it is created,
    /// what is to be copied in a transfer.
    pub block: BlockRef,
    /// The writer's token.
    pub token: Token,
    /// The writer's name; empty when a datanode copies a replica.
    pub client: String,
    /// The nodes behind the receiver.
    pub targets: Vec<Peer>,
    /// The datanode that copies, if one does.
    pub source: Option<Peer>,
    /// What is begun.
    pub stage: Stage,
    /// Nodes of the whole pipeline.
    pub pipeline_size: u32,
    /// Bytes that every replica has, in recoveries.
    pub min_bytes: u64,
    /// Bytes that a replica may have at most, in recoveries.
    pub max_bytes: u64,
    /// The new stamp, in recoveries and appends.
    pub latest_stamp: GenStamp,
    /// The checksums that the packets carry.
    pub checksum: ChecksumSpec,
    /// The storage of the receiver that the namenode chose (`DS-…`), if any.
    pub storage_id: Option<String>,
    /// Its type, by Hadoop's number.
    pub storage_type: i32,
    /// The storages of `targets`: as many, or none.
    pub target_storage_ids: Vec<String>,
    /// Their types.
    pub target_storage_types: Vec<i32>,
}

impl WriteBlock {
    const WHAT: &'static str = "WRITE_BLOCK request";

    /// The request for the first of `targets`, and that node; `None` at the end of the pipeline.
    #[must_use]
    pub fn for_next(&self) -> Option<(Peer, Self)> {
        let (next, rest) = self.targets.split_first()?;
        let mut request = self.clone();
        request.targets = rest.to_vec();
        request.storage_id = self.target_storage_ids.first().cloned();
        request.target_storage_ids = self.target_storage_ids.get(1..).unwrap_or_default().to_vec();
        request.storage_type =
            self.target_storage_types.first().copied().unwrap_or(StorageTypeProto::Disk as i32);
        request.target_storage_types = self.target_storage_types.get(1..).unwrap_or_default().to_vec();
        Some((next.clone(), request))
    }

    pub(super) fn from_proto(message: OpWriteBlockProto) -> Result<Self, TransferError> {
        let stage = Stage::from_number(message.stage).ok_or(field(Self::WHAT, "stage"))?;
        let storage_type = message.storage_type.unwrap_or(StorageTypeProto::Disk as i32);
        let (block, token, client) = header_parts(message.header)?;
        if message.max_bytes_rcvd < message.min_bytes_rcvd || i64::try_from(message.max_bytes_rcvd).is_err() {
            return Err(field(Self::WHAT, "maxBytesRcvd"));
        }
        Ok(Self {
            block,
            token,
            client,
            targets: peers(message.targets, Self::WHAT)?,
            source: message.source.map(Peer::from_proto).transpose()?,
            stage,
            pipeline_size: message.pipeline_size,
            min_bytes: message.min_bytes_rcvd,
            max_bytes: message.max_bytes_rcvd,
            latest_stamp: GenStamp(message.latest_generation_stamp),
            checksum: spec_from(&message.requested_checksum, Self::WHAT)?,
            storage_id: message.storage_id.filter(|id| !id.is_empty()),
            storage_type,
            target_storage_ids: message.target_storage_ids,
            target_storage_types: message.target_storage_types,
        })
    }

    pub(super) fn to_proto(&self) -> OpWriteBlockProto {
        debug_assert!(BlockConstructionStage::try_from(self.stage.number()).is_ok());
        OpWriteBlockProto {
            header: client_header(&self.block, &self.token, &self.client),
            targets: self.targets.iter().map(Peer::to_proto).collect(),
            source: self.source.as_ref().map(Peer::to_proto),
            stage: self.stage.number(),
            pipeline_size: self.pipeline_size,
            min_bytes_rcvd: self.min_bytes,
            max_bytes_rcvd: self.max_bytes,
            latest_generation_stamp: self.latest_stamp.0,
            requested_checksum: spec_to(self.checksum),
            storage_type: Some(self.storage_type),
            target_storage_types: self.target_storage_types.clone(),
            storage_id: self.storage_id.clone(),
            target_storage_ids: self.target_storage_ids.clone(),
            ..OpWriteBlockProto::default()
        }
    }
}

/// `READ_BLOCK`: a range of a replica is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadBlock {
    /// The block; its length is what the reader believes it to be.
    pub block: BlockRef,
    /// The reader's token.
    pub token: Token,
    /// The reader's name.
    pub client: String,
    /// Where the range begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Whether checksums are to be sent.
    pub checksums: bool,
}

impl ReadBlock {
    pub(super) fn from_proto(message: OpReadBlockProto) -> Result<Self, TransferError> {
        let (block, token, client) = header_parts(message.header)?;
        Ok(Self {
            block,
            token,
            client,
            offset: message.offset,
            length: message.len,
            checksums: message.send_checksums.unwrap_or(true),
        })
    }

    pub(super) fn to_proto(&self) -> OpReadBlockProto {
        OpReadBlockProto {
            header: client_header(&self.block, &self.token, &self.client),
            offset: self.offset,
            len: self.length,
            send_checksums: Some(self.checksums),
            caching_strategy: None,
        }
    }
}

/// `TRANSFER_BLOCK`: the receiver is to copy its replica to others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferBlock {
    /// The block; its length is what must be copied at least.
    pub block: BlockRef,
    /// The writer's token.
    pub token: Token,
    /// The writer's name.
    pub client: String,
    /// Where to.
    pub targets: Vec<Peer>,
    /// The storages chosen there.
    pub target_storage_ids: Vec<String>,
    /// Their types, by Hadoop's number.
    pub target_storage_types: Vec<i32>,
}

impl TransferBlock {
    pub(super) fn from_proto(message: OpTransferBlockProto) -> Result<Self, TransferError> {
        let (block, token, client) = header_parts(message.header)?;
        Ok(Self {
            block,
            token,
            client,
            targets: peers(message.targets, "TRANSFER_BLOCK request")?,
            target_storage_ids: message.target_storage_ids,
            target_storage_types: message.target_storage_types,
        })
    }

    pub(super) fn to_proto(&self) -> OpTransferBlockProto {
        OpTransferBlockProto {
            header: client_header(&self.block, &self.token, &self.client),
            targets: self.targets.iter().map(Peer::to_proto).collect(),
            target_storage_types: self.target_storage_types.clone(),
            target_storage_ids: self.target_storage_ids.clone(),
        }
    }
}

/// What the checksum of a block is made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BlockChecksumKind {
    /// The MD5 of its chunks' checksums.
    Md5Crc,
    /// The checksum of its bytes, composed from its chunks'.
    CompositeCrc,
}

/// `BLOCK_CHECKSUM`: the checksum of a replica, or of its beginning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockChecksum {
    /// The block; its length is how much of it counts.
    pub block: BlockRef,
    /// The reader's token.
    pub token: Token,
    /// Which checksum.
    pub kind: BlockChecksumKind,
}

fn checksum_options(kind: BlockChecksumKind) -> BlockChecksumOptionsProto {
    let kind = match kind {
        BlockChecksumKind::Md5Crc => BlockChecksumTypeProto::Md5crc,
        BlockChecksumKind::CompositeCrc => BlockChecksumTypeProto::CompositeCrc,
    };
    BlockChecksumOptionsProto { block_checksum_type: Some(kind as i32), stripe_length: None }
}

fn checksum_kind(options: Option<&BlockChecksumOptionsProto>) -> BlockChecksumKind {
    match options.and_then(|options| options.block_checksum_type) {
        Some(number) if number == BlockChecksumTypeProto::CompositeCrc as i32 => {
            BlockChecksumKind::CompositeCrc
        }
        _ => BlockChecksumKind::Md5Crc,
    }
}

impl BlockChecksum {
    pub(super) fn from_proto(message: OpBlockChecksumProto) -> Result<Self, TransferError> {
        let kind = checksum_kind(message.block_checksum_options.as_ref());
        let header = message.header;
        Ok(Self { block: BlockRef::from_proto(header.block)?, token: Token::from_proto(header.token), kind })
    }

    pub(super) fn to_proto(&self) -> OpBlockChecksumProto {
        OpBlockChecksumProto {
            header: base_header(&self.block, &self.token),
            block_checksum_options: Some(checksum_options(self.kind)),
        }
    }
}

/// The answer to [`BlockChecksum`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockChecksumReply {
    /// The checksums of the replica's chunks.
    pub spec: ChecksumSpec,
    /// How many the whole replica has, whatever part of it counts; 0 for one without checksums.
    pub crc_per_block: u64,
    /// 16 bytes of MD5, or 4 of a composed checksum, big-endian.
    pub checksum: Bytes,
    /// Which checksum.
    pub kind: BlockChecksumKind,
}

/// Which checksums a reader is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadChecksum {
    /// Their kind, and the bytes under each.
    pub spec: ChecksumSpec,
    /// Where in the block the first packet begins: the start of the chunk that holds the first byte asked for.
    pub chunk_offset: u64,
}

/// The answer to an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpResponse {
    /// How it went.
    pub status: Status,
    /// To a write: `ip:port` of the first node that could not be reached; empty when all is well or it is the answerer.
    pub first_bad_link: Option<String>,
    /// A sentence for people.
    pub message: Option<String>,
    /// To a read.
    pub read_checksum: Option<ReadChecksum>,
    /// To a checksum.
    pub block_checksum: Option<BlockChecksumReply>,
    /// To the short-circuit operations: that only this file cannot be had so.
    pub short_circuit_version: Option<u32>,
}

impl OpResponse {
    /// The longest that is accepted, in bytes.
    const LIMIT: usize = MAX_OP_BYTES;

    /// An answer of `status` alone.
    #[must_use]
    pub const fn new(status: Status) -> Self {
        Self {
            status,
            first_bad_link: None,
            message: None,
            read_checksum: None,
            block_checksum: None,
            short_circuit_version: None,
        }
    }

    /// A failure and its sentence.
    pub fn failure(status: Status, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        }
        Self { message: Some(message), ..Self::new(status) }
    }

    /// The answer to a `WRITE_BLOCK`: all well if `first_bad_link` is empty and `status` says so.
    pub fn connect_ack(status: Status, first_bad_link: impl Into<String>) -> Self {
        Self { first_bad_link: Some(first_bad_link.into()), ..Self::new(status) }
    }

    /// Appends it, delimited.
    pub fn encode(&self, out: &mut BytesMut) {
        let read = self.read_checksum.map(|read| ReadOpChecksumInfoProto {
            checksum: spec_to(read.spec),
            chunk_offset: read.chunk_offset,
        });
        let block = self.block_checksum.as_ref().map(|reply| OpBlockChecksumResponseProto {
            bytes_per_crc: reply.spec.bytes_per_checksum,
            crc_per_block: reply.crc_per_block,
            block_checksum: reply.checksum.clone(),
            crc_type: Some(reply.spec.kind as i32),
            block_checksum_options: Some(checksum_options(reply.kind)),
        });
        let message = BlockOpResponseProto {
            status: self.status.number(),
            first_bad_link: self.first_bad_link.clone(),
            checksum_response: block,
            read_op_checksum_info: read,
            message: self.message.clone(),
            short_circuit_access_version: self.short_circuit_version,
        };
        encode_delimited(&message, out);
    }

    /// It alone, delimited.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }

    /// Takes one off the front of `buffer`; `None` while it is not all there.
    ///
    /// # Errors
    /// A length past its bound, or a message that does not parse.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, TransferError> {
        const WHAT: &str = "answer to an operation";
        let Some(message) = decode_message::<BlockOpResponseProto>(buffer, WHAT, Self::LIMIT)? else {
            return Ok(None);
        };
        let read_checksum = message
            .read_op_checksum_info
            .map(|info| {
                Ok(ReadChecksum { spec: spec_from(&info.checksum, WHAT)?, chunk_offset: info.chunk_offset })
            })
            .transpose()?;
        let block_checksum = message.checksum_response.map(block_checksum_reply).transpose()?;
        Ok(Some(Self {
            status: Status::from_number(message.status),
            first_bad_link: message.first_bad_link,
            message: message.message,
            read_checksum,
            block_checksum,
            short_circuit_version: message.short_circuit_access_version,
        }))
    }
}

fn block_checksum_reply(message: OpBlockChecksumResponseProto) -> Result<BlockChecksumReply, TransferError> {
    const WHAT: &str = "checksum of a block";
    let crc_type = message.crc_type.unwrap_or(ChecksumTypeProto::ChecksumCrc32 as i32);
    // Old servers say 0 bytes per checksum for an empty replica.
    let bytes_per_checksum = message.bytes_per_crc.max(1);
    Ok(BlockChecksumReply {
        spec: ChecksumSpec::new(crc_type, bytes_per_checksum).ok_or(field(WHAT, "bytesPerCrc"))?,
        crc_per_block: message.crc_per_block,
        checksum: message.block_checksum,
        kind: checksum_kind(message.block_checksum_options.as_ref()),
    })
}

/// What a reader sends after the last packet, delimited: [`Status::ChecksumOk`], or [`Status::Success`] without checksums.
#[must_use]
pub fn client_read_status(status: Status) -> Bytes {
    let mut out = BytesMut::new();
    let status = StatusProto::try_from(status.number()).expect("every status is one of Hadoop's");
    encode_delimited(&ClientReadStatusProto { status: status as i32 }, &mut out);
    out.freeze()
}

/// Takes a reader's status off the front of `buffer`; `None` while it is not all there.
///
/// # Errors
/// A length past its bound, or a message that does not parse.
pub fn decode_client_read_status(buffer: &mut BytesMut) -> Result<Option<Status>, TransferError> {
    const LIMIT: usize = 1 << 10;
    let message = decode_message::<ClientReadStatusProto>(buffer, "status of a read", LIMIT)?;
    Ok(message.map(|message| Status::from_number(message.status)))
}
