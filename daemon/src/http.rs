//! The HTTP port for operators: metrics, health, and what a daemon adds.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::shutdown::Shutdown;

/// Connections served at the same time; more wait in the kernel's queue.
pub const MAX_CONNECTIONS: usize = 256;
/// How long a client may take to send the head of a request.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may leave what is sent to it unread, in milliseconds: a connection has no deadline as a whole, since
/// a daemon's own pages may be long.
const SEND_TIMEOUT_MS: u32 = 60_000;
/// How long to wait after accepting failed (no file handles left) before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests may take to end once the daemon is told to.
const DRAIN: Duration = Duration::from_secs(2);

/// Says whether the daemon can do its work, and if not, why.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Who sent a request: an extension of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// What the port serves.
#[derive(Clone)]
pub struct Endpoints {
    /// What `/metrics` shows.
    pub registry: Arc<Registry>,
    /// What `/readyz` asks.
    pub ready: Readiness,
    /// The daemon's own pages.
    pub extra: Router,
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoints").finish_non_exhaustive()
    }
}

impl Endpoints {
    /// All routes: `/metrics`, `/healthz`, `/readyz` and the daemon's own.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .with_state(self.clone())
            .merge(self.extra.clone())
    }
}

async fn metrics(State(endpoints): State<Endpoints>) -> Response {
    let mut text = String::new();
    if encode(&mut text, &endpoints.registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        .into_response()
}

async fn readyz(State(endpoints): State<Endpoints>) -> Response {
    match (endpoints.ready)() {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// Serves until `shutdown` is triggered; then requests under way may end.
pub async fn serve(listener: TcpListener, endpoints: Endpoints, shutdown: Shutdown) {
    let router = endpoints.router();
    let connections = shutdown.child();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.triggered() => break,
            accepted = async {
                let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
                (permit, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (permit, Ok((stream, peer))) => {
                let (router, connection) = (router.clone(), connections.clone());
                connections.spawn(async move {
                    serve_connection(stream, peer, router, connection).await;
                    drop(permit);
                });
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.drained(DRAIN).await;
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, router: Router, shutdown: Shutdown) {
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, SEND_TIMEOUT_MS) {
        tracing::debug!(%error, "an HTTP client that reads nothing will not be given up");
    }
    serve_stream(stream, peer, router, &shutdown).await;
}

/// Serves one connection until its client is done or `shutdown` is triggered; then the request under way may end.
pub async fn serve_stream<S>(stream: S, peer: SocketAddr, router: Router, shutdown: &Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let inner = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        inner.call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.triggered() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::net;

    async fn ask(address: std::net::SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn serves_until_told_to_stop() {
        let mut registry = Registry::default();
        let calls = Counter::<u64>::default();
        registry.register("rpc_calls", "Calls answered", calls.clone());
        calls.inc();
        let endpoints = Endpoints {
            registry: Arc::new(registry),
            ready: Arc::new(|| Err("safe mode: 3 blocks are not reported".into())),
            extra: Router::new().route("/extra", get(|| async { "mine" })),
        };
        let listener = net::listen(([127, 0, 0, 1], 0).into(), "http_listen").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let server = tokio::spawn(serve(listener, endpoints, shutdown.clone()));
        let get =
            |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").into_bytes();
        assert!(ask(address, &get("/metrics")).await.contains("rpc_calls_total 1"));
        assert!(ask(address, &get("/healthz")).await.starts_with("HTTP/1.1 200"));
        let unready = ask(address, &get("/readyz")).await;
        assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("3 blocks"), "{unready}");
        assert!(ask(address, &get("/extra")).await.ends_with("mine"));
        assert!(ask(address, &[0xff; 70]).await.starts_with("HTTP/1.1 400"));
        let mut idle = TcpStream::connect(address).await.unwrap();
        shutdown.trigger();
        server.await.unwrap();
        assert_eq!(idle.read(&mut [0; 8]).await.unwrap_or(0), 0);
    }
}
