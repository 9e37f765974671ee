//! A frame is its length in four bytes, big-endian and signed, and that many bytes.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of a frame's length.
pub const LENGTH_BYTES: usize = 4;

/// A length that no client means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// Below zero.
    #[error("a frame of {0} bytes")]
    Negative(i32),
    /// Above the limit.
    #[error("a frame of {length} bytes, above the limit of {limit}")]
    TooLong {
        /// What the frame says.
        length: usize,
        /// What the connection may send now.
        limit: usize,
    },
}

/// Takes the first frame off `buffer`, without its length. If the frame is not all there, nothing is taken and the
/// answer is how long the frame will be (none if even that is not there): the caller reads on, and decides how much
/// memory to give to a frame that may never come.
///
/// # Errors
/// The length is negative or above `limit`: nothing after it can be understood.
pub fn take_frame(buffer: &mut BytesMut, limit: usize) -> Result<Result<Bytes, Option<usize>>, FrameError> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(Err(None));
    };
    let length = i32::from_be_bytes(*length);
    let length = usize::try_from(length).map_err(|_| FrameError::Negative(length))?;
    if length > limit {
        return Err(FrameError::TooLong { length, limit });
    }
    if buffer.len() - LENGTH_BYTES < length {
        return Ok(Err(Some(length)));
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Ok(buffer.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_off_one_by_one() {
        let mut buffer = BytesMut::from(&b"\0\0\0\x02ab\0\0\0\0\0\0\0\x03c"[..]);
        assert_eq!(take_frame(&mut buffer, 9), Ok(Ok("ab".into())));
        assert_eq!(take_frame(&mut buffer, 9), Ok(Ok("".into())));
        assert_eq!(take_frame(&mut buffer, 9), Ok(Err(Some(3))));
        buffer.extend_from_slice(b"de\0\0");
        assert_eq!(take_frame(&mut buffer, 9), Ok(Ok("cde".into())));
        assert_eq!(take_frame(&mut buffer, 9), Ok(Err(None)));
    }

    #[test]
    fn lengths_that_lie_are_refused_before_any_memory_is_given() {
        let length = |bytes: &[u8]| take_frame(&mut BytesMut::from(bytes), 16);
        assert_eq!(length(b"\xff\xff\xff\xff"), Err(FrameError::Negative(-1)));
        assert_eq!(length(b"\x80\0\0\0"), Err(FrameError::Negative(i32::MIN)));
        assert_eq!(length(b"\0\0\0\x10"), Ok(Err(Some(16))));
        assert_eq!(length(b"\0\0\0\x11"), Err(FrameError::TooLong { length: 17, limit: 16 }));
        assert_eq!(length(b"\x7f\xff\xff\xff"), Err(FrameError::TooLong { length: 0x7fff_ffff, limit: 16 }));
    }
}
