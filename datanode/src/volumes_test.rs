//! Volumes while the datanode runs: checks that find damage, disks that are added, taken out and fail.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use steadfs_common::{GenStamp, StorageId};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::blocks_changed_request::Kind;
use steadfs_proto::steadfs::datanode_admin_client::DatanodeAdminClient;
use tonic::Request;

use crate::link_test::{G1, ID, Namenode, Running, Told, config};
use crate::{Config, VolumeSettings};

/// The block file of a replica, wherever it lies.
fn block_file(folder: &Path) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() == format!("blk_{}", ID.0).as_str() {
                return path;
            }
        }
    }
    panic!("no block file")
}

fn quick(namenode: &Namenode, folder: &Path) -> Config {
    Config { scan_period_ms: 50, compare_period_ms: 50, ..config(namenode, folder) }
}

async fn bad(namenode: &mut Namenode) -> pb::ReportBadRequest {
    namenode.wait(|told| if let Told::Bad(request) = told { Some(request) } else { None }).await
}

#[tokio::test]
async fn rot_is_found_before_anybody_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let running = Running::start_with(quick(&namenode, folder.path()), None).await;
    namenode.report().await;
    let block = running.finalized(ID, b"abcdefgh").await;
    let checked = namenode.wait(|told| match told {
        Told::Heartbeat(beat) => {
            beat.health.into_iter().find(|volume| volume.scan_done_ms > 0 && volume.bad == 0)
        }
        _ => None,
    });
    checked.await;
    std::fs::write(block_file(folder.path()), b"abcdefgX").unwrap();
    let told = bad(&mut namenode).await;
    assert_eq!(told.blocks, [crate::convert::to_block(block)]);
    let counted = namenode.wait(|told| match told {
        Told::Heartbeat(beat) => beat.health.into_iter().find(|volume| volume.bad == 1),
        _ => None,
    });
    assert_eq!(counted.await.storage_id, told.storage_id);
    running.stop().await;

    // A namenode that knows nothing of it, and a datanode that was started again.
    let again = Running::start_with(config(&namenode, folder.path()), None).await;
    let report = namenode.report().await;
    let replicas: Vec<_> = report.iter().flat_map(|slice| &slice.replicas).collect();
    assert_eq!(replicas.len(), 1);
    assert_eq!(replicas[0].state(), pb::ReplicaState::Bad);
    again.stop().await;
}

#[tokio::test]
async fn a_file_that_is_gone_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let compared = Config { scan_period_ms: 0, ..quick(&namenode, folder.path()) };
    let running = Running::start_with(compared, None).await;
    namenode.report().await;
    let block = running.finalized(ID, b"abcdefgh").await;
    std::fs::remove_file(block_file(folder.path())).unwrap();
    assert_eq!(namenode.change(Kind::Deleted).await, crate::convert::to_block(block));
    running.stop().await;
}

/// Asks as an operator to read the configuration again.
pub(crate) async fn reconfigure(
    running: &Running,
    user: &str,
) -> Result<Vec<pb::ReconfigureChange>, tonic::Status> {
    let address = format!("http://{}", running.datanode.ipc_address());
    let mut door = DatanodeAdminClient::connect(address).await.unwrap();
    let mut request = Request::new(pb::ReconfigureRequest {});
    request.metadata_mut().insert("steadfs-user", user.parse().unwrap());
    door.reconfigure(request).await.map(|answer| answer.into_inner().changes)
}

#[tokio::test]
async fn volumes_are_added_and_taken_out_by_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let first = config(&namenode, folder.path());
    let current = Arc::new(Mutex::new(first.clone()));
    let read = current.clone();
    let running = Running::start_with(first, Some(Arc::new(move || Ok(read.lock().clone())))).await;
    let before = namenode.registration().await;
    let block = running.finalized(ID, b"abcdefgh").await;
    let holder = running.datanode.node().store.status(ID).unwrap().storage;
    let me = crate::admin::process_user();
    assert!(reconfigure(&running, "nobody-in-particular").await.is_err());
    assert!(reconfigure(&running, &me).await.unwrap().is_empty(), "nothing is new");

    // Out goes the volume with the replica, in comes another.
    let name = |storage: StorageId| {
        let statuses = running.datanode.node().store.statuses();
        statuses.into_iter().find(|volume| volume.storage == storage).unwrap().path
    };
    let gone = name(holder);
    let volume = |path: PathBuf| VolumeSettings { path, ..VolumeSettings::default() };
    current.lock().volumes.retain(|volume| volume.path != gone);
    current.lock().volumes.push(volume(folder.path().join("c")));
    let changes = reconfigure(&running, &me).await.unwrap();
    assert_eq!((changes.len(), changes[0].error.as_str()), (1, ""), "{changes:?}");
    assert!(changes[0].new.ends_with("/c") && changes[0].old.contains("/a,"), "{changes:?}");
    let after = namenode.registration().await;
    assert_eq!((after.session, after.storages.len()), (before.session, 2));
    assert!(after.storages.iter().all(|storage| storage.storage_id != holder.to_string()));
    assert!(running.datanode.node().store.status(ID).is_none());

    // Back again, with its replica.
    current.lock().volumes.push(volume(gone));
    assert!(reconfigure(&running, &me).await.unwrap()[0].error.is_empty());
    assert_eq!(namenode.registration().await.storages.len(), 3);
    let told = namenode.wait(|told| match told {
        Told::Report(slices) => slices.into_iter().flat_map(|slice| slice.replicas).next(),
        _ => None,
    });
    assert_eq!(told.await.block, Some(crate::convert::to_block(block)));

    // What cannot be used is said, and all else goes on.
    std::fs::write(folder.path().join("file"), "no folder").unwrap();
    current.lock().volumes.push(volume(folder.path().join("file")));
    let changes = reconfigure(&running, &me).await.unwrap();
    assert!(changes[0].error.contains("file"), "{changes:?}");
    let node = running.datanode.node().clone();
    let reader = node.disk_of(ID).run(move || node.store.open_for_read(ID, GenStamp(0))).await;
    assert_eq!(reader.unwrap().block().stamp, G1);
    running.stop().await;
}

#[tokio::test]
async fn with_too_few_volumes_the_datanode_ends_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let strict = Config { min_volumes: 2, ..config(&namenode, folder.path()) };
    let running = Running::start_with(strict, None).await;
    namenode.report().await;
    // At once: what is removed file by file can be written to meanwhile.
    std::fs::rename(folder.path().join("b"), folder.path().join("gone")).unwrap();
    let why = running.failure().await;
    assert!(why.contains("min_volumes") && why.contains("/b"), "{why}");
}
