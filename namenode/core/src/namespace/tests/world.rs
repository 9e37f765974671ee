//! A namespace in memory with datanodes that do as they are told. After each command every invariant is checked.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use smallvec::SmallVec;
use steadfs_common::{
    BlockId, CallKey, DatanodeUuid, FsErrorKind, FsPath, FsResult, GenStamp, InodeId, Millis, StorageId,
};

use crate::command::{BlockRef, FileRef, NewTimes, Origin, PlacedBlock, RenameMode};
use crate::event::EventBatch;
use crate::memory::{MemoryView, check};
use crate::namespace::kept::OpenFiles;
use crate::namespace::read::Reader;
use crate::namespace::subtree::Clearance;
use crate::namespace::{plan_once, read};
use crate::placement::{Cluster, PlacementRequest};
use crate::record::Inode;
use crate::tx::Tx;
use crate::view::View;
use crate::{Caller, Command, Context, Effect, Outcome, Reply, Settings};

use super::follower::Follower;

pub(super) const BLOCK: u64 = 1_000;

pub(super) fn path(text: &str) -> FsPath {
    text.parse().unwrap()
}

pub(super) fn user(name: &str) -> Caller {
    let groups: &[&str] = match name {
        "hdfs" => &["supergroup"],
        "ann" => &["staff"],
        "bob" => &["staff", "dev"],
        _ => &["dev"],
    };
    Caller {
        user: name.into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        superuser: name == "hdfs",
        address: Some([10, 0, 0, 7].into()),
        origin: Origin::default(),
    }
}

/// Datanodes that hold what was sent to them, if `reports` says that they have told so.
#[derive(Default)]
pub(super) struct Datanodes {
    pub(super) storages: Vec<(DatanodeUuid, StorageId)>,
    pub(super) sent: BTreeMap<(BlockId, GenStamp), SmallVec<[StorageId; 3]>>,
    pub(super) reports: Cell<bool>,
    /// How long a recovery that runs is left alone.
    pub(super) wait: Cell<Duration>,
}

impl Datanodes {
    fn new(count: u128) -> Self {
        let node = |n| {
            let text = format!("00000000-0000-0000-0000-{n:012x}");
            (text.parse().unwrap(), format!("DS-{text}").parse().unwrap())
        };
        Self { storages: (0..count).map(node).collect(), reports: Cell::new(true), ..Self::default() }
    }
}

impl Cluster for Datanodes {
    fn choose(&self, request: &PlacementRequest<'_>) -> SmallVec<[StorageId; 3]> {
        let free = self.storages.iter().filter(|(node, _)| !request.excluded.contains(node));
        free.map(|(_, storage)| *storage).take(request.wanted).collect()
    }

    fn live(&self, block: BlockId, stamp: GenStamp) -> SmallVec<[StorageId; 3]> {
        if !self.reports.get() {
            return SmallVec::new();
        }
        self.sent.get(&(block, stamp)).cloned().unwrap_or_default()
    }

    fn datanodes(&self) -> usize {
        self.storages.len()
    }

    fn recovery_wait(&self, _block: BlockId) -> Duration {
        self.wait.get()
    }
}

/// Files that mounts have open.
#[derive(Default)]
pub(super) struct Open {
    pub(super) files: BTreeSet<InodeId>,
    /// Nobody has said yet which.
    pub(super) unknown: bool,
}

impl OpenFiles for Open {
    fn is_open(&self, file: InodeId) -> bool {
        self.unknown || self.files.contains(&file)
    }

    fn is_known(&self) -> bool {
        !self.unknown
    }
}

pub(super) struct World {
    pub(super) view: MemoryView,
    pub(super) nodes: Datanodes,
    pub(super) settings: Settings,
    pub(super) renewals: BTreeMap<String, Millis>,
    pub(super) now: Millis,
    pub(super) steady: Millis,
    pub(super) even: Millis,
    pub(super) safe_mode: Option<String>,
    pub(super) clearance: Option<Clearance>,
    pub(super) open: Open,
    /// Effects of the last command.
    pub(super) effects: Vec<Effect>,
    /// What the last command told.
    pub(super) events: Vec<EventBatch>,
    follower: Follower,
    /// Recoveries that were asked for.
    pub(super) recoveries: Vec<(BlockRef, GenStamp)>,
}

impl World {
    /// A formatted namespace with `/open` (mode 777), and three datanodes.
    pub(super) fn new() -> Self {
        let mut world = Self {
            view: MemoryView::new(),
            nodes: Datanodes::new(3),
            settings: Settings { min_block_size: 10, ..Settings::default() },
            renewals: BTreeMap::new(),
            now: Millis(1_000_000),
            steady: Millis(1_000_000),
            even: Millis(2_000_000),
            safe_mode: None,
            clearance: None,
            open: Open::default(),
            effects: Vec::new(),
            events: Vec::new(),
            follower: Follower::default(),
            recoveries: Vec::new(),
        };
        world.run("hdfs", &Command::Format).unwrap();
        world.mkdirs("hdfs", "/open", 0o777).unwrap();
        world
    }

    pub(super) fn run(&mut self, who: &str, command: &Command) -> FsResult<Reply> {
        self.run_as(&user(who), None, command)
    }

