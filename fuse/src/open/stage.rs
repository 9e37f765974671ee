//! Bytes that wait on the local disk until they are committed.
//!
//! The staged bytes of an inode lie in two files of the mount's folder: `<inode>`, with the bytes at the offsets that they
//! have in the file, and `<inode>.log`, which says which those are. A server that takes over from one that was killed finds
//! both. (What a power failure leaves of them is nobody's: a write that was not followed by `fsync` or `close` may be lost
//! to it anywhere.)
//!
//! The log is a header of 32 bytes (magic, length that the file had in the cluster, the hidden file by which the content is
//! being replaced or 0, up to where bytes that had arrived were given back) and records of 24 bytes: start
//! and end of a range that is newer here, and the number of the request that brought it. A record that begins at
//! [`CUT`] says that the file was cut or made longer, to its end; one that begins at [`RING`], that from its end on bytes lie in
//! `<inode>.ring` (see [`super::ring`]), or if that is [`NONE`], that none do any more; one that begins at [`TIMES`] has times that
//! the file shall have in place of end and request, [`NONE`] for one that is not set. A write that goes on where the one before it
//! ended changes that one's record.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fuser::Errno;
use rustix::fs::FlockOperation;
use steadfs_client::Millis;
use steadfs_daemon::pool::DiskPool;

use super::extents::Extents;
use super::ring::{RING_BYTES, Ring};
use crate::errno::{Answer, local};

const MAGIC: &[u8; 8] = b"SFSSTG01";
const HEADER: u64 = 32;
/// Where in it the length stands, the hidden file, and what was given back.
const COMMITTED: u64 = 8;
const REPLACING: u64 = 16;
const GIVEN_BACK: u64 = 24;
const RECORD: usize = 24;
/// The start of a record about the file's length.
const CUT: u64 = u64::MAX;
/// The start of a record about a ring, and of one about times.
const RING: u64 = u64::MAX - 1;
const TIMES: u64 = u64::MAX - 2;
/// No ring, no time.
const NONE: u64 = u64::MAX;
/// Records of one log at most: a program that scatters more has its file committed in between.
const MAX_RECORDS: u64 = 1 << 20;

/// The file by which a mount's folder is claimed, and the one by which its servers are known to live.
const LOCK: &str = "lock";
const SERVING: &str = "serving";
/// What the name of a folder ends with that is being removed.
const GONE: &str = "gone";
/// Bytes moved at a time.
const COPIED: usize = 1 << 20;
/// Between two looks at who has one.
const CLAIM_LOOK: Duration = Duration::from_millis(1);
/// How long a folder is claimed that others sweep away.
const CLAIM_LIMIT: Duration = Duration::from_secs(5);

/// The folder of staged bytes, and how many it may hold.
pub(crate) struct StagePlace {
    folder: PathBuf,
    pool: DiskPool,
    limit: u64,
    used: AtomicU64,
    /// Both locks of a server.
    _claims: [File; 2],
}

/// Makes the folder of a mount if it is missing, for its owner alone; it is not swept away while what is returned is open.
pub(crate) fn claim(folder: &Path) -> io::Result<File> {
    let deadline = Instant::now() + CLAIM_LIMIT;
    loop {
        match try_claim(folder) {
            // Somebody sweeps, who found it before it was claimed.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotFound)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(CLAIM_LOOK);
            }
            claimed => return claimed,
        }
    }
}

fn try_claim(folder: &Path) -> io::Result<File> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(LOCK);
    let lock = share(&path)?;
    // What was swept away before it was locked is nobody's claim.
    let (mine, there) = (lock.metadata()?, std::fs::metadata(&path)?);
    if (mine.dev(), mine.ino()) == (there.dev(), there.ino()) {
        Ok(lock)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Locks a file together with all others who do, as long as what is returned is open.
fn share(path: &Path) -> io::Result<File> {
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared)?;
    Ok(lock)
}

