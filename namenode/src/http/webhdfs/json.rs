//! The shapes of WebHDFS's JSON.

use serde_json::{Value, json};
use steadfs_common::{FsPath, StorageType};
use steadfs_namenode_core::namespace::quota::TYPES_WITH_QUOTA;
use steadfs_namenode_core::policy::StoragePolicy;
use steadfs_wire::webhdfs::BUFFER_BYTES;

use crate::hadoop::policies::HOT_ID;
use crate::service::{
    ContentSummary, Defaults, FileBlocks, FileStatus, FsStats, LocatedBlock, Location, Node,
};

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
    let mut shape = json!({
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
        "storagePolicy": status.policy,
        "type": kind,
    });
    // Hadoop says it only where it is true.
    if inode.acl.is_some() {
        shape["aclBit"] = true.into();
    }
    shape
}

/// A file or folder as Hadoop writes it without knowing of HDFS.
pub(super) fn bare_status(path: &FsPath, status: &FileStatus) -> Value {
    let inode = &status.inode;
    let file = inode.file();
    json!({
        "path": path.to_string(),
        "length": file.map_or(0, |file| file.length),
        "isdir": file.is_none(),
        "block_replication": file.map_or(0, |file| file.replication()),
        "blocksize": file.map_or(0, |file| file.block_size),
        "modification_time": inode.mtime.0,
        "access_time": inode.atime.0,
        "permission": format!("{:o}", inode.mode),
        "owner": inode.owner,
        "group": inode.group,
    })
}

pub(super) fn content_summary(sums: &ContentSummary) -> Value {
    json!({
        "directoryCount": sums.directories,
        // HDFS says this of a file that is not erasure-coded, and nothing of a folder.
        "ecPolicy": if sums.directories == 0 { "Replicated" } else { "" },
        "fileCount": sums.files,
        "length": sums.length,
        "quota": bound(sums.quota.names),
        "spaceConsumed": sums.space,
        "spaceQuota": bound(sums.quota.space),
        "typeQuota": types(sums),
        "snapshotDirectoryCount": 0,
        "snapshotFileCount": 0,
        "snapshotLength": 0,
        "snapshotSpaceConsumed": 0,
    })
}

pub(super) fn quota_usage(sums: &ContentSummary) -> Value {
    json!({
        "fileAndDirectoryCount": sums.names(),
        "quota": bound(sums.quota.names),
        "spaceConsumed": sums.space,
        "spaceQuota": bound(sums.quota.space),
        "typeQuota": types(sums),
    })
}

/// A bound as Java has it, which knows no larger number.
fn bound(bound: Option<u64>) -> i64 {
    bound.map_or(NONE, |bound| i64::try_from(bound).unwrap_or(i64::MAX))
}

/// As in HDFS, only types with a bound are shown.
fn types(sums: &ContentSummary) -> Value {
    let bounded = |kind: &StorageType| {
        let quota = bound(Some(sums.quota.types[kind.index()]?));
        Some((kind.name().to_owned(), json!({ "quota": quota, "consumed": sums.types[kind.index()] })))
    };
    Value::Object(TYPES_WITH_QUOTA.iter().filter_map(bounded).collect())
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

/// A storage policy.
pub(super) fn policy(policy: &StoragePolicy) -> Value {
    let names = |types: &[StorageType]| types.iter().map(|kind| kind.name()).collect::<Value>();
    json!({
        "id": policy.id,
        "name": policy.name,
        "storageTypes": names(policy.types),
        "creationFallbacks": names(policy.creation_fallbacks),
        "replicationFallbacks": names(policy.replication_fallbacks),
        "copyOnCreateFile": policy.from_creation,
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
        "storageTypes": each(|place| place.kind.name().to_owned()),
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
        "storageTypes": block.locations.iter().map(|place| place.kind.name()).collect::<Value>(),
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
