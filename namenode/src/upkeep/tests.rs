//! A namenode's own data is lost, rots, or goes back, and comes right again.

use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use steadfs_common::FsPath;
use steadfs_daemon::shutdown::Shutdown;
use steadfs_namenode_core::{Command, View as _};

use super::stalled;
use crate::config::NamenodeConfig;
use crate::run::Namenode;
use crate::service::BackupPiece;
use crate::{backup, offline};

pub(crate) fn config(folder: &Path) -> NamenodeConfig {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = NamenodeConfig {
        listen: any,
        http_listen: any,
        data_dirs: vec![folder.join("a"), folder.join("b")],
        ..NamenodeConfig::default()
    };
    config.insecure.simple = true;
    config.safe_mode.extension_ms = 0;
    config.journal.segment_bytes = 64 << 10;
    // Nothing old is kept: what is lost must come from the copy.
    config.journal.kept_bytes = 0;
    config.upkeep.reserved_bytes = 0;
    config
}

pub(crate) struct Life {
    namenode: Namenode,
    shutdown: Shutdown,
}

impl Life {
    pub(crate) async fn begin(config: &NamenodeConfig) -> anyhow::Result<Self> {
        let shutdown = Shutdown::new();
        let namenode = Namenode::start(config.clone(), shutdown.clone()).await?;
        let service = namenode.service();
        service.set_safe_mode(&service.own_caller().clone(), false).unwrap();
        Ok(Self { namenode, shutdown })
    }

    pub(crate) const fn service(&self) -> &std::sync::Arc<crate::service::Service> {
        self.namenode.service()
    }

    async fn mkdir(&self, name: &str) {
        let service = self.namenode.service();
        let path = FsPath::parse(name).unwrap();
        let mkdirs = Command::Mkdirs { path, mode: 0o755, unmasked: None, create_parent: true };
        service.submit(&service.own_caller().clone(), None, mkdirs).await.unwrap();
    }

    async fn folders(&self) -> u64 {
        let service = self.namenode.service();
        let root = FsPath::root();
        service.content_summary(&service.own_caller().clone(), &root).await.unwrap().directories
    }

    /// Reads everything, and makes the copy of the store anew. No compaction is under way then, nor begins by itself.
    async fn scrub(&self) {
        let service = self.namenode.service();
        service.store().settle();
        service.scrub(&service.own_caller().clone()).await.unwrap();
    }

    pub(crate) async fn end(self) {
        self.shutdown.trigger();
        self.namenode.stopped().await;
    }

    /// Takes a backup as the command line does.
    async fn backup(&self, to: &Path) {
        let service = self.namenode.service();
        let files = to.join(backup::FILES);
        std::fs::create_dir_all(&files).unwrap();
        let mut pieces = service.backup(&service.own_caller().clone()).unwrap();
        while let Some(piece) = pieces.recv().await {
            match piece.unwrap() {
                BackupPiece::Part { file, data, .. } => {
                    use std::io::Write as _;
                    let path = files.join(file);
                    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
                    file.write_all(&data).unwrap();
                }
                BackupPiece::Manifest(bytes) => {
                    std::fs::write(to.join(backup::manifest::FILE), bytes).unwrap()
                }
            }
        }
    }
}

/// A namenode with 300 folders in several lives, and its copy of the store.
pub(crate) async fn filled(folder: &Path) -> NamenodeConfig {
    let config = config(folder);
    for life in 0..3 {
        let namenode = Life::begin(&config).await.unwrap();
        for number in 0..100 {
            namenode.mkdir(&format!("/{life}/{number}")).await;
        }
        namenode.scrub().await;
        namenode.end().await;
    }
    config
}

const FOLDERS: u64 = 304;

pub(crate) fn tables(store: &Path) -> Vec<PathBuf> {
    let items = std::fs::read_dir(store).unwrap().map(|item| item.unwrap().path());
    let mut found: Vec<PathBuf> = items.filter(|path| path.to_string_lossy().contains(".sst")).collect();
    found.sort();
    found
}

