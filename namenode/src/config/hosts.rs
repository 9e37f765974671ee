//! Which datanodes are admitted, and which shall leave.

use std::path::PathBuf;

use anyhow::ensure;
use serde::{Deserialize, Serialize};

/// The files that name datanodes; empty paths for none. They are read at the start and by `dfsadmin -refreshNodes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostsConfig {
    /// Hosts that are admitted, one a line; with no line in it, all are.
    pub include_file: PathBuf,
    /// Hosts that shall be decommissioned, one a line.
    pub exclude_file: PathBuf,
    /// Hosts as JSON objects, in place of both.
    pub combined_file: PathBuf,
}

impl HostsConfig {
    /// Checks what the types do not.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let named = |path: &PathBuf| !path.as_os_str().is_empty();
        ensure!(
            !named(&self.combined_file) || !(named(&self.include_file) || named(&self.exclude_file)),
            "hosts: combined_file takes the place of include_file and exclude_file: name it or them"
        );
        Ok(())
    }
}
