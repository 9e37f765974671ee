//! The network: calls and connections between places, delayed, lost, cut and late as the faults of the moment say.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::channel::{mpsc, oneshot};

use crate::exec::{Exec, Life};
use crate::random::Random;

/// The longest that a message is under way.
pub const LATEST: Duration = Duration::from_secs(8);
/// How long a paused place is asked again whether it takes what has come.
const RECHECK: Duration = Duration::from_millis(100);

/// Where something runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// The namenode's machine.
    Namenode,
    /// A datanode's.
    Datanode(usize),
    /// A client's.
    Client(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namenode => write!(out, "nn"),
            Self::Datanode(number) => write!(out, "dn{number}"),
            Self::Client(number) => write!(out, "c{number}"),
        }
    }
}

/// Nobody answered in time, or nobody is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unanswered;

struct Inner {
    exec: Exec,
    random: Random,
    cut: RefCell<BTreeSet<(Place, Place)>>,
    /// Of a thousand messages so many are lost, and so many late.
    losses: Cell<u64>,
    delays: Cell<u64>,
    slow: RefCell<BTreeSet<Place>>,
    lives: RefCell<BTreeMap<Place, Life>>,
}

/// The network. Cloning shares it.
#[derive(Clone)]
pub struct Net(Rc<Inner>);

impl Net {
    /// A network on which nothing is wrong.
    #[must_use]
    pub fn new(exec: Exec, random: Random) -> Self {
        Self(Rc::new(Inner {
            exec,
            random,
            cut: RefCell::default(),
            losses: Cell::new(0),
            delays: Cell::new(0),
            slow: RefCell::default(),
            lives: RefCell::default(),
        }))
    }

    /// A process serves at a place, or none does.
    pub fn serve(&self, place: Place, life: Option<Life>) {
        match life {
            Some(life) => self.0.lives.borrow_mut().insert(place, life),
            None => self.0.lives.borrow_mut().remove(&place),
        };
    }

    /// Who serves there.
    #[must_use]
    pub fn life(&self, place: Place) -> Option<Life> {
        self.0.lives.borrow().get(&place).copied()
    }

    /// Cuts one direction, or mends it.
    pub fn cut(&self, from: Place, to: Place, cut: bool) {
        if cut {
            self.0.cut.borrow_mut().insert((from, to));
        } else {
            self.0.cut.borrow_mut().remove(&(from, to));
        }
    }

    /// Of a thousand messages so many are lost, and so many late.
    pub fn weather(&self, losses: u64, delays: u64) {
        self.0.losses.set(losses);
        self.0.delays.set(delays);
    }

    /// A place's messages take long, or not any more.
    pub fn slow(&self, place: Place, on: bool) {
        if on {
            self.0.slow.borrow_mut().insert(place);
        } else {
            self.0.slow.borrow_mut().remove(&place);
        }
    }

    /// Nothing is wrong any more.
    pub fn heal(&self) {
        self.0.cut.borrow_mut().clear();
        self.0.slow.borrow_mut().clear();
        self.weather(0, 0);
    }

    fn is_cut(&self, from: Place, to: Place) -> bool {
        from != to && self.0.cut.borrow().contains(&(from, to))
    }

    /// How long a message is under way; none if it is lost.
    fn travel(&self, from: Place, to: Place) -> Option<Duration> {
        let random = &self.0.random;
        let usual = random.span(Duration::from_micros(50), Duration::from_millis(2));
        if from == to {
            return Some(usual / 10);
        }
        if self.is_cut(from, to) || random.below(1_000) < self.0.losses.get() {
            return None;
        }
        let slow = self.0.slow.borrow();
        if slow.contains(&from) || slow.contains(&to) {
            return Some(random.span(Duration::from_millis(100), Duration::from_secs(2)));
        }
        if random.below(1_000) < self.0.delays.get() {
            return Some(random.span(Duration::from_millis(2), LATEST));
        }
        Some(usual)
    }

