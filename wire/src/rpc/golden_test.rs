//! Bytes that real clients of Hadoop 3.4.1 sent, and answers that they took.

use bytes::{Bytes, BytesMut};
use steadfs_common::limits::MAX_RPC_FRAME_BYTES;
use steadfs_common::{FsError, FsErrorKind};
use steadfs_proto::hadoop::rpc_response_header_proto::{RpcErrorCodeProto, RpcStatusProto};
use steadfs_proto::hadoop::{
    GetFileInfoRequestProto, GetFileInfoResponseProto, RpcResponseHeaderProto, decode,
};

use super::*;

const ID: &[u8; 16] = b"0123456789abcdef";
const PROTOCOL: &str = "org.apache.hadoop.hdfs.protocol.ClientProtocol";

/// FsShell's first 210 bytes: preamble, context of alice, `getFileInfo("/x")`.
pub(super) fn file_info() -> Vec<u8> {
    let mut bytes = b"hrpc\x09\x00\x00\x00\x00\x00\x5c".to_vec();
    bytes.extend(b"\x21\x08\x02\x10\x00\x18\x05\x22\x10");
    bytes.extend(ID);
    bytes.extend(b"\x28\x01\x3a\x05\x0a\x03CLI\x39\x12\x07\x0a\x05alice\x1a\x2e");
    bytes.extend(PROTOCOL.as_bytes());
    bytes.extend(b"\x00\x00\x00\x67\x21\x08\x02\x10\x00\x18\x00\x22\x10");
    bytes.extend(ID);
    bytes.extend(b"\x28\x00\x3a\x05\x0a\x03CLI\x3f\x0a\x0bgetFileInfo\x12\x2e");
    bytes.extend(PROTOCOL.as_bytes());
    bytes.extend(b"\x18\x01\x04\x0a\x02/x");
    assert_eq!(bytes.len(), 7 + 96 + 107);
    bytes
}

fn frames(bytes: &[u8]) -> Vec<Bytes> {
    let mut buffer = BytesMut::from(bytes);
    let mut frames = Vec::new();
    while let Ok(frame) = take_frame(&mut buffer, MAX_RPC_FRAME_BYTES).unwrap() {
        frames.push(frame);
    }
    assert!(buffer.is_empty());
    frames
}

#[test]
fn the_shells_first_bytes_are_read() {
    let bytes = file_info();
    let preamble = Preamble::parse(*bytes.first_chunk().unwrap()).unwrap();
    assert_eq!(preamble, Preamble { service_class: 0, auth: Auth::Simple });
    let frames = frames(&bytes[PREAMBLE_BYTES..]);
    assert_eq!(frames.len(), 2);

    let context = Request::parse(frames[0].clone()).unwrap();
    assert_eq!((context.id.call_id, context.id.retry_count), (CALL_CONTEXT, -1));
    assert_eq!(User::parse(context.body).unwrap(), User { effective: "alice".into(), real: None });

    let call = Request::parse(frames[1].clone()).unwrap();
    assert_eq!(call.id, CallId { call_id: 0, client_id: Bytes::from_static(ID), retry_count: 0 });
    assert_eq!(call.caller_context.as_deref(), Some("CLI"));
    let call = Invocation::parse(call.body).unwrap();
    assert_eq!((&*call.method, &*call.protocol, call.version), ("getFileInfo", PROTOCOL, 1));
    assert_eq!(decode::<GetFileInfoRequestProto>(call.request).unwrap().src, "/x");
}

#[test]
fn no_such_file_is_answered_as_the_client_took_it() {
    let id = CallId { call_id: 0, client_id: Bytes::from_static(ID), retry_count: 0 };
    let mut out = BytesMut::new();
    append_message(&mut out, &id, &GetFileInfoResponseProto { fs: None });
    let mut wanted = b"\x00\x00\x00\x1c\x1a\x08\x00\x10\x00\x18\x09\x3a\x10".to_vec();
    wanted.extend(ID);
    wanted.extend(b"\x40\x00\x00");
    assert_eq!(out, wanted);
}

