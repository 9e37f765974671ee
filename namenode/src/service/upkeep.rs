//! The namenode's own data: backups, its health, and what is kept after an accepted loss.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use steadfs_common::{BlockId, ChecksumKind, FsError, FsErrorKind, FsResult, TxId};
use steadfs_namenode_core::{Caller, Command};
use tokio::sync::{mpsc, oneshot};

use super::Service;
use crate::backup::files::{self, Pace};
use crate::backup::take::Taken;
use crate::backup::{FileSum, Stamp};
use crate::upkeep::{Topic, Upkeep};

/// Pieces that wait for a slow reader; the backup waits beyond that.
const PIECES: usize = 4;

/// A piece of a backup on its way.
#[derive(Debug)]
pub(crate) enum BackupPiece {
    /// What follows in a file.
    Part {
        /// Its name.
        file: String,
        /// The bytes.
        data: Vec<u8>,
        /// Their CRC32C.
        crc32c: u32,
    },
    /// The manifest: the end.
    Manifest(Vec<u8>),
}

/// What is kept, and a page of it.
pub(crate) struct KeptBlocks {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    pub(crate) page: Vec<(BlockId, u64)>,
}

/// Kept blocks in one answer.
const KEPT_PAGE: usize = 10_000;

/// What backups need.
pub(super) struct BackupDesk {
    /// Where the picture of the store is kept meanwhile: on its disk.
    scratch: PathBuf,
    busy: Arc<AtomicBool>,
    /// A scrub that an operator ordered is running.
    scrubs: Arc<AtomicBool>,
}

impl BackupDesk {
    pub(super) fn new(data_dirs: &[PathBuf]) -> Self {
        let scratch = data_dirs.first().map_or_else(PathBuf::new, |folder| folder.join("backup-checkpoint"));
        Self { scratch, busy: Arc::default(), scrubs: Arc::default() }
    }
}

/// Frees the desk when a backup or a scrub ends, however it does.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

type Pieces = mpsc::Sender<FsResult<BackupPiece>>;

impl Service {
    /// The store as of one moment, in pieces. It ends early if nobody takes them any more.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser; Refused: a backup is being taken already.
    pub(crate) fn backup(&self, caller: &Caller) -> FsResult<mpsc::Receiver<FsResult<BackupPiece>>> {
        let started = self.audit.start();
        let begun = self.check_operator(caller, "backup").and_then(|()| self.begin_backup());
        self.audit.changed(&started, "backup", caller, &"/", &begun);
        begun
    }

    fn begin_backup(&self) -> FsResult<mpsc::Receiver<FsResult<BackupPiece>>> {
        if self.backups.busy.swap(true, Ordering::AcqRel) {
            return Err(FsError::new(
                FsErrorKind::Refused,
                "A backup is being taken already: wait for its end",
            ));
        }
        let busy = Busy(self.backups.busy.clone());
        let (out, pieces) = mpsc::channel(PIECES);
        let (store, scratch) = (self.store.clone(), self.backups.scratch.clone());
        let stamp = Stamp { identity: self.identity.clone(), taken_ms: self.clock.now().0 };
        let run = move || {
            let _busy = busy;
            if let Err(error) = send(&store, &scratch, &stamp, &out) {
                let text = format!("The backup failed: {error:#}");
                // Who asked may have gone.
                let _ = out.blocking_send(Err(FsError::new(FsErrorKind::Io, text)));
            }
        };
        let started = thread::Builder::new().name("backup".into()).spawn(run);
        started.map_err(|error| FsError::new(FsErrorKind::Io, format!("no thread for a backup: {error}")))?;
        Ok(pieces)
    }

    /// Who reads everything and makes good what rotted. Once.
    pub(crate) fn set_scrubber(&self, upkeep: Arc<Upkeep>) {
        let _ = self.scrubber.set(upkeep);
    }

