//! The operations by which a balancer moves replicas: one datanode is told to take a block over, and asks another for it.

use steadfs_proto::hadoop::{OpCopyBlockProto, OpReplaceBlockProto, StorageTypeProto};

use super::error::TransferError;
use super::message::base_header;
use super::node::{BlockRef, Peer, Token};

/// Longest uuid of a datanode that is taken for one, in bytes.
const MAX_HINT_BYTES: usize = 128;

/// `COPY_BLOCK`: a datanode wants a whole replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyBlock {
    /// The block.
    pub block: BlockRef,
    /// The balancer's token.
    pub token: Token,
}

impl CopyBlock {
    pub(super) fn from_proto(message: OpCopyBlockProto) -> Result<Self, TransferError> {
        let header = message.header;
        Ok(Self { block: BlockRef::from_proto(header.block)?, token: Token::from_proto(header.token) })
    }

    pub(super) fn to_proto(&self) -> OpCopyBlockProto {
        OpCopyBlockProto { header: base_header(&self.block, &self.token) }
    }
}

/// `REPLACE_BLOCK`: this datanode shall take a replica over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplaceBlock {
    /// The block.
    pub block: BlockRef,
    /// The balancer's token.
    pub token: Token,
    /// The uuid of the datanode that shall give its replica up, once this one has its own.
    pub instead_of: String,
    /// Whom to ask for the bytes.
    pub source: Peer,
    /// The type of volume it shall lie on, by Hadoop's number.
    pub storage_type: i32,
    /// The volume that was chosen (`DS-…`), if any.
    pub storage_id: Option<String>,
}

impl ReplaceBlock {
    const WHAT: &'static str = "REPLACE_BLOCK request";

    pub(super) fn from_proto(message: OpReplaceBlockProto) -> Result<Self, TransferError> {
        if message.del_hint.len() > MAX_HINT_BYTES {
            return Err(TransferError::Field { what: Self::WHAT, field: "delHint" });
        }
        let header = message.header;
        Ok(Self {
            block: BlockRef::from_proto(header.block)?,
            token: Token::from_proto(header.token),
            instead_of: message.del_hint,
            source: Peer::from_proto(message.source)?,
            storage_type: message.storage_type.unwrap_or(StorageTypeProto::Disk as i32),
            storage_id: message.storage_id.filter(|id| !id.is_empty()),
        })
    }

    pub(super) fn to_proto(&self) -> OpReplaceBlockProto {
        OpReplaceBlockProto {
            header: base_header(&self.block, &self.token),
            del_hint: self.instead_of.clone(),
            source: self.source.to_proto(),
            storage_type: Some(self.storage_type),
            storage_id: self.storage_id.clone(),
        }
    }
}
