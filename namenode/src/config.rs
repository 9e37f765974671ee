//! What an operator may set. `config/namenode.example.toml` documents every key; a test keeps it equal to the defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use steadfs_common::limits::{self, MAX_PRINCIPAL_BYTES, MOST_BLOCKS_PER_FILE};
use steadfs_namenode_core::Settings;

mod hosts;
mod kubernetes;
mod replication;
mod upkeep;
mod users;

pub use hosts::HostsConfig;
pub use kubernetes::KubernetesConfig;
pub use replication::{BalancerConfig, ReplicationConfig};
pub use upkeep::UpkeepConfig;
use users::is_short;
pub use users::{AuditConfig, ProxyConfig, TrashConfig, UsersConfig};

/// The namenode's configuration. Units are in the names; sizes are bytes, times milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamenodeConfig {
    /// Where Hadoop RPC and gRPC are served. Port 0 is any free one.
    pub listen: SocketAddr,
    /// Where metrics, health and the status page are served. Port 0 is any free one.
    pub http_listen: SocketAddr,
    /// Origins (`https://host:port`, or `*`) of web pages that may call WebHDFS from a browser.
    pub webhdfs_cors_origins: Vec<String>,
    /// One copy of the journal in each; the first also holds the store, and the second a copy of it. Two on different
    /// disks survive the loss of one.
    pub data_dirs: Vec<PathBuf>,
    /// Rules of the namespace.
    pub namespace: NamespaceConfig,
    /// How datanodes are watched.
    pub datanodes: DatanodesConfig,
    /// How replicas are copied between datanodes.
    pub replication: ReplicationConfig,
    /// How datanodes are kept about equally full.
    pub balancer: BalancerConfig,
    /// Which datanodes are admitted, and which shall leave.
    pub hosts: HostsConfig,
    /// When changes are refused after a start.
    pub safe_mode: SafeModeConfig,
    /// The edit log.
    pub journal: JournalConfig,
    /// The store of the namespace and the caches in front of it.
    pub store: StoreConfig,
    /// How the namenode looks after its own data.
    pub upkeep: UpkeepConfig,
    /// Who may do what.
    pub users: UsersConfig,
    /// What is written down of calls.
    pub audit: AuditConfig,
    /// How long what was thrown away is kept.
    pub trash: TrashConfig,
    /// Who runs where.
    pub locality: LocalityConfig,
    /// What is watched of Kubernetes.
    pub kubernetes: KubernetesConfig,
    /// What is not secure and must be asked for by name.
    pub insecure: InsecureConfig,
    /// The file that this was read from, to read what may change while the namenode runs.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// Rules of the namespace, as [`Settings`] has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceConfig {
    /// Members are superusers; also the group of the root folder.
    pub supergroup: String,
    /// Whether permissions are checked.
    pub permissions: bool,
    /// The smallest block that a file may be created with.
    pub min_block_size_bytes: u64,
    /// The block size of those who do not name one.
    pub default_block_size_bytes: u64,
    /// The replication of those who do not name one.
    pub default_replication: u16,
    /// Replicas that make a block safe.
    pub min_replication: u16,
    /// The most that may be asked for.
    pub max_replication: u16,
    /// After this without renewal another writer may take a file over.
    pub lease_soft_limit_ms: u64,
    /// After this without renewal the namenode takes a file over.
    pub lease_hard_limit_ms: u64,
    /// How exact access times are; 0 keeps none.
    pub access_time_precision_ms: u64,
    /// Whether the owner of the folder above may set quotas too; else superusers alone.
    pub owner_sets_quota: bool,
    /// The most extended attributes of a file or folder that users see.
    pub max_xattrs_per_inode: usize,
    /// The most bytes of an extended attribute's name and value.
    pub max_xattr_size_bytes: usize,
    /// The most blocks of a file.
    pub max_blocks_per_file: u32,
    /// How long answers are kept for repeated calls.
    pub retry_expiry_ms: u64,
    /// The most answers kept for repeated calls.
    pub retry_entries: u64,
    /// How long `complete` waits for the last replicas to be reported before it answers "not yet".
    pub complete_wait_ms: u64,
}

