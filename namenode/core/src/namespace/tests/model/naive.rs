//! A file system as a plain tree of owned nodes, written from HDFS's rules alone: no ids, totals, entries or counters.

mod attributes;
mod files;
mod quotas;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use steadfs_common::{FsErrorKind, FsPath, InodeId, Millis};

pub(super) use self::quotas::Used;
use super::super::world::BLOCK;
use crate::Caller;
use crate::command::RenameMode;
use crate::record::Quota;
use FsErrorKind::{
    AccessDenied, AlreadyBeingCreated, AlreadyExists, InvalidArgument, IsADirectory, LeaseExpired, NotEmpty,
    NotFound, NotReplicatedYet, ParentNotDirectory, RecoveryInProgress, Refused, Retriable, TargetNotEmpty,
};

/// What a client hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Bool(bool),
    File,
    /// Offset, length, and whether there are places to write to.
    Appended(Option<(u64, u64, bool)>),
    /// The offset.
    Block(u64),
}

pub(super) type Outcome = Result<Answer, FsErrorKind>;

/// Which of its blocks a client names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Previous {
    None,
    Last,
    Penultimate,
}

impl Previous {
    pub(super) fn index(self, blocks: usize) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Last => blocks.checked_sub(1),
            Self::Penultimate => blocks.checked_sub(2),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Open,
    Committed,
    Complete,
}

/// Path, owner, group, mode; of a file replication, length, blocks and writer; lists and attributes; quota, own storage
/// policy, and what is used.
pub(super) type Seen = (
    String,
    String,
    String,
    u16,
    Option<(u16, u64, Vec<(u64, State)>, Option<String>)>,
    String,
    (Quota, u8, Used),
);

#[derive(Clone, Debug)]
struct Node {
    owner: String,
    group: String,
    mode: u16,
    extra: attributes::Extra,
    kind: Kind,
    quota: Quota,
    policy: u8,
}

#[derive(Clone, Debug)]
enum Kind {
    Folder(BTreeMap<String, Node>),
    File(File),
}

#[derive(Clone, Debug)]
struct File {
    id: InodeId,
    replication: u16,
    blocks: Vec<PlainBlock>,
    writer: Option<String>,
}

#[derive(Clone, Debug)]
struct PlainBlock {
    serial: usize,
    length: u64,
    /// So many bytes are on disks, while it is open.
    synced: u64,
    state: State,
    /// Which recovery runs, and since when.
    recovery: Option<(usize, Millis)>,
    /// What a truncate wants of it.
    goal: Option<u64>,
}

#[derive(Clone)]
pub(super) struct Model {
    root: Node,
    pub(super) now: Millis,
    pub(super) renewals: BTreeMap<String, Millis>,
    /// The block of each recovery.
    recoveries: Vec<usize>,
    /// Blocks of trees that are deleted and not yet reclaimed.
    limbo: Vec<usize>,
    /// These trees.
    deleted: Vec<Node>,
    /// Files that mounts have open.
    pub(super) open: BTreeSet<InodeId>,
    serial: usize,
}

/// Where files are kept that lost their names.
const KEPT: &str = ".reserved";
const NAMENODE: &str = "NN_Recovery";
const EXECUTE: u16 = 1;
const WRITE: u16 = 2;
const READ: u16 = 4;
const ALL: u16 = 7;

fn names(at: &FsPath) -> Vec<String> {
    at.names().iter().map(ToString::to_string).collect()
}

impl Node {
    fn folder(owner: &str, group: &str, mode: u16) -> Self {
        let (owner, group, kind) = (owner.into(), group.into(), Kind::Folder(BTreeMap::new()));
        let (extra, quota) = Default::default();
        Self { owner, group, mode, extra, kind, quota, policy: 0 }
    }

    fn children(&self) -> Option<&BTreeMap<String, Self>> {
        match &self.kind {
            Kind::Folder(children) => Some(children),
            Kind::File(_) => None,
        }
    }

    fn file(&self) -> Option<&File> {
        match &self.kind {
            Kind::File(file) => Some(file),
            Kind::Folder(_) => None,
        }
    }