/// Waits until no server of the mount with this folder is left, but not longer than `limit`: one may not be able to end before
/// something is answered that only its successor can answer. False if one is.
pub(crate) fn left_by_servers(folder: &Path, limit: Duration) -> io::Result<bool> {
    let lock = match File::open(folder.join(SERVING)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let deadline = Instant::now() + limit;
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(CLAIM_LOOK);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes away the folders of mounts that no process belongs to any more.
pub(crate) fn sweep(staging: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(staging)? {
        let folder = entry?.path();
        let Ok(lock) = File::open(folder.join(LOCK)) else { continue };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Out of the way first: whoever claims it from now on makes another.
            let gone = folder.with_extension(GONE);
            std::fs::rename(&folder, &gone)?;
            std::fs::remove_dir_all(&gone)?;
        }
    }
    Ok(())
}

impl StagePlace {
    /// The place of a mount, for its server.
    pub(crate) fn open(folder: &Path, limit: u64, pool: DiskPool) -> io::Result<Self> {
        let claims = [claim(folder)?, share(&folder.join(SERVING))?];
        Ok(Self { folder: folder.to_owned(), pool, limit, used: AtomicU64::new(0), _claims: claims })
    }

    fn names(&self, inode: u64) -> (PathBuf, PathBuf) {
        (self.folder.join(inode.to_string()), self.folder.join(format!("{inode}.log")))
    }

    fn ring(&self, inode: u64) -> PathBuf {
        self.folder.join(format!("{inode}.ring"))
    }

    /// Takes `bytes` of what may be staged.
    fn take(&self, bytes: u64) -> Answer<()> {
        let room = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).map(|_| ()).map_err(|_| {
            tracing::warn!(limit = self.limit, "the place for staged bytes is full: see --staging-bytes");
            Errno::ENOSPC
        })
    }
}

/// The staged bytes of one inode.
pub(crate) struct Stage {
    place: Arc<StagePlace>,
    inode: u64,
    data: Arc<File>,
    log: Arc<File>,
    /// Bytes accounted.
    held: u64,
    records: u64,
    last: Record,
    ring: Option<Ring>,
    /// Bytes before it had arrived in the cluster, and are not here any more.
    given_back: u64,
}

/// Times that a program set and that the cluster does not know yet: of the last change, and of the last access.
pub(super) type Times = (Option<Millis>, Option<Millis>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    start: u64,
    end: u64,
    request: u64,
}

impl Record {
    fn bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.start.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.end.to_le_bytes());
        bytes[16..].copy_from_slice(&self.request.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8; RECORD]) -> Self {
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(number)
        };
        Self { start: number(0), end: number(8), request: number(16) }
    }
}

/// What a server that died had staged.
pub(crate) struct Found {
    pub(crate) stage: Stage,
    /// The file's length in the cluster when it began to be staged.
    pub(crate) committed: u64,
    /// How much of that is still part of the content.
    pub(crate) kept: u64,
    pub(crate) size: u64,
    pub(crate) extents: Extents,
    /// Bytes were written over others that were staged: what the cluster had got of those may be the former ones.
    pub(crate) written_over: bool,
    /// The last request that is in it.
    pub(crate) request: u64,
    /// The hidden file by which the content was being replaced.
    pub(crate) replacing: Option<u64>,
    /// Times that are to be set when it is committed.
    pub(super) times: Times,
}

impl Stage {
    /// An empty one, of a file that has `committed` bytes in the cluster.
    pub(crate) async fn new(place: Arc<StagePlace>, inode: u64, committed: u64) -> Answer<Self> {
        let (data, log) = place.names(inode);
        let made = place.pool.run(move || {
            let (data, log) = (empty_file(&data)?, empty_file(&log)?);
            log.write_all_at(&header(committed), 0)?;
            io::Result::Ok((data, log))
        });
        let (data, log) = made.await.map_err(|error| local("a staged file was not made", &error))?;
        Ok(Self {
            place,
            inode,
            data: Arc::new(data),
            log: Arc::new(log),
            held: 0,
            records: 0,
            last: Record { start: CUT, end: committed, request: 0 },
            ring: None,
            given_back: 0,
        })
    }

