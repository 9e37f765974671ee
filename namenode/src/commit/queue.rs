//! What waits for the commit thread: one lane a user, served in turn, so that one user's storm of changes delays another's
//! change by a batch and not by the storm.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_daemon::fair::{FairPlaces, Place};
use steadfs_namenode_core::Caller;
use steadfs_namenode_core::command::Door;
use tokio::sync::oneshot;

use super::{Job, stopping};

/// Of all places one user has at most this part, so that others always find one.
const PART_OF_ONE_USER: usize = 4;
/// Users count as sharing the thread while two of them were served within this.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// Most who may wait for a new segment of the journal at a time.
const MAX_ROLLS: usize = 64;

/// The lane of what the namenode does by itself and what datanodes report. No user has an empty name.
const INSIDE: &str = "";

struct Queued {
    job: Job,
    /// Given back once the thread has taken the job.
    _place: Place,
}

#[derive(Default)]
struct State {
    lanes: HashMap<Arc<str>, VecDeque<Queued>>,
    /// Lanes with jobs, in the order of their turns.
    turns: VecDeque<Arc<str>>,
    waiting: usize,
    /// A seal, if nothing was committed since this journal index.
    seal: Option<u64>,
    /// Who asked for a new segment of the journal.
    rolls: Vec<oneshot::Sender<()>>,
    /// Copies of the journal may come back.
    readmit: bool,
    closed: bool,
    served: Served,
    /// When the thread took up what it is doing.
    busy: Option<Instant>,
}

/// Whom the thread served lately.
#[derive(Default)]
struct Served {
    last: Option<Arc<str>>,
    /// When it went from one user to another.
    changed: Option<Instant>,
}

/// The queue. Senders wait for a place; the thread blocks in [`Queue::wait`].
pub(super) struct Queue {
    state: Mutex<State>,
    told: Condvar,
    places: FairPlaces,
}

impl Queue {
    /// A queue with so many places.
    pub(super) fn new(places: usize) -> Self {
        let per_user = (places / PART_OF_ONE_USER).max(1);
        Self { state: Mutex::default(), told: Condvar::new(), places: FairPlaces::new(places, per_user) }
    }

    /// Waits for a place and puts a job there.
    ///
    /// # Errors
    /// Stopping: the queue is closed.
    pub(super) async fn send(&self, job: Job) -> FsResult<()> {
        let lane = lane_of(&job.caller);
        let place = self.places.take(&lane).await;
        let mut state = self.state.lock();
        if state.closed {
            return Err(stopping());
        }
        state.waiting += 1;
        let jobs = state.lanes.entry(Arc::clone(&lane)).or_default();
        jobs.push_back(Queued { job, _place: place });
        if jobs.len() == 1 {
            state.turns.push_back(lane);
        }
        drop(state);
        self.told.notify_one();
        Ok(())
    }

    /// Asks for a seal, if nothing was committed since `index`.
    pub(super) fn seal(&self, index: u64) {
        self.state.lock().seal = Some(index);
        self.told.notify_one();
    }

    /// Asks for a new segment of the journal; who asked is told through `answer`.
    ///
    /// # Errors
    /// Stopping; Retriable: too many ask already.
    pub(super) fn roll(&self, answer: oneshot::Sender<()>) -> FsResult<()> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(stopping());
        }
        if state.rolls.len() == MAX_ROLLS {
            return Err(FsError::new(FsErrorKind::Retriable, "a new segment of the journal is being begun"));
        }
        state.rolls.push(answer);
        drop(state);
        self.told.notify_one();
        Ok(())
    }

    /// Asks that copies of the journal that were left may come back.
    pub(super) fn readmit(&self) {
        self.state.lock().readmit = true;
        self.told.notify_one();
    }

    /// Takes no more. What is in the queue still comes out of it.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.told.notify_one();
    }

    /// How many jobs wait.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().waiting
    }

    /// How long the thread has been doing what it does; none while it waits for something to do.
    pub(super) fn busy_for(&self) -> Option<Duration> {
        self.state.lock().busy.map(|since| since.elapsed())
    }

    /// Waits for something to do; false if the queue is closed and empty. Blocks.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.state.lock();
        state.busy = None;
        loop {
            if !state.turns.is_empty() || state.seal.is_some() || !state.rolls.is_empty() || state.readmit {
                state.busy = Some(Instant::now());
                return true;
            }
            if state.closed {
                return false;
            }
            self.told.wait(&mut state);
        }
    }

    /// The next job, if there is one.
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        let lane = state.turns.pop_front()?;
        let jobs = state.lanes.get_mut(&lane).expect("a lane with a turn is there");
        let next = jobs.pop_front().expect("a lane with a turn has a job");
        if jobs.is_empty() {
            state.lanes.remove(&lane);
        } else {
            state.turns.push_back(Arc::clone(&lane));
        }
        state.waiting -= 1;
        state.served.note(lane);
        drop(state);
        // Its place is given to another, which takes a lock of its own.
        Some(next.job)
    }

    /// The seal that was asked for.
    pub(super) fn take_seal(&self) -> Option<u64> {
        mem::take(&mut self.state.lock().seal)
    }

    /// Whether copies of the journal may come back.
    pub(super) fn take_readmit(&self) -> bool {
        mem::take(&mut self.state.lock().readmit)
    }

    /// Who asked for a new segment of the journal.
    pub(super) fn take_rolls(&self) -> Vec<oneshot::Sender<()>> {
        mem::take(&mut self.state.lock().rolls)
    }

    /// Whether several users share the thread: then a batch is kept short, since one of them may wait for its end.
    pub(super) fn is_shared(&self) -> bool {
        let state = self.state.lock();
        state.turns.len() > 1 || state.served.changed.is_some_and(|at| at.elapsed() < SHARED_FOR)
    }
}

