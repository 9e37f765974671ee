//! Configuration of a datanode.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use steadfs_common::StorageType;
use steadfs_datanode_store::VolumeConfig;

/// Least time for the check of a volume.
const MIN_CHECK_TIMEOUT_MS: u64 = 100;
/// Least speed of the check of all replicas.
pub(crate) const MIN_SCAN_BYTES_PER_SECOND: u64 = 64 << 10;

/// Configuration of a datanode; `config/datanode.example.toml` documents each key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The namenode, as `host:port`.
    pub namenode: String,
    /// Folders to keep replicas in, one a disk.
    pub volumes: Vec<VolumeSettings>,
    /// Where the data-transfer port listens. Port 0 takes any free one.
    pub data_listen: SocketAddr,
    /// Where the RPC port (Hadoop RPC and gRPC) listens.
    pub ipc_listen: SocketAddr,
    /// Where the HTTP port for operators listens; none to have no such port.
    pub http_listen: Option<SocketAddr>,
    /// Origins (`https://host:port`, or `*`) of web pages that may call WebHDFS from a browser.
    pub webhdfs_cors_origins: Vec<String>,
    /// The address that clients and other datanodes dial; none takes the address this machine has towards the namenode.
    pub advertised_ip: Option<IpAddr>,
    /// The host name that is told to clients; empty takes the advertised address.
    pub host_name: String,
    /// The rack or zone, beginning with `/`; empty means `/default-rack`.
    pub rack: String,
    /// The Kubernetes node, if any.
    pub node: String,
    /// Disk threads for each volume.
    pub disk_threads_per_volume: usize,
    /// How long a volume may take for a small file to be written and read before it counts as failed, in milliseconds.
    pub volume_check_timeout_ms: u64,
    /// Volumes that must work; with fewer the datanode ends.
    pub min_volumes: usize,
    /// In how many milliseconds all replicas are read and checked once; 0 for never.
    pub scan_period_ms: u64,
    /// Bytes a second that this may read from one volume, at most.
    pub scan_bytes_per_second: u64,
    /// How often what lies on a volume is compared with what is known of it, in milliseconds; 0 for never.
    pub compare_period_ms: u64,
    /// Data-transfer connections served at the same time.
    pub max_transfer_connections: usize,
    /// Copies to other datanodes at the same time.
    pub max_replication_streams: usize,
    /// Users who may administer this datanode, besides who runs it.
    pub administrators: Vec<String>,
    /// The folder of the socket at which readers of this machine get descriptors of replicas; empty to have none.
    pub local_folder: PathBuf,
}

/// One folder to keep replicas in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VolumeSettings {
    /// The folder; made if it is not there. May begin with its kind in brackets, as in Hadoop: `[SSD]/data/1`.
    pub path: PathBuf,
    /// What it is: `disk` (if empty), `ssd`, `archive`, `ram_disk` or `nvdimm`.
    pub kind: String,
    /// Bytes of the disk to leave free for others.
    pub reserved_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            namenode: "127.0.0.1:8020".into(),
            volumes: Vec::new(),
            data_listen: ([0, 0, 0, 0], 9866).into(),
            ipc_listen: ([0, 0, 0, 0], 9867).into(),
            http_listen: Some(([0, 0, 0, 0], 9864).into()),
            webhdfs_cors_origins: Vec::new(),
            advertised_ip: None,
            host_name: String::new(),
            rack: String::new(),
            node: String::new(),
            disk_threads_per_volume: 4,
            volume_check_timeout_ms: 300_000,
            min_volumes: 1,
            scan_period_ms: 14 * 24 * 3_600_000,
            scan_bytes_per_second: 32 << 20,
            compare_period_ms: 6 * 3_600_000,
            max_transfer_connections: 4096,
            max_replication_streams: 2,
            administrators: Vec::new(),
            local_folder: steadfs_client::LOCAL_FOLDER.into(),
        }
    }
}