    /// What a server before this one has staged of `inode`, if anything.
    pub(crate) async fn find(place: Arc<StagePlace>, inode: u64) -> Answer<Option<Found>> {
        let (data, log) = place.names(inode);
        let ring = place.ring(inode);
        let read = place.pool.run(move || {
            let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
            let (data, log) = match (open(&data), open(&log)) {
                (Ok(data), Ok(log)) => (data, log),
                (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(None);
                }
                (Err(error), _) | (_, Err(error)) => return Err(error),
            };
            let Some(read) = read_log(&log)? else { return Ok(None) };
            let ring = match read.ring {
                Some(from) => Some(Ring::new(open(&ring)?, from, read.size)),
                None => None,
            };
            // Not all that the log tells of: what the cluster had acknowledged was given back.
            let kept = data.metadata()?.blocks() * 512 + if ring.is_some() { RING_BYTES } else { 0 };
            io::Result::Ok(Some((data, log, ring, read, kept)))
        });
        let read = read.await.map_err(|error| local("a staged file was not read", &error))?;
        Ok(read.map(|(data, log, ring, read, kept)| {
            let held = read.extents.bytes().min(kept);
            place.used.fetch_add(held, Ordering::Relaxed);
            let stage = Self {
                place,
                inode,
                data: Arc::new(data),
                log: Arc::new(log),
                held,
                records: read.records,
                last: read.last,
                ring,
                given_back: read.given_back,
            };
            Found {
                stage,
                committed: read.committed,
                kept: read.kept,
                size: read.size,
                written_over: read.written_over,
                request: read.last.request,
                replacing: read.replacing,
                times: read.times,
                extents: read.extents,
            }
        }))
    }

    /// Notes by which hidden file the content is being replaced, for a process that takes over; none: by none any more.
    pub(crate) async fn replacing(&self, hidden: Option<u64>) -> Answer<()> {
        self.note(hidden.unwrap_or_default(), REPLACING).await
    }

    /// Notes that the cluster has `committed` bytes by now. What is staged counts in place of those, as before.
    pub(super) async fn now_committed(&self, committed: u64) -> Answer<()> {
        self.note(committed, COMMITTED).await
    }

    async fn note(&self, number: u64, at: u64) -> Answer<()> {
        let log = self.log.clone();
        let noted = self.place.pool.run(move || log.write_all_at(&number.to_le_bytes(), at));
        noted.await.map_err(|error| local("the log of staged bytes was not written", &error))
    }

    /// From where on what was written in order is still here. Before that it was given back, or written over in the ring: the
    /// cluster had it.
    pub(super) fn begins(&self) -> u64 {
        let ring = self.ring.as_ref().filter(|ring| ring.first() > ring.from());
        self.given_back.max(ring.map_or(0, Ring::first))
    }

    /// Begins its log anew: the cluster has `committed` bytes, and of what was staged only `rest` counts. Otherwise a process that
    /// takes over would take what is written over the others for something that has arrived, too.
    pub(super) async fn rebase(&mut self, committed: u64, rest: Range<u64>, times: Times) -> Answer<()> {
        let request = self.last.request;
        let mut records = vec![Record { start: CUT, end: committed, request }];
        let keeps_ring = self.ring.as_ref().filter(|_| !rest.is_empty()).map(Ring::from);
        records.extend(keeps_ring.map(|from| Record { start: RING, end: from, request }));
        if !rest.is_empty() {
            records.push(Record { start: rest.start, end: rest.end, request });
        }
        if times != (None, None) {
            records.push(times_record(times));
        }
        let mut bytes = header(committed).to_vec();
        records.iter().for_each(|record| bytes.extend_from_slice(&record.bytes()));
        let (_, log) = self.place.names(self.inode);
        let new = log.with_extension("log.new");
        let made = self.place.pool.run(move || {
            let file = empty_file(&new)?;
            file.write_all_at(&bytes, 0)?;
            // All at once: a process that is killed here leaves one or the other.
            std::fs::rename(&new, &log)?;
            io::Result::Ok(file)
        });
        let made = made.await.map_err(|error| local("the log of staged bytes was not written", &error))?;
        self.log = Arc::new(made);
        (self.records, self.given_back) = (records.len() as u64, 0);
        self.last = Record { request, ..*records.last().expect("the first is always there") };
        if rest.is_empty() {
            self.empty().await;
        }
        Ok(())
    }

