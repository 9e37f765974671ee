//! The key of the one row of losses that operators accepted: a single zero byte.

use crate::store::codec::{CodecError, Reader};

/// The key's bytes.
#[must_use]
pub const fn encode() -> [u8; 1] {
    [0]
}

/// Checks that these bytes are the key.
///
/// # Errors
/// They are not.
pub fn decode(bytes: &[u8]) -> Result<(), CodecError> {
    if bytes == encode() {
        return Ok(());
    }
    Err(Reader::new("key of table `losses`", bytes).error("it is not the one key there is"))
}
