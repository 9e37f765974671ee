//! The shapes of WebHDFS's JSON.

use serde_json::{Value, json};
use steadfs_namenode_core::record::Inode;
use steadfs_proto::hadoop::{BlockStoragePolicyProto, StorageTypeProto, StorageTypesProto};
use steadfs_wire::webhdfs::BUFFER_BYTES;

use crate::hadoop::policies::{HOT_ID, LAZY_PERSIST_ID};
use crate::service::{
    ContentSummary, Defaults, FileBlocks, FileStatus, FsStats, LocatedBlock, Location, Node, StorageKind,
};

const STICKY: u16 = 0o1000;
/// CRC32C's number in HDFS.
const CRC32C: u32 = 2;
/// A quota that is not set.
const NONE: i64 = -1;

/// A file or folder. `pathSuffix` is its name in a listing, and nothing where the caller named it.
pub(super) fn status(status: &FileStatus) -> Value {
    use steadfs_namenode_core::record::InodeKind::{Directory, File};
    let inode = &status.inode;
    let file = inode.file();
    let (kind, children) = match &inode.kind {
        Directory { children, .. } => ("DIRECTORY", *children),
        File(_) => ("FILE", 0),
    };
    json!({
        "accessTime": inode.atime.0,
        "blockSize": file.map_or(0, |file| file.block_size),
        "childrenNum": children,
        "fileId": inode.id.0,
        "group": inode.group,
        "length": file.map_or(0, |file| file.length),
        "modificationTime": inode.mtime.0,
        "owner": inode.owner,
        "pathSuffix": status.name.as_ref().map_or("", |name| name.as_str()),
        "permission": format!("{:o}", inode.mode),
        "replication": file.map_or(0, |file| file.replication()),
        "storagePolicy": inode.storage_policy,
        "type": kind,
    })
}

pub(super) fn content_summary(sums: &ContentSummary) -> Value {
    json!({
        "directoryCount": sums.directories,
        // HDFS says this of a file that is not erasure-coded, and nothing of a folder.
        "ecPolicy": if sums.directories == 0 { "Replicated" } else { "" },
        "fileCount": sums.files,
        "length": sums.length,
        "quota": NONE,
        "spaceConsumed": sums.space,
        "spaceQuota": NONE,
        "typeQuota": {},
        "snapshotDirectoryCount": 0,
        "snapshotFileCount": 0,
        "snapshotLength": 0,
        "snapshotSpaceConsumed": 0,
    })
}

pub(super) fn quota_usage(sums: &ContentSummary) -> Value {
    json!({
        "fileAndDirectoryCount": sums.files + sums.directories,
        "quota": NONE,
        "spaceConsumed": sums.space,
        "spaceQuota": NONE,
        "typeQuota": {},
    })
}

/// The mode bits; no entry goes beyond them.
pub(super) fn acl_status(inode: &Inode) -> Value {
    json!({
        "entries": [],
        "group": inode.group,
        "owner": inode.owner,
        "permission": format!("{:o}", inode.mode & !STICKY),
        "stickyBit": inode.mode & STICKY != 0,
    })
}

pub(super) fn defaults(defaults: &Defaults) -> Value {
    json!({
        "blockSize": defaults.block_size,
        "bytesPerChecksum": defaults.bytes_per_checksum,
        "writePacketSize": defaults.packet_size,
        "replication": defaults.replication,
        "fileBufferSize": BUFFER_BYTES,
        "encryptDataTransfer": false,
        // 0 leaves it to the client's own setting.
        "trashInterval": 0,
        "checksumType": CRC32C,
        "keyProviderUri": "",
        "defaultStoragePolicyId": HOT_ID,
    })
}

pub(super) fn fs_status(stats: &FsStats) -> Value {
    json!({ "used": stats.used, "remaining": stats.remaining, "capacity": stats.capacity })
}

