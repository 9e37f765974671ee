//! Descriptors of replicas on this machine, from the datanode's local door.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use steadfs_common::DatanodeUuid;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use crate::BlockLocation;

/// Where datanodes of this machine open their doors.
pub const LOCAL_FOLDER: &str = "/run/steadfs/local";

/// How a question begins; the digit is the version.
const QUESTION: &[u8; 8] = b"SFLOCAL1";
/// What an answer begins with if the descriptor comes along.
const HERE: u8 = 0;
/// How long a datanode may take: longer than to verify what is small.
const LIMIT: Duration = Duration::from_secs(2);

/// The descriptor of a replica of `block` on this machine that its datanode has verified whole, if there is one and the
/// process may have it. Byte n of the file is byte n of the block.
pub(crate) async fn descriptor(folder: &Path, block: &BlockLocation) -> Option<File> {
    for replica in &block.replicas {
        // The name is looked at, never spliced in as it came.
        let Ok(datanode) = replica.datanode.parse::<DatanodeUuid>() else { continue };
        let path = folder.join(datanode.to_string());
        match tokio::time::timeout(LIMIT, ask(&path, block)).await {
            Ok(Ok(Some(file))) => return Some(file),
            Ok(Ok(None)) => {}
            Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::NotFound) => {}
            Ok(Err(error)) => tracing::debug!(%replica, %error, "no descriptor from the local datanode"),
            Err(_) => tracing::debug!(%replica, "no descriptor from the local datanode in time"),
        }
    }
    None
}

async fn ask(path: &Path, block: &BlockLocation) -> io::Result<Option<File>> {
    let mut stream = UnixStream::connect(path).await?;
    let mut question = QUESTION.to_vec();
    question.extend_from_slice(&block.block.0.to_le_bytes());
    question.extend_from_slice(&block.stamp.0.to_le_bytes());
    stream.write_all(&question).await?;
    let (what, length, file) = stream.async_io(Interest::READABLE, || receive(&stream)).await?;
    // A replica of another length is not the block that the namenode speaks of.
    Ok(file.filter(|_| what == HERE && length == block.length))
}

fn receive(stream: &UnixStream) -> io::Result<(u8, u64, Option<File>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut answer = [0; 16];
    let into = &mut [io::IoSliceMut::new(&mut answer)];
    let received = rustix::net::recvmsg(stream, into, &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes != answer.len() {
        return Err(io::Error::other("an answer was cut"));
    }
    let file = rights.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let mut length = [0; 8];
    length.copy_from_slice(&answer[8..]);
    Ok((answer[0], u64::from_le_bytes(length), file.map(File::from)))
}
