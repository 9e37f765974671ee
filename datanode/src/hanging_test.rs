//! A datanode one of whose disks does not answer: the others serve on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use steadfs_common::{BlockId, ChecksumSpec, StorageId};
use steadfs_datanode_store::{Block, CreateOptions, DiskOp, Faults};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::blocks_changed_request::Kind;
use steadfs_proto::steadfs::command::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::convert::to_block;
use crate::link_test::{G1, ID, LONG, Namenode, Running, config};
use crate::local::LocalDoor;
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

/// As many readers as the local door serves at once.
const READERS: usize = 256;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_takes_the_short_way_from_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let hanging = Arc::new(Hanging::default());
    let running = Running::start_on(config(&namenode, folder.path()), None, Some(hanging.clone())).await;
    namenode.report().await;
    let node = running.datanode.node().clone();
    let statuses = node.store.statuses();
    let of = |name: &str| statuses.iter().find(|v| v.path.ends_with(name)).unwrap().storage;
    let stuck = put(&running, ID, of("a")).await;
    let served = put(&running, ID.next(), of("b")).await;
    let doors = tempfile::tempdir().unwrap();
    let door = LocalDoor::open(&node, doors.path()).unwrap();
    running.shutdown.spawn(door.serve(node.clone(), running.shutdown.clone()));
    let ask = |block: Block| {
        let path = doors.path().join(node.uuid.to_string());
        async move {
            let mut stream = UnixStream::connect(path).await?;
            let mut question = b"SFLOCAL1".to_vec();
            question.extend_from_slice(&block.id.0.to_le_bytes());
            question.extend_from_slice(&block.stamp.0.to_le_bytes());
            stream.write_all(&question).await?;
            Ok::<_, io::Error>(stream)
        }
    };
    let _answers = Answers(hanging.clone());
    hanging.set(Some(folder.path().join("a")));
    // They ask and go away again.
    for _ in 0..READERS {
        drop(ask(stuck).await.unwrap());
    }
    let short_way = async {
        loop {
            let mut answer = [0; 16];
            // While all places are taken it is sent away.
            if let Ok(mut stream) = ask(served).await
                && stream.read_exact(&mut answer).await.is_ok()
            {
                return answer[0];
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(tokio::time::timeout(LONG, short_way).await, Ok(0));
    hanging.set(None);
    running.stop().await;
}
