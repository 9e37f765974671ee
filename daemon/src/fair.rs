//! Places that are shared out fairly among users.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A bounded number of places. While all are taken, those who wait get one in turn by user: each user's next waiter, then
/// the next user's. So one user's many waiters delay another's one by a single place.
///
/// Cloning shares it.
#[derive(Clone)]
pub struct FairPlaces {
    state: Arc<Mutex<State>>,
}

struct State {
    free: usize,
    /// Most places of one user.
    per_user: usize,
    users: HashMap<Arc<str>, User>,
    /// Users with waiters who may have another place, in the order of their turns. Each is here once.
    turns: VecDeque<Arc<str>>,
}

#[derive(Default)]
struct User {
    held: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
    in_turns: bool,
}

/// A place; dropping it gives it to whose turn it is.
pub struct Place {
    state: Option<Arc<Mutex<State>>>,
    user: Arc<str>,
}

impl fmt::Debug for FairPlaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FairPlaces").field("free", &self.state.lock().free).finish_non_exhaustive()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("user", &self.user).finish_non_exhaustive()
    }
}

impl FairPlaces {
    /// So many places, of which one user has at most `per_user`. Both are at least 1.
    #[must_use]
    pub fn new(places: usize, per_user: usize) -> Self {
        let state = State {
            free: places.max(1),
            per_user: per_user.max(1),
            users: HashMap::new(),
            turns: VecDeque::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for a place. Safe to cancel: who gives up is passed over.
    pub async fn take(&self, user: &Arc<str>) -> Place {
        let waiting = {
            let mut state = self.state.lock();
            if state.turns.is_empty() && state.may_have(user) {
                return state.give(user, &self.state);
            }
            let (told, waiting) = oneshot::channel();
            let entry = state.users.entry(Arc::clone(user)).or_default();
            entry.waiting.push_back(told);
            state.queue(user);
            state.share(&self.state);
            waiting
        };
        waiting.await.expect("a waiter stays in the queue until it is told")
    }

    /// Whether somebody waits.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        !self.state.lock().turns.is_empty()
    }

    /// How many places are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.state.lock().users.values().map(|user| user.held).sum()
    }
}

impl State {
    fn may_have(&self, user: &Arc<str>) -> bool {
        self.free > 0 && self.users.get(user).is_none_or(|user| user.held < self.per_user)
    }

    fn give(&mut self, user: &Arc<str>, state: &Arc<Mutex<Self>>) -> Place {
        self.free -= 1;
        self.users.entry(Arc::clone(user)).or_default().held += 1;
        Place { state: Some(Arc::clone(state)), user: Arc::clone(user) }
    }

    /// Puts a user with waiters at the end of the turns, if it may have another place and is not there.
    fn queue(&mut self, user: &Arc<str>) {
        let per_user = self.per_user;
        if let Some(entry) = self.users.get_mut(user)
            && !entry.in_turns
            && !entry.waiting.is_empty()
            && entry.held < per_user
        {
            entry.in_turns = true;
            self.turns.push_back(Arc::clone(user));
        }
    }

    /// Hands out free places in turn.
    fn share(&mut self, state: &Arc<Mutex<Self>>) {
        while self.free > 0
            && let Some(user) = self.turns.pop_front()
        {
            let Some(entry) = self.users.get_mut(&user) else { continue };
            entry.in_turns = false;
            let told = entry.waiting.pop_front();
            if let Some(told) = told {
                let place = self.give(&user, state);
                if let Err(mut refused) = told.send(place) {
                    // Whoever waited has gone. Dropping the place here would ask for the lock that is held.
                    refused.state = None;
                    self.free += 1;
                    if let Some(entry) = self.users.get_mut(&user) {
                        entry.held -= 1;
                    }
                }
            }
            self.queue(&user);
            self.forget(&user);
        }
    }

    fn forget(&mut self, user: &Arc<str>) {
        if self.users.get(user).is_some_and(|user| user.held == 0 && user.waiting.is_empty()) {
            self.users.remove(user);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(shared) = self.state.take() else { return };
        let mut state = shared.lock();
        state.free += 1;
        if let Some(entry) = state.users.get_mut(&self.user) {
            entry.held -= 1;
        }
        state.queue(&self.user);
        state.share(&shared);
        state.forget(&self.user);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Waiting<'a> = Pin<Box<dyn Future<Output = Place> + 'a>>;

    fn poll(waiting: &mut Waiting<'_>) -> Option<Place> {
        match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    fn now(places: &FairPlaces, user: &Arc<str>) -> Place {
        poll(&mut (Box::pin(places.take(user)) as Waiting<'_>)).expect("there is room")
    }

    #[test]
    fn a_storm_delays_another_user_by_one_place() {
        let (storm, calm): (Arc<str>, Arc<str>) = ("storm".into(), "calm".into());
        let places = FairPlaces::new(1, usize::MAX);
        let mut held = Some(now(&places, &storm));
        let mut storming: Vec<Waiting<'_>> =
            (0..1_000).map(|_| Box::pin(places.take(&storm)) as Waiting<'_>).collect();
        assert!(storming.iter_mut().all(|waiting| poll(waiting).is_none()));
        let mut order = Vec::new();
        for _ in 0..5 {
            let mut one: Waiting<'_> = Box::pin(places.take(&calm));
            assert!(poll(&mut one).is_none());
            let mut passed = 0;
            loop {
                drop(held.take());
                if let Some(place) = poll(&mut one) {
                    held = Some(place);
                    break;
                }
                let next = storming.iter_mut().position(|waiting| match poll(waiting) {
                    Some(place) => {
                        held = Some(place);
                        true
                    }
                    None => false,
                });
                drop(storming.remove(next.expect("a free place goes to somebody")));
                passed += 1;
            }
            order.push(passed);
        }
        assert!(order.iter().all(|passed| *passed <= 1), "{order:?}");
    }

    #[test]
    fn one_user_has_no_more_than_its_share() {
        let (storm, calm): (Arc<str>, Arc<str>) = ("storm".into(), "calm".into());
        let places = FairPlaces::new(4, 3);
        let mut held: Vec<Place> = (0..3).map(|_| now(&places, &storm)).collect();
        let mut fourth: Waiting<'_> = Box::pin(places.take(&storm));
        assert!(poll(&mut fourth).is_none());
        let other = now(&places, &calm);
        assert_eq!(places.taken(), 4);
        drop(other);
        assert!(poll(&mut fourth).is_none());
        held.pop();
        assert!(poll(&mut fourth).is_some());
    }

    #[test]
    fn who_gives_up_takes_no_place_away() {
        let user: Arc<str> = "ann".into();
        let places = FairPlaces::new(1, 1);
        let held = now(&places, &user);
        let mut first: Waiting<'_> = Box::pin(places.take(&user));
        let mut second: Waiting<'_> = Box::pin(places.take(&user));
        assert!(poll(&mut first).is_none() && poll(&mut second).is_none());
        drop(first);
        drop(held);
        let place = poll(&mut second).expect("the one that gave up is passed over");
        drop(place);
        assert_eq!(places.taken(), 0);
        assert!(places.state.lock().users.is_empty());
        // One that was given a place and went before it looked gives it back.
        let held = now(&places, &user);
        let mut given: Waiting<'_> = Box::pin(places.take(&user));
        assert!(poll(&mut given).is_none());
        drop(held);
        drop(given);
        drop(now(&places, &user));
        assert_eq!(places.taken(), 0);
    }
}
