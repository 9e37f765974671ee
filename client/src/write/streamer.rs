//! The task that owns a file being written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use steadfs_common::{BlockId, ChecksumSpec, FsError, FsErrorKind, FsPath, FsResult, GenStamp};
use steadfs_proto::steadfs as pb;
use steadfs_wire::transfer::Stage;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::packetizer::{Packetizer, Piece};
use super::patience::Patience;
use super::pipeline::{Event, Pipeline, Setup};
use super::window::{Failure, Window};
use super::writer::{Command, Times, Writer, WriterEnd};
use crate::backoff::Backoff;
use crate::client::Inner;
use crate::lease::LeaseGuard;
use crate::types::foreign;
use crate::{BlockLocation, FileStatus, Replica};

/// How long the namenode may take to hear from the datanodes about a finished block.
const REPLICAS_WAIT: Duration = Duration::from_secs(60);
/// How long a writer waits for a first datanode to be there.
const NODES_WAIT: Duration = Duration::from_secs(30);
/// Waits between asking it again: it waits a moment itself before it says "not yet".
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// For so long a datanode that failed is not asked for again (HDFS: 10 min).
const EXCLUDED_FOR: Duration = Duration::from_secs(600);

/// How a datanode without room for a block begins what it says; HDFS's does, too.
const OUT_OF_SPACE: &str = "Out of space";

/// What a file that was just opened for writing looks like.
pub(super) struct NewStreamer {
    pub(super) status: FileStatus,
    pub(super) checksum: ChecksumSpec,
    /// The block to begin with: a new one (after a create) or the file's last (after an append).
    pub(super) first: Option<BlockLocation>,
    /// What closing makes of it.
    pub(super) finish: Finish,
}

/// What becomes of a file when its writer closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// It is complete.
    Complete,
    /// It is a hidden file, and becomes the content of the file at the path, if that has this version (0 for any).
    Replace { expected: u64 },
}

/// The block being written.
pub(super) struct OpenBlock {
    pub(super) id: BlockId,
    pub(super) stamp: GenStamp,
    /// The pipeline's datanodes, in order.
    pub(super) nodes: Vec<Replica>,
    pub(super) cutter: Packetizer,
    pub(super) window: Window,
    pub(super) pipeline: Option<Pipeline>,
    /// The namenode knows that the block has bytes that somebody may rely on.
    pub(super) noted: bool,
    /// So many bytes are on the disks of all datanodes of the pipeline, as far as is known.
    pub(super) synced: u64,
    /// The namenode knows of bytes that are.
    pub(super) noted_synced: bool,
    /// The empty last packet is on its way.
    pub(super) closing: bool,
    /// Times the pipeline was mended since a packet got through.
    pub(super) failures: u32,
    /// How long the first datanode is borne with.
    patience: Patience,
}

impl OpenBlock {
    /// As the namenode shall know it: the bytes that every datanode has.
    pub(super) fn to_block(&self) -> pb::Block {
        pb::Block { id: self.id.0, stamp: self.stamp.0, length: self.window.acked() }
    }
}

/// The owner of one open file.
pub(super) struct Streamer {
    pub(super) inner: Arc<Inner>,
    pub(super) path: FsPath,
    pub(super) inode: u64,
    pub(super) replication: u16,
    pub(super) checksum: ChecksumSpec,
    pub(super) block: Option<OpenBlock>,
    /// Somebody may rely on the block being written: it was flushed, or belongs to an append.
    pub(super) relied_on: bool,
    block_size: u64,
    finish: Finish,
    /// Allocated and not yet begun.
    first: Option<BlockLocation>,
    /// The last block that is finished.
    previous: Option<pb::Block>,
    next_seqno: i64,
    excluded: Vec<(String, Instant)>,
    failure: Arc<OnceLock<FsError>>,
    /// See [`Writer::acknowledged`].
    acknowledged: Arc<AtomicU64>,
    _lease: LeaseGuard,
}

impl Streamer {
    /// Starts the task of a new file.
    pub(super) fn spawn(inner: Arc<Inner>, file: NewStreamer) -> Writer {
        let (writer, end) = Writer::new(file.status.clone());
        let streamer = Self::new(inner, file, end.failure, end.acknowledged);
        tokio::spawn(streamer.run(end.commands));
        writer
    }

