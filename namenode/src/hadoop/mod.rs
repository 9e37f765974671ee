//! The Hadoop RPC door: ClientProtocol and the small protocols that stock tools ask of a namenode.
//!
//! A method here translates: message to domain type, one call of the [`Service`], domain type to message. The rules,
//! the caller's rights, the retry cache and the audit are behind it. One file a group of operations; everything that
//! turns one type into the other is in `convert`.

mod acl;
mod answers;
mod cluster;
mod convert;
mod features;
mod files;
mod inotify;
mod later;
mod listing;
mod methods;
mod operator;
mod paths;
pub(crate) mod policies;
mod protocols;
mod tokens;
mod tree;
mod write;
mod xattr;

#[cfg(test)]
mod door_harness;
#[cfg(test)]
mod door_test;
#[cfg(test)]
mod operator_test;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use prost::{Message, Name};
use steadfs_common::{CallKey, FsError, FsErrorKind, FsResult};
use steadfs_namenode_core::command::{Caller, Command, Door as Origin, Reply};
use steadfs_namenode_core::locality;
use steadfs_proto::hadoop::decode;
use steadfs_rpc::{Call, Handler};

use crate::service::{Claim, LocatedBlock, Service};

/// The door for the server of the namenode's port.
#[must_use]
pub fn handler(service: Arc<Service>) -> Arc<dyn Handler> {
    let pool = service.identity().block_pool.to_string().into();
    Arc::new(Door { service, pool })
}

struct Door {
    service: Arc<Service>,
    pool: Arc<str>,
}

impl Handler for Door {
    fn protocols(&self) -> &'static [&'static str] {
        &methods::PROTOCOLS
    }

    fn call(self: Arc<Self>, call: Call) -> BoxFuture<'static, FsResult<Bytes>> {
        methods::dispatch(self, call)
    }
}

/// One call: who asks, and whom to ask.
struct Asked {
    service: Arc<Service>,
    caller: Caller,
    /// The block pool, which every block names.
    pool: Arc<str>,
    key: Option<CallKey>,
}

impl Asked {
    async fn new(door: &Door, call: &Call) -> FsResult<Self> {
        let claim = Claim {
            groups: Vec::new(),
            user: &call.user,
            real_user: call.real_user.as_deref(),
            address: Some(call.peer.ip().to_canonical()),
            context: call.caller_context.as_deref(),
            door: Origin::Hadoop,
        };
        let caller = door.service.identify(claim).await?;
        Ok(Self { service: Arc::clone(&door.service), caller, pool: Arc::clone(&door.pool), key: call.key() })
    }

    /// How places of blocks are named for this caller, who asked `what`.
    fn naming(&self, what: locality::Asked) -> impl Fn(&LocatedBlock) -> Option<Vec<(usize, String)>> + '_ {
        let namer = self.service.locality().namer(self.caller.address, what);
        move |block| namer.as_ref()?.name(block)
    }

    /// Changes the namespace by a command that may be repeated without harm.
    async fn submit(&self, command: Command) -> FsResult<Reply> {
        self.service.submit(&self.caller, None, command).await
    }

    /// Changes the namespace by a command whose repetition must be told from a second one: those that Hadoop marks
    /// at-most-once.
    async fn submit_once(&self, command: Command) -> FsResult<Reply> {
        self.service.submit(&self.caller, self.key, command).await
    }
}

/// Reads the request and asks; the answer is encoded already.
fn run_encoded<Q, F, A>(door: Arc<Door>, call: Call, method: F) -> BoxFuture<'static, FsResult<Bytes>>
where
    Q: Message + Name + Default + 'static,
    F: FnOnce(Asked, Q) -> A + Send + 'static,
    A: Future<Output = FsResult<Bytes>> + Send,
{
    Box::pin(async move {
        let request = decode::<Q>(call.request.clone())?;
        let asked = Asked::new(&door, &call).await?;
        method(asked, request).await
    })
}

/// Reads the request, asks, and encodes the answer.
fn run<Q, R, F, A>(door: Arc<Door>, call: Call, method: F) -> BoxFuture<'static, FsResult<Bytes>>
where
    Q: Message + Name + Default + 'static,
    R: Message,
    F: FnOnce(Asked, Q) -> A + Send + 'static,
    A: Future<Output = FsResult<R>> + Send,
{
    Box::pin(async move {
        let request = decode::<Q>(call.request.clone())?;
        let asked = Asked::new(&door, &call).await?;
        let answer = method(asked, request).await?;
        Ok(answer.encode_to_vec().into())
    })
}

/// A reply of a kind that the command cannot have: a fault of ours, and an error for this caller alone.
fn unexpected(reply: &Reply) -> FsError {
    FsError::new(FsErrorKind::Io, format!("the namenode answered a command with {reply:?}"))
}
