//! The task that owns a file open for writing.
//!
//! What is written lies in a staged file first, together with a list of which bytes those are. When it is committed (at
//! `close`, `fsync`, or when the last handle goes), the cheapest way that gives the right content is taken:
//!
//! | what changed | how it is committed |
//! | --- | --- |
//! | nothing but bytes behind the old end, in any order | they are appended |
//! | only the length, downwards | the file is truncated |
//! | anything else | the whole new content takes the place of the old at once |
//!
//! A writer that goes on past [`STREAM_AFTER`] bytes in order is given a pipeline of its own: from then on only what the
//! datanodes have not acknowledged stays staged, until it writes somewhere else.
//!
//! A task that takes over from one whose process was killed finds what was staged, has the cluster close the file, and
//! goes on: what a program was told is written is in one of the two.

mod commit;
mod recover;
mod room;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fuser::Errno;
use steadfs_client::{Client, FsErrorKind, FsResult, Millis, Reader, Writer};
use tokio::sync::{mpsc, oneshot};

use self::room::is_room;
use super::extents::Extents;
use super::file::Written;
use super::ring::RING_BYTES;
use super::stage::{Stage, StagePlace};
use crate::budget::{Pipelines, Share};
use crate::errno::{Answer, failed};

/// Bytes written in order after which a file is streamed instead of staged.
const STREAM_AFTER: u64 = 8 << 20;
/// Bytes read from a staged file or the cluster at a time while a file is committed.
const COPY_BYTES: u64 = 1 << 20;
/// Most separate ranges of one staged file: a bound on memory. A program that scatters more gets them committed in between.
const MAX_EXTENTS: usize = 16_384;
/// Bytes that the datanodes have acknowledged and that are still staged, before they are given back.
const PUNCH_AFTER: u64 = 8 << 20;
/// Memory of a pipeline: packets that are not acknowledged, and what is being read to be sent.
const PIPELINE: usize = PACKETS * PACKET_BYTES + COPY_BYTES as usize;
/// Packets that are not acknowledged at most, and their bytes.
pub(crate) const PACKETS: usize = 24;
pub(crate) const PACKET_BYTES: usize = 128 << 10;
/// Old content that is written anew at most, to find room for what was appended to it.
const MAX_SQUEEZED: u64 = 256 << 20;
/// Operations that wait for one file at most.
pub(super) const QUEUE: usize = 32;
/// Between two looks at a truncation that is under way, and how long it is waited for.
const CUT_LOOK: Duration = Duration::from_millis(50);
const CUT_LIMIT: Duration = Duration::from_secs(60);

/// What the task is asked to do.
pub(crate) enum Op {
    Write {
        write: Write,
        share: Share,
        answer: oneshot::Sender<Answer<u32>>,
    },
    Read {
        offset: u64,
        length: usize,
        answer: oneshot::Sender<Answer<Bytes>>,
    },
    /// Makes what `owner` wrote (`None`: what anybody wrote) durable, and visible to all.
    Commit {
        owner: Option<u64>,
        answer: oneshot::Sender<Answer<()>>,
    },
    /// Makes everything durable; a writer that goes on keeps its pipeline.
    Sync {
        answer: oneshot::Sender<Answer<()>>,
    },
    Truncate {
        length: u64,
        answer: oneshot::Sender<Answer<()>>,
    },
    /// Makes the file at least so long.
    Reach {
        length: u64,
        answer: oneshot::Sender<Answer<()>>,
    },
    /// Times that a program sets. While there is something to commit, which would set them anew, they wait for that.
    SetTimes {
        /// Who sets them.
        client: Client,
        modified: Option<Millis>,
        accessed: Option<Millis>,
        answer: oneshot::Sender<Answer<FsResult<()>>>,
    },
    /// The file has no name any more: nothing needs to be committed.
    Forget,
}

/// A write.
pub(crate) struct Write {
    pub(crate) at: Position,
    pub(crate) data: Bytes,
    /// Who wrote, as far as the kernel says.
    pub(crate) owner: Option<u64>,
    /// The number of the request.
    pub(crate) request: u64,
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    At(u64),
    /// There, or wherever the end is if the file was opened so.
    AsOpened(u64),
    /// Wherever the end is (`O_APPEND`).
    End,
}

