//! A client: makes, writes, reads, moves and removes what lies in a folder of its own, and tells the judge what it was
//! promised. Now and then it is killed, and another takes its place.

use std::rc::Rc;
use std::time::Duration;

use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::namespace_server::Namespace as _;

use crate::net::{LATEST, Place, Unanswered};
use crate::oracle::{Doubt, File, Node};
use crate::random::{Random, mix};
use crate::reader;
use crate::world::{Shared, by_user, plain};
use crate::writer::Writer;

/// Waits between tries of a call.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(4);
/// How often a lease is renewed.
const RENEWAL: Duration = Duration::from_secs(8);
/// After this no message of before is under way any more.
pub const SETTLED: Duration = Duration::from_secs(2 * LATEST.as_secs() + 2);
/// Bytes of a block.
const BLOCK: u64 = 8 << 10;

/// One life of a client.
pub struct Client {
    /// The world.
    pub world: Shared,
    /// Which it is.
    pub number: usize,
    /// Its name, by which it holds leases.
    pub name: String,
    /// What it does is drawn from this.
    pub random: Random,
    calls: std::cell::Cell<u32>,
    /// A call was not answered: it may yet be carried out.
    astray: std::cell::Cell<bool>,
    id: u64,
}

impl Client {
    /// Where it is.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::Client(self.number)
    }

    /// Whether it speaks as a client of stock Hadoop does: it does not tell what it has synced.
    #[must_use]
    pub const fn is_stock(&self) -> bool {
        self.number % 2 == 1
    }

    /// A key by which a repeated call is known.
    pub fn key(&self) -> Option<pb::CallKey> {
        let call = self.calls.get() + 1;
        self.calls.set(call);
        let mut client = vec![0; 16];
        client[..8].copy_from_slice(&self.id.to_le_bytes());
        Some(pb::CallKey { client: client.into(), call })
    }

    /// Calls the namenode until it answers. What passes by itself is tried again too.
    pub async fn call<Q: Clone + 'static, T: 'static>(
        &self,
        name: &'static str,
        request: Q,
        ask: impl AsyncFnOnce(&steadfs_namenode::inline::InlineNamenode, Q) -> FsResult<T> + Clone + 'static,
    ) -> FsResult<T> {
        let mut wait = FIRST_RETRY;
        loop {
            let (request, ask) = (request.clone(), ask.clone());
            let answer =
                self.world.call(self.place(), name, async move |namenode| ask(namenode, request).await).await;
            match answer {
                Err(Unanswered) => self.astray.set(true),
                Ok(Err(error)) if passes(&error) => {}
                Ok(answer) => return answer,
            }
            self.world.exec.sleep(wait).await;
            wait = (wait * 2).min(LAST_RETRY);
        }
    }

    /// After a call that was not answered: until none of it is under way any more.
    async fn settle(&self) {
        if self.astray.replace(false) {
            self.world.exec.sleep(SETTLED).await;
        }
    }

    fn folder(&self) -> String {
        format!("/c{}", self.number)
    }

    fn tree(&self) -> std::cell::RefMut<'_, crate::oracle::Tree> {
        self.world.trees[self.number].borrow_mut()
    }

    /// Bytes that nobody else writes.
    #[must_use]
    pub fn bytes(&self, length: usize) -> Vec<u8> {
        let random = Random::new(mix(self.random.draw()));
        (0..length).map(|_| random.draw() as u8).collect()
    }
}

/// Errors of a namenode that has just started, and the like.
fn passes(error: &FsError) -> bool {
    matches!(
        error.kind(),
        FsErrorKind::SafeMode | FsErrorKind::Retriable | FsErrorKind::Stopping | FsErrorKind::Timeout
    )
}