    pub(super) fn run_as(
        &mut self,
        caller: &Caller,
        key: Option<CallKey>,
        command: &Command,
    ) -> FsResult<Reply> {
        let ctx = Context {
            now: self.now,
            steady: self.steady,
            even: self.even,
            seed: 7,
            caller,
            settings: &self.settings,
            cluster: &self.nodes,
            renewals: &self.renewals,
            safe_mode: self.safe_mode.as_deref(),
            clearance: self.clearance.as_ref(),
            open: &self.open,
        };
        self.follower.catch_up(&self.view);
        let mut tx = Tx::new(&self.view);
        let planned = plan_once(&mut tx, &ctx, key, command);
        let changes = tx.into_changes();
        let Outcome { reply, effects, events } = match planned {
            Ok(outcome) => outcome,
            Err(error) => {
                assert!(changes.is_empty(), "a refused command changes nothing");
                return Err(error);
            }
        };
        self.view.apply(changes);
        check(&self.view).unwrap_or_else(|wrong| panic!("after {command:?}: {wrong}"));
        for effect in &effects {
            match effect {
                Effect::Pipeline { block, stamp, storages, .. } => {
                    self.nodes.sent.insert((*block, *stamp), storages.clone());
                }
                Effect::LeaseStarted { holder, .. } => {
                    self.renewals.insert(holder.clone(), self.steady);
                }
                Effect::Recover { block, recovery_stamp, .. } => {
                    self.recoveries.push((*block, *recovery_stamp))
                }
                _ => {}
            }
        }
        self.effects = effects;
        self.follower.follow(&self.view, &events);
        self.events = events;
        match reply {
            Reply::Failed(error) => Err(error),
            reply => Ok(reply),
        }
    }

    pub(super) fn kind(&mut self, who: &str, command: &Command) -> FsErrorKind {
        self.run(who, command).unwrap_err().kind()
    }

    pub(super) fn words(&mut self, who: &str, command: &Command) -> String {
        self.run(who, command).unwrap_err().message().to_owned()
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.steady = self.steady.plus(time);
        self.even = self.even.plus(time);
    }

    pub(super) fn mkdirs(&mut self, who: &str, at: &str, mode: u16) -> FsResult<Reply> {
        self.run(who, &mkdirs(at, mode))
    }

    pub(super) fn create(&mut self, who: &str, at: &str) -> FsResult<Inode> {
        match self.run(who, &create(at, "c1"))? {
            Reply::File(inode) => Ok(inode),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn add_block(&mut self, file: &Inode, previous: Option<BlockRef>) -> FsResult<PlacedBlock> {
        match self.run("ann", &add_block(file, previous))? {
            Reply::Block(placed) => Ok(placed),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn complete(&mut self, file: &Inode, last: Option<BlockRef>) -> FsResult<bool> {
        match self.run("ann", &complete(file, last))? {
            Reply::Bool(done) => Ok(done),
            other => panic!("{other:?}"),
        }
    }

    /// A closed file with blocks of these lengths, written by its owner.
    pub(super) fn file(&mut self, who: &str, at: &str, lengths: &[u64]) -> Inode {
        let inode = self.create(who, at).unwrap();
        let mut previous = None;
        for length in lengths {
            let block = self.add_block(&inode, previous).unwrap();
            previous = Some(BlockRef { length: *length, ..named(&block) });
        }
        assert!(self.complete(&inode, previous).unwrap());
        self.inode(at).unwrap()
    }

    pub(super) fn inode(&self, at: &str) -> Option<Inode> {
        let root = user("hdfs");
        let reader = Reader { view: &self.view, caller: &root, settings: &self.settings };
        reader.stat(&path(at)).unwrap().map(|inode| (*inode).clone())
    }

    pub(super) fn by_id(&self, id: InodeId) -> Option<Inode> {
        self.view.inode(id).filter(|_| !read::is_detached(&self.view, id)).map(|inode| (*inode).clone())
    }

    pub(super) fn reclaim_all(&mut self) {
        while self.run("hdfs", &Command::Reclaim { limit: 3 }).unwrap() == Reply::Bool(true) {}
    }
}

pub(super) fn named(placed: &PlacedBlock) -> BlockRef {
    BlockRef { id: placed.block.id, stamp: placed.block.stamp, length: placed.block.length }
}

pub(super) fn of(file: &Inode) -> FileRef {
    FileRef { path: path("/open/of"), inode: Some(file.id) }
}

pub(super) fn mkdirs(at: &str, mode: u16) -> Command {
    Command::Mkdirs { path: path(at), mode, unmasked: None, create_parent: true }
}

pub(super) fn create(at: &str, client: &str) -> Command {
    Command::Create {
        path: path(at),
        mode: 0o644,
        unmasked: None,
        client: client.into(),
        create: true,
        overwrite: false,
        create_parent: true,
        replication: 2,
        block_size: BLOCK,
        policy: 0,
    }
}

pub(super) fn add_block(file: &Inode, previous: Option<BlockRef>) -> Command {
    Command::AddBlock {
        file: of(file),
        client: "c1".into(),
        previous,
        excluded: Vec::new(),
        favored: Vec::new(),
        avoid_local: false,
    }
}

pub(super) fn complete(file: &Inode, last: Option<BlockRef>) -> Command {
    Command::Complete { file: of(file), client: "c1".into(), last, times: NewTimes::default() }
}

pub(super) fn append(at: &str, client: &str) -> Command {
    Command::Append { path: path(at), client: client.into(), new_block: false }
}

pub(super) fn delete(at: &str, recursive: bool) -> Command {
    Command::Delete { path: path(at), recursive }
}

pub(super) fn rename(from: &str, to: &str, mode: RenameMode) -> Command {
    Command::Rename { from: path(from), to: path(to), mode, to_trash: false }
}

pub(super) fn chmod(at: &str, mode: u16) -> Command {
    Command::SetPermission { path: path(at), mode }
}

pub(super) fn chown(at: &str, owner: &str) -> Command {
    Command::SetOwner { path: path(at), owner: Some(owner.into()), group: None }
}
