//! The kernel's requests: each is carried out by a task of its own, and answered.

mod handlers;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use fuser::{Errno, FileAttr};
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::coherence::Begun;
use crate::errno::Answer;
use crate::interrupt::{Patience, interruptible};
use crate::kernel::{Found, Handler, Operation, Reply, Request, Running};
use crate::ops::{Caller, Mount};

/// Requests under way at most. The kernel sends no more of its own than it was told; the rest are programs that wait.
const MAX_REQUESTS: usize = 4_096;
/// Programs that wait for locks at most; more are told that there are too many.
const MAX_LOCK_WAITS: usize = 4_096;
/// A request may be interrupted before it was seen here: so long later the kernel tells again.
const TELL_AGAIN: Duration = Duration::from_millis(1);

/// What answers the kernel.
pub(crate) struct Session {
    mount: Arc<Mount>,
    runtime: runtime::Handle,
    running: Running,
    room: Arc<Semaphore>,
    lock_waits: Arc<Semaphore>,
}

/// What every request says.
#[derive(Clone, Copy)]
struct Call {
    unique: u64,
    inode: u64,
    alias: u8,
    caller: Caller,
    thread: u32,
}

impl Call {
    fn of(request: &Request) -> Self {
        Self {
            unique: request.unique(),
            inode: request.inode,
            alias: request.alias,
            caller: Caller { user: request.user },
            thread: request.thread,
        }
    }
}

impl Session {
    pub(crate) fn new(mount: Arc<Mount>, runtime: runtime::Handle) -> Self {
        Self {
            mount,
            runtime,
            running: Running::default(),
            room: Arc::new(Semaphore::new(MAX_REQUESTS)),
            lock_waits: Arc::new(Semaphore::new(MAX_LOCK_WAITS)),
        }
    }

    /// Carries out `work` in a task of its own, and hands what came of it to `answer`. Waits here while too much is under way:
    /// then no more requests are read.
    fn answer<T, W>(&self, call: Call, reply: Reply, work: W, answer: impl FnOnce(Reply, T) + Send + 'static)
    where
        T: Send + 'static,
        W: Future<Output = Answer<T>> + Send + 'static,
    {
        self.answer_as(Patience::UntilEnd, call, reply, work, answer);
    }

    fn answer_as<T, W>(
        &self,
        patience: Patience,
        call: Call,
        reply: Reply,
        work: W,
        answer: impl FnOnce(Reply, T) + Send + 'static,
    ) where
        T: Send + 'static,
        W: Future<Output = Answer<T>> + Send + 'static,
    {
        let room = self.room.clone();
        let place = room.clone().try_acquire_owned().or_else(|_| self.runtime.block_on(room.acquire_owned()));
        self.carry_out(patience, call, place.ok(), work, move |done| match done {
            Ok(done) => answer(reply, done),
            Err(errno) => reply.error(errno),
        });
    }

    /// As [`Session::answer`], for what changes something: sent again by the kernel because the server that had it died, it
    /// is not carried out twice.
    fn answer_change<T, W>(
        &self,
        call: Call,
        reply: Reply,
        work: W,
        answer: impl FnOnce(Reply, T) + Send + 'static,
    ) where
        T: Send + 'static,
        W: Future<Output = Answer<T>> + Send + 'static,
    {
        let id = self.mount.request_id(call.unique);
        self.answer(call, reply, steadfs_client::repeatable(id, work), answer);
    }

    /// As [`Session::answer`], for what may wait for ever: any signal ends it, and it takes no room from what it waits for.
    fn answer_lock<W>(&self, call: Call, reply: Reply, work: W)
    where
        W: Future<Output = Answer<()>> + Send + 'static,
    {
        let Ok(place) = self.lock_waits.clone().try_acquire_owned() else {
            return reply.error(Errno::ENOLCK);
        };
        self.carry_out(Patience::None, call, Some(place), work, done(reply));
    }

    /// As [`Session::answer`], for what must be carried through whoever waits.
    fn answer_surely<W>(&self, reply: Reply, work: W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        self.runtime.spawn(async move {
            work.await;
            reply.ok();
        });
    }

    fn carry_out<T, W>(
        &self,
        patience: Patience,
        call: Call,
        place: Option<OwnedSemaphorePermit>,
        work: W,
        answer: impl FnOnce(Answer<T>) + Send + 'static,
    ) where
        T: Send + 'static,
        W: Future<Output = Answer<T>> + Send + 'static,
    {
        self.runtime.spawn(self.task(patience, call, place, work, answer));
    }

    /// As [`Session::answer`], for what mostly has nothing to wait for: then the thread that read the request answers it, and no
    /// other has to be woken.
    fn answer_here<T, W>(
        &self,
        call: Call,
        reply: Reply,
        work: W,
        answer: impl FnOnce(Reply, T) + Send + 'static,
    ) where
        T: Send + 'static,
        W: Future<Output = Answer<T>> + Send + 'static,
    {
        let Ok(place) = self.room.clone().try_acquire_owned() else {
            return self.answer(call, reply, work, answer);
        };
        let task = self.task(Patience::UntilEnd, call, Some(place), work, move |done| match done {
            Ok(done) => answer(reply, done),
            Err(errno) => reply.error(errno),
        });
        let mut task = Box::pin(task);
        let _entered = self.runtime.enter();
        let begun = catch_unwind(AssertUnwindSafe(|| {
            task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
        }));
        match begun {
            Ok(true) => {}
            Ok(false) => drop(self.runtime.spawn(task)),
            // Said by the panic itself; whoever waits has an error.
            Err(_) => drop(task),
        }
    }

    fn task<T, W, A>(
        &self,
        patience: Patience,
        call: Call,
        place: Option<OwnedSemaphorePermit>,
        work: W,
        answer: A,
    ) -> impl Future<Output = ()> + Send + use<T, W, A>
    where
        T: Send + 'static,
        W: Future<Output = Answer<T>> + Send + 'static,
        A: FnOnce(Answer<T>) + Send + 'static,
    {
        let interrupted = self.running.begin(call.unique);
        async move {
            answer(interruptible((call.thread, patience), &interrupted, work).await);
            drop((interrupted, place));
        }
    }

    /// A program that waits for `number` has a signal. Nothing is answered to that, unless the request is not known yet.
    fn interrupt(&self, number: u64, reply: Reply) {
        if self.running.interrupt(number) {
            return reply.needless();
        }
        self.runtime.spawn(async move {
            tokio::time::sleep(TELL_AGAIN).await;
            reply.error(Errno::EAGAIN);
        });
    }
}

/// Answers with success or failure alone.
fn done(reply: Reply) -> impl FnOnce(Answer<()>) + Send + 'static {
    move |done| match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// How long an answer may be relied on: what is heard between its beginning and its end makes it old.
#[derive(Clone)]
struct Lasting {
    mount: Arc<Mount>,
    begun: Begun,
}

impl Lasting {
    fn begin(mount: &Arc<Mount>) -> Self {
        Self { mount: mount.clone(), begun: mount.coherence.begin() }
    }

