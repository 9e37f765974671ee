//! What all handles of one inode share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use steadfs_client::{Client, FsResult, Millis, Writer};
use tokio::sync::{mpsc, watch};

use super::stage::StagePlace;
use super::task::{Op, QUEUE, Start, Task, Write, ask};
use crate::budget::{Pipelines, Share};
use crate::errno::Answer;
use crate::handoff::Backing;

/// How long after a close the kernel's word is waited for that its handle is gone. Somebody may have it open still, through a
/// descriptor that was passed on, so it is short.
const RELEASE: Duration = Duration::from_millis(20);

/// The inodes that are open on this mount.
pub(crate) struct OpenInodes {
    table: Mutex<HashMap<u64, Arc<OpenInode>>>,
    place: Arc<StagePlace>,
    pipelines: Pipelines,
}

/// One of them.
pub(crate) struct OpenInode {
    pub(crate) number: u64,
    state: Mutex<State>,
    /// Counts commits: a reader that opened before one knows an old length.
    commits: AtomicU64,
    /// It has no name any more: what is left of it goes with the last handle.
    unlinked: AtomicBool,
    /// It was somebody elsewhere who took its name.
    gone: AtomicBool,
}

#[derive(Default)]
struct State {
    handles: usize,
    writing: Option<Writing>,
    /// How it is open under each of its numbers.
    nodes: HashMap<u8, Node>,
}

/// How an inode is open under one of its numbers.
#[derive(Default)]
struct Node {
    /// Handles whose pages the kernel keeps, and those that it keeps nothing of.
    cached: usize,
    direct: usize,
    /// Handles that the kernel reads from a local file, and which.
    passed: usize,
    backing: Option<Backing>,
}

impl Node {
    const fn join(&mut self, way: Way) {
        match way {
            Way::Cached => self.cached += 1,
            Way::Direct => self.direct += 1,
            Way::Passed(backing) => {
                self.passed += 1;
                self.backing = Some(backing);
            }
        }
    }
}

/// How the kernel reads through a handle. It does not let one inode be cached and passed through at the same time, nor
/// passed through to two files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// It keeps pages.
    Cached,
    /// Every read comes to us.
    Direct,
    /// From a local file.
    Passed(Backing),
}

struct Writing {
    ops: mpsc::Sender<Op>,
    written: Arc<Written>,
    handles: usize,
    /// Of these, those that were closed and not written to since, and when the last one was.
    closing: usize,
    closed: Instant,
}

/// No time.
const UNSET: u64 = u64::MAX;

/// What is known here of a file and not committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uncommitted {
    pub(crate) size: u64,
    pub(crate) modified: Millis,
    /// A program has set that time.
    pub(crate) is_set: bool,
    /// Set by a program.
    pub(crate) accessed: Option<Millis>,
}

/// What the task of a file tells, without being asked.
pub(crate) struct Written {
    inode: Arc<OpenInode>,
    size: AtomicU64,
    dirty: AtomicBool,
    /// Somebody else may have changed the file since it was looked at.
    doubted: AtomicBool,
    /// Milliseconds since the epoch of the last change that is not committed.
    modified: AtomicU64,
    /// A program has set that time: it counts, however old it is.
    is_set: AtomicBool,
    /// The access time that a program has set and that is not committed; [`UNSET`] for none.
    accessed: AtomicU64,
    /// Whether length and state are known: not while a file is taken over.
    known: watch::Sender<bool>,
    done: watch::Sender<bool>,
}

impl Written {
    fn new(inode: &Arc<OpenInode>, size: u64, dirty: bool, doubted: bool, known: bool) -> Self {
        Self {
            inode: inode.clone(),
            size: AtomicU64::new(size),
            dirty: AtomicBool::new(dirty),
            doubted: AtomicBool::new(doubted),
            modified: AtomicU64::new(now()),
            is_set: AtomicBool::new(false),
            accessed: AtomicU64::new(UNSET),
            known: watch::channel(known).0,
            done: watch::channel(false).0,
        }
    }

