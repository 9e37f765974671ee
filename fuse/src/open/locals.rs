//! Blocks that lie on this machine, read from their files.
//!
//! A datanode hands out the descriptor of a replica once it has compared all of it with its checksums. The kernel itself reads
//! through that of a file of one block; of others it is read here, block by block. Until there is one, and wherever there is
//! none, bytes come through the network as for any client.
//!
//! Verifying a replica reads all of it. So it is asked for where much of it is wanted: for who reads in order, the block at
//! hand and the next one; for others, once they have read a good part of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::ReadWriteFlags;
use steadfs_client::{BlockLocation, FsResult, Reader};
use steadfs_daemon::pool::DiskPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::recycled::Recycled;

/// Threads that read, and reads that wait for them.
const THREADS: usize = 4;
const QUEUE: usize = 256;
/// With so many reads under way the next one goes through the network.
const BUSY: usize = 4 * THREADS;
/// Descriptors of a mount, and of one open file.
const MAX_DESCRIPTORS: usize = 512;
const MAX_OF_FILE: usize = 32;
/// Questions to datanodes at one time; what would be asked beyond them is asked by a later read.
const MAX_QUESTIONS: usize = 8;
/// Between two questions about one block: first and longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Who reads here and there has read one part in so many of a block before all of it is verified for that.
const PART: u64 = 8;
/// A disk that does not answer for so long is not asked for this block any more.
const LIMIT: Duration = Duration::from_secs(5);

/// What all open files of a mount share.
#[derive(Clone)]
pub(crate) struct Locals {
    folder: Arc<PathBuf>,
    pool: DiskPool,
    memory: Recycled,
    descriptors: Arc<Semaphore>,
    questions: Arc<Semaphore>,
}

impl Locals {
    /// `folder`: where datanodes of this machine open their doors.
    ///
    /// # Errors
    /// There are no threads to be had.
    pub(crate) fn new(folder: PathBuf) -> io::Result<Self> {
        Ok(Self {
            folder: Arc::new(folder),
            pool: DiskPool::new("mount-local", THREADS, QUEUE)?,
            memory: Recycled::default(),
            descriptors: Arc::new(Semaphore::new(MAX_DESCRIPTORS)),
            questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
        })
    }
}

/// The blocks of one open file.
#[derive(Clone)]
pub(super) struct LocalBlocks {
    locals: Locals,
    /// By offset in the file.
    blocks: Arc<Mutex<BTreeMap<u64, Block>>>,
}

struct Block {
    /// Which it is: what was cut and written on has another stamp.
    version: Version,
    state: State,
    /// Bytes of it that came through the network.
    read: u64,
    /// How long to wait after a question that gave nothing.
    wait: Duration,
    used: Instant,
}

enum State {
    /// A question is under way.
    Asked,
    /// It is asked for from then on.
    From(Instant),
    Here(Arc<Local>),
}

/// Block, stamp and length.
type Version = (u64, u64, u64);

fn version(block: &BlockLocation) -> Version {
    (block.block.0, block.stamp.0, block.length)
}

/// A verified replica of a block.
struct Local {
    file: File,
    _place: OwnedSemaphorePermit,
}

/// What of a block is wanted.
pub(super) struct Part {
    block: BlockLocation,
    local: Option<Arc<Local>>,
    /// Which bytes of the file.
    pub(super) range: Range<u64>,
}

impl Part {
    /// Whether a verified replica lies on this machine.
    pub(super) fn is_here(&self) -> bool {
        self.local.is_some()
    }
}

impl LocalBlocks {
    pub(super) fn new(locals: &Locals) -> Self {
        Self { locals: locals.clone(), blocks: Arc::default() }
    }

    /// Which replica here has what part of `range`, which ends where the file does at the latest; none if everything must come
    /// through the network. `in_order`: what follows will be wanted too.
    pub(super) async fn parts(
        &self,
        reader: &Reader,
        range: &Range<u64>,
        in_order: bool,
    ) -> FsResult<Option<Vec<Part>>> {
        if reader.under_construction() {
            return Ok(None);
        }
        let blocks = reader.blocks(range.clone()).await?;
        if in_order && let Some(last) = blocks.last() {
            self.ask_next(reader, last);
        }
        let parts = blocks.into_iter().map(|block| {
            let range = range.start.max(block.offset)..range.end.min(block.end());
            let local = self.here(reader, &block, range.end - range.start, in_order);
            Part { block, local, range }
        });
        let parts: Vec<_> = parts.collect();
        Ok(parts.iter().any(Part::is_here).then_some(parts))
    }

    /// The bytes of a part from its replica here; none if they must come through the network after all.
    pub(super) async fn read(&self, part: &Part) -> Option<Bytes> {
        let local = part.local.clone()?;
        self.read_local(&part.block, local, &part.range).await
    }

    /// The replica of a block, if there is one here; else it is asked for, if that is worth it.
    fn here(
        &self,
        reader: &Reader,
        block: &BlockLocation,
        wanted: u64,
        in_order: bool,
    ) -> Option<Arc<Local>> {
        let now = Instant::now();
        let mut blocks = self.blocks.lock();
        let known = blocks.entry(block.offset).or_insert_with(|| Block::new(block, now));
        if known.version != version(block) {
            *known = Block::new(block, now);
        }
        known.used = now;
        match &known.state {
            State::Here(local) => return Some(local.clone()),
            State::Asked => {}
            State::From(time) => {
                let asks = *time <= now && (in_order || known.read >= block.length / PART);
                known.read = known.read.saturating_add(wanted);
                if asks {
                    self.ask(known, reader, block.clone());
                }
            }
        }
        None
    }

