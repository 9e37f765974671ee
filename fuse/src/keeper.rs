//! A store of descriptors: what must stay open while the process that uses it is replaced.
//!
//! In Kubernetes the process that mounts lives in a pod that is upgraded and deleted; a mount lives as long as anybody holds
//! its descriptor. So it leaves copies here, in a process that does nothing else: no mounting, no network, no rules. A
//! keeper that starts beside another takes everything over from it before it takes its socket's name, so that a keeper can
//! be upgraded too.
//!
//! The protocol, on a socket of whole messages (`SOCK_SEQPACKET`): one request, one answer, descriptors beside them.
//! Integers are little-endian. A message is the version (1), a code, the length of the name (2 bytes), the name, and the
//! blob.
//!
//! | code | request | answer |
//! | --- | --- | --- |
//! | 1 put | name, blob, 1 to 4 descriptors | done; what had that name before is gone |
//! | 2 next | name | the entry whose name comes after it, with copies of its descriptors; done if there is none |
//! | 3 drop | name | done, also if there was none |
//! | 4 take over | – | done; nobody else is answered while that connection lasts |
//!
//! Answers: 0 done, 1 an entry, 2 refused (the blob says why).

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::signal::unix::{SignalKind, signal};

const VERSION: u8 = 1;
const PUT: u8 = 1;
const NEXT: u8 = 2;
const DROP: u8 = 3;
const TAKE_OVER: u8 = 4;
const DONE: u8 = 0;
const ENTRY: u8 = 1;
const REFUSED: u8 = 2;

/// Entries kept at most.
const MAX_ENTRIES: usize = 4_096;
/// Longest name, and largest blob, in bytes.
const MAX_NAME: usize = 1_024;
const MAX_BLOB: usize = 16 << 10;
/// Descriptors of one entry at most.
const MAX_FDS: usize = 4;
const HEAD: usize = 4;
const MAX_MESSAGE: usize = HEAD + MAX_NAME + MAX_BLOB;
/// Connections at one time; more wait.
const MAX_CONNECTIONS: usize = 32;
/// How long the other side may take for one message.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a running keeper is asked to hand over, and how long is waited in between.
const TRIES: u32 = 3;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
/// Rest after a caller could not be let in.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// Keep descriptors for the processes that mount volumes
#[derive(Args, Clone, Debug)]
pub struct KeeperArgs {
    /// The socket where it is asked
    #[arg(long, value_name = "FILE", default_value = "/run/steadfs/keeper/keeper.sock")]
    pub socket: PathBuf,
    /// Ask a running one whether it answers, and end
    #[arg(long)]
    pub check: bool,
}

/// What is kept under a name.
#[derive(Debug)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// What it is, in words of who left it.
    pub blob: Vec<u8>,
    /// The descriptors.
    pub descriptors: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Message {
    code: u8,
    kept: Kept,
}

/// A connection to a keeper.
#[derive(Debug)]
pub struct Keeper {
    socket: OwnedFd,
}

impl Keeper {
    /// Connects to the keeper at `path`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = new_socket()?;
        // First: where as many wait already as may, connecting waits too.
        be_impatient(&socket)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self { socket })
    }

    /// Leaves copies of descriptors under a name, in place of what was there.
    ///
    /// # Errors
    /// The keeper is gone, or refuses.
    pub fn put(&self, name: &str, blob: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.ask(PUT, name, blob, descriptors).map(|_| ())
    }

    /// What is kept under the first name behind `name`.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn next(&self, name: &str) -> io::Result<Option<Kept>> {
        let answer = self.ask(NEXT, name, &[], &[])?;
        Ok((answer.code == ENTRY).then_some(answer.kept))
    }

    /// Everything that is kept.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn all(&self) -> io::Result<Vec<Kept>> {
        let mut all: Vec<Kept> = Vec::new();
        // A keeper that repeats itself must not keep us for ever.
        while all.len() <= MAX_ENTRIES {
            match self.next(all.last().map_or("", |kept| &kept.name))? {
                Some(kept) => all.push(kept),
                None => return Ok(all),
            }
        }
        Err(io::Error::other("the keeper tells of more than it may keep"))
    }

    /// Forgets a name.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn drop_name(&self, name: &str) -> io::Result<()> {
        self.ask(DROP, name, &[], &[]).map(|_| ())
    }

    /// Whether the keeper has gone away. Asks nothing.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        // It says nothing unasked: whatever can be read here is the end.
        ready(&[self.socket.as_fd()], Some(Duration::ZERO)).map_or(true, |ready| ready[0])
    }

    fn take_over(&self) -> io::Result<()> {
        self.ask(TAKE_OVER, "", &[], &[]).map(|_| ())
    }

    fn ask(&self, code: u8, name: &str, blob: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<Message> {
        send(&self.socket, code, name, blob, fds)?;
        let answer = receive(&self.socket)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match answer.code {
            DONE | ENTRY => Ok(answer),
            _ => Err(io::Error::other(String::from_utf8_lossy(&answer.kept.blob).into_owned())),
        }
    }
}

