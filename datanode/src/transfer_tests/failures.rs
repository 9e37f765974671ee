//! Pipelines that break, and their recoveries.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use steadfs_datanode_store::DiskOp;
use steadfs_wire::transfer::decode_op;

use super::*;

const NEXT: GenStamp = GenStamp(1_002);

/// Goes on with a broken block on other nodes, as a client does.
async fn recover(nodes: &[&TestNode], acked: u64, sent: u64) -> Result<Writer, OpResponse> {
    Writer::open(nodes, |request| {
        request.stage = Stage::SetupStreamingRecovery;
        (request.min_bytes, request.max_bytes) = (acked, sent);
        request.latest_stamp = NEXT;
    })
    .await
}

#[tokio::test]
async fn a_node_may_fail_at_each_position_and_the_others_go_on() {
    let data = pattern(200_000);
    for failing in 0..3 {
        let nodes = [TestNode::start().await, TestNode::start().await, TestNode::start().await];
        let all: Vec<_> = nodes.iter().collect();
        let mut writer = Writer::open(&all, |_| ()).await.unwrap();
        writer.write(&data[..100_000 - 100_000 % 512]).await;
        let acked = writer.offset;
        nodes[failing].stop().await;
        let sent = writer.offset + 512;
        let packet = writer.packet(acked, &data[acked as usize..sent as usize], false);
        if failing == 0 {
            // Writing into a closed connection may or may not be noticed.
            let _ = writer.connection.send(packet.frame(), PATIENCE).await;
            assert!(writer.is_closed().await);
        } else {
            writer.send(&packet).await;
            let ack = writer.ack().await;
            assert_eq!(ack.seqno, packet.header().seqno);
            let mut expected = vec![Status::Success; failing];
            expected.push(Status::Error);
            assert_eq!(ack.replies, expected, "the ack tells who failed");
        }
        let rest: Vec<_> =
            all.iter().enumerate().filter(|(index, _)| *index != failing).map(|(_, node)| *node).collect();
        let mut writer = recover(&rest, acked, sent).await.unwrap();
        for node in &rest {
            node.expect(ReplicaState::Rbw, NEXT, acked);
        }
        writer.write(&data[acked as usize..]).await;
        assert_eq!(writer.finish().await.replies, [Status::Success; 2]);
        for node in &rest {
            node.expect(ReplicaState::Finalized, NEXT, data.len() as u64);
            assert_eq!(node.content(), data);
        }
    }
}

#[tokio::test]
async fn the_first_link_that_cannot_be_had_is_named_as_the_client_knows_it() {
    let nodes = [TestNode::start().await, TestNode::start().await];
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dead = Peer { ip: "127.0.0.1".into(), data_port: closed.port(), ..Peer::default() };
    for peers in [
        vec![nodes[0].peer(), dead.clone()],
        vec![nodes[0].peer(), nodes[1].peer(), dead.clone()],
        vec![nodes[0].peer(), dead.clone(), nodes[1].peer()],
    ] {
        let answer = Writer::open_peers(&peers, |_| ()).await.err().unwrap();
        assert_eq!(answer.first_bad_link, Some(closed.to_string()));
        assert_ne!(answer.status, Status::Success);
        for node in &nodes {
            assert!(node.status().is_none(), "what was just made is given up");
        }
    }
    let nowhere = Peer { ip: "no address".into(), data_port: 1, ..Peer::default() };
    let answer = Writer::open_peers(&[nodes[0].peer(), nowhere], |_| ()).await.err().unwrap();
    assert_eq!(answer.first_bad_link.as_deref(), Some("no address:1"));
}

#[tokio::test]
async fn a_node_that_refuses_is_named_by_the_one_before_it() {
    let nodes = [TestNode::start().await, TestNode::start().await, TestNode::start().await];
    nodes[2].put(&pattern(5), SPEC).await;
    let answer = Writer::open(&[&nodes[0], &nodes[1], &nodes[2]], |_| ()).await.err().unwrap();
    assert_eq!((answer.status, answer.first_bad_link), (Status::ErrorExists, Some(nodes[2].name())));
    assert!(nodes[0].status().is_none() && nodes[1].status().is_none());
}

#[tokio::test]
async fn bytes_that_do_not_match_are_blamed_on_where_they_came() {
    let nodes = [TestNode::start().await, TestNode::start().await];
    let data = pattern(2_000);
    let mut writer = Writer::open(&[&nodes[0], &nodes[1]], |_| ()).await.unwrap();
    writer.write(&data[..1_024]).await;
    let packet = writer.packet(1_024, &data[1_024..], false);
    let mut damaged = packet.frame().to_vec();
    *damaged.last_mut().unwrap() ^= 0x10;
    writer.connection.send(&damaged, PATIENCE).await.unwrap();
    assert_eq!(writer.ack().await, PipelineAck::new(packet.header().seqno, vec![Status::ErrorChecksum]));
    assert!(writer.is_closed().await);
    for node in &nodes {
        node.expect(ReplicaState::Rbw, STAMP, 1_024);
        assert_eq!(node.content(), &data[..1_024]);
    }
    let mut writer = recover(&[&nodes[0], &nodes[1]], 1_024, 2_000).await.unwrap();
    writer.write(&data[1_024..]).await;
    assert!(writer.finish().await.is_success());
    assert_eq!(nodes[1].content(), data);
}