/// How a whole new content takes the place of an old one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    Nothing,
    Append,
    Truncate,
    Replace,
}

pub(super) struct Task {
    pub(super) client: Client,
    pub(super) path: String,
    pub(super) written: Arc<Written>,
    pub(super) place: Arc<StagePlace>,
    pipelines: Pipelines,
    /// Whether a process that was killed may have been writing the file.
    takes_over: bool,
    /// The last request that is in what was taken over.
    taken: u64,
    /// Up to where staged bytes were given back.
    punched: u64,
    /// Bytes that the file has in the cluster.
    committed: u64,
    /// How many of them are still part of the content.
    kept: u64,
    size: u64,
    base: Option<Reader>,
    stage: Option<Stage>,
    extents: Extents,
    /// Staged bytes were written over, or cut off: what of them was ever sent says nothing of what is there now.
    written_over: bool,
    /// The lease from when the file was created, while nothing was written.
    fresh: Option<Writer>,
    /// A pipeline, and its share of memory.
    stream: Option<Writer>,
    streaming: Option<Share>,
    /// Who wrote since the last commit; unknown writers count as everybody.
    owners: Owners,
    /// Times that the file gets with the next commit.
    times: (Option<Millis>, Option<Millis>),
    /// What was sent does not fit, or was sent in part: the whole new content takes the place of what is there.
    rewrite: bool,
    /// A commit of ours failed: what the cluster has more than it had may be ours.
    attempted: bool,
    /// An error of a stream, which has lost bytes that were taken: every later call gets it.
    broken: Option<Errno>,
    forgotten: bool,
}

#[derive(Default)]
struct Owners {
    anybody: bool,
    known: Vec<u64>,
}

/// Owners told apart at most.
const MAX_OWNERS: usize = 64;

impl Owners {
    fn note(&mut self, owner: Option<u64>) {
        match owner {
            Some(owner) if self.known.contains(&owner) => {}
            Some(owner) if self.known.len() < MAX_OWNERS => self.known.push(owner),
            _ => self.anybody = true,
        }
    }

    /// Whether a commit for `owner` has something to do.
    fn concern(&self, owner: Option<u64>) -> bool {
        owner.is_none_or(|owner| self.anybody || self.known.contains(&owner))
    }
}

/// What a task begins with.
pub(super) struct Start {
    pub(super) client: Client,
    pub(super) path: String,
    pub(super) written: Arc<Written>,
    pub(super) place: Arc<StagePlace>,
    pub(super) pipelines: Pipelines,
    pub(super) length: u64,
    pub(super) fresh: Option<Writer>,
    pub(super) takes_over: bool,
}

impl Task {
    pub(super) fn new(start: Start) -> Self {
        // A new file is there for all, complete, when whoever made it closes it, though nothing was written.
        let owners = Owners { anybody: start.fresh.is_some(), known: Vec::new() };
        Self {
            client: start.client,
            path: start.path,
            written: start.written,
            place: start.place,
            pipelines: start.pipelines,
            takes_over: start.takes_over,
            taken: 0,
            punched: 0,
            committed: start.length,
            kept: start.length,
            size: start.length,
            base: None,
            stage: None,
            extents: Extents::default(),
            written_over: false,
            fresh: start.fresh,
            stream: None,
            streaming: None,
            owners,
            times: (None, None),
            rewrite: false,
            attempted: false,
            broken: None,
            forgotten: false,
        }
    }

    /// Works until nobody has the file open for writing any more.
    pub(super) async fn run(mut self, mut ops: mpsc::Receiver<Op>) {
        if self.takes_over
            && let Err(errno) = self.take_over().await
        {
            tracing::error!(path = %self.path, "what a killed process was writing is lost: whoever wrote it is told");
            self.broken = Some(errno);
        }
        self.written.note(self.size, self.is_dirty());
        while let Some(op) = ops.recv().await {
            self.apply(op).await;
            self.written.note(self.size, self.is_dirty());
        }
        // Nobody is left who could be told; what could be told was told by the commit of the last close.
        if let Err(error) = self.commit(None).await {
            tracing::error!(path = %self.path, ?error, "the last bytes of a file were lost: nobody was left to be told");
        }
        if let Some(stage) = self.stage.take() {
            stage.discard().await;
        }
        self.written.note(self.size, false);
        self.written.end();
    }

