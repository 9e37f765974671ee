//! A cluster in memory for tests of this crate: a namenode that keeps books and datanodes that speak the data-transfer
//! protocol, fail as they are told, and check what they are sent.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use futures::TryStreamExt;
use parking_lot::Mutex;
use steadfs_common::{ChecksumSpec, FsError, FsErrorKind, FsResult};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::namespace_server::NamespaceServer;
use steadfs_proto::steadfs::replicas_server::{Replicas, ReplicasServer};
use steadfs_proto::to_status;
use steadfs_wire::transfer::{
    BlockChecksumKind, BlockChecksumReply, Op, OpResponse, Packet, PacketHeader, PipelineAck, ReadBlock,
    ReadChecksum, Stage, Status as WireStatus, WriteBlock, decode_client_read_status, decode_op,
    decode_packet,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::{Client, ClientOptions};

/// What a datanode does wrong. Each fault happens as often as its count says.
#[derive(Clone, Default, Debug)]
pub(crate) struct Faults {
    /// Cannot be reached for a pipeline.
    pub(crate) refuse_setup: u32,
    /// Fails at the packet with this index in a pipeline, once.
    pub(crate) fail_at_packet: Option<usize>,
    /// Fails at the last packet of a block, once.
    pub(crate) fail_at_last: bool,
    /// Breaks the connection after so many packets of a read.
    pub(crate) break_read_after: Option<usize>,
    /// Says nothing more after so many packets of a read.
    pub(crate) stall_read_after: Option<usize>,
    /// Flips a bit of what it sends.
    pub(crate) corrupt: bool,
    /// Refuses every read.
    pub(crate) refuse_reads: bool,
    /// Sends packets of 64 KiB (which is no fault).
    pub(crate) large_packets: bool,
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Replica {
    pub(crate) stamp: u64,
    pub(crate) data: Vec<u8>,
    pub(crate) finalized: bool,
    spec: Option<ChecksumSpec>,
}

#[derive(Default)]
pub(crate) struct Node {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) replicas: HashMap<u64, Replica>,
    pub(crate) faults: Faults,
    /// Operations that came over its connections.
    pub(crate) reads: usize,
}

pub(crate) struct Block {
    pub(crate) id: u64,
    pub(crate) stamp: u64,
    pub(crate) length: u64,
    pub(crate) nodes: Vec<usize>,
}

pub(crate) struct File {
    pub(crate) inode: u64,
    pub(crate) blocks: Vec<Block>,
    pub(crate) open: bool,
    pub(crate) block_size: u64,
    pub(crate) replication: usize,
}

#[derive(Default)]
pub(crate) struct Books {
    pub(crate) files: BTreeMap<String, File>,
    pub(crate) next: u64,
    pub(crate) abandoned: usize,
    pub(crate) reported_bad: Vec<String>,
    pub(crate) renewals: usize,
    pub(crate) recovered: usize,
    pub(crate) not_yet: u32,
    /// So often no datanode has registered yet.
    pub(crate) nobody_yet: u32,
}

/// All of it.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) books: Arc<Mutex<Books>>,
    pub(crate) nodes: Arc<Vec<Mutex<Node>>>,
    pub(crate) url: String,
}

