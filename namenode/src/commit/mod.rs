//! The one thread that changes the namespace.
//!
//! It takes what is queued, plans each command over the last view and what was planned before it in the same batch,
//! appends one journal entry, syncs once, applies the changes to the store and publishes the new view, hands what follows
//! to the owner of blocks, and answers. So whoever has an answer finds its effect in every later read, and after any crash.

pub(crate) mod answers;
pub(crate) mod payload;
mod queue;
pub(crate) mod renewals;
mod thread;

use std::sync::Arc;
use std::time::Duration;

use steadfs_common::{CallKey, FsError, FsErrorKind, FsPath, FsResult, InodeId};
use steadfs_daemon::clock::SharedClock;
use steadfs_namenode_core::command::FileRef;
use steadfs_namenode_core::event::{Event, EventBatch, EventKind, MetadataChange};
use steadfs_namenode_core::namespace::{self, kept::OpenFiles, subtree::Clearance};
use steadfs_namenode_core::{Caller, Command, Context, Effect, Reply, Settings, Tx, View};
use tokio::sync::oneshot;

use crate::events::{Events, size_of_batch};
use crate::fatal;
use crate::journal::Journal;
use crate::service::EffectSink;
use crate::store::{Store, StoreWriter};

use answers::SavedAnswers;
use payload::Transaction;
use queue::Queue;
use renewals::Renewals;
pub(crate) use thread::CommitThread;

/// A batch that changes so many rows takes no more commands: its entry, and the memory it needs, stay bounded.
const BATCH_ROWS: usize = 50_000;
/// So does one whose events and lists of extended attributes, the only rows that are large, take about so many bytes of
/// memory.
const BATCH_BYTES: usize = 32 << 20;
/// The shortest time for which a batch is planned while several users share the thread.
const LEAST_SPAN: Duration = Duration::from_micros(100);

/// A command on its way to the commit thread.
pub(crate) struct Job {
    pub(crate) caller: Caller,
    pub(crate) key: Option<CallKey>,
    pub(crate) command: Command,
    pub(crate) clearance: Option<Clearance>,
    pub(crate) answer: oneshot::Sender<FsResult<Reply>>,
    /// What follows it at once, in the same batch, if it makes a file.
    pub(crate) first_block: Option<FirstBlock>,
}

/// The first block of a file that is about to be made. If it cannot be had, the file is there all the same.
pub(crate) struct FirstBlock {
    /// By which the file is created.
    pub(crate) path: FsPath,
    pub(crate) client: String,
    /// Never answered if there is no file.
    pub(crate) answer: oneshot::Sender<FsResult<Reply>>,
}

impl FirstBlock {
    /// The job that allocates it.
    fn job(self, caller: Caller, file: InodeId) -> Job {
        let command = Command::AddBlock {
            file: FileRef { path: self.path, inode: Some(file) },
            client: self.client,
            previous: None,
            excluded: Vec::new(),
            favored: Vec::new(),
            avoid_local: false,
        };
        Job { caller, key: None, command, clearance: None, answer: self.answer, first_block: None }
    }
}

/// The way to the commit thread. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Commits {
    queue: Arc<Queue>,
}

fn stopping() -> FsError {
    FsError::new(FsErrorKind::Stopping, "The namenode is stopping")
}

impl Commits {
    /// Waits for a place in the queue, and for the answer. Once it is queued, a command is carried out even if nobody
    /// waits any more.
    pub(crate) async fn submit(
        &self,
        caller: Caller,
        key: Option<CallKey>,
        command: Command,
        clearance: Option<Clearance>,
    ) -> FsResult<Reply> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Job { caller, key, command, clearance, answer, first_block: None }).await?;
        answered.await.map_err(|_| stopping())?
    }

    /// Carries out a [`Command::Create`], and allocates the new file's first block with it: both are durable together. The
    /// second answer is none if there is no file.
    pub(crate) async fn submit_with_block(
        &self,
        caller: Caller,
        key: Option<CallKey>,
        command: Command,
        (path, client): (FsPath, String),
    ) -> (FsResult<Reply>, Option<FsResult<Reply>>) {
        let (answer, answered) = oneshot::channel();
        let (allocate, allocated) = oneshot::channel();
        let first_block = Some(FirstBlock { path, client, answer: allocate });
        let job = Job { caller, key, command, clearance: None, answer, first_block };
        if let Err(error) = self.queue.send(job).await {
            return (Err(error), None);
        }
        let created = answered.await.unwrap_or_else(|_| Err(stopping()));
        (created, allocated.await.ok())
    }

    /// Asks for a seal, if nothing was committed since `index`.
    pub(crate) fn seal(&self, index: u64) {
        self.queue.seal(index);
    }

    /// Begins a new segment of the journal.
    ///
    /// # Errors
    /// Stopping.
    pub(crate) async fn roll(&self) -> FsResult<()> {
        let (answer, answered) = oneshot::channel();
        self.queue.roll(answer)?;
        answered.await.map_err(|_| stopping())
    }

    /// Lets copies of the journal come back that were left, if their disks work again.
    pub(crate) fn readmit(&self) {
        self.queue.readmit();
    }

    /// Ends the thread once everything queued is carried out. What comes later is refused.
    pub(crate) fn stop(&self) {
        self.queue.close();
    }

    /// How long the thread has been at what it does; none if it waits for something to do.
    pub(crate) fn busy_for(&self) -> Option<Duration> {
        self.queue.busy_for()
    }

    /// How many commands wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.waiting()
    }
}