pub(crate) fn flip(path: &Path) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let at = file.metadata().unwrap().len() / 3;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 0x10;
    file.write_all_at(&byte, at).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_data_folder_may_be_lost() {
    for lost in ["a", "b"] {
        let keep = tempfile::tempdir().unwrap();
        let config = filled(keep.path()).await;
        std::fs::remove_dir_all(keep.path().join(lost)).unwrap();
        let life = Life::begin(&config).await.unwrap();
        assert_eq!(life.folders().await, FOLDERS, "without {lost}");
        life.mkdir("/after").await;
        life.scrub().await;
        life.end().await;
        // And then the other.
        let other = if lost == "a" { "b" } else { "a" };
        std::fs::remove_dir_all(keep.path().join(other)).unwrap();
        let life = Life::begin(&config).await.unwrap();
        assert_eq!(life.folders().await, FOLDERS + 1);
        life.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_opened_or_was_found_rotten_is_made_again() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("CURRENT gone", |store| std::fs::remove_file(store.join("CURRENT")).unwrap()),
        ("MANIFEST gone", |store| {
            let name = std::fs::read_to_string(store.join("CURRENT")).unwrap();
            std::fs::remove_file(store.join(name.trim())).unwrap();
        }),
        ("MANIFEST rotten", |store| {
            let name = std::fs::read_to_string(store.join("CURRENT")).unwrap();
            flip(&store.join(name.trim()));
        }),
        ("a table gone", |store| std::fs::remove_file(&tables(store)[0]).unwrap()),
        ("marked", |store| std::fs::write(store.with_extension("rotten"), "a block\n").unwrap()),
    ];
    let keep = tempfile::tempdir().unwrap();
    let config = filled(keep.path()).await;
    for (what, damage) in damages {
        damage(&keep.path().join("a/store"));
        let life = Life::begin(&config).await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert_eq!(life.folders().await, FOLDERS, "{what}");
        let findings = life.namenode.service().health().findings();
        assert!(findings.iter().any(|finding| finding.contains("made again from")), "{what}: {findings:?}");
        assert!(!keep.path().join("a/store.rotten").exists());
        life.scrub().await;
        life.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rot_in_the_store_its_copy_or_a_journal_is_found_and_made_good_while_it_runs() {
    let keep = tempfile::tempdir().unwrap();
    let mut config = filled(keep.path()).await;
    config.journal.kept_bytes = 64 << 20;
    let life = Life::begin(&config).await.unwrap();
    for number in 0..2_000 {
        life.mkdir(&format!("/more/{number}")).await;
    }
    life.scrub().await;
    let health = life.namenode.service().health().clone();
    let known = health.findings().len();
    let segment = || {
        let items = std::fs::read_dir(keep.path().join("b/journal")).unwrap();
        items
            .map(|item| item.unwrap().path())
            .filter(|path| path.extension().unwrap() == "log")
            .min()
            .unwrap()
    };
    let store = keep.path().join("a/store");
    let copies = keep.path().join("b/store-copy/files");
    let rotten = [tables(&store)[0].clone(), tables(&copies)[1].clone(), segment()];
    let before: Vec<Vec<u8>> = rotten.iter().map(|path| std::fs::read(path).unwrap()).collect();
    rotten.iter().for_each(|path| flip(path));
    life.scrub().await;
    assert_eq!(health.findings().len(), known + 3, "{:?}", health.findings());
    assert_eq!(health.problems(), Vec::<String>::new());
    assert_eq!(std::fs::read(&rotten[0]).unwrap(), before[0]);
    assert_eq!(std::fs::read(&rotten[2]).unwrap(), before[2]);
    backup::verify(&keep.path().join("b/store-copy")).unwrap();
    life.end().await;
    let life = Life::begin(&config).await.unwrap();
    assert_eq!(life.folders().await, FOLDERS + 2_001);
    life.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_started_more_often_than_it_is_scrubbed_is_scrubbed_too() {
    let keep = tempfile::tempdir().unwrap();
    let mut config = filled(keep.path()).await;
    // The first comes after a few seconds, the next after minutes.
    config.upkeep.scrub_interval_ms = 120_000;
    flip(&tables(&keep.path().join("b/store-copy/files"))[0]);
    let life = Life::begin(&config).await.unwrap();
    let health = life.namenode.service().health().clone();
    for _ in 0..600 {
        if !health.findings().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(health.findings().len(), 1, "{:?}", health.findings());
    life.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrub_that_does_not_come_to_its_end_is_told_until_one_does() {
    let keep = tempfile::tempdir().unwrap();
    let config = filled(keep.path()).await;
    let life = Life::begin(&config).await.unwrap();
    life.scrub().await;
    let (copy, away) = (keep.path().join("b/store-copy"), keep.path().join("away"));
    std::fs::rename(&copy, &away).unwrap();
    std::fs::write(&copy, "no folder").unwrap();
    let service = life.namenode.service();
    assert!(service.scrub(&service.own_caller().clone()).await.is_err());
    let told = service.health().problems().join("\n");
    assert!(told.contains("could not be read and checked to the end"), "{told}");
    std::fs::remove_file(&copy).unwrap();
    std::fs::rename(&away, &copy).unwrap();
    life.scrub().await;
    let told = service.health().problems().join("\n");
    assert!(!told.contains("could not be read and checked to the end"), "{told}");
    life.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_goes_back_into_empty_folders_and_nowhere_else() {
    let keep = tempfile::tempdir().unwrap();
    let config = filled(keep.path()).await;
    let saved = keep.path().join("saved");
    let life = Life::begin(&config).await.unwrap();
    life.backup(&saved).await;
    life.mkdir("/lost").await;
    assert!(!keep.path().join("a/backup-checkpoint").exists(), "nothing is left behind");
    life.end().await;
    let error = offline::restore(&config, &saved).unwrap_err().to_string();
    assert!(error.contains("into empty folders"), "{error}");

    let other = NamenodeConfig { data_dirs: vec![keep.path().join("c"), keep.path().join("d")], ..config };
    let table = tables(&saved.join("files"))[0].clone();
    let whole = std::fs::read(&table).unwrap();
    for damage in 0..4 {
        let manifest = std::fs::read(saved.join("BACKUP")).unwrap();
        match damage {
            0 => flip(&table),
            1 => std::fs::write(&table, &whole[..whole.len() / 2]).unwrap(),
            2 => std::fs::remove_file(&table).unwrap(),
            _ => std::fs::remove_file(saved.join("BACKUP")).unwrap(),
        }
        let error = format!("{:#}", offline::restore(&other, &saved).unwrap_err());
        assert!(error.contains("not whole") || error.contains("is no backup"), "{damage}: {error}");
        std::fs::write(&table, &whole).unwrap();
        std::fs::write(saved.join("BACKUP"), manifest).unwrap();
    }
    let manifest = offline::restore(&other, &saved).unwrap();
    let life = Life::begin(&other).await.unwrap();
    assert_eq!(life.folders().await, FOLDERS);
    let identity = life.namenode.service().identity().clone();
    assert_eq!(identity.cluster_id, manifest.cluster_id);
    assert!(identity.epoch > manifest.epoch);
    life.mkdir("/new").await;
    life.end().await;

    let before = crate::store::read_position(&keep.path().join("c/store")).unwrap();
    let incarnation = offline::accept_loss(&other).unwrap();
    let life = Life::begin(&other).await.unwrap();
    assert_eq!(life.namenode.service().identity().incarnation, incarnation);
    assert!(life.namenode.service().durable_transaction().0 > before.1 + (1 << 31));
    assert_eq!(life.folders().await, FOLDERS + 1);
    life.mkdir("/newer").await;
    let losses = life.namenode.service().losses();
    assert_eq!(losses.len(), 1);
    let service = life.namenode.service();
    service.forget_losses(&service.own_caller().clone()).await.unwrap();
    assert!(life.namenode.service().losses().is_empty());
    life.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datanode_that_knows_better_makes_an_old_copy_known_as_such() {
    let keep = tempfile::tempdir().unwrap();
    let life = Life::begin(&config(keep.path())).await.unwrap();
    let service = life.namenode.service();
    let ours = service.durable_transaction().0;
    let words = service.tell_stale((0, ours + 9), ours);
    assert!(words.contains("accept-loss") && words.contains(&format!("transaction {ours},")), "{words}");
    assert_eq!(service.health().problems(), [words]);
    life.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_changes_until_there_is_room() {
    let keep = tempfile::tempdir().unwrap();
    let mut config = config(keep.path());
    config.upkeep.reserved_bytes = u64::MAX;
    config.upkeep.check_interval_ms = 10;
    let shutdown = Shutdown::new();
    let namenode = Namenode::start(config, shutdown.clone()).await.unwrap();
    let service = namenode.service();
    let low = || service.safe_mode().is_some_and(|reason| reason.starts_with("Resources are low on NN."));
    while !low() {
        tokio::task::yield_now().await;
    }
    service.set_safe_mode(&service.own_caller().clone(), false).unwrap();
    assert!(low(), "an operator cannot make room by words");
    assert!(service.health().problems()[0].contains("upkeep.reserved_bytes"));
    shutdown.trigger();
    namenode.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_namespace_is_checked_and_what_can_be_is_repaired() {
    let keep = tempfile::tempdir().unwrap();
    let config = filled(keep.path()).await;
    let life = Life::begin(&config).await.unwrap();
    let service = life.namenode.service();
    let root = service.own_caller().clone();
    let checked = service.check_namespace(&root, false).await.unwrap();
    assert_eq!((checked.inodes, checked.problems), (FOLDERS, vec![]));
    life.end().await;

    // What a bug might leave: a wrong total, a wrong count, a name that leads nowhere, a counter that is off.
    offline::tests_support::harm(&config);
    let life = Life::begin(&config).await.unwrap();
    let service = life.namenode.service();
    let checked = service.check_namespace(&root, false).await.unwrap();
    assert!(checked.problems.len() >= 3 && checked.repaired.is_empty(), "{checked:?}");
    let checked = service.check_namespace(&root, true).await.unwrap();
    assert_eq!(checked.problems, Vec::<String>::new());
    assert!(checked.repaired.len() >= 3);
    assert_eq!(life.folders().await, FOLDERS);
    life.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journal_and_store_are_shown_and_compared_without_being_changed() {
    let keep = tempfile::tempdir().unwrap();
    let config = config(keep.path());
    let life = Life::begin(&config).await.unwrap();
    life.mkdir("/d").await;
    life.end().await;
    let mut text = Vec::new();
    offline::dump_journal(&keep.path().join("a"), &mut text).unwrap();
    let lines: Vec<serde_json::Value> = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["seal", "batch", "batch", "seal"]);
    assert_eq!(lines[2]["transactions"][0]["operation"], 2);
    let names: Vec<&str> =
        lines[2]["changes"].as_array().unwrap().iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(names, ["d", "d"], "an inode and its entry");

    let mut image = Vec::new();
    offline::dump_image(&keep.path().join("a"), &mut image).unwrap();
    let image = String::from_utf8(image).unwrap();
    let inode = image
        .lines()
        .find(|line| line.contains("\"name\":\"d\"") && line.contains("\"table\":\"inode\""))
        .unwrap();
    assert!(inode.contains("\"kind\":\"directory\"") && inode.contains("\"mode\":\"755\""), "{inode}");
    assert!(image.lines().last().unwrap().starts_with("{\"rows\":"));

    let verified = offline::verify_journal(&config.data_dirs).unwrap();
    assert_eq!((verified.range, verified.damaged, verified.lost), (Some((1, 4)), vec![], vec![]));
    let segment = keep.path().join("b/journal/segment-00000000000000000001.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[64 + 10] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let verified = offline::verify_journal(&config.data_dirs).unwrap();
    assert_eq!((verified.damaged.len(), verified.lost), (1, vec![]));
    let verified = offline::verify_journal(&config.data_dirs[1..]).unwrap();
    assert_eq!(verified.range, Some((2, 4)));
    assert_eq!(std::fs::read(&segment).unwrap(), bytes, "nothing is changed");
    assert_eq!(
        Life::begin(&config).await.unwrap().namenode.service().store_view().counters().unwrap().last_tx.0,
        2
    );
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_of_every_layout_are_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    // Inodes, blocks, and files in `/folder`.
    for (layout, inodes, blocks, files) in [("layout-1", 4, 0, 1), ("layout-2", 5, 1, 2)] {
        for from_journal in [false, true] {
            let keep = tempfile::tempdir().unwrap();
            match layout {
                "layout-1" => copy_folder(&golden.join(layout), &keep.path().join("a")),
                _ => copy_folder(&golden.join(layout), keep.path()),
            }
            if from_journal {
                std::fs::remove_dir_all(keep.path().join("a/store")).unwrap();
                let _ = std::fs::remove_dir_all(keep.path().join("b/store-copy"));
            }
            let config = config(keep.path());
            let life = Life::begin(&config).await.unwrap();
            let service = life.namenode.service();
            let root = service.own_caller().clone();
            let checked = service.check_namespace(&root, false).await.unwrap();
            let found = (checked.inodes, checked.blocks, checked.problems);
            assert_eq!(found, (inodes, blocks, vec![]), "{layout}, from the journal: {from_journal}");
            let summary = service.content_summary(&root, &FsPath::parse("/folder").unwrap()).await.unwrap();
            assert_eq!(
                (summary.directories, summary.files, summary.quota.names),
                (2, files, Some(100)),
                "{layout}"
            );
            life.mkdir("/folder/new").await;
            life.end().await;
            // Raised, so that the release before says which one to start.
            let version = std::fs::read_to_string(keep.path().join("a/VERSION")).unwrap();
            assert!(version.starts_with("layout_version = 2\n"), "{version}");
            let life = Life::begin(&config).await.unwrap();
            assert_eq!(life.folders().await, 4);
            life.end().await;
        }
    }
}

/// What the second data folder of a release of before has is a backup, and puts a lost first folder right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_every_layout_is_put_back() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/layout-2");
    let keep = tempfile::tempdir().unwrap();
    let saved = keep.path().join("saved");
    copy_folder(&golden.join("b/store-copy"), &saved);
    let config = config(keep.path());
    offline::restore(&config, &saved).unwrap();
    let life = Life::begin(&config).await.unwrap();
    assert_eq!(life.folders().await, 3);
    life.end().await;
    // And where the first folder is lost.
    let other = keep.path().join("other");
    copy_folder(&golden.join("b"), &other.join("b"));
    let config = self::config(&other);
    let life = Life::begin(&config).await.unwrap();
    assert_eq!(life.folders().await, 3);
    assert_eq!(life.namenode.service().losses().len(), 1);
    life.end().await;
}

/// A machine whose clock is minutes off when it starts, and is set while it runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_minutes_off_loses_nothing() {
    use steadfs_daemon::clock::{Clock, ManualClock};
    let keep = tempfile::tempdir().unwrap();
    let config = config(keep.path());
    let minutes = 600_000;
    let mut made = 1;
    for (life, starts_at) in [10 * minutes, 9 * minutes, 11 * minutes].into_iter().enumerate() {
        let shutdown = Shutdown::new();
        let clock = ManualClock::shared(steadfs_common::Millis(starts_at));
        let shared: steadfs_daemon::clock::SharedClock = clock.clone();
        let namenode = Namenode::start_at(config.clone(), shutdown.clone(), shared).await.unwrap();
        namenode.service().set_safe_mode(&namenode.service().own_caller().clone(), false).unwrap();
        let life_of = Life { namenode, shutdown };
        life_of.mkdir(&format!("/{life}-before")).await;
        clock.set(steadfs_common::Millis(clock.now().0 + minutes));
        life_of.mkdir(&format!("/{life}-after")).await;
        made += 2;
        assert_eq!(life_of.folders().await, made);
        let service = life_of.namenode.service();
        let checked = service.check_namespace(&service.own_caller().clone(), false).await.unwrap();
        assert_eq!(checked.problems, Vec::<String>::new());
        life_of.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_scrub_runs_at_a_time_and_keeps_no_thread_of_others() {
    let keep = tempfile::tempdir().unwrap();
    let mut config = config(keep.path());
    // A byte a second: it does not end by itself.
    config.upkeep.scrub_bytes_per_second = 1;
    config.upkeep.scrub_interval_ms = 0;
    let life = Life::begin(&config).await.unwrap();
    for number in 0..50 {
        life.mkdir(&format!("/{number}")).await;
    }
    let service = life.namenode.service().clone();
    service.roll_journal(&service.own_caller().clone()).await.unwrap();
    let order = || {
        let service = service.clone();
        tokio::spawn(async move { service.scrub(&service.own_caller().clone()).await })
    };
    let (mut one, mut other) = (order(), order());
    // Whichever comes second is refused at once; the first does not end by itself.
    let (refused, running) = tokio::select! {
        ended = &mut one => (ended, other),
        ended = &mut other => (ended, one),
    };
    let text = refused.unwrap().unwrap_err().to_string();
    assert!(text.contains("running already"), "{text}");
    life.end().await;
    assert!(running.await.unwrap().is_err(), "it ends with the namenode");
}

#[test]
fn what_the_dumps_print_stays_as_it_is() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path().join("a");
    copy_folder(&golden.join("layout-1"), &folder);
    let (mut journal, mut image) = (Vec::new(), Vec::new());
    offline::dump_journal(&folder, &mut journal).unwrap();
    offline::dump_image(&folder, &mut image).unwrap();
    for (name, found) in [("layout-1.journal.jsonl", journal), ("layout-1.image.jsonl", image)] {
        let expected = std::fs::read_to_string(golden.join("dumps").join(name)).unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), expected, "{name}");
    }
    // And they are sound, as far as the check goes that changes nothing.
    let sound = offline::check(&[folder]).unwrap();
    assert_eq!(sound.worst(), None, "{sound:?}");
}

#[test]
fn a_disk_that_does_not_answer_is_told() {
    assert_eq!(stalled(Duration::from_millis(9_999)), None);
    let told = stalled(Duration::from_secs(75)).unwrap();
    assert!(told.contains("for 75 s: a disk of data_dirs does not answer"), "{told}");
}
