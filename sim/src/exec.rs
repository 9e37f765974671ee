//! Tasks, time and the order of everything: one thread, and a clock that jumps to the next thing that happens.
//!
//! Tasks belong to a [`Life`], that of a process. When a process is killed its tasks are dropped where they stand; while it
//! is paused they do not run. What happens is folded into a hash, so that two runs can be compared.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::future::{Either, select};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One run of one process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Life(pub u64);

/// The life of what is never killed.
pub const OUTSIDE: Life = Life(0);

type Work = Pin<Box<dyn Future<Output = ()>>>;
type Action = Box<dyn FnOnce()>;

struct Task {
    life: Life,
    /// Not there while it runs.
    work: Option<Work>,
}

struct Told {
    task: u64,
    ready: Arc<Mutex<VecDeque<u64>>>,
}

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.ready.lock().push_back(self.task);
    }
}

struct Due {
    at: Duration,
    order: u64,
    action: Action,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[derive(Default)]
struct Inner {
    now: Cell<Duration>,
    next: Cell<u64>,
    ready: Arc<Mutex<VecDeque<u64>>>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    due: RefCell<BinaryHeap<Reverse<Due>>>,
    paused: RefCell<BTreeSet<Life>>,
    /// Tasks that would run if their life were not paused.
    held: RefCell<Vec<u64>>,
    hash: Cell<u64>,
    events: Cell<u64>,
    lines: Cell<bool>,
    hidden: RefCell<String>,
}

/// The world's clock and its tasks. Cloning shares it.
#[derive(Clone, Default)]
pub struct Exec(Rc<Inner>);

impl Exec {
    /// Nothing has happened. With `lines`, what happens is printed.
    #[must_use]
    pub fn new(lines: bool) -> Self {
        let exec = Self::default();
        exec.0.lines.set(lines);
        exec
    }

    /// The time since the beginning.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.0.now.get()
    }

    /// Leaves this out of what is noted: it is not the same in each run.
    pub fn hide(&self, text: String) {
        *self.0.hidden.borrow_mut() = text;
    }

    /// Notes that something happened.
    pub fn note(&self, text: impl FnOnce() -> String) {
        let mut line = format!("{:>12.6} {}", self.now().as_secs_f64(), text());
        let hidden = self.0.hidden.borrow();
        if !hidden.is_empty() && line.contains(&*hidden) {
            line = line.replace(&*hidden, "");
        }
        self.0.hash.set(xxh3_64_with_seed(line.as_bytes(), self.0.hash.get()));
        self.0.events.set(self.0.events.get() + 1);
        if self.0.lines.get() {
            eprintln!("{line}");
        }
    }

    /// A hash over everything that happened, and how much that was.
    #[must_use]
    pub fn trace(&self) -> (u64, u64) {
        (self.0.hash.get(), self.0.events.get())
    }

    fn number(&self) -> u64 {
        let next = self.0.next.get();
        self.0.next.set(next + 1);
        next
    }

    /// Does something later.
    pub fn after(&self, wait: Duration, action: impl FnOnce() + 'static) {
        let due = Due { at: self.now() + wait, order: self.number(), action: Box::new(action) };
        self.0.due.borrow_mut().push(Reverse(due));
    }

    /// Begins a task.
    pub fn spawn(&self, life: Life, work: impl Future<Output = ()> + 'static) {
        let task = self.number();
        self.0.tasks.borrow_mut().insert(task, Task { life, work: Some(Box::pin(work)) });
        self.0.ready.lock().push_back(task);
    }

    /// Ends a life: its tasks are dropped.
    pub fn kill(&self, life: Life) {
        self.0.paused.borrow_mut().remove(&life);
        let gone: Vec<u64> = {
            let tasks = self.0.tasks.borrow();
            tasks.iter().filter(|(_, task)| task.life == life).map(|(id, _)| *id).collect()
        };
        for id in gone {
            // Dropped outside of the borrow: what is dropped may begin something.
            let task = self.0.tasks.borrow_mut().remove(&id);
            drop(task);
        }
    }

    /// Stops a life, or lets it go on.
    pub fn pause(&self, life: Life, on: bool) {
        if on {
            self.0.paused.borrow_mut().insert(life);
        } else if self.0.paused.borrow_mut().remove(&life) {
            self.0.ready.lock().extend(self.0.held.borrow_mut().drain(..));
        }
    }

    /// Whether a life is stopped.
    #[must_use]
    pub fn is_paused(&self, life: Life) -> bool {
        self.0.paused.borrow().contains(&life)
    }

    /// Waits.
    pub fn sleep(&self, span: Duration) -> impl Future<Output = ()> + use<> {
        let done = Rc::new(RefCell::new((false, None::<Waker>)));
        let told = done.clone();
        self.after(span, move || {
            let waker = {
                let mut state = told.borrow_mut();
                state.0 = true;
                state.1.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        poll_fn(move |context| {
            let mut state = done.borrow_mut();
            if state.0 {
                return Poll::Ready(());
            }
            state.1 = Some(context.waker().clone());
            Poll::Pending
        })
    }

    /// Waits for something no longer than this.
    pub async fn timeout<T>(&self, limit: Duration, what: impl Future<Output = T>) -> Option<T> {
        let what = std::pin::pin!(what);
        let limit = std::pin::pin!(self.sleep(limit));
        match select(what, limit).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    fn run_ready(&self) {
        loop {
            let Some(id) = self.0.ready.lock().pop_front() else { return };
            let work = {
                let mut tasks = self.0.tasks.borrow_mut();
                let Some(task) = tasks.get_mut(&id) else { continue };
                if self.0.paused.borrow().contains(&task.life) {
                    self.0.held.borrow_mut().push(id);
                    continue;
                }
                task.work.take()
            };
            let Some(mut work) = work else { continue };
            let waker = Waker::from(Arc::new(Told { task: id, ready: self.0.ready.clone() }));
            let done = work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
            let mut tasks = self.0.tasks.borrow_mut();
            if done {
                let task = tasks.remove(&id);
                drop(tasks);
                drop((task, work));
            } else if let Some(task) = tasks.get_mut(&id) {
                task.work = Some(work);
            } else {
                // It ended its own life.
                drop(tasks);
                drop(work);
            }
        }
    }

    /// Forgets everything that was to happen: what it holds can go.
    pub fn clear(&self) {
        let tasks = std::mem::take(&mut *self.0.tasks.borrow_mut());
        drop(tasks);
        let due = std::mem::take(&mut *self.0.due.borrow_mut());
        drop(due);
        self.0.ready.lock().clear();
    }

    /// Lets everything happen until `end`, or until `done` says so; true if it did.
    pub fn run(&self, end: Duration, done: impl Fn() -> bool) -> bool {
        loop {
            self.run_ready();
            if done() {
                return true;
            }
            let next = {
                let mut due = self.0.due.borrow_mut();
                match due.peek() {
                    Some(Reverse(first)) if first.at <= end => due.pop(),
                    _ => None,
                }
            };
            let Some(Reverse(next)) = next else {
                self.0.now.set(end);
                return false;
            };
            self.0.now.set(next.at);
            (next.action)();
        }
    }
}
