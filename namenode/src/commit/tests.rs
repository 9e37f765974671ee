use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use steadfs_common::{FsErrorKind, FsPath, FsResult, InodeId, Millis, TxId};
use steadfs_daemon::clock::ManualClock;
use steadfs_namenode_core::namespace::kept::OpenFiles;
use steadfs_namenode_core::{Caller, Command, Key, Reply, Settings, View as _};
use tokio::sync::oneshot;

use super::answers::SavedAnswers;
use super::renewals::Renewals;
use super::{BATCH_BYTES, BATCH_ROWS, CommitLoop, FirstBlock, Job, Parts, payload};
use crate::config::StoreConfig;
use crate::events::Events;
use crate::journal::{Journal, Position};
use crate::service::EffectSink as _;
use crate::service::test_sink::TestSink;
use crate::store::Store;

/// A journal that keeps its entries in memory and fails when it is told to.
#[derive(Clone, Default)]
struct FakeJournal {
    entries: Arc<Mutex<Vec<Vec<u8>>>>,
    seals: Arc<AtomicU64>,
    trimmed: Arc<AtomicU64>,
    broken: Arc<AtomicU64>,
}

impl Journal for FakeJournal {
    fn append(&mut self, payload: &[u8]) -> io::Result<Position> {
        if self.broken.load(Ordering::Relaxed) != 0 {
            return Err(io::Error::other("the disk says no"));
        }
        self.entries.lock().push(payload.to_vec());
        Ok(self.position())
    }

