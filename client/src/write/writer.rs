//! The handle of a file being written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use steadfs_common::{FsError, FsErrorKind, FsResult, Millis};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::FileStatus;

/// Bytes between a writer and its task at most (a single larger write passes alone).
const QUEUE_BYTES: u32 = 2 << 20;
/// Commands between a writer and its task at most.
pub(super) const QUEUE_COMMANDS: usize = 64;
/// Smaller writes are gathered until they are this much.
const GATHER_BYTES: usize = 64 << 10;

/// Times that a file has once it is closed: of its last change, and of its last access. None: as they come.
pub(super) type Times = (Option<Millis>, Option<Millis>);

/// What the task is asked to do. Answers go back when all before it is done.
pub(super) enum Command {
    Write(Bytes, OwnedSemaphorePermit),
    Flush { sync: bool, answer: oneshot::Sender<FsResult<()>> },
    Close { times: Times, answer: oneshot::Sender<FsResult<()>> },
    Abort { answer: oneshot::Sender<()> },
}

/// A file being written. Bytes become visible to readers with [`hflush`](Self::hflush) or [`hsync`](Self::hsync), and
/// the file is complete with [`close`](Self::close), which must be called: a writer that is dropped without it gives up,
/// as [`abort`](Self::abort) does.
///
/// While it lives, the file's lease is renewed: nobody else can write it. When a datanode fails, the pipeline is mended
/// and nothing acknowledged is lost; only when all replicas of a block are gone does writing fail, and then every later
/// call fails with the same error.
///
/// Dropping the future of a call does no harm: the bytes were taken or not, as a whole, and what was asked for goes on.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> steadfs_client::FsResult<()> {
/// # let Ok(url) = std::env::var("STEADFS_URL") else { return Ok(()) };
/// # let client = steadfs_client::Client::connect(&url).await?;
/// let mut log = client.create("/data/log").overwrite(true).await?;
/// log.write_all("first\n").await?;
/// log.hflush().await?;
/// // Visible already, though the file is open.
/// assert_eq!(client.open("/data/log").await?.length(), 6);
/// log.close().await?;
///
/// let mut log = client.append("/data/log").await?;
/// log.write_all("second\n").await?;
/// log.close().await?;
/// assert_eq!(client.read("/data/log", 100).await?, "first\nsecond\n");
/// # Ok(()) }
/// ```
pub struct Writer {
    commands: mpsc::Sender<Command>,
    room: Arc<Semaphore>,
    failure: Arc<OnceLock<FsError>>,
    gathered: BytesMut,
    position: u64,
    acknowledged: Arc<AtomicU64>,
    status: FileStatus,
    /// The task has been asked to close the file, and does so whoever waits.
    closing: bool,
}