    /// Carries out one operation. Who asked may have gone away: that changes nothing.
    async fn apply(&mut self, op: Op) {
        match op {
            Op::Write { write, share, answer } => {
                // What is staged is safe here: who wrote it need not wait until it is on its way.
                let (done, to_send) = match self.write(write).await {
                    Ok((length, to_send)) => (Ok(length), to_send),
                    Err(errno) => (Err(errno), None),
                };
                self.tell(answer, done);
                if let Some(data) = to_send
                    && let Err(errno) = self.push(data).await
                {
                    // Told to whoever asks next.
                    self.broken.get_or_insert(errno);
                }
                drop(share);
            }
            Op::Read { offset, length, answer } => {
                let done = self.read(offset, length).await;
                self.tell(answer, done);
            }
            Op::Commit { owner, answer } => {
                let done = self.commit(owner).await;
                self.tell(answer, done);
            }
            Op::Sync { answer } => {
                let done = self.sync().await;
                self.tell(answer, done);
            }
            Op::Truncate { length, answer } => {
                let done = self.truncate(length).await;
                self.tell(answer, done);
            }
            Op::Reach { length, answer } => {
                let done = self.reach(length).await;
                self.tell(answer, done);
            }
            Op::SetTimes { client, modified, accessed, answer } => {
                let done = Ok(self.set_times(&client, modified, accessed).await);
                self.tell(answer, done);
            }
            Op::Forget => self.forgotten = true,
        }
    }

    /// Answers whoever asked. What the task tells without being asked is true by then: who has an answer looks at that next.
    fn tell<T>(&self, answer: oneshot::Sender<Answer<T>>, done: Answer<T>) {
        self.written.note(self.size, self.is_dirty());
        let _ = answer.send(done);
    }

    fn is_dirty(&self) -> bool {
        self.is_changed() || self.times != (None, None)
    }

    /// Whether its content is to be committed.
    fn is_changed(&self) -> bool {
        self.stream.is_some() || self.change() != Change::Nothing
    }

    fn change(&self) -> Change {
        if self.extents.is_empty() && self.kept == self.size {
            return if self.kept == self.committed { Change::Nothing } else { Change::Truncate };
        }
        let appends = self.kept == self.committed && self.extents.is_exactly(&(self.committed..self.size));
        if appends && !self.rewrite { Change::Append } else { Change::Replace }
    }

    /// Looks at the file again if somebody else may have changed it and nothing is changed here.
    async fn look(&mut self) -> Answer<()> {
        self.check()?;
        if !self.written.take_doubt() || self.fresh.is_some() || self.is_dirty() {
            return Ok(());
        }
        let status = self.client.stat(&self.path).await;
        let length = status.map_err(|error| failed("a file that is written", &error))?.length;
        (self.committed, self.kept, self.size) = (length, length, length);
        self.base = None;
        if let Some(stage) = self.stage.take() {
            stage.discard().await;
        }
        Ok(())
    }

    /// Stages what is written; gives its length, and what of it is still to be sent.
    async fn write(&mut self, write: Write) -> Answer<(u32, Option<Bytes>)> {
        self.look().await?;
        let Write { at, data, owner, request } = write;
        let length = u32::try_from(data.len()).map_err(|_| Errno::EINVAL)?;
        self.owners.note(owner);
        if request == self.taken && request != 0 {
            // Done by the process before this one, which could not say so any more.
            return Ok((length, None));
        }
        self.forget_modified();
        let offset = match at {
            Position::At(offset) | Position::AsOpened(offset) => offset,
            Position::End => self.size,
        };
        let end = offset.checked_add(u64::from(length)).ok_or(Errno::EFBIG)?;
        if self.stream.is_some() && offset == self.size && self.has_room_to(end).await? {
            self.stage(offset..end, data.clone(), request).await?;
            return Ok((length, Some(data)));
        }
        self.settle().await?;
        if self.extents.count() >= MAX_EXTENTS || self.stage.as_ref().is_some_and(Stage::is_full) {
            self.commit_all().await?;
        }
        if offset > self.size {
            self.grow(offset).await?;
        }
        self.stage(offset..end, data, request).await?;
        // Without memory for another pipeline it is staged on, and tried again with the next write.
        if end == self.size
            && self.change() == Change::Append
            && self.size - self.committed >= STREAM_AFTER
            && let Some(share) = self.pipelines.streams.try_take(PIPELINE)
        {
            self.start_stream(share).await?;
        }
        Ok((length, None))
    }