/// How datanodes are watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatanodesConfig {
    /// How often each is told to send a heartbeat.
    pub heartbeat_interval_ms: u64,
    /// How often each is told to report all its replicas.
    pub block_report_interval_ms: u64,
    /// Silent this long: others are preferred.
    pub stale_after_ms: u64,
    /// Silent this long: its replicas count as lost.
    pub dead_after_ms: u64,
    /// Blocks copied at a time by one datanode if one more loss would lose them; others: `replication`.
    pub max_transfers_per_node: u32,
    /// How long a copy may take before it is ordered again.
    pub transfer_timeout_ms: u64,
    /// How long the recovery of a block waits for a replica that may have bytes which were flushed and not synced.
    pub flushed_wait_ms: u64,
    /// Replicas that a block needs besides those on datanodes in maintenance.
    pub min_maintenance_replication: u16,
}

/// When changes are refused after a start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SafeModeConfig {
    /// The share of blocks, 0 to 1, that must have a replica before changes are allowed.
    pub threshold: f64,
    /// How many datanodes must be alive as well.
    pub min_datanodes: usize,
    /// How long both must have held.
    pub extension_ms: u64,
}

/// The edit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    /// With fewer copies of the journal than this that can be written, the namenode ends.
    pub min_copies: usize,
    /// Size of a segment, written with zeros ahead of use.
    pub segment_bytes: u64,
    /// The store is flushed after this much journal, so that a start replays little.
    pub flush_distance_bytes: u64,
    /// And after this many entries.
    pub flush_distance_entries: u64,
    /// Of what is no longer needed, about so much is kept for those who follow what happens.
    pub kept_bytes: u64,
    /// An idle journal is sealed after this.
    pub seal_after_idle_ms: u64,
    /// Commands that may wait for the committing thread; callers wait when it is full.
    pub queue: usize,
    /// The most commands behind one sync.
    pub batch: usize,
}

/// The store of the namespace and the caches in front of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// RocksDB's cache of blocks.
    pub block_cache_bytes: usize,
    /// RocksDB's memory for what is not yet flushed, all tables together.
    pub write_buffer_bytes: usize,
    /// Files RocksDB keeps open.
    pub max_open_files: i32,
    /// Inodes kept decoded.
    pub inode_cache_entries: usize,
    /// Names in folders kept decoded.
    pub entry_cache_entries: usize,
    /// Pages of folders kept decoded, in bytes, about.
    pub page_cache_bytes: u64,
    /// The latest events kept for those who follow the namespace, in bytes, about; older ones are read from the journal.
    pub event_cache_bytes: usize,
    /// Threads for reads that must go to the disk.
    pub read_threads: usize,
}

/// Who runs where: readers get the replica of their own node, and Spark's executors are named beside their data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalityConfig {
    /// The file that tells the pods; empty for none. Without it and without Kubernetes nothing here has an effect.
    pub pods_file: PathBuf,
    /// How often the file is looked at.
    pub pods_check_interval_ms: u64,
    /// Whether applications are told their executors' names for replicas.
    pub name_executors: bool,
}

/// What is not secure and must be asked for by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct InsecureConfig {
    /// Believe the user name that a client sends.
    pub simple: bool,
}

impl Default for NamenodeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8020)),
            http_listen: SocketAddr::from(([0, 0, 0, 0], 9870)),
            webhdfs_cors_origins: Vec::new(),
            data_dirs: vec!["/var/lib/steadfs/namenode/a".into(), "/var/lib/steadfs/namenode/b".into()],
            namespace: NamespaceConfig::default(),
            datanodes: DatanodesConfig::default(),
            replication: ReplicationConfig::default(),
            balancer: BalancerConfig::default(),
            hosts: HostsConfig::default(),
            safe_mode: SafeModeConfig::default(),
            journal: JournalConfig::default(),
            store: StoreConfig::default(),
            upkeep: UpkeepConfig::default(),
            users: UsersConfig::default(),
            audit: AuditConfig::default(),
            trash: TrashConfig::default(),
            locality: LocalityConfig::default(),
            kubernetes: KubernetesConfig::default(),
            insecure: InsecureConfig::default(),
            file: None,
        }
    }
}