    /// Opens the pipeline of the file's last block, if it is to be continued, and starts the task.
    pub(super) async fn append(inner: Arc<Inner>, mut file: NewStreamer) -> FsResult<Writer> {
        let last = file.first.take();
        let (writer, WriterEnd { commands, failure, acknowledged }) = Writer::new(file.status.clone());
        let mut streamer = Self::new(inner, file, failure, acknowledged);
        streamer.relied_on = true;
        let (opened, is_open) = tokio::sync::oneshot::channel();
        // Opening mends pipelines as well: it is not left half done when the caller goes away.
        tokio::spawn(async move {
            let result = match last {
                Some(last) => streamer.reopen(last).await,
                None => Ok(()),
            };
            if let Err(error) = &result {
                streamer.fail(error.clone());
            }
            let _ = opened.send(result);
            streamer.run(commands).await;
        });
        is_open.await.map_err(|_| FsError::new(FsErrorKind::Stopping, "the runtime stopped"))??;
        Ok(writer)
    }

    fn new(
        inner: Arc<Inner>,
        file: NewStreamer,
        failure: Arc<OnceLock<FsError>>,
        acknowledged: Arc<AtomicU64>,
    ) -> Self {
        Self {
            path: file.status.path,
            inode: file.status.inode.0,
            replication: file.status.replication,
            block_size: file.status.block_size.max(1),
            checksum: file.checksum,
            block: None,
            relied_on: false,
            finish: file.finish,
            first: file.first,
            previous: None,
            next_seqno: 0,
            excluded: Vec::new(),
            failure,
            acknowledged,
            _lease: LeaseGuard::hold(inner.clone()),
            inner,
        }
    }

