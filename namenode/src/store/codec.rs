//! Bytes of values: little-endian base-128 varints, length-prefixed texts, and a version in front.

use smallvec::SmallVec;
use steadfs_common::StorageId;
use uuid::Uuid;

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {problem}")]
pub struct CodecError {
    /// What was being read.
    pub what: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Longest text or byte string in a value. Names are at most 255 bytes, principals 1,024.
const MAX_STRING_BYTES: usize = 4_096;
/// Most storages in a list: a block has at most 512 replicas.
const MAX_STORAGES: usize = 4_096;
/// A 64-bit varint takes at most this.
const MAX_VARINT_BYTES: usize = 10;

/// Appends to a buffer.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// A truth value.
    pub fn boolean(&mut self, value: bool) {
        self.byte(u8::from(value));
    }

    /// A number, seven bits a byte, lowest first.
    pub fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes behind their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    /// A text behind its length in bytes.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A number that may be missing.
    pub fn optional(&mut self, value: Option<u64>) {
        self.boolean(value.is_some());
        if let Some(value) = value {
            self.number(value);
        }
    }

    /// Storages, 16 bytes each, behind their count.
    pub fn storages(&mut self, storages: &[StorageId]) {
        self.number(storages.len() as u64);
        for storage in storages {
            self.raw(storage.0.as_bytes());
        }
    }
}

/// Reads what a [`Writer`] wrote. No input makes it panic or allocate more than the input is long.
pub struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which should be a `what`.
    #[must_use]
    pub const fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    /// An error about what is being read.
    #[must_use]
    pub const fn error(&self, problem: &'static str) -> CodecError {
        CodecError { what: self.what, problem }
    }

    /// Whether everything was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Says so if anything is left.
    ///
    /// # Errors
    /// Bytes are left.
    pub const fn end(&self) -> Result<(), CodecError> {
        if self.is_empty() { Ok(()) } else { Err(self.error("bytes are left over")) }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// There are not so many.
    pub fn raw(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or_else(|| self.error("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next bytes, as an array.
    ///
    /// # Errors
    /// There are not so many.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.error("it ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// There is none.
    pub fn byte(&mut self) -> Result<u8, CodecError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A truth value.
    ///
    /// # Errors
    /// It is neither 0 nor 1.
    pub fn boolean(&mut self) -> Result<bool, CodecError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error("a truth value is neither 0 nor 1")),
        }
    }

    /// A number.
    ///
    /// # Errors
    /// It ends too early, is wider than 64 bits, or is not written in its shortest form (so that equal values have
    /// equal bytes).
    pub fn number(&mut self) -> Result<u64, CodecError> {
        let mut value = 0_u64;
        for place in 0..MAX_VARINT_BYTES {
            let byte = self.byte()?;
            if place == MAX_VARINT_BYTES - 1 && byte > 1 {
                return Err(self.error("a number is wider than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                if byte == 0 && place > 0 {
                    return Err(self.error("a number is longer than it need be"));
                }
                return Ok(value);
            }
        }
        Err(self.error("a number is wider than 64 bits"))
    }

    /// A number that fits a narrower type.
    ///
    /// # Errors
    /// It does not, or is not a number.
    pub fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, CodecError> {
        let number = self.number()?;
        T::try_from(number).map_err(|_| self.error("a number is too large for its field"))
    }

    /// Bytes behind their length.
    ///
    /// # Errors
    /// They end too early or are too many.
    pub fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        let length = self.narrow::<usize>()?;
        if length > MAX_STRING_BYTES {
            return Err(self.error("a byte string is too long"));
        }
        self.raw(length)
    }

    /// Bytes of any length behind it.
    ///
    /// # Errors
    /// They end too early.
    pub fn blob(&mut self) -> Result<&'a [u8], CodecError> {
        let length = self.narrow::<usize>()?;
        self.raw(length)
    }

    /// How many items follow, each of at least `least` bytes.
    ///
    /// # Errors
    /// There is no room for so many.
    pub fn count(&mut self, least: usize) -> Result<usize, CodecError> {
        let count = self.narrow::<usize>()?;
        if count > self.rest.len() / least.max(1) {
            return Err(self.error("it promises more than it holds"));
        }
        Ok(count)
    }

    /// A text.
    ///
    /// # Errors
    /// As [`Reader::bytes`], or it is not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, CodecError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.error("a text is not UTF-8"))
    }

    /// A number that may be missing.
    ///
    /// # Errors
    /// As for its parts.
    pub fn optional(&mut self) -> Result<Option<u64>, CodecError> {
        if self.boolean()? { self.number().map(Some) } else { Ok(None) }
    }

    /// Storages.
    ///
    /// # Errors
    /// As for their parts, or they are too many.
    pub fn storages(&mut self) -> Result<SmallVec<[StorageId; 3]>, CodecError> {
        let count = self.narrow::<usize>()?;
        if count > MAX_STORAGES {
            return Err(self.error("too many storages"));
        }
        (0..count).map(|_| Ok(StorageId(Uuid::from_bytes(self.array()?)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_one_form() {
        for bytes in [
            &[0x80][..],
            &[0x80, 0x00],
            &[0xff; 11],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            assert!(Reader::new("number", bytes).number().is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(number: u64, text in "\\PC{0,60}", optional: Option<u64>, flag: bool) {
            let mut out = Writer::new();
            out.number(number);
            out.text(&text);
            out.optional(optional);
            out.boolean(flag);
            let bytes = out.into_bytes();
            let mut input = Reader::new("test", &bytes);
            prop_assert_eq!(input.number().unwrap(), number);
            prop_assert_eq!(input.text().unwrap(), &text);
            prop_assert_eq!(input.optional().unwrap(), optional);
            prop_assert_eq!(input.boolean().unwrap(), flag);
            prop_assert!(input.end().is_ok());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Reader::new("test", &bytes).number();
            let _ = Reader::new("test", &bytes).text().map(str::len);
            let _ = Reader::new("test", &bytes).storages();
        }
    }
}
