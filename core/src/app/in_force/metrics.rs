//! What is counted of rules.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::admin::{Standing, Taken};

/// How often rules were asked for, and how they stand.
pub(super) struct Metrics {
    reloads: Family<OutcomeLabel, Counter>,
    routes: Gauge,
    refused: Gauge,
    rolled_back: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reloads: Family::default(),
            routes: Gauge::default(),
            refused: Gauge::default(),
            rolled_back: Gauge::default(),
        };
        // They are there from the beginning, so that an alarm can be set on the first refusal.
        for outcome in [TAKEN, UNCHANGED, REFUSED] {
            drop(metrics.reloads.get_or_create(&OutcomeLabel { outcome }));
        }
        registry.register(
            "rules_reloads",
            "Times that other rules were asked for or found, by what came of it",
            metrics.reloads.clone(),
        );
        registry.register("routes", "Routes in force", metrics.routes.clone());
        registry.register(
            "rules_refused",
            "1 while the rule files are faulty and earlier rules are in force",
            metrics.refused.clone(),
        );
        registry.register(
            "rules_rolled_back",
            "1 while a rollback keeps the rule files out of use",
            metrics.rolled_back.clone(),
        );
        metrics
    }

    pub(super) fn stands(&self, standing: &Standing) {
        self.routes
            .set(i64::try_from(standing.routes).unwrap_or(i64::MAX));
        self.refused.set(standing.refused.is_some().into());
        self.rolled_back.set(standing.in_force.displaced.is_some().into());
    }

    pub(super) fn taken(&self, taken: &Taken) {
        self.count(match taken.generation == taken.before {
            true => UNCHANGED,
            false => TAKEN,
        });
    }

    pub(super) fn refused(&self) {
        self.count(REFUSED);
    }

    fn count(&self, outcome: &'static str) {
        self.reloads.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

const TAKEN: &str = "taken";
const UNCHANGED: &str = "unchanged";
const REFUSED: &str = "refused";
