//! Volumes that earlier releases left.

use std::path::Path;
use std::sync::Arc;

use steadfs_datanode_store::{NoListener, Store, StoreError, StoreOptions, VolumeConfig};

use crate::fixture::*;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => assert!(std::fs::copy(&path, target).is_ok()),
        }
    }
}

fn open(root: &Path) -> Result<Arc<Store>, StoreError> {
    let volume = VolumeConfig { path: root.to_owned(), kind: steadfs_common::StorageType::Disk, reserved: 0 };
    Store::open(StoreOptions::new(vec![volume]), Arc::new(NoListener))
}

#[test]
fn volumes_of_every_layout_are_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let keep = tempfile::tempdir().unwrap();
    let layouts = std::fs::read_dir(golden).unwrap().map(|item| item.unwrap().path());
    for layout in layouts.filter(|path| path.is_dir()) {
        let root = keep.path().join(layout.file_name().unwrap());
        copy(&layout, &root);
        let store = open(&root).unwrap();
        let identity = store.identity();
        assert_eq!(identity.uuid.to_string(), "bdd18e62-0fc9-4152-a169-32ce466d0fa7");
        let cluster = identity.cluster.unwrap();
        assert_eq!(cluster.cluster_id, "SFS-a93b2954-a99a-4ece-8c77-1b239bbb7d43");
        let written: Vec<u8> = (0..100_000).map(|at| ((at * 7 + at / 256) % 251) as u8).collect();
        assert_eq!(read_all(&store, ID, G1), written);
        let storage = store.volumes()[0].storage;
        assert!(store.scan_progress(storage).unwrap().done);
        drop(store);
        // Opened again it is what this release writes; one of a release to come is refused, and says what to start.
        drop(open(&root).unwrap());
        let file = root.join("steadfs-volume");
        let text = std::fs::read_to_string(&file).unwrap().replace("layout = 1\n", "layout = 99\n");
        std::fs::write(&file, text).unwrap();
        let refused = open(&root).err().unwrap().to_string();
        assert!(refused.contains("99") && refused.contains("start the version"), "{refused}");
    }
}
