//! Operations that move data: the caller is sent to a datanode.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use steadfs_common::{FsError, FsErrorKind, FsPath};
use steadfs_namenode_core::command::FileRef;
use steadfs_wire::webhdfs::{RestError, url};

use super::{Answer, Asked, json};
use crate::service::Node;

/// Parameters that the datanode reads, as they came; who creates a file sees in the address what holds by default.
const READING: [(&str, Option<&str>); 3] = [("offset", None), ("length", None), ("buffersize", None)];
const CREATING: [(&str, Option<&str>); 8] = [
    ("createflag", Some("")),
    ("createparent", Some("true")),
    ("overwrite", Some("false")),
    ("permission", None),
    ("unmaskedpermission", None),
    ("replication", None),
    ("blocksize", None),
    ("buffersize", None),
];

/// To a datanode with a replica of the block at the offset.
pub(super) async fn open(asked: &Asked) -> Answer {
    let offset = asked.query.unsigned("offset", 0)?.unwrap_or(0);
    asked.query.unsigned("length", 0)?;
    let length = file_length(asked).await?.ok_or_else(|| FsError::not_a_file(&asked.path))?;
    if offset >= length && (length > 0 || offset > 0) {
        let message = format!("Offset={offset} out of the range [0, {length}); OPEN, path={}", asked.path);
        return Err(FsError::refused(message).into());
    }
    to(asked, "OPEN", holder(asked, offset, length).await?)
}

/// To a datanode with a replica of the last block. What is wrong with a folder is for the datanode to say.
pub(super) async fn to_a_replica(asked: &Asked, operation: &str) -> Answer {
    let length = file_length(asked).await?.unwrap_or(0);
    to(asked, operation, holder(asked, length.saturating_sub(1), length).await?)
}

/// To any datanode: the nearest, as it will hold the first replica.
pub(super) fn create(asked: &Asked) -> Answer {
    asked.query.permission(0o644)?;
    asked.query.unmasked_permission()?;
    asked.query.replication()?;
    asked.query.unsigned("blocksize", 1)?;
    asked.query.truth("overwrite", false)?;
    asked.query.truth("createparent", true)?;
    to(asked, "CREATE", None)
}

/// The length of the file; none if a folder is there.
async fn file_length(asked: &Asked) -> Result<Option<u64>, RestError> {
    let found = asked.service.status(&asked.caller, &asked.path).await?;
    let missing = || FsError::new(FsErrorKind::NotFound, format!("File {} not found.", asked.path));
    Ok(found.ok_or_else(missing)?.inode.file().map(|file| file.length))
}

/// A datanode that holds the block at `offset` of a file with `length` bytes.
async fn holder(asked: &Asked, offset: u64, length: u64) -> Result<Option<Arc<Node>>, RestError> {
    if length == 0 {
        return Ok(None);
    }
    let file = FileRef { path: asked.path.clone(), inode: None };
    let (_, found) = asked.service.locations(&asked.caller, &file, offset, 1).await?;
    let places = found.blocks.into_iter().flat_map(|block| block.locations);
    Ok(places.map(|place| place.node).find(|node| usable(asked, node)))
}

fn usable(asked: &Asked, node: &Node) -> bool {
    let excluded = asked.query.text("excludedatanodes").split(',').map(str::trim);
    let address = node.ip.to_string();
    let named = |name: &str| {
        let (host, port) = name.rsplit_once(':').unwrap_or((name, ""));
        let known = host == node.host_name || host == address;
        known
            && (port.is_empty() || [node.http_port, node.data_port].iter().any(|own| own.to_string() == port))
    };
    node.live && node.http_port != 0 && !excluded.into_iter().any(named)
}

/// One that runs where the caller does, else any.
fn anyone(asked: &Asked) -> Result<Arc<Node>, RestError> {
    let mut usable: Vec<Arc<Node>> = asked.service.datanodes();
    usable.retain(|node| self::usable(asked, node));
    let near = usable.iter().position(|node| Some(node.ip) == asked.caller.address);
    let count = usable.len().max(1) as u128;
    let any = usize::try_from(uuid::Uuid::new_v4().as_u128() % count).expect("less than a length");
    let chosen = (near.unwrap_or(any) < usable.len()).then(|| usable.swap_remove(near.unwrap_or(any)));
    chosen.ok_or_else(|| {
        let excluded = asked.query.text("excludedatanodes");
        let message =
            format!("Failed to find datanode, suggest to check cluster health. excludeDatanodes={excluded}");
        FsError::new(FsErrorKind::NoDatanode, message).into()
    })
}

fn to(asked: &Asked, operation: &str, node: Option<Arc<Node>>) -> Answer {
    let node = match node {
        Some(node) => node,
        None => anyone(asked)?,
    };
    let location = location(asked, operation, &node, &asked.path);
    if asked.query.truth("noredirect", false)? {
        return Ok(json(&json!({ "Location": location })));
    }
    let value = HeaderValue::try_from(location)
        .map_err(|_| FsError::refused(format!("datanode {} has no usable host name", node.uuid)))?;
    let headers = [
        (header::LOCATION, value),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
    ];
    let response: Response = (StatusCode::TEMPORARY_REDIRECT, headers).into_response();
    Ok(response)
}

fn location(asked: &Asked, operation: &str, node: &Node, path: &FsPath) -> String {
    let host = match node.host_name.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => node.host_name.clone(),
    };
    let rpc = asked.rpc.to_string();
    // Stock datanodes dial this; ours ask the namenode of their configuration, whoever it is.
    let mut parameters =
        vec![("op", operation), ("user.name", &asked.caller.user), ("namenoderpcaddress", &rpc)];
    let passed_on = if operation == "CREATE" { &CREATING[..] } else { &READING };
    let given = |(name, default): &(&'static str, Option<&'static str>)| {
        Some((*name, asked.query.optional(name).or(*default)?))
    };
    parameters.extend(passed_on.iter().filter_map(given));
    url(&format!("{host}:{}", node.http_port), path, &parameters)
}