/// What planning needs and who hears of what comes of it.
pub(crate) struct Parts {
    pub(crate) store: Arc<Store>,
    pub(crate) writer: StoreWriter,
    pub(crate) journal: Box<dyn Journal>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: SharedClock,
    pub(crate) sink: Arc<dyn EffectSink>,
    pub(crate) renewals: Arc<Renewals>,
    pub(crate) answers: Arc<SavedAnswers>,
    pub(crate) events: Arc<Events>,
    pub(crate) open: Arc<dyn OpenFiles + Send + Sync>,
    /// First of the random bits.
    pub(crate) seed: u64,
}

/// Plans, commits and answers batches. Driven by [`CommitThread`], or inline by a test.
pub(crate) struct CommitLoop {
    parts: Parts,
    seeds: u64,
    /// Journal bytes and entries since the last flush was asked for.
    unflushed: (u64, u64),
    /// How long the last entry took to be durable.
    synced: Duration,
}

/// A planned batch.
#[derive(Default)]
struct Batch {
    transactions: Vec<Transaction>,
    effects: Vec<Effect>,
    answers: Vec<(oneshot::Sender<FsResult<Reply>>, FsResult<Reply>)>,
    /// About the bytes of what is large in it.
    bytes: usize,
}

/// About the bytes that these events and the lists of attributes that they tell of take.
fn bytes_of(tx: &Tx<'_>, events: &[EventBatch]) -> usize {
    let attributes = |event: &Event| match &event.kind {
        EventKind::Metadata(MetadataChange::XAttrsSet(_) | MetadataChange::XAttrsRemoved(_)) => {
            tx.xattrs(event.inode).iter().map(|one| one.name.name.len() + one.value.len()).sum()
        }
        _ => 0,
    };
    let of = |batch: &EventBatch| size_of_batch(batch) + batch.events.iter().map(attributes).sum::<usize>();
    events.iter().map(of).sum()
}

impl CommitLoop {
    pub(crate) fn new(parts: Parts) -> Self {
        let seeds = parts.seed;
        Self { parts, seeds, unflushed: (0, 0), synced: Duration::ZERO }
    }

    /// Carries out commands as one batch, or a few where they change much, and answers them.
    #[cfg(test)]
    pub(crate) fn commit(&mut self, jobs: impl IntoIterator<Item = Job>) {
        self.commit_shared(jobs, || false);
    }

