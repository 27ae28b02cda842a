//! What the dispatcher counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::delivery::{Outcome, State};

/// Counters of attempts and of settled deliveries.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    attempts: Family<AttemptLabels, Counter>,
    settled: Family<StateLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    instance: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

impl Metrics {
    /// Puts the counters into `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "attempts",
            "Calls of plugin instances, by how they ended",
            self.attempts.clone(),
        );
        registry.register(
            "deliveries_settled",
            "Deliveries that were settled, by state",
            self.settled.clone(),
        );
    }

    pub(super) fn attempt(&self, instance: &str, outcome: Outcome) {
        self.attempts
            .get_or_create(&AttemptLabels {
                instance: instance.to_owned(),
                outcome: outcome.word(),
            })
            .inc();
    }

    pub(super) fn settled(&self, state: State) {
        self.settled
            .get_or_create(&StateLabels { state: state.word() })
            .inc();
    }
}
