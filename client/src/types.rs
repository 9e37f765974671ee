//! What the server tells, as plain values. Conversions check what came and name the field that is wrong.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use steadfs_common::{BlockId, FsError, FsErrorKind, FsPath, FsResult, GenStamp, InodeId, Millis, Name};
use steadfs_proto::steadfs as pb;

/// A file or a folder, and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Where it is.
    pub path: FsPath,
    /// Its identity, which a rename does not change.
    pub inode: InodeId,
    /// Whether it is a folder.
    pub directory: bool,
    /// Bytes; 0 for a folder.
    pub length: u64,
    /// Permission bits, the sticky bit included (0o1777 at most).
    pub mode: u16,
    /// The owner.
    pub owner: String,
    /// The group.
    pub group: String,
    /// When the content (of a folder: its entries) changed last.
    pub modified: Millis,
    /// When it was read last, with the precision that the server keeps; 0 for a folder.
    pub accessed: Millis,
    /// Replicas wanted of each block; 0 for a folder.
    pub replication: u16,
    /// Size of the blocks in bytes; 0 for a folder.
    pub block_size: u64,
    /// Entries of a folder.
    pub children: u64,
    /// Whether somebody is writing it.
    pub under_construction: bool,
    /// Of a file: changes with its bytes, and with nothing else. Another content never has the same.
    pub content_version: u64,
    /// Whether it has access control entries beyond the mode.
    pub has_acl: bool,
    /// Whether it lost its name and is kept for those who have it open ([`crate::OpenKeeper`]). Told by [`crate::Client::stat`] and
    /// [`crate::Client::open`].
    pub nameless: bool,
}

impl FileStatus {
    /// The last component of the path; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.file_name().map_or("", Name::as_str)
    }

    /// `status` of `path` itself, or of its entry if the server named one.
    pub(crate) fn from_proto(status: pb::FileStatus, path: &FsPath) -> FsResult<Self> {
        let path = if status.name.is_empty() { path.clone() } else { path.join(Name::new(&status.name)?) };
        Ok(Self {
            path,
            inode: InodeId(status.inode),
            directory: status.directory,
            length: status.length,
            mode: u16::try_from(status.mode).map_err(|_| foreign("mode"))? & 0o1777,
            owner: status.owner,
            group: status.group,
            modified: Millis(status.mtime),
            accessed: Millis(status.atime),
            replication: u16::try_from(status.replication).map_err(|_| foreign("replication"))?,
            block_size: status.block_size,
            children: status.children,
            under_construction: status.under_construction,
            content_version: status.content_version,
            has_acl: status.has_acl,
            nameless: status.nameless,
        })
    }
}

/// What the server chooses where a client does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Size of blocks in bytes.
    pub block_size: u64,
    /// Smallest block size allowed, in bytes.
    pub min_block_size: u64,
    /// Replicas of each block.
    pub replication: u16,
    /// The server's version.
    pub version: String,
    /// The cluster.
    pub cluster_id: String,
    /// Which blocks belong together; every call to a datanode names it.
    pub(crate) block_pool: String,
    /// How many minutes what was thrown away is kept in the trash; 0: there is no trash.
    pub trash_minutes: u64,
    /// After so long without a renewal another writer may take a file over.
    pub(crate) lease_soft_limit: std::time::Duration,
}

impl Defaults {
    pub(crate) fn from_proto(defaults: pb::GetDefaultsResponse) -> FsResult<Self> {
        Ok(Self {
            block_size: defaults.block_size,
            min_block_size: defaults.min_block_size,
            replication: u16::try_from(defaults.replication).map_err(|_| foreign("replication"))?,
            version: defaults.version,
            cluster_id: defaults.cluster_id,
            block_pool: defaults.block_pool,
            trash_minutes: defaults.trash_minutes,
            lease_soft_limit: std::time::Duration::from_millis(defaults.lease_soft_limit_ms),
        })
    }

    pub(crate) fn to_proto(&self) -> pb::GetDefaultsResponse {
        pb::GetDefaultsResponse {
            block_size: self.block_size,
            min_block_size: self.min_block_size,
            replication: u32::from(self.replication),
            version: self.version.clone(),
            cluster_id: self.cluster_id.clone(),
            block_pool: self.block_pool.clone(),
            trash_minutes: self.trash_minutes,
            lease_soft_limit_ms: self.lease_soft_limit.as_millis() as u64,
            ..pb::GetDefaultsResponse::default()
        }
    }
}

/// The space of the whole file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FsStats {
    /// Bytes of all volumes.
    pub capacity: u64,
    /// Bytes taken by replicas.
    pub used: u64,
    /// Bytes that replicas could still take.
    pub remaining: u64,
    /// Blocks with fewer replicas than wanted.
    pub under_replicated: u64,
    /// Blocks with a corrupt replica.
    pub corrupt: u64,
    /// Blocks without any good replica.
    pub missing: u64,
}

