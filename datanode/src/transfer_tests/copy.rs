//! Copies between datanodes, and checksums of blocks.

use md5::{Digest, Md5};
use steadfs_common::{FsErrorKind, FsResult};
use steadfs_proto::steadfs::{DatanodeAddress, Location};
use steadfs_wire::transfer::{BlockChecksum, BlockChecksumKind, BlockChecksumReply, TransferBlock};

use super::*;
use crate::disks::Seat;
use crate::send::{Pace, send_replica};

const NEXT: GenStamp = GenStamp(1_002);

fn location(node: &TestNode) -> Location {
    let peer = node.peer();
    let datanode = DatanodeAddress {
        uuid: peer.uuid,
        ip: peer.ip,
        data_port: u32::from(peer.data_port),
        ..DatanodeAddress::default()
    };
    let storage = node.node.store.volumes()[0].storage;
    Location { datanode: Some(datanode), storage_id: storage.to_string(), rack: "/default-rack".into() }
}

async fn replicate(from: &TestNode, stamp: GenStamp, to: &[Location]) -> FsResult<()> {
    replicate_at(Pace::Free, from, stamp, to).await
}

async fn replicate_at(pace: Pace, from: &TestNode, stamp: GenStamp, to: &[Location]) -> FsResult<()> {
    let block = Block { id: BLOCK, stamp, len: 0 };
    send_replica(&from.node, &TransferTimeouts::default(), &Seat::default(), block, to, pace).await
}

#[tokio::test]
async fn a_small_replica_keeps_to_its_pace_too() {
    let nodes = [TestNode::start().await, TestNode::start().await];
    nodes[0].put(&pattern(100_000), SPEC).await;
    let begun = std::time::Instant::now();
    replicate_at(Pace::Bound(400_000), &nodes[0], STAMP, &[location(&nodes[1])]).await.unwrap();
    // It may take longer on a busy machine, never less.
    assert!(begun.elapsed().as_millis() >= 250);
    assert_eq!(nodes[1].content(), pattern(100_000));
}

#[tokio::test]
async fn a_finalized_replica_is_copied_to_others() {
    let specs = [(ChecksumKind::Crc32c, 512), (ChecksumKind::Null, 512), (ChecksumKind::Crc32, 200_000)];
    for (kind, bytes_per_checksum) in specs {
        let nodes = [TestNode::start().await, TestNode::start().await, TestNode::start().await];
        let spec = ChecksumSpec { kind, bytes_per_checksum };
        let data = pattern(2_500_001);
        nodes[0].put(&data, spec).await;
        replicate(&nodes[0], STAMP, &[location(&nodes[1]), location(&nodes[2])]).await.unwrap();
        for node in &nodes[1..] {
            node.expect(ReplicaState::Finalized, STAMP, data.len() as u64);
            assert_eq!(node.content(), data);
            assert_eq!(node.node.store.open_for_read(BLOCK, STAMP).unwrap().spec(), spec);
        }
    }
}

#[tokio::test]
async fn every_target_is_tried_and_every_failure_told() {
    let nodes = [TestNode::start().await, TestNode::start().await, TestNode::start().await];
    nodes[0].put(&pattern(5_000_000), SPEC).await;
    nodes[1].put(&pattern(9), SPEC).await;
    let error = replicate(&nodes[0], STAMP, &[location(&nodes[1]), location(&nodes[2])]).await.unwrap_err();
    let text = error.message();
    assert!(text.contains(&nodes[1].name()) && text.contains("already exists"), "{text}");
    assert!(!text.contains(&nodes[2].name()), "{text}");
    nodes[2].expect(ReplicaState::Finalized, STAMP, 5_000_000);
    nodes[2].stop().await;
    assert!(replicate(&nodes[0], STAMP, &[location(&nodes[2])]).await.is_err());
    let nowhere = Location { datanode: None, ..location(&nodes[2]) };
    assert_eq!(
        replicate(&nodes[0], STAMP, &[nowhere]).await.unwrap_err().kind(),
        FsErrorKind::InvalidArgument
    );
}

