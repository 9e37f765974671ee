//! Reading: what a client sees, and what the judge looks at in the end.

use std::collections::BTreeSet;

use steadfs_common::{BlockId, FsError, FsErrorKind, FsResult, GenStamp};
use steadfs_proto::steadfs as pb;
use steadfs_proto::steadfs::namespace_server::Namespace as _;

use crate::client::Client;
use crate::datanode::{ReadBlock, number_of, on_datanode, read_block};
use crate::pipeline::peer;
use crate::world::{by_user, plain};

/// Everything below a folder and the folder itself, by path.
pub async fn listing(client: &Client, folder: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let request = pb::ListRequest { path: folder.clone(), ..Default::default() };
        let listed = client
            .call("list", request, async |namenode, request| {
                plain(namenode.namespace().list(by_user(request)).await)
            })
            .await;
        let Ok(listed) = listed else { continue };
        found.insert(folder.clone());
        for status in listed.entries.into_iter().filter_map(|entry| entry.status) {
            let path = format!("{folder}/{}", status.name);
            if status.directory {
                folders.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    found.into_iter().collect()
}

/// The good bytes of what a datanode told.
///
/// # Errors
/// They do not match their checksums.
pub fn verified(read: &ReadBlock) -> FsResult<&[u8]> {
    read.spec
        .verify(&read.data, &read.sums)
        .map_err(|at| FsError::new(FsErrorKind::Checksum, format!("the chunk at {at} is bad")))?;
    Ok(&read.data[..read.length as usize])
}

/// Reads a closed file, each block from a datanode that has it.
///
/// # Errors
/// It cannot be read now.
pub async fn read(client: &Client, path: &str) -> FsResult<Vec<u8>> {
    let request = pb::OpenRequest { path: path.to_owned(), offset: 0, length: u64::MAX >> 1 };
    let opened = client
        .call("open", request, async |namenode, request| {
            plain(namenode.namespace().open(by_user(request)).await)
        })
        .await?;
    let blocks = opened.blocks.unwrap_or_default();
    let mut bytes = Vec::new();
    for located in blocks.blocks {
        bytes.extend(read_located(client, &located).await?);
    }
    Ok(bytes)
}

async fn read_located(client: &Client, located: &pb::LocatedBlock) -> FsResult<Vec<u8>> {
    let block = located.block.unwrap_or_default();
    let (id, stamp) = (BlockId(block.id), GenStamp(block.stamp));
    for location in &located.locations {
        let Some(number) = number_of(&peer(location).ip) else { continue };
        let asked =
            on_datanode(&client.world, client.place(), number, move |core| read_block(core, id, stamp)).await;
        let Ok(read) = asked else { continue };
        match verified(&read) {
            Ok(bytes) if bytes.len() as u64 >= block.length => {
                return Ok(bytes[..block.length as usize].to_vec());
            }
            Ok(_) => {}
            Err(_) => {
                let bad = pb::LocatedBlock { locations: vec![location.clone()], ..located.clone() };
                let request = pb::ReportBadReplicasRequest { blocks: vec![bad] };
                // Whoever reads it next says so again.
                let _ = client
                    .call("report bad", request, async |namenode, request| {
                        plain(namenode.namespace().report_bad_replicas(by_user(request)).await)
                    })
                    .await;
            }
        }
    }
    Err(FsError::new(FsErrorKind::BlockMissing, format!("{} cannot be read now", block.id)))
}
