//! Who may do what, who may act for whom, what is written down of it, and how long what was thrown away is kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use steadfs_common::limits::MAX_PRINCIPAL_BYTES;

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsersConfig {
    /// The superuser besides who runs the namenode; empty for none.
    pub superuser: String,
    /// Groups of users, the primary one first. Who is not here has the groups of the operating system.
    pub groups: BTreeMap<String, Vec<String>>,
    /// How long the operating system's answer is believed.
    pub group_cache_ms: u64,
    /// Users who may act for others.
    pub proxies: BTreeMap<String, ProxyConfig>,
}

/// For whom a user may act, and from where. Both must fit; `*` fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyConfig {
    /// Addresses, ranges of them (`10.0.0.0/8`) and host names that it may call from.
    pub hosts: Vec<String>,
    /// Groups for whose members it may act.
    pub groups: Vec<String>,
    /// Users for whom it may act.
    pub users: Vec<String>,
}

/// What is written down of calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// The audit log; empty: in the process's log.
    pub file: PathBuf,
    /// Whether to write what a client says that it does.
    pub caller_context: bool,
}

/// How long what was thrown away is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrashConfig {
    /// What was thrown away so many minutes ago is deleted; 0: clients decide whether they have a trash, and empty it.
    pub interval_minutes: u64,
    /// How often what was thrown away is put aside under the time; 0: as `interval_minutes`.
    pub checkpoint_minutes: u64,
}

impl Default for UsersConfig {
    fn default() -> Self {
        Self {
            superuser: String::new(),
            groups: BTreeMap::new(),
            group_cache_ms: 300_000,
            proxies: BTreeMap::new(),
        }
    }
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { file: PathBuf::new(), caller_context: true }
    }
}

/// The longest time in the trash: a hundred years.
const MAX_TRASH_MINUTES: u64 = 100 * 365 * 24 * 60;

impl UsersConfig {
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        ensure!(is_short(&self.superuser), "users.superuser: at most {MAX_PRINCIPAL_BYTES} bytes");
        for (user, groups) in &self.groups {
            ensure!(
                is_short(user) && groups.iter().all(|group| is_short(group)),
                "users.groups: names of users and groups have at most {MAX_PRINCIPAL_BYTES} bytes"
            );
        }
        for (user, proxy) in &self.proxies {
            for host in &proxy.hosts {
                ensure!(
                    !host.is_empty() && (!host.contains('/') || crate::service::is_address_range(host)),
                    "users.proxies.{user}.hosts: `{host}` is no address, range of addresses (10.0.0.0/8) or host name"
                );
            }
        }
        Ok(())
    }
}

impl TrashConfig {
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            self.interval_minutes <= MAX_TRASH_MINUTES,
            "trash.interval_minutes: at most {MAX_TRASH_MINUTES}"
        );
        ensure!(
            self.checkpoint_minutes <= self.interval_minutes,
            "trash.checkpoint_minutes: at most interval_minutes"
        );
        Ok(())
    }
}

/// Whether the name of a user or group can be stored with an inode.
pub(super) const fn is_short(name: &str) -> bool {
    name.len() <= MAX_PRINCIPAL_BYTES
}