    /// Asks for the block behind one, so that it is verified when it is wanted.
    fn ask_next(&self, reader: &Reader, last: &BlockLocation) {
        let next = last.end();
        if next >= reader.length() || self.blocks.lock().contains_key(&next) {
            return;
        }
        let (this, reader) = (self.clone(), reader.clone());
        tokio::spawn(async move {
            if let Ok(found) = reader.blocks(next..next + 1).await {
                found.iter().for_each(|block| drop(this.here(&reader, block, 0, true)));
            }
        });
    }

    fn ask(&self, known: &mut Block, reader: &Reader, block: BlockLocation) {
        let Ok(place) = self.locals.questions.clone().try_acquire_owned() else { return };
        known.state = State::Asked;
        let (this, reader) = (self.clone(), reader.clone());
        tokio::spawn(async move { this.question(&reader, &block, place).await });
    }

    async fn question(&self, reader: &Reader, block: &BlockLocation, _place: OwnedSemaphorePermit) {
        let file = reader.local_block(&self.locals.folder, block).await;
        let local = file.and_then(|file| {
            let place = self.locals.descriptors.clone().try_acquire_owned().ok()?;
            Some(Arc::new(Local { file, _place: place }))
        });
        let mut blocks = self.blocks.lock();
        if local.is_some() {
            make_room(&mut blocks);
        }
        let known = blocks.get_mut(&block.offset).filter(|known| known.version == version(block));
        let Some(known) = known else { return };
        known.state = match local {
            Some(local) => {
                known.wait = AGAIN.0;
                State::Here(local)
            }
            None => {
                let from = Instant::now() + known.wait;
                known.wait = (known.wait * 2).min(AGAIN.1);
                State::From(from)
            }
        };
    }

    /// The bytes `part` of the file from a block's replica; none if they cannot be had from it.
    async fn read_local(&self, block: &BlockLocation, local: Arc<Local>, part: &Range<u64>) -> Option<Bytes> {
        let (at, length) = (part.start - block.offset, (part.end - part.start) as usize);
        let mut room = self.locals.memory.take(length);
        if in_memory(&local.file, at, &mut room) {
            return Some(Bytes::from_owner(room));
        }
        if self.locals.pool.in_flight() >= BUSY {
            // A disk that hangs keeps the threads: others are not made to wait for it.
            return None;
        }
        let read = self.locals.pool.run(move || local.file.read_exact_at(&mut room, at).map(|()| room));
        let failure = match tokio::time::timeout(LIMIT, read).await {
            Ok(Ok(room)) => return Some(Bytes::from_owner(room)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its disk does not answer".to_owned(),
        };
        tracing::warn!(block = %block.block, failure, "a replica on this machine was not read: others are asked");
        if let Some(known) = self.blocks.lock().get_mut(&block.offset)
            && known.version == version(block)
        {
            known.state = State::From(Instant::now() + AGAIN.1);
            known.wait = AGAIN.1;
        }
        None
    }
}

impl Block {
    fn new(block: &BlockLocation, now: Instant) -> Self {
        Self { version: version(block), state: State::From(now), read: 0, wait: AGAIN.0, used: now }
    }
}

/// Gives up the descriptor that was not used for longest, if there are as many as may be.
fn make_room(blocks: &mut BTreeMap<u64, Block>) {
    let here = || blocks.iter().filter(|(_, block)| matches!(block.state, State::Here(_)));
    if here().count() < MAX_OF_FILE {
        return;
    }
    let oldest = here().min_by_key(|(_, block)| block.used).map(|(offset, _)| *offset);
    if let Some(block) = oldest.and_then(|offset| blocks.get_mut(&offset)) {
        block.state = State::From(Instant::now());
    }
}

/// Fills `bytes` with those at `at` if all of them lie in memory. Does not block.
fn in_memory(file: &File, at: u64, bytes: &mut [u8]) -> bool {
    let length = bytes.len();
    let parts = &mut [IoSliceMut::new(bytes)];
    rustix::io::preadv2(file, parts, at, ReadWriteFlags::NOWAIT) == Ok(length)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use steadfs_common::{BlockId, GenStamp};

    use super::*;

    #[test]
    fn bytes_are_read_whole_or_not_at_all() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        file.write_all(&[9; 10]).unwrap();
        let mut bytes = [0; 20];
        // Not on every file system.
        if in_memory(&file, 99_990, &mut bytes) {
            assert_eq!(bytes[..], [[7; 10], [9; 10]].concat());
        }
        assert!(!in_memory(&file, 99_991, &mut bytes));
    }

    #[test]
    fn the_descriptor_that_was_not_used_for_longest_goes() {
        let room = Arc::new(Semaphore::new(MAX_OF_FILE));
        let now = Instant::now();
        let mut blocks = BTreeMap::new();
        let location = BlockLocation {
            block: BlockId(7),
            stamp: GenStamp(8),
            offset: 0,
            length: 9,
            replicas: Vec::new(),
            corrupt: false,
        };
        for number in 0..MAX_OF_FILE as u64 {
            make_room(&mut blocks);
            let place = room.clone().try_acquire_owned().unwrap();
            let local = Arc::new(Local { file: tempfile::tempfile().unwrap(), _place: place });
            let used = now + Duration::from_secs((number + 5) % 7);
            let block = Block { state: State::Here(local), used, ..Block::new(&location, now) };
            blocks.insert(number, block);
        }
        assert_eq!(room.available_permits(), 0);
        make_room(&mut blocks);
        assert_eq!(room.available_permits(), 1);
        assert!(matches!(blocks[&2].state, State::From(_)));
    }
}
