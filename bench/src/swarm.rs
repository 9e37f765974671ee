//! Many datanodes that are none: they register, send heartbeats and report replicas of made-up blocks (`steadfs admin
//! synth`), and do nothing that they are told. The namenode that hears them believes in replicas that nobody has.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::datanode_link_client::DatanodeLinkClient;
use tonic::transport::Channel;

use crate::report::Calls;

/// Replicas in one slice, as a datanode has them.
const SLICE: usize = 4_096;
const HEARTBEAT: Duration = Duration::from_secs(3);
/// Reports at a time: datanodes that start together wait for their turns.
const REPORTS_AT_A_TIME: usize = 8;
/// Connections that all datanodes share.
const CHANNELS: usize = 64;
const DATA_PORT: u32 = 9_866;
const CAPACITY: u64 = 10 << 40;

#[derive(clap::Args, Clone)]
pub(crate) struct SwarmArgs {
    /// The namenode's host:port
    #[arg(long)]
    address: String,
    #[arg(long, default_value_t = 1_000)]
    nodes: u64,
    /// As `steadfs admin synth` told
    #[arg(long)]
    first_block: u64,
    /// The id after the last
    #[arg(long)]
    end_block: u64,
    #[arg(long)]
    stamp: u64,
    #[arg(long, default_value_t = 1 << 20)]
    block_bytes: u64,
    /// Replicas of each block, each on another datanode
    #[arg(long, default_value_t = 1)]
    replication: u64,
    /// Goes on with heartbeats for so long once all is reported
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The namenode's process, to tell what processor time the reports took
    #[arg(long)]
    pid: Option<u32>,
}

/// One that is none.
#[derive(Clone)]
struct Node {
    number: u64,
    uuid: String,
    storage: String,
    plan: Arc<SwarmArgs>,
}

impl Node {
    fn new(number: u64, plan: &Arc<SwarmArgs>) -> Self {
        let tail = format!("{:012x}", number + 1);
        Self {
            number,
            uuid: format!("5eed0000-0000-4000-8000-{tail}"),
            storage: format!("DS-5eed0000-0000-4000-9000-{tail}"),
            plan: Arc::clone(plan),
        }
    }

    fn address(&self) -> pb::DatanodeAddress {
        let ip = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + self.number as u32);
        pb::DatanodeAddress {
            uuid: self.uuid.clone(),
            ip: ip.to_string(),
            host_name: format!("made-up-{}", self.number),
            data_port: DATA_PORT,
            ipc_port: DATA_PORT + 1,
            http_port: 0,
        }
    }

    fn volume(&self) -> pb::StorageReport {
        let used = self.count() * self.plan.block_bytes;
        pb::StorageReport {
            storage_id: self.storage.clone(),
            capacity: CAPACITY,
            used,
            remaining: CAPACITY.saturating_sub(used),
            blocks: self.count(),
            ..Default::default()
        }
    }

    /// What is left over when its blocks are counted from the first and divided by the number of datanodes, in order: one
    /// for each replica of a block, so far apart that no block is twice on a datanode.
    fn residues(&self) -> Vec<u64> {
        let (nodes, replication) = (self.plan.nodes, self.plan.replication);
        let apart = (nodes / replication).max(1);
        let mut residues: Vec<u64> =
            (0..replication).map(|copy| (self.number + nodes - (copy * apart) % nodes) % nodes).collect();
        residues.sort_unstable();
        residues
    }

    fn count(&self) -> u64 {
        (self.plan.end_block - self.plan.first_block) * self.plan.replication / self.plan.nodes
    }

    fn blocks(&self) -> impl Iterator<Item = u64> + use<> {
        let (first, end, nodes) = (self.plan.first_block, self.plan.end_block, self.plan.nodes);
        let residues = self.residues();
        (first..end)
            .step_by(nodes as usize)
            .flat_map(move |row| residues.clone().into_iter().map(move |residue| row + residue))
            .take_while(move |id| *id < end)
    }

    /// All its replicas, in slices, and an empty one that ends them.
    fn report(&self) -> impl Iterator<Item = pb::BlockReportSlice> + use<> {
        let (mut blocks, node, mut ended) = (self.blocks(), self.clone(), false);
        let head = pb::BlockReportSlice {
            uuid: self.uuid.clone(),
            session: 1,
            report_id: 1,
            storage_id: self.storage.clone(),
            ..Default::default()
        };
        std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let replicas: Vec<pb::Replica> = blocks.by_ref().take(SLICE).map(|id| node.replica(id)).collect();
            ended = replicas.is_empty();
            Some(pb::BlockReportSlice { replicas, storage_done: ended, ..head.clone() })
        })
    }

    fn replica(&self, id: u64) -> pb::Replica {
        let block = pb::Block { id, stamp: self.plan.stamp, length: self.plan.block_bytes };
        pb::Replica { block: Some(block), state: pb::ReplicaState::Finalized as i32 }
    }

    async fn register(&self, link: &mut DatanodeLinkClient<Channel>) -> anyhow::Result<()> {
        let request = pb::RegisterRequest {
            address: Some(self.address()),
            version: "made-up".into(),
            rack: format!("/rack-{}", self.number % 20),
            storages: vec![self.volume()],
            session: 1,
            ..Default::default()
        };
        link.register(request).await.context("registering")?;
        Ok(())
    }

    async fn beat(&self, link: &mut DatanodeLinkClient<Channel>) -> anyhow::Result<Duration> {
        let request = pb::HeartbeatRequest {
            uuid: self.uuid.clone(),
            session: 1,
            storages: vec![self.volume()],
            address: Some(self.address()),
            ..Default::default()
        };
        let begun = Instant::now();
        link.heartbeat(request).await.context("a heartbeat")?;
        Ok(begun.elapsed())
    }
}