#[test]
fn a_client_with_tokens_is_let_in() {
    let preamble = Preamble::parse(*b"hrpc\x09\x00\xdf").unwrap();
    assert_eq!(preamble.auth, Auth::Sasl);
    let hello = b"\0\0\0\x0e\x0a\x08\x02\x10\x00\x18\x41\x22\x00\x28\x01\x02\x10\x01";
    let request = Request::parse(frames(hello).remove(0)).unwrap();
    assert_eq!(request.id, CallId { call_id: CALL_SASL, client_id: Bytes::new(), retry_count: -1 });
    let mut steps = SaslSteps::default();
    let SaslStep::Answer(answer) = steps.step(request.body.clone()).unwrap() else { panic!("silent") };
    let mut out = BytesMut::new();
    append_success(&mut out, &request.id, &answer);
    assert_eq!(out[5..13], *b"\x08\xdf\xff\xff\xff\x0f\x10\x00");
    assert_eq!(out[out.len() - 3..], *b"\x02\x10\x00");
    assert!(steps.is_done());
    assert_eq!(steps.step(request.body).unwrap_err().code, RpcErrorCodeProto::FatalUnauthorized);
}

fn header(out: &[u8]) -> RpcResponseHeaderProto {
    let mut frame = frames(out).remove(0);
    let header = super::request::take_delimited(&mut frame).unwrap();
    assert!(frame.is_empty(), "nothing may follow the header of a failure");
    decode(header).unwrap()
}

#[test]
fn failures_name_the_exception() {
    let id = CallId { call_id: 7, client_id: Bytes::from_static(ID), retry_count: 1 };
    for (kind, code) in [
        (FsErrorKind::NotFound, RpcErrorCodeProto::ErrorApplication),
        (FsErrorKind::NoSuchMethod, RpcErrorCodeProto::ErrorNoSuchMethod),
        (FsErrorKind::NoSuchProtocol, RpcErrorCodeProto::ErrorNoSuchProtocol),
    ] {
        let mut out = BytesMut::new();
        append_error(&mut out, &id, &FsError::new(kind, "sentence"));
        let header = header(&out);
        assert_eq!((header.call_id, header.retry_count), (7, Some(1)));
        assert_eq!(header.status, RpcStatusProto::Error as i32);
        assert_eq!(header.exception_class_name.as_deref(), Some(kind.hadoop_class()));
        assert_eq!(header.error_msg.as_deref(), Some("sentence"));
        assert_eq!(header.error_detail, Some(code as i32));
    }
}

#[test]
fn other_versions_are_told_in_their_own_way() {
    assert_eq!(Preamble::parse(*b"hrpc\x08\x00\x00"), Err(PreambleError::Version(8)));
    let mut out = BytesMut::new();
    bad_version(&mut out, 10);
    let header = header(&out);
    assert_eq!(header.status, RpcStatusProto::Fatal as i32);
    assert_eq!(header.error_detail, Some(RpcErrorCodeProto::FatalVersionMismatch as i32));
    assert_eq!(header.call_id.cast_signed(), -1);
    let mut out = BytesMut::new();
    bad_version(&mut out, 8);
    assert_eq!(out[..12], *b"\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x29");
    let mut out = BytesMut::new();
    bad_version(&mut out, 1);
    assert!(out.is_empty());
}

#[test]
fn nobody_is_no_user() {
    assert_eq!(
        User::parse(Bytes::from_static(b"\0")).unwrap_err().code,
        RpcErrorCodeProto::FatalUnauthorized
    );
    let proxy = Bytes::from_static(b"\x0e\x12\x0c\x0a\x05alice\x12\x03bob");
    assert_eq!(User::parse(proxy).unwrap(), User { effective: "alice".into(), real: Some("bob".into()) });
}
