//! A datanode's files.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use steadfs_common::{BlockId, ChecksumSpec, GenStamp, StorageType};
use steadfs_datanode_store::{Block, CreateOptions, NoListener, Store, StoreOptions, VolumeConfig};

use super::Run;

const BYTES: usize = 1 << 20;
const PACKET_BYTES: usize = 64 << 10;
const STAMP: GenStamp = GenStamp(1_001);

struct Writing {
    store: Arc<Store>,
    data: Vec<u8>,
    sums: Vec<u8>,
}

impl Writing {
    fn new(folder: &Path) -> Self {
        let volume = VolumeConfig { path: folder.join("volume"), kind: StorageType::Disk, reserved: 0 };
        let store =
            Store::open(StoreOptions::new(vec![volume]), Arc::new(NoListener)).expect("an empty folder");
        let cluster = steadfs_datanode_store::Cluster {
            cluster_id: "bench".into(),
            block_pool: steadfs_common::BlockPoolId("BP-1".into()),
        };
        store.join(&cluster).expect("a first cluster");
        let data: Vec<u8> = (0..PACKET_BYTES).map(|index| (index / 7 * 31 % 251) as u8).collect();
        let mut sums = Vec::new();
        ChecksumSpec::DEFAULT.append_checksums(&data, &mut sums);
        Self { store, data, sums }
    }

    fn replica(&self, number: u64) -> Block {
        let block = Block { id: BlockId(number), stamp: STAMP, len: BYTES as u64 };
        let options = CreateOptions { block, storage: None, spec: ChecksumSpec::DEFAULT };
        let writer = self.store.create_rbw(options).expect("a disk with room");
        for at in (0..BYTES).step_by(PACKET_BYTES) {
            writer.write(at as u64, &self.data, &self.sums).expect("a disk that works");
        }
        writer.finalize().expect("a disk that works")
    }
}

pub(super) fn write(folder: &Path) -> Run {
    let (writing, mut number) = (Writing::new(folder), 1 << 30);
    Box::new(move || {
        number += 1;
        let block = writing.replica(number);
        assert_eq!(block.len, BYTES as u64);
        writing.store.delete(block.id, block.stamp).expect("a replica that is there");
    })
}

pub(super) fn verify(folder: &Path) -> Run {
    let writing = Writing::new(folder);
    let block = writing.replica(1 << 30);
    Box::new(move || {
        let reader = writing.store.open_for_read(block.id, block.stamp).expect("a replica that is there");
        reader.verify(0, BYTES as u64).expect("bytes as they were written");
        black_box(&reader);
    })
}