#[tokio::test]
async fn a_failure_is_heard_by_a_client_that_goes_on_sending() {
    let node = TestNode::start().await;
    let data = pattern(64_512);
    let mut writer = Writer::open(&[&node], |_| ()).await.unwrap();
    let mut damaged = writer.packet(0, &data, false).frame().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    writer.connection.send(&damaged, PATIENCE).await.unwrap();
    for _ in 0..200 {
        let offset = writer.offset;
        writer.send_at(offset, &data, false).await;
    }
    assert_eq!(writer.ack().await, PipelineAck::new(0, vec![Status::ErrorChecksum]));
    assert!(writer.is_closed().await);
}

#[tokio::test]
async fn packets_that_break_the_rules_end_the_pipeline_and_nothing_else() {
    let node = TestNode::start().await;
    let data = pattern(1_000);
    // A hole, then a number twice.
    for (offset, seqno) in [(4_096, 1), (512, 0)] {
        let mut writer = Writer::open(&[&node], |_| ()).await.unwrap();
        writer.send_at(0, &data[..512], false).await;
        assert!(writer.ack().await.is_success());
        writer.seqno = seqno;
        writer.send_at(offset, &data[..512], false).await;
        match writer.try_ack().await {
            Ok(ack) => assert!(!ack.is_success()),
            Err(error) => assert!(error.is_departure(), "{error}"),
        }
        node.expect(ReplicaState::Rbw, STAMP, 512);
        assert!(node.node.store.delete(BLOCK, STAMP).unwrap());
    }
}

#[tokio::test]
async fn a_recovery_stops_the_writer_before_it() {
    let nodes = [TestNode::start().await, TestNode::start().await];
    let data = pattern(2_048);
    let mut old = Writer::open(&[&nodes[0], &nodes[1]], |_| ()).await.unwrap();
    old.write(&data[..1_024]).await;
    let mut new = recover(&[&nodes[0], &nodes[1]], 512, 1_024).await.unwrap();
    for node in &nodes {
        node.expect(ReplicaState::Rbw, NEXT, 512);
    }
    let packet = old.packet(1_024, &data[..512], false);
    let _ = old.connection.send(packet.frame(), PATIENCE).await;
    match old.try_ack().await {
        Ok(ack) => assert_ne!(ack.replies[0], Status::Success),
        Err(error) => assert!(error.is_departure(), "{error}"),
    }
    new.write(&data[512..]).await;
    assert!(new.finish().await.is_success());
    for node in &nodes {
        assert_eq!(node.content(), data);
    }
}

#[tokio::test]
async fn a_recovery_that_promises_what_is_not_there_is_refused() {
    let node = TestNode::start().await;
    let mut writer = Writer::open(&[&node], |_| ()).await.unwrap();
    writer.write(&pattern(1_024)).await;
    assert!(recover(&[&node], 2_000, 4_000).await.is_err(), "more acked than there is");
    assert!(recover(&[&node], 0, 512).await.is_err(), "more there than was sent");
    assert!(
        Writer::open(&[&node], |request| {
            request.stage = Stage::SetupStreamingRecovery;
            request.block.stamp = GenStamp(1_003);
            request.latest_stamp = GenStamp(1_004);
        })
        .await
        .is_err()
    );
}

#[tokio::test]
async fn a_block_whose_last_ack_was_lost_is_closed_by_its_recovery() {
    let nodes = [TestNode::start().await, TestNode::start().await];
    let data = pattern(1_500);
    let mut writer = Writer::open(&[&nodes[0], &nodes[1]], |_| ()).await.unwrap();
    writer.write(&data).await;
    // One node has already ended the block, the other has not.
    let mut alone = Writer::open(&[&nodes[0]], |request| {
        request.stage = Stage::SetupStreamingRecovery;
        (request.min_bytes, request.max_bytes) = (1_500, 1_500);
        request.latest_stamp = NEXT;
    })
    .await
    .unwrap();
    assert!(alone.finish().await.is_success());
    let mut closed = Writer::open(&[&nodes[0], &nodes[1]], |request| {
        request.stage = Stage::CloseRecovery;
        (request.min_bytes, request.max_bytes) = (1_500, 1_500);
        request.latest_stamp = GenStamp(1_003);
    })
    .await
    .unwrap();
    for node in &nodes {
        node.expect(ReplicaState::Finalized, GenStamp(1_003), 1_500);
        assert_eq!(node.content(), data);
    }
    assert!(closed.is_closed().await, "no packets follow");
}

