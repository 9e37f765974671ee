//! What operators ask and order: datanodes that leave, open files, the journal and the store, reports for people.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use steadfs_common::{BlockId, FsError, FsErrorKind, FsPath, FsResult, InodeId, Millis, TxId};
use steadfs_namenode_core::blocks::{Address, Condition, Host, Roster};
use steadfs_namenode_core::namespace::read::full_path;
use steadfs_namenode_core::{Caller, View};

use super::types::{FileInfo, Location, OpenFile, OpenFiles};
use super::{Service, hosts, meta};
use crate::config::{HostsConfig, NamenodeConfig};

/// Open files in one answer (HDFS: `dfs.namenode.list.openfiles.num.responses`).
const OPEN_FILES_PAGE: usize = 1_000;
/// Leases looked at in one hold of a view.
const LEASES_STEP: usize = 1_000;
/// Reports kept in the folder for them; each is at most [`meta::MAX_BYTES`].
const MAX_REPORTS: usize = 100;
/// Longest name of a report, in bytes.
const MAX_REPORT_NAME: usize = 200;

/// What only operators change.
pub(super) struct Desk {
    hosts: HostsConfig,
    /// Where reports are written.
    reports: PathBuf,
    restore_failed: AtomicBool,
    /// Held by who changes the roster: it is read, changed and set again.
    pub(super) roster_turn: tokio::sync::Mutex<()>,
    /// Held by who checks whether datanodes may be stopped: one look through all blocks at a time.
    pub(super) stop_turn: tokio::sync::Mutex<()>,
    /// The last transaction and time when the namespace was saved by order.
    saved: (AtomicU64, AtomicU64),
    /// When the tasks of `dfsadmin -reconfig` began and ended; 0 for never.
    reconfigured: AtomicU64,
}

impl Desk {
    pub(super) fn new(config: &NamenodeConfig) -> Self {
        Self {
            hosts: config.hosts.clone(),
            reports: config.data_dirs.first().map_or_else(PathBuf::new, |folder| folder.join("reports")),
            restore_failed: AtomicBool::new(false),
            roster_turn: tokio::sync::Mutex::new(()),
            stop_turn: tokio::sync::Mutex::new(()),
            saved: (AtomicU64::new(0), AtomicU64::new(0)),
            reconfigured: AtomicU64::new(0),
        }
    }
}

impl Service {
    /// Refuses all but superusers, naming the operation as HDFS does.
    pub(crate) fn check_operator(&self, caller: &Caller, operation: &str) -> FsResult<()> {
        if caller.superuser || !self.settings.permissions {
            return Ok(());
        }
        let user = &caller.user;
        Err(FsError::denied(format!(
            "Access denied for user {user}. Superuser privilege is required for operation {operation}"
        )))
    }

    /// Reads the hosts files and what was ordered of single datanodes, and begins what they ask for.
    ///
    /// # Errors
    /// A file cannot be read or understood: nothing is changed.
    pub(crate) async fn apply_hosts(&self) -> FsResult<()> {
        let _turn = self.desk.roster_turn.lock().await;
        let (config, store) = (self.desk.hosts.clone(), self.store.clone());
        let roster = self.pool.run(move || {
            let roster = hosts::read(&config)?;
            FsResult::Ok(Roster { named: store.view().node_wishes().into_iter().collect(), ..roster })
        });
        let roster = Roster { cordoned: self.blocks.roster().cordoned, ..roster.await? };
        self.blocks.set_roster(roster);
        Ok(())
    }

    /// As `dfsadmin -refreshNodes`: the hosts files are read again.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser, or a file of hosts cannot be read or makes no sense.
    pub async fn refresh_nodes(&self, caller: &Caller) -> FsResult<()> {
        let started = self.audit.start();
        let result = async {
            self.check_operator(caller, "refreshNodes")?;
            self.apply_hosts().await
        };
        let result = result.await;
        self.audit.changed(&started, "refresh_nodes", caller, &"/", &result);
        result
    }

    /// Hosts that the operator admits by name and that no known datanode is on.
    pub(crate) fn unseen_hosts(&self) -> Vec<Host> {
        let nodes = self.datanodes();
        let seen = |host: &Host| {
            nodes.iter().any(|node| {
                let address = Address {
                    ip: node.ip,
                    host: node.host_name.clone(),
                    data_port: node.data_port,
                    ipc_port: node.ipc_port,
                    http_port: node.http_port,
                };
                host.names(&address, &node.node)
            })
        };
        self.blocks.roster().included.into_iter().filter(|host| !seen(host)).collect()
    }