impl Fake {
    pub(crate) async fn start(nodes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("hdfs://{}", listener.local_addr().unwrap());
        let nodes: Vec<_> = (0..nodes).map(|_| Mutex::new(Node::default())).collect();
        let books = Books { next: 20_000, ..Books::default() };
        let fake = Self { books: Arc::new(Mutex::new(books)), nodes: Arc::new(nodes), url };
        for index in 0..fake.nodes.len() {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            fake.nodes[index].lock().address = Some(listener.local_addr().unwrap());
            let fake = fake.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(fake.clone().serve(index, stream));
                }
            });
        }
        let server = tonic::transport::Server::builder()
            .add_service(NamespaceServer::new(fake.clone()))
            .serve_with_incoming(without_delay(listener));
        tokio::spawn(server);
        fake
    }

    pub(crate) async fn client(&self) -> Client {
        let location_wait = std::time::Duration::from_millis(1);
        let options = ClientOptions { packet_bytes: 1_024, location_wait, ..ClientOptions::for_user("u") };
        Client::connect_with(&self.url, options).await.unwrap()
    }

    pub(crate) fn faults(&self, node: usize, faults: Faults) {
        self.nodes[node].lock().faults = faults;
    }

    /// What every replica of the file's blocks holds, all of them equal; panics if they are not.
    pub(crate) fn content(&self, path: &str) -> Vec<u8> {
        let books = self.books.lock();
        let file = &books.files[path];
        assert!(!file.open, "{path} is open");
        let mut all = Vec::new();
        for block in &file.blocks {
            assert!(!block.nodes.is_empty());
            for node in &block.nodes {
                let node = self.nodes[*node].lock();
                let replica = &node.replicas[&block.id];
                assert_eq!((replica.stamp, replica.data.len() as u64), (block.stamp, block.length));
                assert!(replica.finalized);
            }
            all.extend_from_slice(&self.nodes[block.nodes[0]].lock().replicas[&block.id].data);
        }
        all
    }

    pub(crate) fn is_open(&self, path: &str) -> bool {
        self.books.lock().files[path].open
    }

    pub(crate) fn replicas_of(&self, path: &str) -> Vec<Vec<usize>> {
        self.books.lock().files[path].blocks.iter().map(|block| block.nodes.clone()).collect()
    }

    pub(crate) fn location(&self, node: usize) -> pb::Location {
        let address = self.nodes[node].lock().address.unwrap();
        pb::Location {
            datanode: Some(pb::DatanodeAddress {
                uuid: format!("node-{node}"),
                ip: address.ip().to_string(),
                host_name: "localhost".into(),
                data_port: address.port().into(),
                ipc_port: address.port().into(),
                http_port: 0,
            }),
            storage_id: format!("DS-{node}"),
            rack: "/default-rack".into(),
        }
    }

    pub(crate) fn located(&self, block: &Block, offset: u64) -> pb::LocatedBlock {
        pb::LocatedBlock {
            block: Some(pb::Block { id: block.id, stamp: block.stamp, length: block.length }),
            offset,
            locations: block.nodes.iter().map(|node| self.location(*node)).collect(),
            corrupt: false,
        }
    }

    pub(crate) fn blocks_of(&self, file: &File) -> pb::FileBlocks {
        let mut offset = 0;
        let mut blocks = Vec::new();
        for block in &file.blocks {
            blocks.push(self.located(block, offset));
            offset += block.length;
        }
        let last = blocks.last().cloned();
        let open_bytes = if file.open { file.blocks.last().map_or(0, |block| block.length) } else { 0 };
        pb::FileBlocks {
            length: offset - open_bytes,
            blocks,
            last,
            under_construction: file.open,
            last_complete: !file.open,
        }
    }

    pub(crate) fn status_of(&self, file: &File) -> pb::FileStatus {
        pb::FileStatus {
            inode: file.inode,
            length: file.blocks.iter().map(|block| block.length).sum(),
            mode: 0o644,
            replication: file.replication as u32,
            block_size: file.block_size,
            under_construction: file.open,
            ..Default::default()
        }
    }

    pub(crate) fn allocate(
        &self,
        books: &mut Books,
        path: &str,
        excluded: &[String],
    ) -> FsResult<pb::LocatedBlock> {
        books.next += 1;
        let id = books.next;
        let file = books.files.get_mut(path).ok_or_else(|| FsError::not_found(path))?;
        let free = (0..self.nodes.len()).filter(|node| !excluded.contains(&format!("node-{node}")));
        let nodes: Vec<_> = free.take(file.replication).collect();
        if nodes.is_empty() {
            return Err(FsError::new(FsErrorKind::NoDatanode, "no datanode"));
        }
        let offset = file.blocks.iter().map(|block| block.length).sum();
        let block = Block { id, stamp: 1_000, length: 0, nodes };
        let located = self.located(&block, offset);
        file.blocks.push(block);
        Ok(located)
    }

    /// One connection to a datanode. The first of a pipeline does the work of all: what is tested is the client.
    async fn serve(self, node: usize, mut stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut buffer = BytesMut::new();
        if buffer.len() < 4 {
            stream.read_buf(&mut buffer).await.ok()?;
        }
        if buffer.starts_with(b"PRI ") {
            return self.serve_grpc(node, stream, buffer).await;
        }
        loop {
            let op = read(&mut stream, &mut buffer, decode_op).await?;
            match op {
                Op::Write(request) => {
                    self.write(node, *request, &mut stream, &mut buffer).await;
                    return None;
                }
                Op::Read(request) => self.read(node, *request, &mut stream, &mut buffer).await?,
                Op::Transfer(request) => {
                    let replica = self.nodes[node].lock().replicas.get(&request.block.id.0).cloned();
                    let target = self.by_port(request.targets[0].data_port);
                    let mut replica = replica?;
                    replica.data.truncate(request.block.length as usize);
                    replica.finalized = false;
                    self.nodes[target].lock().replicas.insert(request.block.id.0, replica);
                    stream.write_all(&OpResponse::new(WireStatus::Success).to_bytes()).await.ok()?;
                }
                Op::Checksum(request) => {
                    let mut answer = OpResponse::new(WireStatus::Success);
                    answer.block_checksum = Some(BlockChecksumReply {
                        spec: ChecksumSpec::DEFAULT,
                        crc_per_block: 2,
                        checksum: vec![request.block.length as u8; 16].into(),
                        kind: BlockChecksumKind::Md5Crc,
                    });
                    stream.write_all(&answer.to_bytes()).await.ok()?;
                }
                Op::Copy(_) | Op::Replace(_) | Op::Other(..) => return None,
            }
        }
    }

    /// The other half of the port: how far a replica may be read. A proxy, since the first bytes are already here.
    async fn serve_grpc(self, node: usize, mut stream: TcpStream, first: BytesMut) -> Option<()> {
        let inner = TcpListener::bind("127.0.0.1:0").await.ok()?;
        let address = inner.local_addr().ok()?;
        let service = ReplicasServer::new(FakeReplicas { fake: self, node });
        let server = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(without_delay(inner));
        tokio::spawn(server);
        let mut onward = TcpStream::connect(address).await.ok()?;
        onward.write_all(&first).await.ok()?;
        tokio::io::copy_bidirectional(&mut stream, &mut onward).await.ok()?;
        Some(())
    }

    fn by_port(&self, port: u16) -> usize {
        (0..self.nodes.len()).find(|node| self.nodes[*node].lock().address.unwrap().port() == port).unwrap()
    }

    async fn write(
        &self,
        node: usize,
        request: WriteBlock,
        stream: &mut TcpStream,
        buffer: &mut BytesMut,
    ) -> Option<()> {
        let mut pipeline = vec![node];
        pipeline.extend(request.targets.iter().map(|target| self.by_port(target.data_port)));
        assert_eq!(request.pipeline_size as usize, pipeline.len());
        assert_eq!(request.target_storage_ids.len(), request.targets.len());
        for member in &pipeline {
            if let Err(message) = self.set_up(*member, &request) {
                let bad = self.nodes[*member].lock().address.unwrap().to_string();
                let link = if *member == node { String::new() } else { bad };
                let mut answer = OpResponse::connect_ack(WireStatus::Error, link);
                answer.message = Some(message);
                stream.write_all(&answer.to_bytes()).await.ok()?;
                return None;
            }
        }
        stream.write_all(&OpResponse::connect_ack(WireStatus::Success, "").to_bytes()).await.ok()?;
        if request.stage == Stage::CloseRecovery {
            return Some(());
        }
        let mut index = 0;
        loop {
            let packet = read(stream, buffer, decode_packet).await?;
            let header = *packet.header();
            let mut replies = Vec::new();
            for member in &pipeline {
                let fine = header.is_heartbeat() || self.take(*member, &request, &packet, index);
                replies.push(if fine { WireStatus::Success } else { WireStatus::Error });
            }
            let failed = replies.contains(&WireStatus::Error);
            let mut out = BytesMut::new();
            PipelineAck::new(header.seqno, replies).encode(&mut out);
            stream.write_all(&out).await.ok()?;
            if failed || header.last {
                return Some(());
            }
            index += 1;
        }
    }

    fn set_up(&self, node: usize, request: &WriteBlock) -> Result<(), String> {
        let mut node = self.nodes[node].lock();
        if node.faults.refuse_setup > 0 {
            node.faults.refuse_setup -= 1;
            return Err("told to refuse".into());
        }
        let id = request.block.id.0;
        if request.stage == Stage::SetupCreate {
            let spec = Some(request.checksum);
            let replica = Replica { stamp: request.block.stamp.0, spec, ..Replica::default() };
            node.replicas.insert(id, replica);
            return Ok(());
        }
        let replica = node.replicas.get_mut(&id).ok_or("no such replica")?;
        let length = replica.data.len() as u64;
        let (old, new) = (request.block.stamp.0, request.latest_stamp.0);
        if !(old..=new).contains(&replica.stamp) {
            return Err(format!("stamp {} is not in {old}..={new}", replica.stamp));
        }
        match request.stage {
            Stage::SetupAppend if !replica.finalized || length != request.min_bytes => {
                return Err(format!("not finalized with {} bytes", request.min_bytes));
            }
            Stage::SetupStreamingRecovery if replica.finalized => return Err("finalized".into()),
            _ if length < request.min_bytes || length > request.max_bytes => {
                return Err(format!("{length} bytes, not {}..={}", request.min_bytes, request.max_bytes));
            }
            _ => {}
        }
        replica.data.truncate(request.min_bytes as usize);
        replica.stamp = new;
        replica.finalized = request.stage == Stage::CloseRecovery;
        Ok(())
    }

    /// One member's part of a packet; false if it fails.
    fn take(&self, node: usize, request: &WriteBlock, packet: &Packet, index: usize) -> bool {
        let mut node = self.nodes[node].lock();
        let header = packet.header();
        if node.faults.fail_at_packet == Some(index) {
            node.faults.fail_at_packet = None;
            return false;
        }
        if header.last && std::mem::take(&mut node.faults.fail_at_last) {
            return false;
        }
        let replica = node.replicas.get_mut(&request.block.id.0).unwrap();
        assert!(!replica.finalized, "a packet after the last");
        packet.verify(request.checksum).unwrap();
        let at = header.offset as usize;
        assert!(at <= replica.data.len(), "a gap before {at}");
        assert!(header.end() <= request.block.length.max(header.end()));
        replica.data.truncate(at.max(replica.data.len().min(at)));
        replica.data.extend_from_slice(packet.data());
        replica.finalized = header.last;
        true
    }

    async fn read(
        &self,
        node: usize,
        request: ReadBlock,
        stream: &mut TcpStream,
        buffer: &mut BytesMut,
    ) -> Option<()> {
        let (replica, faults) = {
            let mut node = self.nodes[node].lock();
            node.reads += 1;
            (node.replicas.get(&request.block.id.0).cloned(), node.faults.clone())
        };
        let replica = replica.filter(|replica| {
            replica.stamp == request.block.stamp.0
                && request.offset + request.length <= replica.data.len() as u64
                && !faults.refuse_reads
        });
        let Some(replica) = replica else {
            let answer = OpResponse::failure(WireStatus::Error, "cannot be read");
            stream.write_all(&answer.to_bytes()).await.ok()?;
            return Some(());
        };
        let spec = replica.spec.unwrap_or(ChecksumSpec::DEFAULT);
        let chunk = u64::from(spec.bytes_per_checksum);
        let start = request.offset / chunk * chunk;
        let end = (request.offset + request.length).next_multiple_of(chunk).min(replica.data.len() as u64);
        let mut answer = OpResponse::new(WireStatus::Success);
        answer.read_checksum = Some(ReadChecksum { spec, chunk_offset: start });
        stream.write_all(&answer.to_bytes()).await.ok()?;
        let mut seqno = 0;
        let packet = if faults.large_packets { 64 << 10 } else { 1_024 };
        for (index, data) in replica.data[start as usize..end as usize].chunks(packet).enumerate() {
            if faults.stall_read_after == Some(index) {
                std::future::pending::<()>().await;
            }
            if faults.break_read_after == Some(index) {
                return None;
            }
            let mut sums = Vec::new();
            spec.append_checksums(data, &mut sums);
            let mut data = data.to_vec();
            if faults.corrupt {
                data[0] ^= 1;
            }
            let offset = start + (index * packet) as u64;
            let header =
                PacketHeader { offset, seqno, last: false, data_len: data.len() as u32, sync: false };
            stream.write_all(Packet::build(header, &sums, &data).frame()).await.ok()?;
            seqno += 1;
        }
        let header = PacketHeader { offset: end, seqno, last: true, data_len: 0, sync: false };
        stream.write_all(Packet::build(header, &[], &[]).frame()).await.ok()?;
        read(stream, buffer, decode_client_read_status).await?;
        Some(())
    }
}

/// Its connections, without Nagle's wait.
fn without_delay(listener: TcpListener) -> impl futures::Stream<Item = std::io::Result<TcpStream>> {
    TcpListenerStream::new(listener).inspect_ok(|stream| stream.set_nodelay(true).unwrap())
}

async fn read<T, E: std::fmt::Debug>(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    mut decode: impl FnMut(&mut BytesMut) -> Result<Option<T>, E>,
) -> Option<T> {
    loop {
        if let Some(found) = decode(buffer).unwrap() {
            return Some(found);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

struct FakeReplicas {
    fake: Fake,
    node: usize,
}

#[tonic::async_trait]
impl Replicas for FakeReplicas {
    async fn visible_length(
        &self,
        request: Request<pb::VisibleLengthRequest>,
    ) -> Result<Response<pb::VisibleLengthResponse>, Status> {
        let id = request.into_inner().block.unwrap().id;
        let node = self.fake.nodes[self.node].lock();
        match node.replicas.get(&id) {
            Some(replica) => {
                Ok(Response::new(pb::VisibleLengthResponse { length: replica.data.len() as u64 }))
            }
            None => Err(to_status(&FsError::new(FsErrorKind::ReplicaNotFound, "none"))),
        }
    }
}
