//! A saved answer's key: the client's 16 bytes, then the call's number, four bytes big-endian with the sign turned
//! around, so that negative numbers sort first.

use steadfs_common::CallKey;

use crate::store::codec::{CodecError, Reader};

const SIGN: u32 = 1 << 31;

/// The key's bytes.
#[must_use]
pub fn encode(key: &CallKey) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&key.client);
    bytes[16..].copy_from_slice(&(key.call as u32 ^ SIGN).to_be_bytes());
    bytes
}

/// Client and call in these bytes.
///
/// # Errors
/// They are not twenty.
pub fn decode(bytes: &[u8]) -> Result<CallKey, CodecError> {
    let mut input = Reader::new("key of table `retry`", bytes);
    let client = input.array()?;
    let call = (u32::from_be_bytes(input.array()?) ^ SIGN) as i32;
    input.end()?;
    Ok(CallKey { client, call })
}