    fn may(&self, who: &Caller, bits: u16) -> bool {
        let class = if self.owner == who.user {
            self.mode >> 6
        } else if who.groups.contains(&self.group) {
            self.mode >> 3
        } else {
            self.mode
        };
        who.superuser || self.list_allows(who, bits).unwrap_or(class & bits == bits)
    }

    fn sticks(&self, who: &Caller, child: &Self) -> bool {
        !who.superuser && self.mode & 0o1000 != 0 && self.owner != who.user && child.owner != who.user
    }

    /// Whether everything below may be deleted.
    fn deletable(&self, who: &Caller) -> bool {
        let Some(children) = self.children().filter(|children| !children.is_empty()) else { return true };
        self.may(who, ALL) && children.values().all(|child| !self.sticks(who, child) && child.deletable(who))
    }

    fn all(&self, at: &str, inherited: u8, seen: &mut Vec<Seen>) {
        let file = self.file().map(|file| {
            let blocks = file.blocks.iter().map(|block| (block.length, block.state)).collect();
            (file.replication, file.length(), blocks, file.writer.clone())
        });
        let (owner, group) = (self.owner.clone(), self.group.clone());
        let limits = (self.quota.clone(), self.policy, self.used(inherited));
        seen.push((at.to_owned(), owner, group, self.mode, file, self.extra.shown(), limits));
        let below = if self.policy == 0 { inherited } else { self.policy };
        for (name, child) in self.children().into_iter().flatten() {
            child.all(&format!("{at}/{name}"), below, seen);
        }
    }

    fn files(&self) -> Vec<&File> {
        let below = self.children().into_iter().flatten().flat_map(|(_, child)| child.files());
        self.file().into_iter().chain(below).collect()
    }

    /// Takes the files below that are open.
    fn take_open(&mut self, open: &BTreeSet<InodeId>) -> Vec<Self> {
        let Kind::Folder(children) = &mut self.kind else { return Vec::new() };
        let mut taken: Vec<Self> = children.values_mut().flat_map(|child| child.take_open(open)).collect();
        let is_open = |child: &Self| child.file().is_some_and(|file| open.contains(&file.id));
        let names: Vec<String> =
            children.iter().filter(|(_, child)| is_open(child)).map(|(name, _)| name.clone()).collect();
        taken.extend(names.iter().filter_map(|name| children.remove(name)));
        taken
    }

    fn files_mut(&mut self) -> Vec<&mut File> {
        match &mut self.kind {
            Kind::File(file) => vec![file],
            Kind::Folder(children) => children.values_mut().flat_map(Self::files_mut).collect(),
        }
    }
}

impl File {
    fn length(&self) -> u64 {
        self.blocks.iter().map(|block| block.length).sum()
    }

    /// Committed blocks that are seen become complete.
    fn settle(&mut self, reported: bool) {
        let committed = self.blocks.iter_mut().filter(|block| block.state == State::Committed);
        committed.filter(|_| reported).for_each(|block| block.state = State::Complete);
    }

    fn all_complete(&self) -> bool {
        self.blocks.iter().all(|block| block.state == State::Complete)
    }

    fn penultimate_waits(&self) -> bool {
        self.blocks.len() >= 2 && self.blocks[self.blocks.len() - 2].state != State::Complete
    }

    fn written_by(&self, client: &str) -> Result<(), FsErrorKind> {
        if self.writer.as_deref() == Some(client) { Ok(()) } else { Err(LeaseExpired) }
    }

    /// The last block gets the length its writer claims; `named` is the block that the writer names.
    fn commit(&mut self, named: usize, length: u64, reported: bool) -> Result<(), FsErrorKind> {
        let count = self.blocks.len();
        let last = &mut self.blocks[count - 1];
        if last.state != State::Open {
            return Ok(());
        }
        if last.recovery.is_some() || named != count - 1 || length < last.length || length > BLOCK {
            return Err(Refused);
        }
        last.length = length;
        last.state = if reported { State::Complete } else { State::Committed };
        Ok(())
    }
}

