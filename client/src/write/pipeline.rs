//! The connection to the first datanode of a pipeline: packets out, acks in.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use steadfs_common::{ChecksumSpec, GenStamp};
use steadfs_proto::hadoop::StorageTypeProto;
use steadfs_wire::transfer::{Op, PacketHeader, PipelineAck, Stage, Token, TransferBlock, WriteBlock, room};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::window::{Failure, Packet};
use crate::Replica;
use crate::client::Inner;
use crate::data::{DataConnection, DataError, block_ref, peer};

/// Acks and failures that wait for the streamer.
const MAX_EVENTS: usize = 64;
/// How much longer each datanode of a pipeline may take to answer (HDFS: 5 s).
const LONGER_PER_NODE: Duration = Duration::from_secs(5);
/// No storage type of the block is known to the client: any will do.
const ANY_STORAGE: i32 = StorageTypeProto::Disk as i32;

/// What comes back from a pipeline.
pub(crate) enum Event {
    Ack(PipelineAck),
    /// Nothing comes any more.
    Broken(String),
}

/// An open pipeline. Its tasks end when it is dropped.
pub(crate) struct Pipeline {
    packets: Sender<Arc<Packet>>,
    events: Receiver<Event>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

/// How to open a pipeline.
pub(crate) struct Setup {
    pub(crate) stage: Stage,
    pub(crate) block: steadfs_common::BlockId,
    /// The stamp that the replicas have.
    pub(crate) stamp: GenStamp,
    /// The stamp that they shall have.
    pub(crate) new_stamp: GenStamp,
    /// The block's length as the stage wants it.
    pub(crate) length: u64,
    pub(crate) min_bytes: u64,
    pub(crate) max_bytes: u64,
    pub(crate) checksum: ChecksumSpec,
}

impl Pipeline {
    /// Connects `nodes`. A failure blames the one that could not be reached.
    pub(crate) async fn open(inner: &Inner, nodes: &[Replica], setup: &Setup) -> Result<Self, Failure> {
        let connection = match connect(inner, nodes, setup).await {
            Ok(connection) => connection,
            Err(error) => return Err(Failure::of(blamed(&error, nodes), error.to_string())),
        };
        let (stream, arrived) = connection.into_parts();
        let (read, write) = stream.into_split();
        let limit = silence(inner, nodes);
        // Room for every packet of the window, so that handing one over never waits.
        let (packets, to_send) = mpsc::channel(inner.options.packets_in_flight.max(1) + 1);
        let (send_events, events) = mpsc::channel(MAX_EVENTS);
        let sender =
            tokio::spawn(send_packets(write, to_send, send_events.clone(), inner.options.data_timeout / 2));
        let receiver = tokio::spawn(receive_acks(read, arrived, send_events, limit));
        let tasks = [AbortOnDropHandle::new(sender), AbortOnDropHandle::new(receiver)];
        Ok(Self { packets, events, _tasks: tasks })
    }

    /// Hands a packet over. If the pipeline is broken, its event says so.
    pub(crate) async fn send(&self, packet: Arc<Packet>) {
        // The window is no larger than the channel, so this does not wait.
        let _ = self.packets.send(packet).await;
    }

    pub(crate) async fn event(&mut self) -> Event {
        self.events.recv().await.unwrap_or_else(|| Event::Broken("the connection was given up".into()))
    }
}

fn silence(inner: &Inner, nodes: &[Replica]) -> Duration {
    inner.options.data_timeout + LONGER_PER_NODE * nodes.len() as u32
}

/// Which of `nodes` an error of the first one's speaks of.
fn blamed(error: &DataError, nodes: &[Replica]) -> usize {
    let DataError::Refused { bad_link, .. } = error else { return 0 };
    nodes
        .iter()
        .position(|node| node.address.to_string() == *bad_link || peer(node).name() == *bad_link)
        .unwrap_or(0)
}

async fn connect(inner: &Inner, nodes: &[Replica], setup: &Setup) -> Result<DataConnection, DataError> {
    let Some((first, rest)) = nodes.split_first() else {
        return Err(DataError::protocol("a pipeline without datanodes"));
    };
    let op = Op::Write(Box::new(WriteBlock {
        block: block_ref(&inner.defaults.block_pool, setup.block, setup.stamp, setup.length),
        token: Token::default(),
        client: inner.name.clone(),
        targets: rest.iter().map(peer).collect(),
        source: None,
        stage: setup.stage,
        pipeline_size: nodes.len() as u32,
        min_bytes: setup.min_bytes,
        max_bytes: setup.max_bytes,
        latest_stamp: setup.new_stamp,
        checksum: setup.checksum,
        storage_id: Some(first.storage.clone()),
        storage_type: ANY_STORAGE,
        target_storage_ids: rest.iter().map(|node| node.storage.clone()).collect(),
        target_storage_types: vec![ANY_STORAGE; rest.len()],
    }));
    let limit = silence(inner, nodes);
    let mut connection = DataConnection::open(first.address, inner.options.connect_timeout, limit).await?;
    connection.ask(&op).await?;
    Ok(connection)
}

/// Asks `source` to copy what it has of a block to `target`.
pub(crate) async fn transfer(
    inner: &Inner,
    block: (steadfs_common::BlockId, GenStamp, u64),
    source: &Replica,
    target: &Replica,
) -> Result<(), DataError> {
    let (id, stamp, length) = block;
    let op = Op::Transfer(Box::new(TransferBlock {
        block: block_ref(&inner.defaults.block_pool, id, stamp, length),
        token: Token::default(),
        client: inner.name.clone(),
        targets: vec![peer(target)],
        target_storage_ids: vec![target.storage.clone()],
        target_storage_types: vec![ANY_STORAGE],
    }));
    let options = &inner.options;
    // It answers once all is copied.
    let limit = options.data_timeout * 5;
    let mut connection = DataConnection::open(source.address, options.connect_timeout, limit).await?;
    connection.ask(&op).await?;
    Ok(())
}

async fn send_packets(
    mut write: OwnedWriteHalf,
    mut packets: Receiver<Arc<Packet>>,
    events: Sender<Event>,
    heartbeat: Duration,
) {
    loop {
        let sent = match timeout(heartbeat, packets.recv()).await {
            Ok(Some(packet)) => send(&mut write, &packet).await,
            // The streamer has all its acks, or gave up.
            Ok(None) => return,
            Err(_) => write.write_all(PacketHeader::heartbeat().head(0).as_slice()).await,
        };
        if let Err(error) = sent {
            let _ = events.send(Event::Broken(error.to_string())).await;
            return;
        }
    }
}

/// One gathering write of the head, the checksums and the data: nothing is copied.
async fn send(write: &mut OwnedWriteHalf, packet: &Packet) -> io::Result<()> {
    let head = packet.header.head(packet.checksums.len());
    let mut all = Buf::chain(head.as_slice(), packet.checksums.clone()).chain(packet.data.clone());
    write.write_all_buf(&mut all).await
}

async fn receive_acks(mut read: OwnedReadHalf, mut buffer: BytesMut, events: Sender<Event>, limit: Duration) {
    let broken = loop {
        match PipelineAck::decode(&mut buffer) {
            Ok(Some(ack)) => {
                if events.send(Event::Ack(ack)).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => break error.to_string(),
        }
        buffer.reserve(room(0).min(4 << 10));
        match timeout(limit, read.read_buf(&mut buffer)).await {
            Ok(Ok(0)) => break "the datanode closed the connection".to_owned(),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => break error.to_string(),
            Err(_) => break format!("no ack within {} s", limit.as_secs()),
        }
    };
    let _ = events.send(Event::Broken(broken)).await;
}
