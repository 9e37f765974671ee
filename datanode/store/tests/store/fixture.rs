//! A store in a temporary folder, and packets for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use steadfs_common::{BlockId, ChecksumKind, ChecksumSpec, GenStamp, StorageId};
use steadfs_datanode_store::{
    Block, ChangeKind, CreateOptions, Faults, Listener, ReplicaChange, ReplicaReader, ReplicaWriter, Store,
    StoreOptions, StoreResult, VolumeConfig,
};
use tempfile::TempDir;

pub const ID: BlockId = BlockId(1_073_741_825);
pub const G1: GenStamp = GenStamp(1_001);
pub const G2: GenStamp = GenStamp(1_002);
pub const G3: GenStamp = GenStamp(1_003);
pub const SPEC: ChecksumSpec = ChecksumSpec::DEFAULT;

/// Remembers what it was told.
#[derive(Default)]
pub struct Heard {
    pub changes: Mutex<Vec<(ChangeKind, Block)>>,
    pub bad: Mutex<Vec<Block>>,
    pub failed: Mutex<Vec<StorageId>>,
}

impl Listener for Heard {
    fn changed(&self, change: ReplicaChange) {
        self.changes.lock().push((change.kind, change.block));
    }
    fn bad_replica(&self, _storage: StorageId, block: Block) {
        self.bad.lock().push(block);
    }
    fn volume_failed(&self, storage: StorageId, _why: &str) {
        self.failed.lock().push(storage);
    }
}

pub struct Fixture {
    pub dir: TempDir,
    pub volumes: usize,
    pub heard: Arc<Heard>,
    pub faults: Option<Arc<dyn Faults>>,
    pub check_timeout: Duration,
    store: Option<Arc<Store>>,
}

impl Fixture {
    pub fn new(volumes: usize) -> Self {
        Self::with_faults(volumes, None)
    }

    pub fn with_faults(volumes: usize, faults: Option<Arc<dyn Faults>>) -> Self {
        Self::on(memory_dir(), volumes, faults)
    }

    /// On a disk: what lies in memory may have no attributes.
    pub fn on_disk() -> Self {
        Self::on(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), 1, None)
    }

    fn on(dir: TempDir, volumes: usize, faults: Option<Arc<dyn Faults>>) -> Self {
        let mut fixture = Self {
            dir,
            volumes,
            heard: Arc::default(),
            faults,
            check_timeout: steadfs_datanode_store::CHECK_TIMEOUT,
            store: None,
        };
        fixture.open();
        fixture
    }

    pub fn options(&self) -> StoreOptions {
        let volume = |index| VolumeConfig {
            path: self.root(index),
            kind: steadfs_common::StorageType::Disk,
            reserved: 0,
        };
        StoreOptions {
            faults: self.faults.clone(),
            check_timeout: self.check_timeout,
            ..StoreOptions::new((0..self.volumes).map(volume).collect())
        }
    }

    pub fn root(&self, volume: usize) -> PathBuf {
        self.dir.path().join(format!("volume{volume}"))
    }

    pub fn open(&mut self) {
        self.store = Some(Store::open(self.options(), self.heard.clone()).unwrap());
    }

    /// Ends the store and opens it again.
    pub fn restart(&mut self) {
        self.close();
        self.open();
    }

    pub fn close(&mut self) {
        let store = self.store.take().unwrap();
        assert_eq!(Arc::strong_count(&store), 1);
    }

    pub fn store(&self) -> &Arc<Store> {
        self.store.as_ref().unwrap()
    }

    /// The path of a file of a replica, wherever it lies.
    pub fn file(&self, name: &str) -> PathBuf {
        self.find(name).unwrap_or_else(|| panic!("no file {name}"))
    }

    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let mut folders = vec![self.dir.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.file_name().unwrap() == name {
                    return Some(path);
                }
            }
        }
        None
    }

    /// A finalized replica of `len` bytes.
    pub fn finalized(&self, id: BlockId, stamp: GenStamp, len: usize) -> Vec<u8> {
        let writer = self.store().create_rbw(create(id, stamp)).unwrap();
        let data = bytes(id.0, len);
        write(&writer, 0, &data).unwrap();
        writer.finalize().unwrap();
        data
    }
}

/// A temporary folder in memory if there is room: syncs cost nothing there, and these tests make thousands.
pub fn memory_dir() -> TempDir {
    const ROOM: u64 = 1 << 30;
    let shm = "/dev/shm";
    match rustix::fs::statvfs(shm) {
        Ok(stat) if stat.f_bavail * stat.f_frsize > ROOM => tempfile::tempdir_in(shm).unwrap(),
        _ => tempfile::tempdir().unwrap(),
    }
}

pub fn block(id: BlockId, stamp: GenStamp, len: u64) -> Block {
    Block { id, stamp, len }
}

pub fn create(id: BlockId, stamp: GenStamp) -> CreateOptions {
    CreateOptions { block: block(id, stamp, 1 << 20), storage: None, spec: SPEC }
}

/// Bytes that differ everywhere and from seed to seed.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// The checksums of a packet at `offset`: the first covers the bytes up to the next chunk boundary.
pub fn sums(kind: ChecksumKind, chunk: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    let spec = ChecksumSpec { kind, bytes_per_checksum: chunk };
    let first = (u64::from(chunk) - offset % u64::from(chunk)).min(data.len() as u64) as usize;
    let mut sums = Vec::new();
    spec.append_checksums(&data[..first], &mut sums);
    spec.append_checksums(&data[first..], &mut sums);
    sums
}

/// Writes a packet with checksums of the usual kind.
pub fn write(writer: &ReplicaWriter, offset: u64, data: &[u8]) -> StoreResult<u64> {
    writer.write(offset, data, &sums(SPEC.kind, SPEC.bytes_per_checksum, offset, data))
}

/// Reads a range with its checksums, as a reader of a datanode does, and checks it.
pub fn read(reader: &ReplicaReader, start: u64, end: u64) -> Vec<u8> {
    let spec = reader.spec();
    let from = start - start % u64::from(spec.bytes_per_checksum);
    let to = reader.covered_end(end);
    let mut data = vec![0; (to - from) as usize];
    reader.read_data(from, &mut data).unwrap();
    let mut sums = Vec::new();
    reader.read_checksums(from, to, &mut sums).unwrap();
    assert_eq!(spec.verify(&data, &sums), Ok(()), "checksums of {from}..{to}");
    data[(start - from) as usize..(end - from) as usize].to_vec()
}

pub fn read_all(store: &Arc<Store>, id: BlockId, stamp: GenStamp) -> Vec<u8> {
    let reader = store.open_for_read(id, stamp).unwrap();
    read(&reader, 0, reader.block().len)
}
