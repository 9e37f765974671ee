//! The client: one connection to a namenode, and what may be asked of it by path.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult, InodeId};
use steadfs_proto::steadfs as pb;

use tokio::sync::Semaphore;

use crate::calls::Calls;
use crate::data::IdleConnections;
use crate::landing::Pages;
use crate::lease::Leases;
use crate::read::Reader;
use crate::types::foreign;
use crate::write::{Append, Create, Replace};
use crate::{ClientOptions, Defaults, FileChecksum, FileStatus, FsStats, FsUrl};

/// A connection to a SteadFS cluster. Cloning is cheap and shares it; a program wants one for each user it acts as.
///
/// Every method checks its path first: absolute, at most 8,000 characters, names of at most 255 bytes without `:`.
/// Calls that meet a namenode which is starting, stopping or out of reach are repeated until
/// [`ClientOptions::call_timeout`]; calls that change something are never executed twice. Dropping the future of a call
/// ends the waiting; the server may carry it out nevertheless.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> steadfs_client::FsResult<()> {
/// # let Ok(url) = std::env::var("STEADFS_URL") else { return Ok(()) };
/// use steadfs_client::Client;
///
/// // Such as hdfs://localhost:8020.
/// let client = Client::connect(&url).await?;
/// let mut file = client.create("/greeting").overwrite(true).await?;
/// file.write_all("hello").await?;
/// file.close().await?;
///
/// let reader = client.open("/greeting").await?;
/// assert_eq!(reader.read_at(1, 3).await?, "ell");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

/// Second tries of slow reads at a time: a cluster that is slow altogether is not asked twice as much.
const MAX_HEDGES: usize = 16;

/// What a client and all its readers and writers share.
pub(crate) struct Inner {
    pub(crate) calls: Calls,
    pub(crate) options: ClientOptions,
    pub(crate) defaults: Defaults,
    /// The holder of this client's leases.
    pub(crate) name: String,
    pub(crate) idle: IdleConnections,
    pub(crate) pages: Pages,
    pub(crate) leases: Leases,
    /// Second tries of slow reads that may be under way at a time.
    pub(crate) hedges: Semaphore,
}

impl Client {
    /// Connects to the file system at `url` (`hdfs://host:port`) with the default options.
    ///
    /// # Errors
    /// `Unreachable` or `Timeout`, with the address and what to check, if nobody answers within
    /// [`ClientOptions::connect_timeout`]; `InvalidArgument` if `url` is not one.
    pub async fn connect(url: &str) -> FsResult<Self> {
        Self::connect_with(url, ClientOptions::default()).await
    }

