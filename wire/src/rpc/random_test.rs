//! No bytes make the parsers panic, or give them more than there is.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::golden_test::file_info;
use super::*;

/// All that a server does with a connection's bytes.
fn serve(bytes: &[u8]) {
    let Some(preamble) = bytes.first_chunk() else { return };
    let _ = Preamble::parse(*preamble);
    let mut buffer = BytesMut::from(&bytes[PREAMBLE_BYTES..]);
    while let Ok(Ok(frame)) = take_frame(&mut buffer, 1 << 16) {
        everything(frame);
    }
}

fn everything(frame: Bytes) {
    let whole = frame.len();
    if let Ok(request) = Request::parse(frame.clone()) {
        assert!(request.body.len() <= whole);
        everything_of_a_body(request.body);
    }
    everything_of_a_body(frame);
}

fn everything_of_a_body(body: Bytes) {
    let _ = User::parse(body.clone());
    let _ = Invocation::parse(body.clone());
    let _ = SaslSteps::Begun.step(body.clone());
    let _ = SaslSteps::Done.step(body);
}

#[test]
fn every_cut_and_every_flip_of_a_good_connection() {
    let good = file_info();
    for end in 0..good.len() {
        serve(&good[..end]);
    }
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        serve(&bytes);
    }
}

proptest! {
    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        serve(&bytes);
        everything(bytes.into());
    }
}