    /// Tells how long the file is, and whether something waits to be committed.
    pub(super) fn note(&self, size: u64, dirty: bool) {
        let begins = self.size.load(Ordering::Relaxed) != size || !self.dirty.load(Ordering::Relaxed);
        if dirty && begins && !self.is_set.load(Ordering::Relaxed) {
            self.modified.store(now(), Ordering::Relaxed);
        }
        if !dirty {
            self.is_set.store(false, Ordering::Relaxed);
            self.accessed.store(UNSET, Ordering::Relaxed);
        }
        self.size.store(size, Ordering::Relaxed);
        self.dirty.store(dirty, Ordering::Release);
        if !*self.known.borrow() {
            self.known.send_replace(true);
        }
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode.number
    }

    /// Something was changed, which is not committed.
    pub(super) fn modified_now(&self) {
        self.modified.store(now(), Ordering::Relaxed);
        self.is_set.store(false, Ordering::Relaxed);
    }

    /// A program has set times, which are not committed.
    pub(super) fn times_are(&self, modified: Option<Millis>, accessed: Option<Millis>) {
        if let Some(modified) = modified {
            self.modified.store(modified.0, Ordering::Relaxed);
            self.is_set.store(true, Ordering::Relaxed);
        }
        if let Some(accessed) = accessed {
            self.accessed.store(accessed.0, Ordering::Relaxed);
        }
    }

    /// Whether somebody else may have changed the file since this was asked last.
    pub(super) fn take_doubt(&self) -> bool {
        self.doubted.swap(false, Ordering::AcqRel)
    }

    /// Something was committed.
    pub(super) fn changed(&self) {
        self.inode.commits.fetch_add(1, Ordering::Release);
    }

    /// The task has ended: the next writer begins with a new one.
    pub(super) fn end(self: &Arc<Self>) {
        let mut state = self.inode.state.lock();
        if state.writing.as_ref().is_some_and(|writing| Arc::ptr_eq(&writing.written, self)) {
            state.writing = None;
        }
        drop(state);
        self.done.send_replace(true);
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl OpenInodes {
    pub(crate) fn new(place: Arc<StagePlace>, pipelines: Pipelines) -> Self {
        Self { table: Mutex::default(), place, pipelines }
    }

    /// The inode, with one handle more.
    pub(crate) fn open(&self, number: u64) -> Arc<OpenInode> {
        let mut table = self.table.lock();
        let inode = table.entry(number).or_insert_with(|| {
            Arc::new(OpenInode {
                number,
                state: Mutex::default(),
                commits: AtomicU64::new(0),
                unlinked: AtomicBool::new(false),
                gone: AtomicBool::new(false),
            })
        });
        inode.state.lock().handles += 1;
        inode.clone()
    }

    /// One handle less.
    pub(crate) fn close(&self, inode: &OpenInode) {
        let mut table = self.table.lock();
        let left = {
            let mut state = inode.state.lock();
            state.handles -= 1;
            state.handles
        };
        if left == 0 {
            table.remove(&inode.number);
        }
    }

    /// The inode, if it is open.
    pub(crate) fn get(&self, number: u64) -> Option<Arc<OpenInode>> {
        self.table.lock().get(&number).cloned()
    }

    /// All that are open.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.table.lock().keys().copied().collect()
    }

    /// Whether nothing is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.lock().is_empty()
    }

    /// Joins the writers of an inode, as the first of them if there is none: then `begin` says how.
    pub(crate) async fn join_writers(
        &self,
        inode: &Arc<OpenInode>,
        client: Client,
        path: String,
        begin: Begin,
    ) -> WriteHandle {
        let mut begin = Some(begin);
        loop {
            let ending = {
                let mut state = inode.state.lock();
                match &mut state.writing {
                    None => {
                        let begin = begin.take().unwrap_or(Begin::TakeOver);
                        let writing = self.begin(inode, client, path, begin);
                        let handle = writing.handle(inode);
                        state.writing = Some(writing);
                        return handle;
                    }
                    Some(writing) if writing.handles > 0 => {
                        writing.handles += 1;
                        // Whoever opens sees what was closed elsewhere.
                        writing.written.doubted.store(true, Ordering::Release);
                        return writing.handle(inode);
                    }
                    Some(writing) => writing.written.done.subscribe(),
                }
            };
            wait(ending).await;
        }
    }

