//! What the namenode does for its own data.

use anyhow::ensure;
use serde::{Deserialize, Serialize};

/// How the namenode looks after its own data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpkeepConfig {
    /// With less room than this in the first of `data_dirs`, changes are refused until there is more.
    pub reserved_bytes: u64,
    /// How often room and the copies of the journal are looked at.
    pub check_interval_ms: u64,
    /// Whether the second of `data_dirs` keeps a copy of the store, from which a lost or rotten one is made again.
    pub store_copy: bool,
    /// How often that copy is renewed, if anything changed.
    pub store_copy_interval_ms: u64,
    /// How fast it is written at most; 0 for as fast as the disks are.
    pub store_copy_bytes_per_second: u64,
    /// How often the journal, the store and its copy are read and checked, first after a 24th of it; 0 for never.
    pub scrub_interval_ms: u64,
    /// How fast they are read at most; 0 for as fast as the disks are.
    pub scrub_bytes_per_second: u64,
}

impl Default for UpkeepConfig {
    fn default() -> Self {
        Self {
            reserved_bytes: 256 << 20,
            check_interval_ms: 5_000,
            store_copy: true,
            store_copy_interval_ms: 600_000,
            store_copy_bytes_per_second: 64 << 20,
            scrub_interval_ms: 86_400_000,
            scrub_bytes_per_second: 16 << 20,
        }
    }
}

impl UpkeepConfig {
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        ensure!(self.check_interval_ms > 0, "upkeep.check_interval_ms: at least 1");
        ensure!(self.store_copy_interval_ms > 0, "upkeep.store_copy_interval_ms: at least 1");
        Ok(())
    }
}