/// A configuration that cannot be used. The sentence names the key and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("datanode configuration: {0}")]
pub struct InvalidConfig(String);

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first key that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let invalid = |text: String| Err(InvalidConfig(text));
        let port = self.namenode.rsplit_once(':').and_then(|(host, port)| {
            (!host.is_empty() && !host.contains('/')).then_some(())?;
            port.parse::<u16>().ok().filter(|port| *port > 0)
        });
        if port.is_none() {
            return invalid(format!(
                "namenode = \"{}\" is not host:port, such as namenode:8020",
                self.namenode
            ));
        }
        if self.volumes.is_empty() {
            return invalid("no [[volumes]]: name at least one folder to keep replicas in".into());
        }
        if self.volumes.iter().any(|volume| split_type(&volume.path).1.as_os_str().is_empty()) {
            return invalid("a [[volumes]] entry has no path".into());
        }
        if !self.rack.is_empty() && (!self.rack.starts_with('/') || self.rack.len() < 2) {
            return invalid(format!(
                "rack = \"{}\" does not begin with / and a name, such as /zone-a",
                self.rack
            ));
        }
        let counts = [
            ("disk_threads_per_volume", self.disk_threads_per_volume, 64),
            ("max_transfer_connections", self.max_transfer_connections, 1 << 20),
            ("max_replication_streams", self.max_replication_streams, 1 << 10),
        ];
        for (key, count, most) in counts {
            if !(1..=most).contains(&count) {
                return invalid(format!("{key} = {count} is not between 1 and {most}"));
            }
        }
        if self.volume_check_timeout_ms < MIN_CHECK_TIMEOUT_MS {
            return invalid(format!(
                "volume_check_timeout_ms = {} is less than {MIN_CHECK_TIMEOUT_MS}: a disk that is only busy would be dropped",
                self.volume_check_timeout_ms
            ));
        }
        if self.min_volumes < 1 || self.min_volumes > self.volumes.len() {
            return invalid(format!(
                "min_volumes = {} is not between 1 and the number of [[volumes]], {}",
                self.min_volumes,
                self.volumes.len()
            ));
        }
        if self.scan_bytes_per_second < MIN_SCAN_BYTES_PER_SECOND {
            return invalid(format!(
                "scan_bytes_per_second = {} is less than {MIN_SCAN_BYTES_PER_SECOND}; scan_period_ms = 0 ends the checks",
                self.scan_bytes_per_second
            ));
        }
        let mut paths = BTreeSet::new();
        match self.store_volumes()?.into_iter().find(|volume| !paths.insert(volume.path.clone())) {
            Some(twice) => invalid(format!("[[volumes]] names {} twice", twice.path.display())),
            None => Ok(()),
        }
    }

    /// Data-transfer connections that one volume may keep busy: where there are others, something is left for them.
    pub(crate) fn connections_per_volume(&self) -> usize {
        match self.volumes.len() {
            0 | 1 => self.max_transfer_connections,
            _ => (self.max_transfer_connections / 2).max(1),
        }
    }

    /// The volumes as the store takes them.
    pub(crate) fn store_volumes(&self) -> Result<Vec<VolumeConfig>, InvalidConfig> {
        self.volumes.iter().map(VolumeSettings::to_store).collect()
    }
}

impl VolumeSettings {
    fn to_store(&self) -> Result<VolumeConfig, InvalidConfig> {
        let (prefix, path) = split_type(&self.path);
        let kind = match (prefix, self.kind.as_str()) {
            (None, "") => StorageType::Disk,
            (Some(name), "") | (None, name) => type_named(name)?,
            (Some(_), kind) => {
                return Err(InvalidConfig(format!(
                    "path = \"{}\" of a volume names its type, and so does kind = \"{kind}\": say it once",
                    self.path.display()
                )));
            }
        };
        Ok(VolumeConfig { path, kind, reserved: self.reserved_bytes })
    }
}

/// The type in front of a volume's folder, as Hadoop writes it (`[SSD]/data/1`), and the folder.
fn split_type(path: &Path) -> (Option<&str>, PathBuf) {
    let found = path.to_str().and_then(|text| text.strip_prefix('[')?.split_once(']'));
    found.map_or_else(|| (None, path.to_owned()), |(name, folder)| (Some(name), folder.into()))
}

