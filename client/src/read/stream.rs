//! Reading a file in order, ahead of who reads it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use steadfs_common::{FsError, FsResult};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncSeek, ReadBuf};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::reader::Reader;
use crate::error::into_io;

/// Pieces that wait for the reader at most, whatever their size.
const MAX_PIECES: usize = 1_024;

/// Bytes handed over together at most: to wake the reader costs as much as to copy many bytes.
const TOGETHER: usize = 512 << 10;
/// How long what came waits for more to be handed over with it.
const LINGER: Duration = Duration::from_millis(2);

/// Pieces that came ahead, and their share of the bytes that may.
type Pieces = FsResult<(VecDeque<Bytes>, OwnedSemaphorePermit)>;

/// A file read in order: [`next_chunk`](Self::next_chunk) without copying, or as [`AsyncRead`], [`AsyncBufRead`] and
/// [`AsyncSeek`]. A task of its own fetches ahead, up to
/// [`ClientOptions::read_ahead`](crate::ClientOptions::read_ahead) bytes if nothing else was said; it ends when this is dropped.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> steadfs_client::FsResult<()> {
/// # let Ok(url) = std::env::var("STEADFS_URL") else { return Ok(()) };
/// # let client = steadfs_client::Client::connect(&url).await?;
/// use tokio::io::AsyncBufReadExt;
///
/// client.write("/data/lines", "one\ntwo\n").await?;
/// let mut lines = client.open("/data/lines").await?.stream().lines();
/// # let mut read = Vec::new();
/// while let Ok(Some(line)) = lines.next_line().await {
///     println!("{line}");
///     # read.push(line);
/// }
/// # assert_eq!(read, ["one", "two"]);
/// # Ok(()) }
/// ```
pub struct FileStream {
    reader: Reader,
    /// Bytes that are fetched ahead at most.
    limit: usize,
    /// Where the next byte given comes from.
    position: u64,
    /// What is left of the piece being given.
    chunk: Bytes,
    /// Those that came with it.
    more: VecDeque<Bytes>,
    ahead: Option<Ahead>,
    seek: Option<io::Result<u64>>,
}

/// The task that fetches.
/// The task that fetches.
struct Ahead {
    pieces: Receiver<Pieces>,
    _task: AbortOnDropHandle<()>,
}

impl FileStream {
    pub(super) fn new(reader: Reader, position: u64, limit: usize) -> Self {
        Self { reader, limit, position, chunk: Bytes::new(), more: VecDeque::new(), ahead: None, seek: None }
    }

    /// Where the next byte comes from.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on at `position`, which may lie behind the end: nothing comes from there.
    pub fn seek_to(&mut self, position: u64) {
        match position.checked_sub(self.position) {
            Some(forward) if forward <= self.chunk.len() as u64 => self.chunk.advance(forward as usize),
            _ => {
                self.chunk.clear();
                self.more.clear();
                self.ahead = None;
            }
        }
        self.position = position;
    }

