//! Calls to the namenode: deadlines, repetitions, and errors that say what to do.

use std::error::Error;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use steadfs_common::{FsError, FsErrorKind, FsResult, SAFE_MODE_ENDS};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::admin_client::AdminClient;
use steadfs_proto::steadfs::attributes_client::AttributesClient;
use steadfs_proto::steadfs::mounts_client::MountsClient;
use steadfs_proto::steadfs::namespace_client::NamespaceClient;
use steadfs_proto::steadfs::nodes_client::NodesClient;
use steadfs_proto::steadfs::upkeep_client::UpkeepClient;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::backoff::Backoff;
use crate::{ClientOptions, FsUrl};

/// The metadata key under which a caller names itself.
const USER_KEY: &str = "steadfs-user";
/// And the groups that it is in beside those that are known, with commas in between.
const GROUPS_KEY: &str = "steadfs-groups";
/// Largest answer accepted, in bytes: a page of a listing with locations stays far below.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// How often an idle connection with open calls is probed, and how long the answer may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// Waits between repetitions of a call.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// One connection to a namenode and the identity that its calls carry.
pub(crate) struct Calls {
    url: FsUrl,
    channel: Channel,
    user: MetadataValue<Ascii>,
    groups: Option<MetadataValue<Ascii>>,
    client: [u8; 16],
    next_call: AtomicU32,
    call_timeout: Duration,
    attempt_timeout: Duration,
    wait_for_start: bool,
}

tokio::task_local! {
    static REPEATED: Repeated;
}

/// Calls that may have been made before, by a process that died.
struct Repeated {
    id: [u8; 16],
    next: AtomicU32,
}

impl Repeated {
    fn next(&self) -> pb::CallKey {
        let call = self.next.fetch_add(1, Ordering::Relaxed);
        pb::CallKey { client: Bytes::copy_from_slice(&self.id), call }
    }
}

/// Makes the calls of `work` so that the server knows them again when the same work is done once more under the same `id`,
/// by whichever process: what was carried out then is answered as it was, and not carried out again. `id` must be one that
/// nothing else is done under, ever. The server remembers for about ten minutes.
pub async fn repeatable<T>(id: [u8; 16], work: impl Future<Output = T>) -> T {
    REPEATED.scope(Repeated { id, next: AtomicU32::new(0) }, work).await
}

impl Calls {
    /// Prepares the connection; it is made with the first call.
    pub(crate) fn new(url: FsUrl, options: &ClientOptions) -> FsResult<Self> {
        let user = sent_name(&options.user)?;
        let channel = endpoint(&url.authority(), options.connect_timeout)?.connect_lazy();
        Ok(Self {
            url,
            channel,
            user,
            groups: sent_groups(&options.groups)?,
            client: uuid::Uuid::new_v4().into_bytes(),
            next_call: AtomicU32::new(0),
            call_timeout: options.call_timeout,
            attempt_timeout: options.attempt_timeout,
            wait_for_start: options.wait_for_start,
        })
    }

    /// The same connection as another user.
    pub(crate) fn for_user(&self, user: &str) -> FsResult<Self> {
        Ok(Self {
            url: self.url.clone(),
            channel: self.channel.clone(),
            user: sent_name(user)?,
            groups: self.groups.clone(),
            client: uuid::Uuid::new_v4().into_bytes(),
            next_call: AtomicU32::new(0),
            call_timeout: self.call_timeout,
            attempt_timeout: self.attempt_timeout,
            wait_for_start: self.wait_for_start,
        })
    }

    pub(crate) fn url(&self) -> &FsUrl {
        &self.url
    }

    /// The key of a new call that must happen at most once; repetitions share it.
    pub(crate) fn key(&self) -> Option<pb::CallKey> {
        if let Ok(key) = REPEATED.try_with(Repeated::next) {
            return Some(key);
        }
        let call = self.next_call.fetch_add(1, Ordering::Relaxed);
        Some(pb::CallKey { client: Bytes::copy_from_slice(&self.client), call })
    }

    /// Calls the namespace service within the usual deadline.
    pub(crate) async fn namespace<Q, R, F, Fut>(&self, request: Q, send: F) -> FsResult<R>
    where
        Q: Clone,
        F: Fn(NamespaceClient<Channel>, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        self.namespace_within(self.call_timeout, request, send).await
    }

    /// Calls the namespace service within `limit`.
    pub(crate) async fn namespace_within<Q, R, F, Fut>(
        &self,
        limit: Duration,
        request: Q,
        send: F,
    ) -> FsResult<R>
    where
        Q: Clone,
        F: Fn(NamespaceClient<Channel>, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let client = NamespaceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        self.repeat(limit, || send(client.clone(), self.request(request.clone()))).await
    }

