//! Our own calls: a question to the namenode beside an empty one to a server that does nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use steadfs_proto::steadfs::namespace_client::NamespaceClient;
use steadfs_proto::steadfs::replicas_client::ReplicasClient;
use steadfs_proto::steadfs::replicas_server::{Replicas, ReplicasServer};
use steadfs_proto::steadfs::{StatRequest, VisibleLengthRequest, VisibleLengthResponse};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

use crate::report::Calls;

/// Answers with nothing.
struct Empty;

#[tonic::async_trait]
impl Replicas for Empty {
    async fn visible_length(
        &self,
        _request: Request<VisibleLengthRequest>,
    ) -> Result<Response<VisibleLengthResponse>, Status> {
        Ok(Response::new(VisibleLengthResponse::default()))
    }
}

/// Serves empty answers until the process is killed; tells its address first.
pub(crate) async fn serve_empty() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let incoming = TcpListenerStream::new(listener);
    Ok(Server::builder()
        .tcp_nodelay(true)
        .add_service(ReplicasServer::new(Empty))
        .serve_with_incoming(incoming)
        .await?)
}

/// Calls on `connections` connections, one outstanding on each: stats of `path`, or empty calls without one.
pub(crate) async fn run(
    address: &str,
    path: Option<String>,
    connections: u64,
    seconds: u64,
) -> anyhow::Result<Calls> {
    let limit = Duration::from_secs(seconds);
    let begun = Arc::new(tokio::sync::Barrier::new(connections as usize));
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (uri, path, begun) = (format!("http://{address}"), path.clone(), Arc::clone(&begun));
            tokio::spawn(async move {
                let channel = Channel::from_shared(uri)?.tcp_nodelay(true).connect().await?;
                let mut namespace = NamespaceClient::new(channel.clone());
                let mut empty = ReplicasClient::new(channel);
                let user: MetadataValue<_> = "root".parse().context("a name of letters")?;
                begun.wait().await;
                let (start, mut times) = (Instant::now(), Vec::new());
                while start.elapsed() < limit {
                    let at = Instant::now();
                    if let Some(path) = &path {
                        let mut request = Request::new(StatRequest { path: path.clone() });
                        request.metadata_mut().insert("steadfs-user", user.clone());
                        namespace.stat(request).await?;
                    } else {
                        empty.visible_length(VisibleLengthRequest::default()).await?;
                    }
                    times.push(at.elapsed());
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    Ok(Calls::new(times, limit))
}
