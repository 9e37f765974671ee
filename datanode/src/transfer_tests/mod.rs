//! The data server over real sockets and real stores, several datanodes in one process, with a client of the few
//! lines that a test needs.

mod bad;
mod copy;
mod failures;
mod local;
mod moves;
mod read;
mod write;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use parking_lot::Mutex;
use steadfs_common::{BlockId, BlockPoolId, ChecksumKind, ChecksumSpec, GenStamp, StorageId};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_datanode_store::{
    Block, Cluster, Faults, Listener, ReplicaChange, ReplicaState, ReplicaStatus, Store, StoreOptions,
    VolumeConfig,
};
use steadfs_wire::transfer::{
    BlockRef, Op, OpResponse, Packet, PacketHeader, Peer, PipelineAck, ReadBlock, Stage, Status, Token,
    WriteBlock, client_read_status, decode_packet,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::config::Config;
use crate::connection::{Connection, LinkError};
use crate::disks::Disks;
use crate::node::Node;
use crate::server;
use crate::transfer::TransferTimeouts;

const POOL: &str = "BP-1-127.0.0.1-1";
const BLOCK: BlockId = BlockId(1_073_741_825);
const STAMP: GenStamp = GenStamp(1_001);
const SPEC: ChecksumSpec = ChecksumSpec::DEFAULT;
/// Long enough that only a defect reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a store told.
#[derive(Default)]
struct Heard {
    changes: Mutex<Vec<ReplicaChange>>,
    bad: Mutex<Vec<Block>>,
}

impl Listener for Heard {
    fn changed(&self, change: ReplicaChange) {
        self.changes.lock().push(change);
    }
    fn bad_replica(&self, _storage: StorageId, block: Block) {
        self.bad.lock().push(block);
    }
    fn volume_failed(&self, _storage: StorageId, _why: &str) {}
}

/// A data server over a store of its own.
struct TestNode {
    node: Arc<Node>,
    heard: Arc<Heard>,
    shutdown: Shutdown,
    dir: TempDir,
}

impl TestNode {
    async fn start() -> Self {
        Self::start_with(TransferTimeouts::default(), Config::default(), None).await
    }

    async fn start_with(timeouts: TransferTimeouts, config: Config, faults: Option<Arc<dyn Faults>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let volumes = vec![VolumeConfig {
            path: dir.path().join("v"),
            kind: steadfs_common::StorageType::Disk,
            reserved: 0,
        }];
        let heard = Arc::new(Heard::default());
        let store =
            Store::open(StoreOptions { faults, ..StoreOptions::new(volumes) }, heard.clone()).unwrap();
        store.join(&Cluster { cluster_id: "CID-1".into(), block_pool: BlockPoolId(POOL.into()) }).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let disks = Disks::new(2, 4_096).unwrap();
        disks.add(store.volumes_in_service()).unwrap();
        let node = Arc::new(Node {
            config,
            uuid: store.identity().uuid,
            store,
            disks,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            data_port: listener.local_addr().unwrap().port(),
            active_transfers: AtomicU32::new(0),
            transfer_metrics: Default::default(),
            moves: Default::default(),
            admin: Default::default(),
            scans: Default::default(),
        });
        let shutdown = Shutdown::new();
        shutdown.spawn(server::serve(listener, node.clone(), timeouts, shutdown.clone()));
        Self { node, heard, shutdown, dir }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.node.ip, self.node.data_port)
    }

    fn peer(&self) -> Peer {
        crate::transfer::own_peer(&self.node)
    }

    fn name(&self) -> String {
        self.address().to_string()
    }

    /// Ends it: all its connections are closed.
    async fn stop(&self) {
        self.shutdown.trigger();
        assert!(self.shutdown.drained(PATIENCE).await);
    }

    fn status(&self) -> Option<ReplicaStatus> {
        self.node.store.status(BLOCK)
    }

    fn expect(&self, state: ReplicaState, stamp: GenStamp, len: u64) {
        let status = self.status().expect("there is a replica");
        assert_eq!((status.state, status.block.stamp, status.block.len), (state, stamp, len));
    }

    /// All bytes that readers may see, compared with their checksums.
    fn content(&self) -> Vec<u8> {
        let reader = self.node.store.open_for_read(BLOCK, GenStamp(0)).unwrap();
        reader.verify(0, reader.block().len).unwrap();
        let mut data = vec![0; reader.block().len as usize];
        reader.read_data(0, &mut data).unwrap();
        data
    }

    /// Changes a byte of the replica on the disk.
    fn rot(&self, at: u64) {
        let path = read::file_of(self.dir.path());
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();
    }

    async fn connect(&self) -> Connection {
        Connection::open(self.address(), PATIENCE).await.unwrap()
    }

    /// Puts a finalized replica here.
    async fn put(&self, data: &[u8], spec: ChecksumSpec) {
        let mut writer = Writer::open(&[self], |request| request.checksum = spec).await.unwrap();
        writer.write(data).await;
        assert!(writer.finish().await.is_success());
    }
}