    /// Applies commands and events until the file is closed or given up.
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let command = tokio::select! {
                command = commands.recv() => command,
                event = next_event(self.block.as_mut(), self.inner.options.stalled_after) => {
                    if let Err(error) = self.apply(event).await {
                        self.fail(error);
                    }
                    continue;
                }
            };
            match command {
                Some(Command::Write(bytes, share)) => {
                    if self.failure.get().is_none()
                        && let Err(error) = self.write(bytes).await
                    {
                        self.fail(error);
                    }
                    drop(share);
                }
                Some(Command::Flush { sync, answer }) => {
                    let result = self.unless_failed(async |this: &mut Self| this.flush(sync).await).await;
                    let _ = answer.send(result);
                }
                Some(Command::Close { times, answer }) => {
                    let result = self.unless_failed(async |this: &mut Self| this.close(times).await).await;
                    if result.is_err() {
                        self.give_up().await;
                    }
                    let _ = answer.send(result);
                    return;
                }
                Some(Command::Abort { answer }) => {
                    self.give_up().await;
                    let _ = answer.send(());
                    return;
                }
                None => return self.give_up().await,
            }
        }
    }

    async fn unless_failed(&mut self, act: impl AsyncFnOnce(&mut Self) -> FsResult<()>) -> FsResult<()> {
        if let Some(error) = self.failure.get() {
            return Err(error.clone());
        }
        let result = act(self).await;
        if let Err(error) = &result {
            self.fail(error.clone());
        }
        result
    }

    /// From here on every call fails with `error`.
    fn fail(&mut self, error: FsError) {
        tracing::debug!(path = %self.path, %error, "writing failed");
        let _ = self.failure.set(error);
        if let Some(block) = &mut self.block {
            block.pipeline = None;
        }
    }

    async fn write(&mut self, mut bytes: Bytes) -> FsResult<()> {
        while !bytes.is_empty() {
            self.ensure_block().await?;
            let Some(block) = &mut self.block else { continue };
            if let Some(piece) = block.cutter.push(&mut bytes) {
                self.send(piece, false).await?;
            }
            if self.block.as_ref().is_some_and(|block| block.cutter.is_full()) {
                self.finish_block().await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, piece: Piece, sync: bool) -> FsResult<()> {
        let limit = self.inner.options.packets_in_flight.max(1);
        self.pump_until(|window| window.len() < limit).await?;
        let Some(block) = &mut self.block else { return Ok(()) };
        let packet = block.window.push(self.next_seqno, piece, sync);
        self.next_seqno += 1;
        if let Some(pipeline) = &block.pipeline {
            pipeline.send(packet).await;
        }
        Ok(())
    }

    async fn send_empty(&mut self, last: bool) -> FsResult<()> {
        let Some(block) = &mut self.block else { return Ok(()) };
        block.closing = last;
        let packet = block.window.push_empty(self.next_seqno, last);
        self.next_seqno += 1;
        if let Some(pipeline) = &block.pipeline {
            pipeline.send(packet).await;
        }
        Ok(())
    }

    /// Applies what the pipeline answers until `done`.
    async fn pump_until(&mut self, done: impl Fn(&Window) -> bool) -> FsResult<()> {
        while self.block.as_ref().is_some_and(|block| !done(&block.window)) {
            let event = next_event(self.block.as_mut(), self.inner.options.stalled_after).await;
            self.apply(event).await?;
        }
        Ok(())
    }

    async fn apply(&mut self, event: Event) -> FsResult<()> {
        let Some(block) = &mut self.block else { return Ok(()) };
        let before = block.window.acked();
        let failure = match event {
            Event::Ack(ack) => match block.window.ack(&ack, block.nodes.len()) {
                Ok(progress) => {
                    self.acknowledged.fetch_add(block.window.acked() - before, Ordering::Release);
                    if progress {
                        block.failures = 0;
                    }
                    return Ok(());
                }
                Err(failure) => failure,
            },
            Event::Broken(reason) => Failure::of(0, reason),
        };
        self.recover(failure).await
    }

    async fn flush(&mut self, sync: bool) -> FsResult<()> {
        let Some(block) = &mut self.block else { return Ok(()) };
        match block.cutter.flush() {
            Some(piece) => self.send(piece, sync).await?,
            None if sync => self.send_empty(false).await?,
            None => {}
        }
        self.pump_until(Window::is_empty).await?;
        self.relied_on = true;
        let Some(block) = &mut self.block else { return Ok(()) };
        if sync {
            block.synced = block.window.acked();
        }
        if !block.noted || sync && !block.noted_synced {
            let request = pb::FsyncRequest {
                path: self.path.to_string(),
                inode: self.inode,
                client: self.inner.name.clone(),
                last_block_length: block.window.acked(),
                flushed_only: !sync,
            };
            self.inner.calls.namespace(request, |mut c, r| async move { c.fsync(r).await }).await?;
            block.noted = true;
            block.noted_synced |= sync;
        }
        Ok(())
    }

    /// Sends what is left of the block and waits until every datanode has it on disk and finished.
    async fn finish_block(&mut self) -> FsResult<()> {
        let Some(block) = &mut self.block else { return Ok(()) };
        if let Some(piece) = block.cutter.flush() {
            self.send(piece, false).await?;
        }
        // All bytes first: a datanode that fails while others have finished is then only left out.
        self.pump_until(Window::is_empty).await?;
        self.send_empty(true).await?;
        self.pump_until(Window::is_empty).await?;
        if let Some(block) = self.block.take() {
            self.previous = Some(block.to_block());
        }
        Ok(())
    }

    async fn close(&mut self, times: Times) -> FsResult<()> {
        self.finish_block().await?;
        if let Some(unused) = self.first.take() {
            self.abandon(unused.to_block()).await?;
        }
        let deadline = Instant::now() + REPLICAS_WAIT;
        let mut waits = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        while !self.finish(times).await? {
            let wait = waits.next_wait();
            if Instant::now() + wait >= deadline {
                return Err(FsError::refused(format!(
                    "Unable to close file {} because the last block does not have enough number of replicas",
                    self.path
                )));
            }
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// Asks the namenode to make of the file what its writer wants. False while it waits for replicas.
    async fn finish(&self, (modified, accessed): Times) -> FsResult<bool> {
        let (path, client, last) = (self.path.to_string(), self.inner.name.clone(), self.previous);
        let calls = &self.inner.calls;
        match self.finish {
            Finish::Complete => {
                let request = pb::CompleteRequest {
                    path,
                    inode: self.inode,
                    client,
                    last,
                    mtime: modified.map(|time| time.0),
                    atime: accessed.map(|time| time.0),
                };
                let answer = calls.namespace(request, |mut c, r| async move { c.complete(r).await });
                Ok(answer.await?.done)
            }
            Finish::Replace { expected } => {
                let request = pb::ReplaceContentRequest {
                    path,
                    staged: self.inode,
                    client,
                    last,
                    expected_version: expected,
                };
                let answer = calls.mounts(request, |mut c, r| async move { c.replace_content(r).await });
                Ok(answer.await?.result)
            }
        }
    }

    /// A hidden file that is given up is of no use to anybody.
    async fn drop_staged(&self) {
        let request = pb::DropStagedRequest { staged: self.inode, client: self.inner.name.clone() };
        let dropped = self.inner.calls.mounts(request, |mut c, r| async move { c.drop_staged(r).await });
        if let Err(error) = dropped.await {
            tracing::debug!(path = %self.path, %error, "new content that was given up stays until its lease ends");
        }
    }

    /// Lets an unflushed block go and asks the namenode to close the file with what it has.
    async fn give_up(&mut self) {
        if matches!(self.finish, Finish::Replace { .. }) {
            self.block = None;
            return self.drop_staged().await;
        }
        let relied_on = self.relied_on;
        let unused = match self.block.take() {
            Some(block) if !block.noted && !relied_on => Some(block.to_block()),
            Some(_) => None,
            None => self.first.take().map(|block| block.to_block()),
        };
        if let Some(block) = unused
            && let Err(error) = self.abandon(block).await
        {
            tracing::debug!(path = %self.path, %error, "a block was not abandoned");
        }
        let request = pb::PathRequest { path: self.path.to_string() };
        let recovered =
            self.inner.calls.namespace(request, |mut c, r| async move { c.recover_lease(r).await });
        if let Err(error) = recovered.await {
            tracing::debug!(path = %self.path, %error, "a file that was given up stays open until its lease ends");
        }
    }

    async fn abandon(&self, block: pb::Block) -> FsResult<()> {
        let request = pb::AbandonBlockRequest {
            path: self.path.to_string(),
            inode: self.inode,
            client: self.inner.name.clone(),
            block: Some(block),
        };
        self.inner.calls.namespace(request, |mut c, r| async move { c.abandon_block(r).await }).await?;
        Ok(())
    }

    /// Opens a block if none is open: one that was allocated already, or a new one. When a datanode cannot be reached,
    /// another block is asked for without it.
    async fn ensure_block(&mut self) -> FsResult<()> {
        let (mut tries, mut full) = (0, true);
        while self.block.is_none() {
            let block = match self.first.take() {
                Some(block) => block,
                None => self.allocate().await?,
            };
            match self.begin(&block).await {
                Ok(pipeline) => self.block = Some(self.open_block(&block, 0, Some(pipeline))),
                Err(failure) => {
                    let node = block.replicas.get(failure.bad);
                    tracing::warn!(path = %self.path, block = %block.block, node = ?node.map(ToString::to_string),
                        reason = failure.reason, "a block cannot be begun and is given back");
                    if let Some(node) = node {
                        self.exclude(node.datanode.clone());
                    }
                    self.abandon(block.to_block()).await?;
                    tries += 1;
                    full &= failure.reason.starts_with(OUT_OF_SPACE);
                    if tries > self.inner.options.block_retries {
                        return Err(no_pipeline(&self.path, &failure.reason, full));
                    }
                }
            }
        }
        Ok(())
    }

    async fn begin(&self, block: &BlockLocation) -> Result<Pipeline, Failure> {
        let setup = Setup {
            stage: Stage::SetupCreate,
            block: block.block,
            stamp: block.stamp,
            new_stamp: GenStamp(0),
            length: self.block_size,
            min_bytes: 0,
            max_bytes: 0,
            checksum: self.checksum,
        };
        Pipeline::open(&self.inner, &block.replicas, &setup).await
    }

    pub(super) fn open_block(
        &self,
        block: &BlockLocation,
        length: u64,
        pipeline: Option<Pipeline>,
    ) -> OpenBlock {
        let packet_data = self.inner.options.packet_data(self.checksum);
        OpenBlock {
            id: block.block,
            stamp: block.stamp,
            nodes: block.replicas.clone(),
            cutter: Packetizer::new(self.checksum, packet_data, self.block_size.max(length), length),
            window: Window::new(length),
            pipeline,
            noted: false,
            synced: length,
            noted_synced: false,
            closing: false,
            failures: 0,
            patience: Patience::default(),
        }
    }

    /// Asks for the next block, and again while the one before is not yet on enough datanodes.
    async fn allocate(&mut self) -> FsResult<BlockLocation> {
        let began = Instant::now();
        let mut waits = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let request = pb::AddBlockRequest {
                path: self.path.to_string(),
                inode: self.inode,
                client: self.inner.name.clone(),
                previous: self.previous,
                excluded: self.excluded(),
            };
            let answer =
                self.inner.calls.namespace(request, |mut c, r| async move { c.add_block(r).await }).await;
            let wait = waits.next_wait();
            match answer {
                Ok(answer) => {
                    return BlockLocation::from_proto(answer.block.ok_or_else(|| foreign("block"))?);
                }
                Err(error) if began.elapsed() + wait < self.patience_with(&error) => {
                    tokio::time::sleep(wait).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How long a block is asked for again that is refused so.
    fn patience_with(&mut self, error: &FsError) -> Duration {
        match error.kind() {
            FsErrorKind::NotReplicatedYet => REPLICAS_WAIT,
            // They register some seconds after the namenode has begun.
            FsErrorKind::NoDatanodeYet => NODES_WAIT,
            // Who failed before is better than nobody, and may be back: how often a block is tried is bounded.
            FsErrorKind::NoDatanode if !self.excluded.is_empty() => {
                self.excluded.clear();
                NODES_WAIT
            }
            _ => Duration::ZERO,
        }
    }

    /// Leaves `datanode` out of what is asked for in the next minutes.
    pub(super) fn exclude(&mut self, datanode: String) {
        self.excluded.push((datanode, Instant::now()));
    }

    pub(super) fn excluded(&mut self) -> Vec<String> {
        self.excluded.retain(|(_, since)| since.elapsed() < EXCLUDED_FOR);
        self.excluded.iter().map(|(datanode, _)| datanode.clone()).collect()
    }
}

/// What the pipeline of `block` says next; never anything where there is none. One that has acked nothing for `stall` is broken.
async fn next_event(block: Option<&mut OpenBlock>, stall: Option<Duration>) -> Event {
    let Some(OpenBlock { pipeline: Some(pipeline), window, nodes, failures, patience, .. }) = block else {
        return std::future::pending().await;
    };
    // One that was only just mended gets all the time there is.
    let Some(stall) = stall.filter(|_| *failures == 0) else { return pipeline.event().await };
    loop {
        if let Ok(event) = tokio::time::timeout(Patience::tick(stall), pipeline.event()).await {
            return event;
        }
        if patience.look(window, nodes.len()) {
            return Event::Broken("it acks nothing".into());
        }
    }
}

/// No datanode began a block. `full`: each of them for want of room, which the namenode did not know yet.
fn no_pipeline(path: &FsPath, reason: &str, full: bool) -> FsError {
    let (kind, remedy) = if full {
        (FsErrorKind::NoDatanode, "no datanode has room for a block: see `steadfs admin report`")
    } else {
        (FsErrorKind::Refused, "are all datanodes up and reachable from here?")
    };
    FsError::new(kind, format!("{path}: no pipeline of datanodes could be set up ({reason}): {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_datanodes_are_no_broken_ones() {
        let path = FsPath::parse("/f").unwrap();
        // What a datanode says begins so.
        let reason = format!("{OUT_OF_SPACE}: no volume has 2 bytes free, the most is 1");
        let full = no_pipeline(&path, &reason, true);
        assert_eq!((full.kind(), full.kind().errno()), (FsErrorKind::NoDatanode, 28));
        let other = no_pipeline(&path, "it is gone", false);
        assert_eq!(other.kind(), FsErrorKind::Refused);
        assert!(other.to_string().contains("(it is gone): are all datanodes up"));
    }
}