    fn time(&self) -> Duration {
        self.mount.lasts(self.begun)
    }

    fn found<'a>(&self, attributes: Option<&'a FileAttr>) -> Found<'a> {
        let node = attributes.map_or(0, |attributes| self.mount.nodes.of(attributes.ino.0));
        Found { attributes, node, lasts: self.time() }
    }
}

impl Handler for Session {
    fn handle(&self, request: Request, reply: Reply) {
        let call = Call::of(&request);
        match request.operation {
            Operation::Lookup { .. }
            | Operation::MakeNode { .. }
            | Operation::MakeFolder { .. }
            | Operation::Unlink { .. }
            | Operation::RemoveFolder { .. }
            | Operation::Rename { .. }
            | Operation::Link => self.name(call, request.operation, reply),
            Operation::GetAttributes
            | Operation::SetAttributes(_)
            | Operation::Access { .. }
            | Operation::SetXattr { .. }
            | Operation::GetXattr { .. }
            | Operation::ListXattrs { .. }
            | Operation::RemoveXattr { .. }
            | Operation::Space => self.inode(call, request.operation, reply),
            Operation::OpenFolder
            | Operation::ReadFolder { .. }
            | Operation::SyncFolder
            | Operation::ReleaseFolder { .. } => self.folder(call, request.operation, reply),
            Operation::TestLock(_) | Operation::SetLock { .. } => self.lock(call, request.operation, reply),
            Operation::Interrupt { number } => self.interrupt(number, reply),
            Operation::Control => reply.error(Errno::ENOTTY),
            // With that the kernel asks no more: copies are then reads and writes, and a whole file is taken for data.
            Operation::Forget | Operation::Destroy | Operation::Unknown => reply.error(Errno::ENOSYS),
            _ => self.file(call, request.operation, reply),
        }
    }
}
