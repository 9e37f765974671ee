//! Changing volumes while the datanode runs: the configuration is read again, and what is new in it is done.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use parking_lot::Mutex;
use steadfs_common::{FsError, FsResult, Millis};
use steadfs_daemon::pool::DiskPool;
use steadfs_daemon::shutdown::Shutdown;
use steadfs_datanode_store::VolumeConfig;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::changes::Changes;
use crate::config::Config;
use crate::node::Node;

/// How long a volume that is added is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the configuration again, from where the datanode had it.
pub type Reload = Arc<dyn Fn() -> anyhow::Result<Config> + Send + Sync>;

/// What can be changed, as stock tools name it.
pub(crate) const PROPERTIES: [&str; 1] = ["dfs.datanode.data.dir"];

/// A property that was to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) name: &'static str,
    pub(crate) old: String,
    pub(crate) new: String,
    /// Why it was not changed, or not as a whole.
    pub(crate) error: Option<String>,
}

/// One reading of the configuration and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Task {
    /// When it began; 0 for never.
    pub(crate) began: Millis,
    /// When it ended.
    pub(crate) ended: Option<Millis>,
    pub(crate) changes: Vec<Change>,
}

/// The last task, and where the configuration comes from.
#[derive(Default)]
pub(crate) struct Reconfiguration {
    reload: Option<Reload>,
    last: Mutex<Task>,
    /// Folders that are being added.
    adding: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// A folder that is being added, until its disk has answered.
struct Adding {
    path: PathBuf,
    all: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Drop for Adding {
    fn drop(&mut self) {
        self.all.lock().remove(&self.path);
    }
}

impl Reconfiguration {
    pub(crate) fn new(reload: Option<Reload>) -> Self {
        Self { reload, ..Self::default() }
    }

    /// The last task, which may be under way.
    pub(crate) fn last(&self) -> Task {
        self.last.lock().clone()
    }

    fn begin(&self) -> FsResult<()> {
        let mut last = self.last.lock();
        if last.began > Millis(0) && last.ended.is_none() {
            return Err(FsError::refused("Another reconfiguration task is running."));
        }
        *last = Task { began: now(), ..Task::default() };
        Ok(())
    }

    /// None if this folder is being added already.
    fn begin_adding(&self, path: &Path) -> Option<Adding> {
        let first = self.adding.lock().insert(path.to_owned());
        first.then(|| Adding { path: path.to_owned(), all: self.adding.clone() })
    }

