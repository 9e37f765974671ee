//! Replacing a file's content whole.

use std::future::IntoFuture;
use std::sync::Arc;

use futures::future::BoxFuture;
use steadfs_common::{ChecksumSpec, FsPath, FsResult};
use steadfs_proto::steadfs as pb;

use super::streamer::{Finish, NewStreamer, Streamer};
use super::writer::Writer;
use crate::FileStatus;
use crate::client::{Inner, unnamed};

/// A file's new content, about to be written; see [`Client::replace`](crate::Client::replace). Awaiting it begins.
#[must_use = "nothing is begun until it is awaited"]
pub struct Replace {
    inner: Arc<Inner>,
    path: String,
    block_size: u64,
    expected: u64,
    checksum: ChecksumSpec,
}

impl Replace {
    pub(crate) fn new(inner: Arc<Inner>, path: &str) -> Self {
        let checksum = inner.options.checksum;
        Self { inner, path: path.to_owned(), block_size: 0, expected: 0, checksum }
    }

    /// Refuses to replace any content but the one of this version ([`FileStatus::content_version`]). Default: whatever
    /// is there is replaced.
    pub fn expected(mut self, version: u64) -> Self {
        self.expected = version;
        self
    }

    /// Size of the blocks in bytes, from now on the file's. Default: the file's.
    pub fn block_size(mut self, bytes: u64) -> Self {
        self.block_size = bytes;
        self
    }

    /// The checksums that the content is stored with. Default:
    /// [`ClientOptions::checksum`](crate::ClientOptions::checksum).
    pub fn checksum(mut self, checksum: ChecksumSpec) -> Self {
        self.checksum = checksum;
        self
    }

    async fn start(self) -> FsResult<Writer> {
        let (inner, path) = (self.inner, FsPath::parse(&self.path)?);
        let request = pb::StageRequest {
            path: path.to_string(),
            client: inner.name.clone(),
            block_size: self.block_size,
        };
        let answer = inner.calls.mounts(request, |mut c, r| async move { c.stage(r).await }).await?;
        let status = FileStatus::from_proto(unnamed(answer.status)?, &path)?;
        let file = NewStreamer {
            status,
            checksum: self.checksum,
            first: None,
            finish: Finish::Replace { expected: self.expected },
        };
        Ok(Streamer::spawn(inner, file))
    }
}

impl IntoFuture for Replace {
    type Output = FsResult<Writer>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}
