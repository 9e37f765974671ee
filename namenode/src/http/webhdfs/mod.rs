//! WebHDFS: the namenode's half. A method here reads parameters, asks the [`Service`] once, and answers as JSON or with
//! the address of a datanode; the rules are behind the service.

mod attributes;
mod change;
mod get;
mod json;
mod quotas;
mod redirect;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::Value;
use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult};
use steadfs_daemon::http::Peer;
use steadfs_namenode_core::command::{Caller, Command, Door as Origin, Reply};
use steadfs_wire::webhdfs::{self, Query, RestError};

use crate::service::{Claim, Service};

type Answer = Result<Response, RestError>;

/// The pages under `/webhdfs/v1`. `rpc` is where the namenode serves Hadoop RPC, which redirects tell.
pub(super) fn router(service: Arc<Service>, rpc: SocketAddr) -> Router {
    let door = Door { service, rpc };
    let mut router = Router::new();
    for route in ["/webhdfs/v1", "/webhdfs/v1/", "/webhdfs/v1/{*path}"] {
        router = router.route(route, any(serve));
    }
    router.with_state(Arc::new(door))
}

struct Door {
    service: Arc<Service>,
    rpc: SocketAddr,
}

/// One request: who asks, and for what.
struct Asked {
    service: Arc<Service>,
    caller: Caller,
    path: FsPath,
    query: Query,
    rpc: SocketAddr,
}

async fn serve(State(door): State<Arc<Door>>, request: Request) -> Response {
    answer(&door, request).await.unwrap_or_else(|error| failed(&error))
}

async fn answer(door: &Door, request: Request) -> Answer {
    let query = Query::parse(request.uri().query().unwrap_or(""))?;
    let path = webhdfs::path(request.uri().path())?;
    let address = request.extensions().get::<Peer>().map(|peer| peer.0.ip().to_canonical());
    let (user, real_user) = query.actors()?;
    let claim = Claim { user, real_user, groups: Vec::new(), address, context: None, door: Origin::Http };
    let caller = door.service.identify(claim).await?;
    let asked = Asked { service: Arc::clone(&door.service), caller, path, query, rpc: door.rpc };
    match *request.method() {
        // The server leaves out the body of what HEAD asked.
        Method::GET | Method::HEAD => get::answer(asked).await,
        Method::PUT => change::put(asked).await,
        Method::POST => change::post(asked).await,
        Method::DELETE => change::delete(asked).await,
        _ => Ok((StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD, PUT, POST, DELETE")])
            .into_response()),
    }
}

impl Asked {
    /// Changes the namespace. A request over HTTP has no key by which its repetition could be known.
    async fn submit(&self, command: Command) -> FsResult<Reply> {
        self.service.submit(&self.caller, None, command).await
    }

    /// The parameter `name` as a path.
    fn path_in(&self, name: &str, operation: &str) -> Result<FsPath, RestError> {
        let text = self.query.required(name, operation)?;
        if !text.starts_with('/') {
            let problem = format!("Invalid parameter value: {name} = \"{text}\" is not an absolute path.");
            return Err(RestError::parameter(name, &problem));
        }
        Ok(FsPath::parse(text)?)
    }
}

/// 200 with JSON.
fn json(value: &Value) -> Response {
    json_body(StatusCode::OK, value.to_string().into())
}

fn json_body(status: StatusCode, body: Body) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (status, headers, body).into_response()
}

/// 200 with a truth value.
fn truth(reply: Reply) -> Answer {
    match reply {
        Reply::Bool(value) => Ok(json(&serde_json::json!({ "boolean": value }))),
        other => Err(unexpected(&other)),
    }
}

/// 200 and nothing to say.
fn done(reply: Reply) -> Answer {
    match reply {
        Reply::Done => Ok(nothing()),
        other => Err(unexpected(&other)),
    }
}

/// 200 without a body, of Hadoop's type.
fn nothing() -> Response {
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-cache")];
    (StatusCode::OK, headers).into_response()
}

/// A reply of a kind that the command cannot have: a fault of ours, and an error for this caller alone.
fn unexpected(reply: &Reply) -> RestError {
    FsError::new(FsErrorKind::Io, format!("the namenode answered a command with {reply:?}")).into()
}

fn failed(error: &RestError) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_body(status, error.json().into())
}