    /// Flushes the store, so that the namespace is on disk without the journal.
    ///
    /// With `window` (seconds) it does so only if that was not done for so long or since more than `gap` transactions;
    /// says whether it did.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser; Refused: safe mode is off.
    pub async fn save_namespace(&self, caller: &Caller, window: u64, gap: u64) -> FsResult<bool> {
        let started = self.audit.start();
        let result = async {
            self.check_operator(caller, "saveNamespace")?;
            if self.safe_mode().is_none() {
                return Err(FsError::refused(
                    "Safe mode should be turned ON in order to create namespace image.",
                ));
            }
            let last = self.last_transaction().await;
            let (tx, at) =
                (self.desk.saved.0.load(Ordering::Relaxed), self.desk.saved.1.load(Ordering::Relaxed));
            let recent = self.now().0.saturating_sub(at) < window.saturating_mul(1_000);
            if window > 0 && recent && last.0.saturating_sub(tx) <= gap {
                return Ok(false);
            }
            let store = self.store.clone();
            self.pool.run(move || store.flush()).await;
            self.desk.saved.0.store(last.0, Ordering::Relaxed);
            self.desk.saved.1.store(self.now().0, Ordering::Relaxed);
            Ok(true)
        };
        let result = result.await;
        self.audit.changed(&started, "save_namespace", caller, &"/", &result);
        result
    }

    /// The last transaction.
    pub async fn last_transaction(&self) -> TxId {
        self.read(|view: &dyn View| view.counters().map_or(TxId(0), |counters| counters.last_tx)).await
    }

    /// The last transaction, and when, that an operator had saved; zero for never.
    #[must_use]
    pub fn last_saved(&self) -> (TxId, Millis) {
        let (tx, at) = &self.desk.saved;
        (TxId(tx.load(Ordering::Relaxed)), Millis(at.load(Ordering::Relaxed)))
    }

    /// Begins a new segment of the journal; gives the first transaction that it may hold.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser; Stopping.
    pub async fn roll_journal(&self, caller: &Caller) -> FsResult<TxId> {
        let started = self.audit.start();
        let result = async {
            self.check_operator(caller, "rollEditLog")?;
            if let Some(reason) = self.safe_mode() {
                let message = format!("Log not rolled. Name node is in safe mode.\n{reason}");
                return Err(FsError::new(FsErrorKind::SafeMode, message));
            }
            self.commits.roll().await?;
            Ok(self.last_transaction().await.next())
        };
        let result = result.await;
        self.audit.changed(&started, "roll_edit_log", caller, &"/", &result);
        result
    }

    /// As `dfsadmin -restoreFailedStorage`: `check` asks, `true` and `false` set. A copy of the journal that fails ends
    /// the namenode, so there is never one to restore while it runs.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser.
    pub fn restore_failed_storage(&self, caller: &Caller, what: &str) -> FsResult<bool> {
        let started = self.audit.start();
        let result = self.check_operator(caller, "restoreFailedStorage").map(|()| match what {
            "check" => self.desk.restore_failed.load(Ordering::Relaxed),
            set => {
                let on = set == "true";
                self.desk.restore_failed.store(on, Ordering::Relaxed);
                on
            }
        });
        self.audit.changed(&started, "restore_failed_storage", caller, &"/", &result);
        result
    }

    /// Tells all live datanodes how many bytes a second they may use to move replicas.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser; InvalidArgument: below zero.
    pub fn set_balancer_bandwidth(&self, caller: &Caller, bytes_per_second: i64) -> FsResult<()> {
        let started = self.audit.start();
        let result = self.check_operator(caller, "setBalancerBandwidth").and_then(|()| {
            let bytes = u64::try_from(bytes_per_second)
                .map_err(|_| FsError::invalid_argument("Bandwidth should be a non-negative integer"))?;
            self.blocks.set_bandwidth(bytes);
            Ok(())
        });
        self.audit.changed(&started, "set_balancer_bandwidth", caller, &"/", &result);
        result
    }

    /// Files that are open for writing, by inode past `after`, at and below `top`; with `blocking` only those that keep a
    /// datanode from leaving.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser.
    pub async fn open_files(
        &self,
        caller: &Caller,
        after: InodeId,
        top: &FsPath,
        blocking: bool,
    ) -> FsResult<OpenFiles> {
        let started = self.audit.start();
        let checked = self.check_operator(caller, "listOpenFiles");
        self.audit.asked(&started, "list_open_files", caller, top, &checked);
        checked?;
        if blocking {
            return Ok(self.blocking_files(after, top.clone()).await);
        }
        let (mut page, mut after) = (OpenFiles::default(), Some(after));
        while let Some(from) = after {
            let (top, room) = (top.clone(), OPEN_FILES_PAGE - page.files.len());
            let (found, next) = self.read(move |view| open_below(view, from, &top, room)).await;
            page.files.extend(found);
            page.more = next.is_some();
            after = next.filter(|_| page.files.len() < OPEN_FILES_PAGE);
        }
        Ok(page)
    }

    async fn blocking_files(&self, after: InodeId, top: FsPath) -> OpenFiles {
        let blocks = self.blocks.blocking_blocks();
        self.read(move |view: &dyn View| {
            let mut files: Vec<InodeId> =
                blocks.iter().filter_map(|id| view.block(*id)).map(|block| block.inode).collect();
            files.sort_unstable();
            files.dedup();
            let wanted = files.into_iter().filter(|file| *file > after);
            let mut found = wanted.filter_map(|file| open_file(view, file, &top)).take(OPEN_FILES_PAGE + 1);
            let files: Vec<OpenFile> = found.by_ref().take(OPEN_FILES_PAGE).collect();
            OpenFiles { files, more: found.next().is_some() }
        })
        .await
    }

