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
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::ReadWriteFlags;
use steadfs_client::{BlockLocation, FsResult, Reader};
use steadfs_daemon::pool::DiskPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::window::Pieces;

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
/// A read so short is tried at once: mostly it is in memory.
const SHORT: usize = 64 << 10;
/// A disk that does not answer for so long is not asked for this block any more.
const LIMIT: Duration = Duration::from_secs(5);

/// What all open files of a mount share.
#[derive(Clone)]
pub(crate) struct Locals {
    folder: Arc<PathBuf>,
    pool: DiskPool,
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

impl LocalBlocks {
    pub(super) fn new(locals: &Locals) -> Self {
        Self { locals: locals.clone(), blocks: Arc::default() }
    }

    /// Bytes of the file, fewer only at its end. `in_order`: what follows will be wanted too.
    pub(super) async fn read(&self, reader: &Reader, range: Range<u64>, in_order: bool) -> FsResult<Pieces> {
        let range = range.start..range.end.min(reader.length());
        if range.is_empty() || reader.under_construction() {
            return network(reader, range).await;
        }
        let blocks = reader.blocks(range.clone()).await?;
        let parts = blocks.iter().map(|block| {
            let part = range.start.max(block.offset)..range.end.min(block.end());
            (block, self.here(reader, block, part.end - part.start, in_order), part)
        });
        let parts: Vec<_> = parts.collect();
        if in_order && let Some((last, ..)) = parts.last() {
            self.ask_next(reader, last);
        }
        if parts.iter().all(|(_, local, _)| local.is_none()) {
            return network(reader, range).await;
        }
        let mut pieces = Pieces::new();
        for (block, local, part) in parts {
            let local = match local {
                Some(local) => self.read_local(block, local, &part).await,
                None => None,
            };
            match local {
                Some(bytes) => pieces.push(bytes),
                None => pieces.extend(network(reader, part).await?),
            }
        }
        Ok(pieces)
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
        if length <= SHORT
            && let Some(bytes) = at_once(&local.file, at, length)
        {
            return Some(bytes);
        }
        if self.locals.pool.in_flight() >= BUSY {
            // A disk that hangs keeps the threads: others are not made to wait for it.
            return None;
        }
        let read = self.locals.pool.run(move || fully(&local.file, at, length));
        let failure = match tokio::time::timeout(LIMIT, read).await {
            Ok(Ok(bytes)) => return Some(bytes),
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

async fn network(reader: &Reader, range: Range<u64>) -> FsResult<Pieces> {
    reader.read_pieces(range.start, range.end.saturating_sub(range.start) as usize).await
}

/// What lies in memory; none if not all of it does.
fn at_once(file: &File, at: u64, length: usize) -> Option<Bytes> {
    let mut bytes = vec![0; length];
    let parts = &mut [IoSliceMut::new(&mut bytes)];
    let read = rustix::io::preadv2(file, parts, at, ReadWriteFlags::NOWAIT);
    (read == Ok(length)).then(|| bytes.into())
}

fn fully(file: &File, at: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let from = at + bytes.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), from) {
            Ok(0) => return Err(io::Error::other("the file is shorter than its block")),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more room than was asked for.
    bytes.truncate(length);
    Ok(bytes.into())
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
        assert_eq!(fully(&file, 99_990, 20).unwrap(), [[7; 10], [9; 10]].concat());
        assert!(fully(&file, 99_990, 21).is_err());
        assert_eq!(fully(&file, 0, 100_010).unwrap().len(), 100_010);
        // Not on every file system.
        if let Some(bytes) = at_once(&file, 99_990, 20) {
            assert_eq!(bytes, [[7; 10], [9; 10]].concat());
        }
        assert_eq!(at_once(&file, 99_990, 21), None);
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
