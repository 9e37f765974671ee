//! What the namenode does for its own data while it runs: it looks after room and copies of the journal, keeps a second
//! copy of the store, and reads everything now and then to find what rotted while it can still be made good.

pub(crate) mod heal;
mod health;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use steadfs_common::format_bytes;
use steadfs_daemon::clock::SharedClock;
use steadfs_daemon::pool::DiskPool;
use steadfs_daemon::shutdown::Shutdown;
use tokio::sync::Notify;

use crate::backup::files::Pace;
use crate::backup::second::SecondCopy;
use crate::backup::{SECOND, Stamp};
use crate::blocks::Blocks;
use crate::commit::Commits;
use crate::config::{NamenodeConfig, UpkeepConfig};
use crate::identity::Identity;
use crate::journal::{self, JournalHealth};
use crate::service::EffectSink as _;
use crate::store::{Position, Store};
pub use health::Health;
pub(crate) use health::Topic;

/// A copy of the store that failed is tried again this much sooner than it would be renewed.
const RETRY_SOONER: u32 = 10;
/// A commit thread that has been at one thing for so long waits for a disk: what is usual takes milliseconds.
const STALLED_AFTER: Duration = Duration::from_secs(10);
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// The first scrub after a start comes this much sooner than later ones: a namenode that is started every day is read, too.
const FIRST_SCRUB_SOONER: u32 = 24;

/// What is looked after.
pub(crate) struct Upkeep {
    config: UpkeepConfig,
    store: Arc<Store>,
    health: Health,
    identity: Identity,
    clock: SharedClock,
    /// The first of the data folders, which holds the store.
    folder: PathBuf,
    second: Option<Mutex<SecondCopy>>,
    /// The second copy of the store is to be renewed now: much journal is kept for it.
    hurry: Notify,
    stop: Arc<AtomicBool>,
}

impl Upkeep {
    pub(crate) fn new(
        config: &UpkeepConfig,
        (store, opened_at): (Arc<Store>, Position),
        folders: &[PathBuf],
        health: Health,
        identity: Identity,
        clock: SharedClock,
    ) -> Arc<Self> {
        let folder = folders.first().cloned().unwrap_or_default();
        let second = folders.get(1).filter(|_| config.store_copy);
        let second = second
            .map(|second| Mutex::new(SecondCopy::at(second.join(SECOND), folder.join("store"), opened_at)));
        Arc::new(Self {
            config: config.clone(),
            store,
            health,
            identity,
            clock,
            folder,
            second,
            hurry: Notify::new(),
            stop: Arc::default(),
        })
    }

    /// Begins to look after everything, until `shutdown`.
    ///
    /// # Errors
    /// The operating system has no room for threads.
    pub(crate) fn start(
        self: &Arc<Self>,
        blocks: &Blocks,
        commits: &Commits,
        shutdown: &Shutdown,
    ) -> std::io::Result<()> {
        let (looking, caring) = (DiskPool::new("upkeep-check", 1, 1)?, DiskPool::new("upkeep", 1, 1)?);
        shutdown.spawn(look(self.clone(), looking, blocks.clone(), commits.clone(), shutdown.clone()));
        shutdown.spawn(care(self.clone(), caring, shutdown.clone()));
        shutdown.spawn(watch(self.health.clone(), commits.clone(), shutdown.clone()));
        let (stop, told) = (self.stop.clone(), shutdown.clone());
        shutdown.spawn(async move {
            told.triggered().await;
            stop.store(true, Ordering::Relaxed);
        });
        Ok(())
    }

    fn scratch(&self) -> PathBuf {
        self.folder.join("store-checkpoint")
    }

    /// Whether the first folder has less room than is reserved.
    fn is_low(&self) -> bool {
        let Ok(room) = room_in(&self.folder) else {
            // A disk that does not even say how full it is takes nothing either.
            self.health
                .problem(Topic::Room, Some(format!("{} does not say how full it is", self.folder.display())));
            return true;
        };
        self.health.room(room);
        let low = room < self.config.reserved_bytes;
        let problem = low.then(|| {
            format!(
                "{} has {} of room left, less than upkeep.reserved_bytes ({}): changes are refused until there is more",
                self.folder.display(),
                format_bytes(room),
                format_bytes(self.config.reserved_bytes)
            )
        });
        self.health.problem(Topic::Room, problem);
        low
    }

