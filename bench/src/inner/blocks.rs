//! Replicas and datanodes as the namenode knows them.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use smallvec::smallvec;
use steadfs_common::{
    BlockId, DatanodeUuid, FIRST_BLOCK_ID, GenStamp, InodeId, Millis, StorageId, StorageType,
};
use steadfs_namenode_core::blocks::{
    Address, BlockMap, BlockSettings, Facts, Registration, Replica, ReplicaState, ReportPart,
    SafeModeSettings, VolumeReport,
};
use steadfs_namenode_core::command::BlockRef;
use steadfs_namenode_core::placement::{Machine, PlacementRequest, Topology, Volume};
use steadfs_namenode_core::record::{Block, BlockState};

use super::Run;

const NODES: u32 = 100;
const RACKS: u32 = 5;
const REPLICAS: u64 = 10_000;
const LENGTH: u64 = 1 << 20;
const STAMP: GenStamp = GenStamp(1_001);
const NOW: Millis = Millis(1_700_000_000_000);

fn uuid(node: u32) -> DatanodeUuid {
    format!("00000000-0000-0000-0000-{node:012}").parse().expect("a uuid")
}

fn storage(node: u32) -> StorageId {
    format!("DS-00000000-0000-0000-0001-{node:012}").parse().expect("a storage id")
}

fn ip(node: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + node).into()
}

pub(super) fn place(_: &Path) -> Run {
    let machine = |node| Machine {
        uuid: uuid(node),
        ip: ip(node),
        host: format!("host-{node}"),
        port: 9866,
        rack: format!("/rack-{}", node % RACKS).into(),
        node: String::new(),
        live: true,
        open: true,
        stale: false,
        slow: false,
        volumes: smallvec![Volume { id: storage(node), kind: StorageType::Disk, free: 1 << 40, promised: 0 }],
    };
    let topology = Topology::new((0..NODES).map(machine).collect());
    Box::new(move || {
        for seed in 0..100 {
            let request = PlacementRequest {
                wanted: 3,
                least: 1,
                writer: Some(ip(seed as u32 % NODES)),
                existing: &[],
                excluded: &[],
                favored: &[],
                avoid_local: false,
                block_size: 128 << 20,
                policy: 0,
                seed,
            };
            assert_eq!(black_box(topology.choose(&request)).len(), 3);
        }
    })
}

fn settings() -> BlockSettings {
    BlockSettings {
        min_replication: 1,
        default_replication: 3,
        min_maintenance_replication: 1,
        stale_after: Duration::from_secs(30),
        heartbeat: Duration::from_secs(3),
        dead_after: Duration::from_secs(600),
        max_transfers_per_node: 4,
        streams_per_node: 2,
        max_incoming_per_node: 100,
        light_copies: 0,
        copy_bandwidth: 0,
        avoid_slow: true,
        transfer_timeout: Duration::from_secs(300),
        completion_grace: Duration::from_secs(5),
        recovery_retry: Duration::from_secs(30),
        flushed_wait: Duration::from_secs(600),
        safe_mode: SafeModeSettings { threshold: 0.999, min_datanodes: 0, extension: Duration::ZERO },
    }
}

fn register(map: &mut BlockMap, node: u32) {
    let volume = VolumeReport {
        id: storage(node),
        kind: StorageType::Disk,
        failed: false,
        capacity: 1 << 40,
        used: 0,
        remaining: 1 << 40,
    };
    let address =
        Address { ip: ip(node), host: format!("host-{node}"), data_port: 9866, ipc_port: 9867, http_port: 0 };
    let registration = Registration {
        uuid: uuid(node),
        session: 1,
        address,
        version: "1".into(),
        rack: String::new(),
        node: String::new(),
        volumes: vec![volume],
    };
    map.register(registration, NOW).expect("a datanode that is let in");
}

fn block(number: u64) -> Block {
    Block {
        id: BlockId(FIRST_BLOCK_ID.0 + number),
        stamp: STAMP,
        length: LENGTH,
        replication: 3,
        inode: InodeId(20_000 + number),
        index: 0,
        references: 1,
        state: BlockState::Complete,
    }
}

/// Datanodes that each report all blocks.
fn reported(nodes: u32) -> (BlockMap, Vec<Block>, Vec<Replica>) {
    let mut map = BlockMap::new(settings());
    let blocks: Vec<Block> = (0..REPLICAS).map(block).collect();
    let replicas: Vec<Replica> = blocks
        .iter()
        .map(|block| Replica {
            block: BlockRef { id: block.id, stamp: STAMP, length: LENGTH },
            state: ReplicaState::Finalized,
        })
        .collect();
    for node in 0..nodes {
        register(&mut map, node);
        report_of(&mut map, node, 1, &blocks, &replicas);
    }
    (map, blocks, replicas)
}

fn report_of(map: &mut BlockMap, node: u32, number: u64, blocks: &[Block], replicas: &[Replica]) {
    let facts = Facts { version: map.version(), blocks, next_block: BlockId(FIRST_BLOCK_ID.0 + REPLICAS) };
    let who = (uuid(node), 1);
    let part = ReportPart { report: number, storage: storage(node), knows: None };
    let again = map.report(who, part, replicas, Some(&facts), NOW).expect("a report");
    assert!(again.is_empty(), "facts that are new enough");
    let all = BlockId(u64::MAX - 1);
    let done = map.compare(who, part, replicas, all, usize::MAX, NOW).expect("a report");
    assert!(done, "no bound on what is looked at");
    map.storage_reported(who, part, NOW).expect("a report");
}

pub(super) fn report(_: &Path) -> Run {
    let (mut map, blocks, replicas) = reported(3);
    let mut number = 1;
    Box::new(move || {
        number += 1;
        report_of(&mut map, 0, number, &blocks, &replicas);
    })
}

pub(super) fn locate(_: &Path) -> Run {
    let (map, blocks, _) = reported(3);
    Box::new(move || {
        for (seed, block) in blocks.iter().take(1_000).enumerate() {
            assert_eq!(black_box(map.locate(block, Some(ip(1)), seed as u64)).storages.len(), 3);
        }
    })
}
