//! One listener for several protocols, told apart by a connection's first bytes.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use steadfs_daemon::fair::FairPlaces;
use steadfs_daemon::http::{self, Router};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_wire::rpc::{HTTP_ANSWER, MAGIC, looks_like_http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::service::Routes;

use crate::connection::{Connection, Ended};
use crate::grpc;
use crate::handler::Handler;
use crate::metrics::{Door, Held, Metrics};
use crate::options::{ACCEPT_PAUSE, LINGER, LINGER_BYTES, Options, READ_BYTES};
use crate::prefixed::Prefixed;

/// How HTTP/2 with prior knowledge begins.
const HTTP2: [u8; 4] = *b"PRI ";
/// All of how it begins. It is awaited here because hyper would wait for ever.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A port that speaks Hadoop RPC and, if it was given routes, gRPC and HTTP.
#[derive(Clone)]
pub struct Server {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) metrics: Metrics,
    pub(crate) options: Arc<Options>,
    /// A permit is a kibibyte: counting bytes would end at four gibibytes.
    pub(crate) shared_kib: Arc<Semaphore>,
    pub(crate) connections: Arc<Semaphore>,
    /// Who may begin calls now.
    pub(crate) turns: FairPlaces,
    grpc: Option<Routes>,
    http: Option<Router>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Server {
    /// Serves Hadoop RPC by `handler`.
    #[must_use]
    pub fn new(handler: Arc<dyn Handler>, metrics: Metrics) -> Self {
        let options = Options::default();
        Self {
            handler,
            metrics,
            grpc: None,
            http: None,
            shared_kib: shares(&options),
            connections: Arc::new(Semaphore::new(options.max_connections)),
            turns: FairPlaces::new(options.turns, usize::MAX),
            options: Arc::new(options),
        }
    }

    /// Serves gRPC on the same port.
    #[must_use]
    pub fn with_grpc(mut self, routes: Routes) -> Self {
        // Prepared once: a clone for each connection is then cheap.
        self.grpc = Some(routes.prepare());
        self
    }

    /// Serves HTTP on the same port.
    #[must_use]
    pub fn with_http(mut self, pages: Router) -> Self {
        self.http = Some(pages);
        self
    }

    /// Other bounds than the default ones.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.shared_kib = shares(&options);
        self.connections = Arc::new(Semaphore::new(options.max_connections));
        self.turns = FairPlaces::new(options.turns, usize::MAX);
        self.options = Arc::new(options);
        self
    }

    /// Accepts connections until `shutdown`, then waits for those that are open, at most
    /// [`Options::grace`].
    pub async fn serve(self, listener: TcpListener, shutdown: Shutdown) {
        // Triggered only for connections that outlive the grace.
        let open = Shutdown::new();
        while !shutdown.is_triggered() {
            let accepted = tokio::select! {
                accepted = self.accept(&listener) => accepted,
                () = shutdown.triggered() => break,
            };
            match accepted {
                Ok((stream, peer, permit)) => {
                    let (server, shutdown, kill) = (self.clone(), shutdown.clone(), open.clone());
                    open.spawn(async move {
                        tokio::select! {
                            () = server.connection(stream, peer, permit, &shutdown) => {}
                            () = kill.triggered() => {}
                        }
                    });
                }
                Err(error) => {
                    // No file handles or memory left: what is open goes on, and frees some.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        if !open.drained(self.options.grace + LINGER).await {
            tracing::warn!("connections are still open; they are dropped");
            open.trigger();
            open.drained(LINGER).await;
        }
    }

    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.connections).acquire_owned().await.expect("never closed");
        let (stream, peer) = listener.accept().await?;
        Ok((stream, peer, permit))
    }

    /// One connection, from its first byte to its end.
    async fn connection(
        self,
        mut stream: TcpStream,
        peer: SocketAddr,
        _permit: OwnedSemaphorePermit,
        shutdown: &Shutdown,
    ) {
        let metrics = self.metrics.clone();
        let _open = Held::new(metrics.open.clone());
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot turn off Nagle's algorithm");
        }
        let mut first = BytesMut::with_capacity(READ_BYTES);
        let ended = match self.first_bytes(&mut stream, &mut first, shutdown).await {
            Ok(MAGIC) => {
                metrics.accepted(Door::Hadoop);
                Connection::new(&self, stream, first, peer, shutdown).run().await
            }
            Ok(HTTP2) if self.grpc.is_some() => self.grpc(stream, first, peer, shutdown).await,
            Ok(other) if self.http.is_some() && looks_like_http(other) => {
                self.http(stream, first, peer, shutdown).await;
                Ok(())
            }
            Ok(other) => {
                metrics.accepted(Door::Neither);
                if looks_like_http(other) {
                    farewell(&mut stream, HTTP_ANSWER).await;
                }
                Err(Ended::broken(format!("it began with {:?}", other.escape_ascii().to_string())))
            }
            Err(ended) => Err(ended),
        };
        match ended {
            Err(Ended::Broken(reason)) => {
                metrics.broken.inc();
                tracing::warn!(%peer, %reason, "connection ended for what it sent");
            }
            Err(Ended::Lost(reason)) => tracing::debug!(%peer, %reason, "connection lost"),
            Ok(()) => tracing::trace!(%peer, "connection closed"),
        }
    }

    async fn grpc(
        &self,
        stream: TcpStream,
        first: BytesMut,
        peer: SocketAddr,
        shutdown: &Shutdown,
    ) -> Result<(), Ended> {
        let routes = self.grpc.clone().expect("asked before");
        self.metrics.accepted(Door::Grpc);
        grpc::serve(stream, first, peer, routes, &self.options, shutdown)
            .await
            .map_err(|error| if lost(&error) { Ended::lost(error) } else { Ended::broken(error) })
    }

    async fn http(&self, stream: TcpStream, first: BytesMut, peer: SocketAddr, shutdown: &Shutdown) {
        let pages = self.http.clone().expect("asked before");
        self.metrics.accepted(Door::Http);
        http::serve_stream(Prefixed::new(first, stream), peer, pages, shutdown).await;
    }

    /// Reads until it is known what the connection speaks.
    async fn first_bytes(
        &self,
        stream: &mut TcpStream,
        first: &mut BytesMut,
        shutdown: &Shutdown,
    ) -> Result<[u8; 4], Ended> {
        let read = async {
            loop {
                match first.first_chunk::<4>() {
                    Some(&HTTP2) if first.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(first) => {
                    }
                    Some(bytes) => return Ok(*bytes),
                    None => {}
                }
                if stream.read_buf(first).await.map_err(Ended::lost)? == 0 {
                    return Err(match first.len() {
                        // A probe of the port.
                        0 => Ended::Lost("nothing was sent".into()),
                        bytes => Ended::broken(format!("it ended after {bytes} bytes")),
                    });
                }
            }
        };
        tokio::select! {
            read = timeout(self.options.handshake, read) => {
                read.unwrap_or_else(|_| Err(Ended::broken("it did not say what it speaks in time")))
            }
            () = shutdown.triggered() => Err(Ended::Lost("the server stops".into())),
        }
    }

    /// Whether idle connections must make room.
    pub(crate) fn is_crowded(&self) -> bool {
        self.connections.available_permits() < self.options.max_connections / 4
    }
}

/// The permits of [`Server::shared_kib`].
fn shares(options: &Options) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(options.shared_bytes.div_ceil(1 << 10)))
}

/// Whether the network is to blame for an error, and not what was sent.
fn lost(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The last bytes for a client, and a while to read them in: a socket closed with bytes unread takes them back.
pub(crate) async fn farewell(stream: &mut TcpStream, bytes: &[u8]) {
    let talk = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        let mut scrap = [0; 4096];
        let mut left = LINGER_BYTES;
        loop {
            match stream.read(&mut scrap).await? {
                0 => return std::io::Result::Ok(()),
                count => left = left.checked_sub(count).ok_or(std::io::ErrorKind::QuotaExceeded)?,
            }
        }
    };
    // The client may well be gone: then there is nobody to tell.
    let _ = timeout(LINGER, talk).await;
}
