//! Files that this process has open: deleted or replaced, by whomever, they are kept for it until it closes them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use steadfs_common::{FsErrorKind, FsResult, InodeId};
use steadfs_proto::steadfs as pb;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::Client;
use crate::client::Inner;

/// Files named by one call at most.
const BATCH: usize = 1_024;
/// What nobody waits for is told together with what else comes up so soon after it.
const LINGER: Duration = Duration::from_millis(50);
/// What failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// A session is renewed this often: often enough to notice soon that the namenode was started anew.
const RENEW: Duration = Duration::from_secs(3);

/// Tells the namenode which files this process has open. A file that it knows of outlives its name: whoever deletes it or
/// puts another in its place, it can be read and written by its inode's path until nobody has it open.
///
/// It lasts over a restart of the namenode, and goes with its session, which ends when it was not heard of for 30 s.
pub struct OpenKeeper {
    shared: Arc<Shared>,
    wake: Arc<Wake>,
    begun: AtomicBool,
}

/// Wakes the task, and says how soon it shall work.
#[derive(Default)]
struct Wake {
    now: Notify,
    soon: Notify,
}

struct Shared {
    inner: Arc<Inner>,
    state: Mutex<State>,
    /// Told of each new session, so that another process can go on with it.
    opened: Box<dyn Fn(u64) + Send + Sync>,
    /// Counts what was tried.
    tried: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// 0 for none.
    session: u64,
    life: u64,
    files: HashMap<u64, File>,
    /// Files that are to be told of.
    new: Vec<u64>,
    /// Files that were told of and are open no longer. Each once: one that is opened again is not released.
    released: BTreeSet<u64>,
    /// All are to be told of: the namenode has forgotten them, or may know of others.
    all: bool,
    /// When the session was heard of last.
    renewed: Option<Instant>,
    /// The namenode is too old to keep anything.
    off: bool,
}

struct File {
    opens: usize,
    user: Arc<Inner>,
    told: Told,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    No,
    /// A call is under way.
    Telling,
    Yes,
    /// It was not there any more.
    Gone,
    /// The namenode did not take it: it is tried again, and nobody waits for that.
    Failed,
}

impl Client {
    /// What tells the namenode which files this process has open, once it is told to begin ([`OpenKeeper::begin`]). `session` is
    /// that of a process before this one, with which it goes on; `opened` hears of each session that is opened, whenever that
    /// happens.
    #[must_use]
    pub fn keep_open(
        &self,
        session: Option<u64>,
        opened: impl Fn(u64) + Send + Sync + 'static,
    ) -> OpenKeeper {
        let session = session.unwrap_or_default();
        // What the process before this one has told is not known.
        let state = State { session, all: session != 0, ..State::default() };
        let (state, tried) = (Mutex::new(state), watch::Sender::new(0));
        let shared = Arc::new(Shared { inner: self.inner.clone(), state, opened: Box::new(opened), tried });
        OpenKeeper { shared, wake: Arc::default(), begun: AtomicBool::new(false) }
    }
}

impl OpenKeeper {
    /// Begins to tell. In a session of a process before this one all that is open is named first, and what is not named is
    /// released: what that process had open must have been [opened](Self::opened) here by now.
    pub fn begin(&self) {
        if !self.begun.swap(true, Ordering::Relaxed) {
            tokio::spawn(work(Arc::downgrade(&self.shared), self.wake.clone()));
        }
    }

    /// A file is open, once more, as `user`. With `now`, the namenode is told at once, else soon.
    pub fn opened(&self, user: &Client, file: InodeId, now: bool) {
        {
            let mut state = self.shared.state.lock();
            if let Some(known) = state.files.get_mut(&file.0) {
                known.opens += 1;
                if known.told != Told::Gone {
                    return;
                }
                (known.told, known.user) = (Told::No, user.inner.clone());
            } else {
                let told = if state.released.remove(&file.0) { Told::Yes } else { Told::No };
                state.files.insert(file.0, File { opens: 1, user: user.inner.clone(), told });
                if told == Told::Yes {
                    return;
                }
            }
            state.new.push(file.0);
        }
        if now { self.wake.now.notify_one() } else { self.wake.soon.notify_one() }
    }

