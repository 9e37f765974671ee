//! What a datanode stores: one file of a good volume is other bytes. The first byte says which.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use steadfs_common::{BlockId, ChecksumKind, ChecksumSpec, GenStamp, StorageType};
use steadfs_datanode_store::{
    Block, CreateOptions, NoListener, Store, StoreOptions, StoreResult, VolumeConfig,
};

use crate::memory;

const ID: BlockId = BlockId(1_073_741_825);
const STAMP: GenStamp = GenStamp(1_001);

/// A volume with a finalized replica and one that was being written.
struct Good {
    _keep: tempfile::TempDir,
    folder: PathBuf,
}

fn options(folder: &Path) -> StoreOptions {
    StoreOptions::new(vec![VolumeConfig { path: folder.to_owned(), kind: StorageType::Disk, reserved: 0 }])
}

fn open(folder: &Path) -> StoreResult<Arc<Store>> {
    Store::open(options(folder), Arc::new(NoListener))
}

fn keep() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary folder can be made")
}

fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        let keep = keep();
        let folder = keep.path().join("volume");
        let store = open(&folder).expect("a new volume can be made");
        let data = [7; 1_300];
        let sums: Vec<u8> =
            data.chunks(512).flat_map(|chunk| ChecksumKind::Crc32c.of(chunk).to_be_bytes()).collect();
        for number in 0..2 {
            let block = Block { id: BlockId(ID.0 + number), stamp: STAMP, len: 4_096 };
            let writer = store
                .create_rbw(CreateOptions { block, storage: None, spec: ChecksumSpec::DEFAULT })
                .expect("a replica can be made");
            writer.write(0, &data, &sums).expect("a replica can be written");
            if number == 0 {
                writer.finalize().expect("a replica can be finalized");
            }
        }
        drop(store);
        Good { _keep: keep, folder }
    })
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for item in std::fs::read_dir(from).expect("a folder can be listed").flatten() {
        let target = to.join(item.file_name());
        if item.path().is_dir() {
            copy(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).expect("a file can be copied");
        }
    }
}

/// The bytes with the last line that says their checksum.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut text = bytes.to_vec();
    text.extend(format!("check = {:08x}\n", ChecksumKind::Crc32c.of(bytes)).into_bytes());
    text
}

/// Opens a volume of which one file is these bytes, and reads all that is there.
pub fn run(bytes: &[u8]) {
    let Some((&which, rest)) = bytes.split_first() else { return };
    let keep = keep();
    let folder = keep.path().join("volume");
    copy(&good().folder, &folder);
    memory::limit(memory::SERVER_BYTES);
    let finalized = folder.join("finalized/subdir0/subdir0");
    let (path, bytes) = match which % 10 {
        0 => (folder.join("steadfs-volume"), rest.to_vec()),
        1 => (folder.join("steadfs-volume"), sealed(rest)),
        2 => (folder.join("heard"), rest.to_vec()),
        3 => (folder.join("heard"), sealed(rest)),
        4 => (folder.join("scan"), sealed(rest)),
        5 => (finalized.join(format!("blk_{}_{}.meta", ID.0, STAMP.0)), rest.to_vec()),
        6 => (folder.join(format!("rbw/blk_{}_{}.meta", ID.0 + 1, STAMP.0)), rest.to_vec()),
        7 => (finalized.join(format!("blk_{}", ID.0)), rest.to_vec()),
        8 => (finalized.join(format!("blk_{}_{}.bad", ID.0, STAMP.0)), rest.to_vec()),
        _ => {
            let name = String::from_utf8_lossy(rest).replace(['/', '\0'], "_");
            if name.is_empty() || name == "." || name == ".." || name.len() > 200 {
                return;
            }
            (finalized.join(name), b"bytes".to_vec())
        }
    };
    std::fs::write(path, bytes).expect("a file can be written");
    let Ok(store) = open(&folder) else { return };
    let _ = store.heard();
    for status in store.statuses() {
        let _ = store.scan_progress(status.storage);
    }
    for number in 0..2 {
        let id = BlockId(ID.0 + number);
        let _ = store.visible_length(id, STAMP);
        let Ok(reader) = store.open_for_read(id, STAMP) else { continue };
        let mut sums = Vec::new();
        let _ = reader.read_checksums(0, 512, &mut sums);
    }
}
