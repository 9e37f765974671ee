//! Checksums of whole files, as Hadoop computes them.

use std::fmt;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use md5::{Digest, Md5};
use steadfs_common::{ChecksumKind, ChecksumSpec, FsError, FsErrorKind, FsPath, FsResult};
use steadfs_wire::transfer::{BlockChecksum, BlockChecksumKind, BlockChecksumReply, Op, Token};

use super::locations::Locations;
use crate::BlockLocation;
use crate::client::Inner;
use crate::data::{DataConnection, DataError, block_ref};

/// Blocks that are asked for their checksums at the same time.
const PARALLEL: usize = 8;
/// First capacity of the buffer that Hadoop gathers block checksums in.
const FIRST_CAPACITY: usize = 32;

/// The checksum of a file: the MD5 of its blocks' MD5s of their chunks' checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileChecksum {
    /// The checksums of the chunks; none for an empty file.
    pub chunks: Option<ChecksumSpec>,
    /// Chunks in a full block, where there are several blocks.
    pub chunks_per_block: u64,
    /// The MD5.
    pub md5: [u8; 16],
}

impl FileChecksum {
    /// Hadoop's name of the algorithm, such as `MD5-of-0MD5-of-512CRC32C`.
    #[must_use]
    pub fn algorithm(&self) -> String {
        let (bytes, kind) =
            self.chunks.map_or((0, ChecksumKind::Crc32), |spec| (spec.bytes_per_checksum, spec.kind));
        format!("MD5-of-{}MD5-of-{bytes}{}", self.chunks_per_block, kind.name())
    }

    /// Hadoop's bytes: those under a checksum, checksums in a block, the MD5.
    #[must_use]
    pub fn bytes(&self) -> [u8; 28] {
        let mut bytes = [0; 28];
        bytes[..4].copy_from_slice(&self.chunks.map_or(0, |spec| spec.bytes_per_checksum).to_be_bytes());
        bytes[4..12].copy_from_slice(&self.chunks_per_block.to_be_bytes());
        bytes[12..].copy_from_slice(&self.md5);
        bytes
    }

    /// The bytes in hexadecimal, as `hadoop fs -checksum` prints them.
    #[must_use]
    pub fn hex(&self) -> String {
        self.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for FileChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}", self.algorithm(), self.hex())
    }
}

/// Composes the checksums of a file's blocks, in their order.
fn compose(path: &FsPath, blocks: &[BlockChecksumReply]) -> FsResult<FileChecksum> {
    // Hadoop digests the whole array behind its buffer, which doubles as it grows and is zero where nothing was written.
    let capacity = (blocks.len() * 16).next_power_of_two().max(FIRST_CAPACITY);
    let mut buffer = Vec::with_capacity(capacity);
    for block in blocks {
        buffer.extend_from_slice(&block.checksum);
    }
    buffer.resize(capacity, 0);
    let chunks = blocks.first().map(|block| block.spec);
    if chunks.is_some_and(|spec| spec.kind == ChecksumKind::Null) {
        return Err(FsError::new(
            FsErrorKind::Unsupported,
            format!("{path} was written without checksums, so it has none to compare"),
        ));
    }
    if blocks.iter().any(|block| Some(block.spec) != chunks) {
        return Err(FsError::new(
            FsErrorKind::Unsupported,
            format!(
                "the blocks of {path} have different kinds of checksums: Hadoop has no checksum for such a file"
            ),
        ));
    }
    let chunks_per_block = if blocks.len() > 1 { blocks[0].crc_per_block } else { 0 };
    Ok(FileChecksum { chunks, chunks_per_block, md5: Md5::digest(&buffer).into() })
}

pub(crate) async fn checksum(inner: Arc<Inner>, path: FsPath) -> FsResult<FileChecksum> {
    let (locations, status) = Locations::open(inner.clone(), path.clone()).await?;
    if locations.under_construction() {
        return Err(FsError::refused(format!(
            "{path} is being written: it has a checksum once it is closed"
        )));
    }
    let mut blocks = Vec::new();
    let mut offset = 0;
    while offset < status.length {
        let block = locations.block_at(offset).await?;
        offset = block.end();
        blocks.push(block);
    }
    let asked = blocks.into_iter().map(|block| of_block(&inner, &path, block));
    let replies: Vec<_> = stream::iter(asked.collect::<Vec<_>>()).buffered(PARALLEL).try_collect().await?;
    compose(&path, &replies)
}