    fn seal(&mut self) -> io::Result<()> {
        self.seals.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn roll(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn readmit(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn position(&self) -> Position {
        let index = self.entries.lock().len() as u64;
        Position { index, hash: index }
    }

    fn epoch(&self) -> u64 {
        1
    }

    fn trim(&mut self, through: u64) {
        self.trimmed.store(through, Ordering::Relaxed);
    }
}

/// Nothing is open. Notes where the store stood each time it was told that plans are carried out.
struct NothingOpen {
    store: Arc<Store>,
    settled_at: Mutex<Vec<u64>>,
}

impl OpenFiles for NothingOpen {
    fn is_open(&self, _file: InodeId) -> bool {
        false
    }

    fn is_known(&self) -> bool {
        true
    }

    fn settled(&self) {
        self.settled_at.lock().push(self.store.view().position().index);
    }
}

struct Bench {
    _folder: tempfile::TempDir,
    open: Arc<NothingOpen>,
    store: Arc<Store>,
    journal: FakeJournal,
    sink: Arc<TestSink>,
    commits: CommitLoop,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, writer) = Store::open(folder.path(), &StoreConfig::default()).unwrap();
        let journal = FakeJournal::default();
        let clock = ManualClock::shared(Millis(1_000));
        let sink = Arc::new(TestSink::default());
        let open = Arc::new(NothingOpen { store: store.clone(), settled_at: Mutex::default() });
        let commits = CommitLoop::new(Parts {
            store: store.clone(),
            writer,
            journal: Box::new(journal.clone()),
            settings: Arc::new(Settings::default()),
            clock: clock.clone(),
            sink: sink.clone(),
            renewals: Arc::new(Renewals::new(clock)),
            answers: Arc::new(SavedAnswers::new(10)),
            events: Events::new(TxId::default(), Default::default(), 1 << 20).unwrap(),
            open: open.clone(),
            seed: 1,
        });
        let mut bench = Self { _folder: folder, open, store, journal, sink, commits };
        assert_eq!(bench.run(vec![Command::Format]), [Ok(Reply::Done)]);
        bench
    }

    /// Carries out commands as one batch; who asked got no answer where there is none.
    fn run(&mut self, commands: Vec<Command>) -> Vec<FsResult<Reply>> {
        let (jobs, mut answers): (Vec<_>, Vec<_>) = commands.into_iter().map(job).unzip();
        self.commits.commit(jobs);
        answers.iter_mut().map(|answer| answer.try_recv().unwrap()).collect()
    }
}

impl Bench {
    /// Deletes as one call of a client that may repeat it.
    fn delete(&mut self, path: &FsPath, call: i32) -> FsResult<Reply> {
        let (mut job, mut answer) = job(Command::Delete { path: path.clone(), recursive: true });
        job.key = Some(steadfs_common::CallKey { client: [1; 16], call });
        self.commits.commit([job]);
        answer.try_recv().unwrap()
    }
}

fn job(command: Command) -> (Job, oneshot::Receiver<FsResult<Reply>>) {
    let (answer, answered) = oneshot::channel();
    let caller = Caller {
        user: "root".into(),
        groups: Vec::new(),
        superuser: true,
        address: None,
        origin: steadfs_namenode_core::command::Origin::default(),
    };
    (Job { caller, key: None, command, clearance: None, answer, first_block: None }, answered)
}

fn mkdirs(text: &str) -> Command {
    Command::Mkdirs { path: FsPath::parse(text).unwrap(), mode: 0o755, unmasked: None, create_parent: true }
}

#[test]
fn who_waits_for_plans_is_told_when_reads_see_them() {
    let mut bench = Bench::new();
    bench.open.settled_at.lock().clear();
    bench.run(vec![mkdirs("/a")])[0].clone().unwrap();
    assert_eq!(*bench.open.settled_at.lock(), [bench.journal.position().index]);
    // Also of a batch that changes nothing: what was asked for it is settled.
    bench.run(vec![mkdirs("/a")])[0].clone().unwrap();
    assert_eq!(bench.open.settled_at.lock().len(), 2);
}

#[test]
fn a_batch_is_one_entry_and_each_command_sees_those_before_it() {
    let mut bench = Bench::new();
    let before = bench.journal.entries.lock().len();
    let rename = Command::Rename {
        from: FsPath::parse("/a").unwrap(),
        to: FsPath::parse("/b").unwrap(),
        mode: steadfs_namenode_core::command::RenameMode::NoReplace,
        to_trash: false,
    };
    let replies = bench.run(vec![mkdirs("/a"), rename.clone(), rename, mkdirs("/b/c")]);
    assert_eq!(
        (&replies[0], &replies[1], &replies[3]),
        (&Ok(Reply::Done), &Ok(Reply::Done), &Ok(Reply::Done))
    );
    assert_eq!(replies[2].as_ref().unwrap_err().kind(), FsErrorKind::NotFound);
    let entries = bench.journal.entries.lock().clone();
    assert_eq!(entries.len(), before + 1);
    let (transactions, changes) = payload::decode(entries.last().unwrap()).unwrap();
    assert_eq!(transactions.iter().map(|tx| tx.operation).collect::<Vec<_>>(), [2, 14, 2]);
    assert!(transactions.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert!(changes.contains_key(&Key::Counters));
}

#[test]
fn safe_mode_is_asked_for_when_a_command_comes_and_not_when_its_batch_begins() {
    let mut bench = Bench::new();
    let ((first, mut before), (second, mut during), (third, mut after)) =
        (job(mkdirs("/before")), job(mkdirs("/during")), job(mkdirs("/after")));
    let sink = bench.sink.clone();
    // Each comes while those before it are planned.
    let jobs = [(first, false), (second, true), (third, false)].into_iter().map(|(job, on)| {
        sink.set_safe_mode(on);
        job
    });
    bench.commits.commit(jobs);
    assert_eq!(before.try_recv().unwrap(), Ok(Reply::Done));
    assert_eq!(during.try_recv().unwrap().unwrap_err().kind(), FsErrorKind::SafeMode);
    assert_eq!(after.try_recv().unwrap(), Ok(Reply::Done));
}

#[test]
fn a_file_and_its_first_block_are_one_entry() {
    let mut bench = Bench::new();
    let before = bench.journal.entries.lock().len();
    let path = FsPath::parse("/f").unwrap();
    let mut create = |overwrite| {
        let (mut job, mut created) = job(Command::Create {
            path: path.clone(),
            mode: 0o644,
            unmasked: None,
            client: "c".into(),
            create: true,
            overwrite,
            create_parent: false,
            replication: 3,
            block_size: 1 << 20,
            policy: 0,
        });
        let (answer, mut allocated) = oneshot::channel();
        job.first_block = Some(FirstBlock { path: path.clone(), client: "c".into(), answer });
        bench.commits.commit([job]);
        (created.try_recv().unwrap(), allocated.try_recv())
    };
    let (created, allocated) = create(false);
    let Ok(Reply::File(file)) = created else { panic!("{created:?}") };
    let Ok(Ok(Reply::Block(placed))) = allocated else { panic!("{allocated:?}") };
    assert_eq!((placed.block.inode, placed.offset, placed.storages.len()), (file.id, 0, 3));
    // Where no file is made, no block is added to the one that is there.
    let (refused, allocated) = create(false);
    assert!(refused.is_err() && allocated.is_err());
    assert_eq!(bench.journal.entries.lock().len(), before + 1);
    assert_eq!(bench.store.view().file_blocks(file.id, 0, 10), [placed.block.id]);
}

#[test]
fn refusals_alone_are_not_journalled() {
    let mut bench = Bench::new();
    let before = bench.journal.entries.lock().len();
    let missing = Command::SetPermission { path: FsPath::parse("/none").unwrap(), mode: 0o700 };
    assert_eq!(bench.run(vec![missing])[0].as_ref().unwrap_err().kind(), FsErrorKind::NotFound);
    assert_eq!(bench.journal.entries.lock().len(), before);
}

/// However much is queued at once, an entry and the memory it needs stay bounded.
#[test]
fn what_changes_much_is_several_entries() {
    let mut bench = Bench::new();
    let deep = "/a".repeat(900);
    let count = BATCH_ROWS / 2_700 + 2;
    let replies = bench.run((0..count).map(|number| mkdirs(&format!("/{number}{deep}"))).collect());
    assert!(replies.iter().all(|reply| *reply == Ok(Reply::Done)));
    let entries = bench.journal.entries.lock().clone();
    let rows = |entry: &Vec<u8>| payload::decode(entry).unwrap().1.len();
    assert!(entries.len() >= 3, "the first formats");
    assert!(entries.iter().all(|entry| rows(entry) < BATCH_ROWS + 3_000));
}

/// An attribute that is set writes all the attributes of its inode anew.
#[test]
fn large_lists_of_attributes_are_several_entries() {
    let mut bench = Bench::new();
    let set = |file: usize, name: usize| Command::SetXAttr {
        path: FsPath::parse(&format!("/{file}")).unwrap(),
        name: steadfs_common::xattr::XAttrName::parse(&format!("user.{name}")).unwrap(),
        value: Some(vec![7; 16_000]),
        flags: steadfs_common::xattr::XAttrFlags { create: true, replace: true },
    };
    let (files, attributes) = (100, 32);
    bench.run((0..files).map(|file| mkdirs(&format!("/{file}"))).collect());
    for name in 0..attributes {
        assert!(bench.run((0..files).map(|file| set(file, name)).collect()).iter().all(Result::is_ok));
    }
    let before = bench.journal.entries.lock().len();
    assert!(bench.run((0..files).map(|file| set(file, 0)).collect()).iter().all(Result::is_ok));
    let entries = bench.journal.entries.lock()[before..].to_vec();
    assert!(entries.len() > 1 && entries.iter().all(|entry| entry.len() < BATCH_BYTES + (1 << 20)));
}

/// Whether there is room was asked before: once here, an answer is kept in any case, even where the call changed nothing.
#[test]
fn every_answer_to_a_call_that_must_not_be_repeated_is_kept_and_given_again() {
    let mut bench = Bench::new();
    bench.run(vec![mkdirs("/a")]);
    let path = FsPath::parse("/a").unwrap();
    assert_eq!(bench.delete(&path, 0), Ok(Reply::Bool(true)));
    for call in 1..20 {
        assert_eq!(bench.delete(&path, call), Ok(Reply::Bool(false)));
    }
    assert_eq!(bench.store.view().retries(None, 100).len(), 20);
    assert_eq!(bench.delete(&path, 0), Ok(Reply::Bool(true)));
}

#[test]
fn a_journal_that_fails_ends_the_process_with_nothing_applied_or_answered() {
    let mut bench = Bench::new();
    bench.journal.broken.store(1, Ordering::Relaxed);
    let (job, mut answer) = job(mkdirs("/lost"));
    let position = bench.store.view().position();
    let ended = catch_unwind(AssertUnwindSafe(|| bench.commits.commit([job])));
    let sentence = ended.unwrap_err().downcast::<String>().unwrap();
    assert!(sentence.contains("the disk says no") && sentence.contains("start again"), "{sentence}");
    assert_eq!(bench.store.view().position(), position);
    assert!(answer.try_recv().is_err());
}

#[test]
fn seals_come_only_when_nothing_else_did() {
    let mut bench = Bench::new();
    let index = bench.journal.position().index;
    bench.commits.seal(index - 1);
    assert_eq!(bench.journal.seals.load(Ordering::Relaxed), 0);
    bench.commits.seal(index);
    assert_eq!(bench.journal.seals.load(Ordering::Relaxed), 1);
}

#[test]
fn the_journal_is_trimmed_no_further_than_the_store_is_durable() {
    let mut bench = Bench::new();
    bench.run(vec![mkdirs("/a")]);
    assert_eq!(bench.journal.trimmed.load(Ordering::Relaxed), 0);
    let flushed = bench.store.flush();
    bench.run(vec![mkdirs("/b")]);
    assert_eq!(bench.journal.trimmed.load(Ordering::Relaxed), flushed);
    assert!(bench.journal.position().index > flushed);
    assert!(bench.store.view().counters().is_some());
}

/// What the journal holds is all that is needed: replayed into an empty store, it gives the same namespace.
#[test]
fn the_journal_alone_makes_the_same_store() {
    let mut bench = Bench::new();
    for number in 0..20 {
        bench.run(vec![mkdirs(&format!("/{number}/x")), mkdirs(&format!("/{number}/y"))]);
        if number % 3 == 0 {
            let path = FsPath::parse(&format!("/{number}")).unwrap();
            bench.run(vec![Command::Delete { path, recursive: true }]);
        }
    }
    bench.run(vec![Command::Reclaim { limit: 1_000 }]);
    let folder = tempfile::tempdir().unwrap();
    let (replayed, mut writer) = Store::open(folder.path(), &StoreConfig::default()).unwrap();
    for (number, entry) in bench.journal.entries.lock().iter().enumerate() {
        let index = number as u64 + 1;
        writer.apply(Position { index, hash: index }, &payload::decode(entry).unwrap().1);
    }
    let (one, other) = (bench.store.view(), replayed.view());
    assert_eq!(one.position(), other.position());
    assert_eq!(one.counters(), other.counters());
    let root = steadfs_common::ROOT_INODE;
    assert_eq!(one.totals(root), other.totals(root));
    let entries = one.entries(root, None, 100);
    assert_eq!(entries, other.entries(root, None, 100));
    for (_, id) in entries {
        assert_eq!(one.inode(id), other.inode(id));
        assert_eq!(one.entries(id, None, 100), other.entries(id, None, 100));
    }
}
