//! The power fails: what was acknowledged is there afterwards, whatever the disk kept of the rest.
//!
//! All operations go past a recorder that knows what was synced. At a chosen operation the machine "stops": nothing more
//! succeeds. Then a disk is made that may have come out of it: names in their order up to some point not before the last
//! folder sync, and of each file the synced bytes, each sector
//! perhaps as it was written later.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use parking_lot::Mutex;
use proptest::prelude::*;
use steadfs_common::BlockId;
use steadfs_datanode_store::{
    Block, DiskOp, Faults, NoListener, ReplicaState, ReplicaWriter, Store, StoreError, StoreOptions,
    StoreResult,
};

use crate::fixture::*;

/// What a disk writes wholly or not at all, in bytes.
const SECTOR: usize = 512;

type FileId = usize;

#[derive(Clone, Debug)]
enum NameOp {
    Make(PathBuf),
    Create(PathBuf, FileId),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl NameOp {
    fn parents(&self) -> Vec<&Path> {
        match self {
            Self::Make(path) | Self::Create(path, _) | Self::Remove(path) => vec![path.parent().unwrap()],
            Self::Rename(from, to) => vec![from.parent().unwrap(), to.parent().unwrap()],
        }
    }
}

#[derive(Default)]
struct Recorded {
    left: Option<usize>,
    /// So many steps pass, and for the next one there is no room.
    lacks: Option<usize>,
    ops: Vec<NameOp>,
    /// Operations before this one are durable.
    durable: usize,
    /// Folders whose own names are: a folder made earlier than durable names in it need not be.
    folders: BTreeSet<PathBuf>,
    /// The file behind a name now, and behind the name that a handle was opened by.
    names: HashMap<PathBuf, FileId>,
    opened: HashMap<PathBuf, FileId>,
    synced: HashMap<FileId, Vec<u8>>,
    files: usize,
}

#[derive(Default)]
struct Recorder(Mutex<Recorded>);

impl Faults for Recorder {
    fn before(&self, op: DiskOp, _path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let changes = !matches!(op, DiskOp::Open | DiskOp::Read | DiskOp::List);
        if let Some(left) = &mut state.left
            && changes
        {
            if *left == 0 {
                return Err(io::Error::other("the power is gone"));
            }
            *left -= 1;
        }
        let takes_room = matches!(op, DiskOp::Create | DiskOp::Write | DiskOp::Rename | DiskOp::Remove);
        match state.lacks.filter(|_| takes_room) {
            Some(0) => {
                state.lacks = None;
                return Err(io::ErrorKind::StorageFull.into());
            }
            Some(steps) => state.lacks = Some(steps - 1),
            None => {}
        }
        Ok(())
    }

