//! Changing volumes while the datanode runs: the configuration is read again, and what is new in it is done.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use steadfs_common::{FsError, FsResult, Millis};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_datanode_store::VolumeConfig;
use tokio::sync::oneshot;

use crate::changes::Changes;
use crate::config::Config;
use crate::node::Node;

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
}

impl Reconfiguration {
    pub(crate) fn new(reload: Option<Reload>) -> Self {
        Self { reload, last: Mutex::default() }
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
    tasks.spawn(async move {
        let done = apply(&node, &changes).await;
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

async fn apply(node: &Arc<Node>, changes: &Arc<Changes>) -> Vec<Change> {
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
    let errors = carry_out(node, plan).await;
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
async fn carry_out(node: &Arc<Node>, plan: Plan) -> Vec<String> {
    let mut errors = plan.errors;
    for volume in plan.add {
        let store = node.store.clone();
        match node.disks.shared().run(move || store.add_volume(volume)).await {
            Ok(storage) => {
                if let Err(error) = node.disks.add([storage]) {
                    errors.push(format!("a volume was added, and has no threads of its own: {error}"));
                }
            }
            Err(error) => errors.push(error.to_string()),
        }
    }
    for path in plan.remove {
        match node.store.remove_volume(&path) {
            Ok(Some(storage)) => node.disks.close(storage),
            Ok(None) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    errors
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
