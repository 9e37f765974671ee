use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use steadfs_common::{CallKey, FsErrorKind, FsPath, FsResult, InodeId, Millis};
use steadfs_daemon::clock::ManualClock;
use steadfs_namenode_core::command::{BlockRef, FileRef, NewTimes, Origin, PlacedBlock, RenameMode};
use steadfs_namenode_core::{Caller, Command, Effect, Reply, View as _};

use super::Service;
use super::test_sink::TestSink;
use crate::commit::Commits;
use crate::config::NamenodeConfig;
use crate::run::{Assembled, Opened};

mod cold;
mod notes;
mod open_files;

/// A namenode without doors over a temporary folder, with a clock that moves when it is told to.
struct Bench {
    config: NamenodeConfig,
    clock: Arc<ManualClock>,
    sink: Arc<TestSink>,
    service: Arc<Service>,
    commits: Commits,
    running: Option<(crate::commit::CommitThread, crate::identity::DataFolders)>,
}

fn config(folder: &Path) -> NamenodeConfig {
    let mut config =
        NamenodeConfig { data_dirs: vec![folder.join("a"), folder.join("b")], ..NamenodeConfig::default() };
    config.journal.segment_bytes = 64 << 10;
    config.namespace.min_block_size_bytes = 1;
    config
}

impl Bench {
    async fn start(config: NamenodeConfig) -> anyhow::Result<Self> {
        let clock = ManualClock::shared(Millis(1_700_000_000_000));
        let sink = Arc::new(TestSink::default());
        let opened = {
            let config = config.clone();
            tokio::task::spawn(async move { Opened::open(&config) }).await??
        };
        let Assembled { service, commits, thread, mut folders, .. } =
            opened.assemble(&config, clock.clone(), sink.clone()).await?;
        folders.finish()?;
        Ok(Self { config, clock, sink, service, commits, running: Some((thread, folders)) })
    }

    async fn new(folder: &Path) -> Self {
        Self::start(config(folder)).await.unwrap()
    }

    /// Ends the commit thread and gives up the folder. With `flush` as on SIGTERM; the alternative is an image.
    async fn stop(mut self) -> NamenodeConfig {
        self.commits.stop();
        let (thread, folders) = self.running.take().unwrap();
        thread.join();
        drop(folders);
        self.config
    }

    async fn submit(&self, command: Command) -> FsResult<Reply> {
        self.service.submit(&root(), None, command).await
    }

    async fn mkdirs(&self, text: &str) -> FsResult<Reply> {
        self.submit(Command::Mkdirs { path: path(text), mode: 0o755, unmasked: None, create_parent: true })
            .await
    }

    async fn exists(&self, text: &str) -> bool {
        self.service.status(&root(), &path(text)).await.unwrap().is_some()
    }

    async fn create(&self, text: &str, client: &str) -> InodeId {
        match self.submit(create(text, client)).await.unwrap() {
            Reply::File(inode) => inode.id,
            other => panic!("{other:?}"),
        }
    }

    async fn add_block(&self, file: &FileRef, client: &str) -> PlacedBlock {
        let command = Command::AddBlock {
            file: file.clone(),
            client: client.into(),
            previous: None,
            excluded: Vec::new(),
            favored: Vec::new(),
            avoid_local: false,
        };
        match self.submit(command).await.unwrap() {
            Reply::Block(placed) => placed,
            other => panic!("{other:?}"),
        }
    }
}

fn path(text: &str) -> FsPath {
    FsPath::parse(text).unwrap()
}

fn root() -> Caller {
    Caller {
        user: "root".into(),
        groups: Vec::new(),
        superuser: true,
        address: None,
        origin: Origin::default(),
    }
}

fn user(name: &str) -> Caller {
    Caller {
        user: name.into(),
        groups: vec!["people".into()],
        superuser: false,
        address: None,
        origin: Origin::default(),
    }
}

