//! The path and the parameters of a WebHDFS URL.

use steadfs_wire::webhdfs::{Query, path, url};

use crate::memory;

const AUTHORITY: &str = "host:9870";

/// Reads the bytes as the target of a request.
pub fn run(bytes: &[u8]) {
    memory::limit_for(bytes.len());
    let text = String::from_utf8_lossy(bytes);
    let (place, parameters) = text.split_once('?').unwrap_or((&text, ""));
    if let Ok(read) = path(place) {
        let written = url(AUTHORITY, &read, &[("op", "OPEN"), ("x", parameters)]);
        let back = written.strip_prefix("http://").and_then(|rest| rest.strip_prefix(AUTHORITY));
        let back = back.and_then(|rest| rest.split_once('?'));
        let (back, query) = back.expect("a URL has an authority and parameters");
        assert_eq!(path(back).expect("what was written can be read"), read);
        let query = Query::parse(query).expect("what was written can be read");
        assert_eq!(query.text("x"), parameters);
    }
    let Ok(query) = Query::parse(parameters) else { return };
    let _ = query.user();
    let _ = query.actors();
    let _ = query.replication();
    let _ = query.permission(0o755);
    for name in ["offset", "length", "blocksize", "newlength"] {
        let _ = query.long(name, 0);
        let _ = query.unsigned(name, 1);
    }
    let _ = query.truth("recursive", false);
}
