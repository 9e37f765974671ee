//! Blocks on their way: to datanodes from clients and from other datanodes.

use std::rc::Rc;
use std::time::Duration;

use futures::FutureExt as _;
use steadfs_common::{BlockId, BlockPoolId, FsError, FsErrorKind, FsResult, GenStamp};
use steadfs_datanode::inline::{InlineOpened, InlineReceiver};
use steadfs_proto::steadfs as pb;
use steadfs_wire::transfer::{BlockRef, Packet, PacketHeader, Peer, PipelineAck, Stage, Token, WriteBlock};

use crate::datanode::{Running, ends, number_of, read_block};
use crate::net::{End, Place};
use crate::reader::verified;
use crate::world::Shared;

/// How long a node of a pipeline waits for those behind it, for each of them and one more.
const SILENCE: Duration = Duration::from_secs(6);
/// A sender must have sent something within this.
const SENDER_SILENCE: Duration = Duration::from_secs(30);
/// Bytes of a packet of a copy.
const COPY_PACKET: usize = 2_048;
/// Hadoop's number of the storage type DISK.
const DISK: i32 = 1;

/// What comes back on a connection that a block goes out on.
#[derive(Clone, Debug)]
pub enum Back {
    /// The pipeline stands, or whom to blame (an address; empty for the node itself) and why.
    Begun(Result<(), (String, String)>),
    /// A packet was taken, or not.
    Ack(PipelineAck),
    /// A copy is on its disk, or not.
    Done(Result<(), String>),
}

/// The end of a connection at a writer.
pub type Upstream = End<Packet, Back>;
type Serving = End<Back, Packet>;

/// Opens a connection for a block.
pub fn open(world: &Shared, from: Place, to: usize, request: WriteBlock) -> Upstream {
    let there = world.clone();
    world.net.connect(from, Place::Datanode(to), move |end: Serving| {
        let Some(running) = there.datanodes[to].borrow().running.clone() else { return };
        let life = running.life;
        let world = there.clone();
        there.exec.spawn(life, async move { serve(&world, &running, end, request).await });
    })
}

/// The datanode that a peer is.
#[must_use]
pub fn peer(location: &pb::Location) -> Peer {
    let address = location.datanode.clone().unwrap_or_default();
    Peer {
        uuid: address.uuid,
        ip: address.ip,
        host_name: address.host_name,
        data_port: 9866,
        ipc_port: 9867,
        http_port: 0,
        rack: location.rack.clone(),
    }
}

async fn serve(world: &Shared, me: &Rc<Running>, up: Serving, request: WriteBlock) {
    // As long as it takes to hand it to a disk thread.
    world.exec.sleep(world.random.span(Duration::ZERO, Duration::from_millis(3))).await;
    let opened = InlineReceiver::open(me.core.borrow().store(), &request);
    world.note(|| {
        let text = match &opened {
            Ok(_) => String::new(),
            Err(error) => format!(" refused: {error}"),
        };
        format!("dn{} {:?} {}{text}", me.number, request.stage, request.block)
    });
    if ends(world, me) {
        return;
    }
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            up.send(Back::Begun(Err((String::new(), error.to_string()))));
            up.send(Back::Done(Err(error.to_string())));
            return;
        }
    };
    let mut down = None;
    if let Some((next, request)) = request.for_next() {
        match connect_next(world, me, &next, request).await {
            Ok(connection) => down = Some(connection),
            Err(blame) => {
                if let InlineOpened::Receiver(receiver) = opened {
                    receiver.abandon(me.core.borrow().store());
                }
                up.send(Back::Begun(Err(blame)));
                return;
            }
        }
    }
    up.send(Back::Begun(Ok(())));
    let InlineOpened::Receiver(receiver) = opened else { return };
    receive(world, me, up, down, *receiver, request.targets.len()).await;
    me.core.borrow().store().settle();
}

async fn connect_next(
    world: &Shared,
    me: &Rc<Running>,
    next: &Peer,
    request: WriteBlock,
) -> Result<Upstream, (String, String)> {
    let blame = |why: String| (next.ip.clone(), why);
    let number = number_of(&next.ip).filter(|number| *number < world.datanodes.len());
    let Some(number) = number else { return Err(blame("no such datanode".into())) };
    let limit = SILENCE * (request.targets.len() as u32 + 1);
    let mut connection = open(world, me.place(), number, request);
    match world.exec.timeout(limit, connection.receive()).await {
        Some(Some(Back::Begun(Ok(())))) => Ok(connection),
        Some(Some(Back::Begun(Err((link, why))))) if !link.is_empty() => Err((link, why)),
        Some(Some(Back::Begun(Err((_, why))))) => Err(blame(why)),
        other => Err(blame(format!("no answer: {other:?}"))),
    }
}

