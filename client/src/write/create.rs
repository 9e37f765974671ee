//! Opening files for writing.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use steadfs_common::{ChecksumSpec, FsErrorKind, FsPath, FsResult};
use steadfs_proto::steadfs as pb;
use tokio::time::Instant;

use super::streamer::{Finish, NewStreamer, Streamer};
use super::writer::Writer;
use crate::backoff::Backoff;
use crate::client::{Inner, unnamed};
use crate::{BlockLocation, FileStatus};

/// How long a file whose last writer is being cleared away is waited for.
const RECOVERY_WAIT: Duration = Duration::from_secs(30);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A file about to be created; see [`Client::create`](crate::Client::create). Awaiting it creates the file.
#[must_use = "nothing is created until it is awaited"]
pub struct Create {
    inner: Arc<Inner>,
    path: String,
    overwrite: bool,
    create_parent: bool,
    replication: u16,
    block_size: u64,
    mode: Option<u16>,
    unmasked: Option<u16>,
    policy: String,
    checksum: ChecksumSpec,
    empty: bool,
}

impl Create {
    pub(crate) fn new(inner: Arc<Inner>, path: &str) -> Self {
        let checksum = inner.options.checksum;
        let path = path.to_owned();
        Self {
            inner,
            path,
            overwrite: false,
            create_parent: true,
            replication: 0,
            block_size: 0,
            mode: None,
            unmasked: None,
            policy: String::new(),
            checksum,
            empty: false,
        }
    }

    /// Whether a file that exists is replaced. Default no.
    pub fn overwrite(mut self, yes: bool) -> Self {
        self.overwrite = yes;
        self
    }

    /// Whether missing folders above are made. Default yes.
    pub fn create_parent(mut self, yes: bool) -> Self {
        self.create_parent = yes;
        self
    }

    /// Replicas of each block. Default: the server's.
    pub fn replication(mut self, replicas: u16) -> Self {
        self.replication = replicas;
        self
    }

    /// Size of the blocks in bytes. Default: the server's.
    pub fn block_size(mut self, bytes: u64) -> Self {
        self.block_size = bytes;
        self
    }

    /// Exactly these permission bits. Default: 666 without the umask.
    pub fn mode(mut self, mode: u16) -> Self {
        self.mode = Some(mode);
        self
    }

    /// The permission bits before somebody's umask was taken from [`Create::mode`]: they count instead of those where the
    /// folder has default access control entries. Default: none, and 666 without [`Create::mode`].
    pub fn unmasked(mut self, mode: Option<u16>) -> Self {
        self.unmasked = mode;
        self
    }

    /// The checksums that the file is stored with. Default: [`ClientOptions::checksum`](crate::ClientOptions::checksum).
    pub fn checksum(mut self, checksum: ChecksumSpec) -> Self {
        self.checksum = checksum;
        self
    }

    /// The storage policy, by name. Default: that of the folder.
    pub fn storage_policy(mut self, name: impl Into<String>) -> Self {
        self.policy = name.into();
        self
    }

    /// Says that nothing, or little, will be written: the server then keeps no block ready.
    pub fn expect_empty(mut self) -> Self {
        self.empty = true;
        self
    }

    async fn start(self) -> FsResult<Writer> {
        let path = FsPath::parse(&self.path)?;
        let inner = self.inner;
        let mode = self.mode.unwrap_or(0o666 & !inner.options.umask);
        let unmasked = self.unmasked.or(self.mode.is_none().then_some(0o666));
        let request = pb::CreateRequest {
            path: path.to_string(),
            client: inner.name.clone(),
            mode: u32::from(mode),
            unmasked: unmasked.map(u32::from),
            overwrite: self.overwrite,
            create_parent: self.create_parent,
            replication: u32::from(self.replication),
            block_size: self.block_size,
            first_block: !self.empty,
            storage_policy: self.policy,
            key: inner.calls.key(),
        };
        let answer = after_recovery(|| async {
            let request = pb::CreateRequest { key: inner.calls.key(), ..request.clone() };
            inner.calls.namespace(request, |mut c, r| async move { c.create(r).await }).await
        })
        .await?;
        let mut status = FileStatus::from_proto(unnamed(answer.status)?, &path)?;
        status.length = 0;
        let first = answer.block.map(BlockLocation::from_proto).transpose()?;
        Ok(Streamer::spawn(
            inner,
            NewStreamer { status, checksum: self.checksum, first, finish: Finish::Complete },
        ))
    }
}

impl IntoFuture for Create {
    type Output = FsResult<Writer>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

/// A file about to be appended to; see [`Client::append`](crate::Client::append). Awaiting it opens the file.
#[must_use = "nothing is opened until it is awaited"]
pub struct Append {
    inner: Arc<Inner>,
    path: String,
    checksum: ChecksumSpec,
}

impl Append {
    pub(crate) fn new(inner: Arc<Inner>, path: &str) -> Self {
        let checksum = inner.options.checksum;
        Self { inner, path: path.to_owned(), checksum }
    }

    /// The checksums that are sent. Their chunks must be those of the file.
    pub fn checksum(mut self, checksum: ChecksumSpec) -> Self {
        self.checksum = checksum;
        self
    }

    async fn start(self) -> FsResult<Writer> {
        let path = FsPath::parse(&self.path)?;
        let inner = self.inner;
        let answer = after_recovery(|| async {
            let key = inner.calls.key();
            let request = pb::AppendRequest { path: path.to_string(), client: inner.name.clone(), key };
            inner.calls.namespace(request, |mut c, r| async move { c.append(r).await }).await
        })
        .await?;
        let status = FileStatus::from_proto(unnamed(answer.status)?, &path)?;
        let last = answer.last.map(BlockLocation::from_proto).transpose()?;
        Streamer::append(
            inner,
            NewStreamer { status, checksum: self.checksum, first: last, finish: Finish::Complete },
        )
        .await
    }
}

impl IntoFuture for Append {
    type Output = FsResult<Writer>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

/// Repeats a call while the namenode is clearing the file's last writer away, for a while.
async fn after_recovery<T, Fut: Future<Output = FsResult<T>>>(call: impl Fn() -> Fut) -> FsResult<T> {
    let deadline = Instant::now() + RECOVERY_WAIT;
    let mut waits = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let result = call().await;
        let wait = waits.next_wait();
        match &result {
            Err(error)
                if matches!(
                    error.kind(),
                    FsErrorKind::RecoveryInProgress | FsErrorKind::NotReplicatedYet
                ) && Instant::now() + wait < deadline =>
            {
                tokio::time::sleep(wait).await;
            }
            _ => return result,
        }
    }
}
