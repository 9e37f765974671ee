//! What a daemon puts behind its Hadoop port.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use steadfs_common::{CallKey, FsResult};

/// Answers calls. Object-safe; a server holds it as `Arc<dyn Handler>`.
pub trait Handler: Send + Sync + 'static {
    /// The protocols served: their names as Hadoop has them (`org.apache.hadoop.hdfs.protocol.ClientProtocol`). A call
    /// to any other is answered by the server.
    fn protocols(&self) -> &'static [&'static str];

    /// Answers one call with the encoded response message (without a length in front).
    ///
    /// The server polls the future at once: one that is ready then costs no hop to another task. It is dropped if the
    /// connection ends first, so work that must not stop half-way belongs to a task of its own. Blocking work belongs on
    /// a disk pool. A method that is not known is a [`FsErrorKind::NoSuchMethod`](steadfs_common::FsErrorKind).
    fn call(self: Arc<Self>, call: Call) -> BoxFuture<'static, FsResult<Bytes>>;
}

/// One call, its headers read and checked.
#[derive(Clone, Debug)]
pub struct Call {
    /// One of [`Handler::protocols`].
    pub protocol: &'static str,
    /// The method's name in the protocol (`getFileInfo`), as it came: not checked.
    pub method: String,
    /// Who the caller acts as. Not empty, at most
    /// [`MAX_PRINCIPAL_BYTES`](steadfs_common::limits::MAX_PRINCIPAL_BYTES) long.
    pub user: Arc<str>,
    /// Who the caller is, if that is another: the handler decides whether one may act for the other.
    pub real_user: Option<Arc<str>>,
    /// The client's 16 random bytes, if it sent any.
    pub client_id: Option<[u8; 16]>,
    /// The call's number at that client.
    pub call_id: i32,
    /// How often the client has sent it before.
    pub retry_count: i32,
    /// Where the connection comes from.
    pub peer: SocketAddr,
    /// What the client says it does (`CLI`, `SPARK_…`), for logs; cut to a bound.
    pub caller_context: Option<String>,
    /// The encoded request message. Decode it with [`steadfs_proto::hadoop::decode`].
    pub request: Bytes,
}

impl Call {
    /// The retry cache's key; none if the client sent nothing to know its calls by.
    #[must_use]
    pub fn key(&self) -> Option<CallKey> {
        self.client_id.filter(|_| self.call_id >= 0).map(|client| CallKey { client, call: self.call_id })
    }
}
