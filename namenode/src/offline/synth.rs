//! A made-up tree in the folders of a namenode that does not run: for tests of scale.

use anyhow::ensure;
use steadfs_common::limits::MAX_DIRECTORY_ITEMS;
use steadfs_common::{Name, ROOT_INODE};
use steadfs_namenode_core::namespace::MAX_BLOCK_BYTES;
use steadfs_namenode_core::namespace::synthetic::{Builder, Shape};
use steadfs_namenode_core::{Command, View as _};

use super::plan::{carry_out, write};
use crate::commit::payload;
use crate::config::NamenodeConfig;
use crate::journal::Journal as _;
use crate::run::Opened;
use crate::service::own_caller;

/// Rows of one journal entry, about: memory is bounded by this, unless one file has more blocks.
const STEP_ROWS: usize = 20_000;
/// Most files of one run.
const MAX_FILES: u64 = 1_000_000_000;

/// What to make up.
#[derive(Clone, Debug)]
pub struct Synthetic {
    /// The new folder in the root.
    pub name: Name,
    /// How many files.
    pub files: u64,
    /// Files in a folder.
    pub files_per_folder: u64,
    /// Blocks of each file.
    pub blocks_per_file: u32,
    /// Bytes of each block.
    pub block_bytes: u64,
    /// Replicas that each block should have; none of them is there.
    pub replication: u16,
    /// Whether the namespace may hold files already.
    pub beside_others: bool,
}

/// What was made: block ids from the first, before the second, all under one generation stamp.
#[derive(Clone, Copy, Debug)]
pub struct Synthesized {
    /// The first block id.
    pub first_block: u64,
    /// The id after the last.
    pub end_block: u64,
    /// The stamp.
    pub stamp: u64,
    /// How many files.
    pub files: u64,
}

/// Writes files, and folders that hold them, as if they had been written and closed: through the journal and the store, as
/// every change. Their blocks have no replicas until somebody reports some. An empty folder is formatted. `told` hears how
/// many files there are.
///
/// # Errors
/// The folders cannot be opened or are in use, the namespace holds files, the name is taken, or the limits forbid it.
pub fn synthesize(
    config: &NamenodeConfig,
    wanted: &Synthetic,
    told: &mut dyn FnMut(u64),
) -> anyhow::Result<Synthesized> {
    config.validate()?;
    check(config, wanted)?;
    let mut opened = Opened::open(config)?;
    let now = steadfs_daemon::clock::SystemClock::shared().now();
    if opened.store.view().counters().is_none() {
        carry_out(&mut opened, config, now, &Command::Format)?;
    }
    opened.folders.finish()?;
    let there = opened.store.view().totals(ROOT_INODE).files;
    ensure!(
        there == 0 || wanted.beside_others,
        "the namespace in these folders holds {there} files, and would be of no use any more: no datanode has the blocks of what is \
         made up, so it would stay in safe mode. Name folders of its own, or say --beside-others if that is meant"
    );
    let shape = Shape {
        name: wanted.name.clone(),
        files: wanted.files,
        files_per_folder: wanted.files_per_folder,
        blocks_per_file: wanted.blocks_per_file,
        block_bytes: wanted.block_bytes,
        replication: wanted.replication,
        owner: own_caller().user,
        group: config.namespace.supergroup.clone(),
        now,
    };
    let mut builder = Builder::new(&*opened.store.view(), shape)?;
    let mut unflushed = 0;
    loop {
        let changes = builder.step(&*opened.store.view(), STEP_ROWS);
        unflushed += write(&mut opened, payload::SYNTHESIZE, &changes)?;
        if unflushed >= config.journal.flush_distance_bytes {
            let flushed = opened.store.flush();
            opened.journal.trim(flushed);
            unflushed = 0;
        }
        told(builder.files());
        if builder.is_done() {
            break;
        }
    }
    opened.journal.seal()?;
    let flushed = opened.store.flush();
    opened.journal.trim(flushed);
    let made = builder.made();
    Ok(Synthesized {
        first_block: made.blocks.0.0,
        end_block: made.blocks.1.0,
        stamp: made.stamp.0,
        files: builder.files(),
    })
}

