//! Threads for blocking work.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of named threads behind a bounded queue: where disks and stores may block.
///
/// Cloning is cheap and shares the threads. They end when the last clone is dropped and the queue is empty.
#[derive(Clone)]
pub struct DiskPool {
    handle: Arc<Handle>,
}

struct Handle {
    queue: Arc<Queue>,
    /// One permit per job queued or running, which is what bounds the queue.
    room: Arc<Semaphore>,
    capacity: u32,
}

struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    jobs: VecDeque<(Job, OwnedSemaphorePermit)>,
    closed: bool,
}

impl DiskPool {
    /// Starts `threads` threads named `name-0`, `name-1`, …; at most `queue` jobs wait for one of them.
    ///
    /// # Errors
    /// The operating system has no room for the threads.
    pub fn new(name: &str, threads: usize, queue: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        let capacity = u32::try_from(threads.saturating_add(queue)).unwrap_or(u32::MAX);
        let shared = Arc::new(Queue {
            state: Mutex::new(State { jobs: VecDeque::new(), closed: false }),
            wake: Condvar::new(),
        });
        // Made first, so that threads already started end if a later one cannot be.
        let pool = Self {
            handle: Arc::new(Handle {
                queue: shared.clone(),
                room: Arc::new(Semaphore::new(capacity as usize)),
                capacity,
            }),
        };
        for index in 0..threads {
            let queue = shared.clone();
            thread::Builder::new().name(format!("{name}-{index}")).spawn(move || queue.work())?;
        }
        Ok(pool)
    }

    /// Runs `work` on a thread of the pool and gives its result; waits first while the queue is full.
    ///
    /// If the caller goes away before there was room, `work` never runs; after that it runs to its end
    /// and its result is dropped.
    ///
    /// # Panics
    /// A panic of `work` goes on in the caller, as if it had been called directly.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let room = self.handle.room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (send, receive) = oneshot::channel();
        let job = Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            if let Err(Err(panic)) = send.send(outcome) {
                tracing::error!(
                    panic = describe(&*panic),
                    "work on a disk thread panicked and nobody waited for it"
                );
            }
        });
        self.handle.queue.push(job, room);
        match receive.await.expect("a job that was queued always runs and answers") {
            Ok(result) => result,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Jobs queued or running at this moment.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.handle.capacity as usize - self.handle.room.available_permits()
    }

    /// Waits until everything queued before has ended.
    pub async fn drain(&self) {
        let all = self.handle.room.acquire_many(self.handle.capacity).await;
        drop(all.expect("the semaphore is never closed"));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.state.lock().closed = true;
        self.queue.wake.notify_all();
    }
}

impl Queue {
    fn push(&self, job: Job, room: OwnedSemaphorePermit) {
        self.state.lock().jobs.push_back((job, room));
        self.wake.notify_one();
    }

    fn work(&self) {
        loop {
            let mut state = self.state.lock();
            let (job, room) = loop {
                match state.jobs.pop_front() {
                    Some(next) => break next,
                    None if state.closed => return,
                    None => self.wake.wait(&mut state),
                }
            };
            drop(state);
            job();
            drop(room);
        }
    }
}

fn describe(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_runs_on_a_thread_of_the_pool() {
        let pool = DiskPool::new("disk", 1, 4).unwrap();
        assert_eq!(pool.run(|| thread::current().name().map(String::from)).await.as_deref(), Some("disk-0"));
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_caller_wait() {
        let pool = DiskPool::new("disk", 1, 1).unwrap();
        let (release, gate) = mpsc::channel::<()>();
        let held = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(move || gate.recv()).await }
        });
        let queued = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|| 2).await }
        });
        while pool.in_flight() < 2 {
            tokio::task::yield_now().await;
        }
        let mut waiting = Box::pin(pool.run(|| 3));
        assert!(futures_poll(&mut waiting).await.is_none(), "there is no room for a third");
        release.send(()).unwrap();
        assert_eq!((waiting.await, queued.await.unwrap()), (3, 2));
        held.await.unwrap().unwrap();
        pool.drain().await;
        assert_eq!(pool.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_panic_goes_to_the_caller_and_the_thread_lives_on() {
        let pool = DiskPool::new("disk", 1, 1).unwrap();
        let failed = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|| panic!("no")).await }
        });
        assert!(failed.await.unwrap_err().is_panic());
        assert_eq!(pool.run(|| 1).await, 1);
    }

    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
                std::task::Poll::Ready(value) => Some(value),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