#[tokio::test]
async fn what_is_not_final_or_of_another_life_is_not_replicated() {
    let nodes = [TestNode::start().await, TestNode::start().await];
    let mut writer = Writer::open(&[&nodes[0]], |_| ()).await.unwrap();
    writer.write(&pattern(1_000)).await;
    let to = [location(&nodes[1])];
    assert_eq!(replicate(&nodes[0], STAMP, &to).await.unwrap_err().kind(), FsErrorKind::ReplicaNotFound);
    assert!(writer.finish().await.is_success());
    assert!(replicate(&nodes[0], GenStamp(1_000), &to).await.is_err());
    assert!(replicate(&nodes[0], NEXT, &to).await.is_err());
    assert!(nodes[1].status().is_none());
}

#[tokio::test]
async fn rot_is_found_by_the_sender_and_never_copied() {
    let nodes = [TestNode::start().await, TestNode::start().await];
    nodes[0].put(&pattern(200_000), SPEC).await;
    nodes[0].rot(123_456);
    let error = replicate(&nodes[0], STAMP, &[location(&nodes[1])]).await.unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::Checksum);
    assert_eq!(nodes[0].heard.bad.lock()[0].id, BLOCK);
    // The receiver gives up what it has of it.
    while nodes[1].status().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_datanode_without_a_name_may_replicate_too() {
    let node = TestNode::start().await;
    let data = pattern(100_000);
    let mut request = write_request(&[node.peer()]);
    request.client = String::new();
    let mut writer = Writer { connection: node.connect().await, spec: SPEC, seqno: 0, offset: 0 };
    writer.connection.send(&Op::Write(Box::new(request)).encode(), PATIENCE).await.unwrap();
    for (index, piece) in data.chunks(64_512).enumerate() {
        writer.send_at(index as u64 * 64_512, piece, false).await;
    }
    writer.send_last().await;
    assert!(writer.is_closed().await, "there is no ack at all");
    node.expect(ReplicaState::Finalized, STAMP, 100_000);
    assert_eq!(node.content(), data);
}

/// Asks a node to copy its replica, as a client does that adds a node to its pipeline.
async fn transfer(from: &TestNode, to: &[&TestNode], stamp: GenStamp, length: u64) -> OpResponse {
    let request = TransferBlock {
        block: block_ref(stamp, length),
        token: Token::default(),
        client: "DFSClient_test".into(),
        targets: to.iter().map(|node| node.peer()).collect(),
        target_storage_ids: Vec::new(),
        target_storage_types: Vec::new(),
    };
    let mut connection = from.connect().await;
    connection.send(&Op::Transfer(Box::new(request)).encode(), PATIENCE).await.unwrap();
    connection.receive(deadline(), OpResponse::decode).await.unwrap()
}

#[tokio::test]
async fn a_node_is_added_to_a_pipeline_that_lost_one() {
    let nodes = [TestNode::start().await, TestNode::start().await, TestNode::start().await];
    let data = pattern(150_000);
    let mut writer = Writer::open(&[&nodes[0], &nodes[1]], |_| ()).await.unwrap();
    writer.write(&data[..100_000]).await;
    drop(writer);
    nodes[1].stop().await;
    assert_eq!(transfer(&nodes[0], &[&nodes[2]], STAMP, 100_000).await, OpResponse::new(Status::Success));
    nodes[2].expect(ReplicaState::Rbw, STAMP, 100_000);
    let mut writer = Writer::open(&[&nodes[0], &nodes[2]], |request| {
        request.stage = Stage::SetupStreamingRecovery;
        (request.min_bytes, request.max_bytes) = (100_000, 100_000);
        request.latest_stamp = NEXT;
    })
    .await
    .unwrap();
    // 100,000 is inside a chunk: it is sent again from its start.
    writer.offset = 100_000 - 100_000 % 512;
    let rest = data[writer.offset as usize..].to_vec();
    writer.write(&rest).await;
    assert!(writer.finish().await.is_success());
    for node in [&nodes[0], &nodes[2]] {
        node.expect(ReplicaState::Finalized, NEXT, 150_000);
        assert_eq!(node.content(), data);
    }
    // A finalized one is finalized at the other end, too.
    let other = TestNode::start().await;
    assert_eq!(transfer(&nodes[0], &[&other], STAMP, 150_000).await.status, Status::Success);
    other.expect(ReplicaState::Finalized, NEXT, 150_000);
}

