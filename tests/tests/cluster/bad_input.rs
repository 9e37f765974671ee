//! Bytes that no client sends, on every port: that connection ends, and nothing else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use steadfs_tests::{TestCluster, content, verify, write};

use crate::BINARY;

/// Bytes that a hostile connection may sit on in the server, all of them together.
const MEMORY_LIMIT_KIB: u64 = 200 << 10;
/// How long a server may take over bytes that end.
const ANSWER: Duration = Duration::from_secs(30);

/// A Hadoop RPC connection's first bytes: version 9, service class 0, no authentication.
const HRPC: &[u8] = b"hrpc\x09\x00\x00";
/// HTTP/2's, with an empty SETTINGS frame.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What is sent: each on a connection of its own, cut off after it.
fn inputs() -> Vec<Vec<u8>> {
    let mut inputs = vec![
        Vec::new(),
        vec![0],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"hrpc".to_vec(),
        b"hrpc\x08\x00\x00".to_vec(),
        b"hrpc\x09\x00\x51".to_vec(),
        HRPC.to_vec(),
        HTTP2.to_vec(),
        b"PRI * HT".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        vec![0xff; 70_000],
        vec![0; 70_000],
    ];
    for prefix in [&b""[..], HRPC, HTTP2, b"\0\x1c\x50", b"\0\x1c\x51", b"\0\x1c\x55"] {
        // Lengths of 2 GiB - 1, -1, 0 and 64 MiB, then nothing or a little.
        for length in [i32::MAX, -1, 0, 64 << 20, 5] {
            inputs.push([prefix, &length.to_be_bytes(), &[0x0a, 0xff, 0xff, 0xff, 0x7f]].concat());
        }
        // A varint that never ends.
        inputs.push([prefix, &[0x80; 64]].concat());
        // Nested messages, deeper than any stack.
        inputs.push([prefix, &(20_000_i32).to_be_bytes(), &[0x0a, 0x7f].repeat(10_000)].concat());
        for seed in 0..20 {
            inputs.push([prefix, &content(&format!("random {seed}"), 1 + seed * 97)].concat());
        }
    }
    inputs
}

/// Sends `bytes`, says that no more follows, and waits for the server to end the connection.
fn send(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    // The server may have ended it already, which is its right.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut sink = [0; 4_096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                panic!(
                    "{address} neither answers nor ends a connection after {} bytes: {:?}",
                    bytes.len(),
                    &bytes[..bytes.len().min(24)]
                );
            }
            Err(_) => return,
        }
    }
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_on_any_port_end_a_server() -> anyhow::Result<()> {
    let mut test = TestCluster::by_processes(1, BINARY).await?;
    let client = test.client().await?;
    write(&client, "/before", 100_000).await?;
    let doors = test.cluster.endpoints();
    let address = |url: &str| -> SocketAddr { url.split("://").nth(1).unwrap().parse().unwrap() };
    let ports = [
        address(&doors.hdfs),
        address(&doors.http),
        doors.datanodes[0].data,
        test.cluster.ipc_address(0).unwrap(),
    ];
    let pids = [doors.namenode.pid, doors.datanodes[0].pid];
    let before = pids.map(resident_kib);
    let senders: Vec<_> = ports
        .into_iter()
        .map(|port| {
            std::thread::spawn(move || {
                for bytes in inputs() {
                    send(port, &bytes);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().expect("a port did not end a connection of bad bytes");
    }
    // Many that say how much they will send and then say nothing more.
    let silent: Vec<TcpStream> = ports
        .iter()
        .flat_map(|port| (0..50).map(move |_| *port))
        .map(|port| {
            let mut stream = TcpStream::connect(port).unwrap();
            let _ = stream.write_all(&[HRPC, &(60_i32 << 20).to_be_bytes()].concat());
            stream
        })
        .collect();
    write(&client, "/meanwhile", 100_000).await?;
    for (pid, before) in pids.into_iter().zip(before) {
        let grown = resident_kib(pid).saturating_sub(before);
        assert!(grown < MEMORY_LIMIT_KIB, "process {pid} grew by {grown} KiB");
    }
    drop(silent);
    let client = test.client().await?;
    for path in ["/before", "/meanwhile"] {
        verify(&client, path, path, 100_000).await?;
    }
    let none = tokio::time::timeout(Duration::from_millis(100), test.cluster.next_end()).await;
    assert!(none.is_err(), "{none:?} ended");
    test.stop().await;
    Ok(())
}
