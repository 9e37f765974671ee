//! Random operations on the rules and on [`naive::Model`], which keeps a plain tree and does everything the slow way:
//! both must answer the same, and hold the same afterwards.

mod beside;
mod naive;

use std::time::Duration;

use proptest::prelude::*;
use steadfs_common::acl::{AclScope, ScopedAclEntry};
use steadfs_common::xattr::{XAttrFlags, XAttrName};
use steadfs_common::{FsErrorKind, FsPath, InodeId, Millis, Name, StorageType};

use self::beside::Beside;
use self::naive::{Answer, Model, Previous, Seen, Used};
use super::world::{BLOCK, World, path, user};
use crate::acl::AclChange;
use crate::command::{BlockRef, FileRef, NewTimes, RenameMode};
use crate::namespace::kept;
use crate::namespace::quota::Bound;
use crate::namespace::read::{Reader, full_path};
use crate::record::{AclEntry, AclKind, Block, BlockState, Inode, InodeKind};
use crate::view::View;
use crate::{Command, Reply};

/// What a step is about. Numbers choose among what is in the tree, counted round.
#[derive(Clone, Debug)]
enum At {
    Path(FsPath),
    Existing(usize),
    File(usize),
    Below(usize, &'static str),
}

impl At {
    fn path(&self, model: &Model) -> FsPath {
        let existing = |number: usize| {
            let all = named(model);
            all[number % all.len()].0.clone()
        };
        let file = |number: usize| {
            let files: Vec<_> = named(model).into_iter().filter(|seen| seen.4.is_some()).collect();
            files.get(number % files.len().max(1)).map_or_else(|| "/open/a".to_owned(), |file| file.0.clone())
        };
        let text = match self {
            Self::Path(path) => return path.clone(),
            Self::Existing(number) => existing(*number),
            Self::File(number) => file(*number),
            Self::Below(number, name) => format!("{}/{name}", existing(*number)),
        };
        path(if text.is_empty() { "/" } else { &text })
    }
}

/// All that has a name still.
fn named(model: &Model) -> Vec<Seen> {
    model.all().into_iter().filter(|seen| !seen.0.starts_with("/.reserved")).collect()
}

/// One step. Files are named by a number too where the rules name them by id.
#[derive(Clone, Debug)]
enum Op {
    Mkdirs { who: usize, at: At, mode: u16, parents: bool },
    Create { who: usize, at: At, client: usize, overwrite: bool, parents: bool, policy: u8 },
    Append { who: usize, at: At, client: usize, new_block: bool },
    AddBlock { file: usize, client: usize, previous: Previous, length: u64, reported: bool },
    Abandon { file: usize, client: usize, previous: Previous },
    Complete { file: usize, client: usize, previous: Previous, length: u64, reported: bool },
    Fsync { file: usize, client: usize, length: u64, synced: Option<bool> },
    Rename { who: usize, from: At, to: At, mode: RenameMode, to_trash: bool },
    Delete { who: usize, at: At, recursive: bool },
    Concat { who: usize, target: At, beside: Vec<&'static str>, other: Option<At> },
    Truncate { who: usize, at: At, length: u64, client: usize },
    Replace { who: usize, at: At, lengths: Vec<u64> },
    Reclaim,
    Open { file: usize, open: bool },
    LetGo,
    Chmod { who: usize, at: At, mode: u16 },
    SetAcl { who: usize, at: At, change: AclChange },
    SetXAttr { who: usize, at: At, name: &'static str, value: &'static str, flags: (bool, bool) },
    RemoveXAttr { who: usize, at: At, name: &'static str },
    Chown { who: usize, at: At, owner: Option<usize>, group: Option<usize> },
    SetReplication { who: usize, at: At, replication: u16 },
    SetQuota { who: usize, at: At, names: Bound, space: Bound, kind: Option<StorageType> },
    SetPolicy { who: usize, at: At, policy: Option<&'static str> },
    Recover { who: usize, at: At },
    Expire { file: usize },
    Finish { recovery: usize, length: u64, nothing: bool },
    Pass { seconds: u64 },
    Renew { client: usize },
    MakeFolder { who: usize, at: At, mode: u16 },
    Beside(beside::Step),
}

const USERS: [&str; 4] = ["hdfs", "ann", "bob", "eve"];
const GROUPS: [&str; 3] = ["supergroup", "staff", "dev"];
const CLIENTS: [&str; 3] = ["c1", "c2", "c3"];
const MODES: [u16; 8] = [0o777, 0o755, 0o1777, 0o700, 0o750, 0o070, 0o555, 0];

fn who() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0_usize), 3 => Just(1), 1 => 2..USERS.len()]
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(["a", "b", "c"].as_slice())
}

/// Anything.
fn at() -> impl Strategy<Value = At> {
    let any_path = (any::<bool>(), prop::collection::vec(name(), 0..4)).prop_map(|(open, names)| {
        let below = names.iter().map(|name| format!("/{name}")).collect::<String>();
        At::Path(path(&if open || below.is_empty() { format!("/open{below}") } else { below }))
    });
    prop_oneof![
        1 => any_path,
        4 => (0..20_usize).prop_map(At::Existing),
        4 => (0..20_usize, name()).prop_map(|(number, name)| At::Below(number, name)),
    ]
}

/// Mostly a file.
fn file_at() -> impl Strategy<Value = At> {
    prop_oneof![6 => (0..8_usize).prop_map(At::File), 1 => at()]
}

fn mode() -> impl Strategy<Value = u16> {
    prop::sample::select(MODES.as_slice())
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(BLOCK), 2 => 1..BLOCK, 1 => Just(0), 1 => Just(BLOCK + 1)]
}