/// What `steadfs mount-keeper` does: keeps, until it is told to end.
///
/// # Errors
/// The socket cannot be made, or a running keeper does not hand over.
pub fn run(args: &KeeperArgs) -> anyhow::Result<()> {
    if args.check {
        let keeper = Keeper::connect(&args.socket).with_context(|| at(&args.socket))?;
        return keeper.next("").map(|_| ()).with_context(|| at(&args.socket));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Listened for from the beginning: the first process of a container does not end by signals otherwise.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        crate::holder::hold_on();
        let store = Store::start(&args.socket)?;
        let (failed, failure) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("keeper".into())
            .spawn(move || failed.send(store.serve()))
            .context("starting a thread")?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            failure = failure => failure.context("the keeper stopped")?,
        }
    })
}

fn at(socket: &Path) -> String {
    format!("the keeper at {}", socket.display())
}

struct Store {
    path: PathBuf,
    listener: OwnedFd,
    /// The socket's file, to tell whether another has taken its name.
    file: (u64, u64),
    connections: Vec<OwnedFd>,
    /// Who is taking over.
    successor: Option<OwnedFd>,
    entries: Entries,
}

/// Blob and descriptors by name.
type Entries = BTreeMap<String, (Vec<u8>, Vec<OwnedFd>)>;

impl Store {
    /// Takes over what a running keeper has, and then its socket's name.
    fn start(path: &Path) -> anyhow::Result<Self> {
        let folder = path.parent().context("the socket needs a folder")?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("the folder {}", folder.display()))?;
        let (before, entries) = inherit(path);
        tracing::info!(entries = entries.len(), took_over = before.is_some(), "keeping");
        // Under a name of its own first, so that the name is never without a keeper behind it.
        let new = path.with_extension(format!("new-{}", std::process::id()));
        let _ = std::fs::remove_file(&new);
        let listener = new_socket()?;
        // Who may write to the socket's file may ask: its owner alone. (Who asks cannot be seen on the connection: it comes
        // from another pod, whose processes have no numbers here.)
        let umask = rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        let bound = rustix::net::bind(&listener, &SocketAddrUnix::new(&new)?);
        rustix::process::umask(umask);
        bound.with_context(|| format!("the socket {}", new.display()))?;
        rustix::net::listen(&listener, MAX_CONNECTIONS as i32)?;
        let file = identity(&new)?;
        std::fs::rename(&new, path).with_context(|| format!("the socket {}", path.display()))?;
        Ok(Self { path: path.to_owned(), listener, file, connections: Vec::new(), successor: None, entries })
    }

    fn serve(mut self) -> anyhow::Result<()> {
        loop {
            if self.successor.is_some() {
                if self.hand_over() {
                    return self.rest();
                }
                continue;
            }
            let listener = (self.connections.len() < MAX_CONNECTIONS).then(|| self.listener.as_fd());
            let waited: Vec<_> = self.connections.iter().map(AsFd::as_fd).chain(listener).collect();
            let ready = ready(&waited, None).context("waiting for requests")?;
            let asking: Vec<usize> = (0..self.connections.len()).filter(|index| ready[*index]).collect();
            let knocked = ready.len() > self.connections.len() && ready[self.connections.len()];
            // From behind, so that numbers stay right while connections are taken out.
            for index in asking.into_iter().rev() {
                self.answer(index);
            }
            if knocked {
                self.accept();
            }
        }
    }

    fn accept(&mut self) {
        let Ok(socket) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) else {
            // Without a descriptor for it the caller stays at the door, and the door is looked at at once.
            std::thread::sleep(AFTER_REFUSAL);
            return;
        };
        if be_impatient(&socket).is_ok() {
            self.connections.push(socket);
        }
    }

    /// One request. A connection that does not speak the protocol is closed.
    fn answer(&mut self, index: usize) {
        let socket = &self.connections[index];
        match receive(socket) {
            Ok(Some(request)) if request.code == TAKE_OVER => {
                if send(socket, DONE, "", &[], &[]).is_ok() {
                    self.successor = Some(self.connections.remove(index));
                } else {
                    self.connections.remove(index);
                }
            }
            Ok(Some(request)) => {
                if reply(&mut self.entries, socket, request).is_err() {
                    self.connections.remove(index);
                }
            }
            Ok(None) | Err(_) => {
                self.connections.remove(index);
            }
        }
    }

    /// One request of the successor, which has [`PATIENCE`] for each. True once it has taken the name.
    fn hand_over(&mut self) -> bool {
        let Some(successor) = self.successor.take() else { return false };
        if let Ok(Some(request)) = receive(&successor)
            && reply(&mut self.entries, &successor, request).is_ok()
        {
            self.successor = Some(successor);
            return false;
        }
        // It is gone; has it got what it came for?
        identity(&self.path).is_ok_and(|file| file != self.file)
    }

    /// Another answers now. What is here stays until this process is told to end: the other is young.
    fn rest(self) -> anyhow::Result<()> {
        tracing::info!("another keeper has taken over: waiting to be ended");
        let Self { listener, connections, entries, .. } = self;
        // Who is connected notices, and asks the other.
        drop((listener, connections));
        let _kept = entries;
        loop {
            std::thread::park();
        }
    }
}