pub(super) fn policy(policy: &BlockStoragePolicyProto) -> Value {
    let types = |types: Option<&StorageTypesProto>| -> Vec<String> {
        types.map_or_else(Vec::new, |types| {
            types.storage_types().map(|kind: StorageTypeProto| kind.as_str_name().to_owned()).collect()
        })
    };
    json!({
        "id": policy.policy_id,
        "name": policy.name,
        "storageTypes": types(Some(&policy.creation_policy)),
        "creationFallbacks": types(policy.creation_fallback_policy.as_ref()),
        "replicationFallbacks": types(policy.replication_fallback_policy.as_ref()),
        "copyOnCreateFile": policy.policy_id == LAZY_PERSIST_ID,
    })
}

/// Blocks as Hadoop's `FileSystem.getFileBlockLocations` tells them.
pub(super) fn block_locations(file: &FileBlocks) -> Value {
    file.blocks.iter().map(block_location).collect()
}

fn block_location(block: &LocatedBlock) -> Value {
    let each = |text: fn(&Location) -> String| block.locations.iter().map(text).collect::<Vec<_>>();
    json!({
        "cachedHosts": [],
        "corrupt": block.corrupt,
        "hosts": each(|place| place.node.host_name.clone()),
        "length": block.block.length,
        "names": each(|place| name(&place.node)),
        "offset": block.offset,
        "storageIds": each(|place| place.storage.to_string()),
        "storageTypes": each(|place| kind(place.kind).to_owned()),
        "topologyPaths": each(|place| format!("{}/{}", place.node.rack.trim_end_matches('/'), name(&place.node))),
    })
}

/// Blocks as a stock client's `LocatedBlocks`.
pub(super) fn located_blocks(pool: &str, file: &FileBlocks) -> Value {
    json!({
        "fileLength": file.length,
        "isLastBlockComplete": file.last_complete,
        "isUnderConstruction": file.under_construction,
        "lastLocatedBlock": file.last.as_ref().map(|block| located_block(pool, block)),
        "locatedBlocks": file.blocks.iter().map(|block| located_block(pool, block)).collect::<Value>(),
    })
}

fn located_block(pool: &str, block: &LocatedBlock) -> Value {
    json!({
        "block": {
            "blockId": block.block.id.0,
            "blockPoolId": pool,
            "generationStamp": block.block.stamp.0,
            "numBytes": block.block.length,
        },
        // A token even where none is used: its identifier, password, kind and service are empty.
        "blockToken": { "urlString": "AAAAAA" },
        "cachedLocations": [],
        "isCorrupt": block.corrupt,
        "locations": block.locations.iter().map(datanode).collect::<Value>(),
        "startOffset": block.offset,
        "storageTypes": block.locations.iter().map(|place| kind(place.kind)).collect::<Value>(),
    })
}

fn datanode(place: &Location) -> Value {
    let node = &place.node;
    json!({
        "adminState": "NORMAL",
        "blockPoolUsed": node.used,
        "cacheCapacity": 0,
        "cacheUsed": 0,
        "capacity": node.capacity,
        "dfsUsed": node.used,
        "hostName": node.host_name,
        "infoPort": node.http_port,
        "infoSecurePort": 0,
        "ipAddr": node.ip.to_string(),
        "ipcPort": node.ipc_port,
        "lastBlockReportMonotonic": 0,
        "lastBlockReportTime": node.last_block_report.0,
        "lastUpdate": node.last_heartbeat.0,
        "lastUpdateMonotonic": 0,
        "name": name(node),
        "networkLocation": node.rack,
        "remaining": node.remaining,
        "storageID": node.uuid.to_string(),
        "xceiverCount": node.active_transfers,
        "xferPort": node.data_port,
    })
}

/// `ip:port` of the data-transfer port.
fn name(node: &Node) -> String {
    std::net::SocketAddr::new(node.ip, node.data_port).to_string()
}

const fn kind(kind: StorageKind) -> &'static str {
    match kind {
        StorageKind::Disk => "DISK",
        StorageKind::Ssd => "SSD",
        StorageKind::Archive => "ARCHIVE",
    }
}
