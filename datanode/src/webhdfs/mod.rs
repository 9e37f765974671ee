//! WebHDFS: the half that moves data. The namenode sends callers here; what they want is done through the client
//! library, as the user they name, at the namenode of the configuration and never at one that a request names.

mod clients;
mod data;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures::StreamExt;
use steadfs_client::Client;
use steadfs_common::{FsError, FsErrorKind, FsPath};
use steadfs_wire::webhdfs::{self, Query, RestError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use clients::Clients;

/// Operations at the same time: half of the port's connections, so that metrics and health always find one.
const MAX_OPERATIONS: usize = steadfs_daemon::http::MAX_CONNECTIONS / 2;
/// What is read of a body that nobody wants, in bytes and time, so that its sender comes to read why.
const DRAINED_BYTES: usize = 1 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

type Answer = Result<Response, RestError>;

struct Door {
    /// `host:port`, as configured.
    namenode: String,
    clients: Clients,
    room: Arc<Semaphore>,
}

/// The pages under `/webhdfs/v1` of a datanode of the namenode at `namenode` (`host:port`).
pub(crate) fn router(namenode: &str) -> Router {
    let door = Door {
        namenode: namenode.to_owned(),
        clients: Clients::new(format!("hdfs://{namenode}")),
        room: Arc::new(Semaphore::new(MAX_OPERATIONS)),
    };
    let mut router = Router::new();
    for route in ["/webhdfs/v1", "/webhdfs/v1/", "/webhdfs/v1/{*path}"] {
        router = router.route(route, any(serve));
    }
    router.with_state(Arc::new(door))
}

/// One request without its body.
struct Asked {
    door: Arc<Door>,
    client: Client,
    path: FsPath,
    query: Query,
    /// Goes when the operation has ended, its answer included.
    permit: OwnedSemaphorePermit,
}

async fn serve(State(door): State<Arc<Door>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    // Who asks before sending is told before sending.
    let waits = head.headers.contains_key(header::EXPECT);
    let mut body = Some(body);
    match answer(door, &head.method, &head.uri, &mut body).await {
        Ok(response) => response,
        Err(error) => {
            if let Some(body) = body.filter(|_| !waits) {
                drain(body).await;
            }
            failed(&error)
        }
    }
}

/// Carries out a request; takes the body once the operation wants it.
async fn answer(door: Arc<Door>, method: &Method, uri: &axum::http::Uri, body: &mut Option<Body>) -> Answer {
    let query = Query::parse(uri.query().unwrap_or(""))?;
    let path = webhdfs::path(uri.path())?;
    let operation = match *method {
        Method::GET => query.operation(&["OPEN", "GETFILECHECKSUM"], "GET")?,
        Method::PUT => query.operation(&["CREATE"], "PUT")?,
        Method::POST => query.operation(&["APPEND"], "POST")?,
        _ => return Ok((StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, PUT, POST")]).into_response()),
    };
    // What it names is not asked, but who comes without it does not come from a namenode.
    query.required("namenoderpcaddress", operation)?;
    let user = query.actors()?.0.to_owned();
    let permit = door.room.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{MAX_OPERATIONS} operations are under way at this datanode: try again");
        FsError::new(FsErrorKind::Retriable, message)
    })?;
    let client = door.clients.of(&user).await?;
    let asked = Asked { door, client, path, query, permit };
    match operation {
        "OPEN" => data::open(asked).await,
        "GETFILECHECKSUM" => data::checksum(asked).await,
        "CREATE" => data::create(asked, body).await,
        _ => data::append(asked, body).await,
    }
}

async fn drain(body: Body) {
    let read = async {
        let (mut stream, mut left) = (body.into_data_stream(), DRAINED_BYTES);
        while let Some(Ok(bytes)) = stream.next().await {
            left = left.saturating_sub(bytes.len());
            if left == 0 {
                return;
            }
        }
    };
    // Past the time the connection is closed on the sender.
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
}

fn json(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json;charset=utf-8")], text).into_response()
}

fn failed(error: &RestError) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json(status, error.json())
}