impl Default for NamespaceConfig {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            supergroup: settings.supergroup,
            permissions: settings.permissions,
            min_block_size_bytes: settings.min_block_size,
            default_block_size_bytes: settings.default_block_size,
            default_replication: settings.default_replication,
            min_replication: settings.min_replication,
            max_replication: settings.max_replication,
            lease_soft_limit_ms: settings.lease_soft_limit.as_millis() as u64,
            lease_hard_limit_ms: settings.lease_hard_limit.as_millis() as u64,
            access_time_precision_ms: settings.access_time_precision.as_millis() as u64,
            owner_sets_quota: settings.owner_sets_quota,
            max_xattrs_per_inode: settings.max_xattrs,
            max_xattr_size_bytes: settings.max_xattr_bytes,
            max_blocks_per_file: settings.max_blocks_per_file,
            retry_expiry_ms: settings.retry_expiry.as_millis() as u64,
            retry_entries: 10_000_000,
            complete_wait_ms: 2_000,
        }
    }
}

impl Default for DatanodesConfig {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 3_000,
            block_report_interval_ms: 21_600_000,
            stale_after_ms: 30_000,
            dead_after_ms: 630_000,
            max_transfers_per_node: 4,
            transfer_timeout_ms: 300_000,
            flushed_wait_ms: 600_000,
            min_maintenance_replication: 1,
        }
    }
}

impl Default for SafeModeConfig {
    fn default() -> Self {
        Self { threshold: 0.999, min_datanodes: 0, extension_ms: 5_000 }
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            min_copies: 1,
            segment_bytes: 16 << 20,
            flush_distance_bytes: 32 << 20,
            flush_distance_entries: 200_000,
            kept_bytes: 512 << 20,
            seal_after_idle_ms: 1_000,
            queue: 4_096,
            batch: 512,
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            block_cache_bytes: 256 << 20,
            write_buffer_bytes: 128 << 20,
            max_open_files: 1_024,
            inode_cache_entries: 200_000,
            entry_cache_entries: 200_000,
            page_cache_bytes: 64 << 20,
            event_cache_bytes: 64 << 20,
            read_threads: 8,
        }
    }
}

impl Default for LocalityConfig {
    fn default() -> Self {
        Self { pods_file: PathBuf::new(), pods_check_interval_ms: 1_000, name_executors: true }
    }
}

