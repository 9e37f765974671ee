//! Changes.

use std::time::Duration;

use steadfs_common::{BlockId, CallKey, FsError, FsErrorKind, FsPath, FsResult, GenStamp, InodeId};
use steadfs_namenode_core::command::{FileRef, RenameMode};
use steadfs_namenode_core::namespace::retry;
use steadfs_namenode_core::namespace::subtree::{Clearance, Walk};
use steadfs_namenode_core::{Caller, Command, Reply, View};

use super::audit::{self, Started};
use super::{Service, prefetch};
use crate::commit::payload;
use crate::store::MemoryOnly;

/// Rows that a walk looks at before it lets others use its thread.
const WALK_STEP: usize = 10_000;
/// Walks over a tree that keeps changing before all changes wait for one.
const MAX_WALKS: usize = 8;
/// The last blocks of a file that may still wait for their replicas.
const WAITED_BLOCKS: usize = 2;
/// Between two looks at a file whose blocks are reported already, by what the wait said.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a file's end waits for the first report of its last block before it is looked at, so that it is looked at, and the
/// journal written, once.
const REPORT_WAIT: Duration = Duration::from_millis(50);
/// How long an `addBlock` waits at most for the block before it to be reported, before the client is sent away for 400 ms.
const ADD_BLOCK_WAIT: Duration = Duration::from_millis(400);

/// Sources of a concat that the audit log names.
const SHOWN_SOURCES: usize = 100;

impl Service {
    /// Carries out a command. When this returns, what it says is on every copy of the journal and in every read after it.
    ///
    /// With `key`, a repeated call is answered as the first was. `Complete` waits a moment for replicas to be reported.
    ///
    /// # Errors
    /// What HDFS answers, in its words; Stopping.
    pub async fn submit(&self, caller: &Caller, key: Option<CallKey>, command: Command) -> FsResult<Reply> {
        let started = self.audit.start();
        let operation = payload::operation(&command).1;
        let (subject, noted) = (Subject::of(&command), Noted::of(&command));
        if let Err(full) = self.room_for_answer(key, &command).await {
            let refused = Err(full);
            self.note(&started, operation, caller, subject, noted, &refused).await;
            return refused;
        }
        self.prefetch(&command).await;
        let result = match &command {
            Command::Complete { file, .. } => {
                self.first_report(file).await;
                let not_yet = |result: &FsResult<Reply>| matches!(result, Ok(Reply::Bool(false)));
                self.patiently(caller, key, &command, file, self.complete_wait, not_yet).await
            }
            Command::ReplaceContent { path, staged, .. } => {
                let not_yet = |result: &FsResult<Reply>| matches!(result, Ok(Reply::Bool(false)));
                let file = FileRef { path: path.clone(), inode: Some(*staged) };
                self.patiently(caller, key, &command, &file, self.complete_wait, not_yet).await
            }
            Command::AddBlock { file, .. } => {
                let not_yet = |result: &FsResult<Reply>| {
                    result.as_ref().is_err_and(|error| error.kind() == FsErrorKind::NotReplicatedYet)
                };
                let limit = ADD_BLOCK_WAIT.min(self.complete_wait);
                self.patiently(caller, key, &command, file, limit, not_yet).await
            }
            Command::Delete { .. } | Command::Rename { .. } => self.with_walks(caller, key, &command).await,
            _ => self.commits.submit(caller.clone(), key, command, None).await,
        };
        self.note(&started, operation, caller, subject, noted, &result).await;
        result
    }

