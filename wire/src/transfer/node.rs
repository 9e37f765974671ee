//! Blocks, datanodes and tokens, as operations name them.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use steadfs_common::{BlockId, BlockPoolId, GenStamp};
use steadfs_proto::hadoop::{DatanodeIdProto, DatanodeInfoProto, ExtendedBlockProto, TokenProto};

use super::error::TransferError;

/// A block of a pool, in one of its lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockRef {
    /// The pool.
    pub pool: BlockPoolId,
    /// The block.
    pub id: BlockId,
    /// Which of its lives.
    pub stamp: GenStamp,
    /// Its length in bytes; what that means depends on the operation.
    pub length: u64,
}

impl BlockRef {
    pub(super) fn from_proto(message: ExtendedBlockProto) -> Result<Self, TransferError> {
        let length = message.num_bytes.unwrap_or(0);
        if i64::try_from(length).is_err() {
            return Err(TransferError::Field { what: "block", field: "numBytes" });
        }
        Ok(Self {
            pool: BlockPoolId(message.pool_id),
            id: BlockId(message.block_id),
            stamp: GenStamp(message.generation_stamp),
            length,
        })
    }

    pub(super) fn to_proto(&self) -> ExtendedBlockProto {
        ExtendedBlockProto {
            pool_id: self.pool.0.clone(),
            block_id: self.id.0,
            generation_stamp: self.stamp.0,
            num_bytes: Some(self.length),
        }
    }
}

impl std::fmt::Display for BlockRef {
    /// `<pool>:blk_<id>_<stamp>`, as HDFS prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}_{}", self.pool, self.id, self.stamp)
    }
}

/// A datanode of a pipeline.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Peer {
    /// Its uuid.
    pub uuid: String,
    /// Its address, literally; what the other end is to connect to.
    pub ip: String,
    /// Its name.
    pub host_name: String,
    /// The port of its data server.
    pub data_port: u16,
    /// The port of its RPC server.
    pub ipc_port: u16,
    /// The port of its HTTP server.
    pub http_port: u16,
    /// Its rack, such as `/default-rack`.
    pub rack: String,
}

/// An address as Hadoop's clients take it in front of `:port`: IPv6 in brackets.
#[must_use]
pub fn host_literal(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// As [`host_literal`], of an address in a text; what is none stays as it is.
#[must_use]
pub fn bracketed(text: &str) -> String {
    text.parse().map_or_else(|_| text.to_owned(), host_literal)
}

/// The address without the brackets that Hadoop's clients send with IPv6.
fn unbracketed(text: String) -> String {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.to_owned(),
        None => text,
    }
}

impl Peer {
    /// `ip:port` of its data server: how a client recognises a bad link of its pipeline, letter by letter.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", bracketed(&self.ip), self.data_port)
    }

    /// Where to connect to, if its address is one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.ip.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.data_port))
    }

    pub(super) fn from_proto(message: DatanodeInfoProto) -> Result<Self, TransferError> {
        let port = |port: u32| {
            u16::try_from(port).map_err(|_| TransferError::Field { what: "datanode", field: "xferPort" })
        };
        let id = message.id;
        Ok(Self {
            uuid: id.datanode_uuid,
            ip: unbracketed(id.ip_addr),
            host_name: id.host_name,
            data_port: port(id.xfer_port)?,
            ipc_port: port(id.ipc_port)?,
            http_port: port(id.info_port)?,
            rack: message.location.unwrap_or_default(),
        })
    }

    pub(super) fn to_proto(&self) -> DatanodeInfoProto {
        DatanodeInfoProto {
            id: DatanodeIdProto {
                ip_addr: bracketed(&self.ip),
                host_name: self.host_name.clone(),
                datanode_uuid: self.uuid.clone(),
                xfer_port: u32::from(self.data_port),
                info_port: u32::from(self.http_port),
                ipc_port: u32::from(self.ipc_port),
                info_secure_port: None,
            },
            location: Some(self.rack.clone()),
            ..DatanodeInfoProto::default()
        }
    }
}

/// What shows that somebody may use a block. All empty while tokens are off.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Token {
    /// Who may do what, until when.
    pub identifier: Bytes,
    /// The proof.
    pub password: Bytes,
    /// `HDFS_BLOCK_TOKEN`, or empty.
    pub kind: String,
    /// Empty for block tokens.
    pub service: String,
}

impl std::fmt::Debug for Token {
    /// Without its secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({:?}, {} bytes)", self.kind, self.identifier.len())
    }
}

impl Token {
    pub(super) fn from_proto(message: Option<TokenProto>) -> Self {
        let message = message.unwrap_or_default();
        Self {
            identifier: message.identifier,
            password: message.password,
            kind: message.kind,
            service: message.service,
        }
    }

    pub(super) fn to_proto(&self) -> TokenProto {
        TokenProto {
            identifier: self.identifier.clone(),
            password: self.password.clone(),
            kind: self.kind.clone(),
            service: self.service.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_ipv6_have_brackets_on_the_wire_and_none_within() {
        let peer = Peer { ip: "::1".into(), data_port: 9_866, ..Peer::default() };
        assert_eq!(peer.name(), "[::1]:9866");
        let sent = peer.to_proto();
        assert_eq!(sent.id.ip_addr, "[::1]");
        let back = Peer::from_proto(sent).unwrap();
        assert_eq!((&back, back.address()), (&peer, "[::1]:9866".parse().ok()));
        assert_eq!((bracketed("10.0.0.1"), bracketed("node-7")), ("10.0.0.1".into(), "node-7".into()));
    }
}