    /// A file is closed that was opened before, as often as this is called.
    pub fn closed(&self, file: InodeId) {
        {
            let mut state = self.shared.state.lock();
            let Some(known) = state.files.get_mut(&file.0) else { return };
            known.opens -= 1;
            if known.opens > 0 {
                return;
            }
            if state.files.remove(&file.0).is_some_and(|known| known.told == Told::Yes) {
                state.released.insert(file.0);
            }
        }
        self.wake.soon.notify_one();
    }

    /// Waits until the namenode knows that a file is open, or could not be told. Whether the file is there, as far as is known.
    pub async fn is_kept(&self, file: InodeId) -> bool {
        let mut tried = self.shared.tried.subscribe();
        loop {
            {
                let state = self.shared.state.lock();
                match state.files.get(&file.0).map(|known| known.told) {
                    Some(Told::Gone) => return false,
                    Some(Told::No) if !state.off => self.wake.now.notify_one(),
                    Some(Told::Telling) if !state.off => {}
                    _ => return true,
                }
            }
            if tried.changed().await.is_err() {
                return true;
            }
        }
    }

    /// Ends the session: nothing is open any more.
    ///
    /// # Errors
    /// Those of any call. The session then ends with its lease.
    pub async fn close(&self) -> FsResult<()> {
        let session = {
            let mut state = self.shared.state.lock();
            state.off = true;
            std::mem::take(&mut state.session)
        };
        self.shared.tried.send_modify(|tried| *tried += 1);
        if session == 0 {
            return Ok(());
        }
        let request = pb::LockSessionRequest { session, reclaimed: false };
        let calls = &self.shared.inner.calls;
        calls.mounts(request, |mut c, r| async move { c.close_lock_session(r).await }).await.map(drop)
    }
}

/// Tells the namenode what there is to tell until the keeper is dropped.
async fn work(shared: Weak<Shared>, wake: Arc<Wake>) {
    let mut wait = Duration::ZERO;
    loop {
        let until = Instant::now() + wait;
        tokio::select! {
            () = wake.now.notified() => {}
            () = wake.soon.notified() => {
                tokio::select! {
                    () = wake.now.notified() => {}
                    () = tokio::time::sleep(LINGER) => {}
                }
            }
            () = tokio::time::sleep_until(until) => {}
        }
        let Some(shared) = shared.upgrade() else { return };
        wait = match shared.step().await {
            Ok(()) => RENEW,
            Err(error) if error.kind() == FsErrorKind::NoSuchMethod => {
                tracing::info!("the namenode is too old to keep files that are open when they are deleted");
                shared.state.lock().off = true;
                shared.tried.send_modify(|tried| *tried += 1);
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "the namenode was not told which files are open: deleted meanwhile, they are lost");
                shared.give_up_waiting();
                AGAIN
            }
        };
    }
}

/// What one pass tells.
struct What {
    /// Every file that is open.
    all: bool,
    /// And no other: what else the namenode knows of is released.
    in_one_go: bool,
    files: Batches,
    released: Vec<u64>,
}

/// Files by user.
type Batches = Vec<(Arc<Inner>, Vec<u64>)>;