enum Happened {
    Packet(Option<Packet>),
    Below(Option<Back>),
    Silence,
}

async fn next_event(
    world: &Shared,
    up: &mut Serving,
    down: &mut Option<Upstream>,
    limit: Duration,
) -> Happened {
    let below = async {
        match down {
            Some(down) => down.receive().await,
            None => std::future::pending().await,
        }
    };
    let (mut packet, mut below) = (Box::pin(up.receive().fuse()), Box::pin(below.fuse()));
    let mut silence = Box::pin(world.exec.sleep(limit).fuse());
    futures::select_biased! {
        back = below => Happened::Below(back),
        packet = packet => Happened::Packet(packet),
        () = silence => Happened::Silence,
    }
}

async fn receive(
    world: &Shared,
    me: &Rc<Running>,
    mut up: Serving,
    mut down: Option<Upstream>,
    mut receiver: InlineReceiver,
    depth: usize,
) {
    let mut awaited: u32 = 0;
    loop {
        let limit = if awaited > 0 { SILENCE * depth as u32 } else { SENDER_SILENCE };
        match next_event(world, &mut up, &mut down, limit).await {
            Happened::Packet(Some(packet)) => match receiver.packet(packet.clone()) {
                Ok(true) => {
                    if let Some(down) = &down {
                        down.send(packet);
                        awaited += 1;
                    }
                }
                Ok(false) => {}
                Err(why) => {
                    world.note(|| format!("dn{} ends a pipeline: {why}", me.number));
                    return;
                }
            },
            // The writer has gone.
            Happened::Packet(None) => return,
            Happened::Below(Some(Back::Ack(ack))) => {
                awaited = awaited.saturating_sub(1);
                if receiver.downstream_ack(ack).is_err() {
                    (down, awaited) = (None, 0);
                    receiver.downstream_failed();
                }
            }
            Happened::Below(Some(Back::Begun(_) | Back::Done(_))) => {}
            Happened::Below(None) => {
                (down, awaited) = (None, 0);
                receiver.downstream_failed();
            }
            Happened::Silence if awaited > 0 => {
                (down, awaited) = (None, 0);
                receiver.downstream_failed();
            }
            Happened::Silence => return,
        }
        // The disk takes a moment, and may fail in it.
        if world.random.chance(20) {
            world.exec.sleep(world.random.span(Duration::ZERO, Duration::from_millis(20))).await;
        }
        receiver.write();
        if ends(world, me) {
            return;
        }
        for ack in receiver.acks() {
            up.send(Back::Ack(ack));
        }
        if receiver.is_over() {
            if receiver.answers_at_end() {
                up.send(Back::Done(receiver.outcome()));
            }
            return;
        }
    }
}

/// Follows an order to copy a finalized replica to other datanodes.
///
/// Says whether all went well.
pub async fn replicate(world: &Shared, me: &Rc<Running>, order: &pb::Transfer) -> bool {
    let block = order.block.unwrap_or_default();
    let mut good = true;
    for target in &order.targets {
        let result = copy(world, me, block, target, true).await;
        good &= result.is_ok();
        world.note(|| {
            let to = target.datanode.as_ref().map(|address| address.ip.clone()).unwrap_or_default();
            format!("dn{} copies {block:?} to {to}: {result:?}", me.number)
        });
    }
    good
}

