//! Bytes that are no protocol, and bounds.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use steadfs_datanode_store::CreateOptions;
use steadfs_wire::transfer::OpCode;

use super::*;

/// Whether the other end closes, whatever it sends before.
async fn closes(connection: &mut Connection) -> bool {
    loop {
        let receiving = connection.receive(deadline(), |buffer| {
            let taken = std::mem::take(buffer);
            Ok((!taken.is_empty()).then_some(()))
        });
        if let Err(error) = receiving.await {
            return error.is_departure();
        }
    }
}

#[tokio::test]
async fn garbage_ends_its_connection_and_nothing_else() {
    let node = TestNode::start().await;
    node.put(&pattern(100), SPEC).await;
    let inputs: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"hrpc\x09\x00\x00",
        &[0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0],
        &[0, 28, 0],
        &[0, 28, 80, 0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0, 28, 80, 3, 1, 2, 3],
        &[0, 28, 81, 0],
        &[0xff; 64],
    ];
    for input in inputs {
        let mut connection = node.connect().await;
        let before = node.node.transfer_metrics.failures.get();
        connection.send(input, PATIENCE).await.unwrap();
        assert!(closes(&mut connection).await, "{input:02x?}");
        assert_eq!(node.node.transfer_metrics.failures.get(), before + 1, "{input:02x?}");
    }
    assert_eq!(read_on(&mut node.connect().await, read_request(0, 100)).await.unwrap().data, pattern(100));
}

#[tokio::test]
async fn a_bad_packet_header_ends_the_pipeline_but_not_the_replica() {
    let node = TestNode::start().await;
    for header in [[0xff; 64], [0; 64], [0x7f; 64]] {
        let mut writer = Writer::open(&[&node], |_| ()).await.unwrap();
        writer.write(&pattern(600)).await;
        writer.connection.send(&header, PATIENCE).await.unwrap();
        assert!(closes(&mut writer.connection).await);
        node.expect(ReplicaState::Rbw, STAMP, 600);
        node.node.store.delete(BLOCK, STAMP).unwrap();
    }
}

#[tokio::test]
async fn operations_that_nobody_does_are_declined_with_a_sentence() {
    let node = TestNode::start().await;
    let codes = [
        OpCode::RequestShortCircuitFds,
        OpCode::ReleaseShortCircuitFds,
        OpCode::RequestShortCircuitShm,
        OpCode::BlockGroupChecksum,
    ];
    for code in codes {
        let mut connection = node.connect().await;
        connection.send(&Op::Other(code, bytes::Bytes::new()).encode(), PATIENCE).await.unwrap();
        let answer = connection.receive(deadline(), OpResponse::decode).await.unwrap();
        assert_eq!(answer.status, Status::ErrorUnsupported);
        assert!(answer.message.unwrap().contains(code.name()));
    }
}

#[tokio::test]
async fn an_operation_that_trickles_in_is_not_waited_for() {
    let timeouts = TransferTimeouts { first_op: Duration::from_millis(50), ..TransferTimeouts::default() };
    let node = TestNode::start_with(timeouts, Config::default(), None).await;
    let mut connection = node.connect().await;
    connection.send(&[0, 28, 81], PATIENCE).await.unwrap();
    assert!(closes(&mut connection).await);
    assert!(closes(&mut node.connect().await).await, "not even begun");
}

#[tokio::test]
async fn a_connection_is_kept_for_a_moment_only() {
    let timeouts = TransferTimeouts { keep_alive: Duration::from_millis(20), ..TransferTimeouts::default() };
    let node = TestNode::start_with(timeouts, Config::default(), None).await;
    node.put(&pattern(10), SPEC).await;
    let mut connection = node.connect().await;
    read_on(&mut connection, read_request(0, 10)).await.unwrap();
    let before = node.node.transfer_metrics.failures.get();
    assert!(closes(&mut connection).await);
    assert_eq!(node.node.transfer_metrics.failures.get(), before, "which is no failure");
}

#[tokio::test]
async fn connections_past_the_limit_are_closed_at_once() {
    let config = Config { max_transfer_connections: 1, ..Config::default() };
    let node = TestNode::start_with(TransferTimeouts::default(), config, None).await;
    let mut first = Writer::open(&[&node], |_| ()).await.unwrap();
    assert!(closes(&mut node.connect().await).await);
    first.write(&pattern(10)).await;
    assert!(first.finish().await.is_success());
    assert!(first.is_closed().await);
    // Its place is free again, once the server has noticed.
    while node.node.active_transfers.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    let mut connection = node.connect().await;
    while read_again(&mut connection).await.is_none() {
        connection = node.connect().await;
    }
}

async fn read_again(connection: &mut Connection) -> Option<OpResponse> {
    connection.send(&Op::Read(Box::new(read_request(0, 10))).encode(), PATIENCE).await.ok()?;
    connection.receive(deadline(), OpResponse::decode).await.ok()
}

#[test]
fn random_bytes_do_no_harm() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let node = runtime.block_on(async {
        let timeouts = TransferTimeouts {
            first_op: Duration::from_millis(20),
            read_idle: Duration::from_millis(20),
            read_idle_per_node: Duration::ZERO,
            linger: Duration::from_millis(20),
            ..TransferTimeouts::default()
        };
        let node = TestNode::start_with(timeouts, Config::default(), None).await;
        // Who writes over the network would have to be as quick as that.
        let block = Block { id: BLOCK, stamp: STAMP, len: 100 };
        let writer = node.node.store.create_rbw(CreateOptions { block, storage: None, spec: SPEC }).unwrap();
        let mut sums = Vec::new();
        SPEC.append_checksums(&pattern(100), &mut sums);
        writer.write(0, &pattern(100), &sums).unwrap();
        writer.finalize().unwrap();
        node
    });
    let write = Op::Write(Box::new(WriteBlock {
        block: BlockRef { id: BlockId(77), ..block_ref(STAMP, 10) },
        ..write_request(&[node.peer()])
    }))
    .encode();
    let read = Op::Read(Box::new(read_request(0, 100))).encode();
    let config = ProptestConfig { cases: 60, ..ProptestConfig::default() };
    proptest!(config, |(start in 0..4_usize, cut in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 1..200))| {
        let mut bytes = match start {
            0 => Vec::new(),
            1 => vec![0, 28],
            2 => write.to_vec(),
            _ => read.to_vec(),
        };
        if start > 1 && noise[0] % 2 == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend_from_slice(&noise);
        runtime.block_on(async {
            let mut connection = node.connect().await;
            let _ = connection.send(&bytes, PATIENCE).await;
            assert!(closes(&mut connection).await);
        });
    });
    runtime.block_on(async {
        let read = read_on(&mut node.connect().await, read_request(0, 100)).await.unwrap();
        assert_eq!(read.data, pattern(100));
        assert!(node.heard.bad.lock().is_empty());
    });
}
