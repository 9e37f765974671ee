//! A file being written, as our client does it: packets and acks, a pipeline that is mended, blocks one after another.

use std::collections::VecDeque;
use std::time::Duration;

use steadfs_common::{
    BlockId, BlockPoolId, ChecksumSpec, FsError, FsErrorKind, FsPath, FsResult, GenStamp, InodeId,
};
use steadfs_namenode_core::Command;
use steadfs_namenode_core::command::FileRef;
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::namespace_server::Namespace as _;
use steadfs_wire::transfer::{BlockRef, Packet, PacketHeader, PipelineAck, Stage, Status, Token, WriteBlock};

use crate::client::Client;
use crate::datanode::number_of;
use crate::pipeline::{self, Back, Upstream, peer};
use crate::world::{by_user, plain, user};

const SPEC: ChecksumSpec = ChecksumSpec::DEFAULT;
/// Bytes of a full packet.
const PACKET: usize = 2_048;
/// Packets under way.
const WINDOW: usize = 6;
/// Without an ack for so long, the first datanode is to blame.
const SILENCE: Duration = Duration::from_secs(26);
/// How often a pipeline is mended without any progress.
const RETRIES: u32 = 5;
/// How long replicas may take to be reported.
const REPLICAS_WAIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// Hadoop's number of the storage type DISK.
const DISK: i32 = 1;

/// Whom to blame, and why.
type Failure = (usize, String);

struct Open {
    id: u64,
    stamp: u64,
    nodes: Vec<pb::Location>,
    /// Where `pending` begins.
    start: u64,
    pending: Vec<u8>,
    /// Bytes at the front of `pending` that a flush has sent.
    flushed: usize,
    unacked: VecDeque<Packet>,
    acked: u64,
    sent: u64,
    connection: Option<Upstream>,
    noted: bool,
    /// So many bytes are on the disks of the pipeline's datanodes.
    synced: u64,
    noted_synced: bool,
    closing: bool,
    failures: u32,
}

impl Open {
    fn block(&self) -> pb::Block {
        pb::Block { id: self.id, stamp: self.stamp, length: self.acked }
    }

    fn limit(&self) -> usize {
        let chunk = u64::from(SPEC.bytes_per_checksum);
        let inside = self.start % chunk;
        let wanted = if inside == 0 { PACKET as u64 } else { chunk - inside };
        wanted.min(Writer::BLOCK - self.start) as usize
    }

    fn room(&self) -> usize {
        (Writer::BLOCK - self.start) as usize - self.pending.len()
    }

    /// The next packet of `length` bytes; `kept` of them stay to be sent again.
    fn cut(&mut self, length: usize, kept: usize, seqno: i64, sync: bool) -> Packet {
        let data: Vec<u8> = self.pending[..length].to_vec();
        let mut sums = Vec::new();
        if self.start.is_multiple_of(u64::from(SPEC.bytes_per_checksum)) {
            SPEC.append_checksums(&data, &mut sums);
        } else {
            sums.extend_from_slice(&SPEC.kind.of(&data).to_be_bytes());
        }
        let header = PacketHeader { offset: self.start, seqno, last: false, data_len: 0, sync };
        self.sent = self.sent.max(self.start + length as u64);
        self.start += (length - kept) as u64;
        self.pending.drain(..length - kept);
        self.flushed = kept;
        Packet::build(header, &sums, &data)
    }
}

/// A file being written.
pub struct Writer<'a> {
    client: &'a Client,
    path: String,
    inode: u64,
    replication: usize,
    block: Option<Open>,
    previous: Option<pb::Block>,
    excluded: Vec<String>,
    relied_on: bool,
    seqno: i64,
}

fn failed(why: impl Into<String>) -> FsError {
    FsError::new(FsErrorKind::Io, why.into())
}

impl<'a> Writer<'a> {
    /// Bytes of a block.
    const BLOCK: u64 = 8 << 10;

    /// Writes to an open file.
    #[must_use]
    pub fn new(client: &'a Client, path: &str, inode: u64, replication: usize) -> Self {
        Self {
            client,
            path: path.to_owned(),
            inode,
            replication,
            block: None,
            previous: None,
            excluded: Vec::new(),
            relied_on: false,
            seqno: 0,
        }
    }