/// Begins a client's life. It ends by itself once faults are over and it has done enough.
pub fn start(world: &Shared, number: usize, again: bool) {
    let life = world.new_life();
    let id = world.random.draw();
    let client = Rc::new(Client {
        world: world.clone(),
        number,
        name: format!("client-{number}-{id:x}"),
        random: Random::new(mix(world.seed ^ mix(id))),
        calls: std::cell::Cell::new(0),
        astray: std::cell::Cell::new(false),
        id,
    });
    world.note(|| format!("c{number} begins"));
    world.net.serve(Place::Client(number), Some(life));
    let renewing = client.clone();
    world.exec.spawn(life, async move {
        loop {
            renewing.world.exec.sleep(RENEWAL).await;
            let request = pb::RenewLeaseRequest { client: renewing.name.clone() };
            // The next one comes.
            let _ = renewing
                .world
                .call(renewing.place(), "renew", async move |namenode| {
                    plain(namenode.namespace().renew_lease(by_user(request)).await)
                })
                .await;
        }
    });
    let world = world.clone();
    world.clone().exec.spawn(life, async move {
        if again {
            client.take_over().await;
        }
        client.make_folder(&client.folder()).await;
        while !world.quiet.get() {
            client.step().await;
            client.settle().await;
            let pause = client.random.span(Duration::ZERO, Duration::from_millis(400));
            world.exec.sleep(pause).await;
        }
        world.note(|| format!("c{number} ends"));
        world.ended.set(world.ended.get() + 1);
        world.exec.kill(life);
    });
}

/// A client is killed where it is, and another takes its place later.
pub fn kill(world: &Shared, number: usize) {
    let Some(life) = world.net.life(Place::Client(number)) else { return };
    world.note(|| format!("c{number} is killed"));
    world.net.serve(Place::Client(number), None);
    world.exec.kill(life);
    let next = world.clone();
    world.exec.after(Duration::from_secs(5), move || start(&next, number, true));
}

impl Client {
    /// Finds out what became of what the one before had begun.
    async fn take_over(&self) {
        self.world.exec.sleep(SETTLED).await;
        // Kept until it is known: this one may be killed, too.
        let doubt = self.tree().doubt.clone();
        if let Some(doubt) = doubt {
            let before: Vec<String> = self.tree().nodes.keys().cloned().collect();
            let after: Vec<String> = doubt.after.keys().cloned().collect();
            let found = self.listing().await;
            if found == after {
                self.tree().nodes = doubt.after;
            } else if found != before {
                self.world.fail(format!(
                    "c{}: {found:?} is there, neither what was before ({before:?}) nor after ({after:?}) what it did",
                    self.number
                ));
            }
            self.tree().doubt = None;
        }
        // Files that it wrote are nobody's now: the namenode closes them in time.
        let open: Vec<String> = {
            let tree = self.tree();
            let is_open =
                |node: &Node| matches!(node, Node::File(file) if !file.closed || file.cut.is_some());
            tree.nodes.iter().filter(|(_, node)| is_open(node)).map(|(path, _)| path.clone()).collect()
        };
        for path in open {
            self.recover(&path).await;
        }
    }

    /// Everything in its folder.
    async fn listing(&self) -> Vec<String> {
        reader::listing(self, &self.folder()).await
    }

    /// Takes a file from whoever wrote it, and finds out how long it is.
    async fn recover(&self, path: &str) {
        loop {
            let request = pb::PathRequest { path: path.to_owned() };
            let closed = self
                .call("recover lease", request, async |namenode, request| {
                    plain(namenode.namespace().recover_lease(by_user(request)).await)
                })
                .await;
            match closed {
                Ok(closed) if closed.result => break,
                Ok(_) => {}
                Err(error) if error.kind() == FsErrorKind::NotFound => break,
                Err(error) => self.world.note(|| format!("c{} recovers {path}: {error}", self.number)),
            }
            self.world.exec.sleep(Duration::from_secs(3)).await;
        }
        self.settle().await;
        self.learn(path).await;
    }

