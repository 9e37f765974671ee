//! Pipelines that go well.

use steadfs_common::ChecksumKind;

use super::*;

#[tokio::test]
async fn a_block_goes_to_one_two_or_three_nodes() {
    let data = pattern(700_001);
    for count in 1..=3 {
        let nodes = [TestNode::start().await, TestNode::start().await, TestNode::start().await];
        let pipeline: Vec<_> = nodes[..count].iter().collect();
        let mut writer = Writer::open(&pipeline, |_| ()).await.unwrap();
        writer.write(&data).await;
        let ack = writer.finish().await;
        assert_eq!(ack.replies, vec![Status::Success; count]);
        // Durable and told before the ack, on every node.
        for node in pipeline {
            node.expect(ReplicaState::Finalized, STAMP, data.len() as u64);
            assert_eq!(node.content(), data);
            assert_eq!(node.node.transfer_metrics.bytes_written.get(), data.len() as u64);
        }
        assert!(writer.is_closed().await, "the connection of a write is not used again");
    }
}

#[tokio::test]
async fn flushed_bytes_are_sent_again_up_to_the_end_of_their_chunk() {
    let nodes = [TestNode::start().await, TestNode::start().await];
    let data = pattern(900);
    let mut writer = Writer::open(&[&nodes[0], &nodes[1]], |_| ()).await.unwrap();
    writer.seqno = 41;
    writer.send_at(0, &data[..700], false).await;
    assert_eq!(writer.ack().await, PipelineAck::new(41, vec![Status::Success; 2]));
    for node in &nodes {
        assert_eq!(node.content(), &data[..700], "what was acked may be read");
        node.expect(ReplicaState::Rbw, STAMP, 700);
    }
    // An hsync with nothing to send leaves a gap in the numbers.
    writer.seqno += 1;
    writer.send_heartbeat().await;
    writer.send_at(512, &data[512..], true).await;
    assert_eq!(writer.ack().await, PipelineAck::new(-1, vec![Status::Success; 2]));
    assert_eq!(writer.ack().await, PipelineAck::new(43, vec![Status::Success; 2]));
    // On close the partial chunk may come once more.
    writer.send_at(512, &data[512..], false).await;
    assert!(writer.ack().await.is_success());
    assert!(writer.finish().await.is_success());
    for node in &nodes {
        assert_eq!(node.content(), data);
        node.expect(ReplicaState::Finalized, STAMP, 900);
    }
}

#[tokio::test]
async fn an_empty_sync_packet_is_acked() {
    let node = TestNode::start().await;
    let mut writer = Writer::open(&[&node], |_| ()).await.unwrap();
    writer.send_at(0, &[], true).await;
    assert!(writer.ack().await.is_success());
    assert!(writer.finish().await.is_success());
    node.expect(ReplicaState::Finalized, STAMP, 0);
}

#[tokio::test]
async fn all_kinds_of_checksums_are_stored_as_sent() {
    for (kind, size) in [
        (ChecksumKind::Null, 512),
        (ChecksumKind::Crc32, 512),
        (ChecksumKind::Crc32c, 4_096),
        (ChecksumKind::Crc32c, 1),
    ] {
        let node = TestNode::start().await;
        let spec = ChecksumSpec { kind, bytes_per_checksum: size };
        let data = pattern(10_001);
        node.put(&data, spec).await;
        assert_eq!(node.content(), data);
        assert_eq!(node.node.store.open_for_read(BLOCK, STAMP).unwrap().spec(), spec);
    }
}

#[tokio::test]
async fn an_append_fills_the_partial_chunk_and_goes_on() {
    for requested in [ChecksumKind::Crc32c, ChecksumKind::Crc32] {
        let nodes = [TestNode::start().await, TestNode::start().await];
        let data = pattern(3_000);
        let mut writer = Writer::open(&[&nodes[0], &nodes[1]], |_| ()).await.unwrap();
        writer.write(&data[..700]).await;
        assert!(writer.finish().await.is_success());
        let mut writer = Writer::open(&[&nodes[0], &nodes[1]], |request| {
            request.stage = Stage::SetupAppend;
            request.block.length = 700;
            (request.min_bytes, request.max_bytes) = (700, 700);
            request.latest_stamp = GenStamp(1_002);
            // What is stored stays of its kind, whatever the appender speaks.
            request.checksum.kind = requested;
        })
        .await
        .unwrap();
        for node in &nodes {
            assert_eq!(node.status().unwrap().block.stamp, GenStamp(1_002));
        }
        writer.send_at(700, &data[700..1_024], false).await;
        writer.send_at(1_024, &data[1_024..], false).await;
        assert!(writer.ack().await.is_success() && writer.ack().await.is_success());
        assert!(writer.finish().await.is_success());
        for node in &nodes {
            node.expect(ReplicaState::Finalized, GenStamp(1_002), 3_000);
            assert_eq!(node.content(), data);
        }
    }
}