fn create(text: &str, client: &str) -> Command {
    Command::Create {
        path: path(text),
        mode: 0o644,
        unmasked: None,
        client: client.into(),
        create: true,
        overwrite: false,
        create_parent: true,
        replication: 3,
        block_size: 1 << 20,
        policy: 0,
    }
}

fn delete(text: &str) -> Command {
    Command::Delete { path: path(text), recursive: true }
}

fn key(call: i32) -> Option<CallKey> {
    Some(CallKey { client: [5; 16], call })
}

/// Names and sizes of the files in a folder and below, but for what a start removes.
fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            found.append(&mut files(&path));
        } else if path.extension().is_none_or(|extension| extension != "spare")
            && let Ok(about) = path.metadata()
        {
            found.insert(path, about.len());
        }
    }
    found
}

/// Copies the data folders as they are now: what a power cut would leave. An image is of one moment, so one during which
/// RocksDB made or removed a file in the background is taken again.
fn image(config: &NamenodeConfig, to: &Path) -> NamenodeConfig {
    let data_dirs: Vec<PathBuf> = ["a", "b"].iter().map(|name| to.join(name)).collect();
    for (from, to) in config.data_dirs.iter().zip(&data_dirs) {
        loop {
            let before = files(from);
            let copied = before.keys().all(|path| {
                let target = to.join(path.strip_prefix(from).unwrap());
                std::fs::create_dir_all(target.parent().unwrap()).unwrap();
                std::fs::copy(path, target).is_ok()
            });
            if copied && files(from) == before {
                break;
            }
            std::fs::remove_dir_all(to).unwrap();
        }
    }
    NamenodeConfig { data_dirs, ..config.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    bench.mkdirs("/a/b/c").await.unwrap();
    bench.create("/a/file", "client").await;
    let before = bench.service.content_summary(&root(), &path("/")).await.unwrap();
    let (identity, counters) = (bench.service.identity().clone(), bench.service.store.view().counters());
    let bench = Bench::start(bench.stop().await).await.unwrap();
    assert!(bench.exists("/a/b/c").await);
    assert_eq!(bench.service.content_summary(&root(), &path("/")).await.unwrap(), before);
    assert_eq!(bench.service.store.view().counters(), counters);
    assert_eq!(bench.service.identity().cluster_id, identity.cluster_id);
    assert_eq!(bench.service.identity().epoch, identity.epoch + 1);
    bench.mkdirs("/more").await.unwrap();
    bench.stop().await;
}

/// Whatever moment the power is cut at: everything acknowledged is there, from the journal, the store, or both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_taken_at_any_moment_has_everything_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    for number in 0..12 {
        bench.mkdirs(&format!("/folder-{number}")).await.unwrap();
        if number == 5 {
            bench.submit(delete("/folder-0")).await.unwrap();
            bench.service.store.flush();
        }
        let copy = tempfile::tempdir().unwrap();
        let revived = Bench::start(image(&bench.config, copy.path())).await.unwrap();
        for made in 0..=number {
            let deleted = made == 0 && number >= 5;
            assert_eq!(revived.exists(&format!("/folder-{made}")).await, !deleted, "{made} of {number}");
        }
        assert_eq!(revived.service.store.view().counters(), bench.service.store.view().counters());
        revived.mkdirs("/new").await.unwrap();
        revived.stop().await;
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_submitters_share_syncs_and_all_get_their_answers() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Arc::new(Bench::new(folder.path()).await);
    let before = bench.service.store.view().position().index;
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let bench = bench.clone();
            tokio::spawn(async move {
                bench.mkdirs(&format!("/x/{number}")).await.unwrap();
                assert!(bench.exists(&format!("/x/{number}")).await, "an answered change is seen");
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let summary = bench.service.content_summary(&root(), &path("/x")).await.unwrap();
    assert_eq!(summary.directories, 201);
    let batches = bench.service.store.view().position().index - before;
    assert!(batches < 200, "{batches} syncs for 200 commands");
    let bench = Arc::into_inner(bench).unwrap();
    let bench = Bench::start(bench.stop().await).await.unwrap();
    assert_eq!(bench.service.content_summary(&root(), &path("/x")).await.unwrap().directories, 201);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_is_flushed_by_journal_distance_and_old_segments_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.journal.flush_distance_bytes = 64 << 10;
    config.journal.kept_bytes = 0;
    // Nobody here renews a second copy, for which they would stay.
    config.upkeep.store_copy = false;
    let bench = Bench::start(config).await.unwrap();
    for number in 0..1_500 {
        bench.mkdirs(&format!("/folder-with-a-long-name-{number}")).await.unwrap();
    }
    // Flushing runs beside the calls: it is given its time.
    let journal = bench.config.data_dirs[0].join("journal");
    let segments = || std::fs::read_dir(&journal).unwrap().count();
    for _ in 0..3_000 {
        if bench.service.store.flushed_index() > 0 && segments() <= 8 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let last = bench.service.store.view().position().index;
    assert!(bench.service.store.flushed_index() > 0, "nothing was flushed");
    assert!(segments() <= 8, "{} files are left of {last} entries", segments());
    let copy = tempfile::tempdir().unwrap();
    let revived = Bench::start(image(&bench.config, copy.path())).await.unwrap();
    assert!(revived.exists("/folder-with-a-long-name-1499").await);
    revived.stop().await;
    bench.stop().await;
}

/// What a start reads does not grow with the number of files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_reads_the_same_few_rows_whatever_the_size() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path()).await;
    let mut reads = Vec::new();
    for round in 0..3_usize {
        for number in 0..50 * 4_usize.pow(round as u32) {
            bench.mkdirs(&format!("/{round}/{number}")).await.unwrap();
        }
        bench = Bench::start(bench.stop().await).await.unwrap();
        reads.push(bench.service.store.rows_read());
    }
    assert!(reads.iter().all(|read| *read == reads[0] && *read < 10), "{reads:?}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_call_is_answered_as_the_first_was() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    bench.mkdirs("/a").await.unwrap();
    let rename =
        Command::Rename { from: path("/a"), to: path("/b"), mode: RenameMode::NoReplace, to_trash: false };
    let service = &bench.service;
    assert_eq!(service.submit(&root(), key(1), rename.clone()).await, Ok(Reply::Done));
    assert_eq!(service.submit(&root(), key(1), rename.clone()).await, Ok(Reply::Done));
    let error = service.submit(&root(), key(2), rename.clone()).await.unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::NotFound);
    // The answer is in the journal with its operation: it outlives the process.
    let bench = Bench::start(bench.stop().await).await.unwrap();
    assert_eq!(bench.service.submit(&root(), key(1), rename.clone()).await, Ok(Reply::Done));
    bench.clock.advance(Duration::from_secs(601));
    bench.service.forget_calls().await.unwrap();
    assert!(bench.service.read(|view| view.retries(None, 10)).await.is_empty());
    assert!(bench.service.submit(&root(), key(1), rename).await.is_err());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_repeated_call_is_carried_out_twice_when_no_more_answers_can_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.namespace.retry_entries = 2;
    let bench = Bench::start(config).await.unwrap();
    for call in 0..2 {
        bench.mkdirs(&format!("/{call}")).await.unwrap();
        let deleted = bench.service.submit(&root(), key(call), delete(&format!("/{call}"))).await;
        assert_eq!(deleted, Ok(Reply::Bool(true)));
    }
    bench.mkdirs("/2").await.unwrap();
    let third = {
        let service = bench.service.clone();
        tokio::spawn(async move { service.submit(&root(), key(2), delete("/2")).await })
    };
    // One that is repeated needs no room, and is answered as it was.
    let repeated = bench.service.submit(&root(), key(0), delete("/0")).await;
    assert_eq!(repeated, Ok(Reply::Bool(true)));
    assert!(!third.is_finished(), "it waits for room");
    bench.clock.advance(Duration::from_secs(601));
    bench.service.forget_calls().await.unwrap();
    assert_eq!(third.await.unwrap(), Ok(Reply::Bool(true)));
    assert_eq!(bench.service.read(|view| view.retries(None, 10)).await.len(), 1);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_command_in_a_batch_changes_nothing_and_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    bench.create("/file", "client").await;
    let outcomes = futures::future::join_all((0..50).map(|number| {
        let bench = &bench;
        async move {
            match number % 2 {
                0 => bench.mkdirs(&format!("/good/{number}")).await,
                _ => bench.mkdirs(&format!("/file/{number}")).await,
            }
        }
    }))
    .await;
    for (number, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_ok(), number % 2 == 0, "{number}: {outcome:?}");
    }
    assert_eq!(bench.service.content_summary(&root(), &path("/")).await.unwrap().directories, 27);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn complete_waits_until_the_block_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    let id = bench.create("/file", "client").await;
    let file = FileRef { path: path("/file"), inode: Some(id) };
    let block = bench.add_block(&file, "client").await.block;
    let last = Some(BlockRef { id: block.id, stamp: block.stamp, length: 10 });
    let complete =
        Command::Complete { file: file.clone(), client: "client".into(), last, times: NewTimes::default() };
    let reports = async {
        tokio::task::yield_now().await;
        bench.sink.report(block.id, block.stamp);
    };
    let (completed, ()) = tokio::join!(bench.submit(complete.clone()), reports);
    assert_eq!(completed, Ok(Reply::Bool(true)));
    assert!(bench.service.is_file_closed(&root(), &path("/file")).await.unwrap());
    let (status, blocks) = bench.service.locations(&root(), &file, 0, 100).await.unwrap();
    assert_eq!(status.inode.file().unwrap().length, 10);
    assert_eq!((blocks.length, blocks.blocks.len(), blocks.blocks[0].locations.len()), (10, 1, 3));
    assert!(bench.sink.effects().iter().any(|effect| matches!(effect, Effect::Completed { .. })));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn complete_answers_false_in_bounded_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.namespace.complete_wait_ms = 30;
    let bench = Bench::start(config).await.unwrap();
    let id = bench.create("/file", "client").await;
    let file = FileRef { path: path("/file"), inode: Some(id) };
    let block = bench.add_block(&file, "client").await.block;
    let last = Some(BlockRef { id: block.id, stamp: block.stamp, length: 10 });
    let complete = Command::Complete { file, client: "client".into(), last, times: NewTimes::default() };
    assert_eq!(bench.submit(complete).await, Ok(Reply::Bool(false)));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_tree_of_others_is_walked_before_it_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    let own = |text: &str| Command::SetOwner { path: path(text), owner: Some("ann".into()), group: None };
    bench.mkdirs("/home/ann/tree").await.unwrap();
    for text in ["/home/ann", "/home/ann/tree"] {
        bench.submit(own(text)).await.unwrap();
    }
    let ann = user("ann");
    let made: Vec<_> = (0..1_200)
        .map(|number| Command::Mkdirs {
            path: path(&format!("/home/ann/tree/{number}")),
            mode: 0o755,
            unmasked: None,
            create_parent: true,
        })
        .map(|command| bench.service.submit(&ann, None, command))
        .collect();
    assert!(futures::future::join_all(made).await.into_iter().all(|result| result.is_ok()));
    bench.mkdirs("/home/ann/tree/7/of-root").await.unwrap();
    bench.submit(Command::SetPermission { path: path("/home/ann/tree/7"), mode: 0o700 }).await.unwrap();
    bench
        .submit(Command::SetOwner { path: path("/home/ann/tree/7"), owner: Some("root".into()), group: None })
        .await
        .unwrap();
    let refused = bench.service.submit(&ann, None, delete("/home/ann/tree")).await.unwrap_err();
    assert_eq!(refused.kind(), FsErrorKind::AccessDenied, "{refused}");
    bench.submit(own("/home/ann/tree/7")).await.unwrap();
    assert_eq!(bench.service.submit(&ann, None, delete("/home/ann/tree")).await, Ok(Reply::Bool(true)));
    assert!(!bench.exists("/home/ann/tree").await);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_fresh_after_a_restart_and_expire_past_the_hard_limit() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    bench.create("/file", "client").await;
    let bench = Bench::start(bench.stop().await).await.unwrap();
    let closed = async |bench: &Bench| bench.service.is_file_closed(&root(), &path("/file")).await.unwrap();
    bench.service.expire_leases().await.unwrap();
    bench.clock.advance(Duration::from_secs(19 * 60));
    bench.service.renew_lease(&root(), "client");
    bench.clock.advance(Duration::from_secs(2 * 60));
    bench.service.expire_leases().await.unwrap();
    assert!(!closed(&bench).await, "it was renewed two minutes ago");
    bench.clock.advance(Duration::from_secs(20 * 60));
    bench.service.expire_leases().await.unwrap();
    assert!(closed(&bench).await);
    bench.service.expire_leases().await.unwrap();
    assert!(bench.service.renewals.with(|holders| !holders.contains_key("client")));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_a_superuser() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.users.superuser = "boss".into();
    config.users.groups.insert("ann".into(), vec!["people".into()]);
    config.users.groups.insert("ops".into(), vec!["people".into(), "supergroup".into()]);
    let bench = Bench::start(config).await.unwrap();
    let me = bench.service.own_caller().user.clone();
    for (name, superuser) in [("boss", true), ("ops", true), ("ann", false), ("stranger", false), (&me, true)]
    {
        assert_eq!(bench.service.caller(name, None).await.unwrap().superuser, superuser, "{name}");
    }
    for name in ["", "a\0b", &"x".repeat(2_000)] {
        assert_eq!(bench.service.caller(name, None).await.unwrap_err().kind(), FsErrorKind::InvalidArgument);
    }
    let ann = bench.service.caller("ann", None).await.unwrap();
    assert_eq!(bench.service.report(&ann).await.unwrap_err().kind(), FsErrorKind::AccessDenied);
    assert_eq!(bench.service.set_safe_mode(&ann, true).unwrap_err().kind(), FsErrorKind::AccessDenied);
    assert!(bench.service.set_safe_mode(&root(), true).unwrap());
    assert_eq!(bench.mkdirs("/x").await.unwrap_err().kind(), FsErrorKind::SafeMode);
    let recent = bench.service.recent();
    assert_eq!((recent[0].operation, recent[0].path.as_str()), ("mkdirs", "/x"));
    assert!(recent[0].error.is_some());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_status_is_answered_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    bench.mkdirs("/a/b").await.unwrap();
    let rows = bench.service.store.rows_read();
    let (caller, path) = (root(), path("/a/b"));
    let mut asked = Box::pin(bench.service.status(&caller, &path));
    let answer = futures::FutureExt::now_or_never(&mut asked);
    assert!(answer.expect("it must not yield").unwrap().is_some());
    drop(asked);
    assert_eq!(bench.service.store.rows_read(), rows, "it must not touch the store");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_page_in_byte_order() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    for name in ["b", "a", "ü", "c"] {
        bench.mkdirs(&format!("/d/{name}")).await.unwrap();
    }
    let page = async |after: &str, limit| {
        let page =
            bench.service.list(&root(), &path("/d"), after.as_bytes(), limit, true).await.unwrap().unwrap();
        let names: Vec<_> =
            page.entries.iter().map(|entry| entry.name.clone().unwrap().to_string()).collect();
        (names.join(" "), page.remaining > 0)
    };
    assert_eq!(page("", 0).await, ("a b c ü".into(), false));
    assert_eq!(page("", 2).await, ("a b".into(), true));
    assert_eq!(page("b", 2).await, ("c ü".into(), false));
    assert!(bench.service.list(&root(), &path("/none"), b"", 0, false).await.unwrap().is_none());
    let error = bench.service.list(&root(), &path("/d"), b"a/b", 0, false).await.unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::InvalidPath);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_after_the_end_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path()).await;
    bench.commits.stop();
    bench.running.take().unwrap().0.join();
    assert_eq!(bench.mkdirs("/late").await.unwrap_err().kind(), FsErrorKind::Stopping);
}
