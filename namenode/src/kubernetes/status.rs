//! How the watch goes, for metrics, the log and the status page.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How the watch of Kubernetes goes.
#[derive(Clone, Default, Debug)]
pub struct Status {
    shared: Arc<Shared>,
}

#[derive(Default, Debug)]
struct Shared {
    synced: Family<Resource, Gauge>,
    errors: Family<Resource, Counter>,
    known: Family<Resource, Gauge>,
    passed_over: Counter,
    /// What went wrong last, by what was watched; empty when it went well since.
    problems: Mutex<BTreeMap<&'static str, String>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Resource {
    resource: &'static str,
}

impl Status {
    /// Shows it in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("namenode_kubernetes");
        let shared = &self.shared;
        registry.register(
            "synced",
            "1 if the objects are known and their changes heard, 0 if what is known may be old",
            shared.synced.clone(),
        );
        registry.register("watch_errors", "Failed attempts to list or watch", shared.errors.clone());
        registry.register("known", "Objects that are known and matter", shared.known.clone());
        registry.register(
            "passed_over",
            "Objects that were passed over as there are too many",
            shared.passed_over.clone(),
        );
    }

    /// Everything of this kind is known.
    pub(super) fn synced(&self, resource: &'static str) {
        self.shared.synced.get_or_create(&Resource { resource }).set(1);
        if self.shared.problems.lock().remove(resource).is_some() {
            tracing::info!(resource, "Kubernetes answers again");
        }
    }

    /// An attempt failed. Said in the log when it is news.
    pub(super) fn failed(&self, resource: &'static str, problem: String) {
        self.shared.synced.get_or_create(&Resource { resource }).set(0);
        self.shared.errors.get_or_create(&Resource { resource }).inc();
        let mut problems = self.shared.problems.lock();
        if problems.get(resource) != Some(&problem) {
            tracing::warn!(resource, problem, "Kubernetes does not answer: what is known so far holds");
            problems.insert(resource, problem);
        }
    }

    pub(super) fn known(&self, resource: &'static str, count: usize) {
        self.shared.known.get_or_create(&Resource { resource }).set(count as i64);
    }

    pub(super) fn passed_over(&self) {
        self.shared.passed_over.inc();
    }

    /// What went wrong last and did not go well since, by what was watched.
    #[must_use]
    pub fn problems(&self) -> BTreeMap<&'static str, String> {
        self.shared.problems.lock().clone()
    }
}
