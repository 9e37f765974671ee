//! What the mount does for each request of the kernel, in terms of the client library.
//!
//! The number by which the kernel knows a file or folder is its inode id in the cluster (the root of the mount is 1), so
//! that nothing has to be remembered about what the kernel has looked up: a renamed file keeps its number, and a new
//! process knows the numbers that an old one gave out.

mod attributes;
mod change;
mod files;
mod folders;
mod locks;
mod xattrs;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fuser::Errno;
use quick_cache::sync::Cache;
use steadfs_client::{Client, FileStatus, FsErrorKind, FsPath, OpenKeeper};
use steadfs_common::{InodeId, Name, ROOT_INODE};
use steadfs_daemon::pool::DiskPool;

pub(crate) use self::attributes::{NewAttributes, When};
pub(crate) use self::files::{FileHandle, Opened, Read};
pub(crate) use self::folders::{Entry, FolderHandle};
use crate::budget;
use crate::coherence::{self, Coherence};
use crate::device::Device;
use crate::errno::{Answer, failed};
use crate::handles::{Handle, Handles};
use crate::handoff::{Memory, SlotKind};
use crate::locks::Locks;
use crate::nodes::Nodes;
use crate::notify::Notify;
use crate::open::{Locals, OpenInodes, StagePlace};
use crate::pages::Pages;
use crate::users::{Kind, Names};

/// The number of the mount's root.
pub(crate) const ROOT: u64 = 1;
/// What the cluster keeps for itself in its root.
const RESERVED: &str = ".reserved";
/// Clients of different users kept at most.
const MAX_CLIENTS: usize = 256;
/// Files known to be locked at times, at most.
const MAX_LOCKERS: usize = 4_096;

/// How a mount behaves.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) folder: FsPath,
    pub(crate) user: Option<String>,
    pub(crate) read_only: bool,
    pub(crate) ttl: Duration,
    pub(crate) staging: PathBuf,
    pub(crate) staging_bytes: u64,
    pub(crate) local: PathBuf,
    pub(crate) memory_bytes: u64,
    pub(crate) block_size: u64,
    /// Replicas of new files; none: as the cluster does.
    pub(crate) replication: Option<u16>,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) user: u32,
}

/// A mounted folder.
pub(crate) struct Mount {
    pub(super) settings: Settings,
    pub(super) names: Names,
    pub(super) open: OpenInodes,
    pub(super) handles: Handles,
    pub(crate) memory: budget::Memory,
    pub(crate) notify: Notify,
    pub(crate) nodes: Arc<Nodes>,
    pub(super) pages: Pages,
    pub(crate) coherence: Arc<Coherence>,
    pub(super) locks: Locks,
    /// Blocks on this machine.
    pub(super) locals: Locals,
    /// Tells the namenode what is open.
    pub(super) keeper: OpenKeeper,
    /// Files that were locked here: who locks wants to see what others write, which local files do not tell.
    lockers: Cache<u64, ()>,
    /// The mount's own name.
    id: [u8; 16],
    pub(super) device: Device,
    client: Client,
    root: InodeId,
    clients: Cache<Arc<str>, Client>,
}

impl Mount {
    /// Looks at the folder, unless a process before this one did, and prepares everything that needs no kernel.
    pub(crate) async fn new(
        memory: Memory,
        device: Device,
        client: Client,
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let id = memory.mount()?;
        let root = match memory.cluster()? {
            Some((root, _)) => InodeId(root),
            None => {
                let folder = client.stat(&settings.folder.to_string()).await?;
                anyhow::ensure!(
                    folder.directory,
                    "{} is not a folder: only folders are mounted",
                    settings.folder
                );
                memory.set_cluster(folder.inode.0, &client.remembered())?;
                folder.inode
            }
        };
        let pool = DiskPool::new("mount-disk", 4, 64)?;
        let folder_of_mount = settings.staging.join(uuid::Uuid::from_bytes(id).to_string());
        let place = StagePlace::open(&folder_of_mount, settings.staging_bytes, pool).map_err(|error| {
            anyhow::anyhow!("{}: {error}: choose another place with --staging", settings.staging.display())
        })?;
        let nodes = Arc::new(Nodes::new());
        let bytes_of_files = budget::Memory::new(settings.memory_bytes);
        let notify = Notify::new(device.clone(), nodes.clone())?;
        let mount = Self {
            names: Names::new(DiskPool::new("mount-names", 1, 64)?),
            open: OpenInodes::new(Arc::new(place), bytes_of_files.pipelines.clone()),
            handles: Handles::new(memory.clone()),
            memory: bytes_of_files,
            locks: Locks::new(memory.clone(), notify.clone()),
            locals: Locals::new(settings.local.clone())?,
            keeper: keeper(&client, &memory)?,
            lockers: Cache::new(MAX_LOCKERS),
            notify,
            nodes,
            pages: Pages::new(),
            coherence: Arc::default(),
            root,
            clients: Cache::new(MAX_CLIENTS),
            id,
            device,
            client,
            settings,
        };
        mount.take_over().await?;
        // Not before: what is not found open by then is let go.
        mount.keeper.begin();
        mount.take_over_locks(&memory).await?;
        Ok(mount)
    }