    /// Creates a file together with its first block: both are durable together. `command` is a [`Command::Create`]; `path` and
    /// `client` are those in it. The second answer is none if there is no file; an error there leaves the file as it is.
    ///
    /// # Errors
    /// As [`Service::submit`].
    pub async fn create_with_block(
        &self,
        caller: &Caller,
        key: Option<CallKey>,
        command: Command,
        path: &FsPath,
        client: &str,
    ) -> FsResult<(Reply, Option<FsResult<Reply>>)> {
        let (started, block_started) = (self.audit.start(), self.audit.start());
        let operation = payload::operation(&command).1;
        let (subject, noted) = (Subject::of(&command), Noted::of(&command));
        if let Err(full) = self.room_for_answer(key, &command).await {
            let refused = Err(full);
            self.note(&started, operation, caller, subject, noted, &refused).await;
            return refused.map(|reply| (reply, None));
        }
        self.prefetch(&command).await;
        let file = (path.clone(), client.to_owned());
        let (created, allocated) = self.commits.submit_with_block(caller.clone(), key, command, file).await;
        self.note(&started, operation, caller, subject, noted, &created).await;
        if let Some(allocated) = &allocated {
            let subject = Subject::One(path.to_string());
            let noted = Noted { left: None, options: "", when_false: Some(true) };
            self.note(&block_started, "add_block", caller, subject, noted, allocated).await;
        }
        created.map(|reply| (reply, allocated))
    }

    /// Waits a moment for a file's last block to be reported, if it is not.
    async fn first_report(&self, file: &FileRef) {
        if self.blocks.safe_mode().is_none() {
            self.wait_reported(file, REPORT_WAIT.min(self.complete_wait)).await;
        }
    }

    /// Waits until the answer to a call that must not be carried out twice can be kept. A repeated call needs no room.
    async fn room_for_answer(&self, key: Option<CallKey>, command: &Command) -> FsResult<()> {
        let Some(key) = key.filter(|_| retry::is_at_most_once(command)) else { return Ok(()) };
        if self.answers.has_room()
            || self.read(move |view| view.retry(&key).is_some()).await
            || self.answers.wait_for_room().await
        {
            return Ok(());
        }
        Err(FsError::new(
            FsErrorKind::Retriable,
            "Server too busy: no more answers can be kept for repeated calls (namespace.retry_entries)",
        ))
    }

    /// Writes down what came of a command.
    async fn note(
        &self,
        started: &Started,
        operation: &'static str,
        caller: &Caller,
        subject: Subject,
        noted: Noted,
        result: &FsResult<Reply>,
    ) {
        let did = match (result, noted.when_false) {
            (Ok(Reply::Bool(false)), when_false) => when_false,
            _ => Some(true),
        };
        let left =
            noted.left.filter(|_| result.is_ok() && did.is_some() && self.audit.wants_permission(caller));
        let permission = match left {
            Some(path) => {
                let find = move |view: &dyn View| prefetch::find(view, &path).and_then(|id| view.inode(id));
                self.read(find).await.map(|inode| audit::line::permission(&inode))
            }
            None => None,
        };
        let (source, destination) = subject.parts();
        let subject = audit::Subject { source, destination, permission, options: noted.options };
        self.audit.committed(started, operation, caller, &subject, did, result);
    }

    /// Brings into memory what the command will read, so that the commit thread does not wait for the disk.
    pub(super) async fn prefetch(&self, command: &Command) {
        let cold = {
            let view = self.store.view_guard();
            let memory = MemoryOnly::new(&view);
            prefetch::touch(&memory, command);
            memory.missed()
        };
        if cold {
            let (store, command) = (self.store.clone(), command.clone());
            self.pool.run(move || prefetch::touch(&*store.view(), &command)).await;
        }
    }

    /// Tries again while the answer is "not yet", each time once replicas of the file's last blocks were reported, at
    /// most for `limit`.
    async fn patiently(
        &self,
        caller: &Caller,
        key: Option<CallKey>,
        command: &Command,
        file: &FileRef,
        limit: Duration,
        not_yet: impl Fn(&FsResult<Reply>) -> bool,
    ) -> FsResult<Reply> {
        let end = self.clock.monotonic() + limit;
        let mut looks = 0;
        loop {
            let result = self.commits.submit(caller.clone(), key, command.clone(), None).await;
            if !not_yet(&result) || self.blocks.safe_mode().is_some() {
                return result;
            }
            let left = end.saturating_sub(self.clock.monotonic());
            if left.is_zero() || !self.wait_reported(file, left).await {
                return result;
            }
            // They may have been reported between the plan and the wait; not again and again.
            if looks > 0 {
                tokio::time::sleep(LOOK_AGAIN.min(left)).await;
            }
            looks += 1;
        }
    }

