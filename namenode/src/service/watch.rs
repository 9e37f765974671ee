//! What happens, as it happens, for mounts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use steadfs_common::{FsError, FsPath, FsResult, InodeId, TxId};
use steadfs_namenode_core::Caller;
use steadfs_namenode_core::event::{Event, EventBatch, EventKind};
use tokio::sync::watch;

use super::Service;

/// Inodes that one follower may name.
const MAX_INODES: usize = 65_536;
/// Events looked at in one step.
const STEP_EVENTS: usize = 1_000;
/// A follower that was away is told what it missed if that is so many transactions at most.
const MAX_CATCH_UP: u64 = 200_000;
/// A follower looks this often at most: many changes are told together, and many followers cost little.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// A follower hears something at least this often.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(2);
/// Permission bits that let a caller follow a folder: it may list it.
const READ: u8 = 4;

/// What a follower wants to hear of.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Changes in and below this folder, or of this file.
    pub below: Option<FsPath>,
    /// Changes of these, and of what lies directly in them.
    pub inodes: BTreeSet<InodeId>,
}

impl Filter {
    fn wants(&self, event: &Event) -> bool {
        let (to, to_parent) = match &event.kind {
            EventKind::Rename { to, parent, .. } => (Some(to), Some(*parent)),
            _ => (None, None),
        };
        let below = |path: &FsPath| self.below.as_ref().is_some_and(|below| path.starts_with(below));
        let named = |id: InodeId| self.inodes.contains(&id);
        below(&event.path)
            || to.is_some_and(below)
            || named(event.inode)
            || named(event.parent)
            || to_parent.is_some_and(named)
    }
}

/// What a follower hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// These things happened under one transaction.
    Changed(TxId, Vec<Event>),
    /// Changes were missed. What follows comes behind this transaction.
    Lost(TxId),
    /// Nothing more happened up to here.
    Nothing(TxId),
}

/// Where a follower is.
struct Follower {
    service: Arc<Service>,
    filter: Filter,
    newest: watch::Receiver<TxId>,
    /// The last transaction that it has heard of.
    at: TxId,
    /// What it is to hear next, the last first.
    told: Vec<Heard>,
}

impl Service {
    /// Follows what happens behind transaction `after`, or from now on without one. Ends when the namenode stops.
    ///
    /// # Errors
    /// AccessDenied: the caller may not list the folder, or names inodes without being a superuser; InvalidArgument: too
    /// many inodes.
    pub async fn follow(
        self: &Arc<Self>,
        caller: &Caller,
        filter: Filter,
        after: Option<TxId>,
    ) -> FsResult<impl Stream<Item = Heard> + Send + use<>> {
        if filter.inodes.len() > MAX_INODES {
            return Err(FsError::invalid_argument(format!(
                "Nobody may follow more than {MAX_INODES} inodes"
            )));
        }
        if let Some(below) = &filter.below {
            self.check_access(caller, below, READ).await?;
        }
        if !filter.inodes.is_empty() {
            self.check_superuser(caller)?;
        }
        let newest = self.events.subscribe();
        let now = *newest.borrow();
        // Who has heard of what never was has followed another namespace.
        let at = after.unwrap_or(now);
        let first = if at > now { Heard::Lost(now) } else { Heard::Nothing(at) };
        let follower =
            Follower { service: Arc::clone(self), filter, newest, at: at.min(now), told: vec![first] };
        Ok(futures::stream::unfold(follower, |mut follower| async move {
            follower.next().await.map(|heard| (heard, follower))
        }))
    }
}

impl Follower {
    async fn next(&mut self) -> Option<Heard> {
        let events = Arc::clone(&self.service.events);
        loop {
            if let Some(heard) = self.told.pop() {
                return Some(heard);
            }
            if *self.newest.borrow_and_update() <= self.at {
                tokio::select! {
                    () = events.stopped() => return None,
                    changed = self.newest.changed() => changed.ok()?,
                    () = tokio::time::sleep(HEARTBEAT) => return Some(Heard::Nothing(self.at)),
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
            self.look().await;
        }
    }

    /// Reads on. Who is too far behind has lost something.
    async fn look(&mut self) {
        let newest = self.service.events.newest();
        if newest.0.saturating_sub(self.at.0) > MAX_CATCH_UP {
            return self.lose(newest);
        }
        let window = self.service.events.read(self.at.next(), STEP_EVENTS).await;
        match window.first {
            None => {}
            Some(first) if first == self.at.next() => {
                self.at = window.last;
                self.told = window.batches.iter().rev().filter_map(|batch| self.wanted(batch)).collect();
            }
            Some(_) => self.lose(window.newest),
        }
    }

    fn lose(&mut self, newest: TxId) {
        self.at = newest;
        self.told = vec![Heard::Lost(newest)];
    }

    fn wanted(&self, batch: &EventBatch) -> Option<Heard> {
        let wanted: Vec<Event> =
            batch.events.iter().filter(|event| self.filter.wants(event)).cloned().collect();
        (!wanted.is_empty()).then_some(Heard::Changed(batch.tx, wanted))
    }
}