    /// Hears of changes, and tells the kernel of them, until the runtime ends.
    pub(crate) async fn follow(&self) {
        let (coherence, notify) = (self.coherence.clone(), self.notify.clone());
        let (client, folder) = (self.client.clone(), self.settings.folder.clone());
        let has_read = |number, content| self.nodes.all(number).all(|node| self.pages.are_of(node, content));
        let followed = (client, folder, self.root);
        coherence::follow(coherence, notify, &self.open, has_read, followed, self.settings.ttl).await;
    }

    /// Opens again what a process before this one had open. Nothing is asked of the cluster yet.
    async fn take_over(&self) -> anyhow::Result<()> {
        for (number, slot) in self.handles.left()? {
            let caller = Caller { user: slot.user };
            let client = self
                .client(caller)
                .await
                .map_err(|errno| anyhow::anyhow!("user {}: {errno:?}", slot.user))?;
            let handle = match slot.kind {
                SlotKind::Folder => Handle::Folder(Arc::new(FolderHandle::left(client, slot.inode))),
                SlotKind::Reading | SlotKind::Writing => {
                    Handle::File(Arc::new(self.left_file(client, slot).await))
                }
            };
            self.handles.put_back(number, handle, slot);
        }
        Ok(())
    }

    /// The name under which the calls of a request are made: the same for the same request, in whichever process.
    pub(crate) fn request_id(&self, unique: u64) -> [u8; 16] {
        let mut id = self.id;
        id[8..].copy_from_slice(&unique.to_le_bytes());
        id
    }

    /// The cluster, as the caller.
    pub(super) async fn client(&self, caller: Caller) -> Answer<Client> {
        if self.settings.user.is_some() {
            return Ok(self.client.clone());
        }
        let name = self.names.name(Kind::User, caller.user).await;
        if let Some(client) = self.clients.get(&name) {
            return Ok(client);
        }
        let client =
            self.client.for_user(&name).map_err(|error| failed("a user's name cannot be sent", &error))?;
        self.clients.insert(name, client.clone());
        Ok(client)
    }

    /// The path of an inode, wherever it is.
    pub(super) fn path(&self, inode: u64) -> String {
        let id = if inode == ROOT { self.root.0 } else { inode };
        format!("/.reserved/.inodes/{id}")
    }

    /// The path of an entry.
    pub(super) fn entry(&self, parent: u64, name: &OsStr) -> Answer<String> {
        let name = checked(name)?;
        Ok(format!("{}/{name}", self.path(parent)))
    }

    /// Whether the root of the cluster is mounted.
    pub(super) fn is_whole(&self) -> bool {
        self.root == ROOT_INODE
    }

    /// The kernel's number of an inode.
    pub(super) fn number(&self, status: &FileStatus) -> u64 {
        if status.inode == self.root { ROOT } else { status.inode.0 }
    }

    /// Refuses changes of a mount that is read only.
    pub(super) fn may_change(&self) -> Answer<()> {
        if self.settings.read_only { Err(Errno::EROFS) } else { Ok(()) }
    }
}

/// The name of an entry: EILSEQ for what is not UTF-8, which the cluster cannot hold; EINVAL for names that it refuses.
fn checked(name: &OsStr) -> Answer<&str> {
    let name = name.to_str().ok_or(Errno::EILSEQ)?;
    Name::new(name).map_err(|error| failed("a name is refused", &error))?;
    Ok(name)
}

/// What tells the namenode which files are open, in the session of the server before this one if there was one.
fn keeper(client: &Client, memory: &Memory) -> std::io::Result<OpenKeeper> {
    let remembered = memory.clone();
    Ok(client.keep_open(memory.session()?, move |session| {
        if let Err(error) = remembered.set_session(session) {
            tracing::error!(%error, "the session of what is open is not remembered for a process that takes over");
        }
    }))
}

/// The errno of a failed call about something that the kernel knows by its number: if it is gone, the kernel looks its
/// name up again.
fn by_number(what: &'static str, error: &steadfs_client::FsError) -> Errno {
    if error.kind() == FsErrorKind::NotFound { Errno::ESTALE } else { failed(what, error) }
}