    fn begin(&self, inode: &Arc<OpenInode>, client: Client, path: String, begin: Begin) -> Writing {
        let (ops, received) = mpsc::channel(QUEUE);
        // Since whoever opens looked at it, another handle's commit may have ended.
        let doubted = matches!(begin, Begin::Opened(_));
        let (length, fresh, takes_over) = match begin {
            Begin::Created(writer) => (0, Some(*writer), false),
            Begin::Opened(length) => (length, None, false),
            Begin::TakeOver => (0, None, true),
        };
        let written = Arc::new(Written::new(inode, length, fresh.is_some(), doubted, !takes_over));
        let (written_too, place, pipelines) = (written.clone(), self.place.clone(), self.pipelines.clone());
        let start = Start { client, path, written: written_too, place, pipelines, length, fresh, takes_over };
        tokio::spawn(Task::new(start).run(received));
        Writing { ops, written, handles: 1, closing: 0, closed: Instant::now() }
    }
}

/// What the first writer of an inode begins with.
pub(crate) enum Begin {
    /// The file is new, and this is its lease.
    Created(Box<Writer>),
    /// The file has so many bytes.
    Opened(u64),
    /// A process that was killed had it open for writing.
    TakeOver,
}

/// Waits for the last commit of a task that nobody writes to any more.
async fn wait(mut ending: watch::Receiver<bool>) {
    let _ = ending.wait_for(|done| *done).await;
}

impl Writing {
    fn handle(&self, inode: &Arc<OpenInode>) -> WriteHandle {
        WriteHandle { ops: self.ops.clone(), inode: inode.clone(), closing: AtomicBool::new(false) }
    }
}

impl OpenInode {
    /// Counts what was committed from here.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    /// Somebody else may have changed it: readers open it anew, and a writer looks at it before it goes on.
    pub(crate) fn doubt(&self) {
        self.commits.fetch_add(1, Ordering::Release);
        if let Some(writing) = &self.state.lock().writing {
            writing.written.doubted.store(true, Ordering::Release);
        }
    }

    /// Length and times, if something is not yet committed.
    pub(crate) async fn dirty(&self) -> Option<Uncommitted> {
        let written = self.state.lock().writing.as_ref()?.written.clone();
        let mut known = written.known.subscribe();
        let _ = known.wait_for(|known| *known).await;
        written.dirty.load(Ordering::Acquire).then(|| Uncommitted {
            size: written.size.load(Ordering::Relaxed),
            modified: Millis(written.modified.load(Ordering::Relaxed)),
            is_set: written.is_set.load(Ordering::Relaxed),
            accessed: Some(written.accessed.load(Ordering::Relaxed))
                .filter(|time| *time != UNSET)
                .map(Millis),
        })
    }

    /// Waits until nothing written here is on its way any more, unless somebody has it open for writing: then the way to
    /// its task.
    pub(crate) async fn settled(&self) -> Option<WriteRequests> {
        loop {
            let ending = {
                let state = self.state.lock();
                let writing = state.writing.as_ref()?;
                if writing.handles > 0 {
                    return Some(WriteRequests { ops: writing.ops.clone() });
                }
                writing.written.done.subscribe()
            };
            wait(ending).await;
        }
    }

    /// Whether somebody has it open for writing, once nothing is on its way any more. A program that closes a file and opens
    /// it again is not taken for its own writer: the kernel's word that a handle is gone follows that of its close without
    /// anybody waiting for it, and so may come behind the open.
    pub(crate) async fn is_written(&self) -> bool {
        let ending = {
            let state = self.state.lock();
            let closed = state.writing.as_ref().filter(|writing| writing.closing == writing.handles);
            closed.map(|writing| (writing.written.done.subscribe(), writing.closed + RELEASE))
        };
        if let Some((ending, until)) = ending {
            let _ = tokio::time::timeout_at(until.into(), wait(ending)).await;
        }
        self.settled().await.is_some()
    }

