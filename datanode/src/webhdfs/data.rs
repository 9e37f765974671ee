//! Bytes of files, from and to the caller, as they come.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use steadfs_client::{Reader, Writer};
use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_wire::webhdfs::{RestError, file_url};
use tokio::sync::OwnedSemaphorePermit;

use super::{Answer, Asked, json};

/// A piece of a file up to this is read whole, without a task that fetches ahead.
const READ_AT_ONCE: u64 = 1 << 20;
/// How long a caller may send nothing while its bytes are awaited.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Flags of a new file.
const CREATE_FLAGS: [&str; 10] = [
    "CREATE",
    "OVERWRITE",
    "APPEND",
    "SYNC_BLOCK",
    "LAZY_PERSIST",
    "NEW_BLOCK",
    "NO_LOCAL_WRITE",
    "SHOULD_REPLICATE",
    "IGNORE_CLIENT_LOCALITY",
    "NO_LOCAL_RACK",
];

pub(super) async fn open(asked: Asked) -> Answer {
    let offset = asked.query.unsigned("offset", 0)?.unwrap_or(0);
    let length = asked.query.unsigned("length", 0)?;
    let reader = asked.client.open(&asked.path.to_string()).await?;
    let rest = reader.length().checked_sub(offset);
    let rest = rest.ok_or_else(|| FsError::refused("Cannot seek after EOF"))?;
    let wanted = length.map_or(rest, |length| length.min(rest));
    let body = if wanted <= READ_AT_ONCE {
        Body::from(exactly(&reader, offset, wanted).await?)
    } else {
        stream(&reader, offset, wanted, asked.permit).await?
    };
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, wanted.to_string()),
    ];
    Ok((StatusCode::OK, headers, body).into_response())
}

async fn exactly(reader: &Reader, offset: u64, length: u64) -> FsResult<Bytes> {
    let length = usize::try_from(length).map_err(|_| FsError::invalid_argument("the length is too large"))?;
    let bytes = reader.read_at(offset, length).await?;
    if bytes.len() == length { Ok(bytes) } else { Err(shorter()) }
}

fn shorter() -> FsError {
    FsError::refused("the file became shorter while it was read")
}

/// The bytes as they come. The first ones are awaited here, so that what cannot be read at all is told as an error.
async fn stream(reader: &Reader, offset: u64, length: u64, permit: OwnedSemaphorePermit) -> FsResult<Body> {
    let mut file = reader.stream_from(offset);
    let first = file.next_chunk().await?.ok_or_else(shorter)?;
    let state = (file, Some(first), length, permit);
    let pieces = futures::stream::try_unfold(state, |(mut file, first, left, permit)| async move {
        if left == 0 {
            return FsResult::Ok(None);
        }
        let mut piece = match first {
            Some(first) => first,
            None => file.next_chunk().await?.ok_or_else(shorter)?,
        };
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - piece.len() as u64;
        Ok(Some((piece, (file, None, left, permit))))
    });
    Ok(Body::from_stream(pieces))
}

pub(super) async fn checksum(asked: Asked) -> Answer {
    let checksum = asked.client.checksum(&asked.path.to_string()).await?;
    let bytes = checksum.bytes();
    let told = serde_json::json!({ "FileChecksum": {
        "algorithm": checksum.algorithm(),
        "bytes": checksum.hex(),
        "length": bytes.len(),
    }});
    Ok(json(StatusCode::OK, told.to_string()))
}

pub(super) async fn create(asked: Asked, body: &mut Option<Body>) -> Answer {
    let query = &asked.query;
    let mut overwrite = query.truth("overwrite", false)?;
    for flag in query.text("createflag").split(',').map(str::trim).filter(|flag| !flag.is_empty()) {
        let flag = flag.to_ascii_uppercase();
        if !CREATE_FLAGS.contains(&flag.as_str()) {
            let problem = format!("No enum constant org.apache.hadoop.fs.CreateFlag.{flag}");
            return Err(RestError::parameter("createflag", &problem));
        }
        overwrite |= flag == "OVERWRITE";
    }
    let mut create = asked
        .client
        .create(&asked.path.to_string())
        .overwrite(overwrite)
        .create_parent(query.truth("createparent", true)?)
        .mode(query.permission(0o644)?)
        .unmasked(query.unmasked_permission()?)
        .replication(query.replication()?.unwrap_or(0))
        .block_size(query.unsigned("blocksize", 1)?.unwrap_or(0));
    if body.as_ref().is_some_and(is_empty) {
        create = create.expect_empty();
    }
    receive(create.await?, body).await?;
    let location = file_url(&asked.door.namenode, &asked.path);
    Ok((StatusCode::CREATED, [(header::LOCATION, location), (header::CONTENT_LENGTH, "0".into())])
        .into_response())
}

pub(super) async fn append(asked: Asked, body: &mut Option<Body>) -> Answer {
    receive(asked.client.append(&asked.path.to_string()).await?, body).await?;
    let response: Response = (StatusCode::OK, [(header::CONTENT_LENGTH, "0")]).into_response();
    Ok(response)
}

fn is_empty(body: &Body) -> bool {
    HttpBody::is_end_stream(body)
}

/// Writes the body to the file and closes it. A caller that goes away or stops leaves what was written until then, as a
/// writer that dies does.
async fn receive(mut writer: Writer, body: &mut Option<Body>) -> FsResult<()> {
    let mut pieces = body.take().unwrap_or_default().into_data_stream();
    loop {
        let problem = match tokio::time::timeout(BODY_TIMEOUT, pieces.next()).await {
            Ok(None) => return writer.close().await,
            Ok(Some(Ok(bytes))) => match writer.write_all(bytes).await {
                Ok(()) => continue,
                Err(error) => error,
            },
            Ok(Some(Err(error))) => FsError::refused(format!("the body ended early: {error}")),
            Err(_) => FsError::new(FsErrorKind::Timeout, "nothing of the body came for a minute"),
        };
        writer.abort().await;
        return Err(problem);
    }
}
