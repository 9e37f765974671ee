//! A good folder is sound, each kind of damage is told with its remedy, and nothing is ever written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Gravity, Sound, check};
use crate::config::NamenodeConfig;
use crate::offline::tests_support::harm;
use crate::upkeep::tests::{filled, flip, tables};

/// Every file below a folder, and its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

struct Bench {
    keep: tempfile::TempDir,
    config: NamenodeConfig,
}

impl Bench {
    async fn new() -> Self {
        let keep = tempfile::tempdir().unwrap();
        let config = filled(keep.path()).await;
        Self { keep, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.keep.path().join(name)
    }

    /// What a check finds, which must have left everything as it was.
    fn check(&self) -> Sound {
        let before = files(self.keep.path());
        let sound = check(&self.config.data_dirs).unwrap();
        assert!(files(self.keep.path()) == before, "something was written");
        sound
    }

    fn finds(&self, worst: Gravity, text: &str) {
        let sound = self.check();
        assert_eq!(sound.worst(), Some(worst), "{sound:?}");
        assert!(sound.findings.iter().any(|(_, found)| found.contains(text)), "no `{text}` in {sound:?}");
    }

    /// The newest segments of the journal, one a copy.
    fn newest_segments(&self) -> Vec<PathBuf> {
        let newest = |copy| {
            let items = std::fs::read_dir(self.path(copy).join("journal")).unwrap();
            let paths = items.map(|item| item.unwrap().path());
            paths.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap()
        };
        ["a", "b"].map(newest).to_vec()
    }
}

/// Changes a byte at a place where an entry is.
fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[64 + 40] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_folders_are_sound_and_nothing_is_written() {
    let bench = Bench::new().await;
    let sound = bench.check();
    assert_eq!(sound.findings, []);
    for fact in [
        "cluster SFS-",
        "journal: entries ",
        "second copy of the store",
        "namespace: 304 inodes, 0 blocks",
        "replays",
    ] {
        assert!(sound.facts.iter().any(|known| known.contains(fact)), "no `{fact}` in {:?}", sound.facts);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_a_start_mends_is_told_as_such() {
    let bench = Bench::new().await;
    spoil(&bench.newest_segments()[0]);
    bench.finds(Gravity::Mends, "a start makes it whole from the other copies");
    // What the store has passed is not needed any more.
    std::fs::remove_dir_all(bench.path("b/journal")).unwrap();
    bench.finds(Gravity::Mends, "is not there: a start makes it again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_folders_and_files_are_told_with_what_they_are_made_from() {
    let bench = Bench::new().await;
    std::fs::rename(bench.path("b/journal"), bench.path("away")).unwrap();
    bench.finds(Gravity::Mends, "a start makes it again from another copy");
    std::fs::rename(bench.path("away"), bench.path("b/journal")).unwrap();
    std::fs::rename(bench.path("a/VERSION"), bench.path("away")).unwrap();
    let text = check(&bench.config.data_dirs).unwrap_err().to_string();
    assert!(text.contains("put the VERSION file back"), "{text}");
    std::fs::write(bench.path("a/VERSION"), "layout_version = 99\n").unwrap();
    let text = check(&bench.config.data_dirs).unwrap_err().to_string();
    assert!(text.contains("start the release that wrote it"), "{text}");
    std::fs::rename(bench.path("away"), bench.path("a/VERSION")).unwrap();

    std::fs::rename(bench.path("a/store"), bench.path("store")).unwrap();
    bench.finds(Gravity::Mends, "is gone: a start makes it again from its copy in");
    // Nor is the copy good.
    let copied = tables(&bench.path("b/store-copy/files")).pop().unwrap();
    flip(&copied);
    bench.finds(Gravity::Lost, "restore a backup into empty folders");
    std::fs::rename(bench.path("store"), bench.path("a/store")).unwrap();
    bench.finds(Gravity::Mends, "is not the file that was written");
    flip(&copied);
    assert_eq!(bench.check().worst(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotten_table_of_the_store_is_found() {
    let bench = Bench::new().await;
    let copied = |table: &PathBuf| bench.path("b/store-copy/files").join(table.file_name().unwrap()).exists();
    let (copied, others): (Vec<_>, Vec<_>) = tables(&bench.path("a/store")).into_iter().partition(copied);
    assert!(!copied.is_empty());
    for table in copied {
        flip(&table);
        let sound = bench.check();
        let named = table.file_name().unwrap().to_str().unwrap();
        assert!(sound.worst().is_some(), "{named}: {sound:?}");
        assert!(sound.findings.iter().any(|(_, text)| text.contains(named)), "{named}: {sound:?}");
        flip(&table);
        // In its rows: nothing is lost that the copy and the journal have.
        let file = std::fs::read(&table).unwrap();
        let mut bytes = file.clone();
        bytes[10] ^= 1;
        std::fs::write(&table, bytes).unwrap();
        let sound = bench.check();
        assert!(sound.worst().is_some_and(|worst| worst < Gravity::Lost), "{named}: {sound:?}");
        std::fs::write(&table, file).unwrap();
    }
    // What the copy does not have yet is found by its rows: by the store's start where it needs them, otherwise by the check.
    for table in others {
        let file = std::fs::read(&table).unwrap();
        let mut bytes = file.clone();
        bytes[10] ^= 1;
        std::fs::write(&table, bytes).unwrap();
        let sound = bench.check();
        let told = |worst, remedy: &str| {
            sound.worst() == Some(worst) && sound.findings.iter().any(|(_, text)| text.contains(remedy))
        };
        let mends = told(Gravity::Mends, "a start makes it again from its copy");
        assert!(mends || told(Gravity::Repair, "Move "), "{}: {sound:?}", table.display());
        std::fs::write(&table, file).unwrap();
    }
    std::fs::write(bench.path("a/store/CURRENT"), "MANIFEST-999999\n").unwrap();
    bench.finds(Gravity::Mends, "cannot be read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_do_not_agree_are_told() {
    let bench = Bench::new().await;
    harm(&bench.config);
    bench.finds(Gravity::Repair, "leads to no inode that says so");
    bench.finds(Gravity::Repair, "has totals");
    bench.finds(Gravity::Repair, "are counted, and");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_does_not_fit_the_store_is_told() {
    let bench = Bench::new().await;
    for segment in bench.newest_segments() {
        std::fs::remove_file(segment).unwrap();
    }
    bench.finds(Gravity::Lost, "Put back the newest copies of the journal folders");
    for copy in ["a", "b"] {
        std::fs::remove_dir_all(bench.path(copy).join("journal")).unwrap();
    }
    bench.finds(Gravity::Lost, "there is no copy of the journal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_in_use_and_of_nobody_are_refused() {
    let bench = Bench::new().await;
    let life = crate::upkeep::tests::Life::begin(&bench.config).await.unwrap();
    let text = check(&bench.config.data_dirs).unwrap_err().to_string();
    assert!(text.contains("stop the namenode first"), "{text}");
    life.end().await;
    let text = check(&[bench.path("nowhere")]).unwrap_err().to_string();
    assert!(text.contains("none of these folders holds a namenode's data"), "{text}");
    assert!(!bench.path("nowhere").exists());
}

#[test]
fn of_too_many_findings_the_graver_ones_are_told() {
    let mut sound = Sound::default();
    for number in 0..super::MAX_FINDINGS + 7 {
        sound.found(Gravity::Repair, format!("{number}"));
    }
    assert_eq!((sound.findings.len(), sound.worst()), (super::MAX_FINDINGS, Some(Gravity::Repair)));
    sound.found(Gravity::Mends, "less");
    sound.found(Gravity::Lost, "more");
    sound.found(Gravity::Lost, "as grave");
    assert_eq!((sound.findings.len(), sound.worst()), (super::MAX_FINDINGS + 1, Some(Gravity::Lost)));
}
