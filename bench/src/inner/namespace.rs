//! Paths, records, plans, the store and the journal.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use steadfs_common::{FsPath, InodeId, Millis, Name, ROOT_INODE, TxId};
use steadfs_namenode::config::StoreConfig;
use steadfs_namenode::journal::{Journal, SegmentedJournal};
use steadfs_namenode::store::{Position, Store, StoreWriter, records};
use steadfs_namenode_core::command::{Origin, RenameMode};
use steadfs_namenode_core::namespace::kept::NothingOpen;
use steadfs_namenode_core::namespace::plan;
use steadfs_namenode_core::namespace::read::Reader;
use steadfs_namenode_core::placement::Topology;
use steadfs_namenode_core::record::{Inode, InodeKind};
use steadfs_namenode_core::{Caller, Changes, Command, Context, Record, Settings, Tx};

use super::Run;

const TIMES: usize = 100;
const NOW: Millis = Millis(1_700_000_000_000);

pub(super) fn path(_: &Path) -> Run {
    let texts: Vec<String> = (0..TIMES)
        .map(|number| format!("/user/hive/warehouse/db/table/day=1/hour=2/part-{number:05}"))
        .collect();
    Box::new(move || {
        for text in &texts {
            black_box(FsPath::parse(text).expect("a path"));
        }
    })
}

fn inode(number: u64) -> Inode {
    Inode {
        id: InodeId(20_000 + number),
        parent: ROOT_INODE,
        name: Name::new(&format!("part-{number:05}")).ok(),
        owner: "alice".into(),
        group: "staff".into(),
        mode: 0o644,
        mtime: NOW,
        atime: NOW,
        changed: TxId(number),
        acl: None,
        has_xattrs: false,
        storage_policy: 0,
        kind: InodeKind::Directory { children: number, quota: None },
    }
}

pub(super) fn record(_: &Path) -> Run {
    let all: Vec<Record> = (0..TIMES as u64).map(|number| Record::Inode(inode(number))).collect();
    Box::new(move || {
        for record in &all {
            let bytes = records::encode(record);
            black_box(
                records::decode(steadfs_namenode::store::keys::Table::Inode, &bytes).expect("a record"),
            );
        }
    })
}

/// A store with `/data/warehouse/db` and 100 files in it, and what plans need.
struct World {
    store: Arc<Store>,
    writer: StoreWriter,
    caller: Caller,
    settings: Settings,
    cluster: steadfs_namenode::service::SharedCluster,
    position: Position,
}

impl World {
    fn new(folder: &Path) -> Self {
        let (store, writer) =
            Store::open(&folder.join("store"), &StoreConfig::default()).expect("an empty folder");
        let caller = Caller {
            user: "alice".into(),
            groups: vec!["staff".into()],
            superuser: true,
            address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            origin: Origin::default(),
        };
        let cluster: steadfs_namenode::service::SharedCluster = Arc::new(Nobody(Topology::default()));
        let mut world = Self {
            position: writer.position(),
            store,
            writer,
            caller,
            settings: Settings::default(),
            cluster,
        };
        world.carry_out(&Command::Format);
        world.carry_out(&mkdirs("/data/warehouse/db"));
        for number in 0..TIMES {
            world.carry_out(&create(&format!("/data/warehouse/db/f{number}")));
        }
        world
    }

    /// What the commands change, planned one after the other as a batch is.
    fn planned<'c>(&self, commands: impl IntoIterator<Item = &'c Command>) -> Changes {
        let view = self.store.view();
        let renewals = BTreeMap::new();
        let context = Context {
            now: NOW,
            steady: NOW,
            even: NOW,
            seed: 1,
            caller: &self.caller,
            settings: &self.settings,
            cluster: &*self.cluster,
            renewals: &renewals,
            safe_mode: None,
            clearance: None,
            open: &NothingOpen,
        };
        let mut tx = Tx::new(&*view);
        for command in commands {
            black_box(plan(&mut tx, &context, command).expect("a plan"));
        }
        tx.into_changes()
    }

    fn write(&mut self, changes: &Changes) {
        self.position.index += 1;
        self.writer.apply(self.position, changes);
    }

    fn carry_out(&mut self, command: &Command) {
        let changes = self.planned([command]);
        self.write(&changes);
    }
}

