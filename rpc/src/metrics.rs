//! What a server counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Which of the port's languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Door {
    /// Hadoop RPC.
    Hadoop,
    /// gRPC.
    Grpc,
    /// HTTP.
    Http,
    /// None of these: refused.
    Neither,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DoorLabel {
    door: Door,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    Ok,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    outcome: Outcome,
}

/// The counters of one port. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) open: Gauge,
    pub(crate) in_flight: Gauge,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    pub(crate) broken: Counter,
    accepted: Family<DoorLabel, Counter>,
    calls: Family<OutcomeLabel, Counter>,
    /// The two counters of `calls`, looked up once.
    ok: Counter,
    error: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let calls = Family::<OutcomeLabel, Counter>::default();
        let of = |outcome| calls.get_or_create(&OutcomeLabel { outcome }).clone();
        let (ok, error) = (of(Outcome::Ok), of(Outcome::Error));
        Self {
            open: Gauge::default(),
            in_flight: Gauge::default(),
            received: Counter::default(),
            sent: Counter::default(),
            broken: Counter::default(),
            accepted: Family::default(),
            calls,
            ok,
            error,
        }
    }
}

impl Metrics {
    /// Counters that `registry` shows.
    pub fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("rpc");
        registry.register("connections", "Connections open now", metrics.open.clone());
        registry.register(
            "accepted_connections",
            "Connections accepted, by protocol",
            metrics.accepted.clone(),
        );
        registry.register(
            "broken_connections",
            "Connections ended for what they sent",
            metrics.broken.clone(),
        );
        registry.register("calls", "Hadoop calls answered", metrics.calls.clone());
        registry.register("calls_in_flight", "Hadoop calls being answered now", metrics.in_flight.clone());
        registry.register("received_bytes", "Bytes of Hadoop calls received", metrics.received.clone());
        registry.register("sent_bytes", "Bytes of Hadoop answers sent", metrics.sent.clone());
        metrics
    }

    pub(crate) fn accepted(&self, door: Door) {
        self.accepted.get_or_create(&DoorLabel { door }).inc();
    }

    pub(crate) fn answered(&self, ok: bool) {
        if ok { &self.ok } else { &self.error }.inc();
    }
}

/// Counts one up while it lives.
#[derive(Debug)]
pub(crate) struct Held(Gauge);

impl Held {
    pub(crate) fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