impl NamenodeConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has an unknown key or a value that makes no sense: each is named.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let mut config: Self = steadfs_daemon::config::load(path)?;
        config.file = Some(path.to_owned());
        config.validate().with_context(|| format!("configuration file {}", path.display()))?;
        Ok(config)
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// Names the first key that makes no sense, and what would.
    pub fn validate(&self) -> anyhow::Result<()> {
        let names = &self.namespace;
        ensure!(
            (1..=4).contains(&self.data_dirs.len()),
            "data_dirs: name one to four folders (two on different disks survive the rot of one)"
        );
        let mut dirs = self.data_dirs.clone();
        dirs.sort();
        dirs.dedup();
        ensure!(dirs.len() == self.data_dirs.len(), "data_dirs: the same folder is named twice");
        ensure!(
            (1..=names.max_replication).contains(&names.default_replication)
                && (1..=names.default_replication).contains(&names.min_replication)
                && names.max_replication <= limits::MAX_REPLICATION,
            "namespace: 1 <= min_replication <= default_replication <= max_replication <= {}",
            limits::MAX_REPLICATION
        );
        ensure!(
            names.min_block_size_bytes >= 1 && names.min_block_size_bytes <= names.default_block_size_bytes,
            "namespace: 1 <= min_block_size_bytes <= default_block_size_bytes"
        );
        ensure!(
            names.lease_soft_limit_ms > 0 && names.lease_soft_limit_ms <= names.lease_hard_limit_ms,
            "namespace: 1 <= lease_soft_limit_ms <= lease_hard_limit_ms"
        );
        ensure!(
            names.max_xattrs_per_inode <= MAX_XATTRS
                && (1..=MAX_XATTR_BYTES).contains(&names.max_xattr_size_bytes),
            "namespace: max_xattrs_per_inode <= {MAX_XATTRS}, 1 <= max_xattr_size_bytes <= {MAX_XATTR_BYTES}"
        );
        ensure!(
            (1..=MOST_BLOCKS_PER_FILE).contains(&names.max_blocks_per_file),
            "namespace: 1 <= max_blocks_per_file <= {MOST_BLOCKS_PER_FILE}"
        );
        ensure!(!names.supergroup.is_empty(), "namespace.supergroup: name a group");
        ensure!(is_short(&names.supergroup), "namespace.supergroup: at most {MAX_PRINCIPAL_BYTES} bytes");
        self.users.validate()?;
        self.trash.validate()?;
        ensure!(
            self.datanodes.heartbeat_interval_ms > 0
                && self.datanodes.heartbeat_interval_ms < self.datanodes.dead_after_ms,
            "datanodes: 1 <= heartbeat_interval_ms < dead_after_ms"
        );
        self.hosts.validate()?;
        self.replication.validate(self.datanodes.max_transfers_per_node)?;
        self.balancer.validate()?;
        ensure!((0.0..=1.0).contains(&self.safe_mode.threshold), "safe_mode.threshold: a share from 0 to 1");
        self.upkeep.validate()?;
        ensure!(
            (1..=self.data_dirs.len()).contains(&self.journal.min_copies),
            "journal.min_copies: 1 to the number of data_dirs"
        );
        ensure!(
            (MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&self.journal.segment_bytes),
            "journal.segment_bytes: {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}"
        );
        ensure!(
            self.journal.queue > 0 && (1..=MAX_BATCH).contains(&self.journal.batch),
            "journal: queue is at least 1, batch 1 to {MAX_BATCH}"
        );
        ensure!(self.journal.seal_after_idle_ms > 0, "journal.seal_after_idle_ms: at least 1");
        ensure!(self.locality.pods_check_interval_ms >= 10, "locality.pods_check_interval_ms: at least 10");
        self.kubernetes.validate()?;
        ensure!(
            !self.kubernetes.watch || self.locality.pods_file.as_os_str().is_empty(),
            "locality.pods_file and kubernetes.watch both tell who runs where: choose one"
        );
        ensure!(self.store.read_threads > 0, "store.read_threads: at least 1");
        Ok(())
    }

    /// What the rules read.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let names = &self.namespace;
        Settings {
            supergroup: names.supergroup.clone(),
            permissions: names.permissions,
            min_block_size: names.min_block_size_bytes,
            default_block_size: names.default_block_size_bytes,
            default_replication: names.default_replication,
            min_replication: names.min_replication,
            max_replication: names.max_replication,
            lease_soft_limit: Duration::from_millis(names.lease_soft_limit_ms),
            lease_hard_limit: Duration::from_millis(names.lease_hard_limit_ms),
            access_time_precision: Duration::from_millis(names.access_time_precision_ms),
            owner_sets_quota: names.owner_sets_quota,
            max_xattrs: names.max_xattrs_per_inode,
            max_xattr_bytes: names.max_xattr_size_bytes,
            max_blocks_per_file: names.max_blocks_per_file,
            retry_expiry: Duration::from_millis(names.retry_expiry_ms),
        }
    }
}

