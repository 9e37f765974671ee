//! A datanode one of whose disks does not answer: the others serve on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use steadfs_common::{BlockId, ChecksumSpec, StorageId};
use steadfs_datanode_store::{Block, CreateOptions, DiskOp, Faults};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::blocks_changed_request::Kind;
use steadfs_proto::steadfs::command::Command;

use crate::convert::to_block;
use crate::link_test::{G1, ID, Namenode, Running, config};
use crate::volumes_test::reconfigure;
use crate::{Config, VolumeSettings};

/// A disk that answers nothing below a folder while it hangs.
#[derive(Default)]
struct Hanging {
    folder: Mutex<Option<PathBuf>>,
    wake: Condvar,
}

impl Hanging {
    fn set(&self, folder: Option<PathBuf>) {
        *self.folder.lock() = folder;
        self.wake.notify_all();
    }
}

impl Faults for Hanging {
    fn before(&self, _op: DiskOp, path: &Path) -> io::Result<()> {
        let mut folder = self.folder.lock();
        while folder.as_ref().is_some_and(|folder| path.starts_with(folder)) {
            self.wake.wait(&mut folder);
        }
        Ok(())
    }
}

/// Lets the disk answer when a test ends, however it does: threads wait for it.
struct Answers(Arc<Hanging>);

impl Drop for Answers {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

/// A finalized replica on a volume.
async fn put(running: &Running, id: BlockId, storage: StorageId) -> Block {
    let node = running.datanode.node();
    let store = node.store.clone();
    let write = move || {
        let block = Block { id, stamp: G1, len: 1 << 20 };
        let at = CreateOptions { block, storage: Some(storage), spec: ChecksumSpec::DEFAULT };
        let writer = store.create_rbw(at).unwrap();
        let mut sums = Vec::new();
        ChecksumSpec::DEFAULT.append_checksums(b"abcdefgh", &mut sums);
        writer.write(0, b"abcdefgh", &sums).unwrap();
        assert_eq!(writer.storage(), storage);
        writer.finalize().unwrap()
    };
    node.disks.of(storage).run(write).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_holds_up_neither_registration_nor_copies_nor_operators() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let hanging = Arc::new(Hanging::default());
    // A check of a volume ends long before the whole test would.
    let first = Config { volume_check_timeout_ms: 6_000, ..config(&namenode, folder.path()) };
    let current = Arc::new(Mutex::new(first.clone()));
    let read = current.clone();
    let reload = Arc::new(move || Ok(read.lock().clone()));
    let running = Running::start_on(first, Some(reload), Some(hanging.clone())).await;
    namenode.report().await;
    let hung_path = folder.path().join("a");
    let node = running.datanode.node().clone();
    let (hung, good) = {
        let statuses = node.store.statuses();
        let of = |name: &str| statuses.iter().find(|v| v.path.ends_with(name)).unwrap().storage;
        (of("a"), of("b"))
    };
    let stuck = [put(&running, ID, hung).await, put(&running, ID.next(), hung).await];
    let copied = put(&running, BlockId(ID.0 + 2), good).await;
    // Of the same cluster, and led by another: what is ordered here is heard by the first alone.
    let mut other = Namenode::start().await;
    let second = Running::start(&other, &folder.path().join("2")).await;
    other.report().await;

    let answers = Answers(hanging.clone());
    hanging.set(Some(hung_path));
    node.store.begin_check(hung);
    let transfer = |block: Block| {
        Command::Transfer(pb::Transfer {
            block: Some(to_block(block)),
            targets: vec![second.location()],
            ..pb::Transfer::default()
        })
    };
    // As many copies from the disk that hangs as there are workers.
    stuck.iter().for_each(|block| namenode.command(transfer(*block)));
    namenode.command(Command::Register(pb::RegisterAgain {}));
    namenode.command(transfer(copied));
    namenode.registration().await;
    assert_eq!(other.change(Kind::Received).await, to_block(copied));

    let new = VolumeSettings { path: folder.path().join("c"), ..VolumeSettings::default() };
    current.lock().volumes.push(new);
    let me = crate::admin::process_user();
    let changes = reconfigure(&running, &me).await.unwrap();
    // What hangs was tried again, in vain.
    assert!(changes[0].new.ends_with("/c"), "{changes:?}");
    assert_eq!(node.store.statuses().iter().filter(|volume| !volume.failed).count(), 2, "{changes:?}");
    drop(answers);
    second.stop().await;
    running.stop().await;
}
