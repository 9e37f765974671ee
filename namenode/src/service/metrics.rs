//! What the namenode counts. Names and units stand here and nowhere else; no path and no user is ever a label.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Which operation, and whether it succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    operation: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

/// The namenode's metrics. Cloning shares them.
#[derive(Clone)]
pub struct Metrics {
    calls: Family<Call, Counter>,
    seconds: Family<Operation, Histogram, fn() -> Histogram>,
    gauges: Arc<Gauges>,
}

#[derive(Default)]
struct Gauges {
    waiting: Gauge,
    directories: Gauge,
    files: Gauge,
    blocks: Gauge,
    store_memory: Gauge,
    store_disk: Gauge,
    insecure: Gauge,
}

/// Numbers that are looked up from time to time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readings {
    pub(crate) waiting: u64,
    pub(crate) directories: u64,
    pub(crate) files: u64,
    pub(crate) blocks: u64,
    pub(crate) store_memory: u64,
    pub(crate) store_disk: u64,
    pub(crate) insecure: bool,
}

/// 10 µs to 5 s.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_01, 2.0, 20))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            seconds: Family::new_with_constructor(histogram as fn() -> Histogram),
            gauges: Arc::default(),
        }
    }
}

impl Metrics {
    /// Shows them in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("namenode");
        registry.register("calls", "Calls by operation and result", self.calls.clone());
        registry.register_with_unit("call", "How long calls took", Unit::Seconds, self.seconds.clone());
        let gauges = &self.gauges;
        let shown = [
            ("commands_waiting", "Commands that wait for the committing thread", &gauges.waiting),
            ("directories", "Folders in the namespace", &gauges.directories),
            ("files", "Files in the namespace", &gauges.files),
            ("blocks", "Blocks in the namespace", &gauges.blocks),
            ("store_memory_bytes", "What RocksDB holds in memory", &gauges.store_memory),
            ("store_disk_bytes", "What RocksDB holds on disk", &gauges.store_disk),
            ("insecure_simple", "1 if user names are believed as sent", &gauges.insecure),
        ];
        for (name, help, gauge) in shown {
            registry.register(name, help, gauge.clone());
        }
    }

    /// A call has ended.
    pub(crate) fn called(&self, operation: &'static str, result: &'static str, took: Duration) {
        self.calls.get_or_create(&Call { operation, result }).inc();
        self.seconds.get_or_create(&Operation { operation }).observe(took.as_secs_f64());
    }

    /// Takes new readings.
    pub(crate) fn read(&self, readings: Readings) {
        let set = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.gauges.waiting, readings.waiting);
        set(&self.gauges.directories, readings.directories);
        set(&self.gauges.files, readings.files);
        set(&self.gauges.blocks, readings.blocks);
        set(&self.gauges.store_memory, readings.store_memory);
        set(&self.gauges.store_disk, readings.store_disk);
        set(&self.gauges.insecure, u64::from(readings.insecure));
    }
}