    /// Does `action` at `place` after `wait`, in whatever life is there then; never if none is.
    fn deliver(&self, place: Place, wait: Duration, action: impl FnOnce() + 'static) {
        let net = self.clone();
        self.0.exec.after(wait, move || {
            let Some(life) = net.life(place) else { return };
            if net.0.exec.is_paused(life) {
                net.deliver(place, RECHECK, action);
            } else {
                action();
            }
        });
    }

    /// Calls `handler` at another place and waits for its answer.
    ///
    /// # Errors
    /// No answer within `limit`: the handler may have run, or may run later.
    pub async fn call<T: 'static>(
        &self,
        from: Place,
        to: Place,
        limit: Duration,
        handler: impl FnOnce() -> Option<T> + 'static,
    ) -> Result<T, Unanswered> {
        let (answer, answered) = oneshot::channel();
        if let Some(wait) = self.travel(from, to) {
            let net = self.clone();
            self.deliver(to, wait, move || {
                // The process may end while it serves this.
                let Some(result) = handler() else { return };
                let Some(back) = net.travel(to, from) else { return };
                net.deliver(from, back, move || drop(answer.send(result)));
            });
            match self.0.exec.timeout(limit, answered).await {
                Some(Ok(result)) => return Ok(result),
                Some(Err(_)) => {}
                None => return Err(Unanswered),
            }
        }
        // Whoever is not there is found out at once, or never: both take time.
        self.0.exec.sleep(limit).await;
        Err(Unanswered)
    }

    /// Connects two places. Gives the end at `from`; that at `to` goes to `accept` there.
    pub fn connect<A: 'static, B: 'static>(
        &self,
        from: Place,
        to: Place,
        accept: impl FnOnce(End<B, A>) + 'static,
    ) -> End<A, B> {
        let (there, from_here) = mpsc::unbounded();
        let (here, from_there) = mpsc::unbounded();
        let broken = Rc::new(Cell::new(false));
        let one = End {
            net: self.clone(),
            places: (from, to),
            out: there,
            incoming: from_there,
            last: Cell::new(Duration::ZERO),
            broken: broken.clone(),
        };
        let other = End {
            net: self.clone(),
            places: (to, from),
            out: here,
            incoming: from_here,
            last: Cell::new(Duration::ZERO),
            broken,
        };
        if let Some(wait) = self.travel(from, to) {
            one.last.set(self.0.exec.now() + wait);
            self.deliver(to, wait, move || accept(other));
        } else {
            one.broken.set(true);
            drop(other);
        }
        one
    }
}

/// One end of a connection: what is sent arrives in its order, or nothing arrives any more.
pub struct End<Out: 'static, In: 'static> {
    net: Net,
    places: (Place, Place),
    out: mpsc::UnboundedSender<Option<Out>>,
    incoming: mpsc::UnboundedReceiver<Option<In>>,
    last: Cell<Duration>,
    broken: Rc<Cell<bool>>,
}

impl<Out: 'static, In: 'static> End<Out, In> {
    fn put(&self, message: Option<Out>) {
        let (from, to) = self.places;
        if self.broken.get() {
            return;
        }
        let Some(wait) = self.net.travel(from, to) else {
            // What is lost would be sent again, until somebody gives up: here at once.
            self.broken.set(true);
            return;
        };
        let now = self.net.0.exec.now();
        let at = self.last.get().max(now + wait);
        self.last.set(at);
        let (out, broken) = (self.out.clone(), self.broken.clone());
        self.net.deliver(to, at - now, move || {
            if !broken.get() {
                // Whoever should take it may have gone.
                let _ = out.unbounded_send(message);
            }
        });
    }

    /// Sends something.
    pub fn send(&self, message: Out) {
        self.put(Some(message));
    }

    /// The next thing that came; none once the other end is closed. For ever nothing, if the connection is broken.
    pub async fn receive(&mut self) -> Option<In> {
        match self.incoming.next().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }
}

impl<Out: 'static, In: 'static> Drop for End<Out, In> {
    fn drop(&mut self) {
        self.put(None);
    }
}