/// The checksum of one block, from the first replica that has it.
async fn of_block(inner: &Inner, path: &FsPath, block: Arc<BlockLocation>) -> FsResult<BlockChecksumReply> {
    let op = Op::Checksum(Box::new(BlockChecksum {
        block: block_ref(&inner.defaults.block_pool, block.block, block.stamp, block.length),
        token: Token::default(),
        kind: BlockChecksumKind::Md5Crc,
    }));
    let mut failure = None;
    for replica in &block.replicas {
        match ask(inner, replica.address, &op).await {
            Ok(reply) => return Ok(reply),
            Err(error) => {
                tracing::warn!(%path, block = %block.block, %replica, %error, "a replica has no checksum");
                failure = Some(error.into_fs(replica));
            }
        }
    }
    Err(FsError::new(
        FsErrorKind::BlockMissing,
        match failure {
            Some(error) => format!("{path}: no replica of {} can be summed: {error}", block.block),
            None => format!("{path}: no datanode has {}", block.block),
        },
    ))
}

async fn ask(inner: &Inner, address: std::net::SocketAddr, op: &Op) -> Result<BlockChecksumReply, DataError> {
    let options = &inner.options;
    let mut connection = DataConnection::open(address, options.connect_timeout, options.data_timeout).await?;
    let reply = connection.ask(op).await?.block_checksum;
    let reply = reply.ok_or_else(|| DataError::protocol("the answer holds no checksum"))?;
    if reply.checksum.len() != 16 {
        return Err(DataError::protocol("the checksum is not an MD5"));
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(byte: u8, spec: ChecksumSpec) -> BlockChecksumReply {
        BlockChecksumReply {
            spec,
            crc_per_block: 2_048,
            checksum: vec![byte; 16].into(),
            kind: BlockChecksumKind::Md5Crc,
        }
    }

    #[test]
    fn an_empty_file_has_hadoops_own_checksum() {
        let sum = compose(&FsPath::root(), &[]).unwrap();
        assert_eq!(sum.algorithm(), "MD5-of-0MD5-of-0CRC32");
        assert_eq!(sum.hex(), "00000000000000000000000070bc8f4b72a86921468bf8e8441dce51");
    }

    #[test]
    fn blocks_are_digested_with_the_buffers_padding() {
        let spec = ChecksumSpec::DEFAULT;
        let one = compose(&FsPath::root(), &[reply(1, spec)]).unwrap();
        assert_eq!(one.algorithm(), "MD5-of-0MD5-of-512CRC32C");
        let padded: Vec<u8> = [vec![1; 16], vec![0; 16]].concat();
        assert_eq!(one.md5, <[u8; 16]>::from(Md5::digest(&padded)));
        let three = compose(&FsPath::root(), &[reply(1, spec), reply(2, spec), reply(3, spec)]).unwrap();
        assert_eq!(three.algorithm(), "MD5-of-2048MD5-of-512CRC32C");
        let padded: Vec<u8> = [vec![1; 16], vec![2; 16], vec![3; 16], vec![0; 16]].concat();
        assert_eq!(three.md5, <[u8; 16]>::from(Md5::digest(&padded)));
        assert!(three.hex().starts_with("000002000000000000000800"));
    }

    #[test]
    fn files_that_hadoop_cannot_sum_are_refused() {
        let null = ChecksumSpec { kind: ChecksumKind::Null, bytes_per_checksum: 512 };
        assert_eq!(compose(&FsPath::root(), &[reply(1, null)]).unwrap_err().kind(), FsErrorKind::Unsupported);
        let other = ChecksumSpec { kind: ChecksumKind::Crc32, bytes_per_checksum: 512 };
        let mixed = [reply(1, ChecksumSpec::DEFAULT), reply(1, other)];
        assert_eq!(compose(&FsPath::root(), &mixed).unwrap_err().kind(), FsErrorKind::Unsupported);
    }
}