    /// Connects as [`Client::connect`] does, with options.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_with(url: &str, options: ClientOptions) -> FsResult<Self> {
        let calls = Calls::new(url.parse()?, &options)?;
        let request = pb::GetDefaultsRequest {};
        let defaults =
            calls
                .namespace_within(options.connect_timeout, request, |mut c, r| async move {
                    c.get_defaults(r).await
                })
                .await?;
        Ok(Self::over(calls, options, Defaults::from_proto(defaults)?))
    }

    /// What [`Client::reconnect`] wants to know.
    #[must_use]
    pub fn remembered(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(&self.inner.defaults.to_proto())
    }

    /// A client of a file system that another client of the same program was connected to, without asking anybody: its
    /// calls wait for a namenode that is away, as those of a client that has been there all the time.
    ///
    /// # Errors
    /// `InvalidArgument` if `url` is not one, or `remembered` is not what [`Client::remembered`] gave.
    pub fn reconnect(url: &str, options: ClientOptions, remembered: &[u8]) -> FsResult<Self> {
        let calls = Calls::new(url.parse()?, &options)?;
        let defaults: pb::GetDefaultsResponse = prost::Message::decode(remembered).map_err(|error| {
            FsError::invalid_argument(format!("what was remembered of a cluster: {error}"))
        })?;
        Ok(Self::over(calls, options, Defaults::from_proto(defaults)?))
    }

    fn over(calls: Calls, options: ClientOptions, defaults: Defaults) -> Self {
        let name = options.name.clone();
        let name = name.unwrap_or_else(|| format!("steadfs-client_{}", uuid::Uuid::new_v4()));
        let (idle, leases) = (IdleConnections::default(), Leases::default());
        let hedges = Semaphore::new(MAX_HEDGES);
        let pages = Pages::default();
        Self { inner: Arc::new(Inner { calls, options, defaults, name, idle, pages, leases, hedges }) }
    }

    /// The same cluster as another user, over the same connection.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that cannot be sent.
    pub fn for_user(&self, user: &str) -> FsResult<Self> {
        let inner = Inner {
            calls: self.inner.calls.for_user(user)?,
            options: ClientOptions { user: user.to_owned(), ..self.inner.options.clone() },
            defaults: self.inner.defaults.clone(),
            name: self.inner.name.clone(),
            idle: IdleConnections::default(),
            pages: self.inner.pages.clone(),
            leases: Leases::default(),
            hedges: Semaphore::new(MAX_HEDGES),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where the namenode is.
    #[must_use]
    pub fn url(&self) -> &FsUrl {
        self.inner.calls.url()
    }

    /// Who acts.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.inner.options.user
    }

    /// What the server chooses where nothing is asked for.
    #[must_use]
    pub fn defaults(&self) -> &Defaults {
        &self.inner.defaults
    }

    /// Opens a file for reading. A file that is being written can be read as far as its writer has flushed.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `AccessDenied`.
    pub async fn open(&self, path: &str) -> FsResult<Reader> {
        Reader::open(self.inner.clone(), FsPath::parse(path)?).await
    }

    /// Creates a file: await it as it is, or say more first.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> steadfs_client::FsResult<()> {
    /// # let Ok(url) = std::env::var("STEADFS_URL") else { return Ok(()) };
    /// # let client = steadfs_client::Client::connect(&url).await?;
    /// let mut file = client.create("/data/x").overwrite(true).replication(2).block_size(64 << 20).await?;
    /// file.write_all(vec![0; 1 << 20]).await?;
    /// file.close().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// When awaited: `AlreadyExists`, `AlreadyBeingCreated`, `ParentNotDirectory`, `AccessDenied`, and others.
    pub fn create(&self, path: &str) -> Create {
        Create::new(self.inner.clone(), path)
    }

    /// Writes a file's new content, which replaces what it holds whole and at once when the writer is closed. Until then,
    /// and for ever if the writer is given up, the file holds what it held. It keeps its id, owner, mode and all else.
    ///
    /// # Errors
    /// When awaited: `NotFound`, `IsADirectory`, `AccessDenied`. When closed: `ContentChanged` if the content is another
    /// than the one expected; `AlreadyBeingCreated` while somebody writes the file; `SpaceQuota`.
    pub fn replace(&self, path: &str) -> Replace {
        Replace::new(self.inner.clone(), path)
    }

    /// Opens a file for appending.
    ///
    /// # Errors
    /// When awaited: `NotFound`, `AlreadyBeingCreated` while somebody else writes it, `AccessDenied`.
    pub fn append(&self, path: &str) -> Append {
        Append::new(self.inner.clone(), path)
    }

    /// What is known about a file or folder.
    ///
    /// # Errors
    /// `NotFound`, `AccessDenied`.
    pub async fn stat(&self, path: &str) -> FsResult<FileStatus> {
        let path = FsPath::parse(path)?;
        let request = pb::StatRequest { path: path.to_string() };
        let answer = self.inner.calls.namespace(request, |mut c, r| async move { c.stat(r).await }).await?;
        FileStatus::from_proto(unnamed(answer.status)?, &path)
    }

    /// Whether something is there.
    ///
    /// # Errors
    /// Everything but `NotFound` and a parent that is a file, which are `false`.
    pub async fn exists(&self, path: &str) -> FsResult<bool> {
        match self.stat(path).await {
            Ok(_) => Ok(true),
            Err(error) => match error.kind() {
                FsErrorKind::NotFound | FsErrorKind::ParentNotDirectory => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// The entries of a folder in the order of their names, or the file itself. Fetched page by page: whoever changes
    /// the folder meanwhile may be seen or not, and nothing else is missed or seen twice.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> steadfs_client::FsResult<()> {
    /// # let Ok(url) = std::env::var("STEADFS_URL") else { return Ok(()) };
    /// # let client = steadfs_client::Client::connect(&url).await?;
    /// use futures::TryStreamExt;
    ///
    /// # client.mkdirs("/data").await?;
    /// let mut entries = std::pin::pin!(client.list("/data"));
    /// while let Some(entry) = entries.try_next().await? {
    ///     println!("{} {}", entry.path, entry.length);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn list(&self, path: &str) -> impl Stream<Item = FsResult<FileStatus>> + Send + use<> {
        crate::list::list(self.inner.clone(), FsPath::parse(path))
    }

    /// Everything below a folder, each folder before what it holds; the folder itself is not part of it.
    /// A folder that vanishes on the way is passed over.
    pub fn walk(&self, path: &str) -> impl Stream<Item = FsResult<FileStatus>> + Send + use<> {
        crate::list::walk(self.inner.clone(), FsPath::parse(path))
    }

    /// Makes a folder and its missing parents; it is no error if it exists.
    ///
    /// # Errors
    /// `AlreadyExists` if a file is there, `ParentNotDirectory`, `AccessDenied`.
    pub async fn mkdirs(&self, path: &str) -> FsResult<()> {
        self.make_folder(path, 0o777 & !self.inner.options.umask, Some(0o777), true).await
    }

    /// Makes a folder with exactly this mode, and its missing parents only if told to.
    ///
    /// # Errors
    /// As [`Client::mkdirs`]; `NotFound` if a parent is missing and `parents` is not set.
    pub async fn mkdirs_with(&self, path: &str, mode: u16, parents: bool) -> FsResult<()> {
        self.make_folder(path, mode, None, parents).await
    }

    async fn make_folder(&self, path: &str, mode: u16, unmasked: Option<u16>, parents: bool) -> FsResult<()> {
        let request = pb::MkdirsRequest {
            path: checked(path)?,
            mode: u32::from(mode),
            create_parent: parents,
            unmasked: unmasked.map(u32::from),
            exclusive: false,
            key: None,
        };
        self.inner.calls.namespace(request, |mut c, r| async move { c.mkdirs(r).await }).await?;
        Ok(())
    }

    /// Makes a folder where nothing is, in one that is there, as POSIX's `mkdir`. `mode` counts unless the folder above has
    /// a default access list: then `unmasked`, which is the mode before the umask was taken from it.
    ///
    /// # Errors
    /// `AlreadyExists` whatever is there; `NotFound`, `ParentNotDirectory`, `AccessDenied`.
    pub async fn mkdir(&self, path: &str, mode: u16, unmasked: Option<u16>) -> FsResult<()> {
        let request = pb::MkdirsRequest {
            path: checked(path)?,
            mode: u32::from(mode),
            create_parent: false,
            unmasked: unmasked.map(u32::from),
            exclusive: true,
            key: self.inner.calls.key(),
        };
        self.inner.calls.namespace(request, |mut c, r| async move { c.mkdirs(r).await }).await?;
        Ok(())
    }

    /// Renames, atomically. Nothing may be at `to`.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, `ParentNotDirectory`, `AccessDenied`.
    pub async fn rename(&self, from: &str, to: &str) -> FsResult<()> {
        self.rename_as(from, to, pb::RenameMode::NoReplace).await
    }

    /// Renames, atomically, in place of a file or an empty folder that may be at `to`.
    ///
    /// # Errors
    /// `NotFound`, `NotEmpty`, `ParentNotDirectory`, `AccessDenied`.
    pub async fn rename_over(&self, from: &str, to: &str) -> FsResult<()> {
        self.rename_as(from, to, pb::RenameMode::Overwrite).await
    }

    /// As [`Client::rename`], of what is thrown away: the caller must be allowed to delete it too.
    ///
    /// # Errors
    /// As [`Client::rename`]; `AccessDenied` if it may not be deleted.
    pub async fn rename_to_trash(&self, from: &str, to: &str) -> FsResult<()> {
        self.rename_with(from, to, pb::RenameMode::NoReplace, true).await
    }

    async fn rename_as(&self, from: &str, to: &str, mode: pb::RenameMode) -> FsResult<()> {
        self.rename_with(from, to, mode, false).await
    }

    async fn rename_with(&self, from: &str, to: &str, mode: pb::RenameMode, to_trash: bool) -> FsResult<()> {
        let key = self.inner.calls.key();
        let (from_path, to_path) = (checked(from)?, checked(to)?);
        let request = pb::RenameRequest { from: from_path, to: to_path, mode: mode.into(), key, to_trash };
        let answer = self.inner.calls.namespace(request, |mut c, r| async move { c.rename(r).await }).await?;
        if answer.result {
            return Ok(());
        }
        Err(FsError::refused(format!("{from} was not renamed to {to}")))
    }

    /// Deletes a file or a folder; `false` if nothing was there.
    ///
    /// # Errors
    /// `NotEmpty` for a folder that holds something, unless `recursive`; `AccessDenied`.
    pub async fn delete(&self, path: &str, recursive: bool) -> FsResult<bool> {
        let request = pb::DeleteRequest { path: checked(path)?, recursive, key: self.inner.calls.key() };
        let answer = self.inner.calls.namespace(request, |mut c, r| async move { c.delete(r).await }).await?;
        Ok(answer.result)
    }

    /// Appends the blocks of `sources`, in this order, to the file `target`, at once and without moving a byte, and removes
    /// the sources. All must be closed files of one folder, with block sizes no larger than the target's.
    ///
    /// # Errors
    /// `NotFound`, `AccessDenied`; `InvalidArgument` for files that cannot be joined; `Refused` if that would be too many
    /// blocks.
    pub async fn concat<S: AsRef<str>>(&self, target: &str, sources: &[S]) -> FsResult<()> {
        let sources = sources.iter().map(|source| checked(source.as_ref())).collect::<FsResult<_>>()?;
        let request = pb::ConcatRequest { target: checked(target)?, sources, key: self.inner.calls.key() };
        self.inner.calls.namespace(request, |mut c, r| async move { c.concat(r).await }).await?;
        Ok(())
    }

    /// Cuts a file to `length` bytes. `false` while its last block is being cut: the file can be read meanwhile, and
    /// written once [`FileStatus::under_construction`] is false.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `AccessDenied`; `InvalidArgument` if the file is shorter; `AlreadyBeingCreated` or
    /// `RecoveryInProgress` while somebody writes or truncates it.
    pub async fn truncate(&self, path: &str, length: u64) -> FsResult<bool> {
        let request = pb::TruncateRequest { path: checked(path)?, length, client: self.inner.name.clone() };
        let answer =
            self.inner.calls.namespace(request, |mut c, r| async move { c.truncate(r).await }).await?;
        Ok(answer.result)
    }

    /// Sets how many replicas a file shall have; `false` for a folder, or if nothing is there.
    ///
    /// # Errors
    /// `Refused` outside of the server's limits, `AccessDenied`.
    pub async fn set_replication(&self, path: &str, replication: u16) -> FsResult<bool> {
        let request = pb::SetReplicationRequest { path: checked(path)?, replication: u32::from(replication) };
        let answer =
            self.inner.calls.namespace(request, |mut c, r| async move { c.set_replication(r).await }).await?;
        Ok(answer.result)
    }

    /// The space of the whole file system.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn fs_stats(&self) -> FsResult<FsStats> {
        let answer =
            self.inner.calls.namespace(pb::Empty {}, |mut c, r| async move { c.fs_stats(r).await }).await?;
        Ok(answer.into())
    }

    /// The checksum of a file as Hadoop computes it (`hadoop fs -checksum`): equal for equal contents that were written
    /// with the same block size and checksums. The datanodes compute it; no data is read over the network.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`; `Refused` for a file that is being written; `Unsupported` for one without checksums;
    /// `BlockMissing`.
    pub async fn checksum(&self, path: &str) -> FsResult<FileChecksum> {
        crate::read::checksum(self.inner.clone(), FsPath::parse(path)?).await
    }

    /// The whole content of a file.
    ///
    /// # Errors
    /// As [`Client::open`] and [`Reader::read_at`]; `InvalidArgument` if it is longer than `limit` bytes.
    pub async fn read(&self, path: &str, limit: usize) -> FsResult<Bytes> {
        let reader = self.open(path).await?;
        match usize::try_from(reader.length()) {
            Ok(length) if length <= limit => reader.read_at(0, length).await,
            _ => Err(FsError::invalid_argument(format!(
                "{path} has {} bytes, more than the {limit} to read at most",
                reader.length()
            ))),
        }
    }

    /// Writes a file of this content, in place of one that is there, and closes it.
    ///
    /// # Errors
    /// As [`Client::create`] and [`Writer::close`](crate::Writer::close).
    pub async fn write(&self, path: &str, content: impl Into<Bytes>) -> FsResult<()> {
        let mut writer = self.create(path).overwrite(true).await?;
        writer.write_all(content).await?;
        writer.close().await
    }

    /// The names and bytes below a folder, collected.
    ///
    /// # Errors
    /// Those of [`Client::list`].
    pub async fn list_all(&self, path: &str) -> FsResult<Vec<FileStatus>> {
        self.list(path).try_collect().await
    }

    /// Checks that the caller may read (4), write (2) or execute (1) something; `access` is their sum.
    ///
    /// # Errors
    /// `AccessDenied`, `NotFound`.
    pub async fn check_access(&self, path: &str, access: u8) -> FsResult<()> {
        let request = pb::CheckAccessRequest { path: checked(path)?, mode: u32::from(access & 7) };
        self.inner.calls.namespace(request, |mut c, r| async move { c.check_access(r).await }).await?;
        Ok(())
    }

    /// Whether this client (or one that held its leases under the same [`ClientOptions::name`]) is writing the file.
    ///
    /// # Errors
    /// Those of any call but `LeaseExpired` and `NotFound`, which are `false`.
    pub async fn is_writing(&self, path: &str, inode: InodeId) -> FsResult<bool> {
        let request = pb::FsyncRequest {
            path: checked(path)?,
            inode: inode.0,
            client: self.inner.name.clone(),
            last_block_length: 0,
            flushed_only: true,
        };
        match self.inner.calls.namespace(request, |mut c, r| async move { c.fsync(r).await }).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), FsErrorKind::LeaseExpired | FsErrorKind::NotFound) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a file from a writer that is gone, so that it can be read and written; `false` while that is under way
    /// (ask again).
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `AccessDenied`.
    pub async fn recover_lease(&self, path: &str) -> FsResult<bool> {
        let request = pb::PathRequest { path: checked(path)? };
        let answer =
            self.inner.calls.namespace(request, |mut c, r| async move { c.recover_lease(r).await }).await?;
        Ok(answer.result)
    }
}

/// The path as it is sent: checked and without a `/` at its end.
pub(crate) fn checked(path: &str) -> FsResult<String> {
    Ok(FsPath::parse(path)?.to_string())
}

/// The status in an answer about a path that the caller named.
pub(crate) fn unnamed(status: Option<pb::FileStatus>) -> FsResult<pb::FileStatus> {
    let mut status = status.ok_or_else(|| foreign("status"))?;
    status.name.clear();
    Ok(status)
}