/// Seconds of processor time of a process so far.
fn processor_seconds(pid: Option<u32>) -> anyhow::Result<f64> {
    let Some(pid) = pid else { return Ok(0.0) };
    let mut nanos = 0_u64;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"));
        // A thread may have ended meanwhile.
        nanos += text.ok().and_then(|text| text.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(nanos as f64 / 1e9)
}

/// Registers all, has all report, and goes on with heartbeats.
pub(crate) async fn run(plan: SwarmArgs) -> anyhow::Result<Value> {
    anyhow::ensure!(
        plan.nodes >= plan.replication && plan.replication > 0 && plan.end_block >= plan.first_block,
        "at least as many datanodes as replicas, and an end behind the first block"
    );
    let mut channels = Vec::new();
    for _ in 0..CHANNELS.min(plan.nodes as usize) {
        channels.push(Channel::from_shared(format!("http://{}", plan.address))?.connect().await?);
    }
    let plan = Arc::new(plan);
    let nodes: Vec<(Node, DatanodeLinkClient<Channel>)> = (0..plan.nodes)
        .map(|number| {
            let channel = channels[number as usize % channels.len()].clone();
            (Node::new(number, &plan), DatanodeLinkClient::new(channel))
        })
        .collect();

    let begun = Instant::now();
    for (node, link) in &nodes {
        node.register(&mut link.clone()).await?;
    }
    let registered = begun.elapsed();

    let (ended, late) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let beats: Vec<_> = nodes
        .iter()
        .map(|(node, link)| {
            let (node, mut link, ended, late) =
                (node.clone(), link.clone(), Arc::clone(&ended), Arc::clone(&late));
            tokio::spawn(async move {
                // Spread over the time between two.
                tokio::time::sleep(HEARTBEAT.mul_f64(node.number as f64 / node.plan.nodes as f64)).await;
                let mut times = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    let took = node.beat(&mut link).await?;
                    late.fetch_add(u64::from(took > HEARTBEAT), Ordering::Relaxed);
                    times.push(took);
                    tokio::time::sleep(HEARTBEAT.saturating_sub(took)).await;
                }
                anyhow::Ok(times)
            })
        })
        .collect();

    let (begun, before) = (Instant::now(), processor_seconds(plan.pid)?);
    let replicas = AtomicU64::new(0);
    stream::iter(&nodes)
        .map(|(node, link)| {
            let (mut link, replicas) = (link.clone(), &replicas);
            async move {
                replicas.fetch_add(node.blocks().count() as u64, Ordering::Relaxed);
                link.block_report(stream::iter(node.report())).await.context("a block report")
            }
        })
        .buffer_unordered(REPORTS_AT_A_TIME)
        .try_collect::<Vec<_>>()
        .await?;
    let (reported, used) = (begun.elapsed(), processor_seconds(plan.pid)? - before);

    tokio::time::sleep(Duration::from_secs(plan.seconds)).await;
    ended.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for beat in beats {
        times.extend(beat.await??);
    }
    Ok(json!({
        "nodes": plan.nodes,
        "replicas": replicas.load(Ordering::Relaxed),
        "registered_s": registered.as_secs_f64(),
        "reported_s": reported.as_secs_f64(),
        "namenode_cpu_s": used,
        "heartbeats": Calls::new(times, begun.elapsed()).json(),
        "heartbeats_late": late.load(Ordering::Relaxed),
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_block_is_on_as_many_datanodes_as_it_should_be() {
        for (nodes, replication) in [(1, 1), (3, 3), (7, 3), (10, 2)] {
            let plan = Arc::new(SwarmArgs {
                address: String::new(),
                nodes,
                first_block: 100,
                end_block: 155,
                stamp: 1,
                block_bytes: 1,
                replication,
                seconds: 0,
                pid: None,
            });
            let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
            for number in 0..nodes {
                let blocks: Vec<u64> = Node::new(number, &plan).blocks().collect();
                assert!(blocks.is_sorted() && blocks.windows(2).all(|pair| pair[0] != pair[1]));
                blocks.into_iter().for_each(|id| *seen.entry(id).or_default() += 1);
            }
            assert_eq!(
                seen.into_iter().collect::<Vec<_>>(),
                (100..155).map(|id| (id, replication)).collect::<Vec<_>>()
            );
        }
    }
}