/// The task's end of a writer.
pub(super) struct WriterEnd {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) failure: Arc<OnceLock<FsError>>,
    /// Bytes of the file that every datanode of the pipeline has.
    pub(super) acknowledged: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn new(status: FileStatus) -> (Self, WriterEnd) {
        let (send, commands) = mpsc::channel(QUEUE_COMMANDS);
        let failure = Arc::new(OnceLock::new());
        let acknowledged = Arc::new(AtomicU64::new(status.length));
        let writer = Self {
            commands: send,
            room: Arc::new(Semaphore::new(QUEUE_BYTES as usize)),
            failure: failure.clone(),
            gathered: BytesMut::new(),
            position: status.length,
            acknowledged: acknowledged.clone(),
            status,
            closing: false,
        };
        (writer, WriterEnd { commands, failure, acknowledged })
    }

    /// The file as it was when it was opened.
    #[must_use]
    pub fn status(&self) -> &FileStatus {
        &self.status
    }

    /// Bytes of the file, those written here included.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the file, from its start, that every datanode of the pipeline has: they stay in the file if this program
    /// dies, though readers may not see them yet.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Appends `bytes` to the file. Waits while the datanodes are behind; copies only small writes.
    ///
    /// # Errors
    /// An error of an earlier write: this one is on its way when it returns.
    pub async fn write_all(&mut self, bytes: impl Into<Bytes>) -> FsResult<()> {
        let bytes = bytes.into();
        let length = bytes.len();
        self.check()?;
        if self.gathered.len() + length > GATHER_BYTES {
            self.send_gathered().await?;
        }
        if length < GATHER_BYTES {
            self.gathered.extend_from_slice(&bytes);
        } else {
            self.send_bytes(length, |_| bytes).await?;
        }
        self.position += length as u64;
        Ok(())
    }

    /// Waits until everything written is in the memory of every datanode of the pipeline: readers see it.
    ///
    /// # Errors
    /// `Refused` if all datanodes of the block failed; `LeaseExpired` if somebody took the file over; those of any call.
    pub async fn hflush(&mut self) -> FsResult<()> {
        self.flush(false).await
    }

    /// Waits until everything written is on the disks of every datanode of the pipeline.
    ///
    /// # Errors
    /// As [`Writer::hflush`].
    pub async fn hsync(&mut self) -> FsResult<()> {
        self.flush(true).await
    }

    async fn flush(&mut self, sync: bool) -> FsResult<()> {
        self.send_gathered().await?;
        let (answer, answered) = oneshot::channel();
        self.command(Command::Flush { sync, answer }).await?;
        answered.await.unwrap_or_else(|_| Err(self.lost()))
    }

    /// Writes what is left, waits until every datanode has it on disk, and completes the file.
    ///
    /// # Errors
    /// As [`Writer::hflush`]. The file then has what was flushed, and is closed by the namenode in time.
    pub async fn close(self) -> FsResult<()> {
        self.close_with_times(None, None).await
    }

    /// As [`Writer::close`], and the file then has these times: no call more than without. Where access times are not kept,
    /// `accessed` counts for nothing. (A content that takes the place of another, see
    /// [`Client::replace`](crate::Client::replace), has the time of when it did.)
    ///
    /// # Errors
    /// As [`Writer::close`].
    pub async fn close_with_times(
        mut self,
        modified: Option<Millis>,
        accessed: Option<Millis>,
    ) -> FsResult<()> {
        if let Err(error) = self.send_gathered().await {
            self.abort().await;
            return Err(error);
        }
        let (answer, answered) = oneshot::channel();
        self.command(Command::Close { times: (modified, accessed), answer }).await?;
        self.closing = true;
        answered.await.unwrap_or_else(|_| Err(self.lost()))
    }

    /// Gives up: what was flushed and full blocks stay in the file, the rest is let go, and the namenode is asked to
    /// close the file. Who does not want the remains deletes them.
    pub async fn abort(mut self) {
        self.gathered.clear();
        let _ = self.failure.set(given_up());
        let (answer, answered) = oneshot::channel();
        if self.commands.send(Command::Abort { answer }).await.is_ok() {
            let _ = answered.await;
        }
    }

    async fn send_gathered(&mut self) -> FsResult<()> {
        if self.gathered.is_empty() {
            return self.check();
        }
        self.send_bytes(self.gathered.len(), |gathered| gathered.split().freeze()).await
    }

    /// Takes room for `length` bytes and a place in the queue first, so that a caller that goes away meanwhile has sent
    /// nothing.
    async fn send_bytes(&mut self, length: usize, take: impl FnOnce(&mut BytesMut) -> Bytes) -> FsResult<()> {
        let share = u32::try_from(length).unwrap_or(u32::MAX).min(QUEUE_BYTES);
        let share = self.room.clone().acquire_many_owned(share).await.expect("the semaphore is never closed");
        let Ok(place) = self.commands.reserve().await else { return Err(self.lost()) };
        place.send(Command::Write(take(&mut self.gathered), share));
        self.check()
    }

    async fn command(&self, command: Command) -> FsResult<()> {
        self.commands.send(command).await.map_err(|_| self.lost())
    }

    fn check(&self) -> FsResult<()> {
        self.failure.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Why the task is gone.
    fn lost(&self) -> FsError {
        let stopped = || {
            FsError::new(
                FsErrorKind::Stopping,
                format!("writing {} ended: the runtime stopped", self.status.path),
            )
        };
        self.failure.get().cloned().unwrap_or_else(stopped)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.closing {
            // What still waits in the queue is not written any more.
            let _ = self.failure.set(given_up());
        }
    }
}

fn given_up() -> FsError {
    FsError::refused("the writer was given up without being closed")
}