    /// Reads journal, store and its copy now, and makes good what rotted.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser; Refused: one is running already; Io: a disk says no.
    pub(crate) async fn scrub(&self, caller: &Caller) -> FsResult<()> {
        let started = self.audit.start();
        let result = async {
            self.check_operator(caller, "scrub")?;
            let Some(upkeep) = self.scrubber.get().cloned() else {
                return Err(FsError::new(FsErrorKind::Refused, "The namenode is still starting"));
            };
            if self.backups.scrubs.swap(true, Ordering::AcqRel) {
                let text = "A scrub is running already: wait for its end (steadfs admin data-health tells what it found)";
                return Err(FsError::new(FsErrorKind::Refused, text));
            }
            let busy = Busy(self.backups.scrubs.clone());
            let (give, scrubbed) = oneshot::channel();
            // It takes hours, on a thread of its own, and goes on if who asked is gone.
            let run = move || {
                let scrubbed = upkeep.renew().and_then(|()| upkeep.scrub());
                // Who has the answer may ask for the next one, or stop the namenode and start it on the same folders.
                drop((busy, upkeep));
                let _ = give.send(scrubbed);
            };
            let io = |text: String| FsError::new(FsErrorKind::Io, text);
            let started = thread::Builder::new().name("scrub".into()).spawn(run);
            started.map_err(|error| io(format!("no thread for a scrub: {error}")))?;
            let scrubbed = scrubbed.await.map_err(|_| io("the scrub ended early".into()))?;
            scrubbed.map_err(|error| io(format!("{error:#}")))
        };
        let result = result.await;
        self.audit.changed(&started, "scrub", caller, &"/", &result);
        result
    }

    /// The last transaction that is durable.
    pub(crate) fn durable_transaction(&self) -> TxId {
        use steadfs_namenode_core::View as _;
        self.store.view_guard().counters().map_or_else(TxId::default, |counters| counters.last_tx)
    }

    /// A datanode has heard of a later state than this: it is refused, and the operator told. Gives the words.
    pub(crate) fn tell_stale(&self, (incarnation, transaction): (u64, u64), ours: u64) -> String {
        let text = if incarnation > self.identity.incarnation {
            "THIS NAMENODE RUNS ON OLD DATA: a datanode follows a state that was accepted after it. Start the namenode on the \
             folders on which `steadfs namenode accept-loss` was run"
                .to_owned()
        } else {
            format!(
                "THIS NAMENODE RUNS ON OLD DATA: it is at transaction {ours}, and a datanode has heard of {transaction}. \
                 Stop it and start it on the newest copy of data_dirs. If there is none, run `steadfs namenode accept-loss`: \
                 what came after is lost, and replicas made since are kept until you let them go"
            )
        };
        self.health.problem(Topic::Stale, Some(text.clone()));
        text
    }

    /// Losses that were accepted and not let go.
    #[cfg(test)]
    pub(crate) fn losses(&self) -> Vec<steadfs_namenode_core::record::Loss> {
        use steadfs_namenode_core::View as _;
        self.store.view().losses()
    }

    /// What is stored now.
    #[cfg(test)]
    pub(crate) fn store_view(&self) -> Arc<crate::store::StoreView> {
        self.store.view()
    }

    /// Lets go what was kept since losses were accepted: replicas that no file has are deleted again.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser.
    pub(crate) async fn forget_losses(&self, caller: &Caller) -> FsResult<()> {
        let started = self.audit.start();
        let result = async {
            self.check_operator(caller, "forgetKept")?;
            self.commits.submit(caller.clone(), None, Command::ForgetLosses, None).await?;
            self.blocks.set_losses(Vec::new());
            Ok(())
        };
        let result = result.await;
        self.audit.changed(&started, "forget_kept", caller, &"/", &result);
        result
    }

    /// Blocks that no file has and that are kept.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser.
    pub(crate) fn kept_blocks(&self, caller: &Caller, after: BlockId) -> FsResult<KeptBlocks> {
        self.check_operator(caller, "listKept")?;
        let (blocks, bytes) = self.blocks.kept();
        Ok(KeptBlocks { blocks, bytes, page: self.blocks.kept_after(after, KEPT_PAGE) })
    }
}

fn send(
    store: &crate::store::Store,
    scratch: &std::path::Path,
    stamp: &Stamp,
    out: &Pieces,
) -> anyhow::Result<()> {
    let taken = Taken::of(store, scratch)?;
    let gone = |_| anyhow::anyhow!("who asked is gone");
    let mut sums = Vec::new();
    for (name, _) in &taken.files {
        let part = |data: &[u8]| BackupPiece::Part {
            file: name.clone(),
            data: data.to_vec(),
            crc32c: ChecksumKind::Crc32c.of(data),
        };
        // An empty file is a file, too.
        out.blocking_send(Ok(part(&[]))).map_err(gone)?;
        let (bytes, crc32c) = files::read(&taken.path(name), &Pace::unbounded(), |data| {
            out.blocking_send(Ok(part(data))).map_err(gone)
        })?;
        sums.push(FileSum { name: name.clone(), stored: name.clone(), bytes, crc32c });
    }
    let manifest = stamp.manifest(&taken, sums).encode()?;
    out.blocking_send(Ok(BackupPiece::Manifest(manifest))).map_err(gone)
}