    /// Gives the room of all that was staged back.
    async fn empty(&mut self) {
        let ring = self.ring.take().map(|_| self.place.ring(self.inode));
        let data = self.data.clone();
        let emptied = self.place.pool.run(move || {
            data.set_len(0)?;
            ring.map_or(Ok(()), std::fs::remove_file)
        });
        if let Err(error) = emptied.await {
            tracing::debug!(%error, "the room of staged bytes was not given back early");
        }
        self.release(self.held);
    }

    /// Whether its log has room.
    pub(crate) fn is_full(&self) -> bool {
        self.records >= MAX_RECORDS
    }

    /// Accounts for bytes that will be written.
    pub(crate) fn hold(&mut self, bytes: u64) -> Answer<()> {
        self.place.take(bytes)?;
        self.held += bytes;
        Ok(())
    }

    /// Gives bytes back that are not needed here any more.
    pub(crate) fn release(&mut self, bytes: u64) {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.place.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Keeps `bytes` at `offset`; without any, the range `offset..end` reads as zeros.
    pub(crate) async fn write(&mut self, offset: u64, end: u64, bytes: Bytes, request: u64) -> Answer<()> {
        self.leave_ring().await?;
        let (record, goes_on) = self.written(offset, end, request);
        self.record(record, goes_on, Some((offset, bytes))).await
    }

    fn written(&self, offset: u64, end: u64, request: u64) -> (Record, bool) {
        let goes_on = !matches!(self.last.start, CUT | RING | TIMES) && self.last.end == offset;
        let start = if goes_on { self.last.start } else { offset };
        (Record { start, end, request }, goes_on)
    }

    /// Where its ring begins, if it has one.
    pub(super) fn ring_from(&self) -> Option<u64> {
        self.ring.as_ref().map(Ring::from)
    }

    /// From `from` on, bytes go to a ring. False if there is no room for one, or it cannot be made: then they go to the places
    /// of their own as before.
    pub(super) async fn begin_ring(&mut self, from: u64) -> bool {
        if self.hold(RING_BYTES).is_err() {
            return false;
        }
        let made = self.make_ring(from).await;
        if made.is_err() {
            self.release(RING_BYTES);
        }
        made.is_ok()
    }

    async fn make_ring(&mut self, from: u64) -> Answer<()> {
        let path = self.place.ring(self.inode);
        let made = self.place.pool.run(move || empty_file(&path));
        let file = made.await.map_err(|error| local("a staged file was not made", &error))?;
        self.record(Record { start: RING, end: from, request: self.last.request }, false, None).await?;
        self.ring = Some(Ring::new(file, from, from));
        Ok(())
    }

    /// Keeps `bytes` at the end of its ring. What they write over must have been acknowledged: all but the last
    /// [`RING_BYTES`] before their end.
    pub(super) async fn write_ring(&mut self, offset: u64, bytes: Bytes, request: u64) -> Answer<()> {
        let end = offset + bytes.len() as u64;
        let (record, goes_on) = self.written(offset, end, request);
        let at = if goes_on { self.records - 1 } else { self.records };
        let ring = self.ring.clone().ok_or(Errno::EIO)?;
        let log = self.log.clone();
        let kept = self.place.pool.run(move || {
            ring.write(offset, &bytes)?;
            log.write_all_at(&record.bytes(), HEADER + at * RECORD as u64)
        });
        kept.await.map_err(|error| local("staged bytes were not written", &error))?;
        (self.records, self.last) = (at + 1, record);
        if let Some(ring) = &mut self.ring {
            ring.reaches(end);
        }
        Ok(())
    }

    /// What is in its ring goes to the places of its own, and there is no ring any more.
    async fn leave_ring(&mut self) -> Answer<()> {
        let Some(ring) = self.ring.clone() else { return Ok(()) };
        if self.begins() > self.given_back {
            // What the ring has not any more is not at the places of its own either.
            self.given_back = self.begins();
            self.note(self.given_back, GIVEN_BACK).await?;
        }
        let data = self.data.clone();
        let moved = self.place.pool.run(move || {
            let mut bytes = vec![0; COPIED];
            let mut at = ring.first();
            while at < ring.end() {
                let count = usize::try_from(ring.end() - at).unwrap_or(usize::MAX).min(COPIED);
                ring.read(at, &mut bytes[..count])?;
                data.write_all_at(&bytes[..count], at)?;
                at += count as u64;
            }
            io::Result::Ok(())
        });
        moved.await.map_err(|error| local("staged bytes were not written", &error))?;
        self.record(Record { start: RING, end: NONE, request: self.last.request }, false, None).await?;
        self.ring = None;
        let path = self.place.ring(self.inode);
        if let Err(error) = self.place.pool.run(move || std::fs::remove_file(path)).await {
            tracing::debug!(%error, "a staged file was not removed");
        }
        Ok(())
    }

    /// Keeps times that the file gets when it is committed, until something else is written.
    pub(super) async fn set_times(&mut self, (modified, accessed): Times) -> Answer<()> {
        let (before, replaces) = (self.last.request, self.last.start == TIMES);
        self.record(times_record((modified, accessed)), replaces, None).await?;
        self.last.request = before;
        Ok(())
    }

    /// The file is `length` bytes long now, and what was behind reads as zeros if it grows again.
    pub(crate) async fn set_length(&mut self, length: u64) -> Answer<()> {
        self.leave_ring().await?;
        self.record(Record { start: CUT, end: length, request: 0 }, false, None).await
    }

    async fn record(&mut self, record: Record, replaces: bool, bytes: Option<(u64, Bytes)>) -> Answer<()> {
        let at = if replaces { self.records - 1 } else { self.records };
        let (data, log) = (self.data.clone(), self.log.clone());
        let kept = self.place.pool.run(move || {
            match bytes {
                // First the bytes: a record without them would claim what is not there.
                Some((offset, bytes)) => data.write_all_at(&bytes, offset)?,
                None if record.start == CUT && data.metadata()?.len() > record.end => {
                    data.set_len(record.end)?;
                }
                None => {}
            }
            log.write_all_at(&record.bytes(), HEADER + at * RECORD as u64)
        });
        kept.await.map_err(|error| local("staged bytes were not written", &error))?;
        self.records = at + 1;
        self.last = record;
        Ok(())
    }

    /// The bytes at `offset`; zeros where nothing was written.
    pub(crate) async fn read(&self, offset: u64, length: usize) -> Answer<Bytes> {
        let (data, ring) = (self.data.clone(), self.ring.clone());
        let read = self.place.pool.run(move || {
            let mut bytes = vec![0; length];
            let mut at = 0;
            // What lies before the ring.
            let mut plain = length;
            if let Some(ring) = ring {
                let before = usize::try_from(ring.from().saturating_sub(offset)).unwrap_or(usize::MAX);
                plain = before.min(length);
                if plain < length {
                    ring.read(offset + plain as u64, &mut bytes[plain..])?;
                }
            }
            while at < plain {
                match data.read_at(&mut bytes[at..plain], offset + at as u64) {
                    Ok(0) => break,
                    Ok(count) => at += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(Bytes::from(bytes))
        });
        read.await.map_err(|error| local("staged bytes were not read", &error))
    }

    /// Takes the files away: what is in them is in the cluster, or nobody's.
    pub(crate) async fn discard(self) {
        let (data, log) = self.place.names(self.inode);
        let ring = self.ring.as_ref().map(|_| self.place.ring(self.inode));
        // The log first: without it the rest says nothing.
        let gone = self.place.pool.run(move || {
            std::fs::remove_file(log)?;
            std::fs::remove_file(data)?;
            ring.map_or(Ok(()), std::fs::remove_file)
        });
        if let Err(error) = gone.await {
            tracing::warn!(%error, "a staged file was not removed");
        }
    }

    /// Gives the disk's room for `range` back: it is in the cluster.
    pub(crate) async fn punch(&mut self, start: u64, end: u64) {
        let (data, log) = (self.data.clone(), self.log.clone());
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        let punched = self.place.pool.run(move || {
            // First: otherwise a process that takes over would take the zeros for what was written.
            log.write_all_at(&end.to_le_bytes(), GIVEN_BACK)?;
            Ok::<_, io::Error>(rustix::fs::fallocate(&data, flags, start, end - start)?)
        });
        if let Err(error) = punched.await {
            tracing::debug!(%error, "the room of staged bytes was not given back early");
        }
        self.given_back = end;
        self.release(end - start);
    }
}

/// Makes a file, or empties the one that is there.
fn empty_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn header(committed: u64) -> [u8; HEADER as usize] {
    let mut header = [0; HEADER as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&committed.to_le_bytes());
    header
}

fn times_record((modified, accessed): Times) -> Record {
    let number = |time: Option<Millis>| time.map_or(NONE, |time| time.0);
    Record { start: TIMES, end: number(modified), request: number(accessed) }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.place.used.fetch_sub(self.held, Ordering::Relaxed);
    }
}

/// What a log says.
struct Read {
    committed: u64,
    kept: u64,
    size: u64,
    extents: Extents,
    records: u64,
    last: Record,
    written_over: bool,
    replacing: Option<u64>,
    given_back: u64,
    ring: Option<u64>,
    times: Times,
}

/// None if it was never begun.
fn read_log(log: &File) -> io::Result<Option<Read>> {
    let mut header = [0; HEADER as usize];
    match log.read_exact_at(&mut header, 0) {
        Ok(()) if header.starts_with(MAGIC) => {}
        Ok(()) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let number = |at: u64| {
        let mut number = [0; 8];
        number.copy_from_slice(&header[at as usize..at as usize + 8]);
        u64::from_le_bytes(number)
    };
    let committed = number(COMMITTED);
    let replacing = Some(number(REPLACING)).filter(|hidden| *hidden != 0);
    let last = Record { start: CUT, end: committed, request: 0 };
    let extents = Extents::default();
    let mut read = Read {
        committed,
        kept: committed,
        size: committed,
        extents,
        records: 0,
        last,
        written_over: false,
        replacing,
        given_back: number(GIVEN_BACK),
        ring: None,
        times: (None, None),
    };
    let count = log.metadata()?.len().saturating_sub(HEADER) / RECORD as u64;
    for index in 0..count {
        let mut bytes = [0; RECORD];
        log.read_exact_at(&mut bytes, HEADER + index * RECORD as u64)?;
        let mut record = Record::read(&bytes);
        if record.start == CUT {
            // What grows again behind it is something else than it was.
            read.written_over |= record.end < read.size;
            read.extents.truncate(record.end);
            (read.size, read.kept) = (record.end, read.kept.min(record.end));
            read.times.0 = None;
        } else if record.start == RING {
            read.ring = Some(record.end).filter(|from| *from != NONE);
        } else if record.start == TIMES {
            let time = |number: u64| Some(number).filter(|number| *number != NONE).map(Millis);
            read.times = (time(record.end), time(record.request));
            record.request = read.last.request;
        } else if record.start < record.end {
            read.written_over |= read.extents.missing(record.start..record.end) < record.end - record.start;
            read.extents.insert(record.start..record.end);
            read.size = read.size.max(record.end);
            // Bytes that came after it count more than a time that was set.
            read.times.0 = None;
        } else {
            return Err(io::Error::other("a record of staged bytes makes no sense"));
        }
        (read.records, read.last) = (index + 1, record);
    }
    Ok(Some(read))
}

#[cfg(test)]
#[path = "stage_test.rs"]
mod tests;