/// The most extended attributes that an inode may be allowed: they are one record.
const MAX_XATTRS: usize = 256;
/// The largest extended attribute that may be allowed, as in HDFS.
const MAX_XATTR_BYTES: usize = 32 << 10;
/// The smallest segment: a batch must fit.
const MIN_SEGMENT_BYTES: u64 = 64 << 10;
/// The largest segment: recovery reads a segment whole.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// The most commands behind one sync.
const MAX_BATCH: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NamenodeConfig, steadfs_daemon::config::ConfigError> {
        steadfs_daemon::config::parse(text, Path::new("test.toml"))
    }

    const EXAMPLE: &str = include_str!("../../config/namenode.example.toml");

    #[test]
    fn the_example_is_the_defaults() {
        assert_eq!(parse(EXAMPLE).unwrap(), NamenodeConfig::default());
        NamenodeConfig::default().validate().unwrap();
    }

    #[test]
    fn the_example_names_every_key_behind_a_comment() {
        let defaults = toml::Value::try_from(NamenodeConfig::default()).unwrap();
        let mut tables = vec![defaults.as_table().unwrap().clone()];
        while let Some(table) = tables.pop() {
            for (key, value) in table {
                let line = match &value {
                    toml::Value::Table(_) => format!("{key}]"),
                    _ => format!("{key} = "),
                };
                let lines: Vec<&str> = EXAMPLE.lines().collect();
                let at = lines.iter().position(|found| found.trim_start_matches(['[']).starts_with(&line));
                let at = at.or_else(|| lines.iter().position(|found| found.ends_with(&line)));
                let at = at.unwrap_or_else(|| panic!("`{key}` is not in the example"));
                assert!(lines[at - 1].starts_with('#'), "`{key}` has no comment");
                if let toml::Value::Table(inner) = value {
                    tables.push(inner);
                }
            }
        }
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        for text in ["lisen = \"x\"", "[journal]\nsegment_byte = 1", "[nonsense]"] {
            let error = format!("{:#}", anyhow::Error::from(parse(text).unwrap_err()));
            assert!(error.contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn names_too_long_to_be_stored_are_refused_with_the_key() {
        let (long, longest) = ("x".repeat(MAX_PRINCIPAL_BYTES + 1), "x".repeat(MAX_PRINCIPAL_BYTES));
        for (text, key) in [
            ("[namespace]\nsupergroup = \"NAME\"", "namespace.supergroup"),
            ("[users]\nsuperuser = \"NAME\"", "users.superuser"),
            ("[users.groups]\nann = [\"staff\", \"NAME\"]", "users.groups"),
            ("[users.groups]\nNAME = [\"staff\"]", "users.groups"),
        ] {
            let error = parse(&text.replace("NAME", &long)).unwrap().validate().unwrap_err().to_string();
            assert!(error.starts_with(key), "{text}: {error}");
            parse(&text.replace("NAME", &longest)).unwrap().validate().unwrap();
        }
    }

    #[test]
    fn senseless_values_are_refused_with_the_key() {
        for (text, key) in [
            ("data_dirs = []", "data_dirs"),
            ("data_dirs = [\"/a\", \"/a\"]", "data_dirs"),
            ("[namespace]\ndefault_replication = 0", "default_replication"),
            ("[namespace]\nmax_replication = 600", "max_replication"),
            ("[namespace]\nmin_block_size_bytes = 0", "min_block_size_bytes"),
            ("[namespace]\nlease_soft_limit_ms = 0", "lease_soft_limit_ms"),
            ("[namespace]\nsupergroup = \"\"", "supergroup"),
            ("[datanodes]\nheartbeat_interval_ms = 0", "heartbeat_interval_ms"),
            ("[safe_mode]\nthreshold = 1.5", "threshold"),
            ("[journal]\nsegment_bytes = 1", "segment_bytes"),
            ("[journal]\nbatch = 0", "batch"),
            ("[store]\nread_threads = 0", "read_threads"),
        ] {
            let error = parse(text).unwrap().validate().unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