    /// A closed file's length is what it is, within what was promised.
    async fn learn(&self, path: &str) {
        let request = pb::StatRequest { path: path.to_owned() };
        let status = self
            .call("stat", request, async |namenode, request| {
                plain(namenode.namespace().stat(by_user(request)).await)
            })
            .await;
        let length = match status {
            Ok(pb::StatResponse { status: Some(status) }) if !status.under_construction => {
                status.length as usize
            }
            other => return self.world.fail(format!("{path}: it should be closed: {other:?}")),
        };
        let wrong = {
            let mut tree = self.tree();
            let Some(file) = tree.file(path) else { return };
            let least = file.cut.map_or(file.acked, |cut| cut.min(file.acked));
            let wrong = length < least || length > file.bytes.len();
            let acked = file.acked;
            file.bytes.truncate(length);
            (file.acked, file.closed, file.cut) = (length.min(file.bytes.len()), true, None);
            wrong.then_some((least, acked))
        };
        if let Some((least, acked)) = wrong {
            self.world.fail(format!(
                "{path}: it has {length} bytes after its recovery, at least {least} must be there ({acked} acknowledged)"
            ));
        }
    }

    async fn step(&self) {
        let closed = self.tree().closed();
        let choice = self.random.below(100);
        match (choice, closed.is_empty()) {
            (0..35, _) | (_, true) => self.write_new().await,
            (35..50, _) => self.append(self.random.pick::<String>(&closed)).await,
            (50..68, _) => self.read(self.random.pick::<String>(&closed)).await,
            (68..74, _) => self.truncate(self.random.pick::<String>(&closed)).await,
            (74..80, _) => self.rename().await,
            (80..86, _) => self.delete().await,
            (86..92, _) => {
                let path = format!("{}/d{}", self.folder(), self.random.below(5));
                self.make_folder(&path).await;
            }
            (92..96, _) => self.set_mode(self.random.pick::<String>(&closed)).await,
            _ => self.set_replication(self.random.pick::<String>(&closed)).await,
        }
    }

    fn new_path(&self) -> String {
        let folders: Vec<String> = {
            let tree = self.tree();
            let is_folder = |node: &Node| matches!(node, Node::Folder);
            tree.nodes.iter().filter(|(_, node)| is_folder(node)).map(|(path, _)| path.clone()).collect()
        };
        let folder = if folders.is_empty() { self.folder() } else { self.random.pick(&folders).clone() };
        format!("{folder}/f{:x}", self.random.draw() >> 40)
    }

    /// What may come of a change, until it is answered.
    fn doubt(&self, after: std::collections::BTreeMap<String, Node>) {
        self.tree().doubt = Some(Doubt { after });
    }

    /// The change was made, or was not.
    fn resolve(&self, made: bool) {
        let mut tree = self.tree();
        if let Some(doubt) = tree.doubt.take()
            && made
        {
            tree.nodes = doubt.after;
        }
    }

    async fn make_folder(&self, path: &str) {
        if self.tree().nodes.contains_key(path) {
            return;
        }
        let mut after = self.tree().nodes.clone();
        after.insert(path.to_owned(), Node::Folder);
        self.doubt(after);
        let request = pb::MkdirsRequest {
            path: path.to_owned(),
            mode: 0o755,
            exclusive: true,
            key: self.key(),
            ..Default::default()
        };
        let made = self
            .call("mkdir", request, async |namenode, request| {
                plain(namenode.namespace().mkdirs(by_user(request)).await)
            })
            .await;
        self.expect("mkdir", path, &made);
        self.resolve(made.is_ok());
    }

    /// An error where none may be is a failure.
    fn expect<T>(&self, what: &str, path: &str, result: &FsResult<T>) {
        if let Err(error) = result {
            self.world.fail(format!("c{} {what} {path}: {:?}: {error}", self.number, error.kind()));
        }
    }