    fn after(&self, op: DiskOp, path: &Path, to: Option<&Path>) {
        let mut state = self.0.lock();
        let path = path.to_path_buf();
        match op {
            DiskOp::Create => {
                state.files += 1;
                let id = state.files;
                state.names.insert(path.clone(), id);
                state.opened.insert(path.clone(), id);
                state.ops.push(NameOp::Create(path, id));
            }
            DiskOp::Open => {
                if let Some(id) = state.names.get(&path).copied() {
                    state.opened.insert(path, id);
                }
            }
            DiskOp::Rename => {
                let to = to.unwrap().to_path_buf();
                let id = state.names.remove(&path).unwrap();
                state.names.insert(to.clone(), id);
                state.ops.push(NameOp::Rename(path, to));
            }
            DiskOp::Remove => {
                state.names.remove(&path);
                state.ops.push(NameOp::Remove(path));
            }
            DiskOp::MakeDir => state.ops.push(NameOp::Make(path)),
            DiskOp::Sync => {
                let id = state.opened[&path];
                let now = state.names.iter().find(|(_, other)| **other == id).map(|(name, _)| name.clone());
                if let Some(bytes) = now.and_then(|now| fs::read(now).ok()) {
                    state.synced.insert(id, bytes);
                }
            }
            DiskOp::SyncDir => {
                let last = state.ops.iter().rposition(|op| op.parents().contains(&path.as_path()));
                state.durable = state.durable.max(last.map_or(0, |last| last + 1));
                let made = |op: &NameOp| match op {
                    NameOp::Make(folder) if folder.parent() == Some(path.as_path()) => Some(folder.clone()),
                    _ => None,
                };
                let made: Vec<_> = state.ops.iter().filter_map(made).collect();
                state.folders.extend(made);
            }
            DiskOp::Write | DiskOp::Read | DiskOp::Truncate | DiskOp::List => {}
        }
    }
}

impl Recorder {
    /// Makes `target` what the disk may be after the crash: `choices` says what became of what was not synced.
    fn crash(&self, root: &Path, target: &Path, mut choices: u64) {
        let state = self.0.lock();
        let mut choose = move |n: u64| {
            choices = choices.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (choices >> 33) % n
        };
        let kept = state.durable + choose((state.ops.len() - state.durable) as u64 + 1) as usize;
        let mut folders = BTreeSet::new();
        let mut names: BTreeMap<PathBuf, FileId> = BTreeMap::new();
        for op in &state.ops[..kept] {
            match op {
                NameOp::Make(path) => drop(folders.insert(path.clone())),
                NameOp::Create(path, id) => drop(names.insert(path.clone(), *id)),
                NameOp::Remove(path) => drop(names.remove(path)),
                NameOp::Rename(from, to) => {
                    if let Some(id) = names.remove(from) {
                        names.insert(to.clone(), id);
                    }
                }
            }
        }
        let moved = |path: &Path| target.join(path.strip_prefix(root).unwrap());
        folders.retain(|folder| state.folders.contains(folder) || choose(2) == 0);
        for folder in folders.iter().filter(|folder| folder.starts_with(root)) {
            let whole =
                folder.ancestors().take_while(|above| *above != root).all(|above| folders.contains(above));
            if whole {
                fs::create_dir_all(moved(folder)).unwrap();
            }
        }
        names.retain(|path, _| path.parent().is_some_and(|folder| moved(folder).is_dir()));
        for (path, id) in names {
            let synced = state.synced.get(&id).cloned().unwrap_or_default();
            let now = state.names.iter().find(|(_, other)| **other == id);
            let current = now.and_then(|(name, _)| fs::read(name).ok()).unwrap_or_else(|| synced.clone());
            let bytes = match choose(3) {
                0 => synced,
                1 => current,
                // Each sector is old or new.
                _ => {
                    let mut bytes = current;
                    for (index, sector) in bytes.chunks_mut(SECTOR).enumerate() {
                        if choose(2) == 0 {
                            let old = synced.get(index * SECTOR..).unwrap_or_default();
                            for (at, byte) in sector.iter_mut().enumerate() {
                                *byte = old.get(at).copied().unwrap_or(0);
                            }
                        }
                    }
                    bytes
                }
            };
            fs::write(moved(&path), bytes).unwrap();
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create,
    Write(u16),
    Flush,
    Sync,
    Finalize,
    Append,
    Recover,
    Close,
    Delete,
    BlockRecovery(u16),
    /// A recovery for a step of which there is no room, and the next one; what is finalized is truncated.
    Lacking(u8, u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Create),
        6 => (1_u16..1_500).prop_map(Step::Write),
        1 => Just(Step::Flush),
        3 => Just(Step::Sync),
        3 => Just(Step::Finalize),
        2 => Just(Step::Append),
        1 => Just(Step::Recover),
        1 => Just(Step::Close),
        1 => Just(Step::Delete),
        1 => (0_u16..2_000).prop_map(Step::BlockRecovery),
        2 => (0_u8..8, 0_u16..2_000).prop_map(|(after, len)| Step::Lacking(after, len)),
    ]
}

/// What must be there afterwards.
#[derive(Clone, Debug, Default)]
struct Promise {
    /// Bytes that were received, and how many of them are promised.
    data: Vec<u8>,
    durable: usize,
    stamp: u64,
    finalized: bool,
    /// An operation on it was under way when the power went: it may be as before or as after.
    in_doubt: bool,
    /// It was being deleted.
    deleting: bool,
}

struct Run {
    recorder: Arc<Recorder>,
    store: Arc<Store>,
    writer: Option<ReplicaWriter>,
    current: u64,
    promises: BTreeMap<u64, Promise>,
    stamp: u64,
}

impl Run {
    /// Does a step; an error is the power going.
    fn step(&mut self, step: &Step) -> Result<(), ()> {
        let stop = |_| ();
        let id = BlockId(self.current);
        let spec = SPEC;
        self.stamp += 1;
        let new_stamp = steadfs_common::GenStamp(self.stamp);
        if matches!(step, Step::Create) {
            self.writer = None;
            self.current += 1;
            let id = BlockId(self.current);
            let writer = self.store.create_rbw(create(id, new_stamp)).map_err(stop)?;
            self.promises.insert(self.current, Promise { stamp: self.stamp, ..Promise::default() });
            self.writer = Some(writer);
            return Ok(());
        }
        let Some(promise) = self.promises.get_mut(&self.current) else { return Ok(()) };
        let old =
            Block { id, stamp: steadfs_common::GenStamp(promise.stamp), len: promise.data.len() as u64 };
        promise.in_doubt = true;
        match (step, &self.writer) {
            (Step::Write(len), Some(writer)) => {
                let at = promise.data.len();
                promise.data.extend(bytes(self.stamp, usize::from(*len)));
                // As clients do: a partial chunk is sent again from its start.
                let from = at - at % 512;
                write(writer, from as u64, &promise.data[from..]).map_err(stop)?;
                writer.set_acked(promise.data.len() as u64);
            }
            (Step::Flush, Some(writer)) => writer.flush().map_err(stop)?,
            (Step::Sync, Some(writer)) => {
                writer.sync().map_err(stop)?;
                promise.durable = promise.data.len();
            }
            (Step::Finalize, Some(writer)) => {
                writer.finalize().map_err(stop)?;
                promise.finalized = true;
                promise.durable = promise.data.len();
                self.writer = None;
            }
            (Step::Append, None) if promise.finalized => {
                self.writer = Some(self.store.append(old, new_stamp, spec).map_err(stop)?);
                promise.finalized = false;
                promise.stamp = self.stamp;
            }
            (Step::Recover, Some(_)) => {
                let writer = self.store.recover_rbw(old, new_stamp, old.len, old.len, spec).map_err(stop)?;
                self.writer = Some(writer);
                promise.stamp = self.stamp;
            }
            (Step::Close, Some(_)) => {
                self.store.recover_close(old, new_stamp, old.len).map_err(stop)?;
                self.writer = None;
                promise.finalized = true;
                promise.durable = promise.data.len();
                promise.stamp = self.stamp;
            }
            (Step::Delete, _) if !promise.data.is_empty() => {
                promise.deleting = true;
                self.store.delete(id, new_stamp).map_err(stop)?;
                self.writer = None;
                self.promises.remove(&self.current);
                return Ok(());
            }
            (Step::BlockRecovery(cut), _) => {
                let told = self.store.init_recovery(old, new_stamp).map_err(stop)?.ok_or(())?;
                let len = told.block.len.min(u64::from(*cut).max(promise.durable as u64));
                self.store.update_replica(told.block, new_stamp, len).map_err(stop)?;
                self.writer = None;
                promise.data.truncate(len as usize);
                promise.finalized = true;
                promise.durable = promise.data.len();
                promise.stamp = self.stamp;
            }
            (Step::Lacking(after, cut), _) => {
                let kept = if promise.finalized { 0 } else { promise.durable as u64 };
                let least = u64::from(*cut).max(kept);
                promise.durable = promise.durable.min(least as usize);
                let store = &self.store;
                let recover = |stamp| -> StoreResult<u64> {
                    // With the power the volume goes.
                    let gone = || StoreError::NotFound { block: id, why: "it is gone".into() };
                    let told = store.init_recovery(old, stamp)?.ok_or_else(gone)?;
                    let len = told.block.len.min(least);
                    store.update_replica(told.block, stamp, len).map(|_| len)
                };
                self.recorder.0.lock().lacks = Some(usize::from(*after));
                let first = recover(new_stamp);
                self.recorder.0.lock().lacks = None;
                let len = match first {
                    Ok(len) => len,
                    Err(_) => {
                        self.stamp += 1;
                        let second = recover(steadfs_common::GenStamp(self.stamp));
                        let gone = self.recorder.0.lock().left == Some(0);
                        assert!(second.is_ok() || gone, "{second:?}");
                        second.map_err(stop)?
                    }
                };
                self.writer = None;
                promise.data.truncate(len as usize);
                promise.finalized = true;
                promise.durable = promise.data.len();
                promise.stamp = self.stamp;
            }
            _ => {}
        }
        self.promises.get_mut(&self.current).unwrap().in_doubt = false;
        Ok(())
    }
}

fn check(store: &Arc<Store>, promises: &BTreeMap<u64, Promise>) {
    for (id, promise) in promises {
        let id = BlockId(*id);
        if promise.deleting {
            continue;
        }
        let Some(status) = store.status(id) else {
            assert_eq!(promise.durable, 0, "{id} is gone: {promise:?}");
            assert!(!promise.finalized || promise.in_doubt, "{id} is gone");
            continue;
        };
        assert!(
            status.block.len >= promise.durable as u64,
            "{id}: {} bytes of {} promised are left: {:?}, {} received",
            status.block.len,
            promise.durable,
            status.state,
            promise.data.len(),
        );
        if promise.finalized && !promise.in_doubt {
            assert_eq!(status.state, ReplicaState::Finalized, "{id}");
            assert_eq!(status.block.stamp.0, promise.stamp, "{id}");
            assert_eq!(status.block.len, promise.data.len() as u64, "{id}");
        }
        if promise.durable > 0 && !promise.in_doubt {
            assert_eq!(status.block.stamp.0, promise.stamp, "{id}: a stale stamp would make it worthless");
        }
        // Whatever state it is in: what it says it has are the bytes that were written.
        let len = if status.state == ReplicaState::Finalized {
            status.block.len
        } else {
            let recovery = steadfs_common::GenStamp(1 << 40);
            let told = store.init_recovery(Block { len: 0, ..status.block }, recovery).unwrap().unwrap();
            if told.block.len == 0 {
                // An empty one takes no part in a recovery: not even its checksum file's first bytes need be there.
                continue;
            }
            store.update_replica(told.block, recovery, told.block.len).unwrap();
            told.block.len
        };
        let read = read_all(store, id, status.block.stamp);
        assert_eq!(read.len() as u64, len);
        assert!(promise.data.starts_with(&read), "{id}: other bytes than were written");
    }
}

/// False if the steps ended before the power went.
fn crash_after(steps: &[Step], operations: usize, choices: u64) -> bool {
    let recorder = Arc::new(Recorder::default());
    let fixture = Fixture::with_faults(1, Some(recorder.clone()));
    let mut run = Run {
        recorder: recorder.clone(),
        store: fixture.store().clone(),
        writer: None,
        current: ID.0,
        promises: BTreeMap::new(),
        stamp: 1_000,
    };
    recorder.0.lock().left = Some(operations);
    let ended = steps.iter().all(|step| run.step(step).is_ok());
    let target = memory_dir();
    recorder.crash(fixture.dir.path(), target.path(), choices);
    let mut volumes = fixture.options().volumes;
    volumes[0].path = target.path().join("volume0");
    let store = Store::open(StoreOptions::new(volumes), Arc::new(NoListener)).unwrap();
    check(&store, &run.promises);
    !ended
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn the_power_fails(
        steps in proptest::collection::vec(step(), 1..25),
        operations in 0_usize..120,
        choices in any::<u64>(),
    ) {
        crash_after(&[&[Step::Create], &steps[..]].concat(), operations, choices);
    }
}

#[test]
fn every_operation_of_a_usual_life_may_be_the_last() {
    use Step::{Append, BlockRecovery, Close, Create, Finalize, Recover, Sync, Write};
    let lives = [
        vec![
            Create,
            Write(700),
            Sync,
            Write(100),
            Sync,
            Write(900),
            Finalize,
            Append,
            Write(50),
            Sync,
            Write(1),
            Finalize,
        ],
        vec![
            Create,
            Write(600),
            Sync,
            Write(50),
            Write(50),
            Write(50),
            Write(50),
            Recover,
            Write(50),
            Write(50),
            Sync,
        ],
        vec![Create, Write(700), Finalize, Append, Write(400), Recover, Write(10), Sync, Close],
        vec![
            Create,
            Write(1_400),
            Sync,
            Write(300),
            BlockRecovery(1_500),
            BlockRecovery(700),
            Append,
            Write(3),
            Finalize,
        ],
    ];
    let lacking = (0..8).map(|step| {
        let (cut, truncate) = (Step::Lacking(step, 1_500), Step::Lacking(step, 700));
        vec![Create, Write(1_400), Sync, Write(300), cut, truncate, Append, Write(3), Finalize]
    });
    for life in lives.into_iter().chain(lacking) {
        let mut operations = 0;
        while (0..4).all(|choices| crash_after(&life, operations, choices * 7_919 + operations as u64)) {
            operations += 1;
        }
        assert!(operations > 20, "{life:?} ended after {operations}");
    }
}
