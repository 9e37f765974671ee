//! What a frame from a client holds.

use bytes::{Buf, Bytes};
use prost::encoding::decode_varint;
use steadfs_common::limits::MAX_PRINCIPAL_BYTES;
use steadfs_proto::hadoop::rpc_request_header_proto::OperationProto;
use steadfs_proto::hadoop::rpc_response_header_proto::RpcErrorCodeProto;
use steadfs_proto::hadoop::{
    IpcConnectionContextProto, RequestHeaderProto, RpcKindProto, RpcRequestHeaderProto, decode,
};

use super::response::CallId;

/// The call id of the frame that says who the client is.
pub const CALL_CONTEXT: i32 = -3;
/// The call id of a ping, which is not answered.
pub const CALL_PING: i32 = -4;
/// The call id of a step of SASL.
pub const CALL_SASL: i32 = -33;
/// Bytes of a client's id.
pub const CLIENT_ID_BYTES: usize = 16;
/// A caller's context is cut to this many bytes (HDFS: `hadoop.caller.context.max.size`).
pub const MAX_CALLER_CONTEXT_BYTES: usize = 128;
/// A longer signature of a caller's context is left out (HDFS: `hadoop.caller.context.signature.max.size`).
const MAX_CALLER_SIGNATURE_BYTES: usize = 40;

/// Something after which the connection cannot go on. The client is told, and all its calls on this connection fail.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fatal {
    /// The kind of failure, as Hadoop numbers it.
    pub code: RpcErrorCodeProto,
    /// The exception that the client shall see.
    pub class: &'static str,
    /// The sentence.
    pub message: String,
}

impl Fatal {
    /// A header that makes no sense.
    #[must_use]
    pub fn header(message: impl Into<String>) -> Self {
        Self {
            code: RpcErrorCodeProto::FatalInvalidRpcHeader,
            class: "org.apache.hadoop.ipc.RpcServerException",
            message: message.into(),
        }
    }

    /// Bytes that are not the message they should be.
    #[must_use]
    pub fn unreadable(message: impl Into<String>) -> Self {
        Self { code: RpcErrorCodeProto::FatalDeserializingRequest, ..Self::header(message) }
    }

    /// A client that cannot be let in.
    #[must_use]
    pub fn unauthorized(class: &'static str, message: impl Into<String>) -> Self {
        Self { code: RpcErrorCodeProto::FatalUnauthorized, class, message: message.into() }
    }
}

/// A frame's header, and what follows it: shares the frame's memory.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// What an answer repeats.
    pub id: CallId,
    /// What the client says it does, cut to [`MAX_CALLER_CONTEXT_BYTES`]; behind a colon its signature, if it sent one.
    pub caller_context: Option<String>,
    /// The rest of the frame.
    pub body: Bytes,
}

impl Request {
    /// Reads the header of a frame.
    ///
    /// # Errors
    /// The frame cannot be understood, so neither can be what follows it.
    pub fn parse(mut frame: Bytes) -> Result<Self, Fatal> {
        let header = take_delimited(&mut frame).ok_or_else(|| Fatal::header("the RPC header is cut off"))?;
        let header: RpcRequestHeaderProto = decode(header).map_err(|error| Fatal::header(error.message()))?;
        if header.rpc_op != Some(OperationProto::RpcFinalPacket as i32) {
            return Err(Fatal::header(format!("RPC operation {:?} is not known", header.rpc_op)));
        }
        if header.rpc_kind != Some(RpcKindProto::RpcProtocolBuffer as i32) {
            return Err(Fatal::header(format!("RPC kind {:?} is not spoken here", header.rpc_kind)));
        }
        if !matches!(header.client_id.len(), 0 | CLIENT_ID_BYTES) {
            return Err(Fatal::header(format!("a client id of {} bytes", header.client_id.len())));
        }
        let id = CallId {
            call_id: header.call_id,
            client_id: header.client_id,
            retry_count: header.retry_count.unwrap_or(-1),
        };
        let caller_context = header.caller_context.map(|caller| {
            let mut context = cut(caller.context, MAX_CALLER_CONTEXT_BYTES);
            let signature = caller.signature.unwrap_or_default();
            if (1..=MAX_CALLER_SIGNATURE_BYTES).contains(&signature.len()) {
                context.push(':');
                context.push_str(&String::from_utf8_lossy(&signature));
            }
            context
        });
        Ok(Self { id, caller_context, body: frame })
    }
}

/// The body of a normal call.
#[derive(Clone, PartialEq, Debug)]
pub struct Invocation {
    /// The method's name.
    pub method: String,
    /// The protocol's name.
    pub protocol: String,
    /// Always 1 in HDFS.
    pub version: u64,
    /// The encoded request message: shares the frame's memory.
    pub request: Bytes,
}

impl Invocation {
    /// Reads the body of a call.
    ///
    /// # Errors
    /// It is cut off or not what it should be.
    pub fn parse(mut body: Bytes) -> Result<Self, Fatal> {
        let header =
            take_delimited(&mut body).ok_or_else(|| Fatal::unreadable("the request header is cut off"))?;
        let header: RequestHeaderProto =
            decode(header).map_err(|error| Fatal::unreadable(error.message()))?;
        let request = take_delimited(&mut body).ok_or_else(|| Fatal::unreadable("the request is cut off"))?;
        Ok(Self {
            method: header.method_name,
            protocol: header.declaring_class_protocol_name,
            version: header.client_protocol_version,
            request,
        })
    }
}

/// Who the client says it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Who it acts as.
    pub effective: String,
    /// Who it is, if that is another.
    pub real: Option<String>,
}

impl User {
    /// Reads the body of the connection context.
    ///
    /// # Errors
    /// It is cut off, or names nobody.
    pub fn parse(mut body: Bytes) -> Result<Self, Fatal> {
        let context = take_delimited(&mut body)
            .ok_or_else(|| Fatal::unreadable("the connection context is cut off"))?;
        let context: IpcConnectionContextProto =
            decode(context).map_err(|error| Fatal::unreadable(error.message()))?;
        let info = context.user_info.unwrap_or_default();
        let effective = info.effective_user.filter(|user| !user.is_empty()).ok_or_else(|| {
            Fatal::unauthorized(
                "org.apache.hadoop.security.AccessControlException",
                "the connection context names no user",
            )
        })?;
        let real = info.real_user.filter(|user| !user.is_empty() && *user != effective);
        for name in [Some(&effective), real.as_ref()].into_iter().flatten() {
            if name.len() > MAX_PRINCIPAL_BYTES || name.contains(|c: char| c.is_control()) {
                return Err(Fatal::unreadable(format!(
                    "a user name of {} bytes, or with control characters",
                    name.len()
                )));
            }
        }
        Ok(Self { effective, real })
    }
}

/// Takes a message with its length in front. None if it is cut off.
pub(super) fn take_delimited(bytes: &mut Bytes) -> Option<Bytes> {
    let mut rest = bytes.clone();
    let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
    if length > rest.remaining() {
        return None;
    }
    let message = rest.split_to(length);
    *bytes = rest;
    Some(message)
}

fn cut(mut text: String, bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes));
    text
}