/// Bytes that tell their place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn block_ref(stamp: GenStamp, length: u64) -> BlockRef {
    BlockRef { pool: BlockPoolId(POOL.into()), id: BLOCK, stamp, length }
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// A request to create a block of 1 MiB on some nodes.
fn write_request(peers: &[Peer]) -> WriteBlock {
    WriteBlock {
        block: block_ref(STAMP, 1 << 20),
        token: Token::default(),
        client: "DFSClient_test".into(),
        targets: peers[1..].to_vec(),
        source: None,
        stage: Stage::SetupCreate,
        pipeline_size: peers.len() as u32,
        min_bytes: 0,
        max_bytes: 0,
        latest_stamp: GenStamp(0),
        checksum: SPEC,
        storage_id: None,
        storage_type: 1,
        target_storage_ids: Vec::new(),
        target_storage_types: Vec::new(),
    }
}

/// The client's side of a pipeline.
struct Writer {
    connection: Connection,
    spec: ChecksumSpec,
    seqno: i64,
    offset: u64,
}

impl Writer {
    async fn open(nodes: &[&TestNode], change: impl FnOnce(&mut WriteBlock)) -> Result<Self, OpResponse> {
        let peers: Vec<_> = nodes.iter().map(|node| node.peer()).collect();
        Self::open_peers(&peers, change).await
    }

    async fn open_peers(peers: &[Peer], change: impl FnOnce(&mut WriteBlock)) -> Result<Self, OpResponse> {
        let mut request = write_request(peers);
        change(&mut request);
        let spec = request.checksum;
        let offset = request.min_bytes;
        let mut connection = Connection::open(peers[0].address().unwrap(), PATIENCE).await.unwrap();
        connection.send(&Op::Write(Box::new(request)).encode(), PATIENCE).await.unwrap();
        let answer = connection.receive(deadline(), OpResponse::decode).await.unwrap();
        if answer.status != Status::Success {
            return Err(answer);
        }
        assert_eq!(answer.first_bad_link.as_deref(), Some(""), "a connect ack names no link");
        Ok(Self { connection, spec, seqno: 0, offset })
    }

    fn packet(&mut self, offset: u64, data: &[u8], sync: bool) -> Packet {
        let chunk = u64::from(self.spec.bytes_per_checksum);
        let first = match offset % chunk {
            0 => 0,
            inside => ((chunk - inside) as usize).min(data.len()),
        };
        let mut sums = Vec::new();
        self.spec.append_checksums(&data[..first], &mut sums);
        self.spec.append_checksums(&data[first..], &mut sums);
        let header = PacketHeader { offset, seqno: self.seqno, last: false, data_len: 0, sync };
        self.seqno += 1;
        self.offset = offset + data.len() as u64;
        Packet::build(header, &sums, data)
    }

    async fn send(&mut self, packet: &Packet) {
        self.connection.send(packet.frame(), PATIENCE).await.unwrap();
    }

    /// Sends one packet; gives its number.
    async fn send_at(&mut self, offset: u64, data: &[u8], sync: bool) -> i64 {
        let packet = self.packet(offset, data, sync);
        self.send(&packet).await;
        packet.header().seqno
    }