impl Model {
    pub(super) fn new() -> Self {
        let mut root = Node::folder("hdfs", "supergroup", 0o755);
        if let Kind::Folder(children) = &mut root.kind {
            children.insert("open".into(), Node::folder("hdfs", "supergroup", 0o777));
        }
        Self {
            root,
            now: Millis(1_000_000),
            renewals: BTreeMap::new(),
            recoveries: Vec::new(),
            limbo: Vec::new(),
            deleted: Vec::new(),
            open: BTreeSet::new(),
            serial: 0,
        }
    }

    pub(super) fn all(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        self.root.all("", 0, &mut seen);
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        seen
    }

    pub(super) fn file_number(&self, number: usize) -> Option<InodeId> {
        let files = self.root.files();
        files.get(number % files.len().max(1)).map(|file| file.id)
    }

    pub(super) fn name_new_file(&mut self, at: &FsPath, id: InodeId) {
        if let Some(Node { kind: Kind::File(file), .. }) = self.find_mut(&names(at)) {
            file.id = id;
        }
    }

    /// Does `change` whole or, on an error, not at all.
    fn whole(&mut self, change: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        let before = self.clone();
        let outcome = change(self);
        if outcome.is_err() {
            *self = before;
        }
        outcome
    }

    fn find(&self, names: &[String]) -> Option<&Node> {
        names.iter().try_fold(&self.root, |node, name| node.children()?.get(name))
    }

    fn find_mut(&mut self, names: &[String]) -> Option<&mut Node> {
        names.iter().try_fold(&mut self.root, |node, name| match &mut node.kind {
            Kind::Folder(children) => children.get_mut(name),
            Kind::File(_) => None,
        })
    }

    fn by_id(&mut self, id: InodeId) -> Result<&mut File, FsErrorKind> {
        self.root.files_mut().into_iter().find(|file| file.id == id).ok_or(NotFound)
    }

