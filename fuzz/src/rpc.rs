//! A connection of Hadoop RPC: its first bytes, its frames, their headers, the steps of SASL.

use bytes::BytesMut;
use steadfs_wire::rpc::{
    CALL_CONTEXT, CALL_SASL, Invocation, PREAMBLE_BYTES, Preamble, Request, SaslSteps, User, looks_like_http,
    take_frame,
};

use crate::memory;

/// The longest frame that is taken, as a server has one.
const FRAME_LIMIT: usize = 1 << 20;

/// Does what a server does with a connection's bytes.
pub fn run(bytes: &[u8]) {
    memory::limit_for(bytes.len());
    let Some(first) = bytes.first_chunk::<PREAMBLE_BYTES>() else { return };
    let _ = looks_like_http([first[0], first[1], first[2], first[3]]);
    let _ = Preamble::parse(*first);
    let mut buffer = BytesMut::from(&bytes[PREAMBLE_BYTES..]);
    let mut sasl = SaslSteps::default();
    while let Ok(Ok(frame)) = take_frame(&mut buffer, FRAME_LIMIT) {
        let length = frame.len();
        let Ok(request) = Request::parse(frame) else { continue };
        assert!(request.body.len() <= length);
        match request.id.call_id {
            CALL_CONTEXT => drop(User::parse(request.body)),
            CALL_SASL => drop(sasl.step(request.body)),
            _ => drop(Invocation::parse(request.body)),
        }
    }
}
