//! How replicas are copied between datanodes.

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use steadfs_namenode_core::blocks::BalanceGoal;

/// How replicas are copied between datanodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplicationConfig {
    /// Blocks copied at a time by one datanode; those that one more loss would lose may use
    /// `datanodes.max_transfers_per_node`.
    pub streams_per_node: u32,
    /// Blocks copied at a time to one datanode.
    pub incoming_per_node: u32,
    /// Bytes a second of each copy; 0 for no bound.
    pub bytes_per_second: u64,
    /// Whether datanodes that others find far slower than the rest are avoided by new replicas and readers.
    pub avoid_slow_nodes: bool,
}

/// How datanodes are kept about equally full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BalancerConfig {
    /// Whether the namenode moves replicas by itself, all the time.
    pub background: bool,
    /// How far a datanode's use may differ from that of all together, in percent of its space.
    pub threshold_percent: f64,
    /// Bytes a second of each move in the background.
    pub bytes_per_second: u64,
}

impl Default for ReplicationConfig {
    fn default() -> Self {
        Self { streams_per_node: 2, incoming_per_node: 8, bytes_per_second: 0, avoid_slow_nodes: true }
    }
}

impl Default for BalancerConfig {
    fn default() -> Self {
        Self { background: true, threshold_percent: 10.0, bytes_per_second: 10 << 20 }
    }
}

impl ReplicationConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// Names the first key that makes no sense, and what would.
    pub(super) fn validate(&self, most_streams: u32) -> anyhow::Result<()> {
        ensure!(
            (1..=most_streams).contains(&self.streams_per_node),
            "replication.streams_per_node: 1 to datanodes.max_transfers_per_node ({most_streams})"
        );
        ensure!(self.incoming_per_node > 0, "replication.incoming_per_node: at least 1");
        Ok(())
    }
}

impl BalancerConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// Names the first key that makes no sense, and what would.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            self.threshold_percent >= 0.1 && self.threshold_percent <= 100.0,
            "balancer.threshold_percent: 0.1 to 100"
        );
        ensure!(self.bytes_per_second > 0, "balancer.bytes_per_second: at least 1");
        Ok(())
    }

    /// What is aimed at in the background.
    pub(crate) fn goal(&self) -> Option<BalanceGoal> {
        let goal = BalanceGoal { threshold: self.threshold_percent, bytes_per_second: self.bytes_per_second };
        self.background.then_some(goal)
    }
}