impl Shared {
    /// Tells what there is to tell, and renews the session.
    async fn step(&self) -> FsResult<()> {
        loop {
            let what = {
                let mut state = self.state.lock();
                if state.off || state.session == 0 && state.files.is_empty() {
                    state.released.clear();
                    return Ok(());
                }
                let fresh = state.session == 0;
                let all = state.all || fresh;
                let files = state.batches(all);
                let released = std::mem::take(&mut state.released).into_iter().collect();
                What { all, in_one_go: all && !fresh, files, released }
            };
            match self.tell(what).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    // What was not told or released is, together with all else.
                    self.state.lock().all = true;
                    return Err(error);
                }
            }
        }
    }

    /// Whether there is more to tell already.
    async fn tell(&self, what: What) -> FsResult<bool> {
        let session = self.session().await?;
        let of = |files: &[u64]| pb::KeepOpenRequest { session, files: files.to_vec(), ..Default::default() };
        if what.in_one_go {
            self.call(&self.inner, pb::KeepOpenRequest { begin: true, ..of(&[]) }).await?;
        }
        let life = self.state.lock().life;
        for (user, files) in &what.files {
            for files in files.chunks(BATCH) {
                self.call(user, of(files)).await?;
            }
        }
        for released in what.released.chunks(BATCH) {
            self.call(&self.inner, pb::KeepOpenRequest { released: released.to_vec(), ..of(&[]) }).await?;
        }
        let late = self.state.lock().renewed.is_none_or(|at| at.elapsed() >= RENEW / 2);
        if what.in_one_go {
            self.call(&self.inner, pb::KeepOpenRequest { end: true, ..of(&[]) }).await?;
        } else if late {
            self.call(&self.inner, of(&[])).await?;
        }
        let mut state = self.state.lock();
        if what.all && state.session == session && state.life == life {
            state.all = false;
        }
        Ok(state.all || state.session == 0 && !state.files.is_empty())
    }

    /// Makes one call, and notes what it answers.
    async fn call(&self, user: &Arc<Inner>, request: pb::KeepOpenRequest) -> FsResult<()> {
        let (session, files) = (request.session, request.files.clone());
        // Only the session's own user renews it.
        let renews = files.is_empty().then(Instant::now);
        let answered = user.calls.mounts(request, |mut c, r| async move { c.keep_open(r).await }).await;
        let answered = match answered {
            Err(error) if error.kind() == FsErrorKind::LeaseExpired => {
                tracing::warn!(
                    session,
                    "the namenode did not hear of this process for too long: deleted files are lost"
                );
                let mut state = self.state.lock();
                if state.session == session {
                    (state.session, state.all) = (0, true);
                }
                return Ok(());
            }
            other => other?,
        };
        let mut state = self.state.lock();
        if state.life != answered.life && state.session == session {
            // All that was told before is forgotten: it is told again in one go.
            state.all |= state.life != 0 || !files.is_empty();
            state.life = answered.life;
        }
        state.renewed = renews.or(state.renewed);
        state.told(&files, &answered.gone);
        drop(state);
        self.tried.send_modify(|tried| *tried += 1);
        Ok(())
    }

    async fn session(&self) -> FsResult<u64> {
        let known = self.state.lock().session;
        if known != 0 {
            return Ok(known);
        }
        let request = pb::OpenLockSessionRequest { client: self.inner.name.clone() };
        let calls = &self.inner.calls;
        let opened = calls.mounts(request, |mut c, r| async move { c.open_lock_session(r).await }).await?;
        let mut state = self.state.lock();
        (state.session, state.life) = (opened.session, opened.life);
        drop(state);
        (self.opened)(opened.session);
        Ok(opened.session)
    }

    /// Nobody waits any longer for what is tried again.
    fn give_up_waiting(&self) {
        let mut state = self.state.lock();
        state
            .files
            .values_mut()
            .filter(|file| matches!(file.told, Told::No | Told::Telling))
            .for_each(|file| file.told = Told::Failed);
        drop(state);
        self.tried.send_modify(|tried| *tried += 1);
    }
}

impl State {
    /// Notes that the namenode was told of these files, of which these were gone.
    fn told(&mut self, files: &[u64], gone: &[u64]) {
        for file in files {
            let told = if gone.contains(file) { Told::Gone } else { Told::Yes };
            match self.files.get_mut(file) {
                Some(known) => known.told = told,
                // Closed meanwhile.
                None if told == Told::Yes => drop(self.released.insert(*file)),
                None => {}
            }
        }
    }