    /// Whether the journal still goes back to the second copy of the store, and how long it will.
    fn look_at_second(&self, journal: &JournalHealth) {
        if journal.is_pressing() {
            self.hurry.notify_one();
        }
        let problem = journal.outran().map(|copied| {
            format!(
                "THE SECOND COPY OF THE STORE IS TOO OLD: it ends with journal entry {copied}, and the journal begins later. Until \
                 it is renewed, a lost first data folder can only be made good from a backup"
            )
        });
        self.health.problem(Topic::Outran, problem);
    }

    /// Renews the second copy of the store, if anything was journalled since.
    pub(crate) fn renew(&self) -> anyhow::Result<()> {
        let Some(second) = &self.second else { return Ok(()) };
        let mut second = second.lock();
        let applied = self.store.view_guard().position().index;
        if second.is_current(applied) {
            self.health.journal().copied(applied);
            return Ok(());
        }
        let pace = Pace::new(self.config.store_copy_bytes_per_second, self.stop.clone());
        let stamp = Stamp { identity: self.identity.clone(), taken_ms: self.clock.now().0 };
        let healed = second.renew(&self.store, &self.scratch(), &stamp, &pace)?;
        self.tell_healed(0, &healed, &[]);
        let copied = second.manifest().map_or(0, |last| last.position.index);
        self.health.copied(copied);
        self.health.journal().copied(copied);
        Ok(())
    }

    fn tell_healed(&self, bytes: u64, healed: &[String], lost: &[String]) {
        for path in healed {
            self.health.found(format!("{path} had rotted and was made good from the other copy"));
        }
        self.health.scrubbed(bytes, healed.len(), lost.len());
    }

    /// Reads everything once and makes good what rotted. That it could not be read to the end is a standing problem, until it is.
    pub(crate) fn scrub(&self) -> anyhow::Result<()> {
        let result = self.read_and_mend();
        match &result {
            Ok(()) => {
                self.health.problem(Topic::Scrub, None);
                self.health.scrub_ended(self.clock.now());
            }
            Err(_) if self.stop.load(Ordering::Relaxed) => {}
            Err(error) => self.health.problem(
                Topic::Scrub,
                Some(format!("journal and store could not be read and checked to the end: {error:#}")),
            ),
        }
        result
    }

    fn read_and_mend(&self) -> anyhow::Result<()> {
        let pace = Pace::new(self.config.scrub_bytes_per_second, self.stop.clone());
        let (began, mut read) = (Instant::now(), 0);
        let segments = journal::scrub(&self.health.journal(), |bytes| {
            read += bytes;
            pace.keep(began, read)
        })?;
        let healed: Vec<String> = segments.healed.iter().map(|path| path.display().to_string()).collect();
        let mut lost = segments.lost;
        self.tell_healed(segments.bytes, &healed, &lost);
        match &self.second {
            Some(second) => {
                let checked = second.lock().scrub(&pace)?;
                self.tell_healed(checked.bytes, &checked.healed, &checked.lost);
                lost.extend(checked.lost);
                // What was rotten in the copy is copied anew at once.
                self.renew()?;
            }
            // The store checks each of its blocks as it is read; an error there ends the process.
            None => self.store.read_through(|bytes| {
                read += bytes;
                pace.keep(began, read)
            })?,
        }
        let problem = (!lost.is_empty()).then(|| {
            format!(
                "ROTTEN IN EVERY COPY: {}. Take a backup now; see OPERATIONS.md, \"The namenode's own data\"",
                lost.join(", ")
            )
        });
        self.health.problem(Topic::Rot, problem);
        tracing::info!(took = ?began.elapsed(), "journal and store were read and checked");
        Ok(())
    }
}

/// The journal entry up to which the second copy of the store goes, where one is kept: 0 if it is still to be made.
pub(crate) fn copied_at(config: &NamenodeConfig, stands_at: Position) -> Option<u64> {
    let second = config.data_dirs.get(1).filter(|_| config.upkeep.store_copy)?;
    let copy = SecondCopy::at(second.join(SECOND), PathBuf::new(), stands_at);
    Some(copy.manifest().map_or(0, |last| last.position.index))
}