    /// Whether the stream can be written on to `end`: what that writes over in the ring must be acknowledged.
    async fn has_room_to(&mut self, end: u64) -> Answer<bool> {
        let (Some(writer), Some(_)) = (&mut self.stream, self.stage.as_ref().and_then(Stage::ring_from))
        else {
            return Ok(self.stream.is_some());
        };
        if end <= writer.acknowledged() + RING_BYTES {
            return Ok(true);
        }
        if let Err(error) = writer.hflush().await {
            self.salvage("bytes of a file were not written", &error).await?;
        }
        Ok(self.stream.is_some())
    }

    /// A time that was set counts no more: the content changes after it.
    fn forget_modified(&mut self) {
        self.times.0 = None;
        self.written.modified_now();
    }

    fn check(&self) -> Answer<()> {
        self.broken.map_or(Ok(()), Err)
    }

    /// Sends what was just staged.
    async fn push(&mut self, data: Bytes) -> Answer<()> {
        let writer = self.stream.as_mut().expect("only called while there is one");
        if let Err(error) = writer.write_all(data).await {
            return self.salvage("bytes of a file were not written", &error).await;
        }
        let arrived = writer.acknowledged().min(self.size);
        let Some(stage) = &mut self.stage else { return Ok(()) };
        let from = self.punched.max(self.committed);
        match stage.ring_from() {
            None if arrived.saturating_sub(from) >= PUNCH_AFTER => {
                stage.punch(from, arrived).await;
                self.punched = arrived;
                stage.begin_ring(self.size).await;
            }
            Some(ring) if from < ring && arrived >= ring => {
                stage.punch(from, ring).await;
                self.punched = ring;
            }
            _ => {}
        }
        Ok(())
    }

    /// Remembers that bytes which a program was told are written are gone.
    fn lost(&mut self, what: &'static str, error: &steadfs_client::FsError) -> Errno {
        tracing::error!(path = %self.path, %error, "{what}");
        let errno = crate::errno::errno(error);
        self.broken = Some(errno);
        errno
    }

    async fn stage(&mut self, range: Range<u64>, data: Bytes, request: u64) -> Answer<()> {
        let more = self.extents.missing(range.clone());
        self.written_over |= more < range.end - range.start;
        let streamed = self.stream.is_some();
        let stage = self.staged().await?;
        if streamed && stage.ring_from().is_some() {
            stage.write_ring(range.start, data, request).await?;
            self.size = self.size.max(range.end);
            self.extents.insert(range);
            return Ok(());
        }
        stage.hold(more)?;
        if let Err(error) = stage.write(range.start, range.end, data, request).await {
            stage.release(more);
            return Err(error);
        }
        self.size = self.size.max(range.end);
        self.extents.insert(range);
        Ok(())
    }

    async fn staged(&mut self) -> Answer<&mut Stage> {
        if self.stage.is_none() {
            let stage = Stage::new(self.place.clone(), self.written.inode(), self.committed).await?;
            self.punched = self.committed;
            self.stage = Some(stage);
        }
        Ok(self.stage.as_mut().expect("just set"))
    }

    /// Makes the file longer, with zeros: the staged file reads as zeros where nothing was written to it.
    async fn grow(&mut self, length: u64) -> Answer<()> {
        self.stage(self.size..length, Bytes::new(), 0).await
    }