    /// The next bytes, as many as came together; `None` at the end.
    ///
    /// # Errors
    /// As [`Reader::read_at`]; the next call tries again at the same place.
    pub async fn next_chunk(&mut self) -> FsResult<Option<Bytes>> {
        poll_fn(|cx| self.poll_fill(cx)).await?;
        let chunk = std::mem::take(&mut self.chunk);
        self.position += chunk.len() as u64;
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    /// Makes `chunk` hold something, unless the file ends here.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<FsResult<()>> {
        while self.chunk.is_empty() {
            if let Some(next) = self.more.pop_front() {
                self.chunk = next;
                continue;
            }
            if self.position >= self.reader.length() {
                return Poll::Ready(Ok(()));
            }
            let ahead =
                self.ahead.get_or_insert_with(|| start(self.reader.clone(), self.position, self.limit));
            match ready!(ahead.pieces.poll_recv(cx)) {
                // The share is given back here: what the caller holds is the caller's.
                Some(Ok((pieces, _share))) => self.more = pieces,
                Some(Err(error)) => {
                    self.ahead = None;
                    return Poll::Ready(Err(error));
                }
                // It came to what was the end when it began; the file may have grown since.
                None => self.ahead = None,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn consumed(&mut self, bytes: usize) {
        self.chunk.advance(bytes);
        self.position += bytes as u64;
    }
}

fn start(reader: Reader, position: u64, limit: usize) -> Ahead {
    let (send, pieces) = mpsc::channel(MAX_PIECES);
    let task = tokio::spawn(async move {
        if let Err(error) = fetch(&reader, position, limit, &send).await {
            // Nobody may be reading any more.
            let _ = send.send(Err(error)).await;
        }
    });
    Ahead { pieces, _task: AbortOnDropHandle::new(task) }
}

async fn fetch(reader: &Reader, mut position: u64, limit: usize, send: &Sender<Pieces>) -> FsResult<()> {
    let limit = u32::try_from(limit.max(1)).unwrap_or(u32::MAX >> 4);
    let mut batch =
        Batch { pieces: VecDeque::new(), bytes: 0, room: Arc::new(Semaphore::new(limit as usize)), limit };
    while let Some(mut range) = reader.range_from(position).await? {
        // The first bytes are waited for, whoever is slow later.
        let mut wanted = 0;
        loop {
            let next = {
                let mut next = std::pin::pin!(range.next());
                match tokio::time::timeout(LINGER, &mut next).await {
                    Ok(next) => next,
                    Err(_) => {
                        if !batch.hand_over(send).await {
                            return Ok(());
                        }
                        next.await
                    }
                }
            };
            let bytes = match next {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                Err(error) => {
                    // What came before it is not lost.
                    batch.hand_over(send).await;
                    return Err(error);
                }
            };
            position += bytes.len() as u64;
            batch.bytes += bytes.len();
            batch.pieces.push_back(bytes);
            if batch.bytes >= wanted {
                if !batch.hand_over(send).await {
                    return Ok(());
                }
                wanted = TOGETHER.min(limit as usize / 4);
            }
        }
        if !batch.hand_over(send).await {
            return Ok(());
        }
    }
    Ok(())
}

/// What came and was not handed over yet.
struct Batch {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// For the bytes that may be ahead, `limit` at most.
    room: Arc<Semaphore>,
    limit: u32,
}

impl Batch {
    /// False if nobody reads any more.
    async fn hand_over(&mut self, send: &Sender<Pieces>) -> bool {
        if self.pieces.is_empty() {
            return true;
        }
        // More than everything allowed waits until it is alone.
        let share = u32::try_from(self.bytes).unwrap_or(u32::MAX).min(self.limit);
        let share = self.room.clone().acquire_many_owned(share).await.expect("the semaphore is never closed");
        self.bytes = 0;
        send.send(Ok((std::mem::take(&mut self.pieces), share))).await.is_ok()
    }
}

impl AsyncBufRead for FileStream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_fill(cx)).map_err(into_io)?;
        Poll::Ready(Ok(&this.chunk))
    }

    fn consume(self: Pin<&mut Self>, bytes: usize) {
        self.get_mut().consumed(bytes);
    }
}

impl AsyncRead for FileStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_fill(cx)).map_err(into_io)?;
        let bytes = this.chunk.len().min(out.remaining());
        out.put_slice(&this.chunk[..bytes]);
        this.consumed(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for FileStream {
    fn start_seek(self: Pin<&mut Self>, to: io::SeekFrom) -> io::Result<()> {
        let this = self.get_mut();
        let target = match to {
            io::SeekFrom::Start(position) => Some(position),
            io::SeekFrom::Current(by) => this.position.checked_add_signed(by),
            io::SeekFrom::End(by) => this.reader.length().checked_add_signed(by),
        };
        let position = target
            .ok_or_else(|| into_io(FsError::invalid_argument("a seek to before the start of the file")))?;
        this.seek_to(position);
        this.seek = Some(Ok(position));
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let this = self.get_mut();
        Poll::Ready(this.seek.take().unwrap_or(Ok(this.position)))
    }
}