fn cut_length() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 2 => Just(BLOCK), 1 => Just(2 * BLOCK), 4 => 1..2 * BLOCK]
}

fn client() -> impl Strategy<Value = usize> {
    prop_oneof![5 => Just(0_usize), 1 => 1..CLIENTS.len()]
}

fn names_bound() -> impl Strategy<Value = Bound> {
    prop_oneof![1 => Just(Bound::Keep), 2 => Just(Bound::Clear), 3 => (0..9_u64).prop_map(Bound::Set)]
}

fn space_bound() -> impl Strategy<Value = Bound> {
    prop_oneof![2 => Just(Bound::Keep), 2 => Just(Bound::Clear), 3 => (0..9 * BLOCK).prop_map(Bound::Set)]
}

fn kind() -> impl Strategy<Value = StorageType> {
    prop::sample::select([StorageType::Disk, StorageType::Ssd, StorageType::RamDisk].as_slice())
}

fn policy() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![
        1 => Just(None),
        4 => prop::sample::select(["HOT", "one_ssd", "ALL_SSD", "WARM", "LAZY_PERSIST", "none such"].as_slice())
            .prop_map(Some),
    ]
}

fn previous() -> impl Strategy<Value = Previous> {
    prop_oneof![6 => Just(Previous::Last), 1 => Just(Previous::Penultimate), 2 => Just(Previous::None)]
}

fn reported() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.8)
}

fn attribute() -> impl Strategy<Value = &'static str> {
    prop::sample::select(["user.a", "user.b", "trusted.a"].as_slice())
}

