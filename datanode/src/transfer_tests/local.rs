//! The local door: whose replicas' descriptors it hands out.

use std::os::unix::fs::FileExt;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::local::LocalDoor;

const HERE: u8 = 0;
const NOT_YET: u8 = 1;
const NONE: u8 = 2;

/// What the door in a folder says of the block. A descriptor that comes along goes again.
async fn ask(folder: &Path, node: &TestNode, stamp: GenStamp) -> u8 {
    let mut stream = UnixStream::connect(folder.join(node.node.uuid.to_string())).await.unwrap();
    let mut question = b"SFLOCAL1".to_vec();
    question.extend_from_slice(&BLOCK.0.to_le_bytes());
    question.extend_from_slice(&stamp.0.to_le_bytes());
    stream.write_all(&question).await.unwrap();
    let mut answer = [0; 16];
    stream.read_exact(&mut answer).await.unwrap();
    answer[0]
}

#[tokio::test]
async fn a_replica_that_is_found_to_be_bad_is_handed_out_no_more() {
    for length in [1 << 20, 5 << 20] {
        let node = TestNode::start().await;
        let folder = tempfile::tempdir().unwrap();
        let door = LocalDoor::open(&node.node, folder.path()).unwrap();
        node.shutdown.spawn(door.serve(node.node.clone(), node.shutdown.clone()));
        node.put(&pattern(length), SPEC).await;
        assert_eq!(ask(folder.path(), &node, GenStamp(STAMP.0 + 1)).await, NONE);
        loop {
            match ask(folder.path(), &node, STAMP).await {
                HERE => break,
                told => assert_eq!((told, length > 4 << 20), (NOT_YET, true)),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let reader = node.node.store.open_for_read(BLOCK, STAMP).unwrap();
        let path = std::fs::read_link(format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&**reader.data())
        ));
        let file = std::fs::OpenOptions::new().write(true).open(path.unwrap()).unwrap();
        file.write_all_at(b"rot", 1_000).unwrap();
        assert!(reader.suspect());
        assert_eq!(ask(folder.path(), &node, STAMP).await, NONE);
        file.write_all_at(&pattern(length)[1_000..1_003], 1_000).unwrap();
        assert!(reader.found_good());
        assert_ne!(ask(folder.path(), &node, STAMP).await, NONE, "it is verified anew");
        node.stop().await;
    }
}
