//! The HTTP door: the status page, WebHDFS, and the stock `fsck`. Metrics and health are the daemon's own.

mod fsck;
mod jmx;
mod page;
mod servlets;
mod webhdfs;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use steadfs_daemon::origins::guarded;

use crate::service::Service;

/// Nothing on the page comes from elsewhere, and nothing on it runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

/// The pages of a namenode that serves Hadoop RPC at `rpc`. Web pages of `origins` may call WebHDFS.
pub fn router(service: Arc<Service>, rpc: SocketAddr, origins: &[String]) -> Router {
    Router::new()
        .route("/", get(status))
        .with_state(service.clone())
        .merge(fsck::router(service.clone()))
        .merge(jmx::router(service.clone()))
        .merge(servlets::router(service.clone()))
        .merge(guarded(webhdfs::router(service, rpc), origins))
}

async fn status(State(service): State<Arc<Service>>) -> Response {
    let (report, recent) = (service.overview().await, service.recent());
    let html = match report {
        Ok(report) => Html(page::render(&report, &recent, service.now())),
        Err(error) => Html(page::unavailable(&error)),
    };
    ([(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-store")], html).into_response()
}