/// Each entry is named once at most: of several HDFS takes the one that its search happens upon.
fn acl_change() -> impl Strategy<Value = AclChange> {
    let users = prop::option::weighted(0.6, prop::sample::select(USERS.as_slice()));
    let groups = prop::option::weighted(0.6, prop::sample::select(GROUPS.as_slice()));
    let whom = prop_oneof![
        3 => users.prop_map(|name| (AclKind::User, name)),
        3 => groups.prop_map(|name| (AclKind::Group, name)),
        1 => Just((AclKind::Mask, None)),
        1 => Just((AclKind::Other, None)),
    ];
    let spec = prop::collection::btree_map((any::<bool>(), whom), 0..8_u8, 0..6).prop_map(|entries| {
        let entry = |((default, (kind, name)), permission): ((bool, (AclKind, Option<&str>)), u8)| {
            let scope = if default { AclScope::Default } else { AclScope::Access };
            let entry = AclEntry { kind, name: name.map(str::to_owned), permission };
            ScopedAclEntry { scope, entry }
        };
        entries.into_iter().map(entry).collect::<Vec<_>>()
    });
    let whole = spec.clone().prop_map(|spec| {
        let base = ScopedAclEntry::parse_list("user::rwx,group::r-x,other::--x", true).unwrap();
        let mut all: Vec<_> =
            base.into_iter().filter(|base| !spec.iter().any(|one| same(one, base))).collect();
        all.extend(spec);
        all
    });
    prop_oneof![
        5 => spec.clone().prop_map(AclChange::Modify),
        2 => spec.clone().prop_map(AclChange::RemoveEntries),
        1 => spec.prop_map(AclChange::Set),
        2 => whole.prop_map(AclChange::Set),
        1 => Just(AclChange::RemoveDefault),
        1 => Just(AclChange::Remove),
    ]
}

fn same(a: &ScopedAclEntry, b: &ScopedAclEntry) -> bool {
    (a.scope, a.entry.kind, &a.entry.name) == (b.scope, b.entry.kind, &b.entry.name)
}

fn op() -> impl Strategy<Value = Op> {
    let file = 0..8_usize;
    let rename_mode =
        prop::sample::select([RenameMode::Classic, RenameMode::NoReplace, RenameMode::Overwrite].as_slice());
    prop_oneof![
        4 => (who(), file_at(), prop::collection::vec(1..=BLOCK, 0..3))
            .prop_map(|(who, at, lengths)| Op::Replace { who, at, lengths }),
        3 => (who(), at(), mode(), prop::bool::weighted(0.8))
            .prop_map(|(who, at, mode, parents)| Op::Mkdirs { who, at, mode, parents }),
        6 => (who(), prop_oneof![3 => at(), 1 => file_at()], client(), any::<bool>(), prop::bool::weighted(0.8),
              prop_oneof![4 => Just(0_u8), 1 => Just(10), 1 => Just(15)])
            .prop_map(|(who, at, client, overwrite, parents, policy)| {
                Op::Create { who, at, client, overwrite, parents, policy }
            }),
        4 => (prop_oneof![6 => Just(0_usize), 1 => who()], at(), names_bound(), space_bound(), Just(None))
            .prop_map(|(who, at, names, space, kind)| Op::SetQuota { who, at, names, space, kind }),
        2 => (Just(0_usize), at(), prop_oneof![9 => Just(Bound::Keep), 1 => names_bound()], space_bound(), kind())
            .prop_map(|(who, at, names, space, kind)| Op::SetQuota { who, at, names, space, kind: Some(kind) }),
        4 => (who(), prop_oneof![2 => at(), 1 => file_at()], policy())
            .prop_map(|(who, at, policy)| Op::SetPolicy { who, at, policy }),
        5 => (who(), file_at(), client(), prop::bool::weighted(0.3))
            .prop_map(|(who, at, client, new_block)| Op::Append { who, at, client, new_block }),
        10 => (file.clone(), client(), previous(), length(), reported())
            .prop_map(|(file, client, previous, length, reported)| {
                Op::AddBlock { file, client, previous, length, reported }
            }),
        1 => (file.clone(), client(), previous())
            .prop_map(|(file, client, previous)| Op::Abandon { file, client, previous }),
        3 => (file.clone(), client(), previous(), length(), reported())
            .prop_map(|(file, client, previous, length, reported)| {
                Op::Complete { file, client, previous, length, reported }
            }),
        1 => (file.clone(), client(), length(), any::<Option<bool>>())
            .prop_map(|(file, client, length, synced)| Op::Fsync { file, client, length, synced }),
        6 => (who(), at(), at(), rename_mode, prop::bool::weighted(0.2))
            .prop_map(|(who, from, to, mode, to_trash)| Op::Rename { who, from, to, mode, to_trash }),
        3 => (who(), at(), prop::bool::weighted(0.7))
            .prop_map(|(who, at, recursive)| Op::Delete { who, at, recursive }),
        5 => (who(), file_at(), prop::collection::vec(name(), 0..3), prop::option::weighted(0.2, file_at()))
            .prop_map(|(who, target, beside, other)| Op::Concat { who, target, beside, other }),
        5 => (who(), file_at(), cut_length(), client())
            .prop_map(|(who, at, length, client)| Op::Truncate { who, at, length, client }),
        1 => Just(Op::Reclaim),
        4 => (file.clone(), prop::bool::weighted(0.7)).prop_map(|(file, open)| Op::Open { file, open }),
        1 => Just(Op::LetGo),
        2 => (who(), at(), mode()).prop_map(|(who, at, mode)| Op::Chmod { who, at, mode }),
        5 => (who(), at(), acl_change()).prop_map(|(who, at, change)| Op::SetAcl { who, at, change }),
        2 => (who(), at(), attribute(), name(), (prop::bool::weighted(0.9), prop::bool::weighted(0.8)))
            .prop_map(|(who, at, name, value, flags)| Op::SetXAttr { who, at, name, value, flags }),
        1 => (who(), at(), attribute()).prop_map(|(who, at, name)| Op::RemoveXAttr { who, at, name }),
        2 => (who(), at(), prop::option::of(0..USERS.len()), prop::option::of(0..GROUPS.len()))
            .prop_map(|(who, at, owner, group)| Op::Chown { who, at, owner, group }),
        2 => (who(), file_at(), 0..5_u16)
            .prop_map(|(who, at, replication)| Op::SetReplication { who, at, replication }),
        3 => (who(), file_at()).prop_map(|(who, at)| Op::Recover { who, at }),
        2 => file.prop_map(|file| Op::Expire { file }),
        4 => (0..6_usize, length(), prop::bool::weighted(0.2))
            .prop_map(|(recovery, length, nothing)| Op::Finish { recovery, length, nothing }),
        2 => prop::sample::select([20_u64, 50, 700].as_slice()).prop_map(|seconds| Op::Pass { seconds }),
        1 => client().prop_map(|client| Op::Renew { client }),
        2 => (who(), at(), mode()).prop_map(|(who, at, mode)| Op::MakeFolder { who, at, mode }),
        4 => beside::step().prop_map(Op::Beside),
    ]
}

