//! Looking after the volumes while the datanode runs: whether they work, how full they are, and the checks of what lies on
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use steadfs_common::StorageId;
use steadfs_daemon::shutdown::Shutdown;
use tokio::time::{Instant, sleep};

use crate::changes::Changes;
use crate::node::Node;
use crate::scanner::{check_replicas, compare_folders};

/// How often volumes are asked how full they are.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How often a small file is written and read on each, whatever else happens.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// A volume that is looked after.
struct Watched {
    /// It was asked how full it is, and has not answered yet.
    asked: Arc<AtomicBool>,
    /// Ends the checks of what lies on it.
    checks: Shutdown,
}

/// Looks after the volumes until the end is told. `shutdown` is the datanode's own end.
pub(crate) async fn watch(node: Arc<Node>, changes: Arc<Changes>, tasks: Shutdown, shutdown: Shutdown) {
    let mut watched: BTreeMap<StorageId, Watched> = BTreeMap::new();
    let mut checked = Instant::now();
    loop {
        let status = node.store.statuses();
        for volume in status.iter().filter(|volume| volume.failed) {
            node.disks.close(volume.storage);
        }
        node.disks.tidy();
        let serving = node.store.volumes_in_service();
        if serving.len() < node.config.min_volumes {
            shutdown.fail(format!(
                "{} volumes work, {} must (min_volumes): {}",
                serving.len(),
                node.config.min_volumes,
                failures(&node)
            ));
            return;
        }
        watched.retain(|storage, volume| {
            let kept = serving.contains(storage);
            if !kept {
                volume.checks.trigger();
            }
            kept
        });
        let check = checked.elapsed() >= CHECK_EVERY;
        if check {
            checked = Instant::now();
        }
        for storage in serving {
            let volume = watched.entry(storage).or_insert_with(|| begin(&node, storage, &tasks));
            if check {
                node.store.begin_check(storage);
            }
            ask(&node, storage, volume, &tasks);
        }
        tokio::select! {
            () = tasks.triggered() => return,
            () = sleep(LOOK_EVERY) => {}
            () = changes.failed.notified() => {}
        }
    }
}

fn failures(node: &Node) -> String {
    let failures = node.store.failures();
    let told: Vec<_> =
        failures.iter().map(|failure| format!("{} ({})", failure.path.display(), failure.why)).collect();
    told.join("; ")
}

fn begin(node: &Arc<Node>, storage: StorageId, tasks: &Shutdown) -> Watched {
    let checks = tasks.child();
    tasks.spawn(check_replicas(node.clone(), storage, checks.clone()));
    tasks.spawn(compare_folders(node.clone(), storage, checks.clone()));
    Watched { asked: Arc::default(), checks }
}

/// Asks a volume how full it is, unless it has not answered the last time yet.
fn ask(node: &Arc<Node>, storage: StorageId, volume: &Watched, tasks: &Shutdown) {
    if volume.asked.swap(true, Ordering::Relaxed) {
        return;
    }
    let (store, disk, asked) = (node.store.clone(), node.disks.of(storage), volume.asked.clone());
    let ended = tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = disk.run(move || store.refresh(storage)) => {}
            () = ended.triggered() => {}
        }
        asked.store(false, Ordering::Relaxed);
    });
}