    /// Writes a report on datanodes and blocks to a file of this name in the namenode's folder for reports; gives its
    /// path.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser; InvalidArgument: not a plain file name; Refused: the disk.
    pub async fn save_report(&self, caller: &Caller, name: &str) -> FsResult<PathBuf> {
        let started = self.audit.start();
        let result = async {
            self.check_operator(caller, "metaSave")?;
            check_report_name(name)?;
            let lists = self.blocks.work_lists(meta::MAX_LINES);
            let report = self.overview().await?;
            let facts = meta::Facts { lists, report, blocks: self.blocks.clone() };
            let text = self.read(move |view| facts.render(view)).await;
            let path = self.desk.reports.join(name);
            let target = path.clone();
            let written = self.pool.run(move || write_report(&target, &text)).await;
            written.map_err(|error| FsError::refused(format!("{}: {error}", path.display())))?;
            Ok(path)
        };
        let result = result.await;
        self.audit.changed(&started, "meta_save", caller, &name, &result);
        result
    }

    /// A task of `dfsadmin -reconfig … start` begins; nothing that it could change is there, so that it ends at once.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser.
    pub fn start_reconfiguration(&self, caller: &Caller) -> FsResult<()> {
        self.check_operator(caller, "startNamenodeReconfiguration")?;
        self.desk.reconfigured.store(self.now().0, Ordering::Relaxed);
        Ok(())
    }

    /// When the last such task ran; zero for never.
    #[must_use]
    pub fn reconfigured(&self) -> Millis {
        Millis(self.desk.reconfigured.load(Ordering::Relaxed))
    }

    /// All that is known of a block's replicas.
    pub(crate) fn survey(&self, block: BlockId) -> Vec<(Location, Condition)> {
        self.blocks.survey(block)
    }

    /// Notes that somebody checks the files at and below a path.
    pub(crate) fn fsck_asked(&self, caller: &Caller, path: &FsPath) {
        self.audit.asked(&self.audit.start(), "fsck", caller, path, &Ok(()));
    }

    /// The file that a block belongs to, whoever may see it.
    pub(crate) async fn file_of_block(&self, block: BlockId) -> Option<FileInfo> {
        self.read(move |view: &dyn View| {
            let block = view.block(block)?;
            let path = full_path(view, block.inode)?;
            Some(FileInfo { path, block })
        })
        .await
    }
}

/// Open files past `after` in one step: up to `room` of them, and where to go on; none at the end.
fn open_below(
    view: &dyn View,
    after: InodeId,
    top: &FsPath,
    room: usize,
) -> (Vec<OpenFile>, Option<InodeId>) {
    let leases = view.leases(Some(after), LEASES_STEP);
    let (mut found, mut last) = (Vec::new(), None);
    let full = leases.len() == LEASES_STEP;
    for (at, (file, _)) in leases.iter().enumerate() {
        found.extend(open_file(view, *file, top));
        last = Some(*file);
        if found.len() >= room {
            let more = full || at + 1 < leases.len();
            return (found, last.filter(|_| more));
        }
    }
    (found, last.filter(|_| full))
}

fn open_file(view: &dyn View, file: InodeId, top: &FsPath) -> Option<OpenFile> {
    let lease = view.lease(file)?;
    let path = full_path(view, file).filter(|path| path.starts_with(top))?;
    Some(OpenFile { inode: file, path, client: lease.holder, machine: lease.machine })
}

fn check_report_name(name: &str) -> FsResult<()> {
    let plain = !name.is_empty()
        && name.len() <= MAX_REPORT_NAME
        && !name.starts_with('.')
        && !name.chars().any(|letter| letter.is_control() || matches!(letter, '/' | '\\'));
    if plain {
        return Ok(());
    }
    Err(FsError::invalid_argument(format!(
        "`{name}` is not a plain file name of at most {MAX_REPORT_NAME} bytes that does not begin with a dot: reports are \
         written to one folder of the namenode's"
    )))
}

/// Writes a report in place of one of the same name.
fn write_report(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    let Some(folder) = path.parent() else { return Err(std::io::ErrorKind::InvalidInput.into()) };
    fs::create_dir_all(folder)?;
    if !path.exists() && fs::read_dir(folder)?.count() >= MAX_REPORTS {
        return Err(std::io::Error::other(format!("{MAX_REPORTS} reports are there already: remove some")));
    }
    let mut file = fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_plain_file_and_there_are_not_too_many() {
        for name in ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "a\nb", &"x".repeat(201)] {
            assert!(check_report_name(name).is_err(), "{name:?}");
        }
        check_report_name("meta.txt").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = |number: usize| folder.path().join("reports").join(format!("r{number}"));
        for number in 0..MAX_REPORTS {
            write_report(&file(number), "x").unwrap();
        }
        write_report(&file(0), "again").unwrap();
        assert_eq!(fs::read_to_string(file(0)).unwrap(), "again");
        assert!(write_report(&file(MAX_REPORTS), "x").unwrap_err().to_string().contains("remove some"));
    }
}