/// Copies what readers may see of a replica to another datanode. With `finalized`, nothing else than that.
///
/// # Errors
/// What failed.
pub async fn copy(
    world: &Shared,
    me: &Rc<Running>,
    block: pb::Block,
    target: &pb::Location,
    finalized: bool,
) -> FsResult<()> {
    let (id, stamp) = (BlockId(block.id), GenStamp(block.stamp));
    let read = read_block(&me.core.borrow(), id, stamp)?;
    if verified(&read).is_err()
        && let Ok(reader) = me.core.borrow().store().open_for_read(id, stamp)
    {
        reader.suspect();
    }
    let refused = |why: String| FsError::new(FsErrorKind::Io, why);
    if finalized && (!read.finalized || read.stamp != stamp) {
        return Err(refused("it is not finalized here".into()));
    }
    if read.length < block.length && !finalized {
        return Err(refused(format!("{} bytes are fewer than {}", read.length, block.length)));
    }
    let stage = if read.finalized { Stage::TransferFinalized } else { Stage::TransferRbw };
    let request = WriteBlock {
        block: BlockRef { pool: BlockPoolId(String::new()), id, stamp: read.stamp, length: read.length },
        token: Token::default(),
        client: format!("copy by dn{}", me.number),
        targets: Vec::new(),
        source: None,
        stage,
        pipeline_size: 1,
        min_bytes: 0,
        max_bytes: 0,
        latest_stamp: GenStamp(0),
        checksum: read.spec,
        storage_id: Some(target.storage_id.clone()),
        storage_type: DISK,
        target_storage_ids: Vec::new(),
        target_storage_types: Vec::new(),
    };
    let number = number_of(&peer(target).ip).filter(|number| *number < world.datanodes.len());
    let number = number.ok_or_else(|| refused("no such datanode".into()))?;
    let mut connection = open(world, me.place(), number, request);
    for packet in packets(&read)? {
        connection.send(packet);
    }
    loop {
        match world.exec.timeout(SENDER_SILENCE, connection.receive()).await {
            Some(Some(Back::Done(result))) => return result.map_err(refused),
            Some(Some(Back::Begun(Ok(())) | Back::Ack(_))) => {}
            other => return Err(refused(format!("{other:?}"))),
        }
    }
}

fn packets(read: &crate::datanode::ReadBlock) -> FsResult<Vec<Packet>> {
    let (chunk, size) = (read.spec.bytes_per_checksum as usize, read.spec.kind.size());
    let length = read.length as usize;
    let mut packets = Vec::new();
    let (mut seqno, mut at) = (0, 0);
    let header = |seqno, offset: usize, last| PacketHeader {
        offset: offset as u64,
        seqno,
        last,
        data_len: 0,
        sync: last,
    };
    let bad = |_| FsError::new(FsErrorKind::Checksum, "the replica's last chunk does not match its checksum");
    while at < length {
        let end = (at + COPY_PACKET).min(length);
        let mut sums = read.sums[at / chunk * size..end / chunk * size].to_vec();
        if !end.is_multiple_of(chunk) {
            // Where readers may see less than a checksum covers, its beginning is summed anew once it was compared.
            let from = end - end % chunk;
            read.spec.verify(&read.data[from..], &read.sums[from / chunk * size..]).map_err(bad)?;
            read.spec.append_checksums(&read.data[from..end], &mut sums);
        }
        packets.push(Packet::build(header(seqno, at, false), &sums, &read.data[at..end]));
        (seqno, at) = (seqno + 1, end);
    }
    packets.push(Packet::build(header(seqno, length, true), &[], &[]));
    Ok(packets)
}

/// Has a datanode copy what readers may see of a replica to another, for a client.
///
/// # Errors
/// What failed.
pub async fn transfer(
    world: &Shared,
    from: Place,
    source: &pb::Location,
    block: pb::Block,
    target: &pb::Location,
) -> FsResult<()> {
    let refused = |why: String| FsError::new(FsErrorKind::Io, why);
    let number = number_of(&peer(source).ip).filter(|number| *number < world.datanodes.len());
    let number = number.ok_or_else(|| refused("no such datanode".into()))?;
    let (there, target) = (world.clone(), target.clone());
    let accept = move |end: Serving| {
        let Some(running) = there.datanodes[number].borrow().running.clone() else { return };
        let (life, world) = (running.life, there.clone());
        there.exec.spawn(life, async move {
            let copied = copy(&world, &running, block, &target, false).await;
            end.send(Back::Done(copied.map_err(|error| error.to_string())));
        });
    };
    let mut connection: Upstream = world.net.connect(from, Place::Datanode(number), accept);
    match world.exec.timeout(SENDER_SILENCE * 2, connection.receive()).await {
        Some(Some(Back::Done(result))) => result.map_err(refused),
        other => Err(refused(format!("{other:?}"))),
    }
}
