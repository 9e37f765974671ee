//! The small pages that HDFS's tools and operators' scripts fetch: `/conf`, `/isActive`, `/topology`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use steadfs_wire::webhdfs::Query;

use crate::service::{Node, Service};

pub(super) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/isActive", get(|| async { "I am Active!" }))
        .route("/imagetransfer", get(no_image))
        .route("/topology", get(topology))
        .route("/conf", get(conf))
        .with_state(service)
}

/// The namespace is a store and a journal, not an image that another program could read.
async fn no_image() -> Response {
    (StatusCode::NOT_IMPLEMENTED, "There is no image to fetch: back up the namenode's data folders instead\n")
        .into_response()
}

fn wants_json(headers: &HeaderMap, query: &Query) -> bool {
    match query.optional("format") {
        Some(format) => format == "json",
        None => headers
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("application/json")),
    }
}

async fn topology(
    State(service): State<Arc<Service>>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = Query::parse(raw.as_deref().unwrap_or("")).unwrap_or_default();
    let mut racks: BTreeMap<String, Vec<Arc<Node>>> = BTreeMap::new();
    for node in service.datanodes() {
        racks.entry(node.rack.clone()).or_default().push(node);
    }
    let address = |node: &Node| std::net::SocketAddr::new(node.ip, node.data_port).to_string();
    if wants_json(&headers, &query) {
        let row = |node: &Arc<Node>| json!({ "ip": address(node), "hostname": node.host_name });
        let rack = |(name, nodes): (&String, &Vec<Arc<Node>>)| json!({ name.clone(): nodes.iter().map(row).collect::<Vec<_>>() });
        let racks: Vec<Value> = racks.iter().map(rack).collect();
        return ([(header::CONTENT_TYPE, "application/json")], json!(racks).to_string()).into_response();
    }
    if racks.is_empty() {
        return "No DataNodes".into_response();
    }
    let mut text = String::new();
    for (name, nodes) in racks {
        writeln!(text, "Rack: {name}").expect("text takes all");
        for node in nodes {
            writeln!(text, "   {} ({})", address(&node), node.host_name).expect("text takes all");
        }
        text.push('\n');
    }
    text.into_response()
}

/// Our settings under Hadoop's names.
fn properties(service: &Service) -> BTreeMap<&'static str, String> {
    let (defaults, settings) = (service.defaults(), service.settings());
    BTreeMap::from([
        ("dfs.replication", defaults.replication.to_string()),
        ("dfs.replication.max", settings.max_replication.to_string()),
        ("dfs.namenode.replication.min", settings.min_replication.to_string()),
        ("dfs.blocksize", defaults.block_size.to_string()),
        ("dfs.namenode.fs-limits.min-block-size", defaults.min_block_size.to_string()),
        ("dfs.bytes-per-checksum", defaults.bytes_per_checksum.to_string()),
        ("dfs.checksum.type", "CRC32C".into()),
        ("dfs.client-write-packet-size", defaults.packet_size.to_string()),
        ("dfs.permissions.enabled", settings.permissions.to_string()),
        ("dfs.permissions.superusergroup", settings.supergroup.clone()),
        ("dfs.namenode.accesstime.precision", settings.access_time_precision.as_millis().to_string()),
        ("dfs.namenode.lease-hard-limit-sec", settings.lease_hard_limit.as_secs().to_string()),
        ("dfs.namenode.retrycache.expirytime.millis", settings.retry_expiry.as_millis().to_string()),
        ("hadoop.security.authentication", "simple".into()),
    ])
}

const RESOURCE: &str = "namenode.toml";

async fn conf(State(service): State<Arc<Service>>, RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let query = Query::parse(raw.as_deref().unwrap_or("")).unwrap_or_default();
    let mut properties = properties(&service);
    let name = query.optional("name").filter(|name| !name.is_empty());
    if let Some(name) = name {
        properties.retain(|key, _| *key == name);
        if properties.is_empty() {
            let shown: String = name.chars().take(100).collect();
            return (StatusCode::NOT_FOUND, format!("Property {shown} not found")).into_response();
        }
    }
    if wants_json(&headers, &query) {
        let row = |(key, value): (&&str, &String)| json!({ "key": key, "value": value, "isFinal": false, "resource": RESOURCE });
        let mut rows: Vec<Value> = properties.iter().map(row).collect();
        let body = match rows.pop() {
            Some(row) if name.is_some() => json!({ "property": row }),
            Some(row) => {
                rows.push(row);
                json!({ "properties": rows })
            }
            None => json!({ "properties": rows }),
        };
        return ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string())
            .into_response();
    }
    let mut text =
        String::from("<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"no\"?><configuration>\n");
    for (key, value) in properties {
        writeln!(
            text,
            "<property><name>{key}</name><value>{}</value><final>false</final><source>{RESOURCE}</source></property>",
            escaped(&value)
        )
        .expect("text takes all");
    }
    text.push_str("</configuration>\n");
    ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], text).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
