//! Where the blocks of one open file are.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use steadfs_common::{BlockId, FsError, FsErrorKind, FsPath, FsResult, InodeId};
use steadfs_proto::steadfs as pb;

use super::visible::visible_length;
use crate::client::{Inner, unnamed};
use crate::types::foreign;
use crate::{BlockLocation, FileStatus};

/// Bytes of the file around an offset whose blocks are asked for at once: ten blocks of the usual size, as in HDFS.
const LOCATE_BYTES: u64 = 10 * (128 << 20);
/// Stands for none in particular: ids begin far above.
const NO_BLOCK: BlockId = BlockId(0);
/// Longest list of replicas that failed a reader before it is begun anew.
const MAX_FAILED: usize = 1_024;

/// The blocks known so far, and the replicas that failed. A file has at most 10,000 blocks, which bounds it.
pub(crate) struct Locations {
    inner: Arc<Inner>,
    path: FsPath,
    inode: InodeId,
    state: Mutex<State>,
}

struct State {
    length: u64,
    under_construction: bool,
    /// By offset in the file.
    blocks: BTreeMap<u64, Arc<BlockLocation>>,
    /// Block and datanode.
    failed: HashSet<(BlockId, String)>,
}

impl Locations {
    /// Opens `path`: its status, and where its first blocks are.
    pub(crate) async fn open(inner: Arc<Inner>, path: FsPath) -> FsResult<(Self, FileStatus)> {
        let request = pb::OpenRequest { path: path.to_string(), offset: 0, length: 0 };
        let answer = inner.calls.namespace(request, |mut c, r| async move { c.open(r).await }).await?;
        let mut status = FileStatus::from_proto(unnamed(answer.status)?, &path)?;
        if status.directory {
            return Err(FsError::not_a_file(&path));
        }
        let state =
            State { length: 0, under_construction: false, blocks: BTreeMap::new(), failed: HashSet::new() };
        let locations = Self { inner, path, inode: status.inode, state: Mutex::new(state) };
        locations.take(answer.blocks.unwrap_or_default()).await?;
        status.length = locations.length();
        Ok((locations, status))
    }

    /// Bytes that can be read, as known now.
    pub(crate) fn length(&self) -> u64 {
        self.state.lock().length
    }

    /// Whether somebody was writing the file when it was looked at last.
    pub(crate) fn under_construction(&self) -> bool {
        self.state.lock().under_construction
    }

    /// The block that holds byte `offset`, which is before the length.
    pub(crate) async fn block_at(&self, offset: u64) -> FsResult<Arc<BlockLocation>> {
        if let Some(block) = self.known(offset) {
            return Ok(block);
        }
        self.fetch(offset).await?;
        self.known(offset).ok_or_else(|| {
            FsError::new(
                FsErrorKind::BlockMissing,
                format!("{}: the namenode names no block for byte {offset}", self.path),
            )
        })
    }

    fn known(&self, offset: u64) -> Option<Arc<BlockLocation>> {
        let state = self.state.lock();
        let (_, block) = state.blocks.range(..=offset).next_back()?;
        (offset < block.end()).then(|| block.clone())
    }

    /// Asks the namenode where the blocks from `offset` on are, even if that is known.
    pub(crate) async fn fetch(&self, offset: u64) -> FsResult<()> {
        let request = pb::GetBlocksRequest {
            path: self.path.to_string(),
            inode: self.inode.0,
            offset,
            length: LOCATE_BYTES,
        };
        let answer =
            self.inner.calls.namespace(request, |mut c, r| async move { c.get_blocks(r).await }).await?;
        self.take(answer.blocks.ok_or_else(|| foreign("blocks"))?).await
    }

    async fn take(&self, answer: pb::FileBlocks) -> FsResult<()> {
        let mut blocks =
            answer.blocks.into_iter().map(BlockLocation::from_proto).collect::<FsResult<Vec<_>>>()?;
        let mut length = answer.length;
        let last = answer.last.map(BlockLocation::from_proto).transpose()?;
        if let Some(mut last) = last.filter(|_| !answer.last_complete) {
            blocks.retain(|block| block.offset < last.offset);
            last.length = visible_length(&self.inner, &last).await?;
            length = last.end();
            blocks.push(last);
        }
        let mut state = self.state.lock();
        // Bytes of two contents are never mixed: a block keeps its id for as long as its content is the file's.
        let is_other = |block: &BlockLocation| {
            state.blocks.get(&block.offset).is_some_and(|known| known.block != block.block)
        };
        if blocks.iter().any(is_other) {
            return Err(FsError::new(
                FsErrorKind::ContentChanged,
                format!(
                    "Blocklist for {} has changed: it has another content than when it was opened",
                    self.path
                ),
            ));
        }
        state.length = length;
        state.under_construction = answer.under_construction;
        for block in blocks.into_iter().filter(|block| block.length > 0) {
            state.blocks.insert(block.offset, Arc::new(block));
        }
        Ok(())
    }

    /// Remembers that `datanode` did not give `block`.
    pub(crate) fn note_failed(&self, block: BlockId, datanode: &str) {
        let mut state = self.state.lock();
        if state.failed.len() >= MAX_FAILED {
            state.failed.clear();
        }
        state.failed.insert((block, datanode.to_owned()));
    }

    /// Remembers that others were quicker than `datanode`: they are tried before it.
    pub(crate) fn note_slow(&self, datanode: &str) {
        self.note_failed(NO_BLOCK, datanode);
    }

    /// Whether `datanode` failed to give `block`.
    pub(crate) fn has_failed(&self, block: BlockId, datanode: &str) -> bool {
        self.state.lock().failed.contains(&(block, datanode.to_owned()))
    }

    /// Whether `datanode` failed to give any block: others are tried before it.
    pub(crate) fn is_doubtful(&self, datanode: &str) -> bool {
        self.state.lock().failed.iter().any(|(_, failed)| failed == datanode)
    }

    /// Gives all replicas of `block` another chance.
    pub(crate) fn forgive(&self, block: BlockId) {
        self.state.lock().failed.retain(|(failed, _)| *failed != block);
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn path(&self) -> &FsPath {
        &self.path
    }
}
