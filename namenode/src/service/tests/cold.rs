//! What is read from the disk before a command is queued, so that the commit thread does not wait for it.

use steadfs_namenode_core::View as _;

use super::*;
use crate::store::MemoryOnly;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_with_a_name_is_at_hand_when_that_is_planned() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path()).await;
    let mut files = Vec::new();
    for name in ["/deleted", "/overwritten", "/replaced", "/let-go"] {
        let inode = bench.create(name, "c").await;
        let file = FileRef { path: path(name), inode: Some(inode) };
        files.push((inode, bench.add_block(&file, "c").await.block.id));
    }
    bench.create("/new", "c").await;
    let mut overwrite = create("/overwritten", "d");
    if let Command::Create { overwrite, .. } = &mut overwrite {
        *overwrite = true;
    }
    let rename = Command::Rename {
        from: path("/new"),
        to: path("/replaced"),
        mode: RenameMode::Overwrite,
        to_trash: false,
    };
    let delete = Command::Delete { path: path("/deleted"), recursive: false };
    let commands = [delete, overwrite, rename, Command::LetGo { files: vec![files[3].0] }];
    for (command, (file, block)) in commands.into_iter().zip(files) {
        // Nothing is in memory after a start.
        bench = Bench::start(bench.stop().await).await.unwrap();
        let is_at_hand = |bench: &Bench| {
            let view = bench.service.store.view();
            let memory = MemoryOnly::new(&view);
            let there = memory.lease(file).is_some() && memory.block(block).is_some();
            there && memory.file_block(file, 0) == Some(block) && !memory.missed()
        };
        assert!(!is_at_hand(&bench), "{command:?}");
        bench.service.prefetch(&command).await;
        assert!(is_at_hand(&bench), "{command:?}");
    }
    bench.stop().await;
}