    async fn write_new(&self) {
        let path = self.new_path();
        let mut after = self.tree().nodes.clone();
        let replication = if self.random.chance(80) { 3 } else { 2 };
        let file = File { replication: (replication, None), ..File::default() };
        after.insert(path.clone(), Node::File(file));
        self.doubt(after);
        let request = pb::CreateRequest {
            path: path.clone(),
            client: self.name.clone(),
            mode: 0o644,
            replication,
            block_size: BLOCK,
            key: self.key(),
            ..Default::default()
        };
        let created = self
            .call("create", request, async |namenode, request| {
                plain(namenode.namespace().create(by_user(request)).await)
            })
            .await;
        self.expect("create", &path, &created);
        self.resolve(created.is_ok());
        let Ok(pb::CreateResponse { status: Some(status), .. }) = created else { return };
        let writer = Writer::new(self, &path, status.inode, replication as usize);
        self.write(writer, &path).await;
    }

    async fn append(&self, path: &str) {
        let request = pb::AppendRequest { path: path.to_owned(), client: self.name.clone(), key: self.key() };
        // From here on nobody knows whether it is open.
        if let Some(file) = self.tree().file(path) {
            file.closed = false;
        }
        let appended = self
            .call("append", request, async |namenode, request| {
                plain(namenode.namespace().append(by_user(request)).await)
            })
            .await;
        match appended {
            Ok(pb::AppendResponse { status: Some(status), last }) => {
                let replication = status.replication as usize;
                let mut writer = Writer::new(self, path, status.inode, replication);
                let opened = match last {
                    Some(last) => writer.reopen(&last).await,
                    None => Ok(()),
                };
                match opened {
                    Ok(()) => self.write(writer, path).await,
                    Err(error) => self.give_up(path, &error).await,
                }
            }
            Ok(_) => self.world.fail(format!("append {path}: an answer without a status")),
            Err(error) => self.give_up(path, &error).await,
        }
    }

    async fn give_up(&self, path: &str, error: &FsError) {
        self.world.note(|| format!("c{} gives {path} up: {error}", self.number));
        self.settle().await;
        self.recover(path).await;
    }

    async fn write(&self, mut writer: Writer<'_>, path: &str) {
        for _ in 0..self.random.range(1, 5) {
            let length = match self.random.below(4) {
                0 => self.random.range(1, 400),
                1 => self.random.range(500, 5_000),
                2 => 512 * self.random.range(1, 8),
                _ => self.random.range(1, 12_000),
            };
            let bytes = self.bytes(length as usize);
            if let Some(file) = self.tree().file(path) {
                file.bytes.extend_from_slice(&bytes);
            }
            if let Err(error) = writer.write(bytes).await {
                return self.give_up(path, &error).await;
            }
            if self.random.chance(50) {
                match writer.sync().await {
                    Ok(()) => self.acked(path),
                    Err(error) => return self.give_up(path, &error).await,
                }
            } else if self.random.chance(30)
                && let Err(error) = writer.push().await
            {
                return self.give_up(path, &error).await;
            }
            if self.random.chance(30) {
                self.world.exec.sleep(self.random.span(Duration::ZERO, Duration::from_secs(6))).await;
            }
        }
        if self.random.chance(4) {
            // As a writer that dies with its file open.
            let error = FsError::new(FsErrorKind::Io, "it has no more to say");
            drop(writer);
            return self.give_up(path, &error).await;
        }
        match writer.close().await {
            Ok(()) => {
                self.acked(path);
                if let Some(file) = self.tree().file(path) {
                    file.closed = true;
                }
            }
            Err(error) => self.give_up(path, &error).await,
        }
    }

    /// Everything written so far is promised.
    fn acked(&self, path: &str) {
        if let Some(file) = self.tree().file(path) {
            file.acked = file.bytes.len();
        }
        self.world.note(|| format!("c{} {path} is acknowledged", self.number));
    }

    async fn read(&self, path: &str) {
        let found = reader::read(self, path).await;
        let Ok(found) = found else { return };
        let Some(file) = self.tree().file(path).map(|file| file.clone()) else { return };
        if let Err(why) = file.check(&found) {
            self.world.fail(format!("c{} reads {path}: {why}", self.number));
        }
    }