    fn end(&self, changes: Vec<Change>) {
        let mut last = self.last.lock();
        last.changes = changes;
        last.ended = Some(now());
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Begins to read the configuration again; [`Reconfiguration::last`] says what came of it, and so does what is given here.
///
/// # Errors
/// It is being done already.
pub(crate) fn start(
    node: &Arc<Node>,
    changes: &Arc<Changes>,
    tasks: &Shutdown,
) -> FsResult<oneshot::Receiver<Vec<Change>>> {
    node.admin.reconfiguration.begin()?;
    let (tell, done_here) = oneshot::channel();
    let (node, changes) = (node.clone(), changes.clone());
    let ended = tasks.clone();
    tasks.spawn(async move {
        let done = apply(&node, &changes, &ended).await;
        for change in &done {
            match &change.error {
                None => {
                    tracing::info!(property = change.name, new = change.new, "the configuration was changed")
                }
                Some(error) => {
                    tracing::error!(property = change.name, error, "the configuration could not be changed")
                }
            }
        }
        node.admin.reconfiguration.end(done.clone());
        // Stock tools do not wait for it.
        let _ = tell.send(done);
    });
    Ok(done_here)
}

async fn apply(node: &Arc<Node>, changes: &Arc<Changes>, tasks: &Shutdown) -> Vec<Change> {
    let before = node.store.configured();
    let failed = |error: String| {
        vec![Change { name: PROPERTIES[0], old: listed(&before), new: listed(&before), error: Some(error) }]
    };
    let Some(reload) = node.admin.reconfiguration.reload.clone() else {
        return failed("this datanode was not started from a configuration file".into());
    };
    let read = node.disks.shared().run(move || {
        let config = reload()?;
        config.validate()?;
        Ok::<_, anyhow::Error>(config.store_volumes()?)
    });
    let wanted = match read.await {
        Ok(wanted) => wanted,
        Err(error) => return failed(format!("{error:#}")),
    };
    let serving: Vec<PathBuf> = {
        let statuses = node.store.statuses();
        statuses.into_iter().filter(|volume| !volume.failed).map(|volume| volume.path).collect()
    };
    let plan = Plan::of(&before, &serving, &wanted);
    if plan.is_empty() {
        return Vec::new();
    }
    let errors = carry_out(node, changes, tasks, plan).await;
    // The namenode hears of all volumes and replicas anew.
    changes.register.notify_one();
    let error = (!errors.is_empty()).then(|| errors.join("\n"));
    vec![Change { name: PROPERTIES[0], old: listed(&before), new: listed(&wanted), error }]
}

/// What is to be done with the volumes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    add: Vec<VolumeConfig>,
    remove: Vec<PathBuf>,
    /// What cannot be done while the datanode runs.
    errors: Vec<String>,
}

impl Plan {
    /// Volumes that are named and do not serve are tried (again): the disk may have been replaced.
    fn of(before: &[VolumeConfig], serving: &[PathBuf], wanted: &[VolumeConfig]) -> Self {
        let mut plan = Self::default();
        for volume in wanted {
            if !serving.contains(&volume.path) {
                plan.add.push(volume.clone());
            } else if before.iter().any(|old| old.path == volume.path && old != volume) {
                plan.errors.push(format!(
                    "{}: the kind and the reserved bytes of a volume change with a restart of the datanode only",
                    volume.path.display()
                ));
            }
        }
        let gone = before.iter().filter(|old| wanted.iter().all(|volume| volume.path != old.path));
        plan.remove = gone.map(|old| old.path.clone()).collect();
        plan
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Adds first, so that the last volume may be replaced by another.
async fn carry_out(node: &Arc<Node>, changes: &Arc<Changes>, tasks: &Shutdown, plan: Plan) -> Vec<String> {
    let mut errors = plan.errors;
    let added = join_all(plan.add.into_iter().map(|volume| add(node, changes, tasks, volume))).await;
    errors.extend(added.into_iter().filter_map(Result::err));
    for path in plan.remove {
        let store = node.store.clone();
        match node.disks.shared().run(move || store.remove_volume(&path)).await {
            Ok(Some(storage)) => node.disks.close(storage),
            Ok(None) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    errors
}

/// Adds a volume on a thread of its own: its disk may not answer. It is waited for so long as [`PATIENCE`] says; when it
/// answers later, it is in service then.
async fn add(
    node: &Arc<Node>,
    changes: &Arc<Changes>,
    tasks: &Shutdown,
    volume: VolumeConfig,
) -> Result<(), String> {
    let path = volume.path.clone();
    let late =
        |when: &str| format!("{}: the disk has not answered {when}; it serves when it does", path.display());
    let Some(turn) = node.admin.reconfiguration.begin_adding(&path) else { return Err(late("yet")) };
    let thread = DiskPool::new("add", 1, 0).map_err(|error| format!("{}: {error}", path.display()))?;
    let (node, changes) = (node.clone(), changes.clone());
    let is_late = Arc::new(AtomicBool::new(false));
    let tell = is_late.clone();
    let adding = tasks.spawn(async move {
        let _turn = turn;
        let store = node.store.clone();
        let storage =
            thread.run(move || store.add_volume(volume)).await.map_err(|error| error.to_string())?;
        let threads = node.disks.add([storage]);
        // In time, it is told with all that was changed.
        if tell.load(Ordering::Relaxed) {
            changes.register.notify_one();
        }
        threads.map_err(|error| format!("a volume was added, and has no threads of its own: {error}"))
    });
    match timeout(PATIENCE, adding).await {
        Ok(Ok(added)) => added,
        Ok(Err(stopped)) => Err(format!("{}: {stopped}", path.display())),
        Err(_) => {
            is_late.store(true, Ordering::Relaxed);
            Err(late(&format!("for {} s", PATIENCE.as_secs())))
        }
    }
}

/// Volumes as Hadoop's configuration lists them.
fn listed(volumes: &[VolumeConfig]) -> String {
    let names: Vec<_> =
        volumes.iter().map(|volume| format!("[{}]{}", volume.kind.name(), volume.path.display())).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use steadfs_common::StorageType;

    use super::*;

    fn volume(path: &str) -> VolumeConfig {
        VolumeConfig { path: path.into(), kind: StorageType::Disk, reserved: 0 }
    }

    #[test]
    fn what_is_new_is_added_and_what_is_missing_removed() {
        let before = [volume("/a"), volume("/b"), volume("/c")];
        let serving = ["/a".into(), "/b".into()];
        assert!(Plan::of(&before[..2], &serving, &before[..2]).is_empty());
        let plan = Plan::of(&before, &serving, &[volume("/a"), volume("/c"), volume("/d")]);
        assert_eq!(plan.add, [volume("/c"), volume("/d")], "a failed one is tried again");
        assert_eq!(plan.remove, [PathBuf::from("/b")]);
        let changed = VolumeConfig { reserved: 7, ..volume("/a") };
        assert_eq!(Plan::of(&before[..1], &serving[..1], &[changed]).errors.len(), 1);
        assert_eq!(listed(&before[..2]), "[DISK]/a,[DISK]/b");
    }
}
