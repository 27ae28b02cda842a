//! What the dispatcher counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{delivery::Outcome, reason::Reason};

/// Counters of attempts, and which instances rest. What is settled, the journal counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    attempts: Family<AttemptLabels, Counter>,
    put_off: Family<PutOffLabels, Counter>,
    resting: Family<InstanceLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    instance: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InstanceLabels {
    instance: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PutOffLabels {
    instance: String,
    reason: &'static str,
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
            "attempts_put_off",
            "Calls of plugin instances that were not begun yet for a limit, by instance and reason",
            self.put_off.clone(),
        );
        registry.register(
            "instance_resting",
            "Whether an instance is given a rest, since calls of it failed one after the other",
            self.resting.clone(),
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

    pub(super) fn resting(&self, instance: &str, rests: bool) {
        self.resting
            .get_or_create(&InstanceLabels {
                instance: instance.to_owned(),
            })
            .set(i64::from(rests));
    }

    pub(super) fn put_off(&self, instance: &str, reason: Reason) {
        self.put_off
            .get_or_create(&PutOffLabels {
                instance: instance.to_owned(),
                reason: reason.code(),
            })
            .inc();
    }
}
