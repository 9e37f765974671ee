//! Connections that turned out to be HTTP/2.

use std::net::SocketAddr;
use std::pin::pin;

use bytes::BytesMut;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use steadfs_daemon::shutdown::Shutdown;
use tokio::net::TcpStream;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tower::Service;

use crate::options::{GRPC_KEEP_ALIVE, MAX_GRPC_HEAD_BYTES, MAX_STREAMS, Options};
use crate::prefixed::Prefixed;

/// Serves one connection until the client is done or the server is told to stop.
///
/// # Errors
/// What broke the connection.
pub(crate) async fn serve(
    stream: TcpStream,
    first: BytesMut,
    peer: SocketAddr,
    routes: Routes,
    options: &Options,
    shutdown: &Shutdown,
) -> Result<(), hyper::Error> {
    let info = TcpConnectInfo { local_addr: stream.local_addr().ok(), remote_addr: Some(peer) };
    let service = tower::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(info.clone());
        // Routes are always ready, and share what they hold.
        routes.clone().call(request)
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_GRPC_HEAD_BYTES)
        .keep_alive_interval(GRPC_KEEP_ALIVE)
        .keep_alive_timeout(GRPC_KEEP_ALIVE)
        .serve_connection(TokioIo::new(Prefixed::new(first, stream)), TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended,
        () = shutdown.triggered() => connection.as_mut().graceful_shutdown(),
    }
    tokio::time::timeout(options.grace, connection).await.unwrap_or(Ok(()))
}
