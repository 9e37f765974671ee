//! What can be wrong with bytes of the data-transfer protocol.

use super::op::VERSION;

/// Why bytes are not what the protocol wants. The connection they came on cannot be used further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Another version, or not this protocol at all.
    #[error("version {0} of the data-transfer protocol; this server speaks {VERSION}")]
    Version(u16),
    /// A client that wants to authenticate or encrypt this connection.
    #[error("the client asks for a SASL handshake on the data-transfer port, which is off on this server")]
    SaslHandshake,
    /// A code that is no operation.
    #[error("unknown operation code {0}")]
    UnknownOp(u8),
    /// A length past its bound.
    #[error("{what} of {length} bytes; the limit is {limit}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// The length it claims.
        length: u64,
        /// The bound.
        limit: u64,
    },
    /// A length that is negative or does not fit the lengths around it.
    #[error("incorrect value for packet payload size: {payload}, with {data} bytes of data")]
    PayloadSize {
        /// The payload length (`PLEN`).
        payload: i32,
        /// The length of the data by the packet's header.
        data: i32,
    },
    /// A length that is not a number of at most 32 bits.
    #[error("the length of a message is not a varint of 32 bits")]
    BadVarint,
    /// A message that does not parse.
    #[error("a malformed {what}: {reason}")]
    Malformed {
        /// Which message.
        what: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// A field that is missing or makes no sense.
    #[error("{what}: field {field} is missing or makes no sense")]
    Field {
        /// Which message.
        what: &'static str,
        /// Which field.
        field: &'static str,
    },
}

impl TransferError {
    pub(crate) fn malformed(what: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Malformed { what, reason: reason.to_string() }
    }
}