struct Both {
    world: World,
    model: Model,
    beside: Beside,
}

impl Both {
    /// Takes one step with both, and compares what they answer.
    fn step(&mut self, op: &Op) {
        self.world.nodes.reports.set(true);
        if let Op::Replace { who, at, lengths } = op {
            let at = at.path(&self.model);
            return self.replace(USERS[*who], &at, lengths);
        }
        if let Op::Beside(step) = op {
            return self.beside.step(&mut self.world, step);
        }
        let Some((who, command, expected)) = self.prepare(op) else { return };
        let answer = self.world.run(who, &command).map(answer).map_err(|error| error.kind());
        assert_eq!(answer, expected, "(rules, model) answer to {command:?} of {who}");
        if let (Command::Create { path, .. }, Ok(Answer::File)) = (&command, &answer) {
            let id = self.world.inode(&path.to_string()).unwrap().id;
            self.model.name_new_file(path, id);
        }
    }

    /// Replaces a file's content by blocks of these lengths: what a mount does in several calls is one step. What no
    /// quota takes is given up.
    fn replace(&mut self, who: &'static str, at: &FsPath, lengths: &[u64]) {
        let client = "stager".to_owned();
        let stage = Command::Stage { path: at.clone(), client: client.clone(), block_size: 0 };
        let expected = self.model.may_write(&user(who), at);
        let staged = match (self.world.run(who, &stage), expected) {
            (Ok(Reply::File(inode)), Ok(())) => inode,
            (found, expected) => {
                assert_eq!(found.map_err(|error| error.kind()).err(), expected.err(), "{stage:?} of {who}");
                return;
            }
        };
        let mut last = None;
        for length in lengths {
            let add = Command::AddBlock {
                file: by_id(staged.id),
                client: client.clone(),
                previous: last,
                excluded: Vec::new(),
                favored: Vec::new(),
                avoid_local: false,
            };
            match self.world.run(who, &add) {
                Ok(Reply::Block(placed)) => {
                    last = Some(BlockRef { id: placed.block.id, stamp: placed.block.stamp, length: *length });
                }
                other => return self.give_up(who, staged.id, other.err().map(|error| error.kind())),
            }
        }
        let replace =
            Command::ReplaceContent { path: at.clone(), staged: staged.id, client, last, expected: None };
        let answer = self.world.run(who, &replace).map(answer).map_err(|error| error.kind());
        if let Err(FsErrorKind::SpaceQuota | FsErrorKind::TypeQuota) = answer {
            return self.give_up(who, staged.id, answer.err());
        }
        let expected = self.model.replace(at, lengths);
        assert_eq!(answer, expected, "(rules, model) answer to {replace:?} of {who}");
        if answer.is_err() {
            self.give_up(who, staged.id, None);
        }
    }