    /// How many of the names lead to something, the last not counted.
    fn ancestor<'n>(&self, names: &'n [String]) -> Option<&'n [String]> {
        (0..names.len()).rev().map(|depth| &names[..depth]).find(|above| self.find(above).is_some())
    }

    fn pass(&self, who: &Caller, names: &[String], through_file: FsErrorKind) -> Result<(), FsErrorKind> {
        for depth in 0..names.len() {
            match self.find(&names[..depth]) {
                Some(Node { kind: Kind::File(_), .. }) => return Err(through_file),
                Some(node) if !node.may(who, EXECUTE) => return Err(AccessDenied),
                _ => {}
            }
        }
        Ok(())
    }

    fn ancestor_write(&self, who: &Caller, names: &[String]) -> Result<(), FsErrorKind> {
        let above = self.ancestor(names).and_then(|above| self.find(above));
        if above.is_none_or(|above| above.may(who, WRITE)) { Ok(()) } else { Err(AccessDenied) }
    }

    fn parent_write(&self, who: &Caller, names: &[String]) -> Result<(), FsErrorKind> {
        let Some((_, above)) = names.split_last() else { return Ok(()) };
        let Some(parent) = self.find(above) else { return Ok(()) };
        let sticks = self.find(names).is_some_and(|child| parent.sticks(who, child));
        if parent.may(who, WRITE) && !sticks { Ok(()) } else { Err(AccessDenied) }
    }

    fn write(&self, who: &Caller, names: &[String]) -> Result<(), FsErrorKind> {
        if self.find(names).is_none_or(|node| node.may(who, WRITE)) { Ok(()) } else { Err(AccessDenied) }
    }

    fn take(&mut self, names: &[String]) -> Option<Node> {
        let (name, above) = names.split_last()?;
        match &mut self.find_mut(above)?.kind {
            Kind::Folder(children) => children.remove(name),
            Kind::File(_) => None,
        }
    }

    /// Takes a file or an empty folder away. A file that somebody has open is kept where nobody sees it.
    fn lose(&mut self, names: &[String]) {
        if let Some(node) = self.take(names) {
            self.keep(node);
        }
    }

    fn keep(&mut self, node: Node) {
        let Some(id) = node.file().map(|file| file.id).filter(|id| self.open.contains(id)) else { return };
        let made = Node::folder(&self.root.owner, &self.root.group, 0o555);
        let Kind::Folder(children) = &mut self.root.kind else { return };
        let folder = children.entry(KEPT.into()).or_insert(made);
        if let Kind::Folder(kept) = &mut folder.kind {
            kept.insert(id.to_string(), node);
        }
    }

    /// Lets those go that nobody has open any more.
    pub(super) fn let_go(&mut self) {
        let open = self.open.clone();
        if let Some(Node { kind: Kind::Folder(kept), .. }) = self.find_mut(&[KEPT.into()]) {
            kept.retain(|_, node| node.file().is_some_and(|file| open.contains(&file.id)));
        }
        // What is open in trees that are deleted is kept.
        let mut deleted = std::mem::take(&mut self.deleted);
        for node in deleted.iter_mut().flat_map(|tree| tree.take_open(&open)) {
            for block in node.file().into_iter().flat_map(|file| &file.blocks) {
                self.limbo.retain(|serial| *serial != block.serial);
            }
            self.keep(node);
        }
        self.deleted = deleted;
    }

    fn put(&mut self, names: &[String], node: Node) {
        let (name, above) = names.split_last().unwrap();
        match &mut self.find_mut(above).unwrap().kind {
            Kind::Folder(children) => assert!(children.insert(name.clone(), node).is_none()),
            Kind::File(_) => panic!("put into a file"),
        }
    }

    fn make_parents(&mut self, who: &Caller, names: &[String], mode: Option<u16>) {
        let there = self.ancestor(names).and_then(|above| self.find(above)).map(|above| above.mode);
        let mode = mode.or(there).unwrap_or(0) & 0o777 | 0o300;
        for depth in 1..names.len() {
            if self.find(&names[..depth]).is_none() {
                let above = self.find(&names[..depth - 1]).unwrap();
                let folder = Node::folder(&who.user, &above.group, mode).inherit(above);
                self.put(&names[..depth], folder);
            }
        }
    }

    pub(super) fn mkdirs(&mut self, who: &Caller, at: &FsPath, mode: u16, parents: bool) -> Outcome {
        let names = names(at);
        self.pass(who, &names, ParentNotDirectory)?;
        match self.find(&names) {
            Some(node) if node.file().is_none() => return Ok(Answer::Done),
            Some(_) => return Err(AlreadyExists),
            None => {}
        }
        self.ancestor_write(who, &names)?;
        if !parents && self.find(&names[..names.len() - 1]).is_none() {
            return Err(NotFound);
        }
        self.whole(|model| {
            let before = model.clone();
            model.make_parents(who, &names, Some(mode));
            let parent = model.find(&names[..names.len() - 1]).unwrap();
            let folder = Node::folder(&who.user, &parent.group, mode).inherit(parent);
            model.put(&names, folder);
            model.exceeds(&before, &names[..names.len() - 1], 0)?;
            Ok(Answer::Done)
        })
    }

    /// As a plain `mkdir`: what is there is in the way, whatever it is.
    pub(super) fn make_folder(&mut self, who: &Caller, at: &FsPath, mode: u16) -> Outcome {
        let names = names(at);
        self.pass(who, &names, ParentNotDirectory)?;
        if self.find(&names).is_some() {
            return Err(AlreadyExists);
        }
        self.mkdirs(who, at, mode, false)
    }

    pub(super) fn create(
        &mut self,
        who: &Caller,
        at: &FsPath,
        client: &str,
        (overwrite, parents): (bool, bool),
        policy: u8,
    ) -> Outcome {
        let names = names(at);
        self.pass(who, &names, ParentNotDirectory)?;
        self.ancestor_write(who, &names)?;
        if self.find(&names).is_some_and(|node| node.file().is_none()) {
            return Err(AlreadyExists);
        }
        if !parents && self.find(&names[..names.len() - 1]).is_none() {
            return Err(NotFound);
        }
        if let Some(file) = self.find(&names).and_then(Node::file) {
            if !overwrite {
                let id = file.id;
                self.take_over(id, client)?;
                return Err(AlreadyExists);
            }
            self.write(who, &names)?;
        }
        let made = self.whole(|model| {
            model.lose(&names);
            let before = model.clone();
            model.make_parents(who, &names, None);
            let parent = model.find(&names[..names.len() - 1]).unwrap();
            let file =
                File { id: InodeId(0), replication: 2, blocks: Vec::new(), writer: Some(client.into()) };
            let folder = Node::folder(&who.user, &parent.group, 0);
            let file = Node { mode: 0o660, kind: Kind::File(file), policy, ..folder }.inherit(parent);
            model.put(&names, file);
            model.exceeds(&before, &names[..names.len() - 1], 0)?;
            Ok(Answer::File)
        });
        if made.is_ok() {
            self.renewals.insert(client.into(), self.now);
        }
        made
    }

    /// Closes a file whose writer has been silent for long, or begins to. What it did stays done.
    fn take_over(&mut self, id: InodeId, client: &str) -> Result<(), FsErrorKind> {
        let file = self.by_id(id)?.clone();
        let Some(writer) = file.writer else { return Ok(()) };
        if writer == client {
            return Err(AlreadyBeingCreated);
        }
        if !self.silent(&writer, Duration::from_secs(60)) {
            let recovers = file.blocks.last().is_some_and(|block| block.recovery.is_some());
            return Err(if recovers { RecoveryInProgress } else { AlreadyBeingCreated });
        }
        if self.release(id)? { Ok(()) } else { Err(RecoveryInProgress) }
    }

    fn silent(&self, holder: &str, limit: Duration) -> bool {
        holder == NAMENODE || self.renewals.get(holder).is_some_and(|last| self.now.since(*last) > limit)
    }

    /// Whether the file is closed now; else a recovery runs.
    fn release(&mut self, id: InodeId) -> Result<bool, FsErrorKind> {
        let (now, number) = (self.now, self.recoveries.len());
        let file = self.by_id(id)?;
        file.settle(true);
        if file.all_complete() {
            file.writer = None;
            return Ok(true);
        }
        let Some(last) = file.blocks.last_mut().filter(|last| last.state == State::Open) else {
            return Err(AlreadyBeingCreated);
        };
        if last.recovery.is_none_or(|(_, since)| now.since(since) >= Duration::from_secs(30)) {
            last.recovery = Some((number, now));
            let serial = last.serial;
            if file.writer.as_deref() != Some(NAMENODE) {
                file.writer = Some(NAMENODE.into());
                self.renewals.insert(NAMENODE.into(), now);
            }
            self.recoveries.push(serial);
        }
        Ok(false)
    }

    pub(super) fn append(&mut self, who: &Caller, at: &FsPath, client: &str, new_block: bool) -> Outcome {
        let names = names(at);
        self.pass(who, &names, AccessDenied)?;
        if self.find(&names).is_some_and(|node| node.file().is_none()) {
            return Err(AlreadyExists);
        }
        self.write(who, &names)?;
        let id = self.find(&names).and_then(Node::file).ok_or(NotFound)?.id;
        self.take_over(id, client)?;
        let now = self.now;
        let file = self.by_id(id)?;
        let length = file.length();
        if file.blocks.last().is_some_and(|last| last.state != State::Complete) {
            return Err(Retriable);
        }
        if !file.blocks.is_empty() {
            self.would_exceed(id, |file| file.blocks.last_mut().unwrap().state = State::Open)?;
        }
        let file = self.by_id(id)?;
        file.writer = Some(client.into());
        let last = file.blocks.last_mut().map(|last| (length - last.length, last));
        let answer = match last {
            Some((offset, last)) if new_block => Some((offset, last.length, false)),
            Some((offset, last)) if last.length < BLOCK => {
                (last.state, last.synced) = (State::Open, last.length);
                Some((offset, last.length, true))
            }
            _ => None,
        };
        self.renewals.insert(client.into(), now);
        Ok(Answer::Appended(answer))
    }

    pub(super) fn add_block(
        &mut self,
        id: InodeId,
        client: &str,
        previous: Previous,
        length: u64,
        reported: bool,
    ) -> Outcome {
        self.whole(|model| {
            model.serial += 1;
            let serial = model.serial;
            let file = model.by_id(id)?;
            file.written_by(client)?;
            let count = file.blocks.len();
            let named = previous.index(count);
            if named != count.checked_sub(1) {
                let last = &file.blocks[count - 1];
                let boundary = named.is_none() && last.state == State::Complete && last.length >= BLOCK;
                if !boundary {
                    let again =
                        named == count.checked_sub(2) && last.length == 0 && last.state != State::Complete;
                    return if again { Ok(Answer::Block(file.length())) } else { Err(Refused) };
                }
            }
            file.settle(reported);
            if file.penultimate_waits() {
                return Err(NotReplicatedYet);
            }
            if let Some(named) = named {
                file.commit(named, length, reported)?;
            }
            let offset = file.length();
            let block =
                PlainBlock { serial, length: 0, synced: 0, state: State::Open, recovery: None, goal: None };
            model.would_exceed(id, |file| file.blocks.push(block.clone()))?;
            model.by_id(id)?.blocks.push(block);
            Ok(Answer::Block(offset))
        })
    }

    pub(super) fn abandon(&mut self, id: InodeId, client: &str, previous: Previous) -> Outcome {
        let file = self.by_id(id)?;
        file.written_by(client)?;
        let count = file.blocks.len();
        if previous.index(count) != count.checked_sub(1) {
            return Ok(Answer::Done);
        }
        if file.blocks[count - 1].state != State::Open {
            return Err(Refused);
        }
        file.blocks.pop();
        Ok(Answer::Done)
    }

    pub(super) fn complete(
        &mut self,
        id: InodeId,
        client: &str,
        previous: Previous,
        length: u64,
        reported: bool,
    ) -> Outcome {
        self.whole(|model| {
            let file = model.by_id(id)?;
            let count = file.blocks.len();
            let named = previous.index(count);
            if file.writer.is_none() && named == count.checked_sub(1) {
                return Ok(Answer::Bool(true));
            }
            file.written_by(client)?;
            file.settle(reported);
            if file.penultimate_waits() {
                return Ok(Answer::Bool(false));
            }
            if let Some(named) = named {
                file.commit(named, length, reported)?;
            }
            if file.all_complete() {
                file.writer = None;
            }
            Ok(Answer::Bool(file.writer.is_none()))
        })
    }

    pub(super) fn fsync(&mut self, id: InodeId, client: &str, length: u64, synced: Option<bool>) -> Outcome {
        let file = self.by_id(id)?;
        file.written_by(client)?;
        if let Some(last) =
            file.blocks.last_mut().filter(|last| last.state == State::Open && last.recovery.is_none())
        {
            if length > BLOCK {
                return Err(Refused);
            }
            last.length = last.length.max(length);
            if synced == Some(true) {
                last.synced = last.synced.max(length);
            }
        }
        Ok(Answer::Done)
    }

    pub(super) fn rename(
        &mut self,
        who: &Caller,
        from: &FsPath,
        to: &FsPath,
        mode: RenameMode,
        to_trash: bool,
    ) -> Outcome {
        let (source, mut target) = (names(from), names(to));
        self.pass(who, &source, AccessDenied)?;
        self.pass(who, &target, ParentNotDirectory)?;
        let classic = mode == RenameMode::Classic;
        if classic
            && let (Some(name), Some(Kind::Folder(_))) =
                (source.last(), self.find(&target).map(|to| &to.kind))
        {
            target.push(name.clone());
            self.pass(who, &target, ParentNotDirectory)?;
        }
        self.parent_write(who, &source)?;
        self.ancestor_write(who, &target)?;
        let refuse = |kind| if classic { Ok(Answer::Bool(false)) } else { Err(kind) };
        let Some(node) = self.find(&source) else { return refuse(NotFound) };
        if source.is_empty() {
            return refuse(Refused);
        }
        if source == target {
            return if classic { Ok(Answer::Bool(true)) } else { Err(AlreadyExists) };
        }
        if target.starts_with(&source) || target.is_empty() {
            return refuse(Refused);
        }
        if !classic && to_trash && !node.deletable(who) {
            return Err(AccessDenied);
        }
        if let Some(there) = self.find(&target) {
            if classic {
                return Ok(Answer::Bool(false));
            }
            if there.file().is_some() != node.file().is_some() {
                return Err(Refused);
            }
            if mode == RenameMode::NoReplace {
                return Err(AlreadyExists);
            }
            if there.children().is_some_and(|children| !children.is_empty()) {
                return Err(TargetNotEmpty);
            }
            self.parent_write(who, &target)?;
        }
        if self.find(&target[..target.len() - 1]).is_none() {
            return refuse(NotFound);
        }
        self.whole(|model| {
            let before = model.clone();
            let node = model.take(&source).unwrap();
            model.lose(&target);
            model.put(&target, node);
            let common = source.iter().zip(&target).take_while(|(from, to)| from == to).count();
            model.exceeds(&before, &target[..target.len() - 1], common + 1)?;
            Ok(if classic { Answer::Bool(true) } else { Answer::Done })
        })
    }

    pub(super) fn delete(&mut self, who: &Caller, at: &FsPath, recursive: bool) -> Outcome {
        let names = names(at);
        self.pass(who, &names, AccessDenied)?;
        self.parent_write(who, &names)?;
        let Some(node) = self.find(&names) else { return Ok(Answer::Bool(false)) };
        let filled = node.children().is_some_and(|children| !children.is_empty());
        if filled && !recursive {
            return Err(if node.may(who, ALL) { NotEmpty } else { AccessDenied });
        }
        if names.is_empty() {
            return Ok(Answer::Bool(false));
        }
        if !node.deletable(who) {
            return Err(AccessDenied);
        }
        let node = self.take(&names).unwrap();
        if filled {
            self.limbo
                .extend(node.files().iter().flat_map(|file| file.blocks.iter().map(|block| block.serial)));
            self.deleted.push(node);
        } else {
            self.keep(node);
        }
        Ok(Answer::Bool(true))
    }

    pub(super) fn reclaim(&mut self) {
        self.limbo.clear();
        let mut left = std::mem::take(&mut self.deleted);
        while let Some(node) = left.pop() {
            match node.kind {
                Kind::Folder(children) => left.extend(children.into_values()),
                Kind::File(_) => self.keep(node),
            }
        }
    }

    fn owned(&mut self, who: &Caller, at: &FsPath) -> Result<&mut Node, FsErrorKind> {
        let names = names(at);
        self.pass(who, &names, AccessDenied)?;
        let node = self.find_mut(&names).ok_or(NotFound)?;
        if who.superuser || node.owner == who.user { Ok(node) } else { Err(AccessDenied) }
    }

    pub(super) fn chmod(&mut self, who: &Caller, at: &FsPath, mode: u16) -> Outcome {
        self.owned(who, at)?.mode = mode;
        Ok(Answer::Done)
    }

    pub(super) fn chown(
        &mut self,
        who: &Caller,
        at: &FsPath,
        owner: Option<&str>,
        group: Option<&str>,
    ) -> Outcome {
        let node = self.owned(who, at)?;
        let foreign_owner = owner.is_some_and(|owner| owner != who.user);
        let foreign_group = group.is_some_and(|group| !who.groups.iter().any(|mine| mine == group));
        if !who.superuser && (foreign_owner || foreign_group) {
            return Err(AccessDenied);
        }
        node.owner = owner.map_or(node.owner.clone(), str::to_owned);
        node.group = group.map_or(node.group.clone(), str::to_owned);
        Ok(Answer::Done)
    }

    pub(super) fn set_replication(&mut self, who: &Caller, at: &FsPath, replication: u16) -> Outcome {
        if replication == 0 {
            return Err(Refused);
        }
        let names = names(at);
        self.pass(who, &names, AccessDenied)?;
        self.write(who, &names)?;
        self.whole(|model| {
            let before = model.clone();
            match model.find_mut(&names).map(|node| &mut node.kind) {
                Some(Kind::File(file)) => file.replication = replication,
                _ => return Ok(Answer::Bool(false)),
            }
            model.exceeds(&before, &names[..names.len() - 1], 0)?;
            Ok(Answer::Bool(true))
        })
    }
}
