//! Requests of HTTP at a whole namenode: the first byte says which method, the rest is the target below WebHDFS; or `0xff`
//! and raw bytes of the connection.

use std::io::Write;
use std::net::Shutdown;

use crate::memory;
use crate::server::{connect, drain, server};

const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "OPTIONS"];
/// Says that raw bytes follow.
const RAW: u8 = 0xff;

/// Sends the request and waits until the server has ended the connection.
pub fn run(bytes: &[u8]) {
    let Some((&which, rest)) = bytes.split_first() else { return };
    let server = server();
    memory::limit(memory::SERVER_BYTES);
    let mut request = Vec::new();
    if which == RAW {
        request.extend_from_slice(rest);
    } else {
        let method = METHODS[usize::from(which) % METHODS.len()];
        request.extend_from_slice(format!("{method} /webhdfs/v1").as_bytes());
        request.extend(rest.iter().map(|byte| if byte.is_ascii_whitespace() { b'+' } else { *byte }));
        request.extend_from_slice(b" HTTP/1.1\r\nHost: n\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let mut stream = connect(server.http);
    // A server may end the connection before all is sent.
    let _ = stream.write_all(&request);
    let _ = stream.shutdown(Shutdown::Write);
    let said = drain(stream);
    assert!(!said.starts_with(b"HTTP/1.1 500"), "an internal error: {}", String::from_utf8_lossy(&said));
}