    /// How one handle more of this number may be read. `local` is what it could be passed through to: a block, its stamp, and
    /// a way to make the kernel know its file. None: only under another number, as the kernel reads another local file.
    pub(crate) fn join_readers(
        &self,
        alias: u8,
        local: Option<(u64, u64)>,
        register: impl FnOnce() -> Option<u32>,
    ) -> Option<Way> {
        let mut state = self.state.lock();
        let writing = state.writing.is_some();
        let node = state.nodes.entry(alias).or_default();
        let way = match (node.backing, local) {
            (Some(backing), _) if writing || local != Some((backing.block, backing.stamp)) => return None,
            (Some(backing), _) => Way::Passed(backing),
            (None, _) if writing => Way::Direct,
            // What the kernel keeps pages of, which it may of any handle that it passes nothing of, it passes not.
            (None, Some((block, stamp))) if node.cached == 0 && node.direct == 0 => {
                register().map_or(Way::Cached, |number| Way::Passed(Backing { number, block, stamp }))
            }
            (None, _) => Way::Cached,
        };
        node.join(way);
        Some(way)
    }

    /// One handle more that the kernel keeps nothing of, if it can have one under this number.
    pub(crate) fn join_direct(&self, alias: u8) -> Option<Way> {
        let mut state = self.state.lock();
        let node = state.nodes.entry(alias).or_default();
        if node.backing.is_some() {
            return None;
        }
        node.join(Way::Direct);
        Some(Way::Direct)
    }

    /// A handle that a process before this one had.
    pub(crate) fn rejoin(&self, alias: u8, way: Way) {
        self.state.lock().nodes.entry(alias).or_default().join(way);
    }

    /// One handle less; gives what the kernel need not know any more.
    pub(crate) fn leave(&self, alias: u8, way: Way) -> Option<Backing> {
        let mut state = self.state.lock();
        let node = state.nodes.entry(alias).or_default();
        match way {
            Way::Cached => node.cached -= 1,
            Way::Direct => node.direct -= 1,
            Way::Passed(_) => node.passed -= 1,
        }
        let backing = if node.passed == 0 { node.backing.take() } else { None };
        if node.cached + node.direct + node.passed == 0 {
            state.nodes.remove(&alias);
        }
        backing
    }

    /// Whether one handle alone is open under a number.
    pub(crate) fn is_alone(&self, alias: u8) -> bool {
        let state = self.state.lock();
        state.nodes.get(&alias).is_some_and(|node| node.cached + node.direct + node.passed == 1)
    }

    /// Whether nothing is open under a number.
    pub(crate) fn is_free(&self, alias: u8) -> bool {
        !self.state.lock().nodes.contains_key(&alias)
    }

    /// Whether it has one handle alone.
    pub(crate) fn is_last(&self) -> bool {
        self.state.lock().handles == 1
    }

    pub(crate) fn is_unlinked(&self) -> bool {
        self.is_unlinked_here() || self.gone.load(Ordering::Acquire)
    }

    /// Whether this mount took its name away: then the kernel opens it by no name any more.
    pub(crate) fn is_unlinked_here(&self) -> bool {
        self.unlinked.load(Ordering::Acquire)
    }

    /// Notes that somebody elsewhere took its name away.
    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// Notes that it has lost its name.
    pub(crate) fn set_unlinked(&self) {
        self.unlinked.store(true, Ordering::Release);
    }
}

/// A handle open for writing: while it lives, so does the file's task.
pub(crate) struct WriteHandle {
    ops: mpsc::Sender<Op>,
    inode: Arc<OpenInode>,
    closing: AtomicBool,
}

impl Drop for WriteHandle {
    fn drop(&mut self) {
        let mut state = self.inode.state.lock();
        if let Some(writing) = &mut state.writing {
            writing.handles -= 1;
            writing.closing -= usize::from(*self.closing.get_mut());
            if writing.handles == 0 {
                // The task ends when the last sender goes.
                writing.ops = mpsc::channel(1).0;
            }
        }
    }
}