    fn opened(located: &pb::LocatedBlock, length: u64) -> FsResult<Open> {
        let block = located.block.ok_or_else(|| failed("an answer without a block"))?;
        Ok(Open {
            id: block.id,
            stamp: block.stamp,
            nodes: located.locations.clone(),
            start: length,
            pending: Vec::new(),
            flushed: 0,
            unacked: VecDeque::new(),
            acked: length,
            sent: length,
            connection: None,
            noted: false,
            synced: length,
            noted_synced: false,
            closing: false,
            failures: 0,
        })
    }

    /// Goes on in the last block of a file that is appended to.
    ///
    /// # Errors
    /// It cannot be gone on.
    pub async fn reopen(&mut self, last: &pb::LocatedBlock) -> FsResult<()> {
        let length = last.block.map(|block| block.length).unwrap_or_default();
        self.relied_on = true;
        let mut open = Self::opened(last, length)?;
        (open.noted, open.noted_synced) = (true, true);
        self.block = Some(open);
        self.mend(None, Stage::SetupAppend).await
    }

    /// Writes bytes. They are promised to nobody yet.
    ///
    /// # Errors
    /// The file cannot be written any more.
    pub async fn write(&mut self, bytes: Vec<u8>) -> FsResult<()> {
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            self.ensure_block().await?;
            let Some(open) = &mut self.block else { continue };
            let (now, rest) = bytes.split_at(open.room().min(bytes.len()));
            open.pending.extend_from_slice(now);
            bytes = rest;
            let is_full = open.room() == 0;
            while let Some(open) = &mut self.block {
                let limit = open.limit();
                if limit == 0 || open.pending.len() < limit || open.pending.len() <= open.flushed {
                    break;
                }
                self.seqno += 1;
                let packet = open.cut(limit, 0, self.seqno, false);
                self.send(packet).await?;
            }
            if is_full {
                self.finish_block().await?;
            }
        }
        Ok(())
    }

    /// Everything written is on the disks of all datanodes of the pipeline: it is promised.
    ///
    /// # Errors
    /// The file cannot be written any more.
    pub async fn sync(&mut self) -> FsResult<()> {
        self.hand_on(true).await
    }

    /// Everything written is in the memory of all datanodes of the pipeline: it is promised as long as the power does not fail.
    ///
    /// # Errors
    /// The file cannot be written any more.
    pub async fn push(&mut self) -> FsResult<()> {
        self.hand_on(false).await
    }

    async fn hand_on(&mut self, sync: bool) -> FsResult<()> {
        if self.block.is_none() {
            return Ok(());
        }
        if !self.flush(sync).await? && sync {
            self.send_empty(false).await?;
        }
        self.pump(0).await?;
        self.relied_on = true;
        let Some(open) = &mut self.block else { return Ok(()) };
        if sync {
            open.synced = open.acked;
        }
        if !open.noted || sync && !open.noted_synced && !self.client.is_stock() {
            open.noted = true;
            open.noted_synced |= sync;
            let length = open.acked;
            self.note(length, sync).await?;
        }
        Ok(())
    }

    /// Tells the namenode how many bytes of the last block are relied on.
    async fn note(&self, length: u64, sync: bool) -> FsResult<()> {
        if self.client.is_stock() {
            // It says the length with the first of a block, and not whether that is synced.
            let command = Command::Fsync {
                file: FileRef { path: FsPath::parse(&self.path)?, inode: Some(InodeId(self.inode)) },
                client: self.client.name.clone(),
                last_block_length: Some(length),
                synced: None,
            };
            return self
                .client
                .call("fsync", command, async |namenode, command| {
                    namenode.service().submit(&user(), None, command).await.map(|_| ())
                })
                .await;
        }
        let request = pb::FsyncRequest {
            path: self.path.clone(),
            inode: self.inode,
            client: self.client.name.clone(),
            last_block_length: length,
            flushed_only: !sync,
        };
        self.client
            .call("fsync", request, async |namenode, request| {
                plain(namenode.namespace().fsync(by_user(request)).await)
            })
            .await
            .map(|_| ())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// It is not known whether it is closed.
    pub async fn close(mut self) -> FsResult<()> {
        self.finish_block().await?;
        let deadline = self.client.world.exec.now() + REPLICAS_WAIT;
        loop {
            let request = pb::CompleteRequest {
                path: self.path.clone(),
                inode: self.inode,
                client: self.client.name.clone(),
                last: self.previous,
                ..Default::default()
            };
            let done = self
                .client
                .call("complete", request, async |namenode, request| {
                    plain(namenode.namespace().complete(by_user(request)).await)
                })
                .await?;
            if done.done {
                return Ok(());
            }
            self.client.world.exec.sleep(LOOK_AGAIN).await;
            if self.client.world.exec.now() > deadline {
                return Err(failed("the last block does not have enough number of replicas"));
            }
        }
    }

    /// Sends what is pending; false if there is nothing.
    async fn flush(&mut self, sync: bool) -> FsResult<bool> {
        let Some(open) = &mut self.block else { return Ok(false) };
        let length = open.pending.len();
        if length == open.flushed {
            return Ok(false);
        }
        let chunk = SPEC.bytes_per_checksum as usize;
        let kept = if open.start.is_multiple_of(chunk as u64) { length % chunk } else { length };
        self.seqno += 1;
        let packet = open.cut(length, kept, self.seqno, sync);
        self.send(packet).await?;
        Ok(true)
    }

    async fn send_empty(&mut self, last: bool) -> FsResult<()> {
        let Some(open) = &mut self.block else { return Ok(()) };
        open.closing = last;
        self.seqno += 1;
        let header = PacketHeader { offset: open.sent, seqno: self.seqno, last, data_len: 0, sync: true };
        self.send(Packet::build(header, &[], &[])).await
    }

    async fn send(&mut self, packet: Packet) -> FsResult<()> {
        let closing = packet.header().last;
        if !closing {
            self.pump(WINDOW).await?;
        }
        let Some(open) = &mut self.block else { return Ok(()) };
        open.unacked.push_back(packet.clone());
        if let Some(connection) = &open.connection {
            connection.send(packet);
        }
        Ok(())
    }

    async fn finish_block(&mut self) -> FsResult<()> {
        if self.block.is_none() {
            return Ok(());
        }
        self.flush(false).await?;
        // All bytes first: a datanode that fails while others have finished is then only left out.
        self.pump(0).await?;
        self.send_empty(true).await?;
        self.pump(0).await?;
        if let Some(open) = self.block.take() {
            self.previous = Some(open.block());
        }
        Ok(())
    }

    /// Waits until no more than `left` packets are under way.
    async fn pump(&mut self, left: usize) -> FsResult<()> {
        while self.block.as_ref().is_some_and(|open| open.unacked.len() > left) {
            let Some(open) = &mut self.block else { return Ok(()) };
            let event = match &mut open.connection {
                Some(connection) => self.client.world.exec.timeout(SILENCE, connection.receive()).await,
                None => None,
            };
            let failure = match event {
                Some(Some(Back::Ack(ack))) => match open.ack(&ack) {
                    Ok(()) => continue,
                    Err(failure) => failure,
                },
                other => (0, format!("the connection broke: {other:?}")),
            };
            let stage = if open.closing { Stage::CloseRecovery } else { Stage::SetupStreamingRecovery };
            self.mend(Some(failure), stage).await?;
        }
        Ok(())
    }

    /// Mends the pipeline until it stands, or nothing is left to try.
    async fn mend(&mut self, mut failure: Option<Failure>, stage: Stage) -> FsResult<()> {
        let mut first = true;
        loop {
            let Some(open) = &mut self.block else { return Ok(()) };
            open.connection = None;
            if let Some((bad, why)) = &failure {
                open.failures += 1;
                self.client.world.note(|| format!("c{} mends {}: {bad} {why}", self.client.number, open.id));
                if open.nodes.len() <= 1 || open.failures > RETRIES {
                    return Err(failed(format!("all datanodes are bad: {why}")));
                }
                let bad = open.nodes.remove((*bad).min(open.nodes.len() - 1));
                self.excluded.push(bad.datanode.unwrap_or_default().uuid);
                self.replace().await?;
            }
            let stage = match stage {
                Stage::SetupAppend if !first => Stage::SetupAppendRecovery,
                stage => stage,
            };
            first = false;
            match self.set_up(stage).await? {
                Ok(()) => return Ok(()),
                Err(next) => failure = Some(next),
            }
        }
    }

    /// One attempt with the datanodes that are left.
    async fn set_up(&mut self, stage: Stage) -> FsResult<Result<(), Failure>> {
        let client = self.client;
        let Some(open) = &self.block else { return Ok(Ok(())) };
        let old = open.block();
        let request = pb::NewStampRequest { block: Some(old), client: client.name.clone() };
        let answer = client
            .call("new stamp", request, async |namenode, request| {
                plain(namenode.namespace().new_stamp(by_user(request)).await)
            })
            .await?;
        let stamp = answer
            .block
            .and_then(|located| located.block)
            .ok_or_else(|| failed("an answer without a block"))?
            .stamp;
        let connection = match self.connect(stage, stamp).await {
            Ok(connection) => connection,
            Err(failure) => return Ok(Err(failure)),
        };
        let Some(open) = &mut self.block else { return Ok(Ok(())) };
        let request = pb::UpdatePipelineRequest {
            client: client.name.clone(),
            old: Some(old),
            new: Some(pb::Block { stamp, ..old }),
            storage_ids: open.nodes.iter().map(|node| node.storage_id.clone()).collect(),
            key: client.key(),
            // A stock client says nothing of it.
            synced_length: (!client.is_stock()).then_some(open.synced),
        };
        client
            .call("update pipeline", request, async |namenode, request| {
                plain(namenode.namespace().update_pipeline(by_user(request)).await)
            })
            .await?;
        open.stamp = stamp;
        open.noted_synced = open.synced == open.acked || client.is_stock();
        if stage == Stage::CloseRecovery {
            // The datanodes have finished the block; no packets follow.
            open.unacked.clear();
            return Ok(Ok(()));
        }
        open.unacked.iter().for_each(|packet| connection.send(packet.clone()));
        open.connection = Some(connection);
        Ok(Ok(()))
    }

    async fn connect(&self, stage: Stage, new_stamp: u64) -> Result<Upstream, Failure> {
        let Some(open) = &self.block else { return Err((0, "no block".into())) };
        let Some((first, rest)) = open.nodes.split_first() else { return Err((0, "no datanodes".into())) };
        let length = if stage == Stage::SetupCreate { Self::BLOCK } else { open.acked };
        let recovers = !matches!(stage, Stage::SetupCreate);
        let request = WriteBlock {
            block: BlockRef {
                pool: BlockPoolId(String::new()),
                id: BlockId(open.id),
                stamp: GenStamp(open.stamp),
                length,
            },
            token: Token::default(),
            client: self.client.name.clone(),
            targets: rest.iter().map(peer).collect(),
            source: None,
            stage,
            pipeline_size: open.nodes.len() as u32,
            min_bytes: if recovers { open.acked } else { 0 },
            max_bytes: if recovers { open.sent } else { 0 },
            latest_stamp: GenStamp(new_stamp),
            checksum: SPEC,
            storage_id: Some(first.storage_id.clone()),
            storage_type: DISK,
            target_storage_ids: rest.iter().map(|node| node.storage_id.clone()).collect(),
            target_storage_types: vec![DISK; rest.len()],
        };
        let world = &self.client.world;
        let ips: Vec<String> = open.nodes.iter().map(|node| peer(node).ip).collect();
        let Some(number) = number_of(&ips[0]) else { return Err((0, "no such datanode".into())) };
        let mut connection = pipeline::open(world, self.client.place(), number, request);
        match world.exec.timeout(SILENCE, connection.receive()).await {
            Some(Some(Back::Begun(Ok(())))) => Ok(connection),
            Some(Some(Back::Begun(Err((link, why))))) => {
                Err((ips.iter().position(|ip| *ip == link).unwrap_or(0), why))
            }
            other => Err((0, format!("no answer: {other:?}"))),
        }
    }

    async fn ensure_block(&mut self) -> FsResult<()> {
        let mut tries = 0;
        while self.block.is_none() {
            let located = self.allocate().await?;
            self.block = Some(Self::opened(&located, 0)?);
            match self.connect(Stage::SetupCreate, 0).await {
                Ok(connection) => {
                    if let Some(open) = &mut self.block {
                        open.connection = Some(connection);
                    }
                }
                Err((bad, why)) => {
                    let Some(open) = self.block.take() else { continue };
                    self.client
                        .world
                        .note(|| format!("c{} gives {} back: {why}", self.client.number, open.id));
                    if let Some(node) = open.nodes.get(bad) {
                        self.excluded.push(node.datanode.clone().unwrap_or_default().uuid);
                    }
                    self.abandon(open.block()).await?;
                    tries += 1;
                    if tries > 3 {
                        return Err(failed(format!("no pipeline could be set up: {why}")));
                    }
                }
            }
        }
        Ok(())
    }

    async fn allocate(&mut self) -> FsResult<pb::LocatedBlock> {
        let deadline = self.client.world.exec.now() + REPLICAS_WAIT;
        loop {
            let request = pb::AddBlockRequest {
                path: self.path.clone(),
                inode: self.inode,
                client: self.client.name.clone(),
                previous: self.previous,
                excluded: self.excluded.clone(),
            };
            let answer = self
                .client
                .call("add block", request, async |namenode, request| {
                    plain(namenode.namespace().add_block(by_user(request)).await)
                })
                .await;
            match answer {
                Ok(answer) => return answer.block.ok_or_else(|| failed("an answer without a block")),
                Err(error)
                    if error.kind() == FsErrorKind::NotReplicatedYet
                        && self.client.world.exec.now() < deadline =>
                {
                    self.client.world.exec.sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn abandon(&self, block: pb::Block) -> FsResult<()> {
        let request = pb::AbandonBlockRequest {
            path: self.path.clone(),
            inode: self.inode,
            client: self.client.name.clone(),
            block: Some(block),
        };
        self.client
            .call("abandon", request, async |namenode, request| {
                plain(namenode.namespace().abandon_block(by_user(request)).await)
            })
            .await
            .map(|_| ())
    }

    /// Brings in a datanode for one that failed, as HDFS's usual policy wants it.
    async fn replace(&mut self) -> FsResult<()> {
        let Some(open) = &self.block else { return Ok(()) };
        let left = open.nodes.len();
        let wanted = !open.closing
            && self.replication >= 3
            && left < self.replication
            && (left <= self.replication / 2 || self.relied_on);
        if !wanted {
            return Ok(());
        }
        let request = pb::AdditionalDatanodeRequest {
            path: self.path.clone(),
            inode: self.inode,
            client: self.client.name.clone(),
            block: Some(open.block()),
            existing_storages: open.nodes.iter().map(|node| node.storage_id.clone()).collect(),
            excluded: self.excluded.clone(),
        };
        let offered = self
            .client
            .call("additional datanode", request, async |namenode, request| {
                plain(namenode.namespace().additional_datanode(by_user(request)).await)
            })
            .await;
        let Ok(pb::AdditionalDatanodeResponse { block: Some(offered) }) = offered else { return Ok(()) };
        let Some(open) = &self.block else { return Ok(()) };
        let is_new =
            |location: &pb::Location| open.nodes.iter().all(|node| peer(node).uuid != peer(location).uuid);
        let Some(successor) = offered.locations.into_iter().find(is_new) else { return Ok(()) };
        for source in open.nodes.clone() {
            let block = open.block();
            if pipeline::transfer(&self.client.world, self.client.place(), &source, block, &successor)
                .await
                .is_ok()
            {
                if let Some(open) = &mut self.block {
                    open.nodes.push(successor);
                }
                return Ok(());
            }
        }
        self.excluded.push(peer(&successor).uuid);
        Ok(())
    }
}

impl Open {
    fn ack(&mut self, ack: &PipelineAck) -> Result<(), Failure> {
        if let Some(bad) = ack.replies.iter().rposition(|status| *status != Status::Success) {
            return Err((bad, format!("a packet was answered with {:?}", ack.replies[bad])));
        }
        match self.unacked.front() {
            Some(packet) if packet.header().seqno == ack.seqno => {
                let header = *packet.header();
                self.acked = self.acked.max(header.end());
                self.failures = 0;
                self.unacked.pop_front();
                Ok(())
            }
            _ => Err((0, format!("an ack of packet {}, which is not the next one", ack.seqno))),
        }
    }
}