    /// Opens a pipeline and sends it what is staged, all of it behind the committed end.
    async fn start_stream(&mut self, share: Share) -> Answer<()> {
        let mut writer = self.appender().await?;
        if self.written_over {
            // From here on what arrives is what is staged, and a process that takes over may count on that.
            self.begin_anew(self.committed).await?;
        }
        if let Err(errno) = self.send(&mut writer, self.committed..self.size).await {
            self.attempted = true;
            writer.abort().await;
            if is_room(errno) {
                self.rewrite = true;
                return self.closed_in_between().await.map(drop);
            }
            return Err(errno);
        }
        (self.stream, self.streaming) = (Some(writer), Some(share));
        Ok(())
    }

    /// A writer at the committed end, behind which everything staged lies.
    async fn appender(&mut self) -> Answer<Writer> {
        if let Some(writer) = self.fresh.take() {
            return Ok(writer);
        }
        let writer = self.opened_to_append().await?;
        let end = writer.position();
        if end == self.committed {
            return Ok(writer);
        }
        if (self.takes_over || self.attempted) && self.is_ours(end).await.unwrap_or(false) {
            // A call of the killed process was carried out after it was looked at what had been, or ours failed half way.
            self.begin_anew(end).await?;
            (self.committed, self.kept) = (end, end);
            self.extents = Extents::default();
            self.extents.insert(end..self.size);
            return Ok(writer);
        }
        // Somebody else has appended meanwhile: what a program wrote at an offset cannot come behind that.
        writer.abort().await;
        tracing::warn!(path = %self.path, "a file was changed elsewhere while it was written here");
        Err(Errno::ESTALE)
    }

    /// Has the log of what is staged say that the cluster has `committed` bytes, and that all behind them is staged.
    async fn begin_anew(&mut self, committed: u64) -> Answer<()> {
        if let Some(stage) = &mut self.stage {
            stage.rebase(committed, committed..self.size, self.times).await?;
        }
        self.written_over = false;
        Ok(())
    }