impl WriteHandle {
    /// Notes that it is being closed, or was, by one who had it; or is written to all the same.
    pub(crate) fn set_closing(&self, closing: bool) {
        if !closing && !self.closing.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.inode.state.lock();
        let before = self.closing.swap(closing, Ordering::Relaxed);
        let Some(writing) = &mut state.writing else { return };
        writing.closing = writing.closing + usize::from(closing) - usize::from(before);
        if closing {
            writing.closed = Instant::now();
        }
    }

    pub(crate) fn requests(&self) -> WriteRequests {
        WriteRequests { ops: self.ops.clone() }
    }
}

/// What may be asked of the task of a file.
#[derive(Clone)]
pub(crate) struct WriteRequests {
    ops: mpsc::Sender<Op>,
}

impl WriteRequests {
    pub(crate) async fn write(&self, write: Write, share: Share) -> Answer<u32> {
        ask(&self.ops, |answer| Op::Write { write, share, answer }).await
    }

    pub(crate) async fn read(&self, offset: u64, length: usize) -> Answer<Bytes> {
        ask(&self.ops, |answer| Op::Read { offset, length, answer }).await
    }

    pub(crate) async fn commit(&self, owner: Option<u64>) -> Answer<()> {
        ask(&self.ops, |answer| Op::Commit { owner, answer }).await
    }

    pub(crate) async fn sync(&self) -> Answer<()> {
        ask(&self.ops, |answer| Op::Sync { answer }).await
    }

    pub(crate) async fn truncate(&self, length: u64) -> Answer<()> {
        ask(&self.ops, |answer| Op::Truncate { length, answer }).await
    }

    pub(crate) async fn reach(&self, length: u64) -> Answer<()> {
        ask(&self.ops, |answer| Op::Reach { length, answer }).await
    }

    /// `client` is that of whoever sets them.
    pub(crate) async fn set_times(
        &self,
        client: Client,
        modified: Option<Millis>,
        accessed: Option<Millis>,
    ) -> Answer<FsResult<()>> {
        ask(&self.ops, |answer| Op::SetTimes { client, modified, accessed, answer }).await
    }

    /// The file has lost its name: nothing of it needs to be committed.
    pub(crate) async fn forget(&self) {
        let _ = self.ops.send(Op::Forget).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An inode that is open for writing once, with what ends its task.
    fn written() -> (Arc<OpenInode>, WriteHandle, Arc<Written>) {
        let inode = Arc::new(OpenInode {
            number: 7,
            state: Mutex::default(),
            commits: AtomicU64::new(0),
            unlinked: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        let written = Arc::new(Written::new(&inode, 0, false, false, true));
        let (ops, _) = mpsc::channel(1);
        let writing =
            Writing { ops, written: written.clone(), handles: 1, closing: 0, closed: Instant::now() };
        let handle = writing.handle(&inode);
        inode.state.lock().writing = Some(writing);
        (inode, handle, written)
    }

    #[tokio::test(start_paused = true)]
    async fn who_closed_a_file_is_not_taken_for_its_writer() {
        let (inode, handle, task) = written();
        assert!(inode.is_written().await);
        handle.set_closing(true);
        let gone = tokio::spawn(async move {
            tokio::task::yield_now().await;
            drop(handle);
            task.end();
        });
        assert!(!inode.is_written().await);
        gone.await.unwrap();
    }

    #[tokio::test]
    async fn who_closed_a_file_and_writes_on_through_another_descriptor_is() {
        let (inode, handle, _task) = written();
        for closing in [true, true, false, false, true] {
            handle.set_closing(closing);
        }
        // So long and no longer the kernel is waited for.
        assert!(inode.is_written().await);
        handle.set_closing(false);
        assert_eq!(inode.state.lock().writing.as_ref().unwrap().closing, 0);
        handle.set_closing(true);
        drop(handle);
        assert_eq!(
            inode.state.lock().writing.as_ref().map(|left| (left.handles, left.closing)),
            Some((0, 0))
        );
    }
}
