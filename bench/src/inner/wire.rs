//! Frames and packets.

use std::hint::black_box;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use prost::Message;
use steadfs_common::ChecksumSpec;
use steadfs_proto::hadoop::{GetFileInfoRequestProto, RequestHeaderProto, RpcRequestHeaderProto};
use steadfs_wire::rpc::{CallId, Invocation, Request, append_success, take_frame};
use steadfs_wire::transfer::{Packet, PacketHeader, decode_packet};

use super::Run;

const CALLS: i32 = 100;
const PACKETS: usize = 16;
const PACKET_BYTES: usize = 64 << 10;

/// The frame of a `getFileInfo`, with its length.
pub(super) fn frame(call: i32, path: &str) -> Vec<u8> {
    let header = RpcRequestHeaderProto {
        rpc_kind: Some(2),
        rpc_op: Some(0),
        call_id: call,
        client_id: Bytes::from_static(b"0123456789abcdef"),
        retry_count: Some(0),
        ..Default::default()
    };
    let method = RequestHeaderProto {
        method_name: "getFileInfo".into(),
        declaring_class_protocol_name: "org.apache.hadoop.hdfs.protocol.ClientProtocol".into(),
        client_protocol_version: 1,
    };
    let request = GetFileInfoRequestProto { src: path.into() };
    let mut body = header.encode_length_delimited_to_vec();
    body.extend(method.encode_length_delimited_to_vec());
    body.extend(request.encode_length_delimited_to_vec());
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

pub(super) fn parse(_: &Path) -> Run {
    let frames: Vec<u8> =
        (0..CALLS).flat_map(|call| frame(call, &format!("/data/warehouse/file-{call}"))).collect();
    Box::new(move || {
        let mut input = BytesMut::from(&frames[..]);
        let mut calls = 0;
        while let Ok(frame) = take_frame(&mut input, 1 << 20).expect("frames as a client sends them") {
            let request = Request::parse(frame).expect("a header");
            black_box(Invocation::parse(request.body).expect("a call"));
            calls += 1;
        }
        assert_eq!(calls, CALLS);
    })
}

pub(super) fn answer(_: &Path) -> Run {
    let id = CallId { call_id: 7, client_id: Bytes::from_static(b"0123456789abcdef"), retry_count: 0 };
    let message = [7; 100];
    Box::new(move || {
        // As a connection's buffer that has grown.
        let mut out = BytesMut::with_capacity(64 << 10);
        (0..CALLS).for_each(|_| append_success(&mut out, &id, &message));
        black_box(out);
    })
}

fn data() -> Vec<u8> {
    (0..PACKET_BYTES).map(|index| (index / 7 * 31 % 251) as u8).collect()
}

fn header(number: usize) -> PacketHeader {
    PacketHeader {
        offset: (number * PACKET_BYTES) as u64,
        seqno: number as i64,
        last: false,
        data_len: PACKET_BYTES as u32,
        sync: false,
    }
}

pub(super) fn packet_read(_: &Path) -> Run {
    let (spec, data) = (ChecksumSpec::DEFAULT, data());
    let mut sums = Vec::new();
    spec.append_checksums(&data, &mut sums);
    let stream: Vec<u8> = (0..PACKETS)
        .flat_map(|number| Packet::build(header(number), &sums, &data).frame().to_vec())
        .collect();
    Box::new(move || {
        let mut input = BytesMut::from(&stream[..]);
        let mut packets = 0;
        while let Some(packet) = decode_packet(&mut input).expect("packets as a client sends them") {
            packet.verify(spec).expect("checksums that are right");
            packets += 1;
        }
        assert_eq!(packets, PACKETS);
    })
}

pub(super) fn packet_write(_: &Path) -> Run {
    let data = data();
    Box::new(move || {
        for number in 0..PACKETS {
            let mut sums = Vec::with_capacity(PACKET_BYTES / 128);
            ChecksumSpec::DEFAULT.append_checksums(&data, &mut sums);
            black_box(header(number).head(sums.len()));
            black_box(sums);
        }
    })
}