/// What a running keeper hands over, and the connection to it, which must last until its name is taken. From one that does
/// not hand over nothing is had: whoever left something there leaves it here again, once that one has ended.
fn inherit(path: &Path) -> (Option<Keeper>, Entries) {
    for attempt in 1..=TRIES {
        let handed = Keeper::connect(path).and_then(|before| {
            before.take_over()?;
            let all = before.all()?;
            Ok((before, all))
        });
        match handed {
            Ok((before, all)) => {
                let entries = all.into_iter().map(|kept| (kept.name, (kept.blob, kept.descriptors)));
                return (Some(before), entries.collect());
            }
            // None runs.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return (None, Entries::new());
            }
            Err(error) => tracing::error!(%error, attempt, "the running keeper does not hand over"),
        }
        std::thread::sleep(BETWEEN_TRIES);
    }
    (None, Entries::new())
}

/// Carries out a request, and answers it.
fn reply(entries: &mut Entries, socket: &OwnedFd, request: Message) -> io::Result<()> {
    let Message { code, kept } = request;
    let refused = |why: &str| send(socket, REFUSED, "", why.as_bytes(), &[]);
    match code {
        PUT if kept.name.is_empty() => refused("a name is missing"),
        PUT if kept.descriptors.is_empty() => refused("there is no descriptor to keep"),
        PUT if entries.len() >= MAX_ENTRIES && !entries.contains_key(&kept.name) => {
            refused("there is no more room")
        }
        PUT => {
            entries.insert(kept.name, (kept.blob, kept.descriptors));
            send(socket, DONE, "", &[], &[])
        }
        NEXT => {
            let bounds = (std::ops::Bound::Excluded(kept.name), std::ops::Bound::Unbounded);
            match entries.range::<String, _>(bounds).next() {
                Some((name, (blob, descriptors))) => {
                    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                    send(socket, ENTRY, name, blob, &descriptors)
                }
                None => send(socket, DONE, "", &[], &[]),
            }
        }
        DROP => {
            entries.remove(&kept.name);
            send(socket, DONE, "", &[], &[])
        }
        _ => refused("this keeper does not know that request: is it of an older version?"),
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok(socket)
}

fn be_impatient(socket: &OwnedFd) -> io::Result<()> {
    set_socket_timeout(socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(set_socket_timeout(socket, Timeout::Send, Some(PATIENCE))?)
}

/// Which of these can be read, or are at their end.
fn ready(descriptors: &[BorrowedFd<'_>], limit: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> =
        descriptors.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let limit =
        limit.map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() });
    loop {
        match poll(&mut polled, limit.as_ref()) {
            Ok(_) => return Ok(polled.iter().map(|polled| !polled.revents().is_empty()).collect()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn send(socket: &OwnedFd, code: u8, name: &str, blob: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if name.len() > MAX_NAME || blob.len() > MAX_BLOB || fds.len() > MAX_FDS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than a keeper keeps"));
    }
    let mut head = [VERSION, code, 0, 0];
    head[2..].copy_from_slice(&(name.len() as u16).to_le_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !rights.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for the descriptors"));
    }
    let parts = [IoSlice::new(&head), IoSlice::new(name.as_bytes()), IoSlice::new(blob)];
    // With a limit of time a signal ends the call, whatever is said of that signal.
    let sent = retry_on_intr(|| rustix::net::sendmsg(socket, &parts, &mut rights, SendFlags::NOSIGNAL))?;
    if sent != HEAD + name.len() + blob.len() {
        return Err(io::Error::other("a message was cut"));
    }
    Ok(())
}

/// The next message; none at the end.
fn receive(socket: &OwnedFd) -> io::Result<Option<Message>> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(&mut bytes)];
    let got = retry_on_intr(|| rustix::net::recvmsg(socket, into, &mut rights, RecvFlags::CMSG_CLOEXEC))?;
    let descriptors: Vec<OwnedFd> = rights
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        })
        .flatten()
        .collect();
    bytes.truncate(got.bytes);
    if bytes.is_empty() {
        return Ok(None);
    }
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other(
            "descriptors were cut off: this process may not have as many (ulimit -n)",
        ));
    }
    parse(&bytes, descriptors).map(Some)
}

fn parse(bytes: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<Message> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or_else(|| wrong("a message is too short"))?;
    if head[0] != VERSION {
        return Err(wrong("a message is of another version"));
    }
    let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let (name, blob) = rest.split_at_checked(length).ok_or_else(|| wrong("a name is cut"))?;
    if name.len() > MAX_NAME || blob.len() > MAX_BLOB {
        return Err(wrong("more than a keeper keeps"));
    }
    let name = std::str::from_utf8(name).map_err(|_| wrong("a name is not text"))?.to_owned();
    Ok(Message { code: head[1], kept: Kept { name, blob: blob.to_vec(), descriptors } })
}

#[cfg(test)]
#[path = "keeper_test.rs"]
mod tests;