/// A type that a folder may be of. What is provided from outside is not kept in one.
fn type_named(name: &str) -> Result<StorageType, InvalidConfig> {
    let known = name.parse().ok().filter(|kind| *kind != StorageType::Provided);
    known.ok_or_else(|| {
        InvalidConfig(format!("\"{name}\" of a volume is not disk, ssd, archive, ram_disk or nvdimm"))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const EXAMPLE: &str = include_str!("../../config/datanode.example.toml");

    fn example() -> Config {
        steadfs_daemon::config::parse(EXAMPLE, Path::new("datanode.example.toml")).unwrap()
    }

    #[test]
    fn the_example_gives_the_defaults() {
        let example = example();
        example.validate().unwrap();
        let volumes = vec![VolumeSettings {
            path: "/var/lib/steadfs/data".into(),
            kind: "disk".into(),
            reserved_bytes: 0,
        }];
        assert_eq!(example, Config { volumes, ..Config::default() });
    }

    #[test]
    fn the_example_has_every_key() {
        let whole = Config {
            advertised_ip: Some([10, 0, 0, 1].into()),
            volumes: vec![VolumeSettings::default()],
            ..Config::default()
        };
        let text = toml::to_string(&whole).unwrap();
        for key in text.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
            let documented =
                EXAMPLE.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")));
            assert!(documented, "{key}");
        }
    }

    #[test]
    fn a_volume_names_its_type_by_key_or_in_hadoops_way() {
        let of = |path: &str, kind: &str| {
            let settings = VolumeSettings { path: path.into(), kind: kind.into(), reserved_bytes: 7 };
            let volume = settings.to_store().unwrap();
            assert_eq!(volume.reserved, 7);
            (volume.kind, volume.path.to_str().unwrap().to_owned())
        };
        assert_eq!(of("/a", ""), (StorageType::Disk, "/a".into()));
        assert_eq!(of("[SSD]/a", ""), (StorageType::Ssd, "/a".into()));
        assert_eq!(of("[archive]/a", ""), (StorageType::Archive, "/a".into()));
        assert_eq!(of("/a", "ram_disk"), (StorageType::RamDisk, "/a".into()));
        assert_eq!(of("/[a]", "nvdimm"), (StorageType::Nvdimm, "/[a]".into()));
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error =
            steadfs_daemon::config::parse::<Config>("heartbeats = 3", Path::new("d.toml")).unwrap_err();
        assert!(error.to_string().contains("heartbeats"), "{error}");
    }

    #[test]
    fn what_cannot_be_is_refused_by_key() {
        let refused = |change: fn(&mut Config)| {
            let mut config = example();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(refused(|c| c.namenode = "http://x:1".into()).contains("namenode"));
        assert!(refused(|c| c.namenode = "x:0".into()).contains("namenode"));
        assert!(refused(|c| c.volumes.clear()).contains("volumes"));
        assert!(refused(|c| c.volumes[0].kind = "tape".into()).contains("tape"));
        assert!(refused(|c| c.volumes[0].path = PathBuf::new()).contains("path"));
        assert!(refused(|c| c.volumes[0].path = "[SSD]".into()).contains("path"));
        assert!(refused(|c| c.volumes[0].path = "[SSD]/data".into()).contains("once"));
        assert!(refused(|c| c.rack = "zone".into()).contains("rack"));
        assert!(refused(|c| c.volumes.push(c.volumes[0].clone())).contains("twice"));
        assert!(refused(|c| c.min_volumes = 2).contains("min_volumes"));
        assert!(refused(|c| c.volume_check_timeout_ms = 9).contains("volume_check_timeout_ms"));
        assert!(refused(|c| c.scan_bytes_per_second = 0).contains("scan_period_ms"));
        assert!(refused(|c| c.disk_threads_per_volume = 0).contains("disk_threads_per_volume"));
    }
}