#[tokio::test]
async fn an_append_that_was_set_up_halfway_is_set_up_again() {
    let nodes = [TestNode::start().await, TestNode::start().await];
    let data = pattern(1_300);
    let mut writer = Writer::open(&[&nodes[0], &nodes[1]], |_| ()).await.unwrap();
    writer.write(&data[..700]).await;
    assert!(writer.finish().await.is_success());
    let append = |stage, stamp| {
        move |request: &mut WriteBlock| {
            request.stage = stage;
            request.block.length = 700;
            (request.min_bytes, request.max_bytes) = (700, 700);
            request.latest_stamp = stamp;
        }
    };
    let first = Writer::open(&[&nodes[0]], append(Stage::SetupAppend, NEXT)).await.unwrap();
    drop(first);
    let again = append(Stage::SetupAppendRecovery, GenStamp(1_003));
    let mut writer = Writer::open(&[&nodes[0], &nodes[1]], again).await.unwrap();
    writer.send_at(700, &data[700..1_024], false).await;
    writer.send_at(1_024, &data[1_024..], false).await;
    assert!(writer.ack().await.is_success() && writer.ack().await.is_success());
    assert!(writer.finish().await.is_success());
    for node in &nodes {
        node.expect(ReplicaState::Finalized, GenStamp(1_003), 1_300);
        assert_eq!(node.content(), data);
    }
}

/// A node that takes a pipeline and then does what a test wants with each packet.
async fn strange_node(
    behave: impl FnMut(&PacketHeader) -> Option<PipelineAck> + Send + 'static,
) -> (Peer, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut behave = behave;
    let task = tokio::spawn(async move {
        let mut connection = Connection::new(listener.accept().await.unwrap().0).unwrap();
        connection.receive(deadline(), decode_op).await.unwrap();
        let ack = OpResponse::connect_ack(Status::Success, "").to_bytes();
        connection.send(&ack, PATIENCE).await.unwrap();
        while let Ok(packet) = connection.receive(deadline(), decode_packet).await {
            let mut out = bytes::BytesMut::new();
            let Some(ack) = behave(packet.header()) else { return };
            ack.encode(&mut out);
            connection.send(&out, PATIENCE).await.unwrap();
        }
    });
    (Peer { ip: "127.0.0.1".into(), data_port: port, ..Peer::default() }, task)
}

