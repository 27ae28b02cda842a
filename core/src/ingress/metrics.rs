//! What the ingress counts.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::reason::Reason;

/// The counters of the ingress; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    received: Family<SourceLabel, Counter>,
    accepted: Family<SourceLabel, Counter>,
    duplicates: Family<SourceLabel, Counter>,
    unmatched: Family<SourceLabel, Counter>,
    handshakes: Family<SourceLabel, Counter>,
    refused: Family<ReasonLabel, Counter>,
    append: Histogram,
}

/// The counters of one source, looked up once.
#[derive(Clone, Debug)]
pub(super) struct OfSource {
    pub(super) received: Counter,
    pub(super) accepted: Counter,
    pub(super) duplicates: Counter,
    pub(super) unmatched: Counter,
    pub(super) handshakes: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl Metrics {
    /// Makes the counters and registers them in `registry`, whose prefix is the program's name.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            received: Family::default(),
            accepted: Family::default(),
            duplicates: Family::default(),
            unmatched: Family::default(),
            handshakes: Family::default(),
            refused: Family::default(),
            // 0.1 ms to 13 s: from a fast disk's fsync to a provider's patience.
            append: Histogram::new(exponential_buckets(0.0001, 2.0, 18)),
        };
        registry.register(
            "requests_received",
            "Requests whose address names a source",
            metrics.received.clone(),
        );
        registry.register(
            "events_accepted",
            "Events committed to the journal, without duplicates",
            metrics.accepted.clone(),
        );
        registry.register(
            "events_duplicate",
            "Events that the provider had delivered before",
            metrics.duplicates.clone(),
        );
        registry.register(
            "events_unmatched",
            "Events accepted that no route matched",
            metrics.unmatched.clone(),
        );
        registry.register(
            "handshakes_answered",
            "Handshakes of providers that were answered",
            metrics.handshakes.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests refused, by reason",
            metrics.refused.clone(),
        );
        registry.register(
            "journal_append_seconds",
            "How long an arrival waited for its commit",
            metrics.append.clone(),
        );
        metrics
    }

    pub(super) fn of_source(&self, source: &str) -> OfSource {
        let label = SourceLabel {
            source: source.to_owned(),
        };
        OfSource {
            received: self.received.get_or_create_owned(&label),
            accepted: self.accepted.get_or_create_owned(&label),
            duplicates: self.duplicates.get_or_create_owned(&label),
            unmatched: self.unmatched.get_or_create_owned(&label),
            handshakes: self.handshakes.get_or_create_owned(&label),
        }
    }

    pub(super) fn refused(&self, reason: Reason) {
        self.refused
            .get_or_create(&ReasonLabel {
                reason: reason.code(),
            })
            .inc();
    }

    pub(super) fn appended(&self, after: Duration) {
        self.append.observe(after.as_secs_f64());
    }
}
