//! The HTTP door: the status page. Metrics and health are the daemon's own.

mod page;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

use crate::service::Service;

/// Nothing on the page comes from elsewhere, and nothing on it runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

/// The pages of a namenode.
pub fn router(service: Arc<Service>) -> Router {
    Router::new().route("/", get(status)).with_state(service)
}

async fn status(State(service): State<Arc<Service>>) -> Response {
    let (report, recent) = (service.overview().await, service.recent());
    let html = match report {
        Ok(report) => Html(page::render(&report, &recent, service.now())),
        Err(error) => Html(page::unavailable(&error)),
    };
    ([(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-store")], html).into_response()
}