    /// Calls the admin service within the usual deadline.
    pub(crate) async fn admin<Q, R, F, Fut>(&self, request: Q, send: F) -> FsResult<R>
    where
        Q: Clone,
        F: Fn(AdminClient<Channel>, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let client = AdminClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        self.repeat(self.call_timeout, || send(client.clone(), self.request(request.clone()))).await
    }

    /// Calls the service of datanodes within `limit`.
    pub(crate) async fn nodes<Q, R, F, Fut>(&self, limit: Duration, request: Q, send: F) -> FsResult<R>
    where
        Q: Clone,
        F: Fn(NodesClient<Channel>, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let client = NodesClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        self.repeat(limit, || send(client.clone(), self.request(request.clone()))).await
    }

    /// Calls the service of the namenode's own data within `limit`.
    pub(crate) async fn upkeep<Q, R, F, Fut>(&self, limit: Duration, request: Q, send: F) -> FsResult<R>
    where
        Q: Clone,
        F: Fn(UpkeepClient<Channel>, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let client = UpkeepClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        self.repeat(limit, || send(client.clone(), self.request(request.clone()))).await
    }

    /// The usual deadline of a call.
    pub(crate) const fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// Calls the service of access control lists and attributes within the usual deadline.
    pub(crate) async fn attributes<Q, R, F, Fut>(&self, request: Q, send: F) -> FsResult<R>
    where
        Q: Clone,
        F: Fn(AttributesClient<Channel>, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let client = AttributesClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        self.repeat(self.call_timeout, || send(client.clone(), self.request(request.clone()))).await
    }

    /// Calls the service for mounts within the usual deadline.
    pub(crate) async fn mounts<Q, R, F, Fut>(&self, request: Q, send: F) -> FsResult<R>
    where
        Q: Clone,
        F: Fn(MountsClient<Channel>, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let client = self.mounts_client();
        self.repeat(self.call_timeout, || send(client.clone(), self.request(request.clone()))).await
    }

    /// The service for mounts, for calls that are not repeated.
    pub(crate) fn mounts_client(&self) -> MountsClient<Channel> {
        MountsClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The longest that one try of a call may take.
    pub(crate) const fn attempt_timeout(&self) -> Duration {
        self.attempt_timeout
    }

    pub(crate) fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(USER_KEY, self.user.clone());
        if let Some(groups) = &self.groups {
            request.metadata_mut().insert(GROUPS_KEY, groups.clone());
        }
        request
    }

    /// Tries until it succeeds, fails for good, or `limit` has passed. Every call may be repeated: it changes nothing,
    /// changes the same again, or carries a key by which the server knows the repetition.
    async fn repeat<R, Fut>(&self, limit: Duration, send: impl Fn() -> Fut) -> FsResult<R>
    where
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = Instant::now() + limit;
        let mut waits = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let attempt = deadline.min(Instant::now() + self.attempt_timeout);
            let error = match tokio::time::timeout_at(attempt, send()).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => self.error_of(&status),
                Err(_) => FsError::new(
                    FsErrorKind::Timeout,
                    format!(
                        "the namenode at {} did not answer in time: is it overloaded, or another program on that port?",
                        self.url
                    ),
                ),
            };
            let wait = waits.next_wait();
            let again = may_repeat(error.kind()) || self.wait_for_start && is_starting(&error);
            if !again || Instant::now() + wait >= deadline {
                return Err(error);
            }
            tracing::debug!(%error, "a call to the namenode is repeated");
            tokio::time::sleep(wait).await;
        }
    }

    /// What `status` means to the user.
    pub(crate) fn error_of(&self, status: &Status) -> FsError {
        match transport_cause(status) {
            Some(cause) => FsError::new(
                FsErrorKind::Unreachable,
                format!(
                    "cannot reach the namenode at {} ({cause}): is it running there? Check the address (--fs or STEADFS_URL)",
                    self.url
                ),
            ),
            None => steadfs_proto::from_status(status),
        }
    }
}

/// A user's name as a header's value.
fn sent_name(user: &str) -> FsResult<MetadataValue<Ascii>> {
    user.parse().map_err(|_| {
        FsError::invalid_argument(format!("`{user}` cannot be sent as a user's name: use visible ASCII"))
    })
}

/// Groups as a header's value.
fn sent_groups(groups: &[String]) -> FsResult<Option<MetadataValue<Ascii>>> {
    if groups.is_empty() {
        return Ok(None);
    }
    if let Some(wrong) = groups.iter().find(|group| group.is_empty() || group.contains(',')) {
        return Err(FsError::invalid_argument(format!("`{wrong}` cannot be sent as a group's name")));
    }
    sent_name(&groups.join(",")).map(Some)
}

/// How to connect to `authority` by gRPC.
pub(crate) fn endpoint(authority: &str, connect_timeout: Duration) -> FsResult<Endpoint> {
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|error| FsError::invalid_argument(format!("`{authority}` is not an address: {error}")))?;
    Ok(endpoint
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1))
}