    async fn truncate(&self, path: &str) {
        let Some(length) = self.tree().file(path).map(|file| file.bytes.len() as u64) else { return };
        let to = self.random.range(0, length);
        if let Some(file) = self.tree().file(path) {
            file.cut = Some(to as usize);
        }
        let request = pb::TruncateRequest { path: path.to_owned(), length: to, client: self.name.clone() };
        let cut = self
            .call("truncate", request, async |namenode, request| {
                plain(namenode.namespace().truncate(by_user(request)).await)
            })
            .await;
        self.world.note(|| format!("c{} truncates {path} from {length} to {to}: {cut:?}", self.number));
        self.settle().await;
        // Whether it was answered or not: it ends, and is told by the length.
        self.recover(path).await;
        let kept = self.tree().file(path).map(|file| file.bytes.len() as u64);
        if cut.is_ok() && kept != Some(to) {
            self.world.fail(format!("{path}: truncated to {to}, but {kept:?} bytes are there"));
        }
    }

    async fn rename(&self) {
        let paths: Vec<String> = {
            let tree = self.tree();
            tree.nodes.keys().filter(|path| **path != self.folder()).cloned().collect()
        };
        if paths.is_empty() {
            return;
        }
        let from = self.random.pick(&paths).clone();
        let to = format!("{}/r{:x}", self.folder(), self.random.draw() >> 40);
        let after = self.tree().renamed(&from, &to);
        self.doubt(after);
        let request = pb::RenameRequest {
            from: from.clone(),
            to: to.clone(),
            mode: pb::RenameMode::NoReplace.into(),
            key: self.key(),
            to_trash: false,
        };
        let renamed = self
            .call("rename", request, async |namenode, request| {
                plain(namenode.namespace().rename(by_user(request)).await)
            })
            .await;
        self.expect("rename", &format!("{from} to {to}"), &renamed);
        self.resolve(renamed.is_ok());
    }

    async fn delete(&self) {
        let paths: Vec<String> = {
            let tree = self.tree();
            tree.nodes.keys().filter(|path| **path != self.folder()).cloned().collect()
        };
        if paths.is_empty() {
            return;
        }
        let path = self.random.pick(&paths).clone();
        let after = self.tree().without(&path);
        self.doubt(after);
        let request = pb::DeleteRequest { path: path.clone(), recursive: true, key: self.key() };
        let deleted = self
            .call("delete", request, async |namenode, request| {
                plain(namenode.namespace().delete(by_user(request)).await)
            })
            .await;
        self.expect("delete", &path, &deleted);
        if matches!(&deleted, Ok(deleted) if !deleted.result) {
            self.world.fail(format!("delete {path}: nothing was there"));
        }
        self.resolve(deleted.is_ok());
    }

    async fn set_mode(&self, path: &str) {
        let mode = *self.random.pick(&[0o600, 0o640, 0o644, 0o755]);
        if let Some(file) = self.tree().file(path) {
            file.mode_in_doubt = Some(mode);
        }
        let request = pb::SetPermissionRequest { path: path.to_owned(), mode };
        let set = self
            .call("chmod", request, async |namenode, request| {
                plain(namenode.namespace().set_permission(by_user(request)).await)
            })
            .await;
        self.expect("chmod", path, &set);
        if let Some(file) = self.tree().file(path) {
            (file.mode, file.mode_in_doubt) = (Some(mode), None);
        }
    }

    async fn set_replication(&self, path: &str) {
        let replication = self.random.range(2, 3) as u32;
        if let Some(file) = self.tree().file(path) {
            file.replication.1 = Some(replication);
        }
        let request = pb::SetReplicationRequest { path: path.to_owned(), replication };
        let set = self
            .call("setrep", request, async |namenode, request| {
                plain(namenode.namespace().set_replication(by_user(request)).await)
            })
            .await;
        self.expect("setrep", path, &set);
        if let Some(file) = self.tree().file(path) {
            file.replication = (replication, None);
        }
    }
}