impl From<pb::FsStatsResponse> for FsStats {
    fn from(stats: pb::FsStatsResponse) -> Self {
        Self {
            capacity: stats.capacity,
            used: stats.used,
            remaining: stats.remaining,
            under_replicated: stats.under_replicated,
            corrupt: stats.corrupt,
            missing: stats.missing,
        }
    }
}

/// A block of a file and its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockLocation {
    /// The block.
    pub block: BlockId,
    /// Its generation stamp.
    pub stamp: GenStamp,
    /// The file's bytes before it.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// Where it is, best first.
    pub replicas: Vec<Replica>,
    /// No good replica is known.
    pub corrupt: bool,
}

impl BlockLocation {
    /// The file's bytes before the block's end.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }

    pub(crate) fn from_proto(block: pb::LocatedBlock) -> FsResult<Self> {
        let id = block.block.ok_or_else(|| foreign("block"))?;
        Ok(Self {
            block: BlockId(id.id),
            stamp: GenStamp(id.stamp),
            offset: block.offset,
            length: id.length,
            replicas: block.locations.into_iter().map(Replica::from_proto).collect::<FsResult<_>>()?,
            corrupt: block.corrupt,
        })
    }

    /// The block as the server knows it.
    pub(crate) fn to_block(&self) -> pb::Block {
        pb::Block { id: self.block.0, stamp: self.stamp.0, length: self.length }
    }
}

/// One replica: a volume of a datanode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The datanode's identity.
    pub datanode: String,
    /// Its address for data.
    pub address: SocketAddr,
    /// Its host as it calls itself.
    pub host_name: String,
    /// The volume (`DS-…`).
    pub storage: String,
    /// Where it stands (`/rack`).
    pub rack: String,
    /// Its port for calls.
    pub(crate) ipc_port: u16,
    /// Its port for operators.
    pub(crate) http_port: u16,
}

impl Replica {
    pub(crate) fn from_proto(location: pb::Location) -> FsResult<Self> {
        let node = location.datanode.ok_or_else(|| foreign("datanode"))?;
        let ip: IpAddr = node.ip.parse().map_err(|_| foreign("datanode.ip"))?;
        let port = |port: u32| u16::try_from(port).map_err(|_| foreign("datanode port"));
        Ok(Self {
            datanode: node.uuid,
            address: SocketAddr::new(ip, port(node.data_port)?),
            host_name: node.host_name,
            storage: location.storage_id,
            rack: location.rack,
            ipc_port: port(node.ipc_port)?,
            http_port: port(node.http_port)?,
        })
    }

    /// As the server knows it.
    pub(crate) fn to_proto(&self) -> pb::Location {
        pb::Location {
            datanode: Some(pb::DatanodeAddress {
                uuid: self.datanode.clone(),
                ip: self.address.ip().to_string(),
                host_name: self.host_name.clone(),
                data_port: self.address.port().into(),
                ipc_port: self.ipc_port.into(),
                http_port: self.http_port.into(),
            }),
            storage_id: self.storage.clone(),
            rack: self.rack.clone(),
        }
    }
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

/// The server answered with something that cannot be.
pub(crate) fn foreign(field: &'static str) -> FsError {
    FsError::new(
        FsErrorKind::InvalidRequest,
        format!(
            "the server's answer cannot be understood (field `{field}`): are client and server of versions that fit?"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> pb::DatanodeAddress {
        pb::DatanodeAddress {
            uuid: "u".into(),
            ip: "127.0.0.1".into(),
            host_name: "h".into(),
            data_port: 9866,
            ipc_port: 9867,
            http_port: 9864,
        }
    }

    #[test]
    fn a_replica_comes_back_as_it_went() {
        let location = pb::Location {
            datanode: Some(address()),
            storage_id: "DS-1".into(),
            rack: "/default-rack".into(),
        };
        assert_eq!(Replica::from_proto(location.clone()).unwrap().to_proto(), location);
    }

    #[test]
    fn foreign_answers_name_the_field() {
        let wrong =
            |node| Replica::from_proto(pb::Location { datanode: node, ..Default::default() }).unwrap_err();
        assert!(wrong(None).message().contains("`datanode`"));
        assert!(
            wrong(Some(pb::DatanodeAddress { ip: "x".into(), ..address() }))
                .message()
                .contains("`datanode.ip`")
        );
        assert!(
            wrong(Some(pb::DatanodeAddress { data_port: 70_000, ..address() })).message().contains("port")
        );
        assert!(BlockLocation::from_proto(pb::LocatedBlock::default()).is_err());
    }
}