/// No datanodes.
struct Nobody(Topology);

impl steadfs_namenode_core::placement::Cluster for Nobody {
    fn choose(
        &self,
        request: &steadfs_namenode_core::placement::PlacementRequest<'_>,
    ) -> smallvec::SmallVec<[steadfs_common::StorageId; 3]> {
        self.0.choose(request)
    }

    fn live(
        &self,
        _: steadfs_common::BlockId,
        _: steadfs_common::GenStamp,
    ) -> smallvec::SmallVec<[steadfs_common::StorageId; 3]> {
        smallvec::SmallVec::new()
    }

    fn datanodes(&self) -> usize {
        0
    }
}

fn at(text: &str) -> FsPath {
    FsPath::parse(text).expect("a path")
}

fn mkdirs(path: &str) -> Command {
    Command::Mkdirs { path: at(path), mode: 0o755, unmasked: None, create_parent: true }
}

fn create(path: &str) -> Command {
    Command::Create {
        path: at(path),
        mode: 0o644,
        unmasked: None,
        client: "bench".into(),
        create: true,
        overwrite: false,
        create_parent: true,
        replication: 3,
        block_size: 128 << 20,
        policy: 0,
    }
}

/// The same commands, planned again and again over a store that does not change.
fn planning(folder: &Path, command: impl Fn(usize) -> Command) -> Run {
    let world = World::new(folder);
    let commands: Vec<Command> = (0..TIMES).map(command).collect();
    Box::new(move || {
        black_box(world.planned(&commands));
    })
}

pub(super) fn plan_create(folder: &Path) -> Run {
    planning(folder, |number| create(&format!("/data/warehouse/db/new-{number}")))
}

pub(super) fn plan_mkdirs(folder: &Path) -> Run {
    planning(folder, |number| mkdirs(&format!("/data/warehouse/db/new-{number}")))
}

pub(super) fn plan_rename(folder: &Path) -> Run {
    planning(folder, |number| Command::Rename {
        from: at(&format!("/data/warehouse/db/f{number}")),
        to: at(&format!("/data/warehouse/db/r{number}")),
        mode: RenameMode::NoReplace,
        to_trash: false,
    })
}

pub(super) fn plan_delete(folder: &Path) -> Run {
    planning(folder, |number| Command::Delete {
        path: at(&format!("/data/warehouse/db/f{number}")),
        recursive: false,
    })
}

pub(super) fn resolve(folder: &Path) -> Run {
    let world = World::new(folder);
    let path = at("/data/warehouse/db/f7");
    Box::new(move || {
        let view = world.store.view();
        let reader = Reader { view: &*view, caller: &world.caller, settings: &world.settings };
        for _ in 0..TIMES {
            black_box(reader.stat(&path).expect("a look").expect("a file"));
        }
    })
}

pub(super) fn apply(folder: &Path) -> Run {
    let mut world = World::new(folder);
    let commands: Vec<Command> =
        (0..TIMES).map(|number| create(&format!("/data/warehouse/db/new-{number}"))).collect();
    let changes = world.planned(&commands);
    Box::new(move || world.write(&changes))
}

pub(super) fn journal(folder: &Path) -> Run {
    const ENTRIES: usize = 100;
    const ENTRY_BYTES: usize = 4 << 10;
    const SEGMENT_BYTES: u64 = 64 << 20;
    let folders = [folder.join("a"), folder.join("b")];
    let (mut journal, _) =
        SegmentedJournal::open(&folders, SEGMENT_BYTES, Position::default(), |_, _| Ok(()))
            .expect("empty folders");
    let entry = vec![7; ENTRY_BYTES];
    Box::new(move || {
        for _ in 0..ENTRIES {
            journal.append(&entry).expect("a disk that works");
        }
    })
}