#[tokio::test]
async fn an_append_to_another_stamp_length_or_chunk_size_is_refused() {
    let node = TestNode::start().await;
    node.put(&pattern(700), SPEC).await;
    let refused = async |change: fn(&mut WriteBlock)| {
        let answer = Writer::open(&[&node], |request| {
            request.stage = Stage::SetupAppend;
            (request.min_bytes, request.max_bytes) = (700, 700);
            request.latest_stamp = GenStamp(1_002);
            change(request);
        })
        .await
        .err()
        .expect("it is refused");
        assert_eq!(answer.first_bad_link.as_deref(), Some(""), "this node itself is to blame");
        answer.message.unwrap()
    };
    assert!(refused(|request| request.block.stamp = GenStamp(1_000)).await.contains("stamp"));
    assert!(refused(|request| (request.min_bytes, request.max_bytes) = (699, 699)).await.contains("length"));
    refused(|request| request.checksum.bytes_per_checksum = 1_024).await;
    refused(|request| request.block.id = BlockId(5)).await;
    node.expect(ReplicaState::Finalized, STAMP, 700);
}

#[tokio::test]
async fn a_rotten_replica_is_not_extended_alone() {
    let nodes = [TestNode::start().await, TestNode::start().await];
    let mut writer = Writer::open(&[&nodes[0], &nodes[1]], |_| ()).await.unwrap();
    writer.write(&pattern(2_000)).await;
    assert!(writer.finish().await.is_success());
    nodes[0].rot(100);
    let append = |stage, old, new| {
        move |request: &mut WriteBlock| {
            request.stage = stage;
            (request.block.stamp, request.block.length) = (GenStamp(old), 2_000);
            (request.min_bytes, request.max_bytes) = (2_000, 2_000);
            request.latest_stamp = GenStamp(new);
        }
    };
    // While another has what it lacks, nobody reads it; left alone it is refused.
    drop(Writer::open(&[&nodes[1], &nodes[0]], append(Stage::SetupAppend, 1_001, 1_002)).await.unwrap());
    for stage in [Stage::SetupAppendRecovery, Stage::SetupStreamingRecovery] {
        let answer = Writer::open(&[&nodes[0]], append(stage, 1_002, 1_003)).await.err().unwrap();
        let message = answer.message.unwrap();
        assert!(message.contains("Checksum error"), "{message}");
        nodes[0].expect(ReplicaState::Rbw, GenStamp(1_002), 2_000);
    }
    Writer::open(&[&nodes[1]], append(Stage::SetupAppendRecovery, 1_002, 1_003)).await.unwrap();

    let node = TestNode::start().await;
    node.put(&pattern(2_000), SPEC).await;
    node.rot(100);
    let answer = Writer::open(&[&node], append(Stage::SetupAppend, 1_001, 1_002)).await.err().unwrap();
    assert!(answer.message.unwrap().contains("Checksum error"));
    node.expect(ReplicaState::Finalized, STAMP, 2_000);
    assert!(node.status().unwrap().bad);
}

#[tokio::test]
async fn a_second_replica_of_a_block_is_refused() {
    let node = TestNode::start().await;
    node.put(&pattern(10), SPEC).await;
    let answer = Writer::open(&[&node], |_| ()).await.err().unwrap();
    assert_eq!(answer.status, Status::ErrorExists);
    node.expect(ReplicaState::Finalized, STAMP, 10);
}

#[tokio::test]
async fn blocks_of_another_pool_are_refused() {
    let node = TestNode::start().await;
    let other = BlockPoolId("BP-2".into());
    let answer = Writer::open(&[&node], |request| request.block.pool = other.clone()).await.err().unwrap();
    assert!(answer.message.unwrap().contains("another block pool"));
    assert!(node.status().is_none());
    let mut request = read_request(0, 1);
    request.block.pool = other;
    assert!(read_on(&mut node.connect().await, request).await.is_err());
}

#[tokio::test]
async fn a_replica_lies_on_the_storage_that_was_chosen() {
    let node = TestNode::start().await;
    let storage = node.node.store.volumes()[0].storage;
    let mut writer =
        Writer::open(&[&node], |request| request.storage_id = Some(storage.to_string())).await.unwrap();
    assert!(writer.finish().await.is_success());
    assert_eq!(node.status().unwrap().storage, storage);
    // An id that is none of ours, or none at all, is no reason to refuse.
    for (index, id) in ["../x", "DS-00000000-0000-0000-0000-000000000000"].into_iter().enumerate() {
        let mut writer = Writer::open(&[&node], |request| {
            request.storage_id = Some(id.into());
            request.block.id = BlockId(BLOCK.0 + 1 + index as u64);
        })
        .await
        .unwrap();
        assert!(writer.finish().await.is_success());
    }
}