    fn give_up(&mut self, who: &str, staged: InodeId, why: Option<FsErrorKind>) {
        assert!(matches!(why, None | Some(FsErrorKind::SpaceQuota | FsErrorKind::TypeQuota)), "{why:?}");
        let drop = Command::DropStaged { staged, client: "stager".into() };
        assert_eq!(self.world.run(who, &drop), Ok(Reply::Done));
    }

    /// What a step asks the rules, and what the model answers; none if there is nothing to ask.
    fn prepare(&mut self, op: &Op) -> Option<(&'static str, Command, Result<Answer, FsErrorKind>)> {
        let Self { world, model, .. } = self;
        Some(match op {
            Op::Mkdirs { who, at, mode, parents } => {
                let at = at.path(model);
                let command = Command::Mkdirs {
                    path: at.clone(),
                    mode: *mode,
                    unmasked: None,
                    create_parent: *parents,
                };
                (USERS[*who], command, model.mkdirs(&user(USERS[*who]), &at, *mode, *parents))
            }
            Op::Create { who, at, client, overwrite, parents, policy } => {
                let at = at.path(model);
                let command = Command::Create {
                    path: at.clone(),
                    mode: 0o660,
                    unmasked: None,
                    client: CLIENTS[*client].into(),
                    create: true,
                    overwrite: *overwrite,
                    create_parent: *parents,
                    replication: 2,
                    block_size: BLOCK,
                    policy: *policy,
                };
                let who = USERS[*who];
                let expected =
                    model.create(&user(who), &at, CLIENTS[*client], (*overwrite, *parents), *policy);
                (who, command, expected)
            }
            Op::Append { who, at, client, new_block } => {
                let at = at.path(model);
                let client = CLIENTS[*client];
                let command =
                    Command::Append { path: at.clone(), client: client.into(), new_block: *new_block };
                (USERS[*who], command, model.append(&user(USERS[*who]), &at, client, *new_block))
            }
            Op::Replace { .. } | Op::Beside(_) => return None,
            Op::MakeFolder { who, at, mode } => {
                let at = at.path(model);
                let command = Command::MakeFolder { path: at.clone(), mode: *mode, unmasked: None };
                (USERS[*who], command, model.make_folder(&user(USERS[*who]), &at, *mode))
            }
            Op::AddBlock { file, client, previous, length, reported } => {
                let (id, client) = (model.file_number(*file)?, CLIENTS[*client]);
                world.nodes.reports.set(*reported);
                let command = Command::AddBlock {
                    file: by_id(id),
                    client: client.into(),
                    previous: block_ref(world, id, *previous, *length),
                    excluded: Vec::new(),
                    favored: Vec::new(),
                    avoid_local: false,
                };
                ("ann", command, model.add_block(id, client, *previous, *length, *reported))
            }
            Op::Abandon { file, client, previous } => {
                let (id, client) = (model.file_number(*file)?, CLIENTS[*client]);
                let block = block_ref(world, id, *previous, 0)?;
                let command = Command::AbandonBlock { file: by_id(id), client: client.into(), block };
                ("ann", command, model.abandon(id, client, *previous))
            }
            Op::Complete { file, client, previous, length, reported } => {
                let (id, client) = (model.file_number(*file)?, CLIENTS[*client]);
                world.nodes.reports.set(*reported);
                let last = block_ref(world, id, *previous, *length);
                let times = NewTimes { mtime: reported.then_some(Millis(*length)), atime: None };
                let command = Command::Complete { file: by_id(id), client: client.into(), last, times };
                ("ann", command, model.complete(id, client, *previous, *length, *reported))
            }
            Op::Fsync { file, client, length, synced } => {
                let (id, client, synced) = (model.file_number(*file)?, CLIENTS[*client], *synced);
                let (file, last_block_length) = (by_id(id), Some(*length));
                let command = Command::Fsync { file, client: client.into(), last_block_length, synced };
                ("ann", command, model.fsync(id, client, *length, synced))
            }
            Op::Rename { who, from, to, mode, to_trash } => {
                let (from, to) = (from.path(model), to.path(model));
                let command =
                    Command::Rename { from: from.clone(), to: to.clone(), mode: *mode, to_trash: *to_trash };
                (USERS[*who], command, model.rename(&user(USERS[*who]), &from, &to, *mode, *to_trash))
            }
            Op::Delete { who, at, recursive } => {
                let at = at.path(model);
                let command = Command::Delete { path: at.clone(), recursive: *recursive };
                (USERS[*who], command, model.delete(&user(USERS[*who]), &at, *recursive))
            }
            Op::Concat { who, target, beside, other } => {
                let target = target.path(model);
                let folder = target.parent().unwrap_or_else(FsPath::root);
                let mut sources: Vec<_> = beside.iter().map(|name| folder.join(name_of(name))).collect();
                sources.extend(other.as_ref().map(|other| other.path(model)));
                let expected = model.concat(&user(USERS[*who]), &target, &sources);
                (USERS[*who], Command::Concat { target, sources }, expected)
            }
            Op::Truncate { who, at, length, client } => {
                let (path, client) = (at.path(model), CLIENTS[*client]);
                let expected = model.truncate(&user(USERS[*who]), &path, *length, client);
                (USERS[*who], Command::Truncate { path, length: *length, client: client.into() }, expected)
            }
            Op::Reclaim => {
                world.reclaim_all();
                model.reclaim();
                return None;
            }
            Op::Open { file, open } => {
                let id = model.file_number(*file)?;
                for files in [&mut world.open.files, &mut model.open] {
                    if *open {
                        files.insert(id)
                    } else {
                        files.remove(&id)
                    };
                }
                return None;
            }
            Op::LetGo => {
                let kept = kept::page(&world.view, None, usize::MAX).into_iter().map(|(_, id)| id);
                let files = kept.chain(world.open.files.iter().copied()).collect();
                model.let_go();
                ("hdfs", Command::LetGo { files }, Ok(Answer::Done))
            }
            Op::Chmod { who, at, mode } => {
                let at = at.path(model);
                let command = Command::SetPermission { path: at.clone(), mode: *mode };
                (USERS[*who], command, model.chmod(&user(USERS[*who]), &at, *mode))
            }
            Op::Chown { who, at, owner, group } => {
                let at = at.path(model);
                let (owner, group) = (owner.map(|owner| USERS[owner]), group.map(|group| GROUPS[group]));
                let command = Command::SetOwner {
                    path: at.clone(),
                    owner: owner.map(str::to_owned),
                    group: group.map(str::to_owned),
                };
                (USERS[*who], command, model.chown(&user(USERS[*who]), &at, owner, group))
            }
            Op::SetAcl { who, at, change } => {
                let at = at.path(model);
                let command = Command::SetAcl { path: at.clone(), change: change.clone() };
                (USERS[*who], command, model.set_acl(&user(USERS[*who]), &at, change))
            }
            Op::SetXAttr { who, at, name, value, flags } => {
                let at = at.path(model);
                let command = Command::SetXAttr {
                    path: at.clone(),
                    name: XAttrName::parse(name).unwrap(),
                    value: Some(value.as_bytes().to_vec()),
                    flags: XAttrFlags { create: flags.0, replace: flags.1 },
                };
                (USERS[*who], command, model.set_xattr(&user(USERS[*who]), &at, name, value, *flags))
            }
            Op::RemoveXAttr { who, at, name } => {
                let at = at.path(model);
                let command =
                    Command::RemoveXAttr { path: at.clone(), name: XAttrName::parse(name).unwrap() };
                (USERS[*who], command, model.remove_xattr(&user(USERS[*who]), &at, name))
            }
            Op::SetReplication { who, at, replication } => {
                let at = at.path(model);
                let command = Command::SetReplication { path: at.clone(), replication: *replication };
                (USERS[*who], command, model.set_replication(&user(USERS[*who]), &at, *replication))
            }
            Op::SetQuota { who, at, names, space, kind } => {
                let (path, names, space, kind) = (at.path(model), *names, *space, *kind);
                let expected = model.set_quota(&user(USERS[*who]), &path, names, space, kind);
                (USERS[*who], Command::SetQuota { path, names, space, kind }, expected)
            }
            Op::SetPolicy { who, at, policy } => {
                let path = at.path(model);
                let expected = model.set_policy(&user(USERS[*who]), &path, *policy);
                (USERS[*who], Command::SetStoragePolicy { path, policy: policy.map(str::to_owned) }, expected)
            }
            Op::Recover { who, at } => {
                let at = at.path(model);
                let command = Command::RecoverLease { path: at.clone() };
                (USERS[*who], command, model.recover(&user(USERS[*who]), &at))
            }
            Op::Expire { file } => {
                let file = model.file_number(*file)?;
                ("hdfs", Command::ExpireLease { file }, model.expire(file))
            }
            Op::Finish { recovery, length, nothing } => {
                let recovery = recovery % world.recoveries.len().max(1);
                let (block, new_stamp) = *world.recoveries.get(recovery)?;
                // Most truncations end as they should.
                let goal = model.goal(recovery).filter(|_| length % 2 == 0);
                let length = &goal.unwrap_or(*length);
                let command = Command::CommitBlockSynchronization {
                    block,
                    new_stamp,
                    new_length: *length,
                    close_file: true,
                    delete_block: *nothing,
                    storages: vec![world.nodes.storages[0].1],
                };
                ("hdfs", command, model.finish(recovery, *length, *nothing))
            }
            Op::Pass { seconds } => {
                world.pass(Duration::from_secs(*seconds));
                model.now = world.now;
                return None;
            }
            Op::Renew { client } => {
                world.renewals.insert(CLIENTS[*client].into(), world.now);
                model.renewals.insert(CLIENTS[*client].into(), world.now);
                return None;
            }
        })
    }

