//! Data transfer: operations, packets, acks, answers. The first byte says which; the rest is as if it had come in two
//! pieces.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use steadfs_common::ChecksumSpec;
use steadfs_wire::transfer::{
    Op, OpResponse, Packet, PipelineAck, TransferError, decode_client_read_status, decode_op, decode_packet,
};

use crate::memory;

/// Reads messages until the bytes end or are none.
pub fn run(bytes: &[u8]) {
    memory::limit_for(bytes.len());
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 5 {
        0 => all(rest, decode_op, |op: &Op| Some(op.encode())),
        1 => all(rest, decode_packet, |packet| {
            verify(packet);
            None
        }),
        2 => all(rest, PipelineAck::decode, |ack| {
            let mut out = BytesMut::new();
            ack.encode(&mut out);
            Some(out.freeze())
        }),
        3 => all(rest, OpResponse::decode, |response| Some(response.to_bytes())),
        _ => all(rest, decode_client_read_status, |_| None),
    }
}

/// Takes message after message; what is written again must read the same.
fn all<M: Debug + PartialEq>(
    bytes: &[u8],
    decode: impl Fn(&mut BytesMut) -> Result<Option<M>, TransferError>,
    again: impl Fn(&M) -> Option<Bytes>,
) {
    let middle = bytes.len() / 2;
    let mut buffer = BytesMut::from(&bytes[..middle]);
    let mut more = Some(&bytes[middle..]);
    loop {
        let before = buffer.len();
        match decode(&mut buffer) {
            Ok(Some(message)) => {
                assert!(buffer.len() < before, "a message of no bytes");
                if let Some(written) = again(&message) {
                    let read =
                        decode(&mut BytesMut::from(&written[..])).expect("what was written can be read");
                    assert_eq!(read, Some(message));
                }
            }
            Ok(None) => {
                assert_eq!(buffer.len(), before, "bytes were taken of a message that is not all there");
                let Some(rest) = more.take() else { return };
                buffer.extend_from_slice(rest);
            }
            Err(_) => return,
        }
    }
}

fn verify(packet: &Packet) {
    for kind in [1, 2] {
        for chunk in [1, 512] {
            if let Some(spec) = ChecksumSpec::new(kind, chunk) {
                let _ = packet.verify(spec);
            }
        }
    }
    let _ = (packet.data(), packet.checksums());
}