impl Served {
    fn note(&mut self, lane: Arc<str>) {
        if &*lane == INSIDE || self.last.as_ref() == Some(&lane) {
            return;
        }
        if self.last.replace(lane).is_some() {
            self.changed = Some(Instant::now());
        }
    }
}

fn lane_of(caller: &Caller) -> Arc<str> {
    match caller.origin.door {
        Door::Inside => INSIDE.into(),
        Door::Hadoop | Door::Http | Door::Grpc => caller.user.as_str().into(),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use steadfs_common::FsPath;
    use steadfs_namenode_core::Command;
    use steadfs_namenode_core::command::Origin;

    use super::*;

    fn job(user: &str, name: usize) -> Job {
        let path = FsPath::parse(&format!("/{name}")).unwrap();
        let origin = Origin { door: Door::Hadoop, ..Origin::default() };
        Job {
            caller: Caller { user: user.into(), groups: Vec::new(), superuser: false, address: None, origin },
            key: None,
            command: Command::RecoverLease { path },
            clearance: None,
            answer: oneshot::channel().0,
            first_block: None,
        }
    }

    fn send(queue: &Queue, user: &str, name: usize) -> bool {
        queue.send(job(user, name)).now_or_never().is_some_and(|sent| sent.is_ok())
    }

    fn next(queue: &Queue) -> Option<(String, String)> {
        queue.next().map(|job| {
            let Command::RecoverLease { path } = &job.command else { panic!("sent as another command") };
            (job.caller.user.clone(), path.to_string())
        })
    }

    #[test]
    fn a_storm_leaves_room_and_turns_to_others() {
        let queue = Queue::new(16);
        let stormed = (0..100).take_while(|name| send(&queue, "storm", *name)).count();
        assert_eq!(stormed, 16 / PART_OF_ONE_USER);
        assert!(send(&queue, "calm", 1) && send(&queue, "calm", 2));
        let users: Vec<_> = std::iter::from_fn(|| next(&queue)).map(|(user, _)| user).collect();
        assert_eq!(users, ["storm", "calm", "storm", "calm", "storm", "storm"]);
        assert!(queue.is_shared());
        assert_eq!(queue.waiting(), 0);
        // All places are free again.
        assert!(send(&queue, "storm", 7));
    }

    #[test]
    fn one_users_jobs_keep_their_order() {
        let queue = Queue::new(64);
        (0..10).for_each(|name| assert!(send(&queue, "ann", name)));
        let names: Vec<_> = std::iter::from_fn(|| next(&queue)).map(|(_, name)| name).collect();
        assert_eq!(names, (0..10).map(|name| format!("/{name}")).collect::<Vec<_>>());
        assert!(!queue.is_shared(), "one user alone shares with nobody");
    }

    #[test]
    fn it_is_known_how_long_the_thread_is_at_it() {
        let queue = Queue::new(8);
        assert_eq!(queue.busy_for(), None);
        assert!(send(&queue, "ann", 1) && queue.wait());
        let first = queue.busy_for().unwrap();
        assert!(next(&queue).is_some() && queue.busy_for().unwrap() >= first, "it is being carried out");
        queue.close();
        assert!(!queue.wait());
        assert_eq!(queue.busy_for(), None);
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_takes_no_more() {
        let queue = Queue::new(8);
        assert!(send(&queue, "ann", 1));
        queue.seal(7);
        queue.close();
        let refused = queue.send(job("ann", 2)).now_or_never().unwrap().unwrap_err();
        assert_eq!(refused.kind(), FsErrorKind::Stopping);
        assert!(queue.wait());
        assert_eq!((next(&queue).is_some(), queue.take_seal(), queue.take_seal()), (true, Some(7), None));
        assert!(!queue.wait());
    }
}
