//! A light client of the data-transfer protocol: what is sent and read is framed and its checksums are verified, and nothing else,
//! so that datanodes are measured and not their driver. Works against SteadFS and against Apache HDFS alike.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use steadfs_common::ChecksumSpec;
use steadfs_proto::hadoop::op_write_block_proto::BlockConstructionStage;
use steadfs_proto::hadoop::{
    BaseHeaderProto, ChecksumProto, ClientOperationHeaderProto, DatanodeInfoProto, LocatedBlockProto,
    OpReadBlockProto, OpWriteBlockProto, StorageTypeProto,
};
use steadfs_wire::transfer::{
    OpCode, OpResponse, Packet, PacketHeader, PipelineAck, Status, client_read_status, decode_packet,
    encode_op,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::Semaphore;

use crate::hadoop::Connection;
use crate::report::Calls;

/// Data of a packet, as a stock client sends it.
const PACKET_BYTES: usize = 64 << 10;
/// Packets sent and not yet acknowledged, as a stock client has them.
const WINDOW: usize = 80;
/// What is read from a socket at a time.
const READ_BYTES: usize = 1 << 20;
/// A namenode answers "not yet" to a `complete` until replicas are reported.
const COMPLETE_PAUSE: Duration = Duration::from_millis(1);
const COMPLETE_TRIES: u32 = 30_000;
const PAGE: u64 = 4 << 10;

fn header(block: &LocatedBlockProto, client: &str) -> ClientOperationHeaderProto {
    ClientOperationHeaderProto {
        base_header: BaseHeaderProto {
            block: block.b.clone(),
            token: Some(block.block_token.clone()),
            trace_info: None,
        },
        client_name: client.to_owned(),
    }
}

async fn dial(node: &DatanodeInfoProto) -> anyhow::Result<TcpStream> {
    let address = format!("{}:{}", node.id.ip_addr, node.id.xfer_port);
    let stream = TcpStream::connect(&address).await.with_context(|| format!("cannot reach {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn response(input: &mut BytesMut, stream: &mut TcpStream) -> anyhow::Result<OpResponse> {
    loop {
        if let Some(answer) = OpResponse::decode(input)? {
            ensure!(answer.status == Status::Success, "a datanode answers {answer:?}");
            return Ok(answer);
        }
        ensure!(stream.read_buf(input).await? > 0, "the datanode closed the connection");
    }
}

/// One datanode's connection, used again and again as stock clients do.
struct Reader {
    stream: TcpStream,
    input: BytesMut,
}

impl Reader {
    async fn open(node: &DatanodeInfoProto) -> anyhow::Result<Self> {
        Ok(Self { stream: dial(node).await?, input: BytesMut::with_capacity(2 * READ_BYTES) })
    }

    /// Reads `length` bytes of a block from `offset` on and verifies them.
    async fn read(&mut self, block: &LocatedBlockProto, offset: u64, length: u64) -> anyhow::Result<u64> {
        let request = OpReadBlockProto {
            header: header(block, "bench"),
            offset,
            len: length,
            send_checksums: Some(true),
            caching_strategy: None,
        };
        let mut out = BytesMut::new();
        encode_op(OpCode::ReadBlock, &request, &mut out);
        self.stream.write_all(&out).await?;
        let answer = response(&mut self.input, &mut self.stream).await?;
        let spec = answer.read_checksum.context("an answer to a read names no checksums")?.spec;
        let mut read = 0;
        loop {
            while let Some(packet) = decode_packet(&mut self.input)? {
                if packet.header().last {
                    self.stream.write_all(&client_read_status(Status::ChecksumOk)).await?;
                    return Ok(read);
                }
                packet.verify(spec)?;
                read += packet.data().len() as u64;
            }
            self.input.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                bail!("the datanode closed the connection");
            }
        }
    }
}

/// Reads a whole file.
pub(crate) async fn read(server: &str, user: &str, path: &str) -> anyhow::Result<(u64, Duration)> {
    let mut namenode = Connection::open(server, user, 0).await?;
    let start = Instant::now();
    let file = namenode.locations(path).await?;
    let mut read = 0;
    for block in &file.blocks {
        let node = block.locs.first().with_context(|| format!("no replica of a block of {path}"))?;
        let length = block.b.num_bytes();
        let of_block = Reader::open(node).await?.read(block, 0, length).await?;
        ensure!(of_block >= length, "{of_block} bytes of a block of {length} came");
        read += length;
    }
    ensure!(read == file.file_length, "{read} bytes of {} came", file.file_length);
    Ok((read, start.elapsed()))
}

/// Reads pages anywhere in the first block of a file on `connections` connections at a time.
pub(crate) async fn pread(
    server: &str,
    user: &str,
    path: &str,
    connections: u64,
    seconds: u64,
) -> anyhow::Result<Calls> {
    let file = Connection::open(server, user, 0).await?.locations(path).await?;
    let block = Arc::new(file.blocks.into_iter().next().with_context(|| format!("{path} is empty"))?);
    let limit = Duration::from_secs(seconds);
    let tasks: Vec<_> = (1..=connections)
        .map(|number| {
            let block = Arc::clone(&block);
            tokio::spawn(async move {
                let node = block.locs.first().context("no replica")?;
                let mut reader = Reader::open(node).await?;
                let pages = (block.b.num_bytes() / PAGE).max(1);
                let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number);
                let (start, mut times) = (Instant::now(), Vec::new());
                while start.elapsed() < limit {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let at = Instant::now();
                    reader.read(&block, state % pages * PAGE, PAGE).await?;
                    times.push(at.elapsed());
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    Ok(Calls::new(times, limit))
}

/// What a file is like that is written.
pub(crate) struct NewFile {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) block_size: u64,
    pub(crate) replication: u32,
}

/// Writes a file, to its close.
pub(crate) async fn write(server: &str, user: &str, new: &NewFile) -> anyhow::Result<(u64, Duration)> {
    let mut namenode = Connection::open(server, user, 1).await?;
    let data: Vec<u8> = (0..PACKET_BYTES).map(|index| (index / 7 * 31 % 251) as u8).collect();
    let mut body = Vec::new();
    ChecksumSpec::DEFAULT.append_checksums(&data, &mut body);
    let checksums = body.len();
    body.extend_from_slice(&data);
    let body = Bytes::from(body);
    let start = Instant::now();
    namenode.create_with(&new.path, new.replication, new.block_size).await?;
    let (mut previous, mut left) = (None, new.bytes);
    while left > 0 {
        let length = left.min(new.block_size);
        let block = namenode.add_block(&new.path, previous.take()).await?;
        ensure!(block.locs.len() as u32 == new.replication, "a pipeline of {} datanodes", block.locs.len());
        write_block(&block, &namenode.holder()?, length, checksums, &body).await?;
        let mut written = block.b.clone();
        written.num_bytes = Some(length);
        previous = Some(written);
        left -= length;
    }
    for _ in 0..COMPLETE_TRIES {
        if namenode.complete_with(&new.path, previous.clone()).await? {
            return Ok((new.bytes, start.elapsed()));
        }
        tokio::time::sleep(COMPLETE_PAUSE).await;
    }
    bail!("{} was not complete in time", new.path)
}

fn write_request(block: &LocatedBlockProto, holder: &str) -> OpWriteBlockProto {
    OpWriteBlockProto {
        header: header(block, holder),
        targets: block.locs[1..].to_vec(),
        stage: BlockConstructionStage::PipelineSetupCreate as i32,
        pipeline_size: block.locs.len() as u32,
        min_bytes_rcvd: 0,
        max_bytes_rcvd: 0,
        latest_generation_stamp: block.b.generation_stamp,
        requested_checksum: ChecksumProto {
            r#type: ChecksumSpec::DEFAULT.kind as i32,
            bytes_per_checksum: ChecksumSpec::DEFAULT.bytes_per_checksum,
        },
        storage_type: Some(StorageTypeProto::Disk as i32),
        target_storage_types: block.storage_types.iter().skip(1).copied().collect(),
        storage_id: block.storage_i_ds.first().cloned(),
        target_storage_ids: block.storage_i_ds.iter().skip(1).cloned().collect(),
        ..Default::default()
    }
}

/// Sends a block of `length` bytes; every packet has the same content, `checksums` bytes of which are its checksums.
async fn write_block(
    block: &LocatedBlockProto,
    holder: &str,
    length: u64,
    checksums: usize,
    body: &Bytes,
) -> anyhow::Result<()> {
    let first = block.locs.first().context("a block without datanodes")?;
    let mut stream = dial(first).await?;
    let mut out = BytesMut::new();
    encode_op(OpCode::WriteBlock, &write_request(block, holder), &mut out);
    stream.write_all(&out).await?;
    let mut input = BytesMut::new();
    response(&mut input, &mut stream).await?;
    let (acks, mut packets) = stream.into_split();
    let window = Arc::new(Semaphore::new(WINDOW));
    let ends = length.div_ceil(PACKET_BYTES as u64);
    let acked = tokio::spawn(take_acks(acks, input, ends as i64, Arc::clone(&window)));
    let data = body.slice(checksums..);
    for seqno in 0..ends {
        window.acquire().await?.forget();
        let offset = seqno * PACKET_BYTES as u64;
        let size = (length - offset).min(PACKET_BYTES as u64) as usize;
        if size < PACKET_BYTES {
            let mut sums = Vec::new();
            ChecksumSpec::DEFAULT.append_checksums(&data[..size], &mut sums);
            let header = packet(offset, seqno, size, false);
            packets.write_all(Packet::build(header, &sums, &data[..size]).frame()).await?;
            continue;
        }
        let head = packet(offset, seqno, size, false).head(checksums);
        packets.write_all_buf(&mut Buf::chain(head.as_slice(), body.clone())).await?;
    }
    packets.write_all(packet(length, ends, 0, true).head(0).as_slice()).await?;
    acked.await?
}

const fn packet(offset: u64, seqno: u64, size: usize, last: bool) -> PacketHeader {
    PacketHeader { offset, seqno: seqno as i64, last, data_len: size as u32, sync: false }
}

/// Takes acks until that of packet `last`.
async fn take_acks(
    mut stream: OwnedReadHalf,
    mut input: BytesMut,
    last: i64,
    window: Arc<Semaphore>,
) -> anyhow::Result<()> {
    loop {
        while let Some(ack) = PipelineAck::decode(&mut input)? {
            ensure!(ack.is_success(), "a pipeline says {ack:?}");
            window.add_permits(1);
            if ack.seqno == last {
                return Ok(());
            }
        }
        ensure!(stream.read_buf(&mut input).await? > 0, "the datanode closed the connection");
    }
}
