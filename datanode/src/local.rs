//! The door for readers on this machine: a Unix socket that hands out the descriptor of a finalized replica's file.
//!
//! Whoever has a descriptor reads the disk directly, and nothing is compared with checksums any more. So a replica is
//! verified whole before its descriptor leaves: who asks earlier is told to come again, and reads through the network
//! meanwhile. Only processes of root, or of the user that the datanode runs as, are answered: they could open the file
//! themselves.
//!
//! A question is 24 bytes: [`QUESTION`], block id and generation stamp. An answer is 16: what it is, zeros, and the
//! replica's length; the descriptor comes along. Numbers are little-endian.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use steadfs_common::{BlockId, GenStamp, StorageId};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_datanode_store::ReplicaReader;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::node::Node;

/// How a question begins; the digit is the version.
const QUESTION: &[u8; 8] = b"SFLOCAL1";
/// Answers.
const HERE: u8 = 0;
const NOT_YET: u8 = 1;
const NONE: u8 = 2;
/// Connections served at the same time.
const MAX_CONNECTIONS: usize = 256;
/// Replicas of one volume verified at the same time: a disk that does not answer holds up those of no other.
const MAX_VERIFICATIONS: usize = 2;
/// Replicas of one volume that are or wait to be verified, at most: each is held open. Whoever asks for another one comes again.
const MAX_WAITING: usize = 32;
/// Questions about replicas of one volume that wait for its disk.
const MAX_QUESTIONS: usize = 64;
/// How long a disk may take for an answer: nobody waits longer for a descriptor. A disk that hangs must not keep connections.
const PATIENCE: Duration = Duration::from_secs(2);
/// Replicas known to be good, at most; then they are forgotten, and verified anew when they are asked for.
const MAX_VERIFIED: usize = 1 << 16;
/// A replica so small is verified while the reader waits.
const SMALL: u64 = 4 << 20;
/// Bytes verified in one go, before others get their turn at the disk.
const STEP: u64 = 32 << 20;
/// How long a reader may say nothing.
const IDLE: Duration = Duration::from_secs(60);

type Replica = (BlockId, GenStamp);

/// The socket's file, which goes with this.
pub(crate) struct LocalDoor {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for LocalDoor {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What is known about replicas.
#[derive(Default)]
struct Known {
    verified: BTreeSet<Replica>,
    being_verified: BTreeMap<StorageId, BTreeSet<Replica>>,
}

impl Known {
    /// Whether a replica is to be verified now: it is not yet, and its volume has room for one more.
    fn begin(&mut self, storage: StorageId, replica: Replica) -> bool {
        let waiting = self.being_verified.entry(storage).or_default();
        waiting.len() < MAX_WAITING && waiting.insert(replica)
    }

    fn end(&mut self, storage: StorageId, replica: Replica) {
        if let Some(waiting) = self.being_verified.get_mut(&storage) {
            waiting.remove(&replica);
            if waiting.is_empty() {
                self.being_verified.remove(&storage);
            }
        }
    }

