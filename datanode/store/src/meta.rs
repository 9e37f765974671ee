//! The checksum file: Hadoop's format, since stock clients read it through a descriptor.
//!
//! `int16 version = 1 | byte kind | int32 bytes per checksum | a checksum a chunk`, all big-endian.

use steadfs_common::ChecksumSpec;

/// Bytes before the first checksum.
pub(crate) const HEADER_BYTES: u64 = 7;
const VERSION: u16 = 1;

pub(crate) type Header = [u8; HEADER_BYTES as usize];

pub(crate) fn encode(spec: ChecksumSpec) -> Header {
    let mut header = [0; HEADER_BYTES as usize];
    header[..2].copy_from_slice(&VERSION.to_be_bytes());
    header[2] = spec.kind as u8;
    header[3..].copy_from_slice(&spec.bytes_per_checksum.to_be_bytes());
    header
}

/// None if these are not the first bytes of a checksum file that we can read.
pub(crate) fn decode(header: &Header) -> Option<ChecksumSpec> {
    let version = u16::from_be_bytes([header[0], header[1]]);
    let bytes_per_checksum = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
    (version == VERSION).then(|| ChecksumSpec::new(i32::from(header[2]), bytes_per_checksum))?
}

/// Bytes of a checksum file for `len` bytes of data.
pub(crate) fn file_len(spec: ChecksumSpec, len: u64) -> u64 {
    HEADER_BYTES + spec.checksum_bytes(len)
}

#[cfg(test)]
mod tests {
    use steadfs_common::ChecksumKind;

    use super::*;

    #[test]
    fn the_header_is_hadoops() {
        let header = encode(ChecksumSpec::DEFAULT);
        assert_eq!(header, [0, 1, 2, 0, 0, 2, 0]);
        assert_eq!(decode(&header), Some(ChecksumSpec::DEFAULT));
        let null = ChecksumSpec { kind: ChecksumKind::Null, bytes_per_checksum: 512 };
        assert_eq!(file_len(null, 5_000), 7);
        assert_eq!(file_len(ChecksumSpec::DEFAULT, 513), 15);
    }

    #[test]
    fn other_headers_are_refused() {
        assert_eq!(decode(&[0, 2, 2, 0, 0, 2, 0]), None);
        assert_eq!(decode(&[0, 1, 9, 0, 0, 2, 0]), None);
        assert_eq!(decode(&[0, 1, 2, 0, 0, 0, 0]), None);
        assert_eq!(decode(&[0, 1, 2, 0xff, 0, 2, 0]), None);
    }
}