/// The innermost cause, if the connection and not the server failed: only such a status has a source.
fn transport_cause(status: &Status) -> Option<String> {
    let mut cause = status.source()?;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Some(cause.to_string())
}

/// Whether a namenode refuses something only until its datanodes have reported.
fn is_starting(error: &FsError) -> bool {
    error.kind() == FsErrorKind::SafeMode && error.message().contains(SAFE_MODE_ENDS)
}

pub(crate) const fn may_repeat(kind: FsErrorKind) -> bool {
    matches!(
        kind,
        FsErrorKind::Unreachable
            | FsErrorKind::Timeout
            | FsErrorKind::Retriable
            | FsErrorKind::Standby
            | FsErrorKind::Stopping
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ClientOptions {
        ClientOptions { call_timeout: Duration::from_millis(120), ..ClientOptions::for_user("u") }
    }

    async fn calls_to(url: &str) -> Calls {
        Calls::new(url.parse().unwrap(), &options()).unwrap()
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_address_and_the_remedy() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("hdfs://{}", free.local_addr().unwrap());
        drop(free);
        // Refused at once; a busy machine may take its time to say so.
        let options = ClientOptions { call_timeout: Duration::from_secs(3), ..options() };
        let calls = Calls::new(url.parse().unwrap(), &options).unwrap();
        let request = pb::StatRequest { path: "/".into() };
        let error = calls.namespace(request, |mut c, r| async move { c.stat(r).await }).await.unwrap_err();
        assert_eq!(error.kind(), FsErrorKind::Unreachable);
        assert!(error.message().contains(&url) && error.message().contains("STEADFS_URL"), "{error}");
        assert!(error.message().to_lowercase().contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn a_silent_server_ends_with_the_deadline() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let calls = calls_to(&format!("hdfs://{}", silent.local_addr().unwrap())).await;
        let request = pb::StatRequest { path: "/".into() };
        let error = calls.namespace(request, |mut c, r| async move { c.stat(r).await }).await.unwrap_err();
        assert!(matches!(error.kind(), FsErrorKind::Timeout | FsErrorKind::Unreachable), "{error:?}");
    }

    #[tokio::test]
    async fn only_what_may_pass_is_repeated() {
        let calls = calls_to("hdfs://localhost:1").await;
        let tries = AtomicU32::new(0);
        let answer = calls
            .repeat(Duration::from_secs(5), || {
                let first = tries.fetch_add(1, Ordering::Relaxed) == 0;
                async move {
                    let busy = steadfs_proto::to_status(&FsError::new(FsErrorKind::Retriable, "busy"));
                    if first { Err(busy) } else { Ok(Response::new(7)) }
                }
            })
            .await;
        assert_eq!((answer, tries.load(Ordering::Relaxed)), (Ok(7), 2));
        let tries = AtomicU32::new(0);
        let refused: FsResult<()> = calls
            .repeat(Duration::from_secs(5), || {
                tries.fetch_add(1, Ordering::Relaxed);
                async { Err(steadfs_proto::to_status(&FsError::not_found("/x"))) }
            })
            .await;
        assert_eq!((refused, tries.load(Ordering::Relaxed)), (Err(FsError::not_found("/x")), 1));
    }

    #[tokio::test]
    async fn a_start_is_waited_for_by_who_wants_to() {
        async fn refused(wait_for_start: bool, reason: &str) -> bool {
            let options = ClientOptions { wait_for_start, ..options() };
            let calls = Calls::new("hdfs://nn".parse().unwrap(), &options).unwrap();
            let tries = AtomicU32::new(0);
            let answered = calls.repeat(Duration::from_secs(5), || {
                let first = tries.fetch_add(1, Ordering::Relaxed) == 0;
                let error = steadfs_proto::to_status(&FsError::new(FsErrorKind::SafeMode, reason.to_owned()));
                async move { if first { Err(error) } else { Ok(Response::new(())) } }
            });
            answered.await.is_err()
        }
        let starting = format!("{SAFE_MODE_ENDS} once the thresholds have been reached.");
        assert!(!refused(true, &starting).await);
        assert!(refused(false, &starting).await);
        assert!(refused(true, "It was turned on manually.").await);
    }

    #[tokio::test]
    async fn names_that_no_header_takes_are_refused() {
        let options = ClientOptions::for_user("a\nb");
        assert!(Calls::new("hdfs://nn".parse().unwrap(), &options).is_err());
    }

    #[tokio::test]
    async fn every_call_has_its_own_key() {
        let calls = calls_to("hdfs://nn").await;
        assert_ne!(calls.key(), calls.key());
        let work = || repeatable([7; 16], async { (calls.key(), calls.key()) });
        let (first, second) = work().await;
        assert_ne!(first, second);
        assert_eq!(work().await, (first, second));
    }
}