/// Bytes that may still be written in a folder's file system.
fn room_in(folder: &Path) -> std::io::Result<u64> {
    let about = rustix::fs::statvfs(folder)?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

/// Tells of a commit thread that does not come back: whatever it waits for is a disk. Asks no disk itself.
async fn watch(health: Health, commits: Commits, shutdown: Shutdown) {
    loop {
        health.problem(Topic::Stalled, commits.busy_for().and_then(stalled));
        tokio::select! {
            () = shutdown.triggered() => return,
            () = tokio::time::sleep(WATCH_EVERY) => {}
        }
    }
}

/// What to say of a commit thread that has been at one thing for so long.
fn stalled(busy: Duration) -> Option<String> {
    (busy >= STALLED_AFTER).then(|| {
        format!(
            "NO CHANGE HAS BEEN CARRIED OUT for {} s: a disk of data_dirs does not answer. Nothing that was acknowledged is lost. \
             Find it (dmesg, iostat), and if it does not come back, start the namenode with the others (data_dirs)",
            busy.as_secs()
        )
    })
}

async fn look(upkeep: Arc<Upkeep>, pool: DiskPool, blocks: Blocks, commits: Commits, shutdown: Shutdown) {
    let every = Duration::from_millis(upkeep.config.check_interval_ms);
    loop {
        let asked = upkeep.clone();
        let (low, misses_a_file) =
            pool.run(move || (asked.is_low(), asked.health.journal().misses_a_file())).await;
        blocks.set_low_resources(low);
        // With a new segment a copy whose folder is gone is found out.
        if misses_a_file && let Err(error) = commits.roll().await {
            tracing::debug!(%error, "no new segment");
        }
        let journal = upkeep.health.journal();
        journal.low(low);
        if journal.is_degraded() {
            commits.readmit();
        }
        upkeep.look_at_second(&journal);
        let kept = blocks.kept();
        upkeep.health.problem(
            Topic::Kept,
            (kept.0 > 0).then(|| {
                format!(
                    "{} blocks ({}) that no file has are kept, because they were made after the restored state: copy what \
                     you need from the datanodes, then let them go (steadfs admin kept --delete)",
                    kept.0,
                    format_bytes(kept.1)
                )
            }),
        );
        upkeep.health.read();
        tokio::select! {
            () = shutdown.triggered() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

async fn care(upkeep: Arc<Upkeep>, pool: DiskPool, shutdown: Shutdown) {
    let renew_every = Duration::from_millis(upkeep.config.store_copy_interval_ms);
    let scrub_every = Duration::from_millis(upkeep.config.scrub_interval_ms);
    let mut scrub_due = tokio::time::Instant::now() + scrub_every / FIRST_SCRUB_SOONER;
    loop {
        let asked = upkeep.clone();
        let renewed = pool.run(move || asked.renew()).await;
        let wait = if renewed.is_ok() { renew_every } else { renew_every / RETRY_SOONER };
        let failed = |what: &str, error: anyhow::Error| format!("{what}: {error:#}");
        let problem =
            renewed.err().map(|error| failed("the second copy of the store could not be renewed", error));
        if !shutdown.is_triggered() {
            upkeep.health.problem(Topic::StoreCopy, problem);
        }
        let now = tokio::time::Instant::now();
        if !scrub_every.is_zero() && now >= scrub_due {
            scrub_due = now + scrub_every;
            let asked = upkeep.clone();
            if let Err(error) = pool.run(move || asked.scrub()).await {
                tracing::debug!(%error, "the scrub did not come to its end");
            }
        }
        let until_scrub = scrub_due.saturating_duration_since(tokio::time::Instant::now());
        let next = if scrub_every.is_zero() { wait } else { wait.min(until_scrub) };
        tokio::select! {
            () = shutdown.triggered() => return,
            () = tokio::time::sleep(next) => {}
            () = upkeep.hurry.notified(), if wait == renew_every => {}
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
