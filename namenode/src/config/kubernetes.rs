//! What is watched of Kubernetes.

use anyhow::ensure;
use serde::{Deserialize, Serialize};

/// The most namespaces that may be named: each has a stream of its own.
const MAX_NAMESPACES: usize = 64;
/// The most labels that make a rack, one a level.
const MAX_RACK_LABELS: usize = 8;

/// What is watched of Kubernetes. The API server is found as any pod finds it, or by `KUBECONFIG`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesConfig {
    /// Whether pods and nodes are watched, to learn who runs where.
    pub watch: bool,
    /// The namespaces whose pods are watched; empty for all, which needs rights in the whole cluster.
    pub namespaces: Vec<String>,
    /// The labels of nodes whose values make the rack of datanodes that name none, outermost first.
    pub rack_labels: Vec<String>,
    /// Whether the datanodes of a cordoned node go into maintenance, and those of a node that an autoscaler is about to
    /// remove are decommissioned.
    pub cordoned_to_maintenance: bool,
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        Self {
            watch: false,
            namespaces: Vec::new(),
            rack_labels: vec!["topology.kubernetes.io/zone".into()],
            cordoned_to_maintenance: false,
        }
    }
}

impl KubernetesConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// Names the first key that makes no sense, and what would.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let label = |name: &&String| {
            !name.is_empty()
                && name.len() <= 63
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        ensure!(
            self.namespaces.len() <= MAX_NAMESPACES && self.namespaces.iter().all(|name| label(&name)),
            "kubernetes.namespaces: at most {MAX_NAMESPACES} names of namespaces, or none for all"
        );
        ensure!(
            self.rack_labels.len() <= MAX_RACK_LABELS && self.rack_labels.iter().all(|key| !key.is_empty()),
            "kubernetes.rack_labels: at most {MAX_RACK_LABELS} keys of labels, such as topology.kubernetes.io/zone"
        );
        Ok(())
    }
}
