//! What a datanode tells of orders that come to nothing, and of replicas that a reader called bad.

use steadfs_common::FsErrorKind;
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::blocks_changed_request::Kind;
use steadfs_proto::steadfs::command::Command;

use crate::convert::to_block;
use crate::link_test::{ID, Namenode, Running, Told};

async fn failed(namenode: &mut Namenode) -> pb::CopyFailedRequest {
    namenode.wait(|told| if let Told::CopyFailed(failed) = told { Some(failed) } else { None }).await
}

/// An order to copy a replica to where nobody listens, and what is told of it.
async fn hopeless(namenode: &mut Namenode, running: &Running) -> (pb::Transfer, pb::CopyFailedRequest) {
    let session = namenode.registration().await.session;
    let block = running.finalized(ID, b"abc").await;
    namenode.change(Kind::Received).await;
    let mut target = running.location();
    target.datanode.as_mut().unwrap().data_port = 1;
    target.storage_id = "DS-00000000-0000-0000-0000-000000000001".into();
    let order = pb::Transfer {
        block: Some(to_block(block)),
        targets: vec![target.clone()],
        ..pb::Transfer::default()
    };
    let wanted = pb::CopyFailedRequest {
        uuid: running.datanode.node().uuid.to_string(),
        session,
        block: Some(to_block(block)),
        storage_ids: vec![target.storage_id],
    };
    (order, wanted)
}

#[tokio::test]
async fn a_copy_that_fails_is_told_and_can_be_ordered_again_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let running = Running::start(&namenode, folder.path()).await;
    let (order, wanted) = hopeless(&mut namenode, &running).await;
    for _ in 0..2 {
        namenode.command(Command::Transfer(order.clone()));
        assert_eq!(failed(&mut namenode).await, wanted);
    }
    running.stop().await;
}

#[tokio::test]
async fn that_a_copy_failed_is_told_until_it_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let running = Running::start(&namenode, folder.path()).await;
    let (order, wanted) = hopeless(&mut namenode, &running).await;
    namenode.refuse_copies([FsErrorKind::Timeout, FsErrorKind::Retriable]);
    namenode.command(Command::Transfer(order));
    for _ in 0..3 {
        assert_eq!(failed(&mut namenode).await, wanted);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_replica_that_a_reader_called_bad_is_read_at_once_and_told_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut namenode = Namenode::start().await;
    let running = Running::start(&namenode, folder.path()).await;
    let block = running.finalized(ID, b"abc").await;
    namenode.change(Kind::Received).await;
    let check = || Command::Check(pb::Check { blocks: vec![to_block(block)] });
    namenode.command(check());
    assert_eq!(namenode.change(Kind::Verified).await, to_block(block), "so that nothing is held against it");
    let store = running.datanode.node().store.clone();
    let storage = store.status(ID).unwrap().storage;
    assert!(!store.status(ID).unwrap().bad);

    let name = if store.volumes()[0].storage == storage { "a" } else { "b" };
    let path = folder.path().join(name).join("finalized/subdir0/subdir0/blk_1073741825");
    std::fs::write(path, b"abd").unwrap();
    namenode.command(check());
    let bad = namenode.wait(|told| if let Told::Bad(bad) = told { Some(bad) } else { None }).await;
    assert_eq!((bad.storage_id, bad.blocks), (storage.to_string(), vec![to_block(block)]));
    assert!(store.status(ID).unwrap().bad);
    running.stop().await;
}