#[tokio::test]
async fn a_transfer_that_cannot_be_made_says_why() {
    let nodes = [TestNode::start().await, TestNode::start().await];
    let failed = async |to: &[&TestNode], stamp, length, text: &str| {
        let answer = transfer(&nodes[0], to, stamp, length).await;
        assert_ne!(answer.status, Status::Success);
        let message = answer.message.unwrap();
        assert!(message.contains(text), "{message}");
    };
    failed(&[&nodes[1]], STAMP, 0, "not found").await;
    nodes[0].put(&pattern(1_000), SPEC).await;
    failed(&[], STAMP, 0, "no target").await;
    failed(&[&nodes[1]], NEXT, 0, "stamp").await;
    failed(&[&nodes[1]], STAMP, 1_001, "fewer").await;
    nodes[1].put(&pattern(3), SPEC).await;
    failed(&[&nodes[1]], STAMP, 1_000, "exists").await;
    nodes[1].stop().await;
    failed(&[&nodes[1]], STAMP, 1_000, &nodes[1].name()).await;
}

async fn checksum(connection: &mut Connection, kind: BlockChecksumKind, length: u64) -> OpResponse {
    let request = BlockChecksum { block: block_ref(STAMP, length), token: Token::default(), kind };
    connection.send(&Op::Checksum(Box::new(request)).encode(), PATIENCE).await.unwrap();
    connection.receive(deadline(), OpResponse::decode).await.unwrap()
}

#[tokio::test]
async fn checksums_of_blocks_and_of_their_beginnings() {
    for kind in [ChecksumKind::Crc32c, ChecksumKind::Crc32] {
        let node = TestNode::start().await;
        let (spec, data) = (ChecksumSpec { kind, bytes_per_checksum: 512 }, pattern(100_100));
        node.put(&data, spec).await;
        let mut connection = node.connect().await;
        for length in [100_100_u64, 200_000, 100_099, 51_200, 51_201, 511, 1, 0] {
            let counted = &data[..(length as usize).min(data.len())];
            let mut sums = Vec::new();
            spec.append_checksums(counted, &mut sums);
            let expected = BlockChecksumReply {
                spec,
                crc_per_block: 196,
                checksum: Md5::digest(&sums).to_vec().into(),
                kind: BlockChecksumKind::Md5Crc,
            };
            let answer = checksum(&mut connection, BlockChecksumKind::Md5Crc, length).await;
            assert_eq!(answer.block_checksum, Some(expected), "{length}");
            let answer = checksum(&mut connection, BlockChecksumKind::CompositeCrc, length).await;
            let reply = answer.block_checksum.unwrap();
            assert_eq!(reply.checksum[..], kind.of(counted).to_be_bytes(), "{kind:?} {length}");
        }
    }
}

#[tokio::test]
async fn a_replica_without_checksums_has_an_md5_but_nothing_to_compose() {
    let node = TestNode::start().await;
    node.put(&pattern(1_000), ChecksumSpec { kind: ChecksumKind::Null, ..SPEC }).await;
    let mut connection = node.connect().await;
    let answer = checksum(&mut connection, BlockChecksumKind::CompositeCrc, 1_000).await;
    assert_eq!(answer.status, Status::ErrorUnsupported);
    let reply = checksum(&mut connection, BlockChecksumKind::Md5Crc, 1_000).await.block_checksum.unwrap();
    assert_eq!((reply.checksum.to_vec(), reply.crc_per_block), (Md5::digest([]).to_vec(), 0));
}
