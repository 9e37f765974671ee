//! The two checksums of Hadoop, by chunk.

use crate::limits::MAX_BYTES_PER_CHECKSUM;

/// Which checksum covers a chunk. The numbers are Hadoop's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum ChecksumKind {
    /// None at all: Spark writes its streaming checkpoints so.
    Null = 0,
    /// CRC-32 as in zip (polynomial 0x04C11DB7, reflected).
    Crc32 = 1,
    /// CRC-32C, Castagnoli; Hadoop's default.
    Crc32c = 2,
}

impl ChecksumKind {
    /// The kind with Hadoop's number, if there is one.
    #[must_use]
    pub const fn from_number(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::Null),
            1 => Some(Self::Crc32),
            2 => Some(Self::Crc32c),
            _ => None,
        }
    }

    /// Bytes that one checksum takes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Null => 0,
            Self::Crc32 | Self::Crc32c => 4,
        }
    }

    /// The checksum of `data`; 0 for [`ChecksumKind::Null`].
    #[must_use]
    pub fn of(self, data: &[u8]) -> u32 {
        match self {
            Self::Null => 0,
            Self::Crc32 => crc32fast::hash(data),
            Self::Crc32c => crc_fast::crc32_iscsi(data),
        }
    }

    /// What [`ChecksumKind::compose`] needs to know of `bytes` that follow: x to the power of their bits, modulo the
    /// polynomial. Worth keeping when many pieces are equally long.
    #[must_use]
    pub const fn power(self, bytes: u64) -> u32 {
        let polynomial = self.polynomial();
        // The highest bit stands for x to the 0; this is x to the 8.
        let mut square = 0x0080_0000;
        let (mut power, mut rest) = (0x8000_0000, bytes);
        while rest > 0 {
            if rest & 1 == 1 {
                power = multiply(power, square, polynomial);
            }
            square = multiply(square, square, polynomial);
            rest >>= 1;
        }
        power
    }

    /// The checksum of two pieces one after the other, from the checksums of both and the [`ChecksumKind::power`] of the
    /// second one's length (Hadoop: `CrcUtil.compose`).
    #[must_use]
    pub const fn compose(self, first: u32, second: u32, power_of_second: u32) -> u32 {
        multiply(first, power_of_second, self.polynomial()) ^ second
    }

    /// The generator polynomial, reflected; 0 for [`ChecksumKind::Null`], which makes all compositions 0.
    const fn polynomial(self) -> u32 {
        match self {
            Self::Null => 0,
            Self::Crc32 => 0xEDB8_8320,
            Self::Crc32c => 0x82F6_3B78,
        }
    }

    /// As Hadoop spells it in the names of file checksums.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
        }
    }
}

/// The product of two polynomials over GF(2) modulo a third, all reflected.
const fn multiply(left: u32, mut right: u32, polynomial: u32) -> u32 {
    let (mut product, mut bit) = (0, 0x8000_0000_u32);
    while bit > 0 {
        if left & bit != 0 {
            product ^= right;
        }
        right = (right >> 1) ^ if right & 1 == 1 { polynomial } else { 0 };
        bit >>= 1;
    }
    product
}

/// A kind and how many bytes one checksum covers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ChecksumSpec {
    /// The kind.
    pub kind: ChecksumKind,
    /// Bytes of data under one checksum; between 1 and [`MAX_BYTES_PER_CHECKSUM`].
    pub bytes_per_checksum: u32,
}

impl ChecksumSpec {
    /// What we write when nobody asks for something else: CRC32C over 512 bytes.
    pub const DEFAULT: Self = Self { kind: ChecksumKind::Crc32c, bytes_per_checksum: 512 };

    /// Checks numbers that came over a wire or from a file.
    #[must_use]
    pub fn new(kind: i32, bytes_per_checksum: u32) -> Option<Self> {
        let kind = ChecksumKind::from_number(kind)?;
        (1..=MAX_BYTES_PER_CHECKSUM)
            .contains(&bytes_per_checksum)
            .then_some(Self { kind, bytes_per_checksum })
    }

    /// Chunks that `bytes` of data make, the last perhaps a short one.
    #[must_use]
    pub const fn chunks(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.bytes_per_checksum as u64)
    }

    /// Bytes of checksums for `bytes` of data.
    #[must_use]
    pub const fn checksum_bytes(self, bytes: u64) -> u64 {
        self.chunks(bytes) * self.kind.size() as u64
    }

    /// Appends the checksum of every chunk of `data`, which begins at a chunk's start. Big-endian, as on the wire and on disk.
    pub fn append_checksums(self, data: &[u8], out: &mut Vec<u8>) {
        if self.kind == ChecksumKind::Null {
            return;
        }
        out.reserve(self.checksum_bytes(data.len() as u64) as usize);
        for chunk in data.chunks(self.bytes_per_checksum as usize) {
            out.extend_from_slice(&self.kind.of(chunk).to_be_bytes());
        }
    }

    /// Compares `checksums` with `data`, which begins at a chunk's start. Gives the offset in `data` of the first
    /// chunk that does not match; a count of checksums that is not right fails at 0.
    ///
    /// # Errors
    /// The offset in bytes of the first bad chunk.
    pub fn verify(self, data: &[u8], checksums: &[u8]) -> Result<(), usize> {
        if checksums.len() as u64 != self.checksum_bytes(data.len() as u64) {
            return Err(0);
        }
        if self.kind == ChecksumKind::Null {
            return Ok(());
        }
        let size = self.bytes_per_checksum as usize;
        for (index, (chunk, sum)) in data.chunks(size).zip(checksums.chunks_exact(4)).enumerate() {
            if self.kind.of(chunk).to_be_bytes() != sum {
                return Err(index * size);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_check_values() {
        assert_eq!(ChecksumKind::Crc32.of(b"123456789"), 0xCBF4_3926);
        assert_eq!(ChecksumKind::Crc32c.of(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn a_flipped_bit_is_found_where_it_is() {
        let spec = ChecksumSpec::DEFAULT;
        let mut data = vec![7_u8; 1_300];
        let mut sums = Vec::new();
        spec.append_checksums(&data, &mut sums);
        assert_eq!(sums.len(), 12);
        assert_eq!(spec.verify(&data, &sums), Ok(()));
        data[1_299] ^= 1;
        assert_eq!(spec.verify(&data, &sums), Err(1_024));
        assert_eq!(spec.verify(&data, &sums[..8]), Err(0));
    }

    #[test]
    fn checksums_of_pieces_make_that_of_the_whole() {
        let data: Vec<u8> = (0..2_000_u32).map(|index| (index * 31 % 251) as u8).collect();
        for kind in [ChecksumKind::Crc32, ChecksumKind::Crc32c] {
            for cut in [0, 1, 511, 512, 1_999, 2_000] {
                let (first, second) = data.split_at(cut);
                let power = kind.power(second.len() as u64);
                assert_eq!(
                    kind.compose(kind.of(first), kind.of(second), power),
                    kind.of(&data),
                    "{kind:?} {cut}"
                );
            }
        }
    }

    #[test]
    fn numbers_from_outside_are_checked() {
        assert!(ChecksumSpec::new(2, 0).is_none());
        assert!(ChecksumSpec::new(2, 1 << 31).is_none());
        assert!(ChecksumSpec::new(3, 512).is_none());
        assert_eq!(ChecksumSpec::new(2, 512), Some(ChecksumSpec::DEFAULT));
    }
}