    /// What is to be told, by user.
    fn batches(&mut self, all: bool) -> Batches {
        let new = std::mem::take(&mut self.new);
        let wanted: Vec<u64> = if all { self.files.keys().copied().collect() } else { new };
        let mut users: BTreeMap<usize, (Arc<Inner>, Vec<u64>)> = BTreeMap::new();
        for file in wanted {
            let Some(known) = self.files.get_mut(&file) else { continue };
            if matches!(known.told, Told::No | Told::Failed) {
                known.told = Told::Telling;
            }
            let (_, files) = users
                .entry(Arc::as_ptr(&known.user) as usize)
                .or_insert_with(|| (known.user.clone(), Vec::new()));
            files.push(file);
        }
        users.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Calls;
    use crate::{ClientOptions, Defaults};

    /// A client of a namenode that never answers.
    fn client() -> Client {
        let options = ClientOptions::for_user("u");
        let calls = Calls::new("hdfs://127.0.0.1:1".parse().unwrap(), &options).unwrap();
        drop(calls);
        let defaults = pb::GetDefaultsResponse { block_size: 1 << 20, replication: 1, ..Default::default() };
        let known = prost::Message::encode_to_vec(&defaults);
        let _ = Defaults::from_proto(defaults);
        Client::reconnect("hdfs://127.0.0.1:1", options, &known).unwrap()
    }

    fn keeper(client: &Client) -> OpenKeeper {
        let (state, tried) = (Mutex::default(), watch::Sender::new(0));
        let shared = Shared { inner: client.inner.clone(), state, opened: Box::new(|_| {}), tried };
        OpenKeeper { shared: Arc::new(shared), wake: Arc::default(), begun: AtomicBool::new(false) }
    }

    #[tokio::test]
    async fn what_a_former_process_left_is_named_in_the_first_round() {
        let client = client();
        let keeper = client.keep_open(Some(5), |_| {});
        // Finding out what was left takes its time. Were anything told meanwhile, all of it would be released.
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        for file in [7, 8] {
            keeper.opened(&client, InodeId(file), true);
        }
        keeper.begin();
        keeper.begin();
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), tasks + 1);
        let mut state = keeper.shared.state.lock();
        let all = state.all;
        let mut named = state.batches(all).remove(0).1;
        named.sort_unstable();
        assert!(all);
        assert_eq!(named, [7, 8]);
    }

    #[tokio::test]
    async fn what_is_opened_and_closed_in_one_breath_is_not_told() {
        let client = client();
        let keeper = keeper(&client);
        for file in [7, 7, 8, 9] {
            keeper.opened(&client, InodeId(file), false);
        }
        for file in [7, 8, 8] {
            keeper.closed(InodeId(file));
        }
        let mut state = keeper.shared.state.lock();
        let batches = state.batches(false);
        assert_eq!(batches.iter().map(|(_, files)| files.clone()).collect::<Vec<_>>(), [vec![7, 9]]);
        assert!(state.released.is_empty(), "what was never told is not taken back");
        assert!(state.batches(false).is_empty());
    }

    #[tokio::test]
    async fn what_was_told_is_taken_back_unless_it_is_opened_again() {
        let client = client();
        let keeper = keeper(&client);
        for file in [7, 8] {
            keeper.opened(&client, InodeId(file), true);
            keeper.shared.state.lock().files.get_mut(&file).unwrap().told = Told::Yes;
            assert!(keeper.is_kept(InodeId(file)).await);
            keeper.closed(InodeId(file));
        }
        keeper.opened(&client, InodeId(7), true);
        assert!(keeper.is_kept(InodeId(7)).await);
        assert_eq!(keeper.shared.state.lock().released, BTreeSet::from([8]));
        keeper.shared.state.lock().files.get_mut(&7).unwrap().told = Told::Gone;
        assert!(!keeper.is_kept(InodeId(7)).await);
    }

    #[tokio::test]
    async fn what_is_closed_while_it_is_told_of_and_opened_again_is_not_taken_back() {
        let client = client();
        let keeper = keeper(&client);
        let file = InodeId(7);
        keeper.opened(&client, file, true);
        keeper.shared.state.lock().files.get_mut(&7).unwrap().told = Told::Yes;
        // The namenode is told of all that is open once more.
        let named = keeper.shared.state.lock().batches(true).remove(0).1;
        keeper.closed(file);
        keeper.shared.state.lock().told(&named, &[]);
        keeper.opened(&client, file, true);
        let mut state = keeper.shared.state.lock();
        assert!(state.released.is_empty() && state.files[&7].told == Told::Yes);
        assert!(state.batches(false).is_empty());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_namenode_that_is_not_reached() {
        let client = client();
        let keeper = keeper(&client);
        keeper.opened(&client, InodeId(7), true);
        let waits = keeper.is_kept(InodeId(7));
        let fails = async {
            tokio::task::yield_now().await;
            keeper.shared.give_up_waiting();
        };
        assert!(futures::join!(waits, fails).0);
        let all = keeper.shared.state.lock().batches(true);
        assert_eq!(all[0].1, [7], "it is tried again");
    }
}