    /// Carries out commands as one batch, or a few where they change much, and answers them. While several users share the
    /// thread, a batch is planned for no longer than half of what it takes to make it durable: one may wait for its end.
    pub(crate) fn commit_shared(
        &mut self,
        jobs: impl IntoIterator<Item = Job>,
        is_shared: impl Fn() -> bool,
    ) {
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let span = is_shared().then(|| (self.synced / 2).max(LEAST_SPAN));
            self.commit_batch(&mut jobs, span);
        }
    }

    fn commit_batch(&mut self, jobs: &mut impl Iterator<Item = Job>, span: Option<Duration>) {
        let began = self.parts.clock.monotonic();
        let view = self.parts.store.view();
        let mut tx = Tx::new(&*view);
        let mut batch = Batch::default();
        for job in jobs {
            self.plan(&mut tx, &mut batch, job);
            let late = |span| self.parts.clock.monotonic().saturating_sub(began) >= span;
            if tx.rows() >= BATCH_ROWS || batch.bytes >= BATCH_BYTES || span.is_some_and(late) {
                break;
            }
        }
        let changes = tx.into_changes();
        if !changes.is_empty() {
            let payload = payload::encode(&batch.transactions, &changes);
            let sent = self.parts.clock.monotonic();
            let position = self.parts.journal.append(&payload).unwrap_or_else(|error| journal_failed(&error));
            self.synced = self.parts.clock.monotonic().saturating_sub(sent);
            self.parts.writer.apply(position, &changes);
            self.parts.events.publish(std::mem::take(&mut batch.transactions));
            self.unflushed = (self.unflushed.0 + payload.len() as u64, self.unflushed.1 + 1);
        }
        self.parts.open.settled();
        drop(view);
        if !batch.effects.is_empty() {
            self.parts.sink.apply(batch.effects);
        }
        for (answer, reply) in batch.answers {
            // Who asked may have gone.
            let _ = answer.send(reply);
        }
        self.trim();
    }

    fn plan(&mut self, tx: &mut Tx<'_>, batch: &mut Batch, job: Job) {
        let (parts, seed) = (&self.parts, next_seed(&mut self.seeds));
        // As they are after the job was sent: it may have come while the batch was planned, once its sender had heard that
        // safe mode is over, or on, or that a datanode is there.
        let (cluster, safe_mode) = (parts.sink.cluster(), parts.sink.safe_mode());
        let key = job.key.filter(|_| namespace::retry::is_at_most_once(&job.command));
        let before = tx.counters().map(|counters| counters.last_tx);
        let rows = tx.rows();
        let planned = parts.renewals.with(|renewals| {
            let context = Context {
                now: parts.clock.now(),
                steady: parts.renewals.now(),
                even: parts.renewals.even(),
                seed,
                caller: &job.caller,
                settings: &parts.settings,
                cluster: &*cluster,
                renewals,
                safe_mode: safe_mode.as_deref(),
                clearance: job.clearance.as_ref(),
                open: &*parts.open,
            };
            namespace::plan_once(tx, &context, key, &job.command)
        });
        let after = tx.counters().map(|counters| counters.last_tx);
        if key.is_some() && tx.rows() > rows {
            parts.answers.saved();
        }
        let mut transaction = (after != before).then(|| Transaction {
            id: before.unwrap_or_default().next(),
            operation: payload::operation(&job.command).0,
            events: Vec::new(),
        });
        let reply = planned.and_then(|outcome| {
            if let Some(transaction) = &mut transaction {
                batch.bytes += bytes_of(tx, &outcome.events);
                transaction.events = outcome.events;
            }
            // At once: the next command of this batch may ask for the same file.
            note_leases(&parts.renewals, &outcome.effects);
            batch.effects.extend(outcome.effects);
            match outcome.reply {
                Reply::Failed(error) => Err(error),
                reply => Ok(reply),
            }
        });
        batch.transactions.extend(transaction);
        let next = match (&reply, job.first_block) {
            (Ok(Reply::File(made)), Some(first)) => Some(first.job(job.caller, made.id)),
            _ => None,
        };
        batch.answers.push((job.answer, reply));
        if let Some(next) = next {
            self.plan(tx, batch, next);
        }
    }

    /// Appends a seal, if nothing was committed since `index`.
    pub(crate) fn seal(&mut self, index: u64) {
        if self.parts.journal.position().index == index {
            self.parts.journal.seal().unwrap_or_else(|error| journal_failed(&error));
        }
    }

    /// Begins a new segment of the journal.
    pub(crate) fn roll(&mut self) {
        self.parts.journal.roll().unwrap_or_else(|error| journal_failed(&error));
    }

    /// Seals whatever came last: the namenode is stopping.
    pub(crate) fn finish(&mut self) {
        self.seal(self.parts.journal.position().index);
        self.parts.store.flush();
        self.trim();
    }

    /// Lets copies of the journal come back; says whether a segment was begun for them.
    pub(crate) fn readmit(&mut self) -> bool {
        let begun = self.parts.journal.readmit().unwrap_or_else(|error| journal_failed(&error));
        self.trim();
        begun
    }

    /// Gives up journal segments that the store, and its second copy, have durably passed.
    fn trim(&mut self) {
        self.parts.journal.trim(self.parts.store.flushed_index());
    }

    /// Whether so much was journalled since this was last true that the store should be flushed.
    pub(crate) fn flush_is_due(&mut self, bytes: u64, entries: u64) -> bool {
        let due = self.unflushed.0 >= bytes || self.unflushed.1 >= entries;
        if due {
            self.unflushed = (0, 0);
        }
        due
    }
}

fn note_leases(renewals: &Renewals, effects: &[Effect]) {
    for effect in effects {
        if let Effect::LeaseStarted { holder, .. } = effect {
            renewals.started(holder);
        }
    }
}

fn journal_failed(error: &std::io::Error) -> ! {
    fatal::end(
        format!("the journal cannot be written: {error}"),
        "Nothing unacknowledged was kept. Check that the disks of data_dirs are healthy and have room, then start again",
    )
}

/// The next of a sequence of well-mixed numbers (SplitMix64).
fn next_seed(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