    /// Compares all that is in the two trees.
    fn compare(&self) {
        let mut found = Vec::new();
        let mut folders = vec![(String::new(), self.world.inode("/").unwrap())];
        while let Some((at, folder)) = folders.pop() {
            found.push(shown(&self.world, &at, &folder));
            for (name, id) in self.world.view.entries(folder.id, None, usize::MAX) {
                let inode = Inode::clone(&self.world.view.inode(id).unwrap());
                let at = format!("{at}/{name}");
                assert_eq!(full_path(&self.world.view, id), Some(path(&at)));
                if inode.is_directory() {
                    folders.push((at, inode));
                } else {
                    let mut file = shown(&self.world, &at, &inode);
                    if file.0.starts_with("/.reserved/") {
                        // Which folder guards a kept file is no matter of the model.
                        file.0.truncate(file.0.rfind('.').filter(|at| *at > 1).unwrap_or(file.0.len()));
                    }
                    found.push(file);
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, self.model.all(), "(rules, model)");
    }
}

fn shown(world: &World, at: &str, inode: &Inode) -> Seen {
    let file = match &inode.kind {
        InodeKind::Directory { .. } => None,
        InodeKind::File(body) => {
            let blocks = world.view.file_blocks(inode.id, 0, usize::MAX).into_iter().map(|id| {
                let block = world.view.block(id).unwrap();
                (block.length, state(&block))
            });
            let holder = world.view.lease(inode.id).map(|lease| lease.holder);
            Some((body.replication(), body.length, blocks.collect(), holder))
        }
    };
    let extra = extra(world, inode);
    let root = user("hdfs");
    let reader = Reader { view: &world.view, caller: &root, settings: &world.settings };
    let sums = reader.content_summary(&path(if at.is_empty() { "/" } else { at })).unwrap();
    let used = Used {
        names: sums.names().cast_signed(),
        space: sums.space.cast_signed(),
        types: sums.types.map(u64::cast_signed),
    };
    let limits = (inode.quota().cloned().unwrap_or_default(), inode.storage_policy, used);
    (at.to_owned(), inode.owner.clone(), inode.group.clone(), inode.mode, file, extra, limits)
}

/// Lists and attributes, as the model shows them.
fn extra(world: &World, inode: &Inode) -> String {
    let entries = |list: &[AclEntry]| {
        let entry = |entry: &AclEntry| format!("{}:{:?}:{}", entry.kind as u8, entry.name, entry.permission);
        list.iter().map(entry).collect::<Vec<_>>().join(",")
    };
    let (access, default) = match inode.acl.as_deref() {
        Some(acl) => (entries(&acl.access), entries(&acl.default)),
        None => Default::default(),
    };
    let attributes: Vec<(String, String)> = world
        .view
        .xattrs(inode.id)
        .into_iter()
        .map(|attribute| (attribute.name.to_string(), String::from_utf8(attribute.value).unwrap()))
        .collect();
    format!("{access} {default} {attributes:?}")
}

fn name_of(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn state(block: &Block) -> naive::State {
    match block.state {
        BlockState::UnderConstruction { .. } => naive::State::Open,
        BlockState::Committed { .. } => naive::State::Committed,
        BlockState::Complete => naive::State::Complete,
    }
}

fn answer(reply: Reply) -> Answer {
    match reply {
        Reply::Done => Answer::Done,
        Reply::Bool(value) => Answer::Bool(value),
        Reply::File(_) => Answer::File,
        Reply::Appended { last, .. } => {
            Answer::Appended(last.map(|last| (last.offset, last.block.length, !last.storages.is_empty())))
        }
        Reply::Block(placed) => Answer::Block(placed.offset),
        Reply::Session(_) => Answer::Done,
        Reply::Failed(error) => panic!("{error}"),
    }
}

fn by_id(id: InodeId) -> FileRef {
    FileRef { path: path("/anywhere"), inode: Some(id) }
}

/// The stored block that a client would name, with the length that it claims.
fn block_ref(world: &World, file: InodeId, previous: Previous, length: u64) -> Option<BlockRef> {
    let blocks = world.view.file_blocks(file, 0, usize::MAX);
    let index = previous.index(blocks.len())?;
    let block = world.view.block(blocks[index]).unwrap();
    Some(BlockRef { id: block.id, stamp: block.stamp, length })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 20_000, ..Default::default() })]

    #[test]
    fn the_rules_do_as_the_model(ops in prop::collection::vec(op(), 1..80)) {
        let mut both = Both { world: World::new(), model: Model::new(), beside: Beside::default() };
        both.compare();
        for op in &ops {
            both.step(op);
            both.compare();
        }
        both.world.reclaim_all();
    }
}