    /// Waits until the file's last blocks have the replicas that make them safe; false if they do not in time.
    async fn wait_reported(&self, file: &FileRef, limit: Duration) -> bool {
        let file = file.clone();
        let blocks = self.read(move |view| last_blocks(view, &file)).await;
        let count = usize::from(self.settings.min_replication.max(1));
        let waits = blocks.iter().map(|(id, stamp)| self.blocks.wait_reported(*id, *stamp, count, limit));
        futures::future::join_all(waits).await.into_iter().all(|reported| reported)
    }

    /// Deletes need to know that everything below may be deleted: a large tree is walked here, off the commit thread,
    /// and walked again if it changed meanwhile. A tree that changes all the time is walked on the commit thread in the
    /// end: a stock client of a single namenode does not try again by itself.
    async fn with_walks(&self, caller: &Caller, key: Option<CallKey>, command: &Command) -> FsResult<Reply> {
        let mut clearance = None;
        for _ in 0..MAX_WALKS {
            let result = self.commits.submit(caller.clone(), key, command.clone(), clearance).await;
            let walk_wanted = result.as_ref().is_err_and(|error| error.kind() == FsErrorKind::Retriable);
            if !walk_wanted {
                return self.reclaimed_soon(result);
            }
            clearance = self.walk(caller, command).await?;
            if clearance.is_none() {
                return result;
            }
        }
        let last = Some(Clearance::WalkWhole);
        self.reclaimed_soon(self.commits.submit(caller.clone(), key, command.clone(), last).await)
    }

    /// Wakes the worker that keeps what is open, and that which reclaims behind it, if something was removed.
    fn reclaimed_soon(&self, result: FsResult<Reply>) -> FsResult<Reply> {
        if matches!(result, Ok(Reply::Done | Reply::Bool(true))) {
            self.lost.notify_one();
        }
        result
    }

    async fn walk(&self, caller: &Caller, command: &Command) -> FsResult<Option<Clearance>> {
        let view = self.store.view();
        let settings = self.settings.clone();
        let begun = {
            let (view, caller, settings, command) =
                (view.clone(), caller.clone(), settings.clone(), command.clone());
            self.pool.run(move || Walk::begin(&*view, &caller, &settings, &command)).await
        };
        let Some(mut walk) = begun else { return Ok(None) };
        loop {
            let (view, caller, settings) = (view.clone(), caller.clone(), settings.clone());
            let step = move || {
                let cleared = walk.step(&*view, &caller, &settings, WALK_STEP);
                (walk, cleared)
            };
            let (back, cleared) = self.pool.run(step).await;
            walk = back;
            if let Some(clearance) = cleared? {
                return Ok(Some(clearance));
            }
        }
    }
}

/// The last blocks of a file.
fn last_blocks(view: &dyn View, file: &FileRef) -> Vec<(BlockId, GenStamp)> {
    let Some(id) = file.inode.or_else(|| prefetch::find(view, &file.path)) else { return Vec::new() };
    let Some(count) = view.inode(id).and_then(|inode| inode.file().map(|body| body.blocks)) else {
        return Vec::new();
    };
    let from = count.saturating_sub(WAITED_BLOCKS as u32);
    let ids = view.file_blocks(id, from, WAITED_BLOCKS);
    ids.into_iter().filter_map(|id| view.block(id)).map(|block| (block.id, block.stamp)).collect()
}

/// What a command is about, for people.
enum Subject {
    One(String),
    Two(String, String),
    Inode(InodeId),
    Nothing,
}

