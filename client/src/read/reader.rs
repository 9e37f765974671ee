//! An open file.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt, TryStreamExt};
use steadfs_common::{FsPath, FsResult};

use super::locations::Locations;
use super::pull::PulledStream;
use super::range::{Part, RangeReader};
use super::stream::FileStream;
use crate::client::Inner;
use crate::{BlockLocation, FileStatus};

/// An open file. Reads at any offset, many at once; cloning is cheap and shares what is known about the blocks.
///
/// Every byte is compared with its checksum. A replica that is damaged or out of reach is left aside for the others (and
/// a damaged one reported); when all have failed, the namenode is asked up to three times where others are.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> steadfs_client::FsResult<()> {
/// # let Ok(url) = std::env::var("STEADFS_URL") else { return Ok(()) };
/// # let client = steadfs_client::Client::connect(&url).await?;
/// client.write("/data/numbers", "0123456789").await?;
/// let reader = client.open("/data/numbers").await?;
/// // Two places at once.
/// let (head, tail) = futures::try_join!(reader.read_at(0, 2), reader.read_at(reader.length() - 2, 2))?;
/// assert_eq!((&head[..], &tail[..]), (&b"01"[..], &b"89"[..]));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Reader {
    locations: Arc<Locations>,
    status: Arc<FileStatus>,
}

impl Reader {
    pub(crate) async fn open(inner: Arc<Inner>, path: FsPath) -> FsResult<Self> {
        let (locations, status) = Locations::open(inner, path).await?;
        Ok(Self { locations: Arc::new(locations), status: Arc::new(status) })
    }

    /// What was known about the file when it was opened.
    #[must_use]
    pub fn status(&self) -> &FileStatus {
        &self.status
    }

    /// Bytes that can be read.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.locations.length()
    }

    /// Looks how far the file can be read now, which grows while somebody writes it.
    ///
    /// # Errors
    /// `NotFound` if it was deleted or replaced; those of any call.
    pub async fn refresh(&self) -> FsResult<u64> {
        self.locations.fetch(self.length().saturating_sub(1)).await?;
        Ok(self.length())
    }

    /// Whether somebody was writing the file when it was looked at last.
    #[must_use]
    pub fn under_construction(&self) -> bool {
        self.locations.under_construction()
    }

    /// The bytes from `offset` on: `len` of them, or fewer at the end of the file. A range over several blocks is
    /// fetched from them in parallel.
    ///
    /// # Errors
    /// `BlockMissing` if no replica of a block can be read, `Checksum` if all are damaged, and those of any call.
    pub async fn read_at(&self, offset: u64, len: usize) -> FsResult<Bytes> {
        let mut pieces = self.read_pieces(offset, len).await?;
        if pieces.len() == 1 {
            return Ok(pieces.remove(0));
        }
        let mut all = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
        pieces.iter().for_each(|piece| all.extend_from_slice(piece));
        Ok(all.freeze())
    }

    /// As [`Reader::read_at`], in the pieces that came, so that nothing is copied.
    ///
    /// # Errors
    /// As [`Reader::read_at`].
    pub async fn read_pieces(&self, offset: u64, len: usize) -> FsResult<Vec<Bytes>> {
        let parts = self.parts(offset..offset.saturating_add(len as u64)).await?;
        if let [(block, part)] = &parts[..] {
            return self.read_part(block.clone(), *part).await;
        }
        let parallel = self.locations.inner().options.parallel_blocks.max(1);
        let reads: Vec<_> = parts.into_iter().map(|(block, part)| self.read_part(block, part)).collect();
        let all: Vec<Vec<Bytes>> = stream::iter(reads).buffered(parallel).try_collect().await?;
        Ok(all.into_iter().flatten().collect())
    }

    /// The file's only block as a file of this machine, if it is complete, has one block, and a datanode here (with its
    /// socket in `folder`) has verified its replica. What is read through it is compared with no checksum any more.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn local_file(
        &self,
        folder: &std::path::Path,
    ) -> FsResult<Option<(BlockLocation, std::fs::File)>> {
        let length = self.length();
        if self.under_construction() || length == 0 {
            return Ok(None);
        }
        let block = self.locations.block_at(0).await?;
        if block.offset != 0 || block.length != length {
            return Ok(None);
        }
        let file = crate::local::descriptor(folder, &block).await;
        Ok(file.map(|file| ((*block).clone(), file)))
    }

    /// A block of the file as a file of this machine, as [`Reader::local_file`] gives that of a file of one block. None also
    /// while somebody writes the file. Whoever asks has the datanode verify the replica, so that later there is one.
    pub async fn local_block(
        &self,
        folder: &std::path::Path,
        block: &BlockLocation,
    ) -> Option<std::fs::File> {
        if self.under_construction() || block.length == 0 {
            return None;
        }
        crate::local::descriptor(folder, block).await
    }

    /// Reads the file from `offset` to its end in order, fetching ahead.
    #[must_use]
    pub fn stream_from(&self, offset: u64) -> FileStream {
        FileStream::new(self.clone(), offset, self.locations.inner().options.read_ahead)
    }

    /// Reads the file from `offset` to its end in order, by the calls of whoever reads it.
    #[must_use]
    pub fn pull_from(&self, offset: u64) -> PulledStream {
        PulledStream::new(self.clone(), offset)
    }

    /// Reads the whole file in order, fetching ahead.
    #[must_use]
    pub fn stream(&self) -> FileStream {
        self.stream_from(0)
    }

    /// The blocks that hold a range of the file, and where their replicas are.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn blocks(&self, range: Range<u64>) -> FsResult<Vec<BlockLocation>> {
        let parts = self.parts(range).await?;
        Ok(parts.into_iter().map(|(block, _)| (*block).clone()).collect())
    }

    async fn parts(&self, range: Range<u64>) -> FsResult<Vec<(Arc<BlockLocation>, Part)>> {
        let end = range.end.min(self.length());
        let mut parts = Vec::new();
        let mut at = range.start;
        while at < end {
            let block = self.locations.block_at(at).await?;
            let part = Part::of(&block, at, end);
            at = part.end;
            parts.push((block, part));
        }
        Ok(parts)
    }

    async fn read_part(&self, block: Arc<BlockLocation>, part: Part) -> FsResult<Vec<Bytes>> {
        let mut range = RangeReader::new(self.locations.clone(), block, part);
        let mut pieces = Vec::new();
        while let Some(bytes) = range.next().await? {
            pieces.push(bytes);
        }
        Ok(pieces)
    }

    /// The reader of the block at `offset`, to its end or the file's; none at the end of the file.
    pub(super) async fn range_from(&self, offset: u64) -> FsResult<Option<RangeReader>> {
        let end = self.length();
        if offset >= end {
            return Ok(None);
        }
        let block = self.locations.block_at(offset).await?;
        let part = Part::of(&block, offset, end);
        Ok(Some(RangeReader::new(self.locations.clone(), block, part)))
    }
}