fn check(config: &NamenodeConfig, wanted: &Synthetic) -> anyhow::Result<()> {
    let settings = config.settings();
    ensure!(wanted.files <= MAX_FILES, "at most {MAX_FILES} files can be made up at a time");
    ensure!(
        (1..=MAX_DIRECTORY_ITEMS).contains(&wanted.files_per_folder),
        "a folder holds 1 to {MAX_DIRECTORY_ITEMS} files"
    );
    ensure!(
        wanted.blocks_per_file <= settings.max_blocks_per_file,
        "a file has at most {} blocks: raise namespace.max_blocks_per_file",
        settings.max_blocks_per_file
    );
    ensure!(
        (1..=settings.max_replication).contains(&wanted.replication),
        "a block has 1 to {} replicas",
        settings.max_replication
    );
    ensure!(
        (1..=MAX_BLOCK_BYTES).contains(&wanted.block_bytes),
        "a block has 1 to {} bytes",
        MAX_BLOCK_BYTES
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use steadfs_common::FsPath;
    use steadfs_namenode_core::command::FileRef;
    use steadfs_namenode_core::namespace::check;

    use super::*;
    use crate::upkeep::tests::Life;

    fn config(folder: &std::path::Path) -> NamenodeConfig {
        NamenodeConfig { data_dirs: vec![folder.join("a"), folder.join("b")], ..NamenodeConfig::default() }
    }

    fn wanted(files: u64) -> Synthetic {
        Synthetic {
            name: Name::new("made-up").unwrap(),
            files,
            files_per_folder: 1_000,
            blocks_per_file: 1,
            block_bytes: 1 << 20,
            replication: 3,
            beside_others: false,
        }
    }

    /// Every inode and block is looked at.
    fn problems(opened: &Opened) -> Vec<String> {
        let view = opened.store.view();
        let inodes = view.inodes_after(steadfs_common::InodeId(0), usize::MAX);
        let of_inodes = inodes.iter().flat_map(|inode| check::inode(&*view, inode));
        let blocks = view.blocks_from(steadfs_common::BlockId(0), usize::MAX);
        let of_blocks = blocks.iter().flat_map(|block| check::block(&*view, block));
        of_inodes.chain(of_blocks).map(|problem| problem.text).collect()
    }

    #[test]
    fn a_made_up_tree_outlives_a_start_and_is_sound() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let mut heard = Vec::new();
        let made = synthesize(&config, &wanted(12_345), &mut |files| heard.push(files)).unwrap();
        assert_eq!((made.files, made.end_block - made.first_block), (12_345, 12_345));
        assert!(heard.len() > 1 && heard.is_sorted() && heard.last() == Some(&12_345));
        let opened = Opened::open(&config).unwrap();
        assert_eq!(opened.store.view().totals(ROOT_INODE).files, 12_345);
        assert_eq!(problems(&opened), Vec::<String>::new());
        drop(opened);
        let refused = synthesize(&config, &wanted(1), &mut |_| {}).unwrap_err();
        assert!(format!("{refused:#}").contains("holds 12345 files"), "{refused:#}");
        let mut beside = Synthetic { beside_others: true, ..wanted(1) };
        let again = synthesize(&config, &beside, &mut |_| {}).unwrap_err();
        assert!(format!("{again:#}").contains("already exists"), "{again:#}");
        beside.name = Name::new("more").unwrap();
        assert_eq!(synthesize(&config, &beside, &mut |_| {}).unwrap().files, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_blocks_of_a_file_are_told_however_many_it_may_have() {
        const BLOCKS: u32 = steadfs_common::limits::MAX_BLOCKS_PER_FILE + 5;
        let folder = tempfile::tempdir().unwrap();
        let mut config = crate::upkeep::tests::config(folder.path());
        config.namespace.max_blocks_per_file = BLOCKS;
        synthesize(&config, &Synthetic { blocks_per_file: BLOCKS, ..wanted(1) }, &mut |_| {}).unwrap();
        let life = Life::begin(&config).await.unwrap();
        let (service, caller) = (life.service(), own_caller());
        let path = FsPath::parse("/made-up/d0000/d0000000/part-00000000").unwrap();
        let file = FileRef { path: path.clone(), inode: None };
        let (_, found) = service.locations(&caller, &file, 0, u64::MAX).await.unwrap();
        assert_eq!(found.blocks.len(), BLOCKS as usize);
        let listed = service.list(&caller, &path, b"", 0, true).await.unwrap().unwrap();
        assert_eq!(listed.entries[0].blocks.as_ref().unwrap().blocks.len(), BLOCKS as usize);
        life.end().await;
    }

    #[test]
    fn limits_hold() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        let many = Synthetic { blocks_per_file: 20_000, ..wanted(1) };
        let refused = synthesize(&config, &many, &mut |_| {}).unwrap_err();
        assert!(format!("{refused:#}").contains("max_blocks_per_file"), "{refused:#}");
        config.namespace.max_blocks_per_file = 20_000;
        assert_eq!(synthesize(&config, &many, &mut |_| {}).unwrap().files, 1);
        assert_eq!(problems(&Opened::open(&config).unwrap()), Vec::<String>::new());
    }
}