impl Subject {
    fn of(command: &Command) -> Self {
        match command {
            Command::Mkdirs { path, .. }
            | Command::MakeFolder { path, .. }
            | Command::Create { path, .. }
            | Command::Append { path, .. }
            | Command::RecoverLease { path }
            | Command::Delete { path, .. }
            | Command::Truncate { path, .. }
            | Command::SetAcl { path, .. }
            | Command::SetXAttr { path, .. }
            | Command::RemoveXAttr { path, .. }
            | Command::SetPermission { path, .. }
            | Command::SetOwner { path, .. }
            | Command::SetTimes { path, .. }
            | Command::SetQuota { path, .. }
            | Command::SetStoragePolicy { path, .. }
            | Command::Stage { path, .. }
            | Command::ReplaceContent { path, .. }
            | Command::SetReplication { path, .. } => Self::One(path.to_string()),
            Command::AddBlock { file, .. }
            | Command::AbandonBlock { file, .. }
            | Command::Complete { file, .. }
            | Command::Fsync { file, .. } => Self::One(file.path.to_string()),
            Command::UpdateBlockForPipeline { block, .. }
            | Command::CommitBlockSynchronization { block, .. } => Self::One(block.id.to_string()),
            Command::UpdatePipeline { old, .. } => Self::One(old.id.to_string()),
            Command::Concat { target, sources } => {
                let shown: Vec<_> = sources.iter().take(SHOWN_SOURCES).map(FsPath::to_string).collect();
                Self::Two(format!("[{}]", shown.join(", ")), target.to_string())
            }
            Command::Rename { from, to, .. } => Self::Two(from.to_string(), to.to_string()),
            Command::ExpireLease { file } | Command::TouchAccessTime { file, .. } => Self::Inode(*file),
            Command::DropStaged { staged, .. } => Self::Inode(*staged),
            Command::OpenLockSession { client } => Self::One(client.clone()),
            Command::SetNodeWish { node, .. } => Self::One(node.to_string()),
            Command::Format
            | Command::LetGo { .. }
            | Command::Reclaim { .. }
            | Command::ForgetCalls { .. }
            | Command::AcceptLoss { .. }
            | Command::ForgetLosses
            | Command::RepairFolder { .. }
            | Command::RepairCounters { .. }
            | Command::CloseLockSession { .. } => Self::Nothing,
        }
    }
}

impl Subject {
    fn parts(self) -> (String, Option<String>) {
        match self {
            Self::One(text) => (text, None),
            Self::Two(from, to) => (from, Some(to)),
            Self::Inode(id) => (format!("inode {id}"), None),
            Self::Nothing => ("/".to_owned(), None),
        }
    }
}

/// What HDFS's audit log has of a command besides its subject.
struct Noted {
    /// What is there afterwards, if its owner and mode are written.
    left: Option<FsPath>,
    /// What stands behind the name.
    options: &'static str,
    /// What it means if the reply is "false": none that nothing is written.
    when_false: Option<bool>,
}

impl Noted {
    fn of(command: &Command) -> Self {
        let left = match command {
            Command::Mkdirs { path, .. }
            | Command::MakeFolder { path, .. }
            | Command::Create { path, .. }
            | Command::SetPermission { path, .. }
            | Command::SetOwner { path, .. }
            | Command::SetTimes { path, .. }
            | Command::SetStoragePolicy { path, .. }
            | Command::SetAcl { path, .. }
            | Command::SetXAttr { path, .. }
            | Command::RemoveXAttr { path, .. }
            | Command::Truncate { path, .. } => Some(path),
            Command::Rename { to, .. } => Some(to),
            Command::Concat { target, .. } => Some(target),
            _ => None,
        };
        let options = match command {
            Command::Rename { mode: RenameMode::NoReplace, to_trash: false, .. } => " (options=[NONE])",
            Command::Rename { mode: RenameMode::NoReplace, to_trash: true, .. } => " (options=[TO_TRASH])",
            Command::Rename { mode: RenameMode::Overwrite, to_trash: false, .. } => " (options=[OVERWRITE])",
            Command::Rename { mode: RenameMode::Overwrite, to_trash: true, .. } => {
                " (options=[OVERWRITE, TO_TRASH])"
            }
            _ => "",
        };
        let when_false = match command {
            Command::Delete { .. } => Some(false),
            Command::Rename { .. } | Command::SetReplication { .. } => None,
            _ => Some(true),
        };
        Self { left: left.cloned(), options, when_false }
    }
}