    /// Sends a range of the new content.
    async fn send(&self, writer: &mut Writer, range: Range<u64>) -> Answer<()> {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + COPY_BYTES);
            let bytes = self.content(at..end).await?;
            writer.write_all(bytes).await.map_err(|error| failed("staged bytes were not sent", &error))?;
            at = end;
        }
        Ok(())
    }

    /// Ends a stream: what was written by it is in the cluster, and the file closed.
    async fn settle(&mut self) -> Answer<()> {
        let Some(writer) = self.stream.take() else { return Ok(()) };
        let closed = writer.close_with_times(self.times.0, self.times.1).await;
        self.streaming = None;
        match closed {
            Ok(()) => {
                self.times = (None, None);
                self.is_now(self.size).await;
                Ok(())
            }
            Err(error) => self.salvage("a file was not closed", &error).await,
        }
    }

    /// The cluster has the content as it is here.
    async fn is_now(&mut self, length: u64) {
        (self.committed, self.kept, self.size) = (length, length, length);
        self.extents = Extents::default();
        if let Some(stage) = self.stage.take() {
            stage.discard().await;
        }
        self.base = None;
        (self.rewrite, self.attempted, self.written_over) = (false, false, false);
        // What the killed process had begun is over by now.
        self.takes_over = false;
        self.written.changed();
    }

    async fn read(&mut self, offset: u64, length: usize) -> Answer<Bytes> {
        self.look().await?;
        let end = offset.saturating_add(length as u64).min(self.size);
        if offset >= end {
            return Ok(Bytes::new());
        }
        self.settle().await?;
        self.open_base().await?;
        self.content(offset..end).await
    }

    /// Bytes of the new content. `base` is open if any of the old is wanted.
    async fn content(&self, range: Range<u64>) -> Answer<Bytes> {
        let mut parts = Vec::new();
        for (piece, staged) in self.extents.pieces(range) {
            let length = (piece.end - piece.start) as usize;
            match (&self.stage, &self.base) {
                (Some(stage), _) if staged => parts.push(stage.read(piece.start, length).await?),
                (None, _) if staged => parts.push(Bytes::from(vec![0; length])),
                (_, Some(base)) => {
                    let old = base.read_at(piece.start, length).await;
                    let old = old.map_err(|error| failed("the old content was not read", &error))?;
                    if old.len() != length {
                        tracing::warn!(path = %self.path, "a file became shorter while it was changed here");
                        return Err(Errno::EIO);
                    }
                    parts.push(old);
                }
                (_, None) => return Err(Errno::EIO),
            }
        }
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let mut all = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
        parts.iter().for_each(|part| all.extend_from_slice(part));
        Ok(all.freeze())
    }

    /// Opens the old content, if any of it is still wanted.
    async fn open_base(&mut self) -> Answer<()> {
        if self.base.is_none() && self.kept > 0 {
            let opened = self.client.open(&self.path).await;
            self.base = Some(opened.map_err(|error| failed("a file was not opened", &error))?);
        }
        Ok(())
    }

    async fn truncate(&mut self, length: u64) -> Answer<()> {
        self.look().await?;
        self.settle().await?;
        self.owners.note(None);
        if length > self.size {
            return self.grow(length).await;
        }
        if length == self.size {
            return Ok(());
        }
        self.forget_modified();
        if self.extents.is_empty() && self.kept == self.committed {
            return self.cut(length).await;
        }
        let stage = self.staged().await?;
        stage.set_length(length).await?;
        let gone = self.extents.truncate(length);
        self.written_over = true;
        self.staged().await?.release(gone);
        self.size = length;
        self.kept = self.kept.min(length);
        Ok(())
    }

    /// Cuts the file in the cluster.
    async fn cut(&mut self, length: u64) -> Answer<()> {
        self.close_fresh().await?;
        cut(&self.client, &self.path, length)
            .await
            .map_err(|error| failed("a file was not truncated", &error))?;
        self.is_now(length).await;
        Ok(())
    }

    async fn reach(&mut self, length: u64) -> Answer<()> {
        self.look().await?;
        if length <= self.size {
            return Ok(());
        }
        self.settle().await?;
        self.owners.note(None);
        self.grow(length).await
    }

    async fn set_times(
        &mut self,
        client: &Client,
        modified: Option<Millis>,
        accessed: Option<Millis>,
    ) -> FsResult<()> {
        let times = (modified.or(self.times.0), accessed.or(self.times.1));
        let waits = self.is_changed() || self.fresh.is_some();
        let staged = match &mut self.stage {
            Some(stage) if waits => stage.set_times(times).await.is_ok(),
            _ => false,
        };
        // Whoever writes a file may set its times; of others the cluster knows whether they may. What is not staged, nobody
        // would know of any more after this process.
        if !staged || client.user() != self.client.user() {
            client.set_times(&self.path, modified, accessed).await?;
        }
        if waits {
            self.times = times;
            self.written.times_are(modified, accessed);
        }
        Ok(())
    }
}

/// The memory that a pipeline takes for so many bytes.
fn pipeline_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX).min(PIPELINE)
}

/// Truncates, and waits until the file is closed again.
pub(crate) async fn cut(client: &Client, path: &str, length: u64) -> FsResult<()> {
    let deadline = tokio::time::Instant::now() + CUT_LIMIT;
    loop {
        match client.truncate(path, length).await {
            Ok(true) => return Ok(()),
            Ok(false) => break,
            // The writer before has only just closed it, or a cut is under way.
            Err(error)
                if error.kind() == FsErrorKind::RecoveryInProgress
                    && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(CUT_LOOK).await;
            }
            Err(error) => return Err(error),
        }
    }
    while client.stat(path).await?.under_construction {
        if tokio::time::Instant::now() >= deadline {
            return Err(steadfs_client::FsError::new(
                FsErrorKind::Timeout,
                format!("{path} is still being truncated: are its datanodes up?"),
            ));
        }
        tokio::time::sleep(CUT_LOOK).await;
    }
    Ok(())
}

/// Sends an operation to the task of a file.
pub(super) async fn ask<T>(
    ops: &mpsc::Sender<Op>,
    op: impl FnOnce(oneshot::Sender<Answer<T>>) -> Op,
) -> Answer<T> {
    let (answer, answered) = oneshot::channel();
    ops.send(op(answer)).await.map_err(|_| Errno::EIO)?;
    answered.await.map_err(|_| Errno::EIO)?
}
