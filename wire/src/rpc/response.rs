//! What goes back to a client: appended to a buffer, so that many answers are one write.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use steadfs_common::{FsError, FsErrorKind};
use steadfs_proto::hadoop::RpcResponseHeaderProto;
use steadfs_proto::hadoop::rpc_response_header_proto::{RpcErrorCodeProto, RpcStatusProto};

use super::frame::LENGTH_BYTES;
use super::preamble::RPC_VERSION;
use super::request::Fatal;

/// The longest frame that a stock client takes (`ipc.maximum.response.length`).
pub const MAX_RESPONSE_BYTES: usize = 128 << 20;

const VERSION_MISMATCH: &str = "org.apache.hadoop.ipc.RPC$VersionMismatch";
/// The call id of a failure that no call is to blame for.
const CALL_INVALID: i32 = -1;

/// What an answer repeats of its request, so that the client knows which call it is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallId {
    /// The call's number at the client; below zero outside normal calls.
    pub call_id: i32,
    /// The client's id: 16 bytes or none.
    pub client_id: Bytes,
    /// How often the call was sent before; -1 outside normal calls.
    pub retry_count: i32,
}

impl CallId {
    /// For a failure that no call is to blame for.
    #[must_use]
    pub const fn none() -> Self {
        Self { call_id: CALL_INVALID, client_id: Bytes::new(), retry_count: -1 }
    }

    fn header(&self, status: RpcStatusProto) -> RpcResponseHeaderProto {
        RpcResponseHeaderProto {
            // Java reads a uint32 into an int: a negative id comes back as what its bits say.
            call_id: self.call_id.cast_unsigned(),
            status: status as i32,
            server_ipc_version_num: Some(u32::from(RPC_VERSION)),
            client_id: Some(self.client_id.clone()),
            retry_count: Some(self.retry_count),
            ..Default::default()
        }
    }
}

/// Appends a successful answer: `message` is encoded already.
pub fn append_success(out: &mut BytesMut, id: &CallId, message: &[u8]) {
    let header = id.header(RpcStatusProto::Success);
    let length = delimited_len(header.encoded_len()) + delimited_len(message.len());
    if length > MAX_RESPONSE_BYTES {
        let error = format!("The answer has {} bytes: more than clients take", message.len());
        return append_failure(
            out,
            id,
            RpcStatusProto::Error,
            RpcErrorCodeProto::ErrorSerializingResponse,
            "java.io.IOException",
            &error,
        );
    }
    begin(out, length, &header);
    encode_varint(message.len() as u64, out);
    out.put_slice(message);
}

/// Appends a successful answer.
pub fn append_message(out: &mut BytesMut, id: &CallId, message: &impl Message) {
    append_success(out, id, &message.encode_to_vec());
}

/// Appends the failure of one call; the connection goes on.
pub fn append_error(out: &mut BytesMut, id: &CallId, error: &FsError) {
    let code = match error.kind() {
        FsErrorKind::NoSuchMethod => RpcErrorCodeProto::ErrorNoSuchMethod,
        FsErrorKind::NoSuchProtocol => RpcErrorCodeProto::ErrorNoSuchProtocol,
        FsErrorKind::InvalidRequest => RpcErrorCodeProto::ErrorRpcServer,
        _ => RpcErrorCodeProto::ErrorApplication,
    };
    append_failure(out, id, RpcStatusProto::Error, code, error.kind().hadoop_class(), error.message());
}

/// Appends a failure of the connection, after which the server closes it.
pub fn append_fatal(out: &mut BytesMut, id: &CallId, fatal: &Fatal) {
    append_failure(out, id, RpcStatusProto::Fatal, fatal.code, fatal.class, &fatal.message);
}

/// What a client of another version can read: it changed with version 3 and with version 9.
pub fn bad_version(out: &mut BytesMut, version: u8) {
    let message =
        format!("Server IPC version {RPC_VERSION} cannot communicate with client version {version}");
    match version {
        9.. => append_fatal(
            out,
            &CallId::none(),
            &Fatal { code: RpcErrorCodeProto::FatalVersionMismatch, class: VERSION_MISMATCH, message },
        ),
        3..=8 => {
            out.put_i32(CALL_INVALID);
            out.put_i32(-1);
            put_text(out, VERSION_MISMATCH);
            put_text(out, &message);
        }
        _ => {}
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u32(u32::try_from(text.len()).expect("our own short sentence"));
    out.put_slice(text.as_bytes());
}

fn append_failure(
    out: &mut BytesMut,
    id: &CallId,
    status: RpcStatusProto,
    code: RpcErrorCodeProto,
    class: &str,
    message: &str,
) {
    let mut header = id.header(status);
    header.exception_class_name = Some(class.to_owned());
    header.error_msg = Some(message.to_owned());
    header.error_detail = Some(code as i32);
    begin(out, delimited_len(header.encoded_len()), &header);
}

fn delimited_len(message: usize) -> usize {
    encoded_len_varint(message as u64) + message
}

/// A frame's length and header; the caller appends what is left of `length`.
fn begin(out: &mut BytesMut, length: usize, header: &RpcResponseHeaderProto) {
    out.reserve(LENGTH_BYTES + length);
    out.put_u32(u32::try_from(length).expect("below MAX_RESPONSE_BYTES"));
    header.encode_length_delimited(out).expect("BytesMut grows");
}