#[tokio::test]
async fn what_downstream_says_is_passed_up_and_nonsense_counts_as_failure() {
    type Behaviour = fn(&PacketHeader) -> Option<PipelineAck>;
    let cases: [(Behaviour, Status); 4] = [
        (|header| Some(PipelineAck::new(header.seqno, vec![Status::ErrorChecksum])), Status::ErrorChecksum),
        (|header| Some(PipelineAck::new(header.seqno + 1, vec![Status::Success])), Status::Error),
        (|header| Some(PipelineAck::new(header.seqno, vec![Status::Success; 2])), Status::Error),
        (|_| None, Status::Error),
    ];
    for (behave, expected) in cases {
        let node = TestNode::start().await;
        let (strange, task) = strange_node(behave).await;
        let mut writer = Writer::open_peers(&[node.peer(), strange], |_| ()).await.unwrap();
        writer.send_at(0, &pattern(1_000), false).await;
        assert_eq!(writer.ack().await.replies, [Status::Success, expected]);
        // This node goes on for as long as it is asked to, but nothing more counts as acked.
        writer.send_heartbeat().await;
        assert_eq!(writer.ack().await.seqno, -1);
        node.expect(ReplicaState::Rbw, STAMP, 1_000);
        assert_eq!(node.node.store.visible_length(BLOCK, STAMP).unwrap(), 0);
        drop(writer);
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_downstream_is_given_up() {
    let idle = TransferTimeouts {
        read_idle: Duration::from_secs(1),
        read_idle_per_node: Duration::from_millis(10),
        ..TransferTimeouts::default()
    };
    gives_up_a_silent_downstream(idle).await;
}

#[tokio::test]
async fn a_downstream_that_acks_nothing_of_what_is_done_here_is_given_up() {
    let stall = TransferTimeouts { stall: Duration::from_millis(100), ..TransferTimeouts::default() };
    gives_up_a_silent_downstream(stall).await;
}

async fn gives_up_a_silent_downstream(timeouts: TransferTimeouts) {
    let node = TestNode::start_with(timeouts, Config::default(), None).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = tokio::spawn(async move {
        let mut connection = Connection::new(listener.accept().await.unwrap().0).unwrap();
        connection.receive(deadline(), decode_op).await.unwrap();
        let ack = OpResponse::connect_ack(Status::Success, "").to_bytes();
        connection.send(&ack, PATIENCE).await.unwrap();
        while connection.receive(deadline(), decode_packet).await.is_ok() {}
    });
    let peer = Peer { ip: "127.0.0.1".into(), data_port: port, ..Peer::default() };
    let mut writer = Writer::open_peers(&[node.peer(), peer], |_| ()).await.unwrap();
    writer.send_at(0, &pattern(10), false).await;
    // A sender that goes on is not mistaken for a silent one.
    let ack = loop {
        writer.send_heartbeat().await;
        match tokio::time::timeout(Duration::from_millis(20), writer.ack()).await {
            Ok(ack) => break ack,
            Err(_) => continue,
        }
    };
    assert_eq!(ack, PipelineAck::new(0, vec![Status::Success, Status::Error]));
    silent.await.unwrap();
}

#[tokio::test]
async fn a_silent_sender_is_given_up_and_its_replica_kept() {
    let timeouts = TransferTimeouts {
        read_idle: Duration::from_secs(1),
        read_idle_per_node: Duration::ZERO,
        ..TransferTimeouts::default()
    };
    let node = TestNode::start_with(timeouts, Config::default(), None).await;
    let mut writer = Writer::open(&[&node], |_| ()).await.unwrap();
    writer.send_at(0, &pattern(600), false).await;
    assert!(writer.ack().await.is_success());
    assert!(writer.is_closed().await);
    node.expect(ReplicaState::Rbw, STAMP, 600);
}

/// Takes its time with every write of a block's file.
struct Slow(Duration);

impl Faults for Slow {
    fn before(&self, op: DiskOp, path: &Path) -> io::Result<()> {
        let block = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("blk_"));
        if block && op == DiskOp::Write {
            std::thread::sleep(self.0);
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_sender_that_waits_for_a_slow_disk_is_not_silent() {
    let idle = Duration::from_millis(200);
    let timeouts = TransferTimeouts {
        read_idle: idle,
        read_idle_per_node: Duration::ZERO,
        ..TransferTimeouts::default()
    };
    let slow = Arc::new(Slow(3 * idle));
    let node = TestNode::start_with(timeouts, Config::default(), Some(slow)).await;
    let mut writer = Writer::open(&[&node], |_| ()).await.unwrap();
    writer.send_at(0, &pattern(600), false).await;
    assert!(writer.ack().await.is_success());
    assert!(writer.is_closed().await, "now it is silent");
    node.expect(ReplicaState::Rbw, STAMP, 600);
}

/// Makes one kind of operation fail while it is switched on.
struct Switch {
    op: DiskOp,
    on: AtomicBool,
}

impl Switch {
    fn new(op: DiskOp) -> Arc<Self> {
        Arc::new(Self { op, on: AtomicBool::new(false) })
    }
}

impl Faults for Switch {
    fn before(&self, op: DiskOp, path: &Path) -> io::Result<()> {
        let block = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("blk_"));
        if block && op == self.op && self.on.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is broken"));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_disk_that_fails_is_told_and_nothing_is_acked_that_is_not_there() {
    for op in [DiskOp::Write, DiskOp::Sync] {
        let switch = Switch::new(op);
        let broken =
            TestNode::start_with(TransferTimeouts::default(), Config::default(), Some(switch.clone())).await;
        let sound = TestNode::start().await;
        let data = pattern(2_000);
        let mut writer = Writer::open(&[&sound, &broken], |_| ()).await.unwrap();
        writer.write(&data[..1_024]).await;
        switch.on.store(true, Ordering::SeqCst);
        writer.send_at(1_024, &data[1_024..], true).await;
        assert_eq!(writer.ack().await.replies, [Status::Success, Status::Error]);
        // The pipeline goes on without it.
        let mut writer = recover(&[&sound], 1_024, 2_000).await.unwrap();
        writer.write(&data[1_024..]).await;
        assert!(writer.finish().await.is_success());
        assert_eq!(sound.content(), data);
        drop(broken);
    }
}

#[tokio::test]
async fn a_last_packet_is_not_acked_if_the_block_cannot_be_made_durable() {
    let switch = Switch::new(DiskOp::Sync);
    let node =
        TestNode::start_with(TransferTimeouts::default(), Config::default(), Some(switch.clone())).await;
    let mut writer = Writer::open(&[&node], |_| ()).await.unwrap();
    writer.write(&pattern(1_000)).await;
    switch.on.store(true, Ordering::SeqCst);
    assert_eq!(writer.finish().await.replies, [Status::Error]);
    assert!(writer.is_closed().await);
    assert!(node.status().is_none_or(|status| status.state != ReplicaState::Finalized));
}