    async fn send_heartbeat(&mut self) {
        self.send(&Packet::build(PacketHeader::heartbeat(), &[], &[])).await;
    }

    async fn send_last(&mut self) -> i64 {
        let header =
            PacketHeader { offset: self.offset, seqno: self.seqno, last: true, data_len: 0, sync: false };
        self.seqno += 1;
        self.send(&Packet::build(header, &[], &[])).await;
        header.seqno
    }

    async fn try_ack(&mut self) -> Result<PipelineAck, LinkError> {
        self.connection.receive(deadline(), PipelineAck::decode).await
    }

    async fn ack(&mut self) -> PipelineAck {
        self.try_ack().await.unwrap()
    }

    /// Sends `data` in packets of a stock client's size, taking acks as they come; all must be good.
    async fn write(&mut self, data: &[u8]) {
        let mut sent = Vec::new();
        let mut offset = self.offset;
        let chunk = self.spec.bytes_per_checksum as usize;
        for piece in data.chunks((126 * 512 / chunk).max(1) * chunk) {
            sent.push(self.send_at(offset, piece, false).await);
            offset += piece.len() as u64;
            if sent.len() == 40 {
                self.expect_acks(&mut sent).await;
            }
        }
        self.expect_acks(&mut sent).await;
    }

    async fn expect_acks(&mut self, sent: &mut Vec<i64>) {
        for seqno in sent.drain(..) {
            let ack = self.ack().await;
            assert_eq!(ack.seqno, seqno);
            assert!(ack.is_success(), "{ack:?}");
        }
    }

    /// Ends the block: the ack of the last packet.
    async fn finish(&mut self) -> PipelineAck {
        let seqno = self.send_last().await;
        let ack = self.ack().await;
        assert_eq!(ack.seqno, seqno);
        ack
    }

    /// Whether the other end closes the connection, and sends nothing before.
    async fn is_closed(&mut self) -> bool {
        matches!(self.try_ack().await, Err(error) if error.is_departure())
    }
}

/// What a read gave: the bytes from the chunk's start that holds its first, and what its packets were like.
struct Read {
    spec: ChecksumSpec,
    start: u64,
    data: Vec<u8>,
    packets: usize,
}

fn read_request(offset: u64, length: u64) -> ReadBlock {
    ReadBlock {
        block: block_ref(STAMP, 0),
        token: Token::default(),
        client: "DFSClient_test".into(),
        offset,
        length,
        checksums: true,
    }
}

/// Reads as a stock client does, and checks all that one checks. The connection can be used again.
async fn read_on(connection: &mut Connection, request: ReadBlock) -> Result<Read, OpResponse> {
    connection.send(&Op::Read(Box::new(request.clone())).encode(), PATIENCE).await.unwrap();
    let answer = connection.receive(deadline(), OpResponse::decode).await.unwrap();
    if answer.status != Status::Success {
        assert!(answer.message.as_ref().is_some_and(|message| !message.is_empty()), "{answer:?}");
        return Err(answer);
    }
    let info = answer.read_checksum.expect("a read tells its checksums");
    let chunk = u64::from(info.spec.bytes_per_checksum);
    assert_eq!(info.chunk_offset, request.offset - request.offset % chunk);
    let mut read = Read { spec: info.spec, start: info.chunk_offset, data: Vec::new(), packets: 0 };
    for seqno in 0.. {
        let packet = connection.receive(deadline(), decode_packet).await.unwrap();
        let header = packet.header();
        assert_eq!(header.seqno, seqno);
        assert_eq!(header.offset, read.start + read.data.len() as u64);
        packet.verify(info.spec).unwrap();
        if header.last {
            break;
        }
        assert!(header.data_len > 0);
        read.data.extend_from_slice(packet.data());
        read.packets += 1;
    }
    let status = if info.spec.kind == ChecksumKind::Null { Status::Success } else { Status::ChecksumOk };
    connection.send(&client_read_status(status), PATIENCE).await.unwrap();
    Ok(read)
}

impl Read {
    /// The bytes of a range of the block.
    fn range(&self, offset: u64, length: u64) -> &[u8] {
        let from = (offset - self.start) as usize;
        &self.data[from..from + length as usize]
    }
}
