//! A thread of each volume for what nobody waits for: early write-back, and clearing away what a writer left.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use crate::{StoreError, StoreResult};

/// Jobs that may wait. More are refused: each can be left out or done by whoever asked.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// The thread and its queue.
pub(crate) struct Worker {
    queue: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    pub(crate) fn start(index: usize) -> StoreResult<Self> {
        let (send, receive) = sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name(format!("volume-{index}"))
            .spawn(move || work(&receive))
            .map_err(|error| StoreError::io("a volume's thread".as_ref(), error))?;
        Ok(Self { queue: Mutex::new(Some(send)), thread: Mutex::new(Some(thread)) })
    }

    /// Queues a job; gives it back if there is no room or the store is closing.
    pub(crate) fn offer(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Job> {
        let queue = self.queue.lock();
        let Some(queue) = queue.as_ref() else { return Err(Box::new(job)) };
        queue.try_send(Box::new(job)).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }

    /// Waits until what is queued is done.
    pub(crate) fn settle(&self) {
        let (done, wait) = sync_channel::<()>(1);
        let told = self.offer(move || drop(done));
        // With the job, whether it ran or was given back, the sender goes.
        drop(told);
        let _ = wait.recv();
    }

    /// Takes no more jobs, and waits for nobody: the disk may not answer any more.
    pub(crate) fn close(&self) {
        self.queue.lock().take();
    }

    /// Ends the thread after what is queued.
    pub(crate) fn stop(&self) {
        self.close();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("a volume's thread had panicked");
        }
    }
}

fn work(queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        job();
    }
}