    /// A replica was found to be good.
    fn note(&mut self, replica: Replica) {
        if self.verified.len() >= MAX_VERIFIED {
            self.verified.clear();
        }
        self.verified.insert(replica);
    }
}

struct Shared {
    node: Arc<Node>,
    known: Mutex<Known>,
    /// Turns at each volume.
    turns: Mutex<BTreeMap<StorageId, Turns>>,
}

/// Turns at one volume. Who has one keeps it until the disk has answered.
#[derive(Clone)]
struct Turns {
    questions: Arc<Semaphore>,
    verifications: Arc<Semaphore>,
}

impl LocalDoor {
    /// Opens the door of the datanode in `folder`. Where that cannot be had, readers of this machine come through the
    /// network like all others.
    pub(crate) fn open(node: &Node, folder: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(folder)?;
        let path = folder.join(node.uuid.to_string());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers until `shutdown`.
    pub(crate) async fn serve(self, node: Arc<Node>, shutdown: Shutdown) {
        let shared = Arc::new(Shared { node, known: Mutex::default(), turns: Mutex::default() });
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.triggered() => return,
            };
            let (Ok((stream, _)), Ok(place)) = (accepted, room.clone().try_acquire_owned()) else { continue };
            let (shared, ended) = (shared.clone(), shutdown.clone());
            shutdown.spawn(async move {
                let _place = place;
                tokio::select! {
                    done = shared.answer(stream, &ended) => if let Err(error) = done {
                        tracing::debug!(%error, "a local reader went away");
                    },
                    () = ended.triggered() => {}
                }
            });
        }
    }
}

impl Shared {
    /// Answers the questions of one reader.
    async fn answer(self: &Arc<Self>, mut stream: UnixStream, shutdown: &Shutdown) -> io::Result<()> {
        let user = stream.peer_cred()?.uid();
        if user != 0 && user != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(format!("user {user} may not have descriptors")));
        }
        loop {
            let mut question = [0; 24];
            match timeout(IDLE, stream.read_exact(&mut question)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(()),
            }
            if !question.starts_with(QUESTION) {
                return Err(io::Error::other("a question that is none"));
            }
            let number = |at: usize| {
                let mut number = [0; 8];
                number.copy_from_slice(&question[at..at + 8]);
                u64::from_le_bytes(number)
            };
            let (what, length, file) = self.look(BlockId(number(8)), GenStamp(number(16)), shutdown).await;
            let mut answer = [0; 16];
            answer[0] = what;
            answer[8..].copy_from_slice(&length.to_le_bytes());
            send(&stream, &answer, file.as_ref()).await?;
        }
    }

    /// What can be said about a replica.
    async fn look(
        self: &Arc<Self>,
        id: BlockId,
        stamp: GenStamp,
        shutdown: &Shutdown,
    ) -> (u8, u64, Option<File>) {
        let store = self.node.store.clone();
        let Some(storage) = store.status(id).map(|replica| replica.storage) else { return (NONE, 0, None) };
        let Ok(turn) = self.turns(storage).questions.try_acquire_owned() else { return (NOT_YET, 0, None) };
        let disk = self.node.disks.of(storage);
        let opened = disk.run(move || {
            let _turn = turn;
            let reader = store.open_for_read(id, stamp).ok()?;
            // An appended replica has a newer stamp: what was verified then is not what is there now.
            if !reader.is_finalized() || reader.block().stamp != stamp {
                return None;
            }
            let file = read_only(&reader)?;
            Some((Arc::new(reader), file))
        });
        let (reader, file) = match timeout(PATIENCE, opened).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return (NONE, 0, None),
            Err(_) => return (NOT_YET, 0, None),
        };
        let (replica, length) = ((id, stamp), reader.block().len);
        if reader.is_bad() {
            // Found since it was verified. What takes its place is verified anew.
            self.known.lock().verified.remove(&replica);
            return (NONE, 0, None);
        }
        if self.known.lock().verified.contains(&replica) {
            return (HERE, length, Some(file));
        }
        if length <= SMALL {
            match timeout(PATIENCE, self.verify(replica, reader.clone())).await {
                Ok(true) => return (HERE, length, Some(file)),
                Ok(false) => return (NONE, 0, None),
                // A slow disk: it is verified while nobody waits.
                Err(_) => {}
            }
        }
        let storage = reader.storage();
        if self.known.lock().begin(storage, replica) {
            let (shared, ended) = (self.clone(), shutdown.clone());
            shutdown.spawn(async move {
                tokio::select! {
                    _ = shared.verify(replica, reader) => {}
                    // Of a disk that hangs nothing more is heard.
                    () = shared.node.disks.gone(storage) => {}
                    () = ended.triggered() => {}
                }
                shared.known.lock().end(storage, replica);
            });
        }
        (NOT_YET, length, None)
    }

    fn turns(&self, storage: StorageId) -> Turns {
        let new = || Turns {
            questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            verifications: Arc::new(Semaphore::new(MAX_VERIFICATIONS)),
        };
        self.turns.lock().entry(storage).or_insert_with(new).clone()
    }

    /// Compares a whole replica with its checksums, a step at a time.
    async fn verify(&self, replica: Replica, reader: Arc<ReplicaReader>) -> bool {
        let Ok(turn) = self.turns(reader.storage()).verifications.acquire_owned().await else { return false };
        let turn = Arc::new(turn);
        let disk = self.node.disks.of(reader.storage());
        let length = reader.block().len;
        let mut at = 0;
        let mut good = true;
        while good && at < length {
            let (step, end, turn) = (reader.clone(), length.min(at + STEP), turn.clone());
            // Once more if the store finds nothing wrong: then it could not be read just now, or could not be found out.
            let fits = move || {
                let _turn = turn;
                step.verify(at, end).is_ok() || (!step.suspect() && step.verify(at, end).is_ok())
            };
            good = disk.run(fits).await;
            at = end;
        }
        if good {
            self.known.lock().note(replica);
        }
        good
    }
}

/// The block file opened once more: nobody else can write through it, nor move our own position.
fn read_only(reader: &ReplicaReader) -> Option<File> {
    File::open(format!("/proc/self/fd/{}", reader.data().as_raw_fd())).ok()
}

async fn send(stream: &UnixStream, answer: &[u8], file: Option<&File>) -> io::Result<()> {
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        let descriptors = file.map(AsFd::as_fd);
        if let Some(descriptor) = &descriptors
            && !rights.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor)))
        {
            return Err(io::Error::other("no room for a descriptor"));
        }
        let sent =
            rustix::net::sendmsg(stream, &[io::IoSlice::new(answer)], &mut rights, SendFlags::NOSIGNAL)?;
        if sent == answer.len() { Ok(()) } else { Err(io::Error::other("an answer was cut")) }
    };
    stream.async_io(Interest::WRITABLE, send).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_a_volume_wait_to_be_verified_and_keep_no_others_waiting() {
        let mut known = Known::default();
        let [hung, good] = [1, 2].map(|number| StorageId(uuid::Uuid::from_u128(number)));
        let replica = |id| (BlockId(id), GenStamp(1));
        let most = MAX_WAITING as u64;
        assert_eq!((0..2 * most).filter(|id| known.begin(hung, replica(*id))).count(), MAX_WAITING);
        assert!(!known.begin(hung, replica(0)) && !known.begin(hung, replica(most)));
        assert!(known.begin(good, replica(most)) && !known.begin(good, replica(most)));
        known.end(hung, replica(0));
        assert!(known.begin(hung, replica(most)));
        (1..=most).for_each(|id| known.end(hung, replica(id)));
        known.end(good, replica(most));
        assert!(known.being_verified.is_empty());
    }
}
